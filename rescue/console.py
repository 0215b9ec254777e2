"""Console: arguments, progress, failures and exit statuses, which all tools of this room share.

Each tool is a function that returns a report.

    exit status   0 done   1 failed (a line on standard error says why)   2 wrong usage   130 interrupted
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from warehouse.conf.arguments import Parser as Parser  # the tools import it from here
from warehouse.conf.audit_files import note_offline
from warehouse.conf.formatting import format_size, format_span
from warehouse.conf.logging import set_up_logging
from warehouse.errors import BadRequest, DiskFull, ReadFailed, StoreError, WriteFailed

DEFAULT_DATA = Path("warehouse-data")
LINE_EVERY_S = 5.0  # of progress, where bars cannot move
BYTES = "bytes"  # a unit of `Progress.begin`
SHOWN_MAX = 20  # items of a list for people; --json has more

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
        help="what to log besides the report (default: %(default)s)",
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


def require_no_stream(path: Path, example: str) -> None:
    """
    Raises:
        BadRequest: the path is `-`, which means a standard stream to many other commands.
    """
    if str(path) == "-":
        raise BadRequest(
            f"'-' does not mean a standard stream here: give a name to write to, such as {example}"
        )


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Leave no half-made files, and no secrets in clear, when systemd or a time limit ends the tool."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_tool(
    arguments: argparse.Namespace,
    work: Callable[[Progress], R],
    *,
    audited_as: str,
    is_private: bool = True,
    again: str = "",
) -> int:
    """Do `work`, print its report, and return the exit status.

    Args:
        audited_as: the action that the store's audit log is told of, if the store has such a log.
        is_private: only its own user may read what it writes.
        again: what the user can do after an interruption.
    """
    if is_private:
        os.umask(0o077)
    set_up_logging(arguments.log_level, "json" if arguments.json else "text", "rescue")
    master = arguments.data / "master"
    try:
        with _sigterm_as_ctrl_c(), shown_progress() as progress:
            report = work(progress)
    except StoreError as error:
        note_offline(master, audited_as, result=error.code)
        print(f"warehouse: {printable(error.message)} ({error.code})", file=sys.stderr, flush=True)
        if arguments.json:
            event = {"event": "failed", "code": error.code, "message": error.message}
            print(_as_json(event), flush=True)
        return 1
    except KeyboardInterrupt:
        note_offline(master, audited_as, result="interrupted")
        print("warehouse: interrupted" + (f"; {again}" if again else ""), file=sys.stderr, flush=True)
        return 130
    note_offline(master, audited_as)
    print(_as_json(report) if arguments.json else "\n".join(map(printable, report.lines())), flush=True)
    return 0


def _as_json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a path is not UTF-8: escape its bytes
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))


# --- progress -------------------------------------------------------------------------------------


class Progress(Protocol):
    """Shows how far a tool is."""

    def begin(self, what: str, total: int, unit: str = "") -> None:
        """A new piece of work.

        Args:
            total: how much there is to do; 0: unknown.
            unit: what is counted, BYTES or the plural of a noun; without it, no rate is shown.
        """

    def at(self, done: int) -> None: ...


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Bars on a terminal, a line every few seconds elsewhere; on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield ProgressLines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn(), _RateColumn())
    bars = Bars(*columns, console=console, transient=True)
    try:
        yield ProgressBars(bars)
    finally:
        bars.stop()


def rate_and_rest(per_s: float | None, left: float, unit: str) -> str:
    """Rate and time left: "45,000 objects/s, 1 min 20 s left"."""
    if not per_s or per_s <= 0:
        return ""
    rate = f"{format_size(int(per_s))}/s" if unit == BYTES else f"{per_s:,.0f} {unit}/s"
    rest = f"{format_span(max(left, 0) / per_s)} left"
    return f"{rate}, {rest}" if unit else rest


class _RateColumn(ProgressColumn):
    """Rate and time left if the length of the work is known, otherwise the time taken so far."""

    max_refresh = 0.5  # seconds: numbers that change faster cannot be read

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(format_span(task.elapsed or 0))
        return Text(rate_and_rest(task.speed, task.total - task.completed, task.fields["unit"]))


class ProgressBars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, what: str, total: int, unit: str = "") -> None:
        self._bars.start()  # not earlier: the tool may still ask something on this terminal
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(what, total=total or None, unit=unit)

    def at(self, done: int) -> None:
        assert self._task is not None
        self._bars.update(self._task, completed=done)


class ProgressLines:
    def __init__(self) -> None:
        self._what = self._unit = ""
        self._total = 0
        self._began_at = self._said_at = 0.0

    def begin(self, what: str, total: int, unit: str = "") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._began_at = self._said_at = time.monotonic()
        print(what, file=sys.stderr, flush=True)

    def at(self, done: int) -> None:
        now_s = time.monotonic()
        if not self._total or now_s < self._said_at + LINE_EVERY_S:
            return
        self._said_at = now_s
        more = rate_and_rest(done / (now_s - self._began_at), self._total - done, self._unit)
        share = f"{100 * done // self._total} %"
        print(f"{self._what}: {', '.join(filter(None, (share, more)))}", file=sys.stderr, flush=True)


class NoProgress:
    def begin(self, what: str, total: int, unit: str = "") -> None:
        pass

    def at(self, done: int) -> None:
        pass


# --- words ----------------------------------------------------------------------------------------


def listed(title: str, items: Sequence[str], total: int) -> Iterator[str]:
    """A list for people, cut when it gets too long; nothing when it is empty."""
    if total == 0:
        return
    yield f"{title}:"
    for item in items[:SHOWN_MAX]:
        yield f"  {printable(item)}"
    if total > SHOWN_MAX:
        yield f"  and {total - min(SHOWN_MAX, len(items)):,} more (--json lists them)"


def printable(text: str) -> str:
    """Escape what could move the cursor or change colours: a key may be any text."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def utc_label(now_s: float) -> str:
    """A time in the name of a file that is moved aside: "20261126T204500Z"."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn an error of the system while `what` is written into one of ours."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _FULL else WriteFailed
        raise kind(f"{what}: {error}") from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an error of the system while `what` is read into one of ours."""
    try:
        yield
    except OSError as error:
        raise ReadFailed(f"{what}: {error}") from error
