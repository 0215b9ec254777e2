"""Object reads: buckets, objects and their chunks, listings, uploads, garbage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from warehouse.catalog.listing import common_prefix, first_key, key_after_prefix, spans
from warehouse.catalog.records import BucketRow, ChunkRow, Garbage, ObjectRow, Page, UploadRow
from warehouse.catalog.sqlite.columns import (
    BUCKET_COLUMNS,
    CHUNK_COLUMNS,
    LISTED_COLUMNS,
    OBJECT_COLUMNS,
    UPLOAD_COLUMNS,
    bucket_row,
    chunk_row,
    names_of,
    object_row,
    of_table,
    upload_row,
)
from warehouse.catalog.sqlite.reader import Reader
from warehouse.errors import BadRequest, NoSuchBucket, NoSuchUpload
from warehouse.transport.messages.attributes import MANIFEST_INDEX

_OBJECT = f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key = ?"
_BUCKET_AND_OBJECT = (
    f"SELECT {of_table('buckets', BUCKET_COLUMNS)}, {of_table('objects', OBJECT_COLUMNS)}"
    " FROM buckets LEFT JOIN objects ON bucket_id = buckets.id AND key = ? WHERE name = ?"
)
_BUCKET_WIDTH = len(names_of(BUCKET_COLUMNS))
_KEY = names_of(OBJECT_COLUMNS).index("key")
# Many keys in one statement.  In few lengths, so that SQLite finds each prepared already.
_MANY = tuple(
    (count, f"SELECT {OBJECT_COLUMNS} FROM objects WHERE bucket_id = ? AND key IN (?{', ?' * (count - 1)})")
    for count in (8, 64, 512)
)
_LIST = f"SELECT {LISTED_COLUMNS} FROM objects WHERE bucket_id = ? AND key >= ? ORDER BY key LIMIT ?"
_LIST_TO = (
    f"SELECT {LISTED_COLUMNS} FROM objects WHERE bucket_id = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
)


Execute = Callable[[str, Sequence[Any]], sqlite3.Cursor]


class ObjectReads(Reader):
    """Part of `SqliteCatalog`."""

    # --- buckets ----------------------------------------------------------------------------------

    def bucket(self, name: str) -> BucketRow:
        found = self._one(f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name = ?", (name,))
        if found is None:
            raise NoSuchBucket(f"there is no bucket {name!r}")
        return bucket_row(found)

    def bucket_by_id(self, bucket_id: int) -> BucketRow:
        found = self._one(
            f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE id = ? AND name IS NOT NULL", (bucket_id,)
        )
        if found is None:
            raise NoSuchBucket("the bucket was deleted")
        return bucket_row(found)

    def buckets(
        self, *, after: str = "", limit: int | None = None, prefix: str = "", owner_id: str | None = None
    ) -> list[BucketRow]:
        end = key_after_prefix(prefix)
        wanted = {"AND name < ?": end, "AND owner_id = ?": owner_id}
        more = {clause: value for clause, value in wanted.items() if value is not None}
        rows = self._all(
            f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name > ? AND name >= ?"
            f" {' '.join(more)} ORDER BY name LIMIT ?",
            (after, prefix, *more.values(), -1 if limit is None else limit),
        )
        return [bucket_row(columns) for columns in rows]

    def totals(self) -> tuple[int, int, int]:
        found = self._one(
            "SELECT count(*), coalesce(sum(object_count), 0), coalesce(sum(byte_count), 0)"
            " FROM buckets WHERE name IS NOT NULL"
        )
        return (found[0], found[1], found[2])

    # --- objects ----------------------------------------------------------------------------------

    def object(self, bucket_id: int, key: str) -> ObjectRow | None:
        found = self._one(_OBJECT, (bucket_id, key))
        return None if found is None else object_row(found)

    def bucket_and_object(self, bucket: str, key: str) -> tuple[BucketRow, ObjectRow | None]:
        # One statement, for each takes and gives back a lock, which costs more than what it finds.
        found = self._one(_BUCKET_AND_OBJECT, (key, bucket))
        if found is None:
            raise NoSuchBucket(f"there is no bucket {bucket!r}")
        columns = found[_BUCKET_WIDTH:]
        row = None if columns[_KEY] is None else object_row(columns)
        return bucket_row(found[:_BUCKET_WIDTH]), row

    def objects(self, bucket_id: int, keys: Sequence[str]) -> list[ObjectRow | None]:
        """The object of each key, in their order."""
        found: dict[str, ObjectRow] = {}
        rest = keys
        while rest:
            count, sql = next((one for one in _MANY if one[0] >= len(rest)), _MANY[-1])
            some, rest = rest[:count], rest[count:]
            padding = [some[-1]] * (count - len(some))
            for columns in self._all(sql, (bucket_id, *some, *padding)):
                found[columns[_KEY]] = object_row(columns)
        return [found.get(key) for key in keys]

    def locate(
        self, bucket: str, keys: Sequence[str], *, first_chunk: int = 0, chunk_limit: int
    ) -> tuple[BucketRow, list[tuple[ObjectRow, list[ChunkRow]] | None]]:
        if len(keys) == 1:
            found, row = self.bucket_and_object(bucket, keys[0])
            if row is None or row.chunk_count == 1:  # one statement has seen all there is
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
        if row.chunk_count == 1 or row.upload_id is None:
            return []
        return self._chunks_from(row.upload_id, row, first, limit)

    def _chunks_from(self, upload_id: int, row: ObjectRow, first: int, limit: int) -> list[ChunkRow]:
        if row.part_count is None:
            return self.chunks(upload_id, first=first, limit=limit)
        # The indexes of parts leave gaps.
        rows = self._all(
            f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? AND chunk_index < ?"
            " ORDER BY chunk_index LIMIT ? OFFSET ?",
            (upload_id, MANIFEST_INDEX, limit, first),
        )
        return [chunk_row(columns) for columns in rows]

    def chunks(self, upload_id: int, *, first: int = 0, limit: int = -1) -> list[ChunkRow]:
        """The slots of an upload, or the chunks of an object that has more than one; by index.

        Args:
            limit: of rows; -1: all.
        """
        rows = self._all(
            f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? AND chunk_index BETWEEN ? AND ?"
            " ORDER BY chunk_index LIMIT ?",
            (upload_id, first, MANIFEST_INDEX - 1, limit),
        )
        return [chunk_row(columns) for columns in rows]

    def chunks_of_version(
        self, volume_id: int, needle_id: int, etag: str, *, first: int, limit: int
    ) -> tuple[ObjectRow, list[ChunkRow]] | None:
        with self.one_moment():
            found = self._all(
                f"SELECT {OBJECT_COLUMNS} FROM objects WHERE volume_id = ? AND needle_id = ?",
                (volume_id, needle_id),
            )
            row = object_row(found[0]) if found else None
            if row is None or row.chunk_count == 1 or row.upload_id is None or row.etag != etag:
                return None
            return row, self._chunks_from(row.upload_id, row, first, limit)

    def list_objects(
        self,
        bucket_id: int,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        after: str = "",
        limit: int = 1000,
        within: Sequence[str] | None = None,
    ) -> Page:
        if limit < 1:
            raise BadRequest(f"a page has at least one entry, not {limit}")
        objects: list[ObjectRow] = []
        prefixes: list[str] = []
        last = after
        start = first_key(prefix, delimiter, after)
        with self.one_moment():
            for low, end in spans(prefix, within):
                while start is not None and (end is None or start < end):
                    room = limit + 1 - len(objects) - len(prefixes)  # the one more begins the next page
                    rows = _rows(self._reader.execute, bucket_id, max(start, low), end, room)
                    start = end
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

    # --- uploads and garbage ----------------------------------------------------------------------

    def upload(self, upload_id: int) -> UploadRow:
        found = self._one(f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE id = ?", (upload_id,))
        if found is None:
            raise NoSuchUpload(f"there is no upload {upload_id}: it was aborted, or it expired")
        return upload_row(found)

    def upload_count(self) -> int:
        return int(self._one("SELECT count(*) FROM uploads WHERE is_finished = 0")[0])

    def upload_count_of_key(self, key_id: str) -> int:
        # The words of the index, so that SQLite takes it.
        found = self._one(
            "SELECT count(*) FROM uploads WHERE key_id = ? AND is_finished = 0 AND key_id <> ''", (key_id,)
        )
        return int(found[0])

    def outbox(self, volume_id: int, limit: int) -> list[Garbage]:
        rows = self._all(
            "SELECT needle_id, stamp, reason FROM outbox WHERE volume_id = ? ORDER BY needle_id LIMIT ?",
            (volume_id, limit),
        )
        return [Garbage(*columns) for columns in rows]

    def outbox_counts(self) -> dict[int, int]:
        return dict(self._all("SELECT id, garbage_count FROM volumes WHERE garbage_count != 0"))


def _rows(execute: Execute, bucket_id: int, start: str, end: str | None, limit: int) -> sqlite3.Cursor:
    """Rows of the keys from `start` on and below `end`, read no further than they are asked for."""
    if end is None:
        return execute(_LIST, (bucket_id, start, limit))
    return execute(_LIST_TO, (bucket_id, start, end, limit))
