"""Rebuild and export of what came over S3: attributes, parts, manifests, amendments, owners of buckets."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crc32c import crc32c

from rescue_kit import CREATED_MS, PHOTOS, QUIET, Disk, rebuilt
from warehouse.rescue.export import export
from warehouse.rescue.rebuild import RebuildReport
from warehouse.storage.format.needle import (
    HEADER_SIZE,
    ROLE_AMENDMENT,
    ROLE_MANIFEST,
    ROLE_PART,
    BucketRecord,
    NeedleMetadata,
)
from warehouse.transport.messages.attributes import (
    MANIFEST_FORMAT,
    MANIFEST_INDEX,
    Manifest,
    ManifestChunk,
    ManifestPart,
    ObjectAttributes,
    ObjectChecksum,
    encode_attributes,
    encode_manifest,
    part_chunk_index,
)

UPLOAD = 77
MD5 = bytes(range(16))
ATTRIBUTES = ObjectAttributes(
    md5=MD5,
    owner_id="somebody",
    headers={"cache-control": b"no-cache \xff"},
    raw_metadata={"raw": b"\xfe"},
    checksum=ObjectChecksum("CRC64NVME", False, bytes(8)),
    tags=(("colour", "blue"),),
)
OF_PARTS = msgspec.structs.replace(ATTRIBUTES, part_count=2)
RETAGGED = msgspec.structs.replace(ATTRIBUTES, tags=(("colour", "red"), ("size", "")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "store"


class Store:
    """Two disks, and needles on them as gateways put them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.disks = {1: Disk(data, 1), 2: Disk(data, 2)}
        self.contents: dict[tuple[int, int], bytes] = {}

    def append(self, volume_id: int, needle_id: int, stamp: int, data: bytes, **more: Any) -> ManifestChunk:
        fields = {"key": "film", "content_type": "video/x", **more}
        metadata = NeedleMetadata(bucket="photos", bucket_id=PHOTOS, created_ms=CREATED_MS + stamp, **fields)
        disk = self.disks[volume_id]
        disk.offsets[needle_id] = disk.volume.append(needle_id, metadata, data, stamp=stamp).offset
        self.contents[volume_id, needle_id] = data
        return ManifestChunk(volume_id, needle_id, len(data), crc32c(data))

    def piece(self, volume_id: int, needle_id: int, stamp: int, data: bytes, index: int) -> ManifestChunk:
        more = {"upload_id": UPLOAD, "chunk_index": index, "chunk_count": None, "role": ROLE_PART}
        return self.append(volume_id, needle_id, stamp, data, **more)

    def manifest(
        self,
        volume_id: int,
        needle_id: int,
        stamp: int,
        chunks: list[ManifestChunk],
        parts: list[ManifestPart] | None = None,
        attributes: ObjectAttributes = ATTRIBUTES,
    ) -> None:
        size = sum(chunk.size for chunk in chunks)
        said = Manifest(MANIFEST_FORMAT, size, encode_attributes(attributes), chunks, parts or [])
        self.raw_manifest(volume_id, needle_id, stamp, encode_manifest(said))

    def raw_manifest(self, volume_id: int, needle_id: int, stamp: int, content: bytes) -> None:
        more = {
            "upload_id": UPLOAD,
            "chunk_index": MANIFEST_INDEX,
            "chunk_count": None,
            "role": ROLE_MANIFEST,
            "metadata": {"director": "me"},
        }
        self.append(volume_id, needle_id, stamp, content, **more)

    def amend(
        self,
        volume_id: int,
        needle_id: int,
        stamp: int,
        target: tuple[int, int],
        attributes: ObjectAttributes,
        key: str = "film",
    ) -> None:
        encoded = encode_attributes(attributes)
        more = {"role": ROLE_AMENDMENT, "target": target, "attributes": encoded, "key": key}
        self.append(volume_id, needle_id, stamp, b"", **more)

    def film(self) -> list[ManifestChunk]:
        """An upload of one object, with its chunks on both disks and its manifest."""
        chunks = [self.piece(2, 5, 10, b"be", 0), self.piece(1, 5, 11, b"ginning", 1)]
        self.manifest(1, 6, 12, chunks)
        return chunks

    def in_parts(self) -> None:
        """An upload of parts 3 and 7; part 3 in two chunks, and sent twice; part 9 was not named."""
        self.piece(1, 1, 10, b"former", part_chunk_index(3, 900, 0))
        chunks = [
            self.piece(1, 4, 16, b"la", part_chunk_index(3, 5, 0)),
            self.piece(2, 4, 13, b"ter ", part_chunk_index(3, 5, 1)),
            self.piece(1, 2, 11, b"part", part_chunk_index(7, 16_000_000, 0)),
        ]
        self.piece(2, 3, 12, b"unnamed", part_chunk_index(9, 1, 0))
        parts = [
            ManifestPart(3, 6, 2, MD5, ObjectChecksum("CRC32", True, b"abcd"), 5),
            ManifestPart(7, 4, 1, MD5[::-1], None, 6),
        ]
        self.manifest(2, 6, 17, chunks, parts, OF_PARTS)

    def rebuilt(self) -> RebuildReport:
        for disk in self.disks.values():
            disk.close()
        return rebuilt(self.data)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.data / "master" / "catalog.sqlite3")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def objects(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT key, size, stamp, content_type, volume_id, needle_id, crc, chunk_count, md5, part_count,"
            " attributes, is_amended FROM objects"
        )

    def contents_of(self, upload_id: int = UPLOAD) -> bytes:
        return b"".join(
            self.contents[volume_id, needle_id]
            for volume_id, needle_id in self.rows(
                f"SELECT volume_id, needle_id FROM chunks WHERE upload_id = {upload_id}"
                f" AND chunk_index < {MANIFEST_INDEX} ORDER BY chunk_index"
            )
        )

    def garbage(self) -> dict[tuple[int, int], str]:
        rows = self.rows("SELECT volume_id, needle_id, reason FROM outbox")
        return {(volume_id, needle_id): reason for volume_id, needle_id, reason in rows}

    def exported(self, folder: Path) -> dict[str, tuple[bytes, dict[str, Any]]]:
        export(self.data, folder, QUIET)
        lines = [json.loads(line) for line in (folder / "export.jsonl").read_text().splitlines()]
        return {line["key"]: ((folder / line["path"]).read_bytes(), line) for line in lines if "path" in line}


