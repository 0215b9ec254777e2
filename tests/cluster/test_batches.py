"""put_many and get_many against real actors: many objects, actors killed in the middle, bounded memory."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import warehouse
from harness import ROOT, RunningStore, environment
from warehouse import GetResult, PutResult
from warehouse.errors import NoSuchObject

COUNT = 12_000


@pytest.mark.timeout(300)
async def test_twelve_thousand_objects_go_in_and_come_out_in_order(tmp_path: Path) -> None:
    bodies = {f"{number:05}": b"%05d" % number * (number % 97) for number in range(COUNT)}
    with RunningStore(tmp_path / "store", volumes=2) as store:
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("many")
            stored = [result async for result in bucket.put_many(bodies.items())]
            assert [result.key for result in stored] == [*bodies]
            assert all(result.error is None for result in stored)
            keys = [*bodies, "absent"]
            random.Random(7).shuffle(keys)
            got = [result async for result in bucket.get_many(keys)]
            assert [result.key for result in got] == keys
            assert all(result.data == bodies.get(result.key) for result in got)
            assert [type(result.error) for result in got if result.error] == [NoSuchObject]
            listed = {entry.key: entry.etag async for entry in bucket.list()}
            assert listed == {result.key: result.etag for result in stored}
            found = [result async for result in bucket.get_many(bucket.list("1", with_locations=True))]
            assert {result.key: result.data for result in found} == {
                key: body for key, body in bodies.items() if key.startswith("1")
            }
        store.stop()
        store.start()
        async with warehouse.connect(store.profile) as client:
            async for result in client.bucket("many").get_many(bodies):
                assert result.data == bodies[result.key], "after a restart"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["disk-1", "master"])
async def test_every_item_has_a_truthful_outcome_when_an_actor_is_killed(tmp_path: Path, victim: str) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", random.randrange(2**32)))
    print(f"WAREHOUSE_TEST_SEED={seed}")
    rng = random.Random(seed)
    results: list[PutResult] = []
    kill_count = 0
    with RunningStore(tmp_path / "store", volumes=2) as store:
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("kills")
            kill_at = sorted(rng.sample(range(500, 9_000), 3))
            items = ((f"{number:05}", b"%05d" % number * 20) for number in range(10_000))
            with trio.fail_after(120):
                async for result in bucket.put_many(items):
                    results.append(result)
                    if kill_at and len(results) > kill_at[0] and (pid := store.pids().get(victim)):
                        kill_at.pop(0)
                        kill_count += 1
                        os.kill(pid, signal.SIGKILL)
            assert [result.key for result in results] == [f"{number:05}" for number in range(10_000)]
            await wait_online(client, 2)
            listed = {entry.key: entry.etag async for entry in bucket.list()}
            got: dict[str, GetResult] = {}
            async for read in bucket.get_many(f"{number:05}" for number in range(10_000)):
                got[read.key] = read
    stored = [result for result in results if result.error is None]
    unknown = [result for result in results if result.error and result.error.code == "outcome_unknown"]
    print(
        f"{len(stored)} stored, {len(unknown)} unknown, {len(results) - len(stored) - len(unknown)} refused"
    )
    assert kill_count > 0
    assert len(stored) > 5_000
    for result in stored:
        assert got[result.key].data == result.key.encode() * 20, f"{result.key} was acknowledged and is lost"
        assert listed[result.key] == result.etag
    for result in results:
        if result.error is not None and result not in unknown:
            assert result.key not in listed, f"{result.key} was refused and is there: {result.error}"
        if got[result.key].error is not None:
            assert isinstance(got[result.key].error, NoSuchObject), got[result.key].error


async def wait_online(client: warehouse.Store, disk_count: int) -> None:
    with trio.fail_after(40):
        while sum(disk.is_online for disk in (await client.status()).disks) < disk_count:
            await trio.sleep(0.05)


MEMORY_CLIENT = """
import json, os, sys, trio, warehouse

BODY = os.urandom(512 * 1024)
COUNT = 1000

async def main():
    async with warehouse.connect(sys.argv[1]) as store:
        bucket = await store.create_bucket("memory")
        async for result in bucket.put_many((str(number), BODY) for number in range(COUNT)):
            if result.error: raise result.error
        async for result in bucket.get_many(map(str, range(COUNT))):
            if result.error: raise result.error
            assert result.data == BODY

trio.run(main)
with open("/proc/self/status") as status:
    (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps({"peak": peak * 1024}))
"""


def peaks_of(store: RunningStore) -> Iterator[tuple[str, int]]:
    for name, pid in store.pids().items():
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                yield name, int(line.split()[1]) * 1024


@pytest.mark.timeout(300)
def test_half_a_gigabyte_in_batches_needs_little_memory(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", volumes=1) as store:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY_CLIENT, str(store.profile)],
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks = dict(peaks_of(store)) | {"client": int(json.loads(done.stdout)["peak"])}
    print({name: f"{value / 2**20:.0f} MiB" for name, value in peaks.items()})
    assert all(value < 150 * 2**20 for value in peaks.values()), peaks
