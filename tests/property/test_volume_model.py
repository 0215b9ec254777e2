"""A volume against a dict: any sequence of operations, and any number of reopenings in between."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simdisk import SimDisk
from warehouse.errors import ChecksumMismatch, NeedleExists, NeedleVoid, NoSuchNeedle, StoreError, VolumeFull
from warehouse.storage.extent import Extent
from warehouse.storage.files import index_path
from warehouse.storage.format.needle import (
    KIND_BUCKET,
    KIND_DATA,
    KIND_VOID,
    NeedleMetadata,
    encode_metadata,
    stored_size,
)
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.scan import Record, State
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import NewNeedle

DIRECTORY = "volumes/7"
CAPACITY = 200_000
IDS = st.integers(1, 12) | st.sampled_from([1_000, 5_000])
SIZES = st.sampled_from([0, 1, 7, 100, 4096, 20_000])


def metadata_of(needle_id: int) -> NeedleMetadata:
    return NeedleMetadata("photos", 3, f"key-{needle_id}", 1_750_000_000_000, metadata={"n": str(needle_id)})


class VolumeModel(RuleBasedStateMachine):
    """The model: live needles in a dict, dead ids in a set, uploads in flight in another dict."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[bytes, int]] = {}
        self.dead: set[int] = set()
        self.in_flight: dict[int, tuple[Extent, bytes]] = {}
        self.restamps: dict[int, int] = {}  # the latest of each needle
        self.all_restamps: defaultdict[int, set[int]] = defaultdict(set)
        self.stamp = 0

    @initialize()
    def make(self) -> None:
        self.disk = SimDisk()
        self.volume = Volume.create(
            self.disk,
            DIRECTORY,
            volume_id=7,
            uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
            capacity=CAPACITY,
            created_ms=1,
        )

    def next_stamp(self) -> int:
        self.stamp += 1
        return self.stamp

    def expected_refusal(self, needle_id: int, size: int, beyond: int = 0) -> type[Exception] | None:
        """
        Args:
            beyond: so many bytes will have been written by then.
        """
        if needle_id in self.dead:
            return NeedleVoid
        if needle_id in self.live or needle_id in self.in_flight:
            return NeedleExists
        stored = stored_size(len(encode_metadata(metadata_of(needle_id))), size)
        return VolumeFull if self.volume.stats().file_size + beyond + stored > CAPACITY else None

    @rule(needle_id=IDS, size=SIZES, byte=st.integers(0, 255), is_wrong=st.booleans())
    def put(self, needle_id: int, size: int, byte: int, is_wrong: bool) -> None:
        data = bytes([byte]) * size
        stamp = self.next_stamp()
        refusal = self.expected_refusal(needle_id, size) or (ChecksumMismatch if is_wrong else None)
        crc = crc32c(data) ^ 1 if is_wrong else crc32c(data)
        if refusal:
            with pytest.raises(refusal):
                self.volume.append(needle_id, metadata_of(needle_id), data, stamp=stamp, crc=crc)
            return
        self.volume.append(needle_id, metadata_of(needle_id), data, stamp=stamp, crc=crc)
        self.live[needle_id] = (data, stamp)

    @rule(puts=st.lists(st.tuples(IDS, SIZES, st.booleans()), min_size=1, max_size=5))
    def put_together(self, puts: list[tuple[int, int, bool]]) -> None:
        """One after the other, as far as anybody can tell."""
        before, stored = dict(self.live), 0
        expected: list[type[Exception] | None] = []
        new = []
        for needle_id, size, is_wrong in puts:
            data = bytes([needle_id % 251]) * size
            size_on_disk = stored_size(len(encode_metadata(metadata_of(needle_id))), size)
            refusal = self.expected_refusal(needle_id, size, beyond=stored) or (
                ChecksumMismatch if is_wrong else None
            )
            expected.append(refusal)
            new.append(
                NewNeedle(needle_id, encode_metadata(metadata_of(needle_id)), data, crc32c(data) ^ is_wrong)
            )
            if refusal is None:
                self.live[needle_id] = (data, 0)
                stored += size_on_disk
        outcomes = self.volume.append_many(new, self.next_stamp)
        for (needle_id, size, _), refusal, outcome in zip(puts, expected, outcomes, strict=True):
            if refusal is not None:
                assert type(outcome) is refusal
                continue
            assert not isinstance(outcome, StoreError)
            placed, stamp = outcome
            data, _ = self.live[needle_id]
            assert (placed.crc, len(data)) == (crc32c(data), size)
            self.live[needle_id] = (data, stamp)
        assert set(self.live) - set(before) == {
            needle_id for (needle_id, _, _), refusal in zip(puts, expected, strict=True) if refusal is None
        }

    @rule(needle_id=IDS, size=SIZES, byte=st.integers(0, 255))
    def reserve(self, needle_id: int, size: int, byte: int) -> None:
        refusal = self.expected_refusal(needle_id, size)
        if refusal:
            with pytest.raises(refusal):
                self.volume.reserve(needle_id, metadata_of(needle_id), size)
            return
        extent = self.volume.reserve(needle_id, metadata_of(needle_id), size)
        self.in_flight[needle_id] = (extent, bytes([byte]) * size)

    @precondition(lambda self: self.in_flight)
    @rule(choice=st.randoms(use_true_random=False), length=st.integers(0, 5000))
    def write(self, choice: object, length: int) -> None:
        extent, data = self.in_flight[choice.choice(sorted(self.in_flight))]  # type: ignore[attr-defined]
        extent.write(data[extent.written : extent.written + length])

    @precondition(lambda self: self.in_flight)
    @rule(choice=st.randoms(use_true_random=False), end=st.sampled_from(["finish", "abort", "mismatch"]))
    def end_upload(self, choice: object, end: str) -> None:
        needle_id = choice.choice(sorted(self.in_flight))  # type: ignore[attr-defined]
        extent, data = self.in_flight.pop(needle_id)
        stamp = self.next_stamp()
        if end == "abort":
            extent.abort()
            return
        extent.write(data[extent.written :])
        if end == "mismatch":
            with pytest.raises(ChecksumMismatch):
                extent.finish(stamp=stamp, crc=crc32c(data) ^ 1)
        elif needle_id in self.dead:
            with pytest.raises(NeedleVoid):
                extent.finish(stamp=stamp, crc=crc32c(data))
        else:
            extent.finish(stamp=stamp, crc=crc32c(data))
            self.live[needle_id] = (data, stamp)

    @rule(needle_id=IDS)
    def delete(self, needle_id: int) -> None:
        was_live = needle_id in self.live
        assert self.volume.delete(needle_id, stamp=self.next_stamp()) is was_live
        self.live.pop(needle_id, None)
        self.dead.add(needle_id)

    @rule(needle_id=IDS)
    def restamp(self, needle_id: int) -> None:
        if needle_id in self.live:
            self.restamps[needle_id] = self.next_stamp()
            self.all_restamps[needle_id].add(self.stamp)
            self.volume.restamp(needle_id, stamp=self.stamp)
        else:
            with pytest.raises(NoSuchNeedle):
                self.volume.restamp(needle_id, stamp=self.next_stamp())

    def check_stamp(self, needle_id: int, stamp: int) -> None:
        assert stamp == self.live[needle_id][1]

    @rule(needle_id=IDS)
    def read(self, needle_id: int) -> None:
        if needle_id not in self.live:
            for call in (self.volume.read, self.volume.open_needle):
                with pytest.raises(NoSuchNeedle):
                    call(needle_id)
            return
        data, _ = self.live[needle_id]
        needle, reader = self.volume.read(needle_id), self.volume.open_needle(needle_id)
        assert bytes(needle.data) == bytes(reader.read(0, len(data))) == data
        assert needle.metadata == reader.metadata == metadata_of(needle_id)
        assert needle.crc == reader.crc == crc32c(data)
        assert needle.stamp == reader.stamp
        self.check_stamp(needle_id, needle.stamp)
        found = self.volume.find(needle_id)
        assert found is not None
        assert (found.data_size, found.crc, found.is_deleted) == (len(data), crc32c(data), False)

    @rule(how=st.sampled_from(["sync", "checkpoint"]))
    def make_durable(self, how: str) -> None:
        getattr(self.volume, how)()

    @rule(is_index_lost=st.booleans())
    def reopen(self, is_index_lost: bool) -> None:
        self.volume.close()
        self.in_flight.clear()
        before = self.volume.stats()
        if is_index_lost:
            self.disk.remove(index_path(DIRECTORY, self.volume.generation))
        self.volume = Volume.open(self.disk, DIRECTORY)
        assert (self.volume.recovery.rebuilt_because is not None) is is_index_lost
        assert self.volume.recovery.damages == ()
        after = self.volume.stats()
        cut = self.volume.recovery.cut_bytes  # broken uploads at the end, whose ids are then forgotten
        assert after.dead_count == before.dead_count or (cut and after.dead_count < before.dead_count)
        assert after.needle_id_max <= before.needle_id_max
        assert after.stamp_max == before.stamp_max or (is_index_lost and self.volume.generation > 1)
        assert before == msgspec.structs.replace(
            after,
            needle_id_max=before.needle_id_max,
            stamp_max=before.stamp_max,
            file_size=after.file_size + cut,
            dead_bytes=after.dead_bytes + cut,
            dead_count=before.dead_count,
        )

    @rule()
    def kill(self) -> None:
        """The process ends; what it wrote stays in the page cache."""
        self.in_flight.clear()
        self.volume = Volume.open(self.disk, DIRECTORY)
        assert self.volume.recovery.damages == ()

    @invariant()
    def figures_are_exact(self) -> None:
        stats = self.volume.stats()
        sizes = {
            i: stored_size(len(encode_metadata(metadata_of(i))), len(d)) for i, (d, _) in self.live.items()
        }
        assert stats.live_count == len(self.live)
        assert stats.live_bytes == sum(sizes.values())
        assert stats.in_flight_bytes == sum(e.stored_size for e, _ in self.in_flight.values())
        assert stats.file_size == (
            SUPERBLOCK_SIZE + stats.live_bytes + stats.dead_bytes + stats.kept_bytes + stats.in_flight_bytes
        )
        assert stats.damaged_count == 0
        assert stats.stamp_max <= self.stamp

    def teardown(self) -> None:
        records = list(self.volume.records())
        self.check_scan(records)
        assert (
            sum(record.stored_size for record in records) == self.volume.stats().file_size - SUPERBLOCK_SIZE
        )
        assert {record.state for record in records} <= {State.WHOLE, State.UNFINISHED}
        for needle_id in (*self.live, *self.dead):
            self.read(needle_id)

    def check_scan(self, records: list[Record]) -> None:
        """What is wasted is exactly what a scan of the file counts."""
        stats, sizes = self.volume.stats(), {}
        live = dead = kept = 0
        for record in records:
            if record.kind in (KIND_BUCKET, KIND_VOID) or (record.metadata_size and record.kind != KIND_DATA):
                kept += record.stored_size
            elif record.kind == KIND_DATA and record.state is State.WHOLE and record.needle_id in self.live:
                live += record.stored_size
            elif record.offset not in {extent.offset for extent, _ in self.in_flight.values()}:
                dead += record.stored_size
                sizes[record.offset] = record.kind == KIND_DATA
        assert (stats.live_bytes, stats.dead_bytes, stats.kept_bytes) == (live, dead, kept)
        assert stats.dead_count == sum(sizes.values())


TestVolumeModel = VolumeModel.TestCase
TestVolumeModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
