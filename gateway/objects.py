"""Objects: put, get, head, delete, one or many."""

from __future__ import annotations

import re
from collections.abc import Mapping

import trio

from warehouse.client.reading.streams import ObjectStream
from warehouse.errors import NoSuchObject, ObjectReplaced, PreconditionFailed, RangeNotSatisfiable, StoreError
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import OBJECT_MAX, Body
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.checksums import text_of
from warehouse.s3.conditions import (
    DELETE_WHATEVER,
    DeleteConditions,
    Facts,
    as_field,
    check_copy,
    check_delete,
    conditions_of_key,
    copy_conditions,
    delete_conditions,
    is_not_modified,
    is_range_current,
    read_conditions,
    write_conditions,
)
from warehouse.s3.copying import (
    CopySource,
    Directives,
    check_copy_size,
    check_onto_itself,
    parse_copy_source,
    read_directives,
    target_headers,
)
from warehouse.s3.etags import Tags, quoted
from warehouse.s3.failures import Failure, failure_of
from warehouse.s3.headers import (
    DEFAULT_TYPE,
    Described,
    StoredHeaders,
    checksum_headers,
    is_partial,
    not_modified_headers,
    object_headers,
    read_overrides,
    read_stored,
)
from warehouse.s3.names import check_bucket
from warehouse.s3.ranges import Slice, read_part_number, requested_slice
from warehouse.s3.xml_out import Checksum, Deleted, NotDeleted
from warehouse.transport.messages import ObjectInfo

DELETE_DOCUMENT_MAX = 2 * 1024 * 1024
DELETES_AT_ONCE = 16
READ_TRIES = 8  # of an object that others replace
_CONTENT_TYPE = b"content-type"
_TAGGING = b"x-amz-tagging"
_PLAIN = re.compile(rb"[\x20-\x7e]*").fullmatch


