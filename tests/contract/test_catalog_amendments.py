"""Amendments: the attributes of a version change, and nothing else of it; they go with their version."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_kit import Kit, name_of, stamp
from warehouse.errors import (
    BadMetadata,
    BadRequest,
    NoSuchObject,
    PreconditionFailed,
    StoreError,
)
from warehouse.transport.messages import StoredNeedle, etag_of
from warehouse.transport.messages.attributes import ObjectAttributes, encode_attributes

MD5 = bytes(range(16))


def encoded(tag: str = "", **fields: Any) -> bytes:
    tags = ((tag, "v"),) if tag else ()
    return encode_attributes(ObjectAttributes(**{"md5": MD5, "tags": tags, **fields}))


@pytest.fixture
def bucket_id(kit: Kit) -> int:
    return kit.bucket()


def amendment(
    kit: Kit, bucket_id: int, target: StoredNeedle, tag: str, *, at: int = 5, **changes: Any
) -> StoredNeedle:
    values = {"attributes": encoded(tag), "amends": name_of(target), "size": 0, **changes}
    return kit.needle(bucket_id, at=at, volume_id=2, **values)


def attributes_now(kit: Kit) -> bytes:
    row = kit.catalog.bucket_and_object("photos", "a")[1]
    assert row is not None
    return row.attributes


def test_an_amendment_changes_the_attributes_and_nothing_else(kit: Kit, bucket_id: int) -> None:
    first = kit.put(bucket_id, attributes=encoded("old"))
    before = kit.object(bucket_id, "a")
    assert before is not None
    change = amendment(kit, bucket_id, first, "new", if_match=MD5.hex())
    for _ in range(2):  # a repeated message gets the same answer
        assert kit.do(lambda t: t.commit_needle(change)).etag == MD5.hex()
    after = kit.object(bucket_id, "a")
    assert after is not None
    assert (after.etag, after.stamp, after.created_ms, after.size, after.is_amended) == (
        before.etag,
        before.stamp,
        before.created_ms,
        before.size,
        True,
    )
    assert attributes_now(kit) == encoded("new")
    assert kit.garbage() == {}
    assert kit.stored(2) == [change.needle_id], "the cross-check knows it"
    bucket = kit.catalog.bucket("photos")
    assert (bucket.object_count, bucket.byte_count) == (1, 100)


def test_the_next_amendment_takes_the_place_of_the_former(kit: Kit, bucket_id: int) -> None:
    first = kit.put(bucket_id, attributes=encoded())
    former = amendment(kit, bucket_id, first, "b", at=9)
    kit.do(lambda t: t.commit_needle(former))
    late = amendment(kit, bucket_id, first, "c", at=8)
    assert kit.do(lambda t: t.commit_needle(late)).restamp_above == stamp(9)
    late = amendment(kit, bucket_id, first, "c", at=10)
    assert kit.do(lambda t: t.commit_needle(late)).etag == MD5.hex()
    assert attributes_now(kit) == encoded("c")
    assert kit.garbage() == {name_of(former): "replaced"}
    assert kit.do(lambda t: t.commit_needle(former)).etag == MD5.hex(), "it counted once"
    assert attributes_now(kit) == encoded("c")


@pytest.mark.parametrize("end", ["delete", "overwrite", "bucket"])
def test_an_amendment_goes_with_its_version(kit: Kit, bucket_id: int, end: str) -> None:
    first = kit.put(bucket_id, attributes=encoded())
    change = amendment(kit, bucket_id, first, "b", at=50)
    kit.do(lambda t: t.commit_needle(change))
    if end == "delete":
        kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(9)))
    elif end == "overwrite":
        kit.put(bucket_id, at=10)
        assert attributes_now(kit) == b""
    else:
        kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
        kit.purge()
    assert kit.garbage().keys() == {name_of(first), name_of(change)}
    assert kit.stored(2) == []
    assert kit.do(lambda t: t.commit_needle(change)).etag == MD5.hex()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amends": (1, 999)}, PreconditionFailed),
        ({"amends": (2, 1)}, PreconditionFailed),
        ({"if_match": "another"}, PreconditionFailed),
        ({"key": "nothing-there"}, NoSuchObject),
        ({"attributes": b"\xc1"}, BadMetadata),
        ({"attributes": b""}, BadRequest),
        ({"attributes": encoded(md5=MD5[::-1])}, BadRequest),
        ({"attributes": encoded(part_count=2)}, BadRequest),
        ({"attributes": encoded(owner_id="stranger")}, BadRequest),
        ({"attributes": encoded(version_id=MD5)}, BadRequest),
    ],
)
def test_an_amendment_that_may_not_be_changes_nothing(
    kit: Kit, bucket_id: int, changes: dict[str, Any], error: type[StoreError]
) -> None:
    first = kit.put(bucket_id, attributes=encoded("old"))
    change = amendment(kit, bucket_id, first, "new", **changes)
    assert kit.do(lambda t: t.commit_needle(change)).error.code == error.code
    assert kit.do(lambda t: t.commit_needle(change)).error is not None
    assert attributes_now(kit) == encoded("old")
    assert kit.garbage().keys() == {name_of(change)}


def test_an_amendment_of_a_bucket_that_is_gone_is_garbage(kit: Kit, bucket_id: int) -> None:
    first = kit.put(bucket_id, attributes=encoded())
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(3)))
    change = amendment(kit, bucket_id, first, "b")
    assert kit.do(lambda t: t.commit_needle(change)).error.code == "no_such_bucket"
    assert name_of(change) in kit.garbage()


def test_an_object_of_the_library_can_be_amended_too(kit: Kit, bucket_id: int) -> None:
    first = kit.put(bucket_id)
    etag = etag_of(*name_of(first), first.crc)
    attributes = encoded("x", md5=None)
    change = amendment(kit, bucket_id, first, "", attributes=attributes, if_match=etag)
    assert kit.do(lambda t: t.commit_needle(change)).etag == etag
    assert attributes_now(kit) == attributes
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(9)))
    assert kit.do(lambda t: t.commit_needle(change)).etag == etag


@pytest.mark.parametrize("is_committed", [True, False])
def test_an_amendment_in_doubt_is_resolved(kit: Kit, bucket_id: int, is_committed: bool) -> None:
    first = kit.put(bucket_id, attributes=encoded())
    change = amendment(kit, bucket_id, first, "b")
    if is_committed:
        kit.do(lambda t: t.commit_needle(change))
    for _ in range(2):
        resolved = kit.do(lambda t: t.resolve_needle(bucket_id, "a", *name_of(change), stamp(7)))
        assert resolved is is_committed
    if not is_committed:
        assert kit.do(lambda t: t.commit_needle(change)).error.code == "needle_void"
        assert attributes_now(kit) == encoded()
    with pytest.raises(BadRequest):
        kit.do(lambda t: t.resolve_needle(bucket_id, "b", *name_of(first), stamp(7)))


def test_a_disk_that_is_removed_takes_amendments_and_leaves_attributes(kit: Kit, bucket_id: int) -> None:
    kit.do(lambda t: t.add_disk("disk-2", "second", 1))
    volume_id = kit.do(lambda t: t.add_volume(None, "uuid-x", 1 << 30, "disk-2"))
    kit.do(lambda t: t.reserve_needle_ids(volume_id, 1000))
    first = kit.put(bucket_id, attributes=encoded())
    kit.next_needle[volume_id] = 1
    change = kit.needle(
        bucket_id, at=5, volume_id=volume_id, attributes=encoded("b"), amends=name_of(first), size=0
    )
    assert kit.do(lambda t: t.commit_needle(change)).etag is not None
    while not kit.do(lambda t: t.remove_disk("disk-2", removed_ms=1, stamp=stamp(9))).is_done:
        pass
    assert attributes_now(kit) == encoded("b")
    kit.do(lambda t: t.delete_objects(bucket_id, ["a"], stamp=stamp(20)))
    assert kit.garbage().keys() == {name_of(first)}


def test_a_version_whose_amendment_took_its_attributes_away_is_overwritten(kit: Kit, bucket_id: int) -> None:
    first = kit.put(bucket_id)
    change = amendment(kit, bucket_id, first, "", attributes=b"")
    assert kit.do(lambda t: t.commit_needle(change)).etag is not None
    kit.put(bucket_id, at=10)
    row = kit.object(bucket_id, "a")
    assert row is not None
    assert not row.is_amended
    assert kit.garbage().keys() == {name_of(first), name_of(change)}
