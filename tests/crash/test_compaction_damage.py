"""Compaction meets damage: nothing that was live is dropped, served wrong, or taken for sound."""

from __future__ import annotations

import errno
import random

import pytest

from auditor import DIRECTORY, UUID, make_volume
from simdisk import SimDisk
from warehouse.errors import (
    DiskFull,
    GenerationMismatch,
    NeedleCorrupt,
    NeedleVoid,
    NoRoomToCompact,
    NoSuchNeedle,
)
from warehouse.storage import index as index_room
from warehouse.storage.compaction import copying
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.files import data_path
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_BUCKET,
    KIND_TOMBSTONE,
    MARK_SIZE,
    BucketRecord,
    NeedleMetadata,
    decode_bucket,
)
from warehouse.storage.scan import State
from warehouse.storage.volume import Volume

SMALL, LARGE, MULTI = 1, 2, 3
SIZES = {SMALL: 700, LARGE: BLOCK_SIZE + 5000, MULTI: 3 * BLOCK_SIZE}
DATA = {needle_id: random.Random(needle_id).randbytes(size) for needle_id, size in SIZES.items()}
REST = 9


def metadata_of(needle_id: int) -> NeedleMetadata:
    return NeedleMetadata("photos", 3, f"key-{needle_id}", 1_750_000_000_000, metadata={"n": str(needle_id)})


def filled(disk: SimDisk) -> Volume:
    """Live needles of all sizes, each between dead ones."""
    volume = make_volume(disk)
    for needle_id, data in DATA.items():
        volume.append(10 + needle_id, metadata_of(10 + needle_id), b"dead" * 50, stamp=needle_id)
        volume.append(needle_id, metadata_of(needle_id), data, stamp=100 + needle_id)
        volume.delete(10 + needle_id, stamp=200 + needle_id, object_deleted=True)
    volume.append(REST, metadata_of(REST), b"the rest", stamp=300)
    volume.sync()
    return volume


def copied(disk: SimDisk, volume: Volume, *, horizon: int = 1 << 60) -> Copy:
    end_offset = volume.begin_compaction()
    copy = Copy(
        disk, DIRECTORY, uuid=UUID, generation=volume.generation, end_offset=end_offset, horizon=horizon
    )
    while copy.step():
        pass
    copy.close()
    return copy


def compacted(disk: SimDisk, volume: Volume, *, horizon: int = 1 << 60) -> Copy:
    copy = copied(disk, volume, horizon=horizon)
    GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset).switch()
    return copy


def flip(disk: SimDisk, volume: Volume, offset: int) -> None:
    node = disk.node(data_path(DIRECTORY, volume.generation))
    for content in (node.content, node.platter):
        content[offset] ^= 0x40


