"""Bench report: progress of a benchmark, then a table and a histogram of latencies for each test."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.columns import Columns
from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from warehouse.cli.measuring.latencies import PERCENTILES, BenchResult
from warehouse.cli.output.formats import format_size
from warehouse.cli.output.objects import result_console, say_json

HISTOGRAM_WIDTH = 24
LINE_EVERY_S = 10.0
NARROW_PERCENTILES = (50.0, 99.0)
BUSY_SHARE = 0.85  # of a core: a client process that uses more is itself the limit

_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    test: str
    size: int
    concurrency: int
    result: BenchResult
    is_whole: bool = True  # False: interrupted


class BenchReport:
    """Reports a benchmark while it runs: progress on standard error, results on standard output.

    Args:
        is_json: one object for each measurement on standard output, as soon as it is known.
    """

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._console = Console(stderr=True)
        self._measured: list[Measured] = []
        self._started = 0.0
        self._told = 0.0
        self._seconds = 0.0
        self._what = ""
        self._running: Measured | None = None  # with its result so far
        self._progress: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._progress = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[now]}"),
                console=self._console,
                transient=True,
                redirect_stdout=False,  # results go to standard output, which may be a file
            )
            self._task = self._progress.add_task("", total=None, now="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin_test(self, test: str, size: int, concurrency: int, *, seconds: float) -> None:
        """Start a measurement of `seconds`; `size` is 0 when the table shows none."""
        self.begin(f"{test}{f' {format_size(size)}' if size else ''}, {concurrency} at once", seconds=seconds)
        self._running = Measured(
            test=test, size=size, concurrency=concurrency, result=BenchResult(), is_whole=False
        )

    def begin(self, what: str, *, seconds: float = 0.0, count: int = 0) -> None:
        """Start a step of `seconds`, or of `count` requests."""
        self._started = self._told = time.monotonic()
        self._seconds, self._what = seconds, what
        if self._progress is not None:
            total = seconds or count or None
            self._progress.reset(self._task, description=what, total=total, completed=0, now="")

    async def tick(self, result: BenchResult) -> None:
        now_s = time.monotonic()
        if self._running is not None:
            self._running = msgspec.structs.replace(self._running, result=result)
        latencies = result.latencies
        if latencies.count:
            line = f"{format_rate(result.rate)}/s  p50 {format_latency(latencies.percentile(50))}"
            line += f"  p99 {format_latency(latencies.percentile(99))}"
        else:
            line = "no request has finished yet"
        if result.failed_count:
            line += f"  {result.failed_count:,} failed"
        if self._progress is not None:
            completed = now_s - self._started if self._seconds else latencies.count
            self._progress.update(self._task, completed=completed, now=line)
        elif now_s - self._told >= LINE_EVERY_S and not self._is_json:
            self._told = now_s
            print(f"{self._what}  {line}", file=sys.stderr)

    def finish_test(self, result: BenchResult) -> None:
        """Finish the measurement that `begin_test` started."""
        assert self._running is not None
        self._tell(msgspec.structs.replace(self._running, result=result, is_whole=True))
        self._running = None

    def _tell(self, one: Measured) -> None:
        self._measured.append(one)
        if self._is_json:
            say_json(**json_fields(one))
            sys.stdout.flush()
        elif self._progress is None:
            print(f"{title_of(one)}  {format_rate(one.result.rate)}/s", file=sys.stderr)

    def sum_up(self, process_count: int) -> None:
        """Print the table of what was measured, which may be less than was requested."""
        if self._running is not None and self._running.result.latencies.count:
            self._tell(self._running)
        if self._is_json or not self._measured:
            return
        console = result_console()
        console.print(fitting_table(self._measured, console))
        console.print()
        blocks = [
            Padding(Group(Text(title_of(one), "bold"), histogram(one.result)), (0, 3, 1, 0))
            for one in self._measured
        ]
        console.print(Columns(blocks))
        for line in remarks(self._measured, process_count):
            console.print(Text(line, "yellow"), soft_wrap=True)


def title_of(one: Measured) -> str:
    size = f" {format_size(one.size)}" if one.size else ""
    return f"{one.test}{size}, {one.concurrency} at once"


def fitting_table(measured: Sequence[Measured], console: Console) -> Table:
    """The whole table; in a narrow window, a table of fewer columns."""
    table = results_table(measured)
    boundless = console.options.update(max_width=1000)
    if console.measure(table, options=boundless).maximum <= console.width:
        return table
    return results_table(measured, is_wide=False)


def results_table(measured: Sequence[Measured], *, is_wide: bool = True) -> Table:
    percentiles = PERCENTILES if is_wide else NARROW_PERCENTILES
    has_failures = any(one.result.failed_count for one in measured)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("test", no_wrap=True, header_style="dim")
    names = ["size", "at once", *["requests"] * is_wide, "a second", *["bytes/s"] * is_wide]
    names += [*map(_percent_name, percentiles), "max"]
    for name in names + ["failed"] * has_failures:
        table.add_column(name, no_wrap=True, header_style="dim", justify="right")
    for one in measured:
        result, latencies = one.result, one.result.latencies
        cells = [
            one.test,
            format_size(one.size) if one.size else "",
            str(one.concurrency),
            *[f"{latencies.count:,}"] * is_wide,
            format_rate(result.rate),
            *[format_size(int(result.byte_rate)) if result.byte_count else ""] * is_wide,
            *(format_latency(latencies.percentile(percent)) for percent in percentiles),
            format_latency(latencies.max_s),
        ]
        if has_failures:
            cells.append(f"{result.failed_count:,}")
        table.add_row(*cells, style="red" if result.failed_count else "")
    return table


def histogram(result: BenchResult) -> Text:
    """One bar for each step of 1, 2, 5, 10, ... of time, up to the next step."""
    bars = result.latencies.histogram()
    count = result.latencies.count
    greatest = max((number for _, number in bars), default=0)
    lines = []
    for edge_s, number in bars:
        bar = smooth_bar(number, greatest, HISTOGRAM_WIDTH)
        lines.append(f"{format_latency(edge_s):>8} {bar} {number / count:6.1%}")
    return Text("\n".join(lines))


def smooth_bar(part: int, whole: int, width: int) -> str:
    """A bar of `width` letters, filled in eighths; every part above zero is visible."""
    eighths = round(part / whole * width * 8) if whole else 0
    eighths = max(eighths, 1) if part else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def format_latency(latency_s: float) -> str:
    """`0.00234` as "2.34 ms": three digits."""
    if latency_s < 1e-3:
        return f"{latency_s * 1e6:.0f} µs"
    if latency_s < 1:
        ms = latency_s * 1e3
        return f"{ms:.2f} ms" if ms < 9.995 else f"{ms:.1f} ms" if ms < 99.95 else f"{ms:.0f} ms"
    return f"{latency_s:.2f} s"


def format_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 99.95 else f"{rate:.1f}"


def _percent_name(percent: float) -> str:
    return f"p{percent:g}"


def remarks(measured: Sequence[Measured], process_count: int) -> list[str]:
    """What a reader must know about the results: whether the client was the limit, and what failed."""
    lines = []
    busiest = max(one.result.cpu_share_max for one in measured)
    if busiest >= BUSY_SHARE:
        lines.append(
            f"A client process used {busiest:.0%} of a core, so this measures the client: "
            f"try --processes {process_count * 2}."
        )
    lines += [
        f"{title_of(one)}: interrupted after {one.result.elapsed_s:.1f} s"
        for one in measured
        if not one.is_whole
    ]
    failures: dict[str, int] = {}
    for one in measured:
        for code, number in one.result.failures.items():
            failures[code] = failures.get(code, 0) + number
    lines += [f"{number:,} requests failed: {code}" for code, number in failures.items()]
    return lines


def json_fields(one: Measured) -> dict[str, Any]:
    """One flat object; latencies in milliseconds."""
    result, latencies = one.result, one.result.latencies
    return {
        "event": "measured",
        "test": one.test,
        "size": one.size,
        "concurrency": one.concurrency,
        "is_whole": one.is_whole,
        "request_count": latencies.count,
        "failed_count": result.failed_count,
        "failures": result.failures,
        "elapsed_s": round(result.elapsed_s, 4),
        "rate": round(result.rate, 2),
        "byte_rate": round(result.byte_rate),
        "entry_count": result.entry_count,
        "mean_ms": _ms(latencies.sum_s / latencies.count if latencies.count else 0.0),
        **{
            f"{_percent_name(percent).replace('.', '_')}_ms": _ms(latencies.percentile(percent))
            for percent in PERCENTILES
        },
        "max_ms": _ms(latencies.max_s),
        "client_cpu_s": round(result.cpu_s, 3),
        "histogram": [
            {"from_ms": _ms(edge_s), "request_count": number} for edge_s, number in latencies.histogram()
        ],
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 4)
