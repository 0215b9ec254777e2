"""TLS cost: the same requests to two stores that differ in nothing but TLS, in turns.

    python bench/tls_cost.py [--rounds 7] [--seconds 1] [--json FILE] [--markdown FILE]

A GET of 4 KiB by 16 tasks, a PUT of 4 KiB by 16 tasks, a GET and a PUT of 80 MiB, a connection with its
handshake and one small request, and what a connection costs in memory.  Client and volume actor share this
machine.  The figures are medians: time, and processor time of the volume actor and of the client.  A run
takes a minute.  `--markdown` replaces the table between two marks of the page.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from bench.machine import Machine, cpu_seconds, resident_memory  # noqa: E402
from harness import RunningStore  # noqa: E402
from warehouse.client.bucket import Bucket  # noqa: E402
from warehouse.client.store import connect  # noqa: E402
from warehouse.conf.profile import Profile  # noqa: E402
from warehouse.transport.http.pool import HttpPool  # noqa: E402
from warehouse.transport.http.tls import ClientTls  # noqa: E402

SMALL, LARGE = 4 * 1024, 80 * 1024 * 1024
TASKS = 16
CONNECTIONS = 150  # of one round of handshakes
IDLE = 400  # connections at a time, for their memory
BEGIN, END = "<!-- tls_cost: begin -->", "<!-- tls_cost: end -->"


@dataclass
class Samples:
    """What the rounds of one kind of request gave, for one of the two stores."""

    wall_us: list[float] = field(default_factory=list)
    actor_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(values), 1) for name, values in vars(self).items()}


class Side:
    """One of the two stores, and its client."""

    def __init__(self, name: str, store: RunningStore) -> None:
        self.name = name
        self.store = store
        self.pid = store.pids()["disk-1"]
        self.samples: dict[str, Samples] = {}
        self.memory_per_connection = 0

    async def open(self, stack: AsyncExitStack) -> None:
        client = await stack.enter_async_context(connect(self.store.profile))
        self.bucket: Bucket = await client.create_bucket("bench")
        await self.bucket.put("small", bytes(SMALL))
        await self.bucket.put("large", bytes(LARGE))
        self.trust = ClientTls(Profile.load(self.store.profile).authority)
        self.pool = HttpPool(tls=self.trust)
        stack.push_async_callback(self.pool.aclose)
        self.base, self.small = _split(await self.bucket.presign_get("small"))
        _, self.large = _split(await self.bucket.presign_get("large"))
        self.buffer = memoryview(bytearray(1024 * 1024))
        self.body = bytes(LARGE)

    async def timed(self, kind: str, work: Callable[[], Awaitable[int]]) -> None:
        """Run `work`, which tells how many requests it has made."""
        actor, client, begin = cpu_seconds([self.pid]), time.process_time(), time.perf_counter()
        count = await work()
        samples = self.samples.setdefault(kind, Samples())
        samples.wall_us.append((time.perf_counter() - begin) / count * 1e6)
        samples.client_us.append((time.process_time() - client) / count * 1e6)
        samples.actor_us.append((cpu_seconds([self.pid]) - actor) / count * 1e6)

    async def _by_tasks(self, request: Callable[[], Awaitable[object]], seconds: float) -> int:
        count, end = 0, time.perf_counter() + seconds

        async def repeat() -> None:
            nonlocal count
            while time.perf_counter() < end:
                await request()
                count += 1

        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(repeat)
        return count

    async def small_gets(self, seconds: float) -> int:
        return await self._by_tasks(lambda: self.pool.request("GET", self.base, self.small), seconds)

    async def small_puts(self, seconds: float) -> int:
        body = bytes(SMALL)
        return await self._by_tasks(lambda: self.bucket.put("again", body), seconds)

    async def large_get(self) -> int:
        async with self.pool.stream("GET", self.base, self.large) as response:
            while await response.read_into(self.buffer):
                pass
        return 1

    async def large_put(self) -> int:
        await self.bucket.put("put", self.body)
        return 1

    async def handshakes(self) -> int:
        for _ in range(CONNECTIONS):
            pool = HttpPool(tls=self.trust)
            await pool.request("GET", self.base, "/healthz")
            await pool.aclose()
        return CONNECTIONS

    async def measure_memory(self) -> None:
        """Open many connections that have asked once, and see what the actor holds for each."""
        before = resident_memory(self.pid)
        pools = [HttpPool(tls=self.trust) for _ in range(IDLE)]
        for pool in pools:
            await pool.request("GET", self.base, self.small)
        self.memory_per_connection = max(0, resident_memory(self.pid) - before) // IDLE
        for pool in pools:
            await pool.aclose()


def _split(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", f"{parts.path}?{parts.query}"


async def measure(sides: Sequence[Side], rounds: int, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        for side in sides:
            await side.open(stack)
        for number in range(rounds + 1):
            for side in sides if number % 2 else list(reversed(sides)):
                if number == 0:
                    await side.large_get()
                    await side.small_gets(0.2)
                    continue
                await side.timed("GET of 4 KiB", lambda side=side: side.small_gets(seconds))  # type: ignore[misc]
                await side.timed("PUT of 4 KiB", lambda side=side: side.small_puts(seconds))  # type: ignore[misc]
                for _ in range(3):
                    await side.timed("GET of 80 MiB", side.large_get)
                await side.timed("PUT of 80 MiB", side.large_put)
                await side.timed("a connection, one GET", side.handshakes)
        for side in sides:
            await side.measure_memory()


def table(plain: Side, tls: Side) -> str:
    """The figures in Markdown: plain and with TLS, and how much more that is."""
    lines = [
        "| | plain: time | actor | client | TLS: time | actor | client | time with TLS |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, samples in plain.samples.items():
        before, after = samples.medians(), tls.samples[kind].medians()
        is_large = before["wall_us"] > 10_000
        scale, unit = (1000.0, "ms") if is_large else (1.0, "us")
        figures = [
            f"{side[name] / scale:,.{1 if is_large else 0}f} {unit}"
            for side in (before, after)
            for name in ("wall_us", "actor_us", "client_us")
        ]
        ratio = after["wall_us"] / before["wall_us"]
        lines.append(f"| {kind} | {' | '.join(figures)} | {ratio:.2f} |")
    memory = [round(side.memory_per_connection / 1024) for side in (plain, tls)]
    lines += [
        "",
        f"A kept connection takes {memory[1]} KiB of the volume actor with TLS, {memory[0]} without.",
    ]
    return "\n".join(lines)


def replace_between_marks(page: Path, text: str) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{page} lacks the marks {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each small measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table into this page")
    arguments = parser.parse_args()
    machine = Machine.this()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = []
        for name, mode in (("plain", "off"), ("tls", "on")):
            config = f'[tls]\nmode = "{mode}"\n'
            store = stack.enter_context(RunningStore(Path(folder) / name, config=config))
            sides.append(Side(name, store))
        trio.run(measure, sides, arguments.rounds, arguments.seconds)
    plain, tls = sides
    text = f"{datetime.now(UTC):%B %Y}, {machine}.\n\n{table(plain, tls)}"
    print(text)
    if arguments.json is not None:
        found = {side.name: {kind: vars(one) for kind, one in side.samples.items()} for side in sides}
        arguments.json.write_text(json.dumps({"machine": str(machine), **found}, indent=1))
    if arguments.markdown is not None:
        replace_between_marks(arguments.markdown, text)


if __name__ == "__main__":
    main()
