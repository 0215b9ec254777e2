"""Part reads: uploads in parts that are under way, and the parts of uploads and of objects."""

from __future__ import annotations

from collections.abc import Sequence

from warehouse.catalog.listing import common_prefix, first_key, key_after_prefix, spans
from warehouse.catalog.records import ChunkRow, PartRow, UploadPage, UploadRow, version_etag
from warehouse.catalog.sqlite.columns import (
    CHUNK_COLUMNS,
    PART_COLUMNS,
    UPLOAD_COLUMNS,
    chunk_row,
    part_row,
    upload_row,
)
from warehouse.catalog.sqlite.reader import Reader
from warehouse.errors import NoSuchUpload
from warehouse.transport.messages.attributes import ATTEMPT_SHIFT, CHUNKS_OF_PART_MAX, part_chunk_index

# The words of the index `uploads_in_parts`, so that SQLite takes it.
_OPEN = (
    f"SELECT {UPLOAD_COLUMNS} FROM uploads WHERE bucket_id = ? AND is_finished = 0 AND style = 'multipart'"
    " AND (key, id) > (?, ?)"
)
_FINISHED = (
    "SELECT finished_md5, finished_part_count, finished_volume_id, finished_needle_id, finished_crc,"
    " finished_chunk_count FROM uploads WHERE id = ? AND is_finished"
)
_BEFORE_ALL = -1  # ids of uploads are greater
_FIRST_ROWS = 4  # that are read behind a common prefix: the next upload may belong to another one already


class PartReads(Reader):
    """Part of `SqliteCatalog`."""

    def parts(self, upload_id: int, *, after: int = 0, limit: int = -1) -> list[PartRow]:
        rows = self._all(
            f"SELECT {PART_COLUMNS} FROM parts WHERE upload_id = ? AND part_number > ?"
            " ORDER BY part_number LIMIT ?",
            (upload_id, after, limit),
        )
        return [part_row(columns) for columns in rows]

    def chunks_of_parts(
        self, upload_id: int, parts: Sequence[PartRow], *, first: int, limit: int
    ) -> list[ChunkRow]:
        chunks: list[ChunkRow] = []
        skipped = 0
        for part in parts:
            if skipped + part.chunk_count <= first:
                skipped += part.chunk_count
                continue
            begin = part_chunk_index(part.part_number, part.attempt, max(0, first - skipped))
            end = (begin >> ATTEMPT_SHIFT << ATTEMPT_SHIFT) + CHUNKS_OF_PART_MAX
            skipped += part.chunk_count
            rows = self._all(
                f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? AND chunk_index >= ?"
                " AND chunk_index < ? ORDER BY chunk_index LIMIT ?",
                (upload_id, begin, end, limit - len(chunks)),
            )
            chunks += [chunk_row(columns) for columns in rows]
            if len(chunks) >= limit:
                break
        return chunks

    def finished_etag(self, upload_id: int) -> str:
        found = self._one(_FINISHED, (upload_id,))
        if found is None:
            raise NoSuchUpload(f"there is no upload {upload_id}: it was aborted, or it expired")
        return version_etag(*found)

    def open_uploads(
        self,
        bucket_id: int,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        after: str = "",
        after_upload: int = 0,
        limit: int = 1000,
        within: Sequence[str] | None = None,
    ) -> UploadPage:
        uploads: list[UploadRow] = []
        prefixes: list[str] = []
        last = after, after_upload
        start = _first(prefix, delimiter, after, after_upload)
        ahead = limit + 1 if delimiter is None else _FIRST_ROWS
        with self.one_moment():
            for low, end in spans(prefix, within):
                while start is not None and (end is None or start[0] < end):
                    room = limit + 1 - len(uploads) - len(prefixes)  # the one more begins the next page
                    begin, start = max(start, (low, _BEFORE_ALL)), None if end is None else (end, _BEFORE_ALL)
                    rows = self._open(bucket_id, begin, end, min(room, ahead))
                    for columns in rows:
                        if len(uploads) + len(prefixes) == limit:
                            return UploadPage(uploads, prefixes, *last)
                        row = upload_row(columns)
                        common = common_prefix(row.key, prefix, delimiter)
                        if common is not None:
                            prefixes.append(common)
                            last = common, 0
                            following = key_after_prefix(common)
                            start = None if following is None else (following, _BEFORE_ALL)
                            ahead = _FIRST_ROWS
                            break
                        uploads.append(row)
                        last = row.key, row.id
                    else:
                        if len(rows) == ahead < room:
                            start, ahead = last, 2 * ahead
        return UploadPage(uploads, prefixes, None, 0)

    def _open(
        self, bucket_id: int, begin: tuple[str, int], end: str | None, limit: int
    ) -> list[tuple[object, ...]]:
        if end is None:
            return self._all(f"{_OPEN} ORDER BY key, id LIMIT ?", (bucket_id, *begin, limit))
        return self._all(f"{_OPEN} AND key < ? ORDER BY key, id LIMIT ?", (bucket_id, *begin, end, limit))


def _first(prefix: str, delimiter: str | None, after: str, after_upload: int) -> tuple[str, int] | None:
    """The key and the id behind which a page begins; None: there is nothing."""
    if after_upload and after.startswith(prefix) and common_prefix(after, prefix, delimiter) is None:
        return after, after_upload
    key = first_key(prefix, delimiter, after)
    return None if key is None else (key, _BEFORE_ALL)
