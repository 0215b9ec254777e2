"""Volumes: the open volumes of one disk, each with its commit pipeline.

A volume that cannot be opened keeps its disk running: the volume is listed in `broken`, with the cause, and
the others are served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import trio

from warehouse.actors.data.clock_skew import now_ms
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.errors import BadRequest, NoSuchVolume, SetupError, StampRefused, StoreError, VolumeSealed
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory, volume_ids
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.identity import LOCK_NAME, IdentityKeeper
from warehouse.storage.presence import Watch
from warehouse.storage.volume import Volume
from warehouse.transport.messages import DAMAGES_MAX, CreateVolume, NeedleDamage, VolumeReport

log = logging.getLogger(__name__)

WATCH_S = 2.0  # between checks that the open files are still where the next start will look for them


class DiskVolumes:
    """The volumes of one disk."""

    def __init__(
        self,
        disk: OsDisk,
        *,
        disk_name: str,
        is_read_only: bool,
        identity: IdentityKeeper | None,
        clock: StampClock,
        make_pipeline: Callable[[Volume], CommitPipeline],
    ) -> None:
        self._disk = disk
        self._disk_name = disk_name
        self._is_read_only = is_read_only
        self._identity = identity
        self._clock = clock
        self._make_pipeline = make_pipeline
        self.pipelines: dict[int, CommitPipeline] = {}
        self.broken: dict[int, str] = {}  # volumes that could not be opened, and why
        self._creating = trio.Lock()  # one volume is created at a time
        self._nursery: trio.Nursery | None = None
        self._displaced: str | None = None  # why no volume may be created on this disk any more
        self._checkpointed: dict[int, int] = {}  # volume -> file size at its latest checkpoint
        self._watch = Watch(
            {
                disk.root: "the disk's folder",
                disk.root / "volumes": "the folder of the volumes",
                disk.root / LOCK_NAME: "the disk's lock",
            }
        )

    # --- opening and closing ----------------------------------------------------------------------

    def open_all(self) -> None:
        """Open what is on the disk.  Blocks.

        Raises:
            SetupError: the disk itself cannot be read.
        """
        try:
            present = volume_ids(self._disk)
        except OSError as error:
            raise SetupError(f"cannot use the disk {self._disk_name}: {error}") from error
        for volume_id in present:
            try:
                volume = Volume.open(self._disk, volume_directory(volume_id), read_only=self._is_read_only)
            except NoSuchVolume as error:
                # Its creation was interrupted: the master orders it again.
                self._log_problem(logging.WARNING, "unfinished volume left alone", volume_id, error)
            except StoreError as error:
                self.broken[volume_id] = error.message
                self._log_problem(logging.ERROR, "volume not opened", volume_id, error)
            else:
                self._add(volume)
                _log_recovery(volume)

    def _add(self, volume: Volume) -> CommitPipeline:
        try:
            # Whether the stamp is too far ahead of the clocks is for the master to judge.
            self._clock.found(volume.stats().stamp_max)
        except StampRefused as error:
            self._log_problem(logging.ERROR, "volume has a stamp that cannot be", volume.volume_id, error)
        pipeline = self.pipelines[volume.volume_id] = self._make_pipeline(volume)
        return pipeline

    async def start(self, nursery: trio.Nursery) -> None:
        """Run the pipelines in this nursery, also those of volumes that are created later."""
        self._nursery = nursery
        for pipeline in self.pipelines.values():
            await nursery.start(pipeline.run)

    def close_all(self) -> None:
        """Close every volume, with a checkpoint.  Blocks."""
        for volume_id, pipeline in self.pipelines.items():
            try:
                pipeline.volume.close()
            except StoreError as error:
                self._log_problem(logging.ERROR, "volume not closed cleanly", volume_id, error)

    @staticmethod
    def _log_problem(level: int, event: str, volume_id: int, error: StoreError) -> None:
        log.log(level, event, extra={"volume_id": volume_id, "cause": error.message})

    # --- creating ---------------------------------------------------------------------------------

    async def create(self, request: CreateVolume) -> CommitPipeline:
        """Create a volume; the same request again returns the same volume.

        Raises:
            VolumeSealed: the disk's files are no longer where the next start will look for them.
            BadRequest: the volume exists with another uuid.
        """
        # The master repeats the request when an answer is late, while the first is still being carried out.
        # Two creations of the same files would overwrite each other.
        async with self._creating:
            pipeline = self.pipelines.get(request.volume_id)
            if pipeline is None:
                return await self._create(request)
            if pipeline.volume.uuid != request.uuid:
                raise BadRequest(f"volume {request.volume_id} exists here with another uuid")
            return pipeline

    async def _create(self, request: CreateVolume) -> CommitPipeline:
        if (problem := self._displaced or self._find_displaced()) is not None:
            raise VolumeSealed(f"no volume is made on disk {self._disk_name}: {problem}")
        volume = await trio.to_thread.run_sync(
            lambda: Volume.create(
                self._disk,
                f"volumes/{request.volume_id}",
                volume_id=request.volume_id,
                uuid=request.uuid,
                capacity=request.capacity,
                created_ms=now_ms(),
            )
        )
        pipeline = self._add(volume)
        assert self._nursery is not None
        self._nursery.start_soon(pipeline.run)
        log.info("volume created", extra={"volume_id": volume.volume_id, "capacity": volume.capacity})
        return pipeline

    # --- while they are open ----------------------------------------------------------------------

    async def checkpoint_all(self) -> None:
        """Checkpoint the volumes that have grown since their latest checkpoint."""
        for volume_id, pipeline in list(self.pipelines.items()):
            file_size = pipeline.volume.stats().file_size
            if self._checkpointed.get(volume_id) == file_size or pipeline.volume.sealed_cause is not None:
                continue
            try:
                await trio.to_thread.run_sync(pipeline.volume.checkpoint)
                self._checkpointed[volume_id] = file_size
            except StoreError as error:
                self._log_problem(logging.ERROR, "checkpoint failed", volume_id, error)

    async def watch_files_forever(self) -> None:
        """Seal volumes whose files are not where the next start will look: new needles would be lost."""
        while True:
            await trio.sleep(WATCH_S)
            volumes = [pipeline.volume for pipeline in self.pipelines.values()]
            writable = [volume for volume in volumes if volume.sealed_cause is None]
            self._displaced = await trio.to_thread.run_sync(self._find_displaced)
            for volume in writable:
                problem = self._displaced or await trio.to_thread.run_sync(volume.displaced, self._disk.root)
                if problem is not None:
                    volume.seal(problem)

    def _find_displaced(self) -> str | None:
        return self._watch.problem() or (self._identity.problem() if self._identity is not None else None)

    # --- what the master is told ------------------------------------------------------------------

    def reports(self) -> list[VolumeReport]:
        return [report_of(pipeline.volume) for pipeline in self.pipelines.values()]

    def damages(self) -> list[NeedleDamage]:
        """The needles known to be damaged; the master knows their names."""
        return [
            NeedleDamage(
                volume_id=damage.volume_id,
                offset=damage.offset,
                problem=damage.problem,
                needle_id=damage.needle_id,
            )
            for pipeline in self.pipelines.values()
            for damage in pipeline.volume.damages()
        ][:DAMAGES_MAX]


def _log_recovery(volume: Volume) -> None:
    recovery = volume.recovery
    if recovery.rebuilt_because or recovery.cut_bytes or recovery.torn or recovery.repairs:
        log.warning("volume recovered", extra=msgspec.structs.asdict(recovery))


def report_of(volume: Volume) -> VolumeReport:
    """What the master is told of a volume."""
    stats = volume.stats()
    return VolumeReport(
        volume_id=volume.volume_id,
        uuid=volume.uuid,
        generation=volume.generation,
        capacity=volume.capacity,
        file_size=stats.file_size,
        live_count=stats.live_count,
        live_bytes=stats.live_bytes,
        dead_bytes=stats.dead_bytes,
        needle_id_max=stats.needle_id_max,
        stamp_max=stats.stamp_max,
        sealed_cause=volume.sealed_cause,
        damaged_count=stats.damaged_count,
        dead_count=stats.dead_count,
        kept_bytes=stats.kept_bytes,
        created_ms=volume.created_ms,
        format=volume.format,
    )
