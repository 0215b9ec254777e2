"""A killed volume actor shows offline within a second, a frozen one within five; both come back unaided."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import client
from errors import StoreError
from harness import RunningStore
from transport.messages import Status


async def seconds_until(
    warehouse: client.Warehouse, condition: Callable[[Status], bool], *, within_s: float
) -> float:
    started = time.monotonic()
    with trio.move_on_after(within_s):
        while True:
            if condition(await warehouse.status()):
                return time.monotonic() - started
            await trio.sleep(0.002)
    pytest.fail(f"not within {within_s} s: {await warehouse.status()}")


def is_offline(name: str) -> Callable[[Status], bool]:
    return lambda status: any(disk.name == name and not disk.is_online for disk in status.disks)


def all_online(status: Status) -> bool:
    return status.health == "ok" and all(disk.is_online for disk in status.disks)


@pytest.fixture
def store(tmp_path: Path) -> RunningStore:
    return RunningStore(tmp_path / "store", volumes=2)


@pytest.mark.timeout(120)
async def test_a_killed_volume_actor_is_offline_within_a_second_and_returns(store: RunningStore) -> None:
    with store:
        async with client.connect(store.profile) as warehouse:
            await warehouse.create_bucket("b")
            await seconds_until(warehouse, all_online, within_s=10)
            for _ in range(3):
                pid = store.pids()["disk-1"]
                os.kill(pid, signal.SIGKILL)
                took_s = await seconds_until(warehouse, is_offline("disk-1"), within_s=5)
                assert took_s < 1.0, f"offline after {took_s:.2f} s"
                await warehouse.bucket("b").put("while-one-disk-is-away", b"x")
                await seconds_until(warehouse, all_online, within_s=20)
                assert store.pids()["disk-1"] != pid


@pytest.mark.timeout(120)
async def test_a_frozen_volume_actor_is_offline_within_five_seconds_and_returns(store: RunningStore) -> None:
    with store:
        async with client.connect(store.profile) as warehouse:
            await warehouse.create_bucket("b")
            await seconds_until(warehouse, all_online, within_s=10)
            pid = store.pids()["disk-2"]
            os.kill(pid, signal.SIGSTOP)
            try:
                took_s = await seconds_until(warehouse, is_offline("disk-2"), within_s=10)
                assert took_s < 5.0, f"offline after {took_s:.2f} s"
                await warehouse.bucket("b").put("while-one-disk-sleeps", b"x")
            finally:
                os.kill(pid, signal.SIGCONT)
            await seconds_until(warehouse, all_online, within_s=20)
            assert store.pids()["disk-2"] == pid, "it came back by itself, not by a restart"


@pytest.mark.timeout(120)
async def test_a_restarted_master_finds_its_disks_and_its_clients_again(store: RunningStore) -> None:
    with store:
        async with client.connect(store.profile) as warehouse:
            await warehouse.create_bucket("b")
            bucket = warehouse.bucket("b")
            await bucket.put("before", b"1")
            os.kill(store.pids()["master"], signal.SIGKILL)
            await bucket.put("after", b"2")  # waits for the new master by itself
            assert await bucket.get("before") == b"1"
            with trio.fail_after(20):
                while True:
                    try:
                        if all_online(await warehouse.status()):
                            break
                    except StoreError:
                        pass
                    await trio.sleep(0.05)
