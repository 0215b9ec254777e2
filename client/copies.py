"""Copies: from places to transfers.

One file or object is one transfer; a folder is as many as are found below it, told one by one.  The small
ones of a folder go in a lane.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import trio

from client.lanes import DownloadLane, SmallDownload, SmallUpload, UploadLane
from client.library import Bucket, Warehouse
from client.places import FolderTree, Remote, key_of_path
from client.reads import ObjectStream
from client.transfers import LARGE_SIZE, Found, Transfer, Unfit
from client.uploads import Progress
from client.walks import local_files
from errors import BodyTooLarge, NoSuchObject, StoreError
from transport.messages import ObjectInfo

PIECE_SIZE = 1024 * 1024


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
    lane = UploadLane(warehouse.bucket(target.bucket), content_type)
    async with aclosing(local_files(root)) as entries:
        async for entry in entries:
            try:
                if entry.problem is not None:
                    raise entry.problem
                place = target.inside(key_of_path(entry.path, root))
            except (StoreError, OSError) as error:
                yield Unfit(name_of(entry.path), str(target), error)
            else:
                one = upload(entry.path, entry.size, place, warehouse, content_type)
                is_small = entry.size <= LARGE_SIZE
                yield SmallUpload.of(one, lane, entry.path, place.key) if is_small else one


async def objects_below(
    source: Remote, warehouse: Warehouse, *, with_locations: bool = False
) -> AsyncIterator[tuple[Remote, str, ObjectInfo]]:
    """All objects in a remote folder: where each is, its key relative to the folder, and what it is.

    Raises:
        NoSuchObject: there is none.
    """
    is_empty = True
    async for info in warehouse.bucket(source.bucket).list(source.folder, with_locations=with_locations):
        relative = info.key[len(source.folder) :]
        if relative:  # an object of the folder's own name, as some tools make them, is not in it
            is_empty = False
            yield Remote(source.bucket, info.key), relative, info
    if is_empty and source.key:
        raise NoSuchObject(f"there is nothing in {source}")


async def downloads_below(source: Remote, root: Path, warehouse: Warehouse) -> AsyncIterator[Found]:
    tree = FolderTree(root)
    lane = DownloadLane(warehouse.bucket(source.bucket))
    async for remote, relative, info in objects_below(source, warehouse, with_locations=True):
        name = name_of(root / relative.lstrip("/"))
        path_for = partial(tree.path_for, relative)
        one = download(remote, info.size, path_for, name, warehouse)
        yield SmallDownload.of(one, lane, info, path_for) if info.size <= LARGE_SIZE else one


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


async def write_objects(bucket: Bucket, keys: Sequence[str]) -> None:
    """Write objects to standard output, one behind the other: small ones in batches, others as streams."""
    if len(keys) == 1:
        await _write_object(bucket, keys[0])
        return
    async with aclosing(bucket.get_many(keys, size_max=LARGE_SIZE)) as results:
        async for result in results:
            if isinstance(result.error, BodyTooLarge):
                await _write_object(bucket, result.key)
            elif result.error is not None:
                raise result.error
            else:
                await _write_all(memoryview(result.data or b""))


async def _write_object(bucket: Bucket, key: str) -> None:
    async with bucket.open(key) as stream:
        await write_standard_output(stream, lambda count: None)


async def write_standard_output(stream: ObjectStream, progress: Progress) -> int:
    """Write a stream to standard output; returns the bytes written."""
    count = 0
    while (view := await stream.next_view()) is not None:
        await _write_all(view)
        count += len(view)
        progress(count)
    return count


async def _write_all(view: memoryview) -> None:
    while view:
        # Abandoned at Ctrl-C: whoever reads our output may never read again.
        written = await trio.to_thread.run_sync(os.write, 1, view, abandon_on_cancel=True)
        view = view[written:]
