"""Coalesced puts: small puts that start at the same moment share a request; each has its own outcome.

A put that is alone is sent at once.  Puts gather for as long as each turn of the event loop brings another
one, so a server that is busy sends few large requests.  While `IN_FLIGHT_MAX` requests are in flight, further
puts queue; the queue then leaves as one request.  A request that takes longer than `IN_FLIGHT_S` (its volume
actor is stuck) no longer counts as in flight, so it delays nobody.  A program that puts from many tasks
therefore needs no batches of its own, and a program that puts one object after the other never waits.  The
volume actor syncs, and the master commits, once for all puts of a request.

    queue, when fewer than `IN_FLIGHT_MAX` requests are in flight
        one put      `BucketWriter.put`, in the task that called `put`
        several      one batch, in a task of its own; also one put with attributes

A put waits for its outcome on a latch.  A server passes `Exchange.wait_for`, and needs no task for a put.

Puts with attributes and puts without them go to volumes of different formats, and never share a request.

`put` here promises what `BucketWriter.put` promises: it returns when the object is stored, and a cancelled
put is stored or not stored, forever.  When the client is closed, each queued put says so in an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from warehouse.client.headers import PutOptions
from warehouse.client.writing.lease_supply import FORMAT_PLAIN
from warehouse.client.writing.put import BucketWriter
from warehouse.client.writing.put_many import Bytes, PendingPut, PutSender
from warehouse.errors import LinkDown, OutcomeUnknown
from warehouse.transport.http.latch import Latch
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import ObjectWritten

IN_FLIGHT_MAX = 3  # requests of one bucket: one arrives, one is synced, one is committed (measured: 1 to 4)
IN_FLIGHT_S = 0.25  # many times what a request takes; the queue no longer waits for a slower one
SHARED_SIZE_MAX = 64 * 1024  # larger objects gain less, and would delay the small ones
SHARED_BYTES_MAX = 1024 * 1024  # of one request
SHARED_COUNT_MAX = 256
GATHERED_MAX = (
    64  # puts that leave although more are coming: larger requests gain little, and delay the first
)

Wait = Callable[[Latch], Awaitable[None]]


class _CoalescedPut(PendingPut):
    __slots__ = ("decided", "request")

    def __init__(self, key: str, data: Bytes, options: PutOptions) -> None:
        super().__init__(key, data, options)
        self.decided = Latch(1)
        self.request: int | None = None  # number of the request in which this put travels alone


def _let_go(put: PendingPut) -> None:
    assert isinstance(put, _CoalescedPut)
    if put.decided.left_count:
        put.decided.count_down()


def _end(puts: Sequence[_CoalescedPut]) -> None:
    """Fail the puts that have no result and will never get one."""
    for put in puts:
        if put.is_done:
            continue
        if put.ticket is None:
            put.fail(LinkDown(f"the client was closed before {put.key!r} was sent"))
        else:
            put.fail(OutcomeUnknown(f"the client was closed while {put.key!r} was in flight"))
        _let_go(put)


def _written(put: _CoalescedPut) -> ObjectWritten:
    result = put.hand_out()
    if result.error is not None:
        raise result.error
    assert result.etag is not None
    return ObjectWritten(etag=result.etag, size=result.size, created_ms=result.created_ms)


class CoalescedPuts:
    """The small puts of one bucket."""

    def __init__(self, writer: BucketWriter, pool: HttpPool, nursery: trio.Nursery) -> None:
        self._writer = writer
        self._nursery = nursery
        self._sender = PutSender(writer, pool, _let_go)
        self._waiting: list[_CoalescedPut] = []
        self._in_flight: dict[int, float] = {}  # requests that the queue waits for: number -> start time
        self._last_request = 0
        self._is_gathering = False
        self._is_watching = False
        self._has_ended = False  # one of our tasks was cancelled: the client is being closed

    async def put(
        self, key: str, data: Bytes, options: PutOptions, wait: Wait | None = None
    ) -> ObjectWritten:
        """Store at most `Control.small_max` bytes under a key; raises as `BucketWriter.put`.

        Args:
            wait: how to wait for the outcome; None: in the task that calls this.
        """
        put = _CoalescedPut(key, data, options)
        if len(data) > SHARED_SIZE_MAX:
            return await self._put_alone(put, options)
        if self._writer.in_doubt:
            await self._writer.in_doubt.wait(key)
        self._waiting.append(put)
        if not self._is_gathering:
            if wait is None:
                await self._gather()
            else:
                self._start_gathering()
        if put.request is None:
            await self._wait(put, wait or Latch.wait)
        if put.request is not None:
            try:
                return await self._put_alone(put, options)
            finally:
                self._leave(put.request)
        return _written(put)

    async def _put_alone(self, put: _CoalescedPut, options: PutOptions) -> ObjectWritten:
        if not options.has_attributes:
            return await self._writer.put(put.key, put.data, options)
        await self._sender.put_all([put])
        return _written(put)

    async def _wait(self, put: _CoalescedPut, wait: Wait) -> None:
        try:
            await wait(put.decided)
        except trio.Cancelled:
            put.is_given_up = True
            if put.request is not None:
                self._leave(put.request)
            elif put in self._waiting:
                self._waiting.remove(put)
            elif put.ticket is not None:
                await self._writer.resolve_cancelled(put.key, put.ticket, put.failure)
            raise
        except GeneratorExit:  # a server ends that has no task for this put: nothing can be awaited any more
            put.is_given_up = True
            if put in self._waiting:
                self._waiting.remove(put)
            raise

    # --- gathering --------------------------------------------------------------------------------

    def _start_gathering(self) -> None:
        """Gather in a task of its own."""
        if self._is_ending or len(self._in_flight) >= IN_FLIGHT_MAX:
            self._send_off()
        else:
            self._is_gathering = True
            self._nursery.start_soon(self._gather)

    async def _gather(self) -> None:
        """Send the queue when no other task is about to put at this moment."""
        if len(self._in_flight) < IN_FLIGHT_MAX:
            self._is_gathering = True
            count = quiet = 0
            # Trio runs the tasks of a turn in any order: a put of each turn can be seen in every other one.
            while quiet < (1 if count == 1 else 2) and len(self._waiting) < GATHERED_MAX:
                count = len(self._waiting)
                await trio.lowlevel.cancel_shielded_checkpoint()
                quiet = quiet + 1 if len(self._waiting) == count else 0
        self._is_gathering = False
        self._send_off()

    # --- requests in flight -----------------------------------------------------------------------

    @property
    def _is_ending(self) -> bool:
        return self._has_ended or self._nursery.cancel_scope.cancel_called

    def _send_off(self) -> None:
        """Send the queue as one request, unless `IN_FLIGHT_MAX` requests are in flight."""
        if self._is_ending:
            waiting, self._waiting = self._waiting, []
            _end(waiting)
            return
        if self._waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            request = self._last_request = self._last_request + 1
            self._in_flight[request] = trio.current_time()
            puts = self._take()
            if len(puts) == 1 and puts[0].format == FORMAT_PLAIN:
                puts[0].request = request
                _let_go(puts[0])
            else:
                self._nursery.start_soon(self._send, puts, request)
        if self._waiting and not self._is_watching:
            self._is_watching = True
            self._nursery.start_soon(self._watch)

    def _leave(self, request: int) -> None:
        self._in_flight.pop(request, None)
        if not self._is_gathering:
            self._send_off()

    async def _watch(self) -> None:
        """While puts queue: stop waiting for requests that take too long."""
        try:
            while self._waiting:
                await trio.sleep(IN_FLIGHT_S)
                begun_s = trio.current_time() - IN_FLIGHT_S
                for request in [one for one, since_s in self._in_flight.items() if since_s < begun_s]:
                    self._leave(request)
        except trio.Cancelled:
            self._has_ended = True
            self._send_off()
            raise
        finally:
            self._is_watching = False

    def _take(self) -> list[_CoalescedPut]:
        """The next puts for volumes of one format, as many as one request takes."""
        waiting, format = self._waiting, self._waiting[0].format
        taken: list[_CoalescedPut] = []
        left: list[_CoalescedPut] = []
        size = 0
        for position, put in enumerate(waiting):
            if put.format != format:
                left.append(put)
                continue
            size += put.stored_size
            if len(taken) == SHARED_COUNT_MAX or (size > SHARED_BYTES_MAX and taken):
                left += waiting[position:]
                break
            taken.append(put)
        self._waiting = left
        return taken

    async def _send(self, puts: list[_CoalescedPut], request: int) -> None:
        try:
            await self._sender.put_all([*puts])
        except trio.Cancelled:
            self._has_ended = True
            raise
        finally:
            _end(puts)
            self._leave(request)
