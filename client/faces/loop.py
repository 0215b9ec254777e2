"""Loop: a thread in which the library runs, and the calls that it takes from other threads and loops.

A connection owns one thread.  Every call is a Trio task in it and has a cancel scope: whoever stops waiting
cancels the call, and waits at most `SETTLE_S` for its end.  What is still open when the connection ends fails
with `LinkDown`, as every later call does, and as every call does in a child of `os.fork`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

import trio

from warehouse.client.store import Store, connect
from warehouse.conf.profile import Profile
from warehouse.errors import LinkDown

SETTLE_S = 10.0  # how long a cancelled call may take to end; longer than `Results.aclose` takes

T = TypeVar("T")
V = TypeVar("V")
Given = Profile | str | os.PathLike[str] | None
Post = Callable[[Callable[[], None] | None], None]


class Call(Generic[T]):
    """One call of one caller.

    Args:
        work: runs in the loop.
        post: has the caller run a function; None: the call has ended.
    """

    def __init__(
        self, work: Callable[[], Awaitable[T]], post: Post, *, timeout_s: float | None = None
    ) -> None:
        self.work = work
        self.post = post
        self.timeout_s = timeout_s
        self.scope = trio.CancelScope()
        self.is_done = False
        self._value: list[T] = []
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Work, and keep the outcome.  Runs in the loop."""
        if self.timeout_s is not None:
            self.scope.deadline = trio.current_time() + self.timeout_s
        with self.scope:
            try:
                self._value.append(await self.work())
            except Exception as error:
                self._error = error
        if self.scope.cancelled_caught:
            self._error = TimeoutError("the call took longer than it may")
        self.end()

    def succeed(self, value: T) -> None:
        self._value.append(value)
        self.end()

    def end(self, error: BaseException | None = None) -> None:
        if not self.is_done:
            self._error = error or self._error
            self.is_done = True
            self.post(None)

    def result(self) -> T:
        """The outcome of a call that has ended."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or error and frame would keep each other alive
        return self._value.pop()


class Telling(Generic[V]):
    """Progress that the caller hears: the newest value, however slow the caller is."""

    def __init__(self, progress: Callable[[V], None], post: Post) -> None:
        self._progress = progress
        self._post = post
        self._values: list[V] = []  # at most one
        self._lock = threading.Lock()

    def __call__(self, value: V) -> None:
        with self._lock:
            is_posted = bool(self._values)
            self._values[:] = [value]
        if not is_posted:
            self._post(self._tell)

    def _tell(self) -> None:
        with self._lock:
            value = self._values.pop()
        self._progress(value)


class Loop:
    """A connection in a thread of its own.

    Attributes:
        store: of the library; only for work that runs in the loop.
    """

    def __init__(self, profile: Given, timeout_s: float) -> None:
        self._profile = profile
        self._timeout_s = timeout_s
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._calls: set[Call[object]] = set()
        self._is_ended = False
        self._is_abandoned = False
        self._token: trio.lowlevel.TrioToken | None = None
        self.tasks: trio.Nursery
        self._stopping: trio.Event
        self.store: Store
        # A program may end without closing: a daemon does not hold it up.
        self._thread = threading.Thread(target=self._run, name="warehouse", daemon=True)
        self._opening: Call[None]

    # --- from other threads -----------------------------------------------------------------------

    def open(self, opening: Call[None]) -> None:
        """Start the thread; `opening` ends when the connection is there or has failed."""
        self._opening = opening
        self._thread.start()

    def start(self, call: Call[T]) -> None:
        """
        Raises:
            LinkDown: the connection is closed, or is a parent process's.
            RuntimeError: called from the loop itself, which would wait for itself.
        """
        if self._pid != os.getpid():
            raise LinkDown("the connection belongs to the process that forked this one: connect again")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a call from the connection's own thread would wait for itself")
        with self._lock:
            if self._is_ended:
                raise LinkDown("the connection is closed")
            self._calls.add(call)  # type: ignore[arg-type]
        self.soon(lambda: self._start(call))  # if it has ended meanwhile, the call has ended with it

    def soon(self, function: Callable[[], None]) -> None:
        """Have the loop run a function that does not wait; without effect on a loop that has ended."""
        if self._pid == os.getpid() and self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(function)

    def stop(self) -> None:
        """Let the connection end; `join` waits for it."""
        self.soon(self.stop_here)

    def stop_here(self) -> None:
        self._stopping.set()

    def abandon(self) -> None:
        """Whoever opened this has stopped waiting: end the connection as soon as there is a loop."""
        self._is_abandoned = True
        self.soon(self._opening.scope.cancel)

    def join(self) -> None:
        if self._pid == os.getpid():
            self._thread.join()

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException = LinkDown("the connection is closed")
        try:
            trio.run(self._main)
        except BaseException as failure:
            error = failure
        with self._lock:
            self._is_ended = True
            calls, self._calls = [*self._calls], set()
        self._opening.end(error)
        for call in calls:
            call.end(LinkDown("the connection was closed during the call"))

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stopping = trio.Event()
        if self._is_abandoned:
            return
        with self._opening.scope:
            async with (
                connect(self._profile, timeout_s=self._timeout_s) as self.store,
                trio.open_nursery() as self.tasks,
            ):
                self._opening.succeed(None)
                await self._stopping.wait()
                self.tasks.cancel_scope.cancel()

    def _start(self, call: Call[T]) -> None:
        if self._stopping.is_set():
            return  # the end of the loop ends it
        self.tasks.start_soon(self._run_call, call)

    async def _run_call(self, call: Call[T]) -> None:
        await call.run()
        with self._lock:
            self._calls.discard(call)
