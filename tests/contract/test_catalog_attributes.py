"""Attributes: what an object carries beside its bytes is kept as it came, and its MD5 is its ETag."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_kit import Kit, name_of, stamp
from warehouse.errors import BadMetadata, BadRequest, PreconditionFailed
from warehouse.transport.messages import etag_of
from warehouse.transport.messages.attributes import ObjectAttributes, encode_attributes

MD5 = bytes(range(16))


def encoded(**fields: Any) -> bytes:
    return encode_attributes(ObjectAttributes(**{"md5": MD5, **fields}))


@pytest.mark.parametrize(
    ("fields", "etag"), [({}, MD5.hex()), ({"part_count": 3}, f"{MD5.hex()}-3"), ({"md5": None}, None)]
)
def test_an_object_has_the_etag_it_was_put_with(kit: Kit, fields: dict[str, Any], etag: str | None) -> None:
    bucket_id = kit.bucket()
    attributes = encoded(tags=(("a", "b"),), **fields)
    needle = kit.needle(bucket_id, attributes=attributes, metadata={"x": "y"})
    expected = etag or etag_of(*name_of(needle), needle.crc)
    for _ in range(2):  # a repeated message gets the same answer
        assert kit.do(lambda t: t.commit_needle(needle)).etag == expected
    row = kit.catalog.bucket_and_object("photos", "a")[1]
    assert row is not None
    assert (row.etag, row.attributes, row.metadata) == (expected, attributes, {"x": "y"})
    (listed,) = kit.catalog.list_objects(bucket_id).objects
    assert (listed.etag, listed.attributes) == (expected, b""), "a listing has the ETag and is short"
    kit.reopen()
    assert kit.catalog.bucket_and_object("photos", "a")[1] == row


def test_conditions_are_about_the_etag_it_was_put_with(kit: Kit) -> None:
    bucket_id = kit.bucket()
    first = kit.put(bucket_id, attributes=encoded())
    other = kit.needle(bucket_id, at=2, if_match=etag_of(*name_of(first), first.crc))
    assert kit.do(lambda t: t.commit_needle(other)).error.code == PreconditionFailed.code
    kit.put(bucket_id, at=3, if_match=MD5.hex(), attributes=encoded(md5=MD5[::-1]))
    with pytest.raises(PreconditionFailed):
        kit.do(lambda t: t.delete_objects(bucket_id, ["a"], if_match=MD5.hex(), stamp=stamp(9)))
    assert kit.do(lambda t: t.commit_needle(first)).etag == MD5.hex(), "it was visible once"
    assert kit.do(lambda t: t.delete_objects(bucket_id, ["a"], if_match=MD5[::-1].hex(), stamp=stamp(9))) == [
        True
    ]


def test_a_put_without_attributes_takes_those_of_the_version_before_away(kit: Kit) -> None:
    bucket_id = kit.bucket()
    kit.put(bucket_id, attributes=encoded())
    needle = kit.put(bucket_id, at=2)
    row = kit.catalog.bucket_and_object("photos", "a")[1]
    assert row is not None
    assert (row.etag, row.attributes) == (etag_of(*name_of(needle), needle.crc), b"")


def test_an_object_belongs_to_the_account_of_the_key_that_puts_it(kit: Kit) -> None:
    bucket_id = kit.bucket()
    (account,) = kit.catalog.accounts()
    kit.add_key("KEY", account_id=account.id)
    kit.put(bucket_id, attributes=encoded(owner_id=account.id), key_id="KEY", epoch=1)
    row = kit.catalog.bucket_and_object("photos", "a")[1]
    assert row is not None
    assert row.owner_id is None, "the bucket says it"
    for key_id in ("KEY", "NO-SUCH-KEY", ""):
        needle = kit.needle(bucket_id, at=2, attributes=encoded(owner_id="another"), key_id=key_id)
        for _ in range(2):
            assert kit.do(lambda t: t.commit_needle(needle)).error is not None  # noqa: B023
        assert kit.garbage()[name_of(needle)] == "void"


@pytest.mark.parametrize("attributes", [b"\xc1", b"\x80\x80", b"\x81\xa1e\xc4\x01x", b"x" * 20_000])
def test_attributes_that_cannot_be_read_make_no_object(kit: Kit, attributes: bytes) -> None:
    bucket_id = kit.bucket()
    needle = kit.needle(bucket_id, attributes=attributes)
    assert kit.do(lambda t: t.commit_needle(needle)).error.code in (BadMetadata.code, BadRequest.code)
    assert kit.garbage() == {name_of(needle): "void"}
    assert kit.object(bucket_id, "a") is None
