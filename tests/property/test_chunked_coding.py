"""Chunked coding: cut anywhere it decodes the same, and what we take, two other parsers read in the same way.

Smuggling needs two programs that see different ends of one body.  llhttp is what Node.js and its proxies use,
h11 what many servers in Python do; neither has a part in our decoder.
"""

from __future__ import annotations

import itertools
from contextlib import suppress

import h11
import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from warehouse.errors import BadRequest
from warehouse.transport.http.chunked import LAST_CHUNK, ChunkedDecoder, chunk_head

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

tokens = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8).map(str.encode)
quoted = st.text(' \t;=,:(){}<>"\\\r\nabcé'.replace("\r\n", ""), max_size=8).map(
    lambda text: b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode("latin-1") + b'"'
)
extensions = st.lists(
    st.tuples(tokens, st.none() | tokens | quoted).map(
        lambda pair: b";" + pair[0] + (b"" if pair[1] is None else b"=" + pair[1])
    ),
    max_size=3,
).map(b"".join)
trailers = st.lists(
    st.tuples(tokens, st.text("abc ;:é\t", max_size=10).map(lambda text: text.encode("latin-1"))).map(
        lambda pair: b"X-" + pair[0] + b": " + pair[1] + b"\r\n"
    ),
    max_size=3,
).map(b"".join)


@st.composite
def framed(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body in chunked coding, in any of its spellings, and the bytes that it means."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    data = b""
    for piece in pieces:
        size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(piece)
        data += size + draw(extensions) + b"\r\n" + piece + b"\r\n"
    zeros = draw(st.sampled_from([b"0", b"000"]))
    return data + zeros + draw(extensions) + b"\r\n" + draw(trailers) + b"\r\n", b"".join(pieces)


def ours(pieces: list[bytes], target_size: int = 1 << 16) -> tuple[bytes, bytes] | None:
    """The body, and what follows it; None when it has not ended."""
    decoder, target, body = ChunkedDecoder(), memoryview(bytearray(target_size)), bytearray()
    rest = b""
    for piece in pieces:
        position = 0
        while position < len(piece) and not decoder.is_finished:
            position, filled = decoder.decode(piece, position, target)
            body += target[:filled]
        rest += piece[position:]
    return (bytes(body), rest) if decoder.is_finished else None


class Llhttp:
    """What llhttp reads, until the first message is complete."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_complete = False

    def on_body(self, piece: bytes) -> None:
        if not self.is_complete:
            self.body += piece

    def on_message_complete(self) -> None:
        self.is_complete = True


def by_llhttp(data: bytes) -> bytes | None:
    """The body of the first message in `data`; None when it has not ended.

    Raises:
        httptools.HttpParserError: that is no chunked coding.
    """
    reader = Llhttp()
    parser = httptools.HttpRequestParser(reader)
    for octet in HEAD + data:
        if not reader.is_complete:
            parser.feed_data(bytes((octet,)))
    return bytes(reader.body) if reader.is_complete else None


def by_h11(data: bytes) -> tuple[bytes, bytes] | None:
    """As `ours`.

    Raises:
        h11.RemoteProtocolError: that is no chunked coding.
    """
    connection, body = h11.Connection(h11.SERVER), bytearray()
    connection.receive_data(HEAD + data)
    assert isinstance(connection.next_event(), h11.Request)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body), connection.trailing_data[0]
        else:
            assert event is h11.NEED_DATA
            return None


@settings(max_examples=200, deadline=None)
@given(
    body=framed(),
    positions=st.lists(st.integers(0, 2**32), max_size=10),
    target_size=st.integers(1, 50),
    rest=st.sampled_from([b"", b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
)
def test_however_a_body_is_cut_it_means_the_same(body, positions, target_size, rest):
    data, wanted = body
    whole = data + rest
    edges = sorted({0, len(whole), *(position % (len(whole) + 1) for position in positions)})
    pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert ours(pieces, target_size) == (wanted, rest)


@settings(max_examples=200, deadline=None)
@given(body=framed())
def test_no_beginning_of_a_body_is_a_whole_one(body):
    data, _ = body
    for size in range(len(data)):
        assert ours([data[:size]]) is None


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_what_we_write_we_and_others_read(pieces):
    data = b"".join(chunk_head(len(piece)) + piece + b"\r\n" for piece in pieces) + LAST_CHUNK
    wanted = b"".join(pieces)
    assert ours([data]) == by_h11(data) == (wanted, b"")
    assert by_llhttp(data) == wanted


@settings(max_examples=500, deadline=None)
@given(
    body=framed(),
    changes=st.lists(
        st.tuples(
            st.integers(0, 2**32),
            st.integers(0, 2),
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b";", b"=", b'"', b"0", b"1", b"f", b"+", b"-"]
            )
            | st.binary(max_size=2),
        ),
        max_size=4,
    ),
)
@example(body=(b"3 \r\nabc\r\n0\r\n\r\n", b""), changes=[])
@example(body=(b"3;a=b\nc\r\nabc\r\n0\r\n\r\n", b""), changes=[])
def test_what_we_take_others_read_in_the_same_way(body, changes):
    data, _ = body
    for position, removed, new in changes:
        start = position % (len(data) + 1)
        data = data[:start] + new + data[start + removed :]
    try:
        taken = ours([data])
    except BadRequest:
        return  # they may be more forgiving
    if taken is not None:
        assert by_h11(data) == taken
        assert by_llhttp(data) == taken[0]
        return
    # We wait for more.  Others may have found out already that nothing good can come.
    with suppress(h11.RemoteProtocolError):
        assert by_h11(data) is None
    with suppress(httptools.HttpParserError):
        assert by_llhttp(data) is None
