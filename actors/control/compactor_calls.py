"""CompactorCalls: has the compactor of a disk start its part of an attempt, report on it, and stop it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.job_peers import JobPeers
from warehouse.actors.control.job_state import JobState
from warehouse.errors import DeadlineExceeded, LinkDown, StoreError, from_code
from warehouse.transport.messages import Done, PollTask, StartCopy, StartVerify, StopTask, TaskState

FIRST_POLL_S = 0.02  # a small volume is done in no time; each interval is twice the one before
POLL_ANSWER_S = 15.0


class CompactorCalls:
    """
    Args:
        rate_of: bytes a second that a job may read and write now; 0: hold; None: unlimited.
    """

    def __init__(self, context: MasterContext, *, rate_of: Callable[[JobState], int | None]) -> None:
        self._context = context
        self.rate_of = rate_of
        self._attempt_ids = itertools.count(1)
        # By disk, an attempt whose compactor could not be told to stop.
        self._unstopped: dict[str, int] = {}

    def next_attempt_id(self) -> int:
        """The number by which the compactor knows the next attempt; on the wire it is a `task_id`."""
        return next(self._attempt_ids)

    async def start(self, job: JobState, peers: JobPeers, command: StartCopy | StartVerify) -> None:
        await rpc.call(peers.compactor, command, Done)
        self._context.events.record(
            f"{job.noun}_started",
            job_id=job.job_id,
            volume_id=job.volume_id,
            disk=job.disk_name,
            origin=job.origin,
            total_bytes=job.total_bytes,
        )

    async def poll(
        self,
        job: JobState,
        peers: JobPeers,
        attempt_id: int,
        note: Callable[[TaskState], Awaitable[None]],
    ) -> TaskState:
        """Poll the compactor until its part of the attempt is done, also while jobs are paused.

        Args:
            note: takes each report, before a failure that it tells of is raised.
        """
        told_at = time.monotonic()
        found_before = job.damaged_count
        pause_s = min(FIRST_POLL_S, self._context.intervals.poll)
        while True:
            peers.check()
            rate = self.rate_of(job)
            command = PollTask(incarnation=self._context.incarnation, task_id=attempt_id, rate=rate)
            state = await rpc.call(peers.compactor, command, TaskState, timeout_s=POLL_ANSWER_S)
            if state.total_bytes:  # 0 before it has begun
                job.progress(state.done_bytes, state.total_bytes, now=time.monotonic())
            job.damaged_count = found_before + state.damaged_count
            await note(state)
            if state.state == "failed":
                raise from_code(state.code or StoreError.code, state.message)
            if state.state == "done" and rate != 0:
                return state
            if time.monotonic() >= told_at + self._context.intervals.progress:
                told_at = time.monotonic()
                self._tell_progress(job)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._context.intervals.poll)

    async def stop(self, peers: JobPeers, attempt_id: int) -> None:
        """Have the compactor stop; one that is out of reach goes on, and hears of it when it is back."""
        try:
            command = StopTask(incarnation=self._context.incarnation, task_id=attempt_id)
            await rpc.call(peers.compactor, command, Done)
        except (LinkDown, DeadlineExceeded):
            self._unstopped[peers.disk.disk_id] = attempt_id
        except StoreError:
            pass  # the compactor does not know this attempt

    async def stop_earlier(self, peers: JobPeers) -> None:
        """Stop an earlier attempt on this disk whose compactor was out of reach."""
        if (attempt_id := self._unstopped.pop(peers.disk.disk_id, None)) is not None:
            await self.stop(peers, attempt_id)

    def _tell_progress(self, job: JobState) -> None:
        self._context.events.record(
            f"{job.noun}_progress",
            job_id=job.job_id,
            volume_id=job.volume_id,
            disk=job.disk_name,
            state=job.state.value,
            done_bytes=job.done_bytes,
            total_bytes=job.total_bytes,
            bytes_per_s=round(job.bytes_per_s, 1),
        )
