"""ACLs: who may do what with buckets and objects, as far as S3's own lists say it.

There is one such list here: the owner has FULL_CONTROL, and nobody else anything.  It can be read, and set to
what it is, because clients do that as a matter of course.  What a key may do is decided by its rights.
"""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import read_document
from warehouse.gateway.owners import owner_of
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.failures import Failure
from warehouse.s3.names import check_bucket
from warehouse.s3.xml_out import Owner


class Acls:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketAcl": self.of_bucket,
            "GetObjectAcl": self.of_object,
            "PutBucketAcl": self.set_of_bucket,
            "PutObjectAcl": self.set_of_object,
        }

    async def of_bucket(self, ask: Ask) -> Answer:
        return document(xml_out.access_control_policy(await _owner(ask)))

    async def of_object(self, ask: Ask) -> Answer:
        return document(xml_out.access_control_policy(await _owner_of_object(ask)))

    async def set_of_bucket(self, ask: Ask) -> Answer:
        await _require_unchanged(ask, await _owner(ask))
        return Answer(200)

    async def set_of_object(self, ask: Ask) -> Answer:
        await _require_unchanged(ask, await _owner_of_object(ask))
        return Answer(200)


async def _owner(ask: Ask) -> Owner:
    check_bucket(ask.target.bucket)
    return owner_of((await ask.bucket.info()).owner_id)


async def _owner_of_object(ask: Ask) -> Owner:
    """Who has put it; the owner of the bucket, unless somebody else has."""
    of_bucket = await _owner(ask)
    owner_id = (await ask.bucket.stat(ask.target.key)).owner_id
    return owner_of(owner_id) if owner_id else of_bucket


async def _require_unchanged(ask: Ask, owner: Owner) -> None:
    """Refuse a list that would change something; what its headers ask for was looked at before.

    Raises:
        Failure: NotImplemented; MalformedXML.
    """
    body = await read_document(ask, xml_in.SMALL_SIZE_MAX)
    if not body:
        if b"x-amz-acl" in ask.headers:
            return
        raise Failure(
            "MissingSecurityHeader",
            "Your request was missing a required header",
            {"MissingHeaderName": "x-amz-acl"},
        )
    if xml_in.read_grants(body) != {(owner.id, "FULL_CONTROL")}:
        raise Failure(
            "NotImplemented",
            "A header or operation you provided implies functionality that is not implemented: access control"
            " lists other than `private`.",
            {"Feature": "access control lists"},
        )
