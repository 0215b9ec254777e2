"""Uploads that end with a manifest, as a client keeps them, against a catalog alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crc32c import crc32c

from catalog_kit import CREATED_MS, Kit, stamp
from warehouse.catalog.records import FinishResult, PartRow, UploadEnd
from warehouse.transport.messages import StoredNeedle
from warehouse.transport.messages.attributes import (
    MANIFEST_INDEX,
    Manifest,
    ManifestChunk,
    ManifestPart,
    ObjectAttributes,
    ObjectChecksum,
    encode_attributes,
    encode_manifest,
    part_chunk_index,
)

MD5 = bytes(range(16))
LATE_MS = CREATED_MS + 10**6


def encoded(**fields: Any) -> bytes:
    return encode_attributes(ObjectAttributes(**{"md5": MD5, **fields}))


class Upload:
    """An upload that ends with a manifest, as a client keeps it."""

    def __init__(
        self, kit: Kit, bucket_id: int, *, key: str = "big", parts: bool = False, **options: Any
    ) -> None:
        self.kit, self.bucket_id, self.key = kit, bucket_id, key
        style = "multipart" if parts else "manifest"
        self.id: int = kit.do(
            lambda t: t.begin_upload(
                bucket_id, key, None, {"a": "b"}, None, None, CREATED_MS, LATE_MS, style=style, **options
            )
        )
        self.chunks: dict[int, StoredNeedle] = {}
        self.parts: dict[int, PartRow] = {}

    def send(
        self, index: int, *, size: int = 100, at: int = 1, volume_id: int = 1, **more: Any
    ) -> StoredNeedle:
        needle = self.kit.needle(
            self.bucket_id,
            self.key,
            at=at,
            size=size,
            volume_id=volume_id,
            upload_id=self.id,
            chunk_index=index,
            **more,
        )
        self.kit.do(lambda t: t.set_slots(self.id, [(index, volume_id, needle.needle_id, size)]))
        assert self.kit.do(lambda t: t.commit_needle(needle)).etag is not None
        self.chunks[index] = needle
        return needle

    def send_part(self, number: int, *sizes: int, attempt: int = 7, at: int = 1) -> PartRow:
        for position, size in enumerate(sizes):
            self.send(part_chunk_index(number, attempt, position), size=size, at=at)
        checksum = ObjectChecksum("CRC32C", False, b"1234") if number % 2 else None
        part = PartRow(number, attempt, len(sizes), sum(sizes), MD5, checksum, CREATED_MS + number)
        finished: PartRow = self.kit.do(lambda t: t.finish_part(self.id, part, stamp=stamp(at)))
        self.parts[number] = finished
        return finished

    def content(self, numbers: Sequence[int] = ()) -> list[StoredNeedle]:
        """The chunks of the object, in order."""
        if not numbers:
            return [self.chunks[index] for index in sorted(self.chunks) if index < MANIFEST_INDEX]
        return [
            self.chunks[part_chunk_index(number, self.parts[number].attempt, position)]
            for number in numbers
            for position in range(self.parts[number].chunk_count)
        ]

    def write_manifest(
        self, attributes: bytes, numbers: Sequence[int] = (), *, at: int = 5, volume_id: int = 2
    ) -> StoredNeedle:
        chunks = self.content(numbers)
        parts = [self.parts[number] for number in numbers]
        content = encode_manifest(
            Manifest(
                1,
                sum(chunk.size for chunk in chunks),
                attributes,
                [ManifestChunk(c.volume_id, c.needle_id, c.size, c.crc) for c in chunks],
                [
                    ManifestPart(p.part_number, p.size, p.chunk_count, p.md5, p.checksum, p.created_ms)
                    for p in parts
                ],
            )
        )
        return self.send(MANIFEST_INDEX, size=len(content), crc=crc32c(content), at=at, volume_id=volume_id)

    def finish(self, attributes: bytes, numbers: Sequence[int] = (), **conditions: Any) -> FinishResult:
        chunks = self.content(numbers)
        end = UploadEnd(attributes, tuple(numbers), **conditions)
        size = sum(chunk.size for chunk in chunks)
        return self.kit.do(lambda t: t.finish_upload(self.id, len(chunks), size, end))
