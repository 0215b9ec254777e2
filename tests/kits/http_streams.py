"""Streams of HTTP requests, twisted in every way, and what another parser reads from them.

Smuggling needs two programs that read one stream in two ways.  llhttp is the parser of Node.js and its
proxies.  A server of ours may refuse what llhttp reads, but what it serves, llhttp has read, too.
"""

from __future__ import annotations

import random

import httptools


class Llhttp:
    """What llhttp reads from a stream.

    Attributes:
        requests: target and body of each request; None for the body of the last one if that has not ended.
    """

    def __init__(self, data: bytes) -> None:
        self.requests: list[tuple[bytes, bytes | None]] = []
        parser = httptools.HttpRequestParser(self)
        try:
            for octet in data:
                parser.feed_data(bytes((octet,)))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass  # what it has read until then counts

    def on_message_begin(self) -> None:
        self._target, self._body = b"", b""

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_headers_complete(self) -> None:
        self.requests.append((self._target, None))

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        self.requests[-1] = (self._target, self._body)


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
METHODS = (b"GET", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH")
TARGETS = (
    b"/",
    b"/a/b",
    b"/a%2Fb?c=d",
    b"/%zz",
    b"//",
    b"/?",
    b"http://a/b",
    b"*",
    b"/" + b"a" * 300,
)
VERSIONS = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0", b"HTTP/1.2")
FIELDS = (
    b"Connection: close",
    b"Connection: keep-alive",
    b"Expect: 100-continue",
    b"Content-Type: text/plain",
    b"X-A: b",
    b"X-A: \xff",
    b"X-A: b\r\n c",
    b"Cookie: " + b"c" * 500,
)
FRAMINGS = (
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:chunked",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
)
BITS = (
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\r",
        b" ",
        b"\t",
        b"\0",
        b"\x0b",
        b"\x7f",
        b"\xff",
        b";",
        b":",
        b",",
        b"=",
        b'"',
        b"\\",
    ),
    *(b"0", b"1", b"-", b"+", b"_", b"x", b"f", b"0\r\n\r\n", b"\r\n\r\n", b"\r\n ", HIDDEN),
    *(
        b"1\r\na\r\n",
        b"ffffffffffffffff\r\n",
        b"5;a=b\r\n",
        b"X-A: b\r\n",
        *(line + b"\r\n" for line in FRAMINGS),
    ),
)


def in_chunks(pieces: list[bytes]) -> bytes:
    """Write a body in chunked coding; an empty piece would end it."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def twisted_stream(rng: random.Random) -> bytes:
    """Return some requests, most of them wrong somewhere."""
    data = b"".join(_request(rng) for _ in range(rng.randint(1, 4)))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        data = _twisted(rng, data)
    return data


def _request(rng: random.Random) -> bytes:
    body = rng.choice((b"", b"hello", HIDDEN, rng.randbytes(rng.choice((3, 20, 3000)))))
    lines = [b" ".join((rng.choice(METHODS), rng.choice(TARGETS), rng.choice(VERSIONS))), b"Host: a"]
    lines += rng.sample(FIELDS, rng.choice((0, 0, 1, 2)))
    match rng.randint(0, 9):
        case 0 | 1 | 2:
            lines.append(b"Content-Length: %d" % len(body))
        case 3 | 4 | 5 | 6:
            lines.append(b"Transfer-Encoding: chunked")
            middle = rng.randint(0, len(body))
            body = in_chunks([body[:middle], body[middle:]])
        case 7:
            lines += rng.sample(FRAMINGS, rng.randint(1, 2))
        case _:
            body = b""
    rng.shuffle(lines[1:])
    return b"\r\n".join([*lines, b"", body])


def _twisted(rng: random.Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    if rng.random() < 0.7:  # at the end of a line: that is where things begin and end
        start = max(0, data.find(b"\r\n", start) + rng.randint(-2, 2))
    end = min(len(data), start + rng.choice((0, 0, 1, 2, 5, 40)))
    match rng.randint(0, 4):
        case 0 | 1:
            new = rng.choice(BITS)
        case 2:
            new = rng.randbytes(rng.randint(1, 3))
        case 3:
            other = rng.randint(0, len(data))
            new = data[other : other + rng.randint(1, 60)]
        case _:
            new = b""
    return data[:start] + new + data[end:]
