"""Following: a page that nothing happens to costs the store next to nothing; jobs that run are looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

import warehouse
from warehouse.errors import NoSuchJob
from warehouse.webui import jobs
from warehouse.webui.following import NEVER_S, follow_changes
from warehouse.webui.pages import disks, nodes
from warehouse.webui.stores import OpenStore

HOUR_S = 3600.0


class ScriptedStore:
    """Tells of changes when a test has some, and counts the questions."""

    def __init__(self) -> None:
        self.news, self._received = trio.open_memory_channel[None](10)
        self.news.send_nowait(None)  # the first one comes at once
        self.subjects: Collection[str] = ()
        self.listed: dict[int, warehouse.Job] = {}
        self.free = 1 << 40
        self.asked: list[object] = []

    async def changes(self, only: Collection[str]) -> AsyncIterator[None]:
        self.subjects = only
        async for one in self._received:
            yield one

    async def jobs_and_pause(self, job_ids: Collection[int] = ()) -> tuple[list[warehouse.Job], bool]:
        self.asked.append([*job_ids])
        if not {*job_ids} <= {*self.listed}:
            raise NoSuchJob("the master was restarted")
        return [self.listed[number] for number in job_ids or self.listed], False

    async def figures(self) -> Any:
        self.asked.append("figures")
        disk = SimpleNamespace(disk_id="d", is_online=True, free=self.free, stored_bytes=5, dead_bytes=0)
        return SimpleNamespace(disks=[disk])

    def opened(self) -> OpenStore:
        return cast(OpenStore, SimpleNamespace(store=self))


def job(number: int, state: str, done_bytes: int = 0) -> warehouse.Job:
    return warehouse.Job(
        job_id=number,
        work="verify",
        volume_id=number,
        disk_name="disk-1",
        origin="operator",
        state=state,
        done_bytes=done_bytes,
        total_bytes=100,
    )


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


async def followed(
    follow: Any, store: ScriptedStore, for_s: float, *, then: Any = None
) -> list[Mapping[str, Any]]:
    """What a topic tells in that time."""
    told: list[Mapping[str, Any]] = []
    with trio.move_on_after(for_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, store.opened(), "", told.append)
            if then is not None:
                nursery.start_soon(then)
    return told


async def test_where_no_job_runs_the_store_is_asked_once(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.listed = {1: job(1, "done")}
    assert len(await followed(jobs.follow, store, HOUR_S)) == 1
    assert store.asked == [[]]
    assert store.subjects == ("jobs",)


async def test_a_job_that_runs_is_looked_at_by_its_number_until_it_ends(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.listed = {1: job(1, "done"), 2: job(2, "verifying")}

    async def run() -> None:
        for done in (10, 20, 30):
            await trio.sleep(10)
            store.listed[2] = job(2, "verifying", done)
        await trio.sleep(10)
        store.listed[2] = job(2, "done", 100)
        store.news.send_nowait(None)

    told = await followed(jobs.follow, store, HOUR_S, then=run)
    assert len(told) in (
        5,
        6,
    )  # at first, for each step, and for the end, which the look before may have seen
    assert store.asked[0] == []
    assert store.asked[1] == [2]
    assert store.asked.count([]) == 2
    assert len(store.asked) < 100


async def test_a_job_that_the_master_has_forgotten_makes_a_whole_look(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.listed = {2: job(2, "verifying")}

    async def restart() -> None:
        await trio.sleep(10)
        store.listed = {}

    await followed(jobs.follow, store, 20, then=restart)
    assert store.asked[-1] == []


async def test_disks_are_looked_at_by_the_clock_and_told_when_a_figure_shows_it(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async def write() -> None:
        await trio.sleep(60)
        store.free -= 1000  # nobody sees that among terabytes
        await trio.sleep(60)
        store.free -= 1 << 36

    assert len(await followed(disks.follow, store, 180, then=write)) == 2
    assert len(store.asked) <= 180 / disks.LOOK_S + 1


async def test_nodes_are_told_when_the_master_says_so(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async def join() -> None:
        await trio.sleep(60)
        store.news.send_nowait(None)

    assert len(await followed(nodes.follow, store, HOUR_S, then=join)) == 2
    assert store.asked == []


async def test_changes_during_a_look_are_one_change(store: ScriptedStore, autojump_clock: MockClock) -> None:
    looks = list[bool]()

    async def look(is_news: bool) -> float:
        looks.append(is_news)
        for _ in range(5 if len(looks) == 1 else 0):
            store.news.send_nowait(None)
        await trio.sleep(1)
        return NEVER_S

    with trio.move_on_after(60):
        await follow_changes(cast(warehouse.Store, store), ("jobs",), look)
    assert looks == [True, True]
