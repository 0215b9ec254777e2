"""Fleet: the disks and volumes as the master knows them at this moment.

The catalog says which volumes exist and which disks hold them; the volume actors say who is online and how
full they are.  This file joins the two: plain state, no waiting, no sockets but the peers it was handed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from actors.ledger import Ledger
from catalog.placement import Candidate
from transport.links import Peer
from transport.messages import DiskReport, DiskStatus, Job, Register, VolumeReport, VolumeStatus


@dataclass
class VolumeState:
    volume_id: int
    uuid: str
    capacity: int
    disk_id: str
    is_created: bool  # on its disk
    next_needle_id: int
    needle_ids_reserved: int  # ids up to this one are reserved durably in the catalog
    report: VolumeReport | None = None
    written_since_report: int = 0
    is_open_in_catalog: bool = False
    created_ms: int = 0
    verified_ms: int | None = None  # when the last verification that read all of it began
    # How far the one under way is; 0: there is none.
    verify_started_ms: int = 0
    verify_generation: int = 0
    verify_offset: int = 0

    @property
    def file_size(self) -> int:
        return (self.report.file_size if self.report else 0) + self.written_since_report

    @property
    def ids_left(self) -> int:
        return self.needle_ids_reserved - self.next_needle_id + 1

    @property
    def checked_ms(self) -> int:
        """All of it that is older was read and checked again since this moment."""
        if self.verified_ms is not None:
            return self.verified_ms
        return (self.report.created_ms if self.report is not None else 0) or self.created_ms

    def verified(self, started_ms: int) -> None:
        self.verified_ms = started_ms
        self.verify_started_ms = self.verify_generation = self.verify_offset = 0


@dataclass
class DiskState:
    disk_id: str
    name: str
    url: str = ""
    capacity: int = 0
    free: int = 0
    is_read_only: bool = False
    incarnation: int = 0
    since_ms: int = 0
    peer: Peer | None = None  # None: offline
    compactor: Peer | None = None
    compactor_incarnation: int = 0
    away_at: float = field(default_factory=time.monotonic)  # when it was seen to go, or we started
    is_supplied: bool = False  # since it came online, it was given what it needs to take puts
    token_keys: dict[str, bytes] = field(default_factory=dict)
    volumes: dict[int, VolumeState] = field(default_factory=dict)

    @property
    def is_online(self) -> bool:
        return self.peer is not None


@dataclass(frozen=True)
class CompactorSession:
    """What a compactor's connection may do: nothing but wait for orders."""

    disk: DiskState


