"""Headers: what is stored, and what is answered of it."""

from __future__ import annotations

import email.utils

import pytest

from botocore_kit import parsed
from warehouse.s3.failures import Failure
from warehouse.s3.headers import (
    METADATA_SIZE_MAX,
    Described,
    StoredHeaders,
    http_date,
    is_partial,
    not_modified_headers,
    object_headers,
    read_overrides,
    read_stored,
    wants_checksum,
)
from warehouse.s3.ranges import Slice
from warehouse.s3.xml_out import Checksum

NOTHING = StoredHeaders({}, {})


def test_only_what_is_known_is_stored() -> None:
    named = {
        b"content-type": b"text/plain",
        b"cache-control": b"no-cache",
        b"content-disposition": b"attachment",
        b"content-language": b"de",
        b"expires": b"whenever",
        b"content-encoding": b"gzip",
        b"x-amz-website-redirect-location": b"https://example.com/",
    }
    sent = {
        **named,
        b"content-length": b"5",
        b"host": b"x",
        b"x-amz-date": b"x",
        b"authorization": b"x",
        b"x-amz-meta-owner": b"ann",
        b"x-amz-meta-empty": b"",
        b"x-amz-storage-class": b"REDUCED_REDUNDANCY",
    }
    assert read_stored(sent) == StoredHeaders(named, {b"owner": b"ann", b"empty": b""}, "REDUCED_REDUNDANCY")
    assert read_stored({b"content-type": b"", b"expires": b""}) == NOTHING


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"gzip", b"gzip"),
        (b"deflate, gzip", b"deflate, gzip"),
        (b"gzip, aws-chunked", b"gzip"),
        (b"aws-chunked, gzip", b"gzip"),
        (b"aws-chunked", None),
        (b"aws-chunked, aws-chunked", None),
        (b"AWS-Chunked,gzip", b"gzip"),
    ],
)
def test_aws_chunked_is_never_stored(sent: bytes, stored: bytes | None) -> None:
    assert read_stored({b"content-encoding": sent}).named.get(b"content-encoding") == stored


@pytest.mark.parametrize(
    "value", ["é".encode(), b"\xe9", b"\xff\xfe", b"=?UTF-8?B?w6k=?=", b"a  b", b"a,b", b"%C3%A9"]
)
def test_metadata_goes_back_as_it_came(value: bytes) -> None:
    stored = read_stored({b"x-amz-meta-x": value})
    assert (b"x-amz-meta-x", value) in object_headers(Described("x", 0, 0, stored))


