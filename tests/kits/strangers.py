"""Strangers: programs without a key or a token that keep a port of a store busy, each in a way of its own.

    python strangers.py KIND --from 127.0.0.11 --to 127.0.0.1:7400 [--server-key KEY]

One process is one address.  It goes on until its standard input closes, and then prints one JSON object: how
many connections it opened, how many requests or frames it sent, and how many answers or ends it saw.

The kinds for a control port:

    brief         connections that are closed as soon as they are open: as many as go
    half-open     connections that say nothing, not even the greeting; a closed one is opened again
    mute          connections that finish the handshake and say nothing
    handshakes    a handshake, and away: as many as go
    logins        logins with an unknown key, eight under way on each connection
    guesses       logins with a known key and a wrong secret (--key-id)
    rubbish       frames that are no message
    large         frames of 64 KiB, well formed, that are no request of a stranger
    requests      ListBuckets before any login

and for a data port:

    silent        connections that say nothing
    healthz       GET /healthz, on connections that are kept
    bad-tokens    GETs with tokens that are not good, on connections that are kept
    heads         heads that come a byte a second
    bodies        bodies of refused requests that come a byte a second
    fresh         one GET /healthz, and away: as many connections as go
    tls           the first half of a TLS handshake

and for a data port that speaks TLS:

    halves        the first half of a handshake, and away with the server's part of it: as many as go
    wholes        a handshake, and away: as many as go
    slow          first halves of a handshake that come a byte a second
    records       a handshake, and a refused request whose body never ends, in records of 16 KiB

and one that is no stranger:

    listener      accepts connections and closes them, and prints its port first
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import msgspec
import zmq

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
BAD_TOKEN = "eyJhbGciOiJIUzI1NiJ9." + "A" * 200 + "." + "B" * 43
BAD = f"GET /v1/needles/1/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {BAD_TOKEN}\r\n\r\n".encode()
BODY = (
    "PUT /v1/needles/1/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n"
    f"Authorization: Bearer {BAD_TOKEN}\r\n\r\n"
).encode()
ENDLESS = BODY.replace(b"200000", b"99999999999")
RECORD = bytes(16 * 1024)
FRAME_SIZE = 64 * 1024 - 64
NO_ROOM = (errno.EMFILE, errno.EADDRNOTAVAIL, errno.EADDRINUSE)


class Counts:
    def __init__(self) -> None:
        self.opened = self.sent = self.seen = 0


def is_over() -> bool:
    ready = selectors.DefaultSelector()
    ready.register(sys.stdin, selectors.EVENT_READ)
    return bool(ready.select(0)) and not os.read(0, 100)


# --- plain connections ----------------------------------------------------------------------------


class Sockets:
    """Keeps `count` connections open, and does something with each when it is open, or has come to speak."""

    def __init__(
        self,
        source: str,
        target: tuple[str, int],
        counts: Counts,
        *,
        count: int,
        first: bytes = b"",
        again: bytes = b"",
        drip: bytes = b"",
        is_left: bool = False,
        is_brief: bool = False,
    ) -> None:
        """
        Args:
            first: said when a connection is open.
            again: said after each answer; b"": nothing.
            drip: one byte of it a second.
            is_left: leave after the first answer.
            is_brief: leave at once.
        """
        self._source, self._target, self._counts = source, target, counts
        self._count, self._first, self._again, self._drip, self._is_left = count, first, again, drip, is_left
        self._is_brief = is_brief
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, int] = {}  # and bytes of the drip that were sent
        self._dripped_s = time.monotonic()

    def turn(self) -> None:
        for _ in range(min(50, self._count - len(self._open))):
            if not self._connect():
                break
        for key, events in self._selector.select(0.01):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            try:
                if self._is_brief:
                    self._close(sock)
                    continue
                if events & selectors.EVENT_WRITE:
                    self._selector.modify(sock, selectors.EVENT_READ)
                    if self._first:
                        sock.send(self._first)
                        self._counts.sent += 1
                if events & selectors.EVENT_READ:
                    self._hear(sock)
            except OSError:
                self._close(sock)
        if self._drip and time.monotonic() - self._dripped_s > 1:
            self._dripped_s = time.monotonic()
            for sock, done in list(self._open.items()):
                with contextlib.suppress(OSError):
                    sock.send(self._drip[done : done + 1] or b"x")
                    self._open[sock] = done + 1

    def _hear(self, sock: socket.socket) -> None:
        data = sock.recv(65536)
        if not data:
            self._close(sock)
            return
        self._counts.seen += 1
        if self._is_left:
            self._close(sock)
        elif self._again:
            sock.send(self._again)
            self._counts.sent += 1

    def _connect(self) -> bool:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.bind((self._source, 0))
            sock.connect_ex(self._target)
        except OSError as error:
            sock.close()
            if error.errno not in NO_ROOM:
                raise
            return False
        self._counts.opened += 1
        self._open[sock] = 0
        self._selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        return True

    def _close(self, sock: socket.socket) -> None:
        self._counts.seen += 1
        self._selector.unregister(sock)
        self._open.pop(sock, None)
        sock.close()


# --- TLS ------------------------------------------------------------------------------------------


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    written = ssl.MemoryBIO()
    tls = tls_context().wrap_bio(ssl.MemoryBIO(), written)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return written.read()


class Handshakes:
    """Keeps `count` connections open, shakes hands on each, and leaves or says what never ends."""

    def __init__(
        self, source: str, target: tuple[str, int], counts: Counts, *, count: int, endless: bytes = b""
    ) -> None:
        self._source, self._target, self._counts, self._count = source, target, counts, count
        self._endless = endless
        self._context = tls_context()
        self._selector = selectors.DefaultSelector()
        self._open = 0
        self._is_heard: set[ssl.SSLSocket] = set()  # the head of their request is out

    def turn(self) -> None:
        while self._open < self._count:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((self._source, 0))
            sock.connect_ex(self._target)
            self._counts.opened += 1
            self._open += 1
            self._selector.register(sock, selectors.EVENT_WRITE)
        for key, _ in self._selector.select(0.01):
            assert isinstance(key.fileobj, socket.socket)
            sock = key.fileobj
            try:
                if not isinstance(sock, ssl.SSLSocket):
                    sock = self._wrap(sock)
                self._go_on(sock)
            except ssl.SSLWantReadError:
                self._selector.modify(sock, selectors.EVENT_READ)
            except ssl.SSLWantWriteError:
                self._selector.modify(sock, selectors.EVENT_WRITE)
            except (OSError, ValueError):
                self._close(sock)

    def _wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        sock.getpeername()  # else it was refused
        self._selector.unregister(sock)
        wrapped = self._context.wrap_socket(sock, do_handshake_on_connect=False)
        self._selector.register(wrapped, selectors.EVENT_WRITE)
        return wrapped

    def _go_on(self, wrapped: ssl.SSLSocket) -> None:
        if wrapped not in self._is_heard:
            wrapped.do_handshake()
            self._counts.seen += 1
            if not self._endless:
                self._close(wrapped)
                return
            wrapped.send(self._endless)
            self._is_heard.add(wrapped)
        self._selector.modify(wrapped, selectors.EVENT_WRITE)
        for _ in range(8):
            wrapped.send(RECORD)
            self._counts.sent += 1

    def _close(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        self._is_heard.discard(sock)
        self._open -= 1
        sock.close()


# --- ZeroMQ ---------------------------------------------------------------------------------------


class Dealers:
    """Keeps `count` sockets of ZeroMQ connected, and sends frames as long as they take any."""

    def __init__(
        self,
        source: str,
        target: tuple[str, int],
        server_key: str,
        counts: Counts,
        *,
        count: int,
        frame: Callable[[int], bytes] | None = None,
        burst: int = 1,
        is_left: bool = False,
    ) -> None:
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self._endpoint = f"tcp://{source}:0;{target[0]}:{target[1]}"
        self._server_key, self._counts = server_key.encode(), counts
        self._count, self._frame, self._burst, self._is_left = count, frame, burst, is_left
        self._sockets: list[zmq.Socket[bytes]] = []
        self._number = 0

    def _connect(self) -> None:
        sock: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        sock.linger = 0
        sock.sndhwm = sock.rcvhwm = 64
        sock.immediate = True
        sock.reconnect_ivl = 1
        sock.curve_publickey, sock.curve_secretkey = zmq.curve_keypair()
        sock.curve_serverkey = self._server_key
        sock.connect(self._endpoint)
        self._counts.opened += 1
        self._sockets.append(sock)

    def turn(self) -> None:
        while len(self._sockets) < self._count:
            self._connect()
        is_busy = False
        for sock in self._sockets:
            with contextlib.suppress(zmq.Again):
                while self._frame is not None:
                    while sock.poll(0):
                        sock.recv_multipart(zmq.NOBLOCK)
                        self._counts.seen += 1
                    for _ in range(self._burst):
                        self._number += 1
                        sock.send(self._frame(self._number), zmq.NOBLOCK)
                        self._counts.sent += 1
                        is_busy = True
                    break
        if self._is_left:
            time.sleep(0.02)  # the handshakes
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()
        elif not is_busy:
            time.sleep(0.005)


def login(number: int, key_id: str) -> bytes:
    body = {"kind": "login", "key_id": key_id, "secret": "x" * 43}
    return msgspec.msgpack.encode([1, number, 5000, body])


def dealers_of(kind: str, arguments: argparse.Namespace, counts: Counts) -> Dealers:
    target = (arguments.host, arguments.port)
    make = partial(Dealers, arguments.source, target, arguments.server_key, counts)
    large = b"x" * FRAME_SIZE
    match kind:
        case "mute":
            return make(count=250)
        case "handshakes":
            return make(count=10, is_left=True)
        case "logins":
            return make(count=20, frame=lambda number: login(number, "nobody"), burst=8)
        case "guesses":
            return make(count=20, frame=lambda number: login(number, arguments.key_id), burst=8)
        case "rubbish":
            return make(count=8, frame=lambda number: b"\xc1rubbish", burst=50)
        case "large":
            body = {"kind": "attach", "token": "", "more": large.decode()}
            return make(count=8, frame=lambda number: msgspec.msgpack.encode([1, number, 5000, body]))
        case "requests":
            body = {"kind": "list_buckets"}
            return make(
                count=8, frame=lambda number: msgspec.msgpack.encode([1, number, 5000, body]), burst=50
            )
    raise ValueError(kind)


def sockets_of(kind: str, arguments: argparse.Namespace, counts: Counts) -> Sockets:
    make = partial(Sockets, arguments.source, (arguments.host, arguments.port), counts)
    match kind:
        case "brief":
            return make(count=20, is_brief=True)
        case "half-open" | "silent":
            return make(count=400)
        case "healthz":
            return make(count=50, first=HEALTH, again=HEALTH)
        case "bad-tokens":
            return make(count=50, first=BAD, again=BAD)
        case "heads":
            return make(count=400, first=HEALTH[:20], drip=HEALTH[20:-4])
        case "bodies":
            return make(count=400, first=BODY, drip=b"b")
        case "fresh":
            return make(count=20, first=HEALTH, is_left=True)
        case "tls" | "halves":
            return make(count=20, first=client_hello(), is_left=True)
        case "slow":
            hello = client_hello()
            return make(count=400, first=hello[:20], drip=hello[20:-1])
    raise ValueError(kind)


CONTROL_KINDS = (
    "brief",
    "half-open",
    "mute",
    "handshakes",
    "logins",
    "guesses",
    "rubbish",
    "large",
    "requests",
)
DATA_KINDS = ("silent", "healthz", "bad-tokens", "heads", "bodies", "fresh", "tls")
TLS_KINDS = ("halves", "wholes", "slow", "records")


def flood_of(kind: str, arguments: argparse.Namespace, counts: Counts) -> Sockets | Dealers | Handshakes:
    target = (arguments.host, arguments.port)
    if kind in ("wholes", "records"):
        endless = ENDLESS if kind == "records" else b""
        return Handshakes(arguments.source, target, counts, count=20, endless=endless)
    is_plain = kind in (*DATA_KINDS, *TLS_KINDS, "half-open", "brief")
    return (sockets_of if is_plain else dealers_of)(kind, arguments, counts)


def listen(host: str) -> NoReturn:
    with socket.create_server((host, 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            listener.accept()[0].close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--server-key", default="")
    parser.add_argument("--key-id", default="")
    arguments = parser.parse_args()
    arguments.host, arguments.port = arguments.to.rsplit(":", 1)[0], int(arguments.to.rsplit(":", 1)[1])
    if arguments.kind == "listener":
        listen(arguments.source)
    # Strangers have machines of their own: what they take of this processor is not the store's failing.
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    counts = Counts()
    flood = flood_of(arguments.kind, arguments, counts)
    next_look_s = 0.0
    while True:
        flood.turn()
        if time.monotonic() > next_look_s:
            if is_over():
                break
            next_look_s = time.monotonic() + 0.1
    print(json.dumps(vars(counts)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
