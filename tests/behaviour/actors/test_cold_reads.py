"""Cold reads: each gets its own answer, few threads wait for many, and a read that is stuck keeps few waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
import trio

import warehouse.actors.data.cold_reads
from auditor import make_volume
from simdisk import SimDisk
from warehouse.actors.data.cold_reads import READER_THREADS, SLOW_S, TRIES_MIN, ColdReads
from warehouse.errors import NeedleCorrupt, NoSuchNeedle, ReadFailed, StoreError
from warehouse.storage.format.needle import NeedleMetadata, NeedleRead

METADATA = NeedleMetadata("b", 1, "key", 0)
WAIT_S = 30.0
SIZE_MAX = 1000
MAIN = threading.main_thread()


def data_of(needle_id: int) -> bytes:
    return b"data of %03d" % needle_id


class Site:
    """A volume of 60 needles on a disk that keeps threads waiting when it is told to."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.volume = make_volume(self.disk)
        for needle_id in range(1, 61):
            self.volume.append(needle_id, METADATA, data_of(needle_id), stamp=needle_id)
        self.volume.append(61, METADATA, bytes(SIZE_MAX + 1), stamp=61)
        self.volume.append(300, METADATA, b"", stamp=300)  # so that the first page of the index is whole
        self.volume.sync()
        self.volume.find(1)  # and in memory
        self.cold = ColdReads()
        self.thread_reads = self.loop_reads = 0  # of the data file
        self.hints: list[int] = []  # offsets
        self.stuck = threading.Event()  # set: they go on
        self.stuck_count = 0
        self.disk.before = self._before

    def _before(self, call: str, path: str, *place: int) -> None:
        if not path.endswith(".vol"):
            return
        if call == "start_reading":
            self.hints.append(place[0])
        if call != "preadv":
            return
        if threading.current_thread() is MAIN:
            self.loop_reads += 1
            return
        self.thread_reads += 1
        if self.stuck_count:
            self.stuck_count -= 1
            assert self.stuck.wait(WAIT_S)

    async def read(self, needle_id: int) -> NeedleRead | None:
        with trio.fail_after(WAIT_S):
            return await self.cold.read(self.volume, needle_id, SIZE_MAX)

    async def read_to(self, answers: dict[int, object], needle_id: int) -> None:
        try:
            needle = await self.read(needle_id)
            answers[needle_id] = None if needle is None else bytes(needle.data)
        except StoreError as error:
            answers[needle_id] = type(error)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(WAIT_S):
            while not condition():
                await trio.sleep(0.001)

    async def hold_one(self, nursery: trio.Nursery, answers: dict[int, object], needle_id: int = 1) -> None:
        """Have a reader thread stuck at a read."""
        self.stuck_count += 1
        nursery.start_soon(self.read_to, answers, needle_id)
        await self.until(lambda: self.stuck_count == 0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with trio.open_nursery() as nursery:
        await nursery.start(site.cold.run)
        yield site
        site.stuck.set()
        nursery.cancel_scope.cancel()
    site.volume.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader thread may take its time before another one starts."""
    monkeypatch.setattr(warehouse.actors.data.cold_reads, "SLOW_S", WAIT_S)


def expected(*needle_ids: int) -> dict[int, object]:
    return {needle_id: data_of(needle_id) for needle_id in needle_ids}


@pytest.mark.parametrize("is_cold", [False, True])
async def test_each_read_gets_its_own_answer(site: Site, is_cold: bool) -> None:
    content = site.disk.node("volumes/7/g1.vol").content
    content[content.index(data_of(33))] ^= 1
    site.disk.is_cold = is_cold
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 63):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert answers == {**expected(*range(1, 61)), 33: NeedleCorrupt, 61: None, 62: NoSuchNeedle}
    assert site.cold.waiting_count == 0
    assert not site.cold._waiters


async def test_what_the_disk_brought_meanwhile_costs_no_thread(site: Site, patient: None) -> None:
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        await site.hold_one(nursery, answers)
        for needle_id in range(2, 40):
            nursery.start_soon(site.read_to, answers, needle_id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert answers == {}
        site.stuck.set()
    assert answers == expected(*range(1, 40))
    assert site.thread_reads <= 1 + 4, "tries grow fourfold with each thread that finishes"
    assert site.loop_reads >= 38 - 4


async def test_the_disk_is_told_once_of_what_was_tried_in_vain(site: Site, patient: None) -> None:
    site.disk.is_cold = True
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 21):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert answers == expected(*range(1, 21))
    assert site.thread_reads == 20
    assert len(site.hints) == len(set(site.hints)) >= 20 - TRIES_MIN - 1


async def test_where_tries_are_in_vain_there_are_few(site: Site, patient: None) -> None:
    site.disk.is_cold = True
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 41):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert site.thread_reads == 40
    assert site.loop_reads <= 40 * TRIES_MIN


async def test_many_who_ask_for_one_needle_are_one_read(site: Site) -> None:
    site.disk.is_cold = True
    site.stuck_count = 1
    answers: list[object] = []
    errors: list[StoreError] = []

    async def ask(needle_id: int) -> None:
        try:
            needle = await site.read(needle_id)
            assert needle is not None
            answers.append(bytes(needle.data))
        except StoreError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask, 5)
            nursery.start_soon(ask, 62)
        await site.until(lambda: site.stuck_count == 0)
        await trio.sleep(0.05)
        site.stuck.set()
    assert answers == [data_of(5)] * 10
    assert site.thread_reads <= 2, "one for the first, one for those who came when it had begun"
    assert [type(error) for error in errors] == [NoSuchNeedle] * 10
    assert len({id(error) for error in errors}) == 10, "each raises its own"


async def test_a_read_that_is_stuck_keeps_others_waiting_for_a_moment_only(site: Site) -> None:
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        await site.hold_one(nursery, answers)
        nursery.start_soon(site.read_to, answers, 2)  # comes a moment later
        await site.until(lambda: 2 in answers)
        taken_s = []
        for needle_id in range(3, 23):
            started = time.perf_counter()
            await site.read_to(answers, needle_id)
            taken_s.append(time.perf_counter() - started)
        assert answers == expected(*range(2, 23))
        assert min(taken_s) < SLOW_S, "none of them waits for the reader thread that is stuck"
        site.stuck.set()
    assert answers[1] == data_of(1)


async def test_when_all_lanes_are_stuck_reads_wait_and_none_is_forgotten(site: Site) -> None:
    site.disk.is_cold = True
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, READER_THREADS + 1):
            await site.hold_one(nursery, answers, needle_id)
        for needle_id in range(READER_THREADS + 1, 40):
            nursery.start_soon(site.read_to, answers, needle_id)
        await site.until(lambda: site.cold.waiting_count == 39)
        assert answers == {}
        site.stuck.set()
    assert answers == expected(*range(1, 40))


async def test_on_a_slow_disk_all_reader_threads_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.disk.is_cold = True
    under_way, most = 0, 0
    read_small = site.volume.read_small

    def read_slowly(needle_id: int, size_max: int, *, nowait: bool = False) -> NeedleRead | None:
        nonlocal under_way, most
        if not nowait:
            under_way += 1
            most = max(most, under_way)
            time.sleep(0.02)
            under_way -= 1
        return read_small(needle_id, size_max, nowait=nowait)

    monkeypatch.setattr(site.volume, "read_small", read_slowly)
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 41):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert answers == expected(*range(1, 41))
    assert most == READER_THREADS


async def test_nobody_waits_for_ever_and_who_asks_later_joins_what_is_under_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.actors.data.cold_reads, "DISK_S", 0.1)
    monkeypatch.setattr(warehouse.actors.data.cold_reads, "LOOK_S", 0.01)
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        await site.hold_one(nursery, answers)
        for _ in range(2):
            await site.until(lambda: bool(answers))
            assert answers == {1: ReadFailed}
            answers.clear()
            await trio.testing.wait_all_tasks_blocked()  # nobody waits: nobody watches
            nursery.start_soon(site.read_to, answers, 1)
        await site.until(lambda: bool(answers))
        answers.clear()
        monkeypatch.setattr(warehouse.actors.data.cold_reads, "DISK_S", WAIT_S)
        nursery.start_soon(site.read_to, answers, 1)
        await trio.sleep(0.05)
        assert (site.thread_reads, len(site.cold._running)) == (1, 1)
        site.stuck.set()
    assert answers == expected(1)


async def test_who_asks_after_a_deletion_is_not_answered_by_a_read_before_it(site: Site) -> None:
    answers: dict[int, object] = {}
    later: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        read_small, has_read = site.volume.read_small, threading.Event()

        def read_and_wait(needle_id: int, size_max: int, *, nowait: bool = False) -> NeedleRead | None:
            needle = read_small(needle_id, size_max, nowait=nowait)
            if threading.current_thread() is not MAIN:
                has_read.set()
                assert site.stuck.wait(WAIT_S)
            return needle

        site.volume.read_small = read_and_wait  # type: ignore[method-assign]
        nursery.start_soon(site.read_to, answers, 5)
        await site.until(has_read.is_set)
        site.volume.delete(5, stamp=1000)
        nursery.start_soon(site.read_to, later, 5)
        await trio.testing.wait_all_tasks_blocked(0.01)
        site.stuck.set()
    assert (answers, later) == (expected(5), {5: NoSuchNeedle})


async def test_the_loop_finds_what_the_disk_brought_even_when_all_lanes_are_stuck(site: Site) -> None:
    site.disk.is_cold = True
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, READER_THREADS + 1):
            await site.hold_one(nursery, answers, needle_id)
        for needle_id in range(READER_THREADS + 1, 30):
            nursery.start_soon(site.read_to, answers, needle_id)
        await trio.sleep(0.02)
        assert answers == {}
        site.disk.is_cold = False
        await site.until(lambda: len(answers) == 29 - READER_THREADS)
        site.stuck.set()
    assert answers == expected(*range(1, 30))


async def test_a_read_that_nobody_wants_any_more_is_not_done(site: Site, patient: None) -> None:
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        await site.hold_one(nursery, answers)
        with trio.move_on_after(0.01) as scope:
            await site.read_to(answers, 2)
        assert scope.cancelled_caught
        nursery.start_soon(site.read_to, answers, 3)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert [needle_id for _, needle_id, _ in site.cold._queue] == [3]
        site.stuck.set()
    assert answers == expected(1, 3)
    assert site.thread_reads + site.loop_reads == 2


async def test_the_end_waits_for_reads_that_have_begun_and_lets_go_of_the_others() -> None:
    site = Site()
    answers: dict[int, object] = {}
    async with trio.open_nursery() as waiters:
        async with trio.open_nursery() as nursery:
            await nursery.start(site.cold.run)
            await site.hold_one(waiters, answers)
            waiters.start_soon(site.read_to, answers, 2)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
            threading.Timer(0.1, site.stuck.set).start()
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("cold reads")]
        assert threads == []
    assert answers.keys() == {1, 2}
    assert answers[1] is ReadFailed
    await site.read_to(answers, 3)
    assert answers[3] == data_of(3), "by a thread of Trio's"
    site.volume.close()


async def test_without_lanes_a_thread_of_trio_reads() -> None:
    site = Site()
    needle = await site.read(5)
    assert needle is not None
    assert bytes(needle.data) == data_of(5)
    with pytest.raises(NoSuchNeedle):
        await site.read(77)
    site.volume.close()


@pytest.mark.parametrize("broken", ["read_small", "start_reading"])
async def test_a_bug_costs_one_read(site: Site, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    site.disk.is_cold = True
    good = getattr(site.volume, broken)

    def fail(needle_id: object, *others: object, **options: object) -> object:
        if needle_id == 2 or isinstance(needle_id, list):
            raise MemoryError
        return good(needle_id, *others, **options)

    monkeypatch.setattr(site.volume, broken, fail)
    if broken == "read_small":
        with pytest.raises(MemoryError):
            await site.read(2)
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(3, 30):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert answers == expected(*range(3, 30))
