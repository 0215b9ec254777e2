"""Chunk lists: which needles an object of many chunks consists of, for the URLs that lead to one.

Such a URL names a version of an object and no list: a list of 50,000 chunks fits into no URL.  The actor of
the first chunk asks the master over its control connection.  It shows a token that the master signed for
itself into the URL's token, so an actor learns of no object whose URL it was not given.

    one version        the master answers for that version alone, and the sizes of its chunks must add up
    kept lists         packed numbers; the latest lists, up to a total number of chunks
    rights to read     needles of other disks: the actor asks again when a right ends, also for a URL that
                       expired while its object was being sent; it shows the URL of the object that lives
                       longest
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import trio

from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import LinkDown, ObjectInconsistent, Overloaded, VolumeOffline
from warehouse.transport.messages import Answer, ChunksLocated, LocateChunks

PAGE_COUNT = 8192  # chunks in one answer: some 160 KiB
KEPT_MAX = 2_000_000  # chunks of all kept lists together: 16 bytes each
RENEW_S = 60.0  # this long before a right to read ends, the actor asks for the next one
FETCHES_MAX = 8  # lists that the actor asks for at the same time; further requests wait
ASK_S = 15.0

Ask = Callable[[LocateChunks], Awaitable[Answer]]


class Place(NamedTuple):
    """One chunk, and the range of its bytes to send."""

    number: int  # among the object's chunks
    volume_id: int
    needle_id: int
    size: int
    start: int
    end: int


class _Grant(NamedTuple):
    url: str
    token: str
    renew_at: float


class ChunkList:
    """The chunks of one version of an object."""

    def __init__(self, ask: Ask, claims: DataClaims) -> None:
        self._ask = ask
        self._via, self._expires_s = "", -1
        self.shown(claims)
        self._volumes, self._needles = array("L"), array("L")
        self._starts = array("Q", [0])  # of each chunk in the object, and the object's end
        self._grants: dict[int, _Grant] = {}
        self._offline: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._volumes)

    @property
    def size(self) -> int:
        return self._starts[-1]

    def shown(self, claims: DataClaims) -> None:
        """Note a URL of this object that was used: the one that lives longest gets further rights to read."""
        assert claims.chunk_list_token is not None
        if claims.expires_at_s > self._expires_s:
            self._via, self._expires_s = claims.chunk_list_token, claims.expires_at_s

    async def fetch(self, count: int, size: int) -> None:
        """Ask the master for all chunks.

        Raises:
            ObjectInconsistent: their number or their total size is not what the URL says.
            StoreError: the master refused, because the object was replaced, for example.
        """
        while len(self) < count:
            found = await self._page(len(self), PAGE_COUNT)
            for chunk in found.chunks:
                self._volumes.append(chunk.volume_id)
                self._needles.append(chunk.needle_id)
                self._starts.append(self.size + chunk.size)
            if not found.chunks:
                break
        if (len(self), self.size) != (count, size):
            raise ObjectInconsistent(
                f"the URL is for {size} bytes in {count} chunks, the catalog has {self.size} in {len(self)}"
            )

    async def _page(self, first: int, limit: int) -> ChunksLocated:
        answer = await self._ask(LocateChunks(token=self._via, first=first, limit=limit))
        if not isinstance(answer, ChunksLocated):
            raise LinkDown(f"the master answered {type(answer).__name__} to a question for chunks")
        now = trio.current_time()
        for grant in answer.grants:
            renew_at = now + max(0.0, grant.expires_in_s - RENEW_S)
            self._grants[grant.volume_id] = _Grant(grant.url, grant.token, renew_at)
            self._offline.pop(grant.volume_id, None)
        self._offline.update(answer.offline)
        return answer

    def within(self, start: int, end: int) -> Iterator[Place]:
        """The chunks that hold the bytes from `start` to `end`, in order."""
        starts = self._starts
        index = max(0, bisect_right(starts, start) - 1)
        while index < len(self) and starts[index] < end:
            offset, size = starts[index], starts[index + 1] - starts[index]
            if size:
                yield Place(
                    index,
                    self._volumes[index],
                    self._needles[index],
                    size,
                    max(start - offset, 0),
                    min(end - offset, size),
                )
            index += 1

    async def grant_for(self, place: Place) -> tuple[str, str]:
        """URL and token to read a chunk of another disk.

        Raises:
            VolumeOffline: that disk is offline.
        """
        grant = self._grants.get(place.volume_id)
        if grant is None or grant.renew_at < trio.current_time():
            await self._page(place.number, 1)
            grant = self._grants.get(place.volume_id)
        if grant is None or place.volume_id in self._offline:
            name = self._offline.get(place.volume_id, f"of volume {place.volume_id}")
            raise VolumeOffline(f"disk {name}, which holds part of this object, is offline")
        return grant.url, grant.token


class ChunkLists:
    """The lists that one volume actor knows."""

    def __init__(self, ask: Ask | None) -> None:
        self._ask = ask
        self._known: OrderedDict[tuple[int, str], ChunkList] = OrderedDict()
        self._fetching: dict[tuple[int, str], trio.Event] = {}
        self._turns = trio.CapacityLimiter(FETCHES_MAX)
        self._kept_count = 0

    async def of(self, claims: DataClaims) -> ChunkList:
        """The chunks that a URL of many chunks leads to.

        Raises:
            StoreError: as `ChunkList.fetch`.
        """
        assert claims.upload_id is not None
        name = (claims.upload_id, claims.etag or "")
        while True:
            known = self._known.get(name)
            if known is not None:
                self._known.move_to_end(name)
                known.shown(claims)
                return known
            under_way = self._fetching.get(name)
            if under_way is None:
                return await self._fetch(name, claims)
            # Then look again: the fetch may have failed, and its error belongs to the request that began it.
            await under_way.wait()

    async def _fetch(self, name: tuple[int, str], claims: DataClaims) -> ChunkList:
        if self._ask is None:
            raise Overloaded("this actor has no master to ask for the chunks of an object")
        done = self._fetching[name] = trio.Event()
        try:
            async with self._turns:
                chunks = ChunkList(self._ask, claims)
                await chunks.fetch(claims.chunk_count or 0, claims.object_size or 0)
        finally:
            del self._fetching[name]
            done.set()
        self._known[name] = chunks
        self._kept_count += len(chunks)
        while self._kept_count > KEPT_MAX and len(self._known) > 1:
            _, forgotten = self._known.popitem(last=False)
            self._kept_count -= len(forgotten)
        return chunks
