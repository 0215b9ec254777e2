"""Leases of a real master: what they promise, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from master_kit import RunningMaster, open_master

import actors.master
from transport.messages import Attach, ClusterStatus, Leased, LeaseNeedles, Status

LEASE = LeaseNeedles(bucket="photos", needle_count=10, byte_count=50_000_000)


async def reserved(master: RunningMaster) -> int:
    status = await master.ask(ClusterStatus(), Status)
    return sum(volume.reserved_bytes for disk in status.disks for volume in disk.volumes)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.master, "GONE_LEASE_S", 0.5)
    monkeypatch.setattr(actors.master, "EXPIRE_EVERY_S", 0.02)


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
        await other.request(Attach(token=await master.token()), timeout_s=5)
        await other.request(LEASE, timeout_s=5)
        both = await reserved(master)
        assert both == 2 * own
        await trio.sleep(0.7)
        assert await reserved(master) == both, "it is still there"
        left = trio.current_time()
        scope.cancel()
        with trio.fail_after(10):
            while await reserved(master) != own:
                await trio.sleep(0.01)
        assert trio.current_time() - left >= 0.5, "what it has sent may be on its way"
