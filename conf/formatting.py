"""Formatting: how sizes, counts and spans of time are written for people.  Pure."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_size(size: int) -> str:
    """`1536` as "1.5 KiB"."""
    value, unit = float(size), 0
    while value >= 1023.95 and unit + 1 < len(_UNITS):  # what would round to 1024.0 takes the next unit
        value /= 1024
        unit += 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def format_count(count: int, noun: str) -> str:
    """`1200`, "object" as "1,200 objects"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_span(seconds: float) -> str:
    """`90061.0` as "1 d 1 h"."""
    whole = int(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    shown = [f"{value} {unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or "0 s"
