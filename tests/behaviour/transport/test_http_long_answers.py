"""Answers whose length nobody knows when they begin: h11 reads them, as another program would."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import h11
import pytest
import trio

from http_harness import GOOD, RECEIVE_S, Served, echo, receive_all, serving, split_answers
from tls_kit import LOOPBACK, Tls
from warehouse.errors import NoSuchNeedle
from warehouse.transport.http.channel import JOIN_SIZE, Body
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange, Handler

LARGE = bytes(range(256)) * 8 * 1024  # 2 MiB


def get(path: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"%b %b %b" % (method, path, version), b"Host: a", *lines, b"", b""])


def writing(*pieces: Body) -> Handler:
    async def handler(exchange: Exchange) -> None:
        if exchange.path == b"/good":
            await echo(exchange)
            return
        await exchange.start_chunked(200, [(b"Content-Type", b"text/plain")])
        for piece in pieces:
            await exchange.write(piece)
        assert exchange.answer_size == (0 if exchange.method == b"HEAD" else sum(map(len, pieces)))
        await exchange.end()

    return handler


def read_answer(
    data: bytes, *, method: str = "GET", is_whole: bool = True
) -> tuple[h11.Response, bytes, bytes]:
    """Return the head, the body, and what follows; the client has seen the end of the connection there."""
    client, body = h11.Connection(h11.CLIENT), bytearray()
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if is_whole:
        client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return head, bytes(body), client.trailing_data[0]


PIECES: dict[str, list[Body]] = {
    "nothing": [],
    "nothing, written": [b"", b""],
    "small pieces": [b"a", b"bc", b"", b"0\r\n\r\n"],
    "a joined piece": [b"x" * JOIN_SIZE],
    "a piece that is too large to be joined": [b"x" * (JOIN_SIZE + 1), b"y"],
    "large pieces": [LARGE, LARGE],
    "a view": [memoryview(LARGE)[5:100]],
}


@pytest.mark.parametrize("name", PIECES)
async def test_an_answer_without_a_length_comes_in_chunks_and_the_connection_goes_on(name):
    async with serving(writing(*PIECES[name])) as served:
        head, body, rest = read_answer(await served.talk(get(b"/") + GOOD))
        assert dict(head.headers)[b"transfer-encoding"] == b"chunked"
        assert b"content-length" not in dict(head.headers)
        assert body == b"".join(PIECES[name])
        [after] = split_answers(rest)
        assert after.body == b"GET|/good||0|"


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
@pytest.mark.parametrize("name", PIECES)
async def test_an_old_client_gets_the_bytes_until_the_connection_ends(name, connection):
    request = get(b"/", b"Connection: " + connection, version=b"HTTP/1.0")
    async with serving(writing(*PIECES[name])) as served:
        head, _, body = (await served.talk(request + GOOD)).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert b"Content-Length" not in head
        assert b"\r\nConnection: close" in head
        assert body == b"".join(PIECES[name])


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_head_gets_the_head_of_such_an_answer_alone(version):
    async with serving(writing(b"abc", LARGE)) as served:
        received = await served.talk(get(b"/", b"Connection: close", method=b"HEAD", version=version))
        assert received.endswith(b"\r\n\r\n")
        assert received.count(b"\r\n\r\n") == 1
        assert (b"Transfer-Encoding: chunked" in received) is (version == b"HTTP/1.1")


async def test_pieces_come_as_they_are_written():
    go_on = [trio.Event(), trio.Event()]

    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(200)
        for event in go_on:
            await exchange.write(b" ")  # as for a long copy, so that the client does not give up
            await event.wait()
        await exchange.end()

    async with serving(handler) as served, await served.connect() as stream:
        await stream.send_all(get(b"/", b"Connection: close"))
        received = b""
        for event in go_on:
            with trio.fail_after(RECEIVE_S):
                while not received.endswith(b"1\r\n \r\n"):
                    received += await stream.receive_some()
            received += b"|"
            event.set()
        assert await receive_all(stream) == b"0\r\n\r\n"


# --- handlers that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [NoSuchNeedle("x"), ZeroDivisionError("x"), None])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_an_answer_that_fails_half_way_is_never_completed(failure, version, caplog):
    has_come, ends_with_reset = trio.Event(), False

    async def handler(exchange: Exchange) -> None:
        if exchange.path == b"/good":
            await echo(exchange)
            return
        await exchange.start_chunked(200)
        await exchange.write(b"12345")
        await has_come.wait()
        if failure:
            raise failure

    async with serving(handler) as served:
        async with await served.connect() as stream:
            await stream.send_all(get(b"/", version=version))
            received = b""
            with trio.fail_after(RECEIVE_S):
                while b"12345" not in received:
                    received += await stream.receive_some()
                has_come.set()
                try:
                    received += await receive_all(stream)
                except trio.BrokenResourceError:
                    ends_with_reset = True
        assert ends_with_reset is (version == b"HTTP/1.0")
        assert received.endswith(b"5\r\n12345\r\n" if version == b"HTTP/1.1" else b"\r\n\r\n12345")
        with pytest.raises((h11.RemoteProtocolError, AssertionError)):
            read_answer(received, is_whole=version == b"HTTP/1.1")
        await served.assert_alive()
    told = {NoSuchNeedle: "answer cut short", ZeroDivisionError: "handler failed"}
    assert [record.message for record in caplog.records] == [
        told.get(type(failure), "handler did not end its answer")
    ]


async def test_over_tls_an_old_client_can_tell_a_torn_answer_from_a_whole_one(tmp_path: Path, caplog):
    tls = Tls(tmp_path)

    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(200)
        await exchange.write(b"12345")
        if exchange.path == b"/whole":
            await exchange.end()

    async def ended_well(served: Served, path: bytes) -> bool:
        stream = trio.SSLStream(await served.connect(), tls.any_client(), server_hostname=LOOPBACK)
        received = b""
        try:
            await stream.send_all(get(path, version=b"HTTP/1.0"))
            with trio.fail_after(RECEIVE_S):
                while piece := await stream.receive_some():
                    received += piece
        except trio.BrokenResourceError:
            return False
        finally:
            with suppress(trio.BrokenResourceError):
                await trio.aclose_forcefully(stream)
        return received.endswith(b"12345")

    async with serving(handler, tls=tls.server()) as served:
        assert await ended_well(served, b"/whole")
        assert not await ended_well(served, b"/torn")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_cannot_begin_such_an_answer(status, caplog):
    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(status)

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(get(b"/")))
        assert answer.status == 500


@pytest.mark.parametrize("way", ["write", "end"])
async def test_nothing_follows_the_end_of_an_answer(way, caplog):
    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(200)
        await exchange.write(b"abc")
        await exchange.end()
        await (exchange.write(b"more") if way == "write" else exchange.end())

    async with serving(handler) as served:
        _, body, rest = read_answer(await served.talk(get(b"/")))
        assert (body, rest) == (b"abc", b"")
    assert [record.message for record in caplog.records] == ["handler failed"]


async def test_only_an_answer_without_a_length_is_ended(caplog):
    async def handler(exchange: Exchange) -> None:
        if exchange.path == b"/started":
            await exchange.start(200, [], 3)
            await exchange.write(b"abc")
        await exchange.end()

    async with serving(handler) as served:
        [answer] = split_answers(await served.talk(get(b"/started")))
        assert answer.body == b"abc"
        [answer] = split_answers(await served.talk(get(b"/")))
        assert answer.status == 500


async def test_a_handler_that_was_cancelled_inside_a_chunk_cannot_go_on():
    outcomes = []

    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(200)
        with trio.move_on_after(0.05):
            await exchange.write(bytes(64 * 1024 * 1024))  # more than the sockets take
        for work in (exchange.write(b"abc"), exchange.end()):
            try:
                await work
            except Exception as error:
                outcomes.append(type(error).__name__)

    async with serving(handler) as served, await served.connect() as stream:
        await stream.send_all(get(b"/"))
        with trio.fail_after(RECEIVE_S):
            while len(outcomes) < 2:
                await trio.sleep(0.005)
        with suppress(trio.BrokenResourceError):
            assert not (await receive_all(stream)).endswith(b"0\r\n\r\n")
    assert outcomes == ["LinkDown"] * 2


async def test_a_client_that_does_not_read_is_cut_off():
    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(200)
        while True:
            await exchange.write(LARGE)

    limits = HttpLimits(write_stall_s=0.4, drain_s=0.4)
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        async with serving(handler, limits) as served, await served.connect() as stream:
            await stream.send_all(get(b"/", version=version))
            await served.wait_until_idle()


async def test_an_answer_may_begin_before_the_body_has_been_read():
    async def handler(exchange: Exchange) -> None:
        await exchange.start_chunked(200)
        while piece := await exchange.read_piece(100):
            await exchange.write(piece)
        await exchange.end()

    request = get(b"/", b"Content-Length: 1000", method=b"PUT") + bytes(1000)
    async with serving(handler) as served, await served.connect() as stream:
        await stream.send_all(request)
        await stream.send_eof()
        _, body, rest = read_answer(await receive_all(stream))
        assert (body, rest) == (bytes(1000), b"")
