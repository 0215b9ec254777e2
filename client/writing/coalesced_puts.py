"""Shared puts: small puts of one moment travel in one request, each with an outcome of its own.

A put that finds nobody else goes alone, at once.  Others wait for as long as `LANES` requests are under way,
and then go together; a request that takes longer than `LANE_S` (an actor that is stuck) keeps nobody waiting.
So a program that puts by many tasks needs no batches of its own, and one that puts one object after the other
does not wait for anybody.  The volume syncs, and the master commits, for all of them together.

    queue, and a lane is free
        one put      `BucketWriter.put`, in the task that asked
        several      one batch, in a task of its own

What holds for a put holds here: it returns when the object is stored, and cancelling it leaves it stored or
not stored, forever.  When the client is closed, whoever waits is told so.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from warehouse.client.headers import PutOptions
from warehouse.client.writing.put import BucketWriter
from warehouse.client.writing.put_many import Bytes, PutSender, PutSlot
from warehouse.errors import LinkDown, OutcomeUnknown
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import ObjectWritten

LANES = 3  # requests of a bucket under way: one comes in, one is synced, one is committed (measured: 1 to 4)
LANE_S = 0.25  # many times what a request takes; others go past one that takes longer
SHARED_SIZE_MAX = 64 * 1024  # larger ones gain less, and would make small ones wait for their bytes
SHARED_BYTES_MAX = 1024 * 1024  # of one request
SHARED_COUNT_MAX = 256


class _CoalescedSlot(PutSlot):
    __slots__ = ("decided", "lane")

    def __init__(self, key: str, data: Bytes, options: PutOptions) -> None:
        super().__init__(key, data, options)
        self.decided = trio.Event()
        self.lane: int | None = None  # it goes alone, on this one


def _let_go(slot: PutSlot) -> None:
    assert isinstance(slot, _CoalescedSlot)
    slot.decided.set()


def _end(slots: Sequence[_CoalescedSlot]) -> None:
    """Let go of those that have no result, and will get none any more."""
    for slot in slots:
        if slot.is_done:
            continue
        if slot.ticket is None:
            slot.fail(LinkDown(f"the client was closed before {slot.key!r} was sent"))
        else:
            slot.fail(OutcomeUnknown(f"the client was closed while {slot.key!r} was under way"))
        _let_go(slot)


class CoalescedPuts:
    """The small puts of one bucket."""

    def __init__(self, writer: BucketWriter, pool: HttpPool, nursery: trio.Nursery) -> None:
        self._writer = writer
        self._nursery = nursery
        self._sender = PutSender(writer, pool, _let_go)
        self._waiting: list[_CoalescedSlot] = []
        self._lanes: dict[int, float] = {}  # requests under way that others wait for: number -> since when
        self._last_lane = 0
        self._is_gathering = False
        self._is_watching = False
        self._has_ended = False  # a task of ours was cancelled: the client is being closed

    async def put(self, key: str, data: Bytes, options: PutOptions) -> ObjectWritten:
        """Store at most `Control.small_max` bytes under a key; raises as `BucketWriter.put`."""
        if len(data) > SHARED_SIZE_MAX:
            return await self._writer.put(key, data, options)
        if self._writer.unsettled:
            await self._writer.unsettled.wait(key)
        slot = _CoalescedSlot(key, data, options)
        self._waiting.append(slot)
        if not self._is_gathering:
            if len(self._lanes) < LANES:
                self._is_gathering = True
                # Others that are about to put at this moment come along.
                await trio.lowlevel.cancel_shielded_checkpoint()
                self._is_gathering = False
            self._send_off()
        if slot.lane is None:
            await self._wait(slot)
        if slot.lane is not None:
            try:
                return await self._writer.put(key, data, options)
            finally:
                self._leave(slot.lane)
        result = slot.hand_out()
        if result.error is not None:
            raise result.error
        assert result.etag is not None
        return ObjectWritten(etag=result.etag, size=result.size, created_ms=result.created_ms)

    async def _wait(self, slot: _CoalescedSlot) -> None:
        try:
            await slot.decided.wait()
        except trio.Cancelled:
            slot.is_given_up = True
            if slot.lane is not None:
                self._leave(slot.lane)
            elif slot in self._waiting:
                self._waiting.remove(slot)
            elif slot.ticket is not None:
                await self._writer.settle_cancelled(slot.key, slot.ticket, slot.failure)
            raise

    # --- lanes ------------------------------------------------------------------------------------

    def _send_off(self) -> None:
        """Send what waits, as one request, if a lane is free."""
        if self._has_ended or self._nursery.cancel_scope.cancel_called:
            waiting, self._waiting = self._waiting, []
            _end(waiting)
            return
        if self._waiting and len(self._lanes) < LANES:
            lane = self._last_lane = self._last_lane + 1
            self._lanes[lane] = trio.current_time()
            slots = self._take()
            if len(slots) == 1:
                slots[0].lane = lane
                slots[0].decided.set()
            else:
                self._nursery.start_soon(self._send, slots, lane)
        if self._waiting and not self._is_watching:
            self._is_watching = True
            self._nursery.start_soon(self._watch)

    def _leave(self, lane: int) -> None:
        self._lanes.pop(lane, None)
        if not self._is_gathering:
            self._send_off()

    async def _watch(self) -> None:
        """While others wait: no longer for requests that take too long."""
        try:
            while self._waiting:
                await trio.sleep(LANE_S)
                begun_s = trio.current_time() - LANE_S
                for lane in [lane for lane, since_s in self._lanes.items() if since_s < begun_s]:
                    self._leave(lane)
        except trio.Cancelled:
            self._has_ended = True
            self._send_off()
            raise
        finally:
            self._is_watching = False

    def _take(self) -> list[_CoalescedSlot]:
        count = size = 0
        for slot in self._waiting[:SHARED_COUNT_MAX]:
            size += slot.stored_size
            if size > SHARED_BYTES_MAX and count:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _send(self, slots: list[_CoalescedSlot], lane: int) -> None:
        try:
            await self._sender.put_all([*slots])
        except trio.Cancelled:
            self._has_ended = True
            raise
        finally:
            _end(slots)
            self._leave(lane)