def place(volume: Volume, needle_id: int, part: str) -> int:
    """The offset of one byte in some part of a needle."""
    found = volume.find(needle_id)
    assert found is not None
    data_end = HEADER_SIZE + found.metadata_size + found.data_size
    table = -(-found.data_size // BLOCK_SIZE) * 4 if found.data_size > BLOCK_SIZE else 0
    return (
        found.offset
        + {
            "magic": 0,
            "header": 9,
            "metadata": HEADER_SIZE + 3,
            "data": data_end - 100,
            "table": data_end + 1,
            "footer": data_end + table + 6,
            "footer_crc": data_end + table + FOOTER_SIZE - 1,
        }[part]
    )


PARTS = ["magic", "header", "metadata", "data", "footer", "footer_crc"]
CASES = [(i, part) for i in DATA for part in PARTS] + [(LARGE, "table"), (MULTI, "table")]


def test_a_compaction_keeps_what_lives_and_nothing_else() -> None:
    disk = SimDisk()
    volume = filled(disk)
    before = volume.stats()
    copy = compacted(disk, volume)
    after = volume.stats()
    assert copy.damaged_count == 0
    assert (after.live_count, after.live_bytes) == (before.live_count, before.live_bytes)
    assert (after.dead_count, after.dead_bytes) == (0, 0)
    assert after.file_size < before.file_size
    for needle_id, data in DATA.items():
        read = volume.read(needle_id)
        assert (bytes(read.data), read.metadata, read.stamp) == (
            data,
            metadata_of(needle_id),
            100 + needle_id,
        )
        assert bytes(volume.open_needle(needle_id).read(5, 600)) == data[5:605]
        with pytest.raises(NoSuchNeedle):
            volume.read(10 + needle_id)
        with pytest.raises(NeedleVoid):
            volume.append(10 + needle_id, metadata_of(10 + needle_id), b"", stamp=999)
    assert disk.list(DIRECTORY) == ["g2.idx", "g2.vol", "manifest"]


@pytest.mark.parametrize(("horizon", "is_kept"), [(0, True), (202, True), (203, False), (1 << 60, False)])
def test_a_deletion_is_kept_with_its_name_up_to_the_horizon(horizon: int, is_kept: bool) -> None:
    disk = SimDisk()
    volume = filled(disk)
    for _ in range(3):  # however often it is compacted
        compacted(disk, volume, horizon=horizon)
        marks = {r.needle_id: r for r in volume.records() if r.kind == KIND_TOMBSTONE}
        assert (12 in marks) is is_kept
        if is_kept:
            assert marks[12].object_deleted
            assert (marks[12].stamp, marks[12].metadata.key) == (202, "key-12")
        assert volume.stats().dead_bytes == 0
        with pytest.raises(NeedleVoid):
            volume.append(12, metadata_of(12), b"", stamp=999)


def test_bucket_records_are_copied_each_once_and_a_deletion_last() -> None:
    disk = SimDisk()
    volume = filled(disk)
    films = BucketRecord(4, "films", 5, False)
    for record in (
        films,
        films,
        BucketRecord(3, "photos", 1, False),
        BucketRecord(4, "films", 5, True),
        films,
    ):
        volume.record_bucket(record, stamp=7)
    volume.sync()
    for _ in range(2):
        compacted(disk, volume)
        found = [decode_bucket(r.content) for r in volume.records() if r.kind == KIND_BUCKET]
        assert [record.is_deleted for record in found if record.bucket_id == 4][-1]
        assert len(found) <= 3


@pytest.mark.parametrize(("needle_id", "part"), CASES)
def test_a_damaged_needle_is_copied_and_never_served(needle_id: int, part: str) -> None:
    disk = SimDisk()
    volume = filled(disk)
    before = volume.stats()
    flip(disk, volume, place(volume, needle_id, part))
    for number in range(2):  # it is as damaged after the second compaction as after the first
        copy = compacted(disk, volume)
        is_mended = part in ("table", "footer", "footer_crc")
        assert copy.damaged_count == (0 if is_mended and number else 1)
        stats = volume.stats()
        assert (stats.live_count, stats.live_bytes) == (before.live_count, before.live_bytes)
        if is_mended:  # the index vouches for the data, so only its stamp may be another
            assert bytes(volume.read(needle_id).data) == DATA[needle_id]
            assert volume.read(needle_id).metadata == metadata_of(needle_id)
        else:
            for call in (volume.read, volume.open_needle):
                with pytest.raises(NeedleCorrupt):
                    call(needle_id)
        for other in DATA.keys() - {needle_id}:
            assert bytes(volume.read(other).data) == DATA[other]
        assert bytes(volume.read(REST).data) == b"the rest"
    # Also when the index has to be made anew from the data file.
    volume.close()
    disk.remove(f"{DIRECTORY}/g3.idx")
    volume = Volume.open(disk, DIRECTORY)
    assert len(volume.recovery.damages) == (0 if is_mended else 1)
    bad = [record for record in volume.records() if record.state is not State.WHOLE]
    assert len(bad) == (0 if is_mended else 1)
    if not is_mended:
        with pytest.raises(NeedleCorrupt):
            volume.read(needle_id)


@pytest.mark.parametrize("part", PARTS)
def test_damage_to_the_dead_costs_nothing(part: str) -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    placed = volume.append(5, metadata_of(5), b"dead" * 50, stamp=1)
    at = place(volume, 5, part)
    assert at >= placed.offset
    volume.append(1, metadata_of(1), DATA[SMALL], stamp=2)
    volume.delete(5, stamp=3, object_deleted=True)
    volume.sync()
    flip(disk, volume, at)
    compacted(disk, volume)
    assert bytes(volume.read(1).data) == DATA[SMALL]
    assert volume.stats().live_count == 1
    with pytest.raises(NoSuchNeedle):
        volume.read(5)


def test_bytes_that_nobody_can_make_sense_of_are_kept_for_a_person() -> None:
    disk = SimDisk()
    volume = filled(disk)
    found = volume.find(11)  # a deleted needle: its index entry names the tombstone
    assert found is not None
    flip(disk, volume, found.offset)  # the tombstone's header
    copy = compacted(disk, volume)
    assert copy.damaged_count == 1
    assert [name for name in disk.list(DIRECTORY) if name.startswith("lost-g1-")]
    with pytest.raises(NoSuchNeedle):
        volume.read(11)


def test_a_flipped_bit_in_the_index_deletes_nothing() -> None:
    disk = SimDisk()
    volume = filled(disk)
    node = disk.node(f"{DIRECTORY}/g1.idx")
    volume.begin_compaction()
    for content in (node.content, node.platter):
        content[8192 + 16 * SMALL] |= 1  # "deleted"
    copy = copied(disk, volume)
    switch = GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset)
    switch.switch()
    assert bytes(volume.read(SMALL).data) == DATA[SMALL]


