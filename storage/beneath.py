"""Beneath: how is a file opened below a folder that others may have written to?

Whoever may write to a disk folder, or made the disk, decides what stands under each name.  A link in the
place of a file would have us write to a file elsewhere, a pipe would have us wait for good, a second name of
a file would have us change what belongs to somebody else.  So a path is walked from a descriptor of its
folder, one name at a time, and no link is followed; what is opened has to be a plain file, and where we
write to it, it has to have one name.

The folder itself may be a link: that is for the operator to say.  All below it is not.

A caller that meets something else gets `NotPlain`, an OSError whose text says what is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Where O_PATH exists, a folder that can be searched and not listed will do.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: to open a pipe would wait for its other end.  Of a plain file it changes nothing.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_ITSELF: Final = "itself"  # stands for the last name of a path where only its folder is wanted

_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link", errno.ELOOP),
    (stat.S_ISDIR, "a folder", errno.EISDIR),
    (stat.S_ISFIFO, "a pipe", errno.EINVAL),
    (stat.S_ISSOCK, "a socket", errno.EINVAL),
    (stat.S_ISBLK, "a block device", errno.EINVAL),
    (stat.S_ISCHR, "a character device", errno.EINVAL),
)


class NotPlain(OSError):
    """Something else stands where a plain file, or a folder, belongs; nothing of it was read or changed."""


class Folder:
    """A folder, held by a descriptor; every path is relative to it, with "/" between its names."""

    def __init__(self, root: str | Path, *, folder_mode: int = 0o700) -> None:
        """
        Args:
            folder_mode: of the folders that are made below it.
        Raises:
            OSError: as the system gave it.
        """
        self.fd = os.open(root, _FOLDER)
        self._folder_mode = folder_mode

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    @contextlib.contextmanager
    def parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that a path is in, and the last name of the path.

        Args:
            create: make the folders that are not there.
        Raises:
            NotPlain: something else stands in the place of one of the folders.
            OSError: as the system gave it.
        """
        *folders, name = _names_of(path)
        fd, at = self.fd, ""
        try:
            for folder in folders:
                at = f"{at}/{folder}" if at else folder
                below = _enter(fd, folder, at, self._folder_mode if create else None)
                if fd != self.fd:
                    os.close(fd)
                fd = below
            yield fd, name
        finally:
            if fd != self.fd:
                os.close(fd)

    def open(self, path: str, *, is_written: bool = False) -> int:
        """Open a plain file that is there.

        Raises:
            NotPlain: it is something else, or would be written to and has several names.
            OSError: as the system gave it.
        """
        with self.parent(path) as (fd, name):
            return _open(fd, name, path, os.O_RDWR if is_written else os.O_RDONLY, is_written=is_written)

    def open_or_make(self, path: str, mode: int) -> int:
        """Open a plain file for writing, and make it when it is not there; what it holds stays.

        Raises: as `open`.
        """
        with self.parent(path) as (fd, name):
            return _open(fd, name, path, os.O_RDWR | os.O_CREAT, is_written=True, mode=mode)

    def make(self, path: str, mode: int) -> int:
        """Open a plain file that is empty.

        A plain file of that name is emptied.  A link, a pipe or another name of a file goes, and what it
        leads to stays as it is.

        Raises:
            NotPlain: a folder has this name.
            OSError: as the system gave it.
        """
        with self.parent(path) as (fd, name):
            try:
                file = _open(fd, name, path, os.O_RDWR, is_written=True)
            except FileNotFoundError:
                return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=fd)
            except NotPlain as error:
                if error.errno == errno.EISDIR:
                    raise
                os.unlink(name, dir_fd=fd)
                return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=fd)
            try:
                os.ftruncate(file, 0)
            except BaseException:
                os.close(file)
                raise
            return file

    def stat(self, path: str) -> os.stat_result | None:
        """What stands under a name, a link for itself; None: nothing.

        Raises: as `parent`.
        """
        try:
            with self.parent(path) as (fd, name):
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def listed(self, path: str) -> Iterator[int]:
        """A descriptor by which a folder can be listed and synced; "" is this folder itself.

        Raises: as `parent`.
        """
        # The name "." is that of the folder that was entered, so no link can be under it.
        with self.parent(f"{path}/{_ITSELF}" if path else _ITSELF) as (fd, _):
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                yield listed
            finally:
                os.close(listed)

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents; no error when it is there already.

        Raises: as `parent`.
        """
        with self.parent(f"{path}/{_ITSELF}", create=True):
            pass


def read_plain(folder: Folder, path: str, size_max: int) -> tuple[bytes, os.stat_result]:
    """The content of a small plain file, at most `size_max` bytes of it, and what the system says of it.

    Raises: as `Folder.open`.
    """
    file = folder.open(path)
    try:
        content = b""
        while len(content) < size_max and (piece := os.read(file, size_max - len(content))):
            content += piece
        return content, os.fstat(file)
    finally:
        os.close(file)


def _names_of(path: str) -> list[str]:
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names):
        raise NotPlain(errno.EINVAL, "it is no path below its folder", path)
    return names


def _enter(fd: int, name: str, path: str, mode: int | None) -> int:
    """A descriptor of the folder `name` in a folder; with a mode it is made when it is not there."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
    except FileNotFoundError:
        if mode is None:
            raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=fd)
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        raise _not_plain(found, path, "a folder") from error


def _open(fd: int, name: str, path: str, flags: int, *, is_written: bool, mode: int = 0) -> int:
    try:
        # Before it is opened: to open a device may do something already.
        _check(os.stat(name, dir_fd=fd, follow_symlinks=False), path, is_written=is_written)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    try:
        file = os.open(name, flags | _FILE, mode, dir_fd=fd)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise NotPlain(errno.ELOOP, "it is a symbolic link, where a plain file belongs", path) from error
    try:
        _check(os.fstat(file), path, is_written=is_written)  # it may be another one by now
    except BaseException:
        os.close(file)
        raise
    return file


def _check(found: os.stat_result, path: str, *, is_written: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _not_plain(found, path, "a plain file")
    if is_written and found.st_nlink > 1:
        problem = f"it has {found.st_nlink} names (hard links), and to write to it would change them all"
        raise NotPlain(errno.EMLINK, problem, path)


def _not_plain(found: os.stat_result, path: str, wanted: str) -> NotPlain:
    for is_kind, what, number in _KINDS:
        if is_kind(found.st_mode):
            return NotPlain(number, f"it is {what}, where {wanted} belongs", path)
    return NotPlain(errno.ENOTDIR, f"it is no folder, where {wanted} belongs", path)
