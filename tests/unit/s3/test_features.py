"""Features: each header of S3 is read by somebody, changes nothing here, or is refused; none is overlooked."""

from __future__ import annotations

import pytest

from botocore_kit import OF_BROWSERS, service_model
from warehouse.s3.failures import Failure
from warehouse.s3.features import IGNORED, REFUSED, REFUSED_PREFIXES, check_headers
from warehouse.s3.operations import OPERATIONS, Served

# Headers that somebody in this room reads, or the gateway for it.
READ = {
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-range",
    "x-amz-expected-bucket-owner",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-max-parts",
    "x-amz-meta-",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-object-attributes",
    "x-amz-part-number-marker",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-source-expected-bucket-owner",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-tagging-directive",
    "x-amz-website-redirect-location",
}


def headers_of_the_model() -> set[str]:
    """Headers that a client may send with an operation that is served."""
    found = set()
    for operation in OPERATIONS:
        if operation.name not in OF_BROWSERS and isinstance(operation.standing, Served):
            shape = service_model().operation_model(operation.name).input_shape
            for member in shape.members.values() if shape else ():
                if member.serialization.get("location") in ("header", "headers"):
                    found.add(member.serialization["name"].lower())
    return found


def is_refused(header: str) -> bool:
    name = header.encode()
    return name in REFUSED or name.startswith(tuple(REFUSED_PREFIXES))


def test_no_header_of_the_model_is_overlooked() -> None:
    headers = headers_of_the_model()
    assert len(headers) > 60
    ignored = {name.decode() for name in IGNORED}
    assert not READ & ignored
    for header in sorted(headers):
        ways = [header in READ, header in ignored, is_refused(header)]
        assert ways.count(True) == 1, header
    assert headers >= READ, "somebody reads a header that S3 does not have"


@pytest.mark.parametrize("header", sorted(header for header in headers_of_the_model() if is_refused(header)))
def test_a_header_that_nobody_obeys_is_refused_by_name(header: str) -> None:
    with pytest.raises(Failure) as caught:
        check_headers({b"host": b"h", header.encode(): b"public-read"})
    assert (caught.value.code, caught.value.status) == ("NotImplemented", 501)
    assert caught.value.fields["Header"] == header
    assert caught.value.fields["Feature"] in caught.value.message


@pytest.mark.parametrize(
    "header",
    [
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-something-new",
        b"x-amz-copy-source-server-side-encryption-customer-key",
        b"x-amz-object-lock-something-new",
        b"x-amz-grant-something-new",
    ],
)
def test_encryption_locks_and_grants_are_refused_whatever_they_say(header: bytes) -> None:
    for value in (b"", b"AES256", b"off"):
        with pytest.raises(Failure) as caught:
            check_headers({header: value})
        assert caught.value.status == 501


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"x-amz-acl", b"private"),
        (b"x-amz-acl", b"bucket-owner-full-control"),
        (b"x-amz-acl", b""),
        (b"x-amz-bucket-object-lock-enabled", b"false"),
        (b"x-amz-object-ownership", b"BucketOwnerEnforced"),
        (b"x-amz-bucket-namespace", b"global"),
        (b"x-amz-meta-x-amz-server-side-encryption", b"AES256"),
        (b"x-amz-meta-x-amz-grant-read", b"me"),
        (b"x-amz-storage-class", b"STANDARD"),
        (b"x-amzn-trace-id", b"Root=1"),
        *((header, b"1") for header in sorted(IGNORED)),
    ],
)
def test_what_asks_for_nothing_is_taken(header: bytes, value: bytes) -> None:
    check_headers({b"host": b"h", header: value})


@pytest.mark.parametrize("value", [b"public-ready", b"Private", b"\xff"])
def test_an_access_control_list_that_nobody_knows_is_a_wrong_argument(value: bytes) -> None:
    with pytest.raises(Failure) as caught:
        check_headers({b"x-amz-acl": value})
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)
    assert caught.value.fields["ArgumentName"] == "x-amz-acl"
