"""Nurseries for library code: their errors look as if there were no nursery.

Trio wraps every error that leaves a nursery in a group.  A user who writes `await bucket.get(key)` inside
`async with warehouse.connect()` wants to catch `NoSuchObject`, so the nurseries here raise the error itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the body and end with it.

    An error of the body leaves as it is.  An error of a task is a bug or cannot be repaired: it cancels the
    body and is raised in its place.
    """
    error_of_body: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                if is_cancellation(error):
                    raise  # of this nursery's scope or of an outer one: Trio finds the right one
                # Keep it, so that the nursery does not put it into a group; it is raised again below.
                error_of_body = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group) from None
    if error_of_body is not None:
        try:
            raise error_of_body
        finally:
            error_of_body = None  # or error and frame would keep each other alive


class BoundedNursery:
    """A nursery of at most `size` tasks; made by `bounded_nursery`."""

    def __init__(self, nursery: trio.Nursery, size: int) -> None:
        self.size = size
        self.running_count = 0
        self.error: Exception | None = None
        self._nursery = nursery
        self._waiting = trio.lowlevel.ParkingLot()

    async def wait_room(self) -> None:
        while self.running_count >= self.size:
            await self._waiting.park()

    async def wait_all(self) -> None:
        while self.running_count > 0:
            await self._waiting.park()

    def cancel(self) -> None:
        self._nursery.cancel_scope.cancel()

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task; the caller has awaited `wait_room`."""
        self.running_count += 1
        self._nursery.start_soon(self._run, work)

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            if self.error is None:
                self.error = error
            self._nursery.cancel_scope.cancel()
        finally:
            self.running_count -= 1
            self._waiting.unpark_all()


@asynccontextmanager
async def bounded_nursery(size: int) -> AsyncIterator[BoundedNursery]:
    """A nursery for at most `size` tasks at a time; the end of the block waits for all of them.

    The first error, of the body or of a task, cancels the others and leaves as it is.
    """
    error_of_body: BaseException | None = None
    async with trio.open_nursery() as nursery:
        tasks = BoundedNursery(nursery, size)
        try:
            yield tasks
        except BaseException as error:
            if is_cancellation(error):
                raise
            error_of_body = error
            nursery.cancel_scope.cancel()
    try:
        # The body's own error came first, or the body would have been cancelled and had none.
        if error_of_body is not None:
            raise error_of_body
        if tasks.error is not None:
            raise tasks.error
    finally:
        error_of_body = tasks.error = None  # or errors and frames would keep each other alive


def is_cancellation(error: BaseException) -> bool:
    """True for `Cancelled`, and for a group that has one anywhere in it."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_cancellation(one) for one in error.exceptions)
    return isinstance(error, trio.Cancelled)


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is not a cancellation; or else the group itself."""
    for error in group.exceptions:
        found = single_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, trio.Cancelled | BaseExceptionGroup):
            return found
    return group
