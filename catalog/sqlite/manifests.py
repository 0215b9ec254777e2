"""Manifests: the part of a transaction that makes objects of uploads which end with a manifest.

Such an upload has chunks, perhaps in parts, and a last needle that says what the object is (`Manifest` in
`transport/messages/attributes.py`).  The needle is written before the object becomes visible.  So the
transaction makes the same manifest from its own rows, and compares: what a rebuild would read is what the
catalog says, or nothing changes.

The manifest has the greatest stamp of all needles of its object, which is the object's stamp.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from crc32c import crc32c

from warehouse.catalog.records import (
    ChunkRow,
    FinishResult,
    ObjectRow,
    PartRow,
    Restamp,
    UploadEnd,
    UploadRow,
)
from warehouse.catalog.sqlite.bookkeeping import Bookkeeping
from warehouse.catalog.sqlite.columns import (
    CHUNK_COLUMNS,
    PART_COLUMNS,
    chunk_row,
    insert,
    part_columns,
    part_row,
)
from warehouse.errors import BadRequest, NoSuchUpload, UploadIncomplete
from warehouse.transport.messages import MULTIPART
from warehouse.transport.messages.attributes import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    CHUNKS_OF_PART_MAX,
    MANIFEST_FORMAT,
    MANIFEST_INDEX,
    MD5_SIZE,
    PART_COUNT_MAX,
    Manifest,
    ManifestChunk,
    ManifestPart,
    decode_attributes,
    encode_manifest,
    part_chunk_index,
)

_PUT_PART = insert("parts", f"upload_id, {PART_COLUMNS}", instead=True)
_TAKE_CHUNK = "DELETE FROM chunks WHERE upload_id = ? AND chunk_index = ? RETURNING volume_id, needle_id"


class Manifests(Bookkeeping):
    """Base of `Uploads`."""

    # --- parts ------------------------------------------------------------------------------------

    def finish_part(self, upload_id: int, part: PartRow, *, stamp: int = 0) -> PartRow:
        upload = self._upload_row(upload_id)
        if upload.is_finished:
            raise NoSuchUpload(f"upload {upload_id} is finished")
        if upload.style != MULTIPART:
            raise BadRequest(f"upload {upload_id} has no parts")
        _check_part(part)
        former = self._part(upload_id, part.part_number)
        chunks = self._chunks_of_attempt(upload_id, part.part_number, part.attempt)
        wanted = chunks[: part.chunk_count]
        if len(wanted) < part.chunk_count or not _are_in_order(wanted, part):
            raise UploadIncomplete(f"part {part.part_number} of upload {upload_id} lacks chunks")
        if any(chunk.is_stored for chunk in chunks[part.chunk_count :]):
            raise UploadIncomplete(f"part {part.part_number} of upload {upload_id} has more chunks")
        size = sum(chunk.size for chunk in wanted)
        if size != part.size:
            raise UploadIncomplete(
                f"the chunks of part {part.part_number} of upload {upload_id} have {size} bytes,"
                f" not {part.size}"
            )
        is_again = former is not None and former.attempt == part.attempt
        if former is not None and is_again and former.md5 == part.md5:
            return former  # the answer of the first time was lost
        self._execute(_PUT_PART, (upload_id, *part_columns(part)))
        surplus = chunks[part.chunk_count :]
        if former is not None and not is_again:  # two senders may draw the same attempt
            surplus += self._chunks_of_attempt(upload_id, former.part_number, former.attempt)
        self._void_chunks(upload_id, surplus, stamp)
        return part

    def _part(self, upload_id: int, number: int) -> PartRow | None:
        found = self._one(
            f"SELECT {PART_COLUMNS} FROM parts WHERE upload_id = ? AND part_number = ?", (upload_id, number)
        )
        return None if found is None else part_row(found)

    def _chunks_of_attempt(self, upload_id: int, number: int, attempt: int) -> list[ChunkRow]:
        rows = self._execute(
            f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? AND chunk_index BETWEEN ? AND ?"
            " ORDER BY chunk_index",
            (
                upload_id,
                part_chunk_index(number, attempt, 0),
                part_chunk_index(number, attempt, CHUNKS_OF_PART_MAX - 1),
            ),
        )
        return [chunk_row(columns) for columns in rows.fetchall()]

    def _void_chunks(self, upload_id: int, chunks: Sequence[ChunkRow], stamp: int) -> None:
        """Give up these chunks; no needle may be committed into their slots any more."""
        for chunk in chunks:
            taken = self._execute(_TAKE_CHUNK, (upload_id, chunk.chunk_index)).fetchall()
            self._discard(taken, stamp, "void")

    # --- the end ----------------------------------------------------------------------------------

    def _finish_with_manifest(
        self, upload: UploadRow, chunk_count: int, object_size: int, end: UploadEnd
    ) -> FinishResult:
        attributes = decode_attributes(end.attributes)
        if attributes.owner_id not in ("", upload.initiator_id):
            raise BadRequest("an object belongs to the account of the key that puts it, or to nobody")
        rows = self._execute(
            f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE upload_id = ? ORDER BY chunk_index", (upload.id,)
        )
        stored = [chunk_row(columns) for columns in rows.fetchall()]
        manifest = stored[-1] if stored and stored[-1].chunk_index == MANIFEST_INDEX else None
        parts: list[PartRow] = []
        if upload.style == MULTIPART:
            parts = self._parts_named(upload.id, end.part_numbers)
            if attributes.part_count != len(parts):
                raise BadRequest(f"the attributes tell of {attributes.part_count} parts, not {len(parts)}")
            chunks = _chunks_of_parts(upload.id, stored, parts)
        elif end.part_numbers:
            raise BadRequest(f"upload {upload.id} has no parts")
        else:
            chunks = self._complete_chunks(upload.id, chunk_count, object_size)
        if len(chunks) != chunk_count or sum(chunk.size for chunk in chunks) != object_size:
            raise UploadIncomplete(
                f"upload {upload.id} has other chunks than {chunk_count} of {object_size} bytes together"
            )
        if manifest is None or not manifest.is_stored:
            raise UploadIncomplete(f"the manifest of upload {upload.id} is not stored")
        _require_same(upload.id, manifest, _manifest_of(object_size, end.attributes, chunks, parts))
        newest = max(chunk.stamp for chunk in chunks)
        if manifest.stamp <= newest:
            return FinishResult(restamp=_restamp(manifest, newest))
        first = chunks[0]
        row = ObjectRow(
            upload.bucket_id,
            upload.key,
            object_size,
            manifest.stamp,
            upload.created_ms,
            upload.content_type,
            first.volume_id,
            first.needle_id,
            first.crc,
            chunk_count,
            upload.id,
            upload.metadata,
            attributes.md5,
            attributes.part_count,
            self._owner_column(upload.bucket_id, attributes.owner_id),
            attributes.version_id,
            end.attributes,
        )
        conditions = upload.if_match, upload.if_none_match
        if end.if_match is not None or end.if_none_match is not None:
            conditions = end.if_match, end.if_none_match
        current = self._current(upload.bucket_id, upload.key)
        above = self._make_visible(row, current, *conditions)
        if above is not None:
            return FinishResult(restamp=_restamp(manifest, above))
        kept = {chunk.chunk_index for chunk in (*chunks, manifest)}
        self._void_chunks(upload.id, [chunk for chunk in stored if chunk.chunk_index not in kept], 0)
        self._keep_parts(upload.id, parts)
        self._mark_finished(upload.id, row)
        return FinishResult(row)

    def void_manifest(self, upload_id: int, stamp: int) -> None:
        if self._one("SELECT 1 FROM uploads WHERE id = ? AND NOT is_finished", (upload_id,)) is not None:
            taken = self._execute(_TAKE_CHUNK, (upload_id, MANIFEST_INDEX)).fetchall()
            self._discard(taken, stamp, "void")

    def _parts_named(self, upload_id: int, numbers: Sequence[int]) -> list[PartRow]:
        if not numbers or any(number >= after for number, after in itertools.pairwise(numbers)):
            raise BadRequest("an upload is completed from one part or more, each named once, in order")
        rows = self._execute(
            f"SELECT {PART_COLUMNS} FROM parts WHERE upload_id = ? ORDER BY part_number", (upload_id,)
        )
        there = {columns[0]: part_row(columns) for columns in rows.fetchall()}
        missing = [number for number in numbers if number not in there]
        if missing:
            raise UploadIncomplete(f"upload {upload_id} has no part {missing[0]}")
        return [there[number] for number in numbers]

    def _keep_parts(self, upload_id: int, parts: Sequence[PartRow]) -> None:
        """Forget the other parts of this upload."""
        there = self._execute("SELECT part_number FROM parts WHERE upload_id = ?", (upload_id,)).fetchall()
        gone = {number for (number,) in there} - {part.part_number for part in parts}
        self._executemany(
            "DELETE FROM parts WHERE upload_id = ? AND part_number = ?",
            [(upload_id, number) for number in sorted(gone)],
        )

    # --- what `Uploads` has -----------------------------------------------------------------------

    def _upload_row(self, upload_id: int) -> UploadRow:
        raise NotImplementedError

    def _complete_chunks(self, upload_id: int, chunk_count: int, object_size: int) -> list[ChunkRow]:
        raise NotImplementedError

    def _mark_finished(self, upload_id: int, row: ObjectRow) -> None:
        raise NotImplementedError


def _check_part(part: PartRow) -> None:
    if not 1 <= part.part_number <= PART_COUNT_MAX:
        raise BadRequest(f"a part has a number from 1 to {PART_COUNT_MAX}, not {part.part_number}")
    if not 0 <= part.attempt <= ATTEMPT_MAX or not 1 <= part.chunk_count <= CHUNKS_OF_PART_MAX:
        raise BadRequest(f"a part has 1 to {CHUNKS_OF_PART_MAX} chunks, and an attempt up to {ATTEMPT_MAX}")
    if part.size < 0 or len(part.md5) != MD5_SIZE:
        raise BadRequest(f"a part has a size of 0 or more, and an MD5 of {MD5_SIZE} bytes")


def _are_in_order(chunks: Sequence[ChunkRow], part: PartRow) -> bool:
    first = part_chunk_index(part.part_number, part.attempt, 0)
    return all(
        chunk.is_stored and chunk.chunk_index == first + position for position, chunk in enumerate(chunks)
    )


def _chunks_of_parts(upload_id: int, stored: Sequence[ChunkRow], parts: Sequence[PartRow]) -> list[ChunkRow]:
    """The chunks of these parts, in order.

    Raises:
        UploadIncomplete: a part has other chunks than when it was finished.
    """
    by_attempt: dict[int, list[ChunkRow]] = {}
    for chunk in stored:
        by_attempt.setdefault(chunk.chunk_index >> ATTEMPT_SHIFT, []).append(chunk)
    chunks: list[ChunkRow] = []
    for part in parts:
        own = by_attempt.get(part_chunk_index(part.part_number, part.attempt, 0) >> ATTEMPT_SHIFT, [])
        if len(own) != part.chunk_count or not _are_in_order(own, part):
            raise UploadIncomplete(f"part {part.part_number} of upload {upload_id} lost chunks")
        chunks += own
    return chunks


def _manifest_of(
    size: int, attributes: bytes, chunks: Sequence[ChunkRow], parts: Sequence[PartRow]
) -> Manifest:
    return Manifest(
        MANIFEST_FORMAT,
        size,
        attributes,
        [ManifestChunk(chunk.volume_id, chunk.needle_id, chunk.size, chunk.crc) for chunk in chunks],
        [
            ManifestPart(
                part.part_number, part.size, part.chunk_count, part.md5, part.checksum, part.created_ms
            )
            for part in parts
        ],
    )


def _require_same(upload_id: int, stored: ChunkRow, manifest: Manifest) -> None:
    content = encode_manifest(manifest)
    if (stored.size, stored.crc) != (len(content), crc32c(content)):
        raise BadRequest(
            f"the manifest of upload {upload_id} is another one than its chunks, parts and attributes make"
        )


def _restamp(manifest: ChunkRow, above: int) -> Restamp:
    return Restamp(manifest.chunk_index, manifest.volume_id, manifest.needle_id, above)
