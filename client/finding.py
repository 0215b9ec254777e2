"""Finding: objects of a bucket by a part of their name, or by size or time, in bounded time."""

from __future__ import annotations

from typing import Literal

import msgspec

from warehouse.client.control import Control
from warehouse.errors import BadRequest
from warehouse.transport.messages import FindObjects, ObjectInfo, ObjectsFound

FOUND_MAX = 1000  # entries in a page

Order = Literal["name", "size", "time"]


class FoundPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of what `Bucket.find` found.

    Attributes:
        objects: in the order that was asked for.
        prefixes: "folders", with a delimiter: common beginnings of several keys, delimiter included.  In
            order of name each page has those that lie between its objects; in order of size or time the first
            page has them all, up to 1,000, by name.
        cursor: pass it to `find` to go on; "": there is no more.
        scanned_count: how many keys were looked at for this page so far.
        is_complete: False: there was no time to look at all keys that matter for this page.  Ask again with
            the `cursor`: in order of name, what comes then follows these objects; in order of size or time it
            is this page once more, of more keys, and replaces these objects.
    """

    objects: list[ObjectInfo]
    prefixes: list[str]
    cursor: str
    scanned_count: int
    is_complete: bool


async def find_page(
    control: Control,
    bucket: str,
    *,
    prefix: str,
    contains: str,
    order: Order,
    descending: bool,
    delimiter: str | None,
    limit: int,
    cursor: str,
) -> FoundPage:
    """See `Bucket.find`."""
    if not 1 <= limit <= FOUND_MAX:
        raise BadRequest(f"a page has 1 to {FOUND_MAX} entries, not {limit}")
    request = FindObjects(
        bucket=bucket,
        prefix=prefix,
        contains=contains,
        order=order,
        is_descending=descending,
        delimiter=delimiter,
        limit=limit,
        cursor=cursor,
    )
    answer = await control.ask(request, ObjectsFound)
    return FoundPage(
        objects=answer.objects,
        prefixes=answer.prefixes,
        cursor=answer.cursor,
        scanned_count=answer.scanned_count,
        is_complete=answer.is_complete,
    )
