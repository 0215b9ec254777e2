"""Writes to a volume as fast as it can, until its power is cut: the process under `test_power_cut`.

Run as `python cut_writer.py ROOT SEED FIRST_ID`.  Beside it, in a thread, the volume is compacted again and
again, so that a cut may hit any step of that.  Says on standard output what it is about to do (small
letters) and what it was promised (capitals), a line each, the latter only after the sync:

    p ID SIZE    P ID    d ID    D ID

The bytes of a needle follow from its id and size, see `data_of`.
"""

from __future__ import annotations

import os
import random
import select
import sys
from concurrent.futures import ThreadPoolExecutor

from warehouse.errors import StoreError
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import OsDisk
from warehouse.storage.extent import Extent
from warehouse.storage.format.needle import BLOCK_SIZE, NeedleMetadata, encode_metadata
from warehouse.storage.kernel_sync import KernelSync
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import NewNeedle

DIRECTORY = "volumes/7"
SIZES = (0, 1, 100, 500, 4096, 4096, 10_000)
LARGE_SIZES = (BLOCK_SIZE, BLOCK_SIZE + 1, 700_000)


def data_of(needle_id: int, size: int) -> bytes:
    return random.Random(needle_id).randbytes(size)


def metadata_of(needle_id: int) -> NeedleMetadata:
    return NeedleMetadata("photos", 3, f"key-{needle_id}", 1_750_000_000_000)


def open_kernel() -> KernelSync | None:
    try:
        return KernelSync()
    except OSError:
        return None


class Writer:
    """Appends on the main thread while another syncs, as a volume actor does."""

    def __init__(self, root: str, seed: int, first_id: int) -> None:
        self.chance = random.Random(seed)
        self.disk = OsDisk(root)
        self.volume = Volume.open(self.disk, DIRECTORY)
        self.kernel = open_kernel()
        self.next_id = first_id
        self.stamp = first_id
        self.live: list[int] = []
        self.upload: tuple[Extent, bytes] | None = None

    def run(self) -> None:
        with ThreadPoolExecutor(3) as pool:
            compacting = pool.submit(self.compact_forever)
            promises = self.write_some(pool)
            while True:
                syncing = pool.submit(self.sync)
                later = self.write_some(pool)  # not covered by that sync
                syncing.result()
                tell(promises)
                promises = later
                if compacting.done():
                    compacting.result()  # it never ends but by an error

    def compact_forever(self) -> None:
        volume = self.volume
        while True:
            end_offset = volume.begin_compaction()
            copy = Copy(
                self.disk,
                DIRECTORY,
                uuid=volume.uuid,
                generation=volume.generation,
                end_offset=end_offset,
                horizon=1 << 63,
            )
            while copy.step():
                pass
            copy.close()
            switch = GenerationSwitch(
                volume, self.disk, generation=copy.generation, end_offset=copy.end_offset
            )
            switch.catch_up()
            switch.switch()

    def sync(self) -> None:
        what = self.chance.random()
        if what < 0.1:
            self.volume.checkpoint()
        elif what < 0.5 or not self.sync_by_kernel():
            self.volume.sync()

    def sync_by_kernel(self) -> bool:
        """Beside the appends, the compactions and their switches, as `actors/data/fsync.py` does."""
        begun = self.volume.begin_sync() if self.kernel is not None else None
        if begun is None:
            return False
        assert self.kernel is not None
        self.kernel.submit(begun.handle, 1)
        select.select([self.kernel], [], [])
        [(_, code)] = self.kernel.take_results()
        return self.volume.end_sync(begun, OSError(code, "the kernel's sync") if code else None)

    def write_some(self, pool: ThreadPoolExecutor) -> list[str]:
        """Do a few things; returns what may be said about them once they are durable."""
        promises = []
        for _ in range(self.chance.randrange(1, 8)):
            kind = self.chance.random()
            if kind < 0.3 and self.live:
                promises.append(self.delete())
            elif kind < 0.4:
                promises += self.go_on_with_upload(pool)
            elif kind < 0.6:
                promises += self.put_together()
            else:
                promises.append(self.put())
        return promises

    def put_together(self) -> list[str]:
        needles = [self.next_needle(SIZES) for _ in range(self.chance.randrange(2, 6))]
        outcomes = self.volume.append_many(
            [
                NewNeedle(needle_id, encode_metadata(metadata_of(needle_id)), data_of(needle_id, size))
                for needle_id, size in needles
            ],
            lambda: self.stamp,
        )
        for outcome in outcomes:
            if isinstance(outcome, StoreError):
                raise outcome
        self.live += [needle_id for needle_id, _ in needles]
        return [f"P {needle_id}" for needle_id, _ in needles]

    def put(self) -> str:
        needle_id, size = self.next_needle(SIZES)
        self.volume.append(needle_id, metadata_of(needle_id), data_of(needle_id, size), stamp=self.stamp)
        self.live.append(needle_id)
        return f"P {needle_id}"

    def go_on_with_upload(self, pool: ThreadPoolExecutor) -> list[str]:
        """Reserve, write or finish: an upload lives through several syncs."""
        if self.upload is None:
            needle_id, size = self.next_needle(LARGE_SIZES)
            extent = self.volume.reserve(needle_id, metadata_of(needle_id), size)
            self.upload = extent, data_of(needle_id, size)
            return []
        extent, data = self.upload
        if extent.written < len(data):
            pool.submit(extent.write, data[extent.written : extent.written + 200_000]).result()
            return []
        self.upload = None
        if self.chance.random() < 0.2:
            extent.abort()
            return []
        extent.finish(stamp=self.stamp)
        self.live.append(extent.needle_id)
        return [f"P {extent.needle_id}"]

    def delete(self) -> str:
        needle_id = self.live.pop(self.chance.randrange(len(self.live)))
        tell([f"d {needle_id}"])
        self.stamp += 1
        self.volume.delete(needle_id, stamp=self.stamp)
        return f"D {needle_id}"

    def next_needle(self, sizes: tuple[int, ...]) -> tuple[int, int]:
        self.next_id += 1
        self.stamp += 1
        size = self.chance.choice(sizes)
        tell([f"p {self.next_id} {size}"])
        return self.next_id, size


def tell(lines: list[str]) -> None:
    os.write(1, "".join(line + "\n" for line in lines).encode())


if __name__ == "__main__":
    Writer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
