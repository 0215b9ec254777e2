"""A scrub reports everything that somebody can lose by, and nothing else, while the volume goes on."""

from __future__ import annotations

import errno
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from auditor import DIRECTORY, UUID, make_volume
from simdisk import PAGE, SimDisk
from warehouse.errors import GenerationMismatch, NoSuchVolume, ReadFailed
from warehouse.storage.compaction.scrub import DAMAGES_MAX, STEP_SIZE, Scrub
from warehouse.storage.disk import Disk, OsDisk, write_file
from warehouse.storage.files import data_path, index_path, manifest_path
from warehouse.storage.format.needle import HEADER_SIZE, BucketRecord, NeedleMetadata, stored_size
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, decode_manifest, encode_manifest
from warehouse.storage.index import FLAG_DELETED, FLAGS_MASK, SLOT_OFFSETS, entry_offset
from warehouse.storage.recovery import Damage
from warehouse.storage.volume import Volume

DATA, INDEX, MANIFEST = data_path(DIRECTORY, 1), index_path(DIRECTORY, 1), manifest_path(DIRECTORY)
OTHER_UUID = "11111111-9605-4a62-a9e4-5ed26688389b"


def metadata(needle_id: int) -> NeedleMetadata:
    return NeedleMetadata("photos", 3, f"key-{needle_id}", 1_750_000_000_000)


def put(volume: Volume, needle_id: int, size: int = 700) -> None:
    volume.append(needle_id, metadata(needle_id), random.Random(needle_id).randbytes(size), stamp=needle_id)


def stream(volume: Volume, needle_id: int, size: int) -> None:
    extent = volume.reserve(needle_id, metadata(needle_id), size)
    extent.write(random.Random(needle_id).randbytes(size))
    extent.finish(stamp=needle_id)


def scrub(disk: Disk, *, start: int = 0) -> Scrub:
    return Scrub(disk, DIRECTORY, uuid=UUID, generation=1, start=start)


def damages(disk: Disk, *, start: int = 0) -> list[Damage]:
    """What a whole pass reports."""
    work = scrub(disk, start=start)
    while work.step():
        pass
    assert work.position == work.end_offset
    assert work.damaged_count == len(work.damages)
    assert all(damage.volume_id == 7 for damage in work.damages)
    work.close()
    return work.damages


def place(volume: Volume, needle_id: int) -> tuple[int, int]:
    found = volume.find(needle_id)
    assert found is not None
    return found.offset, found.offset + stored_size(found.metadata_size, found.data_size)


def overwrite(disk: SimDisk, path: str, offset: int, content: bytes) -> None:
    node = disk.node(path)
    for each in (node.content, node.platter):
        each[offset : offset + len(content)] = content


def flip(disk: SimDisk, offset: int, path: str = DATA) -> None:
    overwrite(disk, path, offset, bytes([disk.node(path).content[offset] ^ 0xFF]))


def flip_data(disk: SimDisk, volume: Volume, needle_id: int) -> None:
    found = volume.find(needle_id)
    assert found is not None
    flip(disk, found.offset + HEADER_SIZE + found.metadata_size + 1)


# --- every byte -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """A volume at rest with needles of every fate."""

    disk: SimDisk
    live: dict[int, tuple[int, int]]  # where their bytes are that mean something
    dead: list[tuple[int, int]]
    unfinished: tuple[int, int]
    marks: dict[str, tuple[int, int]]
    count: int

    def flipped(self, offset: int) -> SimDisk:
        disk = self.disk.crash(random.Random(0), 1.0, tear=False)
        flip(disk, offset)
        return disk


