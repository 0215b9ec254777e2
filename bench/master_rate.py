"""Master rate: microseconds of processor time that a master spends on each thing that it is asked.

    python bench/master_rate.py [--objects N] [--rounds N] [--seconds S] [--against CHECKOUT] [--only WORD]
                                [--least]

A real master in a process of its own, with a catalog of N objects; this process is two volume actors and
their clients, as far as the master can tell.  Figures are user and system time of the master's process
alone, an operation, the median over the rounds; what a commit costs includes its share of the transaction.

With `--least` it is the least of the rounds: on a busy machine that varies less.

With `--against`, the master of another checkout of the code is asked the same things in turn, round by
round, so that two states can be compared on a machine that is busy with other things.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]  # runs from any checkout

from bench.one_master import (  # noqa: E402
    ASK_S,
    BUCKET,
    BUCKET_ID,
    CREATED_MS,
    FOLDERS,
    OneMaster,
    client_of,
    connected,
    cpu_s,
    disk_of,
    key_of,
    make_catalog,
    make_catalog_as,
    progress_bar,
    running_master,
)
from harness import free_port_base  # noqa: E402
from warehouse.errors import Overloaded  # noqa: E402
from warehouse.transport.messages import (  # noqa: E402
    Answer,
    Deleted,
    DeleteObjects,
    Leased,
    LeaseNeedles,
    Listing,
    ListObjects,
    LocateObjects,
    NeedlesCommitted,
    NeedlesStored,
    ObjectsLocated,
    Request,
    StatObject,
    StoredNeedle,
)
from warehouse.transport.zeromq.link import Link  # noqa: E402

VOLUMES = 2
SETTLE_S = 0.3  # between two kinds of work: what the first one left to do must not count for the second


@dataclass(frozen=True)
class Work:
    """One kind of request: how many travel at once, and what each is and counts for."""

    name: str
    in_flight: int
    ask: Callable[[Asker], Awaitable[int]]


class Asker:
    """The volume actors and clients of one master."""

    def __init__(self, master: OneMaster, disks: list[Link], client: Link, object_count: int) -> None:
        self.master = master
        self._disks = itertools.cycle(enumerate(disks, start=1))
        self._client = client
        self._object_count = object_count
        self._random = random.Random(1)
        self._next_needle = itertools.count(1 + object_count // VOLUMES + 1)
        self._next_stamp = itertools.count()
        self._next_key = itertools.count(object_count)
        # The first half stays there for the others; behind the second is what was put meanwhile.
        self._deletable = itertools.count(object_count // 2)

    async def ask(self, request: Request) -> Answer:
        return await self._client.request(request, timeout_s=ASK_S)

    # --- puts -------------------------------------------------------------------------------------

    async def commit(self, keys: list[str]) -> int:
        volume_id, disk = next(self._disks)
        needles = [self._needle(volume_id, key) for key in keys]
        answer = await disk.request(NeedlesStored(needles=needles), timeout_s=ASK_S)
        assert isinstance(answer, NeedlesCommitted)
        assert all(commit.code is None for commit in answer.commits)
        # One that another message has overtaken would be stamped anew and sent again.
        return sum(commit.etag is not None for commit in answer.commits)

    def _needle(self, volume_id: int, key: str) -> StoredNeedle:
        return StoredNeedle(
            volume_id=volume_id,
            needle_id=next(self._next_needle),
            stamp=(time.time_ns() // 1_000_000 << 16) + next(self._next_stamp),
            size=4096,
            crc=12345,
            stored_size=4200,
            bucket_id=BUCKET_ID,
            key=key,
            created_ms=CREATED_MS,
            content_type="application/octet-stream",
            lease_id=volume_id,
        )

    def fresh_keys(self, count: int) -> list[str]:
        return [key_of(next(self._next_key)) for _ in range(count)]

    def known_keys(self, count: int) -> list[str]:
        return [key_of(number) for number in self._random.sample(range(self._object_count // 2), count)]

    async def lease(self) -> int:
        try:
            answer = await self.ask(LeaseNeedles(bucket=BUCKET, needle_count=256, byte_count=1 << 20))
        except Overloaded:  # the next needle ids are being reserved; later releases wait for them
            await trio.sleep(0.005)
            return 0
        assert isinstance(answer, Leased)
        return 1

    # --- gets, lists, deletes ---------------------------------------------------------------------

    async def locate(self, count: int) -> int:
        answer = await self.ask(LocateObjects(bucket=BUCKET, keys=self.known_keys(count)))
        assert isinstance(answer, ObjectsLocated)
        assert None not in answer.objects
        return count

    async def stat(self) -> int:
        await self.ask(StatObject(bucket=BUCKET, key=self.known_keys(1)[0]))
        return 1

    async def list(self, count: int, *, with_locations: bool = False) -> int:
        after = f"folder-{self._random.randrange(FOLDERS // 10):04}"
        request = ListObjects(bucket=BUCKET, after=after, limit=count, with_locations=with_locations)
        answer = await self.ask(request)
        assert isinstance(answer, Listing)
        assert len(answer.objects) == count
        return count

    async def delete(self, count: int) -> int:
        keys = [key_of(next(self._deletable)) for _ in range(count)]
        answer = await self.ask(DeleteObjects(bucket=BUCKET, keys=keys))
        assert isinstance(answer, Deleted)
        return sum(answer.existed)


WORKS = (
    Work("commit, 1 in a message, 1 message at once", 1, lambda a: a.commit(a.fresh_keys(1))),
    Work("commit, 1 in a message, 8 messages at once", 8, lambda a: a.commit(a.fresh_keys(1))),
    Work("commit, 16 in a message", 4, lambda a: a.commit(a.fresh_keys(16))),
    Work("commit, 64 in a message", 4, lambda a: a.commit(a.fresh_keys(64))),
    Work("commit, 512 in a message", 4, lambda a: a.commit(a.fresh_keys(512))),
    Work("overwrite, 64 in a message", 4, lambda a: a.commit(a.known_keys(64))),
    Work("lease of 256 needles", 16, lambda a: a.lease()),
    Work("locate, 1 key in a request, 1 at once", 1, lambda a: a.locate(1)),
    Work("locate, 1 key in a request, 32 at once", 32, lambda a: a.locate(1)),
    Work("locate, 500 keys in a request", 2, lambda a: a.locate(500)),
    Work("stat", 32, lambda a: a.stat()),
    Work("list, 1,000 keys in a page", 1, lambda a: a.list(1000)),
    Work("list with locations, 1,000 keys in a page", 1, lambda a: a.list(1000, with_locations=True)),
    Work("delete, 1 key in a request", 16, lambda a: a.delete(1)),
    Work("delete, 1,000 keys in a request", 2, lambda a: a.delete(1000)),
)


async def microseconds(asker: Asker, work: Work, seconds: float) -> float:
    """What one operation costs the master; what it does about it later (tombstones) is in it."""
    count = 0
    before = cpu_s(asker.master.pid)

    async def ask_on() -> None:
        nonlocal count
        while trio.current_time() < end:
            done = await work.ask(asker)  # not in one line: `count` would be read before the wait
            count += done

    end = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(work.in_flight):
            nursery.start_soon(ask_on)
    await trio.sleep(SETTLE_S)
    return (cpu_s(asker.master.pid) - before) / count * 1e6


async def run(masters: dict[str, OneMaster], arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    works = [work for work in WORKS if arguments.only in work.name]
    figures: dict[str, dict[str, list[float]]] = {work.name: {name: [] for name in masters} for work in works}
    async with AsyncExitStack() as stack:
        askers = {}
        for name, master in masters.items():
            used = 1 + arguments.objects // VOLUMES
            disks = [
                await stack.enter_async_context(connected(disk_of(master, volume_id, used)))
                for volume_id in range(1, VOLUMES + 1)
            ]
            client = await stack.enter_async_context(connected(client_of(master)))
            askers[name] = Asker(master, disks, client, arguments.objects)
        await trio.sleep(2 * SETTLE_S)  # each disk is given what it needs
        for number in range(arguments.rounds):
            for work in works:
                turns = list(askers.items())
                for name, asker in turns if number % 2 == 0 else reversed(turns):
                    figures[work.name][name].append(await microseconds(asker, work, arguments.seconds))
    figure_of = min if arguments.least else statistics.median
    return {
        work: {name: round(figure_of(values), 2) for name, values in both.items()}
        for work, both in figures.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each kind of work in each round")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another state of the code")
    parser.add_argument("--only", default="", metavar="WORD", help="works that have this in their name")
    parser.add_argument("--least", action="store_true", help="the least of the rounds, not the median")
    parser.add_argument("--directory", type=Path, help="where to make the catalogs; removed afterwards")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    checkouts = {"this": ROOT}
    if arguments.against is not None:
        checkouts["other"] = arguments.against.resolve()
    with (
        tempfile.TemporaryDirectory(prefix="master-rate-", dir=arguments.directory) as directory,
        ExitStack() as stack,
    ):
        masters = {}
        for name, checkout in checkouts.items():
            data = Path(directory) / name
            progress = progress_bar(arguments.objects)
            if checkout == ROOT:
                root = make_catalog(data, arguments.objects, volumes=VOLUMES, progress=progress)
            else:
                root = make_catalog_as(checkout, data, arguments.objects, volumes=VOLUMES)
            masters[name] = stack.enter_context(
                running_master(data, root, checkout=checkout, port=free_port_base())
            )
        figures = trio.run(run, masters, arguments)
    if arguments.json:
        print(json.dumps({"objects": arguments.objects, "microseconds": figures}))
        return 0
    print(f"{'microseconds of the master for each':48}" + "".join(f"{name:>10}" for name in checkouts))
    for work, both in figures.items():
        ratio = f"{both['this'] / both['other']:10.2f}" if "other" in both else ""
        print(f"{work:48}" + "".join(f"{value:10.1f}" for value in both.values()) + ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main())
