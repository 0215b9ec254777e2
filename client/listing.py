"""Listings: the objects and folders of a bucket, in the order of their keys, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import msgspec

from warehouse.client.control import Control
from warehouse.transport.messages import Listing, ListObjects, ObjectInfo, ReadGrant

PAGE_SIZE = 1000


class Prefix(msgspec.Struct, frozen=True):
    """A "folder" in a listing with a delimiter: the common beginning of several keys, delimiter included."""

    name: str


class ListedPage(msgspec.Struct, frozen=True):
    """A page of a listing.

    Attributes:
        objects, prefixes: each in the order of their bytes.
        next_after: pass as `after` for the next page; None: this was the last.
    """

    objects: Sequence[ObjectInfo]
    prefixes: Sequence[str]
    next_after: str | None


async def read_page(
    control: Control, bucket: str, prefix: str, delimiter: str | None, after: str, limit: int
) -> ListedPage:
    """Ask for one page."""
    request = ListObjects(bucket=bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    page = await control.ask(request, Listing)
    return ListedPage(page.objects, page.prefixes, page.next_after)


class Entries:
    """The entries of a listing, page by page; not a generator, which would need closing."""

    def __init__(
        self,
        control: Control,
        bucket: str,
        prefix: str,
        delimiter: str | None,
        after: str,
        limit: int | None,
        learn: Callable[[Sequence[ReadGrant]], None] | None,
    ) -> None:
        self._control = control
        self._bucket = bucket
        self._prefix = prefix
        self._delimiter = delimiter
        self._next_after: str | None = after
        self._left = limit
        self._learn = learn  # receives the rights to read; None: a listing without locations
        self._page: Iterator[ObjectInfo | Prefix] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectInfo | Prefix:
        if self._left == 0:
            raise StopAsyncIteration
        while (entry := next(self._page, None)) is None:
            if self._next_after is None:
                raise StopAsyncIteration
            await self._turn_page(self._next_after)
        if self._left is not None:
            self._left -= 1
        return entry

    async def _turn_page(self, after: str) -> None:
        request = ListObjects(
            bucket=self._bucket,
            prefix=self._prefix,
            delimiter=self._delimiter,
            after=after,
            limit=PAGE_SIZE if self._left is None else min(self._left, PAGE_SIZE),
            with_locations=self._learn is not None,
        )
        page = await self._control.ask(request, Listing)
        if self._learn is not None:
            self._learn(page.grants)
        self._page, self._next_after = merge_entries(page), page.next_after


def merge_entries(page: Listing) -> Iterator[ObjectInfo | Prefix]:
    """The objects and prefixes of one page, merged in the order of their bytes."""
    objects, prefixes = iter(page.objects), iter(page.prefixes)
    info, prefix = next(objects, None), next(prefixes, None)
    while info is not None or prefix is not None:
        if prefix is None or (info is not None and info.key.encode() < prefix.encode()):
            assert info is not None
            yield info
            info = next(objects, None)
        else:
            yield Prefix(prefix)
            prefix = next(prefixes, None)