@pytest.fixture(scope="module")
def base() -> Base:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id, size in ((1, 30), (2, 0), (3, 50), (4, 100), (6, 10), (9, 64)):
        (stream if needle_id == 6 else put)(volume, needle_id, size)
    live = {i: place(volume, i) for i in (1, 2, 4, 6, 9)}
    dead = [place(volume, 3)]
    marks = {}
    for name, act in (
        ("tombstone", lambda: volume.delete(3, stamp=100)),
        ("restamp", lambda: volume.restamp(1, stamp=101)),
        ("never written", lambda: volume.delete(50, stamp=102)),
        ("bucket", lambda: volume.record_bucket(BucketRecord(3, "photos", 1, False), stamp=103)),
    ):
        tail = volume.stats().file_size
        act()
        marks[name] = (tail, volume.stats().file_size)
    tail = volume.stats().file_size
    extent = volume.reserve(7, metadata(7), 40)
    put(volume, 8, 20)
    extent.abort()
    live[8] = place(volume, 8)
    unfinished = (tail, live[8][0])
    put(volume, 10, 77)
    dead.append(place(volume, 10))
    volume.delete(10, stamp=103)
    volume.close()
    without_padding = {}
    for needle_id, (start, end) in live.items():
        while disk.node(DATA).content[end - 1] == 0:  # may be padding; a footer's CRC seldom ends so
            end -= 1
        without_padding[needle_id] = (start, end)
    return Base(disk, without_padding, dead, unfinished, marks, count=8)


def test_a_whole_volume_has_no_damage_and_all_of_it_is_counted(base: Base) -> None:
    work = scrub(base.disk)
    while work.step():
        pass
    assert work.damages == []
    assert work.checked_count == base.count
    assert work.total == work.read_bytes == len(base.disk.node(DATA).content) - SUPERBLOCK_SIZE
    assert work.resume_at == work.end_offset
    assert not work.step(), "over is over"


def test_every_flipped_byte_of_a_live_needle_is_reported(base: Base) -> None:
    named = 0
    for needle_id, (start, end) in base.live.items():
        for offset in range(start, end):
            (damage,) = damages(base.flipped(offset))
            assert damage.needle_id == needle_id, f"byte {offset - start} of needle {needle_id}"
            assert damage.offset == start
            assert damage.offset + damage.length >= end
            if damage.key is not None:
                named += 1
                assert (damage.bucket, damage.key) == ("photos", f"key-{needle_id}")
    assert named > 300, "the names of most are known: their headers are readable"


def test_no_flipped_byte_of_dead_space_is_reported(base: Base) -> None:
    for start, end in (*base.dead, base.marks["tombstone"], base.marks["never written"]):
        for offset in range(start, end):
            found = damages(base.flipped(offset))
            assert found == [], f"byte {offset - start} of the record at {start}"


def test_an_unfinished_upload_whose_header_is_gone_is_reported_as_nobody_knows_what(base: Base) -> None:
    start, _ = base.unfinished
    for offset in range(start, start + HEADER_SIZE):
        (damage,) = damages(base.flipped(offset))
        assert (damage.offset, damage.needle_id) == (start, None)


def test_a_flipped_byte_of_a_later_stamp_is_reported(base: Base) -> None:
    start, end = base.marks["restamp"]
    for offset in range(start, end):
        (damage,) = damages(base.flipped(offset))
        assert damage.offset == start
        if offset >= start + HEADER_SIZE:
            assert damage.needle_id == 1
            assert damage.problem.startswith("its later stamp: ")


def test_a_flipped_byte_of_the_record_of_a_bucket_is_reported(base: Base) -> None:
    start, end = base.marks["bucket"]
    while base.disk.node(DATA).content[end - 1] == 0:
        end -= 1
    for offset in range(start, end):
        (damage,) = damages(base.flipped(offset))
        assert (damage.offset, damage.needle_id) == (start, None)
        assert offset < start + HEADER_SIZE or damage.problem.startswith("the record of a bucket: ")


def test_a_flipped_byte_of_the_superblock_is_reported(base: Base) -> None:
    for offset in range(60):
        (damage,) = damages(base.flipped(offset))
        assert (damage.offset, damage.length, damage.needle_id) == (0, SUPERBLOCK_SIZE, None)
    assert damages(base.flipped(5), start=base.live[8][0]) == [], (
        "that was read by the first part of the pass"
    )


def test_every_flipped_bit_of_an_index_entry_is_reported(base: Base) -> None:
    for needle_id, (start, _) in base.live.items():
        for at in range(16):
            for bit in range(8):
                if at == 0 and 1 << bit & FLAGS_MASK & ~FLAG_DELETED:
                    continue  # that it is damaged, which it is not; and a bit without a meaning
                disk = base.disk.crash(random.Random(0), 1.0, tear=False)
                offset = entry_offset(needle_id) + at
                overwrite(disk, INDEX, offset, bytes([disk.node(INDEX).content[offset] ^ 1 << bit]))
                (damage,) = damages(disk)
                assert (damage.needle_id, damage.offset) == (needle_id, start)
                assert (damage.bucket, damage.key) == ("photos", f"key-{needle_id}")


