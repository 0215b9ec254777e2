"""How long the catalog's hot calls take, with a bucket of many objects behind them.

    python -m bench.catalog_rates [--objects N] [--json] [--directory DIR]

Everything is measured in this one process, on the connections that a master uses.  Commits travel in
batches of 32, as they do with a few dozen clients.  All figures are CPU time of the calling thread, so that
other programs on the machine do not count, and the best of several rounds.  The one exception is the COMMIT
of a batch: it waits for the disk, and is shown apart in elapsed time.

Goals, for 200,000 objects: commit 25 us a needle without the fsync, object() 10 us, a page of 1,000 keys
5 ms.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.transport.messages import StoredNeedle

BATCH = 32
ROUNDS = 5
FOLDERS = 1000
BUCKET = "bench"
VOLUME_ID = 1
CREATED_MS = 1_700_000_000_000


def key_of(number: int) -> str:
    return f"folder-{number % FOLDERS:04}/object-{number:08}.bin"


def needle_of(bucket_id: int, number: int, key: str) -> StoredNeedle:
    stamp = (CREATED_MS + number) << 16
    return StoredNeedle(
        VOLUME_ID, number, stamp, 4096, 12345, 4200, bucket_id, key, CREATED_MS, "application/octet-stream"
    )


class Bench:
    def __init__(self, path: Path, object_count: int) -> None:
        self.path = path
        self.object_count = object_count
        self.catalog = SqliteCatalog.open(path)
        with self.catalog.transaction() as transaction:
            self.bucket_id = transaction.create_bucket(BUCKET, CREATED_MS).id
            transaction.add_disk("disk-1", "first", CREATED_MS)
            transaction.add_volume(VOLUME_ID, "uuid", 1 << 40, "disk-1")
        self.random = random.Random(1)
        self.needle_count = 0

    def commit_batches(self, keys: list[str]) -> tuple[list[float], list[float]]:
        """Commit a fresh needle for each key; seconds a needle, and seconds a COMMIT, of each batch."""
        calls, commits = [], []
        for first in range(0, len(keys), BATCH):
            batch = [self._needle(key) for key in keys[first : first + BATCH]]
            with self.catalog.transaction() as transaction:
                begun = time.thread_time()
                with transaction.savepoint():
                    self._commit(transaction, batch)
                calls.append((time.thread_time() - begun) / len(batch))
                called = time.perf_counter()
            commits.append(time.perf_counter() - called)
        return calls, commits

    def _needle(self, key: str) -> StoredNeedle:
        self.needle_count += 1
        return needle_of(self.bucket_id, self.needle_count, key)

    @staticmethod
    def _commit(transaction: SqliteTransaction, batch: list[StoredNeedle]) -> None:
        for needle in batch:
            if transaction.commit_needle(needle).etag is None:
                raise SystemExit("a commit was refused: the figures would mean nothing")

    def random_keys(self, count: int) -> list[str]:
        return [key_of(number) for number in self.random.sample(range(self.object_count), count)]

    def run(self) -> dict[str, float]:
        fill_calls, _ = self.commit_batches([key_of(number) for number in range(self.object_count)])
        fresh = [key_of(self.object_count + number) for number in range(ROUNDS * 100 * BATCH)]
        rounds = [self.commit_batches(fresh[start::ROUNDS]) for start in range(ROUNDS)]
        figures = {
            "fill_commit_us": median(fill_calls) * 1e6,
            "commit_us": min(median(calls) for calls, _ in rounds) * 1e6,
            "fsync_batch_us": min(median(commits) for _, commits in rounds) * 1e6,
            "overwrite_us": min(
                median(self.commit_batches(self.random_keys(100 * BATCH))[0]) for _ in range(ROUNDS)
            )
            * 1e6,
            "object_us": self._lookup(2000) * 1e6,
            "object_after_commit_us": min(self._object_after_commit() for _ in range(ROUNDS)) * 1e6,
            "page_ms": self._page() * 1e3,
            "page_of_folders_ms": self._page(delimiter="/") * 1e3,
            "recount_s": seconds(self.catalog.check_counts),
            "bytes_per_object": self.path.stat().st_size / (self.object_count + len(fresh)),
        }
        self.catalog.close()
        return figures

    def _look_up(self, keys: list[str]) -> None:
        for key in keys:
            if self.catalog.object(self.bucket_id, key) is None:
                raise SystemExit("an object is missing: the figures would mean nothing")

    def _lookup(self, count: int) -> float:
        """Seconds a lookup, over random keys."""
        batches = [self.random_keys(count) for _ in range(ROUNDS)]
        return min(seconds(partial(self._look_up, keys)) / count for keys in batches)

    def _object_after_commit(self) -> float:
        """Seconds a lookup when there is a commit between any few: the reader's pages are stale each time."""
        spent, count = 0.0, 0
        for _ in range(50):
            self.commit_batches(self.random_keys(BATCH))
            keys = self.random_keys(BATCH)
            spent += seconds(partial(self._look_up, keys))
            count += len(keys)
        return spent / count

    def _page(self, *, delimiter: str | None = None) -> float:
        def page() -> None:
            found = self.catalog.list_objects(self.bucket_id, delimiter=delimiter, limit=1000)
            if len(found.objects) + len(found.prefixes) != 1000:
                raise SystemExit("a page is short: the figures would mean nothing")

        return min(seconds(page) for _ in range(4 * ROUNDS))


def seconds(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=200_000, help="objects to list (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="where to make the catalog; removed afterwards")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.objects < 100 * BATCH:
        parser.error(f"at least {100 * BATCH} objects are needed")
    with tempfile.TemporaryDirectory(prefix="catalog-rates-", dir=arguments.directory) as directory:
        figures = Bench(Path(directory) / "catalog.sqlite3", arguments.objects).run()
    figures = {"objects": arguments.objects, **{name: round(value, 2) for name, value in figures.items()}}
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:12,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