class Fleet:
    def __init__(self, ledger: Ledger, *, disk_reserve: int) -> None:
        self._ledger = ledger
        self._disk_reserve = disk_reserve
        self.disks: dict[str, DiskState] = {}
        self.volumes: dict[int, VolumeState] = {}

    def add_disk(self, disk: DiskState) -> DiskState:
        return self.disks.setdefault(disk.disk_id, disk)

    def add_volume(self, volume: VolumeState) -> None:
        self.volumes[volume.volume_id] = volume
        self.disks[volume.disk_id].volumes[volume.volume_id] = volume

    # --- what the volume actors say ---------------------------------------------------------------

    def came(self, register: Register, peer: Peer, *, now_ms: int) -> list[int]:
        """A disk registered; return the volumes it has that the catalog does not know."""
        disk = self.disks[register.disk_id]
        disk.peer, disk.url, disk.incarnation = peer, register.url, register.incarnation
        disk.is_supplied = False
        disk.name, disk.capacity, disk.since_ms = register.disk_name, register.disk_capacity, now_ms
        for volume in disk.volumes.values():
            volume.report = None  # a volume that it does not name any more is missing
        return self._take(disk, register.volumes, register.disk_free, register.is_read_only)

    def reported(self, disk: DiskState, report: DiskReport) -> None:
        self._take(disk, report.volumes, report.disk_free, report.is_read_only)

    def _take(self, disk: DiskState, reports: list[VolumeReport], free: int, is_read_only: bool) -> list[int]:
        disk.free, disk.is_read_only = free, is_read_only
        unknown = []
        for report in reports:
            volume = disk.volumes.get(report.volume_id)
            if volume is None or volume.uuid != report.uuid:
                unknown.append(report.volume_id)
            else:
                self.take_report(volume, report)
        return unknown

    def take_report(self, volume: VolumeState, report: VolumeReport) -> None:
        volume.report, volume.written_since_report, volume.is_created = report, 0, True
        # After a restored backup the catalog may lag behind the disk: an id is never handed out twice.
        volume.next_needle_id = max(volume.next_needle_id, report.needle_id_max + 1)

    def went(self, peer: Peer, *, now_ms: int) -> DiskState | None:
        """A connection is gone; return the disk that is offline now, if it was one."""
        for disk in self.disks.values():
            if disk.peer is peer:
                disk.peer, disk.since_ms, disk.away_at = None, now_ms, time.monotonic()
                return disk
        return None

    def compactor_came(self, disk: DiskState, peer: Peer, *, incarnation: int) -> None:
        disk.compactor, disk.compactor_incarnation = peer, incarnation
        peer.session = CompactorSession(disk)

    def compactor_went(self, peer: Peer) -> DiskState | None:
        """A connection is gone; return the disk that has no compactor now, if it was one's."""
        session = peer.session
        if not isinstance(session, CompactorSession) or session.disk.compactor is not peer:
            return None
        session.disk.compactor = None
        return session.disk

    def disk_of(self, peer: Peer) -> DiskState | None:
        disk = peer.session
        return disk if isinstance(disk, DiskState) and disk.peer is peer else None

    def back_soon(self, volume_ids: Iterable[int], *, grace_s: float) -> list[int]:
        """Those of the volumes whose disk went away a moment ago, as it does when its actor restarts."""
        now = time.monotonic()
        return [
            volume_id
            for volume_id in volume_ids
            if (volume := self.volumes.get(volume_id)) is not None
            and now - self.disks[volume.disk_id].away_at < grace_s
        ]

    # --- room -------------------------------------------------------------------------------------

    def room(self, volume: VolumeState) -> int:
        """Bytes that may still be promised on this volume."""
        return self._space(volume) if self.is_writable(volume) else 0

    def _space(self, volume: VolumeState) -> int:
        """Bytes that would fit, whether or not it may be written now."""
        disk = self.disks[volume.disk_id]
        in_volume = volume.capacity - volume.file_size - self._ledger.reserved(volume.volume_id)
        promised = sum(self._ledger.reserved(other) for other in disk.volumes)
        written = sum(other.written_since_report for other in disk.volumes.values())
        return max(0, min(in_volume, disk.free - self._disk_reserve - promised - written))

    def is_writable(self, volume: VolumeState) -> bool:
        disk = self.disks[volume.disk_id]
        return (
            disk.is_online
            and not disk.is_read_only
            and volume.report is not None
            and volume.report.sealed_cause is None
            and volume.ids_left > 0
        )

    def lacks_only_ids(self) -> bool:
        """Is there a volume that could be written, if its next needle ids were reserved already?"""
        return any(
            volume.ids_left <= 0
            and volume.report is not None
            and volume.report.sealed_cause is None
            and self.disks[volume.disk_id].is_online
            and not self.disks[volume.disk_id].is_read_only
            for volume in self.volumes.values()
        )

    def candidates(self) -> list[Candidate]:
        return [
            Candidate(volume.volume_id, volume.disk_id, room)
            for volume in self.volumes.values()
            if (room := self.room(volume)) > 0
        ]

    def writable_count(self) -> int:
        return sum(self.is_writable(volume) for volume in self.volumes.values())

    def needs_volume(self, disk: DiskState, *, room_wanted: int) -> bool:
        """Would one more volume give this disk room that its present ones do not have?"""
        if (
            not disk.is_online
            or disk.is_read_only
            or any(not volume.is_created for volume in disk.volumes.values())
        ):
            return False
        if any(volume.report and volume.report.sealed_cause for volume in disk.volumes.values()):
            return False  # an fsync failed here: a person should look at this disk before it gets more
        promised = sum(self._ledger.reserved(volume) for volume in disk.volumes)
        if not disk.volumes:
            return True  # even on a full disk: then "full" is what clients are told, not "no volume"
        open_room = max(self._space(volume) for volume in disk.volumes.values())
        return open_room < room_wanted and disk.free - self._disk_reserve - promised > 2 * room_wanted

    # --- what people see --------------------------------------------------------------------------

    def unchecked_s(self, now_ms: int) -> float:
        """Age of the oldest byte of all volumes that was not read again since it was written."""
        return max((_age_s(volume, now_ms) for volume in self.volumes.values()), default=0.0)

    def status(self, jobs: Mapping[int, Job], *, now_ms: int) -> list[DiskStatus]:
        """
        Args:
            jobs: by volume, the job that is under way.
        """
        disks = sorted(self.disks.values(), key=lambda disk: disk.name)
        return [self._disk_status(disk, jobs, now_ms) for disk in disks]

    def _disk_status(self, disk: DiskState, jobs: Mapping[int, Job], now_ms: int) -> DiskStatus:
        return DiskStatus(
            disk_id=disk.disk_id,
            name=disk.name,
            url=disk.url,
            is_online=disk.is_online,
            since_ms=disk.since_ms,
            capacity=disk.capacity,
            free=disk.free,
            is_read_only=disk.is_read_only,
            volumes=list(self._volume_statuses(disk, jobs, now_ms)),
        )

    def _volume_statuses(
        self, disk: DiskState, jobs: Mapping[int, Job], now_ms: int
    ) -> Iterator[VolumeStatus]:
        for volume in sorted(disk.volumes.values(), key=lambda volume: volume.volume_id):
            report = volume.report or VolumeReport(
                volume_id=volume.volume_id,
                uuid=volume.uuid,
                generation=0,
                capacity=volume.capacity,
                file_size=0,
                live_count=0,
                live_bytes=0,
                dead_bytes=0,
                needle_id_max=0,
                stamp_max=0,
            )
            yield VolumeStatus(
                report=report,
                reserved_bytes=self._ledger.reserved(volume.volume_id),
                state=self._state(volume),
                verified_ms=volume.verified_ms,
                unchecked_s=_age_s(volume, now_ms),
                job=jobs.get(volume.volume_id),
            )

    def _state(self, volume: VolumeState) -> str:
        if not volume.is_created:
            return "creating"
        if volume.report is None:
            return "missing" if self.disks[volume.disk_id].is_online else "offline"
        if volume.report.sealed_cause is not None:
            return "sealed"
        if not self.disks[volume.disk_id].is_online:
            return "offline"
        return "open" if self._space(volume) > 0 else "full"

    def health(self) -> str:
        if self.writable_count() == 0:
            return "down"
        troubled = any(
            not disk.is_online
            or any(
                volume.report is None or volume.report.sealed_cause or volume.report.damaged_count
                for volume in disk.volumes.values()
            )
            for disk in self.disks.values()
        )
        return "degraded" if troubled else "ok"


def _age_s(volume: VolumeState, now_ms: int) -> float:
    """A volume whose age nobody knows has nothing in it that could be old."""
    return max(0, now_ms - volume.checked_ms) / 1000 if volume.checked_ms else 0.0
