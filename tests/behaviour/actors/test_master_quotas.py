"""Quotas at a master: who may set one, what is refused early, and that it is refused only without room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from master_kit import RunningMaster, open_master
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.errors import StoreError
from warehouse.transport.messages import (
    BeginUpload,
    BucketFound,
    CreateBucket,
    Deleted,
    DeleteObjects,
    Done,
    Leased,
    LeaseNeedles,
    Presign,
    Presigned,
    SetQuota,
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
