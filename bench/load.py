"""Load: one client process that puts or gets small objects through the library, as fast as it can.

    python bench/load.py OPERATION --profile FILE --bucket NAME [--tasks 32] [--seconds 5] [--size 4096]

The operations: put and get, one object at a time by each task; put-many and get-many, one stream of batches
by each task, where the latency of an object is from being taken to its result.

Prints one JSON object: operations a second, p50 and p99 in milliseconds, CPU seconds of this process,
its peak memory.  `get` reads keys that a `put` of the same prefix wrote; with `--flat`, keys that are the
prefix and a number of eight digits.  With `--wait` it says `ready` when it is connected, and begins when a
line comes in, so that several of them can begin together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

import warehouse
from bench.machine import peak_memory
from warehouse.cli.measuring.latencies import Latencies


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    body = os.urandom(arguments.size)
    latencies: list[float] = []
    async with warehouse.connect(arguments.profile) as client:
        bucket = client.bucket(arguments.bucket)

        taken = [deque[float]() for _ in range(arguments.tasks)]  # when, of what has no result yet
        is_read = arguments.operation.startswith("get")

        def key_of(task: int, number: int) -> str:
            if is_read:
                number = random.randrange(arguments.known)
                if arguments.flat:
                    return f"{arguments.prefix}/{number:08}"
            return f"{arguments.prefix}/{task:03}/{number:07}"

        async def put(task: int, number: int) -> None:
            await bucket.put(key_of(task, number), body)

        async def get(task: int, number: int) -> None:
            key = key_of(task, number)
            if len(await bucket.get(key)) != arguments.size:
                raise AssertionError(f"{key} came back with another size")

        async def loop(operation: Callable[[int, int], Awaitable[None]], task: int) -> None:
            for number in range(arguments.count or 10**9):
                started = time.perf_counter()
                if started > deadline and not arguments.count:
                    return
                await operation(task, number)
                latencies.append(time.perf_counter() - started)

        def keys(task: int) -> Iterator[str]:
            for number in range(arguments.count or 10**9):
                started = time.perf_counter()
                if started > deadline and not arguments.count:
                    return
                taken[task].append(started)
                yield key_of(task, number)

        async def stream(task: int) -> None:
            if arguments.operation == "put-many":
                results = bucket.put_many((key, body) for key in keys(task))
            else:
                results = bucket.get_many(keys(task))
            async for result in results:
                if result.error is not None:
                    raise result.error
                latencies.append(time.perf_counter() - taken[task].popleft())

        operation = put if arguments.operation.startswith("put") else get
        await operation(999 if operation is put else 0, 0)  # connects, leases
        if arguments.wait:
            print("ready", flush=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
        cpu_before = time.process_time()
        started = time.perf_counter()
        deadline = started + arguments.seconds
        async with trio.open_nursery() as nursery:
            for task in range(arguments.tasks):
                if arguments.operation.endswith("-many"):
                    nursery.start_soon(stream, task)
                else:
                    nursery.start_soon(loop, operation, task)
        elapsed = time.perf_counter() - started
        cpu = time.process_time() - cpu_before
    kept = Latencies()
    for latency in latencies:
        kept.add(latency)
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else latencies * 99
    return {
        "count": len(latencies),
        "rate": len(latencies) / elapsed,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
        "cpu_s": cpu,
        "elapsed_s": elapsed,
        "peak_bytes": peak_memory([os.getpid()]),
        "latencies": {"counts": kept.counts, "sum_s": kept.sum_s, "max_s": kept.max_s},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("operation", choices=("put", "get", "put-many", "get-many"))
    parser.add_argument("--profile", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", default="load")
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=0, help="operations a task, instead of a time")
    parser.add_argument("--known", type=int, default=1, help="get: how many keys a task has put")
    parser.add_argument("--flat", action="store_true", help="get: the keys are PREFIX/00000000 and so on")
    parser.add_argument("--wait", action="store_true", help="begin when a line comes in")
    parser.add_argument("--size", type=int, default=4096)
    print(json.dumps(trio.run(run, parser.parse_args())))


if __name__ == "__main__":
    main()