@pytest.fixture
def store(data: Path) -> Store:
    return Store(data)


def test_an_object_of_one_needle_comes_back_with_its_attributes(store: Store, tmp_path: Path) -> None:
    encoded = encode_attributes(ATTRIBUTES)
    store.append(1, 1, 10, b"small", key="small", attributes=encoded)
    store.append(1, 2, 11, b"plain", key="plain")
    store.rebuilt()
    crcs = crc32c(b"plain"), crc32c(b"small")
    assert store.objects() == [
        ("plain", 5, 11, "video/x", 1, 2, crcs[0], 1, None, None, None, 0),
        ("small", 5, 10, "video/x", 1, 1, crcs[1], 1, MD5, None, encoded, 0),
    ]
    content, line = store.exported(tmp_path / "out")["small"]
    assert content == b"small"
    assert {
        name: line[name] for name in ("etag", "owner_id", "headers", "raw_metadata", "tags", "checksum")
    } == {
        "etag": MD5.hex(),
        "owner_id": "somebody",
        "headers": {"cache-control": "no-cache ÿ"},
        "raw_metadata": {"raw": "þ"},
        "tags": [["colour", "blue"]],
        "checksum": "CRC64NVME 0000000000000000",
    }


def test_an_object_that_ends_with_a_manifest_comes_back_with_chunks_and_manifest(
    store: Store, tmp_path: Path
) -> None:
    store.film()
    report = store.rebuilt()
    assert (report.objects, report.incomplete_upload_count, report.garbage_needles) == (1, 0, 0)
    assert store.objects() == [
        ("film", 9, 12, "video/x", 2, 5, crc32c(b"be"), 2, MD5, None, encode_attributes(ATTRIBUTES), 0)
    ]
    assert store.rows("SELECT metadata FROM objects") == [(msgspec.msgpack.encode({"director": "me"}),)]
    assert store.contents_of() == b"beginning"
    chunks = "SELECT chunk_index, volume_id, needle_id, stamp, is_stored FROM chunks ORDER BY chunk_index"
    assert store.rows(chunks) == [(0, 2, 5, 10, 1), (1, 1, 5, 11, 1), (MANIFEST_INDEX, 1, 6, 12, 1)]
    assert store.exported(tmp_path / "out")["film"][0] == b"beginning"


