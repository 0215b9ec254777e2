"""Bodies of S3: what botocore writes is read, however it is cut, and every changed bit is refused."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

import pytest
from botocore import httpchecksum
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from botocore_client import sent
from s3_bodies import ACCESS_KEY, SECRET, chain, framed, signed, signing_key
from warehouse.s3.checksums import ALGORITHMS, CRC32, CRC64NVME, Algorithm
from warehouse.s3.chunked import Chain, ChunkedDecoder, chain_of
from warehouse.s3.failures import Failure
from warehouse.s3.integrity import Digests, Integrity, promises_of
from warehouse.s3.payload import Framing, Payload, payload_of, stored_encoding
from warehouse.s3.sigv4 import header_claim

CHUNK_LISTS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
PIECES = st.integers(1, 50)


def received(
    headers: dict[bytes, bytes], body: bytes, begun: Chain | None, step: int
) -> tuple[bytes, Digests]:
    """Take a body as the gateway does: off the framing, and into the digests."""
    payload = payload_of(headers, None)
    integrity = Integrity(promises_of(headers, payload))
    if payload.framing is Framing.NONE:
        integrity.update(body)
        return body, integrity.finish()
    decoder = ChunkedDecoder(payload, begun)
    data = bytearray()
    for start in range(0, len(body), step):
        for piece in decoder.feed(body[start : start + step]):
            integrity.update(piece)
            data += piece
    return bytes(data), integrity.finish(decoder.finish())


def botocore_request(body: bytes, algorithm: str, chunk_size: int) -> tuple[dict[bytes, bytes], bytes]:
    """A body in the framing that botocore gives to streams over TLS."""
    headers: dict[str, str] = {}
    name = f"x-amz-checksum-{algorithm}"
    request: dict[str, Any] = {
        "body": io.BytesIO(body),
        "headers": headers,
        "context": {
            "checksum": {"request_algorithm": {"algorithm": algorithm, "in": "trailer", "name": name}}
        },
    }
    httpchecksum.apply_request_checksum(request)
    wrapper = httpchecksum.AwsChunkedWrapper(
        io.BytesIO(body), httpchecksum._CHECKSUM_CLS[algorithm], name, chunk_size
    )
    headers["x-amz-content-sha256"] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    return {key.lower().encode(): value.encode() for key, value in headers.items()}, wrapper.read()


@given(
    body=st.binary(max_size=300),
    algorithm=st.sampled_from(["crc32", "sha1", "sha256"]),
    chunk_size=st.integers(1, 100),
    step=PIECES,
)
def test_what_botocore_frames_is_read(body: bytes, algorithm: str, chunk_size: int, step: int) -> None:
    headers, framing = botocore_request(body, algorithm, chunk_size)
    data, digests = received(headers, framing, None, step)
    assert data == body
    assert digests.size == len(body)
    assert digests.checksum is not None
    assert b64encode(digests.checksum).decode() == httpchecksum._CHECKSUM_CLS[algorithm]().handle(body)


@given(
    body=st.binary(max_size=300),
    algorithm=st.sampled_from([None, "CRC32", "SHA1", "SHA256"]),
    tls=st.booleans(),
    is_stream=st.booleans(),
    operation=st.sampled_from(["put_object", "upload_part"]),
    encoding=st.sampled_from([None, "gzip", "gzip, aws-chunked"]),
    checksums=st.sampled_from(["when_supported", "when_required"]),
    step=PIECES,
)
def test_what_a_client_of_botocore_sends_is_read(
    body: bytes,
    algorithm: str | None,
    tls: bool,
    is_stream: bool,
    operation: str,
    encoding: str | None,
    checksums: str,
    step: int,
) -> None:
    parameters: dict[str, Any] = {
        "Bucket": "photos",
        "Key": "a",
        "Body": io.BytesIO(body) if is_stream else body,
    }
    if algorithm is not None:
        parameters["ChecksumAlgorithm"] = algorithm
    if operation == "upload_part":
        parameters |= {"UploadId": "u", "PartNumber": 1}
    elif encoding is not None:
        parameters["ContentEncoding"] = encoding
    request = sent(operation, tls=tls, checksums=checksums, **parameters)
    data, digests = received(request.headers, request.body, None, step)
    assert data == body
    expected = algorithm or ("CRC32" if checksums == "when_supported" else None)
    assert (digests.algorithm and digests.algorithm.name) == expected
    coding = request.headers.get(b"content-encoding")
    kept = None if coding is None else stored_encoding(coding)
    assert kept == (b"gzip" if operation == "put_object" and encoding is not None else None)


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("tls", [True, False])
def test_what_botocore_sends_to_delete_objects_has_a_promise(tls: bool, checksums: str) -> None:
    request = sent(
        "delete_objects", tls=tls, checksums=checksums, Bucket="photos", Delete={"Objects": [{"Key": "a"}]}
    )
    promises = promises_of(request.headers, payload_of(request.headers, len(request.body)))
    promises.require_one()
    received(request.headers, request.body, None, 1)


@given(chunks=CHUNK_LISTS, algorithm=st.sampled_from(ALGORITHMS), is_signed=st.booleans(), step=PIECES)
def test_framing_cut_anywhere_decodes_the_same(
    chunks: list[bytes], algorithm: Algorithm, is_signed: bool, step: int
) -> None:
    body = b"".join(chunks)
    trailer = f"{algorithm.header.decode()}:{b64encode(algorithm.of(body)).decode()}"
    kind = (
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" if is_signed else b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    )
    headers = {
        b"x-amz-content-sha256": kind,
        b"x-amz-decoded-content-length": str(len(body)).encode(),
        b"x-amz-trailer": algorithm.header,
    }
    framing = signed(chunks, chain(), trailer) if is_signed else framed(chunks, trailer)
    data, digests = received(headers, framing, chain(), step)
    assert data == body
    assert digests.checksum == algorithm.of(body)
    for end in range(0, len(framing), 7):
        with pytest.raises(Failure) as refused:
            received(headers, framing[:end], chain(), step)
        assert refused.value.code == "IncompleteBody"


@given(chunks=CHUNK_LISTS, has_trailer=st.booleans(), data=st.data())
def test_every_flipped_bit_of_a_signed_stream_is_refused_or_means_the_same(
    chunks: list[bytes], has_trailer: bool, data: st.DataObject
) -> None:
    body = b"".join(chunks)
    trailer = f"x-amz-checksum-crc32:{b64encode(CRC32.of(body)).decode()}" if has_trailer else None
    framing = bytearray(signed(chunks, chain(), trailer))
    payload = Payload(Framing.SIGNED_CHUNKS, None, len(body), has_trailer, CRC32 if has_trailer else None)
    trailers = {CRC32.header: b64encode(CRC32.of(body))} if has_trailer else {}
    framing[data.draw(st.integers(0, len(framing) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decoder = ChunkedDecoder(payload, chain())
    try:
        found = b"".join(decoder.feed(bytes(framing))), decoder.finish()
    except Failure as refused:
        code = refused.code if not refused.closes else None
    else:  # a digit of a size or the name of a trailer in the other case, or another blank behind a trailer
        assert found == (body, trailers)
        return
    assert code in (None, "MalformedTrailerError")


@given(body=st.binary(min_size=1, max_size=100), algorithm=st.sampled_from(ALGORITHMS), data=st.data())
def test_every_flipped_bit_of_a_checked_body_is_refused(
    body: bytes, algorithm: Algorithm, data: st.DataObject
) -> None:
    headers = {algorithm.header: b64encode(algorithm.of(body))}
    assert received(headers, body, None, 1)[1].checksum == algorithm.of(body)
    damaged = bytearray(body)
    damaged[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Failure) as refused:
        received(headers, bytes(damaged), None, 1)
    assert refused.value.code == "BadDigest"


@given(
    parts=st.lists(st.binary(max_size=100), max_size=6),
    algorithm=st.sampled_from([algorithm for algorithm in ALGORITHMS if algorithm.size in (4, 8)]),
)
def test_the_crcs_of_parts_are_combined_by_length(parts: list[bytes], algorithm: Algorithm) -> None:
    combined = algorithm.combined((algorithm.of(part), len(part)) for part in parts)
    assert combined == algorithm.of(b"".join(parts))


@given(chunks=CHUNK_LISTS, step=PIECES)
def test_the_chain_begins_with_the_signature_that_botocore_makes(chunks: list[bytes], step: int) -> None:
    """The signature of the request is the only thing that binds chunks to it."""
    length = str(sum(map(len, chunks)))
    request = AWSRequest(
        "PUT",
        "http://127.0.0.1:7490/bucket/key",
        {
            "x-amz-decoded-content-length": length,
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        },
        b"",
    )
    auth = S3SigV4Auth(Credentials(ACCESS_KEY, SECRET), "s3", "eu-west-1")
    auth.payload = lambda _: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    auth.add_auth(request)
    date = request.context["timestamp"]
    headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    begun = chain_of(header_claim(headers), signing_key(date[:8], "eu-west-1"))
    assert begun is not None
    data, _ = received(headers, signed(chunks, begun), begun, step)
    assert data == b"".join(chunks)


@given(noise=st.binary(max_size=200), is_signed=st.booleans(), has_trailer=st.booleans())
def test_noise_is_refused_and_never_anything_else(noise: bytes, is_signed: bool, has_trailer: bool) -> None:
    framing = Framing.SIGNED_CHUNKS if is_signed else Framing.CHUNKS
    decoder = ChunkedDecoder(
        Payload(framing, None, 5, has_trailer, CRC64NVME if has_trailer else None), chain()
    )
    with pytest.raises(Failure):
        decoder.feed(noise)
        decoder.finish()
