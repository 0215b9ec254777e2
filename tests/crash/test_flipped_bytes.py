"""Every byte of a small volume, flipped: no other needle is lost, no wrong byte is served, all is reported."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from simdisk import SimDisk
from warehouse.errors import NeedleCorrupt, NoSuchNeedle
from warehouse.storage.files import data_path, index_path, manifest_path
from warehouse.storage.format.needle import NeedleMetadata, stored_size
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.index import ENTRIES_OFFSET, SLOT_OFFSETS, WATERMARK_OFFSET, entry_offset
from warehouse.storage.volume import Volume

DIRECTORY = "volumes/7"
DATA, INDEX, MANIFEST = data_path(DIRECTORY, 1), index_path(DIRECTORY, 1), manifest_path(DIRECTORY)
DEAD_ID, ABSENT_ID = 3, 5


@dataclass(frozen=True)
class Base:
    """A volume at rest, and what is in it."""

    disk: SimDisk
    needles: dict[int, bytes]
    places: dict[int, tuple[int, int]]  # start and end of each needle; the dead one's tombstone is DEAD_ID
    stats: object

    def copy(self) -> SimDisk:
        return self.disk.crash(random.Random(0), 1.0, tear=False)


@pytest.fixture(scope="module")
def base() -> Base:
    disk, chance = SimDisk(), random.Random(3)
    volume = Volume.create(
        disk,
        DIRECTORY,
        volume_id=7,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=1 << 20,
        created_ms=1,
    )
    needles, places = {}, {}
    for needle_id, size in ((1, 30), (2, 0), (DEAD_ID, 50), (4, 100), (6, 10), (9, 64)):
        needles[needle_id] = chance.randbytes(size)
        metadata = NeedleMetadata("photos", 3, f"key-{needle_id}", 1_750_000_000_000)
        if needle_id == 6:
            extent = volume.reserve(needle_id, metadata, size)
            extent.write(needles[needle_id])
            placed = extent.finish(stamp=needle_id)
        else:
            placed = volume.append(needle_id, metadata, needles[needle_id], stamp=needle_id)
        places[needle_id] = (placed.offset, placed.offset + placed.stored_size)
        if needle_id == 4:
            tail = volume.stats().file_size
            volume.delete(DEAD_ID, stamp=100)
            places[DEAD_ID] = (tail, tail + stored_size(0, 0))
            volume.restamp(1, stamp=101)
            volume.checkpoint()
    del needles[DEAD_ID]
    stats = volume.stats()
    volume.close()
    return Base(disk, needles, places, stats)


def flipped(base: Base, path: str, mask: int = 0xFF) -> Iterator[tuple[int, SimDisk]]:
    """A copy of the volume for each byte of a file, with that byte changed."""
    for offset in range(len(base.disk.node(path).content)):
        yield offset, with_flip(base, path, offset, mask)


def with_flip(base: Base, path: str, offset: int, mask: int) -> SimDisk:
    disk = base.copy()
    for content in (disk.node(path).content, disk.node(path).platter):
        content[offset] ^= mask
    return disk


def read_all(base: Base, volume: Volume) -> set[int]:
    """Read every needle; returns those that are damaged.  The rest is what it was, or the test fails."""
    damaged = {needle_id for needle_id in base.needles if is_damaged(base, volume, needle_id)}
    for needle_id in damaged:
        with pytest.raises(NeedleCorrupt, match=f"^volume 7, needle {needle_id} at "):
            volume.read(needle_id)
    for needle_id in (DEAD_ID, ABSENT_ID):
        with pytest.raises(NoSuchNeedle):
            volume.read(needle_id)
    return damaged


def is_damaged(base: Base, volume: Volume, needle_id: int) -> bool:
    data = base.needles[needle_id]
    try:
        assert bytes(volume.read(needle_id).data) == data
        assert bytes(volume.open_needle(needle_id).read(0, len(data))) == data
    except NeedleCorrupt:
        return True
    return False


def test_a_flipped_byte_of_the_data_costs_at_most_its_own_needle(base: Base) -> None:
    caught = 0
    for offset, disk in flipped(base, DATA):
        if offset < SUPERBLOCK_SIZE:
            continue
        volume = Volume.open(disk, DIRECTORY)
        damaged = read_all(base, volume)
        owners = {i for i, (start, end) in base.places.items() if start <= offset < end}
        assert damaged <= owners
        assert {damage.needle_id for damage in volume.damages()} == damaged
        assert all(damage.offset == base.places[i][0] for i in damaged for damage in volume.damages())
        assert volume.stats().damaged_count == len(damaged)
        caught += len(damaged)
    assert caught > 500


def test_the_same_with_the_index_lost_is_reported_when_it_is_rebuilt(base: Base) -> None:
    places = base.places
    for offset, disk in flipped(base, DATA):
        if offset < SUPERBLOCK_SIZE:
            continue
        disk.remove(INDEX)
        volume = Volume.open(disk, DIRECTORY)
        hit = {i for i, (start, end) in places.items() if start <= offset < end}
        for needle_id in base.needles.keys() - hit:
            assert bytes(volume.read(needle_id).data) == base.needles[needle_id]
        for needle_id in hit & base.needles.keys():
            try:
                # The bytes that pad a needle are nobody's.
                assert bytes(volume.read(needle_id).data) == base.needles[needle_id]
                assert volume.recovery.damages == ()
            except (NeedleCorrupt, NoSuchNeedle):
                assert_reported(volume, offset)
        if not hit:  # the deleted needle's own bytes, or the restamp
            read_all(base, volume)


def assert_reported(volume: Volume, offset: int) -> None:
    """The damage at an offset is known, by volume, place and (where its header is readable) needle."""
    (damage,) = volume.recovery.damages
    assert damage.volume_id == 7
    assert damage.offset <= offset < damage.offset + damage.length
    assert volume.stats().damaged_count == 1


def test_a_tombstone_that_is_damaged_still_buries_while_its_header_is_readable(base: Base) -> None:
    start, end = base.places[DEAD_ID]
    for offset in range(start + 20, end):
        disk = with_flip(base, DATA, offset, 1)
        disk.remove(INDEX)
        volume = Volume.open(disk, DIRECTORY)
        with pytest.raises(NoSuchNeedle):
            volume.read(DEAD_ID)
        assert_reported(volume, offset)


def test_a_flipped_byte_of_the_superblock_is_restored_from_the_manifest(base: Base) -> None:
    original = bytes(base.disk.node(DATA).content[:SUPERBLOCK_SIZE])
    for offset in range(SUPERBLOCK_SIZE):
        if offset > 100 and offset % 97:
            continue  # zeros that mean nothing
        disk = with_flip(base, DATA, offset, 0x01)
        volume = Volume.open(disk, DIRECTORY)
        assert read_all(base, volume) == set()
        assert volume.recovery.repairs == (("superblock",) if offset < 60 else ())
        assert (volume.volume_id, volume.capacity, volume.generation) == (7, 1 << 20, 1)
        if offset < 60:
            assert disk.node(DATA).platter[:SUPERBLOCK_SIZE] == original


@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_a_flipped_byte_of_the_manifest_is_restored_from_the_superblock(base: Base, mask: int) -> None:
    original = base.disk.node(MANIFEST).content
    for _, disk in flipped(base, MANIFEST, mask):
        volume = Volume.open(disk, DIRECTORY)
        assert read_all(base, volume) == set()
        assert volume.recovery.repairs == ("manifest",)
        assert disk.node(MANIFEST).platter == original
    for length in range(len(original)):
        disk = base.copy()
        disk.node(MANIFEST).content = original[:length]
        assert Volume.open(disk, DIRECTORY).recovery.repairs == ("manifest",)


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x80, 0xFF])
def test_a_flipped_byte_of_the_index_header_costs_nothing(base: Base, mask: int) -> None:
    for offset in (*SLOT_OFFSETS, WATERMARK_OFFSET):
        for at in range(offset, offset + 128):
            volume = Volume.open(with_flip(base, INDEX, at, mask), DIRECTORY)
            assert read_all(base, volume) == set()
            assert volume.stats() == base.stats
            assert volume.recovery.damages == ()
            assert volume.recovery.rebuilt_because is None, "one slot always checks"


@pytest.mark.parametrize("mask", [1 << bit for bit in range(8)])
def test_a_flipped_bit_of_an_index_entry_hides_no_needle_and_a_rebuild_brings_it_back(
    base: Base, mask: int
) -> None:
    entries = {i: entry_offset(i) for i in (*base.needles, DEAD_ID)}
    for needle_id, start in entries.items():
        for offset in range(start, start + 16):
            disk = with_flip(base, INDEX, offset, mask)
            volume = Volume.open(disk, DIRECTORY)
            assert read_all(base, volume) <= {needle_id}
            volume.close()
            disk.remove(INDEX)
            volume = Volume.open(disk, DIRECTORY)
            assert read_all(base, volume) == set()
            assert volume.recovery.damages == ()
            assert volume.stats() == base.stats


def test_an_entry_for_a_needle_that_never_was_serves_nothing(base: Base) -> None:
    start = entry_offset(ABSENT_ID)
    assert start >= ENTRIES_OFFSET
    for offset in range(start, start + 16):
        volume = Volume.open(with_flip(base, INDEX, offset, 0x10), DIRECTORY)
        with pytest.raises((NoSuchNeedle, NeedleCorrupt)):
            volume.read(ABSENT_ID)


def test_both_index_slots_damaged_rebuilds_the_index(base: Base) -> None:
    disk = base.copy()
    for offset in SLOT_OFFSETS:
        for content in (disk.node(INDEX).content, disk.node(INDEX).platter):
            content[offset + 5] ^= 1
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.rebuilt_because
    assert read_all(base, volume) == set()
    assert volume.stats() == base.stats