def test_parts_come_back_and_what_no_part_names_is_given_up(store: Store, tmp_path: Path) -> None:
    store.in_parts()
    report = store.rebuilt()
    assert (report.objects, report.incomplete_upload_count) == (1, 0)
    [row] = store.objects()
    assert row[:10] == ("film", 10, 17, "video/x", 1, 4, crc32c(b"la"), 3, MD5, 2)
    assert store.contents_of() == b"later part"
    parts = "SELECT part_number, attempt, chunk_count, size, md5, checksum, created_ms FROM parts"
    checksum = msgspec.msgpack.encode(ObjectChecksum("CRC32", True, b"abcd"))
    assert store.rows(parts) == [(3, 5, 2, 6, MD5, checksum, 5), (7, 16_000_000, 1, 4, MD5[::-1], None, 6)]
    assert store.garbage() == {(1, 1): "void", (2, 3): "void"}
    content, line = store.exported(tmp_path / "out")["film"]
    assert (content, line["etag"]) == (b"later part", f"{MD5.hex()}-2")


def test_parts_without_a_manifest_are_no_object_however_whole_they_look(store: Store) -> None:
    store.append(1, 1, 5, b"older", key="film")
    store.piece(1, 2, 10, b"a", part_chunk_index(1, 0, 0))
    store.piece(1, 3, 11, b"b", part_chunk_index(2, 0, 0))
    report = store.rebuilt()
    assert [row[:3] for row in store.objects()] == [("film", 5, 5)]
    assert [(upload.upload_id, upload.problem) for upload in report.incomplete_uploads] == [
        (UPLOAD, "it was not completed")
    ]
    assert store.garbage() == {(1, 2): "aborted", (1, 3): "aborted"}


def test_a_single_chunk_of_a_manifest_has_rows_of_its_own(store: Store) -> None:
    store.manifest(1, 6, 12, [store.piece(2, 5, 10, b"all", 0)])
    store.rebuilt()
    [row] = store.objects()
    assert (row[1], row[4:6], row[7]) == (3, (2, 5), 1)
    assert len(store.rows("SELECT 1 FROM chunks")) == 2


def test_of_two_manifests_the_latest_counts(store: Store) -> None:
    chunks = [store.piece(1, 1, 10, b"one", 0), store.piece(1, 2, 11, b"two", 1)]
    store.manifest(1, 3, 12, chunks[:1])
    store.manifest(2, 3, 13, chunks)
    store.rebuilt()
    assert store.contents_of() == b"onetwo"
    assert store.garbage() == {(1, 3): "void"}


def test_a_manifest_that_was_given_up_with_its_chunks_hides_no_completed_object(store: Store) -> None:
    """A Complete failed, a part was sent again, the next Complete succeeded.  The first manifest lay on a disk
    that was away, so it has no tombstone, and a clock that was ahead gave it the greater stamp."""
    of_one = msgspec.structs.replace(ATTRIBUTES, part_count=1)
    former = store.piece(2, 1, 10, b"former", part_chunk_index(1, 4, 0))
    store.manifest(1, 3, 50, [former], [ManifestPart(1, 6, 1, MD5)], of_one)
    store.disks[2].volume.delete(1, stamp=12)
    latter = store.piece(2, 2, 13, b"latter", part_chunk_index(1, 9, 0))
    store.manifest(2, 3, 14, [latter], [ManifestPart(1, 6, 1, MD5)], of_one)
    report = store.rebuilt()
    assert (report.objects, report.incomplete_upload_count) == (1, 0)
    assert store.contents_of() == b"latter"
    assert store.garbage() == {(1, 3): "void"}


def flip_data(store: Store, volume_id: int, needle_id: int) -> None:
    disk = store.disks[volume_id]
    disk.volume.sync()
    found = disk.volume.find(needle_id)
    assert found is not None
    disk.flip(needle_id, HEADER_SIZE + found.metadata_size)


def damage_chunk_elsewhere(store: Store) -> None:
    store.disks[2].volume.delete(5, stamp=90)


def name_a_stranger(store: Store) -> None:
    stranger = store.append(1, 9, 40, b"be", key="other")
    store.manifest(2, 9, 50, [stranger, ManifestChunk(1, 5, 7, crc32c(b"ginning"))])


def say_another_size(store: Store) -> None:
    chunks = [ManifestChunk(2, 5, 1, crc32c(b"be")), ManifestChunk(1, 5, 7, crc32c(b"ginning"))]
    store.manifest(2, 9, 50, chunks)


