"""Compaction load: what clients feel of a compaction, and of a verification, while they use the store.

    python bench/compaction_load.py [--seconds 20] [--writers 8] [--readers 8] [--size 4096]
                                    [--megabytes 512]

Runs a store of one disk, fills a volume and makes half of it garbage.  Then writers put, overwrite and
delete, and readers get: first with nothing beside them, then while the volume is compacted, then while it is
verified, each for so many seconds.  Every get is compared with what was put.  Prints rates, p50 and p99 of
each operation, and how they changed.  Clients share the cores with the servers.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.machine import Machine, peak_memory  # noqa: E402
from harness import RunningStore  # noqa: E402
from warehouse import Bucket, Store  # noqa: E402
from warehouse.errors import NoSuchObject, StoreError  # noqa: E402

MIB = 1024 * 1024
# What the store does by itself would not be "alone".
BY_HAND = '[compaction]\nautomatic = "off"\n[verification]\nautomatic = "off"\n'
NAMES = {"compact": "while it compacts", "verify": "while it verifies"}


@dataclass
class Timings:
    """What one kind of operation took, seconds."""

    taken: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        ranked = sorted(self.taken)
        return ranked[min(len(ranked) - 1, math.floor(share * len(ranked)))] * 1000 if ranked else math.nan


@dataclass
class Phase:
    """What the clients saw in a stretch of time."""

    name: str
    elapsed_s: float = 0.0
    operations: dict[str, Timings] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, operation: str, started: float) -> None:
        self.operations.setdefault(operation, Timings()).taken.append(time.perf_counter() - started)

    def p99_ms(self, operation: str) -> float:
        return self.operations[operation].quantile_ms(0.99)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.elapsed_s:.1f} s, {len(self.failures)} failed"]
        for name, timings in sorted(self.operations.items()):
            lines.append(
                f"  {name:10} {len(timings.taken) / self.elapsed_s:8,.0f}/s"
                f"   p50 {timings.quantile_ms(0.5):7.2f} ms   p99 {timings.quantile_ms(0.99):7.2f} ms"
            )
        return "\n".join(lines)


class Load:
    """Writers with keys of their own, and readers of all keys; contents tell which version they are."""

    def __init__(self, bucket: Bucket, *, writers: int, readers: int, size: int, keys: int) -> None:
        self._bucket = bucket
        self._size = size
        self._writers = writers
        self._readers = readers
        self._keys = keys
        # Versions that a get may see: the last one acknowledged, and those that are on their way.
        self._possible: dict[str, set[int | None]] = {}
        self._names: list[str] = []
        self._version = 0

    def _content(self, version: int) -> bytes:
        head = b"%016x" % version
        seed = zlib.crc32(head)
        return (head + seed.to_bytes(4, "big") * (self._size // 4 + 1))[: max(self._size, len(head))]

    async def fill(self, count: int) -> None:
        """Put so many objects under keys that nobody writes later, then overwrite every other one."""

        async def put_every(first: int, step: int) -> None:
            for number in range(first, count, step):
                await self._put(f"still/{number:06}")

        for step in (1, 2):
            async with trio.open_nursery() as nursery:
                for task in range(32):
                    nursery.start_soon(put_every, task * step, 32 * step)

    async def _put(self, key: str) -> None:
        self._version += 1
        version = self._version
        if key not in self._possible:
            self._names.append(key)
        self._possible[key] = self._possible.get(key, {None}) | {version}
        await self._bucket.put(key, self._content(version))
        self._possible[key] = {version}

    async def run(self, name: str, is_over: Callable[[], bool]) -> Phase:
        """Put load on the store until it is over; return what it felt like."""
        phase, started = Phase(name), time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(self._writers):
                nursery.start_soon(self._work, phase, is_over, self._write, number)
            for number in range(self._readers):
                nursery.start_soon(self._work, phase, is_over, self._read, number)
        phase.elapsed_s = time.perf_counter() - started
        return phase

    async def _work(
        self,
        phase: Phase,
        is_over: Callable[[], bool],
        operate: Callable[[Phase, random.Random, int], Awaitable[None]],
        number: int,
    ) -> None:
        chance = random.Random(f"{operate.__name__} {number}")
        while not is_over():
            try:
                await operate(phase, chance, number)
            except StoreError as error:
                phase.failures.append(f"{operate.__name__}: {error.code}: {error.message}")

    async def _write(self, phase: Phase, chance: random.Random, number: int) -> None:
        key = f"busy/{number}/{chance.randrange(self._keys)}"
        started = time.perf_counter()
        if chance.random() < 0.25 and None not in self._possible.get(key, {None}):
            self._possible[key] = self._possible[key] | {None}
            await self._bucket.delete(key)
            self._possible[key] = {None}
            phase.note("delete", started)
        else:
            await self._put(key)
            phase.note("put", started)

    async def _read(self, phase: Phase, chance: random.Random, number: int) -> None:
        key = chance.choice(self._names)
        before = self._possible[key]
        started = time.perf_counter()
        try:
            content: bytes | None = await self._bucket.get(key)
        except NoSuchObject:
            content = None
        phase.note("get", started)
        # Of versions that came and went while we read we know only that they are newer than the first.
        version = self._version_of(content)
        newest = max(known or 0 for known in before)
        is_allowed = version in before | self._possible[key] or (
            version > newest if version is not None else key.startswith("busy/") and self._version > newest
        )
        if not is_allowed:
            phase.failures.append(f"{key} is version {version}, possible were {before}")

    def _version_of(self, content: bytes | None) -> int | None:
        """
        Raises:
            AssertionError: no version has such bytes.
        """
        if content is None:
            return None
        version = int(content[:16], 16)
        if content != self._content(version):
            raise AssertionError(f"wrong bytes in version {version}")
        return version

    async def verify(self) -> None:
        """Read everything back, now that nobody writes.

        Raises:
            AssertionError: an object is not what was acknowledged.
        """
        limiter = trio.CapacityLimiter(32)

        async def check(key: str) -> None:
            async with limiter:
                try:
                    content: bytes | None = await self._bucket.get(key)
                except NoSuchObject:
                    content = None
                version = self._version_of(content)
                if version not in self._possible[key]:
                    raise AssertionError(f"{key} is version {version}, not one of {self._possible[key]}")

        async with trio.open_nursery() as nursery:
            for key in self._possible:
                nursery.start_soon(check, key)


async def measure(
    client: Store, load: Load, *, seconds: float, works: tuple[str, ...] = ("compact", "verify")
) -> list[Phase]:
    """Load alone for so long, then beside each work until that is over (and for so long at least)."""

    def after(seconds: float) -> Callable[[], bool]:
        deadline = time.perf_counter() + seconds
        return lambda: time.perf_counter() > deadline

    await load.run("warm-up", after(seconds / 4))
    phases = [await load.run("alone", after(seconds))]
    for work in works:
        is_done = trio.Event()

        async def follow(work: str = work, is_done: trio.Event = is_done) -> None:
            deadline = time.perf_counter() + seconds
            while True:
                jobs = await (client.compact() if work == "compact" else client.verify())
                for job in await client.wait_jobs(jobs):
                    sizes = f"{job.total_bytes / MIB:,.0f} MiB, {job.freed_bytes / MIB:,.0f} MiB of it freed"
                    took_s = (job.ended_ms - job.started_ms) / 1000
                    print(f"{work}: {sizes}, in {took_s:.1f} s; writes paused for {job.pause_ms:.1f} ms")
                    if job.state != "done":
                        raise AssertionError(f"the job ended as {job}")
                if time.perf_counter() > deadline:
                    break
            is_done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            phases.append(await load.run(NAMES[work], is_done.is_set))
    return phases


async def _main(arguments: argparse.Namespace, store: RunningStore) -> None:
    async with warehouse.connect(store.profile) as client:
        await client.create_bucket("load")
        load = Load(
            client.bucket("load"),
            writers=arguments.writers,
            readers=arguments.readers,
            size=arguments.size,
            keys=1000,
        )
        await load.fill(arguments.megabytes * MIB * 2 // 3 // max(arguments.size, 16))
        phases = await measure(client, load, seconds=arguments.seconds)
        for phase in phases:
            print(phase)
            for failure in phase.failures[:10]:
                print("  ", failure)
        alone = phases[0]
        for phase in phases[1:]:
            ratios = [f"{name} x {phase.p99_ms(name) / alone.p99_ms(name):.2f}" for name in alone.operations]
            print(f"p99 {phase.name}: {', '.join(ratios)}")
        print(f"the compactor took {peak_memory([store.pids()['compactor-1']]) / MIB:.0f} MiB of memory")
        await load.verify()
        print("everything acknowledged reads back")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--megabytes", type=int, default=512, help="what is in the volume at the beginning")
    parser.add_argument("--folder", type=Path, help="where the store is made (default: a temporary folder)")
    parser.add_argument("--config", default=BY_HAND, help="settings, as a TOML text")
    arguments = parser.parse_args()
    print(Machine.this())
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        RunningStore(Path(folder) / "store", config=arguments.config) as store,
    ):
        trio.run(_main, arguments, store)


if __name__ == "__main__":
    main()
