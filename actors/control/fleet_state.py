"""What the master knows of each disk and each volume at this moment; `Fleet` owns all of them.

Plain state: no waiting, no sockets.  Change a volume or a disk with a method of `Fleet`, or the sums in
`fleet_room` are wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from warehouse.errors import StoreError
from warehouse.transport.messages import VolumeReport, VolumeStatus
from warehouse.transport.zeromq.peers import Peer

NEEDLE_ID_MAX = 2**32 - 1
# A volume with fewer needle ids left than this counts as full, and the master makes the next one meanwhile.
# At 10,000 puts a second these ids last for seven hours.
NEEDLE_IDS_SCARCE = 2**28
# Needle ids are reserved durably in steps.  A restart of the master skips the rest of the last step, so steps
# begin small and double with use.
IDS_STEP_FIRST = 16_384
IDS_STEP_MAX = 262_144
# Of volumes: disks make such ones, and needles with attributes or a role need one.  Those that an older
# release has made are of format 1 until a compaction.
NEWEST_FORMAT = 2
# With this many sealed volumes, the disk itself is in doubt and takes no more writes.  One or two sealed
# volumes may be single bad blocks, and must not stop a disk that is fine elsewhere.
SEALED_MAX = 3


class Seen(NamedTuple):
    """The latest status of a volume that an operator saw, and what it depended on."""

    at_ms: int
    is_online: bool
    has_room: bool
    status: VolumeStatus


class Counted(NamedTuple):
    """What one volume adds to the sums of its disk."""

    is_creating: bool = False
    is_open: bool = False
    has_scarce_ids: bool = False
    is_troubled: bool = False  # an operator should know of it
    is_sealed: bool = False


class DiskContent(NamedTuple):
    """Sums over the volumes of a disk."""

    live_count: int = 0  # needles
    stored_bytes: int = 0
    dead_bytes: int = 0


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
    verified_ms: int | None = None  # when the latest complete verification began
    # How far the verification that is under way has come; all 0 without one.
    verify_started_ms: int = 0
    verify_generation: int = 0
    verify_offset: int = 0
    ids_step: int = IDS_STEP_FIRST  # how many needle ids are reserved next
    seen: Seen | None = None  # until the volume changes
    counted: Counted = field(default_factory=lambda: Counted())  # what the sums of its disk contain for it

    @property
    def file_size(self) -> int:
        return (self.report.file_size if self.report else 0) + self.written_since_report

    @property
    def ids_left(self) -> int:
        """Needle ids that the master can hand out without a write to the catalog."""
        return self.needle_ids_reserved - self.next_needle_id + 1

    @property
    def is_out_of_ids(self) -> bool:
        """It has used up all needle ids that a volume can have."""
        return self.next_needle_id > NEEDLE_ID_MAX

    @property
    def has_scarce_ids(self) -> bool:
        return self.next_needle_id > NEEDLE_ID_MAX - NEEDLE_IDS_SCARCE

    @property
    def is_older(self) -> bool:
        """It does not take what needs the newest format."""
        return self.report is not None and self.report.format < NEWEST_FORMAT

    @property
    def is_sealed(self) -> bool:
        return self.report is not None and self.report.sealed_cause is not None

    @property
    def is_open(self) -> bool:
        """Its actor has it, and the volume itself does not keep anybody from writing."""
        return self.report is not None and self.report.sealed_cause is None and not self.is_out_of_ids

    @property
    def is_short_of_ids(self) -> bool:
        """It is time to reserve more."""
        return self.ids_left < self.ids_step // 4 and self.needle_ids_reserved < NEEDLE_ID_MAX

    @property
    def checked_ms(self) -> int:
        """Since this moment all older bytes of the volume were read and checked again."""
        if self.verified_ms is not None:
            return self.verified_ms
        return (self.report.created_ms if self.report is not None else 0) or self.created_ms

    def as_counted(self) -> Counted:
        """What it adds to the sums of its disk; one call, because every change asks."""
        report = self.report
        if report is None:
            return Counted(is_creating=not self.is_created, is_troubled=True)
        is_sealed = report.sealed_cause is not None
        is_open = not is_sealed and not self.is_out_of_ids
        return Counted(
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
    away_at: float = field(default_factory=time.monotonic)  # when it went, or the master started
    clock_skew_s: float | None = None  # its wall clock minus ours; None: not measured
    is_clock_off: bool = False  # by more than the life of a token: the disk would refuse every request
    set_aside: str | None = None  # why nobody writes to it, though it is online and can be read
    is_provisioned: bool = False  # since it came online, it has got what it needs to take puts
    node_key: str = ""  # of the node that it belongs to; "": of none yet
    has_older_urls: bool = False  # signed before it belonged to its node, and perhaps still good
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
    short_of_ids: dict[int, VolumeState] = field(default_factory=dict)  # volumes that have room
    # Volumes of which the catalog does not know yet that they exist, or when they were made.
    unrecorded: dict[int, VolumeState] = field(default_factory=dict)
    room_wanted: int = 0  # with less room than this in its volumes, it gets another volume
    takes: int = 0  # bytes, in volumes that exist or will be made
    wants_newer: bool = False  # its volumes of older formats do not count as room for the next volume
    makes_format: int = NEWEST_FORMAT  # as far as its latest new volume tells
    make_error: StoreError | None = None  # why the latest attempt to make a volume failed

    @property
    def is_online(self) -> bool:
        return self.peer is not None

    @property
    def is_in_doubt(self) -> bool:
        """So many of its volumes are sealed that it takes no writes until an operator has checked it."""
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
        """Why it takes no writes, or gets no further volume, though it is online; empty: no reason."""
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


@dataclass(frozen=True)
class GatewaySession:
    """Marks the connection of an S3 gateway, which shows signatures (`gateways.py`)."""

    name: str
    incarnation: int
    url: str = ""


@dataclass(frozen=True)
class CompactorSession:
    """Marks the connection of a compactor, which may send no requests: it only answers calls."""

    disk: DiskState
