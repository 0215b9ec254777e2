"""Ballast: files that keep room, and names, for the work that must go on when a file system is full.

    DIR/1 ... DIR/8     an eighth of the ballast each, really allocated

Deleting needs room: it appends a tombstone, it writes a row, and a compaction begins with two new files.  So
an actor sets room aside while there is some, and gives it up file by file when it needs it.  It makes a file
again only if room for a whole ballast stays free, so that ballast alone never fills a disk.

All calls block, for milliseconds.  Nothing ever reads these files, so deleting one does no harm.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

STEP_COUNT: Final = 8
SHARE: Final = 16  # ballast takes at most this part (a sixteenth) of the file system
STEP_MIN: Final = 16 * 1024
START_ROOM: Final = 256 * 1024  # bytes that a start needs: locks, an identity, the index of a log
START_NAMES: Final = 4
FULL_ERRORS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Ballast:
    """The ballast of one file system.  Any thread may call it."""

    def __init__(self, folder: Path, size: int) -> None:
        """
        Args:
            size: in bytes; a small file system gets less.  0: no ballast; existing files are given up.
        """
        self._folder = folder
        self._size = size
        self._lock = threading.Lock()

    @property
    def step_size(self) -> int:
        """Bytes of one file; 0: there is no ballast."""
        if not self._size:
            return 0
        room = _room(self._folder)
        size = self._size if room is None else min(self._size, room[1] // SHARE)
        return max(STEP_MIN, size // STEP_COUNT)

    @property
    def held_count(self) -> int:
        """How many of the files exist."""
        return len(self._held())

    @property
    def held_bytes(self) -> int:
        return self.held_count * self.step_size

    @property
    def missing_bytes(self) -> int:
        """Bytes of ballast that were given up, or could not be allocated."""
        return (STEP_COUNT - self.held_count) * self.step_size if self._size else 0

    @property
    def is_whole(self) -> bool:
        return not self._size or self.held_count == STEP_COUNT

    def release(self) -> bool:
        """Give one file up; False: no file is left, or it cannot be removed."""
        with self._lock:
            for name in reversed(self._held()):
                try:
                    (self._folder / name).unlink()
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
                return True
            return False

    def restore(self) -> bool:
        """Make missing files while room for a whole ballast stays free; return whether all are there.

        When the disk refuses, the ballast stays as it is: the next call tries again.
        """
        with self._lock:
            held = {int(name) for name in self._held()}
            if not self._size:
                for number in held:
                    with contextlib.suppress(OSError):
                        (self._folder / str(number)).unlink()
                return True
            step = self.step_size
            with contextlib.suppress(OSError):
                # Never the folder above: an unmounted disk must not come back as a folder.
                self._folder.mkdir(exist_ok=True)
                for number in range(1, STEP_COUNT + 1):
                    if number in held:
                        continue
                    room = _room(self._folder)
                    if room is None or room[0] < step * (STEP_COUNT + 1):
                        break
                    if free_names(self._folder) == 0:
                        break
                    _fill(self._folder / str(number), step)
        return self.is_whole

    def _held(self) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        return sorted(name for name in names if name in _NAMES)


_NAMES: Final = frozenset(str(number) for number in range(1, STEP_COUNT + 1))


def make_way(ballast: Path) -> None:
    """If the disk is full, give up one file of ballast, so that an actor can start.

    Args:
        ballast: its folder.
    """
    free, names = free_bytes(ballast.parent), free_names(ballast.parent)
    is_full = (free is not None and free < START_ROOM) or (names is not None and names < START_NAMES)
    if is_full and Ballast(ballast, 0).release():
        log.warning("ballast given up for a start: the disk is full", extra={"folder": str(ballast.parent)})


def free_bytes(folder: Path) -> int | None:
    """Bytes that fit into the file system of a folder; None: the system cannot tell."""
    room = _room(folder)
    return None if room is None else room[0]


def free_names(folder: Path) -> int | None:
    """How many more files the file system of a folder can hold; None: room is the only limit."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_favail if found.f_files else None


def _room(folder: Path) -> tuple[int, int] | None:
    """Free bytes and all bytes of the file system; of the nearest parent if the folder does not exist."""
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return None


def _fill(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) in FULL_ERRORS:
                raise
            zeros = bytes(min(size, 1 << 20))  # the system lacks this call: written bytes take room as well
            for at in range(0, size, len(zeros)):
                os.pwrite(descriptor, zeros, at)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
