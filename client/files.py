"""Files: a download appears under its name whole and on disk, or not at all.

Until then its bytes are in a temporary file in the same folder, which its writer has locked
(`client/leftovers.py` explains why).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from warehouse.client.leftovers import leftover_name
from warehouse.errors import BadRequest

CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


class TargetFile:
    """A temporary file next to its target, open for writing."""

    def __init__(self, file_number: int) -> None:
        self._file_number = file_number

    async def write(self, data: bytes | memoryview) -> None:
        # In a thread: the kernel makes writers wait while it writes dirty pages back.
        await trio.to_thread.run_sync(_write_all, self._file_number, data)


@asynccontextmanager
async def replaced_file(path: Path) -> AsyncIterator[TargetFile]:
    """Write a file that takes its name when the block succeeds; the file and its folder are fsynced.

    When the block fails or is cancelled, nothing is left of the file, and an older file stays.

    Raises:
        BadRequest: the target exists and is not a regular file; renaming over a device would destroy it.
        OSError: the folder does not exist or cannot be written, the disk is full, ...
    """
    _require_replaceable(path)
    temporary, file_number = _create_beside(path)
    try:
        yield TargetFile(file_number)
        await trio.to_thread.run_sync(_publish, file_number, temporary, path)
    except BaseException:
        # Also when `_publish` fails: the temporary file exists until its rename.
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file_number)


def replace_file(path: Path, data: bytes) -> None:
    """Write a whole file as `replaced_file` does, and raise the same.  Blocks: call it in a thread."""
    _require_replaceable(path)
    temporary, file_number = _create_beside(path)
    try:
        _write_all(file_number, data)
        _publish(file_number, temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file_number)


def _create_beside(path: Path) -> tuple[Path, int]:
    """A new file in the folder of `path`, open and locked."""
    while True:
        temporary = path.parent / leftover_name(secrets.token_hex(8))
        try:
            file_number = os.open(temporary, CREATE, 0o666)
        except OSError as error:
            error.filename = str(path.parent)  # the user does not know the temporary name
            raise
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nobody removes the file then
                fcntl.flock(file_number, fcntl.LOCK_EX)
            if os.fstat(file_number).st_nlink > 0:
                return temporary, file_number
        except BaseException:
            os.close(file_number)
            raise
        # Another download took the file for a leftover, in the moment before it was locked.
        os.close(file_number)


def check_target(path: Path) -> None:
    """Check whether a download could take this name, and change nothing.  Raises as `replaced_file`.

    Missing folders are no failure: another function makes them.
    """
    _require_replaceable(path)
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _require_replaceable(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    # `/dev/stdout` is such a link.  It leads to a file that is already open, and a rename would replace the
    # link for every program of this machine.
    if path.is_symlink() and os.readlink(path).startswith(("/proc/", "/dev/")):
        raise BadRequest(
            f"{path} is a link to a stream: a download needs a file name; '-' writes to standard output"
        )
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise BadRequest(f"{path} is {kind}: a download needs a file name; '-' writes to standard output")


def _write_all(file_number: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file_number, view) :]


def _publish(file_number: int, temporary: Path, path: Path) -> None:
    os.fsync(file_number)
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
