"""Listings: the entries that `ls` and `du` find at a place.

A place may be an object, a folder, both, wildcards, or the beginning of keys.  The object of exactly that
name and the contents of the folder come first.  If neither exists, the place is taken as wildcards, and then
as the beginning of keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from warehouse.cli.copying.patterns import Glob, glob_of
from warehouse.cli.copying.places import Remote
from warehouse.client.bucket import Bucket
from warehouse.client.finding import FOUND_MAX, Order
from warehouse.client.listing import Prefix
from warehouse.client.store import Store
from warehouse.errors import NoSuchObject
from warehouse.transport.messages import ObjectInfo

Entries = AsyncIterator[ObjectInfo | Prefix]


@dataclass(frozen=True)
class Sorted:
    """An order that is not that of the keys; the store sorts, and gives page by page."""

    order: Order
    is_descending: bool

    async def entries(self, bucket: Bucket, prefix: str, delimiter: str | None = None) -> Entries:
        """Folders first, then objects; in order of name, both as they come."""
        cursor = ""
        while True:
            page = await bucket.find(
                prefix,
                order=self.order,
                descending=self.is_descending,
                delimiter=delimiter,
                limit=FOUND_MAX,
                cursor=cursor,
            )
            # In order of size and time, a page that is not complete comes once more, of more keys.
            if page.is_complete or self.order == "name":
                found: list[ObjectInfo | Prefix] = [*map(Prefix, page.prefixes), *page.objects]
                if self.order == "name":
                    found.sort(key=_name_of, reverse=self.is_descending)
                for entry in found:
                    yield entry
            if not page.cursor:
                return
            cursor = page.cursor


def _name_of(entry: ObjectInfo | Prefix) -> bytes:
    return (entry.name if isinstance(entry, Prefix) else entry.key).encode()


class Listing:
    """The entries at one place.

    Attributes:
        above: the folder whose name is not shown; set before the first entry.
        name: the place as it was interpreted.
    """

    def __init__(
        self,
        remote: Remote,
        store: Store,
        *,
        is_recursive: bool,
        has_globs: bool,
        order: Sorted | None = None,
    ) -> None:
        self._order = order
        self.above = remote.folder
        self.name = str(remote)
        self._remote = remote
        self._bucket = store.bucket(remote.bucket)
        self._is_recursive = is_recursive
        self._glob = glob_of(remote.key) if has_globs else None

    async def entries(self) -> Entries:
        is_empty = True
        async for entry in self._object_and_folder():
            is_empty = False
            yield entry
        if not is_empty or not self._remote.key:
            return
        if self._glob is not None:
            self.above = self._glob.folder
            async for entry in self._matches(self._glob):
                yield entry
        elif not self._remote.key.endswith("/"):
            self.above = _folder_above(self._remote.key)
            self.name = f"{self._remote}*"
            async for entry in self._listed(self._remote.key):
                yield entry

    async def _object_and_folder(self) -> Entries:
        key = self._remote.key
        if key and not key.endswith("/"):
            try:
                found = await self._bucket.stat(key)
            except NoSuchObject:
                pass
            else:
                self.above = _folder_above(key)
                yield found
        self.above = self._remote.folder
        async for entry in self._listed(self._remote.folder):
            yield entry

    def _listed(self, prefix: str) -> Entries:
        if self._order is not None:
            return self._order.entries(self._bucket, prefix, None if self._is_recursive else "/")
        return self._bucket.list(prefix) if self._is_recursive else self._bucket.list(prefix, "/")

    async def _matches(self, glob: Glob) -> Entries:
        order = self._order
        if order is None or order.order == "name":
            async for entry in self._matched(glob, order):
                yield entry
            return
        # Folders have no size and no time, and come first; their objects lie anywhere in such an order.
        async for entry in self._matched(glob, None):
            if isinstance(entry, Prefix):
                yield entry
        async for entry in self._matched(glob, order):
            if not isinstance(entry, Prefix):
                yield entry

    async def _matched(self, glob: Glob, order: Sorted | None) -> Entries:
        shown = None
        listed = self._bucket.list(glob.fixed) if order is None else order.entries(self._bucket, glob.fixed)
        async for info in listed:
            assert isinstance(info, ObjectInfo)
            folder = glob.folder_of(info.key)
            if glob.matches(info.key) or (folder is not None and self._is_recursive):
                yield info
            elif folder is not None and folder != shown:
                shown = folder
                yield Prefix(folder)


def _folder_above(key: str) -> str:
    return key[: key.rfind("/") + 1]
