"""Archiving: the objects of a selection as one ZIP archive, in bounded memory.

What can be known before the first byte is sent is refused then (`require_makeable`).  What turns up later,
because a selection was too long to look through or has changed since, breaks the archive off: it ends without
its directory, so nobody takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio

import warehouse
from warehouse.errors import BadRequest, NoSuchObject, StoreError
from warehouse.webui.selection import Chosen, Query, Selection
from warehouse.webui.stores import OpenStore
from warehouse.webui.zipping import OBJECTS_MAX, SafeNames, ZipStream

SMALL_MAX = 256 * 1024  # bytes; objects up to this size are fetched many at once
LOOKED_UP = 128  # objects that are looked up before they are fetched
LOOKUPS_AT_ONCE = 16
LOOK_THROUGH_S = 2.0  # a person waits for this before the download begins


async def require_makeable(place: warehouse.Bucket, selection: Selection, base: str) -> None:
    """Look through a selection, as far as there is time.

    Args:
        base: left out at the beginning of names, as in `SafeNames`.
    Raises:
        BadRequest: nothing is there, or too much for one archive.
        StoreError: the first object cannot be read.
    """
    await _require_not_too_many(place, selection)
    names, is_empty = SafeNames(base), True
    deadline = trio.current_time() + LOOK_THROUGH_S
    async with aclosing(selection.objects(place)) as batches:
        async for batch in batches:
            if not batch:
                continue
            if is_empty:
                await _require_readable(place, batch[0])
            is_empty = False
            await trio.to_thread.run_sync(_add_names, names, batch)
            if trio.current_time() > deadline:
                return
    if is_empty:
        raise BadRequest("there is nothing to download")


async def _require_not_too_many(place: warehouse.Bucket, selection: Selection) -> None:
    if selection.query == Query():
        info = await place.info()
        if info.is_counted and info.object_count > OBJECTS_MAX:
            raise BadRequest(f"an archive has at most {OBJECTS_MAX:,} objects: choose fewer")


async def _require_readable(place: warehouse.Bucket, chosen: Chosen) -> None:
    if chosen.size:
        async with place.open(chosen.key, 0, 1) as stream:
            await stream.read()


def _add_names(names: SafeNames, batch: list[Chosen]) -> None:
    for chosen in batch:
        names.name(chosen.key, is_empty=not chosen.size)


class Archive:
    """One archive: the objects of a selection, in its order."""

    def __init__(self, opened: OpenStore, place: warehouse.Bucket, selection: Selection, base: str) -> None:
        self._opened = opened
        self._place = place
        self._selection = selection
        self._chosen = {key for key, _ in selection.keys}
        self._zip = ZipStream()
        self._names = SafeNames(base)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._selection.objects(self._place)) as batches:
            async for batch in batches:
                for at in range(0, len(batch), LOOKED_UP):
                    infos = await self._infos([one.key for one in batch[at : at + LOOKED_UP]])
                    async with aclosing(self._entries(infos)) as entries:
                        async for piece in entries:
                            self._opened.require_open()
                            yield piece
        yield await trio.to_thread.run_sync(self._zip.close)

    async def _infos(self, keys: list[str]) -> list[warehouse.ObjectInfo]:
        """What is known of these objects; those that were deleted since they were listed are left out."""
        found: dict[str, warehouse.ObjectInfo] = {}
        failed: list[StoreError] = []

        async def look_up(mine: list[str]) -> None:
            for key in mine:
                try:
                    found[key] = await self._place.stat(key)
                except StoreError as error:
                    if not isinstance(error, NoSuchObject) or key in self._chosen:
                        failed.append(error)
                        return

        async with trio.open_nursery() as nursery:
            for start in range(LOOKUPS_AT_ONCE):
                nursery.start_soon(look_up, keys[start::LOOKUPS_AT_ONCE])
        if failed:
            raise failed[0]
        return [found[key] for key in keys if key in found]

    async def _entries(self, infos: list[warehouse.ObjectInfo]) -> AsyncGenerator[bytes, None]:
        small: list[warehouse.ObjectInfo] = []
        for info in infos:
            if info.size <= SMALL_MAX:
                small.append(info)
                continue
            for entries in (self._small(small), self._large(info)):
                async with aclosing(entries) as pieces:
                    async for piece in pieces:
                        yield piece
            small = []
        async with aclosing(self._small(small)) as pieces:
            async for piece in pieces:
                yield piece

    async def _small(self, infos: list[warehouse.ObjectInfo]) -> AsyncGenerator[bytes, None]:
        """Objects that are fetched many at once."""
        async with aclosing(self._place.get_many([info.key for info in infos])) as results:
            for info in infos:
                result = await anext(results)
                if isinstance(result.error, NoSuchObject) and info.key not in self._chosen:
                    continue
                if result.error is not None:
                    raise result.error
                yield await trio.to_thread.run_sync(self._whole_entry, info, result.data)

    def _whole_entry(self, info: warehouse.ObjectInfo, data: bytes | None) -> bytes:
        data = data or b""
        name = self._names.name(info.key, is_empty=not data)
        begun = self._zip.begin(name, len(data), info.created_ms, info.content_type)
        return begun + self._zip.write(data) + self._zip.end()

    async def _large(self, info: warehouse.ObjectInfo) -> AsyncGenerator[bytes, None]:
        async with self._place.open(info.key) as stream:
            info = stream.info
            name = self._names.name(info.key, is_empty=not info.size)
            yield self._zip.begin(name, info.size, info.created_ms, info.content_type)
            async for piece in stream:
                yield await trio.to_thread.run_sync(self._zip.write, piece)
            yield self._zip.end()
