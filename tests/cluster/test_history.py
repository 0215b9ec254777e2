"""How busy and how full a store is, as its operators see it: a real store under load, and over a restart."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore

PATIENCE_S = 40.0
SIZE = 5_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunningStore:
    return RunningStore(tmp_path_factory.mktemp("history") / "store", volumes=2)


@asynccontextmanager
async def load(client: warehouse.Store, bucket: warehouse.Bucket) -> AsyncIterator[None]:
    """Puts, gets, lists and deletes until the block ends."""

    async def work(number: int) -> None:
        while True:
            key = f"load/{number}"
            await bucket.put(key, b"x" * SIZE)
            for _ in range(3):
                await bucket.get(key)
            await bucket.info()
            await bucket.delete(key)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(work, number)
        yield
        nursery.cancel_scope.cancel()


async def until(client: warehouse.Store, holds: Callable[[warehouse.Figures], bool]) -> warehouse.Figures:
    with trio.fail_after(PATIENCE_S):
        while not holds(figures := await client.figures()):
            await trio.sleep(0.1)
    return figures


def is_busy(rates: warehouse.Rates) -> bool:
    return min(rates.gets_per_s, rates.puts_per_s, rates.bytes_in_per_s, rates.bytes_out_per_s) > 0


def slot_of(point: warehouse.HistoryPoint) -> int:
    return (point.at_ms - 1) // 10_000


async def test_rates_rise_under_load_and_fall_to_nothing(store: RunningStore) -> None:
    with store:
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("busy")
            async with load(client, bucket):
                busy = await until(
                    client,
                    lambda figures: is_busy(figures.rates) and all(is_busy(d.rates) for d in figures.disks),
                )
                await until(client, lambda figures: figures.rates.deletes_per_s > 0)
                await until(client, lambda figures: figures.rates.other_per_s > 0)
            rates = busy.rates
            assert [disk.name for disk in busy.disks] == ["disk-1", "disk-2"]
            assert sum(disk.rates.gets_per_s for disk in busy.disks) == pytest.approx(rates.gets_per_s)
            assert rates.bytes_in_per_s / rates.puts_per_s == pytest.approx(SIZE)
            for half, most in ((rates.get_p50_s, rates.get_p99_s), (rates.put_p50_s, rates.put_p99_s)):
                assert half is not None
                assert most is not None
                assert 0 < half <= most < 30
            await until(client, lambda figures: figures.rates == warehouse.Rates())


async def test_the_history_is_kept_over_a_restart(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        async with warehouse.connect(store.profile) as client:
            bucket = await client.create_bucket("kept")
            await bucket.put("key", b"x" * SIZE)
            with trio.fail_after(PATIENCE_S):
                while not (before := await client.history(since=timedelta(hours=1))):
                    await trio.sleep(0.2)
                while not any(point.object_count for point in await client.history()):
                    await trio.sleep(0.2)
            grown = await bucket.history()
            assert (grown[-1].object_count, grown[-1].byte_count) == (1, SIZE)
    path = store.data / "master" / "history.sqlite3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with RunningStore(store.data, port_base=store.port_base) as again:
        async with warehouse.connect(again.profile) as client:
            after = await client.history()
            assert {slot_of(point) for point in before} <= {slot_of(point) for point in after}
            last = after[-1]
            assert (last.bucket_count, last.object_count, last.byte_count) == (1, 1, SIZE)
            assert last.capacity > last.free > 0
            assert sum(point.rates.puts_per_s * point.span_s for point in after) == pytest.approx(1)
            assert [point.at_ms for point in await client.bucket("kept").history()] != []


async def test_a_damaged_history_is_set_aside_and_harms_nothing(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store")
    with store:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("kept")
    folder = store.data / "master"
    (folder / "history.sqlite3").write_bytes(b"no database" * 1000)
    with RunningStore(store.data, port_base=store.port_base) as again:
        async with warehouse.connect(again.profile) as client:
            with trio.fail_after(PATIENCE_S):
                while not await client.history():
                    await trio.sleep(0.2)
            assert [bucket.name for bucket in await client.buckets()] == ["kept"]
    assert (folder / "history.sqlite3.damaged").read_bytes().startswith(b"no database")
    assert "history is damaged and set aside" in again.log.read_text()
