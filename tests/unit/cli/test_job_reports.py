"""How jobs look, on a terminal of 100 columns and elsewhere."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from warehouse.cli.output.jobs import JobReport, jobs_view, progress_line, time_left_s
from warehouse.transport.messages import Job, Jobs

GIB = 1024**3
RUNNING = Job(
    job_id=1,
    work="compact",
    volume_id=3,
    disk_name="disk-1",
    origin="operator",
    state="copying",
    done_bytes=2 * GIB,
    total_bytes=5 * GIB,
    bytes_per_s=float(GIB),
    started_ms=1000,
)
QUEUED = Job(job_id=2, work="compact", volume_id=4, disk_name="disk-1", origin="operator", state="queued")
change = msgspec.structs.replace
DONE = change(
    RUNNING, job_id=5, state="done", done_bytes=5 * GIB, freed_bytes=GIB, pause_ms=3.21, ended_ms=7000
)
FAILED = change(QUEUED, job_id=6, state="failed", code="disk_full", message="no room " * 20)


def terminal(screen: io.StringIO, kind: str = "xterm") -> Console:
    return Console(width=100, force_terminal=True, file=screen, color_system=None, _environ={"TERM": kind})


def shown(view: RenderableType) -> list[str]:
    console = terminal(io.StringIO())
    console.print(view)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_each_volume_has_a_bar_and_what_is_left() -> None:
    idle = change(QUEUED, state="done", message="there is nothing to give back")
    running, queued, done, failed, nothing = shown(
        jobs_view([RUNNING, QUEUED, DONE, FAILED, idle], False, 10)
    )
    assert running.startswith("volume 3  compacting  ██████··········   40%")
    assert running.endswith("   40%  2.0 GiB of 5.0 GiB  1.0 GiB/s  3 s left")
    assert queued == "volume 4  queued      ················"
    assert done.endswith("100%  1.0 GiB freed")
    assert "no room no room" in failed
    assert nothing.endswith("there is nothing to give back")
    assert len(failed) <= 100


def test_a_long_list_shows_what_runs_and_counts_the_others() -> None:
    jobs = [RUNNING, DONE, *(change(QUEUED, job_id=10 + number) for number in range(50))]
    running, others = shown(jobs_view(jobs, False, 10))
    assert running.startswith("volume 3")
    assert others == "and 50 queued, 1 over"


def test_a_pause_is_shown_with_the_way_out() -> None:
    *rows, last = shown(jobs_view([RUNNING, QUEUED], True, 10))
    assert all("paused" in row for row in rows)
    assert "left" not in rows[0]
    assert last == "paused; warehouse compact --resume ends the pause"
    assert "paused" not in "".join(shown(jobs_view([DONE], True, 10)))


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (RUNNING, "compacting, 40% of 5.0 GiB, 1.0 GiB/s, 3 s left"),
        (QUEUED, "queued"),
        (change(QUEUED, message="no compactor is connected"), "queued, no compactor is connected"),
        (change(RUNNING, bytes_per_s=0.0), "compacting, 40% of 5.0 GiB"),
        (change(RUNNING, state="switching", done_bytes=5 * GIB), "switching, 100% of 5.0 GiB"),
        (change(RUNNING, work="verify", state="verifying"), "verifying, 40% of 5.0 GiB, 1.0 GiB/s, 3 s left"),
    ],
)
def test_progress_in_words(job: Job, line: str) -> None:
    assert progress_line(job, False) == line


def test_a_copy_that_follows_a_growing_volume_never_has_negative_time_left() -> None:
    assert time_left_s(change(RUNNING, done_bytes=6 * GIB)) == 0.0


def test_where_no_bar_can_move_a_line_comes_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = JobReport("compact", is_json=False, console=Console(file=io.StringIO()), now=lambda: now[0])
    with report:
        for second in range(25):
            now[0] = float(second)
            job = change(RUNNING, done_bytes=second * GIB // 10)
            report.progress(Jobs(jobs=[job, QUEUED]))
        assert capsys.readouterr().err.splitlines() == [
            "volume 3  compacting, 0% of 5.0 GiB, 1.0 GiB/s, 5 s left",
            "volume 4  queued",
            "volume 3  compacting, 20% of 5.0 GiB, 1.0 GiB/s, 4 s left",
            "volume 3  compacting, 40% of 5.0 GiB, 1.0 GiB/s, 3 s left",
        ]
        report.progress(Jobs(jobs=[DONE, QUEUED]))
        report.progress(Jobs(jobs=[DONE, QUEUED]))
    ended = "volume 3  compacted, 1.0 GiB freed, writes paused for 3.2 ms, took 6.0 s\n"
    assert capsys.readouterr().out == ended


def test_results_stay_out_of_the_bars(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    console = terminal(screen)
    with JobReport("compact", is_json=False, console=console, now=lambda: 0.0) as report:
        report.progress(Jobs(jobs=[RUNNING]))
        report.progress(Jobs(jobs=[DONE]))
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out.startswith("volume 3  compacted, 1.0 GiB freed")
    assert "compacting" in screen.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with JobReport("compact", is_json=False, console=terminal(screen, "dumb"), now=lambda: 0.0) as report:
        report.progress(Jobs(jobs=[RUNNING]))
        report.progress(Jobs(jobs=[DONE]))
    assert "volume 3  compacting, 40% of 5.0 GiB" in screen.getvalue() + capsys.readouterr().err
    assert "\x1b" not in screen.getvalue()
