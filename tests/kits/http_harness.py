"""What the HTTP tests share: a server on a free loopback port, and raw sockets to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from warehouse.transport.http.server import Exchange, Handler, HttpLimits, HttpServer, NowaitHandler

RECEIVE_S = 20.0  # longer than any answer takes; only a broken server makes a test wait for it

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@dataclass
class Answer:
    """One answer as it came over the socket."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def split_answers(received: bytes, *, is_head: bool = False) -> list[Answer]:
    """Cut what a server sent into answers; every byte must belong to one."""
    answers = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, f"no end of the head in {head!r}"
        first, *lines = head.split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 "), first
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        assert len(headers) == len(lines), f"a header came twice: {lines}"
        size = 0 if is_head else int(headers.get(b"content-length", b"0"))
        assert len(received) >= size, f"{len(received)} of {size} body bytes"
        answers.append(Answer(int(first[9:12]), headers, received[:size]))
        received = received[size:]
    return answers


@dataclass
class Served:
    server: HttpServer
    port: int
    nursery: trio.Nursery

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def talk(self, *pieces: bytes) -> bytes:
        """Send `pieces`, and return all that comes until the server closes."""
        async with await self.connect() as stream:
            for piece in pieces:
                await stream.send_all(piece)
            return await receive_all(stream)

    async def assert_alive(self) -> None:
        """A good request on a new connection gets its answer."""
        [answer] = split_answers(await self.talk(GOOD))
        assert answer.status == 200
        assert answer.body == b"GET|/good||0|"

    async def wait_until_idle(self, connection_count: int = 0) -> None:
        with trio.fail_after(RECEIVE_S):
            while self.server.connection_count > connection_count:
                await trio.sleep(0.002)


async def receive_all(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(RECEIVE_S):
        return b"".join([piece async for piece in stream])


async def receive_until(stream: trio.SocketStream, end: bytes) -> bytes:
    """Receive up to and including `end`, which must be the last thing that comes."""
    received = b""
    with trio.fail_after(RECEIVE_S):
        while not received.endswith(end):
            piece = await stream.receive_some()
            assert piece, f"closed after {received!r}"
            received += piece
    return received


@asynccontextmanager
async def serving(
    handler: Handler,
    limits: HttpLimits | None = None,
    *,
    handle_nowait: NowaitHandler | None = None,
    cors_origins: Sequence[str] = (),
) -> AsyncIterator[Served]:
    """Serve on a free port; on the way out every connection must end by itself."""
    server = HttpServer(handler, handle_nowait=handle_nowait, limits=limits, cors_origins=cors_origins)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        served = Served(server, listeners[0].socket.getsockname()[1], nursery)
        yield served
        await served.wait_until_idle()
        nursery.cancel_scope.cancel()


async def echo(exchange: Exchange) -> None:
    """Answer with what was asked, so that mixing up requests shows."""
    body = await exchange.read_body(1024 * 1024)
    lines = [exchange.method, exchange.path, exchange.query, b"%d" % len(body), body]
    await exchange.respond(200, [(b"Content-Type", b"text/plain")], b"|".join(lines))
