"""Hedge gain: what asking a second time for late answers changes, and what it costs.

    python bench/hedge_gain.py [--requests 10000] [--tasks 8] [--stall-ms 100]

A server on loopback answers reads of 4 KiB, and treats some of them badly:

    quick     none
    stalls    one in 200 waits for so many milliseconds: a lost packet, a cold read behind others
    slow      all wait for 20 ms: a disk or an actor that is slow as a whole

Each is measured without and with `hedge`, in turn.  Prints the mean and percentiles, requests for 1,000
reads, and CPU microseconds of a read (server and client together, in one process).  All tasks and the server
take turns in one loop, so the mean is the number of tasks times what a read takes; which of the tasks wait
longer than others is chance, and the median with it.  With `--tasks 1` there are no turns.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from warehouse.client.reading.hedging import HedgedReads
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.server import Exchange, HttpServer

BODY = bytes(4096)
SLOW_S = 0.02
STALL_SHARE = 1 / 200


async def measure(
    delay_s: Callable[[], float], arguments: argparse.Namespace, *, is_hedged: bool
) -> tuple[list[float], int, float]:
    """Seconds that each read took, requests that the server saw, CPU seconds."""
    request_count = 0
    taken_s: list[float] = []

    async def answer(exchange: Exchange) -> None:
        nonlocal request_count
        request_count += 1
        if wait_s := delay_s():
            await trio.sleep(wait_s)
        await exchange.respond(200, (), BODY)

    pool = HttpPool()

    async def read_some(reads: HttpPool | HedgedReads, url: str) -> None:
        for _ in range(arguments.requests // arguments.tasks):
            started_s = time.perf_counter()
            await reads.request("GET", url, "/", response_size_max=len(BODY))
            taken_s.append(time.perf_counter() - started_s)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(HttpServer(answer).serve, listeners)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        reads = HedgedReads(pool, nursery) if is_hedged else pool
        started_s = time.process_time()
        async with trio.open_nursery() as readers:
            for _ in range(arguments.tasks):
                readers.start_soon(read_some, reads, url)
        cpu_s = time.process_time() - started_s
        await pool.aclose()
        nursery.cancel_scope.cancel()
    return taken_s, request_count, cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--stall-ms", type=float, default=100.0)
    arguments = parser.parse_args()
    chance = random.Random(1)
    servers: dict[str, Callable[[], float]] = {
        "quick": lambda: 0.0,
        "stalls": lambda: arguments.stall_ms / 1000 if chance.random() < STALL_SHARE else 0.0,
        "slow": lambda: SLOW_S,
    }
    print(f"{'ms':14}{'mean':>8}{'p50':>8}{'p99':>8}{'p99.9':>8}{'requests/1,000':>16}{'us of CPU':>11}")
    for name, delay_s in servers.items():
        for is_hedged in (False, True):
            taken_s, request_count, cpu_s = trio.run(
                lambda delay_s=delay_s, is_hedged=is_hedged: measure(delay_s, arguments, is_hedged=is_hedged)
            )
            cuts = statistics.quantiles(taken_s, n=1000)
            times = (statistics.mean(taken_s), *(cuts[place] for place in (499, 989, 998)))
            cells = "".join(f"{one * 1000:8.2f}" for one in times)
            print(
                f"{name:8}{'hedged' if is_hedged else '':6}{cells}{request_count / len(taken_s) * 1000:16.0f}"
                f"{cpu_s / len(taken_s) * 1e6:11.0f}"
            )


if __name__ == "__main__":
    main()
