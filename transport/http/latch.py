"""Latch: what a request sleeps on until others have done the last of what it waits for.

An event for one sleeper and one use, at a third of the price of `trio.Event`: each put pays for one.  The
sleeper is a task of Trio (`wait`), or a request that has no task at all (`rest`, see `http_crew`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from functools import partial

import trio


class Latch:
    """Opens when it has been counted down to zero."""

    __slots__ = ("_wake", "left_count")

    def __init__(self, count: int) -> None:
        self.left_count = count
        self._wake: Callable[[], object] | None = None

    def count_down(self) -> None:
        self.left_count -= 1
        if self.left_count == 0 and self._wake is not None:
            wake, self._wake = self._wake, None
            wake()

    def call_when_open(self, wake: Callable[[], object]) -> None:
        """Have `wake` called at zero, which has not been reached yet."""
        self._wake = wake

    async def wait(self) -> None:
        """Sleep as a task of Trio; when it is open already, there is no checkpoint."""
        if self.left_count:
            self._wake = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(self._forget)

    def _forget(self, _: object) -> trio.lowlevel.Abort:
        """The sleeper is cancelled."""
        self._wake = None
        return trio.lowlevel.Abort.SUCCEEDED

    @types.coroutine
    def suspend(self) -> Generator[Latch, None, None]:
        """Sleep as a request that `http_crew` runs itself: it gets the latch, and goes on with the request
        when that is open."""
        if self.left_count:
            yield self
