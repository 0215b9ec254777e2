"""Cold reads: small needles that are not in memory, read by threads of our own, many with one visit.

A disk answers many reads at once much faster than one after the other, and going to a thread and back by
`trio.to_thread` costs more processor time than all else that a read needs.  So a read that misses is put
where a lane finds it, a thread that is there already and takes along all that has come by then: it tells the
kernel of all of them, which asks the disk at once, and then reads each.

    a good disk     one lane comes and goes; what has been read by one visit goes back together
    a slow disk     each read goes back as it comes, and a lane that does not come back gets company

Threads take the interpreter's lock from each other: more than one is worth it only while they wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from queue import SimpleQueue

import trio

from storage.needle import NeedleRead
from storage.volume import Volume
from transport.latch import Latch

LANES = 4  # threads: so many reads may be stuck at bad sectors before all others wait for them
READS_MAX = 32  # of one visit
VISIT_S = 0.005  # a visit that takes longer keeps nobody else waiting
DELIVER_S = 0.001  # what has been read waits no longer for others of its visit
CLOSE_S = 10.0  # for the reads that are still under way; then they are on their own


class _Read:
    __slots__ = ("error", "latch", "needle", "needle_id", "size_max", "volume")

    def __init__(self, volume: Volume, needle_id: int, size_max: int) -> None:
        self.volume = volume
        self.needle_id = needle_id
        self.size_max = size_max
        self.latch = Latch(1)
        self.needle: NeedleRead | None = None
        self.error: Exception | None = None

    def do(self) -> None:
        try:
            self.needle = self.volume.read_small(self.needle_id, self.size_max)
        except Exception as error:  # the asker's, whatever it is: a bug is to cost one request, not the lane
            self.error = error


class ColdReads:
    """The cold reads of one disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Read] = deque()
        self._busy_count = 0  # lanes that are called, or at work
        self._visit_count = 0
        self._calls: SimpleQueue[bool] = SimpleQueue()  # True: there is work; False: there will be none
        self._watch = trio.lowlevel.ParkingLot()
        self._is_running = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled, which lets the reads that have begun come to their end."""
        token = trio.lowlevel.current_trio_token()
        lanes = [
            threading.Thread(
                target=self._read_for_ever, args=(token,), name=f"cold reads {number}", daemon=True
            )
            for number in range(LANES)
        ]
        for lane in lanes:
            lane.start()
        self._is_running = True
        try:
            task_status.started()
            await self._watch_for_ever()
        finally:
            self._is_running = False
            self._waiting.clear()
            for _ in lanes:
                self._calls.put(False)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                for lane in lanes:
                    await trio.to_thread.run_sync(lane.join, abandon_on_cancel=True)

    async def _watch_for_ever(self) -> None:
        """Call another lane when those at work do not come back."""
        while True:
            while not self._waiting:
                await self._watch.park()
            visit_count = self._visit_count
            await trio.sleep(VISIT_S)
            if self._visit_count == visit_count:
                with self._lock:
                    is_wanted = bool(self._waiting) and self._busy_count < LANES
                    self._busy_count += is_wanted
                if is_wanted:
                    self._calls.put(True)

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
        """
        read = _Read(volume, needle_id, size_max)
        if self._is_running:
            with self._lock:
                self._waiting.append(read)
                is_first = not self._busy_count
                self._busy_count += is_first
            if is_first:
                self._calls.put(True)
            else:
                self._watch.unpark()
            await wait(read.latch)
        else:
            await trio.to_thread.run_sync(read.do)
        error, read.error = read.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or it and its traceback hold each other, and what was read with them
        return read.needle

    # --- in threads -------------------------------------------------------------------------------

    def _read_for_ever(self, token: trio.lowlevel.TrioToken) -> None:
        while self._calls.get():
            while reads := self._take():
                try:
                    _read_all(reads, token)
                except trio.RunFinishedError:
                    return

    def _take(self) -> list[_Read]:
        with self._lock:
            reads = [self._waiting.popleft() for _ in range(min(READS_MAX, len(self._waiting)))]
            self._visit_count += 1
            self._busy_count -= not reads
        return reads


def _read_all(reads: Sequence[_Read], token: trio.lowlevel.TrioToken) -> None:
    if len(reads) > 1:
        by_volume: dict[Volume, list[int]] = {}
        for read in reads:
            by_volume.setdefault(read.volume, []).append(read.needle_id)
        for volume, needle_ids in by_volume.items():
            volume.start_reading(needle_ids)
    done: list[_Read] = []
    started = time.monotonic()
    for read in reads:
        read.do()
        done.append(read)
        if time.monotonic() - started > DELIVER_S:
            token.run_sync_soon(_deliver, done)
            done, started = [], time.monotonic()
    if done:
        token.run_sync_soon(_deliver, done)


def _deliver(reads: Sequence[_Read]) -> None:
    for read in reads:
        read.latch.count_down()
