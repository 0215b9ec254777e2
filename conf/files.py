"""Files: small files that appear whole or not at all, and are left alone when they are right already.

What an operator names for reading may be anything: a pipe that a program fills (`--profile <(decrypt)`), or
one that nobody does, or a device without an end.  `read_small` bounds the bytes and the wait.

A file that is written anew at each start needs room, and the right to write, at each start: a full disk, or a
file that another user owns, would then keep a store from starting for no reason.
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
    """Read a file to its end; returns its content and what fstat(2) says of it.

    Args:
        size_max: of the content, bytes.
        wait_s: how long to wait for the end of what comes from a pipe.
    Raises:
        OSError: as the system gave it; it is longer (EFBIG), or did not end in time (ETIMEDOUT).
    """
    # Without O_NONBLOCK the opening of a pipe waits for a writer, forever and through every signal.
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
    """Wait until there is something to read, or the last writer has gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe, or not to its end", str(path))


def write_if_changed(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Make `path` hold `content`, durably and in one step; returns whether anything was written.

    A file that holds it already is not written; where others may read it and should not, that ends.

    Raises:
        OSError: as the system gave it; what was there is still there.
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
    """Write a file, durably and in one step, in place of the one that may be there.

    Raises:
        OSError: as the system gave it; what was there is still there.
    """
    # mkstemp creates with mode 0600, under a name that nobody can have prepared.
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
