"""Provisioner: sees that every disk that is online has what it needs.

A disk needs open volumes with room, needle ids that the catalog has reserved, tombstones for its garbage, and
records of the buckets.  Each of these has a task of its own on each disk, from the disk's registration until
the disk goes, so that a task that hangs or fails delays no other.  All sleep until somebody wakes them:

    needle ids, volumes   `VolumeMaker`      `FleetRoom.on_need`, when its sums say that a disk runs short
    tombstones            `TombstoneWriter`  `CatalogWriter.on_garbage`, with the volumes in which a
                                             transaction made garbage
    bucket records        `BucketRecorder`   `note_buckets`, when a bucket came or went

So the cost of a commit does not depend on the number of disks and volumes.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.backoff import RETRY_S_MAX, Backoff
from warehouse.actors.control.bucket_records import BucketRecorder
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.disk_troubles import tell_missing, tell_whether_in_doubt
from warehouse.actors.control.fleet_state import (
    IDS_STEP_FIRST,
    IDS_STEP_MAX,
    NEEDLE_ID_MAX,
    DiskState,
    VolumeState,
)
from warehouse.actors.control.tombstones import TombstoneWriter
from warehouse.catalog.interface import Transaction
from warehouse.errors import DiskFull, RequestRefused, StoreError
from warehouse.transport.messages import CreateVolume, VolumeCreated
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)


class Provisioner:
    """Owns the tasks of all disks that are online; `run` is their nursery."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._fleet = context.fleet
        self._online: dict[str, _OnlineDisk] = {}
        self._nursery: trio.Nursery | None = None
        self._fleet.room.on_need = self._wake_maker
        context.writer.on_garbage = self.note_garbage

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Provision disks until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, disk: DiskState, peer: Peer, broken: Mapping[int, str]) -> None:
        """Provision `disk`, which is online through `peer`; the tasks of its earlier connection stop.

        Args:
            broken: volumes that the actor could not open, and why.
        """
        self.stop(disk.disk_id)
        assert self._nursery is not None
        online = self._online[disk.disk_id] = _OnlineDisk(self._context, disk, peer)
        self._nursery.start_soon(online.run)
        tell_missing(self._context.troubles, disk, broken)
        self.look(disk)

    def stop(self, disk_id: str) -> None:
        online = self._online.pop(disk_id, None)
        if online is not None:
            online.scope.cancel()
            self._context.troubles.over("volume_not_made", disk_id)

    def look(self, disk: DiskState) -> None:
        """A disk has reported: tell operators when it takes no more writes."""
        tell_whether_in_doubt(self._context.troubles, disk)

    # --- who wakes the tasks ----------------------------------------------------------------------

    def _wake_maker(self, disk: DiskState) -> None:
        online = self._online.get(disk.disk_id)
        if online is not None:
            online.maker.wake()

    def note_garbage(self, volume_ids: Iterable[int]) -> None:
        """Needles of these volumes have become garbage."""
        for volume_id in volume_ids:
            volume = self._fleet.volumes.get(volume_id)
            online = self._online.get(volume.disk_id) if volume is not None else None
            if online is not None:
                online.tombstones.note_garbage(volume_id)

    def note_buckets(self) -> None:
        """A bucket came or went: every disk records it."""
        for online in self._online.values():
            online.bucket_records.wake()


class _OnlineDisk:
    """The tasks of one disk that is online."""

    def __init__(self, context: MasterContext, disk: DiskState, peer: Peer) -> None:
        self.scope = trio.CancelScope()
        self.tombstones = TombstoneWriter(context, disk, peer)
        self.bucket_records = BucketRecorder(context, disk, peer)
        self.maker = VolumeMaker(context, disk, peer, scope=self.scope, bucket_records=self.bucket_records)

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.maker.run)
                nursery.start_soon(self.tombstones.run)
                nursery.start_soon(self.bucket_records.run)


