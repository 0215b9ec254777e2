"""Transfers: many copies in parallel, each with its own outcome.

A `Transfer` is one file or object to copy.  `run_transfers` runs transfers in parallel as they are found; a
failed transfer is reported, and the others continue.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import trio

from warehouse.client.nurseries import BoundedNursery, bounded_nursery
from warehouse.client.writing.uploads import Progress
from warehouse.errors import (
    BadCredentials,
    NoSuchBucket,
    NotAuthenticated,
    PermissionDenied,
    StoreError,
)

TASKS = 16
# Parallel copies of large objects: each already has several chunks or spans in flight, so more copies would
# only cost memory.
LARGE_SIZE = 1024 * 1024
LARGE_TASKS = 4
MOVER_QUEUE_MAX = 512  # transfers that wait for their mover


@dataclass(frozen=True)
class Transfer:
    """One thing to copy: `run` copies it alone and returns the bytes copied; a mover copies many together."""

    source: str
    target: str
    size: int | None  # None: not known before the end
    run: Callable[[Progress], Awaitable[int]]
    mover: Mover | None = field(default=None, kw_only=True)  # of small files; None: copied alone
    # Asked before the copy: does the target have it already?  Such a transfer has no mover.
    is_there: Callable[[], Awaitable[bool]] | None = field(default=None, kw_only=True)
    why: str | None = field(default=None, kw_only=True)  # for the user of a dry run
    # A dry run calls this in place of `run`: it raises foreseeable failures and changes nothing.  Blocks.
    check: Callable[[], object] | None = field(default=None, kw_only=True)


class Mover(Protocol):
    """Moves many small files together."""

    async def move_all(self, transfers: trio.MemoryReceiveChannel[Transfer], outcomes: Outcomes) -> None:
        """Report the outcome of each transfer that arrives; return when no more will arrive."""


@dataclass
class Totals:
    file_count: int = 0
    byte_count: int = 0
    failed_count: int = 0
    same_count: int = 0  # the target already had them
    left_out_count: int = 0  # by a rule
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.started, 0.001)


class Reporter(Protocol):
    """Receives the progress of transfers."""

    def found(self, transfer: Transfer) -> None: ...

    def moved(self, delta: int) -> None: ...

    def finished(self, transfer: Transfer, size: int) -> None: ...

    def failed(self, source: str, target: str, error: StoreError | OSError) -> None: ...

    def same(self, transfer: Transfer) -> None:
        """The target already has the file."""

    def left_out(self, source: str, why: str) -> None: ...


@dataclass(frozen=True)
class Unfit:
    """A file or object that cannot be copied."""

    source: str
    target: str
    error: StoreError | OSError


@dataclass(frozen=True)
class LeftOut:
    """A file or object that a rule leaves out."""

    source: str
    why: str


Found = Transfer | Unfit | LeftOut

# These errors would fail every copy: print them once, not a hundred thousand times.
CONCERNS_ALL = (NoSuchBucket, PermissionDenied, BadCredentials, NotAuthenticated)


async def run_transfers(
    found: AsyncGenerator[Found, None],
    reporter: Reporter,
    *,
    totals: Totals | None = None,
    is_dry: bool = False,
) -> Totals:
    """Run transfers in parallel, those of one mover together; return the totals.

    Args:
        found: closed at the end, also after an error.
        totals: of earlier transfers, to continue counting.
        is_dry: copy nothing; report what would be copied.

    Raises one of `CONCERNS_ALL` when every further copy would fail.
    """
    async with aclosing(found), bounded_nursery(TASKS) as tasks:
        outcomes = Outcomes(tasks, reporter, totals or Totals(), is_dry=is_dry)
        movers: dict[int, trio.MemorySendChannel[Transfer]] = {}
        try:
            async for one in found:
                if isinstance(one, Unfit):
                    outcomes.fail(one.source, one.target, one.error)
                    continue
                if isinstance(one, LeftOut):
                    outcomes.totals.left_out_count += 1
                    reporter.left_out(one.source, one.why)
                    continue
                reporter.found(one)
                if one.mover is None or is_dry:
                    await outcomes.start(one, one.run)
                    continue
                if id(one.mover) not in movers:
                    movers[id(one.mover)], receive = trio.open_memory_channel[Transfer](MOVER_QUEUE_MAX)
                    tasks.start(partial(one.mover.move_all, receive, outcomes))
                await movers[id(one.mover)].send(one)
        finally:
            for send in movers.values():
                send.close()
    return outcomes.totals


class Outcomes:
    """Counts and reports the outcomes of transfers."""

    def __init__(self, tasks: BoundedNursery, reporter: Reporter, totals: Totals, *, is_dry: bool) -> None:
        self.totals = totals
        self._is_dry = is_dry
        self._tasks = tasks
        self._reporter = reporter
        self._large = trio.Semaphore(LARGE_TASKS)

    def done(self, transfer: Transfer, size: int) -> None:
        """The transfer was copied, in one step."""
        self._reporter.moved(size)
        self._count(transfer, size)

    def failed(self, transfer: Transfer, error: StoreError | OSError) -> None:
        """The transfer failed.  Raises the error itself when it would fail every other transfer."""
        if isinstance(error, CONCERNS_ALL):
            raise error
        self.fail(transfer.source, transfer.target, error)

    def fail(self, source: str, target: str, error: StoreError | OSError) -> None:
        self.totals.failed_count += 1
        self._reporter.failed(source, target, error)

    async def start(self, transfer: Transfer, work: Callable[[Progress], Awaitable[int]]) -> None:
        """Wait for a free task and let it do the work; its outcome is counted."""
        await self._tasks.wait_room()
        self._tasks.start(partial(self._run, transfer, work))

    def _count(self, transfer: Transfer, size: int) -> None:
        self.totals.file_count += 1
        self.totals.byte_count += size
        self._reporter.finished(transfer, size)

    async def _run(self, transfer: Transfer, work: Callable[[Progress], Awaitable[int]]) -> None:
        moved_count = 0

        def progress(byte_count: int) -> None:
            nonlocal moved_count
            self._reporter.moved(byte_count - moved_count)
            moved_count = byte_count

        try:
            if transfer.is_there is not None and await transfer.is_there():
                self.totals.same_count += 1
                self._reporter.same(transfer)
                return
            if self._is_dry:
                if transfer.check is not None:
                    await trio.to_thread.run_sync(transfer.check)
                size = transfer.size or 0
            elif transfer.size is not None and transfer.size <= LARGE_SIZE:
                size = await work(progress)
            else:
                async with self._large:
                    size = await work(progress)
        except BrokenPipeError:
            raise  # the reader of our standard output has gone
        except (StoreError, OSError) as error:
            progress(0)
            self.failed(transfer, error)
            return
        progress(size)
        self._count(transfer, size)
