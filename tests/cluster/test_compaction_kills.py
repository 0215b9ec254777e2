"""SIGKILL of master, volume actor or compactor at random moments of compactions, while clients write and delete.

Nothing that was acknowledged may be lost or wrong, nothing deleted may come back, every compaction must end in
the end, and afterwards the stats must be those of a scan.  The seed is printed; set WAREHOUSE_TEST_SEED to
replay its choices (the interleaving of processes is the machine's).
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
from test_kill import verify
from warehouse import Bucket
from warehouse.errors import StoreError
from warehouse.storage.disk import OsDisk
from warehouse.storage.volume import Volume
from warehouse.transport.messages import Status, VolumeReport

ACTORS = ("master", "disk-1", "compactor-1")
WRITERS = 3
KEYS_PER_WRITER = 40
# Slow enough for a kill to fall into a copy, and a policy that joins in.
SETTINGS = """
[store]
volume_size = "256MiB"
chunk_size = "4MiB"
[compaction]
wasted_percent = 20
wasted_min = "2MiB"
rate = "16MiB"
rate_idle = "16MiB"
"""


@pytest.mark.timeout(300)
async def test_compactions_survive_kills_of_any_actor(tmp_path: Path) -> None:
    await kill_rounds(tmp_path, rounds=len(ACTORS))


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_compactions_survive_a_hundred_kills(tmp_path: Path) -> None:
    await kill_rounds(tmp_path, rounds=100)


async def kill_rounds(tmp_path: Path, *, rounds: int) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", random.randrange(2**32)))
    print(f"WAREHOUSE_TEST_SEED={seed}")
    rng = random.Random(seed)
    histories: dict[str, KeyHistory] = {}
    store = RunningStore(tmp_path / "store", config=SETTINGS)
    with store:
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("kills")
            for number in range(rounds):
                await one_round(store, client, bucket, histories, rng, victim=ACTORS[number % len(ACTORS)])
            before = await whole(client)
            jobs = await client.wait_jobs(await client.compact())
            assert {job.state for job in jobs} == {"done"}
            await verify(bucket, histories)
            report = (await whole(client)).disks[0].volumes[0].report
            assert report.generation > 1
            assert (report.dead_count, report.dead_bytes, report.damaged_count) == (0, 0, 0)
            assert before.damage_count == 0
    assert scanned(tmp_path / "store" / "disk-1", report) == figures_of(report)
    acknowledged = sum(history.acknowledged for history in histories.values())
    print(f"{rounds} kills, generation {report.generation}, {acknowledged} operations acknowledged")
    assert acknowledged > rounds * 10, "hardly anything was acknowledged: the test would prove nothing"


async def one_round(
    store: RunningStore,
    client: warehouse.Store,
    bucket: Bucket,
    histories: dict[str, KeyHistory],
    rng: random.Random,
    *,
    victim: str,
) -> None:
    """Make garbage, have it compacted, kill an actor somewhere in the middle; writers never stop."""
    stop = trio.Event()

    async def write(writer: int, own: random.Random) -> None:
        while not stop.is_set():
            key = f"{writer}/{own.randrange(KEYS_PER_WRITER)}"
            history = histories.setdefault(key, KeyHistory())
            content = None if own.random() < 0.2 else random_content(own, large_share=0.2)
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

    await whole(client)
    async with trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(write, writer, random.Random(rng.random()))
        await trio.sleep(rng.uniform(0.5, 1.5))
        await client.compact()
        await trio.sleep(rng.uniform(0.0, 1.5))
        store.kill_actor(victim)
        await trio.sleep(rng.uniform(0.3, 1.0))
        stop.set()


async def whole(client: warehouse.Store) -> Status:
    """Wait until disk and compactor are there, no garbage waits, and no job is unfinished."""
    status = None
    with trio.move_on_after(60):
        while True:
            try:
                status = await client.status()
                jobs = await client.jobs()
            except StoreError:
                jobs = []
            else:
                is_idle = status.garbage_count == 0 and all(job.is_finished for job in jobs)
                if is_idle and status.disks and status.disks[0].is_online and status.compactors:
                    return status
            await trio.sleep(0.1)
    pytest.fail(f"the store is not whole after 60 s: {status}")


def figures_of(report: VolumeReport) -> tuple[int, ...]:
    return (
        report.file_size,
        report.live_count,
        report.live_bytes,
        report.dead_count,
        report.dead_bytes,
        report.kept_bytes,
        report.needle_id_max,
    )


def scanned(directory: Path, report: VolumeReport) -> tuple[int, ...]:
    """The same figures, from the data file alone: without an index, opening a volume scans it."""
    folder = directory / "volumes" / str(report.volume_id)
    present = {"manifest", *(f"g{report.generation}.{kind}" for kind in ("vol", "idx"))}
    assert {path.name for path in folder.iterdir()} == present, "files of other generations are left"
    for index in folder.glob("*.idx"):
        index.unlink()
    volume = Volume.open(OsDisk(directory), f"volumes/{report.volume_id}")
    try:
        stats = volume.stats()
        return (
            stats.file_size,
            stats.live_count,
            stats.live_bytes,
            stats.dead_count,
            stats.dead_bytes,
            stats.kept_bytes,
            stats.needle_id_max,
        )
    finally:
        volume.close()
