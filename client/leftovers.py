"""Leftovers: the temporary files of downloads that were killed.

The writer of a temporary file holds a lock on it; the kernel releases the lock when the process ends in any
way.  So the next download into a folder can tell a leftover from a file that is being written, and
removes the leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from pathlib import Path

_LEFTOVER = re.compile(r"\.warehouse-[0-9a-f]{16}\.part")


def leftover_name(token: str) -> str:
    """The name of a temporary file; `token` is 16 hexadecimal digits."""
    return f".warehouse-{token}.part"


def is_leftover(name: str) -> bool:
    """Whether a file of this name belongs to a download, running or killed."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> int:
    """Remove the leftovers in a folder; return how many.  Blocks."""
    count = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if is_leftover(entry.name)]:
            count += _remove_if_left(folder / name)
    return count


def _remove_if_left(path: Path) -> bool:
    """Remove a file unless somebody is writing it."""
    try:
        file_number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(file_number).st_mode):
            return False
        fcntl.flock(file_number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:  # locked, so it is being written; or the file system has no locks
        return False
    finally:
        os.close(file_number)
    return True
