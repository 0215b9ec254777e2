"""Buckets: the operations about buckets, and about all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from warehouse.errors import BucketExists, NoSuchBucket, PermissionDenied
from warehouse.gateway.ask import XML, Answer, Ask, Handler, document
from warehouse.gateway.bodies import read_document
from warehouse.gateway.owners import owner_of
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.failures import Failure
from warehouse.s3.listing import read_list_buckets
from warehouse.s3.names import check_bucket, check_new_bucket
from warehouse.s3.operations import Empty, Missing, Nothing, Refused
from warehouse.s3.paging import Page, cut
from warehouse.s3.xml_out import ListedBucket
from warehouse.transport.messages import BucketInfo

DOCUMENT_MAX = 64 * 1024
DEFAULT_REGION = "us-east-1"  # which GetBucketLocation answers without a word
_is_region = re.compile("[A-Za-z0-9-]{1,63}").fullmatch


class Buckets:
    """
    Args:
        region: where buckets say that they are.
    """

    def __init__(self, region: str) -> None:
        self._region = region

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "ListBuckets": self.list,
            "CreateBucket": self.create,
            "HeadBucket": self.head,
            "DeleteBucket": self.delete,
            "GetBucketLocation": self.location,
        }

    async def list(self, ask: Ask) -> Answer:
        request = read_list_buckets(ask.query)
        mine = [
            ListedBucket(one.name, one.created_ms, self._region_of(one))
            for one in await ask.store.buckets()
            if one.owner_id == ask.asker.account_id
            and one.name.startswith(request.prefix)
            and one.name > request.after
            and request.region in (None, self._region_of(one))
        ]
        shown, is_more = cut(mine, request.limit)
        page = Page(shown, next_after=shown[-1].name if is_more else None)
        return document(xml_out.list_buckets(request, page, owner_of(ask.asker.account_id)))

    async def create(self, ask: Ask) -> Answer:
        name = ask.target.bucket
        check_new_bucket(name)
        body = await read_document(ask, DOCUMENT_MAX)
        region = _checked(xml_in.read_bucket_configuration(body).location) if body else ""
        try:
            await ask.store.create_bucket(name, region=region)
        except BucketExists:
            await self._require_mine(ask, region)  # nothing would change
        return Answer(200, ((b"Location", f"/{name}".encode()),))

    def _region_of(self, info: BucketInfo) -> str:
        return info.region or self._region

    async def _require_mine(self, ask: Ask, region: str) -> None:
        """
        Raises:
            Failure: BucketAlreadyExists: the bucket is another account's; BucketAlreadyOwnedByYou: it is in
                another region.
        """
        try:
            info = await ask.bucket.info()
        except (NoSuchBucket, PermissionDenied):  # this key may not know of it
            info = None
        if info is None or info.owner_id != ask.asker.account_id:
            raise Failure(
                "BucketAlreadyExists",
                "The requested bucket name is not available. The bucket namespace is shared by all users of"
                " the system. Please select a different name and try again.",
                {"BucketName": ask.target.bucket},
            )
        if region and region != self._region_of(info):
            raise Failure(
                "BucketAlreadyOwnedByYou",
                f"Your previous request to create the named bucket succeeded, in the region"
                f" {self._region_of(info)}, and you already own it.",
                {"BucketName": ask.target.bucket},
            )

    async def head(self, ask: Ask) -> Answer:
        region = self._region_of(await _info(ask))
        return Answer(200, ((b"x-amz-bucket-region", region.encode()), *XML))

    async def delete(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        await ask.store.delete_bucket(ask.target.bucket)
        return Answer(204)

    async def location(self, ask: Ask) -> Answer:
        info = await _info(ask)
        region = info.region or ("" if self._region == DEFAULT_REGION else self._region)
        return document(xml_out.location_constraint(region))


def _checked(region: str | None) -> str:
    """
    Raises:
        Failure: InvalidLocationConstraint: no region is written so.
    """
    if region and not _is_region(region):
        raise Failure(
            "InvalidLocationConstraint",
            f"The specified location-constraint is not valid: {region[:64]!a}",
            {"LocationConstraint": ascii(region[:64])[1:-1]},
        )
    return region or ""


async def _info(ask: Ask) -> BucketInfo:
    check_bucket(ask.target.bucket)
    return await ask.bucket.info()


async def not_served(ask: Ask) -> Answer:
    """An operation that stands for something that is not there: `operations.py` says how.

    Raises:
        Failure: what it stands for.
    """
    standing = ask.operation.standing
    if isinstance(standing, Refused):
        raise Failure(
            "NotImplemented",
            f"A header or operation you provided implies functionality that is not implemented:"
            f" {standing.feature}.",
            {"Feature": standing.feature},
        )
    await _info(ask)
    if isinstance(standing, Missing):
        raise Failure(standing.code, standing.message, {"BucketName": ask.target.bucket})
    if isinstance(standing, Empty):
        return document(xml_out.configuration(standing.root, standing.fields))
    assert isinstance(standing, Nothing)
    return Answer(204)
