"""Objects: put, get, head, delete, one or many."""

from __future__ import annotations

import re
from collections.abc import Mapping

import trio

from warehouse.errors import StoreError
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import OBJECT_MAX, Body
from warehouse.gateway.owners import owner_of
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.etags import quoted
from warehouse.s3.failures import Failure, failure_of
from warehouse.s3.headers import (
    DEFAULT_TYPE,
    Described,
    StoredHeaders,
    is_partial,
    not_modified_headers,
    object_headers,
    read_overrides,
    read_stored,
)
from warehouse.s3.names import check_bucket
from warehouse.s3.ranges import Slice, read_part_number, requested_slice
from warehouse.s3.xml_out import Deleted, NotDeleted
from warehouse.transport.http.conditions import is_not_modified, write_conditions
from warehouse.transport.messages import ObjectInfo

DELETE_DOCUMENT_MAX = 2 * 1024 * 1024
DELETES_AT_ONCE = 16
_CONTENT_TYPE = b"content-type"
_PLAIN = re.compile(rb"[\x20-\x7e]*").fullmatch


class Objects:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "PutObject": self.put,
            "GetObject": self.get,
            "HeadObject": self.head,
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_many,
            "GetObjectAcl": self.acl,
        }

    async def put(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        content_type, metadata = _storable(read_stored(ask.headers))
        if_match, if_none_match = write_conditions(ask.headers)
        body = Body(ask)
        if body.size is not None and body.size > OBJECT_MAX:
            raise Failure(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                {"ProposedSize": str(body.size), "MaxSizeAllowed": str(OBJECT_MAX)},
            )
        written = await ask.bucket.put(
            ask.target.key,
            body.pieces(),
            content_type,
            metadata,
            if_match=if_match,
            if_none_match=if_none_match,
        )
        headers = [(b"ETag", quoted(written.etag).encode())]
        return Answer(200, headers)

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
        answer, found = self._begin(ask, info)
        if answer.status not in (200, 206):
            return answer
        start, length = (0, info.size) if found is None else (found.start, found.length)
        if not length:
            return answer
        async with ask.bucket.open(ask.target.key, start, length) as stream:
            if stream.info.etag != info.etag:  # it was replaced meanwhile: begin anew with that one
                answer, found = self._begin(ask, stream.info)
                length = stream.info.size if found is None else found.length
            await stream.wait_first()
            await ask.exchange.start(answer.status, (*answer.headers, *ask.ids), length)
            async for piece in stream:
                await ask.exchange.write(piece)
        return None

    def _begin(self, ask: Ask, info: ObjectInfo) -> tuple[Answer, Slice | None]:
        """What a GET or HEAD of this object answers, without its bytes; and which bytes are asked for.

        Raises:
            Failure: PreconditionFailed, InvalidRange.
        """
        headers, described = ask.headers, _described(info)
        modified_s = info.created_ms // 1000
        if is_not_modified(headers, info.etag, modified_s):
            return Answer(304, not_modified_headers(described)), None
        part_number = read_part_number(ask.query.get("partNumber"))
        found = requested_slice(headers, part_number, info.size, ())
        overrides = read_overrides(ask.query, is_signed=True)
        shown = object_headers(described, found, by_part=part_number is not None, overrides=overrides)
        return Answer(206 if is_partial(found) else 200, shown), found

    async def delete(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        _require_null_version(ask.query.get("versionId"))
        if_match, _ = write_conditions(ask.headers)
        await ask.bucket.delete(ask.target.key, if_match=if_match)
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
                    await ask.bucket.delete(one.key, if_match=one.etag)
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

    async def acl(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        await ask.bucket.stat(ask.target.key)
        info = await ask.bucket.info()
        return document(xml_out.access_control_policy(owner_of(info.owner_id)))


def _described(info: ObjectInfo) -> Described:
    content_type = (info.content_type or DEFAULT_TYPE.decode()).encode("latin-1", "replace")
    metadata = {name.encode(): value.encode("latin-1", "replace") for name, value in info.metadata.items()}
    return Described(
        info.etag, info.created_ms, info.size, StoredHeaders({_CONTENT_TYPE: content_type}, metadata)
    )


def _storable(stored: StoredHeaders) -> tuple[str, dict[str, str]]:
    """Content type and user metadata, as the store keeps them.

    Raises:
        Failure: NotImplemented: a header that the store cannot keep yet.  To drop it would be worse.
    """
    kept_nowhere = sorted(name.decode() for name in stored.named if name != _CONTENT_TYPE)
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