def say_another_crc(store: Store) -> None:
    store.manifest(2, 9, 50, [ManifestChunk(2, 5, 2, 1), ManifestChunk(1, 5, 7, crc32c(b"ginning"))])


def name_them_backwards(store: Store) -> None:
    chunks = [ManifestChunk(1, 5, 7, crc32c(b"ginning")), ManifestChunk(2, 5, 2, crc32c(b"be"))]
    store.manifest(2, 9, 50, chunks)


def name_nothing(store: Store) -> None:
    store.manifest(2, 9, 50, [])


def be_no_manifest(store: Store) -> None:
    store.raw_manifest(2, 9, 50, b"\xc1 no manifest")


def be_of_a_later_format(store: Store) -> None:
    store.raw_manifest(2, 9, 50, encode_manifest(Manifest(2, 0, b"", [])))


def give_a_part_foreign_chunks(store: Store) -> None:
    chunks = [ManifestChunk(2, 5, 2, crc32c(b"be")), ManifestChunk(1, 5, 7, crc32c(b"ginning"))]
    store.manifest(2, 9, 50, chunks, [ManifestPart(1, 9, 2, MD5)], OF_PARTS)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (damage_chunk_elsewhere, "1 of 2 chunks"),
        (name_a_stranger, "1 of 2 chunks"),
        (say_another_size, "none of its chunks"),
        (say_another_crc, "another content"),
        (name_them_backwards, "another order"),
        (name_nothing, "0 of 0 chunks"),
        (be_no_manifest, "cannot be used"),
        (be_of_a_later_format, "cannot be used"),
        (give_a_part_foreign_chunks, "chunks of another part"),
    ],
)
def test_an_upload_whose_manifest_is_not_true_is_incomplete(store: Store, spoil: Any, problem: str) -> None:
    store.film()
    spoil(store)
    report = store.rebuilt()
    assert [row[0] for row in store.objects() if row[0] == "film"] == []
    [upload] = report.incomplete_uploads
    assert problem in upload.problem


def test_a_damaged_manifest_is_a_damaged_object_and_costs_none_of_its_chunks(store: Store) -> None:
    store.append(1, 1, 5, b"older", key="film")
    store.film()
    flip_data(store, 1, 6)
    report = store.rebuilt()
    assert [(lost.needle_id, lost.key) for lost in report.damaged] == [(6, "film")]
    [row] = store.objects()
    assert (row[2], row[4:6]) == (12, (1, 6)), "not the older version"
    assert report.keeps_orphans
    assert store.garbage() == {(1, 1): "replaced"}


def test_a_damaged_chunk_leaves_the_object_damaged_and_named(store: Store, tmp_path: Path) -> None:
    store.film()
    flip_data(store, 2, 5)
    report = store.rebuilt()
    assert [(lost.needle_id, lost.key) for lost in report.damaged] == [(5, "film")]
    assert [row[0] for row in store.objects()] == ["film"]
    assert export(store.data, tmp_path / "out", QUIET).damaged == ["photos/film"]


def test_the_newest_amendment_counts_and_the_others_are_given_up(store: Store, tmp_path: Path) -> None:
    store.film()
    between = msgspec.structs.replace(ATTRIBUTES, tags=(("colour", "green"),))
    store.amend(1, 20, 30, (2, 5), between)
    store.amend(2, 21, 40, (2, 5), RETAGGED)
    store.amend(1, 22, 35, (2, 5), ATTRIBUTES)
    store.rebuilt()
    [row] = store.objects()
    assert (row[2], row[8], row[10:]) == (12, MD5, (encode_attributes(RETAGGED), 1))
    amendments = "SELECT volume_id, needle_id, target_volume_id, target_needle_id, stamp FROM amendments"
    assert store.rows(amendments) == [(2, 21, 2, 5, 40)]
    assert store.garbage() == {(1, 20): "void", (1, 22): "void"}
    assert store.exported(tmp_path / "out")["film"][1]["tags"] == [["colour", "red"], ["size", ""]]


