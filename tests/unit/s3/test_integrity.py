"""Integrity: every promise about a body is kept, or the request fails."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from botocore_client import sent
from s3_bodies import code_of
from warehouse.s3.checksums import ALGORITHMS, CRC32, CRC64NVME, SHA256, Algorithm
from warehouse.s3.failures import Failure
from warehouse.s3.integrity import Digests, Integrity, Promises, promises_of
from warehouse.s3.payload import Framing, Payload, payload_of

BODY = b"The quick brown fox jumps over the lazy dog"
MD5 = hashlib.md5(BODY)
GOOD_MD5 = b64encode(MD5.digest())
HEX = hashlib.sha256(BODY).hexdigest().encode()


def text_of(algorithm: Algorithm, body: bytes = BODY) -> bytes:
    return b64encode(algorithm.of(body))


def received(
    headers: dict[bytes, bytes],
    body: bytes = BODY,
    trailers: dict[bytes, bytes] | None = None,
    default: Algorithm | None = None,
) -> Digests:
    promises = promises_of(headers, payload_of(headers, None if trailers is not None else len(body)))
    integrity = Integrity(promises, default)
    for start in range(0, len(body), 7):
        integrity.update(memoryview(body)[start : start + 7])
    return integrity.finish(trailers)


def refused(
    headers: dict[bytes, bytes], body: bytes = BODY, trailers: dict[bytes, bytes] | None = None
) -> tuple[str, int, bool]:
    with pytest.raises(Failure) as failure:
        received(headers, body, trailers)
    return code_of(failure.value)


def test_a_body_without_promises_gets_its_md5() -> None:
    assert received({}) == Digests(len(BODY), MD5.digest())
    assert received({}, b"") == Digests(0, hashlib.md5(b"").digest())


def test_a_body_without_promises_gets_the_checksum_that_the_server_wants() -> None:
    assert received({}, default=CRC64NVME) == Digests(len(BODY), MD5.digest(), CRC64NVME, CRC64NVME.of(BODY))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_a_checksum_is_kept_in_header_and_trailer(algorithm: Algorithm) -> None:
    expected = Digests(len(BODY), MD5.digest(), algorithm, algorithm.of(BODY))
    good, bad = text_of(algorithm), text_of(algorithm, BODY + b"x")
    named = {b"x-amz-sdk-checksum-algorithm": algorithm.name.encode()}
    assert received({algorithm.header: good, **named}, default=CRC32) == expected
    assert refused({algorithm.header: bad, **named}) == ("BadDigest", 400, False)

    streamed = {
        b"x-amz-content-sha256": b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        b"x-amz-trailer": algorithm.header,
        **named,
    }
    assert received(streamed, trailers={algorithm.header: good}) == expected
    assert refused(streamed, trailers={algorithm.header: bad}) == ("BadDigest", 400, False)
    assert refused(streamed, trailers={algorithm.header: b"bad"}) == ("BadDigest", 400, False)
    assert refused(streamed, trailers={}) == ("MalformedTrailerError", 400, False)


def test_one_sha256_keeps_two_promises() -> None:
    headers = {b"x-amz-content-sha256": HEX, SHA256.header: text_of(SHA256), b"content-md5": GOOD_MD5}
    assert received(headers).checksum == hashlib.sha256(BODY).digest()
    assert refused(headers, BODY + b"x")[0] == "BadDigest"


def test_the_digests_are_told_so_that_people_can_compare() -> None:
    wrong = hashlib.md5(b"other")
    with pytest.raises(Failure) as failure:
        received({b"content-md5": b64encode(wrong.digest())})
    assert failure.value.fields == {
        "ExpectedDigest": b64encode(wrong.digest()).decode(),
        "CalculatedDigest": GOOD_MD5.decode(),
    }
    with pytest.raises(Failure) as failure:
        received({b"x-amz-content-sha256": b"0" * 64})
    assert failure.value.fields == {
        "ClientComputedContentSHA256": "0" * 64,
        "S3ComputedContentSHA256": HEX.decode(),
    }


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        # The suite of Ceph sends these four: empty, too short, of another body, and text.
        ({b"content-md5": b""}, "InvalidDigest"),
        ({b"content-md5": b"YWJyYWNhZGFicmE="}, "InvalidDigest"),
        ({b"content-md5": b"rL0Y20xC+Fzt72VPzMSk2A=="}, "BadDigest"),
        ({b"content-md5": b"AWS HAHAHA"}, "InvalidDigest"),
        ({b"content-md5": GOOD_MD5 + b", " + GOOD_MD5}, "InvalidDigest"),
        ({b"content-md5": MD5.hexdigest().encode()}, "InvalidDigest"),
        ({b"x-amz-content-sha256": b"0" * 64}, "XAmzContentSHA256Mismatch"),
        ({CRC32.header: b"bad"}, "BadDigest"),
        # Two promises, of which one is wrong: whichever.
        ({b"content-md5": GOOD_MD5, CRC32.header: text_of(CRC32, b"x")}, "BadDigest"),
        ({b"content-md5": b64encode(hashlib.md5(b"x").digest()), CRC32.header: text_of(CRC32)}, "BadDigest"),
        ({b"x-amz-content-sha256": HEX, CRC32.header: text_of(CRC32, b"x")}, "BadDigest"),
        (
            {b"x-amz-content-sha256": b"0" * 64, CRC32.header: text_of(CRC32)},
            "XAmzContentSHA256Mismatch",
        ),
        # Two promises that disagree before a byte has come.
        ({CRC32.header: text_of(CRC32), SHA256.header: text_of(SHA256)}, "InvalidRequest"),
        ({CRC32.header: text_of(CRC32), b"x-amz-sdk-checksum-algorithm": b"SHA256"}, "BadDigest"),
        ({b"x-amz-sdk-checksum-algorithm": b"SHA256"}, "InvalidRequest"),
        ({CRC32.header: text_of(CRC32), b"x-amz-sdk-checksum-algorithm": b"CRC"}, "InvalidRequest"),
        ({CRC32.header: text_of(CRC32), b"x-amz-sdk-checksum-algorithm": b"MD5"}, "NotImplemented"),
        ({b"x-amz-checksum-sha512": b"x"}, "NotImplemented"),
        (
            {
                b"x-amz-content-sha256": b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                b"x-amz-decoded-content-length": b"1",
                b"x-amz-trailer": CRC32.header,
                CRC32.header: text_of(CRC32),
            },
            "InvalidRequest",
        ),
        (
            {
                b"x-amz-content-sha256": b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                b"x-amz-decoded-content-length": b"1",
                b"x-amz-trailer": CRC32.header,
                b"x-amz-sdk-checksum-algorithm": b"CRC32C",
            },
            "BadDigest",
        ),
    ],
)
def test_a_promise_that_is_not_kept_is_refused(headers: dict[bytes, bytes], code: str) -> None:
    assert refused(headers) == (code, 501 if code == "NotImplemented" else 400, False)


def test_the_checksum_of_a_completed_upload_is_not_that_of_the_body() -> None:
    request = sent(
        "complete_multipart_upload",
        tls=False,
        Bucket="photos",
        Key="a",
        UploadId="u",
        ChecksumCRC32="AAAAAA==",
        MultipartUpload={"Parts": [{"ETag": '"e"', "PartNumber": 1, "ChecksumCRC32": "AAAAAA=="}]},
    )
    payload = payload_of(request.headers, len(request.body))
    promises = promises_of(request.headers, payload, is_object=False)
    assert promises == Promises(sha256=hashlib.sha256(request.body).digest())
    assert promises_of(request.headers, payload).algorithm is CRC32


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-md5": GOOD_MD5},
        {CRC32.header: text_of(CRC32)},
        {b"x-amz-content-sha256": HEX},
        {b"x-amz-content-sha256": b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"x-amz-trailer": CRC32.header},
    ],
)
def test_any_one_promise_is_enough_where_one_is_asked_for(headers: dict[bytes, bytes]) -> None:
    promises_of(headers, payload_of(headers, None)).require_one()


def test_no_promise_is_not_enough_where_one_is_asked_for() -> None:
    with pytest.raises(Failure) as failure:
        promises_of({}, Payload(Framing.NONE)).require_one()
    assert failure.value.code == "InvalidRequest"
    assert Promises().algorithm is None
