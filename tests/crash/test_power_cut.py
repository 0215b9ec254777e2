"""Real power cuts under a process that writes: all that it was promised is there afterwards.

One volume lives through many cuts, so each recovery is followed by more writing and the next cut.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cut_writer import DIRECTORY, data_of, metadata_of
from powercut import CutDisk, unavailable
from warehouse.errors import NoSuchNeedle
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import index_path
from warehouse.storage.volume import Volume

REASON = unavailable()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

WRITER = Path(__file__).parents[1] / "kits" / "cut_writer.py"
PROJECT = Path(__file__).parents[2]
CUTS_PER_VOLUME = 20  # then a new volume: the image is small
START_S = 20.0


@dataclass
class Promises:
    """What the writer said about its needles."""

    sizes: dict[int, int] = field(default_factory=dict)  # all that were tried
    put: set[int] = field(default_factory=set)  # promised
    deleted: set[int] = field(default_factory=set)
    delete_tried: set[int] = field(default_factory=set)

    def take(self, said: bytes) -> int:
        """Take in what was said, up to the last whole line; returns how many promises there were."""
        count = 0
        for line in said[: said.rfind(b"\n") + 1].decode().splitlines():
            word, needle_id, *size = line.split()
            number = int(needle_id)
            if word == "p":
                self.sizes[number] = int(size[0])
            elif word == "d":
                self.delete_tried.add(number)
            else:
                (self.put if word == "P" else self.deleted).add(number)
                count += 1
        return count

    def check(self, volume: Volume) -> None:
        assert volume.recovery.damages == (), "a torn write was taken for damage"
        live_count = sum(self._check_needle(volume, needle_id) for needle_id in self.sizes)
        stats = volume.stats()
        assert stats.live_count == live_count
        assert stats.damaged_count == 0

    def _check_needle(self, volume: Volume, needle_id: int) -> bool:
        try:
            needle = volume.read(needle_id)
        except NoSuchNeedle:
            assert needle_id not in self.put or needle_id in self.delete_tried, f"needle {needle_id} was lost"
            return False
        assert needle_id not in self.deleted, f"needle {needle_id} came back"
        assert bytes(needle.data) == data_of(needle_id, self.sizes[needle_id])
        assert needle.metadata == metadata_of(needle_id)
        return True


def start_writer(root: Path, seed: int, first_id: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(root), str(seed), str(first_id)],
        stdout=subprocess.PIPE,
        env=environment,
    )


def listen(writer: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What the writer says in the time after its first word."""
    assert writer.stdout is not None
    fd, said = writer.stdout.fileno(), bytearray()
    deadline = time.monotonic() + START_S
    is_started = False
    while (left := deadline - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            piece = os.read(fd, 65536)
            assert piece, "the writer died by itself"
            said += piece
            if not is_started:
                is_started, deadline = True, time.monotonic() + seconds
    assert is_started
    return bytes(said)


def rest(writer: subprocess.Popen[bytes]) -> bytes:
    """What is still in the pipe of a frozen writer."""
    assert writer.stdout is not None
    fd, said = writer.stdout.fileno(), bytearray()
    os.set_blocking(fd, False)
    while True:
        try:
            piece = os.read(fd, 65536)
        except BlockingIOError:
            return bytes(said)
        if not piece:
            return bytes(said)
        said += piece


def cut_once(disk: CutDisk, chance: random.Random, promises: Promises) -> tuple[int, int]:
    """One writer, one cut, one check; returns how many promises were made in between, and how often the
    volume has been compacted."""
    first_id = max(promises.sizes, default=0)
    writer = start_writer(disk.root, chance.randrange(1 << 32), first_id)
    try:
        said = listen(writer, chance.uniform(0.001, chance.choice((0.06, 0.5))))
        said += disk.cut([writer.pid], lambda: rest(writer))
    finally:
        writer.kill()
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
    count = promises.take(said)
    disk.remount()
    return count, check_disk(disk, chance, promises)


def check_disk(disk: CutDisk, chance: random.Random, promises: Promises) -> int:
    """Hold the disk to the promises; returns how often the volume has been compacted so far."""
    volume = Volume.open(OsDisk(disk.root), DIRECTORY)
    promises.check(volume)
    is_index_lost = chance.random() < 0.2
    volume.close()
    if is_index_lost:
        OsDisk(disk.root).remove(index_path(DIRECTORY, volume.generation))
        volume = Volume.open(OsDisk(disk.root), DIRECTORY)
        assert volume.recovery.rebuilt_because
        promises.check(volume)
        volume.close()
    return volume.generation - 1


def new_volume(disk: CutDisk) -> None:
    root = OsDisk(disk.root)
    if root.exists(DIRECTORY):
        for name in root.list(DIRECTORY):
            root.remove(f"{DIRECTORY}/{name}")
    Volume.create(
        root,
        DIRECTORY,
        volume_id=7,
        uuid="0f14d0ab-9605-4a62-a9e4-5ed26688389b",
        capacity=1 << 30,
        created_ms=1,
    ).close()


def cut_many(directory: Path, cuts: int, seed: int) -> tuple[int, int]:
    """Cut again and again; returns how many promises were kept, over how many compactions."""
    chance, count, compactions = random.Random(seed), 0, 0
    with CutDisk(directory) as disk:
        for number in range(cuts):
            if number % CUTS_PER_VOLUME == 0:
                new_volume(disk)
                promises = Promises()
                before = 0
            kept, so_far = cut_once(disk, chance, promises)
            count, compactions, before = count + kept, compactions + so_far - before, so_far
    return count, compactions


@pytest.mark.timeout(300)
def test_nothing_promised_is_lost_in_100_power_cuts(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    count, compactions = cut_many(tmp_path, 100, seed)
    assert count > 1000, "the writer has to get somewhere between two cuts"
    assert compactions > 20, "cuts have to hit compactions, too"
    print(f"{count} promises kept in 100 power cuts, over {compactions} compactions")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_promised_is_lost_in_3000_power_cuts(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    count, compactions = cut_many(tmp_path, 3000, seed)
    print(f"{count} promises kept in 3000 power cuts, over {compactions} compactions")


def test_the_cuts_are_real(tmp_path: Path) -> None:
    """What was not synced is gone, what was is there: otherwise the tests above would prove nothing."""
    with CutDisk(tmp_path) as disk:
        synced, unsynced = disk.root / "synced", disk.root / "unsynced"
        for path in (synced, unsynced):
            path.write_bytes(b"x" * 100_000)
        for path in (synced, disk.root):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        lost = disk.root / "lost"
        lost.write_bytes(b"y" * 100_000)
        disk.cut([], lambda: None)
        disk.remount()
        assert synced.read_bytes() == b"x" * 100_000
        assert not lost.exists()


def test_a_writer_that_never_syncs_is_convicted(tmp_path: Path) -> None:
    with CutDisk(tmp_path) as disk:
        new_volume(disk)
        volume = Volume.open(OsDisk(disk.root), DIRECTORY)
        promises = Promises()
        for needle_id in range(1, 50):
            volume.append(needle_id, metadata_of(needle_id), data_of(needle_id, 4096), stamp=needle_id)
            promises.take(f"p {needle_id} 4096\nP {needle_id}\n".encode())
        disk.cut([], lambda: None)
        volume.close()  # must not help: the power is gone
        del volume
        disk.remount()
        with pytest.raises(AssertionError, match="was lost"):
            promises.check(Volume.open(OsDisk(disk.root), DIRECTORY))


def test_nothing_is_left_mounted_when_a_test_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), CutDisk(tmp_path) as disk:
        raise RuntimeError("on purpose")
    assert str(disk.root) not in Path("/proc/self/mounts").read_text()
    attached = subprocess.run(["losetup", "--list", "--output", "BACK-FILE"], capture_output=True, text=True)
    assert str(tmp_path) not in attached.stdout
