"""Long work of the console: how it ends, what cancels it, and how much there may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from warehouse.errors import NoSuchBucket, Overloaded
from warehouse.webui.work import ENDED_OF_KEY_MAX, FAILURES_MAX, RUNNING_OF_KEY_MAX, Work, WorkOfKey, Works


@pytest.fixture
async def works(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Works]:
    async with trio.open_nursery() as nursery:
        yield Works(nursery)
        nursery.cancel_scope.cancel()


async def sleep(work: Work) -> str:
    await trio.sleep_forever()


async def one(work: Work) -> str:
    work.did(1, 10)
    return "Did 1 object"


async def test_work_ends_in_its_sentence(works: Works) -> None:
    work = works.start(WorkOfKey(), trio.Event(), "Doing", one)
    await work.ended.wait()
    assert (work.state, work.message, work.done_count, work.done_bytes) == ("done", "Did 1 object", 1, 10)


async def test_work_that_is_refused_says_why(works: Works) -> None:
    async def refused(work: Work) -> str:
        raise NoSuchBucket("there is no such bucket")

    work = works.start(WorkOfKey(), trio.Event(), "Doing", refused)
    await work.ended.wait()
    assert (work.state, work.message) == ("failed", "there is no such bucket")
    assert isinstance(work.error, NoSuchBucket)


async def test_a_mistake_of_the_console_ends_the_work_alone(
    works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(work: Work) -> str:
        raise ZeroDivisionError

    of_key = WorkOfKey()
    work = works.start(of_key, trio.Event(), "Doing", broken)
    await work.ended.wait()
    assert work.state == "failed"
    assert "work broke" in caplog.text
    again = works.start(of_key, trio.Event(), "Doing", one)
    await again.ended.wait()
    assert again.state == "done"


async def test_some_failures_are_told_and_all_are_counted(works: Works) -> None:
    async def failing(work: Work) -> str:
        for number in range(FAILURES_MAX + 3):
            work.failed(str(number), NoSuchBucket("gone"))
        return "Did nothing"

    work = works.start(WorkOfKey(), trio.Event(), "Doing", failing)
    await work.ended.wait()
    assert work.state == "failed"
    assert work.failures == [f"{number}: gone" for number in range(FAILURES_MAX)]
    assert work.failure_count == FAILURES_MAX + 3


async def test_work_is_cancelled_and_then_forgotten(works: Works) -> None:
    of_key = WorkOfKey()
    work = works.start(of_key, trio.Event(), "Doing", sleep)
    of_key.stop(work.number)
    await work.ended.wait()
    assert (work.state, of_key.works) == ("cancelled", [work])
    of_key.stop(work.number)
    assert of_key.works == []


async def test_work_ends_with_the_connection_of_its_key(works: Works) -> None:
    ended = trio.Event()
    work = works.start(WorkOfKey(), ended, "Doing", sleep)
    await trio.testing.wait_all_tasks_blocked()
    assert work.is_running
    ended.set()
    await work.ended.wait()
    assert work.state == "cancelled"


async def test_one_key_has_few_tasks_at_a_time(works: Works) -> None:
    of_key = WorkOfKey()
    for _ in range(RUNNING_OF_KEY_MAX):
        works.start(of_key, trio.Event(), "Doing", sleep)
    with pytest.raises(Overloaded):
        works.start(of_key, trio.Event(), "Doing", sleep)
    other = works.start(WorkOfKey(), trio.Event(), "Doing", one)
    await other.ended.wait()
    of_key.stop(of_key.works[0].number)
    await of_key.works[0].ended.wait()
    works.start(of_key, trio.Event(), "Doing", sleep)


async def test_the_latest_ends_stay_and_older_ones_leave(works: Works) -> None:
    of_key = WorkOfKey()
    for _ in range(ENDED_OF_KEY_MAX + 4):
        await works.start(of_key, trio.Event(), "Doing", one).ended.wait()
    assert len(of_key.works) == ENDED_OF_KEY_MAX
    assert of_key.works[-1].number == ENDED_OF_KEY_MAX + 4


async def test_whoever_follows_hears_of_many_changes_at_once(works: Works) -> None:
    of_key = WorkOfKey()
    heard: list[int] = []

    async def follow() -> None:
        async for version in of_key.versions():
            heard.append(version)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(1000):
            of_key.change()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert heard[-1] == 1000
    assert len(heard) <= 3
