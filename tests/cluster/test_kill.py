"""SIGKILL of any actor at random moments, while objects are put, overwritten and deleted.

Nothing that was acknowledged may be lost or wrong, and nothing may come back that was deleted.  The seed is
printed; set WAREHOUSE_TEST_SEED to replay its choices (the interleaving of processes is the machine's).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore
from history import KeyHistory, random_content
from warehouse import Bucket
from warehouse.errors import NoSuchObject, StoreError

WRITERS = 6
KEYS_PER_WRITER = 8


@pytest.mark.timeout(300)
async def test_acknowledged_operations_survive_kills_of_any_actor(tmp_path: Path) -> None:
    await kill_rounds(tmp_path, rounds=8)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_acknowledged_operations_survive_fifty_kills(tmp_path: Path) -> None:
    await kill_rounds(tmp_path, rounds=50)


async def kill_rounds(tmp_path: Path, *, rounds: int) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", random.randrange(2**32)))
    print(f"WAREHOUSE_TEST_SEED={seed}")
    rng = random.Random(seed)
    histories: dict[str, KeyHistory] = {}
    store = RunningStore(tmp_path / "store", volumes=2)
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("kills")
            bucket = client.bucket("kills")
            for round_number in range(rounds):
                await one_round(store, bucket, histories, rng)
                if round_number % 4 == 3:
                    await wait_whole(client)
                    await verify(bucket, histories)
            await wait_whole(client)
            await verify(bucket, histories)
    with RunningStore(tmp_path / "store", volumes=2, port_base=store.port_base) as again:
        async with warehouse.connect(again.profile) as client:
            await verify(client.bucket("kills"), histories)
    acknowledged = sum(history.acknowledged for history in histories.values())
    left_open = sum(history.open_ended for history in histories.values())
    print(
        f"{rounds} kills, {acknowledged} operations acknowledged, {left_open} left open, none lost or wrong"
    )
    assert acknowledged > rounds * 10, "hardly anything was acknowledged: the test would prove nothing"


async def one_round(
    store: RunningStore, bucket: Bucket, histories: dict[str, KeyHistory], rng: random.Random
) -> None:
    """Writers work until an actor was killed somewhere in the middle, and a little longer."""
    victim = rng.choice(["master", "disk-1", "disk-2"])
    delay_s = rng.uniform(0.02, 0.8)
    stop = trio.Event()

    async def write(writer: int, own: random.Random) -> None:
        while not stop.is_set():
            key = f"{writer}/{own.randrange(KEYS_PER_WRITER)}"
            history = histories.setdefault(key, KeyHistory())
            content = None if own.random() < 0.2 else random_content(own)
            try:
                with trio.fail_after(60):
                    if content is None:
                        await bucket.delete(key)
                    else:
                        await bucket.put(key, content)
            except (StoreError, trio.TooSlowError):
                history.leave_open(content)
                await trio.sleep(0.05)
            else:
                history.acknowledge(content)

    async with trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(write, writer, random.Random(rng.random()))
        await trio.sleep(delay_s)
        pids = store.pids()
        if victim in pids:
            os.kill(pids[victim], 9)
        await trio.sleep(rng.uniform(0.3, 1.0))
        stop.set()


async def wait_whole(client: warehouse.Store) -> None:
    """Wait until every disk is online again."""
    with trio.fail_after(40):
        while True:
            try:
                status = await client.status()
                if len(status.disks) == 2 and all(disk.is_online for disk in status.disks):
                    return
            except StoreError:
                pass
            await trio.sleep(0.05)


async def verify(bucket: Bucket, histories: dict[str, KeyHistory]) -> None:
    listed = {entry.key async for entry in bucket.list()}
    for key, history in histories.items():
        try:
            content: bytes | None = await bucket.get(key)
        except NoSuchObject:
            content = None
        size = "absent" if content is None else f"{len(content)} bytes"
        assert history.allows(content), f"{key} is {size}, which was never written or was replaced"
        assert (key in listed) == (content is not None), f"list and get disagree about {key}"
