"""Two formats of volumes: the older one is read, refuses what it cannot hold, and ends with a compaction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from auditor import DIRECTORY, UUID
from simdisk import SimDisk
from warehouse.errors import StoreError, VolumeFormatOld
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import write_all, write_file
from warehouse.storage.files import create_files, data_path, index_path, manifest_path
from warehouse.storage.format.needle import (
    KIND_BUCKET,
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_PART,
    BucketRecord,
    NeedleMetadata,
    decode_bucket,
    encode_metadata,
)
from warehouse.storage.format.superblock import VolumeIdentity, encode_manifest, encode_superblock
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import NewNeedle

NEW = VolumeIdentity(volume_id=7, uuid=UUID, generation=1, capacity=64 << 20, created_ms=1_750_000_000_000)
OLD = structs.replace(NEW, format=1)
PLAIN = NeedleMetadata("photos", 3, "plain", 1_750_000_000_000)
ATTRIBUTES = b"\x81\xa1e\xc4\x10" + bytes(range(16))
# Every role, and each with the most that it may carry.
RICH = {
    11: structs.replace(PLAIN, key="object", attributes=ATTRIBUTES),
    12: structs.replace(PLAIN, key="large", upload_id=5, chunk_count=None, role=ROLE_PART),
    13: structs.replace(
        PLAIN,
        key="large",
        upload_id=5,
        chunk_index=1 << 60,
        chunk_count=None,
        role=ROLE_MANIFEST,
        attributes=bytes(16 * 1024),
        metadata={f"name-{number}": "v" * 1000 for number in range(8)},
    ),
    14: structs.replace(PLAIN, key="object", role=ROLE_AMENDMENT, target=(7, 11), attributes=ATTRIBUTES),
}
SIZES = {11: 700, 12: 300_000, 13: 5_000, 14: 0}


def made(disk: SimDisk, identity: VolumeIdentity) -> Volume:
    create_files(disk, DIRECTORY, identity)
    return Volume.open(disk, DIRECTORY)


def compacted(disk: SimDisk, volume: Volume) -> None:
    end_offset = volume.begin_compaction()
    copy = Copy(
        disk, DIRECTORY, uuid=UUID, generation=volume.generation, end_offset=end_offset, horizon=1 << 60
    )
    while copy.step():
        pass
    copy.close()
    GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset).switch()


def put_rich(volume: Volume) -> None:
    for needle_id, metadata in RICH.items():
        volume.append(needle_id, metadata, bytes(SIZES[needle_id]), stamp=100 + needle_id)


def append_many(volume: Volume, metadata: NeedleMetadata) -> None:
    [outcome] = volume.append_many([NewNeedle(11, encode_metadata(metadata), b"x")], lambda: 5)
    if isinstance(outcome, StoreError):
        raise outcome


WRITERS: dict[str, Callable[[Volume, NeedleMetadata], object]] = {
    "append": lambda volume, metadata: volume.append(11, metadata, b"x", stamp=5),
    "append_many": append_many,
    "reserve": lambda volume, metadata: volume.reserve(11, metadata, 2 << 20),
}


@pytest.mark.parametrize("metadata", RICH.values(), ids=[str(needle_id) for needle_id in RICH])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_an_old_volume_takes_nothing_that_older_releases_cannot_read(
    write: Callable[[Volume, NeedleMetadata], object], metadata: NeedleMetadata
) -> None:
    disk = SimDisk()
    volume = made(disk, OLD)
    before = volume.stats()
    with pytest.raises(VolumeFormatOld, match="format 1"):
        write(volume, metadata)
    assert volume.stats() == before
    assert volume.find(11) is None
    write(volume, PLAIN)  # and is none the worse for it
    assert volume.format == 1


def test_a_compaction_makes_an_old_volume_new_and_changes_nothing_else() -> None:
    disk = SimDisk()
    volume = made(disk, OLD)
    for needle_id in (1, 2, 3):
        volume.append(needle_id, PLAIN, bytes([needle_id]) * 1000, stamp=needle_id)
    volume.delete(2, stamp=10)
    volume.record_bucket(BucketRecord(3, "photos", 1, False, "owner", True, "eu-west-1"), stamp=11)
    before = {needle_id: bytes(volume.read(needle_id).data) for needle_id in (1, 3)}
    compacted(disk, volume)
    assert (volume.format, volume.generation) == (2, 2)
    put_rich(volume)
    volume.close()

    volume = Volume.open(disk, DIRECTORY)
    assert (volume.format, volume.recovery.damages) == (2, ())
    assert {needle_id: bytes(volume.read(needle_id).data) for needle_id in before} == before
    assert volume.read(1).metadata == PLAIN
    assert {needle_id: volume.read(needle_id).metadata for needle_id in RICH} == RICH
    [bucket] = [decode_bucket(record.content) for record in volume.records() if record.kind == KIND_BUCKET]
    assert (bucket.owner_id, bucket.is_lock_enabled, bucket.region) == ("owner", True, "eu-west-1")


def test_a_compaction_keeps_the_latest_record_of_each_bucket_and_always_its_deletion() -> None:
    disk = SimDisk()
    volume = made(disk, NEW)
    big = {"cors": b"<x/>" * 15_000}
    for bucket_id, stamp, is_deleted, configs in (
        (3, 10, False, {"cors": b"first"}),
        (4, 11, True, {}),
        (3, 30, False, big),
        (3, 20, False, {"cors": b"between"}),  # what a disk was told late
        (4, 40, False, {}),
        (5, 50, False, {}),
    ):
        record = BucketRecord(bucket_id, f"bucket-{bucket_id}", 1, is_deleted, "owner", configs=configs)
        volume.record_bucket(record, stamp=stamp)
        volume.append(stamp, PLAIN, bytes(200_000), stamp=stamp)
    for _ in range(2):
        compacted(disk, volume)
        records = [record for record in volume.records() if record.kind == KIND_BUCKET]
        kept = {decode_bucket(record.content).bucket_id: record for record in records}
        assert len(kept) == len(records) == 3
        assert (kept[3].stamp, decode_bucket(kept[3].content).configs) == (30, big)
        assert (kept[4].stamp, decode_bucket(kept[4].content).is_deleted) == (11, True)
        assert kept[5].stamp == 50
    volume.close()


def test_needles_of_every_role_survive_compactions_and_the_loss_of_the_index() -> None:
    disk = SimDisk()
    volume = made(disk, NEW)
    put_rich(volume)
    volume.append(20, PLAIN, b"dead", stamp=200)
    volume.delete(20, stamp=201)
    compacted(disk, volume)
    compacted(disk, volume)
    volume.close()
    disk.remove(index_path(DIRECTORY, 3))
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.rebuilt_because is not None
    assert volume.stats().live_count == len(RICH)
    for needle_id, metadata in RICH.items():
        needle = volume.read(needle_id)
        assert (needle.metadata, needle.stamp) == (metadata, 100 + needle_id)
        assert bytes(needle.data) == bytes(SIZES[needle_id])


@pytest.mark.parametrize(("of_manifest", "of_superblock"), [(OLD, NEW), (NEW, OLD)])
def test_of_two_formats_that_two_releases_wrote_the_newer_one_counts(
    of_manifest: VolumeIdentity, of_superblock: VolumeIdentity
) -> None:
    disk = SimDisk()
    made(disk, of_superblock).close()
    write_file(disk, manifest_path(DIRECTORY), encode_manifest(of_manifest))
    assert Volume.open(disk, DIRECTORY).format == 2


@pytest.mark.parametrize("identity", [OLD, NEW])
@pytest.mark.parametrize("damaged", ["manifest", "superblock"])
def test_what_is_restored_has_the_format_of_the_other(identity: VolumeIdentity, damaged: str) -> None:
    disk = SimDisk()
    volume = made(disk, identity)
    volume.append(1, PLAIN, b"x", stamp=5)
    volume.close()
    path = manifest_path(DIRECTORY) if damaged == "manifest" else data_path(DIRECTORY, 1)
    write_all(disk.open(path), [b"damaged"], 8)
    assert Volume.open(disk, DIRECTORY).format == identity.format
    node = disk.node(path)
    whole = encode_manifest(identity) if damaged == "manifest" else encode_superblock(identity)
    assert bytes(node.platter[: len(whole)]) == whole
