"""Batch rate: put_many and get_many against one by one, in one client process, every put fsynced.

    python bench/batch_rate.py [--objects 20000] [--size 4096] [--volumes 1] [--tasks 32] [--rounds 3]

One by one means by `--tasks` tasks at once, whose puts and gets of one moment share requests by themselves;
with `--tasks 1` it is one after the other.  Each round measures all four in turn on fresh keys of one running
store; the table shows medians over the rounds.  Prints objects a second, the ratio, CPU seconds of this
process and of the actors for 1,000 objects, and the peak memory of this process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.machine import cpu_seconds, peak_memory  # noqa: E402
from harness import RunningStore  # noqa: E402

ONE_BY_ONE, IN_BATCHES = "one by one", "in batches"


class Round:
    """One prefix of keys, put and got in both ways."""

    def __init__(self, bucket: warehouse.Bucket, prefix: str, arguments: argparse.Namespace) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._count: int = arguments.objects
        self._tasks: int = arguments.tasks
        self._body = os.urandom(arguments.size)

    def _keys(self, way: str) -> Iterator[str]:
        return (f"{self._prefix}/{way}/{number:07}" for number in range(self._count))

    async def _by_tasks(self, way: str, work: Callable[[str], Awaitable[None]]) -> None:
        keys = self._keys(way)

        async def loop() -> None:
            for key in keys:
                await work(key)

        async with trio.open_nursery() as nursery:
            for _ in range(self._tasks):
                nursery.start_soon(loop)

    async def put_one_by_one(self) -> None:
        async def put(key: str) -> None:
            await self._bucket.put(key, self._body)

        await self._by_tasks(ONE_BY_ONE, put)

    async def put_in_batches(self) -> None:
        items = ((key, self._body) for key in self._keys(IN_BATCHES))
        async for result in self._bucket.put_many(items):
            if result.error is not None:
                raise result.error

    async def get_one_by_one(self) -> None:
        async def get(key: str) -> None:
            if await self._bucket.get(key) != self._body:
                raise AssertionError(f"{key} came back with other bytes")

        await self._by_tasks(ONE_BY_ONE, get)

    async def get_in_batches(self) -> None:
        async for result in self._bucket.get_many(self._keys(IN_BATCHES)):
            if result.error is not None:
                raise result.error
            if result.data != self._body:
                raise AssertionError(f"{result.key} came back with other bytes")


@asynccontextmanager
async def measured(
    rates: dict[str, list[float]], name: str, count: int, pids: list[int]
) -> AsyncIterator[None]:
    own, others, started = time.process_time(), cpu_seconds(pids), time.perf_counter()
    yield
    elapsed = time.perf_counter() - started
    rates.setdefault(name, []).append(count / elapsed)
    rates.setdefault(f"{name} cpu", []).append((time.process_time() - own) / count * 1000)
    rates.setdefault(f"{name} actors", []).append((cpu_seconds(pids) - others) / count * 1000)


async def run(arguments: argparse.Namespace, store: RunningStore) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    pids = [*store.pids().values()]
    async with warehouse.connect(store.profile) as client:
        bucket = await client.create_bucket("rate")
        for number in range(arguments.rounds):
            one = Round(bucket, f"round-{number}", arguments)
            for name, work in (
                ("put one by one", one.put_one_by_one),
                ("put_many", one.put_in_batches),
                ("get one by one", one.get_one_by_one),
                ("get_many", one.get_in_batches),
            ):
                async with measured(rates, name, arguments.objects, pids):
                    await work()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--volumes", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="warehouse-batch-") as folder,
        RunningStore(Path(folder) / "store", volumes=arguments.volumes) as store,
    ):
        rates = trio.run(run, arguments, store)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print("                     objects/s   ratio   client CPU s/1,000   actors CPU s/1,000")
    for single, many in (("put one by one", "put_many"), ("get one by one", "get_many")):
        for name in (single, many):
            ratio = medians[name] / medians[single]
            print(
                f"{name:18} {medians[name]:11,.0f} {ratio:7.1f} {medians[f'{name} cpu']:20.3f} "
                f"{medians[f'{name} actors']:20.3f}"
            )
    print(f"peak memory of this process: {peak_memory([os.getpid()]) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