def test_a_needle_whose_index_entry_is_gone_is_reported(base: Base) -> None:
    for needle_id, (start, _) in base.live.items():
        disk = base.disk.crash(random.Random(0), 1.0, tear=False)
        overwrite(disk, INDEX, entry_offset(needle_id), bytes(16))
        (damage,) = damages(disk)
        assert (damage.needle_id, damage.offset) == (needle_id, start)
        assert damage.problem == "the index has no entry for it"
    overwrite(disk, INDEX, entry_offset(9), disk.node(INDEX).content[entry_offset(8) :][:16])  # type: ignore[arg-type]
    assert {damage.needle_id for damage in damages(disk)} == {8, 9} - ({8} if needle_id != 8 else set())


# --- torn, unfinished, unreadable -----------------------------------------------------------------


@pytest.mark.parametrize("at", [8, HEADER_SIZE + 3, 300, 760])
def test_a_torn_stretch_is_excused_by_a_note_that_comes_much_later(at: int) -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1)
    volume.sync()
    put(volume, 2)
    torn_at, _ = place(volume, 2)
    flip(disk, torn_at + at)
    for needle_id in range(3, 8):
        put(volume, needle_id, 500_000)
    volume = Volume.open(disk, DIRECTORY)
    assert len(volume.recovery.torn) == 1
    assert volume.recovery.damages == ()
    work = scrub(disk)
    assert work.step()
    assert work.resume_at == torn_at, "a pass that ends now may not have seen damage"
    while work.step():
        pass
    assert work.damages == []
    assert damages(disk, start=torn_at) == []


def test_a_noted_stretch_that_cannot_be_read_is_damage_all_the_same() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1)
    volume.sync()
    put(volume, 2, 3 * PAGE)
    put(volume, 3)
    start, _ = place(volume, 2)
    overwrite(disk, DATA, start, bytes(100))
    Volume.open(disk, DIRECTORY).close()
    assert damages(disk) == []
    disk.before = unreadable(start + PAGE, start + PAGE + 10)
    (damage,) = damages(disk)
    assert damage.offset <= start + PAGE < damage.offset + damage.length


def unreadable(start: int, end: int):
    def before(call: str, path: str, offset: int, size: int) -> None:
        if call == "preadv" and path == DATA and offset < end and start < offset + size:
            raise OSError(errno.EIO, "a bad sector")

    return before


def test_a_bad_sector_costs_the_needles_on_it() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in range(1, 31):
        put(volume, needle_id)
    volume.delete(7, stamp=100)
    volume.sync()
    bad_start, bad_end = SUPERBLOCK_SIZE + PAGE, SUPERBLOCK_SIZE + 2 * PAGE
    places = {i: place(volume, i) for i in range(1, 31) if i != 7}
    lost = {i for i, (start, end) in places.items() if start < bad_end and end > bad_start}
    disk.before = unreadable(bad_start, bad_end)
    assert {damage.needle_id for damage in damages(disk)} == lost


def test_an_upload_that_was_never_finished_is_no_damage() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1)
    volume.reserve(2, metadata(2), 10_000).write(bytes(5_000))
    put(volume, 3)
    volume.sync()
    assert damages(disk) == []
    volume = Volume.open(disk, DIRECTORY)
    put(volume, 2, 10_000)
    put(volume, 4)
    volume.sync()
    assert damages(disk) == []
    flip(disk, place(volume, 1)[1] + 8)  # the header of the attempt that broke off
    assert [d.needle_id for d in damages(disk)] == [None]
    flip_data(disk, volume, 2)
    assert [d.needle_id for d in damages(disk)] == [2, None]


def test_a_finished_upload_is_damage_when_its_footer_is_wiped() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    stream(volume, 1, 704)
    volume.sync()
    start, end = place(volume, 1)
    overwrite(disk, DATA, end - 28, bytes(28))
    (damage,) = damages(disk)
    assert (damage.needle_id, damage.offset) == (1, start)


