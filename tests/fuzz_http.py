"""Fuzz: sends twisted streams of requests to HTTP servers, for as long as one likes.

    python -m tests.fuzz_http [--seconds 600] [--seed N]

Two servers listen, one with the rules of needles and one that takes chunked coding.  Each stream must end within
five seconds and never in a 500; every answer must be well-formed; what a server serves, llhttp must read in the
same bytes; and memory must stay where it is.  A stream that shows something else is printed with its seed, and
belongs into a named test.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import trio

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent / "kits")]

from http_harness import receive_all, split_answers, start_server
from http_streams import Llhttp, twisted_stream
from warehouse.errors import BadRequest
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.heads import NEEDLE_RULES, HeadRules

LIMITS = HttpLimits(
    header_s=0.3, idle_s=0.3, body_stall_s=0.3, drain_s=0.3, write_stall_s=0.3, drain_size=4096
)
STREAM_S = 5.0  # sixteen times the longest wait that the limits allow
STREAMS_AT_ONCE = 32
BODY_SIZE_MAX = 64 * 1024
GROWTH_MAX = 32 * 1024 * 1024  # bytes of memory, between the first tenth of the time and its end
STATUSES = frozenset({200, 400, 408, 411, 413, 431, 501})


class Unexpected(Exception):
    """A stream that a server did not cope with."""


Requests = list[tuple[bytes, bytes | None]]  # target and body; None where nobody has read it


class Target:
    """One server, and what it has served on each connection."""

    def __init__(self) -> None:
        self.port = 0
        self.served: dict[str, Requests] = defaultdict(list)  # by the client's address

    async def start(self, nursery: trio.Nursery, rules: HeadRules) -> None:
        self.port = (await start_server(nursery, self._handle, LIMITS, rules=rules)).port

    async def _handle(self, exchange: Exchange) -> None:
        """Read bodies in one of several ways, and remember what came."""
        served, way = self.served[exchange.peer], len(exchange.target) % 4
        if way == 3:  # nobody reads it
            served.append((exchange.target, None))
            await exchange.respond(200, [], b"unread")
            return
        exchange.accept_body(BODY_SIZE_MAX)
        if way == 0:
            body = await exchange.read_body(BODY_SIZE_MAX)
        else:
            body = b""
            while piece := await exchange.read_piece(7 if way == 1 else BODY_SIZE_MAX):
                body += piece
        served.append((exchange.target, body))
        if way == 2:
            raise BadRequest("this handler refuses what it has read")
        await exchange.respond(200, [], b"read")


class Fuzz:
    """Two servers, and the streams that they are sent."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._targets = (Target(), Target())
        self.stream_count = 0
        self.served_count = 0

    async def run(self, seconds: float) -> None:
        """Raises Unexpected, in a group: a server did not cope."""
        async with trio.open_nursery() as nursery:
            strict, liberal = self._targets
            await strict.start(nursery, NEEDLE_RULES)
            await liberal.start(nursery, HeadRules(takes_chunked=True, is_literal=True))
            started = trio.current_time()
            async with trio.open_nursery() as streams:
                streams.start_soon(self._watch_memory, started + seconds / 10, started + seconds)
                for number in range(STREAMS_AT_ONCE):
                    streams.start_soon(self._send_streams, number, started + seconds)
            nursery.cancel_scope.cancel()

    async def _send_streams(self, number: int, end_s: float) -> None:
        count = 0
        while trio.current_time() < end_s:
            seed = f"{self._seed}-{number}-{count}"
            rng = random.Random(seed)
            data = twisted_stream(rng)
            if b"HEAD" not in data:  # nobody could tell which of the answers then has a body
                await self._send_one(rng, data, seed)
            count += 1

    async def _send_one(self, rng: random.Random, data: bytes, seed: str) -> None:
        target = rng.choice(self._targets)
        try:
            with trio.fail_after(STREAM_S):
                async with await trio.open_tcp_stream("127.0.0.1", target.port) as stream:
                    host, port = stream.socket.getsockname()
                    # What an earlier stream from this port has left is not ours.
                    served = target.served[f"{host}:{port}"] = []
                    received = await _talk(stream, rng, data)
            del target.served[f"{host}:{port}"]
            self._check(data, received, served)
        except (trio.TooSlowError, AssertionError) as error:
            raise Unexpected(f"{error!r}, seed {seed}: {data!r}") from error
        self.stream_count += 1

    def _check(self, data: bytes, received: bytes, served: Requests) -> None:
        for answer in split_answers(received):
            assert answer.status in STATUSES or answer.status == 100, answer
        read = Llhttp(data).requests[: len(served)]
        assert len(read) == len(served), f"{served[len(read)]} is served, and nobody else reads it"
        for (target, body), (other_target, other_body) in zip(served, read, strict=True):
            assert target == other_target, f"{target!r} for {other_target!r}"
            assert body is None or body == other_body, f"{body!r} for {other_body!r}"
        self.served_count += len(served)

    async def _watch_memory(self, first_s: float, end_s: float) -> None:
        await trio.sleep_until(first_s)
        before = _memory_max()
        await trio.sleep_until(end_s)
        if (growth := _memory_max() - before) > GROWTH_MAX:
            raise Unexpected(f"memory grew by {growth} bytes")


async def _talk(stream: trio.SocketStream, rng: random.Random, data: bytes) -> bytes:
    """Send a stream in pieces and take what comes; the server may refuse it in the middle."""
    received = b""
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            position = 0
            with suppress(trio.BrokenResourceError):
                while position < len(data):
                    size = rng.choice((1, 3, 100, len(data)))
                    await stream.send_all(data[position : position + size])
                    position += size
                await stream.send_eof()

        nursery.start_soon(send)
        with suppress(trio.BrokenResourceError):
            received = await receive_all(stream)
    return received


def _memory_max() -> int:
    """The most memory that this process has had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


async def fuzz(seconds: float, seed: int) -> Fuzz:
    """Raises Unexpected: a server did not cope with a stream, which the message shows."""
    run = Fuzz(seed)
    try:
        await run.run(seconds)
    except BaseExceptionGroup as group:
        unexpected, others = group.split(Unexpected)
        if others is not None:
            raise
        assert unexpected is not None
        raise _first(unexpected) from None
    return run


def _first(group: BaseExceptionGroup[Unexpected]) -> Unexpected:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Unexpected)
    return error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    try:
        run = trio.run(fuzz, arguments.seconds, arguments.seed)
    except Unexpected as error:
        sys.exit(str(error))
    print(f"{run.stream_count:,} streams, {run.served_count:,} requests served, nothing unexpected")


if __name__ == "__main__":
    main()
