"""What has ended is freed at once: no cycle of ours waits for the collector, and the collector runs at all."""

from __future__ import annotations

import enum
import gc
import importlib
import typing
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import trio

from links_kit import Owner, open_hub, open_link, until
from master_kit import open_master
from warehouse.actors import housekeeping
from warehouse.errors import PreconditionFailed
from warehouse.storage import index
from warehouse.storage.compaction.next_generation import NextGeneration
from warehouse.storage.disk import OsDisk
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.format.superblock import VolumeIdentity
from warehouse.storage.volume import Volume
from warehouse.transport.messages import (
    CreateBucket,
    Done,
    Leased,
    LeaseNeedles,
    ListBuckets,
    NeedlesCommitted,
    NeedlesStored,
    StoredNeedle,
)
from warehouse.transport.zeromq.peers import Peer

ROOT = Path(__file__).resolve().parents[3]

UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_copy_that_was_let_go_of_is_freed_at_once(tmp_path):
    disk = OsDisk(tmp_path)
    identity = VolumeIdentity(
        volume_id=7, uuid=UUID, generation=2, capacity=1 << 26, created_ms=1_750_000_000_000
    )
    (tmp_path / "volumes" / "7").mkdir(parents=True)
    copy = NextGeneration.make(disk, "volumes/7", identity)
    freed: list[weakref.ref[object]] = [weakref.ref(copy), weakref.ref(copy.state)]
    copy.discard()
    del copy
    assert [reference() for reference in freed] == [None, None]


@pytest.mark.usefixtures("no_collector")
def test_a_volume_that_was_closed_is_freed_at_once(tmp_path):
    volume = Volume.create(
        OsDisk(tmp_path), "volumes/7", volume_id=7, uuid=UUID, capacity=1 << 26, created_ms=1_750_000_000_000
    )
    freed: list[weakref.ref[object]] = [weakref.ref(volume), weakref.ref(volume._state)]
    volume.close()
    del volume
    assert [reference() for reference in freed] == [None, None]


async def test_a_client_that_has_gone_is_freed_at_once():
    class Forgetful(Owner):
        def on_gone(self, peer: Peer) -> None:
            self.gone_count += 1

        gone_count = 0

    owner = Forgetful()
    async with open_hub(owner) as (hub, endpoint):
        gc.collect()
        gc.disable()
        try:
            async with open_link(endpoint) as link:
                await link.request(ListBuckets(), timeout_s=30)
                freed: list[weakref.ref[object]] = [weakref.ref(peer) for peer in hub.peers.values()]
            await until(lambda: owner.gone_count == 1)
            await until(lambda: freed[0]() is None)
        finally:
            gc.enable()


async def test_a_put_whose_condition_failed_is_forgotten_when_it_was_answered(tmp_path):
    async with open_master(tmp_path) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        bucket_id = int(master.read("SELECT id FROM buckets")[0][0])
        (lease,) = (
            await master.ask(LeaseNeedles(bucket="photos", needle_count=50, byte_count=1), Leased)
        ).leases
        first, volume_id = lease.first_needle_id, lease.volume_id
        await master.disk.store(volume_id, first, bucket_id, "a", 1)
        assert master.disk.link is not None
        for place in range(1, 20):
            needle = StoredNeedle(
                volume_id=volume_id,
                needle_id=first + place,
                stamp=(1 + place) << 16,
                size=3,
                crc=1,
                stored_size=64,
                bucket_id=bucket_id,
                key="a",
                created_ms=1,
                if_none_match="*",
            )
            answer = await master.disk.link.request(
                NeedlesStored(needles=master.promised(needle)), timeout_s=30
            )
            assert isinstance(answer, NeedlesCommitted)
            assert answer.commits[0].code == "precondition_failed"
        gc.collect()
        # The last one may still be what the writer's thread looks at.
        assert sum(isinstance(thing, PreconditionFailed) for thing in gc.get_objects()) <= 1


def modules_of_the_rooms() -> Iterator[ModuleType]:
    for room in sorted(link.name for link in (ROOT / "warehouse").iterdir() if link.is_symlink()):
        for path in sorted((ROOT / room).rglob("*.py")):
            if "node_modules" in path.parts:  # of the console's build
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                name = ".".join(parts if parts[-1] != "__init__" else parts[:-1])
                yield importlib.import_module(f"warehouse.{name}")


def structs_without_collector() -> list[type]:
    found = []
    for module in modules_of_the_rooms():
        found += [
            thing
            for thing in vars(module).values()
            if isinstance(thing, type)
            and issubclass(thing, msgspec.Struct)
            and thing.__module__ == module.__name__
            and not thing.__struct_config__.gc
        ]
    return found


PLAIN = {int, float, str, bytes, bool, type(None), memoryview}


def leads_nowhere(kind: object) -> bool:
    """Whether a value of this type refers to nothing that could lead back to it."""
    if kind in PLAIN or isinstance(kind, enum.EnumMeta):
        return True
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return all(map(leads_nowhere, typing.get_type_hints(kind, include_extras=True).values()))
    if typing.get_origin(kind) is typing.Literal:
        return True
    if typing.get_origin(kind) is typing.Annotated:
        return leads_nowhere(typing.get_args(kind)[0])
    arguments = [one for one in typing.get_args(kind) if one is not Ellipsis]
    return bool(arguments) and all(leads_nowhere(one) for one in arguments)


STRUCTS = structs_without_collector()


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_what_the_collector_does_not_look_into_holds_plain_values_alone(kind):
    """A cycle through such an object is never freed: an error in one kept every refused put for good."""
    hints = typing.get_type_hints(kind, include_extras=True)
    assert [name for name, hint in hints.items() if not leads_nowhere(hint)] == []


def test_pages_of_an_index_are_forgotten_with_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_pages", index.PageCache(index.CACHED_PAGES_MAX))  # other tests fill theirs
    volume = Volume.create(
        OsDisk(tmp_path), "volumes/7", volume_id=7, uuid=UUID, capacity=1 << 26, created_ms=1_750_000_000_000
    )
    volume.append(300, NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000), b"data", stamp=1)
    volume.sync()
    before = len(index._pages._pages)
    for needle_id in (1, 300, 5000):
        volume.find(needle_id)
    assert len(index._pages._pages) > before
    volume.close()
    assert len(index._pages._pages) == before


class Cycle:
    def __init__(self) -> None:
        self.itself = self


async def test_cycles_are_collected_once_a_minute_though_the_collector_is_kept_off(autojump_clock, nursery):
    thresholds = gc.get_threshold()
    try:
        housekeeping.prepare_memory()
        freed = weakref.ref(Cycle())
        nursery.start_soon(housekeeping.keep_memory_flat)
        assert freed() is not None
        await trio.sleep(housekeeping.EVERY_S + 1)
        assert freed() is None
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        nursery.cancel_scope.cancel()
