"""Multipart: uploads in parts, from their begin to their end but for their completion."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from warehouse.client.reading.streams import ObjectStream
from warehouse.errors import ObjectReplaced, RangeNotSatisfiable
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import OBJECT_MAX, Body
from warehouse.gateway.copies import source_of
from warehouse.gateway.digesting import digested
from warehouse.gateway.kept import kept_of
from warehouse.gateway.parts import begun_with, checksum_of_part, kind_of, part_digests
from warehouse.gateway.writes import tags_of
from warehouse.s3 import xml_out
from warehouse.s3.checksums import DEFAULT, Algorithm, multipart_checksum, part_algorithm
from warehouse.s3.conditions import Facts, check_copy, copy_conditions
from warehouse.s3.copying import CopySource, check_copy_size
from warehouse.s3.etags import quoted
from warehouse.s3.failures import Failure
from warehouse.s3.headers import checksum_headers, read_stored
from warehouse.s3.integrity import Integrity, Promises
from warehouse.s3.names import check_bucket
from warehouse.s3.ranges import Slice, parse_copy_range, part_number
from warehouse.s3.upload_ids import make_upload_id, no_such_upload, read_upload_id
from warehouse.transport.messages import ObjectInfo, PartInfo, UploadInfo

COPY_TRIES = 8  # of a source that others replace
_COPY_RANGE = b"x-amz-copy-source-range"


class Multipart:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "CreateMultipartUpload": self.create,
            "UploadPart": self.part,
            "UploadPartCopy": self.copy_part,
            "AbortMultipartUpload": self.abort,
        }

    async def create(self, ask: Ask) -> Answer:
        bucket, key = ask.target.bucket, ask.target.key
        check_bucket(bucket)
        kind = multipart_checksum(ask.headers)
        kept = kept_of(read_stored(ask.headers), tags_of(ask.headers), ask.asker.account_id)
        number = await ask.bucket.multipart.begin(
            key, kept.content_type, kept.metadata, begun_with(kept.attributes, kind)
        )
        headers: list[tuple[bytes, bytes]] = []
        if kind is not None:
            headers.append((b"x-amz-checksum-algorithm", kind.algorithm.name.encode()))
            headers.append((b"x-amz-checksum-type", kind.type.value.encode()))
        return document(xml_out.initiate_upload(bucket, key, make_upload_id(bucket, key, number)), headers)

    async def part(self, ask: Ask) -> Answer:
        number = part_number(ask.query.get("partNumber") or "")
        upload = await upload_of(ask)
        kind = kind_of(upload)
        body = Body(ask, DEFAULT if kind is None else kind.algorithm)
        part_algorithm(kind, body.promises.algorithm)
        if body.size is not None and body.size > OBJECT_MAX:
            raise Failure(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                {"ProposedSize": str(body.size), "MaxSizeAllowed": str(OBJECT_MAX)},
            )
        async with aclosing(body.pieces()) as pieces:
            part = await ask.bucket.multipart.put_part(
                upload.upload_id, number, pieces, body.size, lambda: part_digests(body.found)
            )
        headers = [(b"ETag", quoted(part.etag).encode())]
        checksum = checksum_of_part(part)
        return Answer(200, headers if checksum is None else [*headers, *checksum_headers(checksum)])

    async def copy_part(self, ask: Ask) -> Answer:
        """A part out of another object; its bytes pass through here, and are digested."""
        number, source = part_number(ask.query.get("partNumber") or ""), source_of(ask)
        upload = await upload_of(ask)
        kind = kind_of(upload)
        algorithm = DEFAULT if kind is None else kind.algorithm
        for _ in range(COPY_TRIES):
            part = await self._copy_part(ask, source, upload.upload_id, number, algorithm)
            if part is not None:
                return document(xml_out.copy_part(part.etag, part.created_ms, checksum_of_part(part)))
        raise ObjectReplaced(f"{source.key} is replaced faster than it can be copied")

    async def _copy_part(
        self, ask: Ask, source: CopySource, upload_id: int, number: int, algorithm: Algorithm
    ) -> PartInfo | None:
        """None: the source was replaced meanwhile."""
        origin = ask.store.bucket(source.bucket)
        info = await origin.stat(source.key)
        check_copy(copy_conditions(ask.headers), Facts(info.etag, info.created_ms, info.size))
        wanted = _slice_of(ask, info)
        try:
            async with origin.open(source.key, wanted.start, wanted.length) as stream:
                if (stream.info.etag, stream.info.created_ms) != (info.etag, info.created_ms):
                    return None
                return await self._send(ask, stream, wanted.length, upload_id, number, algorithm)
        except (RangeNotSatisfiable, ObjectReplaced):
            return None

    async def _send(
        self, ask: Ask, stream: ObjectStream, size: int, upload_id: int, number: int, algorithm: Algorithm
    ) -> PartInfo:
        integrity = Integrity(Promises(), algorithm)
        async with aclosing(digested(stream, integrity)) as pieces:
            return await ask.bucket.multipart.put_part(
                upload_id, number, pieces, size, lambda: part_digests(integrity.finish())
            )

    async def abort(self, ask: Ask) -> Answer:
        upload = await upload_of(ask)
        await ask.bucket.multipart.abort(upload.upload_id)
        return Answer(204)


def upload_id_of(ask: Ask) -> int:
    """The id of the upload that a request names, as the store has it.

    Raises:
        Failure: NoSuchUpload.
    """
    check_bucket(ask.target.bucket)
    return read_upload_id(ask.target.bucket, ask.target.key, ask.query.get("uploadId") or "")


async def upload_of(ask: Ask) -> UploadInfo:
    """The upload that a request names.

    Raises:
        Failure, NoSuchUpload: there is none, or it is completed.
    """
    found = await ask.bucket.multipart.parts(upload_id_of(ask), limit=1)
    return require_upload(ask, found.upload)


def require_upload(ask: Ask, upload: UploadInfo | None) -> UploadInfo:
    """
    Raises:
        Failure: NoSuchUpload: it is one of another key.
    """
    if upload is None or upload.key != ask.target.key:
        raise no_such_upload(ask.query.get("uploadId") or "")
    return upload


def _slice_of(ask: Ask, info: ObjectInfo) -> Slice:
    """The bytes of the source that are copied.

    Raises:
        Failure: InvalidArgument, InvalidRange; InvalidRequest: more than a part can have.
    """
    value = ask.headers.get(_COPY_RANGE)
    wanted = Slice(0, info.size) if value is None else parse_copy_range(value, info.size)
    check_copy_size(wanted.length)
    return wanted
