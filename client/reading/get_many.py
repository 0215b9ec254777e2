"""Batches of gets: many small objects in few requests.

    keys --> LocateObjects for hundreds of keys --> in order, by volume: one request for up to 256 needles

The bytes of each object are checked against the CRC in the catalog.  This is the fast way, for objects
without a problem.  Every other object (moved or replaced since, damaged, offline, large) is read again alone,
as `Bucket.get` does, and its result has the error that `get` raises.

Entries of a listing with locations are already located.  They are fetched without LocateObjects while the
rights to read of the listing last.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Sequence

import msgspec
import trio

from warehouse.client.headers import key_size
from warehouse.client.ordered_batches import BATCH_SIZE_MAX, BYTES_MAX, Batch, OrderedBatches, Pending
from warehouse.client.reading.exact import is_consistent
from warehouse.client.reading.locator import Grant, fetch_together
from warehouse.client.reading.streams import BucketReader
from warehouse.errors import BodyTooLarge, StoreError, Unavailable, from_code
from warehouse.transport.http.batch_format import ITEM_SIZE_MAX
from warehouse.transport.messages import Chunk, ObjectInfo

LOCATE_COUNT_MAX = 500  # with 8 KiB of metadata each, the answer still fits into a message
FETCH_COUNT_MAX = 256
ALONE_MAX = 16  # objects that are read alone in parallel
TRIES = 2  # of a request: the server may close an idle connection at that moment


class GetResult(msgspec.Struct, frozen=True):
    """The outcome of one key of `get_many`: the bytes, when `error` is None."""

    key: str
    error: StoreError | None
    data: bytes | None = None


GetItem = str | ObjectInfo


class PendingGet(Pending[GetResult]):
    __slots__ = ("chunk", "key", "size")

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.size = 0
        self.chunk: Chunk | None = None  # None: not located, or to be read alone

    def succeed(self, data: bytes) -> None:
        self.finish(GetResult(self.key, None, data))

    def fail(self, error: StoreError) -> None:
        self.finish(GetResult(self.key, error))


class GetBatches(OrderedBatches[GetItem, PendingGet]):
    """The gets of one `get_many`."""

    batch_count_max = LOCATE_COUNT_MAX

    def __init__(
        self,
        source: Iterable[GetItem] | AsyncIterable[GetItem],
        reader: BucketReader,
        size_max: int | None = None,
    ) -> None:
        super().__init__(source)
        self._size_max = size_max
        self._reader = reader
        self._alone = trio.CapacityLimiter(ALONE_MAX)

    def take(self, item: GetItem) -> tuple[PendingGet, int]:
        if isinstance(item, ObjectInfo):
            get = PendingGet(item.key)
            self._place(get, item)
            return get, 0
        get = PendingGet(item)
        try:
            key_size(item)
        except StoreError as error:
            get.fail(error)
        return get, 0

    async def work(self, batch: Batch[PendingGet]) -> None:
        await self._locate([get for get in batch.items if get.chunk is None and not get.is_done])
        if batch.predecessor is not None:
            await batch.predecessor.wait()  # batches hold bytes in the order in which they release them
        for gets in _groups([get for get in batch.items if not get.is_done]):
            size = 0
            for get in gets:
                get.held_size = min(get.size, BYTES_MAX)
                size += get.held_size
            await self.hold(size)
            self._fetch_all(gets)

    # --- locating ---------------------------------------------------------------------------------

    async def _locate(self, gets: Sequence[PendingGet]) -> None:
        if not gets:
            return
        try:
            infos = await self._reader.locate_many([get.key for get in gets])
        except StoreError as error:
            for get in gets:
                get.fail(from_code(error.code, error.message))
            return
        for get, info in zip(gets, infos, strict=True):
            if isinstance(info, StoreError):
                get.fail(info)
            else:
                self._place(get, info)

    def _place(self, get: PendingGet, info: ObjectInfo) -> None:
        """Note the place of an object that fits into a batch; refuse an object above `size_max`.

        An object whose place is inconsistent is read alone, which locates it again.
        """
        if info.chunks and not is_consistent(info, get.key):
            return
        get.size = max(info.size, 0)
        if self._size_max is not None and info.size > self._size_max:
            get.fail(
                BodyTooLarge(f"{info.key!r} has {info.size} bytes, more than size_max ({self._size_max})")
            )
            return
        if len(info.chunks) == info.chunk_count == 1 and info.size <= ITEM_SIZE_MAX:
            chunk = info.chunks[0]
            if self._reader.grant_for(chunk.volume_id) is not None:
                get.chunk = chunk

    # --- fetching ---------------------------------------------------------------------------------

    def _fetch_all(self, gets: Sequence[PendingGet]) -> None:
        by_volume: dict[int, list[PendingGet]] = {}
        for get in gets:
            if get.chunk is None:
                self._nursery.start_soon(self._fetch_alone, get)
            elif get.chunk.size == 0:
                get.succeed(b"")
            else:
                by_volume.setdefault(get.chunk.volume_id, []).append(get)
        for volume_id, group in by_volume.items():
            self._nursery.start_soon(self._fetch, volume_id, group)

    async def _fetch(self, volume_id: int, gets: list[PendingGet]) -> None:
        grant = self._reader.grant_for(volume_id)
        for _ in range(TRIES):
            if grant is None:
                break
            try:
                await self._fetch_with(grant, gets)
                break
            except Unavailable:
                continue
            except StoreError:
                break
        for get in gets:
            if not get.is_done:
                self._nursery.start_soon(self._fetch_alone, get)
        self.notify()

    async def _fetch_with(self, grant: Grant, gets: list[PendingGet]) -> None:
        """Fetch needles of one volume; a needle with a problem stays without a result."""
        chunks = [get.chunk for get in gets if get.chunk is not None]
        found = await fetch_together(self._reader.pool, grant, chunks)
        for get, data in zip(gets, found, strict=True):
            if data is not None:
                get.succeed(data)

    async def _fetch_alone(self, get: PendingGet) -> None:
        async with self._alone:
            try:
                get.succeed(await self._reader.get(get.key))
            except StoreError as error:
                get.fail(error)
        self.notify()


def _groups(gets: Sequence[PendingGet]) -> Iterator[list[PendingGet]]:
    """Cut gets into groups that are fetched together, in their order."""
    group: list[PendingGet] = []
    size = 0
    for get in gets:
        if group and (len(group) == FETCH_COUNT_MAX or size + get.size > BATCH_SIZE_MAX):
            yield group
            group, size = [], 0
        group.append(get)
        size += get.size
    if group:
        yield group