class VolumeMaker:
    """Reserves needle ids for the volumes of one disk, and makes its next volume ahead of need.

    Args:
        scope: cancelled when the disk goes.
        bucket_records: woken after a volume was made, because there may have been none to record them in.
    """

    def __init__(
        self,
        context: MasterContext,
        disk: DiskState,
        peer: Peer,
        *,
        scope: trio.CancelScope,
        bucket_records: BucketRecorder,
    ) -> None:
        self._context = context
        self._fleet = context.fleet
        self._disk = disk
        self._peer = peer
        self._scope = scope
        self._bucket_records = bucket_records
        self._needed = trio.Event()
        self._backoff = Backoff()
        self._is_making = False

    def wake(self) -> None:
        disk = self._disk
        # While a volume is being made, and for a while after that failed, there is nothing to do for volumes.
        if disk.short_of_ids or disk.unrecorded or not (self._is_making or self._backoff.is_waiting):
            self._needed.set()

    async def run(self) -> None:
        backoff = Backoff()
        async with trio.open_nursery() as nursery:
            while True:
                self._needed = trio.Event()
                try:
                    await self._record_and_reserve()
                    backoff.worked()
                except StoreError as error:
                    extra = {"disk": self._disk.name, "cause": error.message}
                    log.warning("disk not provisioned", extra=extra)
                    if isinstance(error, DiskFull):
                        # It has all that it can have now: reads and deletes go on, and no start has to wait.
                        self._disk.is_provisioned = True
                    backoff.failed()
                    await trio.sleep_until(backoff.until)
                    continue
                self._make_if_needed(nursery)
                is_paused = not self._is_making and self._backoff.is_waiting
                with trio.CancelScope(deadline=self._backoff.until if is_paused else float("inf")):
                    await self._needed.wait()

    # --- needle ids -------------------------------------------------------------------------------

    async def _record_and_reserve(self) -> None:
        """Tell the catalog which volumes exist, and have needle ids reserved, in one transaction."""
        disk = self._disk
        there = list(disk.unrecorded.values())
        short = [
            (volume, min(volume.next_needle_id + volume.ids_step - 1, NEEDLE_ID_MAX))
            for volume in disk.short_of_ids.values()
        ]
        if not there and not short:
            return
        created = [
            (volume, (volume.report.created_ms if volume.report is not None else 0) or volume.created_ms)
            for volume in there
        ]

        def write(t: Transaction) -> None:
            for volume, created_ms in created:
                # From now on the absence of this volume is a loss, and never again a reason to create it.
                t.set_volume_state(volume.volume_id, "open")
                t.set_volume_created(volume.volume_id, created_ms)
            for volume, last_id in short:
                t.reserve_needle_ids(volume.volume_id, last_id)

        await self._context.writer.write(write)
        for volume, created_ms in created:
            volume.is_open_in_catalog, volume.created_ms = True, created_ms
            disk.unrecorded.pop(volume.volume_id, None)
        for volume, last_id in short:
            volume.ids_step = min(2 * volume.ids_step, IDS_STEP_MAX)
            self._fleet.ids_reserved(volume, last_id)

    # --- volumes ----------------------------------------------------------------------------------

    def _make_if_needed(self, nursery: trio.Nursery) -> None:
        disk = self._disk
        is_needed = disk.takes_writes and (disk.creating_count > 0 or self._fleet.room.needs_volume(disk))
        if not is_needed or (disk.make_error is not None and disk.open_count > 0):
            disk.is_provisioned = True  # it has all that it can have now
        if is_needed and not self._is_making and not self._backoff.is_waiting:
            self._is_making = True
            nursery.start_soon(self._make)

    async def _make(self) -> None:
        """Make one volume; after a failure, say why and leave the disk alone for a while."""
        disk = self._disk
        unmade = (volume for volume in disk.volumes.values() if not volume.is_created)
        volume = next(unmade, None) if disk.creating_count else None
        try:
            try:
                if volume is None:
                    volume = await self._add_volume()
                await self._create_volume(volume)
            except StoreError as error:
                self._not_made(error)
                if isinstance(error, RequestRefused) and volume is not None:
                    await self._give_up(volume)  # the disk may have another volume of this number already
            else:
                self._fleet.made(disk)
                self._context.troubles.over("volume_not_made", disk.disk_id)
                self._backoff.worked()
                self._bucket_records.wake()
        finally:
            self._is_making = False
            self._needed.set()

    def _not_made(self, error: StoreError) -> None:
        disk = self._disk
        if self._scope.cancel_called:
            return  # the disk has gone, which operators know already
        self._backoff.failed()
        log.warning("volume not made", extra={"disk": disk.name, "cause": error.message})
        self._fleet.not_made(disk, error)
        self._context.troubles.tell(
            "volume_not_made",
            disk.disk_id,
            f"no volume can be made on disk {disk.name}: {error.message}. The master tries again, at least"
            f" every {RETRY_S_MAX:.0f} s; until then this disk takes only what its present volumes have room"
            " for",
            disk=disk.name,
        )

    async def _add_volume(self) -> VolumeState:
        """Add a volume of this disk to the catalog and to the fleet."""
        disk_id = self._disk.disk_id
        volume_uuid, capacity = str(uuid.uuid4()), self._fleet.room.capacity_for(self._disk)
        created_ms = now_ms()

        def write(t: Transaction) -> int:
            volume_id = t.add_volume(None, volume_uuid, capacity, disk_id, created_ms=created_ms)
            t.reserve_needle_ids(volume_id, IDS_STEP_FIRST)
            return volume_id

        with trio.CancelScope(shield=True):  # the fleet has to know every volume that the catalog knows
            volume_id = await self._context.writer.write(write, is_growth=True)
        volume = VolumeState(
            volume_id=volume_id,
            uuid=volume_uuid,
            capacity=capacity,
            disk_id=disk_id,
            is_created=False,
            next_needle_id=1,
            needle_ids_reserved=IDS_STEP_FIRST,
            ids_step=2 * IDS_STEP_FIRST,
            created_ms=created_ms,
        )
        self._fleet.add_volume(volume)
        return volume

    async def _create_volume(self, volume: VolumeState) -> None:
        """Have the volume actor create the files of a volume."""
        command = CreateVolume(
            incarnation=self._context.incarnation,
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            capacity=volume.capacity,
        )
        answer = await rpc.call(self._peer, command, VolumeCreated)
        # Before the next await, because a later report may arrive during it.
        self._fleet.take_report(volume, answer.report)
        disk = self._fleet.disks[volume.disk_id]
        self._context.events.record("volume_opened", volume_id=volume.volume_id, disk=disk.name)
        log.info("volume is open", extra={"volume_id": volume.volume_id, "capacity": volume.capacity})

    async def _give_up(self, volume: VolumeState) -> None:
        """Forget a volume that was never made."""
        try:
            is_gone = await self._context.writer.write(lambda t: t.drop_unmade_volume(volume.volume_id))
        except StoreError as error:
            log.warning("volume not dropped", extra={"volume_id": volume.volume_id, "cause": error.message})
            return
        if is_gone and not volume.is_created:
            self._fleet.remove_volume(volume)
