"""Access log: the lines that say who asked for what, in a file or on standard error.

    FILE        the newest lines; several gateways may write to it
    FILE.1      the lines before those, and so on: the greatest number is the oldest

The file is rotated as the audit log is (`conf/audit_files.py`): it is put aside when it has grown, and a file
that somebody else moved away is left behind, so logrotate works as well, without a signal.

No request waits for its line.  Lines are collected and written together, by a thread; when the disk cannot
take them, a bounded number waits, and what is lost is counted.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from warehouse.conf.audit_files import AuditFiles
from warehouse.errors import SetupError
from warehouse.transport.seldom import Seldom

log = logging.getLogger(__name__)

OFF, STDERR = "off", "stderr"
WAITING_MAX = 8 * 1024 * 1024  # bytes of lines that wait for the disk
TOGETHER_S = 0.2  # how long a line waits for others
RETRY_S = 2.0
LAST_S = 0.1  # requests that are cancelled together with the log still tell it
LOCK_SUFFIX = ".lock"


class AccessLog:
    """
    Args:
        target: "stderr", or the path of a file.
        size_max, count_max: see `AuditFiles`.

    Attributes:
        lost_count: lines that were never written.
    """

    def __init__(self, target: str, *, size_max: int, count_max: int) -> None:
        path = None if target == STDERR else Path(target).expanduser()
        self._files = None if path is None else AuditFiles(path, size_max=size_max, count_max=count_max)
        self._waiting: list[bytes] = []
        self._size = 0
        self._has_lines = trio.Event()
        self._troubles = Seldom(log, "the access log cannot be written")
        self.lost_count = 0

    def require_writable(self) -> None:
        """Blocks.

        Raises:
            SetupError: no line could be written.
        """
        try:
            self._write(b"")
        except OSError as error:
            raise SetupError(f"s3.access_log cannot be written: {error}") from error

    def add(self, line: bytes) -> None:
        if self._size + len(line) > WAITING_MAX:
            self.lost_count += 1
            return
        self._waiting.append(line)
        self._size += len(line)
        if not self._has_lines.is_set():
            self._has_lines.set()

    async def run(self) -> None:
        """Write what is added, until cancelled; then the rest."""
        try:
            while True:
                await self._has_lines.wait()
                await trio.sleep(TOGETHER_S)
                if not await self._flush():
                    await trio.sleep(RETRY_S)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(LAST_S)
                await self._flush()

    async def _flush(self) -> bool:
        """Write all lines; where that fails, they wait for the next time."""
        lines, self._waiting, self._size = self._waiting, [], 0
        self._has_lines = trio.Event()
        if not lines:
            return True
        try:
            await trio.to_thread.run_sync(self._write, b"".join(lines))
        except OSError as error:
            self._troubles.happened(cause=str(error))
            for line in lines:
                self.add(line)
            return False
        return True

    def _write(self, lines: bytes) -> None:
        if self._files is None:
            sys.stderr.buffer.write(lines)
            sys.stderr.buffer.flush()
            return
        with _alone(self._files.path):
            self._files.append(lines)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One gateway at a time: two that rotate the file together would put an empty one aside."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    lock = os.open(path.with_name(path.name + LOCK_SUFFIX), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
