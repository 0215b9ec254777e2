"""The HTTP client against the real server, and against servers that misbehave."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from http_harness import RECEIVE_S, echo, receive_until, reset_when_closed, serving
from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
    LengthMismatch,
    LinkDown,
    TokenExpired,
)
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.pool import HttpPool

KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def pooling(**options: float) -> AsyncIterator[HttpPool]:
    pool = HttpPool(**options)  # type: ignore[arg-type]
    try:
        yield pool
    finally:
        await pool.aclose()


class Script:
    """A server that handles its first connection with the first function, the second with the second, ..."""

    def __init__(self, *scenes: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        self._scenes = list(scenes)
        self.connection_count = 0
        self.url = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connection_count += 1
        async with stream:
            await self._scenes.pop(0)(stream)


@asynccontextmanager
async def playing(*scenes: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[Script]:
    script = Script(*scenes)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, script.serve, 0)
        script.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield script
        nursery.cancel_scope.cancel()


def answering(answer: bytes, count: int = 1) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Answer `count` requests, then close."""

    async def scene(stream: trio.SocketStream) -> None:
        for _ in range(count):
            await receive_until(stream, b"\r\n\r\n")
            await stream.send_all(answer)

    return scene


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


# --- round trips ----------------------------------------------------------------------------------


async def test_a_round_trip_carries_method_target_headers_and_body():
    seen = {}

    async def handler(exchange):
        seen.update(exchange.headers)
        await echo(exchange)

    async with serving(handler) as served, pooling() as pool:
        status, headers, body = await pool.request(
            "PUT", served.url, "/a/b?c=d", headers=[("X-Warehouse-Key", "e%20f")], body=b"hello"
        )
        assert (status, body) == (200, b"PUT|/a/b|c=d|5|hello")
        assert headers["content-type"] == "text/plain"
    assert seen[b"x-warehouse-key"] == b"e%20f"
    assert seen[b"host"] == served.url.removeprefix("http://").encode()


async def test_an_empty_body_is_sent_as_such():
    async with serving(echo) as served, pooling() as pool:
        for body in (None, b""):
            assert (await pool.request("PUT", served.url, "/", body=body))[2] == b"PUT|/||0|"


async def test_refusals_come_back_as_answers():
    async def handler(exchange):
        raise TokenExpired("late")

    async with serving(handler) as served, pooling() as pool:
        status, _, body = await pool.request("GET", served.url, "/")
        assert (status, body) == (401, b'{"code":"token_expired","message":"late"}')


async def test_head_has_a_length_and_no_body():
    async with serving(echo) as served, pooling() as pool:
        for _ in range(2):
            status, headers, body = await pool.request("HEAD", served.url, "/x")
            assert (status, headers["content-length"], body) == (200, "11", b"")
        assert served.server.connection_count == 1


async def test_connections_are_used_again_and_no_more_are_opened_than_needed():
    async with serving(echo) as served, pooling() as pool:
        for number in range(20):
            assert (await pool.request("GET", served.url, f"/{number}"))[2] == b"GET|/%d||0|" % number
        assert served.server.connection_count == 1


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 5 * MEBIBYTE])
async def test_bodies_of_any_size_go_both_ways(size):
    async def handler(exchange):
        await exchange.respond(200, [], await exchange.read_body(10 * MEBIBYTE))

    body = bytes(range(256)) * (size // 256 + 1)
    async with serving(handler) as served, pooling() as pool:
        assert (await pool.request("PUT", served.url, "/", body=memoryview(body)[:size]))[2] == body[:size]


async def test_many_tasks_share_few_connections_and_nobody_gets_anothers_answer():
    async with serving(echo) as served, pooling(connections_max=3) as pool:

        async def ask(name: int) -> None:
            for number in range(10):
                body = b"%d-%d" % (name, number)
                answer = (await pool.request("PUT", served.url, f"/{name}", body=body))[2]
                assert answer == b"PUT|/%d||%d|%b" % (name, len(body), body)

        async with trio.open_nursery() as nursery:
            for name in range(20):
                nursery.start_soon(ask, name)
        assert served.server.connection_count == 3


async def test_who_waits_for_a_connection_is_served_in_order_of_arrival():
    order = []

    async with serving(echo) as served, pooling(connections_max=1) as pool:

        async def ask(name: int) -> None:
            await pool.request("GET", served.url, "/")
            order.append(name)

        async with trio.open_nursery() as nursery:
            for name in range(10):
                nursery.start_soon(ask, name)
                await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(10))


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a b", []),
        ("/a\r\nX-Forged: 1", []),
        ("/", [("X-A", "b\r\nX-Forged: 1")]),
        ("/", [("X-A\n", "b")]),
        ("/", [("X-A", "b\0")]),
        ("/", [("X-A", "\u2603")]),
    ],
)
async def test_what_would_forge_a_request_is_never_sent(target, headers):
    async with serving(echo) as served, pooling() as pool:
        with pytest.raises(BadRequest):
            await pool.request("GET", served.url, target, headers=headers)
        assert served.server.connection_count == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a:1",
        "a:1",
        "http://",
        "http://a:1/b",
        "http://a:1?b",
        "http://a:99999",
        "http://a:b",
        "http://[a",
    ],
)
async def test_an_address_that_is_none_is_refused(url):
    async with pooling() as pool:
        with pytest.raises(BadRequest):
            await pool.request("GET", url, "/")


