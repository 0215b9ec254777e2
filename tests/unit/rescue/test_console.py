"""rescue/console.py: how far a tool is, how fast it goes, and how long it still takes."""

from __future__ import annotations

import io
import sys

import pytest

from warehouse.rescue import console
from warehouse.rescue.console import BYTES, ProgressBars, ProgressLines, rate_and_rest, shown_progress


@pytest.mark.parametrize(
    ("per_s", "left", "unit", "text"),
    [
        (45_000.0, 3_600_000, "objects", "45,000 objects/s, 1 min 20 s left"),
        (3 * 2**20, 6 * 2**20, BYTES, "3.0 MiB/s, 2 s left"),
        (2.0, 7, "", "3 s left"),
        (2.0, -1, "objects", "2 objects/s, 0 s left"),  # more was done than was announced
        (0.0, 7, "objects", ""),
        (None, 7, "objects", ""),
    ],
)
def test_rate_and_time_left_are_told(per_s: float | None, left: float, unit: str, text: str) -> None:
    assert rate_and_rest(per_s, left, unit) == text


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    with shown_progress() as progress:
        assert isinstance(progress, ProgressBars)
        progress.begin("reading volumes", 1000, "objects")
        for done in (100, 200, 300, 400):
            progress.at(done)
    assert "reading volumes" in terminal.getvalue()
    assert "objects/s" in terminal.getvalue()
    assert " left" in terminal.getvalue()


@pytest.mark.parametrize(("stream", "terminal"), [(io.StringIO(), "xterm"), (_Terminal(), "dumb")])
def test_where_no_bar_can_move_there_are_lines(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, terminal: str
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with shown_progress() as progress:
        assert isinstance(progress, ProgressLines)
        progress.begin("sorting", 0)
    assert stream.getvalue() == "sorting\n"


def test_lines_come_now_and_then_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now_s)
    lines = ProgressLines()
    lines.begin("writing objects", 1000, "objects")
    now_s = 104.0
    lines.at(200)
    now_s = 110.0
    lines.at(500)
    lines.at(501)

    assert capsys.readouterr().err.splitlines() == [
        "writing objects",
        "writing objects: 50 %, 50 objects/s, 10 s left",
    ]
