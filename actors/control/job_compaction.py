"""One attempt at a compaction: the compactor's copy, then the volume actor's switch."""

from __future__ import annotations

import logging
from contextlib import suppress

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.compactor_calls import CompactorCalls
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.damage import DamageRegistry
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.actors.control.job_peers import JobPeers
from warehouse.actors.control.job_policy import gives_next_to_nothing
from warehouse.actors.control.job_state import JobState, State
from warehouse.actors.control.tombstones import write_tombstones
from warehouse.conf.formatting import format_size
from warehouse.errors import NoRoomToCompact, StoreError
from warehouse.storage.compaction.free_space import free_bytes_needed
from warehouse.transport.messages import (
    BeginCompaction,
    CompactionBegun,
    Done,
    DropGeneration,
    GenerationSwitched,
    StartCopy,
    SwitchGeneration,
    TaskState,
    VolumeReport,
)

log = logging.getLogger(__name__)

SWITCH_ANSWER_S = 60.0  # a volume actor answers one step of a switch within seconds
SWITCH_PAUSE_S = 0.02  # between two steps
CLEAN_UP_S = 10.0


class CompactionAttempts:
    def __init__(self, context: MasterContext, *, damage: DamageRegistry, compactors: CompactorCalls) -> None:
        self._context = context
        self._damage = damage
        self._compactors = compactors

    async def attempt(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
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
        if (why := _why_left_alone(job, volume.report)) is not None:
            job.message = why
            return
        copied, switched = await self._copy_and_switch(job, volume, peers)
        freed_bytes = switched.freed_bytes
        if freed_bytes is None:  # an older actor does not tell: assume that nobody wrote meanwhile
            freed_bytes = job.size_before - switched.report.file_size
        job.freed_bytes = max(0, freed_bytes)
        job.pause_ms = switched.pause_ms
        await self._note_verified(job, volume, copied)

    async def _copy_and_switch(
        self, job: JobState, volume: VolumeState, peers: JobPeers
    ) -> tuple[TaskState, GenerationSwitched]:
        is_switching = False
        attempt_id = self._compactors.next_attempt_id()

        async def note(state: TaskState) -> None:
            await self._damage.add(volume.volume_id, state.damages)

        try:
            begun = await self._begin_copy(job, volume, peers, attempt_id)
            copied = await self._compactors.poll(job, peers, attempt_id, note)
            job.move_to(State.SWITCHING)
            is_switching = True
            job.switched_from, job.size_before = begun.generation, volume.file_size
            switched = await self._switch(volume, peers, begun.generation + 1, copied.end_offset)
        except BaseException:
            await self._clean_up(volume, peers, None if is_switching else attempt_id)
            raise
        return copied, switched

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
        _require_room(begun, peers.disk)
        job.total_bytes = begun.end_offset
        start = StartCopy(
            incarnation=incarnation,
            task_id=attempt_id,
            volume_id=volume_id,
            uuid=volume.uuid,
            generation=begun.generation,
            end_offset=begun.end_offset,
            horizon=horizon,
            rate=self._compactors.rate_of(job),
        )
        await self._compactors.start(job, peers, start)
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

    async def _note_verified(self, job: JobState, volume: VolumeState, state: TaskState) -> None:
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
        """Leave the volume as it was.  What fails here, the next start of the volume actor does.

        Args:
            attempt_id: what the compactor has to stop; None: the volume actor is switching already.
        """
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_S):
            if attempt_id is not None:
                await self._compactors.stop(peers, attempt_id)
            with suppress(StoreError):
                drop = DropGeneration(incarnation=self._context.incarnation, volume_id=volume.volume_id)
                await rpc.call(peers.actor, drop, Done)


def _why_left_alone(job: JobState, report: VolumeReport) -> str | None:
    """Why this volume is not worth a copy; None: it is."""
    if report.dead_bytes == 0:
        return "there is nothing to give back"
    if job.is_forced or not gives_next_to_nothing(report.file_size, report.dead_bytes):
        return None
    return (
        f"left alone: it would give back {format_size(report.dead_bytes)} of"
        f" {format_size(report.file_size)}; name the volume, or use --force"
    )


def _require_room(begun: CompactionBegun, disk: DiskState) -> None:
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
            f"the copy of volume {report.volume_id} needs {format_size(needed)}, and disk {disk.name} has"
            f" {format_size(begun.disk_free)} free: delete files there that are not Warehouse's, or add"
            " a disk"
        )
