"""Payload: how bodies come, and headers that contradict each other."""

from __future__ import annotations

import hashlib

import pytest

from s3_bodies import code_of
from warehouse.s3.checksums import CRC32, CRC64NVME
from warehouse.s3.failures import Failure
from warehouse.s3.payload import Framing, Payload, payload_of, stored_encoding

SHA256 = hashlib.sha256(b"hello")
HEX = SHA256.hexdigest().encode()
SIGNED = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def headers_of(
    sha256: bytes | None = None,
    length: bytes | None = None,
    encoding: bytes | None = None,
    trailer: bytes | None = None,
) -> dict[bytes, bytes]:
    named = {
        b"x-amz-content-sha256": sha256,
        b"x-amz-decoded-content-length": length,
        b"content-encoding": encoding,
        b"x-amz-trailer": trailer,
    }
    return {name: value for name, value in named.items() if value is not None}


CHUNKS, SIGNED_CHUNKS, NONE = Framing.CHUNKS, Framing.SIGNED_CHUNKS, Framing.NONE


@pytest.mark.parametrize(
    ("headers", "content_length", "expected"),
    [
        (headers_of(), 5, Payload(NONE, None, 5)),
        (headers_of(), None, Payload(NONE)),
        (headers_of(b"UNSIGNED-PAYLOAD"), 5, Payload(NONE, None, 5)),
        (headers_of(HEX), 5, Payload(NONE, SHA256.digest(), 5)),
        (headers_of(HEX.upper()), 5, Payload(NONE, SHA256.digest(), 5)),
        (headers_of(encoding=b"gzip"), 5, Payload(NONE, None, 5)),
        # As botocore sends what it was told to be aws-chunked, and is not.
        (headers_of(HEX, encoding=b"gzip, aws-chunked"), 5, Payload(NONE, SHA256.digest(), 5)),
        (headers_of(HEX, b"5"), 5, Payload(NONE, SHA256.digest(), 5)),
        (headers_of(SIGNED, b"5", b"aws-chunked"), 200, Payload(SIGNED_CHUNKS, None, 5)),
        (headers_of(SIGNED, b"5"), 200, Payload(SIGNED_CHUNKS, None, 5)),
        (headers_of(SIGNED), None, Payload(SIGNED_CHUNKS)),
        (headers_of(SIGNED, b"9" * 18), None, Payload(SIGNED_CHUNKS, None, 10**18 - 1)),
        (
            headers_of(SIGNED_TRAILER, b"5", b"aws-chunked", b"x-amz-checksum-crc32"),
            300,
            Payload(SIGNED_CHUNKS, None, 5, True, CRC32),
        ),
        (
            headers_of(UNSIGNED_TRAILER, b"5", b"gzip,aws-chunked", b"X-Amz-Checksum-CRC64NVME"),
            None,
            Payload(CHUNKS, None, 5, True, CRC64NVME),
        ),
        (headers_of(UNSIGNED_TRAILER, b"5"), 15, Payload(CHUNKS, None, 5, True)),
        (headers_of(UNSIGNED_TRAILER), None, Payload(CHUNKS, None, None, True)),
        # A proxy took one of the three away.
        (headers_of(length=b"5"), 15, Payload(CHUNKS, None, 5)),
        (headers_of(b"UNSIGNED-PAYLOAD", b"0"), 5, Payload(CHUNKS, None, 0)),
        (headers_of(encoding=b"AWS-Chunked"), None, Payload(CHUNKS)),
        (headers_of(b"UNSIGNED-PAYLOAD", encoding=b"gzip , aws-chunked"), 15, Payload(CHUNKS)),
    ],
)
def test_how_a_body_comes(headers: dict[bytes, bytes], content_length: int | None, expected: Payload) -> None:
    assert payload_of(headers, content_length) == expected


BAD_ARGUMENT = ("InvalidArgument", 400, True)
BAD_REQUEST = ("InvalidRequest", 400, True)


