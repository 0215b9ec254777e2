"""Provisioner: sees that every disk that is online has what it needs.

Open volumes with room, needle ids that the catalog has reserved, tombstones for garbage, and records of the
buckets (so that a rebuild from this disk alone knows them).  Each of these has a task of its own on each
disk, from its registration until it goes, so that one that hangs or fails keeps no other from its turn.
All of them sleep until they are told that there is something to do, by whom it concerns:

    needle ids, volumes   `Fleet.on_need`, when sums say that a disk runs short
    tombstones            `CatalogWriter.on_garbage`, with the volumes that a transaction made garbage in
    bucket records        `note_buckets`, when a bucket came or went

So what a commit costs here does not depend on how many disks and volumes there are.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping

import trio

from warehouse.actors.control import rpc
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet import IDS_STEP_FIRST, IDS_STEP_MAX, NEEDLE_ID_MAX, DiskState, VolumeState
from warehouse.catalog.interface import Transaction
from warehouse.errors import DiskFull, RequestRefused, StoreError
from warehouse.transport.messages import (
    BucketsRecorded,
    CreateVolume,
    DeleteNeedles,
    NeedlesDeleted,
    RecordBuckets,
    VolumeCreated,
)
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

TOMBSTONES_AT_ONCE = 1000
NOTES_AT_ONCE = 1000
GATHER_S = 0.05  # garbage of one moment shares its tombstones' fsync
# Volumes of a disk that get tombstones at the same time: one that hangs holds up none of the others until
# this many do, and then only until their orders time out.
BURIALS_MAX = 8
BURIALS_IN_A_ROW = 20  # batches for one volume before others that wait have their turn
NO_ROOM_S = 60.0  # between looks for a volume that can take bucket records
RETRY_S = 1.0  # after a failure; twice as long after each further one
RETRY_S_MAX = 60.0
NAMED_MAX = 5  # volumes in one sentence


class _Pause:
    """How long to leave something alone that failed."""

    def __init__(self) -> None:
        self._count = 0
        self.until = 0.0

    def failed(self) -> None:
        self.until = trio.current_time() + min(RETRY_S_MAX, RETRY_S * 2 ** min(self._count, 10))
        self._count += 1

    def worked(self) -> None:
        self._count, self.until = 0, 0.0

    @property
    def is_finished(self) -> bool:
        return trio.current_time() >= self.until


class _Kept:
    """One disk that is online, and what its tasks wait for."""

    def __init__(self, disk: DiskState, peer: Peer) -> None:
        self.disk = disk
        self.peer = peer
        self.scope = trio.CancelScope()
        self.needed = trio.Event()
        self.making = _Pause()
        self.is_making = False
        self.noted = trio.Event()
        self.garbage_came = trio.Event()
        self.garbage: dict[int, None] = {}  # volumes that have some, the one that waits for longest first
        self.burying: set[int] = set()
        self.burial_pauses: dict[int, _Pause] = {}


class Provisioner:
    """Owns the keeping tasks of all disks; `run` is their nursery."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._catalog = context.catalog
        self._writer = context.writer
        self._fleet = context.fleet
        self._incarnation = context.incarnation
        self._kept: dict[str, _Kept] = {}
        self._nursery: trio.Nursery | None = None
        self._fleet.on_need = self._need
        self._writer.on_garbage = self.note_garbage

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep disks until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, disk: DiskState, peer: Peer, broken: Mapping[int, str]) -> None:
        """`disk` is online, by way of `peer`; whoever kept it before stops.

        Args:
            broken: volumes that it could not open, and why.
        """
        self.stop(disk.disk_id)
        assert self._nursery is not None
        kept = self._kept[disk.disk_id] = _Kept(disk, peer)
        kept.garbage = {
            volume_id: None for volume_id in self._catalog.outbox_counts() if volume_id in disk.volumes
        }
        self._nursery.start_soon(self._keep, kept)
        self._tell_missing(disk, broken)
        self.look(disk)

    def stop(self, disk_id: str) -> None:
        kept = self._kept.pop(disk_id, None)
        if kept is not None:
            kept.scope.cancel()
            self._context.troubles.over("volume_not_made", disk_id)

    def look(self, disk: DiskState) -> None:
        """A disk has reported: say so if it is in doubt."""
        troubles = self._context.troubles
        if not disk.is_in_doubt:
            troubles.over("disk_in_doubt", disk.disk_id)
        elif ("disk_in_doubt", disk.disk_id) not in troubles:
            troubles.tell(
                "disk_in_doubt",
                disk.disk_id,
                f"disk {disk.name} takes no more writes: {disk.cause}. What it holds can be read; look at the"
                " disk, and restart its actor when it is sound",
                disk=disk.name,
            )

    def _tell_missing(self, disk: DiskState, broken: Mapping[int, str]) -> None:
        """A disk has registered: say which of its volumes cannot be read."""
        missing = sorted(
            volume.volume_id
            for volume in disk.volumes.values()
            if volume.report is None and volume.is_open_in_catalog
        )
        if not missing:
            self._context.troubles.over("volumes_missing", disk.disk_id)
            return
        named = [
            f"volume {number} ({broken.get(number, 'it is not there')})" for number in missing[:NAMED_MAX]
        ]
        more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
        self._context.troubles.tell(
            "volumes_missing",
            disk.disk_id,
            f"disk {disk.name} cannot open {', '.join(named)}{more}: what they hold cannot be read. The disk"
            " goes on with other volumes",
            disk=disk.name,
        )

    # --- who tells of work ------------------------------------------------------------------------

    def _need(self, disk: DiskState) -> None:
        kept = self._kept.get(disk.disk_id)
        # While a volume is being made, and for a while after that failed, its task has nothing to do there.
        if kept is not None and (
            disk.short_of_ids or disk.unrecorded or not (kept.is_making or not kept.making.is_finished)
        ):
            kept.needed.set()

    def note_garbage(self, volume_ids: Iterable[int]) -> None:
        """Needles of these volumes have become garbage."""
        for volume_id in volume_ids:
            volume = self._fleet.volumes.get(volume_id)
            kept = self._kept.get(volume.disk_id) if volume is not None else None
            if kept is not None:
                kept.garbage[volume_id] = None
                kept.garbage_came.set()

    def note_buckets(self) -> None:
        """A bucket came or went: every disk is to write it down."""
        for kept in self._kept.values():
            kept.noted.set()

    # --- keeping ----------------------------------------------------------------------------------

    async def _keep(self, kept: _Kept) -> None:
        with kept.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._supply_forever, kept, nursery)
                nursery.start_soon(self._bury_forever, kept, nursery)
                nursery.start_soon(self._record_buckets_forever, kept)

    # --- needle ids and volumes -------------------------------------------------------------------

    async def _supply_forever(self, kept: _Kept, nursery: trio.Nursery) -> None:
        pause = _Pause()
        while True:
            kept.needed = trio.Event()
            try:
                await self._record_and_reserve(kept.disk)
                pause.worked()
            except StoreError as error:
                log.warning("disk not supplied", extra={"disk": kept.disk.name, "cause": error.message})
                if isinstance(error, DiskFull):
                    # It has all that it can have now: reads and deletes go on, and a start is not held up.
                    kept.disk.is_supplied = True
                pause.failed()
                await trio.sleep_until(pause.until)
                continue
            self._make_if_needed(kept, nursery)
            is_paused = not kept.is_making and not kept.making.is_finished
            with trio.CancelScope(deadline=kept.making.until if is_paused else float("inf")):
                await kept.needed.wait()

    async def _record_and_reserve(self, disk: DiskState) -> None:
        """Tell the catalog of volumes that are there, and have needle ids reserved, in one transaction."""
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
                # From now on its absence is a loss, and never again a reason to create it.
                t.set_volume_state(volume.volume_id, "open")
                t.set_volume_created(volume.volume_id, created_ms)
            for volume, upto in short:
                t.reserve_needle_ids(volume.volume_id, upto)

        await self._writer.write(write)
        for volume, created_ms in created:
            volume.is_open_in_catalog, volume.created_ms = True, created_ms
            disk.unrecorded.pop(volume.volume_id, None)
        for volume, upto in short:
            volume.ids_step = min(2 * volume.ids_step, IDS_STEP_MAX)
            self._fleet.ids_reserved(volume, upto)

    def _make_if_needed(self, kept: _Kept, nursery: trio.Nursery) -> None:
        disk = kept.disk
        is_needed = disk.takes_writes and (disk.creating_count > 0 or self._fleet.needs_volume(disk))
        if not is_needed or (disk.make_error is not None and disk.open_count > 0):
            disk.is_supplied = True  # it has all that it can have now
        if is_needed and not kept.is_making and kept.making.is_finished:
            kept.is_making = True
            nursery.start_soon(self._make, kept)

    async def _make(self, kept: _Kept) -> None:
        """Make one volume; after a failure the disk is left alone for a while, and says why."""
        disk = kept.disk
        unmade = (volume for volume in disk.volumes.values() if not volume.is_created)
        volume = next(unmade, None) if disk.creating_count else None
        try:
            try:
                if volume is None:
                    volume = await self._add_volume(disk)
                await self._create_volume(kept.peer, volume)
            except StoreError as error:
                self._not_made(kept, error)
                if isinstance(error, RequestRefused) and volume is not None:
                    await self._give_up(volume)  # its number is taken there, say: another one may work
            else:
                self._fleet.made(disk)
                self._context.troubles.over("volume_not_made", disk.disk_id)
                kept.making.worked()
                kept.noted.set()  # there may have been no volume to write bucket records to
        finally:
            kept.is_making = False
            kept.needed.set()

    def _not_made(self, kept: _Kept, error: StoreError) -> None:
        disk = kept.disk
        if self._kept.get(disk.disk_id) is not kept:
            return  # the disk has gone, and that is all there is to say
        kept.making.failed()
        log.warning("volume not made", extra={"disk": disk.name, "cause": error.message})
        self._fleet.not_made(disk, error)
        self._context.troubles.tell(
            "volume_not_made",
            disk.disk_id,
            f"no volume can be made on disk {disk.name}: {error.message}. It is tried again, at least every"
            f" {RETRY_S_MAX:.0f} s; until then this disk takes what its volumes have room for",
            disk=disk.name,
        )

    async def _add_volume(self, disk: DiskState) -> VolumeState:
        volume_uuid, capacity = str(uuid.uuid4()), self._fleet.capacity_for(disk)
        created_ms = now_ms()

        def write(t: Transaction) -> int:
            volume_id = t.add_volume(None, volume_uuid, capacity, disk.disk_id, created_ms=created_ms)
            t.reserve_needle_ids(volume_id, IDS_STEP_FIRST)
            return volume_id

        with trio.CancelScope(shield=True):  # what the catalog knows, the fleet has to know
            volume_id = await self._writer.write(write, is_growth=True)
        volume = VolumeState(
            volume_id=volume_id,
            uuid=volume_uuid,
            capacity=capacity,
            disk_id=disk.disk_id,
            is_created=False,
            next_needle_id=1,
            needle_ids_reserved=IDS_STEP_FIRST,
            ids_step=2 * IDS_STEP_FIRST,
            created_ms=created_ms,
        )
        self._fleet.add_volume(volume)
        return volume

    async def _create_volume(self, peer: Peer, volume: VolumeState) -> None:
        command = CreateVolume(
            incarnation=self._incarnation,
            volume_id=volume.volume_id,
            uuid=volume.uuid,
            capacity=volume.capacity,
        )
        answer = await rpc.call(peer, command, VolumeCreated)
        self._fleet.take_report(volume, answer.report)  # before the next wait: a later one may come meanwhile
        disk = self._fleet.disks[volume.disk_id]
        self._context.events.record("volume_opened", volume_id=volume.volume_id, disk=disk.name)
        log.info("volume is open", extra={"volume_id": volume.volume_id, "capacity": volume.capacity})

    async def _give_up(self, volume: VolumeState) -> None:
        try:
            is_gone = await self._writer.write(lambda t: t.drop_unmade_volume(volume.volume_id))
        except StoreError as error:
            log.warning("volume not dropped", extra={"volume_id": volume.volume_id, "cause": error.message})
            return
        if is_gone and not volume.is_created:
            self._fleet.remove_volume(volume)

    # --- tombstones -------------------------------------------------------------------------------

    async def _bury_forever(self, kept: _Kept, nursery: trio.Nursery) -> None:
        while True:
            kept.garbage_came = trio.Event()
            next_at = float("inf")
            for volume_id in list(kept.garbage):
                if len(kept.burying) >= BURIALS_MAX:
                    break  # the end of one of them wakes us
                pause = kept.burial_pauses.get(volume_id)
                if volume_id in kept.burying:
                    continue
                if pause is not None and not pause.is_finished:
                    next_at = min(next_at, pause.until)
                    continue
                del kept.garbage[volume_id]
                kept.burying.add(volume_id)
                nursery.start_soon(self._bury_volume, kept, volume_id)
            with trio.CancelScope(deadline=next_at):
                await kept.garbage_came.wait()

    async def _bury_volume(self, kept: _Kept, volume_id: int) -> None:
        volume = self._fleet.volumes[volume_id]
        try:
            await trio.sleep(GATHER_S)
            for _ in range(BURIALS_IN_A_ROW):
                if volume.report is None or volume.report.sealed_cause is not None:
                    break  # its garbage waits until the volume can be written again: then its disk comes anew
                if not await self.bury(kept.peer, volume):
                    break
            else:
                kept.garbage[volume_id] = None
            kept.burial_pauses.pop(volume_id, None)
        except StoreError as error:
            log.warning("garbage not buried", extra={"volume_id": volume_id, "cause": error.message})
            kept.burial_pauses.setdefault(volume_id, _Pause()).failed()
            kept.garbage[volume_id] = None
        finally:
            kept.burying.discard(volume_id)
            kept.garbage_came.set()

    async def bury(self, peer: Peer, volume: VolumeState) -> bool:
        """Have tombstones written for what waits in the outbox; telling twice is harmless.

        One batch at a time: where garbage keeps coming, other volumes come in between.

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
            stamp=self._context.clock.last,
            object_deleted=[garbage.needle_id for garbage in rows if garbage.object_deleted],
        )
        answer = await rpc.call(peer, command, NeedlesDeleted)
        self._fleet.take_report(volume, answer.report)
        needle_ids = [needle_id for needle_id, _, _ in rows]
        now_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        await self._writer.write(
            lambda t: t.clear_outbox(volume.volume_id, needle_ids, now_s=now_s, now_ms=now_ms)
        )
        return len(rows) == TOMBSTONES_AT_ONCE

    # --- bucket records ---------------------------------------------------------------------------

    async def _record_buckets_forever(self, kept: _Kept) -> None:
        pause = _Pause()
        avoided: set[int] = set()  # volumes that failed to take a record
        while True:
            kept.noted = trio.Event()
            volume = self._fleet.first_open(kept.disk, avoided) or self._fleet.first_open(kept.disk)
            wait_until = float("inf")
            try:
                if volume is None:
                    wait_until = trio.current_time() + NO_ROOM_S
                elif await self._record_buckets(kept, volume):
                    continue
                pause.worked()
                avoided.clear()
            except StoreError as error:
                log.warning("buckets not recorded", extra={"disk": kept.disk.name, "cause": error.message})
                if volume is not None:
                    avoided.add(volume.volume_id)
                pause.failed()
                await trio.sleep_until(pause.until)
                continue
            with trio.CancelScope(deadline=wait_until):
                await kept.noted.wait()

    async def _record_buckets(self, kept: _Kept, volume: VolumeState) -> bool:
        """Have a volume of this disk note which buckets came and went; return whether there are more."""
        disk_id = kept.disk.disk_id
        notes = self._catalog.bucket_notes(disk_id, NOTES_AT_ONCE)
        if not notes:
            return False
        command = RecordBuckets(incarnation=self._incarnation, volume_id=volume.volume_id, notes=notes)
        answer = await rpc.call(kept.peer, command, BucketsRecorded)
        self._fleet.take_report(volume, answer.report)
        await self._writer.write(lambda t: t.clear_bucket_notes(disk_id, notes))
        return len(notes) == NOTES_AT_ONCE
