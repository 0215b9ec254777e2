from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from warehouse.cli.measuring.latencies import BenchResult, Latencies, shares, together
from warehouse.cli.measuring.report import (
    Measured,
    fitting_table,
    format_latency,
    format_rate,
    histogram,
    json_fields,
    remarks,
    results_table,
    smooth_bar,
)

latency_lists = st.lists(st.floats(2e-6, 400.0), min_size=1, max_size=200)


def latencies_of(values: list[float]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    return latencies


@given(values=latency_lists, percent=st.floats(0.1, 100.0))
def test_a_percentile_is_within_a_hundredth_of_the_exact_one(values: list[float], percent: float) -> None:
    exact = sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
    assert latencies_of(values).percentile(percent) == pytest.approx(exact, rel=0.0101)


@given(values=latency_lists)
def test_no_percentile_exceeds_the_greatest_latency(values: list[float]) -> None:
    latencies = latencies_of(values)
    assert latencies.percentile(100) <= latencies.max_s == max(values)


@given(first=latency_lists, second=latency_lists)
def test_merged_latencies_are_those_of_one_measurement(first: list[float], second: list[float]) -> None:
    merged = latencies_of(first)
    merged.merge(latencies_of(second))
    whole = latencies_of(first + second)
    assert (merged.counts, merged.max_s, merged.count) == (
        whole.counts,
        whole.max_s,
        len(first) + len(second),
    )
    assert merged.sum_s == pytest.approx(sum(first) + sum(second))


@given(values=latency_lists)
def test_every_request_is_in_one_bar_of_the_histogram(values: list[float]) -> None:
    bars = latencies_of(values).histogram()
    assert sum(count for _, count in bars) == len(values)
    assert bars[0][1] > 0
    assert bars[-1][1] > 0


def test_bars_without_requests_are_kept_between_others() -> None:
    bars = latencies_of([0.0015, 0.0016, 0.03]).histogram()
    assert [(round(edge_s, 9), count) for edge_s, count in bars] == [
        (0.001, 2),
        (0.002, 0),
        (0.005, 0),
        (0.01, 0),
        (0.02, 1),
    ]
    assert Latencies().histogram() == []


def test_without_requests_every_figure_is_zero() -> None:
    result = BenchResult()
    assert (result.rate, result.byte_rate, result.latencies.percentile(99)) == (0.0, 0.0, 0.0)


def test_processes_that_measure_together_are_added_up() -> None:
    parts = [
        BenchResult(latencies=latencies_of([0.1]), elapsed_s=1.0, byte_count=10, cpu_share_max=0.2),
        BenchResult(
            latencies=latencies_of([0.2, 0.3]),
            elapsed_s=2.0,
            byte_count=30,
            failures={"cluster_full": 2},
            cpu_share_max=0.9,
        ),
    ]
    whole = together(parts)
    assert (whole.rate, whole.byte_rate, whole.cpu_share_max) == (1.5, 20.0, 0.9)
    assert (whole.failures, whole.failed_count) == ({"cluster_full": 2}, 2)
    assert parts[0].latencies.count == 1, "the parts stay as they were"


@given(whole=st.integers(0, 1000), parts=st.integers(1, 64))
def test_shares_are_as_even_as_they_can_be(whole: int, parts: int) -> None:
    found = shares(whole, parts)
    assert (sum(found), len(found)) == (whole, parts)
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize(
    ("latency_s", "shown"),
    [
        (0.0000123, "12 µs"),
        (0.00234, "2.34 ms"),
        (0.009999, "10.0 ms"),
        (0.0456, "45.6 ms"),
        (0.09999, "100 ms"),
        (1.5, "1.50 s"),
    ],
)
def test_a_latency_has_three_digits(latency_s: float, shown: str) -> None:
    assert format_latency(latency_s) == shown


def test_small_rates_keep_a_digit() -> None:
    assert [format_rate(rate) for rate in (3.26, 99.96, 4512.3)] == ["3.3", "100", "4,512"]


def test_what_is_not_nothing_shows_in_a_bar() -> None:
    assert smooth_bar(0, 1000, 4) == "    "
    assert smooth_bar(1, 1000, 4) == "▏   "
    assert smooth_bar(1000, 1000, 4) == "████"
    assert smooth_bar(1, 2, 4) == "██  "
    assert smooth_bar(0, 0, 4) == "    "


def measured(**fields: object) -> Measured:
    result = BenchResult(latencies=latencies_of([0.0011, 0.0021, 0.0041, 0.11]), elapsed_s=0.5, **fields)  # type: ignore[arg-type]
    return Measured(test="put", size=4096, concurrency=16, result=result)


def test_a_histogram_names_where_each_bar_begins() -> None:
    lines = str(histogram(measured().result)).splitlines()
    assert len(lines) == 7
    assert lines[0].split()[0:2] == ["1.00", "ms"]
    assert lines[-1].endswith("25.0%")


def test_failures_have_a_column_and_a_remark_when_there_are_any() -> None:
    fine, failing = measured(), measured(failures={"volume_offline": 3})
    assert "failed" not in [column.header for column in results_table([fine]).columns]
    assert "failed" in [column.header for column in results_table([fine, failing]).columns]
    assert remarks([fine], 1) == []
    assert remarks([fine, failing], 1) == ["3 requests failed: volume_offline"]


def test_a_narrow_window_gets_fewer_columns_and_no_cut_ones() -> None:
    one = Measured(
        test="large-put",
        size=80 << 20,
        concurrency=4096,
        result=BenchResult(
            latencies=latencies_of([0.0123] * 3), elapsed_s=1e-4, failures={"disk_full": 12_345}
        ),
    )
    for width in (80, 130):
        console = Console(width=width, file=io.StringIO(), highlight=False)
        console.print(fitting_table([one], console))
        header, row = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert "…" not in row
        assert ("requests" in header) is (width > 80)
        for cell in ("large-put", "80.0 MiB", "4096", "30,000", "12.3 ms", "12,345"):
            assert cell in row


def test_a_client_that_was_the_limit_is_told_to_have_been_it() -> None:
    (line,) = remarks([measured(cpu_share_max=0.97)], 2)
    assert "97%" in line
    assert "--processes 4" in line


def test_json_has_milliseconds_and_the_histogram() -> None:
    fields = json_fields(measured(byte_count=16_384))
    assert (fields["rate"], fields["byte_rate"], fields["request_count"]) == (8.0, 32_768, 4)
    assert (fields["max_ms"], fields["mean_ms"]) == (110.0, 29.325)
    assert fields["p50_ms"] == pytest.approx(2.1, rel=0.0101)
    assert fields["p99_9_ms"] == pytest.approx(110.0, rel=0.0101)
    assert sum(bar["request_count"] for bar in fields["histogram"]) == 4
