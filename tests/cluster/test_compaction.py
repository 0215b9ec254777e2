"""Compaction and verification in a whole running store: under load, and with any actor killed meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import warehouse
from bench.compaction_load import BY_HAND, Load, measure
from harness import RunningStore
from warehouse import Bucket, Store
from warehouse.errors import NoSuchObject, StoreError
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import load_volume_identity
from warehouse.storage.format.needle import KIND_BUCKET, KIND_DATA, KIND_TOMBSTONE, KIND_VOID
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.identity import COMPACTOR_LOCK_NAME, DiskLock
from warehouse.storage.scan import State, scan
from warehouse.transport.messages import Job, VolumeReport

AT_A_RATE = """
[compaction]
automatic = "off"
rate_idle = "{rate}"
[verification]
automatic = "off"
"""
FAST, SLOW = AT_A_RATE.format(rate=0), AT_A_RATE.format(rate="3MiB")


class Contents:
    """What a bucket has to hold."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._expected: dict[str, bytes | None] = {}

    async def put(self, key: str, size: int) -> None:
        content = os.urandom(size)
        await self._bucket.put(key, content)
        self._expected[key] = content

    async def delete(self, key: str) -> None:
        await self._bucket.delete(key)
        self._expected[key] = None

    async def fill(self) -> None:
        """About 20 MB, of which half is garbage: overwritten and deleted objects, small and large."""
        for number in range(40):
            await self.put(f"large/{number}", 300_000)
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(self.put, f"small/{number}", 4096)
        for number in range(0, 40, 2):
            await self.put(f"large/{number}", 250_000)
        for number in range(0, 40, 4):
            await self.delete(f"large/{number}")
        for number in range(0, 200, 3):
            await self.delete(f"small/{number}")

    async def verify(self) -> None:
        for key, expected in self._expected.items():
            try:
                content: bytes | None = await self._bucket.get(key)
            except NoSuchObject:
                content = None
            assert content == expected, f"{key} is not what was acknowledged"
        listed = {entry.key async for entry in self._bucket.list()}
        assert listed == {key for key, expected in self._expected.items() if expected is not None}


@asynccontextmanager
async def filled(store: RunningStore) -> AsyncIterator[tuple[Store, Contents]]:
    async with warehouse.connect(store.profile, timeout_s=60) as client:
        await client.create_bucket("b")
        contents = Contents(client.bucket("b"))
        await contents.fill()
        yield client, contents


async def report(client: Store) -> VolumeReport:
    """The figures of the only volume, once it is there and has the tombstones of all that was deleted."""
    with trio.fail_after(90):
        while True:
            status = await client.status()
            disks = [disk for disk in status.disks if disk.is_online and len(disk.volumes) == 1]
            if disks and status.garbage_count == 0:
                return disks[0].volumes[0].report
            await trio.sleep(0.05)


def scanned(store: RunningStore) -> dict[str, int]:
    """The figures of volume 1, from its file alone."""
    disk = OsDisk(store.data / "disk-1")
    identity, repairs = load_volume_identity(disk, "volumes/1", read_only=True)
    assert repairs == []
    path = f"volumes/1/g{identity.generation}.vol"
    file = disk.open(path, read_only=True)
    records = list(scan(file, identity.seed, SUPERBLOCK_SIZE, file.size()))
    assert all(record.state in (State.WHOLE, State.UNFINISHED) for record in records)
    tombstoned = {record.needle_id for record in records if record.kind == KIND_TOMBSTONE}
    data = [record for record in records if record.kind == KIND_DATA]
    live = [record for record in data if record.state is State.WHOLE and record.needle_id not in tombstoned]
    kept = [
        record
        for record in records
        if record.kind in (KIND_BUCKET, KIND_VOID) or (record.kind == KIND_TOMBSTONE and record.metadata_size)
    ]
    live_bytes = sum(record.stored_size for record in live)
    kept_bytes = sum(record.stored_size for record in kept)
    return {
        "generation": identity.generation,
        "file_size": file.size(),
        "live_count": len(live),
        "live_bytes": live_bytes,
        "kept_bytes": kept_bytes,
        "dead_count": len(data) - len(live),
        "dead_bytes": file.size() - SUPERBLOCK_SIZE - live_bytes - kept_bytes,
    }


async def require_figures_equal_a_scan(client: Store, store: RunningStore) -> None:
    """They are reported once a second."""
    shown: dict[str, int] = {}
    found: dict[str, int] = {}
    for _ in range(100):
        figures = await report(client)
        found = await trio.to_thread.run_sync(scanned, store)
        shown = {name: getattr(figures, name) for name in found}
        if shown == found:
            return
        await trio.sleep(0.1)
    assert shown == found


async def compact(client: Store) -> Job:
    (job,) = await client.wait_jobs(await client.compact())
    return job


# --- the store at peace ---------------------------------------------------------------------------


