"""The owner writes while other threads sync, checkpoint, fill uploads and read: as in a volume actor."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from auditor import DIRECTORY, make_volume
from warehouse.errors import BadRequest, NoSuchNeedle
from warehouse.storage.disk import OsDisk
from warehouse.storage.extent import Extent
from warehouse.storage.format.needle import BLOCK_SIZE, NeedleMetadata
from warehouse.storage.volume import Volume

METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)
RUN_S = 2.0


def data_of(needle_id: int) -> bytes:
    chance = random.Random(needle_id)
    return chance.randbytes(chance.choice((0, 100, 3000, 3000, BLOCK_SIZE + 100)))


@pytest.fixture(autouse=True)
def eager_switching() -> Iterator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Shop:
    """One owner and its helpers."""

    def __init__(self, root: Path) -> None:
        self.volume = make_volume(OsDisk(root))
        self.live: set[int] = set()
        self.dead: set[int] = set()
        self.stop = threading.Event()

    def sync_again_and_again(self) -> int:
        count = 0
        while not self.stop.is_set():
            if count % 7 == 0:
                self.volume.checkpoint()
            else:
                self.volume.sync()
            count += 1
        return count

    def read_again_and_again(self, seed: int) -> int:
        chance, count = random.Random(seed), 0
        while not self.stop.is_set():
            live = sorted(self.live)  # a set that is replaced, never changed
            if live:
                self.read(chance.choice(live))
                count += 1
        return count

    def read(self, needle_id: int) -> None:
        data = data_of(needle_id)
        try:
            assert bytes(self.volume.read(needle_id).data) == data
            assert bytes(self.volume.open_needle(needle_id).read(0, len(data))) == data
        except NoSuchNeedle:
            assert needle_id in self.dead

    def own(self, pool: ThreadPoolExecutor) -> int:
        """The owner's part."""
        chance, needle_id = random.Random(5), 0
        uploads: list[tuple[int, Extent, Future[None]]] = []
        deadline = time.monotonic() + RUN_S
        while time.monotonic() < deadline:
            needle_id += 1
            kind = chance.random()
            if kind < 0.1:
                data = data_of(needle_id)
                extent = self.volume.reserve(needle_id, METADATA, len(data))
                uploads.append((needle_id, extent, pool.submit(extent.write, data)))
            elif kind < 0.2 and uploads:
                number, extent, writing = uploads.pop(chance.randrange(len(uploads)))
                self.end_upload(number, extent, writing, chance)
            elif kind < 0.25 and self.live:
                victim = chance.choice(sorted(self.live))
                self.dead.add(victim)
                self.volume.delete(victim, stamp=needle_id)
                self.live = self.live - {victim}
            else:
                self.volume.append(needle_id, METADATA, data_of(needle_id), stamp=needle_id)
                self.live = self.live | {needle_id}
        return needle_id

    def end_upload(
        self, needle_id: int, extent: Extent, writing: Future[None], chance: random.Random
    ) -> None:
        if chance.random() < 0.4:
            extent.abort()  # maybe in the middle of its write
            if error := writing.exception():
                assert isinstance(error, BadRequest)
            return
        writing.result()
        extent.finish(stamp=needle_id)
        self.live = self.live | {needle_id}


def test_helpers_in_threads_see_and_leave_a_true_volume(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        helpers = [pool.submit(shop.sync_again_and_again)]
        helpers += [pool.submit(shop.read_again_and_again, seed) for seed in range(2)]
        try:
            assert shop.own(pool) > 100
        finally:
            shop.stop.set()
        assert all(helper.result() > 0 for helper in helpers)
    stats = shop.volume.stats()
    assert stats.live_count == len(shop.live)
    assert stats.damaged_count == 0
    # As after a kill: nothing was closed, and the index of the last checkpoint is brought up to date.
    volume = Volume.open(OsDisk(tmp_path), DIRECTORY)
    assert volume.recovery.damages == ()
    shop.volume = volume
    for needle_id in shop.live:
        assert bytes(volume.read(needle_id).data) == data_of(needle_id)
    for needle_id in shop.dead - shop.live:
        with pytest.raises(NoSuchNeedle):
            volume.read(needle_id)
    assert volume.stats().live_count == len(shop.live)