def test_a_copy_that_would_not_fit_is_refused_before_it_begins() -> None:
    disk = SimDisk()
    volume = filled(disk)
    end_offset = volume.begin_compaction()
    disk.space = disk.space - disk.free_bytes() + 500_000
    with pytest.raises(NoRoomToCompact, match="needs 1"):
        Copy(disk, DIRECTORY, uuid=UUID, generation=1, end_offset=end_offset, horizon=0)
    assert disk.list(DIRECTORY) == ["g1.idx", "g1.vol", "manifest"]


def test_a_disk_that_fills_up_meanwhile_costs_the_copy_and_nothing_else() -> None:
    disk = SimDisk()
    volume = filled(disk)
    end_offset = volume.begin_compaction()
    copy = Copy(disk, DIRECTORY, uuid=UUID, generation=1, end_offset=end_offset, horizon=0)
    disk.space = disk.space - disk.free_bytes() + 300_000
    with pytest.raises((DiskFull, NoRoomToCompact)):
        while copy.step():
            pass
    copy.remove()
    assert disk.list(DIRECTORY) == ["g1.idx", "g1.vol", "manifest"]
    for needle_id, data in DATA.items():
        assert bytes(volume.read(needle_id).data) == data


def test_a_copy_of_another_volume_or_generation_is_refused() -> None:
    disk = SimDisk()
    volume = filled(disk)
    end_offset = volume.begin_compaction()
    with pytest.raises(GenerationMismatch):
        Copy(disk, DIRECTORY, uuid=UUID, generation=2, end_offset=end_offset, horizon=0)
    with pytest.raises(GenerationMismatch):
        Copy(disk, DIRECTORY, uuid=UUID.replace("0", "1"), generation=1, end_offset=end_offset, horizon=0)
    copy = copied(disk, volume)
    with pytest.raises(GenerationMismatch):
        GenerationSwitch(volume, disk, generation=3, end_offset=copy.end_offset)
    compacted(disk, volume)
    assert volume.generation == 2


def test_a_copy_that_was_not_finished_is_never_published() -> None:
    disk = SimDisk()
    volume = filled(disk)
    end_offset = volume.begin_compaction()
    copy = Copy(disk, DIRECTORY, uuid=UUID, generation=1, end_offset=end_offset, horizon=0)
    copy.step()
    copy.close()
    with pytest.raises(GenerationMismatch):
        GenerationSwitch(volume, disk, generation=2, end_offset=end_offset)


def test_a_copy_that_lacks_a_needle_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from warehouse.storage.compaction.record_copier import RecordCopier

    disk = SimDisk()
    volume = filled(disk)
    original = RecordCopier._take_small
    monkeypatch.setattr(
        RecordCopier, "_take_small", lambda self, r: None if r.needle_id == REST else original(self, r)
    )
    copy = copied(disk, volume)
    switch = GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset)
    with pytest.raises(GenerationMismatch, match="3 needles"):
        switch.switch()
    switch.abandon()
    assert volume.generation == 1
    assert bytes(volume.read(REST).data) == b"the rest"
    assert disk.list(DIRECTORY) == ["g1.idx", "g1.vol", "manifest"]
    volume.append(50, metadata_of(50), b"life goes on", stamp=999)


def test_a_reader_that_began_before_the_switch_reads_on() -> None:
    disk = SimDisk()
    volume = filled(disk)
    reader = volume.open_needle(MULTI)
    first = bytes(reader.read(0, BLOCK_SIZE))
    compacted(disk, volume)
    volume.delete(MULTI, stamp=1000)
    assert first + bytes(reader.read(BLOCK_SIZE, SIZES[MULTI] - BLOCK_SIZE)) == DATA[MULTI]


def test_uploads_under_way_move_over_with_the_switch() -> None:
    disk = SimDisk()
    volume = filled(disk)
    size = 2 * BLOCK_SIZE + 77
    data = random.Random(1).randbytes(size)
    extents = {i: volume.reserve(i, metadata_of(i), size) for i in (60, 61, 62, 63)}
    for needle_id, extent in extents.items():
        extent.write(data[: 1000 * needle_id])
    copy = copied(disk, volume)
    switch = GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset)
    extents[60].write(data[60_000:])
    extents[60].finish(stamp=500)  # before the first round
    volume.append(70, metadata_of(70), b"in between", stamp=501)
    switch.catch_up()
    extents[61].write(data[61_000:])
    extents[61].finish(stamp=502)  # between two rounds, and dead before the next
    volume.delete(61, stamp=503, object_deleted=True)
    extents[62].abort()
    switch.catch_up()
    extents[63].write(data[63_000:200_000])
    switch.switch()
    assert volume.stats().in_flight_bytes == extents[63].stored_size
    extents[63].write(data[200_000:])
    extents[63].finish(stamp=504)
    volume.sync()
    for needle_id in (60, 63):
        assert bytes(volume.read(needle_id).data) == data
    for needle_id in (61, 62):
        with pytest.raises(NoSuchNeedle):
            volume.read(needle_id)
    volume.close()
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages == ()
    assert bytes(volume.read(63).data) == data
    assert bytes(volume.read(70).data) == b"in between"


