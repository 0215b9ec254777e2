"""Audit files: where the lines of the audit log are, how they are appended, rotated, and read again.

    <data>/master/audit.jsonl      the newest lines
    <data>/master/audit.jsonl.1    the lines before those, and so on: the greatest number is the oldest

Files have mode 0600, are never reached through a link, and contain whole lines only: what a full disk cut off
is taken back.  The master and a tool may append at the same time, each with one write.

A reader goes through the files page by page, with a cursor: the digest of a file's first line, and an offset.
So it finds its place again after a rotation.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from warehouse.conf.audit_lines import LINE_SIZE_MAX, Value, encode_line, format_utc
from warehouse.conf.files import sync_folder

AUDIT_NAME = "audit.jsonl"
SCANNED_MAX = 2 * 1024 * 1024  # bytes that one page looks at
_TIME_AT = len('{"time":"')
_TIME_SIZE = 24
# NONBLOCK: a pipe in the place of the file must not hang us.
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CURSOR = re.compile(r"([0-9a-f]{16})-([0-9]{1,15})")


# --- writing --------------------------------------------------------------------------------------


class AuditFiles:
    """Appends lines; every method blocks.

    Args:
        size_max: bytes; a file that would exceed them is rotated first.
        count_max: files that are kept, at least 1.
    """

    def __init__(self, path: Path, *, size_max: int, count_max: int) -> None:
        self.path = path
        self._size_max = size_max
        self._count_max = count_max
        self._descriptor: int | None = None

    def append(self, lines: bytes) -> None:
        """Hand whole lines to the operating system: all of them, or none.

        Raises:
            OSError: from the system; nothing was written.
        """
        descriptor = self._opened()
        if 0 < os.fstat(descriptor).st_size > self._size_max - len(lines):
            self._rotate(descriptor)
            descriptor = self._opened()
        _append(descriptor, lines)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        """The newest file, open; another one when somebody has moved or removed it."""
        if self._descriptor is not None and not _is_at(self._descriptor, self.path):
            self.close()
        if self._descriptor is None:
            self._descriptor = _open_to_append(self.path, os.O_CREAT)
        return self._descriptor

    def _rotate(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self.close()
        for number in sorted(numbers_of(self.path), reverse=True):
            if number >= self._count_max - 1:
                _numbered(self.path, number).unlink(missing_ok=True)
            else:
                with suppress(FileNotFoundError):
                    _numbered(self.path, number).replace(_numbered(self.path, number + 1))
        sync_folder(self.path.parent)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def numbers_of(path: Path) -> list[int]:
    """The numbers of the files that exist, ascending: 0 is the newest."""
    names = re.compile(re.escape(path.name) + r"(?:\.([1-9][0-9]{0,5}))?")
    found = (names.fullmatch(name) for name in os.listdir(path.parent))
    return sorted(int(match[1] or 0) for match in found if match is not None)


def _open_to_append(path: Path, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | _OPEN | flags, 0o600)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        if mode & 0o077:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _append(descriptor: int, lines: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) not in (b"\n", b""):
        lines = b"\n" + lines  # a crash left a piece of a line
    written = 0
    try:
        while written < len(lines):
            written += os.write(descriptor, lines[written:])
    except OSError:
        with suppress(OSError):
            if os.fstat(descriptor).st_size == size + written:  # nobody else has appended
                os.ftruncate(descriptor, size)
        raise


def note_offline(folder: Path, action: str, **fields: Value) -> bool:
    """Append a line about a tool that works on the files of a store; never fail.

    Args:
        folder: of the master, such as `warehouse-data/master`.
        fields: see `audit_lines.ACTIONS`.
    Returns:
        Whether the line was written.  It is not when the store keeps no audit log, or its disk is full.
    """
    try:
        line = encode_line(action, {"user": _user(), **fields})
        descriptor = _open_to_append(folder / AUDIT_NAME)
        try:
            _append(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError, TypeError):
        return False
    return True


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, OSError):
        return str(os.getuid())


# --- reading --------------------------------------------------------------------------------------


@dataclass
class AuditPage:
    """
    Attributes:
        lines: the fields of each line, oldest first.
        cursor: where the next page begins.
        is_last: there is nothing more for now.
        unreadable_count: lines that are not ours, or that a crash cut off.
        is_gap: the place of the cursor was rotated away; this page begins with the oldest line that is left.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    cursor: str = ""
    is_last: bool = True
    unreadable_count: int = 0
    is_gap: bool = False


