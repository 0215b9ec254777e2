"""History series: how the store was, at falling resolution.  Pure.

    step      kept        covers
    10 s      360         an hour
    1 min     1,440       a day
    15 min    2,880       30 days

Each step has its own samples; a sample of a long step is the sum of those that fell into it.  The numbers are
bounds, so no clock makes the series longer, and a clock that jumps ahead takes nothing away.  A clock that
jumps back is not believed for a while: nothing is noted, and it may come right.  After that what is later
than now goes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from warehouse.actors.control.meters import Usage, add_counts
from warehouse.actors.latencies import CLASSES
from warehouse.transport.messages import HistoryPoint

TIERS: Final = ((10_000, 360), (60_000, 1440), (900_000, 2880))  # step in milliseconds, and how many
DOUBT_COUNT: Final = 90  # samples, 15 minutes of them, for which a clock that jumped back is not believed
HEALTHS: Final = ("ok", "degraded", "down")  # from good to bad


class Sample(msgspec.Struct, kw_only=True, array_like=True):
    """How the store was in `span_ms` up to `at_ms`; fields may be added at the end, with a default."""

    at_ms: int
    span_ms: int
    health: int = 0  # its place in `HEALTHS`
    bucket_count: int = 0
    object_count: int = 0
    byte_count: int = 0
    stored_bytes: int = 0
    dead_bytes: int = 0
    free: int = 0
    capacity: int = 0
    gets: int = 0
    puts: int = 0
    deletes: int = 0
    other: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    get_latencies: dict[int, int] = {}
    put_latencies: dict[int, int] = {}

    def usage(self) -> Usage:
        return Usage(
            gets=self.gets,
            puts=self.puts,
            deletes=self.deletes,
            other=self.other,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            get_latencies=self.get_latencies,
            put_latencies=self.put_latencies,
        )


def slot_of(at_ms: int, step_ms: int) -> int:
    """Which step of the clock a sample belongs to: it is about the time up to `at_ms`."""
    return (at_ms - 1) // step_ms


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Sample)


def encode_sample(sample: Sample) -> bytes:
    return _encode(sample)


def decode_sample(data: bytes) -> Sample:
    """
    Raises:
        ValueError: this is no sample.
    """
    sample = _decoder.decode(data)
    counts = (*sample.get_latencies.items(), *sample.put_latencies.items())
    numbers = [getattr(sample, name) for name in Sample.__struct_fields__[:-2]]
    if (
        min(numbers) < 0
        or max(numbers) >= 1 << 63
        or not 0 <= sample.health < len(HEALTHS)
        or any(not 0 <= number < CLASSES or not 0 <= count < 1 << 63 for number, count in counts)
    ):
        raise ValueError("a number of the sample is out of bounds")
    return sample


def joined(earlier: Sample, later: Sample) -> Sample:
    """Both as one: sums of what happened, the state of the later one, the worse health."""
    get_latencies, put_latencies = dict(earlier.get_latencies), dict(earlier.put_latencies)
    add_counts(get_latencies, later.get_latencies)
    add_counts(put_latencies, later.put_latencies)
    return msgspec.structs.replace(
        later,
        span_ms=earlier.span_ms + later.span_ms,
        health=max(earlier.health, later.health),
        gets=earlier.gets + later.gets,
        puts=earlier.puts + later.puts,
        deletes=earlier.deletes + later.deletes,
        other=earlier.other + later.other,
        bytes_in=earlier.bytes_in + later.bytes_in,
        bytes_out=earlier.bytes_out + later.bytes_out,
        get_latencies=get_latencies,
        put_latencies=put_latencies,
    )


def point_of(sample: Sample) -> HistoryPoint:
    span_s = sample.span_ms / 1000
    return HistoryPoint(
        at_ms=sample.at_ms,
        span_s=span_s,
        health=HEALTHS[sample.health],
        bucket_count=sample.bucket_count,
        object_count=sample.object_count,
        byte_count=sample.byte_count,
        stored_bytes=sample.stored_bytes,
        dead_bytes=sample.dead_bytes,
        free=sample.free,
        capacity=sample.capacity,
        rates=sample.usage().rates(max(span_s, 0.001)),
    )


Row: TypeAlias = tuple[int, int, Sample]  # step in milliseconds, slot, sample


class Changes(NamedTuple):
    """What a file has to take over."""

    rows: list[Row]
    first_slots: dict[int, int]  # by step: older rows have been dropped
    is_all: bool  # the rows are all that there are: others have been dropped


class _Tier:
    """The samples of one step, one for each slot of the clock, oldest first."""

    def __init__(self, step_ms: int, count_max: int) -> None:
        self.step_ms = step_ms
        self._count_max = count_max
        self.slots: list[int] = []
        self.samples: list[Sample] = []
        self.was_cut = False  # some have been dropped because there were too many

    def add(self, sample: Sample) -> int:
        """Add a sample, or join it to the last one of its slot; return the slot."""
        slot = slot_of(sample.at_ms, self.step_ms)
        if self.slots and self.slots[-1] == slot:
            self.samples[-1] = joined(self.samples[-1], sample)
        else:
            self._append(slot, sample)
        return slot

    def _append(self, slot: int, sample: Sample) -> None:
        self.slots.append(slot)
        self.samples.append(sample)
        # Not one by one: that would move the whole list each time.
        if len(self.slots) > self._count_max + self._count_max // 8:
            del self.slots[: -self._count_max], self.samples[: -self._count_max]
            self.was_cut = True

    def restore(self, rows: Iterable[tuple[int, Sample]]) -> None:
        for slot, sample in sorted(rows, key=lambda row: row[0]):
            self._append(slot, sample)
        self.was_cut = len(self.slots) >= self._count_max  # the rest was, in an earlier run

    def drop_after(self, at_ms: int) -> None:
        end = bisect_left(self.slots, slot_of(at_ms, self.step_ms) + 1)
        del self.slots[end:], self.samples[end:]

    def since(self, since_ms: int) -> Sequence[Sample]:
        return self.samples[bisect_left(self.samples, since_ms, key=lambda sample: sample.at_ms) :]

    def covers(self, since_ms: int) -> bool:
        """Whether no other tier knows more of the time since then."""
        return not self.was_cut or (bool(self.samples) and self.samples[0].at_ms <= since_ms)


class Series:
    """
    Attributes:
        doubted_count: samples that were not taken because the clock had jumped back.
    """

    def __init__(self) -> None:
        self._tiers = [_Tier(step_ms, count) for step_ms, count in TIERS]
        self._changed: set[tuple[int, int]] = set()
        self._is_rewritten = False  # rows have gone that a file may have
        self._doubts = 0
        self.doubted_count = 0

    def restore(self, rows: Iterable[Row]) -> None:
        """Take over what was kept: step, slot and sample."""
        by_step: dict[int, list[tuple[int, Sample]]] = {tier.step_ms: [] for tier in self._tiers}
        for step_ms, slot, sample in rows:
            if step_ms in by_step:
                by_step[step_ms].append((slot, sample))
        for tier in self._tiers:
            tier.restore(by_step[tier.step_ms])

    def add(self, sample: Sample) -> bool:
        """Add the latest sample; False: its time is before that of an earlier one, and it was left out."""
        if any(tier.slots and slot_of(sample.at_ms, tier.step_ms) < tier.slots[-1] for tier in self._tiers):
            self._doubts += 1
            if self._doubts <= DOUBT_COUNT:
                self.doubted_count += 1
                return False
            for tier in self._tiers:
                tier.drop_after(sample.at_ms)
            self._is_rewritten = True
        self._doubts = 0
        self._changed |= {(tier.step_ms, tier.add(sample)) for tier in self._tiers}
        return True

    def select(self, since_ms: int, points_max: int) -> list[Sample]:
        """The samples since then, oldest first, joined where there are more than `points_max`."""
        tier = next((tier for tier in self._tiers if tier.covers(since_ms)), self._tiers[-1])
        samples = tier.since(since_ms)
        if len(samples) <= points_max:
            return list(samples)
        span_ms = samples[-1].at_ms - samples[0].at_ms + tier.step_ms
        # Slots that begin at multiples of their length: a later call gives the same points.
        length_ms = -(-span_ms // max(1, points_max - 1) // tier.step_ms) * tier.step_ms
        found: list[Sample] = []
        last = -1
        for sample in samples:
            slot = slot_of(sample.at_ms, length_ms)
            if found and slot == last:
                found[-1] = joined(found[-1], sample)
            else:
                found.append(sample)
                last = slot
        return found[-points_max:]

    # --- for the file -----------------------------------------------------------------------------

    def take_changes(self) -> Changes:
        """What is new since the last call."""
        changed, self._changed = self._changed, set()
        rows = self.rows() if self._is_rewritten else self._tail(changed)
        was_rewritten, self._is_rewritten = self._is_rewritten, False
        return Changes(rows, self._first_slots(), was_rewritten)

    def give_back(self, changes: Changes) -> None:
        """These changes could not be saved: they are among the next ones again."""
        self._is_rewritten = self._is_rewritten or changes.is_all
        firsts = self._first_slots()
        self._changed |= {(step_ms, slot) for step_ms, slot, _ in changes.rows if slot >= firsts[step_ms]}

    def save_all(self) -> None:
        """Have everything among the next changes: the file is a new one."""
        self._is_rewritten = True

    def _tail(self, changed: set[tuple[int, int]]) -> list[Row]:
        rows = []
        for tier in self._tiers:
            slots = {slot for step_ms, slot in changed if step_ms == tier.step_ms}
            start = bisect_left(tier.slots, min(slots)) if slots else len(tier.slots)
            rows += [
                (tier.step_ms, slot, sample)
                for slot, sample in zip(tier.slots[start:], tier.samples[start:], strict=True)
            ]
        return rows

    def rows(self) -> list[Row]:
        return [
            (tier.step_ms, slot, sample)
            for tier in self._tiers
            for slot, sample in zip(tier.slots, tier.samples, strict=True)
        ]

    def _first_slots(self) -> dict[int, int]:
        """By step, the first slot that is kept; older ones need not be kept in a file either."""
        return {tier.step_ms: tier.slots[0] for tier in self._tiers if tier.slots}