@pytest.mark.parametrize(
    ("headers", "content_length", "code"),
    [
        (headers_of(b""), 5, BAD_ARGUMENT),
        (headers_of(b"unsigned-payload"), 5, BAD_ARGUMENT),
        (headers_of(HEX[:-1]), 5, BAD_ARGUMENT),
        (headers_of(HEX[:-1] + b"g"), 5, BAD_ARGUMENT),
        (headers_of(HEX[:-1] + b"\xff", b"5"), 5, BAD_ARGUMENT),
        (headers_of(HEX + b", " + HEX), 5, BAD_ARGUMENT),
        (headers_of(SIGNED + b", " + SIGNED, b"5"), 200, ("NotImplemented", 501, True)),
        (headers_of(b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", b"5"), 200, ("NotImplemented", 501, True)),
        (headers_of(SIGNED, b"five"), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, b"-5"), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, b"+5"), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, b"5_0"), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, b""), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, b"5, 5"), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, b"9" * 19), 200, BAD_ARGUMENT),
        (headers_of(SIGNED, "٥".encode()), 200, BAD_ARGUMENT),
        # The object would be as long as its framing, or longer.
        (headers_of(SIGNED, b"200"), 200, BAD_REQUEST),
        (headers_of(UNSIGNED_TRAILER, b"5"), 0, BAD_REQUEST),
        (headers_of(length=b"5"), 5, BAD_REQUEST),
        # The digest is that of the body as it comes, so there is no framing to take off.
        (headers_of(HEX, b"5"), 15, BAD_REQUEST),
        (headers_of(HEX, b"5"), None, BAD_REQUEST),
        # Trailers where none can come.
        (headers_of(HEX, trailer=b"x-amz-checksum-crc32"), 5, BAD_REQUEST),
        (headers_of(trailer=b"x-amz-checksum-crc32"), 5, BAD_REQUEST),
        (headers_of(SIGNED, b"5", trailer=b"x-amz-checksum-crc32"), 200, BAD_REQUEST),
        (headers_of(b"UNSIGNED-PAYLOAD", b"5", trailer=b"x-amz-checksum-crc32"), 200, BAD_REQUEST),
        # Trailers that nobody knows.
        (headers_of(UNSIGNED_TRAILER, b"5", trailer=b"x-amz-meta-a"), 200, BAD_REQUEST),
        (headers_of(UNSIGNED_TRAILER, b"5", trailer=b""), 200, BAD_REQUEST),
        (
            headers_of(UNSIGNED_TRAILER, b"5", trailer=b"x-amz-checksum-crc32, x-amz-checksum-sha1"),
            200,
            BAD_REQUEST,
        ),
        (
            headers_of(UNSIGNED_TRAILER, b"5", trailer=b"x-amz-checksum-xxhash3"),
            200,
            ("NotImplemented", 501, False),
        ),
        (headers_of(UNSIGNED_TRAILER, b"5", trailer=b"x-amz-checksum-"), 200, ("InvalidRequest", 400, False)),
    ],
)
def test_headers_that_cannot_be_kept_are_refused(
    headers: dict[bytes, bytes], content_length: int | None, code: tuple[str, int, bool]
) -> None:
    with pytest.raises(Failure) as refused:
        payload_of(headers, content_length)
    assert code_of(refused.value) == code


def test_what_was_signed_about_the_body_counts_without_its_header() -> None:
    assert payload_of({}, 5, HEX) == Payload(NONE, SHA256.digest(), 5)
    assert payload_of(headers_of(HEX), 5, HEX) == Payload(NONE, SHA256.digest(), 5)
    assert payload_of(headers_of(HEX), 5, b"UNSIGNED-PAYLOAD") == Payload(NONE, SHA256.digest(), 5)
    for header in (b"UNSIGNED-PAYLOAD", b"0" * 64, UNSIGNED_TRAILER):
        with pytest.raises(Failure) as refused:
            payload_of(headers_of(header), 5, HEX)
        assert code_of(refused.value) == BAD_REQUEST


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (b"gzip", b"gzip"),
        (b"deflate, gzip", b"deflate, gzip"),
        (b"gzip, aws-chunked", b"gzip"),
        (b"aws-chunked, gzip", b"gzip"),
        (b"gzip,AWS-Chunked,br", b"gzip, br"),
        (b"aws-chunked", None),
        (b"aws-chunked, aws-chunked", None),
        (b" aws-chunked ,,", None),
        (b"x-aws-chunked", b"x-aws-chunked"),
        (b"", b""),
    ],
)
def test_aws_chunked_is_never_stored(value: bytes, stored: bytes | None) -> None:
    assert stored_encoding(value) == stored
