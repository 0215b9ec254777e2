"""Plans: from places to transfers.

A file or object is one transfer; a folder is one transfer for each file below it, found one by one.  Small
files of a folder go to a mover (`small_files.py`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from warehouse.cli.copying.contents import metadata_of_path
from warehouse.cli.copying.patterns import EVERYTHING, Glob, Rules, glob_of
from warehouse.cli.copying.places import FolderTree, Remote, key_of_path
from warehouse.cli.copying.small_files import (
    SmallDownload,
    SmallFileDownloader,
    SmallFileUploader,
    SmallUpload,
)
from warehouse.cli.copying.transfers import LARGE_SIZE, Found, LeftOut, Transfer, Unfit
from warehouse.cli.copying.walks import Links, leaves_out, local_files
from warehouse.client.bucket import Bucket
from warehouse.client.files import check_target
from warehouse.client.headers import key_size
from warehouse.client.leftovers import remove_leftovers
from warehouse.client.reading.streams import ObjectStream
from warehouse.client.store import Store
from warehouse.client.writing.sources import opened_file
from warehouse.client.writing.uploads import Progress
from warehouse.errors import BodyTooLarge, NoSuchObject, StoreError
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.messages import ObjectInfo

PIECE_SIZE = 1024 * 1024


# --- one thing ------------------------------------------------------------------------------------


def upload(path: Path, size: int | None, target: Remote, store: Store, content_type: str | None) -> Transfer:
    async def run(progress: Progress) -> int:
        bucket = store.bucket(target.bucket)
        metadata = metadata_of_path(path)  # before the bytes: a file that changes meanwhile must look newer
        return (await bucket.upload(target.key, path, progress, content_type, metadata)).size

    def check() -> None:
        with opened_file(path):
            check_object(target.key, content_type)

    return Transfer(name_of(path), str(target), size, run, check=check)


def check_object(key: str, content_type: str | None) -> None:
    """Raises BadKey or BadMetadata when no such object can exist."""
    key_size(key)
    check_content_type(content_type)


def download(
    source: Remote,
    size: int,
    path_for: Callable[[], Path],
    name: str,
    store: Store,
    look_at: Callable[[], Path] | None = None,
) -> Transfer:
    """
    Args:
        look_at: as `path_for`, but makes no folders.
    """

    async def run(progress: Progress) -> int:
        return (await store.bucket(source.bucket).download(source.key, path_for(), progress)).size

    return Transfer(str(source), name, size, run, check=lambda: check_target((look_at or path_for)()))


def remote_copy(
    source: Remote, size: int, target: Remote, store: Store, content_type: str | None
) -> Transfer:
    async def run(progress: Progress) -> int:
        bucket = store.bucket(source.bucket)
        return (await bucket.copy(source.key, target.key, target.bucket, progress, content_type)).size

    check = partial(check_object, target.key, content_type)
    return Transfer(str(source), str(target), size, run, check=check)


def name_of(path: Path) -> str:
    """A path as text for reports, even if its bytes are not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


async def single(transfer: Transfer) -> AsyncGenerator[Found, None]:
    yield transfer


async def download_one(source: Remote, path: Path, store: Store) -> AsyncGenerator[Found, None]:
    info = await known_object(source, store, "copy it with -r")

    def path_for() -> Path:
        remove_leftovers(path.parent)
        return path

    def look_at() -> Path:
        os.stat(path.parent)  # the folder must exist: a single download does not make it
        return path

    yield download(source, info.size, path_for, name_of(path), store, look_at)


async def remote_copy_one(
    source: Remote, target: Remote, store: Store, content_type: str | None
) -> AsyncGenerator[Found, None]:
    info = await known_object(source, store, "copy it with -r")
    yield remote_copy(source, info.size, target, store, content_type)


# --- folders --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """Which files of a folder to copy."""

    links: Links = Links.FILES
    rules: Rules = EVERYTHING


