"""Flows: many items in, as many results out in the same order, and a bounded number under way.

    source --> feeder --> open batch --> batches under way --> results, in the order of the source

The feeder is a task that takes items from the source and collects them in a batch.  A full batch leaves at
once; one that is not leaves as soon as its first result is what the user waits for.  So a fast source makes
full batches, and a slow one does not keep its results waiting.

What is bounded: items that were taken and not handed out again, batches under way, and bytes held.

The tasks belong to the connection, not to the user's loop, who may leave it whenever he likes: `Results` is
all that he holds, and when it is closed, or forgotten, the flow is cancelled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

import trio

from warehouse.errors import LinkDown

SLOTS_MAX = 4096  # items taken whose results have not been handed out
BATCHES_MAX = 8  # under way at once; one more may be, if it is waited for
BYTES_MAX = 32 * 1024 * 1024  # held by one flow; one item may be larger
BATCH_SIZE_MAX = 4 * 1024 * 1024  # bytes of one batch
CLOSE_S = 10.0  # how long closing waits for what is under way to be settled

Item = TypeVar("Item")
Result = TypeVar("Result")


class Slot(Generic[Result]):
    """One item on its way."""

    __slots__ = ("_result", "held_size", "is_done")

    def __init__(self) -> None:
        self._result: Result | None = None
        self.is_done = False
        self.held_size = 0  # bytes of its flow's allowance

    def finish(self, result: Result) -> None:
        self._result = result
        self.is_done = True

    def hand_out(self) -> Result:
        """The result, once: whoever else knows of this slot shall not keep its bytes alive."""
        result, self._result = self._result, None
        assert result is not None
        return result


S = TypeVar("S", bound=Slot[Any])


class Batch(Generic[S]):
    """Slots that travel together."""

    __slots__ = ("is_launched", "predecessor", "slots")

    def __init__(self, slots: list[S], predecessor: trio.Event | None) -> None:
        self.slots = slots
        self.predecessor = predecessor  # set when the batch before has begun all that it will
        self.is_launched = trio.Event()


class Flow(ABC, Generic[Item, S]):
    """The machinery; a subclass says what becomes of a batch."""

    batch_count_max: int  # slots of one batch

    def __init__(self, source: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._source = source
        self._slots: deque[S] = deque()  # taken, not handed out
        self._open: list[S] = []  # the last ones of them, not under way yet
        self._open_size = 0
        self._held_size = 0
        self._under_way = 0
        self._last_launched: trio.Event | None = None
        self._is_fed = False
        self._source_error: Exception | None = None
        self._waiting_result = trio.lowlevel.ParkingLot()
        self._waiting_room = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    # --- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def take(self, item: Item) -> tuple[S, int]:
        """A slot for an item, with the bytes it holds from now on; it may have its result already."""

    @abstractmethod
    async def work(self, batch: Batch[S]) -> None:
        """Give each slot of a batch its result, or start tasks that will.  Raises no StoreError."""

    # --- for subclasses ---------------------------------------------------------------------------

    async def hold(self, size: int) -> None:
        """Wait until so many bytes may be held; whoever comes first must be served first."""
        while self._held_size and self._held_size + size > BYTES_MAX:
            await self._waiting_room.park()
        self._held_size += size

    def release(self, slot: S) -> None:
        """The slot holds no bytes any more."""
        if slot.held_size:
            self._held_size -= slot.held_size
            slot.held_size = 0
            self._make_room()

    def notify(self) -> None:
        """Some slots have got their results."""
        if self._waiting_result:  # asked once for every slot: an empty lot is cheaper to see than to clear
            self._waiting_result.unpark_all()

    def _make_room(self) -> None:
        if self._waiting_room:
            self._waiting_room.unpark_all()

    # --- the feeder -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything that happens beside the user's loop."""
        try:
            with self.scope:
                async with trio.open_nursery() as self._nursery:
                    try:
                        await self._feed()
                    except Exception as error:  # the source's own: for the user, behind what came before it
                        self._source_error = error
                    self._is_fed = True
                    self._launch()
                    self.notify()
        finally:
            self.ended.set()
            self.notify()  # nothing more comes: whoever waits for a result is told so

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
            if isinstance(source, AsyncGenerator):  # nobody else can close it
                await source.aclose()

    async def _add(self, item: Item) -> None:
        slot, size = self.take(item)
        while len(self._slots) >= SLOTS_MAX:
            await self._waiting_room.park()
        if size:
            if self._held_size + size > BYTES_MAX or self._open_size + size > BATCH_SIZE_MAX:
                self._launch()
            await self.hold(min(size, BYTES_MAX))
            slot.held_size = min(size, BYTES_MAX)
        self._slots.append(slot)
        if len(self._slots) == 1:
            self.notify()
        if slot.is_done:
            return
        self._open.append(slot)
        self._open_size += size
        if len(self._open) >= self.batch_count_max or self._open_size >= BATCH_SIZE_MAX:
            self._launch()
            await trio.lowlevel.checkpoint()  # a source that never waits would let nobody else run
            while self._under_way >= BATCHES_MAX:
                await self._waiting_room.park()

    def _launch(self) -> None:
        if not self._open:
            return
        batch = Batch(self._open, self._last_launched)
        self._last_launched = batch.is_launched
        self._open, self._open_size = [], 0
        self._under_way += 1
        self._nursery.start_soon(self._work, batch)

    async def _work(self, batch: Batch[S]) -> None:
        try:
            await self.work(batch)
        finally:
            batch.is_launched.set()
            self._under_way -= 1
            self._make_room()
            self.notify()

    # --- the user's loop --------------------------------------------------------------------------

    async def next(self) -> S:
        """The next slot, in the order of the source, with its result.

        Raises:
            StopAsyncIteration: there is none.
            Exception: what the source raised, behind the results of all it yielded before.
            LinkDown: the client was closed before the next result was there.
        """
        while True:
            if self._slots:
                head = self._slots[0]
                if head.is_done:
                    self._slots.popleft()
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
                raise LinkDown("the client was closed before the next result was there")
            await self._waiting_result.park()


class Results(Generic[Result]):
    """An asynchronous iterator over results, in the order of the items that were given.

    Leave it early as you like; `aclose` (or `contextlib.aclosing`) also waits until it is decided what
    became of the items that had been taken already.
    """

    def __init__(self, flow: Flow[Item, S], nursery: trio.Nursery, kind: type[Result]) -> None:
        self._flow = flow
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
            self._nursery.start_soon(self._flow.run)
        try:
            result = (await self._flow.next()).hand_out()
        except trio.Cancelled:
            await self.aclose()
            raise
        except LinkDown:
            if self._is_closed:  # by another task
                raise StopAsyncIteration from None
            raise
        assert isinstance(result, self._kind)
        return result

    async def aclose(self) -> None:
        """Take no more items, and wait until those under way are stored, or never will be."""
        self._is_closed = True
        self._flow.scope.cancel()
        if self._token is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await self._flow.ended.wait()

    def __del__(self) -> None:
        if self._token is not None and not self._flow.ended.is_set():
            # Garbage may be collected in any thread, and when Trio is gone.
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._flow.scope.cancel)
