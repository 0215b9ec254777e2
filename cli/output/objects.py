"""Output about objects: lines, listings, failures and copies, for people and for programs.

Results go to standard output, progress and failures to standard error.  With `--json`, standard output has
one JSON object per line and nothing else.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TextIO

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from warehouse.cli.copying.places import OUTPUT_WORDS
from warehouse.cli.copying.transfers import Totals, Transfer
from warehouse.cli.output.formats import format_count, format_size, format_zoned_time, printable, shortened
from warehouse.client.listing import Prefix
from warehouse.client.nurseries import is_cancellation
from warehouse.errors import StoreError
from warehouse.transport.messages import BucketInfo, ObjectInfo

PIPED_WIDTH = 120
SUBJECT_LENGTH = 200  # of a path or a key in a message; a longer one is cut in its middle
LEFT_OUT_LINES = 20  # the first left-out files are named; all are counted


def say(text: str) -> None:
    print(text)


def say_json(*, file: TextIO | None = None, **fields: Any) -> None:
    print(msgspec.json.encode(fields).decode(), file=file)


def say_failure(line: str) -> None:
    """Print a line to standard error; a closed standard error is no failure."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def say_failed(error: StoreError | OSError, words: Sequence[str]) -> None:
    """Print the last event of a failed command, if its words ask for JSON."""
    if "--json" in words:
        code, message = explain(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = printable(f"{error.filename}: {message}")
        is_copy_out = words[:1] == ["cp"] and not OUTPUT_WORDS.isdisjoint(words[2:])
        takes_bytes = words[:1] in (["cat"], ["head"], ["tail"]) or is_copy_out
        with contextlib.suppress(OSError):
            say_json(file=sys.stderr if takes_bytes else None, event="failed", code=code, message=message)
            sys.stdout.flush()


def tell(is_json: bool, text: str, **fields: Any) -> None:
    """Print one result: a line for a person, or fields for a program."""
    if is_json:
        say_json(**fields)
    else:
        say(text)


def plain(value: Any) -> Any:
    """A message as plain values for JSON: with every field, including defaults."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(one) for name, one in msgspec.structs.asdict(value).items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


class ResultConsole(Console):
    """Standard output; raises BrokenPipeError when the reader has gone, for the exit status."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        raise  # Rich calls this in its handler of BrokenPipeError, and would exit with 1


def result_console() -> Console:
    """A console for tables on standard output."""
    console = ResultConsole()
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)  # no window: do not cut names short
    return console


def failure_line(error: StoreError | OSError, subject: str = "") -> str:
    """One line for standard error: the subject, the failure, and its stable code."""
    code, message = explain(error)
    if not subject and isinstance(error, OSError) and error.filename is not None:
        subject = str(error.filename)
    about = f"{shortened(subject, SUBJECT_LENGTH)}: " if subject else ""
    return f"warehouse: {shortened(printable(about + message))} ({code})"


def explain(error: StoreError | OSError) -> tuple[str, str]:
    """Code and message."""
    if isinstance(error, StoreError):
        return error.code, error.message
    return "os_error", error.strerror or str(error)


# --- copies ---------------------------------------------------------------------------------------