async def uploads_below(
    root: Path, target: Remote, store: Store, content_type: str | None, choice: Choice
) -> AsyncGenerator[Found, None]:
    """All files below a folder that are not left out."""
    mover = SmallFileUploader(store.bucket(target.bucket), content_type)
    async with aclosing(local_files(root, choice.links)) as entries:
        async for entry in entries:
            if entry.left_out is not None:
                yield LeftOut(name_of(entry.path), entry.left_out)
                continue
            if leaves_out(choice.rules, entry, root):
                continue
            try:
                relative = key_of_path(entry.path, root)
                if entry.problem is not None:
                    raise entry.problem
                place = target.inside(relative)
            except (StoreError, OSError) as error:
                yield Unfit(name_of(entry.path), str(target), error)
            else:
                one = upload(entry.path, entry.size, place, store, content_type)
                is_small = entry.size <= LARGE_SIZE
                yield SmallUpload.of(one, mover, entry.path, place.key) if is_small else one


@dataclass(frozen=True)
class Below:
    """Objects of the store: those in a folder, or those that match wildcards."""

    source: Remote
    glob: Glob | None = None
    is_recursive: bool = True
    rules: Rules = EVERYTHING

    @property
    def folder(self) -> str:
        """The common beginning of their keys; copies keep their names from there on."""
        return self.source.folder if self.glob is None else self.glob.folder

    def _is_matched(self, glob: Glob, key: str) -> bool:
        return glob.matches(key) or (self.is_recursive and glob.folder_of(key) is not None)

    async def objects(
        self, store: Store, *, with_locations: bool = False
    ) -> AsyncGenerator[tuple[Remote, str, ObjectInfo], None]:
        """The place of each object, its key relative to the folder, and its properties.

        Raises:
            NoSuchObject: no object is there.
        """
        glob, is_empty = self.glob, True
        prefix = self.source.folder if glob is None else glob.fixed
        listing = store.bucket(self.source.bucket).list(prefix, with_locations=with_locations)
        async for info in listing:
            relative = info.key[len(self.folder) :]
            if not relative:  # an object with the folder's own name, as some tools make, is not in the folder
                continue
            if glob is not None and not self._is_matched(glob, info.key):
                continue
            is_empty = False
            if not self.rules.leaves_out(relative):
                yield Remote(self.source.bucket, info.key), relative, info
        if is_empty and self.source.key:
            what = "nothing in" if glob is None else "nothing that matches"
            raise NoSuchObject(f"there is {what} {self.source}")


async def downloads_below(below: Below, root: Path, store: Store) -> AsyncGenerator[Found, None]:
    tree = FolderTree(root)
    mover = SmallFileDownloader(store.bucket(below.source.bucket))
    async with aclosing(below.objects(store, with_locations=True)) as objects:
        async for remote, relative, info in objects:
            name = name_of(root / relative.lstrip("/"))
            path_for = partial(tree.path_for, relative)
            one = download(remote, info.size, path_for, name, store, partial(tree.look_at, relative))
            yield SmallDownload.of(one, mover, info, path_for) if info.size <= LARGE_SIZE else one


async def remote_copies_below(
    below: Below, target: Remote, store: Store, content_type: str | None
) -> AsyncGenerator[Found, None]:
    async with aclosing(below.objects(store)) as objects:
        async for remote, relative, info in objects:
            yield remote_copy(remote, info.size, target.inside(relative), store, content_type)


# --- missing objects ------------------------------------------------------------------------------


async def known_object(source: Remote, store: Store, advice: str) -> ObjectInfo:
    """The properties of an object.

    Args:
        advice: what to do if the name is that of a folder.
    Raises:
        NoSuchObject: it does not exist; the message names a folder of that name, or keys that begin with it.
    """
    try:
        return await store.bucket(source.bucket).stat(source.key)
    except NoSuchObject as error:
        raise await explained(error, source, store, advice) from None


