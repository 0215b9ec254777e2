"""Upload memory: what the bodies of all requests together may hold of a gateway's memory.

    up to 1 MiB         read whole, for a needle of its own: as much as has come
    longer              streams to a volume; it holds a few pieces, however long it is
    of unknown length   kept chunk by chunk (`client/writing/cutting.py`): 24 MiB, and beyond 512 MiB more

A request asks for room as its bytes come, so a client that sends nothing holds nothing.  Where there is no
room it waits, without reading on, and is refused when that takes too long.  Those who wait are served in
their order.  What a request holds comes back at its end, whichever.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from warehouse.client.writing.cutting import STREAM_BUFFERED_MAX, STREAM_CHUNK_FIRST, STREAM_PARALLEL
from warehouse.s3.failures import Failure
from warehouse.transport.http.exchange import Exchange

SMALL = 1024 * 1024  # bytes; at least what the store takes as one small object
FIRST = (STREAM_PARALLEL + 1) * STREAM_CHUNK_FIRST  # of a stream whose length nobody knows
LONG = 64 * STREAM_CHUNK_FIRST - FIRST  # bytes, after which its chunks are larger
WAIT_S = 30.0
_LEASE = "upload_memory"


def held_most(size: int | None, received: int) -> int:
    """How many bytes of a body may be in memory.

    Args:
        size: of the whole body; None: nobody knows it yet.
        received: what has come of it.
    """
    if received <= SMALL or size is not None:
        return min(received, SMALL)
    return FIRST if received <= LONG else STREAM_BUFFERED_MAX


class Lease:
    """What one request holds, until the block ends whose context it is."""

    __slots__ = ("_memory", "_state", "held")

    def __init__(self, memory: UploadMemory, state: dict[str, Any]) -> None:
        """
        Args:
            state: of the connection.
        """
        self._memory = memory
        self._state = state
        self.held = 0

    def __enter__(self) -> None:
        self._state[_LEASE] = self

    def __exit__(self, *_: object) -> None:
        del self._state[_LEASE]
        if self.held:
            self._memory.give(self.held)

    def grow_nowait(self, size: int) -> bool:
        """Hold `size` bytes in all from now on, if there is room for them and nobody waits."""
        more = min(size, self._memory.size) - self.held
        if more > 0:
            if not self._memory.take_nowait(more):
                return False
            self.held += more
        return True

    async def grow(self, size: int) -> None:
        """Hold `size` bytes in all from now on, as soon as there is room.

        Raises:
            Failure: SlowDown: there was none for `WAIT_S`.
        """
        more = min(size, self._memory.size) - self.held
        if more > 0:
            await self._memory.take(more)
            self.held += more


class UploadMemory:
    """
    Args:
        size: bytes; what a single body needs fits into it.

    Attributes:
        free: bytes of it.
    """

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self._waiting: deque[_Waiting] = deque()

    def lease(self, exchange: Exchange) -> Lease:
        """Let the body of a request ask for room (`lease_of`), until the block ends."""
        return Lease(self, exchange.connection_state)

    def take_nowait(self, size: int) -> bool:
        if self._waiting or size > self.free:
            return False
        self.free -= size
        return True

    async def take(self, size: int) -> None:
        """Raises as `Lease.grow`."""
        if self.take_nowait(size):
            return
        waiting = _Waiting(size)
        self._waiting.append(waiting)
        try:
            with trio.move_on_after(WAIT_S):
                await waiting.event.wait()
        except BaseException:
            if waiting.event.is_set():
                self.give(size)
            raise
        finally:
            if not waiting.event.is_set():
                self._waiting.remove(waiting)
                self._serve()
        if not waiting.event.is_set():
            raise Failure("SlowDown", "Other uploads take the memory of this gateway: try again.")

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0].size <= self.free:
            waiting = self._waiting.popleft()
            self.free -= waiting.size
            waiting.event.set()


class _Waiting:
    def __init__(self, size: int) -> None:
        self.size = size
        self.event = trio.Event()


def lease_of(exchange: Exchange) -> Lease:
    lease: Lease = exchange.connection_state[_LEASE]
    return lease
