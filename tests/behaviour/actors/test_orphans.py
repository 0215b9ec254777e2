"""Needles that no object names: a handful is collected, a multitude is kept until a person has decided."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from master_kit import QUICK, RunningMaster, open_master
from warehouse.actors.control.cross_check import ORPHANS_MAX
from warehouse.errors import BadRequest, CatalogBehind, StoreError
from warehouse.transport.messages import (
    BeginUpload,
    ClusterStatus,
    CreateBucket,
    DecideOrphans,
    DeleteNeedles,
    DeleteObjects,
    Done,
    Leased,
    LeaseNeedles,
    Listing,
    ListObjects,
    Presign,
    Status,
)

INTERVALS = replace(QUICK, sweep=0.1)


async def trouble_names(master: RunningMaster) -> list[str]:
    return [trouble.name for trouble in (await master.ask(ClusterStatus(), Status)).troubles]


async def until_trouble(master: RunningMaster, names: list[str]) -> None:
    with trio.fail_after(30):
        while await trouble_names(master) != names:
            await trio.sleep(0.02)


def tombstoned(master: RunningMaster) -> set[int]:
    return {needle_id for command in master.disk.of(DeleteNeedles) for needle_id, _ in command.needles}


async def test_a_handful_of_orphans_is_collected_without_a_question(tmp_path: Path) -> None:
    async with open_master(tmp_path, intervals=INTERVALS) as master:
        master.disk.live[1] = set(range(1, ORPHANS_MAX + 1))
        with trio.fail_after(30):
            while len(tombstoned(master)) < ORPHANS_MAX:
                await trio.sleep(0.02)
        assert await trouble_names(master) == []


async def test_a_multitude_of_orphans_is_kept_until_a_person_drops_it(tmp_path: Path) -> None:
    async with open_master(tmp_path, intervals=INTERVALS) as master:
        master.disk.live[1] = set(range(1, ORPHANS_MAX + 2))
        await until_trouble(master, ["orphans_kept"])
        status = await master.status()
        assert status.health == "degraded"
        assert status.orphan_count == ORPHANS_MAX + 1
        assert "rebuild --replace" in status.troubles[0].message
        assert not tombstoned(master)
        with pytest.raises(BadRequest):
            await master.ask(DecideOrphans(decision="forget"), Done)
        await master.ask(DecideOrphans(decision="drop"), Done)
        with trio.fail_after(30):
            while len(tombstoned(master)) <= ORPHANS_MAX:
                await trio.sleep(0.02)
        await until_trouble(master, [])


async def test_a_few_orphans_are_kept_too_where_needles_that_objects_name_are_missing(tmp_path: Path) -> None:
    """So it looks when the end of the catalog's log is lost: it names what was replaced, and not by what."""
    async with open_master(tmp_path, intervals=INTERVALS) as master:
        bucket_id = await master.create_bucket("photos")
        await master.disk.store(1, 1, bucket_id, "cat")
        master.disk.live[1] = {2, 3}
        await until_trouble(master, ["orphans_kept"])
        status = await master.status()
        assert "lacks some that objects name" in status.troubles[0].message
        assert (status.orphan_count, status.damage_count) == (2, 1)
        await trio.sleep(0.5)
        assert not tombstoned(master)
        await master.ask(DecideOrphans(decision="drop"), Done)
        with trio.fail_after(30):
            while tombstoned(master) != {2, 3}:
                await trio.sleep(0.02)


async def test_a_multitude_that_a_person_keeps_is_no_trouble_and_stays(tmp_path: Path) -> None:
    async with open_master(tmp_path, intervals=INTERVALS) as master:
        master.disk.live[1] = set(range(1, ORPHANS_MAX + 2))
        await until_trouble(master, ["orphans_kept"])
        await master.ask(DecideOrphans(decision="keep"), Done)
        await until_trouble(master, [])
        await master.restart()
        await master.connect_disk()
        with trio.fail_after(30):
            while (await master.status()).orphan_count != ORPHANS_MAX + 1:
                await trio.sleep(0.02)
        assert not tombstoned(master)
        assert await trouble_names(master) == []


async def test_needle_ids_that_were_never_reserved_show_that_the_catalog_is_behind(tmp_path: Path) -> None:
    async with open_master(tmp_path, intervals=INTERVALS) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        reserved = master.read("SELECT needle_id_reserved FROM volumes")[0][0]
        master.disk.disconnect()
        master.disk.set(1, needle_id_max=reserved + 1)
        master.disk.live[1] = {1, 2, reserved + 1}
        await master.connect_disk()
        assert await trouble_names(master) == ["catalog_behind"]
        for change in (
            CreateBucket(bucket="more"),
            LeaseNeedles(bucket="photos", needle_count=1, byte_count=1),
            BeginUpload(bucket="photos", key="a"),
            DeleteObjects(bucket="photos", keys=["a"]),
            Presign(bucket="photos", key="a", method="PUT", expires_in_s=60),
        ):
            with pytest.raises(CatalogBehind):
                await master.ask(change, Done)
        with pytest.raises(CatalogBehind):
            await master.ask(DecideOrphans(decision="drop"), Done)
        with pytest.raises(CatalogBehind):
            await master.disk.store(1, 3, 1, "a", time.time_ns() // 1_000_000)
        await master.ask(ListObjects(bucket="photos"), Listing)  # reads go on
        await trio.sleep(3 * QUICK.orphan)
        assert not tombstoned(master)
        # It is to go on all the same: no id is handed out twice.
        await master.ask(DecideOrphans(decision="keep"), Done)
        assert await trouble_names(master) == []
        master.disk.disconnect()
        await master.connect_disk()
        with trio.fail_after(30):
            while True:
                try:
                    leased = await master.ask(
                        LeaseNeedles(bucket="photos", needle_count=1, byte_count=1), Leased
                    )
                    break
                except StoreError:
                    await trio.sleep(0.05)
        assert leased.leases[0].first_needle_id > reserved + 1