async def explained(error: NoSuchObject, source: Remote, store: Store, advice: str) -> NoSuchObject:
    """The same failure, naming what exists in place of the object; `advice` is for a folder."""
    bucket = store.bucket(source.bucket)
    async for _ in bucket.list(source.folder, limit=1):
        return NoSuchObject(f"{source} is a folder: {advice}")
    async for info in bucket.list(source.key, limit=1):
        near = Remote(source.bucket, info.key)
        return NoSuchObject(f"there is nothing at {source}; other keys begin with it, such as {near}")
    if glob_of(source.key) is not None:
        return NoSuchObject(f"there is nothing at {source}; only cp, cat, rm, ls and du take wildcards")
    return error


# --- standard streams -----------------------------------------------------------------------------


def upload_standard_input(target: Remote, store: Store, content_type: str | None) -> Transfer:
    async def run(progress: Progress) -> int:
        bucket = store.bucket(target.bucket)
        return (await bucket.put(target.key, standard_input(progress), content_type)).size

    return Transfer("-", str(target), None, run, check=partial(check_object, target.key, content_type))


def download_to_standard_output(source: Remote, store: Store) -> Transfer:
    async def run(progress: Progress) -> int:
        async with store.bucket(source.bucket).open(source.key) as stream:
            return await write_standard_output(stream, progress)

    return Transfer(str(source), "-", None, run)


async def standard_input(progress: Progress) -> AsyncIterator[bytes]:
    """Standard input, piece by piece, until its end."""
    async for piece in _pieces_of(0, progress):
        yield piece


async def _pieces_of(file_number: int, progress: Progress) -> AsyncIterator[bytes]:
    count = 0
    while piece := await trio.to_thread.run_sync(os.read, file_number, PIECE_SIZE, abandon_on_cancel=True):
        count += len(piece)
        progress(count)
        yield piece


def upload_pipe(path: Path, target: Remote, store: Store, content_type: str | None) -> Transfer:
    """Upload from a named pipe or a device until its end, as from standard input."""

    async def run(progress: Progress) -> int:
        opened = partial(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        # Abandoned at Ctrl-C: opening a pipe waits for a writer, perhaps forever.
        file_number = await trio.to_thread.run_sync(opened, abandon_on_cancel=True)
        try:
            pieces = _pieces_of(file_number, progress)
            return (await store.bucket(target.bucket).put(target.key, pieces, content_type)).size
        finally:
            os.close(file_number)

    check = partial(check_object, target.key, content_type)
    return Transfer(name_of(path), str(target), None, run, check=check)


Explain = Callable[[str, NoSuchObject], Awaitable[NoSuchObject]]


async def write_objects(bucket: Bucket, keys: Sequence[str], explain: Explain) -> None:
    """Write objects to standard output, one after another: small ones in batches, others as streams.

    Args:
        explain: makes the error for a missing key.
    """
    if len(keys) == 1:
        try:
            await _write_object(bucket, keys[0])
        except NoSuchObject as error:
            raise await explain(keys[0], error) from None
        return
    async with aclosing(bucket.get_many(keys, size_max=LARGE_SIZE)) as results:
        async for result in results:
            if isinstance(result.error, BodyTooLarge):
                await _write_object(bucket, result.key)
            elif isinstance(result.error, NoSuchObject):
                raise await explain(result.key, result.error)
            elif result.error is not None:
                raise result.error
            else:
                await write_all(memoryview(result.data or b""))


async def _write_object(bucket: Bucket, key: str) -> None:
    async with bucket.open(key) as stream:
        await write_standard_output(stream, lambda count: None)


async def write_standard_output(stream: ObjectStream, progress: Progress) -> int:
    """Write a stream to standard output; return the number of bytes."""
    count = 0
    while (view := await stream.next_view()) is not None:
        await write_all(view)
        count += len(view)
        progress(count)
    return count


async def write_all(view: memoryview) -> None:
    while view:
        # Abandoned at Ctrl-C: the reader of our output may never read again.
        written = await trio.to_thread.run_sync(os.write, 1, view, abandon_on_cancel=True)
        view = view[written:]
