"""Keeper: sees that every disk that is online has what it needs.

An open volume with room, spare needle ids that the catalog has reserved, tombstones for its garbage, and
records of the buckets (so that a rebuild from this disk alone knows them).  One task a disk, from its
registration until it goes; it sleeps until it is nudged.
"""

from __future__ import annotations

import logging
import time
import uuid

import trio

from actors.fleet import DiskState, VolumeState
from actors.orders import order
from actors.parts import Parts, now_ms
from errors import StoreError
from transport.links import Peer
from transport.messages import (
    BucketsRecorded,
    CreateVolume,
    DeleteNeedles,
    NeedlesDeleted,
    RecordBuckets,
    VolumeCreated,
)

log = logging.getLogger(__name__)

NEEDLE_IDS_AT_ONCE = 262_144  # reserved durably in one go; what a restart skips costs nothing but numbers
TOMBSTONES_AT_ONCE = 1000
NOTES_AT_ONCE = 1000


class Keeper:
    """Owns the keeping tasks of all disks; `run` is their nursery."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._writer = parts.writer
        self._fleet = parts.fleet
        self._store = parts.settings.store
        self._incarnation = parts.incarnation
        self._nudges: dict[str, trio.Event] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep disks until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, disk: DiskState, peer: Peer) -> None:
        """`disk` is online, by way of `peer`; whoever kept it before stops."""
        self.stop(disk.disk_id)
        assert self._nursery is not None
        scope = self._scopes[disk.disk_id] = trio.CancelScope()
        self._nursery.start_soon(self._keep, disk, peer, scope)

    def stop(self, disk_id: str) -> None:
        scope = self._scopes.pop(disk_id, None)
        if scope is not None:
            scope.cancel()

    # --- nudges -----------------------------------------------------------------------------------

    def nudge(self, disk_id: str) -> None:
        event = self._nudges.get(disk_id)
        if event is not None:
            event.set()

    def nudge_volume(self, volume_id: int) -> None:
        volume = self._fleet.volumes.get(volume_id)
        if volume is not None:
            self.nudge(volume.disk_id)

    def nudge_all(self) -> None:
        for event in self._nudges.values():
            event.set()

    def take_needle_ids(self, volume: VolumeState, count: int) -> int:
        """Hand out `count` needle ids, and have more of them reserved in time; return the first."""
        first = self._fleet.take_ids(volume, count)
        if volume.ids_left < NEEDLE_IDS_AT_ONCE // 2:
            self.nudge(volume.disk_id)
        return first

    # --- keeping ----------------------------------------------------------------------------------

    async def _keep(self, disk: DiskState, peer: Peer, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                nudge = self._nudges[disk.disk_id] = trio.Event()
                try:
                    await self._supply(disk, peer)
                except StoreError as error:
                    log.warning("disk not supplied", extra={"disk": disk.name, "cause": error.message})
                    await trio.sleep(1.0)
                    continue
                await nudge.wait()
                await trio.sleep(0.05)  # garbage of one moment shares its tombstones' fsync

    async def _supply(self, disk: DiskState, peer: Peer) -> None:
        for volume in list(disk.volumes.values()):
            if not volume.is_created:
                await self._create_volume(peer, volume)
            elif not volume.is_open_in_catalog:  # its actor reported it; the answer to our order was lost
                await self._open_in_catalog(volume)
            await self._note_age(volume)
            if (
                volume.ids_left < NEEDLE_IDS_AT_ONCE // 2
                and volume.next_needle_id < 2**32 - NEEDLE_IDS_AT_ONCE
            ):
                await self._reserve_needle_ids(volume)
        if self._fleet.needs_volume(disk, room_wanted=2 * self._store.chunk_size):
            await self._add_volume(disk, peer)
        disk.is_supplied = True
        for volume in list(disk.volumes.values()):
            if volume.report is None or volume.report.sealed_cause is not None:
                continue
            try:
                if await self.bury(peer, volume):
                    self.nudge(disk.disk_id)
            except StoreError as error:  # one volume that cannot be written must not starve the others
                log.warning(
                    "garbage not buried", extra={"volume_id": volume.volume_id, "cause": error.message}
                )
                await trio.sleep(1.0)
        try:
            await self._record_buckets(disk, peer)
        except StoreError as error:
            log.warning("buckets not recorded", extra={"disk": disk.name, "cause": error.message})
            await trio.sleep(1.0)

    async def _note_age(self, volume: VolumeState) -> None:
        """While its disk is offline, the age of what was never read again is known from the catalog."""
        created_ms = volume.report.created_ms if volume.report is not None else 0
        if created_ms not in (0, volume.created_ms):
            await self._writer.write(lambda t: t.set_volume_created(volume.volume_id, created_ms))
            volume.created_ms = created_ms

    async def _record_buckets(self, disk: DiskState, peer: Peer) -> None:
        """Have a volume of this disk note which buckets came and went."""
        notes = self._catalog.bucket_notes(disk.disk_id, NOTES_AT_ONCE)
        writable = [volume for volume in disk.volumes.values() if self._fleet.is_writable(volume)]
        if not notes or not writable:
            return
        volume = min(writable, key=lambda volume: volume.volume_id)
        command = RecordBuckets(incarnation=self._incarnation, volume_id=volume.volume_id, notes=notes)
        answer = await order(peer, command, BucketsRecorded)
        self._fleet.take_report(volume, answer.report)
        await self._writer.write(lambda t: t.clear_bucket_notes(disk.disk_id, notes))
        if len(notes) == NOTES_AT_ONCE:
            self.nudge(disk.disk_id)

    async def _add_volume(self, disk: DiskState, peer: Peer) -> None:
        volume_uuid, capacity = str(uuid.uuid4()), self._store.volume_size
        created_ms = now_ms()
        volume_id = await self._writer.write(
            lambda t: t.add_volume(None, volume_uuid, capacity, disk.disk_id, created_ms=created_ms)
        )
        volume = VolumeState(
            volume_id=volume_id,
            uuid=volume_uuid,
            capacity=capacity,
            disk_id=disk.disk_id,
            is_created=False,
            next_needle_id=1,
            needle_ids_reserved=0,
            created_ms=created_ms,
        )
        self._fleet.add_volume(volume)
        await self._reserve_needle_ids(volume)
        await self._create_volume(peer, volume)

    async def _create_volume(self, peer: Peer, volume: VolumeState) -> None:
        command = CreateVolume(
            incarnation=self._incarnation,
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            capacity=volume.capacity,
        )
        answer = await order(peer, command, VolumeCreated)
        self._fleet.take_report(volume, answer.report)  # before the next wait: a later one may come meanwhile
        await self._open_in_catalog(volume)
        disk = self._fleet.disks[volume.disk_id]
        self._parts.events.record("volume_opened", volume_id=volume.volume_id, disk=disk.name)
        log.info("volume is open", extra={"volume_id": volume.volume_id, "capacity": volume.capacity})

    async def _open_in_catalog(self, volume: VolumeState) -> None:
        """From now on its absence is a loss, and never again a reason to create it."""
        await self._writer.write(lambda t: t.set_volume_state(volume.volume_id, "open"))
        volume.is_open_in_catalog = True

    async def _reserve_needle_ids(self, volume: VolumeState) -> None:
        upto = volume.next_needle_id + NEEDLE_IDS_AT_ONCE - 1
        await self._writer.write(lambda t: t.reserve_needle_ids(volume.volume_id, upto))
        self._fleet.ids_reserved(volume, upto)

    async def bury(self, peer: Peer, volume: VolumeState) -> bool:
        """Have tombstones written for what waits in the outbox; telling twice is harmless.

        One batch at a time: where garbage keeps coming, the disk's other needs come in between.

        Returns:
            Whether there is more.
        """
        rows = self._catalog.outbox(volume.volume_id, TOMBSTONES_AT_ONCE)
        if not rows:
            return False
        command = DeleteNeedles(
            incarnation=self._incarnation,
            volume_id=volume.volume_id,
            needles=[(needle_id, stamp) for needle_id, stamp, _ in rows],
            stamp=self._parts.clock.last,
            ended=[needle_id for needle_id, _, is_last in rows if is_last],
        )
        answer = await order(peer, command, NeedlesDeleted)
        self._fleet.take_report(volume, answer.report)
        needle_ids = [needle_id for needle_id, _, _ in rows]
        now_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        await self._writer.write(
            lambda t: t.clear_outbox(volume.volume_id, needle_ids, now_s=now_s, now_ms=now_ms)
        )
        return len(rows) == TOMBSTONES_AT_ONCE
