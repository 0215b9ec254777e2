"""Output of `warehouse top`: rates and latencies of the store and of each disk."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from warehouse.cli.output.formats import fill_bar, format_size, format_time, printable
from warehouse.cli.output.history import STYLES, duration, now_line, number
from warehouse.cli.output.objects import result_console
from warehouse.transport.messages import DiskFigures, Figures, Rates

BAR_WIDTH = 8
_NUMBERS = ("gets/s", "puts/s", "in", "out", "get p50", "get p99", "put p50", "put p99")


def print_top(figures: Figures) -> None:
    console = result_console()
    line = Text(f"{format_time(figures.at_ms)}  warehouse is ")
    line.append(figures.health, STYLES.get(figures.health, ""))
    line.append(f", {figures.object_count:,} objects, {format_size(figures.free)} free")
    console.print(line, soft_wrap=True)
    console.print(now_line(figures), soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("disk", no_wrap=True)
    for column in _NUMBERS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("filled", no_wrap=True)
    for disk in sorted(figures.disks, key=_busyness, reverse=True):
        name = Text(printable(disk.name), "" if disk.is_online else "bold red")
        used = fill_bar(disk.capacity - disk.free, disk.capacity, BAR_WIDTH) if disk.is_online else "offline"
        table.add_row(name, *_cells(disk.rates), used)
    if len(figures.disks) > 1:
        table.add_row(Text("all", "bold"), *_cells(figures.rates), "")
    console.print(table)


def _busyness(disk: DiskFigures) -> float:
    return disk.rates.gets_per_s + disk.rates.puts_per_s


def _cells(rates: Rates) -> tuple[str, ...]:
    return (
        number(rates.gets_per_s),
        number(rates.puts_per_s),
        f"{format_size(round(rates.bytes_in_per_s))}/s",
        f"{format_size(round(rates.bytes_out_per_s))}/s",
        duration(rates.get_p50_s),
        duration(rates.get_p99_s),
        duration(rates.put_p50_s),
        duration(rates.put_p99_s),
    )
