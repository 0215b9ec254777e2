"""Walks: the files below a local folder, in the order of their keys' bytes, as a bucket lists its objects.

Links to files are followed, links to folders are not: they could lead in circles.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import trio

from errors import BadRequest, StoreError


@dataclass(frozen=True)
class LocalEntry:
    """A file, or something that cannot be read or is no file (`problem`)."""

    path: Path
    size: int = 0
    changed_ms: int = 0
    is_folder: bool = False
    problem: StoreError | OSError | None = None


async def local_files(root: Path) -> AsyncGenerator[LocalEntry, None]:
    """Everything below a folder but the folders themselves; one that cannot be read is told as a problem."""
    stack = [LocalEntry(root, is_folder=True)]
    while stack:
        entry = stack.pop()
        if not entry.is_folder:
            yield entry
            continue
        try:
            inside = await trio.to_thread.run_sync(_entries_of, entry.path)
        except OSError as error:
            yield LocalEntry(entry.path, problem=error)
        else:
            stack.extend(reversed(inside))


def _entries_of(folder: Path) -> list[LocalEntry]:
    with os.scandir(folder) as entries:
        found = [_look_at(entry, folder / entry.name) for entry in entries]
    # All that is in a folder has its name and a slash in front: so it comes behind "a-b" and before "a0".
    return sorted(found, key=lambda entry: os.fsencode(entry.path.name) + (b"/" if entry.is_folder else b""))


def _look_at(entry: os.DirEntry[str], path: Path) -> LocalEntry:
    try:
        if entry.is_dir(follow_symlinks=False):
            return LocalEntry(path, is_folder=True)
        status = entry.stat()
    except OSError as error:
        return LocalEntry(path, problem=error)
    if stat.S_ISDIR(status.st_mode):
        problem = BadRequest("a link to a folder; it could lead in circles")
        return LocalEntry(path, problem=problem)
    if not stat.S_ISREG(status.st_mode):
        return LocalEntry(path, problem=BadRequest("not a regular file"))
    # Rounded up: what was changed within the millisecond in which its object was stored counts as newer.
    return LocalEntry(path, status.st_size, -(-status.st_mtime_ns // 1_000_000))
