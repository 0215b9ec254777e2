"""A volume as its owner sees it: what goes in comes out, and what is refused changes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from warehouse.errors import (
    BadRequest,
    ChecksumMismatch,
    DiskFull,
    LengthMismatch,
    NeedleExists,
    NeedleVoid,
    NoSuchNeedle,
    NoSuchVolume,
    StoreError,
    VolumeFull,
    VolumeSealed,
    WriteFailed,
)
from warehouse.storage.disk import OsDisk, OsFile
from warehouse.storage.extent import AHEAD_SIZE
from warehouse.storage.files import volume_ids
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    KIND_DATA,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    MARK_SIZE,
    NeedleMetadata,
    encode_metadata,
    stored_size,
)
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.scan import State
from warehouse.storage.volume import Volume

UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"
METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)


@pytest.fixture
def disk(tmp_path: Path) -> OsDisk:
    return OsDisk(tmp_path)


@pytest.fixture
def volume(disk: OsDisk) -> Volume:
    return Volume.create(
        disk, "volumes/7", volume_id=7, uuid=UUID, capacity=64 * 1024 * 1024, created_ms=1_750_000_000_000
    )


def reopen(disk: OsDisk, volume: Volume) -> Volume:
    volume.close()
    return Volume.open(disk, "volumes/7")


def now_and_reopened(disk: OsDisk, volume: Volume) -> Iterator[Volume]:
    yield volume
    yield reopen(disk, volume)


def test_a_needle_is_readable_at_once_and_after_reopening(disk: OsDisk, volume: Volume) -> None:
    placed = volume.append(1, METADATA, b"hello", stamp=77)
    assert placed.crc == crc32c(b"hello")
    assert placed.offset == SUPERBLOCK_SIZE
    for each in now_and_reopened(disk, volume):
        needle = each.read(1)
        assert bytes(needle.data) == b"hello"
        assert needle.metadata == METADATA
        assert (needle.stamp, needle.crc) == (77, placed.crc)


@pytest.mark.parametrize("size", [0, 1, 4096, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 7])
def test_needles_of_every_kind_of_size_come_back(disk: OsDisk, volume: Volume, size: int) -> None:
    data = os.urandom(size)
    volume.append(1, METADATA, memoryview(data), stamp=1)
    extent = volume.reserve(2, METADATA, size)
    for at in range(0, size, 100_000):
        extent.write(data[at : at + 100_000])
    assert extent.finish(stamp=2, crc=crc32c(data)).crc == crc32c(data)
    volume = reopen(disk, volume)
    for needle_id in (1, 2):
        assert bytes(volume.read(needle_id).data) == data
        assert bytes(volume.open_needle(needle_id).read(0, size)) == data


@pytest.mark.parametrize("size", [1000, 3 * BLOCK_SIZE + 7])
def test_any_range_of_a_needle_can_be_read(volume: Volume, size: int) -> None:
    data = os.urandom(size)
    volume.append(1, METADATA, data, stamp=5)
    reader = volume.open_needle(1)
    assert (reader.size, reader.crc, reader.stamp, reader.metadata) == (size, crc32c(data), 5, METADATA)
    for start, length in [(0, 0), (0, 1), (size - 1, 1), (size, 0), (10, 900), (size // 2, size - size // 2)]:
        assert bytes(reader.read(start, length)) == data[start : start + length]
    for start, length in [(-1, 1), (0, size + 1), (size, 1), (0, -1)]:
        with pytest.raises(ValueError, match="bytes"):
            reader.read(start, length)


def test_a_range_goes_into_memory_that_is_used_again(volume: Volume) -> None:
    data = os.urandom(3 * BLOCK_SIZE)
    volume.append(1, METADATA, data, stamp=5)
    reader = volume.open_needle(1)
    memory = memoryview(bytearray(2 * BLOCK_SIZE))
    first = reader.read(0, 2 * BLOCK_SIZE, into=memory)
    assert (first.obj, bytes(first)) == (memory.obj, data[: 2 * BLOCK_SIZE])
    assert bytes(reader.read(2 * BLOCK_SIZE + 5, 100, into=memory)) == data[2 * BLOCK_SIZE + 5 :][:100]
    with pytest.raises(ValueError, match="room"):  # three blocks cover it
        reader.read(BLOCK_SIZE - 1, BLOCK_SIZE + 2, into=memory)


def test_a_wrong_checksum_is_refused_before_anything_is_written(volume: Volume) -> None:
    before = volume.stats()
    with pytest.raises(ChecksumMismatch):
        volume.append(1, METADATA, b"hello", stamp=1, crc=crc32c(b"hallo"))
    assert volume.stats() == before
    volume.append(1, METADATA, b"hello", stamp=1, crc=crc32c(b"hello"))


def test_an_id_is_written_once(volume: Volume) -> None:
    volume.append(5, METADATA, b"a", stamp=1)
    extent = volume.reserve(6, METADATA, 1)
    for needle_id in (5, 6):
        with pytest.raises(NeedleExists):
            volume.append(needle_id, METADATA, b"b", stamp=2)
        with pytest.raises(NeedleExists):
            volume.reserve(needle_id, METADATA, 10)
    extent.abort()
    assert bytes(volume.read(5).data) == b"a"


def test_a_deleted_needle_is_gone_for_good(disk: OsDisk, volume: Volume) -> None:
    volume.append(1, METADATA, b"a", stamp=1)
    assert volume.delete(1, stamp=2)
    assert not volume.delete(1, stamp=3)
    for each in now_and_reopened(disk, volume):
        with pytest.raises(NoSuchNeedle):
            each.read(1)
        with pytest.raises(NoSuchNeedle):
            each.open_needle(1)
        with pytest.raises(NeedleVoid):
            each.append(1, METADATA, b"again", stamp=4)


def test_an_id_deleted_before_it_came_can_never_be_written(disk: OsDisk, volume: Volume) -> None:
    extent = volume.reserve(1, METADATA, 5)
    extent.write(b"hello")
    assert not volume.delete(1, stamp=2)
    assert not volume.delete(9, stamp=2)
    with pytest.raises(NeedleVoid):
        extent.finish(stamp=3)
    for each in now_and_reopened(disk, volume):
        for needle_id in (1, 9):
            with pytest.raises(NoSuchNeedle):
                each.read(needle_id)
            with pytest.raises(NeedleVoid):
                each.append(needle_id, METADATA, b"x", stamp=4)


def test_an_absent_needle_is_no_such_needle(volume: Volume) -> None:
    for call in (volume.read, volume.open_needle):
        with pytest.raises(NoSuchNeedle):
            call(3)
    assert volume.find(3) is None
    with pytest.raises(NoSuchNeedle):
        volume.restamp(3, stamp=9)


def test_the_stats_account_for_every_byte(disk: OsDisk, volume: Volume) -> None:
    size = stored_size(len(encode_metadata(METADATA)), 5)
    volume.append(1, METADATA, b"hello", stamp=10)
    volume.append(2, METADATA, b"hello", stamp=11)
    volume.delete(1, stamp=12)
    volume.restamp(2, stamp=40)
    extent = volume.reserve(8, METADATA, 5)
    stats = volume.stats()
    assert (stats.live_count, stats.live_bytes) == (1, size)
    assert stats.dead_bytes == size + 2 * MARK_SIZE
    assert stats.in_flight_bytes == size
    assert (stats.needle_id_max, stats.stamp_max, stats.damaged_count) == (8, 40, 0)
    assert stats.file_size == SUPERBLOCK_SIZE + 3 * size + 2 * MARK_SIZE
    extent.write(b"hello")
    extent.finish(stamp=30)
    stats = volume.stats()
    assert (stats.live_count, stats.in_flight_bytes) == (2, 0)
    assert reopen(disk, volume).stats() == stats


def test_an_extent_that_was_aborted_at_the_tail_leaves_nothing(volume: Volume) -> None:
    before = volume.stats()
    extent = volume.reserve(1, METADATA, 1000)
    extent.write(b"some")
    volume.sync()
    extent.abort()
    extent.abort()
    after = volume.stats()
    assert (after.file_size, after.dead_bytes) == (before.file_size, before.dead_bytes)
    volume.append(1, METADATA, b"the same id may come again", stamp=1)


def test_an_extent_that_was_aborted_in_the_middle_is_dead_space(disk: OsDisk, volume: Volume) -> None:
    extent = volume.reserve(1, METADATA, 1000)
    volume.append(2, METADATA, b"behind it", stamp=1)
    extent.write(b"some")
    extent.abort()
    stats = volume.stats()
    assert stats.dead_bytes == extent.stored_size
    assert stats.live_count == 1
    volume.append(1, METADATA, b"the same id", stamp=2)
    stats = volume.stats()
    volume = reopen(disk, volume)
    assert volume.stats() == stats
    assert bytes(volume.read(1).data) == b"the same id"
    assert bytes(volume.read(2).data) == b"behind it"


def test_an_extent_takes_exactly_what_was_reserved(volume: Volume) -> None:
    extent = volume.reserve(1, METADATA, 5)
    extent.write(b"hell")
    with pytest.raises(LengthMismatch):
        extent.finish(stamp=1)
    with pytest.raises(LengthMismatch):
        extent.write(b"oo")
    extent.write(b"o")
    extent.finish(stamp=1)
    assert bytes(volume.read(1).data) == b"hello"
    for misuse in (lambda: extent.write(b""), lambda: extent.finish(stamp=2)):
        with pytest.raises(BadRequest):
            misuse()


def test_an_extent_with_a_wrong_checksum_is_void(volume: Volume) -> None:
    extent = volume.reserve(1, METADATA, 5)
    extent.write(b"hello")
    with pytest.raises(ChecksumMismatch):
        extent.finish(stamp=1, crc=1)
    with pytest.raises(NoSuchNeedle):
        volume.read(1)
    with pytest.raises(BadRequest):
        extent.write(b"")


def test_a_full_volume_refuses_needles_but_takes_tombstones(disk: OsDisk) -> None:
    volume = Volume.create(disk, "volumes/8", volume_id=8, uuid=UUID, capacity=8192, created_ms=1)
    volume.append(1, METADATA, bytes(3900), stamp=1)
    with pytest.raises(VolumeFull):
        volume.append(2, METADATA, bytes(300), stamp=2)
    with pytest.raises(VolumeFull):
        volume.reserve(2, METADATA, 300)
    for needle_id in range(1, 20):
        volume.delete(needle_id, stamp=3)
    assert volume.stats().file_size > 8192


def test_a_sealed_volume_goes_on_reading(disk: OsDisk, volume: Volume) -> None:
    volume.append(1, METADATA, b"a", stamp=1)
    extent = volume.reserve(2, METADATA, 1)
    extent.write(b"b")
    volume.seal("for the test")
    assert volume.sealed_cause == "for the test"
    for refused in (
        lambda: volume.append(3, METADATA, b"", stamp=2),
        lambda: volume.reserve(3, METADATA, 1),
        lambda: volume.delete(1, stamp=2),
        lambda: volume.restamp(1, stamp=2),
        lambda: extent.finish(stamp=2),
        volume.sync,
        volume.checkpoint,
    ):
        with pytest.raises(VolumeSealed):
            refused()
    assert bytes(volume.read(1).data) == b"a"


def test_a_closed_volume_answers_with_errors_and_touches_nothing(volume: Volume) -> None:
    volume.append(1, METADATA, b"a", stamp=1)
    reader = volume.open_needle(1)
    volume.close()
    volume.close()
    with pytest.raises(VolumeSealed):
        volume.append(2, METADATA, b"a", stamp=1)
    with pytest.raises(Exception, match="closed"):
        volume.read(1)
    assert bytes(reader.read(0, 1)) == b"a"


def test_a_volume_opened_read_only_writes_nothing(disk: OsDisk, volume: Volume) -> None:
    volume.append(1, METADATA, b"a", stamp=1)
    volume.sync()
    directory = disk.root / "volumes/7"
    content = {path.name: path.read_bytes() for path in directory.iterdir()}
    other = Volume.open(disk, "volumes/7", read_only=True)
    assert bytes(other.read(1).data) == b"a"
    with pytest.raises(VolumeSealed, match="read-only"):
        other.append(2, METADATA, b"b", stamp=2)
    other.close()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == content


def test_a_volume_is_made_once(disk: OsDisk, volume: Volume) -> None:
    with pytest.raises(BadRequest, match="already"):
        Volume.create(disk, "volumes/7", volume_id=7, uuid=UUID, capacity=1 << 20, created_ms=1)
    with pytest.raises(NoSuchVolume):
        Volume.open(disk, "volumes/1")


def test_an_interrupted_creation_is_no_volume_and_can_be_repeated(disk: OsDisk, volume: Volume) -> None:
    volume.close()
    (disk.root / "volumes/7/manifest").unlink()
    with pytest.raises(NoSuchVolume, match="interrupted"):
        Volume.open(disk, "volumes/7")
    Volume.create(disk, "volumes/7", volume_id=7, uuid=UUID, capacity=1 << 20, created_ms=1)


def test_entries_in_memory_are_bounded(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.storage.writing.appending.PENDING_MAX", 10)
    for needle_id in range(1, 35):
        volume.append(needle_id, METADATA, b"never synced", stamp=needle_id)
        assert volume._state.generation.entries.pending_count <= 10
    assert bytes(volume.read(1).data) == b"never synced"


def test_records_come_in_the_order_they_were_written(volume: Volume) -> None:
    volume.append(2, METADATA, b"two", stamp=10)
    volume.append(1, METADATA, b"one", stamp=11)
    volume.restamp(2, stamp=12)
    volume.delete(1, stamp=13)
    extent = volume.reserve(5, METADATA, 10)
    records = list(volume.records())
    assert [(r.kind, r.needle_id, r.stamp) for r in records] == [
        (KIND_DATA, 2, 10),
        (KIND_DATA, 1, 11),
        (KIND_RESTAMP, 2, 12),
        (KIND_TOMBSTONE, 1, 13),
        (KIND_DATA, 5, 0),
    ]
    assert [r.state for r in records] == [State.WHOLE] * 4 + [State.UNFINISHED]
    assert records[0].metadata == METADATA
    extent.abort()


@pytest.mark.parametrize("uuid", ["", "7", UUID + "0"])
def test_a_volume_needs_a_uuid(disk: OsDisk, uuid: str) -> None:
    with pytest.raises(BadRequest, match="UUID"):
        Volume.create(disk, "volumes/9", volume_id=9, uuid=uuid, capacity=1 << 20, created_ms=1)


@pytest.mark.parametrize("capacity", [0, SUPERBLOCK_SIZE, 1 << 48])
def test_a_volume_needs_a_capacity_within_bounds(disk: OsDisk, capacity: int) -> None:
    with pytest.raises(BadRequest, match="capacity"):
        Volume.create(disk, "volumes/9", volume_id=9, uuid=UUID, capacity=capacity, created_ms=1)


@pytest.mark.parametrize("needle_id", [0, -1, 1 << 32])
def test_ids_out_of_bounds_are_refused(volume: Volume, needle_id: int) -> None:
    for call in (
        lambda: volume.append(needle_id, METADATA, b"", stamp=1),
        lambda: volume.reserve(needle_id, METADATA, 1),
        lambda: volume.delete(needle_id, stamp=1),
        lambda: volume.restamp(needle_id, stamp=1),
    ):
        with pytest.raises(BadRequest):
            call()


def test_the_volumes_of_a_disk_are_listed(disk: OsDisk, volume: Volume) -> None:
    (disk.root / "volumes/lost+found").mkdir()
    (disk.root / "volumes/12").mkdir()
    assert volume_ids(disk) == [7, 12]
    assert volume_ids(OsDisk(disk.root / "volumes/12")) == []


def test_nowait_reads_what_is_in_memory(volume: Volume) -> None:
    volume.append(1, METADATA, b"warm", stamp=1)
    try:
        needle = volume.read(1, nowait=True)
    except BlockingIOError:  # a file system that cannot tell
        needle = volume.read(1)
    assert bytes(needle.data) == b"warm"


# --- room on the disk -----------------------------------------------------------------------------


def room_of(disk: OsDisk) -> int:
    """Bytes that the data files take on the disk, whatever their length."""
    return sum(os.stat(path).st_blocks * 512 for path in Path(disk.root).glob("volumes/*/*.vol"))


def gives_back_holes(disk: OsDisk) -> bool:
    file = disk.open("probe", create=True)
    file.pwritev([b"x" * 65536], 0)
    before = os.stat(Path(disk.root) / "probe").st_blocks
    file.punch(0, 65536)
    return os.stat(Path(disk.root) / "probe").st_blocks < before


def test_a_body_that_is_announced_takes_no_room_before_its_bytes_come(disk: OsDisk, volume: Volume) -> None:
    before = room_of(disk)
    extents = [volume.reserve(number, METADATA, 16 * 1024 * 1024) for number in (1, 2, 3)]
    assert room_of(disk) - before < 256 * 1024
    for extent in extents:
        extent.write(b"x" * 100_000)
    assert room_of(disk) - before < 3 * (AHEAD_SIZE + 256 * 1024)
    assert volume.stats().in_flight_bytes > 48 * 1024 * 1024  # their places are taken all the same


def test_what_is_given_up_gives_its_room_back_at_once_wherever_it_lies(disk: OsDisk, volume: Volume) -> None:
    first = volume.reserve(1, METADATA, 8 * 1024 * 1024)
    second = volume.reserve(2, METADATA, 8 * 1024 * 1024)
    volume.append(3, METADATA, b"behind them", stamp=3)
    for extent in (first, second):
        extent.write(b"x" * (4 * 1024 * 1024))
    volume.sync()
    taken = room_of(disk)
    assert not first.abort(), "others lie behind it, so its place is lost"
    assert volume.stats().dead_count == 1
    if gives_back_holes(disk):
        assert taken - room_of(disk) > 3 * 1024 * 1024
    second.write(b"y" * (4 * 1024 * 1024))
    second.finish(stamp=4)
    for view in now_and_reopened(disk, volume):
        assert view.read(3).data == b"behind them"
        assert bytes(view.read(2).data) == b"x" * 2**22 + b"y" * 2**22
        assert view.find(1) is None
        assert not view.recovery.damages
        assert not view.recovery.torn


def test_an_upload_at_the_end_gives_back_place_and_room(disk: OsDisk, volume: Volume) -> None:
    size, before = volume.stats().file_size, room_of(disk)
    extent = volume.reserve(1, METADATA, 8 * 1024 * 1024)
    extent.write(b"x" * 1_000_000)
    assert extent.abort()
    assert volume.stats().file_size == size
    assert room_of(disk) <= before + 64 * 1024
    assert not extent.abort(), "once is enough"


def test_room_that_open_uploads_are_still_to_find_is_not_promised_twice(
    disk: OsDisk, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OsFile, "free_bytes", lambda self: 10_000_000)
    first = volume.reserve(1, METADATA, 6_000_000)
    with pytest.raises(DiskFull):
        volume.reserve(2, METADATA, 6_000_000)
    assert first.abort()
    assert volume.reserve(2, METADATA, 6_000_000).abort()


def test_where_no_hole_can_be_made_an_abort_is_still_an_abort(
    disk: OsDisk, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: OsFile, offset: int, length: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(OsFile, "punch", failing)
    extent = volume.reserve(1, METADATA, 2_000_000)
    volume.append(2, METADATA, b"behind", stamp=2)
    extent.write(b"x" * 500_000)
    assert not extent.abort()
    assert volume.sealed_cause is None
    monkeypatch.undo()
    assert reopen(disk, volume).read(2).data == b"behind"


def cut_off(disk: OsDisk, suffix: str, size: int) -> None:
    (path,) = disk.root.rglob(f"*.{suffix}")
    os.truncate(path, size)


@pytest.mark.parametrize("size", [0, 4096])
def test_nothing_is_written_behind_the_end_of_a_data_file_that_was_cut_off(
    disk: OsDisk, volume: Volume, size: int
) -> None:
    volume.append(1, METADATA, b"a" * 5000, stamp=1)
    volume.sync()
    cut_off(disk, "vol", size)
    with pytest.raises(WriteFailed, match="its data file was cut off while it was open"):
        volume.append(2, METADATA, b"b", stamp=1)
    with pytest.raises(VolumeSealed):
        volume.reserve(3, METADATA, 100_000)
    assert next(disk.root.rglob("*.vol")).stat().st_size == size


def test_an_upload_is_not_begun_in_a_data_file_that_was_cut_off(disk: OsDisk, volume: Volume) -> None:
    volume.append(1, METADATA, b"a" * 5000, stamp=1)
    volume.sync()
    cut_off(disk, "vol", 4096)
    with pytest.raises(WriteFailed, match="its data file was cut off while it was open"):
        volume.reserve(2, METADATA, 100_000)


def test_an_index_that_was_cut_off_loses_no_needle(disk: OsDisk, volume: Volume) -> None:
    for needle_id in range(1, 50):
        volume.append(needle_id, METADATA, b"a", stamp=1)
    volume.checkpoint()
    cut_off(disk, "idx", 0)
    volume.append(50, METADATA, b"b", stamp=1)
    with contextlib.suppress(StoreError):
        volume.sync()
    with pytest.raises(WriteFailed, match="its index was cut off while it was open"):
        volume.require_intact()
    with contextlib.suppress(StoreError):
        volume.checkpoint()
    again = reopen(disk, volume)
    assert again.stats().live_count == 50
    assert bytes(again.read(1).data) == b"a"


def test_a_file_that_is_cut_off_while_nobody_writes_is_noticed(disk: OsDisk, volume: Volume) -> None:
    volume.append(1, METADATA, b"a" * 5000, stamp=1)
    volume.checkpoint()
    assert volume.displaced(disk.root) is None
    cut_off(disk, "vol", 4096)
    assert "cut off" in (volume.displaced(disk.root) or "")
