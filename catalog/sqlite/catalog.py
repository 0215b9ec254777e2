"""Store: the catalog's file, its reads, and the door to its transactions.

One writer and one reader connection.  Reads take microseconds and never wait for a write (that is what
SQLite's write-ahead log is for), so they are made on the event loop.  A write costs an fsync, so writes
share transactions: see `writer`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from warehouse.catalog.listing import common_prefix, first_key, key_after_prefix
from warehouse.catalog.records import (
    API_KEY_COLUMNS,
    BUCKET_COLUMNS,
    CHUNK_COLUMNS,
    DAMAGE_COLUMNS,
    DISK_COLUMNS,
    JOB_COLUMNS,
    NOTE_COLUMNS,
    OBJECT_COLUMNS,
    UPLOAD_COLUMNS,
    VOLUME_COLUMNS,
    ApiKeyRow,
    BucketRow,
    ChunkRow,
    CommitResult,
    DiskRow,
    FinishResult,
    Garbage,
    JobRow,
    ObjectRow,
    Page,
    Restamp,
    UploadRow,
    VolumeRow,
    api_key_row,
    bucket_note,
    chunk_row,
    needle_damage,
    object_row,
    upload_row,
    volume_rows,
)
from warehouse.catalog.sqlite import cross_check, recount
from warehouse.catalog.sqlite.deletion_stamps import DeletionStamps
from warehouse.catalog.sqlite.driver import BUSY_MS, connect, look_again, name_error
from warehouse.catalog.sqlite.recent_tombstones import RecentTombstones
from warehouse.catalog.sqlite.registry import CATALOG_ID_META
from warehouse.catalog.sqlite.schema import bring_up_to_date
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.errors import (
    BadRequest,
    DiskFull,
    DiskInUse,
    NoSuchBucket,
    NoSuchUpload,
    OutcomeUnknown,
    Overloaded,
    StoreError,
    WriteFailed,
)
from warehouse.transport.messages import BucketNote, NeedleDamage

__all__ = [
    "ApiKeyRow",
    "BucketRow",
    "ChunkRow",
    "CommitResult",
    "DiskRow",
    "FinishResult",
    "JobRow",
    "ObjectRow",
    "Page",
    "Restamp",
    "SqliteCatalog",
    "SqliteTransaction",
    "UploadRow",
    "VolumeRow",
]

CHECKED_AT_OPEN_MAX = 64 * 1024 * 1024  # bytes; checking a greater file would delay the start for too long
FOLD_WAIT_MS = 100  # a reader that takes long keeps some of the log where it is: the next time, then
ID_BITS = 53  # of random ids: every JSON reader holds such a number exactly

_OBJECT = f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key = ?"
_COLUMN_LIST = ", ".join(f"objects.{name.strip()}" for name in OBJECT_COLUMNS.split(","))
_BUCKET_AND_OBJECT = (
    f"SELECT buckets.id, name, buckets.created_ms, object_count, byte_count, {_COLUMN_LIST}"
    " FROM buckets LEFT JOIN objects ON bucket_id = buckets.id AND key = ? WHERE name = ?"
)
# Many keys in one statement.  In few lengths, so that SQLite finds each prepared already.
_MANY = tuple(
    (count, f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key IN (?{', ?' * (count - 1)})")
    for count in (8, 64, 512)
)
_LIST = f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key >= ? ORDER BY key LIMIT ?"
_LIST_TO = (
    f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
)


Execute = Callable[[str, Sequence[Any]], sqlite3.Cursor]


def _random_id() -> int:
    return secrets.randbits(ID_BITS) or 1


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteCatalog:
    def __init__(
        self,
        path: Path,
        lock: int,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        random_id: Callable[[], int],
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        self.path = path
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._random_id = random_id
        self._now_ms = now_ms
        self._writing = threading.Lock()
        # Asked for twice in every transaction, so as plain text: a `Path` costs more than the system call.
        self._files = (str(path), f"{path}-wal")
        self._file_ids: dict[str, FileId] = {}  # of those that were seen
        self.displaced: str | None = None  # why what is committed would not be found by the next start
        self.failure: StoreError | None = None  # why there are no more writes until the next start
        self._stamp_max = int(self._one("SELECT value FROM facts WHERE name = 'stamp_max'")[0])
        self._deletion_stamps = DeletionStamps(self._stamp_max)
        self._recent_tombstones = RecentTombstones()
        self.is_purge_left = self._one("SELECT 1 FROM buckets WHERE name IS NULL LIMIT 1") is not None
        self._look_at_files()

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
            _create_file(path)
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
        self.require_in_place()
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
                self.require_in_place()
            except WriteFailed as error:
                raise OutcomeUnknown(error.message) from error
            self._stamp_max = transaction.stamp_max
            if transaction.is_purge_left is not None:
                self.is_purge_left = transaction.is_purge_left
        finally:
            self._writing.release()

    def require_in_place(self) -> None:
        """Refuse to write into files that the next start would not find: deleted, moved away or replaced.

        SQLite goes on with the files that it has open, and they go with this process.

        Raises:
            WriteFailed: they are not in their place.
        """
        self._look_at_files()
        if self.displaced is not None:
            raise WriteFailed(self.displaced)

    def _look_at_files(self) -> None:
        if self.displaced is not None:
            return
        for file in self._files:
            try:
                found = _file_id(file)
            except OSError:  # a file that cannot be asked for is no proof of anything
                continue
            known = self._file_ids.get(file)
            if known is None and found is not None:
                self._file_ids[file] = found
            elif found != known:
                what = "was deleted or moved away" if found is None else "was replaced by another file"
                self.displaced = (
                    f"{file} {what} under the running master, so nothing more is written to it. What the"
                    f" master still has open is in /proc/{os.getpid()}/fd: copy the catalog from there,"
                    " stop the store, and put it back, or run `warehouse rebuild --replace`"
                )
                return

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

    # --- reading ----------------------------------------------------------------------------------

    def bucket(self, name: str) -> BucketRow:
        found = self._one(f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name = ?", (name,))
        if found is None:
            raise NoSuchBucket(f"there is no bucket {name!r}")
        return BucketRow(*found)

    def bucket_by_id(self, bucket_id: int) -> BucketRow:
        found = self._one(
            f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE id = ? AND name IS NOT NULL", (bucket_id,)
        )
        if found is None:
            raise NoSuchBucket("the bucket was deleted")
        return BucketRow(*found)

    def buckets(self, *, after: str = "", limit: int | None = None) -> list[BucketRow]:
        """Buckets whose names are greater than `after`, by name."""
        rows = self._all(
            f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name > ? ORDER BY name LIMIT ?",
            (after, -1 if limit is None else limit),
        )
        return [BucketRow(*columns) for columns in rows]

    def totals(self) -> tuple[int, int, int]:
        """Buckets, objects, bytes."""
        found = self._one(
            "SELECT count(*), coalesce(sum(object_count), 0), coalesce(sum(byte_count), 0)"
            " FROM buckets WHERE name IS NOT NULL"
        )
        return (found[0], found[1], found[2])

    def object(self, bucket_id: int, key: str) -> ObjectRow | None:
        found = self._one(_OBJECT, (bucket_id, key))
        return None if found is None else object_row(found)

    def bucket_and_object(self, bucket: str, key: str) -> tuple[BucketRow, ObjectRow | None]:
        """A bucket and one of its objects at one go: what a small get asks for.

        A statement by itself costs more than what it finds, because each takes and gives back a lock.
        """
        found = self._one(_BUCKET_AND_OBJECT, (key, bucket))
        if found is None:
            raise NoSuchBucket(f"there is no bucket {bucket!r}")
        row = None if found[6] is None else object_row(found[5:])
        return BucketRow(*found[:5]), row

    def objects(self, bucket_id: int, keys: Sequence[str]) -> list[ObjectRow | None]:
        """The object of each key, in their order."""
        found: dict[str, ObjectRow] = {}
        rest = keys
        while rest:
            count, sql = next((one for one in _MANY if one[0] >= len(rest)), _MANY[-1])
            some, rest = rest[:count], rest[count:]
            padding = [some[-1]] * (count - len(some))
            for columns in self._all(sql, (bucket_id, *some, *padding)):
                found[columns[1]] = object_row(columns)
        return [found.get(key) for key in keys]

    def locate(
        self, bucket: str, keys: Sequence[str], *, first_chunk: int = 0, chunk_limit: int
    ) -> tuple[BucketRow, list[tuple[ObjectRow, list[ChunkRow]] | None]]:
        """A bucket, and objects of it with their chunks, each of one version; in the order of the keys.

        An object of one needle has no rows of chunks: its own row names the needle.

        Args:
            first_chunk: of each object, only chunks from this index on.
            chunk_limit: objects beyond so many chunks are left out at the end.  The first object is
                always there, with `chunk_limit` of its chunks at most.
        """
        if len(keys) == 1:
            found, row = self.bucket_and_object(bucket, keys[0])
            if row is None or row.upload_id is None:  # one statement has seen all there is
                return found, [None if row is None else (row, [])]
        with self.one_moment():
            found = self.bucket(bucket)
            located: list[tuple[ObjectRow, list[ChunkRow]] | None] = []
            count = 0
            for row in self.objects(found.id, keys):
                if row is not None:
                    count += max(0, row.chunk_count - first_chunk)
                    if count > chunk_limit and located:
                        break
                located.append(None if row is None else (row, self._chunks_of(row, first_chunk, chunk_limit)))
            return found, located

    def _chunks_of(self, row: ObjectRow, first: int, limit: int) -> list[ChunkRow]:
        return [] if row.upload_id is None else self.chunks(row.upload_id, first=first, limit=limit)

    def chunks(self, upload_id: int, *, first: int = 0, limit: int = -1) -> list[ChunkRow]:
        """The slots of an upload, or the chunks of an object that has more than one; by index.

        Args:
            limit: of rows; -1: all.
        """
        rows = self._all(
            f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? AND chunk_index >= ?"
            " ORDER BY chunk_index LIMIT ?",
            (upload_id, first, limit),
        )
        return [chunk_row(columns) for columns in rows]

    def chunks_of_version(
        self, volume_id: int, needle_id: int, etag: str, *, first: int, limit: int
    ) -> list[ChunkRow] | None:
        """Chunks of the object whose first needle this is; None where it is no version that is there now."""
        with self.one_moment():
            found = self._all(
                f"SELECT {OBJECT_COLUMNS} FROM objects WHERE volume_id = ? AND needle_id = ?",
                (volume_id, needle_id),
            )
            row = object_row(found[0]) if found else None
            if row is None or row.upload_id is None or row.etag != etag:
                return None
            return self.chunks(row.upload_id, first=first, limit=limit)

    def list_objects(
        self,
        bucket_id: int,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> Page:
        """One page of a bucket, in the order of the keys' UTF-8 bytes.

        A key that holds `delimiter` behind the prefix is shown only as its common prefix.  Entries, keys
        and common prefixes alike, are those greater than `after`.
        """
        if limit < 1:
            raise BadRequest(f"a page has at least one entry, not {limit}")
        objects: list[ObjectRow] = []
        prefixes: list[str] = []
        last = after
        end = key_after_prefix(prefix)
        start = first_key(prefix, delimiter, after)
        with self.one_moment():
            while start is not None:
                room = limit + 1 - len(objects) - len(prefixes)  # the one more is the start of the next page
                rows, start = _rows(self._reader.execute, bucket_id, start, end, room), None
                with closing(rows):  # an open cursor would keep the log from being folded in
                    for columns in rows:
                        if len(objects) + len(prefixes) == limit:
                            return Page(objects, prefixes, last)
                        common = common_prefix(columns[1], prefix, delimiter)
                        if common is not None:
                            prefixes.append(common)
                            last = common
                            # However many keys share it, they cost one seek.
                            start = key_after_prefix(common)
                            break
                        objects.append(object_row(columns))
                        last = columns[1]
        return Page(objects, prefixes, None)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All reads in the block see the catalog as it was at the first of them.

        Outside of such a block each read sees what the writer has committed by then, so two reads may see two
        versions of one object.  A block awaits nothing: the reader's connection belongs to it until its end.
        Blocks may lie in each other.
        """
        is_nested = self._reader.in_transaction  # the block around this one has begun already
        if is_nested:
            yield
            return
        try:
            self._reader.execute("BEGIN")
            try:
                yield
            finally:
                if self._reader.in_transaction:  # an error may have ended it
                    self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=False) from error

    def upload(self, upload_id: int) -> UploadRow:
        """An upload, also one that is finished, as long as a repeated finish would be answered."""
        found = self._one(f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE id = ?", (upload_id,))
        if found is None:
            raise NoSuchUpload(f"there is no upload {upload_id}: it was aborted, or it expired")
        return upload_row(found)

    def upload_count(self) -> int:
        """Uploads that are not finished."""
        return int(self._one("SELECT count(*) FROM uploads WHERE is_finished = 0")[0])

    def outbox(self, volume_id: int, limit: int) -> list[Garbage]:
        """Up to `limit` needles of a volume that wait for their tombstone, by id."""
        rows = self._all(
            "SELECT needle_id, stamp, reason FROM outbox WHERE volume_id = ? ORDER BY needle_id LIMIT ?",
            (volume_id, limit),
        )
        return [Garbage(*columns) for columns in rows]

    def outbox_counts(self) -> dict[int, int]:
        """How many needles of each volume wait for their tombstone; volumes without any are left out."""
        return dict(self._all("SELECT id, garbage_count FROM volumes WHERE garbage_count != 0"))

    def stamp_max(self) -> int:
        """The greatest stamp that was ever committed or given to garbage."""
        return self._stamp_max

    def disks(self) -> list[DiskRow]:
        rows = self._all(f"SELECT {DISK_COLUMNS} FROM disks ORDER BY added_ms, id")
        return [DiskRow(*columns) for columns in rows]

    def disk(self, disk_id: str) -> DiskRow | None:
        found = self._one(f"SELECT {DISK_COLUMNS} FROM disks WHERE id = ?", (disk_id,))
        return None if found is None else DiskRow(*found)

    def volumes(self) -> list[VolumeRow]:
        return volume_rows(
            self._all(f"SELECT {VOLUME_COLUMNS} FROM volumes ORDER BY id"),
            self._all("SELECT volume_id, disk_id FROM copies ORDER BY volume_id, disk_id"),
        )

    def bucket_notes(self, disk_id: str, limit: int) -> list[BucketNote]:
        """Up to `limit` things about buckets that a disk has still to write down."""
        rows = self._all(
            f"SELECT {NOTE_COLUMNS} FROM bucket_notes WHERE disk_id = ? ORDER BY bucket_id LIMIT ?",
            (disk_id, limit),
        )
        return [bucket_note(columns) for columns in rows]

    def jobs(self) -> list[JobRow]:
        """The jobs that are not over, oldest first."""
        return [JobRow(*columns) for columns in self._all(f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY id")]

    def damages(self, limit: int) -> list[NeedleDamage]:
        rows = self._all(
            f"SELECT {DAMAGE_COLUMNS} FROM damages ORDER BY volume_id, needle_id, offset LIMIT ?", (limit,)
        )
        return [needle_damage(columns) for columns in rows]

    def damage_count(self) -> int:
        return int(self._one("SELECT count(*) FROM damages")[0])

    def meta(self, name: str, default: int = 0) -> int:
        """A number that was kept with `set_meta`."""
        found = self._one("SELECT value FROM facts WHERE name = ?", (name,))
        return default if found is None else int(found[0])

    @property
    def catalog_id(self) -> int:
        """What tells this catalog from all others; 0: it has none yet, see `begin_lineage`."""
        return self.meta(CATALOG_ID_META)

    def api_key(self, key_id: str) -> ApiKeyRow | None:
        found = self._one(f"SELECT {API_KEY_COLUMNS} FROM api_keys WHERE id = ?", (key_id,))
        return None if found is None else api_key_row(found)

    def api_keys(self) -> list[ApiKeyRow]:
        rows = self._all(f"SELECT {API_KEY_COLUMNS} FROM api_keys ORDER BY created_ms, id")
        return [api_key_row(columns) for columns in rows]

    def api_key_count(self) -> int:
        return int(self._one("SELECT count(*) FROM api_keys")[0])

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

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        try:
            return self._reader.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=False) from error

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=False) from error


def _rows(execute: Execute, bucket_id: int, start: str, end: str | None, limit: int) -> sqlite3.Cursor:
    """Rows of the keys from `start` on and below `end`, read no further than they are asked for."""
    if end is None:
        return execute(_LIST, (bucket_id, start, limit))
    return execute(_LIST_TO, (bucket_id, start, end, limit))


FileId = tuple[int, int]  # device and inode


def _file_id(path: str) -> FileId | None:
    """What a path leads to; None: nothing.

    Raises:
        OSError: the system cannot say.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino)


# --- opening --------------------------------------------------------------------------------------


_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def hold_lock(path: Path) -> int:
    """Keep others away from a catalog until the descriptor is closed.

    Two masters on one catalog would each trust a memory that the other makes wrong.

    Raises:
        DiskInUse: another process has it.
    """
    try:
        lock = os.open(path.with_name(path.name + ".lock"), _LOCK, 0o600)
    except OSError as error:
        raise WriteFailed(f"cannot open the catalog {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise DiskInUse(f"another process has the catalog {path} open: stop it first") from error
    return lock


def _create_file(path: Path) -> None:
    """Make an empty file that others cannot read; SQLite gives its log the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise WriteFailed(f"cannot open the catalog {path}: {error.strerror}") from error


def _quick_check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= CHECKED_AT_OPEN_MAX:
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise look_again(path, str(finding))
