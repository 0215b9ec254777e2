"""Transfers: many copies at once, each with its own fate.

A `Transfer` is one file or object to be copied.  `run_transfers` runs them side by side as they are found;
one that fails is reported and the others go on.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from client.library import Warehouse
from client.places import FolderTree, Remote, key_of_path
from client.reads import ObjectStream
from client.tasks import crew
from client.uploads import Progress
from errors import (
    BadCredentials,
    BadRequest,
    NoSuchBucket,
    NoSuchObject,
    NotAuthenticated,
    PermissionDenied,
    StoreError,
)
from transport.messages import ObjectInfo

TASKS = 16
# Copies of large things at once: each has a window or several chunks of its own under way, so that more
# of them would cost memory and bring nothing.
LARGE_SIZE = 1024 * 1024
LARGE_TASKS = 4
PIECE_SIZE = 1024 * 1024


@dataclass(frozen=True)
class Transfer:
    """One thing to copy; `run` does it and returns the bytes copied."""

    source: str
    target: str
    size: int | None  # None: not known before the end
    run: Callable[[Progress], Awaitable[int]]


@dataclass
class Totals:
    file_count: int = 0
    byte_count: int = 0
    failed_count: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.started, 0.001)


class Reporter(Protocol):
    """Who wants to know how it goes."""

    def found(self, transfer: Transfer) -> None: ...

    def moved(self, delta: int) -> None: ...

    def finished(self, transfer: Transfer, size: int) -> None: ...

    def failed(self, source: str, target: str, error: StoreError | OSError) -> None: ...


@dataclass(frozen=True)
class Unfit:
    """Something that was found and cannot be copied."""

    source: str
    target: str
    error: StoreError | OSError


Found = Transfer | Unfit

# What fails one copy with these fails all: said once, instead of a hundred thousand times.
CONCERNS_ALL = (NoSuchBucket, PermissionDenied, BadCredentials, NotAuthenticated)


async def run_transfers(found: AsyncIterable[Found], reporter: Reporter) -> Totals:
    """Run transfers, some at once; returns what became of all.

    Raises one of `CONCERNS_ALL` when there is no use in going on.
    """
    totals = Totals()
    large = trio.Semaphore(LARGE_TASKS)

    def fail(source: str, target: str, error: StoreError | OSError) -> None:
        totals.failed_count += 1
        reporter.failed(source, target, error)

    async def run(transfer: Transfer) -> None:
        moved_count = 0

        def progress(byte_count: int) -> None:
            nonlocal moved_count
            reporter.moved(byte_count - moved_count)
            moved_count = byte_count

        try:
            if transfer.size is not None and transfer.size <= LARGE_SIZE:
                size = await transfer.run(progress)
            else:
                async with large:
                    size = await transfer.run(progress)
        except BrokenPipeError:
            raise  # whoever read our standard output has seen enough
        except CONCERNS_ALL:
            raise
        except (StoreError, OSError) as error:
            progress(0)
            fail(transfer.source, transfer.target, error)
            return
        progress(size)
        totals.file_count += 1
        totals.byte_count += size
        reporter.finished(transfer, size)

    async with crew(TASKS) as members:
        async for one in found:
            if isinstance(one, Transfer):
                reporter.found(one)
                await members.wait_room()
                members.start(partial(run, one))
            else:
                fail(one.source, one.target, one.error)
    return totals


# --- one thing ------------------------------------------------------------------------------------


def upload(
    path: Path, size: int | None, target: Remote, warehouse: Warehouse, content_type: str | None
) -> Transfer:
    async def run(progress: Progress) -> int:
        bucket = warehouse.bucket(target.bucket)
        return (await bucket.upload(target.key, path, progress, content_type)).size

    return Transfer(name_of(path), str(target), size, run)


def download(
    source: Remote, size: int, path_for: Callable[[], Path], name: str, warehouse: Warehouse
) -> Transfer:
    async def run(progress: Progress) -> int:
        return (await warehouse.bucket(source.bucket).download(source.key, path_for(), progress)).size

    return Transfer(str(source), name, size, run)


def remote_copy(source: Remote, size: int, target: Remote, warehouse: Warehouse) -> Transfer:
    async def run(progress: Progress) -> int:
        bucket = warehouse.bucket(source.bucket)
        return (await bucket.copy(source.key, target.key, target.bucket, progress)).size

    return Transfer(str(source), str(target), size, run)


def name_of(path: Path) -> str:
    """A path as text for reports, also where its bytes are none."""
    return os.fsencode(path).decode(errors="backslashreplace")


async def single(transfer: Transfer) -> AsyncIterator[Found]:
    yield transfer


async def download_one(source: Remote, path: Path, warehouse: Warehouse) -> AsyncIterator[Found]:
    info = await warehouse.bucket(source.bucket).stat(source.key)
    yield download(source, info.size, lambda: path, name_of(path), warehouse)


async def remote_copy_one(source: Remote, target: Remote, warehouse: Warehouse) -> AsyncIterator[Found]:
    info = await warehouse.bucket(source.bucket).stat(source.key)
    yield remote_copy(source, info.size, target, warehouse)


# --- folders --------------------------------------------------------------------------------------


async def uploads_below(
    root: Path, target: Remote, warehouse: Warehouse, content_type: str | None
) -> AsyncIterator[Found]:
    """All regular files below a folder.  Links to files are followed, links to folders are not."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = await trio.to_thread.run_sync(_entries_of, folder)
        except OSError as error:
            yield Unfit(name_of(folder), str(target), error)
            continue
        for entry in entries:
            if entry.is_folder:
                folders.append(entry.path)
                continue
            try:
                if entry.problem is not None:
                    raise entry.problem
                place = target.inside(key_of_path(entry.path, root))
            except (StoreError, OSError) as error:
                yield Unfit(name_of(entry.path), str(target), error)
            else:
                yield upload(entry.path, entry.size, place, warehouse, content_type)


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int = 0
    is_folder: bool = False
    problem: StoreError | OSError | None = None


