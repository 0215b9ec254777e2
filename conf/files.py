"""Files: small files that appear whole or not at all; a file with the right content is not written again.

An operator may name anything for reading: a pipe that a program fills (`--profile <(decrypt)`), a pipe that
nobody fills, a device without an end.  `read_small` bounds the bytes and the wait.

A file that is rewritten at each start needs disk space, and the right to write, at each start.  A full disk,
or a file of another user, would then prevent a start for no reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import tempfile
import time
from pathlib import Path

PIPE_WAIT_S = 30.0


def read_small(path: Path, size_max: int, *, wait_s: float = PIPE_WAIT_S) -> tuple[bytes, os.stat_result]:
    """Read a file to its end; return its content and its fstat(2).

    Args:
        size_max: of the content, bytes.
        wait_s: how long to wait for the end of a pipe.
    Raises:
        OSError: from the system; or the file is longer (EFBIG) or did not end in time (ETIMEDOUT).
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer, forever and through every signal.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        deadline = time.monotonic() + wait_s
        content = bytearray()
        while len(content) <= size_max:
            if not stat.S_ISREG(found.st_mode):
                _wait_for_bytes(descriptor, deadline, path)
            try:
                piece = os.read(descriptor, size_max + 1 - len(content))
            except BlockingIOError:
                continue
            if not piece:
                return bytes(content), found
            content += piece
        raise OSError(errno.EFBIG, f"it has more than {size_max // 1024} KiB", str(path))
    finally:
        os.close(descriptor)


def _wait_for_bytes(descriptor: int, deadline: float, path: Path) -> None:
    """Wait until there are bytes to read, or the last writer has gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe, or closes it", str(path))


def write_if_changed(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Make `path` contain `content`, durably and in one step; return whether the file was written.

    A file that contains it already is not written; permissions beyond `mode` are removed.

    Raises:
        OSError: from the system; the previous file is unchanged.
    """
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            with contextlib.suppress(OSError):
                if path.stat().st_mode & 0o777 & ~mode:
                    path.chmod(mode)
            return False
    write_whole(path, content, mode=mode)
    return True


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file, durably and in one step; replace an existing one.

    Raises:
        OSError: from the system; the previous file is unchanged.
    """
    # mkstemp creates with mode 0600, under a name that nobody could have prepared.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            if mode != 0o600:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
