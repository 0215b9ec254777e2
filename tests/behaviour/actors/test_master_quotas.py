"""Quotas at a master: who may set one, what is refused early, and that it is refused only without room."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from master_kit import RunningMaster, open_master
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.errors import QuotaExceeded, StoreError
from warehouse.transport.messages import (
    AbortUpload,
    BeginUpload,
    BucketFound,
    CreateBucket,
    Deleted,
    DeleteObjects,
    Done,
    FinishUpload,
    Leased,
    LeaseNeedles,
    Presign,
    Presigned,
    RequestSlots,
    SetQuota,
    Slots,
    SlotWanted,
    StatBucket,
    UploadBegun,
)


async def refusal(link: Any, request: Any) -> str:
    with pytest.raises(StoreError) as caught:
        await link.request(request, timeout_s=10)
    return caught.value.code


def quota(**changes: Any) -> SetQuota:
    return SetQuota(bucket="photos", **changes)


def put_url(key: str) -> Presign:
    return Presign(bucket="photos", key=key, method="PUT", expires_in_s=60.0)


def upload(key: str, byte_count: int | None) -> BeginUpload:
    return BeginUpload(bucket="photos", key=key, byte_count=byte_count)


LEASE = LeaseNeedles(bucket="photos", needle_count=1, byte_count=1)


async def stored(master: RunningMaster, bucket_id: int, key: str, needle_id: int) -> str | None:
    """Have an object of 3 bytes committed; the code of its refusal."""
    commit = await master.disk.store(1, needle_id, bucket_id, key, stamp=needle_id)
    return None if commit.code is None else str(commit.code)


async def test_limits_are_set_one_by_one_and_shown(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        await master.ask(quota(sets_objects=True, quota_objects=5), BucketFound)
        await master.ask(quota(sets_bytes=True, quota_bytes=7), BucketFound)
        found = (await master.ask(StatBucket(bucket="photos"), BucketFound)).bucket
        assert (found.quota_objects, found.quota_bytes) == (5, 7)
        found = (await master.ask(quota(sets_objects=True), BucketFound)).bucket
        assert (found.quota_objects, found.quota_bytes) == (None, 7)
        assert [event.fields for event in await master.events("quota_set")] == [
            {"bucket": "photos", "quota_objects": 5},
            {"bucket": "photos", "quota_objects": 5, "quota_bytes": 7},
            {"bucket": "photos", "quota_bytes": 7},
        ]
        await master.restart()
        await master.client.wait_up()
        found = (await master.ask(StatBucket(bucket="photos"), BucketFound)).bucket
        assert found.quota_bytes == 7


async def test_setting_a_quota_takes_its_permission(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        assert await refusal(master.client, SetQuota(bucket="absent")) == "no_such_bucket"
        assert await refusal(master.client, StatBucket(bucket="absent")) == "no_such_bucket"
        assert await refusal(master.client, quota(sets_bytes=True, quota_bytes=1 << 62)) == "bad_request"
        poor = await master.connect_with(int(EVERYTHING & ~Permission.MANAGE_BUCKETS))
        assert await refusal(poor, quota(sets_bytes=True, quota_bytes=1)) == "permission_denied"
        assert isinstance(await poor.request(StatBucket(bucket="photos"), timeout_s=10), BucketFound)


async def test_what_names_its_key_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        client = master.client
        await master.ask(quota(sets_objects=True, quota_objects=1), BucketFound)
        assert await stored(master, bucket_id, "a", 1) is None
        assert await refusal(client, put_url("b")) == "quota_exceeded"
        assert await refusal(client, upload("b", 1)) == "quota_exceeded"
        assert await refusal(client, upload("b", None)) == "quota_exceeded"
        assert await stored(master, bucket_id, "b", 2) == "quota_exceeded"
        # An overwrite has room, and a lease may be for one.
        await master.ask(put_url("a"), Presigned)
        await master.ask(upload("a", 1000), UploadBegun)
        await master.ask(LEASE, Leased)
        await master.ask(quota(sets_bytes=True, quota_bytes=10), BucketFound)
        assert await refusal(client, upload("a", 11)) == "quota_exceeded"
        await master.ask(upload("a", 10), UploadBegun)
        await master.ask(DeleteObjects(bucket="photos", keys=["a"]), Deleted)
        await master.ask(put_url("b"), Presigned)
        assert await stored(master, bucket_id, "b", 3) is None


async def test_a_lease_is_refused_only_where_no_put_can_have_room(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        await master.ask(quota(sets_bytes=True, quota_bytes=0), BucketFound)
        await master.ask(LEASE, Leased)  # an object of no bytes has room
        await master.ask(quota(sets_objects=True, quota_objects=0), BucketFound)
        assert await refusal(master.client, LEASE) == "quota_exceeded"
        await master.ask(quota(sets_objects=True, sets_bytes=True), BucketFound)
        assert await stored(master, bucket_id, "a", 1) is None
        await master.ask(quota(sets_objects=True, quota_objects=0), BucketFound)
        await master.ask(LEASE, Leased)  # `a` may be overwritten


# --- what a key that may not look at the bucket learns ----------------------------------------------

WRITE_ONLY = Permission.WRITE | Permission.SIGN
FIGURE = re.compile(r"[0-9]")


async def full_bucket(master: RunningMaster) -> int:
    """Two objects of 3 bytes each in a bucket for 10 bytes and 2 objects."""
    bucket_id = await master.create_bucket("photos")
    await master.ask(quota(sets_bytes=True, quota_bytes=10, sets_objects=True, quota_objects=2), BucketFound)
    for number, key in enumerate(("a", "in/b"), 1):
        assert await stored(master, bucket_id, key, number) is None
    return bucket_id


async def slots_for(link: Any, key: str, size: int) -> Any:
    begun = await link.request(upload(key, None), timeout_s=10)
    assert isinstance(begun, UploadBegun)
    wanted = SlotWanted(chunk_index=0, size=size, chunk_count=1, object_size=size)
    try:
        return await link.request(RequestSlots(upload_id=begun.upload_id, slots=[wanted]), timeout_s=10)
    finally:
        await link.request(AbortUpload(upload_id=begun.upload_id), timeout_s=10)


async def test_early_answers_do_not_tell_a_writer_how_large_an_object_is(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await full_bucket(master)
        writer = await master.connect_with(int(WRITE_ONLY))
        # 7 bytes have room in place of `a`, 8 have not: whoever may not read `a` gets the same answer.
        for size in (1, 7, 8, 10):
            assert isinstance(await writer.request(upload("a", size), timeout_s=10), UploadBegun)
            assert isinstance(await slots_for(writer, "a", size), Slots)
        assert isinstance(await writer.request(put_url("a"), timeout_s=10), Presigned)
        # What cannot have room whatever it replaces is refused at once.
        assert await refusal(writer, upload("a", 11)) == "quota_exceeded"
        assert await refusal(writer, upload("new", 1)) == "quota_exceeded"
        # Those who may know get the answer that spares them the bytes.
        reader = await master.connect_with(int(WRITE_ONLY | Permission.READ))
        for link in (reader, master.client):
            assert isinstance(await link.request(upload("a", 7), timeout_s=10), UploadBegun)
            assert await refusal(link, upload("a", 8)) == "quota_exceeded"
            with pytest.raises(QuotaExceeded):
                await slots_for(link, "a", 8)


async def test_refusals_give_figures_only_to_keys_that_may_count_the_bucket(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await full_bucket(master)
        writer = await master.connect_with(int(WRITE_ONLY))
        confined = await master.connect_with(
            int(WRITE_ONLY | Permission.READ | Permission.LIST),
            (Grant(int(WRITE_ONLY | Permission.READ | Permission.LIST), bucket_id, None, "in/"),),
        )
        lister = await master.connect_with(int(WRITE_ONLY | Permission.LIST))
        for link, is_told in ((writer, False), (confined, False), (lister, True), (master.client, True)):
            for request in (upload("in/new", 1), put_url("in/new"), upload("in/b", 11)):
                with pytest.raises(StoreError) as caught:
                    await link.request(request, timeout_s=10)
                assert caught.value.code == "quota_exceeded"
                assert bool(FIGURE.search(caught.value.message)) is is_told, caught.value.message
        # So do the refusals of what is stored already, which depend on whose put it was.
        for number, (permissions, is_told) in enumerate(((WRITE_ONLY, False), (EVERYTHING, True)), 10):
            key = await master.add_key(int(permissions))
            commit = await master.disk.store(
                1, number, bucket_id, "new", stamp=number, key_id=key.key_id, epoch=1
            )
            assert commit.code == "quota_exceeded"
            assert bool(FIGURE.search(commit.message)) is is_told, commit.message


async def test_the_end_of_an_upload_tells_a_writer_no_figures(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await full_bucket(master)
        await master.ask(quota(sets_objects=True, quota_objects=3), BucketFound)
        for permissions, is_told in ((WRITE_ONLY, False), (EVERYTHING, True)):
            key = await master.add_key(int(permissions))
            link = await master.connect_as(key)
            begun = await link.request(upload("new", None), timeout_s=10)
            assert isinstance(begun, UploadBegun)
            wanted = SlotWanted(chunk_index=0, size=3, chunk_count=1, object_size=3)
            answer = await link.request(RequestSlots(upload_id=begun.upload_id, slots=[wanted]), timeout_s=10)
            assert isinstance(answer, Slots)
            (slot,) = answer.slots
            chunk = {"upload_id": begun.upload_id, "key_id": key.key_id, "epoch": 1}
            commit = await master.disk.store(
                slot.volume_id, slot.needle_id, bucket_id, "new", slot.needle_id, **chunk
            )
            assert commit.code is None
            await master.ask(quota(sets_bytes=True, quota_bytes=8), BucketFound)
            with pytest.raises(StoreError) as caught:
                await link.request(
                    FinishUpload(upload_id=begun.upload_id, chunk_count=1, object_size=3), timeout_s=10
                )
            assert caught.value.code == "quota_exceeded"
            assert bool(FIGURE.search(caught.value.message)) is is_told, caught.value.message
            await master.ask(quota(sets_bytes=True, quota_bytes=10), BucketFound)
