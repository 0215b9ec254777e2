"""How fast a volume is compacted, and with how much memory, next to what the disk copies.

    python bench/compaction_rate.py [--size 10GiB] [--needle 64KiB] [--dead 0.5] [--folder DIR] [--json]

Makes a volume with needles of one size, of which a part is deleted here and there; then copies its data
file as `cp` does (buffered, synced at the end), and compacts it, as the compactor and the volume actor do:
`Copy` and then `GenerationSwitch`, in a process of their own.  Both begin with a cold page cache.  The rate
of the compaction counts the bytes of the file that it goes through, as that of the copy does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import Machine
from warehouse.conf.setting_types import parse_size, size_text
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import data_path, volume_directory
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.volume import Volume

VOLUME_ID = 7
DIRECTORY = volume_directory(VOLUME_ID)
PIECE = 8 * 1024 * 1024


def fill(folder: Path, size: int, needle_size: int, dead: float) -> None:
    """Make the volume, with a progress line on standard error."""
    chance = random.Random(5)
    data = chance.randbytes(needle_size)
    volume = Volume.create(
        OsDisk(folder),
        DIRECTORY,
        volume_id=VOLUME_ID,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=4 * size,
        created_ms=1,
    )
    needle_id = 0
    while volume.stats().file_size < size:
        needle_id += 1
        metadata = NeedleMetadata("bench", 1, f"objects/{needle_id:012d}", 1_750_000_000_000)
        volume.append(needle_id, metadata, data, stamp=needle_id << 16)
        if chance.random() < dead and needle_id > 100:
            volume.delete(needle_id - chance.randrange(100), stamp=(needle_id << 16) + 1)
        if needle_id % 20_000 == 0:
            volume.sync()
            print(f"\r{volume.stats().file_size / size:4.0%} made", end="", file=sys.stderr)
    volume.close()
    print("\r", end="", file=sys.stderr)


def drop_cache(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def copy_rate(source: Path) -> float:
    """Bytes a second of a buffered copy with a sync at its end."""
    drop_cache(source)
    target = source.with_suffix(".copy")
    started = time.perf_counter()
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as written:
        while piece := read.read(PIECE):
            written.write(piece)
        os.fsync(written.fileno())
    elapsed = time.perf_counter() - started
    size = source.stat().st_size
    target.unlink()
    return size / elapsed


def compact(folder: Path) -> dict[str, float]:
    """In a process of its own: the copy and the switch, timed."""
    disk = OsDisk(folder)
    volume = Volume.open(disk, DIRECTORY)
    before = volume.stats()
    end_offset = volume.begin_compaction()
    started = time.perf_counter()
    copy = Copy(
        disk,
        DIRECTORY,
        uuid=volume.uuid,
        generation=volume.generation,
        end_offset=end_offset,
        horizon=1 << 63,
    )
    while copy.step():
        pass
    copy.close()
    copied = time.perf_counter()
    switch = GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset)
    switch.catch_up()
    pause_s = switch.switch()
    ended = time.perf_counter()
    after = volume.stats()
    volume.close()
    return {
        "needles": before.live_count + before.dead_count,
        "file_bytes": before.file_size,
        "live_bytes": before.live_bytes,
        "freed_bytes": before.file_size - after.file_size,
        "copy_s": copied - started,
        "switch_s": ended - copied,
        "pause_s": pause_s,
        "rate": before.file_size / (ended - started),
        "cpu_s": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=parse_size("10GiB"), help="of the volume")
    parser.add_argument("--needle", type=parse_size, default=parse_size("64KiB"), help="data of each needle")
    parser.add_argument("--dead", type=float, default=0.7, help="how often one of the latest is deleted")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--compact", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compact is not None:
        print(json.dumps(compact(arguments.compact)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="compaction-", dir=arguments.folder))
    try:
        fill(folder, arguments.size, arguments.needle, arguments.dead)
        data = folder / data_path(DIRECTORY, 1)
        disk_rate = copy_rate(data)
        drop_cache(data)
        command = [sys.executable, __file__, "--compact", str(folder)]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures |= {"disk_copy_rate": disk_rate, "ratio": figures["rate"] / disk_rate}
    if arguments.json:
        print(json.dumps({**figures, "needle_size": arguments.needle, "machine": str(Machine.this())}))
        return 0
    print(Machine.this())
    print(
        f"volume of {size_text(arguments.size)}, {figures['needles']:,.0f} needles of"
        f" {size_text(arguments.needle)}, {1 - figures['live_bytes'] / figures['file_bytes']:.0%} dead"
    )
    print(f"disk copies        {disk_rate / 1e6:8.0f} MB/s")
    print(f"compaction         {figures['rate'] / 1e6:8.0f} MB/s   ratio {figures['ratio']:.2f} (goal 0.5)")
    print(f"switch             {figures['switch_s'] * 1000:8.1f} ms")
    print(f"its pause          {figures['pause_s'] * 1000:8.1f} ms    (goal 50)")
    print(f"memory             {figures['memory_bytes'] / 1e6:8.0f} MB (goal 100)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