def _entries_of(folder: Path) -> list[_Entry]:
    with os.scandir(folder) as entries:
        return [
            _look_at(entry, folder / entry.name) for entry in sorted(entries, key=lambda entry: entry.name)
        ]


def _look_at(entry: os.DirEntry[str], path: Path) -> _Entry:
    try:
        if entry.is_dir(follow_symlinks=False):
            return _Entry(path, is_folder=True)
        status = entry.stat()
    except OSError as error:
        return _Entry(path, problem=error)
    if stat.S_ISDIR(status.st_mode):
        return _Entry(path, problem=BadRequest("a link to a folder; it could lead in circles"))
    if not stat.S_ISREG(status.st_mode):
        return _Entry(path, problem=BadRequest("not a regular file"))
    return _Entry(path, status.st_size)


async def objects_below(
    source: Remote, warehouse: Warehouse
) -> AsyncIterator[tuple[Remote, str, ObjectInfo]]:
    """All objects in a remote folder: where each is, its key relative to the folder, and what it is.

    Raises:
        NoSuchObject: there is none.
    """
    is_empty = True
    async for info in warehouse.bucket(source.bucket).list(source.folder):
        relative = info.key[len(source.folder) :]
        if relative:  # an object of the folder's own name, as some tools make them, is not in it
            is_empty = False
            yield Remote(source.bucket, info.key), relative, info
    if is_empty and source.key:
        raise NoSuchObject(f"there is nothing in {source}")


async def downloads_below(source: Remote, root: Path, warehouse: Warehouse) -> AsyncIterator[Found]:
    tree = FolderTree(root)
    async for remote, relative, info in objects_below(source, warehouse):
        name = name_of(root / relative.lstrip("/"))
        yield download(remote, info.size, partial(tree.path_for, relative), name, warehouse)


async def remote_copies_below(source: Remote, target: Remote, warehouse: Warehouse) -> AsyncIterator[Found]:
    async for remote, relative, info in objects_below(source, warehouse):
        yield remote_copy(remote, info.size, target.inside(relative), warehouse)


# --- standard streams -----------------------------------------------------------------------------


def upload_standard_input(target: Remote, warehouse: Warehouse, content_type: str | None) -> Transfer:
    async def run(progress: Progress) -> int:
        bucket = warehouse.bucket(target.bucket)
        return (await bucket.put(target.key, standard_input(progress), content_type)).size

    return Transfer("-", str(target), None, run)


def download_to_standard_output(source: Remote, warehouse: Warehouse) -> Transfer:
    async def run(progress: Progress) -> int:
        async with warehouse.bucket(source.bucket).open(source.key) as stream:
            return await write_standard_output(stream, progress)

    return Transfer(str(source), "-", None, run)


async def standard_input(progress: Progress) -> AsyncIterator[bytes]:
    """Standard input, piece by piece, to its end."""
    count = 0
    while piece := await trio.to_thread.run_sync(os.read, 0, PIECE_SIZE, abandon_on_cancel=True):
        count += len(piece)
        progress(count)
        yield piece


async def write_standard_output(stream: ObjectStream, progress: Progress) -> int:
    """Write a stream to standard output; returns the bytes written."""
    count = 0
    while (view := await stream.next_view()) is not None:
        while view:
            # Abandoned at Ctrl-C: whoever reads our output may never read again.
            written = await trio.to_thread.run_sync(os.write, 1, view, abandon_on_cancel=True)
            view = view[written:]
            count += written
        progress(count)
    return count
