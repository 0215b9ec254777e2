"""Events: the ring, its numbers, and who asks for what came after one."""

from __future__ import annotations

import trio
import trio.testing

from warehouse.actors.control.events import EventLog


def numbers(log: EventLog, after: int, limit: int = 1000) -> list[int]:
    return [entry.event.sequence for entry in log.after(after, limit)]


def log_of(count: int, *, remembered_max: int = 1000) -> EventLog:
    log = EventLog(remembered_max=remembered_max)
    for number in range(count):
        log.record("uploads_expired", count=number, cause=None)
    return log


def test_whoever_asks_gets_what_came_after_the_last_number_seen() -> None:
    log = log_of(5)
    assert numbers(log, 0) == [1, 2, 3, 4, 5]
    assert numbers(log, 3) == [4, 5]
    assert numbers(log, 5) == []
    assert numbers(log, 0, limit=2) == [1, 2]
    assert log.after(4, 1)[0].event.fields == {"count": 4}


def test_what_is_too_long_ago_is_left_out() -> None:
    log = log_of(25, remembered_max=10)
    assert numbers(log, 0) == list(range(16, 26))
    assert numbers(log, 20) == list(range(21, 26))


def test_a_number_of_an_earlier_master_gets_everything_of_this_one() -> None:
    assert numbers(log_of(3), 500) == [1, 2, 3]


async def test_a_wait_ends_with_the_event_that_comes() -> None:
    log = log_of(2)
    found: list[int] = []

    async def follow() -> None:
        found.extend(entry.event.sequence for entry in await log.wait_after(2, 10, 60.0))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            log.record("jobs_paused")
    assert found == [3]


async def test_a_wait_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    log = log_of(2)
    began = trio.current_time()
    assert await log.wait_after(2, 10, 3600.0) == []
    assert trio.current_time() - began == 60.0
