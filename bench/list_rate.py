"""List rate: how long a page of 1,000 keys takes, with a million objects behind it and with ten.

    python bench/list_rate.py [--objects N] [--ten-million] [--pages N] [--json] [--directory DIR]

A catalog is made in bulk (ten million take two minutes and 2.5 GB of disk).  The same pages are then asked
for at three places: of the catalog in this process, of a real master over its link, and by the client
library, which takes them apart.  Pages lie in the middle and at the end of the bucket, below a prefix, and
with a delimiter (one entry a folder, 1,000 folders); after that, nine tenths of a stretch of 100,000 keys
are deleted and a page is read across it.

Elapsed time, p50 and p99 of all pages; goal: under 10 ms, and the same for ten million.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from any checkout

import warehouse  # noqa: E402
from bench.one_master import (  # noqa: E402
    ASK_S,
    BUCKET,
    BUCKET_ID,
    FOLDERS,
    OneMaster,
    client_of,
    connected,
    cpu_s,
    key_of,
    make_catalog,
    progress_bar,
    running_master,
    until_quiet,
)
from warehouse.auth.keys import ApiKey  # noqa: E402
from warehouse.catalog.sqlite.catalog import SqliteCatalog  # noqa: E402
from warehouse.transport.messages import DeleteObjects, Listing, ListObjects  # noqa: E402

PAGE = 1000
PORT = 17_500
TEN_MILLION = 10_000_000
OBJECTS_MIN = 100 * PAGE  # so that a page fits below each prefix
DELETED_STRETCH = 100_000
DELETED_OF_TEN = 9
DELETED_AT_ONCE = 1000

Figures = dict[str, dict[str, float]]
Place = Callable[[], dict[str, str]]


class Pages:
    """Which pages are asked for, by name: what a `ListObjects` of each begins with."""

    def __init__(self, object_count: int) -> None:
        self._random = random.Random(1)
        self._in_folder = object_count // FOLDERS

    def _key_at(self, place: int) -> str:
        """The key that has so many before it."""
        folder, number = divmod(place, self._in_folder)
        return key_of(folder + number * FOLDERS)

    def wanted(self) -> dict[str, Place]:
        count = self._in_folder * FOLDERS
        return {
            "start": dict,
            "middle": lambda: {"after": self._key_at(self._random.randrange(count - PAGE - 1))},
            "end": lambda: {"after": self._key_at(count - PAGE - 1)},
            "prefix": lambda: {"prefix": f"folder-{self._random.randrange(FOLDERS // 10):03}"},
            "delimiter": lambda: {"delimiter": "/"},
        }


def of_times(times: Iterable[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": round(ordered[len(ordered) // 2] * 1e3, 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3, 2),
    }


def at_the_catalog(path: Path, wanted: dict[str, Place], count: int) -> Figures:
    figures = {}
    catalog = SqliteCatalog.open(path)
    try:
        for name, page in wanted.items():
            times = []
            for _ in range(count):
                place = page()
                started = time.perf_counter()
                found = catalog.list_objects(BUCKET_ID, limit=PAGE, **place)
                times.append(time.perf_counter() - started)
                assert len(found.objects) + len(found.prefixes) == PAGE
            figures[f"catalog, {name}"] = of_times(times)
    finally:
        catalog.close()
    return figures


async def timed(ask: Callable[[], Awaitable[int]], count: int, pid: int) -> dict[str, float]:
    times = []
    cpu_before = cpu_s(pid)
    for _ in range(count):
        started = time.perf_counter()
        found = await ask()
        times.append(time.perf_counter() - started)
        assert found == PAGE
    return {**of_times(times), "master_cpu_ms": round((cpu_s(pid) - cpu_before) / count * 1e3, 2)}


async def at_the_master(master: OneMaster, wanted: dict[str, Place], count: int) -> Figures:
    figures: Figures = {}
    await until_quiet(master.pid)
    async with connected(client_of(master)) as link, warehouse.connect(master.profile) as client:
        bucket = client.bucket(BUCKET)

        async def ask(page: Place) -> int:
            answer = await link.request(ListObjects(bucket=BUCKET, **page()), timeout_s=ASK_S)  # type: ignore[arg-type]
            assert isinstance(answer, Listing)
            return len(answer.objects) + len(answer.prefixes)

        async def read(page: Place) -> int:
            entries = bucket.list(limit=PAGE, **page())  # type: ignore[call-overload]
            return sum([1 async for _ in entries])

        for name, page in wanted.items():
            figures[f"master, {name}"] = await timed(lambda page=page: ask(page), count, master.pid)  # type: ignore[misc]
            figures[f"library, {name}"] = await timed(lambda page=page: read(page), count, master.pid)  # type: ignore[misc]

        # A stretch with holes, in the order of the keys.
        in_folder = [name async for name in _names(bucket, after="folder-0500", limit=DELETED_STRETCH)]
        doomed = [name for number, name in enumerate(in_folder) if number % 10 < DELETED_OF_TEN]
        for first in range(0, len(doomed), DELETED_AT_ONCE):
            keys = doomed[first : first + DELETED_AT_ONCE]
            await link.request(DeleteObjects(bucket=BUCKET, keys=keys), timeout_s=ASK_S)

        def holes() -> dict[str, str]:
            return {"after": "folder-0500"}

        figures["master, after deletes"] = await timed(lambda: ask(holes), count, master.pid)
        figures["library, after deletes"] = await timed(lambda: read(holes), count, master.pid)
    return figures


async def _names(bucket: warehouse.Bucket, *, after: str, limit: int):  # type: ignore[no-untyped-def]
    async for entry in bucket.list(after=after, limit=limit):
        yield entry.key


def measure(data: Path, root: ApiKey, object_count: int, pages: int) -> Figures:
    wanted = Pages(object_count).wanted()
    figures = at_the_catalog(data / "catalog.sqlite3", wanted, pages)
    with running_master(data, root, checkout=ROOT, port=PORT) as master:
        figures.update(trio.run(at_the_master, master, wanted, pages))
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--ten-million", action="store_true", help="measure a bucket of ten million as well")
    parser.add_argument("--pages", type=int, default=200, help="of each kind, at each place")
    parser.add_argument("--directory", type=Path, help="where to make the catalogs; removed afterwards")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.objects < OBJECTS_MIN:
        parser.error(f"at least {OBJECTS_MIN:,} objects are needed")
    sizes = [arguments.objects, *([TEN_MILLION] if arguments.ten_million else [])]
    results: dict[int, Figures] = {}
    bytes_per_object: dict[int, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="list-rate-", dir=arguments.directory) as directory:
            data = Path(directory)
            root = make_catalog(data, size, volumes=1, progress=progress_bar(size))
            bytes_per_object[size] = round((data / "catalog.sqlite3").stat().st_size / size, 1)
            results[size] = measure(data, root, size, arguments.pages)
    if arguments.json:
        print(json.dumps({"figures": results, "catalog_bytes_per_object": bytes_per_object}))
        return 0
    for size, figures in results.items():
        print(f"{size:,} objects, {bytes_per_object[size]:.0f} bytes of catalog each; pages of {PAGE:,} keys")
        for name, values in figures.items():
            spent = f"  master CPU {values['master_cpu_ms']:6.2f} ms" if "master_cpu_ms" in values else ""
            print(f"  {name:24} p50 {values['p50_ms']:7.2f} ms  p99 {values['p99_ms']:7.2f} ms{spent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
