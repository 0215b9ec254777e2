"""Auditor: drives a volume, remembers what it was promised, and holds the disk to it after a cut.

A promise is made by the return of `sync`, `checkpoint` or `close`: what was put or deleted before the call
has to survive from then on.  What was not promised yet may be there or not, but never half of it.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import msgspec
import pytest

from simdisk import SimDisk
from warehouse.errors import NeedleCorrupt, NeedleVoid, NoSuchNeedle, ReadFailed, StoreError
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import Disk, File
from warehouse.storage.extent import Extent
from warehouse.storage.files import index_path, volume_directory
from warehouse.storage.format.needle import KIND_DATA, KIND_RESTAMP, NeedleMetadata, encode_metadata
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import NewNeedle
from warehouse.storage.writing.syncing import BegunSync

VOLUME_ID = 7
UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"
DIRECTORY = volume_directory(VOLUME_ID)
CAPACITY = 1 << 30


@dataclass
class Expected:
    """One needle id: what was tried with it, and what was promised about it."""

    metadata: NeedleMetadata
    data: bytes
    stamp: int
    is_put: bool = False  # appended, or finished
    is_put_promised: bool = False
    is_delete_tried: bool = False
    is_deleted: bool = False
    is_delete_promised: bool = False
    restamps: dict[int, bool] = field(default_factory=dict)  # stamp -> whether promised


@dataclass
class BegunHere:
    """A sync that is under way, with what it will promise."""

    volume: Volume
    file: File
    begun: BegunSync
    written: list[Expected]
    deleted: list[Expected]
    is_done: bool = False
    error: OSError | None = None


def make_volume(disk: Disk) -> Volume:
    return Volume.create(
        disk, DIRECTORY, volume_id=VOLUME_ID, uuid=UUID, capacity=CAPACITY, created_ms=1_750_000_000_000
    )


class Auditor:
    """Owns the volume of one history."""

    def __init__(self, disk: SimDisk, chance: random.Random) -> None:
        self.disk = disk
        self.chance = chance
        self.volume = make_volume(disk)
        self.needles: dict[int, Expected] = {}
        self.extents: dict[int, Extent] = {}
        self.begun: BegunHere | None = None
        self.kernel_files: dict[File, File] = {}  # volume files, opened a second time: see `kernel_handle`
        self.copy_: Copy | None = None
        self.copied: tuple[int, int] | None = None  # generation and reach of a finished copy
        self._stamp = 0
        self._next_id = 0

    # --- operations -------------------------------------------------------------------------------

    def new_needle(self, size: int, *, is_new: bool = True) -> int:
        """Expect a needle; returns its id.  Ids skip now and then, and come in no strict order."""
        if is_new:
            self._next_id += self.chance.choice((1, 1, 1, 2, 40))
        needle_id = self._next_id
        metadata = NeedleMetadata("photos", 3, f"key-{needle_id}", 1_750_000_000_000 + needle_id)
        self.needles[needle_id] = Expected(metadata, self.chance.randbytes(size), self.stamp())
        return needle_id

    def stamp(self) -> int:
        self._stamp += 1
        return self._stamp

    def put(self, size: int) -> None:
        needle_id = self.new_needle(size)
        needle = self.needles[needle_id]
        self.volume.append(needle_id, needle.metadata, needle.data, stamp=needle.stamp)
        needle.is_put = True

    def put_together(self, sizes: tuple[int, ...]) -> None:
        """Several in one write; raises the first refusal, after the others were put."""
        new = {needle_id: self.needles[needle_id] for needle_id in map(self.new_needle, sizes)}
        # Should they have to be written one by one, each gets its stamp a second time.
        stamps = itertools.cycle([needle.stamp for needle in new.values()])
        outcomes = self.volume.append_many(
            [NewNeedle(id_, encode_metadata(needle.metadata), needle.data) for id_, needle in new.items()],
            lambda: next(stamps),
        )
        failures = []
        for needle, outcome in zip(new.values(), outcomes, strict=True):
            if isinstance(outcome, StoreError):
                failures.append(outcome)
            else:
                needle.is_put = True
                assert outcome[1] == needle.stamp
        if failures:
            raise failures[0]

    def reserve(self, size: int) -> None:
        needle_id = self.new_needle(size)
        needle = self.needles[needle_id]
        self.extents[needle_id] = self.volume.reserve(needle_id, needle.metadata, size)

    def write(self, fraction: float) -> None:
        """Write a part of what is missing of some extent."""
        if self.extents:
            needle_id = self.chance.choice(sorted(self.extents))
            extent = self.extents[needle_id]
            end = extent.written + round((extent.data_size - extent.written) * fraction)
            extent.write(self.needles[needle_id].data[extent.written : end])

    def finish(self) -> None:
        if self.extents:
            needle_id = self.chance.choice(sorted(self.extents))
            extent, needle = self.extents.pop(needle_id), self.needles[needle_id]
            extent.write(needle.data[extent.written :])
            if needle.is_deleted:
                with pytest.raises(StoreError, match="deleted"):
                    extent.finish(stamp=needle.stamp)
            else:
                extent.finish(stamp=needle.stamp)
                needle.is_put = True

    def abort(self) -> None:
        if self.extents:
            self.extents.pop(self.chance.choice(sorted(self.extents))).abort()

    def delete(self) -> None:
        """Delete some needle: live, dead, in flight, or (rarely) one that never came."""
        if self.chance.random() < 0.1:
            self.new_needle(0)
        if self.needles:
            needle_id = self.chance.choice(sorted(self.needles))
            needle = self.needles[needle_id]
            was_live = needle.is_put and not needle.is_deleted
            needle.is_delete_tried = True  # from here on it may be found deleted
            assert self.volume.delete(needle_id, stamp=self.stamp()) is was_live
            needle.is_deleted = True

    def restamp(self) -> None:
        live = sorted(i for i, n in self.needles.items() if n.is_put and not n.is_deleted)
        if live:
            needle_id = self.chance.choice(live)
            stamp = self.stamp()
            self.volume.restamp(needle_id, stamp=stamp)
            self.needles[needle_id].restamps[stamp] = False

    def sync(self) -> None:
        self.volume.sync()
        self.promise()

    def begin_sync(self) -> None:
        """Have a sync done by the kernel, which takes its time."""
        volume = self.volume
        begun = volume.begin_sync()
        if begun is None:
            assert self.begun is not None, "only another one keeps it from beginning"
            return
        written = [needle for needle in self.needles.values() if needle.is_put]
        deleted = [needle for needle in self.needles.values() if needle.is_deleted]
        is_at_once = self.chance.random() < 0.3
        data = volume._state.generation.data
        if data not in self.kernel_files:
            self.kernel_files[data] = self.disk.open(data._path)  # type: ignore[attr-defined]
        self.begun = BegunHere(volume, self.kernel_files[data], begun, written, deleted)
        if is_at_once:
            self.kernel_syncs()

    def kernel_syncs(self) -> None:
        here = self.begun
        if here is not None and not here.is_done:
            here.is_done = True
            try:
                here.file.fdatasync()
            except OSError as error:
                here.error = error

    def end_sync(self) -> None:
        here = self.begun
        if here is None:
            return
        self.kernel_syncs()
        self.begun = None
        if here.volume is not self.volume:
            return  # it was opened anew meanwhile
        if not here.volume.end_sync(here.begun, here.error):
            self.sync()
            return
        for needle in here.written:
            needle.is_put_promised = True
        for needle in here.deleted:
            needle.is_delete_promised = True

    def checkpoint(self) -> None:
        self.volume.checkpoint()
        self.promise()

    def copy(self) -> None:
        """Begin a compaction, or go on with it for a step."""
        if self.copied is not None:
            return
        if self.copy_ is None:
            end_offset = self.volume.begin_compaction()
            self.promise()
            self.copy_ = Copy(
                self.disk,
                DIRECTORY,
                uuid=UUID,
                generation=self.volume.generation,
                end_offset=end_offset,
                horizon=self._stamp + 1 if self.chance.random() < 0.3 else 0,
            )
        elif not self.copy_.step():
            assert self.copy_.damaged_count == 0
            self.copied = self.copy_.generation, self.copy_.end_offset
            self.copy_.close()
            self.copy_ = None

    def switch(self) -> None:
        """Finish the compaction that was begun, if there is one."""
        while self.copy_ is not None:
            self.copy()
        if self.copied is not None:
            generation, end_offset = self.copied
            switch = GenerationSwitch(self.volume, self.disk, generation=generation, end_offset=end_offset)
            switch.catch_up()
            if self.chance.random() < 0.5:
                switch.flush()
            self.copied = None
            switch.switch()
            assert self.volume.generation == generation

    def put_void(self) -> None:
        """An id that was deleted can never be written again."""
        dead = sorted(needle_id for needle_id, needle in self.needles.items() if needle.is_deleted)
        for needle_id in dead[-2:]:
            with pytest.raises(NeedleVoid):
                self.volume.append(needle_id, self.needles[needle_id].metadata, b"", stamp=self.stamp())

    def compact(self) -> None:
        self.copy()
        self.switch()

    def reopen(self) -> None:
        self.volume.close()
        self.extents.clear()
        self.copy_, self.copied = None, None
        self.promise()
        self.volume = Volume.open(self.disk, DIRECTORY)
        self.check(self.volume)

    def promise(self) -> None:
        for needle in self.needles.values():
            needle.is_put_promised = needle.is_put
            needle.is_delete_promised = needle.is_deleted
            needle.restamps = dict.fromkeys(needle.restamps, True)

    def forget_unpromised(self) -> None:
        """After a crash or a failure: what was not promised is what the volume says it is."""
        for needle_id, needle in self.needles.items():
            try:
                self.volume.read(needle_id)
                needle.is_put, needle.is_deleted = True, False
            except NoSuchNeedle:
                needle.is_put = needle.is_put_promised
                found = self.volume.find(needle_id)
                needle.is_deleted = found is not None
            needle.restamps = {stamp: True for stamp, promised in needle.restamps.items() if promised}

    # --- what must be true ------------------------------------------------------------------------

    def check(self, volume: Volume, *, is_index_lost: bool = False) -> None:
        """Hold an open volume to what was promised.

        Args:
            is_index_lost: together with the power: what was not promised may then count as damaged.
        """
        live_count = 0
        for needle_id, needle in self.needles.items():
            try:
                live_count += self.check_needle(volume, needle_id)
            except NeedleCorrupt:
                assert is_index_lost
                assert not needle.is_put_promised
                live_count += 1
        stats = volume.stats()
        assert stats.live_count == live_count
        assert stats.file_size == (
            SUPERBLOCK_SIZE + stats.live_bytes + stats.dead_bytes + stats.kept_bytes + stats.in_flight_bytes
        )

    def check_promises(self, volume: Volume) -> None:
        """`check` without the stats, for a volume in the middle of a failure."""
        for needle_id, needle in self.needles.items():
            try:
                self.check_needle(volume, needle_id)
            except ReadFailed:  # a volume whose index could not be synced does not say "absent" any more
                assert volume.sealed_cause is not None
                assert not needle.is_put_promised or needle.is_delete_tried

    def check_needle(self, volume: Volume, needle_id: int) -> bool:
        """Check one needle; returns whether it is live."""
        needle = self.needles[needle_id]
        try:
            found = volume.read(needle_id)
        except NoSuchNeedle:
            assert not needle.is_put_promised or needle.is_delete_tried, f"needle {needle_id} was lost"
            return False
        assert not needle.is_delete_promised, f"needle {needle_id} came back"
        assert bytes(found.data) == needle.data
        assert found.metadata == needle.metadata
        assert found.stamp in (needle.stamp, *needle.restamps)  # a compaction folds them
        return True

    def check_after_cut(self, disk: Disk) -> Volume:
        """Recover what a cut left and hold it to what was promised; returns the volume, open."""
        volume = Volume.open(disk, DIRECTORY)
        assert volume.sealed_cause is None
        assert volume.recovery.damages == (), "a torn write was taken for damage"
        self.check(volume)
        self.check_restamps(volume)
        return volume

    def check_rebuild(self, disk: Disk, volume: Volume) -> None:
        """The index can be lost: scanning brings the same one back, and knows torn from damaged."""
        before = volume.stats()
        volume.close()
        disk.remove(index_path(DIRECTORY, volume.generation))
        volume = Volume.open(disk, DIRECTORY)
        assert volume.recovery.rebuilt_because
        assert volume.recovery.damages == ()
        after = volume.stats()
        # A broken upload at the end is cut off, and its id forgotten.  All else is the same.
        assert after.needle_id_max <= before.needle_id_max
        cut = volume.recovery.cut_bytes
        assert after.dead_count == before.dead_count or (cut and after.dead_count < before.dead_count)
        same = msgspec.structs.replace(
            after,
            needle_id_max=before.needle_id_max,
            stamp_max=before.stamp_max if volume.generation > 1 else after.stamp_max,
            file_size=after.file_size + cut,
            dead_bytes=after.dead_bytes + cut,
            dead_count=before.dead_count,
        )
        assert same == before
        self.check(volume)
        volume.close()

    def check_restamps(self, volume: Volume) -> None:
        """Who reads the volume in order finds every newer stamp that was promised."""
        found: dict[int, int] = {}
        for record in volume.records():
            if record.kind in (KIND_DATA, KIND_RESTAMP):
                found[record.needle_id] = max(found.get(record.needle_id, 0), record.stamp)
        for needle_id, needle in self.needles.items():
            for stamp, is_promised in needle.restamps.items():
                assert not is_promised or needle.is_delete_tried or found[needle_id] >= stamp
