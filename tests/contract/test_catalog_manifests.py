"""Uploads that end with a manifest, in one piece and in parts: whole and as it was planned, or nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from catalog_kit import CREATED_MS, Kit, name_of, stamp
from manifest_kit import MD5, Upload, encoded
from warehouse.catalog.records import PartRow, UploadEnd
from warehouse.errors import (
    BadMetadata,
    BadRequest,
    NoSuchUpload,
    PreconditionFailed,
    StoreError,
    UploadIncomplete,
)
from warehouse.transport.messages.attributes import (
    MANIFEST_INDEX,
    ObjectChecksum,
    part_chunk_index,
)


@pytest.fixture
def bucket_id(kit: Kit) -> int:
    return kit.bucket()


def needles(kit: Kit, key: str = "big") -> list[tuple[int, int]]:
    return [(chunk.volume_id, chunk.needle_id) for chunk in kit.chunks("photos", key)]


# --- one object -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_an_upload_with_a_manifest_becomes_an_object_with_its_attributes(
    kit: Kit, bucket_id: int, count: int
) -> None:
    attributes = encoded(tags=(("k", "v"),))
    upload = Upload(kit, bucket_id)
    sent = [upload.send(index, at=index + 1) for index in range(count)]
    manifest = upload.write_manifest(attributes)
    before = kit.catalog.bucket_and_object("photos", "big")[1]
    for _ in range(2):  # repeated, it answers the same
        row = upload.finish(attributes).object
        assert row is not None
        assert (row.etag, row.size, row.chunk_count, row.stamp) == (
            MD5.hex(),
            100 * count,
            count,
            manifest.stamp,
        )
    row = kit.catalog.bucket_and_object("photos", "big")[1]
    assert before is None
    assert row is not None
    assert (row.attributes, row.metadata, row.etag) == (attributes, {"a": "b"}, MD5.hex())
    assert kit.catalog.finished_etag(upload.id) == MD5.hex()
    assert needles(kit) == ([] if count == 1 else [name_of(needle) for needle in sent])
    assert set(kit.stored(2)) == {manifest.needle_id}
    kit.reopen()
    kit.do(lambda t: t.delete_objects(bucket_id, ["big"], stamp=stamp(50)))
    assert kit.garbage() == {name_of(needle): "deleted" for needle in (*sent, manifest)}


@pytest.mark.parametrize(
    ("stored", "told", "error"),
    [
        ({}, {"tags": (("k", "v"),)}, BadRequest),
        ({"md5": MD5[::-1]}, {}, BadRequest),
        ({"owner_id": "stranger"}, {"owner_id": "stranger"}, BadRequest),
        ({}, b"\xc1", BadMetadata),
    ],
)
def test_a_manifest_that_says_something_else_changes_nothing(
    kit: Kit, bucket_id: int, stored: dict[str, Any], told: dict[str, Any] | bytes, error: type[StoreError]
) -> None:
    upload = Upload(kit, bucket_id)
    upload.send(0)
    upload.write_manifest(encoded(**stored))
    with pytest.raises(error):
        upload.finish(told if isinstance(told, bytes) else encoded(**told))
    assert kit.object(bucket_id, "big") is None
    assert kit.garbage() == {}
    assert kit.catalog.upload_count() == 1


def test_an_upload_lacks_its_manifest(kit: Kit, bucket_id: int) -> None:
    upload = Upload(kit, bucket_id)
    upload.send(0)
    with pytest.raises(UploadIncomplete, match="manifest"):
        upload.finish(encoded())
    kit.do(lambda t: t.set_slots(upload.id, [(MANIFEST_INDEX, 1, 999, 10)]))
    with pytest.raises(UploadIncomplete, match="manifest"):
        upload.finish(encoded())
    with pytest.raises(UploadIncomplete):  # a chunk is missing
        kit.do(lambda t: t.finish_upload(upload.id, 2, 200, UploadEnd(encoded())))


def test_the_manifest_gets_the_greatest_stamp_of_the_object(kit: Kit, bucket_id: int) -> None:
    kit.put(bucket_id, "big", at=30)
    upload = Upload(kit, bucket_id)
    upload.send(0, at=20)
    manifest = upload.write_manifest(encoded(), at=10)
    for above in (stamp(20), stamp(30)):
        restamp = upload.finish(encoded()).restamp
        assert restamp == (MANIFEST_INDEX, *name_of(manifest), above)
        kit.do(lambda t: t.set_stamp_of_chunk(upload.id, MANIFEST_INDEX, above + 1))  # noqa: B023
    row = upload.finish(encoded()).object
    assert row is not None
    assert row.stamp == stamp(30) + 1
    assert list(kit.garbage().values()) == ["replaced"]


def test_an_aborted_upload_takes_its_manifest_along(kit: Kit, bucket_id: int) -> None:
    upload = Upload(kit, bucket_id)
    sent = upload.send(0)
    manifest = upload.write_manifest(encoded())
    kit.do(lambda t: t.abort_upload(upload.id, stamp(9)))
    assert kit.garbage() == {name_of(sent): "aborted", name_of(manifest): "aborted"}


def test_conditions_at_the_end_replace_those_at_the_begin(kit: Kit, bucket_id: int) -> None:
    kit.put(bucket_id, "big")
    upload = Upload(kit, bucket_id)
    upload.send(0)
    upload.write_manifest(encoded())
    with pytest.raises(PreconditionFailed):
        upload.finish(encoded(), if_none_match="*")
    assert upload.finish(encoded(), if_match="*").object is not None


def test_a_manifest_whose_end_was_refused_is_void_and_another_ends_the_upload(
    kit: Kit, bucket_id: int
) -> None:
    kit.put(bucket_id, "big")
    upload = Upload(kit, bucket_id)
    sent = upload.send(0)
    refused = upload.write_manifest(encoded())
    with pytest.raises(PreconditionFailed):
        upload.finish(encoded(), if_none_match="*")
    for _ in range(2):
        kit.do(lambda t: t.void_manifest(upload.id, stamp(6)))
        assert kit.garbage() == {name_of(refused): "void"}
    with pytest.raises(UploadIncomplete):
        upload.finish(encoded())
    manifest = upload.write_manifest(encoded(), at=7)
    assert upload.finish(encoded()).object is not None
    kit.do(lambda t: t.void_manifest(upload.id, stamp(8)))
    assert {name_of(sent), name_of(manifest)}.isdisjoint(kit.garbage()), "the upload is finished"


# --- parts ----------------------------------------------------------------------------------------


def test_parts_in_any_order_become_one_object_and_what_is_not_named_becomes_garbage(
    kit: Kit, bucket_id: int
) -> None:
    attributes = encoded(part_count=2)
    upload = Upload(kit, bucket_id, parts=True)
    upload.send_part(9, 30)
    upload.send_part(5, 10)
    unnamed = list(upload.content([5]))
    upload.send_part(2, 100, 100, 50)
    stray = upload.send(part_chunk_index(2, 99, 0))  # of an attempt that never ended
    named = upload.content([2, 9])
    manifest = upload.write_manifest(attributes, [2, 9])
    for _ in range(2):
        row = upload.finish(attributes, [2, 9]).object
        assert row is not None
        assert (row.etag, row.size, row.chunk_count) == (f"{MD5.hex()}-2", 280, 4)
    assert kit.garbage() == {name_of(needle): "void" for needle in (*unnamed, stray)}
    assert needles(kit) == [name_of(needle) for needle in named]
    assert [part.part_number for part in kit.catalog.parts(upload.id)] == [2, 9]
    row = kit.catalog.bucket_and_object("photos", "big")[1]
    assert row is not None
    _, (found,) = kit.catalog.locate("photos", ["big"], first_chunk=2, chunk_limit=1)
    assert found is not None
    assert [chunk.needle_id for chunk in found[1]] == [named[2].needle_id], (
        "indexes have gaps, pages have not"
    )
    version = kit.catalog.chunks_of_version(*name_of(named[0]), row.etag, first=3, limit=9)
    assert version is not None
    assert [chunk.needle_id for chunk in version[1]] == [named[3].needle_id]
    kit.put(bucket_id, "big", at=60)
    assert kit.catalog.parts(upload.id) == [], "they go with their object"
    assert {name_of(needle) for needle in (*named, manifest)} <= set(kit.garbage())


def test_a_part_that_is_sent_again_takes_the_place_of_the_former(kit: Kit, bucket_id: int) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    first = upload.send_part(1, 10, 20, attempt=1)
    former = upload.content([1])
    assert kit.do(lambda t: t.finish_part(upload.id, first)) == first, "safe to repeat"
    upload.send_part(1, 40, attempt=2)
    assert kit.garbage() == {name_of(needle): "void" for needle in former}
    (part,) = kit.catalog.parts(upload.id)
    assert (part.size, part.attempt, part.checksum) == (40, 2, ObjectChecksum("CRC32C", False, b"1234"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"part_number": 0}, BadRequest),
        ({"part_number": 10_001}, BadRequest),
        ({"attempt": -1}, BadRequest),
        ({"attempt": 1 << 24}, BadRequest),
        ({"chunk_count": 0}, BadRequest),
        ({"chunk_count": 1 << 40}, BadRequest),
        ({"md5": b"short"}, BadRequest),
        ({"size": -1}, BadRequest),
        ({"size": 31}, UploadIncomplete),
        ({"chunk_count": 1}, UploadIncomplete),
        ({"chunk_count": 3}, UploadIncomplete),
        ({"attempt": 8}, UploadIncomplete),
        ({"part_number": 2}, UploadIncomplete),
    ],
)
def test_a_part_that_is_not_whole_is_refused(
    kit: Kit, bucket_id: int, changes: dict[str, Any], error: type[StoreError]
) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    for position, size in enumerate((10, 20)):
        upload.send(part_chunk_index(1, 7, position), size=size)
    values = {"part_number": 1, "attempt": 7, "chunk_count": 2, "size": 30, "md5": MD5, **changes}
    part = PartRow(checksum=None, created_ms=CREATED_MS, **values)
    with pytest.raises(error):
        kit.do(lambda t: t.finish_part(upload.id, part))
    assert kit.catalog.parts(upload.id) == []
    assert kit.garbage() == {}


@pytest.mark.parametrize(
    ("numbers", "part_count", "error"),
    [
        ([], 0, BadRequest),
        ([2, 1], 2, BadRequest),
        ([1, 1], 2, BadRequest),
        ([1, 3], 2, UploadIncomplete),
        ([1], 2, BadRequest),
        ([1], 1, BadRequest),  # the manifest has both
    ],
)
def test_a_completion_that_names_other_parts_changes_nothing(
    kit: Kit, bucket_id: int, numbers: list[int], part_count: int, error: type[StoreError]
) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    upload.send_part(1, 10)
    upload.send_part(2, 20)
    upload.write_manifest(encoded(part_count=2), [1, 2])
    attributes = encoded(part_count=part_count or None)
    with pytest.raises(error):
        kit.do(lambda t: t.finish_upload(upload.id, 1, 10, UploadEnd(attributes, tuple(numbers))))
    assert kit.object(bucket_id, "big") is None
    assert [part.part_number for part in kit.catalog.parts(upload.id)] == [1, 2]


def test_a_part_that_was_sent_again_after_the_plan_stops_the_completion(kit: Kit, bucket_id: int) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    upload.send_part(1, 10, attempt=1)
    upload.write_manifest(encoded(part_count=1), [1])
    upload.send_part(1, 10, attempt=2)
    with pytest.raises(BadRequest, match="manifest"):
        upload.finish(encoded(part_count=1), [1])
    upload.write_manifest(encoded(part_count=1), [1])  # planned again
    assert upload.finish(encoded(part_count=1), [1]).object is not None


def test_two_senders_that_draw_the_same_attempt_leave_one_part_and_its_own_digest(
    kit: Kit, bucket_id: int
) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    former = upload.send_part(1, 10, 20)
    chunks = upload.content([1])
    for position, size in enumerate((10, 20)):
        upload.send(part_chunk_index(1, former.attempt, position), size=size, at=2)
    latter = msgspec.structs.replace(former, md5=MD5[::-1])
    assert kit.do(lambda t: t.finish_part(upload.id, latter, stamp=stamp(3))) == latter
    assert kit.do(lambda t: t.finish_part(upload.id, latter, stamp=stamp(3))) == latter
    assert kit.catalog.parts(upload.id) == [latter]
    assert kit.garbage() == {name_of(needle): "void" for needle in chunks}


def test_chunks_of_parts_come_in_pages(kit: Kit, bucket_id: int) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    for number, sizes in ((1, [1, 2, 3]), (2, [9]), (4, [5, 6]), (7, [7])):
        upload.send_part(number, *sizes)
    rows = [row for row in kit.catalog.parts(upload.id) if row.part_number != 2]
    for first in range(7):
        for limit in (1, 2, 9):
            found = kit.catalog.chunks_of_parts(upload.id, rows, first=first, limit=limit)
            assert [chunk.size for chunk in found] == [1, 2, 3, 5, 6, 7][first : first + limit]
    assert [row.part_number for row in kit.catalog.parts(upload.id, after=1, limit=2)] == [2, 4]


def test_open_uploads_are_listed_by_key_and_id_in_pages_of_any_size(kit: Kit, bucket_id: int) -> None:
    keys = ["a", "b/1", "b/1", "b/2", "c", "c", "d/x", *(f"e{number}" for number in range(10))]
    uploads = [(key, Upload(kit, bucket_id, key=key, parts=True).id) for key in keys]
    Upload(kit, bucket_id, key="not-in-parts")
    gone = Upload(kit, bucket_id, key="a", parts=True)
    kit.do(lambda t: t.abort_upload(gone.id, stamp(1)))

    def pages(limit: int, **options: Any) -> tuple[list[tuple[str, int]], list[str]]:
        found: list[tuple[str, int]] = []
        prefixes: list[str] = []
        after, after_upload = "", 0
        for _ in range(20):
            page = kit.catalog.open_uploads(
                bucket_id, after=after, after_upload=after_upload, limit=limit, **options
            )
            assert len(page.uploads) + len(page.prefixes) <= limit
            found += [(row.key, row.id) for row in page.uploads]
            prefixes += page.prefixes
            if page.next_after is None:
                return found, prefixes
            after, after_upload = page.next_after, page.next_after_upload
        raise AssertionError("the pages never end")

    for limit in (1, 2, 3, 100):
        assert pages(limit) == (sorted(uploads), [])
        flat = [(key, upload_id) for key, upload_id in sorted(uploads) if "/" not in key]
        assert pages(limit, delimiter="/") == (flat, ["b/", "d/"])
        inside = [(key, upload_id) for key, upload_id in sorted(uploads) if key.startswith("b/")]
        assert pages(limit, prefix="b/") == (inside, [])
        assert pages(limit, within=["c", "d"]) == (
            [(key, upload_id) for key, upload_id in sorted(uploads) if key[0] in "cd"],
            [],
        )


@pytest.mark.parametrize("end", ["abort", "expire", "bucket"])
def test_an_upload_that_ends_takes_all_its_parts_along(kit: Kit, bucket_id: int, end: str) -> None:
    upload = Upload(kit, bucket_id, parts=True)
    upload.send_part(1, 10, 20)
    stray = upload.send(part_chunk_index(1, 99, 0))
    sent = [*upload.content([1]), stray]
    if end == "abort":
        kit.do(lambda t: t.abort_upload(upload.id, stamp(9)))
    elif end == "expire":
        kit.do(lambda t: t.expire_uploads(10**15, stamp(9), 10))
    else:
        kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
        kit.purge()
    assert kit.garbage() == {name_of(needle): "aborted" for needle in sent}
    assert kit.catalog.parts(upload.id) == []
    with pytest.raises(NoSuchUpload):
        upload.finish(encoded(part_count=1), [1])
