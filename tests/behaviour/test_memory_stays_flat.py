"""What has ended is freed at once: no cycle of ours waits for the collector, and the collector runs at all."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
from links_kit import Owner, open_hub, open_link, until

from actors import housekeeping
from storage.building import NextGeneration
from storage.disk import OsDisk
from storage.superblock import VolumeFacts
from storage.volume import Volume
from transport.hub import Peer
from transport.messages import ListBuckets

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
    facts = VolumeFacts(volume_id=7, uuid=UUID, generation=2, capacity=1 << 26, created_ms=1_750_000_000_000)
    (tmp_path / "volumes" / "7").mkdir(parents=True)
    copy = NextGeneration.make(disk, "volumes/7", facts)
    freed = weakref.ref(copy)
    copy.discard()
    del copy
    assert freed() is None


@pytest.mark.usefixtures("no_collector")
def test_a_volume_that_was_closed_is_freed_at_once(tmp_path):
    volume = Volume.create(
        OsDisk(tmp_path), "volumes/7", volume_id=7, uuid=UUID, capacity=1 << 26, created_ms=1_750_000_000_000
    )
    freed = weakref.ref(volume)
    volume.close()
    del volume
    assert freed() is None


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
                await link.request(ListBuckets(), timeout_s=5)
                freed = [weakref.ref(peer) for peer in hub.peers.values()]
            await until(lambda: owner.gone_count == 1)
            await until(lambda: freed[0]() is None)
        finally:
            gc.enable()


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
