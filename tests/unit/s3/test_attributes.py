"""GetObjectAttributes: only what is asked for, and parts page by page."""

from __future__ import annotations

from typing import Any

import pytest

from botocore_kit import parsed, serialized
from warehouse.s3 import xml_out
from warehouse.s3.attributes import attributes_of, read_attributes_request
from warehouse.s3.failures import Failure
from warehouse.s3.xml_out import Checksum, ListedPart

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
PARTS = [ListedPart(number, 0, "x", 5, Checksum("SHA256", f"{number}=")) for number in (1, 2, 4, 5)]
WHOLE = Checksum("SHA256", "abc=-4", "COMPOSITE")


def ask(
    names: list[str], parts: list[ListedPart], checksum: Checksum | None = WHOLE, **more: Any
) -> dict[str, Any]:
    sent = serialized("GetObjectAttributes", Bucket="b", Key="a", ObjectAttributes=names, **more)
    request = read_attributes_request(sent.headers)
    attributes = attributes_of(request, "x-4", 20, "STANDARD", checksum, parts)
    return parsed("GetObjectAttributes", xml_out.object_attributes(attributes))


def test_everything() -> None:
    assert ask(ALL, PARTS[:1]) == {
        "ETag": "x-4",
        "Checksum": {"ChecksumSHA256": "abc=-4", "ChecksumType": "COMPOSITE"},
        "ObjectParts": {
            "TotalPartsCount": 1,
            "PartNumberMarker": 0,
            "NextPartNumberMarker": 1,
            "MaxParts": 1000,
            "IsTruncated": False,
            "Parts": [{"PartNumber": 1, "Size": 5, "ChecksumSHA256": "1="}],
        },
        "StorageClass": "STANDARD",
        "ObjectSize": 20,
    }


@pytest.mark.parametrize("name", ALL)
def test_only_what_is_asked_for(name: str) -> None:
    assert list(ask([name], PARTS)) == [name]


def test_an_object_in_one_piece_has_no_parts() -> None:
    assert "ObjectParts" not in ask(ALL, [])
    assert "Checksum" not in ask(ALL, [], None)


def test_parts_come_in_pages() -> None:
    numbers: list[int] = []
    marker, is_truncated = 0, True
    while is_truncated:
        found = ask(["ObjectParts"], PARTS, MaxParts=3, PartNumberMarker=marker)["ObjectParts"]
        assert found["TotalPartsCount"] == 4
        numbers += [part["PartNumber"] for part in found["Parts"]]
        marker, is_truncated = found["NextPartNumberMarker"], found["IsTruncated"]
    assert numbers == [1, 2, 4, 5]
    found = ask(["ObjectParts"], PARTS, MaxParts=0)["ObjectParts"]
    assert (found["IsTruncated"], found.get("Parts")) == (False, None)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "InvalidRequest"),
        ({b"x-amz-object-attributes": b" , "}, "InvalidRequest"),
        ({b"x-amz-object-attributes": b"etag"}, "InvalidArgument"),
        ({b"x-amz-object-attributes": b"ETag,\xff"}, "InvalidArgument"),
        ({b"x-amz-object-attributes": b"ETag", b"x-amz-max-parts": b"-1"}, "InvalidArgument"),
        ({b"x-amz-object-attributes": b"ETag", b"x-amz-part-number-marker": b"x"}, "InvalidArgument"),
    ],
)
def test_bad_questions(headers: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(Failure) as refused:
        read_attributes_request(headers)
    assert refused.value.code == code
