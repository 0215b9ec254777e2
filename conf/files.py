"""Files: small files that appear whole or not at all, and are left alone when they are right already.

A file that is written anew at each start needs room, and the right to write, at each start: a full disk, or a
file that another user owns, would then keep a store from starting for no reason.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


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
