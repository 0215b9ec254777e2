"""Limits of a key at a real master: busy says when to come back, others notice nothing, and a client waits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from master_kit import RunningMaster, open_master, until
from warehouse.actors.control.data_limits import TELL_EVERY_S
from warehouse.auth.limits import KeyLimits
from warehouse.auth.rights import EVERYTHING
from warehouse.errors import Busy
from warehouse.transport.messages import (
    AbortUpload,
    Attach,
    BeginUpload,
    CreateKey,
    Done,
    Leased,
    LeaseNeedles,
    LimitKeys,
    ListBuckets,
    Presign,
    RequestSlots,
    ShowKey,
    SlotWanted,
    UploadBegun,
)
from warehouse.transport.messages import KeyLimits as MessageLimits
from warehouse.transport.zeromq.link import Link

MIB = 1024 * 1024


async def limited(master: RunningMaster, **limits: Any) -> Link:
    """A connection of a key that may do everything, within limits."""
    key = await master.add_key(int(EVERYTHING))
    await set_limits(master, key.key_id, **limits)
    link = await master.connect("limited", None)
    await link.wait_up()
    await link.request(Attach(token=await master.token(key)), timeout_s=30)
    return link


async def set_limits(master: RunningMaster, key_id: str, **limits: Any) -> None:
    await master.running.keys.change(
        key_id, lambda row: msgspec.structs.replace(row, limits=KeyLimits(**limits))
    )


async def busy(link: Link, request: Any) -> Busy:
    with pytest.raises(Busy) as caught:
        await link.request(request, timeout_s=10)
    return caught.value


async def test_a_rate_of_requests_is_kept_and_others_notice_nothing(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        link = await limited(master, requests_per_s=5.0)
        began, done, refused = time.monotonic(), 0, list[Busy]()
        while time.monotonic() < began + 1.0 or done < 5:
            try:
                await link.request(ListBuckets(), timeout_s=10)
                done += 1
            except Busy as error:
                refused.append(error)
                await trio.sleep(0.01)
        passed_s = time.monotonic() - began
        assert 5 <= done <= 5 + 5 * passed_s + 1
        assert refused
        assert all(0 < error.retry_after_s <= 0.2 for error in refused)
        for _ in range(20):
            await master.client.request(ListBuckets(), timeout_s=10)


async def test_a_limit_that_is_lifted_counts_for_the_next_request(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key = await master.add_key(int(EVERYTHING))
        link = await master.connect("limited", None)
        await link.wait_up()
        await link.request(Attach(token=await master.token(key)), timeout_s=30)
        await set_limits(master, key.key_id, requests_per_s=0.001)
        await link.request(ListBuckets(), timeout_s=30)
        error = await busy(link, ListBuckets())
        assert error.retry_after_s > 100
        await set_limits(master, key.key_id)
        await link.request(ListBuckets(), timeout_s=30)


async def test_only_so_many_uploads_are_open(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        link = await limited(master, open_uploads=2)
        begun = [
            await link.request(BeginUpload(bucket="photos", key=f"k{n}"), timeout_s=10) for n in range(2)
        ]
        await busy(link, BeginUpload(bucket="photos", key="k2"))
        await master.ask(BeginUpload(bucket="photos", key="k2"), UploadBegun)
        assert isinstance(begun[0], UploadBegun)
        assert await link.request(AbortUpload(upload_id=begun[0].upload_id), timeout_s=10) == Done()
        assert isinstance(
            await link.request(BeginUpload(bucket="photos", key="k2"), timeout_s=10), UploadBegun
        )


async def test_uploads_that_were_open_before_a_restart_count_after_it(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        key = await master.add_key(int(EVERYTHING))
        await set_limits(master, key.key_id, open_uploads=1)
        link = await master.connect_as(key)
        begun = await link.request(BeginUpload(bucket="photos", key="k"), timeout_s=10)
        assert isinstance(begun, UploadBegun)
        await master.restart()
        await master.connect_disk()
        link = await master.connect_as(key)
        await busy(link, BeginUpload(bucket="photos", key="k2"))
        assert await link.request(AbortUpload(upload_id=begun.upload_id), timeout_s=10) == Done()
        answer = await link.request(BeginUpload(bucket="photos", key="k2"), timeout_s=10)
        assert isinstance(answer, UploadBegun)


async def test_room_under_lease_is_shared_by_leases_slots_and_urls(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        link = await limited(master, lease_bytes=4 * MIB)
        request = LeaseNeedles(bucket="photos", needle_count=100, byte_count=64 * MIB)
        answer = await link.request(request, timeout_s=10)
        assert isinstance(answer, Leased)
        (lease,) = answer.leases
        assert lease.byte_count + 1024 * (lease.last_needle_id - lease.first_needle_id + 1) <= 4 * MIB
        error = await busy(link, request)
        assert "4,194,304 bytes under lease" in error.message
        await busy(link, Presign(bucket="photos", key="k", method="PUT", expires_in_s=60.0, size_max=2 * MIB))
        begun = await link.request(BeginUpload(bucket="photos", key="k"), timeout_s=10)
        assert isinstance(begun, UploadBegun)
        slot = SlotWanted(chunk_index=0, size=2 * MIB, chunk_count=1)
        await busy(link, RequestSlots(upload_id=begun.upload_id, slots=[slot]))
        await master.ask(request, Leased)  # of another key


async def test_a_key_that_looks_at_itself_is_held_to_its_limits(tmp_path: Path) -> None:
    """It needs no permission for that, and it is work all the same."""
    async with open_master(tmp_path, has_compactor=False) as master:
        link = await limited(master, requests_per_s=0.01)
        await link.request(ShowKey(), timeout_s=10)
        assert (await busy(link, ShowKey())).retry_after_s > 1


async def test_disks_are_told_of_many_changes_at_once(tmp_path: Path) -> None:
    """Each message has the limits of all keys, so one for each change would grow with their square."""
    async with open_master(tmp_path, has_compactor=False) as master:
        began = time.monotonic()
        for number in range(40):
            limits = MessageLimits(requests_per_s=1.0 + number)
            await master.client.request(CreateKey(name="n", limits=limits), timeout_s=10)
        passed_s = time.monotonic() - began
        assert len(master.disk.of(LimitKeys)) <= passed_s / TELL_EVERY_S + 1
        await until(lambda: len(master.disk.of(LimitKeys)[-1].limits) == 40)
