"""File: the catalog's file has one owner, is private, and stays in its place."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from warehouse.errors import DiskInUse, WriteFailed

_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

FileId = tuple[int, int]  # device and inode


class FileWatch:
    """Notices when the next start would not find what is written now.

    SQLite keeps writing to the files that it has open, and those vanish with this process.
    """

    def __init__(self, path: Path) -> None:
        # Every transaction asks twice, so these are plain text: a `Path` costs more than the system call.
        self._files = (str(path), f"{path}-wal")
        self._file_ids: dict[str, FileId] = {}  # as first seen
        self.displaced: str | None = None  # why the next start would not find what is committed
        self.look()

    def require_in_place(self) -> None:
        """
        Raises:
            WriteFailed: a file was deleted, moved away or replaced.
        """
        self.look()
        if self.displaced is not None:
            raise WriteFailed(self.displaced)

    def look(self) -> None:
        if self.displaced is not None:
            return
        for file in self._files:
            try:
                found = _file_id(file)
            except OSError:  # a file that cannot be looked at proves nothing
                continue
            known = self._file_ids.get(file)
            if known is None and found is not None:
                self._file_ids[file] = found
            elif found != known:
                what = "was deleted or moved away" if found is None else "was replaced by another file"
                self.displaced = (
                    f"{file} {what} while the master runs, so the master writes nothing more. Its open"
                    f" files are in /proc/{os.getpid()}/fd: copy the catalog from there, stop the store"
                    " and put the copy back, or run `warehouse rebuild --replace`"
                )
                return


def _file_id(path: str) -> FileId | None:
    """The file that a path leads to; None: there is no file.

    Raises:
        OSError: the system cannot say.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino)


def hold_lock(path: Path) -> int:
    """Keep others away from a catalog until the descriptor is closed.

    Each of two masters on one catalog would trust a memory that the other one makes wrong.

    Raises:
        DiskInUse: another process has it.
    """
    try:
        lock = os.open(path.with_name(path.name + ".lock"), _LOCK, 0o600)
    except OSError as error:
        raise WriteFailed(f"cannot open the catalog {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise DiskInUse(f"another process has the catalog {path} open: stop it first") from error
    return lock


def create_file(path: Path) -> None:
    """Make an empty file that others cannot read; SQLite gives its log the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise WriteFailed(f"cannot open the catalog {path}: {error.strerror}") from error
