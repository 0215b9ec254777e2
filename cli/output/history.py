"""Output about how busy and how full the store is, and was."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from warehouse.cli.output.formats import block_bar, format_size, format_time
from warehouse.cli.output.objects import result_console
from warehouse.transport.messages import Figures, HistoryPoint, Rates

BAR_WIDTH = 10
_COLUMNS = (
    "up to",
    "health",
    "objects",
    "stored",
    "wasted",
    "gets/s",
    "puts/s",
    "in",
    "out",
    "get p99",
    "put p99",
)
STYLES = {"ok": "green", "degraded": "yellow", "down": "bold red"}


def print_history(figures: Figures, points: Sequence[HistoryPoint]) -> None:
    console = result_console()
    console.print(now_line(figures), soft_wrap=True)
    console.print()
    if not points:
        console.print("nothing was noted in that time; the store notes how it is every ten seconds")
        return
    busiest = max(point.rates.gets_per_s + point.rates.puts_per_s for point in points)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in (*_COLUMNS, ""):
        table.add_column(name, justify="left" if name in ("up to", "health", "") else "right", no_wrap=True)
    for point in points:
        rates = point.rates
        share = (rates.gets_per_s + rates.puts_per_s) / busiest if busiest else 0.0
        table.add_row(
            format_time(point.at_ms),
            Text(point.health, STYLES.get(point.health, "")),
            f"{point.object_count:,}",
            format_size(point.stored_bytes),
            format_size(point.dead_bytes),
            *_rates(rates),
            Text(block_bar(round(1000 * share), 1000, BAR_WIDTH), "blue"),
        )
    console.print(table)


def now_line(figures: Figures) -> Text:
    rates = figures.rates
    return Text(
        f"now: {number(rates.gets_per_s)} gets/s, {number(rates.puts_per_s)} puts/s,"
        f" {number(rates.deletes_per_s)} deletes/s, {format_size(round(rates.bytes_in_per_s))}/s in,"
        f" {format_size(round(rates.bytes_out_per_s))}/s out"
    )


def _rates(rates: Rates) -> tuple[str, ...]:
    return (
        number(rates.gets_per_s),
        number(rates.puts_per_s),
        f"{format_size(round(rates.bytes_in_per_s))}/s",
        f"{format_size(round(rates.bytes_out_per_s))}/s",
        duration(rates.get_p99_s),
        duration(rates.put_p99_s),
    )


def number(rate: float) -> str:
    """`0.25` as "0.3", `1234.5` as "1,234"; what is less than 0.05 and not nothing as "<0.1"."""
    if 0 < rate < 0.05:
        return "<0.1"
    return f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"


def duration(seconds: float | None) -> str:
    """`0.00025` as "0.25 ms"; None as "-"."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
