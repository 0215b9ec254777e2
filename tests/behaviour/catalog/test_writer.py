"""The catalog's writer: requests share transactions and fsyncs, and nothing else."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from catalog_kit import CREATED_MS, SqliteKit, stamp
from warehouse.catalog import writer
from warehouse.catalog.sqlite import transaction
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.errors import (
    BucketExists,
    DiskFull,
    OutcomeUnknown,
    Overloaded,
    StoreError,
    Unavailable,
    WriteFailed,
)

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.close()


@pytest.fixture
async def catalog_writer(kit, nursery):
    catalog_writer = CatalogWriter(kit.catalog)
    await nursery.start(catalog_writer.run)
    return catalog_writer


def count_transactions(kit):
    """A list that grows by one with each transaction begun."""
    begun = []
    transaction = kit.catalog.transaction

    def counted():
        begun.append(threading.get_ident())
        return transaction()

    kit.catalog.transaction = counted
    return begun


async def gather(*calls):
    """Run all at once; return results or errors, in order."""
    outcomes = [None] * len(calls)

    async def run(index, call):
        try:
            outcomes[index] = await call()
        except Exception as error:
            outcomes[index] = error  # type: ignore[call-overload]

    async with trio.open_nursery() as nursery:
        for index, call in enumerate(calls):
            nursery.start_soon(run, index, call)
    return outcomes


async def test_a_write_returns_its_result_once_it_can_be_read(kit, catalog_writer):
    bucket = await catalog_writer.write(lambda t: t.create_bucket("photos", CREATED_MS))
    assert kit.catalog.bucket("photos") == bucket


async def test_requests_that_wait_at_the_same_time_share_transactions(kit, catalog_writer):
    begun = count_transactions(kit)
    names = [f"b{number}" for number in range(100)]
    outcomes = await gather(
        *(lambda name=name: catalog_writer.write(lambda t: t.create_bucket(name, 1)) for name in names)
    )
    assert [row.name for row in outcomes] == names
    assert len(begun) <= 3, "the first, the others, and perhaps one for the scheduler"
    assert threading.get_ident() not in begun, "the event loop does not wait for the disk"


async def test_the_event_loop_goes_on_while_a_transaction_is_written(catalog_writer):
    may_go_on = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog_writer.write, lambda _: may_go_on.wait(10))
        await trio.testing.wait_all_tasks_blocked()
        assert not may_go_on.is_set()
        may_go_on.set()


async def test_a_refused_request_fails_alone(kit, catalog_writer):
    kit.bucket("taken")

    def create_two(t):
        t.create_bucket("half", 1)
        return t.create_bucket("taken", 1)

    outcomes = await gather(
        lambda: catalog_writer.write(lambda t: t.create_bucket("first", 1)),
        lambda: catalog_writer.write(create_two),
        lambda: catalog_writer.write(lambda t: t.create_bucket("last", 1)),
    )
    assert outcomes[0].name == "first"
    assert isinstance(outcomes[1], BucketExists)
    assert outcomes[2].name == "last"
    assert [row.name for row in kit.catalog.buckets()] == ["first", "last", "taken"]


async def test_a_bug_in_one_request_reaches_whoever_asked_and_nobody_else(kit, catalog_writer):
    def stumble(t):
        t.create_bucket("half", 1)
        raise KeyError("a bug")

    outcomes = await gather(
        lambda: catalog_writer.write(stumble),
        lambda: catalog_writer.write(lambda t: t.create_bucket("other", 1)),
    )
    assert isinstance(outcomes[0], KeyError)
    assert [row.name for row in kit.catalog.buckets()] == ["other"]


async def test_a_cancelled_caller_does_not_undo_the_work(kit, catalog_writer):
    started, may_go_on = threading.Event(), threading.Event()

    def work(t):
        started.set()
        may_go_on.wait(10)
        t.create_bucket("under-way", 1)

    with trio.move_on_after(0) as scope:
        await catalog_writer.write(lambda t: t.create_bucket("queued", 1))
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog_writer.write, work)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
    may_go_on.set()
    await catalog_writer.write(lambda _: None)
    assert [row.name for row in kit.catalog.buckets()] == ["queued", "under-way"]


async def test_a_full_queue_refuses_at_once_and_does_nothing(kit, nursery):
    catalog_writer = CatalogWriter(kit.catalog, queue_max=2)
    outcomes = await gather(  # nobody writes yet, so they all wait
        *(lambda name=name: fill(catalog_writer, name) for name in ("a", "b", "c")),
        lambda: nursery.start(catalog_writer.run),
    )
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 1
    assert len(kit.catalog.buckets()) == 2
    await fill(catalog_writer, "d")


async def fill(catalog_writer, name):
    await catalog_writer.write(lambda t: t.create_bucket(name, 1))


async def test_a_batch_is_bounded_and_the_rest_travels_next(kit, nursery, monkeypatch):
    monkeypatch.setattr(writer, "BATCH_MAX", 10)
    catalog_writer = CatalogWriter(kit.catalog)
    begun = count_transactions(kit)
    outcomes = await gather(
        *(lambda number=number: catalog_writer.write(lambda _: number) for number in range(35)),
        lambda: nursery.start(catalog_writer.run),
    )
    assert outcomes[:35] == list(range(35))
    assert len(begun) == 4


# --- failures -------------------------------------------------------------------------------------


class FailingCommit:
    """The writer connection; its COMMIT fails as long as `code` is set."""

    def __init__(self, connection, code):
        self._connection = connection
        self.code = code

    def execute(self, sql, parameters=()):
        if sql == "COMMIT" and self.code is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return self._connection.execute(sql, parameters)

    def __getattr__(self, name):
        return getattr(self._connection, name)


async def test_a_failed_commit_fails_everybody_in_it_and_all_that_come_later(kit, catalog_writer):
    kit.catalog._writer = FailingCommit(kit.catalog._writer, sqlite3.SQLITE_IOERR_FSYNC)
    outcomes = await gather(
        *(lambda name=name: catalog_writer.write(lambda t: t.create_bucket(name, 1)) for name in "abc")
    )
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3, "each caller raises an error of its own"
    kit.catalog._writer.code = None
    with pytest.raises(WriteFailed, match="until the master is started again"):
        await fill(catalog_writer, "d")
    assert kit.catalog.buckets() == []


async def test_a_full_disk_fails_everybody_in_it_and_passes(kit, catalog_writer):
    kit.catalog._writer = FailingCommit(kit.catalog._writer, sqlite3.SQLITE_FULL)
    outcomes = await gather(
        *(lambda name=name: catalog_writer.write(lambda t: t.create_bucket(name, 1)) for name in "abc")
    )
    assert [type(outcome) for outcome in outcomes] == [DiskFull] * 3
    kit.catalog._writer.code = None
    await fill(catalog_writer, "d")
    assert [row.name for row in kit.catalog.buckets()] == ["d"]


async def test_on_a_full_disk_purging_waits_in_one_task_and_goes_on_by_itself(
    kit, catalog_writer, monkeypatch
):
    monkeypatch.setattr(transaction, "PURGE_AT_ONCE", 5)
    monkeypatch.setattr(writer, "AFTER_FAILURE_S", 0.5)
    bucket_id = kit.bucket()
    for number in range(23):
        kit.put(bucket_id, f"{number:02}")
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(2)))
    kit.catalog._writer = FailingCommit(kit.catalog._writer, sqlite3.SQLITE_FULL)
    task_count = trio.lowlevel.current_statistics().tasks_living
    for number in range(20):
        with pytest.raises(DiskFull):
            await fill(catalog_writer, f"b{number}")
    assert trio.lowlevel.current_statistics().tasks_living <= task_count + 1
    kit.catalog._writer.code = None
    with trio.fail_after(30):
        while kit.catalog.is_purge_left:
            await trio.sleep(0.001)
    assert len(kit.garbage()) == 23


async def test_an_error_of_the_database_in_one_request_fails_the_transaction(kit, catalog_writer):
    # SQLite may have rolled everything back by itself, so the others cannot be believed to be there.
    def work(t):
        t._execute("SELECT * FROM absent")

    outcomes = await gather(lambda: fill(catalog_writer, "a"), lambda: catalog_writer.write(work))
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    assert kit.catalog.buckets() == []


class FailingSavepoint(FailingCommit):
    """The writer connection; one statement of the savepoints fails."""

    def __init__(self, connection, statement):
        super().__init__(connection, None)
        self._statement = statement

    def execute(self, sql, parameters=()):
        if sql == self._statement:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        return super().execute(sql, parameters)


@pytest.mark.parametrize("statement", ["SAVEPOINT request", "ROLLBACK TO request", "RELEASE request"])
async def test_a_savepoint_that_fails_fails_the_transaction(kit, catalog_writer, statement):
    # It has not undone what its request did, so nothing of the transaction may be committed.
    def refused(t):
        t.create_bucket("b", 1)
        t.create_bucket("b", 1)

    kit.catalog._writer = FailingSavepoint(kit.catalog._writer, statement)
    outcomes = await gather(lambda: fill(catalog_writer, "a"), lambda: catalog_writer.write(refused))
    assert [type(outcome) for outcome in outcomes] == [WriteFailed] * 2
    assert kit.catalog.buckets() == []


# --- the end --------------------------------------------------------------------------------------


async def test_when_it_stops_the_transaction_under_way_is_finished_and_the_rest_refused(kit):
    catalog_writer = CatalogWriter(kit.catalog)
    started, may_go_on = threading.Event(), threading.Event()

    def work(t):
        started.set()
        may_go_on.wait(10)
        return t.create_bucket("under-way", 1).name

    async with trio.open_nursery() as callers:
        outcomes = {}

        async def ask(name, request):
            try:
                outcomes[name] = await catalog_writer.write(request)
            except StoreError as error:
                outcomes[name] = error

        async with trio.open_nursery() as nursery:
            await nursery.start(catalog_writer.run)
            callers.start_soon(ask, "under-way", work)
            await trio.to_thread.run_sync(started.wait)
            callers.start_soon(ask, "queued", lambda t: t.create_bucket("queued", 1))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            may_go_on.set()
    assert outcomes["under-way"] == "under-way"
    assert isinstance(outcomes["queued"], Unavailable)
    assert [row.name for row in kit.catalog.buckets()] == ["under-way"]
    with pytest.raises(Unavailable, match="closed"):
        await fill(catalog_writer, "late")


async def test_deleted_buckets_are_purged_in_pieces_between_other_requests(kit, catalog_writer, monkeypatch):
    monkeypatch.setattr(transaction, "PURGE_AT_ONCE", 5)
    bucket_id = kit.bucket()
    for number in range(23):
        kit.put(bucket_id, f"{number:02}")
    begun = count_transactions(kit)
    await catalog_writer.write(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(2)))
    waits = []
    while kit.catalog.is_purge_left:
        before = len(begun)
        await fill(catalog_writer, f"b{len(waits)}")
        waits.append(len(begun) - before)
    assert waits, "the first piece is not all"
    assert max(waits) <= 2, "a request waits for one piece at most"
    assert len(kit.garbage()) == 23
    done = len(begun)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(begun) == done, "nothing to do, nothing done"
    kit.assert_consistent()


async def test_a_purge_that_a_stop_interrupted_goes_on_by_itself(kit, monkeypatch):
    monkeypatch.setattr(transaction, "PURGE_AT_ONCE", 5)
    bucket_id = kit.bucket()
    for number in range(23):
        kit.put(bucket_id, f"{number:02}")
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(2)))
    kit.reopen()
    async with trio.open_nursery() as nursery:
        await nursery.start(CatalogWriter(kit.catalog).run)
        with trio.fail_after(30):
            while kit.catalog.is_purge_left:
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert len(kit.garbage()) == 23


# --- kill -9 --------------------------------------------------------------------------------------

WRITING = """
import itertools, sys
from pathlib import Path
import trio
import trio.testing
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.transport.messages import StoredNeedle

