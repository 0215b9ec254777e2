from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.cli.output.formats import (
    fill_bar,
    format_ago,
    format_count,
    format_pause,
    format_share,
    format_size,
    format_span,
    format_time,
    parse_size,
    parse_span,
    printable,
)
from warehouse.cli.usage import UsageError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (80 * 1024**2, "80.0 MiB"),
        (5 * 1024**5, "5.0 PiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_sizes_read_well(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 2**70))
def test_no_size_is_shown_as_1024_of_a_unit(size: int) -> None:
    assert not format_size(size).startswith("1024.0 ") or size > 1023 * 1024**5


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("64KiB", 65_536),
        ("64k", 65_536),
        ("1.5 GiB", 1_610_612_736),
        ("5mb", 5_242_880),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "x", "-5", "5 apples", "1e9", "KiB", "1.5", "0.5B", "1_0", "9" * 5000, "9" * 19, "9" * 15 + "K"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("1.5H", 5400), ("7d", 604_800)],
)
def test_spans_are_read(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "soon", "-1h", "1w", "1h30m"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_span(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90_061, "1 d 1 h"), (86_400, "1 d")],
)
def test_spans_read_well(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


def test_counts_and_times_read_well() -> None:
    assert [format_count(count, "file") for count in (0, 1, 2500)] == ["0 files", "1 file", "2,500 files"]
    assert format_time(0)[:4] in ("1969", "1970")


@given(st.text(st.characters()))
def test_what_is_printed_is_printable_and_encodable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_bar_keeps_its_width(used: int, capacity: int) -> None:
    assert len(fill_bar(used, capacity, 16)) == len(fill_bar(0, 1, 16)) == 21


def test_shares_are_0_and_100_percent_for_nothing_and_all_alone() -> None:
    shares = [format_share(part, 1000) for part in (0, 1, 500, 999, 1000, 2000)]
    assert shares == ["0%", "1%", "50%", "99%", "100%", "100%"]
    assert format_share(5, 0) == "0%"


def test_pauses_and_ages_read_well() -> None:
    assert [format_pause(ms) for ms in (0.0, 3.21, 12.4, 2500.0)] == ["0.0 ms", "3.2 ms", "12 ms", "2,500 ms"]
    assert [format_ago(age) for age in (0, 59, 3700, 90_061)] == ["0 s ago", "59 s ago", "1 h ago", "1 d ago"]
