"""Sync link: a thread hands a call to the loop and waits; what it asks of its caller runs in that thread."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TypeVar

from warehouse.client.faces.loop import SETTLE_S, Call, Given, Loop, Telling

T = TypeVar("T")
V = TypeVar("V")

_deadline: ContextVar[float | None] = ContextVar("warehouse_deadline", default=None)


@contextmanager
def fail_after(seconds: float) -> Iterator[None]:
    """All calls of the block together may take so long; the call that takes longer raises `TimeoutError`.

    It is cancelled then.  Of blocks within blocks, the earliest end counts.
    """
    outer, own = _deadline.get(), time.monotonic() + seconds
    token = _deadline.set(own if outer is None else min(outer, own))
    try:
        yield
    finally:
        _deadline.reset(token)


Inbox = SimpleQueue[Callable[[], None] | None]


class Link:
    """What all objects of one connection share."""

    def __init__(self, profile: Given, timeout_s: float) -> None:
        self.loop = Loop(profile, timeout_s)

    def open(self) -> None:
        inbox: Inbox = SimpleQueue()
        opening: Call[None] = Call(_nothing, inbox.put)
        self.loop.open(opening)
        try:
            inbox.get()
        except BaseException:
            self.loop.abandon()
            raise
        if self.loop.is_ended:
            self.loop.join()
            opening.result()

    def close(self) -> None:
        self.loop.stop()
        self.loop.join()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        return self._wait(work, SimpleQueue())

    def call_telling(
        self,
        work: Callable[[Callable[[V], None] | None], Awaitable[T]],
        progress: Callable[[V], None] | None,
    ) -> T:
        inbox: Inbox = SimpleQueue()
        told = None if progress is None else Telling(progress, inbox.put)
        return self._wait(lambda: work(told), inbox)

    def call_asking(self, work: Callable[[Callable[[Callable[[], None]], None]], Awaitable[T]]) -> T:
        """`work` gets a function that has this thread run something."""
        inbox: Inbox = SimpleQueue()
        return self._wait(lambda: work(inbox.put), inbox)

    def _wait(self, work: Callable[[], Awaitable[T]], inbox: Inbox) -> T:
        deadline = _deadline.get()
        timeout_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        call = Call(work, inbox.put, timeout_s=timeout_s)
        self.loop.start(call)
        try:
            while (wish := inbox.get()) is not None:
                wish()
        except BaseException:  # of the caller: an interrupt, or what it runs for the call
            self.loop.soon(call.scope.cancel)
            _settle(inbox)
            raise
        return call.result()


def _settle(inbox: Inbox) -> None:
    """Wait for the end of a cancelled call, for a while; do nothing for it any more."""
    end = time.monotonic() + SETTLE_S
    try:
        while inbox.get(timeout=max(0.0, end - time.monotonic())) is not None:
            pass
    except Empty:
        return


async def _nothing() -> None:
    return
