"""Face rate: put_many and get_many of the Trio library, the sync face and the asyncio face, on one store.

    python bench/face_rate.py [--objects 20000] [--size 4096] [--rounds 3]

Each round measures all three in turn on fresh keys of one running store with one volume, every put fsynced.
Prints medians in objects a second, each with its part of the Trio library's rate, and the microseconds of one
`stat` after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from harness import RunningStore  # noqa: E402

FACES = ("trio", "sync", "aio")
STATS = 200
Rates = dict[tuple[str, str], list[float]]


def keys_of(name: str, count: int) -> list[str]:
    return [f"{name}/{number:07}" for number in range(count)]


def record(rates: Rates, face: str, what: str, count: int, started: float) -> None:
    rates.setdefault((face, what), []).append(count / (time.perf_counter() - started))


def run_sync(store: RunningStore, name: str, count: int, body: bytes, rates: Rates) -> None:
    with warehouse.sync.connect(store.profile) as client:
        bucket, keys = client.bucket("rate"), keys_of(name, count)
        started = time.perf_counter()
        for put in bucket.put_many((key, body) for key in keys):
            assert put.error is None
        record(rates, "sync", "put_many", count, started)
        started = time.perf_counter()
        for got in bucket.get_many(keys):
            assert got.data == body
        record(rates, "sync", "get_many", count, started)
        started = time.perf_counter()
        for key in keys[:STATS]:
            bucket.stat(key)
        record(rates, "sync", "stat", STATS, started)


async def run_async(face: str, store: RunningStore, name: str, count: int, body: bytes, rates: Rates) -> None:
    connect = warehouse.connect if face == "trio" else warehouse.aio.connect
    async with connect(store.profile) as client:
        bucket, keys = client.bucket("rate"), keys_of(name, count)
        started = time.perf_counter()
        async for put in bucket.put_many((key, body) for key in keys):
            assert put.error is None
        record(rates, face, "put_many", count, started)
        started = time.perf_counter()
        async for got in bucket.get_many(keys):
            assert got.data == body
        record(rates, face, "get_many", count, started)
        started = time.perf_counter()
        for key in keys[:STATS]:
            await bucket.stat(key)
        record(rates, face, "stat", STATS, started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates: Rates = {}
    body = os.urandom(arguments.size)
    with (
        tempfile.TemporaryDirectory(prefix="warehouse-faces-") as folder,
        RunningStore(Path(folder) / "store", volumes=1) as store,
    ):
        with warehouse.sync.connect(store.profile) as client:
            client.create_bucket("rate")
        for number in range(arguments.rounds):
            for face in FACES:
                name = f"{face}-{number}"
                if face == "sync":
                    run_sync(store, name, arguments.objects, body, rates)
                elif face == "aio":
                    asyncio.run(run_async(face, store, name, arguments.objects, body, rates))
                else:
                    trio.run(run_async, face, store, name, arguments.objects, body, rates)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    print("         put_many/s         get_many/s         one stat, us")
    for face in FACES:
        words = [f"{face:5}"]
        for what in ("put_many", "get_many"):
            rate = medians[face, what]
            words.append(f"{rate:12,.0f} {rate / medians['trio', what]:5.2f}")
        words.append(f"{1e6 / medians[face, 'stat']:14.0f}")
        print(" ".join(words))


if __name__ == "__main__":
    main()
