"""Leases of a real master: what they promise, and for how long."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse.actors.control.expiry
import warehouse.actors.control.leases
from master_kit import RunningMaster, open_master
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.transaction import SqliteTransaction
from warehouse.errors import DeadlineExceeded, DiskFull, LinkDown, RequestRefused
from warehouse.transport.messages import (
    Attach,
    BeginUpload,
    ClusterStatus,
    DiskReport,
    Leased,
    LeaseNeedles,
    ReportSeen,
    RequestSlots,
    Slots,
    SlotWanted,
    Status,
    UploadBegun,
)

LEASE = LeaseNeedles(bucket="photos", needle_count=10, byte_count=50_000_000)


async def reserved(master: RunningMaster) -> int:
    status = await master.ask(ClusterStatus(), Status)
    return sum(volume.reserved_bytes for disk in status.disks for volume in disk.volumes)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse.actors.control.leases, "GONE_LEASE_S", 0.5)
    monkeypatch.setattr(warehouse.actors.control.expiry, "EXPIRE_EVERY_S", 0.02)


async def test_room_that_was_promised_to_a_client_is_free_soon_after_it_has_gone(
    tmp_path: Path, quick: None
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        await master.ask(LEASE, Leased)
        own = await reserved(master)
        assert own >= 50_000_000
        scope = trio.CancelScope()
        other = await master.connect("other", None, scope=scope)
        await other.wait_up()
        await other.request(Attach(token=await master.token()), timeout_s=30)
        await other.request(LEASE, timeout_s=30)
        both = await reserved(master)
        assert both == 2 * own
        await trio.sleep(0.7)
        assert await reserved(master) == both, "it is still there"
        left = trio.current_time()
        scope.cancel()
        with trio.fail_after(30):
            while await reserved(master) != own:
                await trio.sleep(0.01)
        assert trio.current_time() - left >= 0.5, "what it has sent may be on its way"


async def test_a_disk_is_no_longer_waited_for_when_the_catalog_has_no_room_for_its_next_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads and deletes go on, so a start on a full disk is not held up for want of puts."""
    is_full = False
    reserve = SqliteTransaction.reserve_needle_ids

    def reserve_if_there_is_room(transaction: SqliteTransaction, volume_id: int, upto: int) -> None:
        if is_full:
            raise DiskFull("the disk of the catalog is full")
        reserve(transaction, volume_id, upto)

    async def is_supplied() -> bool:
        assert master.disk.link is not None
        report = DiskReport(volumes=list(master.disk.reports.values()), disk_free=master.disk.free)
        answer = await master.disk.link.request(report, timeout_s=30)
        assert isinstance(answer, ReportSeen)
        return answer.is_supplied

    monkeypatch.setattr(SqliteTransaction, "reserve_needle_ids", reserve_if_there_is_room)
    async with open_master(tmp_path, has_compactor=False) as master:
        with trio.fail_after(40):
            while not await is_supplied():
                await trio.sleep(0.05)
        is_full = True
        await master.restart()
        with trio.fail_after(40):
            while True:
                with suppress(LinkDown, RequestRefused):  # not registered again yet
                    if await is_supplied():
                        break
                await trio.sleep(0.02)


async def begin_upload(master: RunningMaster) -> RequestSlots:
    await master.create_bucket("photos")
    begun = await master.ask(BeginUpload(bucket="photos", key="film"), UploadBegun)
    wanted = SlotWanted(chunk_index=0, size=50_000_000)
    return RequestSlots(upload_id=begun.upload_id, slots=[wanted])


async def test_a_slot_that_is_asked_for_again_gives_back_what_the_old_one_was_promised(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        request = await begin_upload(master)
        await master.ask(request, Slots)
        once = await reserved(master)
        assert once >= 50_000_000
        needles = {(await master.ask(request, Slots)).slots[0].needle_id for _ in range(5)}
        assert len(needles) == 5
        assert await reserved(master) == once


async def test_slots_whose_time_was_over_before_they_were_made_keep_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        request = await begin_upload(master)
        may_write = threading.Event()
        transaction = SqliteCatalog.transaction

        def slow_transaction(self: SqliteCatalog) -> Any:
            may_write.wait(10)  # in the writer's thread: a disk that takes its time
            return transaction(self)

        monkeypatch.setattr(SqliteCatalog, "transaction", slow_transaction)
        try:
            with pytest.raises(DeadlineExceeded):
                await master.client.request(request, timeout_s=0.3)
            with trio.fail_after(30):
                while await reserved(master):
                    await trio.sleep(0.01)
        finally:
            may_write.set()
