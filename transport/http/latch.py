"""Latch: a request waits for it until others have counted it down to zero.

A latch is an event for one waiter and one use, at a third of the price of `trio.Event`: each put needs one.
The waiter is a task of Trio (`wait`), or a request that has no task (`suspend`, see `leader_followers`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from functools import partial

import trio


class Latch:
    """Opens when it is counted down to zero."""

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
        """Call `wake` when the latch opens; it must not be open yet."""
        self._wake = wake

    async def wait(self) -> None:
        """Wait as a task of Trio; without a checkpoint when the latch is open already."""
        if self.left_count:
            self._wake = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(self._forget)

    def _forget(self, _: object) -> trio.lowlevel.Abort:
        """Wake nobody: the waiting task was cancelled."""
        self._wake = None
        return trio.lowlevel.Abort.SUCCEEDED

    @types.coroutine
    def suspend(self) -> Generator[Latch, None, None]:
        """Suspend a request that `leader_followers` drives: it gets the latch, and resumes the request when
        the latch opens.
        """
        if self.left_count:
            yield self