def test_ids_that_died_after_the_last_checkpoint_are_void_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_room, "BLOCK_SIZE", 16 * index_room.ENTRY_SIZE)
    monkeypatch.setattr(copying, "FOLLOW_MIN", 1)
    disk = SimDisk()
    volume = filled(disk)
    end_offset = volume.begin_compaction()
    volume.append(40, metadata_of(40), b"dead", stamp=400)
    volume.delete(40, stamp=401)
    volume.delete(50, stamp=402)  # was never written
    volume.sync()  # and no checkpoint: the header of the index knows of neither
    copy = Copy(
        disk, DIRECTORY, uuid=UUID, generation=volume.generation, end_offset=end_offset, horizon=1 << 60
    )
    while copy.step():
        pass
    copy.close()
    assert copy.end_offset > end_offset
    GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset).switch()
    for needle_id in (40, 50):
        with pytest.raises(NeedleVoid):
            volume.append(needle_id, metadata_of(needle_id), b"late", stamp=500)


@pytest.mark.parametrize("cut", [1, 50, 112, 150])
@pytest.mark.timeout(120)
def test_a_data_file_that_was_cut_short_is_damage_and_no_endless_copy(cut: int) -> None:
    disk = SimDisk()
    volume = filled(disk)
    end_offset = volume.begin_compaction()
    del disk.node(data_path(DIRECTORY, 1)).content[-cut:]
    copy = Copy(disk, DIRECTORY, uuid=UUID, generation=1, end_offset=end_offset, horizon=1 << 60)
    while copy.step():
        pass
    copy.close()
    GenerationSwitch(volume, disk, generation=2, end_offset=copy.end_offset).switch()
    is_harmed = cut > 7  # there may be padding at its end
    assert (REST in {damage.needle_id for damage in copy.damages}) == is_harmed
    for needle_id, data in DATA.items():
        assert bytes(volume.read(needle_id).data) == data
    if is_harmed:
        with pytest.raises(NeedleCorrupt):
            volume.read(REST)


def test_garbage_behind_an_upload_that_is_under_way_is_left_out_as_well() -> None:
    disk = SimDisk()
    volume = filled(disk)
    upload = volume.reserve(500, metadata_of(500), 10)
    for needle_id in range(100, 200):
        volume.append(needle_id, metadata_of(needle_id), b"x" * 1000, stamp=1000 + needle_id)
    for needle_id in range(101, 200):
        volume.delete(needle_id, stamp=2000 + needle_id, object_deleted=needle_id == 150)
    compacted(disk, volume)
    assert volume.stats().dead_bytes <= 99 * MARK_SIZE, "only what says that these ids are dead"
    assert volume.stats().kept_bytes > 0
    upload.write(b"0123456789")
    upload.finish(stamp=3000)
    assert bytes(volume.read(100).data) == b"x" * 1000
    assert bytes(volume.read(500).data) == b"0123456789"
    named = [record for record in volume.records() if record.kind == KIND_TOMBSTONE and record.metadata_size]
    assert [(record.needle_id, record.stamp) for record in named if record.needle_id > 100] == [(150, 2150)]
    for needle_id in range(101, 200):
        with pytest.raises(NeedleVoid):
            volume.append(needle_id, metadata_of(needle_id), b"late", stamp=4000)


def test_damage_is_damage_although_the_index_cannot_be_read_at_that_moment() -> None:
    disk = SimDisk()
    volume = filled(disk)
    flip(disk, volume, place(volume, SMALL, "data"))
    seen = []

    def refuse(call: str, path: str, offset: int, size: int) -> int | None:
        if call == "preadv" and path.endswith(".idx"):
            seen.append(offset)
            if len(seen) == 3:  # found, looked up once more, and then marked
                raise OSError(errno.EIO, "injected")
        return None

    disk.before = refuse
    with pytest.raises(NeedleCorrupt):
        volume.read(SMALL)
    assert len(seen) == 3
    disk.before = None
    assert volume.stats().damaged_count == 1
    assert [damage.needle_id for damage in volume.damages()] == [SMALL]
