"""What a million needles in one volume cost: time to open it, and memory for each needle.

    python -m bench.index_memory [--needles N] [--json] [--directory DIR]

The index is a flat file that the kernel caches, so opening reads one page of it and the process keeps
nothing per needle.  This shows it: a volume is filled, closed, and opened in a fresh process, which then
looks up and reads needles all over the volume.  Printed are the seconds that opening took, and by how much
the resident memory of that process grew, in bytes per needle.

Goals: opening 1,000,000 needles in less than 0.2 s, less than 20 bytes a needle.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from warehouse.conf.programs import module_command
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.volume import Volume

VOLUME_ID = 1
SYNC_EVERY = 50_000
READ_COUNT = 20_000
DATA = b"a small object".ljust(64)
PROJECT = Path(__file__).parents[1]


class Opened(TypedDict):
    open_s: float
    memory_bytes: int  # by which the process grew


class Result(Opened):
    needles: int
    fill_s: float
    bytes_per_needle: float
    rebuild_s: float


def fill(directory: Path, needle_count: int) -> float:
    """Make the volume; returns the seconds it took."""
    start = time.perf_counter()
    volume = Volume.create(
        OsDisk(directory),
        volume_directory(VOLUME_ID),
        volume_id=VOLUME_ID,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=1 << 35,
        created_ms=1_750_000_000_000,
    )
    metadata = NeedleMetadata("photos", 1, "thumbnails/image.jpg", 1_750_000_000_000)
    for needle_id in range(1, needle_count + 1):
        volume.append(needle_id, metadata, DATA, stamp=needle_id)
        if needle_id % SYNC_EVERY == 0:
            volume.sync()
    volume.close()
    return time.perf_counter() - start


def resident_bytes() -> int:
    """The resident memory of this process."""
    if sys.platform == "linux":
        # Exact, unlike the figure in /proc/self/status, which lags behind by some pages a thread.
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def open_and_read(directory: Path, needle_count: int) -> Opened:
    """Open the volume in this process and read needles all over it; `open_s`: the quickest of three times."""
    chance = random.Random(1)
    before = resident_bytes()
    open_s = math.inf
    for number in range(3):
        start = time.perf_counter()
        volume = Volume.open(OsDisk(directory), volume_directory(VOLUME_ID))
        open_s = min(open_s, time.perf_counter() - start)
        if number < 2:
            volume.close()
    assert volume.stats().live_count == needle_count
    for _ in range(READ_COUNT):
        assert volume.read(chance.randint(1, needle_count)).data == DATA
    return {"open_s": open_s, "memory_bytes": max(0, resident_bytes() - before)}


def measure(directory: Path, needle_count: int) -> Result:
    fill_s = fill(directory, needle_count)
    done = subprocess.run(
        module_command("bench.index_memory", "--open", str(directory), "--needles", str(needle_count)),
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    opened: Opened = json.loads(done.stdout)
    (directory / volume_directory(VOLUME_ID) / "g1.idx").unlink()
    start = time.perf_counter()
    Volume.open(OsDisk(directory), volume_directory(VOLUME_ID)).close()
    return {
        "needles": needle_count,
        "fill_s": fill_s,
        "open_s": opened["open_s"],
        "memory_bytes": opened["memory_bytes"],
        "bytes_per_needle": opened["memory_bytes"] / needle_count,
        "rebuild_s": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--needles", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="where to put the volume; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(open_and_read(options.open, options.needles)))
        return
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="index-memory-") as directory:
        result = measure(Path(directory), options.needles)
    if options.json:
        print(json.dumps(result))
        return
    print(f"needles           {result['needles']:>12,}")
    print(f"filled in         {result['fill_s']:>12.1f} s")
    print(f"opened in         {result['open_s']:>12.4f} s   (goal: less than 0.2 s for a million)")
    print(f"memory a needle   {result['bytes_per_needle']:>12.2f} bytes   (goal: less than 20)")
    print(f"index rebuilt in  {result['rebuild_s']:>12.1f} s")


if __name__ == "__main__":
    main()
