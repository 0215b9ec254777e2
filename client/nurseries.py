"""Tasks: nurseries for library code, whose errors look as if there were no nursery.

A nursery wraps whatever leaves it in a group.  A user who writes `await bucket.get(key)` inside
`async with client.connect()` wants to catch `NoSuchObject`, so what is here hands errors on plain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the body and end with it.

    An error of the body leaves as it is.  An error of a task is a bug or a lost cause: it cancels the body
    and leaves in the body's place.
    """
    error_of_body: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                if is_cancellation(error):
                    raise  # of this nursery's scope or of one further out: Trio finds the right one
                # Kept, so that the nursery does not put it into a group; raised again below.
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
    """Tasks that share one job, at most `size` at once."""

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
        """Give work to a new task; wait for room first."""
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
async def crew(size: int) -> AsyncIterator[BoundedNursery]:
    """A crew that is waited for at the end of the body.

    The first error, of the body or of a task, ends all the others and leaves plain.
    """
    error_of_body: BaseException | None = None
    async with trio.open_nursery() as nursery:
        members = BoundedNursery(nursery, size)
        try:
            yield members
        except BaseException as error:
            if is_cancellation(error):
                raise
            error_of_body = error
            nursery.cancel_scope.cancel()
    try:
        # The body's own error came first, or the body would have been cancelled and had none.
        if error_of_body is not None:
            raise error_of_body
        if members.error is not None:
            raise members.error
    finally:
        error_of_body = members.error = None  # or errors and frames would keep each other alive


def is_cancellation(error: BaseException) -> bool:
    """True for `Cancelled`, and for a group that has one anywhere in it."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_cancellation(one) for one in error.exceptions)
    return isinstance(error, trio.Cancelled)


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is not a cancellation; the group itself when there is none."""
    for error in group.exceptions:
        found = single_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, trio.Cancelled | BaseExceptionGroup):
            return found
    return group
