"""What the HTTP tests share: a server on a free loopback port, raw sockets, and a count of descriptors."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from transport.http_server import Exchange, Handler, HttpLimits, HttpServer

RECEIVE_S = 10.0  # longer than any answer takes; only a broken server makes a test wait for it


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

    async def talk(self, *pieces: bytes, is_half_closed: bool = False) -> bytes:
        """Send `pieces`, and return all that comes until the server closes."""
        async with await self.connect() as stream:
            for piece in pieces:
                await stream.send_all(piece)
            if is_half_closed:
                await stream.send_eof()
            return await receive_all(stream)


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
    handler: Handler, limits: HttpLimits | None = None, *, cors_origins: Sequence[str] = ()
) -> AsyncIterator[Served]:
    """Serve on a free port; on the way out nothing may be left: no connection, no task."""
    server = HttpServer(handler, limits=limits, cors_origins=cors_origins)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        yield Served(server, listeners[0].socket.getsockname()[1], nursery)
        with trio.fail_after(RECEIVE_S):
            while server.connection_count:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def echo(exchange: Exchange) -> None:
    """Answer with what was asked, so that mixing up requests shows."""
    body = await exchange.read_body(1024 * 1024)
    lines = [exchange.method, exchange.path, exchange.query, b"%d" % len(body), body]
    await exchange.respond(200, [(b"Content-Type", b"text/plain")], b"|".join(lines))


def open_descriptors() -> int:
    directory = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    return len(os.listdir(directory))


@pytest.fixture
def no_descriptor_left():
    """Fail a test that leaves a socket open."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before
