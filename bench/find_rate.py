"""Find rate: how long `bucket.find` takes through the library, with a million objects in the bucket.

    python bench/find_rate.py [--objects N] [--rounds N] [--directory DIR]

A catalog is made in bulk, and a real master asked: pages in order of name, forwards and backwards, folders,
a text that is frequent and one that no key has, the newest hundred.  For each question: how many answers it
took until the page was complete, the slowest answer of the median round, and the time of all together.
Goal: no answer takes 100 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from any checkout

import warehouse  # noqa: E402
from bench.one_master import BUCKET, make_catalog, progress_bar, running_master  # noqa: E402

PORT = 17_600
QUESTIONS: dict[str, dict[str, Any]] = {
    "first page, by name": {},
    "last page, by name": {"descending": True},
    "a thousand entries": {"limit": 1000},
    "folders": {"delimiter": "/"},
    "a frequent text": {"contains": "OBJECT-0000"},
    "a text that no key has": {"contains": "no such text"},
    "digits that no key has": {"contains": "7777777"},
    "the newest hundred": {"order": "time", "descending": True},
    "the largest hundred": {"order": "size", "descending": True},
    "the newest of a folder": {"order": "time", "descending": True, "prefix": "folder-0500/"},
}


async def ask(bucket: warehouse.Bucket, question: dict[str, Any]) -> list[float]:
    """Ask until the page is complete, or there is nothing more to look at; seconds of each answer."""
    took, cursor = list[float](), ""
    while True:
        began = time.perf_counter()
        page = await bucket.find(**question, cursor=cursor)
        took.append(time.perf_counter() - began)
        cursor = page.cursor
        if page.is_complete or not cursor:
            return took


async def measure(profile: warehouse.Profile, rounds: int) -> None:
    async with warehouse.connect(profile) as store:
        bucket = store.bucket(BUCKET)
        print(f"{'':26} answers  slowest  together")
        for name, question in QUESTIONS.items():
            found = sorted([await ask(bucket, question) for _ in range(rounds)], key=max)
            middle = found[len(found) // 2]
            together = statistics.median(sum(took) for took in found)
            print(f"{name:26} {len(middle):7} {max(middle) * 1000:6.1f} ms {together * 1000:6.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        data = Path(folder) / "master"
        root = make_catalog(data, arguments.objects, volumes=1, progress=progress_bar(arguments.objects))
        with running_master(data, root, checkout=ROOT, port=PORT) as master:
            trio.run(measure, master.profile, arguments.rounds)


if __name__ == "__main__":
    main()
