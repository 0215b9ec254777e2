"""Syncing: which of the source's files the target lacks.

Both sides are told in the order of their names' bytes, so they are compared as they come, whatever their
number.  A file is copied when the target has none of that name, when their sizes differ, or when the source
was changed later than the target: a file's time is that of its last change, an object's when it was stored.
A file that is copied down gets the time of its object, so that it is not taken for changed.

What the target has and the source has not is collected, and deleted at the very end if that was asked for;
never when some of the source could not be read, since it may be there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from client.copies import download, name_of, remote_copy, upload
from client.lanes import DownloadLane, SmallDownload, SmallUpload, UploadLane, set_time
from client.library import Warehouse
from client.places import FolderTree, Remote, key_of_path
from client.transfers import LARGE_SIZE, Found, Transfer, Unfit
from client.uploads import Progress
from client.walks import local_files
from errors import StoreError
from transport.messages import ObjectInfo


@dataclass(frozen=True)
class Entry:
    """One file of a side, by its name below the folder that is synchronized."""

    name: str
    size: int
    changed_ms: int
    path: Path | None = None  # of a local file
    info: ObjectInfo | None = None  # of an object


Side = AsyncGenerator[Entry | Unfit, None]


@dataclass
class Findings:
    """What a comparison leaves to be done when all is copied."""

    same_count: int = 0
    surplus: list[Entry] = field(default_factory=list)  # what the target alone has
    is_source_whole: bool = True  # all of it could be read


def must_copy(source: Entry, target: Entry | None) -> bool:
    return target is None or source.size != target.size or source.changed_ms > target.changed_ms


async def compare(
    source: Side, target: Side, findings: Findings, transfer_of: Callable[[Entry], Transfer]
) -> AsyncGenerator[Found, None]:
    """Walk both sides together; yields what is to be copied, and what of the source cannot be."""
    async with aclosing(source), aclosing(target):
        theirs = await _next(target)
        async for ours in source:
            if isinstance(ours, Unfit):
                findings.is_source_whole = False
                yield ours
                continue
            name = ours.name.encode()
            while theirs is not None and theirs.name.encode() < name:
                findings.surplus.append(theirs)
                theirs = await _next(target)
            is_there = theirs is not None and theirs.name == ours.name
            if must_copy(ours, theirs if is_there else None):
                yield transfer_of(ours)
            else:
                findings.same_count += 1
            if is_there:
                theirs = await _next(target)
        while theirs is not None:
            findings.surplus.append(theirs)
            theirs = await _next(target)


async def _next(target: Side) -> Entry | None:
    """The target's next file; what cannot be read there is left as it is."""
    async for entry in target:
        if isinstance(entry, Entry):
            return entry
    return None


# --- sides ----------------------------------------------------------------------------------------


async def local_side(root: Path, *, target: str) -> Side:
    async with aclosing(local_files(root)) as entries:
        async for entry in entries:
            try:
                if entry.problem is not None:
                    raise entry.problem
                name = key_of_path(entry.path, root)
            except (StoreError, OSError) as error:
                yield Unfit(name_of(entry.path), target, error)
            else:
                yield Entry(name, entry.size, entry.changed_ms, path=entry.path)


async def remote_side(folder: Remote, warehouse: Warehouse, *, with_locations: bool = False) -> Side:
    listing = warehouse.bucket(folder.bucket).list(folder.folder, with_locations=with_locations)
    async for info in listing:
        if name := info.key[len(folder.folder) :]:  # an object of the folder's own name is not in it
            yield Entry(name, info.size, info.created_ms, info=info)


async def no_side() -> Side:
    """A folder that is not there yet."""
    nothing: tuple[Entry, ...] = ()
    for entry in nothing:
        yield entry


# --- what is copied -------------------------------------------------------------------------------


def uploads_to(target: Remote, warehouse: Warehouse) -> Callable[[Entry], Transfer]:
    lane = UploadLane(warehouse.bucket(target.bucket), None)

    def transfer_of(entry: Entry) -> Transfer:
        assert entry.path is not None
        place = target.inside(entry.name)
        one = upload(entry.path, entry.size, place, warehouse, None)
        return SmallUpload.of(one, lane, entry.path, place.key) if entry.size <= LARGE_SIZE else one

    return transfer_of


def downloads_to(source: Remote, root: Path, warehouse: Warehouse) -> Callable[[Entry], Transfer]:
    lane = DownloadLane(warehouse.bucket(source.bucket), is_dated=True)
    tree = FolderTree(root)

    def transfer_of(entry: Entry) -> Transfer:
        info = entry.info
        assert info is not None
        path_for = partial(tree.path_for, entry.name)
        remote = Remote(source.bucket, info.key)
        one = download(remote, info.size, path_for, name_of(root / entry.name.lstrip("/")), warehouse)

        async def run(progress: Progress) -> int:
            size = await one.run(progress)
            set_time(path_for(), info.created_ms)
            return size

        dated = Transfer(one.source, one.target, one.size, run)
        return SmallDownload.of(dated, lane, info, path_for) if info.size <= LARGE_SIZE else dated

    return transfer_of


def copies_to(source: Remote, target: Remote, warehouse: Warehouse) -> Callable[[Entry], Transfer]:
    def transfer_of(entry: Entry) -> Transfer:
        place = Remote(source.bucket, source.folder + entry.name)
        return remote_copy(place, entry.size, target.inside(entry.name), warehouse)

    return transfer_of
