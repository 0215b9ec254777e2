"""Output about the store: health, disks, volumes, damage and events, for people and for programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from warehouse.cli.output.formats import (
    fill_bar,
    format_ago,
    format_count,
    format_share,
    format_size,
    format_span,
    format_time,
    printable,
)
from warehouse.cli.output.jobs import WIDE, jobs_table
from warehouse.cli.output.objects import plain, result_console, say_json
from warehouse.transport.messages import (
    DiskStatus,
    Event,
    LeftAlone,
    NeedleDamage,
    Status,
    VolumeReport,
    VolumeStatus,
)

BAR_WIDTH = 16
SMALL_BAR_WIDTH = 5
ENDLESS = 1000  # columns
DAMAGES_SHOWN = 5
_NUMBERS = ("needles", "live", "dead", "wasted", "damaged")
_VOLUME_COLUMNS = ("volume", "disk", "gen", "state", "filled", *_NUMBERS, "verified")
_HEALTH_STYLES = {"ok": "green", "degraded": "yellow", "down": "bold red"}
# Parts of the names of events.
_ALARMING = ("damage", "failed", "sealed", "unreadable", "stalled", "refused", "behind", "unlinked", "skew")
_NOTABLE = ("offline", "unreachable", "missed", "restarted", "requeued", "paused")


# --- status ---------------------------------------------------------------------------------------


def print_status(status: Status, *, is_json: bool) -> None:
    if is_json:
        say_json(**plain(status))
        return
    console = result_console()
    console.print(_headline(status))
    _print_troubles(console, status)
    _print_upkeep(console, status)
    for disk in status.disks:
        console.print(_disk_line(disk, status.compactors), overflow="ellipsis", no_wrap=True)
        if disk.volumes:
            counts = _damaged_counts(status)
            _print_widest(console, (_disk_table(disk, counts, width) for width in (BAR_WIDTH, 8, 0)))
            _print_jobs(console, disk.volumes, status.is_paused, indent="  ")


def _headline(status: Status) -> Text:
    text = Text("warehouse is ").append(status.health, _HEALTH_STYLES.get(status.health, ""))
    text.append(f", up {format_span(status.uptime_s)}, version {status.version}\n")
    text.append(f"{format_count(status.object_count, 'object')} ({format_size(status.byte_count)})")
    text.append(f" in {format_count(status.bucket_count, 'bucket')}")
    text.append(f", {format_count(status.client_count, 'client')} connected")
    if status.upload_count:
        text.append(f", {format_count(status.upload_count, 'upload')} running")
    if status.garbage_count:
        text.append(f", {format_count(status.garbage_count, 'deleted needle')} to be marked")
    return text


def _print_troubles(console: Console, status: Status) -> None:
    """Print what is wrong now, and what to do about it."""
    for trouble in status.troubles:
        line = f"{trouble.name}: {printable(trouble.message)} (since {format_time(trouble.since_ms)})"
        console.print(Text(line, "bold red"), soft_wrap=True)
    if status.trouble_count > len(status.troubles):
        console.print(Text(f"and {status.trouble_count - len(status.troubles):,} more troubles", "bold red"))


def _print_upkeep(console: Console, status: Status) -> None:
    """Print what is known about damage, verification and compaction."""
    if status.damage_count:
        print_damages(console, status.damages, status.damage_count, DAMAGES_SHOWN)
    if status.unchecked_s > 0:
        console.print(f"every byte was written or checked within the last {format_span(status.unchecked_s)}")
    if status.orphan_count:
        console.print(
            f"{format_count(status.orphan_count, 'needle')} that no object names: of running puts, "
            "of a crash or of a restore"
        )
    if status.gateways:
        names = ", ".join(printable(name) for name in status.gateways)
        console.print(f"S3 is served by {names}", soft_wrap=True)
    if status.is_paused:
        line = "compaction and verification are paused; warehouse compact --resume ends the pause"
        console.print(Text(line, "yellow"))


def print_damages(
    console: Console, damages: Sequence[NeedleDamage], damage_count: int, shown_max: int | None = None
) -> None:
    console.print(Text(format_count(damage_count, "damaged needle"), "bold red"))
    shown = damages[:shown_max]
    for damage in shown:
        console.print(_damage_line(damage), soft_wrap=True)
    if damage_count > len(shown):
        more = "" if shown_max is None else "; warehouse volumes lists them"
        console.print(Text(f"  and {damage_count - len(shown):,} more{more}", "red"))


def _damage_line(damage: NeedleDamage) -> Text:
    what = f"needle {damage.needle_id}" if damage.needle_id is not None else f"offset {damage.offset:,}"
    owner = (
        f"wh://{damage.bucket}/{damage.key}"
        if damage.bucket is not None and damage.key is not None
        else "no object is known"
    )
    line = f"  volume {damage.volume_id}, {what}, {owner}: {damage.problem}"
    return Text(printable(line), "red")


def _disk_line(disk: DiskStatus, compactors: Collection[str]) -> Text:
    text = Text(f"\n{printable(disk.name)}  ", style="bold")
    if not disk.is_online:
        text.append(f"OFFLINE since {format_time(disk.since_ms)}", "bold red")
    elif disk.is_read_only:
        text.append("read-only", "yellow")
    else:
        text.append("online", "green")
    if disk.is_online and disk.name not in compactors:
        text.append("  no compactor", "yellow")
    free = f"{format_size(disk.free)} of {format_size(disk.capacity)} free"
    return text.append(f"  {free}  {disk.url}", "not bold")


def _damaged_counts(status: Status) -> Counter[int]:
    """The number of known damaged needles of each volume.

    A volume actor knows the damage that it met itself; the master also knows what verifications found.
    """
    counts = Counter(damage.volume_id for damage in status.damages)
    for disk in status.disks:
        for volume in disk.volumes:
            report = volume.report
            counts[report.volume_id] = max(counts[report.volume_id], report.damaged_count)
    return counts


def _print_widest(console: Console, tables: Iterable[Table]) -> None:
    """Print the first table that fits into the window, or else the last one, cut short."""
    endless = console.options.update_width(ENDLESS)
    for table in tables:
        if console.measure(table, options=endless).maximum <= console.width:
            break
    console.print(table)


def _disk_table(disk: DiskStatus, damaged_counts: Counter[int], bar_width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("  volume", "state", "filled", "", "needles", "wasted", ""):
        table.add_column(name, no_wrap=True, header_style="dim")
    for volume in disk.volumes:
        report = volume.report
        damaged_count = damaged_counts[report.volume_id]
        capacity = f" of {format_size(report.capacity)}" if bar_width else ""
        table.add_row(
            f"  {report.volume_id}",
            _volume_state(volume, disk, damaged_count),
            fill_bar(report.file_size, report.capacity, bar_width).lstrip(" "),
            f"{format_size(report.file_size)}{capacity}",
            f"{report.live_count:,}",
            format_size(report.dead_bytes),
            format_share(report.dead_bytes, report.file_size),
            style="red" if _is_troubled(report, disk, damaged_count) else "",
        )
    return table


def _is_troubled(report: VolumeReport, disk: DiskStatus, damaged_count: int) -> bool:
    return not disk.is_online or report.sealed_cause is not None or damaged_count > 0


def _volume_state(volume: VolumeStatus, disk: DiskStatus, damaged_count: int) -> str:
    if not disk.is_online:
        return "offline"
    if volume.report.sealed_cause is not None:
        return f"sealed: {printable(volume.report.sealed_cause)}"
    return f"{volume.state}, {damaged_count:,} damaged" if damaged_count else volume.state


def _print_jobs(console: Console, volumes: Iterable[VolumeStatus], is_paused: bool, indent: str = "") -> None:
    jobs = [volume.job for volume in volumes if volume.job is not None]
    if jobs:
        console.print(jobs_table(jobs, is_paused, indent=indent, is_narrow=console.width < WIDE))


# --- volumes --------------------------------------------------------------------------------------


def print_volumes(status: Status, *, is_json: bool, now_s: float) -> None:
    """Print all volumes with their statistics.

    Args:
        now_s: wall time, for the time since the last verification.
    """
    if is_json:
        damaged_counts = _damaged_counts(status)
        left_alone = {one.volume_id: one for one in status.left_alone}
        for volume, disk in _volumes_of(status.disks):
            volume_id = volume.report.volume_id
            fields = volume_fields(volume, disk, damaged_counts[volume_id])
            say_json(**fields, left_alone=plain(left_alone.get(volume_id)))
        return
    console = result_console()
    volumes = [volume for volume, _ in _volumes_of(status.disks)]
    least = ("gen", "dead", "live")  # columns that a narrow window lacks, in this order
    tables = [_volumes_table(status, now_s, SMALL_BAR_WIDTH, ())]
    tables += [_volumes_table(status, now_s, 0, least[:count]) for count in range(len(least) + 1)]
    _print_widest(console, tables)
    console.print(_volumes_sum([volume.report for volume in volumes], status))
    for report in (volume.report for volume in volumes if volume.report.sealed_cause is not None):
        cause = printable(report.sealed_cause or "")
        console.print(Text(f"volume {report.volume_id} accepts no more writes: {cause}", "red"))
    if any(volume.job is not None for volume in volumes):
        console.print()
        _print_jobs(console, volumes, status.is_paused)
    for one in status.left_alone:
        console.print(Text(_left_alone_line(one), "yellow"), soft_wrap=True)
    if status.damage_count:
        console.print()
        print_damages(console, status.damages, status.damage_count)


def _left_alone_line(left_alone: LeftAlone) -> str:
    """Why a wasteful volume is not compacted for now."""
    cause = {
        "in_vain": "its last compaction freed nothing",
        "no_room": "there was no room for a copy",
        "cancelled": "its last compaction was cancelled",
    }.get(left_alone.code, "its last compaction failed")
    return (
        f"volume {left_alone.volume_id} is not compacted automatically until"
        f" {format_time(left_alone.until_ms)}: {cause} ({printable(left_alone.message)})"
    )


def volume_fields(volume: VolumeStatus, disk: DiskStatus, damaged_count: int) -> dict[str, Any]:
    """One flat object: place and state of the volume, and every field of its report."""
    return {
        "volume_id": volume.report.volume_id,
        "disk": disk.name,
        "disk_id": disk.disk_id,
        "is_online": disk.is_online,
        "state": volume.state,
        "reserved_bytes": volume.reserved_bytes,
        "verified_ms": volume.verified_ms,
        "unchecked_s": volume.unchecked_s,
        "job": plain(volume.job),
        **plain(volume.report),
        "damaged_count": damaged_count,
    }


def _volumes_of(disks: Iterable[DiskStatus]) -> list[tuple[VolumeStatus, DiskStatus]]:
    """All volumes, by number."""
    found = [(volume, disk) for disk in disks for volume in disk.volumes]
    return sorted(found, key=lambda pair: pair[0].report.volume_id)


def _volumes_table(status: Status, now_s: float, bar_width: int, left_out: Collection[str]) -> Table:
    damaged_counts = _damaged_counts(status)
    has_damage = any(damaged_counts.values())
    left_out = left_out if has_damage else (*left_out, "damaged")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in _VOLUME_COLUMNS:
        if name not in left_out:
            justify: JustifyMethod = "right" if name in _NUMBERS else "left"
            table.add_column(name, no_wrap=True, header_style="dim", justify=justify)
    for volume, disk in _volumes_of(status.disks):
        report = volume.report
        damaged_count = damaged_counts[report.volume_id]
        share = format_share(report.dead_bytes, report.file_size)
        cells = (
            str(report.volume_id),
            printable(disk.name),
            str(report.generation),
            "offline" if not disk.is_online else volume.state,
            fill_bar(report.file_size, report.capacity, bar_width).lstrip(" "),
            f"{report.live_count:,}",
            format_size(report.live_bytes),
            f"{report.dead_count:,}",
            f"{format_size(report.dead_bytes)} {share:>3}",
            f"{damaged_count:,}",
            _verified(volume, now_s),
        )
        table.add_row(
            *(cell for name, cell in zip(_VOLUME_COLUMNS, cells, strict=True) if name not in left_out),
            style="red" if _is_troubled(report, disk, damaged_count) else "",
        )
    return table


def _verified(volume: VolumeStatus, now_s: float) -> str:
    if volume.verified_ms is None:
        return "never"
    return format_ago(max(now_s - volume.verified_ms / 1000, 0.0))


def _volumes_sum(reports: Sequence[VolumeReport], status: Status) -> Text:
    used, wasted = sum(report.file_size for report in reports), sum(report.dead_bytes for report in reports)
    text = Text(f"{format_count(len(reports), 'volume')}, {format_size(used)} on disk")
    text.append(f", {format_size(wasted)} wasted ({format_share(wasted, used)})")
    if status.is_paused:
        text.append(", compaction paused", "yellow")
    return text


# --- events ---------------------------------------------------------------------------------------


def print_event(event: Event, console: Console, *, is_json: bool) -> None:
    if is_json:
        say_json(event=event.name, sequence=event.sequence, at_ms=event.at_ms, fields=event.fields)
        sys.stdout.flush()  # the reader waits for it
        return
    style = _style_of(event)
    line = Text().append(f"{format_time(event.at_ms)}  ", "dim").append(f"{event.name:<22}", style)
    for name, value in event.fields.items():
        if value is not None:
            line.append(f"  {printable(name)}=", "dim").append(_field_text(name, value), style)
    line.rstrip()
    console.print(line, soft_wrap=True)


def _style_of(event: Event) -> str:
    if event.fields.get("code") == "cancelled":  # somebody cancelled it
        return "yellow"
    if any(part in event.name for part in _ALARMING) or event.fields.get("damaged_count"):
        return "red"
    if any(part in event.name for part in _NOTABLE):
        return "yellow"
    return "dim" if event.name.endswith("_progress") else ""


def _field_text(name: str, value: str | int | float | bool) -> str:
    if name == "bytes_per_s" and isinstance(value, int | float):
        return f"{format_size(int(value))}/s"
    if name.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))
