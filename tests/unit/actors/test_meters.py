"""Meters: rates are what happened in the last seconds, whatever restarts, and however often disks report."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.actors.control.meters import WINDOW_S, Meters
from warehouse.transport.messages import (
    DeleteObjects,
    DiskCounters,
    ListObjects,
    LocateObjects,
    Rates,
    StoreFigures,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meters(clock: Clock) -> Meters:
    return Meters(clock)


def gets(count: int) -> DiskCounters:
    return DiskCounters(gets=count, bytes_out=10 * count, get_latencies=[0, 0, count])


def test_the_first_report_of_a_disk_is_no_news(meters: Meters) -> None:
    meters.heard("a", gets(1_000_000), 1)
    assert meters.window().rates(WINDOW_S) == Rates()
    assert meters.take().gets == 0


def test_a_rate_is_what_came_in_the_window(meters: Meters, clock: Clock) -> None:
    meters.heard("a", gets(100), 1)
    clock.now += 5
    meters.heard("a", gets(150), 1)
    rates = meters.window().rates(WINDOW_S)
    assert (rates.gets_per_s, rates.bytes_out_per_s) == (5.0, 50.0)
    assert rates.get_p50_s is not None
    assert rates.put_p50_s is None
    assert meters.disk("a").gets == 50
    assert meters.disk("b").gets == 0


def test_rates_fall_to_nothing_when_a_disk_says_nothing_more(meters: Meters, clock: Clock) -> None:
    meters.heard("a", gets(100), 1)
    clock.now += 1
    meters.heard("a", gets(150), 1)
    clock.now += WINDOW_S - 0.1
    assert meters.window().gets == 50
    clock.now += 0.2
    assert meters.window().rates(WINDOW_S) == Rates()


def test_a_disk_that_was_silent_for_long_starts_from_what_it_had(meters: Meters, clock: Clock) -> None:
    meters.heard("a", gets(100), 1)
    clock.now += 10_000
    meters.heard("a", gets(101), 1)
    assert meters.window().gets == 1


def test_a_restarted_actor_counts_from_the_beginning(meters: Meters, clock: Clock) -> None:
    meters.heard("a", gets(100), 1)
    clock.now += 1
    meters.heard("a", gets(7), 2)
    assert meters.window().gets == meters.take().gets == 7
    clock.now += 1
    meters.heard("a", gets(200), 3)  # has done more than the run before it
    assert meters.window().gets == meters.take().gets == 200


def test_counters_that_go_back_are_those_of_a_new_run(meters: Meters, clock: Clock) -> None:
    meters.heard("a", gets(100), 1)
    clock.now += 1
    meters.heard("a", gets(30), 1)
    assert meters.window().gets == 30


def test_the_master_counts_deletes_by_object_and_looks_but_no_gets(meters: Meters, clock: Clock) -> None:
    meters.note(DeleteObjects(bucket="b", keys=["1", "2", "3"]))
    meters.note(ListObjects(bucket="b"))
    meters.note(LocateObjects(bucket="b", keys=["1"]))  # its get is counted by a disk
    meters.note(StoreFigures())  # who looks at the rates is none of them
    window = meters.window()
    assert (window.deletes, window.other, window.gets) == (3, 1, 0)
    clock.now += WINDOW_S + 1
    assert meters.window().rates(WINDOW_S) == Rates()


def test_a_removed_disk_is_forgotten(meters: Meters, clock: Clock) -> None:
    meters.heard("a", gets(100), 1)
    clock.now += 1
    meters.heard("a", gets(150), 1)
    meters.keep({"b"})
    assert meters.window().gets == 0


def test_a_disk_that_reports_all_the_time_takes_no_more_memory(meters: Meters, clock: Clock) -> None:
    for number in range(10_000):
        clock.now += 0.01
        meters.heard("a", gets(number), 1)
    assert len(meters._disks["a"]._reports) < 40


STEPS = st.lists(st.tuples(st.floats(0.01, 4.0), st.integers(0, 50), st.booleans()), max_size=60)


@given(STEPS)
def test_nothing_is_counted_twice_and_nothing_is_lost(steps: Sequence[tuple[float, int, bool]]) -> None:
    clock = Clock()
    meters = Meters(clock)
    meters.heard("a", DiskCounters(), 1)
    run, counted, total, taken = 1, 0, 0, 0
    done: list[tuple[float, int]] = []
    for pause_s, new, is_restarted in steps:
        clock.now += pause_s
        if is_restarted:
            run, counted = run + 1, 0
        counted, total = counted + new, total + new
        meters.heard("a", gets(counted), run)
        done.append((clock.now, new))
        if new % 3 == 0:
            taken += meters.take().gets
        window = meters.window().gets
        assert 0 <= window <= total
        assert sum(new for at, new in done if at > clock.now - WINDOW_S) >= window or is_restarted
    assert taken + meters.take().gets == total
