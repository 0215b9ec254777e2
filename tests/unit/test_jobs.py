"""Jobs: their order, their ends, and what is remembered of them."""

from __future__ import annotations

import pytest

from actors.jobs import ATTEMPTS_MAX, BARRED_S, CRAMPED_S, ENDED_MAX, JobBook, JobState
from errors import LinkDown, NoRoomToCompact, NoSuchJob, ReadFailed

MIB = 1024 * 1024


def job(
    job_id: int, work: str = "compact", volume_id: int | None = None, origin: str = "operator"
) -> JobState:
    return JobState(job_id, work, volume_id or job_id, "d", "disk-1", origin, created_ms=0)


def book_of(*jobs: JobState) -> JobBook:
    book = JobBook()
    for one in jobs:
        book.add(one)
    return book


def test_operators_go_before_the_policy_and_compactions_before_verifications() -> None:
    book = book_of(
        job(1, "verify", origin="policy"), job(2, origin="policy"), job(3, "verify"), job(4), job(5)
    )
    assert [one.job_id for one in book.waiting_on("d")] == [4, 5, 3, 2, 1]


def test_a_verification_yields_and_a_compaction_does_not() -> None:
    slow, verify = job(1, "verify", origin="policy"), job(2, "verify")
    compact, automatic = job(3), job(4, origin="policy")
    assert slow.yields_to(verify)
    assert slow.yields_to(automatic)
    assert verify.yields_to(automatic)
    assert not verify.yields_to(slow)
    assert not automatic.yields_to(compact)


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


def test_the_policy_leaves_alone_what_failed_was_cancelled_or_gave_nothing_back() -> None:
    failed, cancelled, vain, useful = job(1), job(2), job(3), job(4)
    useful.freed_bytes = MIB
    book = book_of(failed, cancelled, vain, useful)
    book.fail(failed, ReadFailed("no"), now=0.0)
    book.cancel(cancelled, now=0.0)
    book.finish(vain, now=0.0)
    book.finish(useful, now=0.0)
    assert book.barred("compact", now=BARRED_S - 1) == {1, 2, 3}
    assert book.barred("verify", now=0.0) == frozenset()
    assert book.barred("compact", now=BARRED_S) == frozenset()


def test_a_lack_of_room_bars_a_volume_for_less_long_than_anything_else() -> None:
    book = JobBook()
    for volume_id, error in ((1, NoRoomToCompact("full")), (2, ReadFailed("broken"))):
        failed = job(volume_id, volume_id=volume_id)
        book.add(failed)
        book.fail(failed, error, now=0.0)
    assert book.cramped(now=CRAMPED_S - 1) == frozenset()
    assert book.cramped(now=CRAMPED_S) == {1}
    assert book.barred("compact", now=CRAMPED_S) == {1, 2}
    done = job(3, volume_id=1)
    book.add(done)
    book.finish(done, now=CRAMPED_S)
    assert book.cramped(now=3 * CRAMPED_S) == frozenset()


def test_what_is_over_is_remembered_for_a_while() -> None:
    book = JobBook()
    for number in range(1, ENDED_MAX + 2):
        one = job(number)
        book.add(one)
        book.finish(one, now=0.0)
        book.close(one)
    assert len(book.listed()) == ENDED_MAX
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
