"""Jobs: their order, their ends, and what is remembered of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.actors.control.job_table import (
    ATTEMPTS_MAX,
    ENDED_LISTED_MAX,
    ENDED_MAX,
    PASSED_OVER_MAX,
    PAUSED,
    STALLED_S,
    JobState,
    JobTable,
)
from warehouse.errors import LinkDown, NoRoomToCompact, NoSuchJob, ReadFailed

MIB = 1024 * 1024


def job(
    job_id: int, work: str = "compact", volume_id: int | None = None, origin: str = "operator"
) -> JobState:
    return JobState(job_id, work, volume_id or job_id, "d", "disk-1", origin, created_ms=0)


def book_of(*jobs: JobState) -> JobTable:
    book = JobTable()
    for one in jobs:
        book.add(one)
    return book


def test_operators_go_before_the_policy_and_compactions_before_verifications() -> None:
    book = book_of(
        job(1, "verify", origin="policy"), job(2, origin="policy"), job(3, "verify"), job(4), job(5)
    )
    assert [one.job_id for one in book.waiting_on("d")] == [4, 5, 3, 2, 1]


def test_a_verification_yields_to_what_goes_first_and_to_nothing_else() -> None:
    slow, verify = job(1, "verify", origin="policy"), job(2, "verify")
    compact, automatic = job(3), job(4, origin="policy")
    assert slow.yields_to(verify)
    assert slow.yields_to(automatic)
    assert verify.yields_to(compact)
    assert not verify.yields_to(automatic), "what an operator asked for would start again at once"
    assert not verify.yields_to(slow)
    assert not verify.yields_to(job(5, "verify"))
    assert not automatic.yields_to(compact)


WORKS, ORIGINS = st.sampled_from(["compact", "verify"]), st.sampled_from(["operator", "policy"])


@given(st.lists(st.tuples(WORKS, ORIGINS, st.integers(0, 2 * PASSED_OVER_MAX)), min_size=2, max_size=2))
def test_no_job_yields_to_one_that_would_start_after_it(kinds: list[tuple[str, str, int]]) -> None:
    one, other = (job(number, work, origin=origin) for number, (work, origin, _) in enumerate(kinds, 1))
    one.passed_over_count, other.passed_over_count = kinds[0][2], kinds[1][2]
    for running, waiting in ((one, other), (other, one)):
        if running.yields_to(waiting):
            assert waiting.rank < running.rank
            assert not waiting.yields_to(running)


def test_interruptions_are_not_counted_and_failures_are() -> None:
    one = job(1)
    book = book_of(one)
    for _ in range(3 * ATTEMPTS_MAX):
        book.interrupted(one, LinkDown("gone"), now=0.0)
    assert (one.state, one.code) == ("queued", "link_down")
    assert one.not_before <= 30.0
    assert [book.attempt_failed(one, ReadFailed("no"), now=0.0) for _ in range(ATTEMPTS_MAX)] == [
        *[True] * (ATTEMPTS_MAX - 1),
        False,
    ]


def test_each_attempt_waits_longer_than_the_one_before() -> None:
    one = job(1)
    book = book_of(one)
    waits = []
    for _ in range(4):
        book.attempt_failed(one, ReadFailed("no"), now=100.0)
        waits.append(one.not_before - 100.0)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_the_policy_is_told_what_failed_was_cancelled_or_gave_nothing_back() -> None:
    failed, cancelled, vain, useful, cramped = job(1), job(2), job(3), job(4), job(5)
    useful.freed_bytes = MIB
    book = book_of(failed, cancelled, vain, useful, cramped)
    book.fail(failed, ReadFailed("no"), now=0.0, dead_bytes=7)
    book.fail(cramped, NoRoomToCompact("full"), now=0.0)
    book.cancel(cancelled, now=0.0)
    book.finish(vain, now=1.0)
    book.finish(useful, now=0.0)
    bars = book.bars("compact")
    assert {volume_id: bar.cause for volume_id, bar in bars.items()} == {
        1: "failed",
        2: "cancelled",
        3: "in_vain",
        5: "no_room",
    }
    assert (bars[1].at, bars[1].dead_bytes, bars[1].code, bars[3].at) == (0.0, 7, "read_failed", 1.0)
    assert book.bars("verify") == {}
    again = job(6, volume_id=1)
    again.freed_bytes = MIB
    book.add(again)
    book.finish(again, now=2.0)
    assert 1 not in book.bars("compact")


def test_a_job_says_since_when_it_waits_for_the_same() -> None:
    one = job(1)
    one.wait_because(LinkDown("gone"), now_ms=5)
    one.wait_because(LinkDown("gone, and came back, and is gone"), now_ms=9)
    assert (one.wait_since_ms, one.code) == (5, "link_down")
    one.wait_because(None, "jobs are paused", reason=PAUSED, now_ms=11)
    assert one.wait_since_ms == 11
    one.begin("copying", now_ms=12)
    assert one.seen().wait_since_ms == 0


def test_a_job_that_comes_no_further_is_stalled_and_one_that_only_waits_its_turn_is_not() -> None:
    one = job(1)
    assert not one.look_for_progress(now=0.0, is_excused=False)
    one.begin("copying", now_ms=1)
    one.progress(10, 100, now=1.0)
    assert not one.look_for_progress(now=STALLED_S, is_excused=False), "it has come further"
    one.begin("copying", now_ms=2)  # from the start, as often as it likes: no further than before
    assert not one.look_for_progress(now=2 * STALLED_S - 1, is_excused=False)
    assert one.look_for_progress(now=2 * STALLED_S, is_excused=False)
    assert one.seen().is_stalled
    assert not one.look_for_progress(now=3 * STALLED_S, is_excused=False), "it was told once"
    one.progress(11, 100, now=1.0)
    assert not one.look_for_progress(now=3 * STALLED_S, is_excused=False)
    assert not one.is_stalled
    assert not one.look_for_progress(now=9 * STALLED_S, is_excused=True)


def test_what_is_over_is_remembered_for_a_while() -> None:
    book = JobTable()
    for number in range(1, ENDED_MAX + 2):
        one = job(number)
        book.add(one)
        book.finish(one, now=0.0)
        book.close(one)
    assert len(book.listed()) == ENDED_LISTED_MAX
    assert book.job(2).is_finished, "whoever waits for one of very many jobs hears of its end"
    with pytest.raises(NoSuchJob):
        book.job(1)
    assert [one.state for one in book.listed([2, 3])] == ["done", "done"]


def test_a_volume_has_one_unfinished_job_of_a_work() -> None:
    one = job(1, volume_id=7)
    book = book_of(one)
    assert book.unfinished_of("compact", 7) is one
    assert book.unfinished_of("verify", 7) is None
    book.finish(one, now=0.0)
    book.close(one)
    assert book.unfinished_of("compact", 7) is None


def test_of_two_jobs_of_a_volume_the_one_that_runs_is_shown() -> None:
    waiting, running = job(1, volume_id=7), job(2, "verify", volume_id=7)
    running.begin("verifying", now_ms=1)
    assert book_of(waiting, running).under_way()[7].job_id == 2


def test_the_speed_follows_what_was_done_lately() -> None:
    one = job(1)
    one.begin("copying", now_ms=1)
    for second in range(60):
        one.progress(second * 10 * MIB, 1000 * MIB, now=float(second))
    assert one.bytes_per_s == pytest.approx(10 * MIB)
    for second in range(60):
        one.progress(600 * MIB + second * MIB, 1000 * MIB, now=60.0 + second)
    assert one.bytes_per_s == pytest.approx(MIB, rel=0.01)
    one.begin("copying", now_ms=2)
    assert (one.done_bytes, one.bytes_per_s) == (0, 0.0)
