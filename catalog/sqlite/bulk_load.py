"""Bulk load: a new catalog file, filled in bulk.

Nothing in the file has to survive until `finish` returns, so there is no log, no sync, and no index until all
rows are there.  The caller adds rows; `finish` makes sums, sequences of ids and notes for the disks from
them.  `salvage` reads what a catalog file still tells that volumes do not; `recount.check_counts` says
whether the result is consistent.

    with NewCatalog(path) as new:
        new.add_disk(...)      new.add_volume(...)     new.add_api_keys(...)
        new.add_bucket(...)    new.add_object(...)     new.add_chunk(...)     new.add_garbage(...)
        new.finish()
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from warehouse.catalog.identities import AccountRow, ApiKeyRow
from warehouse.catalog.nodes import NodeRow
from warehouse.catalog.records import UPLOADS_NAMED_META, ChunkRow, ObjectRow, PartRow
from warehouse.catalog.sqlite.bookkeeping import DISCARD, WAS_COMMITTED
from warehouse.catalog.sqlite.bucket_notes import NOTE, NOTE_ALL
from warehouse.catalog.sqlite.bulk import insert_rows
from warehouse.catalog.sqlite.columns import (
    ACCOUNT_COLUMNS,
    AMENDMENT_COLUMNS,
    CHUNK_COLUMNS,
    DAMAGE_COLUMNS,
    NODE_COLUMNS,
    OBJECT_COLUMNS,
    PART_COLUMNS,
    ObjectColumns,
    damage_columns,
    insert,
    object_columns,
    part_columns,
)
from warehouse.catalog.sqlite.driver import name_error
from warehouse.catalog.sqlite.key_columns import API_KEY_COLUMNS, api_key_columns
from warehouse.catalog.sqlite.schema import bring_up_to_date
from warehouse.errors import BadRequest, CatalogExists, WriteFailed
from warehouse.transport.messages import NeedleDamage

BATCH_COUNT = 1000  # rows that SQLite gets in one go
CACHE_KIB = 64 * 1024  # sorting for an index may take as much before it uses temporary files

_INSERT_OBJECTS = f"INSERT INTO objects ({OBJECT_COLUMNS}) VALUES"  # many rows at once
_INSERT_CHUNK = insert("chunks", f"upload_id, {CHUNK_COLUMNS}")
_INSERT_PART = insert("parts", f"upload_id, {PART_COLUMNS}")
_INSERT_AMENDMENT = insert("amendments", AMENDMENT_COLUMNS)
_INSERT_VOLUME = insert("volumes", "id, uuid, capacity, needle_id_reserved, state, created_ms")
_INSERT_DAMAGE = insert("damages", DAMAGE_COLUMNS) + " ON CONFLICT DO NOTHING"
_COUNT = (
    "UPDATE buckets SET (object_count, byte_count) ="
    " (SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE bucket_id = buckets.id)",
    # Whose owner is not known any more belongs to the first account.
    *(
        f"UPDATE {table} SET {column} = (SELECT id FROM accounts ORDER BY created_ms, id LIMIT 1)"
        f" WHERE {column} NOT IN (SELECT id FROM accounts)"
        for table, column in (("buckets", "owner_id"), ("api_keys", "account_id"))
    ),
    # An owner that is the bucket's is not named once more; nor is one that nobody knows any more.
    "UPDATE objects SET owner_id = NULL WHERE owner_id IS NOT NULL AND"
    " (owner_id NOT IN (SELECT id FROM accounts)"
    " OR owner_id = (SELECT owner_id FROM buckets WHERE buckets.id = bucket_id))",
    "UPDATE volumes SET garbage_count = (SELECT count(*) FROM outbox WHERE volume_id = volumes.id)",
)
_IS_LATE_INDEX = "type = 'index' AND sql IS NOT NULL AND tbl_name IN ('objects', 'chunks', 'amendments')"


class BucketSettings(NamedTuple):
    """What a bucket is beside its name; volumes do not tell the quotas."""

    owner_id: str = ""  # of an account; "": not known
    quota_bytes: int | None = None
    quota_objects: int | None = None
    region: str = ""
    is_lock_enabled: bool = False
    config_epoch: int = 0  # the stamp of the latest change of the bucket, or 0


NO_SETTINGS = BucketSettings()


class NewCatalog:
    """Use as a context manager: the block removes the file at its end, unless `finish` has returned.

    Every method may raise DiskFull or WriteFailed, and BadRequest when rows contradict each other (one name
    or one needle twice).  A contradiction may be noticed later than the row that made it, at the latest by
    `finish`.
    """

    def __init__(self, path: Path) -> None:
        """Make the file, readable for its owner alone.

        Raises:
            CatalogExists: something exists at `path`.
        """
        self.path = path
        self._is_finished = False
        self._stamp_max = 0
        self._id_max = {"buckets": 0, "volumes": 0}
        self._deleted: list[tuple[Any, ...]] = []  # buckets, as the columns of a note
        self._objects: list[ObjectColumns] = []  # that SQLite has not got yet
        self._batches: dict[str, list[tuple[Any, ...]]] = {}  # rows of other tables, by statement
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            raise CatalogExists(f"{path} already exists: move it out of the way first") from error
        except OSError as error:
            raise WriteFailed(f"cannot make the catalog {path}: {error.strerror}") from error
        self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            with self._named():
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "locking_mode = EXCLUSIVE",
            f"cache_size = -{CACHE_KIB}",
            "mmap_size = 0",
            "temp_store = FILE",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        bring_up_to_date(self._connection, self.path)
        self._connection.execute("BEGIN")
        self.set_meta(UPLOADS_NAMED_META, time.time_ns() // 1_000_000)  # the rows that come name few
        self._late_indexes = self._connection.execute(
            f"SELECT name, sql FROM sqlite_master WHERE {_IS_LATE_INDEX}"
        ).fetchall()
        for name, _ in self._late_indexes:
            self._connection.execute(f"DROP INDEX {name}")

    def __enter__(self) -> NewCatalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file, unless it was finished."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if not self._is_finished:
            self.path.unlink(missing_ok=True)

    # --- disks, volumes, keys ---------------------------------------------------------------------

    def add_disk(
        self,
        disk_id: str,
        name: str,
        added_ms: int,
        epoch: tuple[int, int] = (0, 0),
        catalog_id: int = 0,
        node_key: str | None = None,
    ) -> None:
        """
        Args:
            epoch: number and mark, as the disk has them now; see `storage/epoch.py`.
            catalog_id: the catalog that the disk names.
            node_key: of the node that it belongs to.
        """
        self._write(
            insert("disks", "id, name, added_ms, epoch, mark, catalog_id, node_key"),
            (disk_id, name, added_ms, *epoch, catalog_id, node_key),
        )

    def add_nodes(self, nodes: Iterable[NodeRow]) -> None:
        for node in nodes:
            self._write(
                insert("nodes", NODE_COLUMNS),
                msgspec.structs.astuple(node),
            )

    def add_volume(
        self,
        volume_id: int,
        uuid: str,
        capacity: int,
        disk_id: str,
        *,
        needle_id_reserved: int,
        created_ms: int = 0,
        state: str = "open",
    ) -> None:
        """
        Args:
            needle_id_reserved: at least the greatest id ever used in it; only greater ids are handed out.
        """
        self.see_volume_id(volume_id)
        self._write(_INSERT_VOLUME, (volume_id, uuid, capacity, needle_id_reserved, state, created_ms))
        self._write("INSERT INTO copies (volume_id, disk_id) VALUES (?, ?)", (volume_id, disk_id))

    def add_accounts(self, accounts: Iterable[AccountRow]) -> None:
        """Add them in the place of the one account that a new catalog has."""
        self._connection.execute("DELETE FROM accounts")
        for account in accounts:
            self._write(
                insert("accounts", ACCOUNT_COLUMNS),
                msgspec.structs.astuple(account),
            )

    def add_api_keys(self, keys: Iterable[ApiKeyRow]) -> None:
        """Keys of accounts that were added; those of no account belong to the first one."""
        for key in keys:
            self._write(
                insert("api_keys", API_KEY_COLUMNS),
                api_key_columns(key),
            )

    def add_revocations(self, revocations: Iterable[tuple[str, int, int]]) -> None:
        """API key id, the first epoch whose tokens count, and when older ones were revoked."""
        for row in revocations:
            self._write("INSERT INTO revocations (key_id, epoch, at_ms) VALUES (?, ?, ?)", row)

    # --- buckets and objects ----------------------------------------------------------------------

    def add_bucket(
        self, bucket_id: int, name: str, created_ms: int, settings: BucketSettings = NO_SETTINGS
    ) -> None:
        self.see_bucket_id(bucket_id)
        self._write(
            insert(
                "buckets",
                "id, name, created_ms, owner_id, quota_bytes, quota_objects, region, is_lock_enabled,"
                " config_epoch",
            ),
            (bucket_id, name, created_ms, *settings),
        )

    def add_bucket_configs(self, bucket_id: int, configs: Mapping[str, bytes]) -> None:
        for kind, document in configs.items():
            self._write(insert("bucket_configs", "bucket_id, kind, document"), (bucket_id, kind, document))

    def add_deleted_bucket(self, bucket_id: int, name: str, created_ms: int, stamp: int) -> None:
        """A bucket that is known to be deleted: every disk is told again, in case only one of them knew."""
        self.see_bucket_id(bucket_id)
        self.see_stamp(stamp)
        self._deleted.append((bucket_id, name, created_ms, 1, stamp, "", "", 0))

    def add_object(self, row: ObjectRow) -> None:
        """Add an object; fastest in the order of bucket id and key."""
        self.add_packed_object(object_columns(row))

    def add_packed_object(self, columns: ObjectColumns) -> None:
        """The same, for a caller that has the columns as they are stored."""
        self._objects.append(columns)
        if columns[3] > self._stamp_max:
            self._stamp_max = columns[3]
        if len(self._objects) >= BATCH_COUNT:
            with self._named():
                self._flush_objects()

    def add_chunk(self, upload_id: int, chunk: ChunkRow) -> None:
        """A chunk of an object that has several, or its manifest; `upload_id` is that of the object's row.

        An object that is one chunk and a manifest has rows for both.
        """
        self.see_stamp(chunk.stamp)
        self._write(_INSERT_CHUNK, (upload_id, *msgspec.structs.astuple(chunk)))

    def add_part(self, upload_id: int, part: PartRow) -> None:
        """A part that an object was completed from; `upload_id` is that of the object's row."""
        self._write(_INSERT_PART, (upload_id, *part_columns(part)))

    def add_amendment(self, place: tuple[int, int], target: tuple[int, int], stamp: int) -> None:
        """A needle that changed the attributes of a version; the row of that object says `is_amended`.

        Args:
            place: volume and needle, like the next one.
            target: the first needle of the version.
        """
        self.see_stamp(stamp)
        self._write(_INSERT_AMENDMENT, (*place, *target, stamp))

    def add_garbage(self, volume_id: int, needle_id: int, stamp: int, reason: str) -> None:
        """A needle that is dead and is to get a tombstone with this stamp.

        Args:
            reason: one of WAS_COMMITTED; "deleted" says that the whole object was deleted at `stamp`.
        """
        assert reason in WAS_COMMITTED
        self.see_stamp(stamp)
        self._write(DISCARD, (volume_id, needle_id, stamp, reason))

    def add_damage(self, damage: NeedleDamage) -> None:
        self._write(_INSERT_DAMAGE, damage_columns(damage))

    # --- what must never be used again ------------------------------------------------------------

    def see_stamp(self, stamp: int) -> None:
        """Later stamps must exceed this one: a deletion that a later rebuild finds may have it."""
        self._stamp_max = max(self._stamp_max, stamp)

    def see_bucket_id(self, bucket_id: int) -> None:
        """New buckets get greater ids than every id seen."""
        self._id_max["buckets"] = max(self._id_max["buckets"], bucket_id)

    def see_volume_id(self, volume_id: int) -> None:
        """New volumes get greater ids than every id seen."""
        self._id_max["volumes"] = max(self._id_max["volumes"], volume_id)

    def set_meta(self, name: str, value: int) -> None:
        """See `Transaction.set_meta`."""
        self._write("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))

    # --- the end ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Make indexes, sums, sequences and notes; when this returns, the file survives a power cut."""
        with self._named():
            self._flush_objects()
            for sql in list(self._batches):
                self._flush(sql)
            for _, sql in self._late_indexes:
                self._connection.execute(sql)
            for sql in _COUNT:
                self._connection.execute(sql)
            self._connection.execute(
                "UPDATE facts SET value = ? WHERE name = 'stamp_max'", (self._stamp_max,)
            )
            for table, id_max in self._id_max.items():
                # AUTOINCREMENT keeps a row for each table that ever had one.
                self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
                self._connection.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, id_max)
                )
            for (disk_id,) in self._connection.execute("SELECT id FROM disks").fetchall():
                self._connection.execute(NOTE_ALL, (disk_id,))
            self._connection.executemany(NOTE, self._deleted)
            self._connection.execute("COMMIT")
            self._connection.close()
        _sync(self.path)
        _sync(self.path.parent)
        self._is_finished = True

    def _write(self, sql: str, row: tuple[Any, ...]) -> None:
        batch = self._batches.setdefault(sql, [])
        batch.append(row)
        if len(batch) >= BATCH_COUNT:
            with self._named():
                self._flush(sql)

    def _flush(self, sql: str) -> None:
        self._connection.executemany(sql, self._batches.pop(sql))

    def _flush_objects(self) -> None:
        insert_rows(self._connection, _INSERT_OBJECTS, self._objects)
        self._objects.clear()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise BadRequest(f"the rows contradict each other: {error}") from error
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=True) from error


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WriteFailed(f"cannot make the catalog in {path} durable: {error.strerror}") from error