async def test_a_compaction_gives_the_room_back_and_loses_nothing(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", config=FAST) as store:
        async with filled(store) as (client, contents):
            await require_figures_equal_a_scan(client, store)
            before = await report(client)
            assert (before.live_count, before.dead_count) == (163, 97)
            assert before.dead_bytes > 6_000_000
            job = await compact(client)
            assert (job.state, job.code) == ("done", None)
            await require_figures_equal_a_scan(client, store)
            after = await report(client)
            assert after.generation == before.generation + 1
            assert (after.live_count, after.dead_bytes) == (before.live_count, 0)
            assert before.file_size - after.file_size == job.freed_bytes > 6_000_000
            folder = store.data / "disk-1" / "volumes" / "1"
            assert sorted(path.name for path in folder.iterdir()) == ["g2.idx", "g2.vol", "manifest"]
            await contents.verify()
            await contents.put("another", 1000)
            again = await compact(client)
            assert (again.state, again.message) == ("done", "there is nothing to give back")
    with RunningStore(tmp_path / "store", config=FAST, port_base=store.port_base) as store:
        async with warehouse.connect(store.profile) as client:
            contents._bucket = client.bucket("b")
            await contents.verify()
            await require_figures_equal_a_scan(client, store)


async def test_a_verification_names_what_is_damaged(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", config=FAST) as store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("b")
            bucket = client.bucket("b")
            for name in ("first", "second", "third"):
                await bucket.put(name, name.encode() * 1000)
            path = store.data / "disk-1" / "volumes" / "1" / "g1.vol"
            with path.open("r+b") as file:
                file.seek(path.read_bytes().index(b"second" * 1000) + 3000)
                file.write(b"?")
            (job,) = await client.wait_jobs(await client.verify())
            assert (job.state, job.damaged_count) == ("done", 1)
            status = await client.status()
            (damage,) = status.damages
            assert (damage.volume_id, damage.bucket, damage.key) == (1, "b", "second")
            assert status.health == "degraded"
            assert await bucket.get("third") == b"third" * 1000


# --- actors that die ------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["master", "disk-1", "compactor-1"])
async def test_a_compaction_survives_the_death_of_any_actor(tmp_path: Path, victim: str) -> None:
    with RunningStore(tmp_path / "store", config=SLOW) as store:
        async with filled(store) as (client, contents):
            before = await report(client)
            (job,) = await client.compact()
            await until_copying(client, job.job_id)
            store.kill_actor(victim)
            await contents.put("meanwhile", 5000)
            await contents.delete("small/1")
            job = await outcome(client, job.job_id)
            assert (job.state, job.code) == ("done", None), f"{job} after the death of {victim}"
            assert (await report(client)).file_size < before.file_size - 6_000_000
            await contents.verify()
            store.kill_actor(victim)  # and once more when all is done
            await contents.put("afterwards", 5000)
            await require_figures_equal_a_scan(client, store)
            await contents.verify()


async def test_a_compaction_survives_the_death_of_all(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store", config=SLOW).start()
    try:
        async with filled(store) as (client, contents):
            before = await report(client)
            (job,) = await client.compact()
            await until_copying(client, job.job_id)
            pids = [*store.pids().values()]
            os.kill(store.pid, signal.SIGSTOP)  # so that nobody is started again
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            os.kill(store.pid, signal.SIGCONT)
    finally:
        store.kill()
    with RunningStore(tmp_path / "store", config=FAST, port_base=store.port_base) as store:
        async with warehouse.connect(store.profile) as client:
            contents._bucket = client.bucket("b")
            job = await outcome(client, job.job_id)
            assert job.state == "done", "the job was not forgotten"
            assert (await report(client)).file_size < before.file_size - 6_000_000
            await contents.verify()
            await require_figures_equal_a_scan(client, store)


async def until_copying(client: Store, job_id: int) -> None:
    """Wait until a good part is copied, but not all."""
    with trio.fail_after(90):
        while True:
            (job,) = await client.jobs([job_id])
            assert not job.is_finished, job
            if job.state == "copying" and job.done_bytes > 3_000_000:
                return
            await trio.sleep(0.02)


async def outcome(client: Store, job_id: int) -> Job:
    """How a job ended, though the master may be away for a while."""
    with trio.fail_after(120):
        while True:
            try:
                (job,) = await client.jobs([job_id])
            except StoreError as error:
                if error.code == "no_such_job":
                    return Job(
                        job_id=job_id,
                        work="compact",
                        volume_id=1,
                        disk_name="disk-1",
                        origin="operator",
                        state="failed",
                        code=error.code,
                    )
            else:
                if job.is_finished:
                    return job
            await trio.sleep(0.1)


async def test_a_compactor_that_cannot_start_keeps_nobody_from_being_served(tmp_path: Path) -> None:
    disk = tmp_path / "store" / "disk-1"
    disk.mkdir(parents=True)
    with DiskLock(disk, COMPACTOR_LOCK_NAME) as lock, RunningStore(tmp_path / "store", config=FAST) as store:
        ready = store.events[-1]
        assert set(ready["pids"]) == {"master", "disk-1", "compactor-1"}
        async with filled(store) as (client, contents):
            assert (await client.status()).compactors == []
            (job,) = await client.compact()
            lock.release()
            with trio.fail_after(90):
                job = await outcome(client, job.job_id)
            assert job.state == "done", "it was tried again, and its work was not forgotten"
            assert (await client.status()).compactors == ["disk-1"]
            await contents.verify()


# --- under load -----------------------------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_no_request_fails_while_a_volume_is_compacted_and_verified(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", config=BY_HAND) as store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("load")
            load = Load(client.bucket("load"), writers=8, readers=8, size=4096, keys=200)
            await load.fill(6000)
            phases = await measure(client, load, seconds=3)
            for phase in phases:
                print(phase)
                assert phase.failures == []
            alone, compacting, _ = phases
            print(f"p99 of gets: x {compacting.p99_ms('get') / alone.p99_ms('get'):.2f} while it compacts")
            await load.verify()
            await require_figures_equal_a_scan(client, store)
