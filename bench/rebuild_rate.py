"""How long a rebuild of the catalog takes, for each 100,000 objects, and how much memory.

    python -m bench.rebuild_rate [--objects N] [--size BYTES] [--json] [--directory DIR]

A volume is filled with objects of one bucket, a tenth of them overwritten and a tenth deleted, as a store
would leave them; then `python -m rescue.rebuild` makes a catalog of it in a process of its own.
"""

from __future__ import annotations

import argparse
import json
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

from conf.programs import module_command
from storage.disk import OsDisk
from storage.files import volume_directory
from storage.identity import load_identity
from storage.needle import NeedleMetadata
from storage.volume import Volume

PROJECT = Path(__file__).resolve().parents[1]
CREATED_MS = 1_750_000_000_000
SYNC_EVERY = 50_000


class Result(TypedDict):
    objects: int
    needles: int
    bytes: int
    seconds: float
    seconds_per_100k: float
    peak_memory_bytes: int


def fill(disk: Path, object_count: int, size: int) -> None:
    disk.mkdir(parents=True)
    load_identity(disk, created_ms=CREATED_MS)
    volume = Volume.create(
        OsDisk(disk),
        volume_directory(1),
        volume_id=1,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=1 << 40,
        created_ms=CREATED_MS,
    )
    data = os.urandom(size)
    chance = random.Random(1)
    stamp = CREATED_MS << 16
    needle_id = 0

    def put(number: int) -> int:
        nonlocal needle_id, stamp
        needle_id, stamp = needle_id + 1, stamp + 1
        key = f"thumbnails/{number % 1000:03}/image-{number}.jpg"
        volume.append(
            needle_id, NeedleMetadata("photos", 1, key, CREATED_MS, "image/jpeg"), data, stamp=stamp
        )
        return needle_id

    for number in range(object_count):
        first = put(number)
        dice = chance.random()
        if dice < 0.2:
            stamp += 1
            volume.delete(first, stamp=stamp, is_last=dice < 0.1)
            if dice >= 0.1:
                put(number)
        if number % SYNC_EVERY == 0:
            volume.sync()
    volume.close()


def measure(directory: Path, object_count: int, size: int) -> Result:
    fill(directory / "disk-1", object_count, size)
    start = time.perf_counter()
    done = subprocess.Popen(
        module_command("rescue.rebuild", "--data", str(directory), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    output = done.communicate()[0]
    seconds = time.perf_counter() - start
    assert done.returncode == 0
    report = json.loads(output)
    return {
        "objects": report["objects"],
        "needles": report["needles"],
        "bytes": report["bytes"],
        "seconds": round(seconds, 2),
        "seconds_per_100k": round(seconds / report["objects"] * 100_000, 2),
        "peak_memory_bytes": _peak_of_children(),
    }


def _peak_of_children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=1000, help="bytes of each object")
    parser.add_argument("--directory", type=Path, help="where to put the store; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        result = measure(Path(directory), options.objects, options.size)
    if options.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['objects']:,} objects, {result['needles']:,} needles: {result['seconds']} s,"
            f" {result['seconds_per_100k']} s for 100,000 objects,"
            f" {result['peak_memory_bytes'] / 2**20:.0f} MiB of memory"
        )


if __name__ == "__main__":
    main()
