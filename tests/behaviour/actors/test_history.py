"""The history of a master: what it keeps, what it shows to whom, and what trouble with its file costs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from master_kit import QUICK, RunningMaster, open_master
from warehouse.auth.rights import Grant, Permission
from warehouse.errors import BadRequest, PermissionDenied, StoreError
from warehouse.transport.messages import (
    BucketGrowth,
    BucketHistory,
    CreateBucket,
    DiskCounters,
    DiskReport,
    Done,
    Figures,
    History,
    StoreFigures,
    StoreHistory,
)

FAST = replace(QUICK, note=0.05, keep=0.05)


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[RunningMaster]:
    async with open_master(tmp_path, intervals=FAST, has_compactor=False) as master:
        yield master


async def history(master: RunningMaster) -> History:
    return await master.ask(StoreHistory(since_ms=0), History)


async def until_saved(folder: Path, table: str = "points") -> None:
    with trio.fail_after(30):
        while True:
            try:
                with closing(sqlite3.connect(folder / "history.sqlite3")) as connection:
                    if connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                        return
            except sqlite3.Error:
                pass  # the master has not made it yet
            await trio.sleep(0.02)


async def report(master: RunningMaster, counters: DiskCounters) -> None:
    assert master.disk.link is not None
    volumes = [*master.disk.reports.values()]
    await master.disk.link.request(
        DiskReport(volumes=volumes, disk_free=1 << 40, counters=counters), timeout_s=30
    )


async def test_what_a_disk_reports_is_in_the_figures_and_in_the_history(master: RunningMaster) -> None:
    await report(master, DiskCounters())
    await report(master, DiskCounters(gets=40, bytes_out=4000, get_latencies=[0] * 20 + [40]))
    figures = await master.ask(StoreFigures(), Figures)
    assert figures.rates.gets_per_s * figures.window_s == pytest.approx(40)
    assert [disk.rates for disk in figures.disks] == [figures.rates]
    with trio.fail_after(30):
        while sum(p.rates.gets_per_s * p.span_s for p in (await history(master)).points) < 39.9:
            await trio.sleep(0.02)


async def test_a_killed_master_finds_what_it_had_saved(tmp_path: Path, master: RunningMaster) -> None:
    await until_saved(tmp_path)
    saved = (tmp_path / "history.sqlite3").read_bytes()
    await master.stop()
    (tmp_path / "history.sqlite3").write_bytes(saved)  # nothing of what it wrote when it stopped
    await master.start()
    await master.connect_client()
    with trio.fail_after(30):
        while not (await history(master)).points:
            await trio.sleep(0.02)


async def test_a_file_that_gets_damaged_while_the_master_runs_is_written_anew(
    tmp_path: Path, master: RunningMaster
) -> None:
    await until_saved(tmp_path)
    path = tmp_path / "history.sqlite3"
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, b"\x5a" * os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    with trio.fail_after(30):
        while not path.with_name("history.sqlite3.damaged").exists():
            await trio.sleep(0.02)
    await until_saved(tmp_path)
    assert (await history(master)).points
    await master.create_bucket("still")


async def test_a_file_that_cannot_be_written_costs_nothing_but_the_history(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite3").mkdir()
    async with open_master(tmp_path, intervals=FAST, has_compactor=False) as master:
        await master.create_bucket("fine")
        with trio.fail_after(30):
            while not (await history(master)).points:
                await trio.sleep(0.02)
        growth = await master.ask(BucketHistory(bucket="fine", since_ms=0), BucketGrowth)
        assert [point.object_count for point in growth.points] == [0]
        assert master.running._history.unsaved_count > 0


async def test_nothing_is_written_while_the_disk_of_the_catalog_is_full(
    tmp_path: Path, master: RunningMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until_saved(tmp_path)
    keeper = master.running._history
    monkeypatch.setattr(keeper._catalog_room, "is_short", True)
    before = keeper.unsaved_count
    await keeper.save()
    assert keeper.unsaved_count > before


# --- who may see what -----------------------------------------------------------------------------


async def refusal(master: RunningMaster, permissions: int, grants: tuple[Grant, ...] | None) -> list[str]:
    link = await master.connect_with(permissions, grants)
    codes = []
    for request in (StoreFigures(), StoreHistory(since_ms=0), BucketHistory(bucket="mine", since_ms=0)):
        try:
            await link.request(request, timeout_s=30)
        except StoreError as error:
            codes.append(error.code)
        else:
            codes.append("")
    return codes


async def test_the_store_is_for_operators_and_growth_for_those_who_list_all_of_the_bucket(
    master: RunningMaster,
) -> None:
    mine = await master.create_bucket("mine")
    no = PermissionDenied.code
    assert await refusal(master, Permission.SEE_CLUSTER, None) == ["", "", no]
    assert await refusal(master, Permission.LIST, None) == [no, no, ""]
    whole = Grant(Permission.LIST, bucket_id=mine)
    part = Grant(Permission.LIST, bucket_id=mine, key_prefix="a/")
    assert await refusal(master, Permission.LIST, (whole,)) == [no, no, ""]
    assert await refusal(master, Permission.LIST, (part,)) == [no, no, no]


@pytest.mark.parametrize("count", [0, 2001])
async def test_a_number_of_points_that_makes_no_sense_is_refused(master: RunningMaster, count: int) -> None:
    await master.create_bucket("mine")
    with pytest.raises(BadRequest):
        await master.ask(StoreHistory(since_ms=0, points_max=count), History)
    with pytest.raises(BadRequest):
        await master.ask(BucketHistory(bucket="mine", since_ms=0, points_max=count), BucketGrowth)


async def test_a_new_bucket_of_an_old_name_has_not_grown_yet(tmp_path: Path, master: RunningMaster) -> None:
    await master.ask(CreateBucket(bucket="name"), Done)
    growth = await master.ask(BucketHistory(bucket="name", since_ms=0), BucketGrowth)
    assert growth.points
    assert all(point.byte_count == point.object_count == 0 for point in growth.points)
