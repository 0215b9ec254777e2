"""The command that measures: bench."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import trio
from cyclopts import Parameter

from warehouse.cli.app import STORE, app
from warehouse.cli.measuring.processes import Clients, start_clients
from warehouse.cli.measuring.report import BenchReport
from warehouse.cli.measuring.worker import TESTS, Plan
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import format_count, parse_number, parse_size
from warehouse.cli.output.objects import say_failure
from warehouse.cli.usage import UsageError

GROUPS = {"large": ("large-put", "large-get"), "all": TESTS}
SIZE, LARGE_SIZE = "4KiB", "80MiB"
OBJECT_COUNT = 5000
LARGE_IN_PARALLEL = 4  # each already sends several chunks; more would only fill the memory
PREPARE_IN_PARALLEL = 64
PROCESSES_MAX = 64
CONCURRENCY_MAX = 4096
REMOVE_WITHIN_S = 60.0


@app.command(group=STORE, usage="Usage: warehouse bench [OPTIONS] [TEST...]")
async def bench(
    *tests: str,
    size: Annotated[
        str | None, Parameter(metavar="SIZE", help=f"Size of a small object (default: {SIZE}).")
    ] = None,
    large_size: Annotated[
        str | None, Parameter(metavar="SIZE", help=f"Size of a large object (default: {LARGE_SIZE}).")
    ] = None,
    concurrency: Annotated[
        str,
        Parameter(
            metavar="N",
            help="Parallel requests (default: 32). Several numbers with commas are measured in turn.",
        ),
    ] = "32",
    seconds: Annotated[float, Parameter(metavar="S", help="Seconds of each test (default: 5).")] = 5.0,
    objects: Annotated[
        str | None,
        Parameter(metavar="N", help=f"Number of small objects to read from (default: {OBJECT_COUNT:,})."),
    ] = None,
    processes: Annotated[
        str, Parameter(metavar="N", help="Client processes that share the requests (default: 1).")
    ] = "1",
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Measure how fast the store is, from here.

    For example:

        warehouse bench
        warehouse bench put get --concurrency 1,16,64
        warehouse bench put --size 64KiB --processes 4

    The benchmark creates its own bucket and removes it at the end, also after Ctrl-C; the next compaction
    frees the space. A put counts when it is on disk and in the catalog.

    A client process uses at most one core, and a few thousand small requests per second use most of it. With
    --processes, several processes share the requests and show what the store can do. The last lines say if
    the client was the limit.

    Parameters
    ----------
    tests
        put, get, list, delete, mixed, large-put, large-get; large: the last two; all: every test.
    """
    wanted = _tests(tests)
    for option, is_given, where in (
        ("--size", size is not None, ("put", "get", "mixed", "delete", "list")),
        ("--large-size", large_size is not None, GROUPS["large"]),
        ("--objects", objects is not None, ("get", "list", "mixed", "delete")),
    ):
        if is_given and not set(where) & set(wanted):
            say_failure(f"warehouse: {option} has no effect: it is for {', '.join(where)}")
    order = Order(
        tests=wanted,
        concurrency=_numbers(concurrency),
        size=_within("--size", parse_size(size or SIZE), 1, 1 << 30),
        large_size=_within("--large-size", parse_size(large_size or LARGE_SIZE), 1, 1 << 30),
        seconds=seconds,
        object_count=parse_number(
            "--objects", str(OBJECT_COUNT) if objects is None else objects, 1, 100_000_000
        ),
        process_count=parse_number("--processes", processes, 1, PROCESSES_MAX),
    )
    if not 0 < seconds <= 86_400:
        raise UsageError("--seconds must be more than 0 and at most a day")
    name = f"bench-{secrets.token_hex(4)}"
    report = BenchReport(is_json=common.json)
    try:
        with report:
            await _measure(order, name, report, common)
    finally:
        report.sum_up(order.process_count)
    return 0


