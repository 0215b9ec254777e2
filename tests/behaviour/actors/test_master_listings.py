"""Listings of a real master: with locations they say where objects of one chunk are, to who may read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from master_kit import open_master
from warehouse.auth.rights import Permission
from warehouse.errors import PermissionDenied
from warehouse.transport.messages import Chunk, Lease, Leased, LeaseNeedles, Listing, ListObjects


async def test_a_listing_with_locations_names_needles_and_the_rights_to_read_them(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        leased = await master.ask(LeaseNeedles(bucket="photos", needle_count=2, byte_count=100), Leased)
        (lease,) = leased.leases
        assert isinstance(lease, Lease)
        for position, key in enumerate(("a", "b")):
            await master.disk.store(1, lease.first_needle_id + position, bucket_id, key)
        plain = await master.ask(ListObjects(bucket="photos"), Listing)
        assert [(info.key, info.chunks) for info in plain.objects] == [("a", []), ("b", [])]
        assert plain.grants == []
        page = await master.ask(ListObjects(bucket="photos", with_locations=True), Listing)
        assert [info.chunks for info in page.objects] == [
            [Chunk(1, lease.first_needle_id, 3, 1)],
            [Chunk(1, lease.first_needle_id + 1, 3, 1)],
        ]
        (grant,) = page.grants
        assert (grant.volume_id, grant.url) == (1, lease.url)
        assert grant.token != lease.token


async def test_who_may_list_and_not_read_gets_no_right_to_read(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        lister = await master.connect_with(int(Permission.LIST))
        assert isinstance(await lister.request(ListObjects(bucket="photos"), timeout_s=30), Listing)
        with pytest.raises(PermissionDenied):
            await lister.request(ListObjects(bucket="photos", with_locations=True), timeout_s=30)
