"""A master believes no stamp that a sound clock cannot show, whoever tells it, and names who did."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from master_kit import RunningMaster, open_master
from warehouse.errors import StampRefused, Unavailable
from warehouse.transport.messages import CreateBucket, DiskReport, Done, Leased, LeaseNeedles, Status

YEAR_MS = 365 * 24 * 3600 * 1000
A_YEAR_AHEAD = (time.time_ns() // 1_000_000 + YEAR_MS) << 16
IMPOSSIBLE = [
    pytest.param(stamp, id=name)  # named: one of them depends on the time, and test processes must agree
    for stamp, name in [
        (2**63 - 1, "most of SQLite"),
        (2**63, "too large for SQLite"),
        (2**64 - 1, "most of the wire"),
        (A_YEAR_AHEAD, "a year ahead"),
    ]
]


async def bucket_id_of(master: RunningMaster) -> int:
    await master.ask(CreateBucket(bucket="photos"), Done)
    return int(master.read("SELECT id FROM buckets")[0][0])


async def can_write(master: RunningMaster) -> bool:
    try:
        await master.ask(LeaseNeedles(bucket="photos", needle_count=1, byte_count=1), Leased)
    except Unavailable:
        return False
    return True


def now_stamp() -> int:
    return time.time_ns() // 1_000_000 << 16


@pytest.mark.parametrize("stamp", IMPOSSIBLE)
async def test_a_report_with_an_impossible_stamp_is_refused_and_its_disk_is_set_aside(
    tmp_path: Path, stamp: int
) -> None:
    async with open_master(tmp_path) as master:
        bucket_id = await bucket_id_of(master)
        master.disk.set(1, stamp_max=stamp)
        with pytest.raises(StampRefused):
            await master.disk.report()
        status = await master.status()
        assert status.health != "ok"
        assert [(trouble.name, trouble.subject) for trouble in status.troubles] == [
            ("stamp_refused", status.disks[0].disk_id)
        ]
        assert "rebuild" in status.troubles[0].message
        assert len(await master.events("stamp_refused")) == 1
        assert not await can_write(master)
        # Its clock was mended, and it registers again.
        master.disk.disconnect()
        master.disk.set(1, stamp_max=now_stamp())
        await master.connect_disk()
        assert await can_write(master)
        assert (await master.status()).troubles == []
        commit = await master.disk.store(1, 1, bucket_id, "a", now_stamp() >> 16)
        assert commit.etag is not None


@pytest.mark.parametrize("stamp", IMPOSSIBLE)
async def test_a_disk_that_registers_with_an_impossible_stamp_is_read_and_not_written(
    tmp_path: Path, stamp: int
) -> None:
    async with open_master(tmp_path) as master:
        await bucket_id_of(master)
        master.disk.disconnect()
        master.disk.set(1, stamp_max=stamp)
        await master.connect_disk()
        assert not await can_write(master)
        status = await master.status()
        assert status.disks[0].is_online
        assert [trouble.name for trouble in status.troubles] == ["stamp_refused"]
        await master.ask(CreateBucket(bucket="the-clock-is-sound"), Done)
        assert master.read("SELECT value FROM facts WHERE name = 'stamp_max'")[0][0] < now_stamp() * 2


async def test_a_needle_with_an_impossible_stamp_is_refused_alone_and_for_good(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        bucket_id = await bucket_id_of(master)
        commit = await master.disk.store(1, 1, bucket_id, "a", A_YEAR_AHEAD >> 16)
        assert commit.code == "stamp_refused"
        assert (await master.status()).object_count == 0
        commit = await master.disk.store(1, 1, bucket_id, "a", now_stamp() >> 16)
        assert commit.code == "needle_void"


async def test_a_catalog_whose_clock_is_at_its_end_names_the_command_that_mends_it(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await bucket_id_of(master)
        await master.stop()
        with closing(sqlite3.connect(tmp_path / "catalog.sqlite3")) as connection:
            connection.execute(f"UPDATE facts SET value = {2**63 - 1} WHERE name = 'stamp_max'")
            connection.commit()
        await master.start()
        status = await master.status()
        assert [trouble.name for trouble in status.troubles] == ["clock_spent"]
        assert "rebuild --replace" in status.troubles[0].message
        assert msgspec.msgpack.encode(status)


async def told_skew(master: RunningMaster, skew_ms: int) -> Status:
    assert master.disk.link is not None
    report = DiskReport(
        volumes=list(master.disk.reports.values()), disk_free=master.disk.free, clock_skew_ms=skew_ms
    )
    await master.disk.link.request(report, timeout_s=30)
    return await master.status()


@pytest.mark.parametrize("sign", [1, -1])
async def test_a_disk_whose_clock_is_off_is_named_and_gets_no_puts_beyond_the_life_of_tokens(
    tmp_path: Path, sign: int
) -> None:
    async with open_master(tmp_path) as master:
        await bucket_id_of(master)
        status = await told_skew(master, sign * 1000)
        assert (status.troubles, status.disks[0].clock_skew_s) == ([], sign * 1.0)
        status = await told_skew(master, sign * 30_000)
        assert [trouble.name for trouble in status.troubles] == ["clock_skew"]
        assert "clock" in status.troubles[0].message
        assert status.health == "degraded"
        assert [event.fields["skew_s"] for event in await master.events("clock_skew")] == [sign * 30.0]
        assert await can_write(master)
        await told_skew(master, sign * 7 * 86_400_000)
        with pytest.raises(Unavailable, match="clock"):
            await master.ask(LeaseNeedles(bucket="photos", needle_count=1, byte_count=1), Leased)
        status = await told_skew(master, 0)
        assert (status.troubles, status.health) == ([], "ok")
        assert await can_write(master)
