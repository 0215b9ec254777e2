"""How long a rebuild of the catalog takes, for each 100,000 objects, and how much memory.

    python -m bench.rebuild_rate [--objects N] [--size BYTES] [--disks N] [--rounds N] [--against CHECKOUT]
                                 [--json] [--directory DIR]

Volumes are filled with objects of one bucket, a tenth of them overwritten and a tenth deleted, as a store
would leave them; then `python -m rescue.rebuild` makes a catalog of them in a process of its own.  With
`--against`, the rebuild of another checkout of the code does the same in turn, round by round: on a machine
with other work only such figures can be compared, and of them the seconds of processor time say most.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any checkout

from warehouse.conf.formatting import format_count
from warehouse.conf.programs import module_command
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.identity import load_identity
from warehouse.storage.volume import Volume

PROJECT = Path(__file__).resolve().parents[1]
CREATED_MS = 1_750_000_000_000
SYNC_EVERY = 50_000


class Result(TypedDict):
    code: str  # "this", "other"
    objects: int
    needles: int
    bytes: int
    disks: int
    seconds: float
    processor_seconds: float
    seconds_per_100k: float
    peak_memory_bytes: int


def fill(disk: Path, object_count: int, size: int, *, volume_id: int = 1) -> None:
    """Make a disk with one volume."""
    disk.mkdir(parents=True)
    load_identity(disk, created_ms=CREATED_MS)
    volume = Volume.create(
        OsDisk(disk),
        volume_directory(volume_id),
        volume_id=volume_id,
        uuid=f"0f14d0ab-9605-4a62-a9e4-{volume_id:012x}",
        capacity=1 << 40,
        created_ms=CREATED_MS,
    )
    data = os.urandom(size)
    chance = random.Random(volume_id)
    stamp = CREATED_MS << 16
    needle_id = 0

    def put(number: int) -> int:
        nonlocal needle_id, stamp
        needle_id, stamp = needle_id + 1, stamp + 1
        key = f"thumbnails/{number % 1000:03}/image-{volume_id}-{number}.jpg"
        volume.append(
            needle_id, NeedleMetadata("photos", 1, key, CREATED_MS, "image/jpeg"), data, stamp=stamp
        )
        return needle_id

    for number in range(object_count):
        first = put(number)
        dice = chance.random()
        if dice < 0.2:
            stamp += 1
            volume.delete(first, stamp=stamp, object_deleted=dice < 0.1)
            if dice >= 0.1:
                put(number)
        if number % SYNC_EVERY == 0:
            volume.sync()
    volume.close()


def measure(directory: Path, disk_count: int, code: str, checkout: Path) -> Result:
    """Rebuild what is in a data folder once; no catalog is there before or afterwards."""
    start = time.perf_counter()
    process = subprocess.Popen(
        module_command("warehouse.rescue.rebuild", "--data", str(directory), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    assert process.stdout is not None
    with process.stdout as stream:
        output = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    assert process.returncode == 0, output
    shutil.rmtree(directory / "master")
    report = json.loads(output)
    return {
        "code": code,
        "objects": report["objects"],
        "needles": report["needles"],
        "bytes": report["bytes"],
        "disks": disk_count,
        "seconds": round(seconds, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds_per_100k": round(seconds / report["objects"] * 100_000, 2),
        "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def shown(result: Result) -> str:
    return (
        f"{result['code']}: {result['objects']:,} objects, {result['needles']:,} needles,"
        f" {format_count(result['disks'], 'disk')}: {result['seconds']} s,"
        f" {result['processor_seconds']} s of processor time,"
        f" {result['objects'] / result['seconds']:,.0f} objects/s,"
        f" {result['seconds_per_100k']} s for 100,000 objects,"
        f" {result['peak_memory_bytes'] / 2**20:.0f} MiB of memory"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=500_000, help="in all; default: 500,000")
    parser.add_argument("--size", type=int, default=1000, help="bytes of each object")
    parser.add_argument("--disks", type=int, default=1, help="that the objects are spread over; default: 1")
    parser.add_argument("--rounds", type=int, default=1, help="rebuilds of each code; default: 1")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another state of the code")
    parser.add_argument("--directory", type=Path, help="where to put the store; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    checkouts = {"this": PROJECT}
    if options.against is not None:
        checkouts["other"] = options.against.resolve()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for disk in range(1, options.disks + 1):
            count = options.objects * disk // options.disks - options.objects * (disk - 1) // options.disks
            fill(Path(directory) / f"disk-{disk}", count, options.size, volume_id=disk)
        for number in range(options.rounds):
            for code in sorted(checkouts, reverse=bool(number % 2)):  # neither is always the first
                result = measure(Path(directory), options.disks, code, checkouts[code])
                print(json.dumps(result) if options.json else shown(result), flush=True)


if __name__ == "__main__":
    main()
