"""When an answer is late, and what may be spent on it."""

from __future__ import annotations

import pytest

from warehouse.client.reading.hedging import EXTRA_MAX, LATE_MIN_S, LEARN_COUNT, LOOK_EVERY, WINDOW, ReadTimes


def noted(*answered_s: float) -> ReadTimes:
    times = ReadTimes()
    for one_s in answered_s:
        times.note(one_s)
    return times


def test_nothing_is_late_before_enough_answers_have_come() -> None:
    assert noted(*[1.0] * (LEARN_COUNT - 1)).late_s is None
    assert noted(*[1.0] * LEARN_COUNT).late_s == 1.0


def test_late_is_what_95_of_100_answers_are_not() -> None:
    assert noted(*[number / 100 for number in range(1, 101)]).late_s == pytest.approx(0.96)


def test_what_everybody_waits_for_is_not_late() -> None:
    assert noted(*[0.0001] * LEARN_COUNT).late_s == LATE_MIN_S


def test_only_recent_answers_count() -> None:
    times = noted(*[9.0] * WINDOW, *[0.1] * WINDOW)
    assert times.late_s == 0.1


def test_a_store_that_becomes_slow_is_noticed_within_a_few_answers() -> None:
    times = noted(*[0.01] * LEARN_COUNT)
    for _ in range(LOOK_EVERY):
        times.note(1.0)
    assert times.late_s == 1.0


def test_at_most_one_request_in_twenty_is_asked_twice() -> None:
    times, spent = ReadTimes(), 0
    for _ in range(2000):
        times.note(1.0)
        spent += times.spend()
    assert 95 <= spent <= 100


def test_what_was_not_spent_is_not_kept_forever() -> None:
    times = noted(*[0.1] * 100_000)
    spent = sum(times.spend() for _ in range(100))
    assert spent == EXTRA_MAX
