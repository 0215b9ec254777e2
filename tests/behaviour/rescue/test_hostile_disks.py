"""A disk may say anything: honest objects come out, nothing is written elsewhere, and nothing hangs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile_kit import (
    CREATED_MS,
    HONEST,
    PHOTOS,
    STAMP,
    HostileDisk,
    honest_after_export,
    honest_after_rebuild,
    hostile_store,
    read_by_actor,
)
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.errors import DiskMismatch, FormatUnsupported, StoreError, WriteFailed
from warehouse.rescue.backup import back_up
from warehouse.rescue.console import NoProgress
from warehouse.rescue.export import export
from warehouse.rescue.rebuild import Options, rebuild
from warehouse.rescue.rebuild import main as rebuild_command
from warehouse.rescue.restore import restore
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import (
    KIND_BUCKET,
    KIND_DATA,
    KIND_NOTE,
    KIND_TOMBSTONE,
    KIND_VOID,
    BucketRecord,
    NeedleMetadata,
    encode_bucket,
    encode_footer,
    encode_header,
    encode_metadata,
    encode_void,
    place_seed,
    stored_size,
)
from warehouse.storage.format.superblock import encode_manifest
from warehouse.storage.index import IndexFile
from warehouse.storage.volume import Volume

QUIET = NoProgress()
pack = msgspec.msgpack.encode


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def disk(data: Path) -> HostileDisk:
    return HostileDisk(data)


def needle(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"bucket": "photos", "bucket_id": PHOTOS, "key": "k", "created_ms": CREATED_MS}
    return encode_metadata(NeedleMetadata(**{**fields, **changes}))


# --- names and numbers ----------------------------------------------------------------------------

DEEP = b"\x91" * 15_000 + b"\xc0"

REFUSED = {
    **{
        f"bucket {name[:12]!r}": needle(bucket=name, bucket_id=9)
        for name in ("", ".", "..", "a/b", "/x", "//", "Photos", "a\0b", "a\nb", "x" * 300, "10.0.0.1", "ä")
    },
    "bucket id of 2^63": needle(bucket_id=1 << 63),
    "bucket id of 2^48 + 1": needle(bucket_id=(1 << 48) + 1),
    "bucket id 0": needle(bucket_id=0),
    "bucket id -1": needle(bucket_id=-1),
    "created in 2^63": needle(created_ms=1 << 63),
    "created in -1": needle(created_ms=-1),
    "upload id of 2^63": needle(upload_id=1 << 63),
    "upload id of -1": needle(upload_id=-1, chunk_count=2),
    "chunk 2^62": needle(upload_id=5, chunk_index=1 << 62, chunk_count=(1 << 62) + 1),
    "chunk count of 2^62": needle(upload_id=5, chunk_count=1 << 62),
    "chunk count 0": needle(upload_id=5, chunk_count=0),
    "chunk count -1": needle(upload_id=5, chunk_count=-1, object_size=-7),
    "chunk 1 of 1": needle(upload_id=5, chunk_index=1, chunk_count=1),
    "object of 2^64 - 1 bytes": needle(object_size=(1 << 64) - 1),
    "object of -1 byte": needle(object_size=-1),
    "empty key": needle(key=""),
    "key of 15 KiB": needle(key="k" * 15_000),
    "key of 1025 bytes": needle(key="ä" * 512 + "k"),
    "metadata of 18 KiB": needle(metadata={"a": "b" * 18_000}),
    "metadata of 18 KiB without a name": needle(metadata={"": "b" * 18_000}),
    "key that is not UTF-8": b"\x94\xa6photos\x03\xa2\xff\xfe\x01",
    "key that is a number": pack(["photos", 3, 7, CREATED_MS]),
    "created at a fraction": pack(["photos", 3, "k", 1.5]),
    "bucket id that is a boolean": pack(["photos", True, "k", 1]),
    "metadata of numbers": pack(["photos", 3, "k", 1, None, {"a": 1}]),
    "metadata that is a list": pack(["photos", 3, "k", 1, None, ["a"]]),
    "a map": pack({"bucket": "photos"}),
    "nothing": b"",
    "too few fields": pack(["photos"]),
    "deep nesting": DEEP,
    "deep nesting in a later field": b"\x9b" + pack(["photos", 3, "k", 1])[1:] + b"\xc0" * 6 + DEEP,
    "an array of 2^32 - 1 items": b"\xdd\xff\xff\xff\xff",
    "a text of 2^32 - 1 bytes": b"\x94\xdb\xff\xff\xff\xff",
    "junk behind": needle() + b"\xc0",
}


def test_a_needle_that_no_store_wrote_is_damage_and_the_others_come_out(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    names = dict(enumerate(REFUSED, 1))
    for number, name in names.items():
        disk.put_raw(number, REFUSED[name], b"hostile")
    disk.close()
    exported, content = honest_after_export(data, tmp_path / "out")
    assert content == HONEST
    report, content = honest_after_rebuild(data)
    assert content == HONEST
    for lost in (exported.lost, report.damaged):
        found = {needle.needle_id for needle in lost}
        assert found == set(names), [name for number, name in names.items() if number not in found]
        assert {needle.bucket for needle in lost} == {"(unnamed)"}
        assert all(needle.problem and needle.key for needle in lost)
    assert (exported.whole, exported.lost_count) == (1, len(names))
    assert (report.objects, report.damaged_count) == (1, len(names))
    assert report.keeps_orphans, "what nobody can name is not given up"
    lines = [json.loads(line) for line in (tmp_path / "out" / "export.jsonl").read_text().splitlines()]
    assert sum(line["state"] == "damaged" and "path" not in line for line in lines) == len(names)


BUCKET_RECORDS = {
    "no record": pack(7),
    "id of 2^63": pack([1 << 63, "b", 1, False]),
    "id of -1": pack([-1, "b", 1, False]),
    "name that leads up": encode_bucket(BucketRecord(9, "..", 1, False)),
    "no name": encode_bucket(BucketRecord(9, "", 1, False)),
    "created in 2^63": pack([9, "b", 1 << 63, False]),
    "deleted by a number": pack([9, "b", 1, 1]),
    "nothing": b"",
}


def test_a_bucket_that_no_store_recorded_is_damage(data: Path, disk: HostileDisk, tmp_path: Path) -> None:
    for content in BUCKET_RECORDS.values():
        disk.put_bucket(content)
    exported, honest = honest_after_export(data, tmp_path / "out")
    assert (honest, exported.lost_count) == (HONEST, len(BUCKET_RECORDS))
    report, honest = honest_after_rebuild(data)
    assert (honest, report.damaged_count, report.buckets) == (HONEST, len(BUCKET_RECORDS), 1)


MARKS = {
    "a note of 7 bytes": (KIND_NOTE, 0, b"1234567", b""),
    "a void record of 7 bytes": (KIND_VOID, 0, b"1234567", b""),
    "a void record that ends before it begins": (KIND_VOID, 0, b"\x09\0\0\0\x08\0\0\0", b""),
    "a needle without an id": (KIND_DATA, 0, b"data", needle()),
    "a tombstone without an id": (KIND_TOMBSTONE, 0, b"", b""),
    "a tombstone of an object that cannot be": (KIND_TOMBSTONE, 7, b"", needle(key="")),
    "a tombstone that does not decode": (KIND_TOMBSTONE, 7, b"", DEEP),
    "a bucket with an id": (KIND_BUCKET, 7, encode_bucket(BucketRecord(9, "b", 1, False)), b""),
}


@pytest.mark.parametrize("record", MARKS.values(), ids=list(MARKS))
def test_a_mark_that_no_store_made_harms_nothing(
    record: tuple[int, int, bytes, bytes], data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.put_record(*record)
    assert read_by_actor(disk.root, 1, 1000) == HONEST
    assert honest_after_export(data, tmp_path / "out")[1] == HONEST
    report, content = honest_after_rebuild(data)
    assert (content, report.objects) == (HONEST, 1)


texts = st.sampled_from(["photos", "", "..", "a/b", "\x00", "x" * 300]) | st.text(max_size=20)
numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.sampled_from([0, 1, 3, -1, 1 << 62, 1 << 63, 1 << 48])
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | texts | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def mostly(wanted: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(wanted, wanted, wanted, anything)


arrays = st.tuples(
    mostly(texts),
    mostly(numbers),
    mostly(texts),
    mostly(numbers),
    mostly(st.none() | texts),
    mostly(st.dictionaries(texts, texts, max_size=3)),
    mostly(st.none() | numbers),
    mostly(numbers),
    mostly(st.none() | numbers),
    mostly(st.none() | numbers),
)
some_metadata = st.one_of(
    arrays.map(list).flatmap(lambda fields: st.integers(0, 10).map(lambda count: pack(fields[:count]))),
    anything.map(pack),
    st.binary(max_size=60),
)
# Behind the honest deletions would be the end of honest objects: those with a stamp are their own test.
some_records = st.lists(
    st.tuples(st.sampled_from([KIND_DATA, KIND_BUCKET, KIND_NOTE]), some_metadata), min_size=1, max_size=6
)


def spares_the_honest(kind: int, content: bytes) -> bool:
    """A record may say of the honest bucket or object that it is gone, or newer: then it is."""
    try:
        if kind == KIND_DATA:
            metadata = msgspec.msgpack.decode(content, type=NeedleMetadata)
            return metadata.bucket_id != PHOTOS and metadata.bucket != "photos"
        record = msgspec.msgpack.decode(content, type=BucketRecord)
        return record.bucket_id != PHOTOS and record.name != "photos"
    except (msgspec.DecodeError, RecursionError):
        return True


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(records=some_records)
def test_whatever_the_records_of_a_disk_say_honest_objects_come_out(
    records: list[tuple[int, bytes]],
) -> None:
    with hostile_store() as disk:
        records = [record for record in records if spares_the_honest(*record)]
        for number, (kind, content) in enumerate(records):
            if kind == KIND_DATA:
                disk.put_raw(number + 1, content, b"hostile")
        for kind, content in records:
            if kind != KIND_DATA:
                disk.put_record(kind, 0, content)
        disk.close()
        exported, content = honest_after_export(disk.data, disk.data.parent / "out")  # type: ignore[assignment]
        assert content == HONEST
        report, rebuilt = honest_after_rebuild(disk.data)
        assert rebuilt == HONEST
        needles = sum(kind == KIND_DATA for kind, _ in records)
        named = {lost.needle_id for lost in report.damaged if lost.needle_id}
        assert report.needles - 1 + len(named) == needles, "a needle counts, or it is named as damage"
        assert sorted(os.listdir(disk.data.parent)) == ["out", "store"]
        assert exported.lost_count == report.damaged_count


def test_a_content_type_that_no_header_carries_is_left_out_and_said(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    types = ["text/html\r\nX: y", "a\0b", "x" * 5000, "", "text/é"]
    for number, content_type in enumerate(types):
        disk.put_raw(number + 1, needle(key=f"{number}", content_type=content_type), b"data")
    disk.close()
    report, _ = honest_after_rebuild(data)
    assert (report.objects, report.damaged_count) == (1 + len(types), 0)
    assert any("5 needles had an invalid content type" in remark for remark in report.remarks)
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        rows = [catalog.object(PHOTOS, str(number)) for number in range(len(types))]
        assert [row and row.content_type for row in rows] == [None] * len(types)
    finally:
        catalog.close()
    exported, _ = honest_after_export(data, tmp_path / "out")
    assert (exported.whole, exported.untyped_count) == (6, 5)


def test_metadata_without_a_name_which_release_0_1_took_costs_no_object(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.put_raw(1, needle(key="old", metadata={"": "b", "c": "d"}), b"data")
    disk.close()
    report, _ = honest_after_rebuild(data)
    assert (report.objects, report.damaged_count) == (2, 0)
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        row = catalog.object(PHOTOS, "old")
        assert row is not None
        assert row.metadata == {"": "b", "c": "d"}
    finally:
        catalog.close()
    exported, _ = honest_after_export(data, tmp_path / "out")
    assert exported.whole == 2


def test_chunks_of_another_object_do_not_spoil_an_upload(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    for index in (0, 1):
        chunk = {"upload_id": 77, "chunk_index": index, "chunk_count": 2}
        disk.put_raw(1 + index, needle(key="large", **chunk), b"chunk %d" % index)
        disk.put_raw(5 + index, needle(key="evil", **chunk), b"other %d" % index, stamp=STAMP + 50)
    disk.put_raw(9, needle(key="worse", upload_id=77, chunk_count=5), b"other", stamp=STAMP + 50)
    disk.close()
    exported, _ = honest_after_export(data, tmp_path / "out")
    assert (tmp_path / "out" / "photos" / "large").read_bytes() == b"chunk 0chunk 1"
    assert (tmp_path / "out" / "photos" / "evil").read_bytes() == b"other 0other 1"
    assert (exported.whole, exported.incomplete) == (3, 1)
    report, _ = honest_after_rebuild(data)
    assert report.objects == 3
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        for key, needle_ids in (("large", [1, 2]), ("evil", [5, 6])):
            row = catalog.object(PHOTOS, key)
            assert row is not None
            assert row.upload_id is not None
            assert [chunk.needle_id for chunk in catalog.chunks(row.upload_id)] == needle_ids
    finally:
        catalog.close()


# --- files that are something else ----------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_out(path: Path) -> None:
    path.symlink_to(path.parents[-2] / "etc" / "passwd")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


NAMES = ["lock", "disk.json", "manifest", "g1.idx", "g1.vol", "volumes", "volumes/2"]
PLANTS = [pipe, link_out, huge, Path.mkdir]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_planted_in_a_disk_stops_no_other_disk(
    name: str, plant: Callable[[Path], object], data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    other = HostileDisk(data, 2)
    other.close()
    disk.put_raw(1, needle(key="mine"), b"mine")
    disk.close()
    folder = other.folder if name in ("manifest", "g1.idx", "g1.vol") else other.root
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    plant(path)
    _, content = honest_after_export(data, tmp_path / "out")
    assert content == HONEST
    assert (tmp_path / "out" / "photos" / "mine").read_bytes() == b"mine"
    try:
        report = rebuild(Options(data=data, partial=True), QUIET)
    except DiskMismatch:
        assert name == "disk.json", "only who does not say who it is stops a rebuild"
    else:
        assert report.objects == 2
        is_said = bool(report.unreadable_volumes or report.unreadable_disks)
        # A terabyte of nothing is a volume that can be read; that something was in it, the report says.
        assert (name, plant) != ("g1.vol", huge) or report.damaged_count == 1
        is_lost = (name == "g1.vol" and plant is not huge) or (
            name in ("volumes", "volumes/2") and plant is not Path.mkdir
        )
        assert is_said == is_lost


def test_a_disk_that_cannot_be_listed_is_left_out_only_when_told_to(data: Path, disk: HostileDisk) -> None:
    disk.close()
    other = HostileDisk(data, 2)
    other.close()
    shutil.rmtree(other.root / "volumes")
    os.mkfifo(other.root / "volumes")
    with pytest.raises(StoreError, match="disk-2"):
        rebuild(Options(data=data), QUIET)
    report = rebuild(Options(data=data, partial=True), QUIET)
    assert [bad.disk for bad in report.unreadable_disks] == [str(other.root)]
    assert report.keeps_orphans


def test_two_volumes_that_say_that_they_are_the_same_one_stop_nothing(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.close()
    twin = disk.root / "volumes" / "2"
    shutil.copytree(disk.folder, twin)
    identity = msgspec.structs.replace(disk.volume.identity, volume_id=2)
    (twin / "manifest").write_bytes(encode_manifest(identity))
    with (twin / "g1.vol").open("r+b") as file:
        file.write(b"\0" * 4096)  # restored from the manifest
    report, content = honest_after_rebuild(data)
    assert content == HONEST
    assert [(bad.volume_id, "uuid as volume 1" in bad.problem) for bad in report.unreadable_volumes] == [
        (2, True)
    ]


MANIFESTS = {
    "of a later format": b"warehouse-manifest format=3 x",
    "of generation 2^33": b"generation=8589934592",
    "of no capacity": b"capacity=9999999999999999999",
    "with no uuid": b"uuid=------------------------------------",
    "of volume 0": b"volume=0",
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=list(MANIFESTS))
def test_a_manifest_that_no_store_wrote_is_that_volumes_failure(
    change: bytes, data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.close()
    other = HostileDisk(data, 2)
    other.close()
    text = encode_manifest(other.volume.identity).rpartition(b" crc32c=")[0]
    if change.startswith(b"warehouse"):
        text = change
    else:
        name = change.partition(b"=")[0] + b"="
        text = b" ".join(change if part.startswith(name) else part for part in text.split(b" "))
    (other.folder / "manifest").write_bytes(text + b" crc32c=%08x\n" % crc32c(text))
    with (other.folder / "g1.vol").open("r+b") as file:
        file.write(b"\0" * 4096)
    exported, content = honest_after_export(data, tmp_path / "out")
    assert content == HONEST
    assert [bad.volume_id for bad in exported.unreadable_volumes] == [2]
    report, content = honest_after_rebuild(data)
    assert content == HONEST
    assert [bad.volume_id for bad in report.unreadable_volumes] == [2]


def test_a_store_of_a_later_release_is_told_from_damage(data: Path, disk: HostileDisk) -> None:
    disk.close()
    text = b"warehouse-manifest format=3 anything"
    (disk.folder / "manifest").write_bytes(text + b" crc32c=%08x\n" % crc32c(text))
    with pytest.raises(FormatUnsupported):
        rebuild(Options(data=data), QUIET)


def test_junk_in_a_disk_folder_harms_nothing(data: Path, disk: HostileDisk, tmp_path: Path) -> None:
    disk.close()
    for number in range(3000):
        (disk.root / "volumes" / f"junk-{number}").touch()
    for name in ("007", "²", "99999999999", "4294967295"):
        (disk.root / "volumes" / name).mkdir()
    assert honest_after_export(data, tmp_path / "out")[1] == HONEST
    report, content = honest_after_rebuild(data)
    assert content == HONEST
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        with catalog.transaction() as transaction:
            transaction.skip_ids(buckets_to=0, volumes=0)
        assert max(volume.id for volume in catalog.volumes()) == 1
    finally:
        catalog.close()
    assert report.volumes == 1


# --- where an export goes -------------------------------------------------------------------------


def test_an_export_follows_no_link_that_was_planted_in_its_folder(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.put_raw(1, needle(key="plain"), b"plain")
    disk.close()
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "photos").symlink_to(victim)
    (out / ".rescue-x").symlink_to(victim)
    report = export(data, out, QUIET, is_resumed=True)
    assert (report.whole, report.damaged_count) == (0, 2)
    assert "symbolic link" in (out / "export.jsonl").read_text()
    (out / "photos").unlink()
    (out / "photos").mkdir()
    (out / "photos" / "plain").symlink_to(victim / "file")
    (out / "photos" / "a").symlink_to(victim)
    report = export(data, out, QUIET, is_resumed=True)
    assert (report.whole, report.damaged_count) == (1, 1)
    assert (out / "photos" / "plain").read_bytes() == b"plain"
    assert not (out / "photos" / "plain").is_symlink()
    assert os.listdir(victim) == ["file"]
    assert (victim / "file").read_text() == "precious"


@pytest.mark.parametrize("plant", [pipe, Path.mkdir, lambda path: path.symlink_to(path.parent / "x")])
def test_a_listing_that_is_no_plain_file_is_refused(
    plant: Callable[[Path], object], data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.close()
    (tmp_path / "out").mkdir()
    plant(tmp_path / "out" / "export.jsonl")
    with pytest.raises(WriteFailed, match=r"export\.jsonl"):
        export(data, tmp_path / "out", QUIET, is_resumed=True)


def test_a_name_that_is_taken_costs_one_object(data: Path, disk: HostileDisk, tmp_path: Path) -> None:
    disk.put_raw(1, needle(key="taken"), b"mine")
    disk.close()
    (tmp_path / "out" / "photos" / "taken" / "by somebody").mkdir(parents=True)
    report = export(data, tmp_path / "out", QUIET, is_resumed=True)
    assert (report.whole, report.damaged) == (1, ["photos/taken"])


def test_a_damaged_object_does_not_take_the_folder_of_others(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.put_raw(1, needle(key="x"), b"to be damaged")
    disk.put_raw(2, needle(key="x.damaged/y"), b"whole")
    disk.close()
    content = bytearray((disk.folder / "g1.vol").read_bytes())
    content[content.index(b"to be damaged")] ^= 1
    (disk.folder / "g1.vol").write_bytes(content)
    report = export(data, tmp_path / "out", QUIET)
    assert (report.whole, report.damaged) == (2, ["photos/x"])
    assert (tmp_path / "out" / "photos" / "x.damaged" / "y").read_bytes() == b"whole"
    assert (tmp_path / "out" / "photos" / "x%.damaged").is_file()


def test_where_a_and_A_are_one_name_no_object_takes_the_place_of_another(
    data: Path, disk: HostileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["a", "A", "ä", "Ä", "con", "a.", "C:\\x", "a/B"]
    for number, key in enumerate(keys):
        disk.put_raw(number + 1, needle(key=key), key.encode())
    disk.close()
    monkeypatch.setattr("warehouse.rescue.export._is_blind_to_case", lambda target, scratch: True)
    assert export(data, tmp_path / "out", QUIET).whole == 1 + len(keys)
    listing = [json.loads(line) for line in (tmp_path / "out" / "export.jsonl").read_text().splitlines()]
    paths = {line["key"]: line["path"] for line in listing}
    assert len({path.lower() for path in paths.values()}) == len(paths)
    for key in keys:
        assert (tmp_path / "out" / paths[key]).read_bytes() == key.encode()
        assert all(letter in "abcdefghijklmnopqrstuvwxyz0123456789/._-%ABCDEF" for letter in paths[key])


# --- bits that flip -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_of_one_disk_leave_the_objects_of_others(seed: int, tmp_path: Path) -> None:
    import random

    chance = random.Random(seed)
    data = tmp_path / "store"
    disk = HostileDisk(data)
    disk.put_raw(1, needle(key="mine"), b"mine" * 50)
    disk.close()
    other = HostileDisk(data, 2)
    for number in range(1, 20):
        other.put_raw(number, needle(key=f"other {number}"), b"x" * chance.randrange(500))
    other.close()
    for path in sorted(path for path in other.root.rglob("*") if path.is_file() and path.stat().st_size):
        content = bytearray(path.read_bytes())
        for _ in range(chance.randrange(1, 6)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    try:
        export(data, tmp_path / "out", QUIET)
    except StoreError as error:
        raise AssertionError(f"seed {seed}: {error.code}: {error.message}") from error
    assert (tmp_path / "out" / "photos" / "mine").read_bytes() == b"mine" * 50
    try:
        rebuild(Options(data=data), QUIET)
    except DiskMismatch:
        return  # its disk.json is gone, and nobody else can say who it is
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        row = catalog.object(PHOTOS, "mine")
        assert row is not None
        assert (row.volume_id, row.needle_id) == (1, 1)
    finally:
        catalog.close()


def test_a_volume_actor_reads_what_is_honest_beside_what_is_not(data: Path, disk: HostileDisk) -> None:
    for number, metadata in enumerate(REFUSED.values()):
        disk.put_raw(number + 1, metadata, b"hostile")
    disk.close()
    assert read_by_actor(disk.root, 1, 1000) == HONEST
    volume = Volume.open(OsDisk(disk.root), volume_directory(1))
    volume.delete(1, stamp=STAMP + 100)
    volume.close()


# --- more than there is ---------------------------------------------------------------------------

HOLE = 400_000_000  # bytes of a needle
_ZEROS = bytes(1 << 20)


@pytest.mark.parametrize("has_index", [True, False])
def test_terabytes_of_nothing_behind_the_records_cost_nothing(
    has_index: bool, data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.close()
    os.truncate(disk.folder / "g1.vol", 4 << 40)
    if not has_index:
        (disk.folder / "g1.idx").unlink()
    assert honest_after_export(data, tmp_path / "out")[1] == HONEST
    assert honest_after_rebuild(data)[1] == HONEST


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_needle_that_is_a_hole_comes_out_as_a_hole(
    is_whole: bool, data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    """A disk of a few KiB that says that it has gigabytes must not fill the disk that they are saved to."""
    disk.close()
    path = disk.folder / "g1.vol"
    metadata = needle(key="hole")
    offset = path.stat().st_size
    head, crc = encode_header(KIND_DATA, 0, 1, metadata, HOLE, place_seed(disk.seed, offset))
    table = b"".join(
        crc32c(bytes(min(256 << 10, HOLE - at))).to_bytes(4, "little") for at in range(0, HOLE, 256 << 10)
    )
    data_crc = 0
    for at in range(0, HOLE, 1 << 20):
        data_crc = crc32c(_ZEROS[: min(1 << 20, HOLE - at)], data_crc)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(head)
        file.seek(HOLE, os.SEEK_CUR)
        file.write(encode_footer(crc, STAMP + 3, data_crc, table if is_whole else bytes(len(table))))
        file.truncate(offset + stored_size(len(metadata), HOLE))
    (disk.folder / "g1.idx").unlink()  # so that what does not check is damage
    report, content = honest_after_export(data, tmp_path / "out")
    assert content == HONEST
    assert (report.whole, report.damaged_count) == ((2, 0) if is_whole else (1, 1))
    found = (tmp_path / "out" / "photos" / ("hole" if is_whole else "hole.damaged")).stat()
    assert found.st_size == HOLE
    assert found.st_blocks * 512 < 16 << 20
    rebuilt, content = honest_after_rebuild(data)
    assert (rebuilt.damaged_count, content) == (report.damaged_count, HONEST)


def test_void_records_that_name_all_ids_again_and_again_hang_nothing(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    """Each id of a void record out of its order would get an entry of its own: 64 GiB of index."""
    for first in (5000, 4000):
        disk.put_record(KIND_VOID, 0, encode_void([(first, (1 << 32) - 1)])[0])
    assert honest_after_export(data, tmp_path / "out")[1] == HONEST
    assert honest_after_rebuild(data)[1] == HONEST
    report, content = honest_after_rebuild(data, indexes=True)
    assert (report.objects, content) == (1, HONEST)


def test_many_gaps_are_looked_up_in_the_index_in_one_walk(data: Path, disk: HostileDisk) -> None:
    """With an index of gigabytes, a walk for each gap would take days."""
    for number in range(1, 400):
        disk.put_raw(number, needle(key=f"key {number}"), b"x" * 50)
    disk.volume.checkpoint()
    disk.close()
    path = disk.folder / "g1.vol"
    content = bytearray(path.read_bytes())
    starts = [match.start() for match in re.finditer(b"NDL1", content)]
    for start in starts[3:-1:2]:
        content[start] ^= 1
    path.write_bytes(content)
    walks: list[tuple[int, int]] = []
    walk = IndexFile.walk

    def counted(index: IndexFile, start: int, end: int) -> Any:
        walks.append((start, end))
        return walk(index, start, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IndexFile, "walk", counted)
        report = rebuild(Options(data=data), QUIET)
    lost = [lost.needle_id for lost in report.damaged]
    assert len(lost) == len(starts[3:-1:2])
    assert None not in lost, "the index knows what was there"
    assert len(walks) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"created_ms": 1 << 70},
        {"created_ms": 1 << 63},
        {"created_ms": -(1 << 70)},
        {"epoch": 1 << 63},
        {"disk_id": ""},
        {"disk_id": "x" * 5000},
    ],
    ids=str,
)
def test_a_disk_with_a_name_or_a_number_that_cannot_be_is_refused_and_exported(
    change: dict[str, object], data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.close()
    path = disk.root / "disk.json"
    said = json.loads(path.read_bytes()) | change
    with path.open("r+b") as file:  # its inode stays
        file.truncate(0)
        file.write(json.dumps(said).encode())
    assert honest_after_export(data, tmp_path / "out")[1] == HONEST
    with pytest.raises(DiskMismatch, match="unreadable"):
        rebuild(Options(data=data), QUIET)


@pytest.mark.parametrize("name", [b"disk\xff\xfe", b"di\x1b[31msk\n"])
def test_a_disk_folder_may_have_any_name(
    name: bytes, data: Path, disk: HostileDisk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    disk.close()
    odd = tmp_path / os.fsdecode(name)
    disk.root.rename(odd)
    options = ["--data", str(data), "--disk", str(odd), "--json"]
    assert rebuild_command(options) == 0
    assert json.loads(capfd.readouterr().out)["objects"] == 1
    assert rebuild_command([*options, "--replace"]) == 0
    capfd.readouterr()
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        (row,) = catalog.disks()
        assert row.name.isprintable()
    finally:
        catalog.close()


def test_a_data_folder_may_have_any_name(data: Path, disk: HostileDisk, tmp_path: Path) -> None:
    disk.close()
    odd = tmp_path / os.fsdecode(b"st\xffore")
    data.rename(odd)
    assert rebuild_command(["--data", str(odd)]) == 0
    assert rebuild_command(["--data", str(odd), "--replace", "--json"]) == 0
    back_up(odd / "backup.tar", odd, QUIET)
    assert restore(odd / "backup.tar", odd, QUIET).rebuild is None


# --- what is in the way of the catalog ------------------------------------------------------------


def test_a_pipe_in_the_place_of_the_old_catalog_hangs_nothing(data: Path, disk: HostileDisk) -> None:
    disk.close()
    (data / "master").mkdir()
    os.mkfifo(data / "master" / "catalog.sqlite3")
    report, content = honest_after_rebuild(data)
    assert content == HONEST
    assert any("nothing could be read" in remark for remark in report.remarks)


def test_a_folder_in_the_place_of_the_new_catalog_is_named(data: Path, disk: HostileDisk) -> None:
    disk.close()
    (data / "master" / "catalog.sqlite3.rebuilding" / "x").mkdir(parents=True)
    with pytest.raises(WriteFailed, match="in the way"):
        rebuild(Options(data=data), QUIET)


@pytest.mark.parametrize("plant", [pipe, link_out, Path.mkdir, Path.touch])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_lies_beside_an_old_catalog_does_not_get_into_the_new_one(
    suffix: str, plant: Callable[[Path], object], data: Path, disk: HostileDisk
) -> None:
    disk.close()
    (data / "master").mkdir()
    path = data / "master" / f"catalog.sqlite3{suffix}"
    plant(path)
    assert honest_after_rebuild(data)[1] == HONEST
    assert list(path.parent.glob(f"catalog.sqlite3.before-*{suffix}"))


def test_a_link_in_the_place_of_the_lock_of_the_catalog_is_not_followed(
    data: Path, disk: HostileDisk, tmp_path: Path
) -> None:
    disk.close()
    (data / "master").mkdir()
    (data / "master" / "catalog.sqlite3.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteFailed):
        rebuild(Options(data=data), QUIET)
    assert not (tmp_path / "elsewhere").exists()


REMAINS = {
    "the last bucket": "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'buckets'",
    "the last volume": "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'volumes'",
    "ids of text": "UPDATE sqlite_sequence SET seq = 'abc'",
    "ids of bytes": "UPDATE sqlite_sequence SET seq = x'ff00'",
    "ids of nothing": "UPDATE sqlite_sequence SET seq = NULL",
    "ids with a fraction": "UPDATE sqlite_sequence SET seq = 1e300",
    "ids below 0": "UPDATE sqlite_sequence SET seq = -5",
    "the last stamp": "UPDATE facts SET value = 9223372036854775807 WHERE name = 'stamp_max'",
    "a stamp below 0": "UPDATE facts SET value = -9223372036854775807 WHERE name = 'stamp_max'",
    "no stamp": "DELETE FROM facts",
    "needles that cannot be":
        "INSERT INTO outbox (volume_id, needle_id, stamp, reason) VALUES (1, -1, -5, 'deleted'),"
        " (1, 4294968296, 5, 'deleted'), (1, 9223372036854775807, 9223372036854775807, 'replaced')",
    "a name that is no text": "INSERT INTO disks (id, name, added_ms) VALUES (CAST(x'ff' AS TEXT), 'd', 1)",
}  # fmt: skip


@pytest.mark.parametrize("sql", REMAINS.values(), ids=list(REMAINS))
def test_an_old_catalog_is_believed_no_number_that_cannot_be(sql: str, data: Path, disk: HostileDisk) -> None:
    disk.close()
    path = data / "master" / "catalog.sqlite3"
    honest_after_rebuild(data)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()
    for _ in range(2):
        report, content = honest_after_rebuild(data)
        assert (report.objects, content) == (1, HONEST)
    catalog = SqliteCatalog.open(path)
    try:
        assert 0 < catalog.stamp_max() < 1 << 62
        with catalog.transaction() as transaction:
            transaction.create_bucket("later", created_ms=CREATED_MS)
    finally:
        catalog.close()


KEY_COLUMNS = "id, name, salt, hash, permissions, grants, is_enabled, epoch, created_ms"


def test_an_api_key_that_no_master_wrote_costs_no_other_its_place(data: Path, disk: HostileDisk) -> None:
    disk.close()
    path = data / "master" / "catalog.sqlite3"
    honest_after_rebuild(data)
    with closing(sqlite3.connect(path)) as connection:
        for key in (
            "'good', 'n', x'00', x'00', 1, NULL, 1, 1, 1",
            "'all rights', 'n', x'00', x'00', 9223372036854775807, NULL, 1, 1, 1",
            "'last epoch', 'n', x'00', x'00', 1, NULL, 1, 9223372036854775807, 1",
            "'no map', 'n', x'00', x'00', 1, x'c1', 1, 1, 1",
        ):
            connection.execute(f"INSERT INTO api_keys ({KEY_COLUMNS}) VALUES ({key})")
        connection.execute("INSERT INTO revocations VALUES ('gone', 2, 1), ('made up', -1, 1)")
        connection.commit()
    report, _ = honest_after_rebuild(data)
    assert report.api_keys == 1
    with closing(sqlite3.connect(path)) as connection:  # what deleted keys have signed stays void
        assert connection.execute("SELECT * FROM revocations").fetchall() == [("gone", 2, 1)]
    for name in ("all rights", "last epoch", "no map"):
        assert any(name in remark and "left out" in remark for remark in report.remarks)
