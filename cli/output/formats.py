"""Formats: how sizes, times and keys are printed for people, and how they are read.  Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from warehouse.cli.usage import UsageError
from warehouse.conf.formatting import (
    format_count as format_count,  # used together with the formats of this file
)
from warehouse.conf.formatting import format_size as format_size
from warehouse.conf.formatting import format_span as format_span

WORD_LENGTH = 160  # of a key or a path in a message: about two lines of a terminal
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

NUMBER_DIGITS_MAX = 18  # any such number is below 2**63
NUMBER_MAX = 10**NUMBER_DIGITS_MAX


def format_time(ms: int) -> str:
    """Milliseconds since the epoch, in local time."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")


def format_zoned_time(ms: int) -> str:
    """The same with the zone: `2026-11-26 21:04:11 +0100`."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def format_ago(seconds: float) -> str:
    """`90061.0` as "1 d ago": one unit, for a column of a table."""
    return f"{' '.join(format_span(seconds).split()[:2])} ago"


def format_share(part: int, whole: int) -> str:
    """A percentage that is 0% only for nothing and 100% only for all."""
    if part <= 0 or whole <= 0:
        return "0%"
    if part >= whole:
        return "100%"
    return f"{min(max(round(100 * part / whole), 1), 99)}%"


def format_pause(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:,.0f} ms"


def block_bar(part: int, whole: int, width: int) -> str:
    """A bar of `width` letters, filled up to the share of `part` in `whole`."""
    filled = round(width * _share(part, whole))
    return "█" * filled + "·" * (width - filled)


def fill_bar(used: int, capacity: int, width: int) -> str:
    """A bar and its percentage."""
    return f"{block_bar(used, capacity, width)} {_share(used, capacity):4.0%}"


def _share(part: int, whole: int) -> float:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


def parse_span(text: str) -> float:
    """`"1h"`, `"30m"`, `"7d"` or bare seconds, as seconds."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"a time must look like 90s, 30m, 1h or 7d, not {text!r}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_moment(text: str, option: str = "--since") -> datetime:
    """`"1h"` (ago), or a date or time as ISO 8601 writes it, local unless it names a zone.

    Raises:
        UsageError: neither, or it lies ahead.
    """
    now = datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        try:
            moment = now - timedelta(seconds=parse_span(text))
        except (UsageError, OverflowError):
            raise UsageError(
                f"{option} must look like 90s, 30m, 1h, 7d, 2026-11-29 or 2026-11-29T16:00, not"
                f" {shortened(repr(text))}"
            ) from None
    if moment > now:
        raise UsageError(f"{option} {shortened(text)} lies ahead: name a time that has been")
    return moment


def parse_size(text: str) -> int:
    """`"80MiB"`, `"5G"` or bare bytes, as bytes; all units are powers of 1024."""
    match = re.fullmatch(r"([0-9]+)(\.[0-9]+)?\s*([kmgtp]?)(?:i?b)?", text.strip().lower())
    if match is None or (match[2] and not match[3]):  # no fractions of a byte
        raise UsageError(f"a size must look like 500, 64KiB or 1.5GiB, not {shortened(repr(text))}")
    unit: int = 1024 ** (" kmgtp".index(match[3]) if match[3] else 0)
    if len(match[1]) > NUMBER_DIGITS_MAX or int(match[1]) * unit > NUMBER_MAX:
        raise UsageError(f"the size {shortened(repr(text))} is too large")
    return int(match[1]) * unit + int(float(match[2] or 0) * unit)


def parse_number(what: str, text: str, least: int, most: int) -> int:
    """A number in decimal digits only: no sign, no point, no exponent.

    Args:
        what: its name in error messages.
    """
    if not re.fullmatch(r"[0-9]+", text):
        raise UsageError(f"{what} must be a whole number, not {shortened(repr(text))}")
    number = int(text) if len(text) <= NUMBER_DIGITS_MAX else NUMBER_MAX + 1
    if not least <= number <= most:
        raise UsageError(f"{what} must be from {least:,} to {most:,}, not {shortened(text)}")
    return number


def shortened(text: str, length: int = 500) -> str:
    """Cut the middle out of a long text, such as a message about a long key, and out of each long word."""
    if len(text) <= min(length, WORD_LENGTH):
        return text
    text = re.sub(rf"\S{{{WORD_LENGTH + 1},}}", lambda word: _without_middle(word[0], WORD_LENGTH), text)
    return _without_middle(text, length)


def _without_middle(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    kept = length // 2 - 10
    return f"{text[:kept]} ... {text[-kept:]}"


def printable(text: str) -> str:
    """A key as it may be printed on a terminal: control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )
