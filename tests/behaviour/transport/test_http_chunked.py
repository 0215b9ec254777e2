"""Bodies in chunked coding over raw sockets, at a server that takes them: a gateway's, say.

What the coding is in detail is in `tests/unit/transport/test_chunked.py`, how the heads look in
`test_heads.py`.  Here a connection must go on where the body ends, and nowhere else.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from http_harness import (
    GOOD,
    Answer,
    Served,
    receive_all,
    receive_until,
    reset_when_closed,
    serving,
    split_answers,
)
from warehouse.errors import LengthRequired, StoreError, TokenExpired
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange, Handler
from warehouse.transport.http.heads import HeadRules

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024
LAST = b"0\r\n\r\n"

QUICK = HttpLimits(
    header_s=0.6,
    idle_s=1.0,
    body_stall_s=0.6,
    write_stall_s=0.6,
    drain_s=0.6,
    rate_grace_s=0.5,
    rate_min=1000,
)


def put(*pieces: bytes, lines: Sequence[bytes] = ()) -> bytes:
    """A PUT whose body is these pieces of framing."""
    head = [b"PUT / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", *lines, b"", b""]
    return b"\r\n".join(head) + b"".join(pieces)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def take(exchange: Exchange) -> None:
    """Answer as `echo` does, with bodies of either kind."""
    exchange.accept_body(MEBIBYTE)
    body = await exchange.read_body(MEBIBYTE)
    lines = [exchange.method, exchange.path, exchange.query, b"%d" % len(body), body]
    await exchange.respond(200, [(b"Content-Type", b"text/plain")], b"|".join(lines))


@asynccontextmanager
async def taking(handler: Handler = take, limits: HttpLimits | None = None) -> AsyncIterator[Served]:
    async with serving(handler, limits, rules=HeadRules(takes_chunked=True)) as served:
        yield served


async def ask(served: Served, request: bytes) -> list[Answer]:
    return split_answers(await served.talk(request))


# --- bodies that are taken ------------------------------------------------------------------------

BODIES = {
    "nothing": (LAST, b""),
    "one chunk": (chunk(b"abc") + LAST, b"abc"),
    "several chunks": (
        chunk(b"abc") + chunk(b"d" * 300) + chunk(b"\r\n") + LAST,
        b"abc" + b"d" * 300 + b"\r\n",
    ),
    "extensions and trailers": (b"3;a=b\r\nabc\r\n0;c\r\nX-A: b\r\n\r\n", b"abc"),
    "a long chunk": (chunk(b"x" * 300_000) + LAST, b"x" * 300_000),
    "many chunks": (chunk(b"x" * 1000) * 500 + LAST, b"x" * 500_000),
    "single bytes": (chunk(b"x") * 5000 + LAST, b"x" * 5000),
    "a request": (chunk(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n") + LAST, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
}


async def read_whole(exchange: Exchange) -> bytes:
    return await exchange.read_body(MEBIBYTE)


async def read_into(exchange: Exchange, size: int) -> bytes:
    body, view = bytearray(), memoryview(bytearray(size))
    assert await exchange.read_into(view[:0]) == 0
    while count := await exchange.read_into(view):
        body += view[:count]
    assert await exchange.read_into(view) == 0
    return bytes(body)


async def read_pieces(exchange: Exchange, size: int) -> bytes:
    body = bytearray()
    assert await exchange.read_piece(0) == b""
    while piece := await exchange.read_piece(size):
        assert len(piece) <= size
        body += piece
    assert await exchange.read_piece(size) == b""
    return bytes(body)


WAYS: dict[str, Callable[[Exchange], Awaitable[bytes]]] = {
    "whole": read_whole,
    "into a large buffer": functools.partial(read_into, size=70_000),
    "into a small buffer": functools.partial(read_into, size=7),
    "in large pieces": functools.partial(read_pieces, size=70_000),
    "in small pieces": functools.partial(read_pieces, size=7),
}


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_read_to_its_end_and_the_connection_goes_on(
    name: str, way: str, is_chunked: bool
) -> None:
    framed, wanted = BODIES[name]
    read: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(MEBIBYTE)
        read.append(await WAYS[way](exchange))
        assert exchange.body_left == 0
        await exchange.respond(200, [], b"|")

    request = (
        put(framed)
        if is_chunked
        else b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
        % (
            len(wanted),
            wanted,
        )
    )
    async with taking(handler) as served, await served.connect() as stream:
        for _ in range(2):
            await stream.send_all(request)
            answer = await receive_until(stream, b"|")
            assert b"Connection: close" not in answer
        await stream.send_all(GOOD)
        await receive_all(stream)
    assert read == [wanted, wanted, b""]


async def test_a_body_arrives_byte_by_byte() -> None:
    request = put(b"3;a=b\r\nabc\r\n00a\r\n0123456789\r\n0\r\nX-A: b\r\n\r\n")
    async with taking() as served, await served.connect() as stream:
        for _ in range(2):
            for octet in request:
                await stream.send_all(bytes((octet,)))
            assert (await receive_until(stream, b"|abc0123456789")).startswith(b"HTTP/1.1 200 ")


async def test_a_large_body_needs_no_memory_for_its_chunks() -> None:
    piece = bytes(range(256)) * 4 * KIBIBYTE  # 1 MiB
    total = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal total
        exchange.accept_body(100 * MEBIBYTE)
        while read := await exchange.read_piece(64 * MEBIBYTE):
            assert len(read) <= 256 * KIBIBYTE
            start = total % len(piece)
            assert read == (piece * 2)[start : start + len(read)]
            total += len(read)
        await exchange.respond(200)

    async with taking(handler) as served, await served.connect() as stream:
        await stream.send_all(put(b"%x\r\n" % (30 * MEBIBYTE), lines=[b"Connection: close"]))
        for _ in range(30):
            await stream.send_all(piece)
        await stream.send_all(b"\r\n" + LAST)
        assert (await receive_all(stream)).startswith(b"HTTP/1.1 200 ")
    assert total == 30 * MEBIBYTE


async def test_expect_is_answered_when_the_handler_wants_the_body() -> None:
    async with taking() as served, await served.connect() as stream:
        await stream.send_all(put(lines=[b"Expect: 100-continue"]))
        assert await receive_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(chunk(b"abc") + LAST)
        assert (await receive_until(stream, b"|abc")).startswith(b"HTTP/1.1 200 ")


async def test_expect_with_a_refusal_never_asks_for_the_body() -> None:
    async def handler(exchange: Exchange) -> None:
        raise TokenExpired("late")

    async with taking(handler) as served:
        [answer] = await ask(served, put(lines=[b"Expect: 100-continue"]))
        assert (answer.status, answer.headers[b"connection"]) == (401, b"close")


async def test_a_body_that_nobody_reads_but_has_come_keeps_the_connection() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [], b"|")

    async with taking(handler) as served, await served.connect() as stream:
        for framed in (LAST, chunk(b"abc") + LAST):
            await stream.send_all(put(framed))
            assert b"Connection: close" not in await receive_until(stream, b"|")


# --- bodies that are not --------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_handler_that_has_not_accepted_it_never_sees_a_body_in_chunks(way: str) -> None:
    failures = []

    async def handler(exchange: Exchange) -> None:
        try:
            await WAYS[way](exchange)
        except LengthRequired as error:
            failures.append(error)
            raise

    async with taking(handler) as served:
        [answer] = await ask(served, put(chunk(b"abc"), LAST, GOOD))
        assert (answer.status, answer.headers[b"connection"]) == (411, b"close")
        [answer] = await ask(served, put(lines=[b"Expect: 100-continue"]))
        assert answer.status == 411
    assert len(failures) == 2


@pytest.mark.parametrize("read_size", [3, 1000])
async def test_a_body_that_becomes_too_large_is_refused_when_it_does(read_size: int) -> None:
    read = bytearray()

    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(10)
        while piece := await exchange.read_piece(read_size):
            read.extend(piece)

    async with taking(handler) as served:
        # The second chunk never comes: its size is enough.
        [answer] = await ask(served, put(chunk(b"0123456"), b"4\r\n"))
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")
        assert answer.headers[b"connection"] == b"close"
        assert b"0123456".startswith(read)


async def test_the_smaller_of_two_limits_counts() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(1000)
        await exchange.read_body(10 if exchange.path == b"/" else 1000)

    async with taking(handler) as served:
        [answer] = await ask(served, put(chunk(b"0123456789a"), LAST))
        assert answer.status == 413


async def test_a_handler_that_forgives_malformed_framing_reads_nothing_more() -> None:
    failures = []

    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(MEBIBYTE)
        for _ in range(3):
            try:
                await exchange.read_piece(100)
            except StoreError as error:
                failures.append(error.code)
        await exchange.respond(200)

    async with taking(handler) as served, await served.connect() as stream:
        await stream.send_all(put(b"zz"))
        await stream.send_all(b"5\r\n5\r\nabcde\r\n" + LAST + GOOD)
        [answer] = split_answers(await receive_all(stream))
        assert answer.headers[b"connection"] == b"close"
    assert failures == ["bad_request"] * 3


@pytest.mark.parametrize(
    "sent", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nabc", b"5\r\nabcde", b"5\r\nabcde\r\n0\r\n"]
)
@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_client_that_leaves_inside_a_body_is_a_broken_link_for_the_handler(
    sent: bytes, is_reset: bool
) -> None:
    failures = []

    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(MEBIBYTE)
        try:
            await exchange.read_body(MEBIBYTE)
        except StoreError as error:
            failures.append(error.code)
            raise

    async with taking(handler) as served:
        async with await served.connect() as stream:
            await stream.send_all(put(sent))
            if is_reset:
                reset_when_closed(stream)
        await served.wait_until_idle()
    assert failures in (["link_down"], [])  # a reset may come before the request


@pytest.mark.parametrize(
    "sent", [b"", b"5", b"5\r\nabc", b"5\r\nabcde", chunk(b"x" * 50_000), b"0\r\nX-A: b\r\n"]
)
async def test_a_body_that_stalls_anywhere_is_a_408(sent: bytes) -> None:
    async with taking(limits=QUICK) as served:
        [answer] = await ask(served, put(sent))
        assert (answer.status, answer.headers[b"connection"]) == (408, b"close")


@pytest.mark.parametrize("piece", [b"1\r\na\r\n", b"1000", b"a"])
async def test_a_body_below_the_least_rate_is_a_408_though_it_never_stalls(piece: bytes) -> None:
    async with taking(limits=QUICK) as served, await served.connect() as stream:
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                await stream.send_all(b"10000\r\n" if piece == b"a" else b"")
                while True:
                    for octet in piece:
                        await stream.send_all(bytes((octet,)))
                        await trio.sleep(0.02)

            await stream.send_all(put())
            nursery.start_soon(drip)
            received = await receive_until(stream, b"}")
            nursery.cancel_scope.cancel()
        assert received[9:12] in (b"408", b"400")
        assert received[9:12] == b"408" or piece == b"1000"


async def test_a_handler_may_give_up_on_a_body_and_still_answer() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.accept_body(MEBIBYTE)
        with trio.move_on_after(0.01):
            await exchange.read_body(MEBIBYTE)
        await exchange.respond(200, [], b"enough")

    async with taking(handler, QUICK) as served:
        [answer] = await ask(served, put(chunk(b"abc")))
        assert (answer.body, answer.headers[b"connection"]) == (b"enough", b"close")


async def test_a_client_that_sends_a_large_unwanted_body_still_gets_its_answer() -> None:
    async def handler(exchange: Exchange) -> None:
        raise TokenExpired("late")

    async with taking(handler) as served:
        [answer] = await ask(served, put(chunk(bytes(20 * MEBIBYTE)), LAST))
        assert (answer.status, answer.headers[b"connection"]) == (401, b"close")


async def test_a_body_of_tiny_chunks_lets_the_others_have_their_turn() -> None:
    count = 20_000
    read = 0
    begun, turns = trio.Event(), []

    async def handler(exchange: Exchange) -> None:
        nonlocal read
        exchange.accept_body(MEBIBYTE)
        begun.set()
        view = memoryview(bytearray(MEBIBYTE))
        while more := await exchange.read_into(view):
            read += more
        await exchange.respond(200)

    async def watch() -> None:
        await begun.wait()
        while read < count:
            turns.append(read)
            await trio.lowlevel.checkpoint()

    async with taking(handler) as served, await served.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(receive_all, stream)
        await stream.send_all(put(chunk(b"x") * count, LAST, lines=[b"Connection: close"]))
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 1000


# --- smuggling ------------------------------------------------------------------------------------

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def request(*lines: bytes, body: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"POST") -> bytes:
    return b"\r\n".join([b"%b / %b" % (method, version), b"Host: a", *lines, b"", body])


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d"

# Requests of which a proxy and a server may find different ends, and the status of the only answer.
SMUGGLING = {
    "CL.TE": (request(LENGTH % (len(LAST + HIDDEN)), CHUNKED, body=LAST + HIDDEN), 400),
    "TE.CL": (request(CHUNKED, LENGTH % 4, body=chunk(HIDDEN) + LAST), 400),
    "TE.0": (request(CHUNKED, LENGTH % 0, body=chunk(HIDDEN) + LAST), 400),
    "0.CL": (request(LENGTH % len(HIDDEN), body=HIDDEN, method=b"GET"), 200),
    "TE.TE, the second unknown": (request(CHUNKED, b"Transfer-Encoding: cow", body=LAST + HIDDEN), 400),
    "TE.TE, the first unknown": (request(b"Transfer-Encoding: cow", CHUNKED, body=LAST + HIDDEN), 400),
    "TE.TE, the same twice": (request(CHUNKED, CHUNKED, body=LAST + HIDDEN), 400),
    "TE.TE, other letters": (request(CHUNKED, b"transfer-encoding: CHUNKED", body=LAST + HIDDEN), 400),
    "chunked, identity": (request(b"Transfer-Encoding: chunked, identity", body=LAST + HIDDEN), 400),
    "identity, chunked": (request(b"Transfer-Encoding: identity, chunked", body=LAST + HIDDEN), 400),
    "identity": (request(b"Transfer-Encoding: identity", LENGTH % 5, body=LAST + HIDDEN), 400),
    "xchunked": (request(b"Transfer-Encoding: xchunked", body=LAST + HIDDEN), 400),
    "blank before the colon": (
        request(b"Transfer-Encoding : chunked", LENGTH % 5, body=LAST + HIDDEN),
        400,
    ),
    "tab before the value": (request(b"Transfer-Encoding:\tchunked", body=LAST + HIDDEN), 200),
    "vertical tab before the value": (request(b"Transfer-Encoding:\x0bchunked", body=LAST + HIDDEN), 400),
    "folded": (request(b"Transfer-Encoding:", b" chunked", LENGTH % 5, body=LAST + HIDDEN), 400),
    "folded with a tab": (request(b"Transfer-Encoding:", b"\tchunked", body=LAST + HIDDEN), 400),
    "folded away": (
        request(b"X-A: b", b" Transfer-Encoding: chunked", LENGTH % 5, body=LAST + HIDDEN),
        400,
    ),
    "after a bare line feed": (request(b"X-A: b\nTransfer-Encoding: chunked", body=LAST + HIDDEN), 400),
    "after a bare carriage return": (
        request(b"X-A: b\rTransfer-Encoding: chunked", body=LAST + HIDDEN),
        400,
    ),
    "behind NUL": (request(b"X-A: b\0", CHUNKED, LENGTH % 5, body=LAST + HIDDEN), 400),
    "two lengths": (request(LENGTH % 0, LENGTH % len(HIDDEN), body=HIDDEN), 400),
    "a list of lengths": (request(b"Content-Length: 0, %d" % len(HIDDEN), body=HIDDEN), 400),
    "a signed length": (request(b"Content-Length: +5", body=LAST + HIDDEN), 400),
    "HTTP/1.0 and chunked": (request(CHUNKED, body=LAST + HIDDEN, version=b"HTTP/1.0"), 400),
    "HTTP/1.0, chunked and kept": (
        request(CHUNKED, b"Connection: keep-alive", body=LAST + HIDDEN, version=b"HTTP/1.0"),
        400,
    ),
    "a name that looks alike": (request(b"Transfer_Encoding: chunked", LENGTH % 5, body=LAST), 200),
    "coding named in Connection": (
        request(CHUNKED, b"Connection: close, Transfer-Encoding", body=LAST + HIDDEN),
        200,
    ),
    "an upgrade": (request(CHUNKED, b"Connection: Upgrade", b"Upgrade: h2c", body=LAST + HIDDEN), 200),
    "a request behind the body": (request(CHUNKED, body=LAST + HIDDEN), 200),
    "a request behind a GET with a body": (request(CHUNKED, body=LAST + HIDDEN, method=b"GET"), 200),
    "a size that is too small": (request(CHUNKED, body=b"1\r\nabc\r\n" + LAST + HIDDEN), 400),
    "a size that is too large": (request(CHUNKED, body=b"5\r\nabc\r\n" + LAST + HIDDEN), 400),
    "an octal size": (request(CHUNKED, body=b"010\r\nabcdefgh\r\n" + LAST + HIDDEN), 400),
    "2**32 and 3": (request(CHUNKED, body=b"100000003\r\nabc\r\n" + LAST + HIDDEN), 413),
    "2**64 and 3": (request(CHUNKED, body=b"10000000000000003\r\nabc\r\n" + LAST + HIDDEN), 400),
    "a negative size": (request(CHUNKED, body=b"-1\r\nabc\r\n" + LAST + HIDDEN), 400),
    "0x": (request(CHUNKED, body=b"0x3\r\nabc\r\n" + LAST + HIDDEN), 400),
    "a size with an underscore": (
        request(CHUNKED, body=b"1_0\r\n" + bytes(16) + b"\r\n" + LAST + HIDDEN),
        400,
    ),
    "a bare line feed behind the size": (request(CHUNKED, body=b"3\nabc\r\n" + LAST + HIDDEN), 400),
    "a bare line feed in an extension": (request(CHUNKED, body=b"3;\nabc\r\n" + LAST + HIDDEN), 400),
    "a bare carriage return in an extension": (
        request(CHUNKED, body=b"3;a\rb\r\nabc\r\n" + LAST + HIDDEN),
        400,
    ),
    "a bare line feed behind the data": (request(CHUNKED, body=b"3\r\nabc\n" + LAST + HIDDEN), 400),
    "any two bytes behind the data": (request(CHUNKED, body=b"3\r\nabcXX" + LAST + HIDDEN), 400),
    "a bare line feed behind the last chunk": (request(CHUNKED, body=b"0\n\r\n" + HIDDEN), 400),
    "a bare line feed at the end": (request(CHUNKED, body=b"0\r\n\n" + HIDDEN), 400),
    "no empty line": (request(CHUNKED, body=b"0\r\n" + HIDDEN), 400),
    "a length in the trailers": (request(CHUNKED, body=b"0\r\nContent-Length: 3\r\n\r\n" + HIDDEN), 400),
    "a folded trailer": (request(CHUNKED, body=b"0\r\nX-A: b\r\n c\r\n\r\n" + HIDDEN), 400),
}


async def send_at_will(stream: trio.SocketStream, sent: bytes, step: int) -> bytes:
    """Send in pieces of `step` bytes, and return all that comes; the server may refuse in the middle."""
    received = b""
    with suppress(trio.BrokenResourceError):
        for start in range(0, len(sent), step):
            await stream.send_all(sent[start : start + step])
        await stream.send_eof()
    with suppress(trio.BrokenResourceError):
        received = await receive_all(stream)
    return received


@pytest.mark.parametrize("name", SMUGGLING)
async def test_nothing_is_smuggled(name: str) -> None:
    sent, status = SMUGGLING[name]
    asked = []

    async def handler(exchange: Exchange) -> None:
        asked.append(exchange.path)
        await take(exchange)

    async with taking(handler) as served:
        async with await served.connect() as stream:
            answers = split_answers(await send_at_will(stream, sent, len(sent)))
            assert [answer.status for answer in answers] == [status]
        # What has not come when the answer goes out is the next request; behind a refusal there is none.
        if status != 200:
            async with await served.connect() as stream:
                answers = split_answers(await send_at_will(stream, sent, 1))
                assert [answer.status for answer in answers] in ([status], [])
    assert b"/smuggled" not in asked
