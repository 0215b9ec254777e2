"""Asyncio link: a task hands a call to the loop and awaits it; what it asks of its caller runs in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from warehouse.client.faces.loop import SETTLE_S, Call, Given, Loop, Telling

T = TypeVar("T")
V = TypeVar("V")


class Link:
    """What all objects of one connection share.  It belongs to the event loop that opened it."""

    def __init__(self, profile: Given, timeout_s: float) -> None:
        self.loop = Loop(profile, timeout_s)

    async def open(self) -> None:
        ended = _Ended()
        opening: Call[None] = Call(_nothing, ended.post)
        self.loop.open(opening)
        try:
            await ended.wait()
        except BaseException:
            self.loop.abandon()
            await self._join()
            raise
        if self.loop.is_ended:
            await self._join()
            opening.result()

    async def close(self) -> None:
        self.loop.stop()
        await self._join()

    async def _join(self) -> None:
        """Wait for the thread, also when the caller is cancelled: its end is bounded."""
        joining = asyncio.get_running_loop().run_in_executor(None, self.loop.join)
        try:
            await asyncio.shield(joining)
        except asyncio.CancelledError:
            await asyncio.wait([joining])
            raise

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        return await self._wait(work, _Ended())

    async def call_telling(
        self,
        work: Callable[[Callable[[V], None] | None], Awaitable[T]],
        progress: Callable[[V], None] | None,
    ) -> T:
        ended = _Ended()
        told = None if progress is None else Telling(progress, ended.post)
        return await self._wait(lambda: work(told), ended)

    async def call_asking(self, work: Callable[[Callable[[Callable[[], None]], None]], Awaitable[T]]) -> T:
        """`work` gets a function that has this event loop run something."""
        ended = _Ended()
        return await self._wait(lambda: work(ended.post), ended)

    async def _wait(self, work: Callable[[], Awaitable[T]], ended: _Ended) -> T:
        call = Call(work, ended.post)
        self.loop.start(call)
        try:
            await ended.wait()
        except BaseException:
            self.loop.soon(call.scope.cancel)
            await ended.settle()
            raise
        return call.result()


class _Ended:
    """The end of a call, as a future of the event loop that runs now."""

    def __init__(self) -> None:
        self._events = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._events.create_future()
        self._is_left = False

    def post(self, wish: Callable[[], None] | None) -> None:
        """From the other thread."""
        with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._events.call_soon_threadsafe(self._run, wish)

    def _run(self, wish: Callable[[], None] | None) -> None:
        if wish is None:
            if not self._future.done():
                self._future.set_result(None)
        elif not self._is_left and not self._future.done():
            try:
                wish()
            except Exception as error:
                self._is_left = True
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        failed, self._future = self._future, self._events.create_future()
        failed.set_exception(error)

    async def wait(self) -> None:
        # Cancelling the waiter must leave the future for `settle`.
        await asyncio.shield(self._future)

    async def settle(self) -> None:
        """Wait for the end of a cancelled call, for a while; do nothing for it any more."""
        self._is_left = True
        with suppress(asyncio.CancelledError):
            await asyncio.wait([self._future], timeout=SETTLE_S)


async def _nothing() -> None:
    return
