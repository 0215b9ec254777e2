"""Where the microseconds of a small GET and a small PUT go inside a volume actor, step by step.

    python bench/hot_path.py [--json] [--size BYTES]
    python bench/hot_path.py --instructions         # under callgrind (Debian: valgrind): exact, and slow

Runs the pieces of a volume actor in this process, on a volume in a temporary directory and a connected pair
of sockets: the same code on the same kernel, without a network, a second process, or an fsync.  Each step is
repeated many times, and its best round counts, so that a busy machine hardly shows.  What is left of the
whole is the rest: coroutines, attribute look-ups, the checks between the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from crc32c import crc32c

from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.needle_get import _PLAIN_LINES
from warehouse.actors.data.needle_http import NeedleHttp
from warehouse.actors.data.put_request import read_put
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, sign_data_token
from warehouse.storage.disk import OsDisk
from warehouse.storage.format.needle import NeedleMetadata, decode_needle, place_seed
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import Volume
from warehouse.transport.http.connection import Clock, Connection, HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.head_memo import HeadMemo
from warehouse.transport.http.heads import RequestHead, parse_request_head
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.server import HttpServer
from warehouse.transport.messages import (
    Commit,
    Envelope,
    NeedlesCommitted,
    NeedlesStored,
    StoredNeedle,
    decode_envelope,
    encode_envelope,
)

NEEDLE_COUNT = 20_000
ROUND_COUNT = 60
CALL_COUNT = 300  # in a round
WRITERS = 64  # whose puts travel together
KEY = b"k" * 32


class InstantMaster:
    """Answers every commit at once."""

    async def request(self, message: NeedlesStored, *, timeout_s: float) -> NeedlesCommitted:
        await trio.lowlevel.checkpoint()
        return NeedlesCommitted(commits=[Commit(etag="1-1-00000000")] * len(message.needles), stamp=1)


class Bench:
    """A volume actor's parts, and both ends of a connection to it."""

    def __init__(self, folder: Path, size: int, needle_count: int = NEEDLE_COUNT) -> None:
        self.data = random.randbytes(size)
        self.volume = Volume.create(
            OsDisk(folder), "volumes/1", volume_id=1, uuid=str(uuid4()), capacity=1 << 40, created_ms=0
        )
        self.next_id = 1
        for _ in range(needle_count):
            self.append()
        self.volume.sync()
        clock = StampClock()
        self.pipeline = CommitPipeline(
            self.volume,
            InstantMaster(),  # type: ignore[arg-type]
            clock,
            is_synced=False,
            on_master_stamp=clock.observe,  # type: ignore[arg-type]
        )
        self.verifier = DataTokenVerifier("disk", {"key": KEY})
        self.http = NeedleHttp(
            pipelines={1: self.pipeline},
            broken={},
            verifier=self.verifier,
            clock=clock,
            pool=HttpPool(),
            is_ready=lambda: True,
        )
        self.server = HttpServer(self.http.handle, handle_nowait=self.http.get_nowait)
        self.client, ours = socket.socketpair()
        ours.setblocking(False)
        self.connection = Connection(ours, "bench", HttpLimits(), Clock(1.0))
        self.connection.has_task = True  # no leader sends the answers that are kept back
        self.exchange = Exchange(self.connection, self.server._shared)
        parse_request_head(self.get_head(1), self.exchange)
        self.claims = self.verifier.verify(self.token("get"), now_s=time.time())

    def append(self) -> None:
        metadata = NeedleMetadata("bucket", 1, f"some/key-{self.next_id}", 1_790_000_000_000, "text/plain")
        self.volume.append(self.next_id, metadata, self.data, stamp=self.next_id)
        self.next_id += 1

    def token(self, op: str) -> bytes:
        claims = DataClaims(
            operation=op,
            audience="disk",
            volume_id=1,
            expires_at_s=int(time.time()) + 9_000,
            bucket_id=1,
            bucket="bucket",
        )  # type: ignore[arg-type]
        return sign_data_token(claims, key_id="key", key=KEY).encode()

    def get_head(self, needle_id: int) -> bytes:
        return (
            b"GET /v1/needles/1/%d HTTP/1.1\r\nHost: 127.0.0.1:8100\r\nAuthorization: Bearer %b\r\n\r\n"
            % (needle_id, self.token("get"))
        )

    def put_head(self) -> bytes:
        return (
            b"PUT /v1/needles/1/%d HTTP/1.1\r\nHost: 127.0.0.1:8100\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: text/plain\r\nX-Warehouse-Key: some/key-%d\r\nX-Warehouse-CRC32C: %08x\r\n"
            b"Content-Length: %d\r\n\r\n"
            % (self.next_id, self.token("put"), self.next_id, crc32c(self.data), len(self.data))
        )

    def repeat(self, way: str, count: int) -> None:
        """Nothing but so many of one operation."""
        heads = [self.get_head(needle_id) for needle_id in range(1, 401)]
        for number in range(count):
            if way == "append":
                self.append()
            else:
                self.client.send(heads[number * 7 % len(heads)])
                self.serve()
                self.client.recv(1 << 20)

    def serve(self) -> None:
        """Answer a request that has come."""
        outcome = self.server._serve(self.connection)
        if isinstance(outcome, bytes):
            outcome = self.server._send(self.connection, outcome)
        if not isinstance(outcome, bool):
            run_at_once(outcome)

    # --- a GET ------------------------------------------------------------------------------------

    def get_steps(self) -> dict[str, float]:
        volume, client = self.volume, self.client
        number = iter(range(1 << 60))

        def any_id() -> int:
            return 1 + next(number) * 7919 % NEEDLE_COUNT

        def ask() -> None:
            client.send(heads[next(number) % len(heads)])

        def take() -> None:
            client.recv(1 << 20)

        for needle_id in range(1, NEEDLE_COUNT):
            volume.read(needle_id)  # into the page cache, should it have lost them
        # A page that the kernel is writing at this moment cannot be read without a wait.
        samples = [one for one in random.sample(range(1, NEEDLE_COUNT), 400) if self.is_in_memory(one)]
        heads = [self.get_head(needle_id) for needle_id in samples]
        memo = HeadMemo()
        memo.learn(heads[0], RequestHead())
        path, token = b"/v1/needles/1/12345", self.token("get")
        needle = volume.read(7)
        found = volume.find(7)
        assert found is not None
        generation = volume._state.generation
        file, seed = generation.data, place_seed(generation.seed, found.offset)
        record = bytearray(40 + found.metadata_size + found.data_size)
        file.preadv([record], found.offset)
        answer = bytes(300 + len(self.data))
        http, crc, size, first_lines = self.http, needle.crc, len(needle.data), b"x" * 144

        def write() -> bytes:
            lines = _PLAIN_LINES % (b"text/plain", b'"1-3039-%08x"' % crc, crc, size)
            return b"".join((first_lines, lines, needle.data))

        def allowed() -> None:
            http.authorizer.place_of(http.authorizer.claims_of_token(token), b"GET", path)

        steps = {
            "whole": timed(self.serve, before=ask, after=take),
            "receive the request": timed(self.receive, before=ask),
            "know its head again": timed(lambda: memo.recall(heads[0])),
            "check its token, for this needle": timed(allowed),
            "find the needle's entry": timed(lambda: volume.find(any_id(), nowait=True)),
            "read the record": timed(
                lambda: file.preadv([bytearray(len(record))], found.offset, nowait=True)
            ),
            "check its CRCs": timed(lambda: decode_needle(record, 7, seed)),
            "decode its metadata": timed(lambda: decode_needle(record, 7, seed).metadata),
            "write the answer": timed(write),
            "send the answer": timed(lambda: self.server._send(self.connection, answer), after=take),
        }
        steps["decode its metadata"] -= steps["check its CRCs"]
        return steps

    def is_in_memory(self, needle_id: int) -> bool:
        try:
            self.volume.read(needle_id, nowait=True)
        except BlockingIOError:
            return False
        return True

    def receive(self) -> None:
        self.connection.lacks_body()
        self.connection.next_head()

    # --- a PUT ------------------------------------------------------------------------------------

    async def put_steps(self) -> dict[str, float]:
        head = self.put_head()
        exchange = Exchange(self.connection, self.server._shared)
        parse_request_head(head, exchange)
        claims = self.verifier.verify(self.token("put"), now_s=time.time())
        metadata = read_put(exchange.headers, claims)[0]
        stored = StoredNeedle(
            1, 7, 1, len(self.data), 1, 4300, 1, "some/key-7", 1_790_000_000_000, "text/plain", {}, 5, None, 0
        )
        request = NeedlesStored(needles=[stored] * WRITERS)
        frame = encode_envelope(Envelope(1, 1, None, request))

        def respond() -> None:
            exchange.has_started = False
            run_at_once(exchange.respond(201, [(b"Content-Type", b"application/json")], b"x" * 60))

        def ask() -> None:
            self.client.send(head + self.data)

        def receive() -> None:
            self.connection.lacks_body()
            self.connection.next_head()
            self.connection.take_received(len(self.data))

        steps = {
            "receive the request": timed(receive, before=ask),
            "parse its head": timed(
                lambda: parse_request_head(head, Exchange(self.connection, self.server._shared))
            ),
            "check its token": timed(lambda: self.http.authorizer.claims_of(exchange)),
            "understand its metadata": timed(lambda: read_put(exchange.headers, claims)),
            "append: encode, CRC and write": timed(self.append),
            "encode it for the master": timed(lambda: encode_envelope(Envelope(1, 1, None, request)))
            / WRITERS,
            "(the master: decode it)": timed(lambda: decode_envelope(frame)) / WRITERS,
            "write and send the answer": timed(respond, after=lambda: self.client.recv(1 << 16)),
        }
        assert metadata.key
        steps["commit pipeline"] = await self.commit_us(stored)
        return steps

    async def commit_us(self, stored: StoredNeedle) -> float:
        """Of CPU for each of `WRITERS` needles that travel together, the message's encoding aside."""
        best = float("inf")
        async with trio.open_nursery() as nursery:
            await nursery.start(self.pipeline.run)
            for _ in range(ROUND_COUNT):
                started = time.perf_counter()
                async with trio.open_nursery() as writers:
                    for _ in range(WRITERS):
                        writers.start_soon(self.pipeline.commit, stored)
                best = min(best, time.perf_counter() - started)
            nursery.cancel_scope.cancel()
        return best / WRITERS * 1e6


