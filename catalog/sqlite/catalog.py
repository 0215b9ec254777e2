"""SQLite catalog: one file, one connection that writes and one that reads.

A write costs an fsync, so writes share transactions: see `catalog/writer.py`.  What each method promises is
written in `catalog/interface.py`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse.catalog.finding import Found, Rank, Search
from warehouse.catalog.interface import Catalog, Transaction, TransactionBroken
from warehouse.catalog.records import CountDifference
from warehouse.catalog.sqlite import cross_check, recount
from warehouse.catalog.sqlite.deletion_stamps import DeletionStamps
from warehouse.catalog.sqlite.driver import BUSY_MS, connect, look_again, name_error
from warehouse.catalog.sqlite.file import FileWatch, create_file, hold_lock
from warehouse.catalog.sqlite.find import find_objects
from warehouse.catalog.sqlite.identity_reads import IdentityReads
from warehouse.catalog.sqlite.node_reads import NodeReads
from warehouse.catalog.sqlite.object_reads import ObjectReads
from warehouse.catalog.sqlite.part_reads import PartReads
from warehouse.catalog.sqlite.recent_tombstones import RecentTombstones
from warehouse.catalog.sqlite.registry_reads import RegistryReads
from warehouse.catalog.sqlite.schema import bring_up_to_date
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.errors import DiskFull, OutcomeUnknown, Overloaded, StoreError, WriteFailed

CHECKED_AT_OPEN_MAX = 64 * 1024 * 1024  # bytes; checking a larger file would delay the start for too long
FOLD_WAIT_MS = 100  # a long reader keeps part of the log in place until the next time
ID_BITS = 53  # of random ids: every JSON reader keeps such a number exact


def _random_id() -> int:
    return secrets.randbits(ID_BITS) or 1


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteCatalog(ObjectReads, PartReads, RegistryReads, IdentityReads, NodeReads):
    """Satisfies `interface.Catalog`; its reads are in the bases."""

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
        self.failure: StoreError | None = None
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
        """Open the catalog; make it or bring it up to date if needed.

        Args:
            now_ms: the wall clock, milliseconds since 1970; uploads expire by it.
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

    @property
    def folder(self) -> Path:
        return self.path.parent

    def close(self) -> None:
        self._reader.close()
        self._writer.close()  # the last connection: SQLite folds the log into the file
        os.close(self._lock)

    # --- writing ----------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
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
                cause = error.__cause__ if isinstance(error, TransactionBroken) else error
                if not isinstance(cause, sqlite3.Error):
                    raise
                raise self._give_up(cause, is_committing=is_committing) from cause
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
        return self._watch.displaced

    def require_in_place(self) -> None:
        self._watch.require_in_place()

    def fold_log(self) -> None:
        with suppress(sqlite3.Error):
            self._writer.execute(f"PRAGMA busy_timeout = {FOLD_WAIT_MS}")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self._writer.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def log_size(self) -> int:
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
            # If only the fsync failed, all of it may be in the log, the commit mark included: the next start
            # may find it done.
            return OutcomeUnknown(f"{named.message}; the master's next start tells whether this was done")
        return named

    def stamp_max(self) -> int:
        return self._stamp_max

    # Searches and checks use connections of their own, so any thread may call them.

    def find_objects(self, search: Search, *, after: Rank | None, limit: int, budget_s: float) -> Found:
        return find_objects(self.path, search, after=after, limit=limit, budget_s=budget_s)

    def check_counts(self) -> list[CountDifference]:
        return recount.check_counts(self.path)

    def row_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        return cross_check.row_bitmap(self.path, volume_id, first_id, count)

    def known_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        return cross_check.known_bitmap(self.path, volume_id, first_id, count)

    def slot_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        return cross_check.slot_bitmap(self.path, volume_id, first_id, count)

    def tombstone_horizon(self) -> int:
        return cross_check.tombstone_horizon(self.path)


def _quick_check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= CHECKED_AT_OPEN_MAX:
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise look_again(path, str(finding))


if TYPE_CHECKING:  # what this engine is held to
    _CATALOG: type[Catalog] = SqliteCatalog
    _TRANSACTION: type[Transaction] = SqliteTransaction
