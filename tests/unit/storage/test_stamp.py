"""Stamps only ever grow, whatever the wall clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import ClockSpent, StampRefused
from warehouse.storage.format.stamp import (
    COUNTER_BITS,
    STAMP_END,
    STAMP_SOUND_MAX,
    StampClock,
    admit_stamp,
    wall_ms_of,
)


def test_a_stamp_carries_the_wall_time() -> None:
    assert wall_ms_of(StampClock().tick(1_750_000_000_000)) == 1_750_000_000_000


def test_stamps_of_one_millisecond_count_up() -> None:
    clock = StampClock()
    assert [clock.tick(5) for _ in range(3)] == [5 << COUNTER_BITS, (5 << 16) + 1, (5 << 16) + 2]


def test_more_stamps_than_a_counter_holds_carry_into_the_time() -> None:
    clock = StampClock(last=(5 << COUNTER_BITS) + 0xFFFF)
    assert clock.tick(5) == 6 << COUNTER_BITS


def test_a_wall_clock_that_steps_back_does_not_take_the_stamps_along() -> None:
    clock = StampClock()
    first = clock.tick(1_000)
    assert clock.tick(10) == first + 1


def test_an_observed_stamp_is_never_handed_out_again() -> None:
    clock = StampClock()
    clock.observe(77 << COUNTER_BITS)
    assert clock.tick(1) == (77 << COUNTER_BITS) + 1
    clock.observe(3)
    assert clock.last == (77 << COUNTER_BITS) + 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 44)), max_size=50))
def test_every_stamp_exceeds_all_before_it(events: list[tuple[bool, int]]) -> None:
    clock, greatest = StampClock(), 0
    for is_tick, number in events:
        if is_tick:
            stamp = clock.tick(number)
            assert stamp > greatest
            greatest = stamp
        else:
            clock.observe(number << COUNTER_BITS)
            greatest = max(greatest, number << COUNTER_BITS)


NOW_MS = 1_750_000_000_000
DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize("stamp", [-1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, NOW_MS + DAY_MS + 1 << 16])
def test_a_stamp_that_no_sound_clock_shows_is_refused_and_the_clock_stays(stamp):
    clock = StampClock()
    clock.found(NOW_MS << 16)
    with pytest.raises(StampRefused):
        clock.admit(stamp, NOW_MS)
    with pytest.raises(StampRefused):
        admit_stamp(stamp, wall_ms=NOW_MS)
    assert clock.last == NOW_MS << 16


def test_a_stamp_up_to_a_day_ahead_is_believed():
    clock = StampClock()
    clock.admit(NOW_MS + DAY_MS << 16, NOW_MS)
    assert clock.tick(NOW_MS) == (NOW_MS + DAY_MS << 16) + 1


def test_stamps_a_day_ahead_each_do_not_lead_the_clock_away():
    clock = StampClock()
    with pytest.raises(StampRefused):
        for days in range(1, 1000):
            clock.admit(NOW_MS + days * DAY_MS << 16, NOW_MS)
    assert wall_ms_of(clock.last) == NOW_MS + DAY_MS


def test_a_store_whose_machine_starts_in_the_wrong_year_believes_its_own_past():
    clock = StampClock()
    clock.found(NOW_MS << 16)
    clock.admit((NOW_MS << 16) + 5, 0)  # the wall clock stands at 1970
    assert clock.last == (NOW_MS << 16) + 5


def test_a_store_whose_clock_was_a_week_ahead_for_a_moment_goes_on_when_it_is_set_back():
    master, disk = StampClock(), StampClock()
    for clock in (master, disk):
        clock.found(NOW_MS << 16)
    master.admit(disk.tick(NOW_MS + 7 * DAY_MS), NOW_MS + 7 * DAY_MS)
    for _ in range(3):
        master.admit(disk.tick(NOW_MS), NOW_MS)
        disk.admit(master.tick(NOW_MS), NOW_MS)
    assert wall_ms_of(master.last) == NOW_MS + 7 * DAY_MS


def test_a_clock_at_its_end_says_so_and_hands_out_nothing():
    clock = StampClock(last=STAMP_END - 2)
    assert clock.tick(NOW_MS) == STAMP_END - 1
    for _ in range(2):
        with pytest.raises(ClockSpent, match="rebuild"):
            clock.tick(NOW_MS)
    assert clock.last == STAMP_END - 1


def test_a_clock_is_not_founded_on_half_of_all_stamps():
    clock = StampClock()
    with pytest.raises(StampRefused):
        clock.found(STAMP_SOUND_MAX + 1)
    assert clock.last == 0


def test_a_clock_that_is_corrected_stamps_by_the_corrected_time():
    clock = StampClock()
    clock.correction_ms = -7 * DAY_MS
    assert wall_ms_of(clock.tick(NOW_MS)) == NOW_MS - 7 * DAY_MS
