"""Parts: uploads in parts, from the first whole part to the plan of their completion.

Slots, the end and the abortion of such an upload are those of every other one (`uploads.py`).  Here parts
become whole, and are listed: those of an upload, and those that an object was completed from.
"""

from __future__ import annotations

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.objects import require_part
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions, require_on
from warehouse.actors.control.uploads import UploadHandlers
from warehouse.auth.rights import Permission
from warehouse.catalog.interface import Transaction
from warehouse.catalog.names import check_key
from warehouse.catalog.records import BucketRow, PartRow, UploadPage, UploadRow
from warehouse.errors import BadRequest, NoSuchBucket, NoSuchUpload, ObjectReplaced
from warehouse.transport.messages import (
    MULTIPART,
    CompletionPlan,
    FinishPart,
    ListParts,
    ListUploads,
    PartFinished,
    PartInfo,
    Parts,
    PlanCompletion,
    UploadInfo,
    Uploads,
)
from warehouse.transport.messages.attributes import PART_COUNT_MAX, ManifestChunk
from warehouse.transport.messages.paging import fitting
from warehouse.transport.zeromq.peers import Peer

LIST_MAX = 1000
CHUNKS_MAX = 8192  # in one answer


class PartHandlers:
    def __init__(self, context: MasterContext, sessions: Sessions, uploads: UploadHandlers) -> None:
        self._context = context
        self._catalog = context.catalog
        self._sessions = sessions
        self._uploads = uploads

    def routes(self) -> Routes:
        return (
            Routes()
            .later(FinishPart, self.finish_part)
            .now(ListParts, self.list_parts)
            .now(ListUploads, self.list_uploads)
            .now(PlanCompletion, self.plan)
        )

    async def finish_part(self, peer: Peer, request: FinishPart) -> PartFinished:
        upload, _ = self._in_parts(peer, request.upload_id)
        at_ms, stamp = now_ms(), self._context.stamp()
        part = PartRow(
            request.part_number,
            request.attempt,
            request.chunk_count,
            request.size,
            request.md5,
            request.checksum,
            at_ms,
        )

        def finish(t: Transaction) -> PartRow:
            finished = t.finish_part(upload.id, part, stamp=stamp)
            t.touch_upload(upload.id, at_ms + upload.lifetime_ms)
            return finished

        work = self._sessions.guarded(peer, finish)
        return PartFinished(part=part_info(await self._context.writer.write(work, is_growth=True)))

    def list_parts(self, peer: Peer, request: ListParts) -> Parts:
        limit = max(1, min(request.limit, LIST_MAX))
        info: UploadInfo | None = None
        with self._catalog.one_moment():
            if request.key:
                upload_id = self._upload_of_object(peer, request)
            else:
                self._require_write_in(peer, request)
                upload, bucket = self._in_parts(peer, request.upload_id)
                if bucket.name != request.bucket or upload.is_finished:
                    raise _absence(request.upload_id)
                upload_id, info = upload.id, upload_info(upload)
            rows = (
                []
                if upload_id is None
                else self._catalog.parts(upload_id, after=request.after, limit=limit + 1)
            )
        parts = [part_info(row) for row in rows[:limit]]
        return Parts(parts=parts, next_after=parts[-1].number if len(rows) > limit else 0, upload=info)

    def _require_write_in(self, peer: Peer, request: ListParts) -> None:
        """Whoever sees the bucket and writes nowhere in it hears so, whether there is such an upload or not.

        Raises:
            PermissionDenied.
        """
        try:
            self._sessions.bucket_for(peer, Permission.WRITE, request.bucket)
        except NoSuchBucket:
            raise _absence(request.upload_id) from None

    def _upload_of_object(self, peer: Peer, request: ListParts) -> int | None:
        """The upload that an object was completed from; None: it was put in one piece."""
        if request.upload_id:
            raise BadRequest("parts are those of an upload or of an object, not of both")
        check_key(request.key)
        _, row = self._sessions.object_for(peer, request.bucket, request.key)
        if request.etag and row.etag != request.etag:
            raise ObjectReplaced(f"object {request.key!r} is another version by now")
        return None if row.part_count is None else row.upload_id

    def list_uploads(self, peer: Peer, request: ListUploads) -> Uploads:
        if request.delimiter == "":
            raise BadRequest("a delimiter has at least one character")
        rights = self._sessions.require(peer, Permission.LIST).rights
        with self._catalog.one_moment():
            bucket = self._catalog.bucket(request.bucket)
            require_on(rights, Permission.LIST, bucket, None)
            page = self._catalog.open_uploads(
                bucket.id,
                prefix=request.prefix,
                delimiter=request.delimiter,
                after=request.after,
                after_upload=max(0, request.after_upload),
                limit=max(1, min(request.limit, LIST_MAX)),
                within=require_part(rights, bucket, request.prefix),
            )
        return _that_fits(page)

    def plan(self, peer: Peer, request: PlanCompletion) -> CompletionPlan:
        if len(request.part_numbers) > PART_COUNT_MAX:
            raise BadRequest(f"an object has at most {PART_COUNT_MAX} parts, not {len(request.part_numbers)}")
        with self._catalog.one_moment():
            upload, _ = self._in_parts(peer, request.upload_id)
            named = frozenset(request.part_numbers)
            rows = [row for row in self._catalog.parts(upload.id) if row.part_number in named]
            chunks = self._catalog.chunks_of_parts(
                upload.id, rows, first=request.first_chunk, limit=CHUNKS_MAX
            )
            done = self._catalog.finished_etag(upload.id) if upload.is_finished else ""
        return CompletionPlan(
            parts=[part_info(row) for row in rows],
            chunks=[
                ManifestChunk(chunk.volume_id, chunk.needle_id, chunk.size, chunk.crc) for chunk in chunks
            ],
            chunk_count=sum(row.chunk_count for row in rows),
            upload=upload_info(upload),
            done=done,
        )

    def _in_parts(self, peer: Peer, upload_id: int) -> tuple[UploadRow, BucketRow]:
        """As `UploadHandlers.upload`; raises BadRequest for an upload without parts, too."""
        upload, bucket = self._uploads.upload(peer, upload_id)
        if upload.style != MULTIPART:
            raise BadRequest(f"upload {upload_id} has no parts")
        return upload, bucket


