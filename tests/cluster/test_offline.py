"""A killed volume actor shows offline within a second, a frozen one within seconds; both come back unaided."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.errors import StoreError
from warehouse.transport.messages import Status


async def seconds_until(
    client: warehouse.Store, condition: Callable[[Status], bool], *, within_s: float
) -> float:
    started = time.monotonic()
    with trio.move_on_after(within_s):
        while True:
            if condition(await client.status()):
                return time.monotonic() - started
            await trio.sleep(0.002)
    pytest.fail(f"not within {within_s} s: {await client.status()}")


def is_offline(name: str) -> Callable[[Status], bool]:
    return lambda status: any(disk.name == name and not disk.is_online for disk in status.disks)


def all_online(status: Status) -> bool:
    return status.health == "ok" and all(disk.is_online for disk in status.disks)


@pytest.fixture
def store(tmp_path: Path) -> RunningStore:
    return RunningStore(tmp_path / "store", volumes=2)


@pytest.mark.timeout(300)
async def test_a_killed_volume_actor_is_offline_within_a_second_and_returns(store: RunningStore) -> None:
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            await seconds_until(client, all_online, within_s=30)
            took_s = []
            for _ in range(3):
                pid = store.pids()["disk-1"]
                os.kill(pid, signal.SIGKILL)
                took_s.append(await seconds_until(client, is_offline("disk-1"), within_s=20))
                await client.bucket("b").put("while-one-disk-is-away", b"x")
                await seconds_until(client, all_online, within_s=40)
                assert store.pids()["disk-1"] != pid
            assert statistics.median(took_s) < 1.0, took_s  # a busy machine may take longer once


@pytest.mark.timeout(300)
async def test_a_frozen_volume_actor_is_offline_within_seconds_and_returns(store: RunningStore) -> None:
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            await seconds_until(client, all_online, within_s=30)
            pid = store.pids()["disk-2"]
            os.kill(pid, signal.SIGSTOP)
            try:
                await seconds_until(client, is_offline("disk-2"), within_s=15)
                await client.bucket("b").put("while-one-disk-sleeps", b"x")
            finally:
                os.kill(pid, signal.SIGCONT)
            await seconds_until(client, all_online, within_s=40)
            assert store.pids()["disk-2"] == pid, "it came back by itself, not by a restart"


@pytest.mark.timeout(300)
async def test_a_restarted_master_finds_its_disks_and_its_clients_again(store: RunningStore) -> None:
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            bucket = client.bucket("b")
            await bucket.put("before", b"1")
            os.kill(store.pids()["master"], signal.SIGKILL)
            await bucket.put("after", b"2")  # waits for the new master by itself
            assert await bucket.get("before") == b"1"
            with trio.fail_after(40):
                while True:
                    try:
                        if all_online(await client.status()):
                            break
                    except StoreError:
                        pass
                    await trio.sleep(0.05)


@pytest.mark.timeout(300)
async def test_restarts_of_the_master_add_no_volumes(store: RunningStore) -> None:
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            for number in range(3):
                os.kill(store.pids()["master"], signal.SIGKILL)
                await client.bucket("b").put(f"{number}", b"x")
            with trio.fail_after(40):
                while not all_online(await client.status()):
                    await trio.sleep(0.05)
            status = await client.status()
            assert [len(disk.volumes) for disk in status.disks] == [1, 1]


@pytest.mark.timeout(300)
async def test_a_cancelled_put_cannot_overtake_a_later_one(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", volumes=2) as store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            bucket = client.bucket("b")
            for number in range(8):  # leases on both disks
                await bucket.put(f"warm-{number}", b"x")
            frozen = store.pids()["disk-1"]
            os.kill(frozen, signal.SIGSTOP)
            try:
                cancelled = 0
                for number in range(6):  # some of these wait for the frozen disk
                    with trio.move_on_after(0.3) as scope:
                        await bucket.put(f"k{number}", b"old")
                    cancelled += scope.cancelled_caught
                assert cancelled, "no put went to the frozen disk"
                for number in range(6):
                    await bucket.put(f"k{number}", b"new")
            finally:
                os.kill(frozen, signal.SIGCONT)
            await seconds_until(client, all_online, within_s=40)
            await trio.sleep(1)
            assert [await bucket.get(f"k{number}") for number in range(6)] == [b"new"] * 6


@pytest.mark.timeout(300)
async def test_cancelled_uploads_are_aborted(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(bytes(3_000_000))
    with RunningStore(tmp_path / "store") as store:
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("b")
            for number in range(40):
                with trio.move_on_after(number * 0.0005):
                    await bucket.put("film", path)
            assert (await client.status()).upload_count == 0
