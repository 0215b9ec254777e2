"""What the HTTP tests share: a server on a free loopback port, and raw sockets to talk to it."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import trio

from warehouse.transport.http.connection import Connection, HttpLimits, State
from warehouse.transport.http.exchange import Exchange, Handler
from warehouse.transport.http.leader_followers import MOVES
from warehouse.transport.http.server import HttpServer
from warehouse.transport.http.tls import ServerTls
from warehouse.transport.http.tls_connection import TlsConnection

RECEIVE_S = 20.0  # longer than any answer takes; only a broken server makes a test wait for it

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"  # for a `Gate`


class CheckedMoves:
    """Makes no move but those of the table, and remembers which moves it made."""

    __slots__ = ()
    _checked_state: State
    moves: ClassVar[set[tuple[State, State]]] = set()  # of all connections together

    @property
    def state(self) -> State:
        return self._checked_state

    @state.setter
    def state(self, state: State) -> None:
        before = getattr(self, "_checked_state", None)
        if before is None:
            assert state is State.IDLE, f"a connection begins as {state.name}"
        else:
            assert state in MOVES[before], f"no arrow leads from {before.name} to {state.name}"
            self.moves.add((before, state))
        setattr(self, "_checked_state", state)  # noqa: B010 - a slot of the class below


class CheckedConnection(CheckedMoves, Connection):
    """A connection that checks its moves.

    `tests/behaviour/conftest.py` puts it, and the next, into every server of the tests there.
    """

    __slots__ = ("_checked_state",)


class CheckedTlsConnection(CheckedMoves, TlsConnection):
    __slots__ = ("_checked_state",)


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
    is_tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}"

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


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    with trio.fail_after(RECEIVE_S):
        return b"".join([piece async for piece in stream])


async def receive_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    """Receive up to and including `end`, which must be the last thing that comes."""
    received = b""
    with trio.fail_after(RECEIVE_S):
        while not received.endswith(end):
            piece = await stream.receive_some()
            assert piece, f"closed after {received!r}"
            received += piece
    return received


async def start_server(
    nursery: trio.Nursery,
    handler: Handler,
    limits: HttpLimits | None = None,
    *,
    tls: ServerTls | None = None,
    **options: Any,
) -> Served:
    """Serve on a free port, until the nursery is cancelled or the server stopped.

    Args:
        options: others of `HttpServer`.
    """
    server = HttpServer(handler, limits=limits, tls=tls, **options)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(server.serve, listeners)
    return Served(server, listeners[0].socket.getsockname()[1], nursery, is_tls=tls is not None)


@asynccontextmanager
async def serving(
    handler: Handler, limits: HttpLimits | None = None, **options: Any
) -> AsyncIterator[Served]:
    """Serve as `start_server` does; on the way out every connection must end by itself."""
    async with trio.open_nursery() as nursery:
        served = await start_server(nursery, handler, limits, **options)
        yield served
        await served.wait_until_idle()
        nursery.cancel_scope.cancel()


async def echo(exchange: Exchange) -> None:
    """Answer with what was asked, so that mixing up requests shows."""
    body = await exchange.read_body(1024 * 1024)
    lines = [exchange.method, exchange.path, exchange.query, b"%d" % len(body), body]
    await exchange.respond(200, [(b"Content-Type", b"text/plain")], b"|".join(lines))


class Gate:
    """A handler that keeps requests for /wait until it opens; it answers others as `echo` does."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.waiting_count = 0
        self.tasks: set[trio.lowlevel.Task] = set()  # that have run it

    async def __call__(self, exchange: Exchange) -> None:
        self.tasks.add(trio.lowlevel.current_task())
        if exchange.path == b"/wait":
            self.waiting_count += 1
            await self.opened.wait()
        await echo(exchange)

    async def hold(self, count: int) -> None:
        with trio.fail_after(RECEIVE_S):
            while self.waiting_count < count:
                await trio.sleep(0.001)


def reset_when_closed(stream: trio.SocketStream) -> None:
    """Let the coming close of this stream send a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
