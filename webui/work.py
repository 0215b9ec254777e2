"""Work: what takes longer than a person waits, and goes on while they move around.

Deleting a folder of a million objects, or copying one, is a task of this console.  It uses the connection
of the key that asked for it, and ends with it: when the key ends, or the last session of it signs out.  It
can be cancelled, and ends in a sentence, which stays until somebody has read it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import trio

from warehouse.client.nurseries import background
from warehouse.errors import Overloaded, StoreError

log = logging.getLogger(__name__)

RUNNING_MAX = 32  # of all keys
RUNNING_OF_KEY_MAX = 4
ENDED_OF_KEY_MAX = 5  # that nobody has dismissed; older ones leave
FAILURES_MAX = 5  # that are told one by one
PATIENCE_S = 1.0  # work that ends within this has no place in the panel
PACE_S = 0.25  # between two looks of one page

Job = Callable[["Work"], Awaitable[str]]  # returns the sentence that it ends in


@dataclass(eq=False)
class Work:
    """One task, and how far it is.

    Attributes:
        title: what it does: "Deleting raw/".
        total_count, total_bytes: of objects; None: nobody knows yet.
        failures: what did not work, the first of them in words.
        state: "running", "done", "failed" or "cancelled".
        message: the sentence that it ended in.
        error: what ended it.
    """

    number: int
    title: str
    total_count: int | None = None
    total_bytes: int | None = None
    done_count: int = 0
    done_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    failure_count: int = 0
    state: str = "running"
    message: str = ""
    error: StoreError | None = None
    began_s: float = field(default_factory=time.monotonic)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    on_change: Callable[[], None] = lambda: None

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def took_s(self) -> float:
        return time.monotonic() - self.began_s

    @property
    def left_s(self) -> float | None:
        """How long it will take; None: nobody knows."""
        if not self.total_count or not self.done_count or self.done_count > self.total_count:
            return None
        return self.took_s * (self.total_count - self.done_count) / self.done_count

    def did(self, count: int = 1, byte_count: int = 0) -> None:
        """So many objects more are done."""
        self.done_count += count
        self.done_bytes += byte_count
        self.on_change()

    def failed(self, name: str, error: StoreError) -> None:
        """An object could not be worked on; the work goes on."""
        self.failure_count += 1
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(f"{name}: {error.message}")
        self.on_change()


@dataclass(eq=False)
class WorkOfKey:
    """The work of one key's connection, the oldest first."""

    works: list[Work] = field(default_factory=list)
    version: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    def change(self) -> None:
        self.version += 1
        self.changed.set()
        self.changed = trio.Event()

    @property
    def running_count(self) -> int:
        return sum(work.is_running for work in self.works)

    def add(self, work: Work) -> None:
        ended = [one for one in self.works if not one.is_running]
        for one in ended[: max(0, len(ended) - ENDED_OF_KEY_MAX + 1)]:
            self.works.remove(one)
        self.works.append(work)
        self.change()

    def stop(self, number: int) -> None:
        """Cancel work that is running; forget work that has ended."""
        for work in self.works:
            if work.number == number:
                if work.is_running:
                    work.scope.cancel()
                else:
                    self.works.remove(work)
                self.change()
                return

    async def versions(self) -> AsyncGenerator[int, None]:
        """A number now, and another one soon after each change."""
        while True:
            changed = self.changed
            yield self.version
            await changed.wait()
            await trio.sleep(PACE_S)


class Works:
    """Starts work, and bounds how much of it there is."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._numbers = itertools.count(1)
        self._running_count = 0

    def start(self, of_key: WorkOfKey, ended: trio.Event, title: str, job: Job) -> Work:
        """
        Args:
            of_key: that of the connection that the job uses.
            ended: the connection ends, and the work with it.
        Raises:
            Overloaded: too much work is running.
        """
        if of_key.running_count >= RUNNING_OF_KEY_MAX:
            raise Overloaded(f"this key has {RUNNING_OF_KEY_MAX} running tasks: wait for one, or cancel it")
        if self._running_count >= RUNNING_MAX:
            raise Overloaded("this console has as much work as it takes: try again later")
        work = Work(next(self._numbers), title, on_change=of_key.change)
        of_key.add(work)
        self._running_count += 1
        self._nursery.start_soon(self._run, work, job, ended)
        return work

    async def start_and_see(self, of_key: WorkOfKey, ended: trio.Event, title: str, job: Job) -> Work:
        """Start work, and wait a moment: what has ended by then is told at once, and the panel forgets it.

        Raises:
            Overloaded: as `start`.
            StoreError: it ended in that moment, and nothing was done.
        """
        work = self.start(of_key, ended, title, job)
        with trio.move_on_after(PATIENCE_S):
            await work.ended.wait()
        if not work.is_running:
            of_key.stop(work.number)
            if work.error is not None and not work.done_count:
                raise work.error
        return work

    async def _run(self, work: Work, job: Job, ended: trio.Event) -> None:
        try:
            with work.scope:
                async with background() as nursery:
                    nursery.start_soon(_cancel_with, ended, work.scope)
                    work.message = await job(work)
                    work.state = "failed" if work.failure_count else "done"
        except StoreError as error:
            work.state, work.message, work.error = "failed", error.message, error
        except Exception:
            log.exception("work broke")
            work.state, work.message = "failed", "The console made a mistake; its log says which."
        finally:
            if work.is_running:
                work.state, work.message = "cancelled", f"Cancelled after {work.done_count:,} objects"
            self._running_count -= 1
            work.ended.set()
            work.on_change()


async def _cancel_with(ended: trio.Event, scope: trio.CancelScope) -> None:
    await ended.wait()
    scope.cancel()
