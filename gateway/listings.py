"""Listings: the objects of a bucket, page by page."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.owners import owner_of
from warehouse.s3 import xml_out
from warehouse.s3.listing import (
    ListObjects,
    ListObjectsV2,
    ListVersions,
    read_list_objects,
    read_list_objects_v2,
    read_list_versions,
)
from warehouse.s3.names import check_bucket
from warehouse.s3.paging import Page
from warehouse.s3.xml_out import ListedObject, Owner
from warehouse.transport.messages import ObjectInfo

AnyListing = ListObjects | ListObjectsV2 | ListVersions


class Listings:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "ListObjects": self.objects,
            "ListObjectsV2": self.objects_v2,
            "ListObjectVersions": self.versions,
        }

    async def objects(self, ask: Ask) -> Answer:
        request = read_list_objects(ask.target.bucket, ask.query)
        return document(xml_out.list_objects(request, await _page(ask, request, await _owner(ask))))

    async def objects_v2(self, ask: Ask) -> Answer:
        request = read_list_objects_v2(ask.target.bucket, ask.query)
        owner = await _owner(ask) if request.with_owner else None
        return document(xml_out.list_objects_v2(request, await _page(ask, request, owner)))

    async def versions(self, ask: Ask) -> Answer:
        request = read_list_versions(ask.target.bucket, ask.query)
        return document(xml_out.list_versions(request, await _page(ask, request, await _owner(ask))))


async def _owner(ask: Ask) -> Owner:
    check_bucket(ask.target.bucket)
    return owner_of((await ask.bucket.info()).owner_id)


async def _page(ask: Ask, request: AnyListing, owner: Owner | None) -> Page[ListedObject]:
    """
    Args:
        owner: of the bucket, and of objects that nobody else owns; None: owners are not asked for.
    """
    check_bucket(ask.target.bucket)
    if not request.limit:
        await ask.bucket.info()  # it must be there
        return Page(())
    found = await ask.bucket.list_page(
        request.prefix, request.delimiter, after=request.after, limit=request.limit
    )
    rows = [_listed(info, owner) for info in found.objects]
    return Page(rows, found.prefixes, found.next_after)


def _listed(info: ObjectInfo, owner: Owner | None) -> ListedObject:
    if owner is not None and info.owner_id:
        owner = owner_of(info.owner_id)
    return ListedObject(info.key, info.created_ms, info.etag, info.size, owner=owner)
