"""Ordered batches: many items in, as many results out in the same order; `put_many` and `get_many`.

    source --> feeder --> open batch --> batches in flight --> results, in the order of the source

The feeder is a task that takes items from the source and collects them in the open batch.  A full batch is
sent at once.  A batch that is not full is sent as soon as the user waits for its first result.  So a fast
source fills its batches, and a slow source does not delay its results.

Three numbers are bounded: pending items (taken, result not handed out), batches in flight, and bytes held.

The tasks belong to the connection and not to the user's loop, because the user may leave the loop at any
time.  The user holds a `Results`; closing or dropping it cancels the tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

import trio

from warehouse.errors import LinkDown

PENDING_MAX = 4096  # items taken whose results have not been handed out
BATCHES_MAX = 8  # in flight; one more when the user waits for it
BYTES_MAX = 32 * 1024 * 1024  # held by one `OrderedBatches`; one item may be larger
BATCH_SIZE_MAX = 4 * 1024 * 1024  # bytes of one batch
CLOSE_S = 10.0  # how long closing waits until the outcome of each item in flight is known

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pending(Generic[Result]):
    """One item whose result has not been handed out."""

    __slots__ = ("_result", "held_size", "is_done")

    def __init__(self) -> None:
        self._result: Result | None = None
        self.is_done = False
        self.held_size = 0  # bytes that it takes of `BYTES_MAX`

    def finish(self, result: Result) -> None:
        self._result = result
        self.is_done = True

    def hand_out(self) -> Result:
        """The result, only once: a reference kept elsewhere must not keep its bytes alive."""
        result, self._result = self._result, None
        assert result is not None
        return result


P = TypeVar("P", bound=Pending[Any])


class Batch(Generic[P]):
    """Items that are sent together."""

    __slots__ = ("is_launched", "items", "predecessor")

    def __init__(self, items: list[P], predecessor: trio.Event | None) -> None:
        self.items = items
        self.predecessor = predecessor  # set when the previous batch has started all its work
        self.is_launched = trio.Event()


class OrderedBatches(ABC, Generic[Item, P]):
    """Feeder, batches and order; a subclass defines the work of a batch."""

    batch_count_max: int  # items of one batch

    def __init__(self, source: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._source = source
        self._pending: deque[P] = deque()  # in the order of the source
        self._open: list[P] = []  # the last of them: the batch that is not in flight yet
        self._open_size = 0
        self._held_size = 0
        self._in_flight = 0
        self._last_launched: trio.Event | None = None
        self._is_fed = False
        self._source_error: Exception | None = None
        self._waiting_result = trio.lowlevel.ParkingLot()
        self._waiting_room = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    # --- a subclass defines -----------------------------------------------------------------------

    @abstractmethod
    def take(self, item: Item) -> tuple[P, int]:
        """Wrap an item; return it with the bytes it holds from now on.  It may have its result already."""

    @abstractmethod
    async def work(self, batch: Batch[P]) -> None:
        """Give each item of a batch its result, or start tasks that will.  Raises no StoreError."""

    # --- for subclasses ---------------------------------------------------------------------------

    async def hold(self, size: int) -> None:
        """Wait until `size` more bytes may be held; the caller keeps the order of the source."""
        while self._held_size and self._held_size + size > BYTES_MAX:
            await self._waiting_room.park()
        self._held_size += size

    def release(self, pending: P) -> None:
        """Record that the item no longer holds bytes."""
        if pending.held_size:
            self._held_size -= pending.held_size
            pending.held_size = 0
            self._make_room()

    def notify(self) -> None:
        """Wake the user: some items have their results now."""
        if self._waiting_result:  # runs for every item: testing an empty lot is cheaper than unparking it
            self._waiting_result.unpark_all()

    def _make_room(self) -> None:
        if self._waiting_room:
            self._waiting_room.unpark_all()

    # --- the feeder -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Feed and send, next to the user's loop."""
        try:
            with self.scope:
                async with trio.open_nursery() as self._nursery:
                    try:
                        await self._feed()
                    except Exception as error:  # of the source: raised after the results of all it yielded
                        self._source_error = error
                    self._is_fed = True
                    self._launch()
                    self.notify()
        finally:
            self.ended.set()
            self.notify()  # no result will follow: wake whoever waits for one

    async def _feed(self) -> None:
        source = self._source
        if not isinstance(source, AsyncIterable):
            for item in source:
                await self._add(item)
            return
        try:
            async for item in source:
                await self._add(item)
        finally:
            if isinstance(source, AsyncGenerator):  # nobody else can close the generator
                await source.aclose()

    async def _add(self, item: Item) -> None:
        pending, size = self.take(item)
        while len(self._pending) >= PENDING_MAX:
            await self._waiting_room.park()
        if size:
            if self._held_size + size > BYTES_MAX or self._open_size + size > BATCH_SIZE_MAX:
                self._launch()
            await self.hold(min(size, BYTES_MAX))
            pending.held_size = min(size, BYTES_MAX)
        self._pending.append(pending)
        if len(self._pending) == 1:
            self.notify()
        if pending.is_done:
            return
        self._open.append(pending)
        self._open_size += size
        if len(self._open) >= self.batch_count_max or self._open_size >= BATCH_SIZE_MAX:
            self._launch()
            await trio.lowlevel.checkpoint()  # a source that never waits must not starve other tasks
            while self._in_flight >= BATCHES_MAX:
                await self._waiting_room.park()

    def _launch(self) -> None:
        if not self._open:
            return
        batch = Batch(self._open, self._last_launched)
        self._last_launched = batch.is_launched
        self._open, self._open_size = [], 0
        self._in_flight += 1
        self._nursery.start_soon(self._work, batch)

    async def _work(self, batch: Batch[P]) -> None:
        try:
            await self.work(batch)
        finally:
            batch.is_launched.set()
            self._in_flight -= 1
            self._make_room()
            self.notify()

    # --- the user's loop --------------------------------------------------------------------------

    async def next(self) -> P:
        """The next item, in the order of the source, with its result.

        Raises:
            StopAsyncIteration: the source is exhausted.
            Exception: the source's own error, after the results of all items it yielded.
            LinkDown: the client was closed before the next result arrived.
        """
        while True:
            if self._pending:
                head = self._pending[0]
                if head.is_done:
                    self._pending.popleft()
                    self.release(head)
                    self._make_room()
                    return head
                if self._open and self._open[0] is head:
                    self._launch()
            elif self._is_fed:
                if self._source_error is not None:
                    raise self._source_error
                raise StopAsyncIteration
            if self.ended.is_set():
                raise LinkDown("the client was closed before the next result arrived")
            await self._waiting_result.park()


class Results(Generic[Result]):
    """An asynchronous iterator over results, in the order of the items.

    You may leave the loop early.  `aclose` (or `contextlib.aclosing`) also waits until the outcome of every
    item that was taken is known.
    """

    def __init__(self, batches: OrderedBatches[Item, P], nursery: trio.Nursery, kind: type[Result]) -> None:
        self._batches = batches
        self._nursery = nursery
        self._kind = kind
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        if self._is_closed:
            raise StopAsyncIteration
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
            self._nursery.start_soon(self._batches.run)
        try:
            result = (await self._batches.next()).hand_out()
        except trio.Cancelled:
            await self.aclose()
            raise
        except LinkDown:
            if self._is_closed:  # another task closed it
                raise StopAsyncIteration from None
            raise
        assert isinstance(result, self._kind)
        return result

    async def aclose(self) -> None:
        """Take no more items; wait until each item in flight is stored, or never will be."""
        self._is_closed = True
        self._batches.scope.cancel()
        if self._token is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await self._batches.ended.wait()

    def __del__(self) -> None:
        if self._token is not None and not self._batches.ended.is_set():
            # The garbage collector may run in any thread, also after Trio has ended.
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._batches.scope.cancel)
