"""A process is killed, another goes on where it was, and then the power goes.

What the first one wrote is in memory still, names too, so the second one finds it; but nobody has made it
durable.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from auditor import CAPACITY, DIRECTORY, UUID, VOLUME_ID, make_volume
from simdisk import SimDisk
from warehouse.errors import NoSuchVolume
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.volume import Volume

METADATA = NeedleMetadata("photos", 3, "key", 1_750_000_000_000)
CUTS = 12


class Killed(BaseException):
    pass


def killed_after(disk: SimDisk, change: int, work: Callable[[], object]) -> bool:
    """End `work` after so many changes; False when it makes fewer."""
    left = change

    def count(call: str, path: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            disk.before = refuse  # nothing is cleaned up: there is nobody any more
            raise Killed

    def refuse(call: str, path: str, offset: int, size: int) -> int | None:
        raise Killed

    disk.after = count
    try:
        work()
    except Killed:
        return True
    finally:
        disk.before = disk.after = None
    return False


def check_after_cuts(disk: SimDisk, change: int) -> None:
    """What is acknowledged to whoever comes after the kill survives the cut that comes after that."""
    volume = Volume.open(disk, DIRECTORY)
    assert volume.sealed_cause is None
    volume.append(9, METADATA, b"acknowledged", stamp=9)
    volume.sync()
    for seed in range(CUTS):
        after = disk.crash(random.Random(100 * change + seed), (0.0, 0.5, 0.9)[seed % 3])
        again = Volume.open(after, DIRECTORY)
        assert bytes(again.read(9).data) == b"acknowledged"
        assert again.recovery.damages == ()


def compact(disk: SimDisk, volume: Volume) -> None:
    end_offset = volume.begin_compaction()
    copy = Copy(disk, DIRECTORY, uuid=UUID, generation=1, end_offset=end_offset, horizon=0)
    while copy.step():
        pass
    copy.close()
    switch = GenerationSwitch(volume, disk, generation=2, end_offset=copy.end_offset)
    switch.switch()


def test_whatever_generation_is_found_after_a_kill_is_found_after_a_power_cut() -> None:
    change = 1
    while True:
        disk = SimDisk()
        volume = make_volume(disk)
        volume.append(1, METADATA, b"one", stamp=1)
        volume.append(2, METADATA, b"two", stamp=2)
        volume.delete(1, stamp=3, object_deleted=True)
        volume.sync()
        if not killed_after(disk, change, lambda: compact(disk, volume)):  # noqa: B023
            break
        check_after_cuts(disk, change)
        change += 1
    assert change > 15


def test_a_volume_that_is_found_after_a_kill_is_found_after_a_power_cut() -> None:
    change = 1
    while True:
        disk = SimDisk()
        if not killed_after(disk, change, lambda: make_volume(disk)):  # noqa: B023
            break
        try:
            Volume.open(disk, DIRECTORY)
        except NoSuchVolume:
            Volume.create(
                disk,
                DIRECTORY,
                volume_id=VOLUME_ID,
                uuid=UUID,
                capacity=CAPACITY,
                created_ms=1_750_000_000_000,
            )
        check_after_cuts(disk, change)
        change += 1
    assert change > 8


@pytest.mark.parametrize("is_killed", [True, False])
def test_nothing_is_removed_while_the_manifest_may_still_be_lost(is_killed: bool) -> None:
    """The disk refuses to sync the directory: then both generations stay, and nothing more is promised."""
    disk = SimDisk()
    volume = make_volume(disk)
    volume.append(1, METADATA, b"one", stamp=1)
    volume.sync()

    def fail(call: str, path: str, offset: int, size: int) -> int | None:
        if call == "sync_directory" and disk.exists(f"{DIRECTORY}/g2.vol"):
            raise OSError(5, "injected")
        return None

    end_offset = volume.begin_compaction()
    copy = Copy(disk, DIRECTORY, uuid=UUID, generation=1, end_offset=end_offset, horizon=0)
    while copy.step():
        pass
    copy.close()
    switch = GenerationSwitch(volume, disk, generation=2, end_offset=copy.end_offset)
    disk.before = fail
    switch.switch()
    assert volume.sealed_cause is not None
    if is_killed:
        volume = Volume.open(disk, DIRECTORY)
        assert volume.sealed_cause is not None
    assert {"g1.vol", "g2.vol"} <= set(disk.list(DIRECTORY))
    assert bytes(volume.read(1).data) == b"one"
    disk.before = None
    for seed in range(CUTS):
        again = Volume.open(disk.crash(random.Random(seed), 0.5), DIRECTORY)
        assert bytes(again.read(1).data) == b"one"
