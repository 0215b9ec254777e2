"""HTTP load: one process that sends requests of one kind over keep-alive connections, as fast as it can.

    python bench/http_load.py --url http://127.0.0.1:8080 --method GET --targets FILE --connections 16

The same generator for every system that is compared, and so lean that it is seldom the limit: sockets and
epoll, requests built beforehand, of an answer only the status and the length are read.  The file of targets
has one a line, `path` and then headers, tab-separated; a PUT takes each once, a GET begins again behind the
last.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from bench.machine import peak_memory
from warehouse.cli.measuring.latencies import Latencies

RECEIVE_SIZE = 1 << 18
SMALL_BODY = 1 << 16  # sent in one piece with its head
DRAIN_S = 60.0  # for what is under way when the time is over
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_BODYLESS = (b"204", b"304")


def heads_of(method: str, host: str, size: int, lines: Sequence[str]) -> list[bytes]:
    """The head of the request for each target."""
    common = f"Host: {host}\r\n"
    if method == "PUT":
        common += f"Content-Length: {size}\r\n"
    heads = []
    for line in lines:
        path, *headers = line.split("\t")
        own = "".join(f"{header}\r\n" for header in headers)
        heads.append(f"{method} {path} HTTP/1.1\r\n{common}{own}\r\n".encode())
    return heads


class Answer:
    """How far the answer on one connection is.  Pure: bytes go in, and it is complete or not."""

    def __init__(self, *, has_body: bool = True) -> None:
        self._has_body = has_body
        self.reset()

    def reset(self) -> None:
        self.status = b""
        self.body_count = 0
        self.is_complete = False
        self.closes = False
        self._head = b""
        self._left: int | None = None  # None: chunked
        self._tail = b""

    def feed(self, view: memoryview) -> None:
        if not self.status:
            self._head += view
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, rest = self._head[: end + 2], self._head[end + 4 :]
            self.status = head[9:12]
            self.closes = _CLOSE.search(head) is not None
            length = _LENGTH.search(head)
            if not self._has_body:
                self._left = 0
            elif length is not None:
                self._left = int(length[1])
            elif _CHUNKED.search(head) is None or self.status in _BODYLESS:
                self._left = 0
            view = memoryview(rest)
        self.body_count += len(view)
        if self._left is None:
            self._tail = (self._tail + bytes(view[-5:]))[-5:]
            self.is_complete = self._tail == b"0\r\n\r\n"
        else:
            self._left -= len(view)
            self.is_complete = self._left <= 0


class Connection:
    """One socket: at most one request under way."""

    def __init__(self, url: str, *, has_body: bool) -> None:
        parts = urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._is_tls else 80)
        self.answer = Answer(has_body=has_body)
        self.started = 0.0
        self.unsent: list[memoryview] = []
        self.body_size = 0
        self.connect()

    def connect(self) -> None:
        plain = socket.create_connection((self._host, self._port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=self._host)
            if self._is_tls
            else plain
        )
        self.socket.setblocking(False)

    def begin(self, head: bytes, body: bytes) -> None:
        self.answer.reset()
        self.body_size = len(body)
        small = len(body) <= SMALL_BODY
        self.unsent = [memoryview(head + body)] if small else [memoryview(head), memoryview(body)]
        self.started = time.perf_counter()
        self.send()

    def send(self) -> None:
        while self.unsent:
            try:
                sent = self.socket.send(self.unsent[0])
            except _WOULD_BLOCK:
                return
            if sent == len(self.unsent[0]):
                del self.unsent[0]
            else:
                self.unsent[0] = self.unsent[0][sent:]

    def receive(self, buffer: memoryview) -> None:
        """Take what has arrived.

        Raises:
            ConnectionError: the peer closed before its answer was complete.
        """
        while not self.answer.is_complete:
            try:
                count = self.socket.recv_into(buffer)
            except _WOULD_BLOCK:
                return
            if count == 0:
                raise ConnectionError("closed before the answer was complete")
            self.answer.feed(buffer[:count])


def run(arguments: argparse.Namespace) -> dict[str, object]:
    host = urlsplit(arguments.url).netloc
    heads = heads_of(arguments.method, host, arguments.size, arguments.targets.read_text().splitlines())
    is_put = arguments.method == "PUT"
    body = os.urandom(arguments.size) if is_put else b""
    remaining = iter(heads) if is_put or arguments.once else cycle(heads)
    requests = ((head, body) for head in remaining)
    return drive(
        arguments.url,
        requests,
        connections=arguments.connections,
        seconds=arguments.seconds,
        has_body=arguments.method != "HEAD",
    )


def drive(
    url: str,
    requests: Iterator[tuple[bytes, bytes]],
    *,
    connections: int,
    seconds: float,
    has_body: bool = True,
) -> dict[str, object]:
    """Send requests, each a head and a body, until time or requests run out; what was measured.

    Args:
        has_body: the answers; those to HEAD have none, whatever length they tell.
    """
    buffer = memoryview(bytearray(RECEIVE_SIZE))
    latencies: list[float] = []
    failures: dict[str, int] = {}
    used_count = byte_count = 0

    poll = select.epoll()
    busy: dict[int, Connection] = {}
    cpu_before = time.process_time()
    started = time.perf_counter()
    deadline = started + seconds

    def begin(connection: Connection) -> bool:
        nonlocal used_count
        if time.perf_counter() >= deadline:
            return False
        request = next(requests, None)
        if request is None:
            return False
        used_count += 1
        connection.begin(*request)
        number = connection.socket.fileno()
        poll.modify(number, select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0))
        return True

    def open_one(connection: Connection | None = None) -> None:
        if connection is None:
            connection = Connection(url, has_body=has_body)
        else:
            connection.connect()
        poll.register(connection.socket.fileno(), select.EPOLLIN)
        busy[connection.socket.fileno()] = connection
        if not begin(connection):
            drop(connection)

    def drop(connection: Connection) -> None:
        poll.unregister(connection.socket.fileno())
        del busy[connection.socket.fileno()]
        connection.socket.close()

    for _ in range(connections):
        open_one()
    while busy:
        events = poll.poll(DRAIN_S)
        if not events:
            failures["timeout"] = failures.get("timeout", 0) + len(busy)
            break
        for number, event in events:
            connection = busy[number]
            try:
                if event & select.EPOLLOUT:
                    connection.send()
                    if not connection.unsent:
                        poll.modify(number, select.EPOLLIN)
                if event & ~select.EPOLLOUT:
                    connection.receive(buffer)
                answer = connection.answer
                if not answer.is_complete:
                    continue
                if answer.status[:1] == b"2":
                    latencies.append(time.perf_counter() - connection.started)
                    byte_count += connection.body_size or answer.body_count
                else:
                    status = answer.status.decode()
                    failures[status] = failures.get(status, 0) + 1
                if not answer.closes:
                    if not begin(connection):
                        drop(connection)
                    continue
            except OSError as error:
                name = type(error).__name__
                failures[name] = failures.get(name, 0) + 1
            drop(connection)
            open_one(connection)
    elapsed = time.perf_counter() - started
    cpu = time.process_time() - cpu_before
    kept = Latencies()
    for latency in latencies:
        kept.add(latency)
    return {
        "count": len(latencies),
        "used_count": used_count,
        "byte_count": byte_count,
        "failures": failures,
        "elapsed_s": elapsed,
        "cpu_s": cpu,
        "peak_bytes": peak_memory([os.getpid()]),
        "latencies": {"counts": kept.counts, "sum_s": kept.sum_s, "max_s": kept.max_s},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="http://host:port or https://host:port")
    parser.add_argument("--method", choices=("GET", "HEAD", "PUT"), required=True)
    parser.add_argument("--targets", type=Path, required=True)
    parser.add_argument("--size", type=int, default=0, help="of the body of a PUT")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--once", action="store_true", help="each target once, also with GET")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