class Objects:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "PutObject": self.put,
            "GetObject": self.get,
            "HeadObject": self.head,
            "CopyObject": self.copy,
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_many,
        }

    async def put(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        content_type, metadata = _storable(ask, read_stored(ask.headers))
        conditions = write_conditions(ask.headers)
        body = Body(ask)
        if body.size is not None and body.size > OBJECT_MAX:
            raise Failure(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                {"ProposedSize": str(body.size), "MaxSizeAllowed": str(OBJECT_MAX)},
            )
        try:
            written = await ask.bucket.put(
                ask.target.key,
                body.source(),
                content_type,
                metadata,
                if_match=as_field(conditions.if_match),
                if_none_match=as_field(conditions.if_none_match),
            )
        except PreconditionFailed:
            await _require_object(ask, conditions.if_match)
            raise
        headers = [(b"ETag", quoted(written.etag).encode())]
        digests = body.digests
        if digests is not None and digests.algorithm is not None and digests.checksum is not None:
            checksum = Checksum(digests.algorithm.name, text_of(digests.checksum))
            headers += checksum_headers(checksum)
        return Answer(200, headers)

    async def copy(self, ask: Ask) -> Answer:
        """Copy an object that the key may read; the bytes pass through here, in bounded pieces."""
        check_bucket(ask.target.bucket)
        source = parse_copy_source(ask.headers[b"x-amz-copy-source"])
        check_bucket(source.bucket)
        _require_null_version(source.version_id)
        directives = read_directives(ask.headers)
        check_onto_itself(source, ask.target.bucket, ask.target.key, directives, ask.headers)
        for _ in range(READ_TRIES):
            info = await ask.store.bucket(source.bucket).stat(source.key)
            try:
                return await self._copy(ask, source, info, directives)
            except ObjectReplaced:  # the conditions held for another version
                continue
        raise ObjectReplaced(f"{source.key} is replaced faster than it can be copied")

    async def _copy(self, ask: Ask, source: CopySource, info: ObjectInfo, directives: Directives) -> Answer:
        """Copy the version that `info` tells of.

        Raises:
            ObjectReplaced: there is another one.
        """
        conditions = write_conditions(ask.headers)
        check_copy(copy_conditions(ask.headers), Facts(info.etag, info.created_ms, info.size))
        check_copy_size(info.size)
        stored = target_headers(_described(info).stored, read_stored(ask.headers), directives)
        content_type, metadata = _storable(ask, stored)
        try:
            written = await ask.store.bucket(source.bucket).copy(
                source.key,
                ask.target.key,
                ask.target.bucket,
                content_type=content_type,
                metadata=metadata,
                if_match=as_field(conditions.if_match),
                if_none_match=as_field(conditions.if_none_match),
                source_etag=info.etag,
            )
        except PreconditionFailed:
            await _require_object(ask, conditions.if_match)
            raise
        return document(xml_out.copy_object(written.etag, written.created_ms, None))

    async def head(self, ask: Ask) -> Answer | None:
        check_bucket(ask.target.bucket)
        info = await ask.bucket.stat(ask.target.key)
        answer, found = self._begin(ask, info)
        if answer.status in (200, 206):
            length = info.size if found is None else found.length
            await ask.exchange.start(answer.status, (*answer.headers, *ask.ids), length)
            return None
        return answer

    async def get(self, ask: Ask) -> Answer | None:
        """The bytes of an object, each checked before it is sent."""
        check_bucket(ask.target.bucket)
        info = await ask.bucket.stat(ask.target.key)
        for _ in range(READ_TRIES):
            answer, found = self._begin(ask, info)
            start, length = (0, info.size) if found is None else (found.start, found.length)
            if answer.status not in (200, 206) or not length:
                return answer
            # Conditions and range are those of another version if it was replaced meanwhile.
            try:
                async with ask.bucket.open(ask.target.key, start, length) as stream:
                    if stream.info.etag == info.etag:
                        await self._send(ask, answer, length, stream)
                        return None
                    info = stream.info
            except RangeNotSatisfiable:  # by a smaller one
                info = await ask.bucket.stat(ask.target.key)
        raise ObjectReplaced(f"{ask.target.key} is replaced faster than it can be read")

    async def _send(self, ask: Ask, answer: Answer, length: int, stream: ObjectStream) -> None:
        await stream.wait_first()
        await ask.exchange.start(answer.status, (*answer.headers, *ask.ids), length)
        async for piece in stream:
            await ask.exchange.write(piece)

    def _begin(self, ask: Ask, info: ObjectInfo) -> tuple[Answer, Slice | None]:
        """What a GET or HEAD of this object answers, without its bytes; and which bytes are asked for.

        Raises:
            Failure: PreconditionFailed, InvalidRange.
        """
        headers, described = ask.headers, _described(info)
        facts = Facts(info.etag, info.created_ms, info.size)
        if is_not_modified(read_conditions(headers), facts):
            return Answer(304, not_modified_headers(described)), None
        part_number = read_part_number(ask.query.get("partNumber"))
        found = None
        if part_number is not None or is_range_current(headers, facts):
            found = requested_slice(headers, part_number, info.size, ())
        overrides = read_overrides(ask.query, is_signed=True)
        shown = object_headers(described, found, by_part=part_number is not None, overrides=overrides)
        return Answer(206 if is_partial(found) else 200, shown), found

    async def delete(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        _require_null_version(ask.query.get("versionId"))
        await _delete(ask, ask.target.key, delete_conditions(ask.headers))
        return Answer(204)

    async def delete_many(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        body = Body(ask)
        body.promises.require_one()
        wanted = xml_in.read_delete(await body.read(DELETE_DOCUMENT_MAX))
        outcomes: dict[int, Deleted | NotDeleted] = {}

        async def delete_some(first: int) -> None:
            for number in range(first, len(wanted.keys), DELETES_AT_ONCE):
                one = wanted.keys[number]
                try:
                    _require_null_version(one.version_id)
                    await _delete(ask, one.key, conditions_of_key(one))
                except (Failure, StoreError) as error:
                    failure = error if isinstance(error, Failure) else failure_of(error)
                    outcomes[number] = NotDeleted(one.key, failure, one.version_id)
                else:
                    outcomes[number] = Deleted(one.key, one.version_id)

        async with trio.open_nursery() as nursery:
            for first in range(min(DELETES_AT_ONCE, len(wanted.keys))):
                nursery.start_soon(delete_some, first)
        shown = [outcomes[number] for number in range(len(wanted.keys))]
        if wanted.is_quiet:
            shown = [one for one in shown if isinstance(one, NotDeleted)]
        return document(xml_out.delete_result(shown))


async def _require_object(ask: Ask, if_match: Tags | None) -> None:
    """After a condition has failed: S3 says by another code that there was nothing to compare with.

    Raises:
        Failure: NoSuchKey.
    """
    if if_match is None:
        return
    try:
        await ask.bucket.stat(ask.target.key)
    except NoSuchObject:
        raise Failure("NoSuchKey", "The specified key does not exist.") from None


async def _delete(ask: Ask, key: str, conditions: DeleteConditions) -> None:
    """Delete what the conditions allow; the ETag that was looked at is compared again in the transaction.

    Raises:
        Failure: PreconditionFailed.
    """
    if conditions == DELETE_WHATEVER:
        await ask.bucket.delete(key)
        return
    try:
        info = await ask.bucket.stat(key)
    except NoSuchObject:
        check_delete(conditions, None)
        return
    check_delete(conditions, Facts(info.etag, info.created_ms, info.size))
    await ask.bucket.delete(key, if_match=info.etag)


def _described(info: ObjectInfo) -> Described:
    content_type = (info.content_type or DEFAULT_TYPE.decode()).encode("latin-1", "replace")
    metadata = {name.encode(): value.encode("latin-1", "replace") for name, value in info.metadata.items()}
    return Described(
        info.etag, info.created_ms, info.size, StoredHeaders({_CONTENT_TYPE: content_type}, metadata)
    )


def _storable(ask: Ask, stored: StoredHeaders) -> tuple[str, dict[str, str]]:
    """Content type and user metadata, as the store keeps them.

    Raises:
        Failure: NotImplemented: a header that the store cannot keep yet.  To drop it would be worse.
    """
    kept_nowhere = sorted(name.decode() for name in stored.named if name != _CONTENT_TYPE)
    kept_nowhere += [_TAGGING.decode()] if ask.headers.get(_TAGGING) else []
    kept_nowhere += ["x-amz-storage-class"] if stored.storage_class != xml_out.STANDARD else []
    values = [stored.named.get(_CONTENT_TYPE, DEFAULT_TYPE), *stored.metadata.values(), *stored.metadata]
    if kept_nowhere or not all(_PLAIN(value) for value in values):
        feature = f"storing the headers {', '.join(kept_nowhere)}" if kept_nowhere else "values beyond ASCII"
        raise Failure(
            "NotImplemented",
            f"A header you provided implies functionality that is not implemented: {feature}.",
            {"Feature": feature},
        )
    content_type, *_ = (value.decode("ascii") for value in values)
    return content_type, {
        name.decode("ascii"): value.decode("ascii") for name, value in stored.metadata.items()
    }


def _require_null_version(version_id: str | None) -> None:
    """
    Raises:
        Failure: each object has one version, and S3 calls it `null`.
    """
    if version_id not in (None, "", "null"):
        raise Failure(
            "NoSuchVersion",
            "The specified version does not exist.",
            {"VersionId": version_id[:100]},
        )
