"""Ids that are gone for good: they stay void, and cost by what lives, not by what was ever there."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from simdisk import SimDisk
from warehouse.errors import NeedleVoid, NoSuchNeedle
from warehouse.storage import index as index_room
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.compaction.next_generation import CopiedNeedle, NextGeneration, next_identity
from warehouse.storage.disk import Disk, OsDisk
from warehouse.storage.files import data_path, index_path, publish, remove_leftovers, volume_directory
from warehouse.storage.format.needle import NeedleMetadata, encode_metadata, encode_void
from warehouse.storage.index import NO_ENTRY, entry_offset
from warehouse.storage.scan import State
from warehouse.storage.volume import Volume

DIRECTORY = volume_directory(1)
UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"
METADATA = NeedleMetadata("b", 1, "key", 0)
GONE = 4_000_000


def create(disk: Disk) -> Volume:
    return Volume.create(disk, DIRECTORY, volume_id=1, uuid=UUID, capacity=1 << 34, created_ms=0)


def compact(disk: Disk, volume: Volume, *, horizon: int = 1 << 60) -> None:
    end_offset = volume.begin_compaction()
    copy = Copy(
        disk,
        DIRECTORY,
        uuid=volume.uuid,
        generation=volume.generation,
        end_offset=end_offset,
        horizon=horizon,
    )
    while copy.step():
        pass
    copy.close()
    switch = GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset)
    switch.catch_up()
    switch.flush()
    switch.switch()


def require_void(volume: Volume, needle_ids: Any) -> None:
    for needle_id in needle_ids:
        with pytest.raises(NeedleVoid):
            volume.append(needle_id, METADATA, b"again", stamp=1 << 50)
        with pytest.raises(NoSuchNeedle):
            volume.read(needle_id)
        assert volume.delete(needle_id, stamp=1 << 50) is False


def fill(volume: Volume, rng: random.Random, dead: set[int], live: dict[int, bytes], first: int) -> None:
    """Some of these ids are written, some of those deleted, the others never used."""
    for needle_id in range(first, first + 60):
        dice = rng.random()
        if dice < 0.15:
            continue
        data = rng.randbytes(rng.randint(0, 40))
        volume.append(needle_id, METADATA, data, stamp=needle_id)
        if dice < 0.7:
            volume.delete(needle_id, stamp=needle_id + 1, object_deleted=rng.random() < 0.3)
            dead.add(needle_id)
        else:
            live[needle_id] = data


@pytest.mark.parametrize("seed", range(6))
def test_what_is_void_stays_void_whatever_is_compacted_lost_or_opened_again(seed: int) -> None:
    rng, disk = random.Random(seed), SimDisk()
    volume = create(disk)
    dead: set[int] = set()
    live: dict[int, bytes] = {}
    for number in range(5):
        fill(volume, rng, dead, live, 1 + 60 * number)
        for needle_id in rng.sample(sorted(live), len(live) // 3):
            volume.delete(needle_id, stamp=1000 + needle_id)
            del live[needle_id]
            dead.add(needle_id)
        compact(disk, volume, horizon=rng.choice((0, 1 << 60)))
        how = rng.choice(("go on", "open", "lose the index", "kill"))
        if how != "go on":
            if how != "kill":
                volume.close()
            if how == "lose the index":
                disk.remove(index_path(DIRECTORY, volume.generation))
            volume = Volume.open(disk, DIRECTORY)
        require_void(volume, dead)
        assert {needle_id: bytes(volume.read(needle_id).data) for needle_id in live} == live
        free = [n for n in range(1, 60 * (number + 1)) if n not in dead and n not in live]
        for needle_id in free:
            with pytest.raises(NoSuchNeedle):
                volume.read(needle_id)
        if free:  # one that was never used may come late
            volume.append(free[0], METADATA, b"late", stamp=5000 + number)
            live[free[0]] = b"late"
        stats, bitmap = volume.stats(), volume.live_bitmap(0, 400)
        assert stats.live_count == len(live)
        assert {n for n in range(len(bitmap) * 8) if bitmap[n >> 3] >> (n & 7) & 1} == live.keys()


def test_a_compaction_costs_by_what_lives_and_not_by_the_ids_that_were_ever_used(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    volume = create(disk)
    volume.append(1, METADATA, b"the only live one", stamp=1)
    volume.checkpoint()
    # As if millions had been written, deleted and compacted away.
    target = NextGeneration.make(disk, DIRECTORY, next_identity(volume.identity))
    data = b"the only live one"
    target.copy_many([CopiedNeedle(1, encode_metadata(METADATA), memoryview(data), 1, crc32c(data))])
    for content in encode_void([(2, GONE // 2), (GONE // 2 + 2, GONE)]):
        target.void(content, 1)
    target.checkpoint()
    target.discard()
    volume.close()
    publish(disk, DIRECTORY, next_identity(volume.identity))
    remove_leftovers(disk, DIRECTORY, 2)
    volume = Volume.open(disk, DIRECTORY)
    began = time.process_time()
    for _ in range(3):
        compact(disk, volume)
    assert time.process_time() - began < 1.5, "it was 3 s for each with an entry an id"
    require_void(volume, (2, 77, GONE // 2, GONE // 2 + 2, GONE))
    assert volume.find(GONE // 2 + 1) is None
    assert volume.stats().needle_id_max == GONE
    index = os.stat(tmp_path / index_path(DIRECTORY, volume.generation))
    assert index.st_blocks * 512 <= 64 * 1024
    assert os.stat(tmp_path / data_path(DIRECTORY, volume.generation)).st_size < 8192


def test_an_index_of_the_first_release_with_an_entry_a_void_id_is_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = SimDisk()
    volume = create(disk)
    for needle_id in range(1, 30):
        volume.append(needle_id, METADATA, b"x", stamp=needle_id)
    for needle_id in range(2, 30):
        volume.delete(needle_id, stamp=100)
    with monkeypatch.context() as older:
        # What 0.1.0 wrote: the same void records, and an entry for each id.
        older.setattr("warehouse.storage.voids.VoidTable.add", lambda table, offset, content: True)
        older.setattr(NextGeneration, "void", void_with_entries)
        compact(disk, volume)
    assert b"WHINDEX3" not in disk.node(index_path(DIRECTORY, 2)).content[:1024]
    assert volume.find(7) is not None
    volume.close()
    volume = Volume.open(disk, DIRECTORY)
    require_void(volume, range(2, 30))
    compact(disk, volume)
    require_void(volume, range(2, 30))
    assert b"WHINDEX3" in disk.node(index_path(DIRECTORY, 3)).content[:1024]
    assert bytes(disk.node(index_path(DIRECTORY, 3)).content[entry_offset(7) :][:16]) == NO_ENTRY


def void_with_entries(target: NextGeneration, content: bytes, stamp: int) -> None:
    offset = target._copy_content(6, content, stamp)
    for first, last in ((2, 29),):
        target.raise_marks(needle_id_max=last, stamp_max=0)
        for needle_id in range(first, last + 1):
            entry = index_room.encode_entry(offset, 0, 0, 0, index_room.FLAG_DELETED)
            target.state.generation.entries.put(needle_id, entry)


def test_the_first_release_takes_an_index_with_ranges_for_none_and_makes_its_own() -> None:
    header = index_room.IndexHeader(
        sequence=2,
        checkpoint=8192,
        tally=index_room.Tally(),
        voids=index_room.VoidSpan(4096, 4144, 9),
    )
    slot = index_room.encode_slot(header, 1, 1, 99)
    assert slot[:8] != b"WHINDEX2"
    assert index_room.decode_slot(slot, 99) == header


@pytest.mark.parametrize("where", ["header", "ranges"])
def test_where_a_void_record_is_damaged_its_ids_stay_void_and_the_next_compaction_goes_through(
    where: str,
) -> None:
    disk = SimDisk()
    volume = create(disk)
    for needle_id in range(1, 40):
        volume.append(needle_id, METADATA, b"data", stamp=needle_id)
    dead = [n for n in range(5, 35) if n % 7]
    for needle_id in dead:
        volume.delete(needle_id, stamp=100)
    compact(disk, volume)
    (record,) = (r for r in volume.records() if r.kind == 6)
    volume.close()
    at = record.offset + (5 if where == "header" else 25)
    node = disk.node(data_path(DIRECTORY, 2))
    for content in (node.content, node.platter):
        content[at] ^= 1
    volume = Volume.open(disk, DIRECTORY)
    live = [n for n in range(1, 40) if n not in dead]
    for _ in range(2):
        require_void(volume, dead)
        assert [bytes(volume.read(n).data) for n in live] == [b"data"] * len(live)
        compact(disk, volume)


@pytest.mark.parametrize("fate", ["lives", "was deleted before", "is deleted afterwards"])
def test_a_needle_whose_index_entry_is_lost_does_not_keep_its_volume_from_being_compacted(fate: str) -> None:
    """Such a needle is copied where nothing says that it is dead, and counted right from then on."""
    disk = SimDisk()
    volume = create(disk)
    for needle_id in range(1, 10):
        volume.append(needle_id, METADATA, b"data", stamp=needle_id)
    volume.delete(1, stamp=50)
    if fate == "was deleted before":
        volume.delete(5, stamp=51)
    volume.close()
    node = disk.node(index_path(DIRECTORY, 1))
    for content in (node.content, node.platter):
        content[entry_offset(5) : entry_offset(6)] = NO_ENTRY
    volume = Volume.open(disk, DIRECTORY)
    if fate == "is deleted afterwards":
        volume.delete(5, stamp=52)
    compact(disk, volume)
    expected = [2, 3, 4, 6, 7, 8, 9]
    if fate == "lives":
        expected.insert(3, 5)
        assert bytes(volume.read(5).data) == b"data"
    else:
        require_void(volume, (1, 5))
    stats = volume.stats()
    assert stats.live_count == len(expected)
    whole = {r.needle_id for r in volume.records() if r.state is State.WHOLE and r.kind == 1}
    assert whole >= set(expected)
    volume.close()
    disk.remove(index_path(DIRECTORY, volume.generation))
    assert Volume.open(disk, DIRECTORY).stats().live_count == len(expected), "a scan counts the same"