catalog = SqliteCatalog.open(Path(sys.argv[1]))
bucket_id, numbers = catalog.bucket("photos").id, itertools.count(int(sys.argv[2]))

async def put_forever(writer):
    for number in numbers:
        # Every third put replaces the one before, so that garbage and figures are under way as well.
        needle = StoredNeedle(1, number, number << 16, number, 1, 200, bucket_id, f"{number // 3}", 1)
        result = await writer.write(lambda t: t.commit_needle(needle))
        if result.etag is not None:
            print(number, flush=True)

async def main():
    writer = CatalogWriter(catalog)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        for _ in range(8):
            nursery.start_soon(put_forever, writer)

trio.run(main)
"""


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_survives_kill_9(tmp_path, seed):
    path = tmp_path / "catalog.sqlite3"
    opened = SqliteCatalog.open(path)
    with opened.transaction() as transaction:
        bucket_id = transaction.create_bucket("photos", 1).id
        transaction.add_disk("disk-1", "first", 1)
        transaction.reserve_needle_ids(transaction.add_volume(None, "uuid", 1 << 30, "disk-1"), 2**32 - 1)
    opened.close()
    delays, first, acked = random.Random(seed), 1, []
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITING, path, str(first)], cwd=PROJECT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            seen = [process.stdout.readline()]  # it writes; let it go on for a random while
            time.sleep(delays.uniform(0, 0.1))
            os.kill(process.pid, signal.SIGKILL)
            seen += process.stdout.readlines()
        acked += [int(line) for line in seen if line.endswith(b"\n")]
        first = max(acked) + 1000

        opened = SqliteCatalog.open(path)
        try:
            assert opened.check_counts() == []
            for number in acked:
                row = opened.object(bucket_id, str(number // 3))
                assert row is not None, f"put {number} was acknowledged and is gone"
                assert row.needle_id >= number, f"put {number} was acknowledged and an older one is there"
        finally:
            opened.close()
    assert len(acked) > 20
