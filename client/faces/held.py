"""Held: a block of the library that stays open between calls.  Runs in the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import trio

from warehouse.client.faces.loop import Loop

T = TypeVar("T")


class Held(Generic[T]):
    """Trio wants a block to end in the task that began it, so a block has a task of its own."""

    def __init__(self, begin: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._begin = begin
        self._closing: trio.Event | None = None

    async def open(self, loop: Loop) -> T:
        """Enter the block; the end of the connection leaves it."""
        self._closing, came = trio.Event(), trio.Event()
        found: list[T] = []
        errors: list[Exception] = []
        scope = trio.CancelScope()

        async def hold(closing: trio.Event) -> None:
            try:
                with scope:
                    async with self._begin() as value:
                        found.append(value)
                        came.set()
                        await closing.wait()
            except Exception as error:
                errors.append(error)
                came.set()

        loop.tasks.start_soon(hold, self._closing)
        try:
            await came.wait()
        except trio.Cancelled:
            scope.cancel()
            raise
        if not found:
            raise errors[0]
        return found[0]

    def close(self) -> None:
        if self._closing is not None:
            self._closing.set()