def _absence(upload_id: int) -> NoSuchUpload:
    return NoSuchUpload(f"there is no upload {upload_id}: it was aborted, or it expired")


# --- rows for messages ----------------------------------------------------------------------------


def part_info(row: PartRow) -> PartInfo:
    return PartInfo(
        number=row.part_number,
        size=row.size,
        etag=row.md5.hex(),
        created_ms=row.created_ms,
        checksum=row.checksum,
        chunk_count=row.chunk_count,
    )


def upload_info(row: UploadRow) -> UploadInfo:
    return UploadInfo(
        upload_id=row.id,
        key=row.key,
        created_ms=row.created_ms,
        owner_id=row.owner_id,
        initiator_id=row.initiator_id,
        attributes=row.attributes,
    )


def _that_fits(page: UploadPage) -> Uploads:
    """The entries of a page that fit into a message, and where the next page begins."""
    uploads = [upload_info(row) for row in page.uploads]
    count = fitting(uploads)
    if count == len(uploads):
        return Uploads(
            uploads=uploads,
            prefixes=page.prefixes,
            next_after=page.next_after,
            next_after_upload=page.next_after_upload,
        )
    left_out, last = uploads[count], uploads[count - 1]
    prefixes = [prefix for prefix in page.prefixes if prefix < left_out.key]
    after, after_upload = last.key, last.upload_id
    if prefixes and prefixes[-1] > last.key:
        after, after_upload = prefixes[-1], 0
    return Uploads(
        uploads=uploads[:count], prefixes=prefixes, next_after=after, next_after_upload=after_upload
    )
