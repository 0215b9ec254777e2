"""Fleet: the disks and volumes as the master knows them at this moment.

The catalog says which volumes exist and which disks hold them; the volume actors say who is online and how
full they are.  This file joins the two: plain state, no waiting, no sockets but the peers it was handed.

Nothing here costs more because there are more volumes: sums are kept for each disk, the room of volumes is
in the trees of `catalog.placement`, and a volume that changed is only marked.  `_settle` brings sums and
trees up to date with the marked ones before anybody reads them.  So whoever changes a volume does it with
a method of `Fleet`, and never on the `VolumeState` alone.

What people see of all this is in `fleet_status`.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from warehouse.actors.control import fleet_status
from warehouse.actors.control.reservations import Reservations
from warehouse.catalog.placement import Candidate, Places
from warehouse.conf.formatting import format_size
from warehouse.errors import DiskFull, StoreError
from warehouse.transport.messages import DiskReport, DiskStatus, Job, Register, VolumeReport
from warehouse.transport.zeromq.peers import Peer

NEEDLE_ID_MAX = 2**32 - 1
# A volume that has fewer needle ids left than this is as good as full: the next one is made meanwhile.
# At 10,000 puts a second they last for seven hours.
NEEDLE_IDS_SCARCE = 2**28
# After this many failed fsyncs the disk itself is in doubt: it takes no more writes.  One or two volumes
# that are sealed may be single bad blocks, and must not stop a disk that is fine elsewhere.
SEALED_MAX = 3
# A volume whose size is not set is a hundredth of its disk, within bounds: with fewer, larger ones a
# compaction would need more spare room; with more, everything that is done for each volume adds up.
GIB = 1024**3
VOLUMES_A_DISK = 100
VOLUME_SIZE_LEAST = 32 * GIB
VOLUME_SIZE_MOST = 256 * GIB
# Of one disk: its actor names them all in one message when it registers, and keeps their files open.
VOLUMES_MAX = 8000
# A disk with less room than this gets no further volume for it.
ROOM_MIN = 1024 * 1024
# Needle ids are reserved durably in steps.  A restart of the master skips what is left of the last step, so
# steps begin small and double with use.
IDS_STEP_FIRST = 16_384
IDS_STEP_MAX = 262_144


class _Counted(NamedTuple):
    """The part of a volume in the sums of its disk."""

    is_creating: bool = False
    is_open: bool = False
    has_scarce_ids: bool = False
    is_troubled: bool = False  # a person should know of it
    is_sealed: bool = False


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
    written_count: int = 0  # needles among them
    is_open_in_catalog: bool = False
    created_ms: int = 0
    verified_ms: int | None = None  # when the last verification that read all of it began
    # How far the one under way is; 0: there is none.
    verify_started_ms: int = 0
    verify_generation: int = 0
    verify_offset: int = 0
    ids_step: int = IDS_STEP_FIRST  # how many needle ids are reserved next
    seen: fleet_status.Seen | None = None  # what people saw of it latest, until it changes
    counted: _Counted = field(default_factory=lambda: _Counted())  # what the sums of its disk hold of it

    @property
    def file_size(self) -> int:
        return (self.report.file_size if self.report else 0) + self.written_since_report

    @property
    def ids_left(self) -> int:
        """Needle ids that can be handed out at once."""
        return self.needle_ids_reserved - self.next_needle_id + 1

    @property
    def is_out_of_ids(self) -> bool:
        """It has used up all needle ids that there can be in a volume."""
        return self.next_needle_id > NEEDLE_ID_MAX

    @property
    def has_scarce_ids(self) -> bool:
        return self.next_needle_id > NEEDLE_ID_MAX - NEEDLE_IDS_SCARCE

    @property
    def is_sealed(self) -> bool:
        return self.report is not None and self.report.sealed_cause is not None

    @property
    def is_open(self) -> bool:
        """Its actor has it, and it takes writes as far as the volume is concerned."""
        return self.report is not None and self.report.sealed_cause is None and not self.is_out_of_ids

    @property
    def is_short_of_ids(self) -> bool:
        """It is time to reserve more."""
        return self.ids_left < self.ids_step // 4 and self.needle_ids_reserved < NEEDLE_ID_MAX

    @property
    def checked_ms(self) -> int:
        """All of it that is older was read and checked again since this moment."""
        if self.verified_ms is not None:
            return self.verified_ms
        return (self.report.created_ms if self.report is not None else 0) or self.created_ms

    def as_counted(self) -> _Counted:
        """Its part in the sums of its disk, in one look, because every change asks."""
        report = self.report
        if report is None:
            return _Counted(is_creating=not self.is_created, is_troubled=True)
        is_sealed = report.sealed_cause is not None
        is_open = not is_sealed and not self.is_out_of_ids
        return _Counted(
            not self.is_created,
            is_open,
            is_open and self.has_scarce_ids,
            is_sealed or report.damaged_count > 0,
            is_sealed,
        )

    def verified(self, started_ms: int) -> None:
        self.verified_ms, self.seen = started_ms, None
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
    clock_skew_s: float | None = None  # its wall clock less ours; None: not measured
    is_clock_off: bool = False  # by more than tokens live: what is sent there would be refused
    set_aside: str | None = None  # why nothing is written to it, though it is online and can be read
    is_provisioned: bool = False  # since it came online, it has got what it needs to take puts
    token_keys: dict[str, bytes] = field(default_factory=dict)
    volumes: dict[int, VolumeState] = field(default_factory=dict)
    # Sums over its volumes, which `Fleet` keeps.
    reserved: int = 0
    written: int = 0
    creating_count: int = 0
    open_count: int = 0
    scarce_count: int = 0
    troubled_count: int = 0
    sealed_count: int = 0
    short_of_ids: dict[int, VolumeState] = field(default_factory=dict)  # those of them that have room
    # Those of which the catalog does not know yet that they are there, or when they were made.
    unrecorded: dict[int, VolumeState] = field(default_factory=dict)
    room_wanted: int = 0  # with less room than this in its volumes, it gets another one
    takes: int = 0  # bytes, in volumes that are there or will be
    make_error: StoreError | None = None  # why the latest attempt to make a volume failed

    @property
    def is_online(self) -> bool:
        return self.peer is not None

    @property
    def is_in_doubt(self) -> bool:
        """So many of its volumes are sealed that it gets no more writes until a person has looked at it."""
        return self.sealed_count >= SEALED_MAX

    @property
    def takes_writes(self) -> bool:
        return (
            self.is_online
            and not self.is_read_only
            and not self.is_in_doubt
            and self.set_aside is None
            and not self.is_clock_off
        )

    @property
    def cause(self) -> str:
        """Why it takes no writes, or gets no further volume, though it is online; empty: it does."""
        if self.set_aside is not None:
            return self.set_aside
        if self.is_clock_off:
            return f"its clock is {self.clock_skew_s or 0:,.0f} s from the master's, more than tokens live"
        if self.is_read_only:
            return "read-only"
        if self.is_in_doubt:
            sealed = next(volume for volume in self.volumes.values() if volume.is_sealed)
            assert sealed.report is not None
            return f"{self.sealed_count} of its volumes are sealed ({sealed.report.sealed_cause})"
        return f"no volume can be made: {self.make_error.message}" if self.make_error is not None else ""


class Outlook(enum.Enum):
    """Whether a disk that has no room for something now will have it, and what has to happen first."""

    COMING = enum.auto()  # the next volume or the next needle ids are on their way
    OFFLINE = enum.auto()
    FAILING = enum.auto()  # it is read-only, in doubt, or gets no volume made
    FULL = enum.auto()


@dataclass(frozen=True)
class CompactorSession:
    """What a compactor's connection may do: nothing but wait for orders."""

    disk: DiskState


