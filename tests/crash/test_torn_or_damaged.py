"""A torn end is cut off, damage is reported and kept, and neither is ever taken for the other."""

from __future__ import annotations

import random

import msgspec
import pytest
from crc32c import crc32c

from auditor import DIRECTORY, make_volume
from simdisk import SimDisk
from warehouse.errors import (
    FormatUnsupported,
    ManifestCorrupt,
    NeedleCorrupt,
    NoSuchNeedle,
    SuperblockCorrupt,
)
from warehouse.storage.files import data_path, empty_index, index_path, manifest_path
from warehouse.storage.format.needle import FOOTER_SIZE, HEADER_SIZE, NeedleMetadata, stored_size
from warehouse.storage.format.superblock import (
    SUPERBLOCK_SIZE,
    decode_manifest,
    encode_manifest,
    encode_superblock,
)
from warehouse.storage.volume import Volume

DATA, INDEX, MANIFEST = data_path(DIRECTORY, 1), index_path(DIRECTORY, 1), manifest_path(DIRECTORY)
METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)
OTHER_UUID = "11111111-9605-4a62-a9e4-5ed26688389b"
SIZE = 700
PARTS = ("header", "metadata", "data", "footer")


def data_of(needle_id: int) -> bytes:
    return random.Random(needle_id).randbytes(SIZE)


def put(volume: Volume, *needle_ids: int) -> None:
    for needle_id in needle_ids:
        volume.append(needle_id, METADATA, data_of(needle_id), stamp=needle_id)


def filled(*, synced: int, unsynced: int = 0) -> tuple[SimDisk, Volume]:
    """A volume with so many needles synced and so many not; ids count from 1."""
    disk = SimDisk()
    volume = make_volume(disk)
    put(volume, *range(1, synced + 1))
    volume.sync()
    put(volume, *range(synced + 1, synced + unsynced + 1))
    return disk, volume


def place(volume: Volume, needle_id: int) -> tuple[int, int]:
    found = volume.find(needle_id)
    assert found is not None
    return found.offset, found.offset + stored_size(found.metadata_size, found.data_size)


def overwrite(disk: SimDisk, path: str, offset: int, content: bytes) -> None:
    """Change bytes behind the volume's back, on the platter and in memory."""
    node = disk.node(path)
    for each in (node.content, node.platter):
        each.extend(bytes(max(0, offset + len(content) - len(each))))
        each[offset : offset + len(content)] = content


def hit(disk: SimDisk, volume: Volume, needle_id: int, part: str) -> int:
    """Damage a part of a needle; returns the offset."""
    found = volume.find(needle_id)
    assert found is not None
    data_at = HEADER_SIZE + found.metadata_size
    at = {
        "header": 8,
        "metadata": HEADER_SIZE + 3,
        "data": data_at + 100,
        "footer": data_at + found.data_size,
    }
    offset = found.offset + at[part]
    overwrite(disk, DATA, offset, bytes([disk.node(DATA).content[offset] ^ 0xFF]))
    return offset


def check_rest(volume: Volume, *needle_ids: int) -> None:
    for needle_id in needle_ids:
        assert bytes(volume.read(needle_id).data) == data_of(needle_id)


def check_usable(disk: SimDisk, volume: Volume) -> None:
    """New needles go in and survive, and opening twice finds nothing new."""
    put(volume, 900)
    stats = volume.stats()
    volume.close()
    volume = Volume.open(disk, DIRECTORY)
    assert volume.stats() == stats
    assert volume.recovery.damages == ()
    check_rest(volume, 900)


@pytest.mark.parametrize("part", PARTS)
def test_a_bad_last_acknowledged_record_is_damage(part: str) -> None:
    disk, volume = filled(synced=3)
    offset = hit(disk, volume, 3, part)
    size = volume.stats().file_size
    volume = Volume.open(disk, DIRECTORY)  # killed, not closed
    (damage,) = volume.recovery.damages
    assert (damage.volume_id, damage.needle_id) == (7, 3)
    assert damage.offset <= offset < damage.offset + damage.length
    assert volume.recovery.cut_bytes == 0
    assert volume.stats().file_size == size
    assert volume.stats().damaged_count == 1
    with pytest.raises(NeedleCorrupt, match="volume 7, needle 3"):
        volume.read(3)
    check_rest(volume, 1, 2)
    check_usable(disk, volume)


