"""History series: falling resolution keeps sums, stays bounded, and no clock breaks it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.actors.control.history_series import (
    DOUBT_COUNT,
    TIERS,
    Row,
    Sample,
    Series,
    decode_sample,
    encode_sample,
    joined,
    point_of,
    slot_of,
)

START_MS = 1_790_100_000_000  # a quarter of an hour begins
STEP = 10_000
HOUR, DAY = 3_600_000, 86_400_000


def sample(at_ms: int, *, gets: int = 1, objects: int = 5, health: int = 0) -> Sample:
    return Sample(
        at_ms=at_ms,
        span_ms=STEP,
        gets=gets,
        object_count=objects,
        health=health,
        get_latencies={20: gets} if gets else {},
    )


def filled(span_ms: int, *, start_ms: int = START_MS) -> Series:
    series = Series()
    for at_ms in range(start_ms + STEP, start_ms + span_ms + 1, STEP):
        assert series.add(sample(at_ms))
    return series


@pytest.fixture(scope="module")
def month() -> Series:
    series = Series()
    for at_ms in range(START_MS + 900_000, START_MS + 29 * DAY + 1, 900_000):
        series.add(Sample(at_ms=at_ms, span_ms=900_000, gets=90))
    for at_ms in range(START_MS + 29 * DAY + STEP, START_MS + 31 * DAY + 1, STEP):
        series.add(sample(at_ms))
    return series


def test_an_hour_is_there_in_steps_of_ten_seconds(month: Series) -> None:
    now = START_MS + 31 * DAY
    points = month.select(now - HOUR + 1, 2000)
    assert [point.span_ms for point in points] == [STEP] * 360


def test_a_day_is_there_in_minutes_and_a_month_in_quarters_of_an_hour(month: Series) -> None:
    now = START_MS + 31 * DAY
    assert [point.span_ms for point in month.select(now - DAY + 1, 2000)] == [60_000] * 1440
    whole = month.select(now - 30 * DAY + 1, 10_000)
    assert [point.span_ms for point in whole] == [900_000] * 2880


def test_the_memory_of_a_month_is_bounded(month: Series) -> None:
    for step_ms, count in TIERS:
        assert len([row for row in month.rows() if row[0] == step_ms]) <= count * 9 // 8


@pytest.mark.parametrize("points_max", [1, 2, 7, 100, 500, 2000])
@pytest.mark.parametrize("span_ms", [HOUR, 6 * HOUR, DAY, 30 * DAY])
def test_as_many_points_as_wanted_and_their_sum_is_the_same(
    month: Series, points_max: int, span_ms: int
) -> None:
    since_ms = START_MS + 31 * DAY - span_ms + 1
    points = month.select(since_ms, points_max)
    assert 1 <= len(points) <= points_max
    if points_max > 1:
        assert sum(point.gets for point in points) == span_ms // STEP
        assert len(points) > min(points_max, 360) // 4
    assert [point.at_ms for point in points] == sorted(point.at_ms for point in points)


def test_a_young_store_shows_what_it_has_as_fine_as_it_can() -> None:
    series = filled(20 * 60_000)
    assert len(series.select(0, 500)) == 120


def test_a_joined_point_has_the_last_state_the_worst_health_and_the_mean_rate() -> None:
    both = joined(sample(10, gets=10, objects=1, health=2), sample(20, gets=30, objects=9))
    point = point_of(both)
    assert (point.object_count, point.health) == (9, "down")
    assert point.rates.gets_per_s == 2.0
    assert (point.at_ms, point.span_s) == (20, 20.0)


def test_a_gap_stays_a_gap() -> None:
    series = Series()
    series.add(sample(START_MS + STEP))
    series.add(sample(START_MS + 2 * HOUR))
    assert [point.span_ms for point in series.select(0, 500)] == [STEP, STEP]


# --- clocks that jump -----------------------------------------------------------------------------


def test_a_clock_that_jumps_ahead_takes_nothing_away() -> None:
    series = filled(HOUR // 2)
    series.add(sample(START_MS + 5000 * DAY))
    assert len(series.select(0, 2000)) == 181


def test_a_clock_that_jumps_back_for_a_while_takes_nothing_away() -> None:
    series = filled(HOUR // 2)
    before = series.rows()
    for number in range(DOUBT_COUNT):
        assert not series.add(sample(1000 + number * STEP))
    assert series.rows() == before
    assert series.doubted_count == DOUBT_COUNT
    assert series.add(sample(START_MS + HOUR))
    assert len(series.rows()) == len(before) + 3


def test_a_clock_that_stays_back_is_believed_and_what_is_later_goes() -> None:
    series = filled(HOUR // 2)
    series.take_changes()
    back = START_MS + HOUR // 4
    for number in range(DOUBT_COUNT + 1):
        series.add(sample(back + number))
    points = series.select(0, 2000)
    assert points[-1].at_ms == back + DOUBT_COUNT
    changes = series.take_changes()
    assert changes.is_all
    assert changes.rows == series.rows()


TIMES = st.lists(
    st.one_of(
        st.integers(1, 30).map(lambda steps: steps * STEP),
        st.integers(-3 * STEP, 3 * STEP),
        st.integers(-40 * DAY, 400 * DAY),
    ),
    max_size=150,
)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.integers(0, START_MS + 500 * DAY), st.integers(1, 2000))
def test_whatever_the_clock_does_the_series_is_in_order_and_saved_rows_give_it_back(
    jumps: Sequence[int], since_ms: int, points_max: int
) -> None:
    series, now = Series(), START_MS
    kept: dict[tuple[int, int], Sample] = {}
    for number, jump in enumerate(jumps):
        now = max(0, now + jump)
        series.add(sample(now))
        if number % 7 == 0:
            apply(kept, series)
    apply(kept, series)
    for step_ms, _ in TIERS:
        slots = [slot for step, slot, _ in series.rows() if step == step_ms]
        assert slots == sorted(set(slots))
    assert all(slot == slot_of(one.at_ms, step) for step, slot, one in series.rows())
    points = series.select(since_ms, points_max)
    assert len(points) <= points_max
    assert all(point.at_ms >= since_ms for point in points)
    again = Series()
    again.restore([(step, slot, one) for (step, slot), one in kept.items()])
    assert again.rows() == series.rows()


def apply(kept: dict[tuple[int, int], Sample], series: Series) -> None:
    """What a file does with changes."""
    changes = series.take_changes()
    if changes.is_all:
        kept.clear()
    kept |= {(step, slot): one for step, slot, one in changes.rows}
    for name in [name for name in kept if name[1] < changes.first_slots[name[0]]]:
        del kept[name]


# --- for the file ---------------------------------------------------------------------------------


def test_only_what_is_new_is_saved() -> None:
    series = filled(HOUR)
    series.take_changes()
    assert series.take_changes().rows == []
    series.add(sample(START_MS + HOUR + STEP))
    assert [row[0] for row in series.take_changes().rows] == [step for step, _ in TIERS]


def test_what_could_not_be_saved_is_saved_later() -> None:
    series = filled(HOUR)
    first = series.take_changes()
    series.give_back(first)
    assert series.take_changes().rows == first.rows


def test_a_restored_series_goes_on_in_the_slot_where_it_was_cut_off() -> None:
    series = filled(HOUR + 30_000)
    again = Series()
    again.restore(series.rows())
    again.add(sample(START_MS + HOUR + 40_000))
    last: Row = [row for row in again.rows() if row[0] == 60_000][-1]
    assert last[2].gets == 4


def test_a_sample_survives_being_written() -> None:
    one = sample(START_MS, gets=7)
    assert decode_sample(encode_sample(one)) == one


@pytest.mark.parametrize(
    "bad",
    [
        sample(-1),
        sample(START_MS, health=3),
        sample(START_MS, gets=-1),
        Sample(at_ms=1, span_ms=1, get_latencies={96: 1}),
        Sample(at_ms=1, span_ms=1, put_latencies={1: -1}),
    ],
)
def test_a_sample_out_of_bounds_is_refused(bad: Sample) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        decode_sample(encode_sample(bad))
