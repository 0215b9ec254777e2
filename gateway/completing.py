"""Completing: CompleteMultipartUpload, the parts of an upload become an object.

The parts are looked at first, and compared in the transaction again.  So a part that is sent again meanwhile,
or another Complete of the same upload, makes this one look again.  An upload that is completed already is
answered as it was the first time, for as long as the store remembers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from warehouse.client.control import back_off_s
from warehouse.client.writing.multipart import Plan
from warehouse.errors import BadRequest, NeedleVoid, NoSuchUpload, PreconditionFailed, UploadIncomplete
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import Body
from warehouse.gateway.kept import checksum_of
from warehouse.gateway.multipart import require_upload, upload_id_of, upload_of
from warehouse.gateway.parts import attributes_of_whole, kind_of, stored_part
from warehouse.gateway.writes import require_object
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.checksums import check_whole
from warehouse.s3.completion import check_parts, check_whole_size, etag_listed, kind_of_whole
from warehouse.s3.conditions import WriteConditions, as_field, write_conditions
from warehouse.s3.names import object_url
from warehouse.s3.xml_in import COMPLETE_SIZE_MAX, CompletedPart
from warehouse.s3.xml_out import Checksum

TRIES = 12  # against others that complete the same upload, or send its parts again


class Completing:
    def __init__(self, *, is_tls: bool) -> None:
        self._scheme = "https" if is_tls else "http"

    def handlers(self) -> Mapping[str, Handler]:
        return {"CompleteMultipartUpload": self.complete}

    async def complete(self, ask: Ask) -> Answer:
        upload_id, conditions = upload_id_of(ask), write_conditions(ask.headers)
        body = Body(ask, is_object=False)
        listed = xml_in.read_complete(await body.read(COMPLETE_SIZE_MAX))
        failure: Exception | None = None
        for attempt in range(TRIES):
            try:
                plan = await ask.bucket.multipart.plan(upload_id, [part.number for part in listed])
            except NoSuchUpload:
                await upload_of(ask)  # names the bucket, so it says so where the key may not write there
                raise
            require_upload(ask, plan.upload)
            if plan.done and plan.done == etag_listed(listed):
                return self._answer(ask, plan.done, _checksum_of_done(plan, listed))
            if plan.done:
                raise NoSuchUpload("the upload is completed already, from other parts")
            try:
                return await self._complete(ask, plan, listed, conditions)
            except PreconditionFailed:
                await require_object(ask, conditions.if_match)
                raise
            except (BadRequest, NeedleVoid, NoSuchUpload, UploadIncomplete) as error:
                failure = error  # the parts are others by now, or the upload is completed
            await trio.sleep(back_off_s(attempt))
        assert failure is not None
        raise failure

    async def _complete(
        self, ask: Ask, plan: Plan, listed: Sequence[CompletedPart], conditions: WriteConditions
    ) -> Answer:
        parts = check_parts(listed, map(stored_part, plan.parts))
        check_whole_size(ask.headers, sum(part.size for part in parts))
        attributes = attributes_of_whole(plan.upload, parts)
        checksum, kind = checksum_of(attributes), kind_of_whole(kind_of(plan.upload), parts)
        check_whole(kind, ask.headers, None if checksum is None else checksum.value)
        written = await ask.bucket.multipart.complete(
            plan,
            attributes,
            if_match=as_field(conditions.if_match),
            if_none_match=as_field(conditions.if_none_match),
        )
        return self._answer(ask, written.etag, checksum)

    def _answer(self, ask: Ask, etag: str, checksum: Checksum | None) -> Answer:
        target = ask.target
        origin = f"{self._scheme}://{ask.headers.get(b'host', b'').decode('latin-1')}"
        location = object_url(origin, target.bucket, target.key, target.is_virtual)
        return document(xml_out.complete_upload(location, target.bucket, target.key, etag, checksum))


def _checksum_of_done(plan: Plan, listed: Sequence[CompletedPart]) -> Checksum | None:
    """The checksum that was answered before; None: the object is gone, and with it what is known of it."""
    if len(plan.parts) != len(listed):
        return None
    return checksum_of(attributes_of_whole(plan.upload, [stored_part(part) for part in plan.parts]))
