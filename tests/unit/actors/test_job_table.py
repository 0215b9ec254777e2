"""Jobs: their order, their ends, and what is remembered of them."""

from __future__ import annotations

import pytest

from warehouse.actors.control.job_state import JobState
from warehouse.actors.control.job_table import (
    ATTEMPTS_MAX,
    FINISHED_LISTED_MAX,
    FINISHED_MAX,
    JobTable,
)
from warehouse.errors import LinkDown, NoRoomToCompact, NoSuchJob, ReadFailed

MIB = 1024 * 1024


def job(
    job_id: int, work: str = "compact", volume_id: int | None = None, origin: str = "operator"
) -> JobState:
    return JobState(job_id, work, volume_id or job_id, "d", "disk-1", origin, created_ms=0)


def table_of(*jobs: JobState) -> JobTable:
    table = JobTable()
    for one in jobs:
        table.add(one)
    return table


def running(*jobs: JobState) -> JobTable:
    table = table_of(*jobs)
    for one in jobs:
        table.start(one)
    return table


def test_operators_go_before_the_policy_and_compactions_before_verifications() -> None:
    table = table_of(
        job(1, "verify", origin="policy"), job(2, origin="policy"), job(3, "verify"), job(4), job(5)
    )
    assert [one.job_id for one in table.waiting_on("d")] == [4, 5, 3, 2, 1]


def test_interruptions_are_not_counted_and_failures_are() -> None:
    one = job(1)
    table = table_of(one)
    for _ in range(3 * ATTEMPTS_MAX):
        table.start(one)
        table.interrupted(one, LinkDown("gone"), now=0.0)
    assert (one.state, one.code) == ("queued", "link_down")
    assert one.not_before <= 30.0
    goes_on = []
    for _ in range(ATTEMPTS_MAX):
        table.start(one)
        goes_on.append(table.attempt_failed(one, ReadFailed("no"), now=0.0))
    assert goes_on == [*[True] * (ATTEMPTS_MAX - 1), False]


def test_each_attempt_waits_longer_than_the_one_before() -> None:
    one = job(1)
    table = table_of(one)
    waits = []
    for _ in range(4):
        table.start(one)
        table.attempt_failed(one, ReadFailed("no"), now=100.0)
        waits.append(one.not_before - 100.0)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_the_policy_is_told_what_failed_was_cancelled_or_gave_nothing_back() -> None:
    failed, cancelled, vain, useful, cramped = job(1), job(2), job(3), job(4), job(5)
    useful.freed_bytes = MIB
    table = running(failed, cancelled, vain, useful, cramped)
    table.fail(failed, ReadFailed("no"), now=0.0, dead_bytes=7)
    table.fail(cramped, NoRoomToCompact("full"), now=0.0)
    table.cancel(cancelled, now=0.0)
    table.finish(vain, now=1.0)
    table.finish(useful, now=0.0)
    bars = table.bars("compact")
    assert {volume_id: bar.cause for volume_id, bar in bars.items()} == {
        1: "failed",
        2: "cancelled",
        3: "in_vain",
        5: "no_room",
    }
    assert (bars[1].at, bars[1].dead_bytes, bars[1].code, bars[3].at) == (0.0, 7, "read_failed", 1.0)
    assert table.bars("verify") == {}
    again = job(6, volume_id=1)
    again.freed_bytes = MIB
    table.add(again)
    table.start(again)
    table.finish(again, now=2.0)
    assert 1 not in table.bars("compact")


def test_what_is_finished_is_remembered_for_a_while() -> None:
    table = JobTable()
    for number in range(1, FINISHED_MAX + 2):
        one = job(number)
        table.add(one)
        table.start(one)
        table.finish(one, now=0.0)
        table.close(one)
    assert len(table.listed()) == FINISHED_LISTED_MAX
    assert table.job(2).is_finished, "whoever waits for one of very many jobs hears of its end"
    with pytest.raises(NoSuchJob):
        table.job(1)
    assert [one.state for one in table.listed([2, 3])] == ["done", "done"]


def test_a_volume_has_one_unfinished_job_of_a_work() -> None:
    one = job(1, volume_id=7)
    table = table_of(one)
    assert table.unfinished_of("compact", 7) is one
    assert table.unfinished_of("verify", 7) is None
    table.start(one)
    table.finish(one, now=0.0)
    table.close(one)
    assert table.unfinished_of("compact", 7) is None


def test_of_two_jobs_of_a_volume_the_one_that_runs_is_shown() -> None:
    waiting, started = job(1, volume_id=7), job(2, "verify", volume_id=7)
    table = table_of(waiting, started)
    table.start(started)
    assert table.under_way()[7].job_id == 2
