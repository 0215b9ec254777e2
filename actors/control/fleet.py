"""Fleet: the disks and volumes as the master knows them at this moment.

The catalog says which volumes exist and which disks hold them; the volume actors say who is online and how
full they are.  This file joins the two: plain state, no waiting, no sockets but the peers it was handed.

    fleet_state    what the master knows of one disk, one volume
    fleet_room     how much room there is, and who needs another volume: `Fleet.room`
    fleet_status   what operators see of all this

Change a volume or a disk with a method of `Fleet`, never on the `VolumeState` alone: the method marks it for
`FleetRoom`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from warehouse.actors.control import fleet_status
from warehouse.actors.control.fleet_room import FleetRoom
from warehouse.actors.control.fleet_state import (
    NEWEST_FORMAT,
    CompactorSession,
    DiskContent,
    DiskState,
    GatewaySession,
    VolumeState,
)
from warehouse.actors.control.reservations import Reservations
from warehouse.errors import StoreError
from warehouse.transport.messages import DiskReport, DiskStatus, Job, Register, VolumeReport, VolumeStatus
from warehouse.transport.zeromq.peers import Peer


class Fleet:
    """
    Args:
        chunk_size: the most that one request needs in one volume.
        volume_size: of volumes to be made; 0: it follows the disk.
    """

    def __init__(
        self,
        reservations: Reservations,
        *,
        disk_reserve: int,
        chunk_size: int = 0,
        volume_size: int = 0,
    ) -> None:
        self._reservations = reservations
        self.disks: dict[str, DiskState] = {}
        self.volumes: dict[int, VolumeState] = {}
        self.gateways: dict[Peer, GatewaySession] = {}  # that are connected
        self.room = FleetRoom(
            self.disks,
            self.volumes,
            reservations,
            disk_reserve=disk_reserve,
            chunk_size=chunk_size,
            volume_size=volume_size,
        )
        self._disk_by_peer: dict[Peer, DiskState] = {}

    def add_disk(self, disk: DiskState) -> DiskState:
        return self.disks.setdefault(disk.disk_id, disk)

    def add_volume(self, volume: VolumeState) -> None:
        disk = self.disks[volume.disk_id]
        self.volumes[volume.volume_id] = disk.volumes[volume.volume_id] = volume
        self.room.volume_added(volume)

    def remove_volume(self, volume: VolumeState) -> None:
        """Forget a volume that was never made."""
        del self.volumes[volume.volume_id], self.disks[volume.disk_id].volumes[volume.volume_id]
        self.room.volume_removed(volume)

    def remove_disk(self, disk: DiskState) -> None:
        """Forget a disk that is offline, and its volumes."""
        assert disk.peer is None
        for volume in [*disk.volumes.values()]:
            del self.volumes[volume.volume_id]
            self.room.volume_removed(volume)
        self.room.disk_removed(disk)
        del self.disks[disk.disk_id]

    def made(self, disk: DiskState) -> None:
        """A volume was made on this disk."""
        disk.make_error = None
        self.room.disk_changed(disk)

    def not_made(self, disk: DiskState, error: StoreError) -> None:
        """An attempt to make a volume on this disk failed."""
        disk.make_error = error
        self.room.disk_changed(disk)
        self.room.on_room()  # requests that wait for that volume should learn of it

    # --- what the volume actors say ---------------------------------------------------------------

    def came(self, register: Register, peer: Peer, *, now_ms: int) -> list[int]:
        """A disk registered; return those of its volumes that the catalog does not know."""
        disk = self.disks[register.disk_id]
        if disk.peer is not None:
            self._disk_by_peer.pop(disk.peer, None)
        self._disk_by_peer[peer] = disk
        disk.make_error, disk.makes_format = None, NEWEST_FORMAT
        disk.peer, disk.url, disk.incarnation = peer, register.url, register.incarnation
        disk.is_provisioned = False
        disk.name, disk.capacity, disk.since_ms = register.disk_name, register.disk_capacity, now_ms
        disk.room_wanted = self.room.room_wanted(disk)
        for volume in disk.volumes.values():
            volume.report = None  # a volume that the disk no longer names is missing
            self.room.volume_changed(volume)
        unknown = self._take(disk, register.volumes, register.disk_free, register.is_read_only)
        self.room.refresh()
        return unknown

    def reported(self, disk: DiskState, report: DiskReport) -> None:
        """Take the report of a disk; volumes that it does not name are as they were."""
        self._take(disk, report.volumes, report.disk_free, report.is_read_only)
        self.room.refresh()

    def _take(self, disk: DiskState, reports: list[VolumeReport], free: int, is_read_only: bool) -> list[int]:
        disk.free, disk.is_read_only = free, is_read_only
        self.room.disk_changed(disk)
        unknown = []
        for report in reports:
            volume = disk.volumes.get(report.volume_id)
            if volume is None or volume.uuid != report.uuid:
                unknown.append(report.volume_id)
            else:
                self._take_report(volume, report)
        return unknown

    def take_report(self, volume: VolumeState, report: VolumeReport) -> None:
        self._take_report(volume, report)
        self.room.refresh()

    def _take_report(self, volume: VolumeState, report: VolumeReport) -> None:
        self.disks[volume.disk_id].written -= volume.written_since_report
        if not volume.is_created:
            self.disks[volume.disk_id].makes_format = report.format
        volume.report, volume.is_created = report, True
        volume.written_since_report = volume.written_count = 0
        # After a restored backup the catalog may be behind the disk.  No id may be handed out twice.
        volume.next_needle_id = max(volume.next_needle_id, report.needle_id_max + 1)
        if not volume.is_open_in_catalog or report.created_ms not in (0, volume.created_ms):
            self.disks[volume.disk_id].unrecorded[volume.volume_id] = volume
        self.room.volume_changed(volume)

    def wrote(self, volume: VolumeState, stored_size: int, stamp: int = 0) -> None:
        """A needle of this size was committed; see `wrote_all`."""
        self.wrote_all(volume, [(stored_size, stamp)])

    def wrote_all(self, volume: VolumeState, needles: Iterable[tuple[int, int]]) -> None:
        """Needles were committed.

        Args:
            needles: the size of each, and its stamp or 0.  The stamps of a volume grow, so a report with a
                greater stamp has counted the needle already.
        """
        seen = volume.report.stamp_max if volume.report is not None else 0
        sizes = [size for size, stamp in needles if not 0 < stamp <= seen]
        if not sizes:
            return
        volume.written_since_report += sum(sizes)
        volume.written_count += len(sizes)
        self.disks[volume.disk_id].written += sum(sizes)
        self.room.volume_changed(volume)

    def set_clock_skew(self, disk: DiskState, skew_s: float | None, *, is_off: bool) -> None:
        disk.clock_skew_s, disk.is_clock_off = skew_s, is_off
        self.room.disk_changed(disk)
        self.room.refresh()

    def set_aside(self, disk: DiskState, cause: str | None) -> None:
        """Let nobody write to this disk from now on; without a cause: allow writes again."""
        disk.set_aside = cause
        self.room.disk_changed(disk)
        self.room.refresh()

    def went(self, peer: Peer, *, now_ms: int) -> DiskState | None:
        """A connection is gone; return the disk that is offline now, if the connection was a disk's."""
        disk = self._disk_by_peer.pop(peer, None)
        if disk is None:
            return None
        disk.peer, disk.since_ms, disk.away_at = None, now_ms, time.monotonic()
        self.room.disk_changed(disk)
        return disk

    def compactor_came(self, disk: DiskState, peer: Peer, *, incarnation: int) -> None:
        disk.compactor, disk.compactor_incarnation = peer, incarnation
        peer.session = CompactorSession(disk)

    def compactor_went(self, peer: Peer) -> DiskState | None:
        """A connection is gone; return the disk that has no compactor now, if it was a compactor's."""
        session = peer.session
        if not isinstance(session, CompactorSession) or session.disk.compactor is not peer:
            return None
        session.disk.compactor = None
        return session.disk

    def disk_of(self, peer: Peer) -> DiskState | None:
        disk = peer.session
        return disk if isinstance(disk, DiskState) and disk.peer is peer else None

    def back_soon(self, volume_ids: Iterable[int], *, grace_s: float) -> list[int]:
        """Those of the volumes whose disk went away a moment ago, as during a restart of its actor."""
        now = time.monotonic()
        return [
            volume_id
            for volume_id in volume_ids
            if (volume := self.volumes.get(volume_id)) is not None
            and now - self.disks[volume.disk_id].away_at < grace_s
        ]

    # --- needle ids -------------------------------------------------------------------------------

    def take_ids(self, volume: VolumeState, count: int) -> int:
        """Hand out `count` of the reserved needle ids; return the first."""
        assert count <= volume.ids_left
        first = volume.next_needle_id
        volume.next_needle_id += count
        self.room.volume_changed(volume)
        return first

    def skip_ids(self, volume: VolumeState, last_id: int) -> None:
        """Ids up to `last_id` are reserved durably and never handed out."""
        volume.next_needle_id = max(volume.next_needle_id, last_id + 1)
        self.ids_reserved(volume, last_id)

    def ids_reserved(self, volume: VolumeState, last_id: int) -> None:
        """Ids up to `last_id` are reserved durably."""
        volume.needle_ids_reserved = max(volume.needle_ids_reserved, last_id)
        self.room.volume_changed(volume)
        self.room.refresh()

    # --- what operators see -----------------------------------------------------------------------

    def health(self) -> str:
        self.room.refresh()
        return fleet_status.health(self)

    def unchecked_s(self, now_ms: int) -> float:
        """Age of the oldest byte of all volumes that nobody has read since it was written."""
        return fleet_status.unchecked_s(self, now_ms)

    def status(
        self,
        jobs: Mapping[int, Job],
        *,
        now_ms: int,
        from_disk: str = "",
        from_volume: int = 0,
        has_volumes: bool = True,
        contents: Mapping[str, DiskContent] = MappingProxyType({}),
    ) -> tuple[list[DiskStatus], tuple[str, int] | None]:
        """A page of the disks and volumes; see `fleet_status.status`."""
        self.room.refresh()
        return fleet_status.status(
            self,
            self._reservations,
            jobs,
            now_ms=now_ms,
            from_disk=from_disk,
            from_volume=from_volume,
            has_volumes=has_volumes,
            contents=contents,
        )

    def volume_statuses(
        self, volumes: Iterable[VolumeState], jobs: Mapping[int, Job], *, now_ms: int
    ) -> list[VolumeStatus]:
        """What operators see of these volumes; `jobs` as in `status`."""
        self.room.refresh()
        return [
            fleet_status.volume_status(self, self._reservations, volume, jobs.get(volume.volume_id), now_ms)
            for volume in volumes
        ]
