"""Chunked coding without a socket: what is read, what is refused, and how much a client may send."""

from __future__ import annotations

import pytest

from warehouse.errors import BadRequest, BodyTooLarge
from warehouse.transport.http.chunked import (
    EXCESS_MAX,
    FREE_SIZE,
    LINE_SIZE_MAX,
    LINES_AT_ONCE,
    TRAILERS_SIZE_MAX,
    ChunkedDecoder,
    chunk_head,
)


def decoded(
    data: bytes, decoder: ChunkedDecoder | None = None, piece_size: int = 1 << 20
) -> tuple[bytes, bytes]:
    """Return the body, and what follows it; the body must end in `data`."""
    decoder = decoder or ChunkedDecoder()
    body, target, position = bytearray(), memoryview(bytearray(piece_size)), 0
    while not decoder.is_finished:
        before = position
        position, filled = decoder.decode(data, position, target)
        assert position > before or filled, f"no end after {bytes(body)!r}"
        body += target[:filled]
    return bytes(body), data[position:]


def limited(*sizes: int) -> ChunkedDecoder:
    decoder = ChunkedDecoder()
    for size_max in sizes:
        decoder.limit(size_max)
    return decoder


GOOD = {
    "nothing": (b"0\r\n\r\n", b""),
    "one chunk": (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "two chunks": (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
    "capital and small digits": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "leading zeros": (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    "an extension": (b"3;a\r\nabc\r\n0;b\r\n\r\n", b"abc"),
    "extensions with values": (b'3;a=b;c="d ;\\" e"\r\nabc\r\n0\r\n\r\n', b"abc"),
    "a trailer": (b"3\r\nabc\r\n0\r\nX-A: b\r\n\r\n", b"abc"),
    "trailers, one of them empty": (b"0\r\nX-A:\r\nX-B: c\r\n\r\n", b""),
    "data like framing": (b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("piece_size", [1, 2, 1000])
@pytest.mark.parametrize("name", GOOD)
def test_a_body_is_read_and_what_follows_is_left_alone(name: str, piece_size: int) -> None:
    data, body = GOOD[name]
    assert decoded(data + b"GET / HTTP/1.1\r\n", piece_size=piece_size) == (body, b"GET / HTTP/1.1\r\n")


BAD = {
    "no size": b"\r\nabc\r\n",
    "no digit": b"g\r\nabc\r\n",
    "a sign": b"+3\r\nabc\r\n",
    "a negative size": b"-3\r\nabc\r\n",
    "a prefix": b"0x3\r\nabc\r\n",
    "an underscore": b"1_0\r\n0123456789abcdef\r\n",
    "a digit of another script": "٣\r\nabc\r\n".encode(),
    "a blank before the size": b" 3\r\nabc\r\n",
    "a blank after the size": b"3 \r\nabc\r\n",
    "a blank before an extension": b"3 ;a\r\nabc\r\n",
    "a blank around a value": b"3;a = b\r\nabc\r\n",
    "a tab after the size": b"3\t\r\nabc\r\n",
    "a vertical tab after the size": b"3\x0b\r\nabc\r\n",
    "a size of 16 digits": b"0000000000000003\r\nabc\r\n",
    "2**64 and 3": b"10000000000000003\r\nabc\r\n",
    "an extension without a name": b"3;\r\nabc\r\n",
    "an extension with a line feed": b"3;a\nbc\r\nabc\r\n",
    "an extension with a carriage return": b"3;a\rb\r\nabc\r\n",
    "an extension with a quoted line feed": b'3;a="\n"\r\nabc\r\n',
    "an extension that is not closed": b'3;a="b\r\nabc\r\n',
    "an extension with NUL": b"3;a=\0\r\nabc\r\n",
    "a bare line feed after the size": b"3\nabc\r\n",
    "a bare carriage return after the size": b"3\rabc\r\n0\r\n\r\n",
    "a line feed and a carriage return": b"3\n\rabc\r\n",
    "a bare line feed after the data": b"3\r\nabc\n0\r\n\r\n",
    "a bare carriage return after the data": b"3\r\nabc\r0\r\n\r\n",
    "no line end after the data": b"3\r\nabc0\r\n\r\n",
    "two line ends after the data": b"3\r\nabc\r\n\r\n0\r\n\r\n",
    "a size that is too small": b"2\r\nabc\r\n0\r\n\r\n",
    "a size that is too large": b"4\r\nabc\r\n0\r\n\r\n",
    "a bare line feed after the last chunk": b"0\n\r\n",
    "a bare line feed at the end": b"0\r\n\n",
    "a bare line feed after a trailer": b"0\r\nX-A: b\n\r\n",
    "a trailer without a colon": b"0\r\nX-A\r\n\r\n",
    "a trailer without a name": b"0\r\n: b\r\n\r\n",
    "a blank before the colon of a trailer": b"0\r\nX-A : b\r\n\r\n",
    "a folded trailer": b"0\r\nX-A: b\r\n c\r\n\r\n",
    "a trailer that begins with a blank": b"0\r\n X-A: b\r\n\r\n",
    "NUL in a trailer": b"0\r\nX-A: \0\r\n\r\n",
    "a carriage return in a trailer": b"0\r\nX-A: b\rX-C: d\r\n\r\n",
    "a length in the trailers": b"0\r\nContent-Length: 3\r\n\r\n",
    "a coding in the trailers": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
    "a request in the trailers": b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long line without an end": b"3;" + b"a" * LINE_SIZE_MAX,
    "a long extension": b"3;" + b"a" * LINE_SIZE_MAX + b"\r\nabc\r\n",
    "a long trailer without an end": b"0\r\nX-A: " + b"b" * TRAILERS_SIZE_MAX,
    "many trailers": b"0\r\n" + b"X-A: b\r\n" * (TRAILERS_SIZE_MAX // 8 + 1) + b"\r\n",
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("name", BAD)
def test_what_could_be_read_in_two_ways_is_refused(name: str, step: int) -> None:
    decoder, target = ChunkedDecoder(), memoryview(bytearray(1 << 16))
    data = BAD[name]
    with pytest.raises(BadRequest, match="chunked coding"):
        for start in range(0, len(data), step):
            piece, position = data[start : start + step], 0
            while position < len(piece):
                assert not decoder.is_finished
                position, _ = decoder.decode(piece, position, target)
        raise AssertionError("nothing was refused")


def test_a_body_may_have_as_many_bytes_as_is_said_and_no_more() -> None:
    data = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert decoded(data, limited(5)) == (b"abcde", b"")
    for decoder in (limited(4), limited(4, 9), limited(9, 4)):
        with pytest.raises(BodyTooLarge):
            decoded(data, decoder)


def test_a_limit_that_comes_too_late_is_refused_as_well() -> None:
    decoder = ChunkedDecoder()
    decoder.decode(b"a\r\n", 0, memoryview(bytearray(10)))
    with pytest.raises(BodyTooLarge):
        decoder.limit(9)


def test_a_body_is_refused_when_its_chunk_is_announced_not_when_it_has_come() -> None:
    with pytest.raises(BodyTooLarge):
        limited(100).decode(b"65\r\n", 0, memoryview(bytearray(10)))


def test_extensions_may_be_in_proportion_to_the_data() -> None:
    extension = b";a=" + b"b" * 200
    small = b"%x%b\r\n%b\r\n" % (1, extension, b"x")
    with pytest.raises(BadRequest, match="more framing than data"):
        decoded(small * (EXCESS_MAX // (len(extension) - FREE_SIZE) + 10) + b"0\r\n\r\n")
    large = b"%x%b\r\n%b\r\n" % (400, extension, b"x" * 400)
    assert len(decoded(large * 1000 + b"0\r\n\r\n")[0]) == 400_000
    tiny = b"1\r\nx\r\n"
    assert len(decoded(tiny * 20_000 + b"0\r\n\r\n")[0]) == 20_000


def test_one_call_does_bounded_work_however_small_the_chunks_are() -> None:
    decoder, data = ChunkedDecoder(), b"1\r\nx\r\n" * 10_000
    position, filled = decoder.decode(data, 0, memoryview(bytearray(1 << 20)))
    assert filled == position // 6 <= LINES_AT_ONCE


def test_data_that_was_received_past_the_decoder_counts() -> None:
    decoder, target = ChunkedDecoder(), memoryview(bytearray(10))
    assert decoder.decode(b"5\r\n", 0, target) == (3, 0)
    assert decoder.chunk_left == 5
    decoder.take(5)
    assert decoder.decode(b"\r\n0\r\n\r\nGET", 0, target) == (7, 0)
    assert decoder.is_finished


def test_chunks_are_written_with_their_size() -> None:
    assert chunk_head(26) == b"1a\r\n"
    with pytest.raises(AssertionError):
        chunk_head(0)
