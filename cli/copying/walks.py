"""Walks: the files below a local folder, in the order of their keys' bytes, as a bucket lists its objects.

A tree contains more than files: links to folders, broken links, sockets, pipes, devices.  By default they are
left out, with a reason for each, and links to files are followed; `Links` has the other ways.  Two things are
never part of a tree: leftovers of killed downloads, and the data folder of a store, which would be copied
into itself, or deleted while the store runs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import trio

from warehouse.cli.copying.patterns import Rules
from warehouse.client.leftovers import is_leftover
from warehouse.errors import BadRequest, StoreError


class Links(Enum):
    """How to treat links and special files below a folder."""

    FILES = "files"  # links to files are followed, the rest is left out
    FOLLOW = "follow"  # links to folders are followed as well
    SKIP = "skip"  # every link is left out
    FAIL = "fail"  # links to files are followed, the rest is a failure


@dataclass(frozen=True)
class LocalEntry:
    """A file; or something that cannot be read (`problem`), or is left out (`left_out`: the reason)."""

    path: Path
    size: int = 0
    changed_ns: int = 0
    is_folder: bool = False
    problem: StoreError | OSError | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class _Folders:
    """The folders from the root to the present one, by identity instead of name."""

    identity: tuple[int, int]
    above: _Folders | None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        folder: _Folders | None = self
        while folder is not None:
            yield folder.identity
            folder = folder.above


async def local_files(root: Path, links: Links = Links.FILES) -> AsyncGenerator[LocalEntry, None]:
    """All entries below a folder except the folders; an unreadable folder is an entry with a problem."""
    stack: list[tuple[LocalEntry, _Folders | None]] = [(LocalEntry(root, is_folder=True), None)]
    while stack:
        entry, above = stack.pop()
        if not entry.is_folder:
            yield entry
            continue
        try:
            found = await trio.to_thread.run_sync(_entries_of, entry.path, above, links)
        except OSError as error:
            yield LocalEntry(entry.path, is_folder=True, problem=error)
        else:
            if isinstance(found, LocalEntry):
                yield found
            else:
                inside, here = found
                stack.extend((one, here) for one in reversed(inside))


def leaves_out(rules: Rules, entry: LocalEntry, root: Path) -> bool:
    """Whether a rule leaves out an entry, even one whose name is no key or that cannot be read."""
    if entry.path == root:
        return False
    name = entry.path.relative_to(root).as_posix()
    return rules.leaves_out(f"{name}/" if entry.is_folder else name)


def is_store_folder(folder: Path) -> bool:
    """Whether this is a data folder of a store: of `warehouse up`, of a master, or of a disk."""
    return (
        (folder / "master" / "catalog.sqlite3").exists()
        or ((folder / "catalog.sqlite3").exists() and (folder / "join.toml").exists())
        or ((folder / "disk.json").exists() and (folder / "volumes").is_dir())
    )


def _entries_of(
    folder: Path, above: _Folders | None, links: Links
) -> LocalEntry | tuple[list[LocalEntry], _Folders]:
    """The entries of a folder, in order; or the folder itself, if it must not be walked."""
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if above is not None and identity in above:
        return LocalEntry(folder, left_out="a link that leads back to a folder above it")
    if above is not None and is_store_folder(folder):
        return LocalEntry(folder, left_out="the data folder of a store")
    with os.scandir(folder) as entries:
        found = [_look_at(entry, folder / entry.name, links) for entry in entries]
    # The contents of folder "a" begin with "a/": they are sorted after "a-b" and before "a0".
    found.sort(key=lambda entry: os.fsencode(entry.path.name) + (b"/" if entry.is_folder else b""))
    return found, _Folders(identity, above)


def _look_at(entry: os.DirEntry[str], path: Path, links: Links) -> LocalEntry:
    is_link = entry.is_symlink()
    try:
        if entry.is_dir(follow_symlinks=False):
            return LocalEntry(path, is_folder=True)
        if is_link and links is Links.SKIP:
            return LocalEntry(path, left_out="a link")
        status = entry.stat()
    except FileNotFoundError as error:
        return _unusual(path, "a link to nothing", links) if is_link else LocalEntry(path, problem=error)
    except OSError as error:
        is_loop = is_link and error.errno == errno.ELOOP
        return _unusual(path, "a link in circles", links) if is_loop else LocalEntry(path, problem=error)
    if stat.S_ISDIR(status.st_mode):
        if links is Links.FOLLOW:
            return LocalEntry(path, is_folder=True)
        return _unusual(path, "a link to a folder", links)
    if not stat.S_ISREG(status.st_mode):
        return _unusual(path, _kind_of(status.st_mode), links)
    if is_leftover(path.name):
        return LocalEntry(path, left_out="a leftover of a killed download")
    return LocalEntry(path, status.st_size, status.st_mtime_ns)


def _unusual(path: Path, what: str, links: Links) -> LocalEntry:
    if links is Links.FAIL:
        return LocalEntry(path, problem=BadRequest(f"it is {what}"))
    return LocalEntry(path, left_out=what)


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device"}
    return kinds.get(stat.S_IFMT(mode), "a device")