class CopyReport:
    """Reports copies while they run, and sums up at the end.

    Attributes:
        done, would: what is said to have been done, or would be done.

    Args:
        is_json: print one object for each copy and each failure to standard output.
        is_silent: the bytes go to standard output; print nothing else there.
        has_many: failures name their file.
        is_dry: nothing is copied; print what would be copied.
    """

    done = "copied"
    would = "would copy"

    def __init__(
        self, *, is_json: bool, is_silent: bool = False, has_many: bool = True, is_dry: bool = False
    ) -> None:
        self._is_json = is_json
        self._is_dry = is_dry
        # With --json, events go to standard error when the bytes go to standard output.
        self._events = sys.stderr if is_silent else None
        self._left_out_count = 0
        self._is_silent = is_silent
        self._has_many = has_many
        self._console = Console(stderr=True)
        self._found_count = self._done_count = self._found_size = 0
        self._progress: Progress | None = None
        if self._console.is_terminal and not is_json and not (is_silent and sys.stdout.isatty()):
            self._progress = Progress(
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TextColumn("{task.fields[files]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("copy", total=None, files="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @contextlib.contextmanager
    def told(self, again: str) -> Iterator[None]:
        """Show progress during the block; when it is interrupted, print how far it came.

        Args:
            again: what the same command would do next.
        """
        try:
            with self:
                yield
        except BaseException as error:
            if not is_cancellation(error):
                raise
            if self._is_json:
                say_json(
                    file=self._events,
                    event="interrupted",
                    file_count=self._done_count,
                    found_count=self._found_count,
                )
            elif self._has_many and not self._is_dry:
                say_failure(f"warehouse: interrupted after {self._files()} were {self.done}; {again}")
            raise

    def found(self, transfer: Transfer) -> None:
        self._found_count += 1
        self._found_size += transfer.size or 0
        if self._progress is not None:
            total = self._found_size if transfer.size is not None else None
            self._progress.update(self._task, total=total, files=self._files())

    def moved(self, delta: int) -> None:
        if self._progress is not None:
            self._progress.update(self._task, advance=delta)

    def finished(self, transfer: Transfer, size: int) -> None:
        self._done_count += 1
        if self._progress is not None:
            self._progress.update(self._task, files=self._files())
        if self._is_json:
            event = self.would.replace(" ", "_") if self._is_dry else self.done
            why = {"cause": transfer.why} if self._is_dry and transfer.why is not None else {}
            names = {"source": transfer.source, "target": transfer.target}
            say_json(file=self._events, event=event, **names, size=size, **why)
        elif self._is_dry:
            reason = f" ({transfer.why})" if transfer.why is not None else ""
            names_line = f"{printable(transfer.source)} to {printable(transfer.target)}"
            self._say(f"{self.would} {names_line}{reason}", sys.stdout)

    def same(self, transfer: Transfer) -> None:
        self._found_count -= 1
        self._found_size -= transfer.size or 0
        if self._progress is not None:
            self._progress.update(self._task, total=self._found_size, files=self._files())

    def left_out(self, source: str, why: str) -> None:
        self._left_out_count += 1
        if self._is_json:
            say_json(file=self._events, event="left_out", source=source, cause=why)
        if self._left_out_count <= LEFT_OUT_LINES:
            about = printable(shortened(source, SUBJECT_LENGTH))
            self._say(f"warehouse: left out {about}: it is {why}", sys.stderr)
        elif self._left_out_count == LEFT_OUT_LINES + 1:
            self._say("warehouse: further left-out files are only counted", sys.stderr)

    def failed(self, source: str, target: str, error: StoreError | OSError) -> None:
        self._say(failure_line(error, source if self._has_many else ""), sys.stderr)
        if self._is_json:
            code, message = explain(error)
            say_json(
                file=self._events, event="failed", source=source, target=target, code=code, message=message
            )

    def _say(self, line: str, file: TextIO) -> None:
        """Print a line; the progress bar on standard error moves below it."""
        if self._progress is not None and file is sys.stderr:
            self._progress.console.print(Text(line))
        else:
            print(line, file=file)

    def sum_up(self, totals: Totals, **more: int) -> None:
        """Print the last line, or the last event with `more` fields."""
        if self._is_json:
            say_json(
                file=self._events,
                event="summary",
                file_count=totals.file_count,
                byte_count=totals.byte_count,
                failed_count=totals.failed_count,
                left_out_count=totals.left_out_count,
                **more,
                elapsed_s=round(totals.elapsed_s, 3),
            )
            return
        if self._is_silent:
            return
        files, size = format_count(totals.file_count, "file"), format_size(totals.byte_count)
        rate = format_size(int(totals.byte_count / totals.elapsed_s))
        failed = f", {totals.failed_count:,} failed" if totals.failed_count else ""
        left_out = f", {totals.left_out_count:,} left out" if totals.left_out_count else ""
        if self._is_dry:
            say(f"{self.would} {files}, {size}{failed}{left_out}")
        else:
            say(f"{self.done} {files}, {size}, in {totals.elapsed_s:.1f} s ({rate}/s){failed}{left_out}")

    def _files(self) -> str:
        return f"{self._done_count:,} of {format_count(self._found_count, 'file')}"


class MoveReport(CopyReport):
    """The same about moves."""

    done = "moved"
    would = "would move"


class SetReport(CopyReport):
    """The same about objects whose type or metadata is changed."""

    done = "changed"
    would = "would change"


# --- listings -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """What a line of a listing tells beside the name."""

    is_long: bool = False  # size and time
    is_exact: bool = False  # sizes in bytes
    has_etag: bool = False

    def size(self, size: int) -> str:
        return f"{size:>15}" if self.is_exact else f"{format_size(size):>10}"

    def line(self, size: str, time: str, etag: str, name: str) -> str:
        if not self.is_long:
            return name
        tag = f"{etag:<{ETAG_WIDTH}}  " if self.has_etag else ""
        return f"{size:>{15 if self.is_exact else 10}}  {time:<25}  {tag}{name}"


ETAG_WIDTH = 32  # of most: an MD5, or what the store makes of the needle; a longer one moves its line


def print_bucket(info: BucketInfo, *, is_json: bool, is_long: bool, is_exact: bool = False) -> None:
    if is_json:
        say_json(
            bucket=info.name,
            created_ms=info.created_ms,
            object_count=info.object_count if info.is_counted else None,
            byte_count=info.byte_count if info.is_counted else None,
            quota_objects=info.quota_objects,
            quota_bytes=info.quota_bytes,
        )
    elif is_long:
        # "-": this key may not list the whole bucket, so it is not told the sums.
        columns = Columns(is_long=True, is_exact=is_exact)
        size = columns.size(info.byte_count) if info.is_counted else "-"
        count = format_count(info.object_count, "object") if info.is_counted else "-"
        time = format_zoned_time(info.created_ms)
        say(columns.line(size, time, "", f"{count:>14}  wh://{info.name}"))
    else:
        say(f"wh://{info.name}")


def print_quota(info: BucketInfo, *, is_json: bool) -> None:
    """What a bucket holds, and what it may hold."""
    if is_json:
        print_bucket(info, is_json=True, is_long=False)
        return
    if not info.is_counted:
        say(f"wh://{info.name}  this key may not list the whole bucket, so it is not told what is in it")
        return
    objects = f"{info.object_count:,}" + (
        " objects, any number" if info.quota_objects is None else f" of {info.quota_objects:,} objects"
    )
    size = format_size(info.byte_count) + (
        ", any size" if info.quota_bytes is None else f" of {format_size(info.quota_bytes)}"
    )
    say(f"wh://{info.name}  {objects}  {size}")
    if info.is_over_quota:
        say_failure(
            f"warehouse: wh://{info.name} holds more than its quota: it keeps that, and takes only what does"
            " not make it grow"
        )


def print_entry(
    entry: ObjectInfo | Prefix, folder: str, columns: Columns, *, is_json: bool, root: str = ""
) -> None:
    """Print one line of a listing, with the name relative to the folder.

    Args:
        root: printed before the name.
    """
    if isinstance(entry, Prefix):
        if is_json:
            say_json(prefix=entry.name)
        else:
            say(columns.line("-", "", "", root + printable(entry.name[len(folder) :])))
    elif is_json:
        say_json(**object_fields(entry))
    else:
        name = root + printable(entry.key[len(folder) :])
        say(columns.line(columns.size(entry.size), format_zoned_time(entry.created_ms), entry.etag, name))


def object_fields(info: ObjectInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "size": info.size,
        "etag": info.etag,
        "created_ms": info.created_ms,
        "content_type": info.content_type,
    }


def print_object(info: ObjectInfo, place: str, *, is_json: bool) -> None:
    if is_json:
        say_json(**object_fields(info), chunk_count=info.chunk_count, metadata=info.metadata)
        return
    lines = [
        ("object", printable(place)),
        ("size", f"{format_size(info.size)} ({info.size:,} bytes)"),
        ("type", info.content_type or ""),
        ("stored", format_zoned_time(info.created_ms)),
        ("etag", info.etag),
        ("chunks", str(info.chunk_count)),
        *((f"  {printable(name)}", printable(value)) for name, value in info.metadata.items()),
    ]
    for name, value in lines:
        say(f"{name:<8} {value}")
