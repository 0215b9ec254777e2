"""One attempt at a verification: the compactor reads a volume, then the master cross-checks it."""

from __future__ import annotations

import time
from contextlib import suppress

import trio

from warehouse.actors.control.compactor_calls import CompactorCalls
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.cross_check import CrossCheck
from warehouse.actors.control.damage import DamageRegistry
from warehouse.actors.control.fleet_state import VolumeState
from warehouse.actors.control.job_peers import JobPeers
from warehouse.actors.control.job_state import OPERATOR, JobState
from warehouse.errors import StoreError
from warehouse.transport.messages import StartVerify, TaskState

CLEAN_UP_S = 10.0


class VerificationAttempts:
    def __init__(
        self,
        context: MasterContext,
        *,
        damage: DamageRegistry,
        cross_check: CrossCheck,
        compactors: CompactorCalls,
    ) -> None:
        self._context = context
        self._damage = damage
        self._cross_check = cross_check
        self._compactors = compactors

    async def attempt(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
        await self._read(job, volume, peers)
        missing = await self._cross_check.look(volume, peers.actor)
        job.damaged_count += len(missing)
        volume_id, started_ms = volume.volume_id, volume.verify_started_ms
        await self._context.writer.write(lambda t: t.set_verified(volume_id, started_ms))
        volume.verified(started_ms)
        if job.is_found_whole:
            await self._damage.replace(volume_id, [*job.found.values(), *missing])

    async def _read(self, job: JobState, volume: VolumeState, peers: JobPeers) -> None:
        """Have the compactor read the volume, from where an earlier attempt got to."""
        start = self._begin(job, volume)

        async def note(state: TaskState) -> None:
            await self._note_progress(job, volume, state)

        try:
            await self._compactors.start(job, peers, start)
            await self._compactors.poll(job, peers, start.task_id, note)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_S):
                await self._compactors.stop(peers, start.task_id)
                with suppress(StoreError):
                    await self._save_progress(volume)
            raise

    def _begin(self, job: JobState, volume: VolumeState) -> StartVerify:
        """Continue the pass that is under way, or begin one."""
        assert volume.report is not None
        generation = volume.report.generation
        # An operator who asks wants to know the state of now.  So for an operator only a pass counts that
        # began after the request, which a restart of the master interrupted.
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
        return StartVerify(
            incarnation=self._context.incarnation,
            task_id=self._compactors.next_attempt_id(),
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            generation=generation,
            start=volume.verify_offset,
            rate=self._compactors.rate_of(job),
        )

    async def _note_progress(self, job: JobState, volume: VolumeState, state: TaskState) -> None:
        """Take what the pass has found so far, and save from time to time how far it is."""
        news = [damage for damage in state.damages if (damage.needle_id or 0, damage.offset) not in job.found]
        await self._damage.add(volume.volume_id, news)
        job.found.update({(damage.needle_id or 0, damage.offset): damage for damage in news})
        if state.damaged_count > len(state.damages):
            job.is_found_whole = False  # a message cannot hold it all: absence from `found` proves nothing
        volume.verify_offset = max(volume.verify_offset, state.end_offset)  # 0 at first
        if time.monotonic() >= job.saved_at + self._context.intervals.save:
            job.saved_at = time.monotonic()
            await self._save_progress(volume)

    async def _save_progress(self, volume: VolumeState) -> None:
        await self._context.writer.write(
            lambda t: t.set_verify_progress(
                volume.volume_id,
                started_ms=volume.verify_started_ms,
                generation=volume.verify_generation,
                offset=volume.verify_offset,
            )
        )