def test_metadata_is_bounded() -> None:
    read_stored({b"x-amz-meta-" + b"n" * 1000: b"v" * (METADATA_SIZE_MAX - 1000)})
    with pytest.raises(Failure) as refused:
        read_stored({b"x-amz-meta-" + b"n" * 1000: b"v" * (METADATA_SIZE_MAX - 999)})
    assert (refused.value.code, refused.value.status) == ("MetadataTooLarge", 400)
    assert refused.value.fields == {"Size": "8193", "MaxSizeAllowed": "8192"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({b"x-amz-meta-": b"x"}, "InvalidArgument"),
        ({b"x-amz-storage-class": b"GLACIER"}, "InvalidStorageClass"),
        ({b"x-amz-storage-class": b"standard"}, "InvalidStorageClass"),
        ({b"x-amz-storage-class": b"\xff"}, "InvalidStorageClass"),
        ({b"x-amz-website-redirect-location": b"javascript:x"}, "InvalidArgument"),
        ({b"x-amz-website-redirect-location": b"/" * 3000}, "InvalidArgument"),
    ],
)
def test_headers_that_cannot_be_stored(headers: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(Failure) as refused:
        read_stored(headers)
    assert refused.value.code == code


def as_botocore_reads(
    operation: str, headers: list[tuple[bytes, bytes]], status: int = 200
) -> dict[str, object]:
    found = parsed(operation, b"", status, {name.decode(): value.decode() for name, value in headers})
    found.pop("Body", None)
    return found


def test_an_object_is_described() -> None:
    stored = StoredHeaders(
        {b"content-type": b"text/plain", b"cache-control": b"no-cache", b"content-language": b"de"},
        {b"owner": b"ann"},
        "REDUCED_REDUNDANCY",
    )
    checksum = Checksum("CRC64NVME", "AAAA", "FULL_OBJECT")
    described = Described("abc-2", 1_790_000_000_250, 10, stored, 3, 2, checksum)
    found = as_botocore_reads("HeadObject", object_headers(described))
    modified = found.pop("LastModified")
    assert str(modified) == "2026-09-21 14:13:20+00:00"
    assert found == {
        "ETag": '"abc-2"',
        "AcceptRanges": "bytes",
        "ContentType": "text/plain",
        "CacheControl": "no-cache",
        "ContentLanguage": "de",
        "Metadata": {"owner": "ann"},
        "StorageClass": "REDUCED_REDUNDANCY",
        "TagCount": 3,
        "ChecksumCRC64NVME": "AAAA",
        "ChecksumType": "FULL_OBJECT",
    }
    found = as_botocore_reads("GetObject", object_headers(described, Slice(0, 5), by_part=True), 206)
    assert (found["PartsCount"], found["ContentRange"]) == (2, "bytes 0-4/10")


def test_a_plain_object_says_little() -> None:
    found = as_botocore_reads("GetObject", object_headers(Described("abc", 0, 0, NOTHING)))
    assert found.pop("LastModified")
    assert found == {
        "ETag": '"abc"',
        "AcceptRanges": "bytes",
        "ContentType": "binary/octet-stream",
        "Metadata": {},
    }


def test_part_1_of_an_empty_object_is_no_range() -> None:
    assert not is_partial(Slice(0, 0))
    assert not is_partial(None)
    assert is_partial(Slice(0, 1))
    assert b"Content-Range" not in dict(object_headers(Described("abc", 0, 0, NOTHING), Slice(0, 0)))


def test_a_304_has_what_caches_need() -> None:
    stored = StoredHeaders({b"cache-control": b"max-age=1", b"content-type": b"a/b"}, {b"x": b"y"})
    assert not_modified_headers(Described("abc", 0, 5, stored)) == [
        (b"ETag", b'"abc"'),
        (b"Last-Modified", b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (b"Cache-Control", b"max-age=1"),
    ]


def test_a_signed_request_replaces_six_headers() -> None:
    query = {
        "response-cache-control": "no-cache",
        "response-content-disposition": 'attachment; filename="é"',
        "response-content-encoding": "aaa",
        "response-content-language": "esperanto",
        "response-content-type": "foo/bar",
        "response-expires": "123",
        "response-x-amz-meta-a": "no",
    }
    overrides = read_overrides(query, is_signed=True)
    stored = StoredHeaders({b"content-type": b"a/b", b"cache-control": b"x"}, {})
    headers = dict(object_headers(Described("x", 0, 0, stored), overrides=overrides))
    assert headers[b"Content-Type"] == b"foo/bar"
    assert headers[b"Cache-Control"] == b"no-cache"
    assert headers[b"Content-Disposition"] == 'attachment; filename="é"'.encode()
    assert headers[b"Content-Encoding"] == b"aaa"
    assert headers[b"Content-Language"] == b"esperanto"
    assert headers[b"Expires"] == b"123"
    assert len(headers) == 9


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\0", "\x7f"])
def test_no_header_is_smuggled_in(value: str) -> None:
    with pytest.raises(Failure, match="InvalidArgument"):
        read_overrides({"response-content-type": value}, is_signed=True)


def test_nobody_replaces_headers_anonymously() -> None:
    with pytest.raises(Failure, match="InvalidRequest"):
        read_overrides({"response-content-type": "text/html"}, is_signed=False)
    assert read_overrides({"response-content-type": ""}, is_signed=False) == {}
    assert read_overrides({}, is_signed=False) == {}


def test_checksums_come_when_they_are_asked_for() -> None:
    assert wants_checksum({b"x-amz-checksum-mode": b"ENABLED"})
    assert wants_checksum({b"x-amz-checksum-mode": b"enabled"})
    assert not wants_checksum({b"x-amz-checksum-mode": b"x"})
    assert not wants_checksum({})


@pytest.mark.parametrize("time_s", [0, 1, 784_111_777, 1_790_000_000, 951_782_400, 4_102_444_799])
def test_dates(time_s: int) -> None:
    assert http_date(time_s).decode() == email.utils.formatdate(time_s, usegmt=True)