@pytest.mark.parametrize("part", PARTS)
def test_a_bad_last_record_that_nobody_was_promised_is_cut_off(part: str) -> None:
    disk, volume = filled(synced=2, unsynced=1)
    hit(disk, volume, 3, part)
    start, _ = place(volume, 3)
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages == ()
    assert volume.recovery.cut_bytes > SIZE
    assert volume.stats().file_size == start
    with pytest.raises(NoSuchNeedle):
        volume.read(3)
    check_rest(volume, 1, 2)
    put(volume, 3)
    check_usable(disk, volume)


@pytest.mark.parametrize("part", PARTS)
def test_a_bad_record_in_the_middle_is_damage_and_all_behind_it_is_kept(part: str) -> None:
    disk, volume = filled(synced=4, unsynced=1)
    hit(disk, volume, 2, part)
    volume = Volume.open(disk, DIRECTORY)
    assert [damage.needle_id for damage in volume.recovery.damages] == [2]
    with pytest.raises(NeedleCorrupt):
        volume.read(2)
    check_rest(volume, 1, 3, 4, 5)
    check_usable(disk, volume)


@pytest.mark.parametrize("part", PARTS)
def test_an_unsynced_record_that_is_torn_before_a_whole_one_is_no_damage(part: str) -> None:
    """Unsynced pages reach the disk in any order: the gap is dead space, and remembered as that."""
    disk, volume = filled(synced=2, unsynced=3)
    hit(disk, volume, 4, part)
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages == ()
    assert len(volume.recovery.torn) == 1
    with pytest.raises(NoSuchNeedle):
        volume.read(4)
    check_rest(volume, 1, 2, 3, 5)
    stats = volume.stats()
    assert stats.damaged_count == 0
    volume.close()
    disk.remove(INDEX)
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages == ()
    assert volume.stats() == stats
    check_usable(disk, volume)


def test_with_the_index_lost_only_zeros_are_cut_and_the_rest_is_reported() -> None:
    disk, volume = filled(synced=2, unsynced=1)
    hit(disk, volume, 3, "data")
    overwrite(disk, DATA, volume.stats().file_size, bytes(5000))
    disk.remove(INDEX)
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.cut_bytes == 5000
    assert [damage.needle_id for damage in volume.recovery.damages] == [3]
    with pytest.raises(NeedleCorrupt):
        volume.read(3)
    check_rest(volume, 1, 2)
    check_usable(disk, volume)


