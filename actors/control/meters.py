"""Meters: how busy the store and each disk are at this moment.

Volume actors report what they have done since their start; the master keeps the reports of the last seconds,
and a rate is the difference of two of them.  Nothing happens here while nobody asks and nobody reports: a
disk that reports nothing new does nothing.

Gets and puts are counted by the disks, deletes and the rest by the master, which answers them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from warehouse.actors.latencies import difference, percentile
from warehouse.transport.messages import (
    CreateBucket,
    DeleteBucket,
    DeleteObjects,
    DiskCounters,
    ListBuckets,
    ListObjects,
    Message,
    Presign,
    Rates,
    SetQuota,
    StatBucket,
    StatObject,
)

WINDOW_S: Final = 10.0  # of the rates: a disk in use reports once a second
STEP_S: Final = 1.0  # between two readings that are kept

# What is neither a get, a put nor a delete, and what people and programs do with objects and buckets.
_OTHER: Final[frozenset[type[Message]]] = frozenset(
    (ListBuckets, ListObjects, StatBucket, StatObject, CreateBucket, DeleteBucket, SetQuota, Presign)
)
_NOTHING: Final = DiskCounters()


@dataclass
class Usage:
    """What happened in some span of time; latencies by class, as `latencies.difference` has them."""

    gets: int = 0
    puts: int = 0
    deletes: int = 0
    other: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    get_latencies: dict[int, int] = field(default_factory=dict)
    put_latencies: dict[int, int] = field(default_factory=dict)

    def add(self, more: Usage) -> None:
        self.gets += more.gets
        self.puts += more.puts
        self.deletes += more.deletes
        self.other += more.other
        self.bytes_in += more.bytes_in
        self.bytes_out += more.bytes_out
        add_counts(self.get_latencies, more.get_latencies)
        add_counts(self.put_latencies, more.put_latencies)

    def rates(self, span_s: float) -> Rates:
        gets, puts = sorted(self.get_latencies.items()), sorted(self.put_latencies.items())
        return Rates(
            gets_per_s=self.gets / span_s,
            puts_per_s=self.puts / span_s,
            deletes_per_s=self.deletes / span_s,
            other_per_s=self.other / span_s,
            bytes_in_per_s=self.bytes_in / span_s,
            bytes_out_per_s=self.bytes_out / span_s,
            get_p50_s=percentile(gets, 0.5),
            get_p99_s=percentile(gets, 0.99),
            put_p50_s=percentile(puts, 0.5),
            put_p99_s=percentile(puts, 0.99),
        )


def add_counts(counts: dict[int, int], more: Mapping[int, int]) -> None:
    for number, count in more.items():
        counts[number] = counts.get(number, 0) + count


def between(earlier: DiskCounters, later: DiskCounters) -> Usage:
    """What a disk did between two of its reports."""
    return Usage(
        gets=later.gets - earlier.gets,
        puts=later.puts - earlier.puts,
        bytes_in=later.bytes_in - earlier.bytes_in,
        bytes_out=later.bytes_out - earlier.bytes_out,
        get_latencies=difference(later.get_latencies, earlier.get_latencies),
        put_latencies=difference(later.put_latencies, earlier.put_latencies),
    )


def _is_after(earlier: DiskCounters, later: DiskCounters) -> bool:
    """Whether one run of an actor can have reported both: counters only grow."""
    return (
        later.gets >= earlier.gets
        and later.puts >= earlier.puts
        and later.bytes_in >= earlier.bytes_in
        and later.bytes_out >= earlier.bytes_out
    )


class DiskMeter:
    """The latest reports of one disk."""

    def __init__(self) -> None:
        # Times, and what was reported then; the first may be older than the window.
        self._reports: deque[tuple[float, DiskCounters]] = deque()
        self._incarnation: int | None = None  # of the actor that counts

    def heard(self, counters: DiskCounters, incarnation: int, now: float) -> Usage:
        """
        Args:
            incarnation: of the actor: another one counts from the beginning.
        Returns:
            What is new since the report before; nothing for the first: nobody knows when that was.
        """
        reports = self._reports
        if self._incarnation is None:
            self._incarnation = incarnation
            reports.append((now, counters))
            return Usage()
        _, latest = reports[-1]
        if incarnation != self._incarnation or not _is_after(latest, counters):
            self._incarnation = incarnation
            reports.clear()
            reports.append((now, _NOTHING))
            latest = _NOTHING
        if counters == latest:
            return Usage()
        if len(reports) > 1 and now - reports[-2][0] < STEP_S / 2:
            reports.pop()  # a disk that starts reports often
        reports.append((now, counters))
        self._forget(now)
        return between(latest, counters)

    def window(self, now: float) -> Usage:
        """What the disk did in the last `WINDOW_S`."""
        self._forget(now)
        return between(self._reports[0][1], self._reports[-1][1]) if self._reports else Usage()

    def _forget(self, now: float) -> None:
        while len(self._reports) > 1 and self._reports[1][0] <= now - WINDOW_S:
            self._reports.popleft()


class Meters:
    """
    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._disks: dict[str, DiskMeter] = {}
        self._since = Usage()  # what happened since `take`
        self._deletes = self._other = 0
        # When the master counted something, and what it had counted before: see `_counted`.
        self._notes: deque[tuple[float, int, int]] = deque()

    # --- what happens -----------------------------------------------------------------------------

    def heard(self, disk_id: str, counters: DiskCounters, incarnation: int) -> None:
        """A disk reports what it has done."""
        meter = self._disks.get(disk_id)
        if meter is None:
            meter = self._disks[disk_id] = DiskMeter()
        self._since.add(meter.heard(counters, incarnation, self._clock()))

    def keep(self, disk_ids: Collection[str]) -> None:
        """Forget all other disks: they were removed."""
        self._disks = {disk_id: meter for disk_id, meter in self._disks.items() if disk_id in disk_ids}

    def note(self, request: Message) -> None:
        """A client sent the master this request; most kinds are counted by the disks, or not at all."""
        kind = type(request)
        if kind in _OTHER:
            self._counted(0, 1)
        elif isinstance(request, DeleteObjects):
            self._counted(len(request.keys), 0)

    def _counted(self, deletes: int, other: int) -> None:
        now, notes = self._clock(), self._notes
        if not notes or now - notes[-1][0] >= STEP_S:
            notes.append((now, self._deletes, self._other))
            while now - notes[0][0] > WINDOW_S:
                notes.popleft()
        self._deletes += deletes
        self._other += other
        self._since.deletes += deletes
        self._since.other += other

    # --- what is asked ----------------------------------------------------------------------------

    def disk(self, disk_id: str) -> Usage:
        """What a disk did in the last `WINDOW_S`."""
        meter = self._disks.get(disk_id)
        return Usage() if meter is None else meter.window(self._clock())

    def window(self) -> Usage:
        """What the whole store did in the last `WINDOW_S`."""
        now, total = self._clock(), Usage()
        for meter in self._disks.values():
            total.add(meter.window(now))
        since = next((note for note in self._notes if note[0] >= now - WINDOW_S), None)
        if since is not None:
            total.deletes, total.other = self._deletes - since[1], self._other - since[2]
        return total

    def take(self) -> Usage:
        """What happened since the last call."""
        taken, self._since = self._since, Usage()
        return taken
