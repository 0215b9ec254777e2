"""Integrity headers: each is checked or refused, and none is passed over."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import BadRequest, ChecksumMismatch
from warehouse.transport.http.integrity import read_checks, read_crc32c

BODY = b"hello, integrity"


def b64(digest: bytes) -> bytes:
    return b64encode(digest)


MD5, SHA1 = hashlib.md5(BODY).digest(), hashlib.sha1(BODY).digest()
SHA256, SHA512 = hashlib.sha256(BODY).digest(), hashlib.sha512(BODY).digest()
CRC32, CRC32C = zlib.crc32(BODY).to_bytes(4, "big"), crc32c(BODY).to_bytes(4, "big")

RIGHT = [
    (b"content-md5", b64(MD5)),
    (b"content-digest", b"sha-256=:%b:" % b64(SHA256)),
    (b"content-digest", b"sha-512=:%b:, sha-256=:%b:" % (b64(SHA512), b64(SHA256))),
    (b"content-digest", b"sha-256=:%b:;note=1, unixsum=:AAAA:" % b64(SHA256)),
    (b"repr-digest", b"md5=:%b:" % b64(MD5)),
    (b"repr-digest", b"crc32c=:%b:" % b64(CRC32C)),
    (b"digest", b"SHA-256=%b,MD5=%b" % (b64(SHA256), b64(MD5))),
    (b"digest", b"sha=%b" % b64(SHA1)),
    (b"x-amz-checksum-crc32", b64(CRC32)),
    (b"x-amz-checksum-crc32c", b64(CRC32C)),
    (b"x-amz-checksum-sha1", b64(SHA1)),
    (b"x-amz-checksum-sha256", b64(SHA256)),
    (b"x-amz-content-sha256", SHA256.hex().encode()),
    (b"x-amz-content-sha256", SHA256.hex().upper().encode()),
    (b"x-goog-hash", b"crc32c=%b,md5=%b" % (b64(CRC32C), b64(MD5))),
]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_is_promised_is_checked(name, value):
    checks = read_checks({name: value, b"host": b"x"})
    assert checks is not None
    for start in range(0, len(BODY), 5):
        checks.update(BODY[start : start + 5])
    checks.finish()
    other = read_checks({name: value})
    assert other is not None
    other.update(BODY + b"!")
    with pytest.raises(ChecksumMismatch):
        other.finish()


def test_one_wrong_promise_among_right_ones_is_enough():
    checks = read_checks({b"content-md5": b64(MD5), b"x-amz-checksum-crc32": b64(CRC32C)})
    assert checks is not None
    checks.update(BODY)
    with pytest.raises(ChecksumMismatch):
        checks.finish()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"content-md5", b""),
        (b"content-md5", b"not base64!"),
        (b"content-md5", MD5.hex().encode()),
        (b"content-md5", b64(SHA256)),
        (b"content-digest", b""),
        (b"content-digest", b"sha-256=" + b64(SHA256)),
        (b"content-digest", b"sha-256=:%b:" % b64(MD5)),
        (b"content-digest", b"SHA-256=:%b:" % b64(SHA256)),
        (b"content-digest", b"unixsum=:AAAA:"),
        (b"content-digest", b"sha-256=:%b:, " % b64(SHA256)),
        (b"digest", b"sha-256"),
        (b"digest", b"unixsum=30637"),
        (b"x-amz-checksum-crc64nvme", b"AAAAAAAAAAA="),
        (b"x-amz-checksum-sha256", b"AAAA"),
        (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        (b"x-amz-content-sha256", b"abc"),
        (b"x-amz-checksum-type", b"COMPOSITE"),
        (b"x-goog-hash", b"sha3=AAAA"),
        (b"oc-checksum", b"SHA1:abc"),
        (b"x-oss-hash-crc64ecma", b"1"),
        (b"x-hash", b"1"),
        (b"md5", b"AAAA"),
        (b"x-file-sha256", b"AAAA"),
        (b"x-crc32", b"AAAA"),
        (b"x-bz-content-sha1", b"abc"),
        (b"x-checksum-sha256", b"abc"),
        (b"x-ms-content-crc64", b"AAAAAAAAAAA="),
        (b"content-sha256", b"abc"),
    ],
)
def test_a_promise_that_cannot_be_read_or_checked_is_refused(name, value):
    with pytest.raises(BadRequest) as caught:
        read_checks({name: value})
    assert name.decode() in caught.value.message


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"host": b"x", b"content-type": b"text/plain"},
        {b"x-warehouse-crc32c": b"00000000"},
        {b"want-content-digest": b"sha-256=1", b"want-digest": b"sha-256"},
        {b"x-amz-content-sha256": b"UNSIGNED-PAYLOAD"},
        {b"x-amz-sdk-checksum-algorithm": b"CRC32"},
    ],
)
def test_what_promises_nothing_costs_nothing(headers):
    assert read_checks(headers) is None


def test_the_stores_own_checksum_is_eight_digits():
    assert read_crc32c({}) is None
    assert read_crc32c({b"x-warehouse-crc32c": b"00fFa0c1"}) == 0x00FFA0C1
    for value in (b"", b"0", b"hello", b"000000000", b"0x000000", b"+0000000", b"0000_000", b" 0000000"):
        with pytest.raises(BadRequest):
            read_crc32c({b"x-warehouse-crc32c": value})


@given(st.sampled_from([name for name, _ in RIGHT]), st.binary(max_size=60))
def test_whatever_comes_is_checked_or_refused(name, value):
    try:
        checks = read_checks({name: value})
    except BadRequest:
        return
    assert checks is not None or value.strip().upper() == b"UNSIGNED-PAYLOAD"
