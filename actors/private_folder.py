"""Private folders: nobody but the user of a store reads or writes what lies in the store's folders.

What the store makes has the modes 0700 and 0600, whatever the umask.  Earlier releases gave the group of the
user a right to read, and a folder that was copied may have any mode.  So each actor looks at its folder when
it starts, takes the rights of others away where the files are its own, and says so in the log.  What it
cannot change it names in the log.  That is never a reason not to start.

The look covers the names that a store uses, and follows no links.  The folder itself is closed to others only
if it holds nothing else: others may have to get at what else is there.

Secret files are left as they are: others may have read them already, so whoever reads one refuses it, and a
person decides (`conf/secret_file.py`).
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

log = logging.getLogger(__name__)

OTHERS = 0o077  # the rights that nobody but the owner may have
OTHERS_WRITE = 0o022
ENTRIES_MAX = 200_000  # looked at; a disk has some hundred volumes of a few files each
DEPTH_MAX = 4
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# The names of a store, in a disk folder, in a master's, and in that of a whole store on one machine.
DISK_NAMES = (
    "disk.json",
    "disk.new",
    "lock",
    "compactor.lock",
    "node.key",
    ".node.key*",
    *("tls.key", ".tls.key*", "tls.pem", ".tls.pem*"),
    "volumes",
    "ballast",
)
MASTER_NAMES = (
    *("catalog.sqlite3*", "keys", "keys.new", "join.toml", ".join.toml*", "founded", ".founded*", "ballast"),
    *("profile.toml", ".profile.toml*", "audit*", "history.sqlite3*"),
    *("tls.key", ".tls.key*", "tls.pem", ".tls.pem*", "authority.pem", ".authority.pem*"),
)
STORE_NAMES = (*("master", "disk-*", "node-keys", "console", "gateway", "profile.toml", ".profile.toml*"),)
SECRETS = ("keys*", "node-keys*", "*join.toml*", "*profile.toml*", "*node.key*", "*tls.key*")
_OF_THE_SYSTEM = "lost+found"


@dataclass
class _Found:
    """What a look at one folder has found."""

    user: int
    tightened: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # others have rights there, and we cannot take them away
    seen: int = 0


def tighten(folder: Path, names: Sequence[str], *, depth: int = DEPTH_MAX) -> None:
    """Take the rights of others away from what a store has in `folder`; log it.

    Args:
        names: patterns of the names that the store uses there.
        depth: folders within folders, counted from `folder`; 1 is `folder` itself and what lies in it.
    """
    found = _Found(os.geteuid())
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # whoever uses the folder will say what is wrong
    try:
        _tighten_root(descriptor, folder, names, depth, found)
    except OSError as error:
        log.warning("cannot see who may read a folder", extra={"folder": str(folder), "cause": str(error)})
    finally:
        os.close(descriptor)
    if found.tightened:
        names_of = {"folder": str(folder), "count": len(found.tightened), "example": found.tightened[0]}
        log.warning("others could read or write here; their rights were taken away", extra=names_of)
    if found.left:
        names_of = {"folder": str(folder), "count": len(found.left), "example": found.left[0]}
        log.warning("others may read or write here, and we cannot take that right away", extra=names_of)


def _tighten_root(descriptor: int, folder: Path, names: Sequence[str], depth: int, found: _Found) -> None:
    present = os.listdir(descriptor)
    own = [name for name in present if is_one_of(name, names)]
    looked = os.fstat(descriptor)
    if set(present) - set(own) <= {_OF_THE_SYSTEM}:
        _close_to_others(descriptor, looked, str(folder), found)
    elif looked.st_mode & OTHERS_WRITE:
        found.left.append(str(folder))
    for name in own:
        path = str(folder / name)
        if not is_one_of(name, SECRETS):
            _tighten_entry(descriptor, name, path, depth - 1, found)
        elif (folder / name).is_dir():
            _tighten_entry(descriptor, name, path, 0, found)


def is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _tighten_entry(parent: int, name: str, path: str, depth: int, found: _Found) -> None:
    found.seen += 1
    if found.seen > ENTRIES_MAX:
        return
    try:
        looked = os.stat(name, dir_fd=parent, follow_symlinks=False)
        is_folder = stat.S_ISDIR(looked.st_mode)
        if is_folder and depth > 0:
            with _opened(parent, name) as descriptor:
                _close_to_others(descriptor, looked, path, found)
                for below in os.listdir(descriptor):
                    _tighten_entry(descriptor, below, f"{path}/{below}", depth - 1, found)
        elif looked.st_mode & OTHERS and (is_folder or stat.S_ISREG(looked.st_mode)):
            with _opened(parent, name) as descriptor:
                _close_to_others(descriptor, os.fstat(descriptor), path, found)
    except FileNotFoundError:
        return  # the compactor of the disk has moved or removed it
    except OSError:
        found.left.append(path)


def _close_to_others(descriptor: int, looked: os.stat_result, path: str, found: _Found) -> None:
    if not looked.st_mode & OTHERS:
        return
    is_file_of_many_names = stat.S_ISREG(looked.st_mode) and looked.st_nlink > 1
    if looked.st_uid != found.user or is_file_of_many_names:
        found.left.append(path)
        return
    os.fchmod(descriptor, stat.S_IMODE(looked.st_mode) & ~OTHERS)
    found.tightened.append(path)


@contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, _LOOK, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
