"""Cold reads: each gets its own answer, many share a visit, and one that is stuck keeps few waiting."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import AsyncIterator

import pytest
import trio
from auditor import make_volume

import actors.cold_reads
from actors.cold_reads import LANES, READS_MAX, ColdReads
from errors import NeedleCorrupt, NoSuchNeedle, StoreError
from simdisk import SimDisk
from storage.needle import NeedleMetadata, NeedleRead

METADATA = NeedleMetadata("b", 1, "key", 0)
WAIT_S = 10.0
SIZE_MAX = 1000


class Site:
    """A volume of 60 needles on a disk that keeps reads waiting when it is told to."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.volume = make_volume(self.disk)
        for needle_id in range(1, 61):
            self.volume.append(needle_id, METADATA, data_of(needle_id), stamp=needle_id)
        self.volume.append(61, METADATA, bytes(SIZE_MAX + 1), stamp=61)
        self.volume.sync()
        self.cold = ColdReads()
        self.calls: list[str] = []
        self.stuck = threading.Event()  # set: they go on
        self.stuck_count = 0
        self.disk.before = self._before

    def _before(self, call: str, path: str, *_: int) -> None:
        if path.endswith(".vol"):
            self.calls.append(call)
            if call == "preadv" and self.stuck_count:
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

    async def until_at_work(self, count: int) -> None:
        with trio.fail_after(WAIT_S):
            while self.stuck_count > count:
                await trio.sleep(0.001)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with trio.open_nursery() as nursery:
        await nursery.start(site.cold.run)
        yield site
        site.stuck.set()
        nursery.cancel_scope.cancel()
    site.volume.close()


def data_of(needle_id: int) -> bytes:
    return b"data of %03d" % needle_id


async def test_each_read_gets_its_own_answer(site: Site) -> None:
    content = site.disk.node("volumes/7/g1.vol").content
    content[content.index(data_of(33))] ^= 1
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 63):
            nursery.start_soon(site.read_to, answers, needle_id)
    expected = {needle_id: data_of(needle_id) for needle_id in range(1, 61)}
    assert answers == {**expected, 33: NeedleCorrupt, 61: None, 62: NoSuchNeedle}


async def test_reads_that_come_together_share_a_visit_and_the_disk_is_asked_for_all_at_once(
    site: Site,
) -> None:
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 11):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert answers == {needle_id: data_of(needle_id) for needle_id in range(1, 11)}
    hints = [number for number, call in enumerate(site.calls) if call == "start_reading"]
    longest = max(len(run) for run in "".join(call[0] for call in site.calls).split("p"))
    assert len(hints) >= 5, "the first may go alone, and the last"
    assert longest >= 5, site.calls


async def test_no_visit_takes_more_than_its_share(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []

    def read_all(reads: list, token: object) -> None:
        shares.append(len(reads))
        original(reads, token)  # type: ignore[arg-type]

    original = actors.cold_reads._read_all
    monkeypatch.setattr(actors.cold_reads, "_read_all", read_all)
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 61):
            nursery.start_soon(site.read_to, answers, needle_id)
    assert len(answers) == sum(shares) == 60
    assert max(shares) <= READS_MAX


async def test_a_read_that_is_stuck_keeps_others_waiting_for_a_moment_only(site: Site) -> None:
    site.stuck_count = 1
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.read_to, answers, 1)
        await site.until_at_work(0)
        started = time.monotonic()
        for needle_id in range(2, 20):
            await site.read_to(answers, needle_id)
        assert time.monotonic() - started < 1.0
        assert sorted(answers) == [*range(2, 20)]
        site.stuck.set()
    assert answers[1] == data_of(1)


async def test_when_all_lanes_are_stuck_reads_wait_and_none_is_forgotten(site: Site) -> None:
    site.stuck_count = LANES
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, LANES + 1):
            nursery.start_soon(site.read_to, answers, needle_id)
            await site.until_at_work(LANES - needle_id)
        for needle_id in range(LANES + 1, 30):
            nursery.start_soon(site.read_to, answers, needle_id)
        await trio.sleep(0.05)
        assert answers == {}
        site.stuck.set()
    assert answers == {needle_id: data_of(needle_id) for needle_id in range(1, 30)}


async def test_on_a_slow_disk_each_read_goes_back_as_it_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_small = site.volume.read_small

    def read_slowly(needle_id: int, size_max: int) -> NeedleRead | None:
        time.sleep(0.02)
        return read_small(needle_id, size_max)

    monkeypatch.setattr(site.volume, "read_small", read_slowly)
    monkeypatch.setattr(actors.cold_reads, "VISIT_S", WAIT_S)  # no company
    times: list[float] = []

    async def read(needle_id: int) -> None:
        await site.read(needle_id)
        times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 12):
            nursery.start_soon(read, needle_id)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gap > 0.01 for gap in gaps) >= 8, gaps


async def test_whoever_gives_up_leaves_the_others_alone(site: Site) -> None:
    site.stuck_count = 1
    answers: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.read_to, answers, 1)
        await site.until_at_work(0)
        with trio.move_on_after(0.001):
            await site.read_to(answers, 2)
        with trio.move_on_after(0.001) as scope:
            nursery.start_soon(site.read_to, answers, 3)
            await trio.sleep_forever()
        assert scope.cancelled_caught
        site.stuck.set()
    assert answers == {1: data_of(1), 3: data_of(3)}


async def test_the_end_waits_for_reads_that_have_begun() -> None:
    site = Site()
    site.stuck_count = 1
    answers: dict[int, object] = {}
    threads = threading.active_count()
    async with trio.open_nursery() as nursery:
        await nursery.start(site.cold.run)
        nursery.start_soon(site.read_to, answers, 1)
        await site.until_at_work(0)
        nursery.start_soon(site.read_to, answers, 2)
        nursery.cancel_scope.cancel()
        threading.Timer(0.05, site.stuck.set).start()
    assert answers == {}
    with trio.fail_after(WAIT_S):
        while any(thread.name.startswith("cold reads") for thread in threading.enumerate()):
            await trio.sleep(0.01)
    assert threading.active_count() <= threads + 2, "a timer, and a thread of Trio's"
    site.volume.close()


async def test_without_lanes_a_thread_of_trio_reads() -> None:
    site = Site()
    needle = await site.read(5)
    assert needle is not None
    assert bytes(needle.data) == data_of(5)
    with pytest.raises(NoSuchNeedle):
        await site.read(77)
    site.volume.close()


async def test_a_bug_costs_one_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    read_small = site.volume.read_small

    def read_wrongly(needle_id: int, size_max: int) -> NeedleRead | None:
        if needle_id == 2:
            raise ZeroDivisionError
        return read_small(needle_id, size_max)

    monkeypatch.setattr(site.volume, "read_small", read_wrongly)
    with pytest.raises(ZeroDivisionError):
        await site.read(2)
    answers: dict[int, object] = {}
    await site.read_to(answers, 3)
    assert answers == {3: data_of(3)}
