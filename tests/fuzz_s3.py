"""Fuzz: sends twisted requests over S3 to a real gateway, for as long as one likes.

    python -m tests.fuzz_s3 [--seconds 600] [--seed N] [--kinds heads,framing,forms,xml]

A store and a gateway start; each kind has its share of the time.  Each request must be answered, or its connection
closed, within five seconds; never by a 500, nor by a 503 but SlowDown, which is for many wrong signatures; every
answer must be well-formed; and the gateway's memory must stay where it is.  A request that shows something else is
printed with its seed, and belongs into a named test.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import trio

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent / "kits")]

from http_harness import split_answers
from s3_kit import RunningGateway, root_client, s3_store
from s3_streams import BUCKET, KEPT, Requests
from s3_wire import Wire

REQUEST_S = 5.0
AT_ONCE = 8
GROWTH_MAX = 32 * 1024 * 1024  # bytes of memory, between the first tenth of the time and its end
SETTINGS = '[s3]\nsignature_v2 = "on"\n'


class Unexpected(Exception):
    """A request that the gateway did not cope with."""


class Fuzz:
    """One gateway, and the requests that it is sent."""

    def __init__(self, gateway: RunningGateway, requests: Requests, seed: int) -> None:
        self._gateway = gateway
        self._requests = requests
        self._seed = seed
        self.statuses: dict[str, Counter[int]] = {}
        self.memory_growth = 0

    async def run(self, kinds: Sequence[str], seconds: float) -> None:
        """Raises Unexpected, in a group: the gateway did not cope."""
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_memory, started + seconds / 10, started + seconds)
            for turn, kind in enumerate(kinds, 1):
                self.statuses[kind] = Counter()
                async with trio.open_nursery() as senders:
                    for number in range(AT_ONCE):
                        end_s = started + seconds * turn / len(kinds)
                        senders.start_soon(self._send, kind, number, end_s)

    async def _send(self, kind: str, number: int, end_s: float) -> None:
        count = 0
        while trio.current_time() < end_s:
            seed = f"{self._seed}-{kind}-{number}-{count}"
            await self._send_one(kind, self._requests.make(kind, random.Random(seed)), seed)
            count += 1

    async def _send_one(self, kind: str, data: bytes, seed: str) -> None:
        try:
            with trio.fail_after(REQUEST_S):
                received = await self._talk(data)
            for answer in split_answers(received):
                self.statuses[kind][answer.status] += 1
                _check(answer.status, answer.headers, answer.body)
        except (trio.TooSlowError, AssertionError, ElementTree.ParseError) as error:
            raise Unexpected(f"{error!r}, seed {seed}: {data[:3000]!r}") from error

    async def _talk(self, data: bytes) -> bytes:
        """Send one request and nothing more; take what comes until the gateway closes."""
        received = b""
        async with await trio.open_tcp_stream("127.0.0.1", self._gateway.port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
                await stream.send_eof()
            with suppress(trio.BrokenResourceError):
                async for piece in stream:
                    received += piece
        return received

    async def _watch_memory(self, first_s: float, end_s: float) -> None:
        await trio.sleep_until(first_s)
        before = _resident(self._gateway.pid)
        await trio.sleep_until(end_s)
        self.memory_growth = _resident(self._gateway.pid) - before
        if self.memory_growth > GROWTH_MAX:
            raise Unexpected(f"memory grew by {self.memory_growth} bytes")


def _check(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """Raises AssertionError, ParseError: that is no answer that S3 gives to a client's mistake."""
    assert status < 500 or status in (501, 503), (status, body)
    if status >= 400 and body:
        document = ElementTree.fromstring(body)
        assert document.tag == "Error", body
        assert status != 503 or document.findtext("Code") == "SlowDown", body
        assert document.findtext("RequestId") == headers[b"x-amz-request-id"].decode()


def _resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


async def fuzz(gateway: RunningGateway, kinds: Sequence[str], seconds: float, seed: int) -> Fuzz:
    """Raises Unexpected: the gateway did not cope with a request, which the message shows."""
    with root_client(gateway) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=KEPT, Body=b"kept")
        form = client.generate_presigned_post(BUCKET, "form-${filename}", ExpiresIn=86_400)
    wire = Wire(gateway)
    run = Fuzz(gateway, Requests(wire, form["fields"]), seed)
    try:
        await run.run(kinds, seconds)
    except BaseExceptionGroup as group:
        unexpected, others = group.split(Unexpected)
        if others is not None:
            raise
        assert unexpected is not None
        raise _first(unexpected) from None
    heard = await trio.to_thread.run_sync(wire.ask, "GET", f"/{BUCKET}")
    if heard.status != 200:
        raise Unexpected(f"a good request is answered by {heard}")
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
    parser.add_argument("--kinds", default=",".join(Requests.KINDS))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_store(Path(folder), config=SETTINGS) as gateway,
    ):
        try:
            run = trio.run(fuzz, gateway, arguments.kinds.split(","), arguments.seconds, arguments.seed)
        except Unexpected as error:
            sys.exit(str(error))
    for kind, statuses in run.statuses.items():
        counts = ", ".join(f"{count:,} of {status}" for status, count in sorted(statuses.items()))
        print(f"{kind}: {statuses.total():,} answers; {counts}")
    print(f"memory grew by {run.memory_growth // 1024:,} KiB; nothing unexpected")


if __name__ == "__main__":
    main()
