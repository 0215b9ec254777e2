"""Messages for a person or a monitor: the status of the cluster, page by page, and its events.

`Status` with all that hangs on it and `Event` are public: programs hold them (`warehouse.Status`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.jobs import Job
from warehouse.transport.messages.numbers import Boot, Id32, Signed, Whole
from warehouse.transport.messages.texts import Batch, Few, Many, Name, Page, Sentence, Url, Volumes, Word
from warehouse.transport.messages.volumes import NeedleDamage, VolumeReport

TROUBLES_MAX = 100  # troubles in a status


class ClusterStatus(Message, frozen=True, tag="cluster_status"):
    is_paged: bool = False  # False: all disks in one answer, refused if it is too long
    from_disk: Name = ""  # id of the disk that the page begins with; "": the first
    from_volume: Id32 = 0  # only volumes of that disk from this one on
    has_volumes: bool = True  # False: disks with their sums, and no volume


class ListVolumes(Message, frozen=True, tag="list_volumes"):
    """Volumes of one disk by their numbers, or without a disk those of some numbers, wherever they are."""

    disk_id: Name = ""
    from_volume: Id32 = 0  # only volumes of that disk from this one on
    limit: Whole = 100  # of them; at most 1,000
    volume_ids: Annotated[list[Id32], Page] = []  # those that do not exist are left out


class VolumeStatus(msgspec.Struct, frozen=True, kw_only=True):
    report: VolumeReport
    reserved_bytes: Whole  # promised to leases and uploads, not written yet
    state: Word  # "open", "full", "sealed", "creating", "missing", "offline"
    verified_ms: Whole | None = None  # when the last complete verification began
    unchecked_s: float = 0.0  # age of the oldest byte that was not read again since then
    job: Job | None = None  # under way now


class DiskStatus(msgspec.Struct, frozen=True, kw_only=True):
    disk_id: Name
    name: Name
    url: Url
    is_online: bool
    since_ms: Whole  # wall time of the last change of is_online
    capacity: Whole
    free: Whole
    is_read_only: bool
    volumes: Annotated[list[VolumeStatus], Volumes]
    clock_skew_s: float | None = None  # its wall clock less the master's; None: not measured
    set_aside: Sentence | None = None  # why nothing is written to it
    # Sums over its volumes, up to a second old.
    volume_count: Whole = 0
    live_count: Whole = 0  # needles
    live_bytes: Whole = 0
    dead_bytes: Whole = 0


class VolumesListed(Message, frozen=True, tag="volumes_listed"):
    volumes: Annotated[list[VolumeStatus], Volumes]
    next_volume: Id32 = 0  # the first one that did not fit; 0: there are no more
    disk_ids: Annotated[dict[Id32, Name], Page] = {}  # by volume id, of those that were asked for by number


class LeftAlone(msgspec.Struct, frozen=True, kw_only=True):
    """Why a volume is not compacted for now, although it holds enough garbage."""

    volume_id: Id32
    until_ms: Whole  # wall time
    code: Word  # "in_vain", "failed", "cancelled", "no_room": how its last compaction ended
    message: Sentence = ""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong now; names are stable."""

    name: Name  # "disk_behind", "catalog_behind", "stamp_refused", "orphans_kept", "clock_skew", ...
    subject: Sentence  # the disk, volume, or other thing
    message: Sentence  # what it is and what to do
    since_ms: Whole


class Status(Message, frozen=True, tag="status"):
    """How the whole store is: its health, its disks, what it holds, what it works on."""

    version: Name
    incarnation: Boot
    uptime_s: float
    health: Word  # "ok", "degraded" (some disk is offline or sealed), "down" (no disk takes writes)
    disks: Annotated[list[DiskStatus], Many]
    bucket_count: Whole
    object_count: Whole
    byte_count: Whole
    garbage_count: Whole  # needles that wait for their tombstone
    upload_count: Whole
    client_count: Whole
    damages: Annotated[list[NeedleDamage], Page] = []  # known and not repaired; at most DAMAGES_MAX
    damage_count: Whole = 0
    unchecked_s: float = 0.0  # age of the oldest byte of all volumes that no verification has read again
    orphan_count: Whole = (
        0  # needles without a row that the master looks into, or has set aside after a restore
    )
    is_paused: bool = False  # compaction and verification
    compactors: Annotated[list[Name], Many] = []  # names of the disks whose compactor is connected
    gateways: Annotated[list[Name], Many] = []  # names of the S3 gateways that are connected
    # Volumes full of garbage that the policy does not compact for now.
    left_alone: Annotated[list[LeftAlone], Many] = []
    stalled_job_count: Whole = 0  # jobs without progress for minutes
    # What is wrong now, and what to do about it; at most TROUBLES_MAX.
    troubles: Annotated[list[Trouble], Few] = []
    trouble_count: Whole = 0
    catalog_free: Whole | None = None  # bytes free on the disk of the catalog
    # Where the next page begins; "": this was the last.  Only disks are paged: all lists are on the first.
    next_disk: Name = ""
    next_volume: Id32 = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator may want to know; codes and field names are stable."""

    sequence: Whole  # grows by one; starts again with each start of the master
    at_ms: Whole
    name: Name  # "compaction_finished", "damage_found", "disk_offline", ...
    fields: Annotated[dict[Word, Sentence | Signed | float | bool | None], Few] = {}


class ListEvents(Message, frozen=True, tag="list_events"):
    """Events after a sequence number; if there is none, the master waits for one, at most `wait_s`."""

    after: Signed  # -1: no past events, only where the sequence is
    limit: Signed = 1000
    wait_s: float = 0.0


class Events(Message, frozen=True, tag="events"):
    events: Annotated[list[Event], Batch]
    next_after: Whole
    incarnation: Boot  # of the master: another incarnation counts from the beginning
