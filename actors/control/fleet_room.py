"""FleetRoom: how much room the volumes and disks of the fleet have, and which disk needs another volume.

Nothing here costs more because there are more volumes: each disk has sums, and the room of the volumes is in
the trees of `catalog.placement`.  `Fleet` only marks a volume or a disk that changed; `refresh` brings sums
and trees up to date with the marked ones before anybody reads them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from random import Random

from warehouse.actors.control.fleet_state import NEWEST_FORMAT, Counted, DiskState, VolumeState
from warehouse.actors.control.reservations import Reservations
from warehouse.catalog.placement import Candidate, Places
from warehouse.conf.formatting import format_size
from warehouse.errors import DiskFull

# A volume whose size is not set is a hundredth of its disk, within bounds: with fewer, larger volumes a
# compaction would need more spare room; with more of them, the work for each volume adds up.
GIB = 1024**3
VOLUMES_A_DISK = 100
VOLUME_SIZE_LEAST = 32 * GIB
VOLUME_SIZE_MOST = 256 * GIB
# Of one disk: its actor names all its volumes in one message when it registers, and keeps their files open.
VOLUMES_MAX = 8000
ROOM_MIN = 1024 * 1024  # a disk with less room than this gets no further volume for it


class Outlook(enum.Enum):
    """Whether a disk that has no room for something now will have it, and what has to happen first."""

    COMING = enum.auto()  # the master is making the next volume, or reserving the next needle ids
    OFFLINE = enum.auto()
    FAILING = enum.auto()  # it is read-only, in doubt, or no volume can be made on it
    FULL = enum.auto()


class FleetRoom:
    """
    Args:
        disks, volumes: those of the fleet, by id.
        chunk_size: the most that one request needs in one volume.
        volume_size: of volumes to be made; 0: it follows the disk.
    Attributes:
        on_need: called with a disk that lacks needle ids or a volume.
        on_room: called when there may be more room than before.
    """

    def __init__(
        self,
        disks: dict[str, DiskState],
        volumes: dict[int, VolumeState],
        reservations: Reservations,
        *,
        disk_reserve: int,
        chunk_size: int = 0,
        volume_size: int = 0,
    ) -> None:
        self.on_need: Callable[[DiskState], None] = lambda disk: None
        self.on_room: Callable[[], None] = lambda: None
        self._disks = disks
        self._volumes = volumes
        self._reservations = reservations
        self._disk_reserve = disk_reserve
        self._chunk_size = chunk_size
        self._volume_size = volume_size
        self._places = Places()
        # The same of volumes of the newest format; None: all that were ever reported are.
        self._newer: Places | None = None
        # Changed since the last `refresh`.
        self._stale_volumes: dict[int, VolumeState] = {}
        self._stale_disks: dict[str, DiskState] = {}
        self._takes_at_most = 0  # the sum of what the disks take
        reservations.on_change = self._reservation_changed

    # --- what has changed -------------------------------------------------------------------------

    def volume_added(self, volume: VolumeState) -> None:
        disk = self._disks[volume.disk_id]
        disk.reserved += self._reservations.reserved(volume.volume_id)
        disk.written += volume.written_since_report
        self._stale_volumes[volume.volume_id] = volume

    def volume_changed(self, volume: VolumeState) -> None:
        self._stale_volumes[volume.volume_id] = volume

    def disk_changed(self, disk: DiskState) -> None:
        self._stale_disks[disk.disk_id] = disk

    def volume_removed(self, volume: VolumeState) -> None:
        disk = self._disks[volume.disk_id]
        self._stale_volumes.pop(volume.volume_id, None)
        self._count_as(disk, volume.counted, Counted())
        for places in self._all_places():
            places.set_volume(disk.disk_id, volume.volume_id, None)
        self._stale_disks[disk.disk_id] = disk

    def disk_removed(self, disk: DiskState) -> None:
        """Its volumes are removed; the disk itself is still known, for the last time."""
        self.refresh()
        for places in self._all_places():
            places.set_disk(disk.disk_id, None)
        self._takes_at_most -= disk.takes
        self._stale_disks.pop(disk.disk_id, None)

    def _reservation_changed(self, volume_id: int, delta: int) -> None:
        volume = self._volumes.get(volume_id)
        if volume is not None:
            self._disks[volume.disk_id].reserved += delta
            self._stale_volumes[volume_id] = volume

    def refresh(self) -> None:
        """Bring sums and trees up to date with what changed."""
        if not self._stale_volumes and not self._stale_disks:
            return
        stale_volumes, self._stale_volumes = self._stale_volumes, {}
        if self._newer is None and any(volume.is_older for volume in stale_volumes.values()):
            self._newer = Places()
            stale_volumes = {**self._volumes, **stale_volumes}
            self._stale_disks.update(self._disks)
        for volume in stale_volumes.values():
            self._count(volume)
        stale_disks, self._stale_disks = self._stale_disks, {}
        has_more = False
        for disk in stale_disks.values():
            room, takes_writes = self.on_disk(disk), disk.takes_writes
            for places in self._all_places():
                has_more |= places.set_disk(disk.disk_id, room if takes_writes and room > 0 else None)
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
        disk, before = self._disks[volume.disk_id], volume.counted
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
        taken = room if room > 0 and volume.ids_left > 0 else None
        self._places.set_volume(disk.disk_id, volume.volume_id, taken)
        if self._newer is not None:
            self._newer.set_volume(disk.disk_id, volume.volume_id, None if volume.is_older else taken)

    def _all_places(self) -> tuple[Places, ...]:
        return (self._places,) if self._newer is None else (self._places, self._newer)

    def _places_of(self, format_min: int) -> Places:
        return self._places if self._newer is None or format_min < NEWEST_FORMAT else self._newer

    def _count_as(self, disk: DiskState, before: Counted, now: Counted) -> None:
        disk.creating_count += now.is_creating - before.is_creating
        disk.open_count += now.is_open - before.is_open
        disk.scarce_count += now.has_scarce_ids - before.has_scarce_ids
        disk.troubled_count += now.is_troubled - before.is_troubled
        disk.sealed_count += now.is_sealed - before.is_sealed

    # --- the room of volumes and disks ------------------------------------------------------------

    def choose(
        self, *, size: int, count: int, exclude: Collection[int] = (), random: Random, format_min: int = 1
    ) -> list[VolumeState]:
        """Up to `count` volumes of that format with room for `size` bytes each, see `Places.choose`."""
        self.refresh()
        chosen = self._places_of(format_min).choose(size=size, count=count, exclude=exclude, random=random)
        return [self._volumes[volume_id] for volume_id in chosen]

    def candidates(self) -> list[Candidate]:
        """Every volume that has room.  This looks at all volumes, so no request may ask it."""
        self.refresh()
        return self._places.candidates()

    @property
    def step_count(self) -> int:
        """Steps that updates and choices have taken so far; a test of their cost reads it."""
        return self._places.step_count

    @property
    def largest(self) -> int:
        """The most that fits into one of the present volumes."""
        self.refresh()
        return max(0, self._places.largest)

    def of(self, volume: VolumeState) -> int:
        """Bytes that may be reserved on this volume now."""
        if not self.is_writable(volume) or volume.ids_left <= 0:
            return 0
        return max(0, min(self._in_volume(volume), self.on_disk(self._disks[volume.disk_id])))

    def on_disk(self, disk: DiskState) -> int:
        """Bytes that this disk takes in addition to the reserved ones, in its present or in new volumes."""
        return max(0, disk.free - self._disk_reserve - disk.reserved - disk.written)

    def _in_volume(self, volume: VolumeState) -> int:
        return volume.capacity - volume.file_size - self._reservations.reserved(volume.volume_id)

    def is_writable(self, volume: VolumeState) -> bool:
        """Does it take writes, as far as room and needle ids allow?"""
        self.refresh()
        return volume.is_open and self._disks[volume.disk_id].takes_writes

    def writable_count(self) -> int:
        self.refresh()
        return sum(disk.open_count for disk in self._disks.values() if disk.takes_writes)

    def first_open(self, disk: DiskState, exclude: Collection[int] = ()) -> VolumeState | None:
        """A volume of this disk that takes writes and has room; the same volume as long as it does."""
        self.refresh()
        volume_id = self._places.first_on(disk.disk_id, exclude) if disk.takes_writes else None
        return None if volume_id is None else self._volumes[volume_id]

    @property
    def takes_at_most(self) -> int:
        """Bytes that all disks together can take, including volumes that are not made yet."""
        self.refresh()
        return self._takes_at_most

    def _takes(self, disk: DiskState, room: int) -> int:
        """What a disk that takes writes and has this much room takes, if it gets the volumes for it."""
        gets_volumes = disk.make_error is None and len(disk.volumes) < VOLUMES_MAX
        return room if gets_volumes else min(room, self._places.total_of(disk.disk_id))

    def _largest(self, disk: DiskState, format_min: int = 1) -> int:
        """The most that fits into one volume of this disk by the size of the volume alone."""
        is_newest = format_min >= NEWEST_FORMAT
        if disk.scarce_count:
            volumes = [
                volume for volume in disk.volumes.values() if not volume.has_scarce_ids and volume.is_open
            ]
            return max(
                (self._in_volume(volume) for volume in volumes if not (is_newest and volume.is_older)),
                default=0,
            )
        largest = max(0, self._places_of(format_min).largest_on(disk.disk_id))
        for volume in disk.short_of_ids.values():
            if not (is_newest and volume.is_older):
                largest = max(largest, self._in_volume(volume))
        return largest

    # --- further volumes --------------------------------------------------------------------------

    def needs_volume(self, disk: DiskState, *, room_wanted: int | None = None) -> bool:
        """Would one more volume give this disk room that its present volumes do not have?"""
        self.refresh()
        wanted = disk.room_wanted if room_wanted is None else room_wanted
        return disk.takes_writes and self._needs_volume(disk, wanted, self.on_disk(disk))

    def _needs_volume(self, disk: DiskState, room_wanted: int, room: int) -> bool:
        if disk.creating_count or len(disk.volumes) >= VOLUMES_MAX:
            return False
        if not disk.volumes:
            return True  # also on a full disk, so that its clients hear "full" and not "no volume"
        format_min = NEWEST_FORMAT if disk.wants_newer and disk.makes_format >= NEWEST_FORMAT else 1
        return room >= ROOM_MIN and self._largest(disk, format_min) < min(room_wanted, room)

    def want_format(self, format_min: int) -> None:
        """A request needs volumes of this format: disks make some, although older volumes have room."""
        if format_min < NEWEST_FORMAT or self._newer is None:
            return
        for disk in self._disks.values():
            if not disk.wants_newer:
                disk.wants_newer = True
                self._stale_disks[disk.disk_id] = disk
        self.refresh()

    def capacity_for(self, disk: DiskState) -> int:
        """How large the next volume of this disk may grow."""
        if self._volume_size:
            # A disk may be too large for VOLUMES_MAX such volumes.  Then its later volumes are larger, so
            # that all of them together fill it.
            left = max(1, VOLUMES_MAX - len(disk.volumes))
            return self._volume_size if left > VOLUMES_MAX // 2 else max(self._volume_size, disk.free // left)
        share = disk.capacity // VOLUMES_A_DISK // GIB * GIB
        return max(VOLUME_SIZE_LEAST, min(share, VOLUME_SIZE_MOST))

    def room_wanted(self, disk: DiskState) -> int:
        """A disk whose volumes have less room than this left gets another volume, ahead of need.

        A new volume has more room than this, or the master would make volumes without end.
        """
        capacity = self.capacity_for(disk)
        return min(max(2 * self._chunk_size, capacity // 32), capacity * 7 // 8)

    def outlook(self, disk: DiskState, size: int, format_min: int = 1) -> tuple[Outlook, str]:
        """What becomes of a request for `size` bytes that found no room on this disk, and why."""
        self.refresh()
        if not disk.is_online:
            return Outlook.OFFLINE, "offline"
        if not disk.takes_writes:
            return Outlook.FAILING, disk.cause
        room = self.on_disk(disk)
        if room < max(size, ROOM_MIN) and self._largest(disk, format_min) < size:
            return Outlook.FULL, self._fullness(disk)
        if room < size:
            return Outlook.FULL, self._fullness(disk)
        if len(disk.volumes) >= VOLUMES_MAX:
            return Outlook.FULL, (
                f"it has {VOLUMES_MAX} volumes, as many as a disk may have: set a greater store.volume_size,"
                " so that new disks need fewer"
            )
        if disk.makes_format < format_min:
            return (
                Outlook.FAILING,
                "its volume actor is of an older release: upgrade it",
            )
        if disk.short_of_ids or disk.make_error is None:
            return Outlook.COMING, "its next volume is being made"
        if isinstance(disk.make_error, DiskFull):
            return Outlook.FULL, disk.make_error.message
        return Outlook.FAILING, disk.cause

    def _fullness(self, disk: DiskState) -> str:
        text = f"full: {format_size(disk.free)} free, {format_size(self._disk_reserve)} of it kept in reserve"
        return (
            f"{text}, {format_size(disk.reserved)} reserved for writes under way" if disk.reserved else text
        )
