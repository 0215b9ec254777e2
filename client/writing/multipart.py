"""Multipart: uploads in parts, as S3 has them.

    begin -> put_part for each part, in any order, also again -> plan -> complete
          -> or abort

A part is sent as chunks, under an attempt's number that is drawn at random, and then finished.  So one that
is sent again takes the place of the former one when it is whole, and not before.

A part of known length goes straight through: nothing of it is kept here.  What has passed cannot be sent
again, so a volume that fails meanwhile fails the part, and its sender sends it again.  A part of unknown
length is buffered chunk by chunk.

An upload belongs to whoever began it, with all its whole parts: no failure here aborts it.  What failed
attempts have left in it goes when the upload ends.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from functools import partial

import msgspec

from warehouse.client.control import Control
from warehouse.client.headers import put_options
from warehouse.client.nurseries import bounded_nursery
from warehouse.client.writing.cutting import StreamChunk, StreamChunker, count_chunks, stream_parallel
from warehouse.client.writing.sources import Data, MemorySource, OnceSource
from warehouse.client.writing.uploads import Upload, Uploader
from warehouse.errors import NeedleVoid, Unavailable
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    MULTIPART,
    AbortUpload,
    CompletionPlan,
    Done,
    FinishPart,
    FinishUpload,
    ListParts,
    ListUploads,
    ObjectWritten,
    PartFinished,
    PartInfo,
    Parts,
    PlanCompletion,
    SlotWanted,
    UploadBegun,
    UploadInfo,
    Uploads,
)
from warehouse.transport.messages.attributes import (
    ATTEMPT_MAX,
    MANIFEST_FORMAT,
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

PLAN_TRIES = 8  # of parts that are replaced meanwhile


class PartDigests(msgspec.Struct, frozen=True):
    """What is known of the bytes of a part when all have passed."""

    md5: bytes
    checksum: ObjectChecksum | None = None


class Plan(msgspec.Struct, frozen=True):
    """What an upload would become, or has become.

    Attributes:
        parts: those that were named and are there, by number.
        chunks: of these parts, in order; none of an upload that is completed.
        done: the ETag of the object; empty: the upload is not completed.
    """

    upload: UploadInfo
    parts: list[PartInfo]
    chunks: list[ManifestChunk]
    done: str = ""


class Multipart:
    """The uploads in parts to one bucket."""

    def __init__(self, bucket: str, control: Control, pool: HttpPool, uploader: Uploader) -> None:
        self._bucket = bucket
        self._control = control
        self._pool = pool
        self._uploader = uploader

    async def begin(
        self,
        key: str,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> int:
        """Begin an upload and return its id; it ends by itself when no part has come for some days.

        Raises:
            NoSuchBucket, PermissionDenied, BadKey, BadMetadata, QuotaExceeded.
        """
        options = put_options(key, content_type, metadata, None, None, attributes or ObjectAttributes())
        return (await self._uploader.begin(key, None, options, style=MULTIPART)).upload_id

    async def put_part(
        self,
        upload_id: int,
        number: int,
        pieces: AsyncIterable[Data],
        size: int | None,
        digests: Callable[[], PartDigests],
    ) -> PartInfo:
        """Send a part; when this returns it is on disk, and the part of its number.

        Args:
            number: 1 to 10,000.
            size: bytes of the part; None: the end of `pieces` tells it.
            digests: is called when all pieces have passed.
        Raises:
            NoSuchUpload: aborted, expired or completed.
            Unavailable: a volume failed while the part passed; the part may be sent again.
        """
        upload = self._upload(upload_id)
        attempt = secrets.randbelow(ATTEMPT_MAX + 1)
        first = part_chunk_index(number, attempt, 0)
        try:
            if size is None:
                chunk_count, size = await _send_buffered(upload, first, pieces)
            else:
                chunk_count = await _send_through(upload, first, pieces, size)
        except NeedleVoid as error:  # no other attempt has these chunks: the upload must have ended
            await self.parts(upload_id, limit=1)  # which says so
            raise Unavailable(f"part {number} was given up on its way: {error.message}") from error
        found = digests()
        request = FinishPart(
            upload_id=upload_id,
            part_number=number,
            attempt=attempt,
            chunk_count=chunk_count,
            size=size,
            md5=found.md5,
            checksum=found.checksum,
        )
        return (await upload.ask(request, PartFinished)).part

    async def parts(self, upload_id: int, after: int = 0, limit: int = 1000) -> Parts:
        """A page of the whole parts of an upload, by number, with the upload.

        Raises:
            NoSuchUpload: aborted, expired or completed.
        """
        request = ListParts(bucket=self._bucket, upload_id=upload_id, after=after, limit=limit)
        return await self._control.ask(request, Parts)

    async def parts_of_object(self, key: str, etag: str) -> list[PartInfo]:
        """All parts that an object was completed from; none: it was put in one piece.

        Raises:
            ObjectReplaced: the object has another ETag by now.
            NoSuchObject.
        """
        found: list[PartInfo] = []
        after = 0
        while True:
            request = ListParts(bucket=self._bucket, key=key, etag=etag, after=after)
            page = await self._control.ask(request, Parts)
            found += page.parts
            if not page.next_after:
                return found
            after = page.next_after

    async def uploads(
        self,
        prefix: str = "",
        delimiter: str | None = None,
        *,
        after: str = "",
        after_upload: int = 0,
        limit: int = 1000,
    ) -> Uploads:
        """A page of the uploads that are not completed, by key and id.

        Args:
            after: only keys and common prefixes that are greater.
            after_upload: not 0: uploads of the key `after` with a greater id, too.
        """
        request = ListUploads(
            bucket=self._bucket,
            prefix=prefix,
            delimiter=delimiter,
            after=after,
            after_upload=after_upload,
            limit=limit,
        )
        return await self._control.ask(request, Uploads)

    async def plan(self, upload_id: int, part_numbers: Sequence[int]) -> Plan:
        """What would an object of these parts be?  Changes nothing.

        Raises:
            NoSuchUpload: aborted, expired, or completed longer ago than is remembered.
            Unavailable: the parts are replaced faster than they can be read.
        """
        for _ in range(PLAN_TRIES):
            plan = await self._plan(upload_id, list(part_numbers))
            if plan is not None:
                return plan
        raise Unavailable(f"parts of upload {upload_id} are replaced faster than they can be read")

    async def _plan(self, upload_id: int, numbers: list[int]) -> Plan | None:
        """None: a part was replaced meanwhile."""
        first: CompletionPlan | None = None
        chunks: list[ManifestChunk] = []
        while True:
            request = PlanCompletion(upload_id=upload_id, part_numbers=numbers, first_chunk=len(chunks))
            page = await self._control.ask(request, CompletionPlan)
            if page.done:
                return Plan(page.upload, page.parts, [], page.done)
            first = first or page
            chunks += page.chunks
            if page.parts != first.parts or len(chunks) > first.chunk_count:
                return None
            if len(chunks) == first.chunk_count:
                return Plan(page.upload, page.parts, chunks)
            if not page.chunks:
                return None

    async def complete(
        self,
        plan: Plan,
        attributes: ObjectAttributes,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectWritten:
        """Make the object of a plan visible, in one step; parts that it does not name are given up.

        Args:
            attributes: of the object, with the MD5 of its parts' MD5s and their number.
            if_match, if_none_match: as `Bucket.put`.
        Raises:
            PreconditionFailed: a condition does not hold; the upload stays.
            UploadIncomplete, BadRequest: the parts are not those of the plan any more; the upload stays.
            NoSuchUpload: aborted, expired or completed.
            LinkDown, DeadlineExceeded: no answer; ask again with another plan, which tells.
        """
        upload, size = self._upload(plan.upload.upload_id), sum(part.size for part in plan.parts)
        encoded = encode_attributes(attributes)
        parts = [_manifest_part(part) for part in plan.parts]
        content = encode_manifest(Manifest(MANIFEST_FORMAT, size, encoded, plan.chunks, parts))
        source = MemorySource(memoryview(content))
        wanted = SlotWanted(chunk_index=MANIFEST_INDEX, size=source.size)
        await upload.send(wanted, partial(source.open, 0, source.size))
        request = FinishUpload(
            upload_id=plan.upload.upload_id,
            chunk_count=len(plan.chunks),
            object_size=size,
            attributes=encoded,
            part_numbers=[part.number for part in plan.parts],
            if_match=if_match,
            if_none_match=if_none_match,
        )
        return await upload.ask(request, ObjectWritten)

    async def abort(self, upload_id: int) -> None:
        """Give up an upload with all its parts.

        Raises:
            NoSuchUpload: aborted, expired or completed already.
        """
        await self._control.ask(AbortUpload(upload_id=upload_id), Done)

    def _upload(self, upload_id: int) -> Upload:
        begun = UploadBegun(upload_id=upload_id, chunk_size=self._control.chunk_size, expires_in_s=0.0)
        upload = Upload(begun, f"{self._bucket}, upload {upload_id}", self._control, self._pool, None)
        upload.ends_with_manifest = True
        return upload


def _manifest_part(part: PartInfo) -> ManifestPart:
    md5 = bytes.fromhex(part.etag)
    return ManifestPart(part.number, part.size, part.chunk_count, md5, part.checksum, part.created_ms)


async def _send_buffered(upload: Upload, first: int, pieces: AsyncIterable[Data]) -> tuple[int, int]:
    """Send a part of unknown length; return how many chunks and bytes it has."""
    chunker = StreamChunker(pieces, upload.chunk_size)
    async with bounded_nursery(1) as tasks:  # before the first piece: see `Uploader.put_stream`
        while True:
            chunk = await chunker.next()
            tasks.size = stream_parallel(chunk.index)
            await tasks.wait_room()
            placed = StreamChunk(first + chunk.index, chunk.data, chunk.is_last)
            tasks.start(partial(upload.send_buffered, placed, chunker.size))
            if chunk.is_last:
                await tasks.wait_all()
                return chunker.count, chunker.size


async def _send_through(upload: Upload, first: int, pieces: AsyncIterable[Data], size: int) -> int:
    """Send a part of known length; return how many chunks it has."""
    chunk_count = count_chunks(size, upload.chunk_size)
    sizes = (min(upload.chunk_size, size - at * upload.chunk_size) for at in range(chunk_count))
    chunks = [SlotWanted(chunk_index=first + at, size=length) for at, length in enumerate(sizes)]
    await upload.send_through(OnceSource(pieces, size), chunks)
    return chunk_count
