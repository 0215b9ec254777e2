"""`warehouse history`, against a fake store: what it prints for people and for programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli_kit import Run, runner
from fake_store import FakeStore, fake_store
from warehouse.cli.output.history import duration, number
from warehouse.cli.usage import UsageError
from warehouse.transport.messages import HistoryPoint, Rates, StoreHistory


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FakeStore]:
    async with fake_store() as store:
        store.profile.save(tmp_path / "profile.toml")
        yield store


@pytest.fixture
def run(store: FakeStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, capfd)


def point(at_ms: int, gets: float, health: str = "ok") -> HistoryPoint:
    return HistoryPoint(
        at_ms=at_ms,
        span_s=60.0,
        health=health,
        bucket_count=1,
        object_count=1234,
        byte_count=5,
        stored_bytes=2048,
        dead_bytes=1024,
        free=6,
        capacity=7,
        rates=Rates(gets_per_s=gets, get_p99_s=0.00025),
    )


async def test_history_shows_what_is_now_and_a_line_for_each_point(store: FakeStore, run: Run) -> None:
    store.history = [point(1_790_100_060_000, 10.0), point(1_790_100_120_000, 20.0, "degraded")]
    now, _, header, first, second = (await run("history", "--since", "1h")).out.splitlines()
    assert now == "now: 1,234 gets/s, <0.1 puts/s, 0.0 deletes/s, 1.0 KiB/s in, 0 B/s out"
    assert header.split()[:4] == ["up", "to", "health", "objects"]
    assert "ok" in first
    assert "0.25 ms" in first
    assert "degraded" in second
    assert "1,234" in second
    assert second.count("█") == 2 * first.count("█") == 10
    (asked,) = [request for request in store.asked if isinstance(request, StoreHistory)]
    assert asked.points_max == 20


async def test_a_store_that_has_noted_nothing_says_so(run: Run) -> None:
    assert "nothing was noted in that time" in (await run("history")).out


async def test_a_program_gets_one_object_with_all_fields(store: FakeStore, run: Run) -> None:
    store.history = [point(1_790_100_060_000, 10.0)]
    told = json.loads((await run("history", "--json")).out)
    assert told["now"]["rates"]["gets_per_s"] == 1234.5
    assert told["points"][0]["rates"]["put_p99_s"] is None
    assert told["points"][0]["span_s"] == 60.0


async def test_a_time_that_is_none_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="--since must look like"):
        await run("history", "--since", "soon")


def test_numbers_are_short_and_never_hide_that_there_was_something() -> None:
    assert [number(rate) for rate in (0.0, 0.01, 0.25, 9.99, 10.0, 1234.5)] == [
        *("0.0", "<0.1", "0.2", "10.0", "10", "1,234"),
    ]
    assert [duration(seconds) for seconds in (None, 0.000012, 0.5, 12.34)] == [
        "-",
        "0.012 ms",
        "500 ms",
        "12.3 s",
    ]
