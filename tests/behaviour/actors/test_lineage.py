"""Disks of other catalogs: who is refused, and what goes on meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from master_kit import GIB, QUICK, RunningMaster, ScriptedDisk, open_master, until
from warehouse.conf.settings import Settings
from warehouse.errors import CatalogBehind, StoreError
from warehouse.transport.messages import (
    CreateBucket,
    CreateVolume,
    Done,
    Leased,
    LeaseNeedles,
    Register,
    VolumeReport,
    Welcome,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

SECOND = "e" * 32
VOLUME = VolumeReport(
    volume_id=1,
    uuid="6d1b2e1c-0000-4000-8000-000000000001",
    generation=1,
    capacity=GIB,
    file_size=4096,
    live_count=0,
    live_bytes=0,
    dead_bytes=0,
    needle_id_max=0,
    stamp_max=0,
    created_ms=1,
)


class OtherDisk:
    """A second disk, and what its latest attempt to register came to."""

    def __init__(self, master: RunningMaster) -> None:
        self._master = master
        self.script = ScriptedDisk()
        self._incarnation = 0
        self._keys: CurveKeys | None = None
        self.outcome: Welcome | StoreError | None = None

    @asynccontextmanager
    async def connected(self, **said: Any) -> AsyncIterator[None]:
        self._incarnation += 1
        self.outcome, scope = None, trio.CancelScope()

        async def greet(link: Link) -> None:
            fields: dict[str, Any] = {
                "join_secret": "",
                "disk_id": SECOND,
                "disk_name": "disk-2",
                "incarnation": self._incarnation,
                "url": "http://127.0.0.1:2",
                "volumes": [],
                "disk_capacity": 200 * GIB,
                "disk_free": 100 * GIB,
            }
            try:
                answer = await link.ask_now(Register(**{**fields, **said}), timeout_s=30)
            except StoreError as error:
                self.outcome = error
                raise
            assert isinstance(answer, Welcome)
            self.outcome = answer

        if self._keys is None:
            self._keys = await self._master.new_node("disk-2")
        await self._master.connect(
            "disk-2", greet, self.script.answer, self._incarnation, scope, keys=self._keys
        )
        await until(lambda: self.outcome)
        yield
        scope.cancel()
        await trio.sleep(0.1)


async def lease(master: RunningMaster) -> None:
    await master.ask(LeaseNeedles(bucket="photos", needle_count=1, byte_count=1), Leased)


OF_ANOTHER_CATALOG = {"epoch": 3, "mark": 5, "offered_epoch": 4, "offered_mark": 9, "catalog_id": 77}


async def test_a_disk_of_another_store_is_refused_and_stops_nobody_else(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        other = OtherDisk(master)
        async with other.connected(volumes=[VOLUME], **OF_ANOTHER_CATALOG):
            assert isinstance(other.outcome, StoreError)
            assert other.outcome.code == "disk_mismatch"
            assert "another catalog" in other.outcome.message
            await lease(master)
            status = await master.status()
            assert [disk.name for disk in status.disks] == ["disk-1"]
            [trouble] = status.troubles
            assert (trouble.name, trouble.subject) == ("disk_unknown", SECOND)
            assert "join file" in trouble.message
            assert len(await master.events("disk_unknown")) == 1
        # Its folder was emptied, or it holds no volume.
        async with other.connected(**OF_ANOTHER_CATALOG):
            assert isinstance(other.outcome, Welcome)
            assert (await master.status()).troubles == []


async def test_a_catalog_without_volumes_that_meets_disks_of_another_was_lost_perhaps(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        master = RunningMaster(tmp_path, nursery, Settings(), QUICK)
        await master.start()
        await master.connect_client()
        await master.ask(CreateBucket(bucket="photos"), Done)
        other = OtherDisk(master)
        async with other.connected(volumes=[VOLUME], **OF_ANOTHER_CATALOG):
            assert isinstance(other.outcome, Welcome)
            with pytest.raises(CatalogBehind):
                await lease(master)
            assert [trouble.name for trouble in (await master.status()).troubles] == ["catalog_behind"]
        await master.stop()
        nursery.cancel_scope.cancel()


async def test_when_the_catalog_turns_out_not_to_be_behind_every_disk_is_provisioned_again(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        other = OtherDisk(master)
        async with other.connected(offered_epoch=1, offered_mark=9):
            assert isinstance(other.outcome, Welcome)
            catalog_id = other.outcome.catalog_id
        known = {"catalog_id": catalog_id, "offered_epoch": 2, "offered_mark": 8}
        async with other.connected(**{**known, "epoch": 7, "mark": 7, "offered_epoch": 8}):
            with pytest.raises(CatalogBehind):
                await lease(master)
        assert not master.running.provisioner._online
        async with other.connected(epoch=1, mark=9, **known):  # that was a copy, and this is the disk
            assert isinstance(other.outcome, Welcome)
            # A volume that was made on it meanwhile is missing, as this disk never names one.
            names = {trouble.name for trouble in (await master.status()).troubles}
            assert names <= {"volumes_missing"}
            await until(lambda: len(master.running.provisioner._online) == 2)
            await lease(master)


async def test_a_disk_that_goes_while_its_volume_is_made_leaves_no_trouble_behind(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        other = OtherDisk(master)
        other.script.hold(CreateVolume)
        async with other.connected():
            await until(lambda: other.script.of(CreateVolume))
        await until(lambda: len(master.running.provisioner._online) == 1)
        await trio.sleep(0.1)
        assert (await master.status()).troubles == []