@dataclass(frozen=True)
class AuditFilter:
    """
    Attributes:
        since: `format_utc`; lines before are left out.  "": none are.
        key, action: only lines with these; "": all.
    """

    since: str = ""
    key: str = ""
    action: str = ""

    def may_take(self, line: bytes) -> bool:
        """False: this line need not be decoded."""
        if self.since and line.startswith(b'{"time":"'):
            return line[_TIME_AT : _TIME_AT + _TIME_SIZE] >= self.since.encode("ascii", "replace")
        return True

    def takes(self, fields: dict[str, Any]) -> bool:
        return (
            (not self.since or str(fields.get("time", "")) >= self.since)
            and (not self.key or fields.get("key") == self.key)
            and (not self.action or fields.get("action") == self.action)
        )


def read_page(
    path: Path,
    cursor: str = "",
    only: AuditFilter = AuditFilter(),
    *,
    lines_max: int = 1000,
    scanned_max: int = SCANNED_MAX,
) -> AuditPage:
    """Read on from `cursor`; "": from the oldest line on.  Blocks.

    A page may be empty and not the last: it looks at a bounded number of bytes.

    Args:
        path: of the newest file.
    Raises:
        ValueError: that is no cursor.
        OSError: from the system; a store without an audit log has an empty one.
    """
    match = _CURSOR.fullmatch(cursor) if cursor else None
    if cursor and match is None:
        raise ValueError("no such cursor")
    wanted, offset = (match[1], int(match[2])) if match is not None else ("", 0)
    with _opened_files(path, wanted, only.since) as (files, is_found):
        page = AuditPage(cursor=cursor, is_gap=bool(wanted) and not is_found and bool(files))
        left = scanned_max
        for index, (name, descriptor) in enumerate(files):
            is_newest = index == len(files) - 1
            start = offset if is_found and index == 0 else 0
            scan = _Scan(descriptor, start, is_newest=is_newest)
            while left > 0 and len(page.lines) < lines_max and not scan.is_over:
                left -= scan.step(page, only, min(left, scanned_max), lines_max)
            page.cursor = f"{name}-{scan.offset}"
            if not scan.is_over:
                page.is_last = False
                break
        return page


@contextmanager
def _opened_files(path: Path, wanted: str, since: str) -> Iterator[tuple[list[tuple[str, int]], bool]]:
    """The files from the wanted one on, oldest first, as (name, descriptor); and whether it was found.

    They are opened from the newest to the oldest, as a rotation moves them: none is missed, and one that
    comes twice is seen to be the same.
    """
    files: list[tuple[str, int]] = []
    with ExitStack() as stack:
        is_found = False
        for number in numbers_of(path) if path.parent.is_dir() else []:
            try:
                descriptor = os.open(_numbered(path, number), os.O_RDONLY | _OPEN)
            except FileNotFoundError:
                continue
            stack.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            name = _name_of(descriptor)
            if not stat.S_ISREG(found.st_mode) or not name or any(name == other for other, _ in files):
                continue
            if not wanted and since and _is_older(found.st_mtime, since):
                break
            files.append((name, descriptor))
            if name == wanted:
                is_found = True
                break
        yield files[::-1], is_found


def _name_of(descriptor: int) -> str:
    """A name for a file that a rotation does not change; "" when it has no whole line yet."""
    head = os.pread(descriptor, LINE_SIZE_MAX, 0)
    end = head.find(b"\n")
    return "" if end < 0 else blake2b(head[:end], digest_size=8).hexdigest()


def _is_older(changed_s: float, since: str) -> bool:
    """Was a file last changed well before `since`?  A day for clocks that were set back."""
    return format_utc(changed_s + 86400) < since


class _Scan:
    """Goes through one file, in steps."""

    def __init__(self, descriptor: int, offset: int, *, is_newest: bool) -> None:
        self.offset = offset
        self.is_over = False
        self._descriptor = descriptor
        self._is_newest = is_newest

    def step(self, page: AuditPage, only: AuditFilter, size: int, lines_max: int) -> int:
        """Take the next lines into `page`; return how many bytes were looked at."""
        chunk = os.pread(self._descriptor, max(size, LINE_SIZE_MAX), self.offset)
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._no_whole_line(page, chunk)
            return max(len(chunk), 1)
        begin = 0
        while begin < end and len(page.lines) < lines_max:
            stop = chunk.index(b"\n", begin) + 1
            _take(page, only, chunk[begin : stop - 1])
            begin = stop
        self.offset += begin
        return begin

    def _no_whole_line(self, page: AuditPage, chunk: bytes) -> None:
        """The end of the file, or a line that is longer than ours ever are."""
        if len(chunk) >= LINE_SIZE_MAX:
            page.unreadable_count += 1
            self.offset += len(chunk)
            return
        if chunk and not self._is_newest:
            page.unreadable_count += 1
            self.offset += len(chunk)
        self.is_over = True


def _take(page: AuditPage, only: AuditFilter, line: bytes) -> None:
    if not only.may_take(line):
        return
    try:
        fields = json.loads(line) if len(line) <= LINE_SIZE_MAX else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        page.unreadable_count += 1
    elif only.takes(fields):
        page.lines.append(fields)
