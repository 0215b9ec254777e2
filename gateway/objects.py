"""Objects: put, get, head, delete, one or many."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec
import trio

from warehouse.client.reading.locator import Wants
from warehouse.client.reading.streams import ObjectStream
from warehouse.errors import NoSuchObject, ObjectInconsistent, ObjectReplaced, PreconditionFailed, StoreError
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import OBJECT_MAX, Body
from warehouse.gateway.kept import checksum_of, described_of, kept_of
from warehouse.gateway.parts import checksum_of_part
from warehouse.gateway.versions import require_null_version
from warehouse.gateway.writes import condition_of, require_object, tags_of
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.checksums import DEFAULT
from warehouse.s3.conditions import (
    CONDITION_NAMES,
    DELETE_WHATEVER,
    DeleteConditions,
    Facts,
    check_delete,
    conditions_of_key,
    delete_conditions,
    is_not_modified,
    is_range_current,
    read_conditions,
    write_conditions,
)
from warehouse.s3.etags import quoted
from warehouse.s3.failures import Failure, failure_of
from warehouse.s3.headers import (
    CHECKSUM_MODE,
    checksum_headers,
    is_partial,
    not_modified_headers,
    object_headers,
    read_overrides,
    read_stored,
    wants_checksum,
)
from warehouse.s3.names import check_bucket
from warehouse.s3.ranges import Slice, read_part_number, requested_slice
from warehouse.s3.xml_out import Checksum, Deleted, NotDeleted
from warehouse.transport.messages import ObjectInfo, PartInfo
from warehouse.transport.messages.attributes import ObjectAttributes, decode_attributes

log = logging.getLogger(__name__)

DELETE_DOCUMENT_MAX = 2 * 1024 * 1024
DELETES_AT_ONCE = 16
READ_TRIES = 8  # of an object that others replace
# Headers that make the answer another one than all of the object.
_SHAPING = CONDITION_NAMES | {b"range", b"if-range", CHECKSUM_MODE}


class Objects:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "PutObject": self.put,
            "GetObject": self.get,
            "HeadObject": self.head,
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_many,
        }

    async def put(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        kept = kept_of(read_stored(ask.headers), tags_of(ask.headers), ask.asker.account_id)
        conditions = write_conditions(ask.headers)
        body = Body(ask, DEFAULT)
        if body.size is not None and body.size > OBJECT_MAX:
            raise Failure(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                {"ProposedSize": str(body.size), "MaxSizeAllowed": str(OBJECT_MAX)},
            )
        source = await body.source()
        attributes: ObjectAttributes | None = None
        if isinstance(source, bytes):
            attributes = kept.with_digests(body.found)
        try:
            written = await ask.bucket.put(
                ask.target.key,
                source,
                kept.content_type,
                kept.metadata,
                if_match=condition_of(conditions.if_match),
                if_none_match=condition_of(conditions.if_none_match),
                attributes=attributes or (lambda: kept.with_digests(body.found)),
                wait=ask.exchange.wait_for,
            )
        except PreconditionFailed:
            await require_object(ask, conditions.if_match)
            raise
        headers = [(b"ETag", quoted(written.etag).encode())]
        checksum = checksum_of(attributes or kept.with_digests(body.found))
        if checksum is not None:
            headers += checksum_headers(checksum)
        return Answer(200, headers)

    async def head(self, ask: Ask) -> Answer | None:
        check_bucket(ask.target.bucket)
        info = await ask.bucket.stat(ask.target.key)
        answer, found = self._begin(ask, info, await _parts_asked(ask, info))
        if answer.status in (200, 206):
            length = info.size if found is None else found.length
            await ask.exchange.start(answer.status, (*answer.headers, *ask.ids), length)
            return None
        return answer

    async def get(self, ask: Ask) -> Answer | None:
        """The bytes of an object, each checked before it is sent.

        Conditions, range and bytes are those of one version.  A small object comes with its place, together
        with those that others ask for at this moment, and this request waits without a task.  Whatever else
        streams; so does a small object whose shared answer had a problem.
        """
        check_bucket(ask.target.bucket)
        reads, key = ask.bucket.reads, ask.target.key
        if not CONDITION_NAMES.isdisjoint(ask.headers):  # often no bytes are sent: their places may be many
            info = await ask.bucket.stat(key)
            answer, _ = self._begin(ask, info, await _parts_asked(ask, info))
            if answer.status not in (200, 206):
                return answer
        question = reads.begin(key, Wants.DATA)
        await ask.exchange.wait_for(question.latch)
        try:
            located, data = question.answer()
        except ObjectInconsistent:
            located, data = await reads.locate(key), None
        for _ in range(READ_TRIES):
            info = located.info
            parts = await _parts_asked(ask, info) if ask.query.pairs else ()
            answer, found = self._begin(ask, info, parts)
            start, length = (0, info.size) if found is None else (found.start, found.length)
            if answer.status not in (200, 206) or not length:
                return answer
            if data is not None:
                body = data if length == len(data) else data[start : start + length]
                return Answer(answer.status, answer.headers, body)
            if located.is_back_soon:
                now = await reads.locate(key)  # waits for its disk
                if now.info != info:
                    located = now
                    continue
                located = now
            try:
                async with reads.stream(located, start, length) as stream:
                    await self._send(ask, answer, length, stream)
                    return None
            except ObjectReplaced:
                if ask.exchange.has_started:
                    raise
                located = await reads.locate(key)
        raise ObjectReplaced(f"{key} is replaced faster than it can be read")

    async def _send(self, ask: Ask, answer: Answer, length: int, stream: ObjectStream) -> None:
        await stream.wait_first()
        await ask.exchange.start(answer.status, (*answer.headers, *ask.ids), length)
        async for piece in stream:
            await ask.exchange.write(piece)

    def _begin(self, ask: Ask, info: ObjectInfo, parts: Sequence[PartInfo]) -> tuple[Answer, Slice | None]:
        """What a GET or HEAD of this object answers, without its bytes; and which bytes are asked for.

        Args:
            parts: of the object, if one is asked for.
        Raises:
            Failure: PreconditionFailed, InvalidRange.
        """
        headers, described = ask.headers, described_of(info)
        if not ask.query.pairs and _SHAPING.isdisjoint(headers):  # nearly always
            return Answer(200, object_headers(described)), None
        facts = Facts(info.etag, info.created_ms, info.size)
        if is_not_modified(read_conditions(headers), facts):
            return Answer(304, not_modified_headers(described)), None
        part_number = read_part_number(ask.query.get("partNumber"))
        found = None
        if part_number is not None or is_range_current(headers, facts):
            found = requested_slice(
                headers, part_number, info.size, [(part.number, part.size) for part in parts]
            )
        if wants_checksum(headers):
            if found is None or (part_number is not None and not parts):
                described = described_of(info, with_checksum=True)
            elif part_number is not None:
                described = msgspec.structs.replace(
                    described, checksum=_checksum_asked(part_number, parts, info)
                )
        overrides = read_overrides(ask.query, is_signed=True)
        shown = object_headers(described, found, by_part=part_number is not None, overrides=overrides)
        return Answer(206 if is_partial(found) else 200, shown), found

    async def delete(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        require_null_version(ask.query.get("versionId"))
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
                    require_null_version(one.version_id)
                    await _delete(ask, one.key, conditions_of_key(one))
                except (Failure, StoreError) as error:
                    failure = error if isinstance(error, Failure) else failure_of(error)
                    if failure.status >= 500:
                        cause = {"request_id": ask.exchange.request_id, "cause": str(error)}
                        log.info("not deleted", extra={"code": failure.code, **cause})
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


async def _parts_asked(ask: Ask, info: ObjectInfo) -> Sequence[PartInfo]:
    """The parts of an object, if the request asks for one of them; none: it did not come in parts.

    Raises:
        ObjectReplaced: it is another object by now.
    """
    if (
        not ask.query.pairs
        or ask.query.get("partNumber") is None
        or decode_attributes(info.attributes).part_count is None
    ):
        return ()
    return await ask.bucket.multipart.parts_of_object(info.key, info.etag)


def _checksum_asked(number: int, parts: Sequence[PartInfo], info: ObjectInfo) -> Checksum | None:
    """The checksum of a part, and which kind its object has."""
    found = next((checksum_of_part(part) for part in parts if part.number == number), None)
    of_whole = checksum_of(decode_attributes(info.attributes))
    if found is None or of_whole is None:
        return found
    return msgspec.structs.replace(found, type=of_whole.type)


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
