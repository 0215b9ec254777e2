"""Cold reads: small needles that are not in memory.

The event loop must not wait for a disk.  But a hop to a thread and back costs as much processor time as a
good disk takes for a read, and the threads take the interpreter's lock from each other.  So threads do as
little as can be: they wait.

    a read misses    it joins a queue; the kernel has begun to bring its bytes (recent Linux does when a read
                     that does not wait misses; others are told by a thread of what was tried again in vain)
    a lane goes      a thread that is there already reads the first of the queue, and so waits for the disk
    a lane is back   the loop tries others of the queue again: while one was waited for, the disk has brought
                     more.  Then a lane goes for the first that is still missing

One lane goes at a time, as long as it comes back soon.  On a disk that is slow, and beside a read that is
stuck, as many go as there are, and the loop tries the queue by itself every now and then.  Several requests
for one needle are one read; who came after it had begun gets one that began later.

Nobody waits longer than `DISK_S`.  How many may wait, the limit of connections says.  Loop and lanes tell
each other by one queue in each direction, and only the loop has a state.
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

LANES = 8  # threads: so many reads may be stuck at bad sectors before others wait for them
VISIT_S = 0.004  # a lane that takes longer is not waited for
TRIES_MIN, TRIES_MAX = 4, 64  # reads that are tried again when a lane is back
TRY_S = 0.002  # for how long they keep the loop
HINTS_MAX = 64  # of which the kernel is told by one lane
DISK_S = 20.0  # less than a client waits for an answer: it hears why there is none
LOOK_S = 0.5  # between two looks at those who wait, while all is under way
CLOSE_S = 5.0  # for the lanes that are under way; then they are on their own


class _Asker:
    __slots__ = ("deadline", "error", "latch", "read", "since")

    def __init__(self, read: _Read) -> None:
        self.read = read
        self.latch = Latch(1)
        self.since = time.monotonic()
        self.deadline = self.since + DISK_S
        self.error: Exception | None = None  # its own


class _Read:
    __slots__ = ("askers", "error", "is_hinted", "key", "needle", "was_tried")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.askers: list[_Asker] = []
        self.needle: NeedleRead | None = None
        self.error: Exception | None = None
        self.was_tried = False  # again, in vain
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
        except Exception as error:  # a bug: it is to cost those who asked, and not the lane
            log.exception("cold read failed", extra={"volume_id": volume.volume_id, "needle_id": needle_id})
            self.error = error.with_traceback(None)


_Key = tuple[Volume, int, int]  # needle id, most bytes


class _Visit:
    """What one lane does: a read, and before it hints."""

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
        self._reads: dict[_Key, _Read] = {}  # that wait or are under way
        self._queue: dict[_Key, _Read] = {}  # that wait
        self._askers: dict[_Asker, None] = {}  # the first to come first
        self._visits: dict[_Visit, None] = {}  # under way
        self._tries = TRIES_MIN
        self._is_slow = False  # the last lane took long
        self._lane_jobs: SimpleQueue[_Visit | None] = SimpleQueue()  # None: go home
        self._watch = trio.lowlevel.ParkingLot()
        self._is_watch_off = False
        self._is_running = False

    @property
    def waiting_count(self) -> int:
        """Reads that wait or are under way."""
        return len(self._reads)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled, which lets the reads that have begun come to their end."""
        token = trio.lowlevel.current_trio_token()
        lanes = [
            threading.Thread(target=self._go, args=(token,), name=f"cold reads {number}", daemon=True)
            for number in range(LANES)
        ]
        for lane in lanes:
            lane.start()
        self._is_running = True
        try:
            task_status.started()
            await self._watch_forever()
        finally:
            self._is_running = False
            for asker in list(self._askers):
                self._fail(asker, ReadFailed("the volume actor is stopping"))
            for _ in lanes:
                self._lane_jobs.put(None)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                for lane in lanes:
                    await trio.to_thread.run_sync(lane.join, abandon_on_cancel=True)

    async def read(
        self,
        volume: Volume,
        needle_id: int,
        size_max: int,
        wait: Callable[[Latch], Awaitable[None]] = Latch.wait,
    ) -> NeedleRead | None:
        """As `Volume.read_small`.

        Args:
            wait: how the caller sleeps.
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
        asker = _Asker(read)
        read.askers.append(asker)
        self._askers[asker] = None
        if known is None:
            self._reads[key] = self._queue[key] = read
            self._send()
        if self._queue or self._is_watch_off:
            self._watch.unpark()
        try:
            await wait(asker.latch)
        finally:
            if asker in self._askers:  # the asker gave up
                self._forget(asker)
        # Each gets an error of its own: it will carry the way it takes.
        return _outcome(asker.read, asker.error or copy.copy(asker.read.error))

    # --- in the event loop ------------------------------------------------------------------------

    def _send(self) -> None:
        """Have a lane go for the first of the queue, if it is time for one."""
        now = time.monotonic()
        while self._queue and len(self._visits) < LANES:
            if not self._is_slow and any(now - visit.started < VISIT_S for visit in self._visits):
                return
            key = next(iter(self._queue))
            read = self._queue.pop(key)
            visit = _Visit(read, self._take_hints(), now)
            self._visits[visit] = None
            self._lane_jobs.put(visit)

    def _take_hints(self) -> list[_Read]:
        hints = []
        for read in islice(self._queue.values(), HINTS_MAX):
            if read.was_tried and not read.is_hinted:
                read.is_hinted = True
                hints.append(read)
        return hints

    def _came_back(self, visit: _Visit) -> None:
        del self._visits[visit]
        self._is_slow = time.monotonic() - visit.started > VISIT_S
        read = visit.read
        late = [asker for asker in read.askers if asker.since > visit.started]
        read.askers = [asker for asker in read.askers if asker.since <= visit.started]
        self._deliver(read)
        if late:  # what the lane has read may be older than what they know: a deletion, say
            again = self._reads[read.key] = self._queue[read.key] = _Read(read.key)
            again.askers = late
            for asker in late:
                asker.read = again
        self._try_again()
        self._send()

    def _try_again(self) -> None:
        """Read what the disk has brought meanwhile, for as long as the loop may be kept."""
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
        # Where tries are in vain (a slow disk, a file system that never reads without waiting) there are few.
        self._tries = max(TRIES_MIN, min(TRIES_MAX, 4 * hits))

    def _deliver(self, read: _Read) -> None:
        del self._reads[read.key]
        for asker in read.askers:
            del self._askers[asker]
            asker.latch.count_down()
        read.askers.clear()

    def _fail(self, asker: _Asker, error: Exception) -> None:
        asker.error = error
        self._forget(asker)
        asker.latch.count_down()

    def _forget(self, asker: _Asker) -> None:
        """What is under way comes to its end all the same, and whoever asks for that waits for it first."""
        del self._askers[asker]
        read = asker.read
        read.askers.remove(asker)
        if not read.askers and self._queue.pop(read.key, None) is not None:
            del self._reads[read.key]

    async def _watch_forever(self) -> None:
        """Have another lane go when those that went do not come back; let nobody wait forever."""
        while True:
            if self._queue:
                await trio.sleep(VISIT_S)
                self._try_again()
                self._send()
            else:
                self._is_watch_off = not self._askers
                with trio.move_on_after(math.inf if self._is_watch_off else LOOK_S):
                    await self._watch.park()
                self._is_watch_off = False
            now = time.monotonic()
            while self._askers and (asker := next(iter(self._askers))).deadline <= now:
                volume, needle_id, _ = asker.read.key
                self._fail(
                    asker,
                    ReadFailed(
                        f"volume {volume.volume_id}, needle {needle_id}: the disk has not answered for"
                        f" {DISK_S:g} s"
                    ),
                )

    # --- in threads -------------------------------------------------------------------------------

    def _go(self, token: trio.lowlevel.TrioToken) -> None:
        while (visit := self._lane_jobs.get()) is not None:
            visit.do()
            try:
                token.run_sync_soon(self._came_back, visit)
            except trio.RunFinishedError:
                return
            del visit  # or what it has read stays until the next


def _outcome(read: _Read, error: Exception | None) -> NeedleRead | None:
    if error is None:
        return read.needle
    try:
        raise error
    finally:
        del error, read  # or error and traceback hold each other, and what was read with them
