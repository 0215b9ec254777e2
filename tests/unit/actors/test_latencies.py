"""Latencies: every duration falls into the class whose bounds hold it, and percentiles stay within them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse.actors.latencies import (
    CLASSES,
    Latencies,
    bounds_of,
    class_of,
    difference,
    percentile,
)

DURATIONS = st.floats(0, 60, allow_nan=False)


@given(DURATIONS)
def test_a_duration_is_within_the_bounds_of_its_class(seconds: float) -> None:
    least, most = bounds_of(class_of(seconds))
    assert least <= seconds < most + 1e-6  # whole microseconds are classified


def test_the_classes_leave_no_gap_and_each_is_at_most_a_quarter_wide() -> None:
    for number in range(1, CLASSES):
        assert bounds_of(number)[0] == bounds_of(number - 1)[1]
        least, most = bounds_of(number)
        assert most <= 1.25 * least + 1e-9


def test_what_takes_longer_than_a_minute_is_in_the_last_class() -> None:
    assert class_of(bounds_of(CLASSES - 1)[0]) == class_of(1e9) == CLASSES - 1
    assert class_of(0.0) == class_of(-1.0) == 0


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.99, 1.0]))
def test_a_percentile_is_as_near_as_a_class_is_wide(durations: list[float], share: float) -> None:
    latencies = Latencies()
    for seconds in durations:
        latencies.add(seconds)
    found = percentile(enumerate(latencies.to_send()), share)
    exact = sorted(durations)[max(0, -(-int(share * 1000) * len(durations) // 1000) - 1)]
    least, most = bounds_of(class_of(exact))
    assert found is not None
    assert least <= found <= most


def test_nothing_has_no_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([(3, 0)], 0.5) is None


@given(st.lists(DURATIONS, max_size=50), st.lists(DURATIONS, max_size=50))
def test_the_difference_of_two_readings_is_what_came_between_them(
    first: list[float], second: list[float]
) -> None:
    both, later = Latencies(), Latencies()
    for seconds in first:
        both.add(seconds)
    earlier = both.to_send()
    for seconds in second:
        both.add(seconds)
        later.add(seconds)
    expected = {number: count for number, count in enumerate(later.counts) if count}
    assert difference(both.to_send(), earlier) == expected
