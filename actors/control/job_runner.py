"""JobRunner: one attempt at a job, as one conversation of the master with the two actors of a disk.

    compaction                                          verification
    volume actor   DeleteNeedles ... (garbage)          compactor      StartVerify
                   DropGeneration (leftovers)                          PollTask ... until it is done
                   BeginCompaction                      volume actor   ListLive ... (cross-check)
    compactor      StartCopy                (copy)
                   PollTask ... until it is done
    volume actor   SwitchGeneration ... until it is done  (switch)

An attempt belongs to the two connections that it began with, and ends with either of them.  The next attempt
starts from the beginning (a compaction) or from the last saved progress (a verification).

Until the master asks for the switch, a failed attempt removes the copy, and the volume is as it was.  From
then on only the volume actor knows which generation is current, so the master no longer tells the compactor
to remove anything.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.cross_check import CrossCheck
from warehouse.actors.control.damage import DamageRegistry
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.actors.control.job_policy import gives_next_to_nothing
from warehouse.actors.control.job_state import COMPACT, OPERATOR, JobState, State
from warehouse.actors.control.tombstones import write_tombstones
from warehouse.conf.formatting import format_size
from warehouse.errors import (
    CompactorOffline,
    DeadlineExceeded,
    LinkDown,
    NoRoomToCompact,
    StoreError,
    VolumeOffline,
    from_code,
)
from warehouse.storage.compaction.free_space import free_bytes_needed
from warehouse.transport.messages import (
    BeginCompaction,
    CompactionBegun,
    Done,
    DropGeneration,
    GenerationSwitched,
    PollTask,
    StartCopy,
    StartVerify,
    StopTask,
    SwitchGeneration,
    TaskState,
)
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

FIRST_POLL_S = 0.02  # a small volume is done in no time; each interval is twice the one before
POLL_ANSWER_S = 15.0
SWITCH_ANSWER_S = 60.0  # a volume actor answers one step of a switch within seconds
SWITCH_PAUSE_S = 0.02  # between two steps
CLEAN_UP_S = 10.0


@dataclass(frozen=True)
class JobPeers:
    """The two connections that an attempt depends on."""

    disk: DiskState
    actor: Peer
    compactor: Peer

    @classmethod
    def of(cls, disk: DiskState) -> JobPeers:
        if disk.peer is None:
            raise VolumeOffline(f"disk {disk.name} is offline")
        if disk.compactor is None:
            raise CompactorOffline(f"no compactor is connected for disk {disk.name}")
        return cls(disk, disk.peer, disk.compactor)

    def check_actor(self) -> None:
        """
        Raises:
            LinkDown: the volume actor went away, or another process has its place.
        """
        if self.disk.peer is not self.actor:
            raise LinkDown(f"the volume actor of {self.disk.name} went away, or was started again")

    def check(self) -> None:
        """
        Raises:
            LinkDown: one of the two went away, or another process has its place.
        """
        self.check_actor()
        if self.disk.compactor is not self.compactor:
            raise LinkDown(f"the compactor of {self.disk.name} went away, or was started again")


class JobRunner:
    """
    Args:
        rate_of: bytes a second that a job may read and write now; 0: hold; None: unlimited.
    """

    def __init__(
        self,
        context: MasterContext,
        *,
        damage: DamageRegistry,
        cross_check: CrossCheck,
        rate_of: Callable[[JobState], int | None],
    ) -> None:
        self._context = context
        self._damage = damage
        self._cross_check = cross_check
        self._rate_of = rate_of
        self._attempt_ids = itertools.count(1)
        # By disk, an attempt whose compactor could not be told to stop.
        self._unstopped: dict[str, int] = {}

    async def attempt(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
        """Make one attempt at a job, and note in the job what it achieved.

        Raises:
            LinkDown, VolumeOffline, ...: an actor went away: try again when the actor is back.
            StoreError: the attempt failed.
        """
        if (unstopped := self._unstopped.pop(job.disk_id, None)) is not None:
            await self._stop(peers, unstopped)
        if job.work == COMPACT:
            await self._compact(job, volume, peers)
        else:
            await self._verify(job, volume, peers)

    # --- compaction -------------------------------------------------------------------------------

    async def _compact(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
        assert volume.report is not None
        if 0 < job.switched_from < volume.report.generation:
            # An earlier attempt switched, and only the answer was lost.
            job.freed_bytes = max(0, job.size_before - volume.report.file_size)
            return
        job.switched_from = 0
        job.begin_attempt(now_ms=now_ms())
        job.damaged_count = 0
        while await write_tombstones(self._context, peers.actor, volume):  # garbage should not be copied
            peers.check()
        if volume.report.dead_bytes == 0:
            job.message = "there is nothing to give back"
            return
        if not job.is_forced and gives_next_to_nothing(volume.report.file_size, volume.report.dead_bytes):
            job.message = (
                f"left alone: it would give back {format_size(volume.report.dead_bytes)} of"
                f" {format_size(volume.report.file_size)}; name the volume, or use --force"
            )
            return
        is_switching = False
        attempt_id = next(self._attempt_ids)
        try:
            begun = await self._begin_copy(job, volume, peers, attempt_id)
            state = await self._poll(job, volume, peers, attempt_id)
            job.move_to(State.SWITCHING)
            is_switching = True
            job.switched_from, job.size_before = begun.generation, volume.file_size
            switched = await self._switch(volume, peers, begun.generation + 1, state.end_offset)
        except BaseException:
            await self._clean_up(volume, peers, None if is_switching else attempt_id)
            raise
        freed_bytes = switched.freed_bytes
        if freed_bytes is None:  # an older actor does not tell: assume that nobody wrote meanwhile
            freed_bytes = job.size_before - switched.report.file_size
        job.freed_bytes = max(0, freed_bytes)
        job.pause_ms = switched.pause_ms
        await self._note_compacted(job, volume, state)

    async def _begin_copy(
        self, job: JobState, volume: VolumeState, peers: JobPeers, attempt_id: int
    ) -> CompactionBegun:
        incarnation, volume_id = self._context.incarnation, volume.volume_id
        horizon = await trio.to_thread.run_sync(self._context.catalog.tombstone_horizon)
        leftovers = DropGeneration(incarnation=incarnation, volume_id=volume_id)
        await rpc.call(peers.actor, leftovers, Done)
        begin = BeginCompaction(incarnation=incarnation, volume_id=volume_id)
        begun = await rpc.call(peers.actor, begin, CompactionBegun)
        self._context.fleet.take_report(volume, begun.report)
        report = begun.report
        needed = free_bytes_needed(
            live_bytes=report.live_bytes,
            kept_bytes=report.kept_bytes,
            live_count=report.live_count,
            dead_count=report.dead_count,
            needle_id_max=report.needle_id_max,
        )
        if needed > begun.disk_free:
            raise NoRoomToCompact(
                f"the copy of volume {volume_id} needs {format_size(needed)}, and disk {peers.disk.name} has"
                f" {format_size(begun.disk_free)} free: delete files there that are not Warehouse's, or add"
                " a disk"
            )
        job.total_bytes = begun.end_offset
        start = StartCopy(
            incarnation=incarnation,
            task_id=attempt_id,
            volume_id=volume_id,
            uuid=volume.uuid,
            generation=begun.generation,
            end_offset=begun.end_offset,
            horizon=horizon,
            rate=self._rate_of(job),
        )
        await rpc.call(peers.compactor, start, Done)
        self._started(job)
        return begun

    async def _switch(
        self, volume: VolumeState, peers: JobPeers, generation: int, end_offset: int
    ) -> GenerationSwitched:
        command = SwitchGeneration(
            incarnation=self._context.incarnation,
            volume_id=volume.volume_id,
            generation=generation,
            end_offset=end_offset,
        )
        while True:
            peers.check_actor()  # the compactor has done its part
            # A cancelled job ends between two steps, because the master must know the outcome of each.
            with trio.CancelScope(shield=True):
                answer = await rpc.call(peers.actor, command, GenerationSwitched, timeout_s=SWITCH_ANSWER_S)
            self._context.fleet.take_report(volume, answer.report)
            if answer.is_done:
                return answer
            await trio.sleep(SWITCH_PAUSE_S)

    async def _note_compacted(self, job: JobState, volume: VolumeState, state: TaskState) -> None:
        """Count the compaction as a verification: its copy has read and checked every live needle."""
        volume_id, started_ms = volume.volume_id, job.started_ms
        try:
            await self._context.writer.write(lambda t: t.set_verified(volume_id, started_ms))
            volume.verified(started_ms)
            if state.damaged_count <= len(state.damages):
                await self._damage.replace(volume_id, state.damages, keep_missing=True)
        except StoreError as error:  # the switch took place, so the compaction is done all the same
            log.error("compaction not written down", extra={"volume_id": volume_id, "cause": error.message})

    async def _clean_up(self, volume: VolumeState, peers: JobPeers, attempt_id: int | None) -> None:
        """Leave the volume as it was.  What fails here, the next start of the volume actor does."""
        incarnation = self._context.incarnation
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_S):
            if attempt_id is not None:
                await self._stop(peers, attempt_id)
            with suppress(StoreError):
                drop = DropGeneration(incarnation=incarnation, volume_id=volume.volume_id)
                await rpc.call(peers.actor, drop, Done)

    # --- verification -----------------------------------------------------------------------------

    async def _verify(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
        assert volume.report is not None
        generation = volume.report.generation
        # A pass that has begun continues.  An operator who asks wants to know the state of now, so for an
        # operator only a pass counts that began after the request (and before a restart of the master).
        is_resumed = volume.verify_generation == generation and volume.verify_started_ms >= (
            job.created_ms if job.origin == OPERATOR else 1
        )
        if not is_resumed:
            volume.verify_started_ms, volume.verify_offset = now_ms(), 0
            volume.verify_generation = generation
            job.found.clear()
            job.is_found_whole, job.damaged_count = True, 0
        job.begin_attempt(now_ms=now_ms())
        job.done_bytes, job.total_bytes = volume.verify_offset, volume.report.file_size
        attempt_id = next(self._attempt_ids)
        start = StartVerify(
            incarnation=self._context.incarnation,
            task_id=attempt_id,
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            generation=generation,
            start=volume.verify_offset,
            rate=self._rate_of(job),
        )
        try:
            await rpc.call(peers.compactor, start, Done)
            self._started(job)
            await self._poll(job, volume, peers, attempt_id)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_S):
                await self._stop(peers, attempt_id)
                with suppress(StoreError):
                    await self._save_progress(volume)
            raise
        missing = await self._cross_check.look(volume, peers.actor)
        job.damaged_count += len(missing)
        volume_id, started_ms = volume.volume_id, volume.verify_started_ms
        await self._context.writer.write(lambda t: t.set_verified(volume_id, started_ms))
        volume.verified(started_ms)
        if job.is_found_whole:
            await self._damage.replace(volume_id, [*job.found.values(), *missing])

    async def _save_progress(self, volume: VolumeState) -> None:
        await self._context.writer.write(
            lambda t: t.set_verify_progress(
                volume.volume_id,
                started_ms=volume.verify_started_ms,
                generation=volume.verify_generation,
                offset=volume.verify_offset,
            )
        )

    async def _note_verified(self, job: JobState, volume: VolumeState, state: TaskState) -> None:
        """Take what a verification has found so far, and save from time to time how far it is."""
        news = [damage for damage in state.damages if (damage.needle_id or 0, damage.offset) not in job.found]
        await self._damage.add(volume.volume_id, news)
        job.found.update({(damage.needle_id or 0, damage.offset): damage for damage in news})
        if state.damaged_count > len(state.damages):
            job.is_found_whole = False  # a message cannot hold it all: absence from `found` proves nothing
        volume.verify_offset = max(volume.verify_offset, state.end_offset)  # 0 at first
        if time.monotonic() >= job.saved_at + self._context.intervals.save:
            job.saved_at = time.monotonic()
            await self._save_progress(volume)

    # --- both -------------------------------------------------------------------------------------

    async def _poll(self, job: JobState, volume: VolumeState, peers: JobPeers, attempt_id: int) -> TaskState:
        """Poll the compactor until its part of the attempt is done, also while jobs are paused."""
        told_at = time.monotonic()
        found_before = job.damaged_count
        pause_s = min(FIRST_POLL_S, self._context.intervals.poll)
        while True:
            peers.check()
            rate = self._rate_of(job)
            poll = PollTask(incarnation=self._context.incarnation, task_id=attempt_id, rate=rate)
            state = await rpc.call(peers.compactor, poll, TaskState, timeout_s=POLL_ANSWER_S)
            if state.total_bytes:  # 0 before it has begun
                job.progress(state.done_bytes, state.total_bytes, now=time.monotonic())
            job.damaged_count = found_before + state.damaged_count
            if job.work == COMPACT:
                await self._damage.add(volume.volume_id, state.damages)
            else:
                await self._note_verified(job, volume, state)
            if state.state == "failed":
                raise from_code(state.code or StoreError.code, state.message)
            if state.state == "done" and rate != 0:
                return state
            if time.monotonic() >= told_at + self._context.intervals.progress:
                told_at = time.monotonic()
                self._tell_progress(job)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._context.intervals.poll)

    async def _stop(self, peers: JobPeers, attempt_id: int) -> None:
        """Have the compactor stop; one that is out of reach goes on, and hears of it when it is back."""
        try:
            stop = StopTask(incarnation=self._context.incarnation, task_id=attempt_id)
            await rpc.call(peers.compactor, stop, Done)
        except (LinkDown, DeadlineExceeded):
            self._unstopped[peers.disk.disk_id] = attempt_id
        except StoreError:
            pass  # the compactor does not know this attempt

    def _started(self, job: JobState) -> None:
        self._context.events.record(
            f"{job.noun}_started",
            job_id=job.job_id,
            volume_id=job.volume_id,
            disk=job.disk_name,
            origin=job.origin,
            total_bytes=job.total_bytes,
        )

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
