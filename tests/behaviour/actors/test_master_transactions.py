"""Requests that reach the master at the same moment share one transaction of its catalog, and so one fsync."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from master_kit import GIB, RunningMaster, ScriptedDisk, open_master, until
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.transport.messages import (
    CreateBucket,
    Deleted,
    DeleteNeedles,
    DeleteObjects,
    Done,
    Leased,
    LeaseNeedles,
    ObjectFound,
    RecordBuckets,
    Register,
    StatObject,
)
from warehouse.transport.zeromq.link import Link


class Transactions:
    """Counts a catalog's transactions; one that begins while the gate is closed waits inside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        original, asked = SqliteCatalog.transaction, CatalogWriter.write
        self.asked_count = 0

        @contextmanager
        def transaction(catalog: SqliteCatalog) -> Iterator[object]:
            self.count += 1
            with original(catalog) as made:
                self.gate.wait(30)
                yield made

        async def write(writer: CatalogWriter, work: object, **options: bool) -> object:
            self.asked_count += 1
            return await asked(writer, work, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(SqliteCatalog, "transaction", transaction)
        monkeypatch.setattr(CatalogWriter, "write", write)

    async def until_quiet(self) -> None:
        """Wait until nothing was written for a while: the disks have what they need, ids and records of buckets."""
        with trio.fail_after(30):
            before = -1
            while before != self.asked_count:
                before = self.asked_count
                await trio.sleep(0.4)


async def second_disk(master: RunningMaster) -> ScriptedDisk:
    disk = ScriptedDisk()
    disk.promise = lambda needle: master.promise_of(needle, "e" * 32)

    async def greet(link: Link) -> None:
        register = Register(
            join_secret="",
            disk_id="e" * 32,
            disk_name="disk-2",
            incarnation=1,
            url="http://127.0.0.1:2",
            volumes=[],
            disk_capacity=200 * GIB,
            disk_free=disk.free,
        )
        await link.ask_now(register, timeout_s=30)

    keys = await master.new_node("disk-2")
    disk.link = await master.connect("disk-2", greet, disk.answer, keys=keys)
    await until(lambda: 2 in disk.reports)
    with trio.fail_after(30):
        while len((await master.status()).disks) < 2 or not (await master.status()).disks[1].volumes:
            await trio.sleep(0.01)
    return disk


async def test_commits_of_two_disks_and_deletes_share_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions = Transactions(monkeypatch)
    async with open_master(tmp_path, has_compactor=False) as master:
        bucket_id = await master.create_bucket("photos")
        other = await second_disk(master)
        for number in range(3):
            await master.disk.store(1, 900 + number, bucket_id, f"doomed-{number}")
        await transactions.until_quiet()
        for disk in (master.disk, other):  # what follows from the requests must not be counted with them
            disk.hold(DeleteNeedles)
            disk.hold(RecordBuckets)
        outcomes: list[object] = []

        async def delete(number: int) -> None:
            outcomes.append(
                await master.ask(DeleteObjects(bucket="photos", keys=[f"doomed-{number}"]), Deleted)
            )

        async def store(disk: ScriptedDisk, volume_id: int, number: int) -> None:
            outcomes.append(await disk.store(volume_id, 1 + number, bucket_id, f"{volume_id}-{number}"))

        async with trio.open_nursery() as nursery:
            transactions.gate.clear()
            nursery.start_soon(master.ask, CreateBucket(bucket="busy"), Done)
            before = transactions.count
            await until(lambda: transactions.count == before + 1)  # one is being written
            asked = transactions.asked_count
            for number in range(5):
                nursery.start_soon(store, master.disk, 1, number)
                nursery.start_soon(store, other, 2, number)
            for number in range(3):
                nursery.start_soon(delete, number)
            await until(lambda: transactions.asked_count == asked + 13)
            # What needs no transaction does not wait for one.
            await master.ask(LeaseNeedles(bucket="photos", needle_count=1, byte_count=1), Leased)
            await master.ask(StatObject(bucket="photos", key="doomed-0"), ObjectFound)
            assert not outcomes
            transactions.gate.set()
            await until(lambda: len(outcomes) == 13)
            assert transactions.count == before + 2, "the one under way, and one for all thirteen"
        assert all(answer.existed == [True] for answer in outcomes if isinstance(answer, Deleted))
