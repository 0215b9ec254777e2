"""A volume keeps nothing in memory for each needle, and opens without looking at them."""

from __future__ import annotations

from pathlib import Path

from bench.index_memory import measure


def test_opening_is_quick_and_needles_cost_no_memory(tmp_path: Path) -> None:
    result = measure(tmp_path, 60_000)
    assert result["open_s"] < 0.2
    assert result["bytes_per_needle"] < 20