class Fleet:
    """
    Args:
        chunk_size: the most that one request needs in one volume.
        volume_size: of volumes to be made; 0: it follows the disk.
        on_need: called with a disk that lacks needle ids or a volume.
        on_room: called when there may be more room than before.
    """

    def __init__(
        self,
        reservations: Reservations,
        *,
        disk_reserve: int,
        chunk_size: int = 0,
        volume_size: int = 0,
        on_need: Callable[[DiskState], None] = lambda disk: None,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_need = on_need
        self.on_room = on_room
        self._reservations = reservations
        self._disk_reserve = disk_reserve
        self._chunk_size = chunk_size
        self._volume_size = volume_size
        self._places = Places()
        # Changed since the last `_settle`.
        self._stale_volumes: dict[int, VolumeState] = {}
        self._stale_disks: dict[str, DiskState] = {}
        self._takes_at_most = 0  # the sum of what the disks take
        self.disks: dict[str, DiskState] = {}
        self.volumes: dict[int, VolumeState] = {}
        self._disk_by_peer: dict[Peer, DiskState] = {}
        reservations.on_change = self._reservation_changed

    def add_disk(self, disk: DiskState) -> DiskState:
        return self.disks.setdefault(disk.disk_id, disk)

    def add_volume(self, volume: VolumeState) -> None:
        disk = self.disks[volume.disk_id]
        self.volumes[volume.volume_id] = disk.volumes[volume.volume_id] = volume
        disk.reserved += self._reservations.reserved(volume.volume_id)
        disk.written += volume.written_since_report
        self._stale_volumes[volume.volume_id] = volume

    # --- what the volume actors say ---------------------------------------------------------------

    def came(self, register: Register, peer: Peer, *, now_ms: int) -> list[int]:
        """A disk registered; return the volumes it has that the catalog does not know."""
        disk = self.disks[register.disk_id]
        if disk.peer is not None:
            self._disk_by_peer.pop(disk.peer, None)
        self._disk_by_peer[peer] = disk
        disk.make_error = None
        disk.peer, disk.url, disk.incarnation = peer, register.url, register.incarnation
        disk.is_provisioned = False
        disk.name, disk.capacity, disk.since_ms = register.disk_name, register.disk_capacity, now_ms
        disk.room_wanted = self._room_wanted(disk)
        for volume in disk.volumes.values():
            volume.report = None  # a volume that it does not name any more is missing
            self._stale_volumes[volume.volume_id] = volume
        unknown = self._take(disk, register.volumes, register.disk_free, register.is_read_only)
        self._settle()
        return unknown

    def reported(self, disk: DiskState, report: DiskReport) -> None:
        """Volumes that a report does not name are as they were."""
        self._take(disk, report.volumes, report.disk_free, report.is_read_only)
        self._settle()

    def _take(self, disk: DiskState, reports: list[VolumeReport], free: int, is_read_only: bool) -> list[int]:
        disk.free, disk.is_read_only = free, is_read_only
        self._stale_disks[disk.disk_id] = disk
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
        self._settle()

    def _take_report(self, volume: VolumeState, report: VolumeReport) -> None:
        self.disks[volume.disk_id].written -= volume.written_since_report
        volume.report, volume.is_created = report, True
        volume.written_since_report = volume.written_count = 0
        # After a restored backup the catalog may lag behind the disk: an id is never handed out twice.
        volume.next_needle_id = max(volume.next_needle_id, report.needle_id_max + 1)
        if not volume.is_open_in_catalog or report.created_ms not in (0, volume.created_ms):
            self.disks[volume.disk_id].unrecorded[volume.volume_id] = volume
        self._stale_volumes[volume.volume_id] = volume

    def wrote(self, volume: VolumeState, stored_size: int, stamp: int = 0) -> None:
        """A needle of this size was committed; see `wrote_all`."""
        self.wrote_all(volume, [(stored_size, stamp)])

    def wrote_all(self, volume: VolumeState, needles: Iterable[tuple[int, int]]) -> None:
        """Needles were committed.

        Args:
            needles: the size of each, and its stamp or 0; the stamps of a volume grow, so a report that has
                seen a greater one has counted the needle already.
        """
        seen = volume.report.stamp_max if volume.report is not None else 0
        sizes = [size for size, stamp in needles if not 0 < stamp <= seen]
        if not sizes:
            return
        volume.written_since_report += sum(sizes)
        volume.written_count += len(sizes)
        self.disks[volume.disk_id].written += sum(sizes)
        self._stale_volumes[volume.volume_id] = volume

    def set_clock_skew(self, disk: DiskState, skew_s: float | None, *, is_off: bool) -> None:
        disk.clock_skew_s, disk.is_clock_off = skew_s, is_off
        self._stale_disks[disk.disk_id] = disk
        self._settle()

    def set_aside(self, disk: DiskState, cause: str | None) -> None:
        """Nothing is written to this disk from now on, or, without a cause, it may be again."""
        disk.set_aside = cause
        self._stale_disks[disk.disk_id] = disk
        self._settle()

    def went(self, peer: Peer, *, now_ms: int) -> DiskState | None:
        """A connection is gone; return the disk that is offline now, if it was one."""
        disk = self._disk_by_peer.pop(peer, None)
        if disk is None:
            return None
        disk.peer, disk.since_ms, disk.away_at = None, now_ms, time.monotonic()
        self._stale_disks[disk.disk_id] = disk
        return disk

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

    # --- needle ids -------------------------------------------------------------------------------

    def take_ids(self, volume: VolumeState, count: int) -> int:
        """Hand out `count` needle ids of those that are reserved; return the first."""
        assert count <= volume.ids_left
        first = volume.next_needle_id
        volume.next_needle_id += count
        self._stale_volumes[volume.volume_id] = volume
        return first

    def skip_ids(self, volume: VolumeState, upto: int) -> None:
        """Ids up to this one are never handed out, and reserved durably."""
        volume.next_needle_id = max(volume.next_needle_id, upto + 1)
        self.ids_reserved(volume, upto)

    def ids_reserved(self, volume: VolumeState, upto: int) -> None:
        """Ids up to this one are reserved durably."""
        volume.needle_ids_reserved = max(volume.needle_ids_reserved, upto)
        self._stale_volumes[volume.volume_id] = volume
        self._settle()

    # --- room -------------------------------------------------------------------------------------

    def choose(
        self, *, size: int, count: int, exclude: Collection[int] = (), random: Random
    ) -> list[VolumeState]:
        """Up to `count` volumes with room for `size` bytes each, see `Places.choose`."""
        self._settle()
        chosen = self._places.choose(size=size, count=count, exclude=exclude, random=random)
        return [self.volumes[volume_id] for volume_id in chosen]

    @property
    def step_count(self) -> int:
        """Steps that keeping and choosing have taken so far: what a test of their cost looks at."""
        return self._places.step_count

    @property
    def largest_room(self) -> int:
        """The most that fits into one of today's volumes."""
        self._settle()
        return max(0, self._places.largest)

    def room(self, volume: VolumeState) -> int:
        """Bytes that may be reserved on this volume now."""
        if not self.is_writable(volume) or volume.ids_left <= 0:
            return 0
        return self._space(volume)

    def room_on(self, disk: DiskState) -> int:
        """Bytes that this disk takes besides what is reserved, in the volumes it has or in new ones."""
        return max(0, disk.free - self._disk_reserve - disk.reserved - disk.written)

    def _in_volume(self, volume: VolumeState) -> int:
        return volume.capacity - volume.file_size - self._reservations.reserved(volume.volume_id)

    def _space(self, volume: VolumeState) -> int:
        """Bytes that would fit, whether or not it may be written now."""
        return max(0, min(self._in_volume(volume), self.room_on(self.disks[volume.disk_id])))

    def is_writable(self, volume: VolumeState) -> bool:
        """Does it take writes, as long as there is room and its next needle ids are reserved?"""
        self._settle()
        return volume.is_open and self.disks[volume.disk_id].takes_writes

    def candidates(self) -> list[Candidate]:
        """Every volume that has room; it looks at all of them, so no request asks this."""
        self._settle()
        return self._places.candidates()

    def writable_count(self) -> int:
        self._settle()
        return sum(disk.open_count for disk in self.disks.values() if disk.takes_writes)

    def needs_volume(self, disk: DiskState, *, room_wanted: int | None = None) -> bool:
        """Would one more volume give this disk room that its present ones do not have?"""
        self._settle()
        wanted = disk.room_wanted if room_wanted is None else room_wanted
        return disk.takes_writes and self._needs_volume(disk, wanted, self.room_on(disk))

    def _needs_volume(self, disk: DiskState, room_wanted: int, room: int) -> bool:
        if disk.creating_count or len(disk.volumes) >= VOLUMES_MAX:
            return False
        if not disk.volumes:
            return True  # even on a full disk: then "full" is what clients are told, not "no volume"
        return room >= ROOM_MIN and self._largest(disk) < min(room_wanted, room)

    def capacity_for(self, disk: DiskState) -> int:
        """How large a volume that is made on this disk may grow."""
        if self._volume_size:
            # On a disk that is large for such volumes the later ones are larger, so that they reach its end.
            left = max(1, VOLUMES_MAX - len(disk.volumes))
            return self._volume_size if left > VOLUMES_MAX // 2 else max(self._volume_size, disk.free // left)
        share = disk.capacity // VOLUMES_A_DISK // GIB * GIB
        return max(VOLUME_SIZE_LEAST, min(share, VOLUME_SIZE_MOST))

    def _room_wanted(self, disk: DiskState) -> int:
        """A disk whose volumes have less room than this left gets another one, ahead of need.

        A volume that was just made has more, or there would be one after the other.
        """
        capacity = self.capacity_for(disk)
        return min(max(2 * self._chunk_size, capacity // 32), capacity * 7 // 8)

    def outlook(self, disk: DiskState, size: int) -> tuple[Outlook, str]:
        """What becomes of a request for `size` bytes that found no room on this disk, and why."""
        self._settle()
        if not disk.is_online:
            return Outlook.OFFLINE, "offline"
        if not disk.takes_writes:
            return Outlook.FAILING, disk.cause
        room = self.room_on(disk)
        if room < max(size, ROOM_MIN) and self._largest(disk) < size:
            return Outlook.FULL, self._fullness(disk)
        if room < size:
            return Outlook.FULL, self._fullness(disk)
        if len(disk.volumes) >= VOLUMES_MAX:
            return Outlook.FULL, (
                f"it has {VOLUMES_MAX} volumes, as many as a disk may have: with a greater store.volume_size"
                " a new disk needs fewer"
            )
        if disk.short_of_ids or disk.make_error is None:
            return Outlook.COMING, "its next volume is being made"
        if isinstance(disk.make_error, DiskFull):
            return Outlook.FULL, disk.make_error.message
        return Outlook.FAILING, disk.cause

    def _fullness(self, disk: DiskState) -> str:
        text = f"full: {format_size(disk.free)} free, {format_size(self._disk_reserve)} of it kept in reserve"
        return f"{text}, {format_size(disk.reserved)} reserved" if disk.reserved else text

    @property
    def takes_at_most(self) -> int:
        """Bytes that all disks together can take, also those whose volumes are not made yet."""
        self._settle()
        return self._takes_at_most

    def _takes(self, disk: DiskState, room: int) -> int:
        """What a disk with this much room takes, as far as volumes can be made on it, if it takes writes."""
        gets_volumes = disk.make_error is None and len(disk.volumes) < VOLUMES_MAX
        return room if gets_volumes else min(room, self._places.total_of(disk.disk_id))

    def first_open(self, disk: DiskState, exclude: Collection[int] = ()) -> VolumeState | None:
        """A volume of this disk that takes writes and has room, the same one as long as it does."""
        self._settle()
        volume_id = self._places.first_on(disk.disk_id, exclude) if disk.takes_writes else None
        return None if volume_id is None else self.volumes[volume_id]

    def not_made(self, disk: DiskState, error: StoreError) -> None:
        """An attempt to make a volume on this disk failed."""
        disk.make_error = error
        self._stale_disks[disk.disk_id] = disk
        self.on_room()  # whoever waits for that volume had better know

    def made(self, disk: DiskState) -> None:
        disk.make_error = None
        self._stale_disks[disk.disk_id] = disk

    def remove_volume(self, volume: VolumeState) -> None:
        """A volume that was never made is given up."""
        disk = self.disks[volume.disk_id]
        del self.volumes[volume.volume_id], disk.volumes[volume.volume_id]
        self._stale_volumes.pop(volume.volume_id, None)
        self._count_as(disk, volume.counted, _Counted())
        self._places.set_volume(disk.disk_id, volume.volume_id, None)
        self._stale_disks[disk.disk_id] = disk

    def _largest(self, disk: DiskState) -> int:
        """The most that fits into one volume of this disk by its own size, now and for some time."""
        if disk.scarce_count:
            volumes = [
                volume for volume in disk.volumes.values() if not volume.has_scarce_ids and volume.is_open
            ]
            return max((self._in_volume(volume) for volume in volumes), default=0)
        largest = max(0, self._places.largest_on(disk.disk_id))
        if disk.short_of_ids:
            largest = max(largest, *(self._in_volume(volume) for volume in disk.short_of_ids.values()))
        return largest

    # --- what people see --------------------------------------------------------------------------

    def health(self) -> str:
        self._settle()
        return fleet_status.health(self)

    def unchecked_s(self, now_ms: int) -> float:
        """Age of the oldest byte of all volumes that was not read again since it was written."""
        return fleet_status.unchecked_s(self, now_ms)

    def status(
        self, jobs: Mapping[int, Job], *, now_ms: int, from_disk: str = "", from_volume: int = 0
    ) -> tuple[list[DiskStatus], tuple[str, int] | None]:
        """A page of it; see `fleet_status.status`."""
        self._settle()
        return fleet_status.status(
            self, self._reservations, jobs, now_ms=now_ms, from_disk=from_disk, from_volume=from_volume
        )

    # --- sums -------------------------------------------------------------------------------------

    def _reservation_changed(self, volume_id: int, delta: int) -> None:
        volume = self.volumes.get(volume_id)
        if volume is not None:
            self.disks[volume.disk_id].reserved += delta
            self._stale_volumes[volume_id] = volume

    def _settle(self) -> None:
        """Bring sums and trees up to date with what changed."""
        if not self._stale_volumes and not self._stale_disks:
            return
        stale_volumes, self._stale_volumes = self._stale_volumes, {}
        for volume in stale_volumes.values():
            self._count(volume)
        stale_disks, self._stale_disks = self._stale_disks, {}
        has_more = False
        for disk in stale_disks.values():
            room, takes_writes = self.room_on(disk), disk.takes_writes
            has_more |= self._places.set_disk(disk.disk_id, room if takes_writes and room > 0 else None)
            takes = self._takes(disk, room) if takes_writes else 0
            self._takes_at_most += takes - disk.takes
            disk.takes = takes
            if disk.is_online and (
                disk.short_of_ids
                or disk.unrecorded
                or (takes_writes and self._needs_volume(disk, disk.room_wanted, room))
            ):
                self.on_need(disk)
        if has_more:
            self.on_room()

    def _count(self, volume: VolumeState) -> None:
        disk, before = self.disks[volume.disk_id], volume.counted
        volume.seen = None
        self._stale_disks[disk.disk_id] = disk
        now = volume.as_counted()
        if now != before:
            volume.counted = now
            self._count_as(disk, before, now)
        room = self._in_volume(volume) if now.is_open else 0
        if room > 0 and volume.is_short_of_ids:
            disk.short_of_ids[volume.volume_id] = volume
        elif disk.short_of_ids:
            disk.short_of_ids.pop(volume.volume_id, None)
        self._places.set_volume(
            disk.disk_id, volume.volume_id, room if room > 0 and volume.ids_left > 0 else None
        )

    def _count_as(self, disk: DiskState, before: _Counted, now: _Counted) -> None:
        disk.creating_count += now.is_creating - before.is_creating
        disk.open_count += now.is_open - before.is_open
        disk.scarce_count += now.has_scarce_ids - before.has_scarce_ids
        disk.troubled_count += now.is_troubled - before.is_troubled
        disk.sealed_count += now.is_sealed - before.is_sealed