@dataclass(frozen=True)
class Order:
    """The words of a `bench`."""

    tests: Sequence[str]
    concurrency: Sequence[int]
    size: int
    large_size: int
    seconds: float
    object_count: int
    process_count: int


async def _measure(order: Order, name: str, report: BenchReport, common: Common) -> None:
    plan = Plan(bucket=name, worker=0, size=order.size, large_size=order.large_size)
    profile = common.profile_path()
    async with common.connect() as store:
        await store.create_bucket(name)
        try:
            async with start_clients(store, plan, order.process_count, profile) as clients:
                for concurrency in order.concurrency:
                    await _measure_small(order, concurrency, clients, report)
                for concurrency in dict.fromkeys(
                    min(number, LARGE_IN_PARALLEL) for number in order.concurrency
                ):
                    await _measure_large(order, concurrency, clients, report)
        finally:
            await _remove(name, report, common)


async def _measure_small(order: Order, concurrency: int, clients: Clients, report: BenchReport) -> None:
    count = order.object_count
    for test in (test for test in order.tests if not test.startswith("large")):
        if test in ("get", "list", "mixed"):
            await _prepare("prepare", count, clients, report)
        elif test == "delete":
            await _prepare("prepare-delete", count, clients, report)
        size = order.size if test in ("put", "get", "mixed") else 0
        await _run(test, size, order, concurrency, clients, report)


async def _measure_large(order: Order, concurrency: int, clients: Clients, report: BenchReport) -> None:
    for test in (test for test in order.tests if test.startswith("large")):
        if test == "large-get":
            await _prepare("prepare-large", 0, clients, report)
        await _run(test, order.large_size, order, concurrency, clients, report)


async def _run(
    test: str, size: int, order: Order, concurrency: int, clients: Clients, report: BenchReport
) -> None:
    report.begin_test(test, size, concurrency, seconds=order.seconds)
    result = await clients.do(test, concurrency=concurrency, seconds=order.seconds, count=0, tick=report.tick)
    report.finish_test(result)


async def _prepare(step: str, count: int, clients: Clients, report: BenchReport) -> None:
    what = format_count(count, "object") if count else "large objects"
    report.begin(f"preparing {what}", count=count)
    await clients.do(step, concurrency=PREPARE_IN_PARALLEL, seconds=0.0, count=count, tick=report.tick)


async def _remove(name: str, report: BenchReport, common: Common) -> None:
    """Remove the bucket through a new connection: after Ctrl-C the other one is closing."""
    report.begin("removing the bucket")
    with trio.CancelScope(shield=True), trio.move_on_after(REMOVE_WITHIN_S) as scope:
        try:
            async with common.connect() as store:
                await store.delete_bucket(name, force=True)
        except BaseException:
            _say_left_behind(name)
            raise
    if scope.cancelled_caught:
        _say_left_behind(name)


def _say_left_behind(name: str) -> None:
    print(f"warehouse: remove what is left of the benchmark: warehouse rb --force {name}", file=sys.stderr)


def _tests(words: Sequence[str]) -> Sequence[str]:
    """The requested tests, each once, in the order in which they make sense."""
    wanted: set[str] = set()
    for word in ",".join(words or ("all",)).split(","):
        if word not in TESTS and word not in GROUPS:
            raise UsageError(f"there is no test {word!r}: {', '.join(TESTS)}, large, all")
        wanted.update(GROUPS.get(word, (word,)))
    return [test for test in TESTS if test in wanted]


def _numbers(text: str) -> Sequence[int]:
    numbers = [parse_number("--concurrency", part.strip(), 1, CONCURRENCY_MAX) for part in text.split(",")]
    return [*dict.fromkeys(numbers)]


def _within(option: str, number: int, least: int, most: int) -> int:
    if not least <= number <= most:
        raise UsageError(f"{option} must be from {least:,} to {most:,}")
    return number