def run_at_once(work) -> None:  # type: ignore[no-untyped-def]
    """Run a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("it had to wait")


def timed(
    call: Callable[[], object],
    *,
    before: Callable[[], object] | None = None,
    after: Callable[[], object] | None = None,
) -> float:
    """Microseconds of one call in the best of all rounds."""
    clock = time.perf_counter
    best = float("inf")
    for _ in range(ROUND_COUNT):
        if before is None and after is None:
            started = clock()
            for _ in range(CALL_COUNT):
                call()
            best = min(best, clock() - started)
            continue
        total = 0.0
        for _ in range(CALL_COUNT):
            if before is not None:
                before()
            started = clock()
            call()
            total += clock() - started
            if after is not None:
                after()
        best = min(best, total)
    return best / CALL_COUNT * 1e6


def count_instructions(way: str, size: int) -> int:
    """Instructions of user space that one operation takes, start-up subtracted."""
    totals = []
    for count in (1_000, 3_000):
        print(f"callgrind: {count:,} times {way}, some fifteen seconds", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [
                    *("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"),
                    *(sys.executable, __file__, "--only", way, str(count), "--size", str(size)),
                ],
                env={**os.environ, "PYTHONHASHSEED": "0"},
                capture_output=True,
                text=True,
                check=True,
            )
        [total] = re.findall(r"Collected : (\d+)", done.stderr)
        totals.append(int(total))
    return (totals[1] - totals[0]) // 2_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096, help="bytes of an object (default: 4096)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--instructions", action="store_true", help="count them, with callgrind")
    parser.add_argument(
        "--only", nargs=2, metavar=("WAY", "COUNT"), help="so many gets or appends, no figures"
    )
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            Bench(Path(folder), arguments.size, needle_count=400).repeat(
                arguments.only[0], int(arguments.only[1])
            )
        return
    if arguments.instructions:
        counts = {way: count_instructions(way, arguments.size) for way in ("get", "append")}
        if arguments.json:
            print(json.dumps(counts, indent=2))
        else:
            print(f"a whole GET of {arguments.size} bytes: {counts['get']:,} instructions in user space")
            print(f"appending a needle of {arguments.size} bytes: {counts['append']:,}")
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.size)
        get = bench.get_steps()
        put = trio.run(bench.put_steps)
        bench.volume.close()
    whole = get.pop("whole")
    get["the rest"] = whole - sum(get.values())
    if arguments.json:
        print(json.dumps({"get": {"whole": whole, **get}, "put": put}, indent=2))
        return
    print(f"GET of {arguments.size} bytes: {whole:.1f} us")
    for name, us in get.items():
        print(f"  {us:6.1f}  {name}")
    print(f"PUT of {arguments.size} bytes: {sum(put.values()):.1f} us and the switches between tasks")
    for name, us in put.items():
        print(f"  {us:6.1f}  {name}")


if __name__ == "__main__":
    main()
