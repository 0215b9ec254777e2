"""Messages about how busy and how full the store is: now, and over the last 30 days.

Volume actors count requests, bytes and latencies, and report the counts since their start (`DiskCounters`).
The master makes rates of them, and keeps a history.  `Figures`, `DiskFigures`, `Rates`, `HistoryPoint` and
`BucketPoint` are public: programs hold them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Whole
from warehouse.transport.messages.texts import Batch, Few, Many, Name, Word

HISTORY_POINTS_MAX = 2000  # points of one answer


class DiskCounters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one volume actor has done since it started."""

    gets: Whole = 0  # needles or ranges sent
    puts: Whole = 0  # needles stored and confirmed
    bytes_in: Whole = 0
    bytes_out: Whole = 0
    # How many took how long, by class of duration: see `actors/latencies.py`.
    get_latencies: Annotated[list[Whole], Few] = []
    put_latencies: Annotated[list[Whole], Few] = []


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How busy a disk or the whole store is.

    Gets and puts are counted at the disks: an object of several chunks counts once for each chunk.  A latency
    does not contain the client's network: a get's is the time until its first byte is ready, a put's the
    time from its last byte until it is durable and visible.  None: there was no such request.
    """

    gets_per_s: float = 0.0
    puts_per_s: float = 0.0
    deletes_per_s: float = 0.0  # objects; of the whole store only, like the next one
    other_per_s: float = 0.0  # lists, looks at objects and buckets, signed URLs, changes of buckets
    bytes_in_per_s: float = 0.0  # of objects, from clients
    bytes_out_per_s: float = 0.0
    get_p50_s: float | None = None  # half of the gets took at most this
    get_p99_s: float | None = None
    put_p50_s: float | None = None
    put_p99_s: float | None = None


class DiskFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How busy and how full one disk is."""

    disk_id: Name
    name: Name
    is_online: bool
    capacity: Whole
    free: Whole
    stored_bytes: Whole  # on the disk, of what lives
    dead_bytes: Whole  # on the disk, that compaction would give back
    rates: Rates


class StoreFigures(Message, frozen=True, tag="store_figures"):
    """How busy and how full is the store?  Disks are paged as in `ClusterStatus`."""

    from_disk: Name = ""


class Figures(Message, frozen=True, tag="figures"):
    """How busy and how full the store is at this moment."""

    at_ms: Whole
    window_s: float  # the rates are means over this time, up to now
    health: Word  # as `Status.health`
    bucket_count: Whole
    object_count: Whole
    byte_count: Whole  # of all objects, as clients see them
    stored_bytes: Whole  # sums over all disks, like the next three
    dead_bytes: Whole
    free: Whole
    capacity: Whole
    rates: Rates
    disks: Annotated[list[DiskFigures], Many]
    next_disk: Name = ""  # where the next page begins; "": this was the last


class StoreHistory(Message, frozen=True, tag="store_history"):
    """How has the store been since then?"""

    since_ms: Whole
    points_max: Whole = 500  # at most HISTORY_POINTS_MAX


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """How the store was during `span_s` seconds up to `at_ms`; no point says that the master was away.

    What is no rate is as it was at the end of that time; `health` is the worst of it.
    """

    at_ms: Whole
    span_s: float
    health: Word
    bucket_count: Whole
    object_count: Whole
    byte_count: Whole
    stored_bytes: Whole
    dead_bytes: Whole
    free: Whole
    capacity: Whole
    rates: Rates


class History(Message, frozen=True, tag="history"):
    points: Annotated[list[HistoryPoint], Batch]  # oldest first


class BucketHistory(Message, frozen=True, tag="bucket_history"):
    """How has a bucket grown since then?"""

    bucket: Name
    since_ms: Whole
    points_max: Whole = 500  # at most HISTORY_POINTS_MAX


class BucketPoint(msgspec.Struct, frozen=True, kw_only=True):
    """How much a bucket held at a moment, and until the next point.  The last point is now."""

    at_ms: Whole
    object_count: Whole
    byte_count: Whole


class BucketGrowth(Message, frozen=True, tag="bucket_growth"):
    points: Annotated[list[BucketPoint], Batch]  # oldest first
