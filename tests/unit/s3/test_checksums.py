"""Checksums: values of the standards, what stands in headers, and what multipart uploads make of parts."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode

import pytest

from warehouse.s3 import checksums
from warehouse.s3.checksums import ALGORITHMS, CRC32, CRC32C, CRC64NVME, SHA1, SHA256, Algorithm, ChecksumType
from warehouse.s3.failures import Failure

FULL, COMPOSITE = ChecksumType.FULL_OBJECT, ChecksumType.COMPOSITE


# Check values of the catalogue of parametrised CRC algorithms (Greg Cook) and of FIPS 180.
@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        (CRC32, "cbf43926"),
        (CRC32C, "e3069283"),
        (CRC64NVME, "ae8b14860a799888"),
        (SHA1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (SHA256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ],
)
def test_the_check_values_of_the_standards(algorithm: Algorithm, digest: str) -> None:
    assert algorithm.of(b"123456789").hex() == digest
    assert algorithm.size == len(digest) // 2


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_pieces_of_any_kind_add_up(algorithm: Algorithm) -> None:
    digest = algorithm.new()
    for piece in (b"", b"12345", bytearray(b"67"), memoryview(b"x89")[1:], memoryview(b"")):
        digest.update(piece)
    assert digest.digest() == algorithm.of(b"123456789")
    assert len(algorithm.new().digest()) == algorithm.size, "also of nothing at all"


def test_the_empty_object_has_the_checksums_that_clients_compute() -> None:
    assert CRC32.of(b"") == zlib.crc32(b"").to_bytes(4, "big")
    assert checksums.text_of(CRC64NVME.of(b"")) == "AAAAAAAAAAA="


@pytest.mark.parametrize("algorithm", [CRC32, CRC32C, CRC64NVME], ids=str)
def test_the_crcs_of_parts_give_that_of_the_whole(algorithm: Algorithm) -> None:
    parts = [b"first", b"", b"second" * 1000, b"x"]
    combined = algorithm.combined((algorithm.of(part), len(part)) for part in parts)
    assert combined == algorithm.of(b"".join(parts))
    assert algorithm.combined([]) == algorithm.of(b"")


@pytest.mark.parametrize("algorithm", [SHA1, SHA256], ids=str)
def test_no_hash_of_a_whole_follows_from_its_parts(algorithm: Algorithm) -> None:
    with pytest.raises(TypeError):
        algorithm.combined([(algorithm.of(b"x"), 1)])


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crc32", "CRC32C", "Crc64Nvme", "SHA1", "sha256"])
def test_a_name_is_taken_in_any_case(name: str) -> None:
    algorithm = checksums.algorithm_named(name)
    assert algorithm.name == name.upper()
    assert checksums.algorithm_of_header(f"x-amz-checksum-{name.lower()}".encode()) is algorithm


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SHA512", "NotImplemented"),
        ("md5", "NotImplemented"),
        ("XXHASH64", "NotImplemented"),
        ("xxhash3", "NotImplemented"),
        ("XXHASH128", "NotImplemented"),
        ("crc16", "InvalidRequest"),
        ("", "InvalidRequest"),
        ("CRC32,SHA1", "InvalidRequest"),
        ("ſha1", "InvalidRequest"),
    ],
)
def test_a_name_that_is_not_served_is_refused_by_name(name: str, code: str) -> None:
    with pytest.raises(Failure) as refused:
        checksums.algorithm_named(name)
    assert refused.value.code == code
    with pytest.raises(Failure) as refused:
        checksums.algorithm_of_header(b"x-amz-checksum-" + name.lower().encode())
    assert refused.value.code == code


# --- values ---------------------------------------------------------------------------------------


def test_a_checksum_of_a_header_is_read() -> None:
    text = b64encode(SHA256.of(b"abc"))
    sent = checksums.sent_checksum(
        {b"host": b"x", b"x-amz-checksum-sha256": text, b"x-amz-checksum-mode": b"ENABLED"}
    )
    assert sent == (SHA256, hashlib.sha256(b"abc").digest())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-amz-checksum-mode": b"ENABLED"},
        {b"x-amz-checksum-algorithm": b"CRC32", b"x-amz-checksum-type": b"COMPOSITE"},
    ],
)
def test_headers_that_hold_no_checksum(headers: dict[bytes, bytes]) -> None:
    assert checksums.sent_checksum(headers) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"bad",
        b"sailorjerry",
        b"AAAA",  # three bytes
        b"AAAAAAA=",  # five
        b"AAAAA A==",
        b"AAAAAA",  # no padding
        b"AAAAAA==AAAAAA==",
        b"AAAAAA==\n",
        b"\xc3\xa9AAAA==",
        b"AAAAAA==, AAAAAA==",
        b"AAAAAA==-2",
    ],
)
def test_a_value_that_is_no_digest_is_a_bad_digest(text: bytes) -> None:
    with pytest.raises(Failure) as refused:
        checksums.sent_checksum({b"x-amz-checksum-crc32": text})
    assert refused.value.code == "BadDigest"


def test_several_checksums_are_refused() -> None:
    with pytest.raises(Failure) as refused:
        checksums.sent_checksum({b"x-amz-checksum-crc32": b"AAAAAA==", b"x-amz-checksum-crc32c": b"AAAAAA=="})
    assert refused.value.code == "InvalidRequest"


def test_a_checksum_that_nobody_would_compare_is_refused() -> None:
    with pytest.raises(Failure) as refused:
        checksums.sent_checksum({b"x-amz-checksum-xxhash64": b"AAAAAAAAAAA="})
    assert (refused.value.code, refused.value.status) == ("NotImplemented", 501)


# --- multipart uploads ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (None, None, None),
        (b"CRC32", None, (CRC32, COMPOSITE)),
        (b"crc32c", b"full_object", (CRC32C, FULL)),
        (b"CRC32", b"COMPOSITE", (CRC32, COMPOSITE)),
        (b"CRC64NVME", None, (CRC64NVME, FULL)),
        (b"CRC64NVME", b"FULL_OBJECT", (CRC64NVME, FULL)),
        (b"SHA1", None, (SHA1, COMPOSITE)),
        (b"SHA256", b"COMPOSITE", (SHA256, COMPOSITE)),
        (b"CRC64NVME", b"COMPOSITE", "InvalidRequest"),
        (b"SHA1", b"FULL_OBJECT", "InvalidRequest"),
        (b"SHA256", b"FULL_OBJECT", "InvalidRequest"),
        (b"CRC32", b"PARTIAL", "InvalidRequest"),
        (None, b"COMPOSITE", "InvalidRequest"),
        (b"SHA512", None, "NotImplemented"),
        (b"CRC", None, "InvalidRequest"),
    ],
)
def test_what_goes_with_what(name: bytes | None, kind: bytes | None, expected: object) -> None:
    pairs = ((b"x-amz-checksum-algorithm", name), (b"x-amz-checksum-type", kind))
    headers = {header: value for header, value in pairs if value is not None}
    if isinstance(expected, str):
        with pytest.raises(Failure) as refused:
            checksums.multipart_checksum(headers)
        assert refused.value.code == expected
    else:
        assert checksums.multipart_checksum(headers) == expected


def test_a_part_gets_the_checksum_of_its_upload() -> None:
    upload = checksums.MultipartChecksum(SHA256, COMPOSITE)
    assert checksums.part_algorithm(upload, None) is SHA256
    assert checksums.part_algorithm(upload, SHA256) is SHA256
    assert checksums.part_algorithm(None, CRC32) is CRC32
    assert checksums.part_algorithm(None, None) is None
    with pytest.raises(Failure) as refused:
        checksums.part_algorithm(upload, CRC32)
    assert refused.value.code == "InvalidRequest"


# Values that Amazon S3 and Ceph give for a part of 1,024 "A" (ceph/s3-tests, test_multipart_checksum_sha256).
ONE_PART = checksums.MultipartChecksum(SHA256, COMPOSITE)
ONE_PART_WHOLE = "Ok6Cs5b96ux6+MWQkJO7UBT5sKPBeXBLwvj/hK89smg=-1"


def test_a_composite_checksum_is_that_of_the_digests() -> None:
    assert checksums.whole_checksum(ONE_PART, [(SHA256.of(b"A" * 1024), 1024)]) == ONE_PART_WHOLE


@pytest.mark.parametrize("algorithm", [CRC32, CRC32C, CRC64NVME], ids=str)
def test_a_full_object_checksum_is_that_of_the_bytes(algorithm: Algorithm) -> None:
    parts = [b"a" * 5000, b"b" * 7]
    kind = checksums.MultipartChecksum(algorithm, FULL)
    whole = checksums.whole_checksum(kind, [(algorithm.of(part), len(part)) for part in parts])
    assert whole == b64encode(algorithm.of(b"".join(parts))).decode()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({b"x-amz-checksum-sha256": ONE_PART_WHOLE.encode()}, None),
        ({b"x-amz-checksum-sha256": ONE_PART_WHOLE[:-2].encode()}, None),
        ({b"x-amz-checksum-type": b"COMPOSITE"}, None),
        ({b"x-amz-checksum-sha256": b"bad"}, "BadDigest"),
        ({b"x-amz-checksum-sha256": ONE_PART_WHOLE[:-1].encode() + b"2"}, "BadDigest"),
        ({b"x-amz-checksum-sha256": b"\xff"}, "BadDigest"),
        ({b"x-amz-checksum-type": b"FULL_OBJECT"}, "BadDigest"),
        ({b"x-amz-checksum-type": b"WHOLE"}, "InvalidRequest"),
        ({b"x-amz-checksum-crc32": b"AAAAAA=="}, "InvalidRequest"),
        ({b"x-amz-checksum-sha512": b"AAAAAA=="}, "NotImplemented"),
    ],
)
def test_what_complete_says_of_the_whole_is_compared(headers: dict[bytes, bytes], code: str | None) -> None:
    if code is None:
        checksums.check_whole(ONE_PART, headers, ONE_PART_WHOLE)
        return
    with pytest.raises(Failure) as refused:
        checksums.check_whole(ONE_PART, headers, ONE_PART_WHOLE)
    assert refused.value.code == code


def test_an_upload_without_a_checksum_cannot_be_compared() -> None:
    checksums.check_whole(None, {}, None)
    with pytest.raises(Failure) as refused:
        checksums.check_whole(None, {b"x-amz-checksum-crc32": b"AAAAAA=="}, None)
    assert refused.value.code == "InvalidRequest"