def test_an_amendment_is_only_for_its_version(store: Store) -> None:
    encoded = encode_attributes(ATTRIBUTES)
    store.append(1, 1, 10, b"old", key="small", attributes=encoded)
    store.amend(1, 2, 11, (1, 1), RETAGGED, "small")
    store.append(1, 3, 12, b"new", key="small", attributes=encoded)
    other = msgspec.structs.replace(RETAGGED, md5=MD5[::-1])
    store.amend(1, 4, 20, (1, 3), other, "small")  # would change the ETag: its put cannot have been committed
    store.amend(1, 5, 21, (1, 77), RETAGGED, "small")  # its version is gone
    store.amend(1, 6, 22, (9, 1), RETAGGED, "small")  # in a volume that nobody knows
    store.rebuilt()
    [row] = store.objects()
    assert (row[2], row[10:]) == (12, (encoded, 0))
    assert store.rows("SELECT * FROM amendments") == []
    assert store.garbage() == {
        (1, 1): "replaced",
        (1, 2): "replaced",
        (1, 4): "void",
        (1, 5): "aborted",
        (1, 6): "aborted",
    }


def test_a_deletion_takes_manifest_parts_and_amendments_along(store: Store) -> None:
    store.in_parts()
    store.amend(1, 20, 30, (1, 4), msgspec.structs.replace(OF_PARTS, tags=()))
    store.append(2, 30, 35, b"x", key="film")
    store.disks[2].volume.delete(30, stamp=40, object_deleted=True)
    report = store.rebuilt()
    assert report.objects == 0
    assert store.garbage() == {
        **dict.fromkeys([(1, 4), (2, 4), (1, 2), (2, 6), (1, 20)], "deleted"),
        (1, 1): "void",
        (2, 3): "void",
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"role": 9}, "role is 9"),
        ({"role": ROLE_PART}, "no upload"),
        ({"role": ROLE_MANIFEST, "upload_id": 1, "chunk_index": 3}, "index 3"),
        ({"chunk_index": MANIFEST_INDEX, "role": ROLE_PART, "upload_id": 1}, "index"),
        ({"role": ROLE_AMENDMENT}, "None"),
        ({"role": ROLE_AMENDMENT, "target": (1 << 31, 1)}, "cannot be"),
        ({"role": ROLE_AMENDMENT, "target": (1, 0)}, "cannot be"),
        ({"role": ROLE_AMENDMENT, "target": (1, 1), "upload_id": 4}, "upload"),
        ({"target": (1, 1)}, "changes nothing"),
        ({"attributes": b"\xc1"}, "cannot be read"),
    ],
)
def test_what_no_honest_store_writes_is_refused_and_named(
    store: Store, changes: dict[str, Any], problem: str
) -> None:
    store.append(1, 1, 10, b"x", key="odd", **changes)
    report = store.rebuilt()
    assert report.objects == 0
    [lost] = report.damaged
    assert lost.is_refused
    assert problem in lost.problem


@pytest.mark.parametrize("is_old_last", [False, True])
def test_owner_and_region_of_a_bucket_come_from_its_records(store: Store, is_old_last: bool) -> None:
    full = BucketRecord(PHOTOS, "photos", 1, False, "somebody", True, "eu-west-1")
    old = BucketRecord(PHOTOS, "photos", 1, False)
    for stamp, record in enumerate([full, old] if is_old_last else [old, full], 10):
        store.disks[1].volume.record_bucket(record, stamp=stamp)
    store.rebuilt()
    assert store.rows("SELECT region, is_lock_enabled FROM buckets") == [("eu-west-1", 1)]


@pytest.mark.parametrize("is_late_first", [False, True])
def test_the_latest_record_of_a_bucket_says_how_it_behaves(store: Store, is_late_first: bool) -> None:
    early, late = ({"cors": b"1", "tagging": b"2"}, 10), ({"cors": b"3"}, 20)
    for number, (configs, stamp) in zip(
        (1, 2), (late, early) if is_late_first else (early, late), strict=True
    ):
        record = BucketRecord(PHOTOS, "photos", 1, False, "somebody", configs=configs)
        store.disks[number].volume.record_bucket(record, stamp=stamp)
    store.rebuilt()
    assert store.rows("SELECT kind, document FROM bucket_configs") == [("cors", b"3")]
    assert store.rows("SELECT config_epoch FROM buckets") == [(20,)]


@pytest.mark.parametrize("configs", [{"cors": bytes(62_000)}, {str(number): b"" for number in range(17)}])
def test_documents_that_no_store_writes_are_refused(store: Store, configs: dict[str, bytes]) -> None:
    record = BucketRecord(PHOTOS, "photos", 1, False, "somebody", configs=configs)
    store.disks[1].volume.record_bucket(record, stamp=10)
    report = store.rebuilt()
    [lost] = report.damaged
    assert "configurations" in lost.problem
    assert store.rows("SELECT kind FROM bucket_configs") == []
