"""Console: what the tools of this room have in common around their work.

Arguments, progress, failures and exit statuses; each tool is a function that returns a report.

    exit status   0 done   1 failed (a line on standard error says why)   2 wrong usage   130 interrupted
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from conf.arguments import Parser as Parser  # of the tools of this room
from conf.logging import set_up_logging
from errors import DiskFull, ReadFailed, StoreError, WriteFailed

DEFAULT_DATA = Path("warehouse-data")
LINE_EVERY_S = 5.0  # of progress, where no bar can move
SHOWN_MAX = 20  # of a list, to people; --json has more

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Report(Protocol):
    """What a tool did: a struct of plain values for --json, and lines for people."""

    def lines(self) -> Iterator[str]: ...


R = TypeVar("R", bound=Report)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=DEFAULT_DATA,
        metavar="DIR",
        help="data folder of the store, with master/ and disk-1/ ... in it (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="error",
        help="what to log beside the report (default: %(default)s)",
    )


def add_disk_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--disk",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a disk folder outside DIR; may be repeated",
    )


def run_tool(arguments: argparse.Namespace, work: Callable[[Progress], R], *, is_private: bool = True) -> int:
    """Do `work`, print its report, and return the exit status.

    Args:
        is_private: what it writes is for its own user alone.
    """
    if is_private:
        os.umask(0o077)
    set_up_logging(arguments.log_level, "json" if arguments.json else "text", "rescue")
    try:
        with shown_progress() as progress:
            report = work(progress)
    except StoreError as error:
        print(f"warehouse: {error.message} ({error.code})", file=sys.stderr, flush=True)
        if arguments.json:
            event = {"event": "failed", "code": error.code, "message": error.message}
            print(msgspec.json.encode(event).decode(), flush=True)
        return 1
    except KeyboardInterrupt:
        print("warehouse: interrupted", file=sys.stderr, flush=True)
        return 130
    print(msgspec.json.encode(report).decode() if arguments.json else "\n".join(report.lines()), flush=True)
    return 0


# --- progress -------------------------------------------------------------------------------------


class Progress(Protocol):
    """Who is told how far a tool is."""

    def begin(self, what: str, total: int) -> None:
        """A new piece of work; a total of 0: nobody knows how long it takes."""

    def at(self, done: int) -> None: ...


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Bars on a terminal, now and then a line elsewhere; on standard error."""
    if not sys.stderr.isatty():
        yield ProgressLines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield ProgressBars(bars)


class ProgressBars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, what: str, total: int) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(what, total=total or None)

    def at(self, done: int) -> None:
        assert self._task is not None
        self._bars.update(self._task, completed=done)


class ProgressLines:
    def __init__(self) -> None:
        self._what = ""
        self._total = 0
        self._said_at = 0.0

    def begin(self, what: str, total: int) -> None:
        self._what, self._total, self._said_at = what, total, time.monotonic()
        print(what, file=sys.stderr, flush=True)

    def at(self, done: int) -> None:
        if self._total and time.monotonic() >= self._said_at + LINE_EVERY_S:
            self._said_at = time.monotonic()
            print(f"{self._what}: {100 * done // self._total} %", file=sys.stderr, flush=True)


class NoProgress:
    def begin(self, what: str, total: int) -> None:
        pass

    def at(self, done: int) -> None:
        pass


# --- words ----------------------------------------------------------------------------------------


def listed(title: str, items: Sequence[str], total: int) -> Iterator[str]:
    """A list for people, cut where it gets too long for them; nothing when it is empty."""
    if total == 0:
        return
    yield f"{title}:"
    for item in items[:SHOWN_MAX]:
        yield f"  {printable(item)}"
    if total > SHOWN_MAX:
        yield f"  and {total - min(SHOWN_MAX, len(items)):,} more (--json lists them)"


def printable(text: str) -> str:
    """What could move the cursor or recolour it is escaped: keys are any text."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def utc_label(now_s: float) -> str:
    """For names of files that are moved aside: "20261126T204500Z"."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Name what the system refuses while `what` is written."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _FULL else WriteFailed
        raise kind(f"{what}: {error}") from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Name what the system refuses while `what` is read."""
    try:
        yield
    except OSError as error:
        raise ReadFailed(f"{what}: {error}") from error