async def test_an_answer_larger_than_expected_is_not_read():
    async def handler(exchange):
        await exchange.respond(200, [], bytes(100_000))

    async with serving(handler) as served, pooling() as pool:
        with pytest.raises(BodyTooLarge):
            await pool.request("GET", served.url, "/", response_size_max=99_999)
        status, _, body = await pool.request("GET", served.url, "/", response_size_max=100_000)
        assert (status, len(body)) == (200, 100_000)


# --- streams --------------------------------------------------------------------------------------


async def pieces_of(size: int, piece_size: int = MEBIBYTE) -> AsyncIterator[bytes]:
    for start in range(0, size, piece_size):
        await trio.lowlevel.checkpoint()
        yield bytes([start // piece_size % 256]) * min(piece_size, size - start)


async def count_body(exchange) -> None:
    piece = memoryview(bytearray(MEBIBYTE))
    total = 0
    while count := await exchange.read_into(piece):
        total += count
    await exchange.respond(201, [], b"%d" % total)


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_large_upload_arrives_whole(is_whole):
    size = 20 * MEBIBYTE + 17
    how = {"body": bytes(size)} if is_whole else {"body_length": size, "body_pieces": pieces_of(size)}
    async with serving(count_body) as served, pooling() as pool:
        async with pool.stream("PUT", served.url, "/", **how) as response:
            assert (response.status, await response.read()) == (201, b"%d" % size)
        await pool.request("PUT", served.url, "/", body=b"x")
        assert served.server.connection_count == 1


async def test_a_large_download_comes_in_pieces():
    size = 20 * MEBIBYTE + 17

    async def handler(exchange):
        await exchange.start(200, [], size)
        async for piece in pieces_of(size):
            await exchange.write(piece)

    async with serving(handler) as served, pooling() as pool:
        async with pool.stream("GET", served.url, "/") as response:
            assert response.content_length == size
            received = bytearray()
            piece = memoryview(bytearray(700_000))
            while count := await response.read_into(piece):
                received += piece[:count]
        assert received == b"".join([piece async for piece in pieces_of(size)])
        async with pool.stream("GET", served.url, "/") as response:
            assert await response.read() == received
        assert served.server.connection_count == 1


async def test_an_answer_may_begin_before_the_body_has_ended():
    async def handler(exchange):
        await exchange.start(200, [], exchange.content_length)
        piece = memoryview(bytearray(64 * KIBIBYTE))
        while count := await exchange.read_into(piece):
            await exchange.write(piece[:count])

    size = 300 * KIBIBYTE
    async with (
        serving(handler) as served,
        pooling() as pool,
        pool.stream("PUT", served.url, "/", body_length=size, body_pieces=pieces_of(size, 1000)) as response,
    ):
        assert await response.read() == b"".join([piece async for piece in pieces_of(size, 1000)])


async def test_an_early_refusal_ends_the_upload():
    async def handler(exchange):
        await exchange.read_into(memoryview(bytearray(1000)))
        raise TokenExpired("late")

    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += MEBIBYTE
            yield bytes(MEBIBYTE)

    # The server would go on throwing bytes away for an hour; it is the client that stops.
    with trio.fail_after(RECEIVE_S):
        async with (
            serving(handler, HttpLimits(drain_s=3600.0)) as served,
            pooling() as pool,
            pool.stream("PUT", served.url, "/", body_length=10**12, body_pieces=endless()) as response,
        ):
            assert response.status == 401
            assert b"token_expired" in await response.read()
    assert 0 < sent < 10**12


async def test_pieces_whose_own_connection_ends_wait_for_no_answer():
    async def torn():
        yield bytes(1000)
        raise LinkDown("whoever sends the pieces has gone")

    with trio.fail_after(RECEIVE_S):
        async with serving(count_body) as served, pooling() as pool:
            with pytest.raises(LinkDown, match="has gone"):
                async with pool.stream("PUT", served.url, "/", body_length=MEBIBYTE, body_pieces=torn()):
                    pass


async def test_an_early_refusal_is_seen_by_a_whole_body_too():
    async def handler(exchange):
        raise TokenExpired("late")

    async with serving(handler) as served, pooling() as pool:
        async with pool.stream("PUT", served.url, "/", body=bytes(50 * MEBIBYTE)) as response:
            assert response.status == 401
        assert (await pool.request("PUT", served.url, "/", body=bytes(5 * MEBIBYTE)))[0] == 401


async def test_a_refusal_followed_by_a_reset_is_still_read():
    async def scene(stream):
        await receive_until_head(stream)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        # Unread bytes lie here, so this close sends a reset.

    async with playing(scene, scene) as script, pooling() as pool:
        async with pool.stream("PUT", script.url, "/", body=bytes(50 * MEBIBYTE)) as response:
            assert (response.status, await response.read()) == (413, b"no")
        status, _, body = await pool.request("PUT", script.url, "/", body=bytes(50 * MEBIBYTE))
        assert (status, body) == (413, b"no")


async def receive_until_head(stream: trio.SocketStream) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive_some(1000)


@pytest.mark.parametrize("size", [MEBIBYTE - 1, MEBIBYTE + 1])
async def test_pieces_that_are_not_as_long_as_declared_are_an_error(size):
    async with serving(count_body) as served, pooling() as pool:
        with pytest.raises(LengthMismatch):
            async with pool.stream(
                "PUT", served.url, "/", body_length=MEBIBYTE, body_pieces=pieces_of(size, 100_000)
            ):
                raise AssertionError("there can be no answer")
        assert (await pool.request("PUT", served.url, "/", body=b"x"))[0] == 201


async def test_a_source_that_fails_fails_the_upload_with_its_own_error():
    async def failing():
        yield bytes(MEBIBYTE)
        raise ZeroDivisionError("source")

    async with serving(count_body) as served, pooling() as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.stream("PUT", served.url, "/", body_length=2 * MEBIBYTE, body_pieces=failing()):
                raise AssertionError("there can be no answer")


async def test_a_slow_source_is_no_stall_of_the_server():
    async def slow():
        yield bytes(1000)
        await trio.sleep(1.5)
        yield bytes(1000)

    async with (
        serving(count_body) as served,
        pooling(stall_s=0.6) as pool,
        pool.stream("PUT", served.url, "/", body_length=2000, body_pieces=slow()) as response,
    ):
        assert await response.read() == b"2000"


async def test_a_stream_left_early_closes_its_connection_and_errors_pass_through_unchanged():
    async def handler(exchange):
        await exchange.respond(200, [], bytes(10 * MEBIBYTE))

    async with serving(handler) as served, pooling() as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.stream("GET", served.url, "/"):
                raise ZeroDivisionError
        await served.wait_until_idle()
        for read_size in (0, 10, 100_000):  # nothing, less and more than what came with the head
            async with pool.stream("GET", served.url, "/") as response:
                await response.read_into(memoryview(bytearray(read_size)))
            await served.wait_until_idle()


async def test_pieces_need_a_length():
    async with pooling() as pool:
        with pytest.raises(ValueError, match="body_length"):
            async with pool.stream("PUT", "http://127.0.0.1:1", "/", body_pieces=pieces_of(1)):
                raise AssertionError("there can be no answer")


# --- servers that misbehave -----------------------------------------------------------------------


async def test_nobody_listening_is_a_broken_link():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    async with pooling() as pool:
        with pytest.raises(LinkDown):
            await pool.request("GET", f"http://127.0.0.1:{port}", "/")


async def test_a_connection_that_does_not_come_about_is_a_broken_link():
    # A listener whose queue is full answers no further connection request.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with pooling(connect_s=0.1) as pool:
            with pytest.raises(LinkDown, match="within"):
                await pool.request("GET", f"http://127.0.0.1:{full.getsockname()[1]}", "/")


BAD_ANSWERS = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "a short body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    "no body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_an_answer_that_is_none_is_a_broken_link_and_its_connection_is_not_used_again(name):
    async with playing(answering(BAD_ANSWERS[name]), answering(ANSWER)) as script, pooling() as pool:
        with pytest.raises(LinkDown):
            await pool.request("PUT", script.url, "/")
        assert (await pool.request("PUT", script.url, "/"))[2] == b"ok"
        assert script.connection_count == 2


async def test_an_endless_head_is_not_read_forever():
    async def scene(stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nX-A: ")
        while True:
            await stream.send_all(b"a" * 10_000)

    async def enduring(stream):
        with pytest.raises(trio.BrokenResourceError):
            await scene(stream)

    async with playing(enduring) as script, pooling() as pool:
        with pytest.raises(LinkDown, match="longer than"):
            await pool.request("GET", script.url, "/")


async def test_a_body_without_a_length_ends_with_the_connection():
    async with playing(answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)) as script, pooling() as pool:
        assert (await pool.request("GET", script.url, "/"))[2] == b"x" * 100_000


async def test_a_body_without_a_length_is_bounded_too():
    async with playing(answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)) as script, pooling() as pool:
        with pytest.raises(BodyTooLarge):
            await pool.request("GET", script.url, "/", response_size_max=99_999)


async def test_interim_answers_are_skipped():
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ANSWER
    async with playing(answering(answer, 2)) as script, pooling() as pool:
        for _ in range(2):
            assert (await pool.request("GET", script.url, "/"))[0] == 200


async def test_an_answer_in_single_bytes_is_understood():
    async def scene(stream):
        await receive_until(stream, b"\r\n\r\n")
        for byte in ANSWER:
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()

    async with playing(scene) as script, pooling() as pool:
        assert (await pool.request("GET", script.url, "/"))[2] == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ANSWER + b"HTTP/1.1 200 OK",  # bytes that no request asked for
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_not_kept(answer):
    async def scene(stream):
        async for _ in stream:
            await stream.send_all(answer)

    async with playing(scene, scene) as script, pooling() as pool:
        for _ in range(2):
            assert (await pool.request("GET", script.url, "/"))[2] == b"ok"
        assert script.connection_count == 2


async def test_connections_that_have_become_spare_are_closed(monkeypatch):
    async with serving(echo) as served, pooling() as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pool.request, "GET", served.url, "/")
        assert served.server.connection_count == 5
        monkeypatch.setattr("warehouse.transport.http.pool.IDLE_S", 0.0)
        for _ in range(5):
            assert (await pool.request("GET", served.url, "/"))[0] == 200
        await served.wait_until_idle(1)
        assert (await pool.request("GET", served.url, "/"))[0] == 200


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_connection_closed_while_idle_is_replaced(method):
    async with playing(answering(ANSWER), answering(ANSWER)) as script, pooling() as pool:
        for _ in range(2):
            assert (await pool.request(method, script.url, "/"))[2] == b"ok"
            await trio.testing.wait_all_tasks_blocked(0.01)  # the server's close has arrived
        assert script.connection_count == 2


def closing_on_the_second(*, is_reset: bool) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server that closes just when the client uses a kept connection again: the client cannot know before."""

    async def scene(stream: trio.SocketStream) -> None:
        await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(ANSWER)
        await receive_until(stream, b"\r\n\r\n")
        if is_reset:
            reset_when_closed(stream)

    return scene


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_read_that_meets_a_closing_server_is_repeated_once(is_reset):
    scene = closing_on_the_second(is_reset=is_reset)
    async with playing(scene, answering(ANSWER)) as script, pooling() as pool:
        for _ in range(2):
            assert (await pool.request("GET", script.url, "/"))[2] == b"ok"
        assert script.connection_count == 2


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_write_that_meets_a_closing_server_is_not_repeated(is_reset):
    scene = closing_on_the_second(is_reset=is_reset)
    async with playing(scene, answering(ANSWER)) as script, pooling() as pool:
        assert (await pool.request("PUT", script.url, "/"))[2] == b"ok"
        with pytest.raises(LinkDown):
            await pool.request("PUT", script.url, "/")
        assert script.connection_count == 1


async def test_a_read_is_not_repeated_on_a_fresh_connection_nor_after_the_first_byte():
    async def half(stream):
        await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(ANSWER)
        await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(b"H")

    async with playing(answering(b""), half) as script, pooling() as pool:
        with pytest.raises(LinkDown):
            await pool.request("GET", script.url, "/")
        assert (await pool.request("GET", script.url, "/"))[2] == b"ok"
        with pytest.raises(LinkDown):
            await pool.request("GET", script.url, "/")
        assert script.connection_count == 2


async def test_a_server_that_dies_inside_a_body_is_a_broken_link():
    async def scene(stream):
        await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000))
        reset_when_closed(stream)

    async with playing(scene, scene) as script, pooling() as pool:
        with pytest.raises(LinkDown):
            await pool.request("GET", script.url, "/")
        async with pool.stream("GET", script.url, "/") as response:
            assert await response.read_into(memoryview(bytearray(1000)))
            with pytest.raises(LinkDown):
                await response.read_into(memoryview(bytearray(1000)))


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"]
)
async def test_a_server_that_falls_silent_is_a_missed_deadline(begin):
    async def scene(stream):
        await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(begin)
        await trio.sleep_forever()

    async with playing(scene) as script, pooling(stall_s=0.1) as pool:
        with trio.fail_after(RECEIVE_S), pytest.raises(DeadlineExceeded):
            await pool.request("GET", script.url, "/")


async def test_a_server_that_takes_nothing_is_a_missed_deadline():
    body = bytes(100 * MEBIBYTE)
    async with playing(silent, silent) as script, pooling(stall_s=0.1) as pool:
        with trio.fail_after(RECEIVE_S), pytest.raises(DeadlineExceeded):
            await pool.request("PUT", script.url, "/", body=body)
        with trio.fail_after(RECEIVE_S), pytest.raises(DeadlineExceeded):
            async with pool.stream("PUT", script.url, "/", body=body):
                raise AssertionError("there can be no answer")


async def test_a_server_that_takes_an_upload_and_says_nothing_is_a_missed_deadline():
    async def scene(stream):
        async for _ in stream:
            pass

    async with playing(scene) as script, pooling(stall_s=0.1) as pool:
        with trio.fail_after(RECEIVE_S), pytest.raises(DeadlineExceeded):
            async with pool.stream(
                "PUT", script.url, "/", body_length=MEBIBYTE, body_pieces=pieces_of(MEBIBYTE)
            ):
                raise AssertionError("there can be no answer")


# --- cancellation and the end ---------------------------------------------------------------------


async def test_a_cancelled_request_gives_its_place_back_and_closes_its_connection():
    async def handler(exchange):
        if exchange.path == b"/hang":
            await trio.sleep_forever()
        await echo(exchange)

    async with serving(handler, HttpLimits()) as served, pooling(connections_max=1) as pool:
        with trio.move_on_after(0.05) as scope:
            await pool.request("GET", served.url, "/hang")
        assert scope.cancelled_caught
        with trio.fail_after(RECEIVE_S):
            assert (await pool.request("GET", served.url, "/x"))[2] == b"GET|/x||0|"
        served.nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_waiting_for_source", [True, False])
async def test_a_cancelled_upload_gives_its_place_back(is_waiting_for_source):
    async def source():
        yield bytes(MEBIBYTE)
        if is_waiting_for_source:
            await trio.sleep_forever()
        while True:
            yield bytes(MEBIBYTE)

    async def slow(exchange):
        if exchange.method == b"PUT":
            await trio.sleep(0.1)  # so that the sender meets a full socket
        await count_body(exchange)

    async with serving(slow) as served, pooling(connections_max=1) as pool:
        with trio.move_on_after(0.05) as scope:
            async with pool.stream("PUT", served.url, "/", body_length=10**12, body_pieces=source()):
                raise AssertionError("there can be no answer")
        assert scope.cancelled_caught
        with trio.fail_after(RECEIVE_S):
            assert (await pool.request("GET", served.url, "/"))[0] == 201


async def test_waiting_for_a_place_can_be_cancelled():
    async with playing(silent) as script, pooling(connections_max=1) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.request, "GET", script.url, "/")
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.05) as scope:
                await pool.request("GET", script.url, "/")
            assert scope.cancelled_caught
            nursery.cancel_scope.cancel()
        assert script.connection_count == 1


async def test_a_closed_pool_keeps_nothing_and_takes_nothing():
    async with serving(echo) as served:
        pool = HttpPool()
        await pool.request("GET", served.url, "/")
        async with pool.stream("GET", served.url, "/") as response:
            await pool.aclose()
            assert await response.read() == b"GET|/||0|"
        await served.wait_until_idle()
        for url in (served.url, "http://127.0.0.1:1"):
            with pytest.raises(LinkDown, match="closed"):
                await pool.request("GET", url, "/")
