"""Commands: what the master tells a volume actor to do, carried out.

    CreateVolume                              a new volume
    DeleteNeedles, RestampNeedle              tombstones and fresh stamps, durable before the answer
    RecordBuckets                             the buckets' names, durable before the answer
    ListLive                                  which needles are live, for the cross-check
    KeysRevoked                               API keys whose older tokens count no more
    LimitKeys                                 API keys whose requests are held to limits (`disk_throttle.py`)
    ReplaceTokenKeys                          the secrets were rotated: only tokens of these keys count
    BeginCompaction, SwitchGeneration,
    DropGeneration                            the volume owner's part of a compaction (`switching.py`)

Each may come more than once, because answers can be lost, and is answered the same each time.  A command of
a master that this disk is not registered with is refused.  On a full disk ballast is released, and the
command is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import assert_never

import trio

from warehouse.actors.data.clock_skew import now_ms, require_stamps
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.disk_space import DiskSpace
from warehouse.actors.data.disk_throttle import DiskThrottle
from warehouse.actors.data.switching import Switching
from warehouse.actors.data.volumes import DiskVolumes, report_of
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.errors import BadRequest, DiskFull, NoSuchVolume, StaleIncarnation
from warehouse.storage.format.needle import BucketRecord
from warehouse.storage.format.stamp import StampClock
from warehouse.transport.messages import (
    LIVE_LISTED_MAX,
    Answer,
    BeginCompaction,
    BucketsRecorded,
    CompactionBegun,
    CreateVolume,
    DeleteNeedles,
    Done,
    DropGeneration,
    GenerationSwitched,
    KeysRevoked,
    LimitKeys,
    ListLive,
    LiveListed,
    NeedleRestamped,
    NeedlesDeleted,
    RecordBuckets,
    ReplaceTokenKeys,
    Request,
    RestampNeedle,
    SwitchGeneration,
    VolumeCommand,
    VolumeCreated,
)

log = logging.getLogger(__name__)

DELETES_IN_A_ROW = 50  # then readers get a turn of the event loop

# The commands about a volume that exists.
PipelineCommand = (
    RestampNeedle
    | DeleteNeedles
    | RecordBuckets
    | ListLive
    | BeginCompaction
    | SwitchGeneration
    | DropGeneration
)


class Commands:
    """Carries out the master's commands on one disk."""

    def __init__(
        self,
        volumes: DiskVolumes,
        switching: Switching,
        space: DiskSpace,
        clock: StampClock,
        master_incarnation: Callable[[], int],
        verifier: DataTokenVerifier,
        throttle: DiskThrottle | None = None,
    ) -> None:
        """
        Args:
            verifier: of the tokens of this disk.
            throttle: holds keys to their limits.
            master_incarnation: that of the master which this disk is registered with.
        """
        self._volumes = volumes
        self._switching = switching
        self._throttle = throttle or DiskThrottle()
        self._space = space
        self._clock = clock
        self._master_incarnation = master_incarnation
        self._verifier = verifier

    async def answer(self, request: Request) -> Answer:
        if not isinstance(request, VolumeCommand):
            raise BadRequest(f"a volume actor does not answer {type(request).__name__}")
        registered_with = self._master_incarnation()
        if request.incarnation != registered_with:
            raise StaleIncarnation(
                f"registered with master {registered_with:x}, this came from {request.incarnation:x}"
            )
        if isinstance(request, KeysRevoked):
            self._verifier.revoke(request.epochs)
            return Done()
        if isinstance(request, LimitKeys):
            self._throttle.replace(request.limits)
            return Done()
        if isinstance(request, ReplaceTokenKeys):
            self._verifier.replace_keys(request.token_keys)
            return Done()
        if isinstance(request, CreateVolume):
            pipeline = await self._volumes.create(request)
            return VolumeCreated(report=report_of(pipeline.volume))
        existing = self._volumes.pipelines.get(request.volume_id)
        if existing is None:
            raise NoSuchVolume(f"volume {request.volume_id} is not on this disk")
        return await self._carry_out_with_ballast(existing, request)

    async def _carry_out_with_ballast(self, pipeline: CommitPipeline, request: PipelineCommand) -> Answer:
        while True:
            try:
                return await self._carry_out(pipeline, request)
            except DiskFull as error:
                # A switch has already thrown its copy away.  Every other command can be tried again.
                if isinstance(request, SwitchGeneration) or not await self._space.give_up_ballast():
                    raise
                log.warning("ballast given up: the disk is full", extra={"cause": error.message})

    async def _carry_out(self, pipeline: CommitPipeline, request: PipelineCommand) -> Answer:
        match request:
            case RestampNeedle():
                return await self._restamp(pipeline, request)
            case DeleteNeedles():
                return await self._delete(pipeline, request)
            case RecordBuckets():
                return await self._record_buckets(pipeline, request)
            case ListLive():
                return await self._list_live(pipeline, request)
            case BeginCompaction():
                return await self._begin_compaction(pipeline)
            case SwitchGeneration():
                return await self._switch(pipeline, request)
            case DropGeneration():
                await self._switching.drop(pipeline)
                return Done()
            case _:
                assert_never(request)

    # --- writing small records --------------------------------------------------------------------

    async def _restamp(self, pipeline: CommitPipeline, request: RestampNeedle) -> NeedleRestamped:
        require_stamps(self._clock, request.restamp_above)
        await pipeline.pass_write_barrier()
        stamp = self._clock.tick(now_ms())
        pipeline.volume.restamp(request.needle_id, stamp=stamp)
        await pipeline.make_durable()
        return NeedleRestamped(stamp=stamp)

    async def _delete(self, pipeline: CommitPipeline, request: DeleteNeedles) -> NeedlesDeleted:
        require_stamps(self._clock, request.stamp, *(stamp for _, stamp in request.needles))
        object_deleted = frozenset(request.object_deleted)
        for number, (needle_id, stamp) in enumerate(request.needles):
            await pipeline.pass_write_barrier()
            pipeline.volume.delete(needle_id, stamp=stamp, object_deleted=needle_id in object_deleted)
            if number % DELETES_IN_A_ROW == DELETES_IN_A_ROW - 1:
                await trio.lowlevel.checkpoint()
        await pipeline.make_durable()
        return NeedlesDeleted(report=report_of(pipeline.volume))

    async def _record_buckets(self, pipeline: CommitPipeline, request: RecordBuckets) -> BucketsRecorded:
        require_stamps(self._clock, *(note.stamp for note in request.notes))
        for note in request.notes:
            await pipeline.pass_write_barrier()
            record = BucketRecord(
                note.bucket_id,
                note.name,
                note.created_ms,
                note.is_deleted,
                note.owner_id,
                note.is_lock_enabled,
                note.region,
                note.configs,
            )
            pipeline.volume.record_bucket(record, stamp=note.stamp)
        await pipeline.make_durable()
        return BucketsRecorded(report=report_of(pipeline.volume))

    # --- reading ----------------------------------------------------------------------------------

    async def _list_live(self, pipeline: CommitPipeline, request: ListLive) -> LiveListed:
        if not 1 <= request.count <= LIVE_LISTED_MAX or not 1 <= request.first_id < 2**32:
            raise BadRequest(f"1 to {LIVE_LISTED_MAX} needles can be listed at once, not {request.count}")
        require_stamps(self._clock, request.stamp)
        volume = pipeline.volume
        bitmap = await trio.to_thread.run_sync(volume.live_bitmap, request.first_id, request.count)
        return LiveListed(bitmap=bitmap, needle_id_max=volume.stats().needle_id_max)

    # --- compaction -------------------------------------------------------------------------------

    async def _begin_compaction(self, pipeline: CommitPipeline) -> CompactionBegun:
        volume = pipeline.volume
        await self._switching.drop(pipeline)  # of an earlier attempt whose master did not see its end
        await self._space.make_room_for_copy(volume)
        end_offset = await trio.to_thread.run_sync(volume.begin_compaction)
        return CompactionBegun(
            generation=volume.generation,
            end_offset=end_offset,
            report=report_of(volume),
            disk_free=self._space.free_bytes(),
        )

    async def _switch(self, pipeline: CommitPipeline, request: SwitchGeneration) -> GenerationSwitched:
        done = await self._switching.switch(
            pipeline, generation=request.generation, end_offset=request.end_offset
        )
        return GenerationSwitched(
            is_done=done.is_done,
            remaining_bytes=done.remaining_bytes,
            pause_ms=done.pause_ms,
            report=report_of(pipeline.volume),
            freed_bytes=done.freed_bytes,
        )