def test_a_lost_page_in_the_middle_costs_the_needles_on_it() -> None:
    disk, volume = filled(synced=30)
    start = SUPERBLOCK_SIZE + 2 * 4096
    lost = [i for i in range(1, 31) if place(volume, i)[0] < start + 4096 and place(volume, i)[1] > start]
    overwrite(disk, DATA, start, bytes(4096))
    volume = Volume.open(disk, DIRECTORY)
    assert sorted(d.needle_id or 0 for d in volume.recovery.damages) == lost
    check_rest(volume, *(i for i in range(1, 31) if i not in lost))
    for needle_id in lost:
        with pytest.raises(NeedleCorrupt):
            volume.read(needle_id)
    check_usable(disk, volume)


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_data_file_cut_short_is_damage_once(is_checkpointed: bool) -> None:
    disk, volume = filled(synced=5)
    if is_checkpointed:
        volume.checkpoint()
    (start, end), size = place(volume, 4), volume.stats().file_size
    for content in (disk.node(DATA).content, disk.node(DATA).platter):
        del content[(start + end) // 2 :]
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages
    assert volume.stats().file_size == size, "the place of what is lost is not used again"
    check_rest(volume, 1, 2, 3)
    for needle_id in (4, 5):
        with pytest.raises(NeedleCorrupt):
            volume.read(needle_id)
    check_usable(disk, volume)


def test_an_unfinished_upload_is_no_damage_wherever_it_is() -> None:
    disk, volume = filled(synced=1)
    for needle_id, follower in ((2, 3), (4, 0)):
        extent = volume.reserve(needle_id, METADATA, 10_000)
        extent.write(bytes(5_000))
        if follower:
            put(volume, follower)
        volume.sync()
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages == ()
    assert volume.recovery.cut_bytes > 10_000, "the last one goes, and its space with it"
    assert volume.recovery.torn == ()
    check_rest(volume, 1, 3)
    put(volume, 2, 4)
    check_usable(disk, volume)


def test_a_finished_upload_that_was_promised_is_damage_when_its_footer_is_wiped() -> None:
    disk, volume = filled(synced=1)
    extent = volume.reserve(2, METADATA, SIZE)
    extent.write(data_of(2))
    placed = extent.finish(stamp=2)
    put(volume, 3)
    volume.sync()
    end = placed.offset + placed.stored_size
    overwrite(disk, DATA, end - FOOTER_SIZE - 8, bytes(FOOTER_SIZE + 8))
    volume = Volume.open(disk, DIRECTORY)
    assert [damage.needle_id for damage in volume.recovery.damages] == [2]
    with pytest.raises(NeedleCorrupt):
        volume.read(2)


def test_a_volume_file_stored_as_an_object_stays_an_object() -> None:
    """A scan that looks for the next header behind damage must not find one inside somebody's data."""
    disk, volume = filled(synced=3)
    volume.sync()
    embedded = bytes(disk.node(DATA).content)
    volume.append(10, METADATA, embedded, stamp=10)
    volume.append(11, METADATA, b"behind", stamp=11)
    volume.sync()
    overwrite(disk, DATA, place(volume, 10)[0], b"\0")
    for is_index_lost in (False, True):
        after = disk.crash(random.Random(0), 1.0, tear=False)
        if is_index_lost:
            after.remove(INDEX)
        volume = Volume.open(after, DIRECTORY)
        (damage,) = volume.recovery.damages
        assert damage.length > len(embedded)
        assert volume.stats().live_count == (4 if is_index_lost else 5)
        assert bytes(volume.read(11).data) == b"behind"
        check_rest(volume, 1, 2, 3)


def test_a_record_in_the_place_of_another_is_not_served() -> None:
    disk, volume = filled(synced=3)
    first, second = (volume.find(i) for i in (1, 2))
    assert first is not None
    assert second is not None
    size = second.offset - first.offset
    content = disk.node(DATA).content
    one, two = (bytes(content[at : at + size]) for at in (first.offset, second.offset))
    overwrite(disk, DATA, first.offset, two + one)
    for each in (volume, Volume.open(disk, DIRECTORY)):
        for needle_id in (1, 2):
            with pytest.raises(NeedleCorrupt):
                each.read(needle_id)
        check_rest(each, 3)


def test_a_record_of_another_volume_is_not_served() -> None:
    disk, volume = filled(synced=1)
    other_disk = SimDisk()
    other = Volume.create(
        other_disk,
        "volumes/8",
        volume_id=8,
        uuid=OTHER_UUID,
        capacity=1 << 20,
        created_ms=1,
    )
    other.append(1, METADATA, b"other bytes".ljust(SIZE), stamp=1)
    overwrite(
        disk, DATA, SUPERBLOCK_SIZE, bytes(other_disk.node("volumes/8/g1.vol").content[SUPERBLOCK_SIZE:])
    )
    with pytest.raises(NeedleCorrupt):
        volume.read(1)


# --- files that do not belong together ------------------------------------------------------------


def test_an_older_copy_of_the_index_is_brought_up_to_date() -> None:
    disk, volume = filled(synced=3)
    volume.delete(1, stamp=50)
    volume.checkpoint()
    old = bytes(disk.node(INDEX).content)
    put(volume, 4, 5)
    volume.delete(2, stamp=51)
    volume.delete(4, stamp=52)
    stats = volume.stats()
    volume.close()
    disk.node(INDEX).content[:] = old
    disk.node(INDEX).platter[:] = old
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.rebuilt_because is None
    assert volume.stats() == stats
    check_rest(volume, 3, 5)
    for needle_id in (1, 2, 4):
        with pytest.raises(NoSuchNeedle):
            volume.read(needle_id)


@pytest.mark.parametrize("kind", ["other volume", "other generation", "cut short", "empty", "garbage"])
def test_an_index_that_does_not_belong_here_is_rebuilt(kind: str) -> None:
    disk, volume = filled(synced=3)
    stats = volume.stats()
    volume.close()
    own = bytes(disk.node(INDEX).content)
    identity = decode_manifest(bytes(disk.node(MANIFEST).content))
    content = {
        "other volume": empty_index(msgspec.structs.replace(identity, uuid=OTHER_UUID)),
        "other generation": empty_index(msgspec.structs.replace(identity, generation=2)),
        "cut short": own[:-16],
        "empty": b"",
        "garbage": random.Random(1).randbytes(len(own)),
    }[kind]
    disk.node(INDEX).content[:] = content
    disk.node(INDEX).platter[:] = content
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.rebuilt_because
    assert volume.stats() == stats
    check_rest(volume, 1, 2, 3)


def test_an_older_copy_of_the_data_under_a_newer_index_serves_nothing_wrong() -> None:
    disk, volume = filled(synced=2)
    old = bytes(disk.node(DATA).content)
    put(volume, 3)
    volume.close()
    disk.node(DATA).content[:] = old
    disk.node(DATA).platter[:] = old
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages
    check_rest(volume, 1, 2)
    with pytest.raises(NeedleCorrupt):
        volume.read(3)
    check_usable(disk, volume)


def test_superblock_and_manifest_must_agree() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    identity = decode_manifest(bytes(disk.node(MANIFEST).content))
    other = msgspec.structs.replace(identity, uuid=OTHER_UUID)
    overwrite(disk, DATA, 0, encode_superblock(other))
    with pytest.raises(SuperblockCorrupt, match="11111111"):
        Volume.open(disk, DIRECTORY)


def test_with_superblock_and_manifest_damaged_nothing_is_guessed() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    overwrite(disk, DATA, 0, b"?")
    overwrite(disk, MANIFEST, 0, b"?")
    with pytest.raises(ManifestCorrupt, match="0 data files"):
        Volume.open(disk, DIRECTORY)


def test_with_the_manifest_damaged_and_two_generations_nothing_is_guessed() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    identity = decode_manifest(bytes(disk.node(MANIFEST).content))
    disk.open(data_path(DIRECTORY, 2), create=True).pwritev(
        [encode_superblock(msgspec.structs.replace(identity, generation=2))], 0
    )
    check_rest(Volume.open(disk, DIRECTORY, read_only=True), 1)
    overwrite(disk, MANIFEST, 0, b"?")
    with pytest.raises(ManifestCorrupt, match="2 data files"):
        Volume.open(disk, DIRECTORY)


def test_files_of_other_generations_are_removed_when_the_volume_is_opened_for_writing() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    for name in ("g2.vol", "g2.idx", "g3.vol", "lost-g1-4096", "g2.vol.txt"):
        disk.open(f"{DIRECTORY}/{name}", create=True)
    check_rest(Volume.open(disk, DIRECTORY), 1)
    assert disk.list(DIRECTORY) == ["g1.idx", "g1.vol", "g2.vol.txt", "lost-g1-4096", "manifest"]


def test_a_lost_manifest_of_a_volume_with_needles_is_restored() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    disk.remove(MANIFEST)
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.repairs == ("manifest",)
    check_rest(volume, 1)


def test_a_missing_data_file_is_named() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    disk.remove(DATA)
    with pytest.raises(SuperblockCorrupt, match=r"g1\.vol is missing"):
        Volume.open(disk, DIRECTORY)


def test_a_volume_directory_under_another_number_is_refused() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    disk.make_directory("volumes/8")
    for name in ("manifest", "g1.vol", "g1.idx"):
        disk.replace(f"{DIRECTORY}/{name}", f"volumes/8/{name}")
    with pytest.raises(ManifestCorrupt, match="volume 7"):
        Volume.open(disk, "volumes/8")


def test_a_later_format_is_refused_and_left_alone() -> None:
    disk, volume = filled(synced=1)
    volume.close()
    identity = decode_manifest(bytes(disk.node(MANIFEST).content))
    text = encode_manifest(identity).rpartition(b" crc32c=")[0].replace(b"format=2", b"format=3")
    disk.node(MANIFEST).content[:] = text + b" crc32c=%08x\n" % crc32c(text)
    before = bytes(disk.node(DATA).content)
    with pytest.raises(FormatUnsupported):
        Volume.open(disk, DIRECTORY)
    assert disk.node(DATA).content == before