def test_a_data_file_cut_short_is_reported_with_the_needles_that_it_costs() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in range(1, 6):
        put(volume, needle_id)
    volume.sync()
    middle = (place(volume, 3)[0] + place(volume, 4)[0]) // 2
    for content in (disk.node(DATA).content, disk.node(DATA).platter):
        del content[middle:]
    assert [damage.needle_id for damage in damages(disk)] == [3, 4, 5]


def test_what_is_checked_is_what_the_disk_holds_and_not_what_is_in_memory() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in range(1, 41):
        put(volume, needle_id, 300_000)
    volume.sync()
    for needle_id in (2, 39):
        disk.node(DATA).platter[place(volume, needle_id)[0] + 5000] ^= 1
    assert bytes(volume.read(39).data)
    assert [damage.needle_id for damage in damages(disk)] == [2, 39]


def test_damages_beyond_a_bound_are_only_counted() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in range(1, DAMAGES_MAX + 51):
        put(volume, needle_id, 8)
    volume.sync()
    for needle_id in range(1, DAMAGES_MAX + 51):
        flip_data(disk, volume, needle_id)
    work = scrub(disk)
    while work.step():
        pass
    assert (work.damaged_count, len(work.damages)) == (DAMAGES_MAX + 50, DAMAGES_MAX)


# --- beside a volume that goes on -----------------------------------------------------------------


def test_it_follows_a_volume_that_grows_and_ends_though_somebody_writes_all_the_time() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in range(1, 11):
        put(volume, needle_id, 300_000)
    volume.sync()
    work = scrub(disk)
    first_total, needle_id = work.total, 10
    for _ in range(6):  # as fast as it reads
        for _ in range(3):
            needle_id += 1
            put(volume, needle_id, 400_000)
        volume.sync()
        assert work.step()
    flip_data(disk, volume, needle_id - 1)
    steps = 0
    while True:
        needle_id += 1
        put(volume, needle_id, 1000)  # a little at each step
        volume.sync()
        steps += 1
        if not work.step():
            break
        assert steps < 50
    assert work.total > first_total + 15 * 400_000
    assert needle_id - steps - 3 < work.checked_count <= needle_id
    assert len(work.damages) == 1


def test_what_is_not_synced_is_left_alone() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1)
    volume.sync()
    put(volume, 2)
    flip_data(disk, volume, 2)
    work = scrub(disk)
    assert not work.step()
    assert work.checked_count == 1
    assert work.damages == []


def test_a_needle_deleted_while_it_is_read_is_not_reported() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in (1, 2, 3):
        put(volume, needle_id)
    volume.sync()
    for needle_id in (2, 3):
        flip_data(disk, volume, needle_id)

    def delete_once(call: str, path: str, offset: int, size: int) -> None:
        if call == "preadv" and path == DATA and offset >= SUPERBLOCK_SIZE:
            disk.before = None
            volume.delete(2, stamp=10)
            volume.sync()

    work = scrub(disk)
    disk.before = delete_once
    while work.step():
        pass
    assert [damage.needle_id for damage in work.damages] == [3]


def test_a_gap_whose_needle_is_deleted_before_the_end_is_not_reported() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in range(1, 6):
        put(volume, needle_id, 600_000)
    volume.restamp(2, stamp=50)
    put(volume, 9, 600_000)
    volume.sync()
    flip(disk, place(volume, 5)[1] + HEADER_SIZE + 3)  # the restamp
    work = scrub(disk)
    assert work.step()
    volume.delete(2, stamp=60)
    volume.sync()
    while work.step():
        pass
    assert work.damages == []


def test_a_generation_that_was_replaced_is_not_reported_on() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1)
    put(volume, 2, 3 * STEP_SIZE)
    put(volume, 3)
    volume.sync()
    identity = decode_manifest(bytes(disk.node(MANIFEST).content))
    later = encode_manifest(msgspec.structs.replace(identity, generation=2))
    for needle_id in (1, 3):
        flip_data(disk, volume, needle_id)

    def replace_once(call: str, path: str, offset: int, size: int) -> None:
        if call == "preadv" and path == DATA and offset >= SUPERBLOCK_SIZE:
            disk.before = None
            write_file(disk, MANIFEST, later)

    work = scrub(disk)
    disk.before = replace_once
    with pytest.raises(GenerationMismatch, match="generation 2"):
        work.step()
    assert work.damages == []
    with pytest.raises(GenerationMismatch):
        work.step()
    with pytest.raises(GenerationMismatch):
        scrub(disk)


