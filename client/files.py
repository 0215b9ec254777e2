"""Files: a download appears under its name whole and on disk, or not at all.

Until then its bytes are in a file of another name in the same folder, locked by its writer
(`client/leftovers.py` says what for).
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
    """A temporary file beside its target, being written."""

    def __init__(self, file_number: int) -> None:
        self._file_number = file_number

    async def write(self, data: bytes | memoryview) -> None:
        # In a thread: a kernel that has to write dirty pages back makes writers wait.
        await trio.to_thread.run_sync(_write_all, self._file_number, data)


@asynccontextmanager
async def replaced_file(path: Path) -> AsyncIterator[TargetFile]:
    """Write a file that takes its name when the block ends well, fsynced before and after.

    When the block ends with an error or is cancelled, nothing is left of it and an older file stays.

    Raises:
        BadRequest: the target exists and is no regular file; renaming over a device would destroy it.
        OSError: the directory does not exist or cannot be written, the disk is full, ...
    """
    _require_replaceable(path)
    temporary, file_number = _create_beside(path)
    try:
        yield TargetFile(file_number)
        await trio.to_thread.run_sync(_publish, file_number, temporary, path)
    except BaseException:
        # Also after a failure inside of _publish: before its rename the file is there, after it it is not.
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file_number)


def replace_file(path: Path, data: bytes) -> None:
    """The same for bytes that are all here.  Blocks: call it in a thread.  Raises as `replaced_file`."""
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
            error.filename = str(path.parent)  # nobody else knows the temporary name
            raise
        try:
            with contextlib.suppress(OSError):  # a file system without locks: then nobody removes it
                fcntl.flock(file_number, fcntl.LOCK_EX)
            if os.fstat(file_number).st_nlink > 0:
                return temporary, file_number
        except BaseException:
            os.close(file_number)
            raise
        # Somebody took it for left behind, in the moment before it was locked.
        os.close(file_number)


def check_target(path: Path) -> None:
    """Look whether a download could take this name, without making anything.

    Folders that are not there yet are made by whoever makes folders.
    Raises as `replaced_file`.
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
    # `/dev/stdout` is such a link: it leads to a file that is open already, and a rename would put a file in
    # its place, for every program of this machine.
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
