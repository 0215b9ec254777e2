"""Stamps only ever grow, whatever the wall clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.stamp import COUNTER_BITS, StampClock, wall_ms_of


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
