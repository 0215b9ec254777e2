"""Exchange: many items in and as many results out, in few calls.  Runs in the loop.

The caller brings a block of items with each call, and takes the results that are there.  At most `AHEAD`
items are without a result that the caller has taken.  Beside what the library itself holds, about
`BLOCK_BYTES` wait on the way in and as many on the way out, and a call brings one block more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Self, TypeVar

import trio

from warehouse.client.ordered_batches import Results

BLOCK = 512  # items that one call brings
AHEAD = 4096
BLOCK_BYTES = 4 * 1024 * 1024
BLOCK_S = 0.01  # a slow source sends what it has

Item = TypeVar("Item")
Result = TypeVar("Result")


class Exchange(Generic[Item, Result]):
    """The source of a `put_many` or `get_many`, and the list of its results."""

    def __init__(self, begin: Callable[[Exchange[Item, Result]], Results[Result]]) -> None:
        self._begin = begin
        self._results: Results[Result] | None = None
        self._items: deque[Item] = deque()
        self._is_fed = False
        self._is_ended = False
        self._error: Exception | None = None
        self._found: list[Result] = []
        self._scope = trio.CancelScope()  # of the collector; its iterator closes itself when it is cancelled
        self._items_size = 0  # bytes
        self._found_size = 0  # bytes
        self._wants_room = trio.lowlevel.ParkingLot()
        self._wants_items = trio.lowlevel.ParkingLot()
        self._wants_results = trio.lowlevel.ParkingLot()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._is_fed:
                raise StopAsyncIteration
            await self._wants_items.park()
        item = self._items.popleft()
        if self._items_size:
            self._items_size -= size_of(item)
            if self._items_size <= BLOCK_BYTES:
                self._wants_results.unpark_all()
        return item

    def bring(self, items: Sequence[Item], is_last: bool) -> None:
        self._items.extend(items)
        self._items_size += sum(map(size_of, items))
        self._is_fed = self._is_fed or is_last
        self._wants_items.unpark_all()

    async def trade(self, items: Sequence[Item], *, is_last: bool, waits: bool) -> tuple[list[Result], bool]:
        """Bring items, take results.

        Args:
            waits: until there is a result, or there will be none.
        Returns:
            Results, and whether they were the last.
        Raises:
            LinkDown, and what the iterator of the library raises: after all results before it.
        """
        self.bring(items, is_last)
        if self._results is None:
            self._results = self._begin(self)
            trio.lowlevel.spawn_system_task(self._collect, self._results)
        # Items that are not taken yet hold the caller up: it would bring more.
        while not self._is_ended and (self._items_size > BLOCK_BYTES or (waits and not self._found)):
            await self._wants_results.park()
        found, self._found, self._found_size = self._found, [], 0
        self._wants_room.unpark_all()
        if not found and self._error is not None:
            raise self._error
        return found, self._is_ended and self._error is None

    async def _collect(self, results: Results[Result]) -> None:
        try:
            with self._scope:
                async for result in results:
                    self._found.append(result)
                    if self._wants_results:
                        self._wants_results.unpark_all()
                    self._found_size += size_of(result)
                    while self._found_size > BLOCK_BYTES:
                        await self._wants_room.park()
        except Exception as error:
            self._error = error
        self._is_ended = True
        self._wants_results.unpark_all()

    def abandon(self) -> None:
        """The caller has forgotten this: take no more items."""
        self._scope.cancel()

    async def close(self) -> None:
        """As `Results.aclose`."""
        self._is_fed = True
        if self._results is not None:
            await self._results.aclose()


def size_of(item: object) -> int:
    """About how many bytes an item holds: of a pair or `Put` its data, of a key nothing to speak of."""
    data = item[1] if isinstance(item, tuple) and len(item) == 2 else getattr(item, "data", b"")
    return len(data) if isinstance(data, bytes | bytearray | memoryview) else 0
