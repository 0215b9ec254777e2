"""Chunked: what clients send is decoded, and framing that lies is refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from s3_bodies import ACCESS_KEY, ChunkSigner, chain, code_of, framed, signed, signing_key
from warehouse.s3.checksums import CRC32, CRC32C
from warehouse.s3.chunked import LINE_SIZE_MAX, SMALL_COUNT_MAX, SMALL_SIZE, ChunkedDecoder, chain_of
from warehouse.s3.failures import Failure
from warehouse.s3.payload import Framing, Payload
from warehouse.s3.sigv4 import Scope, V4Claim

CHUNKS, SIGNED_CHUNKS = Framing.CHUNKS, Framing.SIGNED_CHUNKS
PLAIN = Payload(CHUNKS, None, 5)
TRAILER = Payload(CHUNKS, None, 5, True, CRC32)
SIGNED = Payload(SIGNED_CHUNKS, None, 5)
SIGNED_TRAILER = Payload(SIGNED_CHUNKS, None, 5, True, CRC32)
CHECKSUM = "x-amz-checksum-crc32:NhCmhg=="
CHECKSUMS = {b"x-amz-checksum-crc32": b"NhCmhg=="}


def decoded(payload: Payload, body: bytes, step: int | None = None) -> tuple[bytes, dict[bytes, bytes]]:
    decoder = ChunkedDecoder(payload, chain() if payload.framing is SIGNED_CHUNKS else None)
    data = b""
    step = step or max(len(body), 1)
    for start in range(0, len(body), step):
        data += b"".join(decoder.feed(body[start : start + step]))
    return data, decoder.finish()


# --- what the documentation of Amazon S3 has as examples -------------------------------------------

EXAMPLE_DATA = b"a" * 66560


def example(*, signatures: list[str], end: str) -> bytes:
    first, second, last = signatures
    return (
        f"10000;chunk-signature={first}\r\n{'a' * 65536}\r\n400;chunk-signature={second}\r\n{'a' * 1024}\r\n"
        f"0;chunk-signature={last}\r\n{end}\r\n"
    ).encode()


# "Transferring Payload in Multiple Chunks", PUT Object.
EXAMPLE = example(
    signatures=[
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ],
    end="",
)
EXAMPLE_SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
# "Signature calculations for trailing headers", PUT Object.
EXAMPLE_TRAILER = example(
    signatures=[
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ],
    end="x-amz-checksum-crc32c:sOO8/Q==\r\n"
    "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n",
)
EXAMPLE_TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"


@pytest.mark.parametrize("step", [1, 1000, 10**6])
def test_the_example_of_signed_chunks(step: int) -> None:
    decoder = ChunkedDecoder(Payload(SIGNED_CHUNKS, None, 66560), chain(EXAMPLE_SEED))
    data = [decoder.feed(EXAMPLE[start : start + step]) for start in range(0, len(EXAMPLE), step)]
    assert b"".join(piece for pieces in data for piece in pieces) == EXAMPLE_DATA
    assert decoder.finish() == {}


def test_the_example_of_signed_trailers() -> None:
    payload = Payload(SIGNED_CHUNKS, None, 66560, True, CRC32C)
    decoder = ChunkedDecoder(payload, chain(EXAMPLE_TRAILER_SEED))
    assert b"".join(decoder.feed(EXAMPLE_TRAILER)) == EXAMPLE_DATA
    assert decoder.finish() == {b"x-amz-checksum-crc32c": b"sOO8/Q=="}
    assert CRC32C.of(EXAMPLE_DATA).hex() == "b0e3bcfd"


# --- what clients send ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 64, None])
@pytest.mark.parametrize(
    ("payload", "body", "trailers"),
    [
        (PLAIN, framed([b"hello"]), {}),
        (PLAIN, framed([b"he", b"l", b"lo"]), {}),
        (PLAIN, b"005\r\nhello\r\n000\r\n\r\n", {}),
        (Payload(CHUNKS), framed([b"he", b"llo"]), {}),
        (Payload(CHUNKS, None, 5, True), framed([b"hello"]), {}),
        (TRAILER, framed([b"hello"], CHECKSUM), CHECKSUMS),
        (TRAILER, framed([b"hello"], "X-Amz-Checksum-CRC32: NhCmhg== "), CHECKSUMS),
        (SIGNED, signed([b"hel", b"lo"], chain()), {}),
        (SIGNED_TRAILER, signed([b"hel", b"lo"], chain(), CHECKSUM), CHECKSUMS),
        # The client of MinIO: trailers end with a bare LF, and more empty lines than one follow.
        (TRAILER, b"5\r\nhello\r\n0\r\n" + CHECKSUM.encode() + b"\n\r\n\r\n", CHECKSUMS),
    ],
)
def test_a_body_is_decoded_however_it_is_cut(
    payload: Payload, body: bytes, trailers: dict[bytes, bytes], step: int | None
) -> None:
    assert decoded(payload, body, step) == (b"hello", trailers)


def test_the_client_of_minio_puts_an_empty_line_before_the_signature_of_trailers() -> None:
    signer = ChunkSigner(chain())
    body = (
        f"5;chunk-signature={signer.chunk(b'hello')}\r\nhello\r\n0;chunk-signature={signer.chunk(b'')}\r\n"
        f"{CHECKSUM}\n\r\nx-amz-trailer-signature:{signer.trailers(CHECKSUM + chr(10))}\r\n\r\n"
    )
    assert decoded(SIGNED_TRAILER, body.encode()) == (b"hello", CHECKSUMS)


def test_an_empty_object_is_one_last_chunk() -> None:
    assert decoded(Payload(CHUNKS, None, 0), framed([])) == (b"", {})
    assert decoded(Payload(SIGNED_CHUNKS, None, 0), signed([], chain())) == (b"", {})


def test_data_is_handed_on_before_its_chunk_has_ended() -> None:
    decoder = ChunkedDecoder(Payload(CHUNKS, None, 1 << 30))
    assert decoder.feed(b"40000000\r\n") == []
    block = bytes(1 << 20)
    for _ in range(1024):
        (piece,) = decoder.feed(block)
        assert piece.obj is block, "a view and no copy"
    decoder.feed(b"\r\n0\r\n\r\n")
    assert decoder.finish() == {}


def test_a_stream_may_give_small_chunks() -> None:
    for size, count in ((1, SMALL_COUNT_MAX - 1), (1024, 3000), (SMALL_SIZE, 5000)):
        decoder = ChunkedDecoder(Payload(CHUNKS))
        assert sum(map(len, decoder.feed(framed([bytes(size)] * count)))) == size * count
        assert decoder.finish() == {}


@pytest.mark.parametrize("size", [1, 100, 500])
def test_chunks_that_are_all_work_and_no_data_are_refused(size: int) -> None:
    decoder = ChunkedDecoder(Payload(CHUNKS))
    with pytest.raises(Failure) as refused:
        decoder.feed(framed([bytes(size)] * 3000))
    assert code_of(refused.value) == ("InvalidChunkSizeError", 400, True)
    assert refused.value.fields["BadChunkSize"] == str(size)


# --- framing that lies ----------------------------------------------------------------------------

MALFORMED = ("InvalidRequest", 400, True)
INCOMPLETE = ("IncompleteBody", 400, True)
BAD_TRAILER = ("MalformedTrailerError", 400, True)
BAD_SIGNATURE = ("SignatureDoesNotMatch", 403, True)
ZEROS = b"0" * 64


@pytest.mark.parametrize("step", [1, None])
@pytest.mark.parametrize(
    ("payload", "body", "code"),
    [
        # Sizes that cannot be read.
        (PLAIN, b"\r\nhello\r\n", MALFORMED),
        (PLAIN, b"g\r\nhello\r\n", MALFORMED),
        (PLAIN, b"0x5\r\nhello\r\n", MALFORMED),
        (PLAIN, b"+5\r\nhello\r\n", MALFORMED),
        (PLAIN, b"-5\r\nhello\r\n", MALFORMED),
        (PLAIN, b" 5\r\nhello\r\n", MALFORMED),
        (PLAIN, b"5 \r\nhello\r\n", MALFORMED),
        (PLAIN, b"5\nhello\r\n", MALFORMED),
        (PLAIN, b"\xef\xbc\x95\r\nhello\r\n", MALFORMED),
        (PLAIN, b"0" * 16 + b"\r\n", MALFORMED),
        (PLAIN, b"f" * 15 + b"\r\n", INCOMPLETE),
        (Payload(CHUNKS), b"5" * LINE_SIZE_MAX, MALFORMED),
        (Payload(CHUNKS), b"5;" + b"a" * 1000, MALFORMED),
        # Sizes that lie.
        (PLAIN, b"6\r\nhello!\r\n0\r\n\r\n", INCOMPLETE),
        (PLAIN, b"3\r\nhel\r\n3\r\nlo!\r\n0\r\n\r\n", INCOMPLETE),
        (PLAIN, b"4\r\nhell\r\n0\r\n\r\n", INCOMPLETE),
        (PLAIN, b"4\r\nhello\r\n0\r\n\r\n", MALFORMED),
        (PLAIN, b"5\r\nhello0\r\n\r\n", MALFORMED),
        (PLAIN, b"5\r\nhello\n0\r\n\r\n", MALFORMED),
        # The end is missing, or more follows.
        (PLAIN, b"", INCOMPLETE),
        (PLAIN, b"5", INCOMPLETE),
        (PLAIN, b"5\r\nhel", INCOMPLETE),
        (PLAIN, b"5\r\nhello\r\n", INCOMPLETE),
        (PLAIN, b"5\r\nhello\r\n0\r\n", INCOMPLETE),
        (PLAIN, b"5\r\nhello\r\n0\r\n\r", INCOMPLETE),
        (PLAIN, framed([b"hello"]) + b"\n", MALFORMED),
        (PLAIN, framed([b"hello"]) + b"\r\n", MALFORMED),
        (PLAIN, framed([b"hello"]) + framed([b"hello"]), MALFORMED),
        (TRAILER, framed([b"hello"], CHECKSUM) + b"\r\n\r\n", MALFORMED),
        (TRAILER, framed([b"hello"], CHECKSUM) + b"\r", INCOMPLETE),
        (TRAILER, framed([b"hello"], CHECKSUM) + b"x\r\n", MALFORMED),
        # Trailers that are missing, not named, not allowed, or none.
        (TRAILER, framed([b"hello"]), ("MalformedTrailerError", 400, False)),
        (TRAILER, framed([b"hello"], "x-amz-checksum-crc32c:yZRlqg=="), BAD_TRAILER),
        (TRAILER, framed([b"hello"], f"{CHECKSUM}\r\n{CHECKSUM}"), BAD_TRAILER),
        (TRAILER, framed([b"hello"], f"{CHECKSUM}\r\nx-amz-meta-a:b"), BAD_TRAILER),
        (TRAILER, framed([b"hello"], f"{CHECKSUM}\r\nx-amz-trailer-signature:{'0' * 64}"), BAD_TRAILER),
        (TRAILER, framed([b"hello"], "x-amz-checksum-crc32"), BAD_TRAILER),
        (TRAILER, framed([b"hello"], CHECKSUM + "=" * LINE_SIZE_MAX), MALFORMED),
        (Payload(CHUNKS, None, 5, True), framed([b"hello"], CHECKSUM), BAD_TRAILER),
        (PLAIN, framed([b"hello"], CHECKSUM), MALFORMED),
        # Signatures where none were announced, and none where some were.
        (PLAIN, b"5;chunk-signature=" + ZEROS + b"\r\nhello\r\n0\r\n\r\n", MALFORMED),
        (PLAIN, b"5;\r\nhello\r\n0\r\n\r\n", MALFORMED),
        (SIGNED, framed([b"hello"]), MALFORMED),
        (SIGNED, b"5;chunk=" + ZEROS + b"\r\nhello\r\n", MALFORMED),
        (SIGNED, b"5;chunk-signature=" + ZEROS + b"\r\nhello\r\n", BAD_SIGNATURE),
        (SIGNED, b"5;chunk-signature=\r\nhello\r\n", BAD_SIGNATURE),
        (SIGNED, b"5;chunk-signature=\xff\xfe\r\nhello\r\n", BAD_SIGNATURE),
        (SIGNED, signed([b"hello"], chain("1" * 64)), BAD_SIGNATURE),
        (SIGNED, signed([b"hello"], chain())[:-68] + ZEROS + b"\r\n\r\n", BAD_SIGNATURE),
        (SIGNED, signed([b"hello"], chain(), CHECKSUM), MALFORMED),
        (SIGNED_TRAILER, signed([b"hello"], chain()), BAD_TRAILER),
        (SIGNED_TRAILER, signed([b"hello"], chain())[:-2] + CHECKSUM.encode() + b"\r\n\r\n", INCOMPLETE),
        (
            SIGNED_TRAILER,
            signed([b"hello"], chain())[:-2] + CHECKSUM.encode() + b"\r\n\r\n\r\n",
            BAD_TRAILER,
        ),
        (SIGNED_TRAILER, signed([b"hello"], chain(), CHECKSUM)[:-68] + ZEROS + b"\r\n\r\n", BAD_SIGNATURE),
        (
            SIGNED_TRAILER,
            signed([b"hello"], chain(), CHECKSUM).replace(b"NhCmhg", b"NhCmhh"),
            BAD_SIGNATURE,
        ),
        (
            SIGNED_TRAILER,
            signed([b"hello"], chain(), CHECKSUM)[:-2] + b"x-amz-trailer-signature:" + ZEROS + b"\r\n\r\n",
            BAD_TRAILER,
        ),
    ],
)
def test_framing_that_lies_is_refused(
    payload: Payload, body: bytes, code: tuple[str, int, bool], step: int | None
) -> None:
    with pytest.raises(Failure) as refused:
        decoded(payload, body, step)
    assert code_of(refused.value) == code


def test_signed_chunks_need_a_signed_request() -> None:
    with pytest.raises(Failure) as refused:
        ChunkedDecoder(SIGNED)
    assert code_of(refused.value) == ("AccessDenied", 403, True)


def test_chunks_begin_with_what_the_request_was_signed_with() -> None:
    claim = V4Claim(
        ACCESS_KEY,
        Scope("20130524", "us-east-1", "s3"),
        (b"host",),
        EXAMPLE_SEED,
        "20130524T000000Z",
        1369353600,
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    )
    assert chain_of(claim, signing_key("20130524")) == chain(EXAMPLE_SEED)
    assert chain_of(replace(claim, expires_s=60), signing_key("20130524")) is None


def test_a_bad_signature_is_answered_with_what_was_signed() -> None:
    with pytest.raises(Failure) as refused:
        decoded(SIGNED, b"5;chunk-signature=" + ZEROS + b"\r\nhello\r\n")
    lines = refused.value.fields["StringToSign"].split("\n")
    assert lines[:4] == [
        "AWS4-HMAC-SHA256-PAYLOAD",
        "20130524T000000Z",
        "20130524/us-east-1/s3/aws4_request",
        "0" * 64,
    ]
    assert lines[5] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_chunks_cannot_change_places() -> None:
    body = signed([b"aa", b"bb"], chain())
    size = body.index(b"\r\n", body.index(b"aa")) + 2
    swapped = body[size : 2 * size] + body[:size] + body[2 * size :]
    with pytest.raises(Failure) as refused:
        decoded(Payload(SIGNED_CHUNKS, None, 4), swapped)
    assert code_of(refused.value) == BAD_SIGNATURE