def test_another_volume_or_none_is_refused() -> None:
    disk = SimDisk()
    with pytest.raises(NoSuchVolume):
        scrub(disk)
    make_volume(disk).close()
    for uuid, generation in ((OTHER_UUID, 1), (UUID, 2)):
        with pytest.raises(GenerationMismatch):
            Scrub(disk, DIRECTORY, uuid=uuid, generation=generation, start=0)


def test_without_an_index_nothing_can_be_told_and_nothing_is_reported() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    for needle_id in (1, 2, 3):
        put(volume, needle_id)
    volume.close()
    work = scrub(disk)
    index = bytes(disk.node(INDEX).content)
    flip(disk, SUPERBLOCK_SIZE + 200)
    for slot in SLOT_OFFSETS:  # it is being rebuilt
        overwrite(disk, INDEX, slot, bytes(128))
    with pytest.raises(ReadFailed):
        work.step()
    assert work.damages == []
    with pytest.raises(ReadFailed, match="rebuilt"):
        scrub(disk)
    overwrite(disk, INDEX, 0, index)
    assert len(damages(disk)) == 1
    disk.remove(INDEX)
    with pytest.raises(ReadFailed):
        scrub(disk)


# --- steps ----------------------------------------------------------------------------------------


def test_steps_are_small_whatever_the_size_of_a_needle_and_a_pass_can_be_resumed() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1, 300_000)
    put(volume, 2, 10 * STEP_SIZE)
    put(volume, 3, 300_000)
    volume.sync()
    flip_data(disk, volume, 1)
    flip(disk, place(volume, 2)[1] - 500_000)
    work, before, resumes = scrub(disk), SUPERBLOCK_SIZE, set[int]()
    while work.step():
        assert work.position - before <= 2 * STEP_SIZE
        before = work.position
        resumes.add(work.resume_at)
    assert [damage.needle_id for damage in work.damages] == [1, 2]
    assert resumes <= {place(volume, i)[end] for i in (1, 2, 3) for end in (0, 1)}
    assert [d.needle_id for d in damages(disk, start=place(volume, 2)[0])] == [2]
    assert [d.needle_id for d in damages(disk, start=place(volume, 3)[0])] == []
    assert [d.needle_id for d in damages(disk, start=1 << 40)] == [1, 2], "no place of this file: all anew"


def test_a_gap_of_many_steps_is_gone_through_in_steps() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, 1, 5 * STEP_SIZE)
    put(volume, 2)
    volume.sync()
    flip(disk, place(volume, 1)[0])
    work, steps = scrub(disk), 0
    while work.step():
        steps += 1
    assert steps >= 4
    assert [damage.needle_id for damage in work.damages] == [1]


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[OsDisk, Volume]]:
    disk = OsDisk(tmp_path)
    volume = make_volume(disk)
    yield disk, volume
    volume.close()


def test_on_a_real_disk_each_damaged_needle_is_found(real: tuple[OsDisk, Volume]) -> None:
    disk, volume = real
    chance = random.Random(8)
    for needle_id in range(1, 400):
        put(volume, needle_id, chance.choice((0, 100, 5000, 300_000)))
    for needle_id in range(1, 400, 3):
        volume.delete(needle_id, stamp=1000 + needle_id)
    volume.sync()
    assert damages(disk) == []
    hit = set(chance.sample(range(2, 400), 40))
    with (disk.root / DATA).open("r+b") as file:
        for needle_id in hit:
            found = volume.find(needle_id)
            assert found is not None
            file.seek(found.offset + chance.randrange(40))
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    live = {needle_id for needle_id in hit if needle_id % 3 != 1}
    assert {damage.needle_id for damage in damages(disk)} == live


def test_memory_does_not_grow_with_the_volume(real: tuple[OsDisk, Volume]) -> None:
    disk, volume = real
    for needle_id in range(1, 20_001):
        put(volume, needle_id, 100)
    put(volume, 20_001, 30 * STEP_SIZE)
    volume.sync()
    tracemalloc.start()
    try:
        assert damages(disk) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * STEP_SIZE, f"{peak} bytes"
