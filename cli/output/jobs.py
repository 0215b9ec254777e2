"""Output about jobs: progress and outcomes of compactions and verifications.

On a terminal each volume has a bar; elsewhere a line is printed for every change and every 10 s; both go to
standard error.  The outcome of a job is a line on standard output, a failure a line on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from warehouse.cli.output.formats import (
    block_bar,
    format_count,
    format_pause,
    format_share,
    format_size,
    format_span,
    format_time,
    printable,
)
from warehouse.cli.output.objects import ResultConsole, failure_line, plain, say, say_json
from warehouse.errors import from_code
from warehouse.transport.messages import Job, Jobs

BAR_WIDTH = 16
NARROW_BAR_WIDTH = 8
WIDE = 96  # columns of a full row
LINE_EVERY_S = 10.0
JSON_EVERY_S = 1.0
BARS_LEAST = 3

_DOING = {"compact": "compacting", "verify": "verifying"}
_NOUN = {"compact": "compaction", "verify": "verification"}


class JobReport:
    """Reports jobs of one kind, from start to end.

    Args:
        work: "compact" or "verify".
        is_json: print one object for each start, change and end to standard output, and no bars.
        now: a clock, in seconds; progress of a job is printed once a second (JSON), or every 10 s (lines).
    """

    def __init__(
        self,
        work: str,
        *,
        is_json: bool,
        console: Console | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._work = work
        self._is_json = is_json
        self._now = now
        self._console = console or Console(stderr=True, highlight=False)
        self._jobs: Sequence[Job] = ()
        self._told: dict[int, tuple[str, float]] = {}  # job -> what was printed last, and when
        self._ended: set[int] = set()  # jobs whose end was printed
        self._live: Live | None = None
        # A terminal that cannot move its cursor gets lines, as a file does.
        if self._console.is_terminal and not self._console.is_dumb_terminal and not is_json:
            # Results go to standard output, which may be a file: they are printed after the bars.
            self._live = Live(
                console=self._console, transient=True, redirect_stdout=False, auto_refresh=False
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._say_ends()

    def started(self, jobs: Sequence[Job]) -> None:
        """Record the jobs and print them for a program; `handed_over` prints them for a person."""
        self._jobs = jobs
        if self._is_json:
            for job in jobs:
                say_json(event="started", **plain(job))

    def handed_over(self) -> None:
        """Print the jobs that nobody waits for."""
        if not self._is_json:
            for job in self._jobs:
                state = "queued" if job.state == "queued" else "started"
                say(f"volume {job.volume_id}  {_NOUN[job.work]} {state}, as job {job.job_id}")

    def progress(self, answer: Jobs) -> None:
        self._jobs = answer.jobs
        if self._live is not None:
            room = max(self._console.height - 3, BARS_LEAST)
            is_narrow = self._console.width < WIDE
            view = jobs_view(answer.jobs, answer.is_paused, room, is_narrow=is_narrow)
            self._live.update(view, refresh=True)
            return
        for job in answer.jobs:
            if not job.is_finished:
                self._tell_progress(job, answer.is_paused)
        self._say_ends()

    def _tell_progress(self, job: Job, is_paused: bool) -> None:
        content = f"{activity_of(job, is_paused)} {job.done_bytes if self._is_json else job.message}"
        told, at = self._told.get(job.job_id, ("", float("-inf")))
        age_s = self._now() - at
        if self._is_json:
            if told == content or age_s < JSON_EVERY_S:
                return
            say_json(event="progress", **plain(job), is_paused=is_paused)
            sys.stdout.flush()
        else:
            if told == content and (age_s < LINE_EVERY_S or not job.total_bytes or is_paused):
                return
            print(f"volume {job.volume_id}  {progress_line(job, is_paused)}", file=sys.stderr, flush=True)
        self._told[job.job_id] = (content, self._now())

    def left_running(self) -> None:
        """Print that the jobs continue after Ctrl-C."""
        unfinished = [job for job in self._jobs if not job.is_finished]
        if unfinished and not self._is_json:
            volumes = " ".join(str(job.volume_id) for job in unfinished) if len(unfinished) <= 8 else "--all"
            line = (
                f"warehouse: {_NOUN[self._work]} continues in the store: {unfinished_line(unfinished)}\n"
                f"           stop it with: warehouse {self._work} --cancel {volumes}"
            )
            self._console.print(Text(line), soft_wrap=True)

    def _say_ends(self) -> None:
        for job in self._jobs:
            if job.is_finished and job.job_id not in self._ended:
                self._ended.add(job.job_id)
                self._say_end(job)
        sys.stdout.flush()

    def _say_end(self, job: Job) -> None:
        if self._is_json:
            say_json(event=event_of(job), **plain(job))
        elif job.state == "failed":
            error = from_code(job.code or "store_error", job.message)
            print(failure_line(error, f"volume {job.volume_id}"), file=sys.stderr)
        else:
            style = "red" if job.damaged_count else ""
            ResultConsole().print(Text(f"volume {job.volume_id}  {outcome_of(job)}", style), soft_wrap=True)

    def sum_up(self, jobs: Sequence[Job]) -> None:
        """Print the last line, if there was more than one volume."""
        if not jobs:
            return
        done = [job for job in jobs if job.state == "done"]
        counts = {state: sum(job.state == state for job in jobs) for state in ("failed", "cancelled")}
        total_bytes = sum(job.total_bytes for job in done)
        freed_bytes = sum(job.freed_bytes for job in done)
        damaged_count = sum(job.damaged_count for job in done)
        if self._is_json:
            say_json(
                event="summary",
                work=self._work,
                done_count=len(done),
                failed_count=counts["failed"],
                cancelled_count=counts["cancelled"],
                total_bytes=total_bytes,
                freed_bytes=freed_bytes,
                damaged_count=damaged_count,
            )
            return
        if len(jobs) < 2:
            return
        if self._work == "compact":
            line = f"compacted {format_count(len(done), 'volume')}, {format_size(freed_bytes)} freed"
        else:
            line = f"verified {format_count(len(done), 'volume')}, {format_size(total_bytes)} checked"
            line += f", {_damage(damaged_count)}"
        for state in ("failed", "cancelled"):
            if counts[state]:
                line += f", {counts[state]} {state}"
        say(line)


# --- how a job looks ------------------------------------------------------------------------------


def event_of(job: Job) -> str:
    """The JSON event of the end of a job."""
    return "finished" if job.state == "done" else job.state


def activity_of(job: Job, is_paused: bool) -> str:
    """One word for what the job does now."""
    if job.is_finished or job.state == "switching":
        return job.state
    if is_paused:
        return "paused"
    if job.state in ("copying", "verifying"):
        return _DOING[job.work]
    return job.state


def time_left_s(job: Job) -> float | None:
    """Seconds until the job is finished; None if that is unknown."""
    if job.is_finished or not job.total_bytes or job.bytes_per_s <= 0:
        return None
    return max(job.total_bytes - job.done_bytes, 0) / job.bytes_per_s


def progress_line(job: Job, is_paused: bool) -> str:
    """The progress of a job in words."""
    parts = [activity_of(job, is_paused)]
    if is_paused and not job.is_finished:
        parts = ["paused until warehouse compact --resume"]
    if job.total_bytes:
        share = format_share(job.done_bytes, job.total_bytes)
        parts.append(f"{share} of {format_size(job.total_bytes)}")
        if not is_paused and (left_s := time_left_s(job)) is not None and job.state != "switching":
            parts += [f"{format_size(int(job.bytes_per_s))}/s", f"{format_span(left_s)} left"]
    if job.message and not is_paused:
        parts.append(_waiting_for(job))
    if job.is_stalled:
        parts.append("no progress for minutes")
    return ", ".join(parts)


def _waiting_for(job: Job) -> str:
    """What the job waits for, and since when."""
    message = printable(job.message)
    return f"{message} (since {format_time(job.wait_since_ms)})" if job.wait_since_ms else message


def unfinished_line(jobs: Sequence[Job]) -> str:
    volumes = ", ".join(str(job.volume_id) for job in jobs[:8])
    more = f" and {len(jobs) - 8} more" if len(jobs) > 8 else ""
    return f"volume{'' if len(jobs) == 1 else 's'} {volumes}{more}"


def outcome_of(job: Job) -> str:
    """The outcome of a finished job."""
    if job.state == "cancelled":
        return f"{_NOUN[job.work]} cancelled"
    if job.state == "failed":
        return printable(job.message or job.code or "it failed")
    if job.message:  # it had nothing to do
        return printable(job.message)
    took_s = (job.ended_ms - job.started_ms) / 1000
    took = f"{took_s:.1f} s" if took_s < 10 else format_span(took_s)
    parts = (
        [
            f"compacted, {format_size(job.freed_bytes)} freed",
            f"writes paused for {format_pause(job.pause_ms)}",
        ]
        if job.work == "compact"
        else [f"verified, {format_size(job.total_bytes)} checked"]
    )
    if job.work == "verify" or job.damaged_count:
        parts.append(_damage(job.damaged_count))
    return ", ".join([*parts, f"took {took}"])


def _damage(count: int) -> str:
    return format_count(count, "damaged needle") if count else "no damage"


def jobs_view(
    jobs: Sequence[Job], is_paused: bool, row_max: int, *, is_narrow: bool = False
) -> RenderableType:
    """A bar for each volume; if the window is too small, bars of running jobs and a count of the others."""
    shown = jobs
    if len(jobs) > row_max:
        shown = [job for job in jobs if job.state != "queued" and not job.is_finished][: row_max - 1]
    rows: list[RenderableType] = [jobs_table(shown, is_paused, is_narrow=is_narrow)]
    if len(shown) < len(jobs):
        queued, over = (sum(job.state == "queued" for job in jobs), sum(job.is_finished for job in jobs))
        rows.append(Text(f"and {queued} queued, {over} over", "dim"))
    if is_paused and not all(job.is_finished for job in jobs):
        rows.append(Text("paused; warehouse compact --resume ends the pause", "yellow"))
    return Group(*rows)


def jobs_table(jobs: Iterable[Job], is_paused: bool, *, indent: str = "", is_narrow: bool = False) -> Table:
    """A row for each job: progress, rate and time left.

    Args:
        is_narrow: shorter bars and fewer words, so that the row fits into 80 columns.
    """
    bar_width = NARROW_BAR_WIDTH if is_narrow else BAR_WIDTH
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (
        0,
        len("compacting"),
        bar_width,
    ):  # the same in every state: a table that jumps is hard to read
        table.add_column(no_wrap=True, min_width=width)
    table.add_column(no_wrap=True, min_width=len("100%"), justify="right")
    table.add_column()  # may be wrapped, so this column shrinks in a narrow window
    for job in jobs:
        style = ""
        if job.state == "failed" or job.damaged_count:
            style = "red"
        elif job.state == "done":
            style = "green"
        table.add_row(
            f"{indent}volume {job.volume_id}",
            activity_of(job, is_paused),
            Text(block_bar(job.done_bytes, job.total_bytes, bar_width), style or "cyan"),
            format_share(job.done_bytes, job.total_bytes) if job.total_bytes else "",
            Text(_amounts(job, is_paused, is_narrow), overflow="ellipsis", no_wrap=True),
            style=style,
        )
    return table


def _amounts(job: Job, is_paused: bool, is_narrow: bool) -> str:
    if job.state == "done" and not job.message:
        return _damage(job.damaged_count) if job.work == "verify" else f"{format_size(job.freed_bytes)} freed"
    if job.is_finished:
        return printable(job.message)
    if not job.total_bytes or job.state == "queued":
        return _waiting_for(job)
    done = "" if is_narrow else f"{format_size(job.done_bytes)} "  # the percentage says it as well
    parts = [f"{done}of {format_size(job.total_bytes)}"]
    if not is_paused and job.state != "switching" and (left_s := time_left_s(job)) is not None:
        parts += [f"{format_size(int(job.bytes_per_s))}/s", f"{format_span(left_s)} left"]
    elif job.message:
        parts.append(printable(job.message))
    return "  ".join(parts)
