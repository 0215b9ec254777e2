"""Cold reads: gets all over many small objects, with and without the kernel's cache.

    python bench/cold_reads.py [--objects 1000000] [--seconds 3] [--rounds 3] [--folder DIR] [--json FILE]

One store of one disk with so many objects of 4 KiB.  They are read at random: warm, when everything has been
read once before (which takes as much free memory as the objects are large), and cold, when the kernel was
told to forget all files of the store before each measurement.  What the processes themselves remember (the
pages of the index for half a million needles) stays.

Three ways: the volume actor over HTTP, where cold means each object once; the library by tasks, and
`get_many` in batches, which ask the master too.  The table shows medians of the rounds: objects a second, p50
and p99 in milliseconds, processor time of all actors for one object.

With `--folder` the objects are kept there, and the next run, perhaps of another state of the code, begins
with them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from bench.machine import Machine  # noqa: E402
from bench.peer_machine import forget_pages, read_through, say  # noqa: E402
from bench.peer_results import KIB, Case, Sample  # noqa: E402
from bench.peer_systems import BUCKET, WarehouseStore  # noqa: E402
from bench.peer_ways import Batches, Http, Library, Way  # noqa: E402
from warehouse import connect  # noqa: E402
from warehouse.errors import BucketExists  # noqa: E402

SIZE = 4 * KIB
CONNECTIONS = (1, 16, 64)
QUIET_S = 8.0  # five seconds after its start a store compares its catalog with its volumes


class ManyObjects(WarehouseStore):
    """A store that is filled through the library, or was before."""

    def start(self) -> None:
        with contextlib.suppress(BucketExists):
            super().start()

    def fill(self, count: int) -> None:
        """Have so many objects there, whatever there was."""
        known = trio.run(self._count)
        if known < count:
            trio.run(self._put, known, count)
        self._stored[SIZE] = [f"{SIZE}/{number:08}" for number in range(count)]

    async def _count(self) -> int:
        async with connect(self.profile) as client:
            return next(info.object_count for info in await client.buckets() if info.name == BUCKET)

    async def _put(self, first: int, end: int) -> None:
        body = os.urandom(SIZE)
        say(f"{end - first:,} objects go in")
        async with connect(self.profile) as client:
            items = ((f"{SIZE}/{number:08}", body) for number in range(first, end))
            async for result in client.bucket(BUCKET).put_many(items):
                if result.error is not None:
                    raise result.error


@contextlib.contextmanager
def folder_of(arguments: argparse.Namespace) -> Iterator[Path]:
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        yield arguments.folder
    else:
        with tempfile.TemporaryDirectory(prefix="cold-reads-") as name:
            yield Path(name)


def measured(store: ManyObjects, arguments: argparse.Namespace) -> dict[tuple[str, int, bool], list[Sample]]:
    ways: list[Way] = [
        Http("volume actor", store, is_synced=False),
        Library("library", store, is_synced=False),
        Batches("get_many", store, is_synced=False),
    ]
    Library.process_counts["get"] = 2
    samples: dict[tuple[str, int, bool], list[Sample]] = {}
    for is_cold in (False, True):
        read_through(store.data)
        for round_number in range(arguments.rounds):
            say(f"{'cold' if is_cold else 'warm'}, round {round_number + 1} of {arguments.rounds}")
            for connections in CONNECTIONS:
                for way in ways:
                    if is_cold:
                        forget_pages(store.data)
                    is_once = is_cold and isinstance(way, Http)  # the others read at random among all
                    sample = way.measure(Case("get", SIZE, connections, is_once), arguments.seconds)
                    if sample is not None:
                        samples.setdefault((way.name, connections, is_cold), []).append(sample)
    return samples


def median(samples: list[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def figures_of(samples: dict[tuple[str, int, bool], list[Sample]]) -> list[dict[str, Any]]:
    return [
        {
            "way": way,
            "at_once": connections,
            "is_cold": is_cold,
            "rate": median(found, "rate"),
            "p50_ms": median(found, "p50_ms"),
            "p99_ms": median(found, "p99_ms"),
            "server_cpu_us": median(found, "server_cpu_s") * 1e3,
        }
        for (way, connections, is_cold), found in samples.items()
    ]


def print_table(figures: list[dict[str, Any]]) -> None:
    print(f"{'':24} {'at once':>7} {'a second':>9} {'p50 ms':>8} {'p99 ms':>8} {'server us':>9}")
    for line in figures:
        name = f"{line['way']}, {'cold' if line['is_cold'] else 'warm'}"
        print(
            f"{name:24} {line['at_once']:7} {line['rate']:9,.0f} {line['p50_ms']:8.2f} {line['p99_ms']:8.2f}"
            f" {line['server_cpu_us']:9.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the objects here, or take those that are here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    with folder_of(arguments) as folder:
        store = ManyObjects(folder, "os")
        store.start()
        try:
            store.fill(arguments.objects)
            time.sleep(QUIET_S)
            figures = figures_of(measured(store, arguments))
        finally:
            store.stop()
    print(f"{arguments.objects:,} objects of {SIZE} bytes; {Machine.this()}")
    print_table(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"objects": arguments.objects, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
