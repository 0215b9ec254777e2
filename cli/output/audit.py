"""Output about the audit log: a line for each entry, for people and for programs."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from warehouse.cli.output.formats import format_count, printable
from warehouse.cli.output.objects import say_failure, say_json
from warehouse.transport.messages import AuditEntry
from warehouse.transport.messages.audit import fields_of

_COLUMNS = (("time", 19), ("result", 17), ("action", 20), ("key", 22), ("address", 15), ("target", 0))
_NOTABLE = ("deleted", "lost", "left_out", "restored", "rebuilt", "removed", "reset")  # parts of actions


def print_heading(console: Console) -> None:
    console.print(Text("  ".join(f"{name:<{width}}" for name, width in _COLUMNS), "dim"), soft_wrap=True)


def print_entry(entry: AuditEntry, console: Console, *, is_json: bool) -> None:
    if is_json:
        say_json(**fields_of(entry))
        sys.stdout.flush()  # the reader may wait for it
        return
    style = _style_of(entry)
    cells = {
        "time": _local_time(entry.time),
        "result": entry.result,
        "action": entry.action,
        "key": entry.key or entry.user or entry.node[:22],
        "address": entry.address,
        "target": entry.target,
    }
    line = Text()
    for name, width in _COLUMNS:
        text = printable(cells[name])
        line.append(f"{text:<{width}}", "dim" if name == "time" else style).append("  ")
    for name, value in entry.details.items():
        line.append(f"{printable(name)}=", "dim").append(f"{_detail_text(value)}  ", style)
    line.rstrip()
    console.print(line, soft_wrap=True)


def _local_time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return text


def _style_of(entry: AuditEntry) -> str:
    if entry.result != "ok" or entry.action == "lines_lost":
        return "red"
    return "yellow" if any(part in entry.action for part in _NOTABLE) else ""


def _detail_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(printable(str(one)) for one in value)
    return printable(f"{value:.6g}" if isinstance(value, float) else str(value))


def tell_what_is_missing(unreadable_count: int, gap_count: int) -> None:
    """Say on standard error what could not be shown."""
    if unreadable_count:
        count = format_count(unreadable_count, "line")
        say_failure(f"warehouse: {count} of the audit log cannot be read, and left out")
    if gap_count:
        say_failure(
            "warehouse: lines were rotated away before they could be read: see the setting audit.files"
        )
