"""Presence: are the files that an actor writes to still those that the next start will find?

A file that was deleted goes on taking writes, and fsync says that all is well; with the last descriptor the
bytes are gone.  The same happens when a folder was moved away, or another file system was mounted over it:
what is written then is not where anybody will look for it.  So whoever acknowledges writes asks two things:

- has the open file a name at all, and the bytes that were written to it (`OsFile.names_and_size`)?  That is
  one system call without a disk, cheap enough to ask after every fsync
- does its path still lead to it?  Asked every few seconds, for every file, for the folder of the disk, and
  for what lies in it

Blocks for as long as a `stat` takes: for threads, but for `names_and_size`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

FileId = tuple[int, int]  # device and inode


def file_id(path: Path) -> FileId | None:
    """What a path leads to; None: nothing.

    Raises:
        OSError: the system cannot say.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino)


class Watch:
    """Remembers what some paths lead to, and says when one of them leads elsewhere."""

    def __init__(self, paths: Mapping[Path, str]) -> None:
        """
        Args:
            paths: with what each is, for people.  What is not there now is not missed later.
        """
        self._known = {path: (what, found) for path, what in paths.items() if (found := file_id(path))}

    def renew(self, path: Path) -> None:
        """Its owner has put another file there."""
        if path in self._known and (found := file_id(path)) is not None:
            self._known[path] = (self._known[path][0], found)

    def problem(self) -> str | None:
        """What is wrong; None: every path leads where it did.

        A path that cannot be asked (an I/O error) is no proof of anything.
        """
        for path, (what, known) in list(self._known.items()):
            problem = displaced(path, what, known)
            if problem is not None and self._known.get(path) == (what, known):
                return problem
        return None


def displaced(path: Path, what: str, known: FileId) -> str | None:
    """Say that a path does not lead to a file (any more); None: it does, or the system cannot say."""
    try:
        found = file_id(path)
    except OSError:
        return None
    if found is None:
        return f"{what} {path} is gone: it was deleted or moved away"
    if found != known:
        return f"{what} {path} is not the one that was opened: another was put, or mounted, in its place"
    return None
