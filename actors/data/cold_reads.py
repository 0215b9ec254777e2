"""Cold reads: small needles that are not in memory.

The event loop must not wait for a disk.  But a hop to a thread and back costs as much processor time as a
good disk takes for a read, and threads take the interpreter's lock from each other.  So the reader threads
do as little as possible: they wait.

    a read misses           It joins a queue.  The kernel has begun to fetch its bytes: recent Linux does so
                            when a read that must not wait misses.  For reads that missed a second time, a
                            reader thread asks the kernel.
    a thread starts         It reads the first needle of the queue, and so waits for the disk.
    a thread has finished   The loop tries other reads of the queue again, because the disk has fetched more
                            in the meantime.  Then a thread starts on the first one that is still missing.

One thread reads at a time, as long as it finishes soon.  When the disk is slow, or a read is stuck, all the
threads read, and the loop tries the queue again at short intervals.

Requests for the same needle share one read.  A request that arrives after the read has started gets the
next one.

No request waits longer than `DISK_S`.  The connection limit bounds the number of waiters.  The loop and its
reader threads exchange work over two queues; all state stays on the loop.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from queue import SimpleQueue

import trio

from warehouse.errors import ReadFailed, StoreError
from warehouse.storage.format.needle import NeedleRead
from warehouse.storage.volume import Volume
from warehouse.transport.http.latch import Latch

log = logging.getLogger(__name__)

READER_THREADS = 8  # this many reads may be stuck at bad sectors before other reads wait for them
SLOW_S = 0.004  # the next thread starts without waiting for a read that takes longer
TRIES_MIN, TRIES_MAX = 4, 64  # reads that the loop tries again when a thread has finished
TRY_S = 0.002  # that the loop spends on them
HINTS_MAX = 64  # reads that one thread announces to the kernel
DISK_S = 20.0  # less than a client waits for an answer: it hears why there is none
LOOK_S = 0.5  # between two checks of the deadlines, while every read is running
CLOSE_S = 5.0  # for threads that are still reading; after that they are left alone


class _Waiter:
    __slots__ = ("deadline", "error", "latch", "read", "since")

    def __init__(self, read: _Read) -> None:
        self.read = read
        self.latch = Latch(1)
        self.since = time.monotonic()
        self.deadline = self.since + DISK_S
        self.error: Exception | None = None  # its own


class _Read:
    __slots__ = ("error", "is_hinted", "key", "needle", "waiters", "was_tried")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.waiters: list[_Waiter] = []
        self.needle: NeedleRead | None = None
        self.error: Exception | None = None
        self.was_tried = False  # again, without success
        self.is_hinted = False

    def do(self, *, nowait: bool = False) -> None:
        """Raises BlockingIOError with `nowait`, and nothing else."""
        volume, needle_id, size_max = self.key
        try:
            self.needle = volume.read_small(needle_id, size_max, nowait=nowait)
        except BlockingIOError:
            raise
        except StoreError as error:
            self.error = error.with_traceback(None)  # or it holds this read, and that holds the error
        except Exception as error:  # a bug: the waiters get it, the thread goes on
            log.exception("cold read failed", extra={"volume_id": volume.volume_id, "needle_id": needle_id})
            self.error = error.with_traceback(None)


_Key = tuple[Volume, int, int]  # needle id, most bytes


class _Job:
    """Work for one reader thread: hints for the kernel, then one read."""

    __slots__ = ("hints", "read", "started")

    def __init__(self, read: _Read, hints: Sequence[_Read], started: float) -> None:
        self.read = read
        self.hints = hints
        self.started = started

    def do(self) -> None:
        """In a thread.  Raises nothing."""
        try:
            by_volume: dict[Volume, list[int]] = {}
            for hint in self.hints:
                volume, needle_id, _ = hint.key
                by_volume.setdefault(volume, []).append(needle_id)
            for volume, needle_ids in by_volume.items():
                volume.start_reading(needle_ids)
        except Exception as error:
            log.warning("the disk was not told of reads", extra={"cause": repr(error)})
        try:
            self.read.do()
        except BlockingIOError as error:  # from a file that was asked to wait
            self.read.error = error


class ColdReads:
    """The cold reads of one disk."""

    def __init__(self) -> None:
        self._reads: dict[_Key, _Read] = {}  # queued or running
        self._queue: dict[_Key, _Read] = {}
        self._waiters: dict[_Waiter, None] = {}  # in order of arrival
        self._running: dict[_Job, None] = {}
        self._tries = TRIES_MIN
        self._is_slow = False  # the latest read of a thread took long
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None: end the thread
        self._watch = trio.lowlevel.ParkingLot()
        self._is_watch_off = False
        self._is_running = False

    @property
    def waiting_count(self) -> int:
        """Reads that are queued or running."""
        return len(self._reads)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled; reads that have started are finished first."""
        token = trio.lowlevel.current_trio_token()
        threads = [
            threading.Thread(
                target=self._read_in_thread, args=(token,), name=f"cold reads {number}", daemon=True
            )
            for number in range(READER_THREADS)
        ]
        for thread in threads:
            thread.start()
        self._is_running = True
        try:
            task_status.started()
            await self._watch_forever()
        finally:
            self._is_running = False
            for waiter in list(self._waiters):
                self._fail(waiter, ReadFailed("the volume actor is stopping"))
            for _ in threads:
                self._jobs.put(None)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                for thread in threads:
                    await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)

    async def read(
        self,
        volume: Volume,
        needle_id: int,
        size_max: int,
        wait: Callable[[Latch], Awaitable[None]] = Latch.wait,
    ) -> NeedleRead | None:
        """As `Volume.read_small`.

        Args:
            wait: how the caller sleeps on its latch.
        Raises:
            ReadFailed: also when the disk does not answer within `DISK_S`.
        """
        key = volume, needle_id, size_max
        if not self._is_running:
            read = _Read(key)
            await trio.to_thread.run_sync(read.do)
            return _outcome(read, read.error)
        known = self._reads.get(key)
        read = known or _Read(key)
        waiter = _Waiter(read)
        read.waiters.append(waiter)
        self._waiters[waiter] = None
        if known is None:
            self._reads[key] = self._queue[key] = read
            self._start_reads()
        if self._queue or self._is_watch_off:
            self._watch.unpark()
        try:
            await wait(waiter.latch)
        finally:
            if waiter in self._waiters:  # the request was cancelled
                self._forget(waiter)
        # Each waiter gets a copy of the error, because raising it adds a traceback.
        return _outcome(waiter.read, waiter.error or copy.copy(waiter.read.error))

    # --- in the event loop ------------------------------------------------------------------------

    def _start_reads(self) -> None:
        """Start a reader thread on the first read of the queue, unless another should finish first."""
        now = time.monotonic()
        while self._queue and len(self._running) < READER_THREADS:
            if not self._is_slow and any(now - job.started < SLOW_S for job in self._running):
                return
            key = next(iter(self._queue))
            read = self._queue.pop(key)
            job = _Job(read, self._take_hints(), now)
            self._running[job] = None
            self._jobs.put(job)

    def _take_hints(self) -> list[_Read]:
        hints = []
        for read in islice(self._queue.values(), HINTS_MAX):
            if read.was_tried and not read.is_hinted:
                read.is_hinted = True
                hints.append(read)
        return hints

    def _finish(self, job: _Job) -> None:
        del self._running[job]
        self._is_slow = time.monotonic() - job.started > SLOW_S
        read = job.read
        late = [waiter for waiter in read.waiters if waiter.since > job.started]
        read.waiters = [waiter for waiter in read.waiters if waiter.since <= job.started]
        self._deliver(read)
        if late:  # they may know of a deletion that this read has not seen
            again = self._reads[read.key] = self._queue[read.key] = _Read(read.key)
            again.waiters = late
            for waiter in late:
                waiter.read = again
        self._try_again()
        self._start_reads()

    def _try_again(self) -> None:
        """Read what the disk has fetched in the meantime, for at most `TRY_S`."""
        hits = 0
        until = time.monotonic() + TRY_S
        for read in [*islice(self._queue.values(), self._tries)]:
            if time.monotonic() > until:
                break
            try:
                read.do(nowait=True)
            except BlockingIOError:
                read.was_tried = True
            else:
                hits += 1
                del self._queue[read.key]
                self._deliver(read)
        # A slow disk, or a file system that never reads without waiting, gets few tries.
        self._tries = max(TRIES_MIN, min(TRIES_MAX, 4 * hits))

    def _deliver(self, read: _Read) -> None:
        del self._reads[read.key]
        for waiter in read.waiters:
            del self._waiters[waiter]
            waiter.latch.count_down()
        read.waiters.clear()

    def _fail(self, waiter: _Waiter, error: Exception) -> None:
        waiter.error = error
        self._forget(waiter)
        waiter.latch.count_down()

    def _forget(self, waiter: _Waiter) -> None:
        """Give up waiting.  A read that has started is finished, and its result thrown away."""
        del self._waiters[waiter]
        read = waiter.read
        read.waiters.remove(waiter)
        if not read.waiters and self._queue.pop(read.key, None) is not None:
            del self._reads[read.key]

    async def _watch_forever(self) -> None:
        """Start another thread when the running ones do not finish; end waits that last too long."""
        while True:
            if self._queue:
                await trio.sleep(SLOW_S)
                self._try_again()
                self._start_reads()
            else:
                self._is_watch_off = not self._waiters
                with trio.move_on_after(math.inf if self._is_watch_off else LOOK_S):
                    await self._watch.park()
                self._is_watch_off = False
            now = time.monotonic()
            while self._waiters and (waiter := next(iter(self._waiters))).deadline <= now:
                volume, needle_id, _ = waiter.read.key
                self._fail(
                    waiter,
                    ReadFailed(
                        f"volume {volume.volume_id}, needle {needle_id}: the disk has not answered for"
                        f" {DISK_S:g} s"
                    ),
                )

    # --- in threads -------------------------------------------------------------------------------

    def _read_in_thread(self, token: trio.lowlevel.TrioToken) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
            try:
                token.run_sync_soon(self._finish, job)
            except trio.RunFinishedError:
                return
            del job  # or the needle that it has read stays in memory until the next job


def _outcome(read: _Read, error: Exception | None) -> NeedleRead | None:
    if error is None:
        return read.needle
    try:
        raise error
    finally:
        del error, read  # or error and traceback keep each other, and the needle, alive
