"""Buckets: the operations about buckets, and about all of them."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.errors import BucketExists, NoSuchBucket
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
            ListedBucket(one.name, one.created_ms, self._region)
            for one in await ask.store.buckets()
            if one.owner_id == ask.asker.account_id
            and one.name.startswith(request.prefix)
            and one.name > request.after
            and request.region in (None, self._region)
        ]
        shown, is_more = cut(mine, request.limit)
        page = Page(shown, next_after=shown[-1].name if is_more else None)
        return document(xml_out.list_buckets(request, page, owner_of(ask.asker.account_id)))

    async def create(self, ask: Ask) -> Answer:
        name = ask.target.bucket
        check_new_bucket(name)
        body = await read_document(ask, DOCUMENT_MAX)
        if body:
            self._require_region(xml_in.read_bucket_configuration(body).location)
        try:
            await ask.store.create_bucket(name)
        except BucketExists:
            await self._require_mine(ask)  # nothing would change
        return Answer(200, ((b"Location", f"/{name}".encode()),))

    def _require_region(self, wanted: str | None) -> None:
        if wanted not in (None, "", self._region):
            raise Failure(
                "IllegalLocationConstraintException",
                f"The {wanted[:64]} location constraint is incompatible for the region of this store,"
                f" {self._region}.",
            )

    async def _require_mine(self, ask: Ask) -> None:
        """
        Raises:
            Failure: BucketAlreadyExists: the bucket is another account's.
        """
        try:
            info = await ask.bucket.info()
        except NoSuchBucket:  # this key may not know of it
            info = None
        if info is None or info.owner_id != ask.asker.account_id:
            raise Failure(
                "BucketAlreadyExists",
                "The requested bucket name is not available. The bucket namespace is shared by all users of"
                " the system. Please select a different name and try again.",
                {"BucketName": ask.target.bucket},
            )

    async def head(self, ask: Ask) -> Answer:
        await _info(ask)
        return Answer(200, ((b"x-amz-bucket-region", self._region.encode()), *XML))

    async def delete(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        await ask.store.delete_bucket(ask.target.bucket)
        return Answer(204)

    async def location(self, ask: Ask) -> Answer:
        await _info(ask)
        region = "" if self._region == "us-east-1" else self._region
        return document(xml_out.location_constraint(region))


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
