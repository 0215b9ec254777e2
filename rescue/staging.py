"""Staging: what the survey found, in a temporary SQLite file, so memory does not grow with it.

It is filled volume by volume, with records in any order; then `derive` finds out what lives:

    needles            every needle with readable metadata; its place is (volume number << 32) + needle id
    tombstones         places with a tombstone; with a stamp when it says that the object was deleted
    pending_deletions  places that an old catalog had given up; there may be no tombstone yet
    restamps           places with a later stamp
    kills              the latest deletion of each (bucket_id, key): versions up to that stamp are dead
    versions           living needles that are a whole object, and complete uploads, newest first within a key
    parts              living chunks of uploads that have several, and end with the last of them
    manifests          living manifests: the last needles of other uploads
    pieces             living chunks of those
    claimed            manifests, pieces and amendments that a version needs
    amendments         living needles that change the attributes of a version, newest first

Nothing in this file has to survive a crash: it is not synced, and vanishes with its folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from warehouse.catalog.sqlite.bulk import insert_rows
from warehouse.errors import DiskFull, ReadFailed, StoreError, WriteFailed
from warehouse.storage.format.needle import (
    NEEDLE_ID_MAX,
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_OBJECT,
    ROLE_PART,
)

PLACE_BITS: Final = 32  # of the needle id in a place; the number of the volume is above
STAMP_MAX: Final = (1 << 63) - 1  # SQLite's limit; no clock gets there in 4,000 years
STAGING_PREFIX: Final = ".rescue-"
BATCH_COUNT: Final = 2000
CACHE_KIB: Final = 32 * 1024  # sorting takes as much before it uses files
PAGE_SIZE: Final = 32 * 1024  # fewer and longer writes, and shallow trees

_TABLES: Final = """
CREATE TABLE needles (
    place INTEGER PRIMARY KEY, bucket_id INTEGER, key TEXT, stamp INTEGER, size INTEGER, crc INTEGER,
    created_ms INTEGER, content_type TEXT, metadata BLOB, offset INTEGER, is_damaged INTEGER,
    upload_id INTEGER, chunk_index INTEGER, chunk_count INTEGER, object_size INTEGER,
    attributes BLOB, role INTEGER, target INTEGER
);
CREATE TABLE tombstones (place INTEGER PRIMARY KEY, last_stamp INTEGER);
CREATE TABLE pending_deletions (place INTEGER PRIMARY KEY, stamp INTEGER, reason TEXT);
CREATE TABLE restamps (place INTEGER PRIMARY KEY, stamp INTEGER);
CREATE TABLE kills (bucket_id INTEGER, key TEXT, stamp INTEGER, PRIMARY KEY (bucket_id, key)) WITHOUT ROWID;
CREATE TABLE versions (
    bucket_id INTEGER, key TEXT, stamp INTEGER, place INTEGER, size INTEGER, crc INTEGER, created_ms INTEGER,
    content_type TEXT, metadata BLOB, offset INTEGER, is_damaged INTEGER, upload_id INTEGER,
    chunk_count INTEGER, attributes BLOB, manifest INTEGER, amendment INTEGER,
    PRIMARY KEY (bucket_id, key, stamp DESC, place)
) WITHOUT ROWID;
CREATE TABLE parts (
    upload_id INTEGER, chunk_index INTEGER, is_damaged INTEGER, stamp INTEGER, place INTEGER,
    bucket_id INTEGER, key TEXT, size INTEGER, crc INTEGER, created_ms INTEGER, content_type TEXT,
    metadata BLOB, offset INTEGER, chunk_count INTEGER, object_size INTEGER,
    PRIMARY KEY (upload_id, bucket_id, key, chunk_index, is_damaged, stamp DESC, place)
) WITHOUT ROWID;
CREATE TABLE manifests (
    upload_id INTEGER, chunk_index INTEGER, is_damaged INTEGER, stamp INTEGER, place INTEGER,
    bucket_id INTEGER, key TEXT, size INTEGER, crc INTEGER, created_ms INTEGER, content_type TEXT,
    metadata BLOB, offset INTEGER, chunk_count INTEGER, object_size INTEGER,
    PRIMARY KEY (upload_id, bucket_id, key, is_damaged, stamp DESC, place)
) WITHOUT ROWID;
CREATE TABLE pieces (
    upload_id INTEGER, chunk_index INTEGER, is_damaged INTEGER, stamp INTEGER, place INTEGER PRIMARY KEY,
    bucket_id INTEGER, key TEXT, size INTEGER, crc INTEGER, created_ms INTEGER, content_type TEXT,
    metadata BLOB, offset INTEGER, chunk_count INTEGER, object_size INTEGER
);
CREATE TABLE claimed (place INTEGER PRIMARY KEY, manifest INTEGER);
CREATE INDEX claimed_by_manifest ON claimed (manifest);
CREATE TABLE volumes (id INTEGER PRIMARY KEY, number INTEGER);
CREATE TABLE amendments (
    target INTEGER, stamp INTEGER, place INTEGER, bucket_id INTEGER, key TEXT, attributes BLOB,
    PRIMARY KEY (target, stamp DESC, place)
) WITHOUT ROWID;
CREATE INDEX amendments_by_place ON amendments (place);
CREATE INDEX manifests_by_place ON manifests (place);
"""

_PUT_NEEDLES: Final = "INSERT OR IGNORE INTO needles VALUES"  # many rows at once
_IS_DAMAGED: Final = 10  # the column in such a row
_PUT_VERSION: Final = f"INSERT INTO versions VALUES ({', '.join('?' * 16)})"
_PUT_CLAIM: Final = "INSERT OR IGNORE INTO claimed VALUES (?, ?)"
_DROP_DAMAGED: Final = "DELETE FROM needles WHERE place = ? AND is_damaged"
_PUT_TOMBSTONE: Final = (
    "INSERT INTO tombstones VALUES (?, ?) ON CONFLICT (place) DO UPDATE SET"
    " last_stamp = max(coalesce(last_stamp, excluded.last_stamp), coalesce(excluded.last_stamp, last_stamp))"
)
_PUT_PENDING_DELETION: Final = "INSERT OR IGNORE INTO pending_deletions VALUES (?, ?, ?)"
_PUT_RESTAMP: Final = (
    "INSERT INTO restamps VALUES (?, ?) ON CONFLICT (place) DO UPDATE SET stamp = max(stamp, excluded.stamp)"
)
_PUT_KILL: Final = (
    "INSERT INTO kills VALUES (?, ?, ?)"
    " ON CONFLICT (bucket_id, key) DO UPDATE SET stamp = max(stamp, excluded.stamp)"
)

_STAMPED: Final = " FROM needles n LEFT JOIN restamps r ON r.place = n.place"
_LIVES: Final = " WHERE NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.place = n.place)"
_LIVING: Final = _STAMPED + _LIVES
# A chunk that says it is the only one of its upload is a whole object.
_IS_WHOLE: Final = f" AND n.role = {ROLE_OBJECT} AND (n.upload_id IS NULL OR n.chunk_count = 1)"
_IS_PART: Final = f" AND n.role = {ROLE_OBJECT} AND n.upload_id IS NOT NULL AND n.chunk_count IS NOT 1"
_TARGETED: Final = f"{_STAMPED} LEFT JOIN volumes v ON v.id = n.target >> {PLACE_BITS} {_LIVES}"
_STAMP: Final = "max(n.stamp, coalesce(r.stamp, 0))"
_CHUNK: Final = (
    f"SELECT n.upload_id, n.chunk_index, n.is_damaged, {_STAMP}, n.place, n.bucket_id, n.key, n.size, n.crc,"
    f" n.created_ms, n.content_type, n.metadata, n.offset, n.chunk_count, n.object_size {_LIVING}"
)

_DERIVE: Final = (
    # A usual tombstone names its object through its needle, wherever the needle is in the file.
    "INSERT INTO kills SELECT n.bucket_id, n.key, max(t.last_stamp) FROM tombstones t"
    " JOIN needles n ON n.place = t.place WHERE t.last_stamp IS NOT NULL GROUP BY n.bucket_id, n.key"
    " ON CONFLICT (bucket_id, key) DO UPDATE SET stamp = max(stamp, excluded.stamp)",
    f"INSERT INTO versions SELECT n.bucket_id, n.key, {_STAMP}, n.place, n.size, n.crc, n.created_ms,"
    f" n.content_type, n.metadata, n.offset, n.is_damaged, NULL, 1, n.attributes, NULL, NULL"
    f" {_LIVING} {_IS_WHOLE} ORDER BY 1, 2, 3 DESC, 4",
    f"INSERT INTO parts {_CHUNK} {_IS_PART} ORDER BY 1, 6, 7, 2, 3, 4 DESC, 5",
    f"INSERT INTO manifests {_CHUNK} AND n.role = {ROLE_MANIFEST}",
    f"INSERT INTO pieces {_CHUNK} AND n.role = {ROLE_PART} ORDER BY 5",
    f"INSERT INTO amendments SELECT coalesce((v.number << {PLACE_BITS}) | (n.target & {NEEDLE_ID_MAX}), -1),"
    f" {_STAMP}, n.place, n.bucket_id, n.key, n.attributes {_TARGETED} AND n.role = {ROLE_AMENDMENT}",
)

# Of the chunks of an upload that ends with a manifest: does a version need any of them?
_IS_COMPLETE: Final = (
    "EXISTS (SELECT 1 FROM manifests m JOIN claimed c ON c.place = m.place WHERE m.upload_id = n.upload_id"
    " AND m.bucket_id = n.bucket_id AND m.key = n.key AND NOT m.is_damaged)"
)
_IS_UNCLAIMED: Final = "WHERE NOT EXISTS (SELECT 1 FROM claimed c WHERE c.place = n.place)"
_UNCLAIMED: Final = (
    f"SELECT n.place, n.stamp, NOT {_IS_COMPLETE} FROM pieces n {_IS_UNCLAIMED}"
    f" UNION ALL SELECT n.place, n.stamp, NOT {_IS_COMPLETE} FROM manifests n {_IS_UNCLAIMED}"
    " UNION ALL SELECT n.place, n.stamp, NOT EXISTS (SELECT 1 FROM versions v WHERE v.bucket_id = n.bucket_id"
    f" AND v.key = n.key AND v.place = n.target) FROM amendments n {_IS_UNCLAIMED}"
)
_UNENDED: Final = (
    "SELECT n.upload_id, n.bucket_id, n.key FROM pieces n WHERE NOT EXISTS (SELECT 1 FROM manifests m"
    " WHERE m.upload_id = n.upload_id AND m.bucket_id = n.bucket_id AND m.key = n.key) GROUP BY 1, 2, 3"
)
_AMEND: Final = (
    "UPDATE versions SET attributes = ?, amendment = ? WHERE bucket_id = ? AND key = ? AND place = ?"
)


class Needle(msgspec.Struct, frozen=True, gc=False):
    """A needle as the survey found it; its fields are the columns of `needles`."""

    place: int
    bucket_id: int
    key: str
    stamp: int
    size: int
    crc: int
    created_ms: int
    content_type: str | None
    metadata: bytes | None  # a msgpack map, as the catalog keeps it; None: no metadata
    offset: int
    is_damaged: bool
    upload_id: int | None = None
    chunk_index: int = 0
    chunk_count: int | None = 1
    object_size: int | None = None
    attributes: bytes | None = None  # encoded; None: it has none
    role: int = ROLE_OBJECT
    target: int | None = None  # of an amendment: (volume id << 32) + needle id


class Version(msgspec.Struct, frozen=True, gc=False):
    """A complete version of an object, dead or alive; its fields are the columns of `versions`."""

    bucket_id: int
    key: str
    stamp: int
    place: int  # of its only needle, or of its first chunk; likewise crc and offset
    size: int  # of the object
    crc: int
    created_ms: int
    content_type: str | None
    metadata: bytes | None
    offset: int
    is_damaged: bool  # at least one of its needles
    upload_id: int | None  # the upload that its parts belong to; None: it has one needle
    chunk_count: int
    attributes: bytes | None = None  # encoded
    manifest: int | None = None  # its place; None: it ends with its last chunk
    amendment: int | None = None  # the place of the needle that has its attributes; None: they are its own


class Part(msgspec.Struct, frozen=True, gc=False):
    """A chunk of an upload, or its manifest; its fields are the columns of `parts`."""

    upload_id: int
    chunk_index: int
    is_damaged: bool
    stamp: int
    place: int
    bucket_id: int
    key: str
    size: int
    crc: int
    created_ms: int
    content_type: str | None
    metadata: bytes | None
    offset: int
    chunk_count: int | None
    object_size: int | None


class Amendment(msgspec.Struct, frozen=True, gc=False):
    """New attributes for a version; its fields are the columns of `amendments`."""

    target: int  # the place of the first needle of the version; -1: in no volume that was read
    stamp: int
    place: int
    bucket_id: int
    key: str
    attributes: bytes | None


_as_row = msgspec.structs.astuple


def _version(row: tuple[Any, ...]) -> Version:
    return Version(*(row[:10] + (bool(row[10]),) + row[11:16]))


def _part(row: tuple[Any, ...]) -> Part:
    return Part(*(row[:2] + (bool(row[2]),) + row[3:]))


def place_of(volume_number: int, needle_id: int) -> int:
    return volume_number << PLACE_BITS | needle_id


def volume_number_of(place: int) -> int:
    return place >> PLACE_BITS


def needle_id_of(place: int) -> int:
    return place & (1 << PLACE_BITS) - 1


class Staging:
    """`with Staging(folder) as staging:`; the block removes everything in it at its end."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: needs room for about 200 bytes for each needle, and as much again for sorting.
        """
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=folder))
        except OSError as error:
            raise WriteFailed(f"cannot make a temporary folder in {folder}: {error.strerror}") from error
        # SQLite sorts in its own files, which belong where the room is, not into /tmp.
        os.environ["SQLITE_TMPDIR"] = str(self.folder)
        try:
            with self._named():
                self._connection = sqlite3.connect(self.folder / "staging.sqlite3", isolation_level=None)
                for pragma in (
                    f"page_size = {PAGE_SIZE}",
                    "journal_mode = OFF",
                    "synchronous = OFF",
                    f"cache_size = -{CACHE_KIB}",
                ):
                    self._connection.execute(f"PRAGMA {pragma}")
                self._connection.executescript(_TABLES)
                self._connection.execute("BEGIN")  # never committed: nothing here is for later
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._needles: list[tuple[Any, ...]] = []  # rows that SQLite has not got yet
        self._batches: dict[str, list[tuple[Any, ...]]] = {}  # the same of other tables, by statement

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- filling ----------------------------------------------------------------------------------

    def add_needle(self, needle: Needle) -> None:
        self._needles.append(_as_row(needle))
        if len(self._needles) >= BATCH_COUNT:
            self._flush_needles()

    def add_tombstone(self, place: int, last_stamp: int | None) -> None:
        """A tombstone.

        Args:
            last_stamp: when the object was deleted; None: only this needle is dead.
        """
        self._add(_PUT_TOMBSTONE, (place, last_stamp))

    def add_pending_deletion(self, place: int, stamp: int, reason: str) -> None:
        """A needle that is dead, whether or not it has a tombstone yet.

        Args:
            reason: "deleted": its object was deleted, at `stamp`.
        """
        self._add(_PUT_PENDING_DELETION, (place, stamp, reason))
        self.add_tombstone(place, stamp if reason == "deleted" else None)

    def add_restamp(self, place: int, stamp: int) -> None:
        self._add(_PUT_RESTAMP, (place, stamp))

    def add_kill(self, bucket_id: int, key: str, stamp: int) -> None:
        """A deletion that names its object."""
        self._add(_PUT_KILL, (bucket_id, key, stamp))

    def add_version(self, version: Version) -> None:
        """A complete upload."""
        with self._named():
            self._connection.execute(_PUT_VERSION, _as_row(version))

    def flush(self) -> None:
        """Pass all waiting rows to SQLite."""
        self._flush_needles()
        for sql in list(self._batches):
            self._flush(sql)

    def _add(self, sql: str, row: tuple[Any, ...]) -> None:
        batch = self._batches.setdefault(sql, [])
        batch.append(row)
        if len(batch) >= BATCH_COUNT:
            self._flush(sql)

    def _flush(self, sql: str) -> None:
        batch = self._batches.pop(sql)
        with self._named():
            self._connection.executemany(sql, batch)

    def _flush_needles(self) -> None:
        batch, self._needles = self._needles, []
        with self._named():
            before = self._connection.total_changes
            insert_rows(self._connection, _PUT_NEEDLES, batch)
            if self._connection.total_changes - before < len(batch):
                self._prefer_whole([row for row in batch if not row[_IS_DAMAGED]])

    def _prefer_whole(self, rows: list[tuple[Any, ...]]) -> None:
        """An id may be used again after a write that never ended: the needle whose CRC matches counts."""
        self._connection.executemany(_DROP_DAMAGED, [row[:1] for row in rows])
        insert_rows(self._connection, _PUT_NEEDLES, rows)

    def claim(self, places: Iterable[int], manifest: int | None) -> None:
        """A version needs these needles.

        Args:
            manifest: the place of the one that names them; None: none does.
        """
        with self._named():
            self._connection.executemany(_PUT_CLAIM, [(place, manifest) for place in places])

    def amend(self, amendment: Amendment) -> None:
        """The version that it names has these attributes."""
        name = amendment.bucket_id, amendment.key, amendment.target
        with self._named():
            self._connection.execute(_AMEND, (amendment.attributes, amendment.place, *name))
        self.claim([amendment.place], None)

    def derive(self, volume_numbers: Mapping[int, int]) -> None:
        """Find out what lives; afterwards only complete uploads, claims and amendments may be added.

        Args:
            volume_numbers: of each volume id, its number in the places.
        """
        self.flush()
        with self._named():
            self._connection.executemany("INSERT INTO volumes VALUES (?, ?)", volume_numbers.items())
            for statement in _DERIVE:
                self._connection.execute(statement)

    # --- asking -----------------------------------------------------------------------------------

    def versions(self) -> Iterator[tuple[Version, int]]:
        """All versions by bucket id and key, newest first, each with the stamp of the latest deletion of its
        key; -1: it was never deleted."""
        rows = self._select(
            "SELECT v.*, coalesce(k.stamp, -1) FROM versions v LEFT JOIN kills k"
            " ON k.bucket_id = v.bucket_id AND k.key = v.key"
            " ORDER BY v.bucket_id, v.key, v.stamp DESC, v.place"
        )
        for row in rows:
            yield _version(row), row[16]

    def parts(self, upload: tuple[int, int, str] | None = None) -> Iterator[Part]:
        """Chunks by upload and index; if several claim one index, the best comes first.

        Args:
            upload: its id, the id of its bucket, and its key; chunks of another name are another upload's.
        """
        where = "" if upload is None else " WHERE upload_id = ? AND bucket_id = ? AND key = ?"
        parameters = upload or ()
        order = " ORDER BY upload_id, bucket_id, key, chunk_index, is_damaged, stamp DESC, place"
        yield from map(_part, self._select(f"SELECT * FROM parts{where}{order}", parameters))

    def manifests(self) -> Iterator[Part]:
        """Manifests by upload; of several of one upload, the best comes first."""
        order = " ORDER BY upload_id, bucket_id, key, is_damaged, stamp DESC, place"
        yield from map(_part, self._select(f"SELECT * FROM manifests{order}"))

    def manifest_at(self, place: int) -> Part:
        """The living manifest at a place."""
        return _part(next(self._select("SELECT * FROM manifests WHERE place = ?", (place,))))

    def piece_at(self, place: int) -> Part | None:
        """The living chunk at a place, if it is of an upload that ends with a manifest."""
        row = next(self._select("SELECT * FROM pieces WHERE place = ?", (place,)), None)
        return None if row is None else _part(row)

    def has_tombstone(self, place: int) -> bool:
        """Does the needle at a place, if there is one, have a tombstone of its own?"""
        return next(self._select("SELECT 1 FROM tombstones WHERE place = ?", (place,)), None) is not None

    def pieces_of(self, manifest: int) -> list[Part]:
        """The chunks that were claimed for a manifest, in order."""
        rows = self._select(
            "SELECT p.* FROM claimed c JOIN pieces p ON p.place = c.place WHERE c.manifest = ?"
            " ORDER BY p.chunk_index",
            (manifest,),
        )
        return [*map(_part, rows)]

    def unended_uploads(self) -> Iterator[tuple[int, int, str]]:
        """Upload id, bucket id and key of uploads that should end with a manifest and have none."""
        yield from self._select(_UNENDED)

    def amendments(self) -> Iterator[Amendment]:
        """By the version that they are for, newest first."""
        for row in self._select("SELECT * FROM amendments ORDER BY target, stamp DESC, place"):
            yield Amendment(*row)

    def amendment_stamp(self, place: int) -> int:
        rows = self._select("SELECT stamp FROM amendments WHERE place = ?", (place,))
        return int(next(rows)[0])

    def version_at(self, bucket_id: int, key: str, place: int) -> Version | None:
        """The version of an object whose first needle is at a place."""
        rows = self._select(
            "SELECT * FROM versions WHERE bucket_id = ? AND key = ? AND place = ?", (bucket_id, key, place)
        )
        row = next(rows, None)
        return None if row is None else _version(row)

    def unclaimed(self) -> Iterator[tuple[int, int, bool]]:
        """Needles of uploads with a manifest, and amendments, that no version needs: place and stamp, and
        whether what could not be read may be the reason."""
        for place, stamp, is_incomplete in self._select(_UNCLAIMED):
            yield place, stamp, bool(is_incomplete)

    def pending_deletions(self) -> Iterator[tuple[int, int, str]]:
        """Place, stamp and reason of needles that an old catalog had given up and a volume still has."""
        yield from self._select("SELECT d.* FROM pending_deletions d JOIN needles n ON n.place = d.place")

    def has_living(self, bucket_id: int) -> bool:
        """Does this bucket have a version that was not deleted?"""
        rows = self._select(
            "SELECT 1 FROM versions v LEFT JOIN kills k ON k.bucket_id = v.bucket_id AND k.key = v.key"
            " WHERE v.bucket_id = ? AND v.stamp > coalesce(k.stamp, -1) LIMIT 1",
            (bucket_id,),
        )
        return next(rows, None) is not None

    def has_keys_between(self, bucket_id: int, start: str, end: str) -> bool:
        """Is there a version with a key from `start` on, and below `end`?"""
        rows = self._select(
            "SELECT 1 FROM versions WHERE bucket_id = ? AND key >= ? AND key < ? LIMIT 1",
            (bucket_id, start, end),
        )
        return next(rows, None) is not None

    def tombstoned_count(self) -> int:
        """Needles that have a tombstone of their own."""
        rows = self._select("SELECT count(*) FROM tombstones t JOIN needles n ON n.place = t.place")
        return int(next(rows)[0])

    def killed_count(self) -> int:
        """Objects whose latest record is a deletion."""
        rows = self._select(
            "SELECT count(*) FROM kills k WHERE NOT EXISTS (SELECT 1 FROM versions v"
            " WHERE v.bucket_id = k.bucket_id AND v.key = k.key AND v.stamp > k.stamp)"
        )
        return int(next(rows)[0])

    def _select(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        with self._named():
            yield from self._connection.execute(sql, parameters)

    def _named(self) -> contextlib.AbstractContextManager[None]:
        return named_errors(self.folder)


@contextlib.contextmanager
def named_errors(folder: Path) -> Iterator[None]:
    """Turn an error of SQLite in a temporary file into one of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _named(folder, error) from error


def _named(folder: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"no room for the temporary files in {folder}")
    kind = ReadFailed if code == sqlite3.SQLITE_IOERR else WriteFailed
    return kind(f"the temporary file in {folder} cannot be used: {error}")
