"""Store: the catalog's file, its reads, and the door to its transactions.

One writer and one reader connection.  Reads take microseconds and never wait for a write (that is what
SQLite's write-ahead log is for), so they are made on the event loop.  A write costs an fsync, so writes
share transactions: see `writer`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from warehouse.catalog.sqlite import cross_check, recount
from warehouse.catalog.sqlite.deletion_stamps import DeletionStamps
from warehouse.catalog.sqlite.driver import BUSY_MS, connect, look_again, name_error
from warehouse.catalog.sqlite.file import FileWatch, create_file, hold_lock
from warehouse.catalog.sqlite.object_reads import ObjectReads
from warehouse.catalog.sqlite.recent_tombstones import RecentTombstones
from warehouse.catalog.sqlite.registry_reads import RegistryReads
from warehouse.catalog.sqlite.schema import bring_up_to_date
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.errors import DiskFull, OutcomeUnknown, Overloaded, StoreError, WriteFailed

CHECKED_AT_OPEN_MAX = 64 * 1024 * 1024  # bytes; checking a greater file would delay the start for too long
FOLD_WAIT_MS = 100  # a reader that takes long keeps some of the log where it is: the next time, then
ID_BITS = 53  # of random ids: every JSON reader holds such a number exactly


def _random_id() -> int:
    return secrets.randbits(ID_BITS) or 1


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteCatalog(ObjectReads, RegistryReads):
    def __init__(
        self,
        path: Path,
        lock: int,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        random_id: Callable[[], int],
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        super().__init__(path, reader)
        self._lock = lock
        self._writer = writer
        self._random_id = random_id
        self._now_ms = now_ms
        self._writing = threading.Lock()
        self.failure: StoreError | None = None  # why there are no more writes until the next start
        self._stamp_max = int(self._one("SELECT value FROM facts WHERE name = 'stamp_max'")[0])
        self._deletion_stamps = DeletionStamps(self._stamp_max)
        self._recent_tombstones = RecentTombstones()
        self.is_purge_left = self._one("SELECT 1 FROM buckets WHERE name IS NULL LIMIT 1") is not None
        self._watch = FileWatch(path)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        random_id: Callable[[], int] = _random_id,
        now_ms: Callable[[], int] = _wall_ms,
    ) -> SqliteCatalog:
        """Open the catalog, making it or bringing it up to date where needed.

        Args:
            now_ms: the wall clock, milliseconds since 1970: what expires, expires by it.
        Raises:
            DiskInUse: another process has it open.
            SchemaNewer: a later release wrote it.
            CatalogCorrupt: it is damaged; the message says what to do.
        """
        lock = hold_lock(path)
        connections: list[sqlite3.Connection] = []
        try:
            create_file(path)
            connections.append(connect(path))
            bring_up_to_date(connections[0], path)
            _quick_check(connections[0], path)
            connections.append(connect(path, is_read_only=True))
            return cls(path, lock, connections[0], connections[1], random_id, now_ms)
        except BaseException as error:
            for connection in connections:
                connection.close()
            os.close(lock)
            if isinstance(error, sqlite3.Error):
                raise name_error(path, error, is_write=False) from error
            raise

    def close(self) -> None:
        self._reader.close()
        self._writer.close()  # the last connection: SQLite folds the log into the file
        os.close(self._lock)

    # --- writing ----------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """One durable transaction: all of it is on disk after the block, or nothing of it ever.

        Raises:
            DiskFull, Overloaded: nothing was changed; it may work later.
            WriteFailed: nothing was changed, and nothing will be until the catalog is opened anew.
            OutcomeUnknown: the commit itself failed, so its last bytes may be on the disk or not.  Only
                opening the catalog anew tells; until then nothing more is written.
        """
        if self.failure is not None:
            raise type(self.failure)(self.failure.message)
        self._watch.require_in_place()
        is_mine = self._writing.acquire(blocking=False)
        assert is_mine, "two transactions at once"
        try:
            transaction = SqliteTransaction(
                self._writer,
                random_id=self._random_id,
                now_ms=self._now_ms,
                stamp_max=self._stamp_max,
                deletion_stamps=self._deletion_stamps,
                recent_tombstones=self._recent_tombstones,
            )
            is_committing = False
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield transaction
                transaction.flush()
                is_committing = True
                self._writer.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if not isinstance(error, sqlite3.Error):
                    raise
                raise self._give_up(error, is_committing=is_committing) from error
            try:
                self._watch.require_in_place()
            except WriteFailed as error:
                raise OutcomeUnknown(error.message) from error
            self._stamp_max = transaction.stamp_max
            if transaction.is_purge_left is not None:
                self.is_purge_left = transaction.is_purge_left
        finally:
            self._writing.release()

    @property
    def displaced(self) -> str | None:
        """Why the next start would not find what is committed."""
        return self._watch.displaced

    def require_in_place(self) -> None:
        """Refuse to write into files that the next start would not find: deleted, moved away or replaced.

        Raises:
            WriteFailed: they are not in their place.
        """
        self._watch.require_in_place()

    def fold_log(self) -> None:
        """Move what the log holds into the file, and cut the log off: on a full disk that is room.

        For the thread that writes, between transactions.  A disk that refuses leaves everything as it is.
        """
        with suppress(sqlite3.Error):
            self._writer.execute(f"PRAGMA busy_timeout = {FOLD_WAIT_MS}")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self._writer.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def log_size(self) -> int:
        """Bytes of the log beside the file."""
        try:
            return os.stat(f"{self.path}-wal").st_size
        except OSError:
            return 0

    def _roll_back(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error, *, is_committing: bool = False) -> StoreError:
        named = name_error(self.path, error, is_write=True)
        if isinstance(named, DiskFull | Overloaded):
            return named
        if self.failure is None:
            self.failure = WriteFailed(
                f"{named.message}; the catalog takes no more writes until the master is started again"
            )
        if is_committing:
            # All of it may be in the log, the commit mark included, and it was the fsync that failed: whoever
            # opens the file next may find it done.
            return OutcomeUnknown(f"{named.message}; the master's next start tells whether this was done")
        return named

    def stamp_max(self) -> int:
        """The greatest stamp that was ever committed or given to garbage."""
        return self._stamp_max

    def check_counts(self) -> list[recount.CountDifference]:
        """Recount what is kept incrementally; on a connection of its own, so any thread may, for long."""
        return recount.check_counts(self.path)

    # The next five as well are on connections of their own, for any thread; see `cross_check`.

    def row_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        """The needles of a volume that rows name as stored: bit i & 7 of byte i >> 3 is first_id + i."""
        return cross_check.row_bitmap(self.path, volume_id, first_id, count)

    def known_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        """Those, and also slots that are not filled yet, and garbage, tombstoned or not."""
        return cross_check.known_bitmap(self.path, volume_id, first_id, count)

    def slot_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        """The slots of uploads that nobody has told to be filled; the needle may be there all the same."""
        return cross_check.slot_bitmap(self.path, volume_id, first_id, count)

    def names_of(self, volume_id: int, needle_ids: Collection[int]) -> dict[int, tuple[str, str]]:
        """Bucket and key of each needle that an object or an unfinished upload names."""
        return cross_check.names_of(self.path, volume_id, needle_ids)

    def tombstone_horizon(self) -> int:
        """Deletions with a lesser stamp than this need no record in the volumes any more."""
        return cross_check.tombstone_horizon(self.path)


def _quick_check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= CHECKED_AT_OPEN_MAX:
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise look_again(path, str(finding))
