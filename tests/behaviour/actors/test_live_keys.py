"""A key's rights as a real master applies them: to its bucket, its part of it, and from one moment to the next."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from master_kit import open_master
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.errors import BadCredentials, NoSuchBucket, NotAuthenticated, PermissionDenied
from warehouse.transport.messages import (
    Attach,
    BucketInfo,
    Buckets,
    CreateBucket,
    DeleteBucket,
    DeleteObjects,
    Done,
    LeaseNeedles,
    ListBuckets,
    Listing,
    ListObjects,
    LocateObjects,
    StatObject,
)

DATA = int(Permission.READ | Permission.LIST | Permission.DELETE | Permission.WRITE)


async def test_an_edit_counts_for_the_next_request_of_an_open_connection(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        assert master.running is not None
        key = await master.add_key(int(Permission.LIST | Permission.READ))
        link = await master.connect_as(key)
        token = await master.token(key)
        assert isinstance(await link.request(ListObjects(bucket="photos"), timeout_s=5), Listing)

        def narrow(row):
            return msgspec.structs.replace(row, permissions=int(Permission.READ))

        await master.running.keys.change(key.key_id, narrow)
        for request in (ListObjects(bucket="photos"), Attach(token=token)):
            with pytest.raises(NotAuthenticated, match="changed, disabled or deleted, or has expired"):
                await link.request(request, timeout_s=5)
        await link.request(Attach(token=await master.token(key)), timeout_s=5)
        with pytest.raises(PermissionDenied, match="lacks the permission list"):
            await link.request(ListObjects(bucket="photos"), timeout_s=5)


async def test_more_rights_come_without_another_login(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        key = await master.add_key(int(Permission.LIST))
        link = await master.connect_as(key)
        await master.running.keys.change(
            key.key_id, lambda row: msgspec.structs.replace(row, permissions=int(EVERYTHING))
        )
        assert isinstance(await link.request(CreateBucket(bucket="films"), timeout_s=5), Done)


@pytest.mark.parametrize("end", ["disabled", "deleted", "expired"])
async def test_a_key_that_has_ended_opens_nothing(tmp_path: Path, end: str) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        keys = master.running.keys
        key = await master.add_key(int(Permission.LIST))
        link = await master.connect_as(key)
        if end == "deleted":
            await keys.delete(key.key_id)
        elif end == "disabled":
            await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, is_enabled=False))
        else:
            await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, expires_ms=1))
        with pytest.raises(NotAuthenticated):
            await link.request(ListBuckets(), timeout_s=5)
        with pytest.raises(BadCredentials):
            await master.token(key)


async def test_the_last_use_is_noted(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        assert master.running is not None
        key = await master.add_key(int(Permission.LIST))
        link = await master.connect_as(key)
        await link.request(ListBuckets(), timeout_s=5)
        await master.running.keys.note_used()
        row = master.running.context.catalog.api_key(key.key_id)
        assert row is not None
        assert row.last_used_ms is not None
        assert row.last_used_ms > 1_700_000_000_000


async def test_a_bucket_that_a_key_may_not_see_is_as_if_there_were_none(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        films = await master.create_bucket("films")
        link = await master.connect_with(int(EVERYTHING), (Grant(DATA, films),))
        listed = await link.request(ListBuckets(), timeout_s=5)
        assert isinstance(listed, Buckets)
        assert [bucket.name for bucket in listed.buckets if isinstance(bucket, BucketInfo)] == ["films"]
        refusals = []
        for name in ("photos", "absent"):
            for request in (
                ListObjects(bucket=name),
                ListObjects(bucket=name, with_locations=True),
                StatObject(bucket=name, key="a"),
                LocateObjects(bucket=name, keys=["a"]),
                DeleteObjects(bucket=name, keys=["a"]),
                LeaseNeedles(bucket=name, needle_count=1, byte_count=1),
                DeleteBucket(bucket=name),
            ):
                with pytest.raises(NoSuchBucket) as caught:
                    await link.request(request, timeout_s=5)
                refusals.append(caught.value.message.replace(name, "NAME"))
        assert set(refusals) == {"there is no bucket 'NAME'"}


async def test_a_bucket_made_anew_is_not_open_to_old_grants(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        link = await master.connect_with(int(EVERYTHING), (Grant(DATA, photos),))
        assert isinstance(await link.request(ListObjects(bucket="photos"), timeout_s=5), Listing)
        assert isinstance(await master.ask(DeleteBucket(bucket="photos"), Done), Done)
        await master.create_bucket("photos")
        with pytest.raises(NoSuchBucket):
            await link.request(ListObjects(bucket="photos"), timeout_s=5)


async def test_a_part_of_a_bucket_is_all_that_its_prefix_opens(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        photos = await master.create_bucket("photos")
        link = await master.connect_with(int(EVERYTHING), (Grant(DATA, photos, None, "2026/"),))
        assert isinstance(
            await link.request(ListObjects(bucket="photos", prefix="2026/"), timeout_s=5), Listing
        )
        await link.request(LocateObjects(bucket="photos", keys=["2026/a"]), timeout_s=5)
        await link.request(DeleteObjects(bucket="photos", keys=["2026/a"]), timeout_s=5)
        for request in (
            ListObjects(bucket="photos", prefix="2025/"),
            LocateObjects(bucket="photos", keys=["2026/a", "2025/a"]),
            DeleteObjects(bucket="photos", keys=["2026/a", "2025/a"]),
            StatObject(bucket="photos", key="2025/a"),
            DeleteBucket(bucket="photos"),
        ):
            with pytest.raises(PermissionDenied):
                await link.request(request, timeout_s=5)


async def test_making_buckets_is_confined_to_the_names_that_were_granted(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        grant = Grant(int(Permission.MANAGE_BUCKETS), bucket_prefix="team-")
        link = await master.connect_with(int(Permission.MANAGE_BUCKETS), (grant,))
        assert isinstance(await link.request(CreateBucket(bucket="team-a"), timeout_s=5), Done)
        with pytest.raises(PermissionDenied):
            await link.request(CreateBucket(bucket="photos"), timeout_s=5)
        with trio.fail_after(5):
            assert isinstance(await link.request(DeleteBucket(bucket="team-a"), timeout_s=5), Done)
