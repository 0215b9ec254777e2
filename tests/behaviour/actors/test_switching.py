"""A switch and those who order it: what is left when it fails, or when the time of a request is over."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from scripted_link import ScriptedLink
from warehouse.actors.data.authorization import Counters, RequestAuthorizer
from warehouse.actors.data.buffers import BufferPool
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.needle_put import NeedlePut
from warehouse.actors.data.put_request import PutDetails
from warehouse.actors.data.switching import Switching
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier
from warehouse.errors import LengthMismatch, WriteFailed
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import Volume

UUID = "0f14d0ab-9605-4a62-a9e4-5ed26688389b"
DIRECTORY = volume_directory(1)


class Site:
    """A volume with a dead and a live needle, its commit pipeline, and its switches."""

    def __init__(self, root: Path) -> None:
        self.disk = OsDisk(root)
        self.volume = Volume.create(
            self.disk, DIRECTORY, volume_id=1, uuid=UUID, capacity=1 << 30, created_ms=0
        )
        clock = StampClock()
        self.pipeline = CommitPipeline(
            self.volume,
            ScriptedLink(),  # type: ignore[arg-type]
            clock,
            is_synced=True,
            on_master_stamp=clock.observe,
        )
        self.switching = Switching(self.disk)
        for needle_id in (1, 2):
            self.volume.append(needle_id, NeedleMetadata("b", 1, "key", 0), b"data", stamp=needle_id)
        self.volume.delete(1, stamp=3)

    def copy(self) -> int:
        """Make the next generation; returns how far it reaches."""
        end_offset = self.volume.begin_compaction()
        copy = Copy(
            self.disk,
            DIRECTORY,
            uuid=UUID,
            generation=self.volume.generation,
            end_offset=end_offset,
            horizon=0,
        )
        while copy.step():
            pass
        copy.close()
        return copy.end_offset


async def test_a_switch_that_fails_when_its_time_is_over_is_given_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dying disk: every call takes forever, and then it fails."""
    site = Site(tmp_path)

    def fail_late(switch: GenerationSwitch) -> int:
        time.sleep(0.3)  # in its thread
        raise WriteFailed("Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(GenerationSwitch, "catch_up", fail_late)
        end_offset = site.copy()
        with trio.move_on_after(0.1), pytest.raises(WriteFailed):
            await site.switching.switch(site.pipeline, generation=2, end_offset=end_offset)
    assert site.disk.list(DIRECTORY) == ["g1.idx", "g1.vol", "manifest"]
    end_offset = site.copy()
    assert (await site.switching.switch(site.pipeline, generation=2, end_offset=end_offset)).is_done
    assert (site.volume.generation, site.volume.stats().dead_bytes) == (2, 0)


class BrokenExchange:
    """A client that breaks its upload off when it is told to."""

    def __init__(self) -> None:
        self.is_over = trio.Event()

    async def read_into(self, view: memoryview) -> int:
        await self.is_over.wait()
        return 0


async def test_an_upload_that_ends_during_a_switch_does_not_keep_the_other_requests_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, exchange = Site(tmp_path), BrokenExchange()
    put = NeedlePut(
        RequestAuthorizer({}, {}, DataTokenVerifier("disk", {})), StampClock(), Counters(), BufferPool()
    )
    publish, pauses = GenerationSwitch._publish, trio.Event()
    went_on, has_gone_on = threading.Event(), False

    def publish_slowly(switch: GenerationSwitch) -> str | None:
        nonlocal has_gone_on
        trio.from_thread.run_sync(exchange.is_over.set)
        has_gone_on = went_on.wait(20)  # a disk that takes its time
        return publish(switch)

    async def upload() -> None:
        metadata = NeedleMetadata("b", 1, "large", 0)
        claims = DataClaims(
            operation="put",
            audience="disk",
            volume_id=1,
            expires_at_s=2**40,
            bucket_id=1,
            bucket="b",
            room=2**40,
        )
        details = PutDetails(claims, 3, 5_000_000, metadata, (None, None))
        with pytest.raises(LengthMismatch):
            await put._receive_large(exchange, site.pipeline, details, None, None)  # type: ignore[arg-type]
        pauses.set()

    turns = 0
    monkeypatch.setattr(GenerationSwitch, "_publish", publish_slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lambda: site.switching.switch(site.pipeline, generation=2, end_offset=site.copy()))
        while not pauses.is_set():
            await trio.sleep(0.01)
            turns += exchange.is_over.is_set()
            if turns == 10:
                went_on.set()
        went_on.set()
    assert has_gone_on, "the loop stood still for as long as the switch took"
    assert (site.volume.generation, site.volume.stats().in_flight_bytes) == (2, 0)


async def test_what_writers_add_meanwhile_is_not_taken_off_what_a_switch_gives_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.volume.append(3, NeedleMetadata("b", 1, "key", 0), bytes(100_000), stamp=4)
    site.volume.delete(3, stamp=5)
    end_offset = site.copy()
    before = site.volume.stats().file_size
    site.volume.append(4, NeedleMetadata("b", 1, "key", 0), bytes(300_000), stamp=6)
    done = await site.switching.switch(site.pipeline, generation=2, end_offset=end_offset)
    assert site.volume.stats().file_size > before
    assert done.freed_bytes is not None
    assert 100_000 < done.freed_bytes < 101_000
    again = await site.switching.switch(site.pipeline, generation=2, end_offset=end_offset)
    assert again.freed_bytes == done.freed_bytes, "asked again, it says the same"
