"""Small files: those of a recursive copy travel hundreds in one request.

A copy of many files hands the small ones to a mover, which moves them with `put_many` or `get_many` and
reports the outcome of each.  A file that has become large since it was found is copied alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import trio

from warehouse.cli.copying.contents import file_time_of, metadata_of_path
from warehouse.cli.copying.transfers import LARGE_SIZE, Outcomes, Transfer
from warehouse.client.bucket import Bucket
from warehouse.client.files import replace_file
from warehouse.client.writing.put_many import Put
from warehouse.client.writing.sources import opened_file
from warehouse.client.writing.uploads import Progress
from warehouse.errors import BodyTooLarge, StoreError
from warehouse.transport.messages import ObjectInfo

READ_COUNT = 256  # files that one call reads ...
READ_SIZE = 4 * 1024 * 1024  # ... or about this many bytes


@dataclass(frozen=True)
class SmallUpload(Transfer):
    """A file that was small when it was found."""

    path: Path
    key: str

    @classmethod
    def of(cls, transfer: Transfer, mover: SmallFileUploader, path: Path, key: str) -> Self:
        source, target, size, run = transfer.source, transfer.target, transfer.size, transfer.run
        return cls(source, target, size, run, path, key, mover=mover, check=transfer.check)


@dataclass(frozen=True)
class SmallDownload(Transfer):
    """An object that was small when it was listed."""

    info: ObjectInfo
    path_for: Callable[[], Path]

    @classmethod
    def of(
        cls, transfer: Transfer, mover: SmallFileDownloader, info: ObjectInfo, path_for: Callable[[], Path]
    ) -> Self:
        source, target, size, run = transfer.source, transfer.target, transfer.size, transfer.run
        return cls(source, target, size, run, info, path_for, mover=mover, check=transfer.check)


class SmallFileUploader:
    """Moves small files into one bucket."""

    def __init__(self, bucket: Bucket, content_type: str | None) -> None:
        self._bucket = bucket
        self._content_type = content_type

    async def move_all(self, transfers: trio.MemoryReceiveChannel[Transfer], outcomes: Outcomes) -> None:
        under_way: deque[SmallUpload] = deque()
        async with aclosing(self._bucket.put_many(self._items(transfers, under_way, outcomes))) as results:
            async for result in results:
                transfer = under_way.popleft()
                if result.error is None:
                    outcomes.done(transfer, result.size)
                else:
                    outcomes.failed(transfer, result.error)

    async def _items(
        self,
        transfers: trio.MemoryReceiveChannel[Transfer],
        under_way: deque[SmallUpload],
        outcomes: Outcomes,
    ) -> AsyncIterator[Put]:
        async for first in transfers:
            group = _group_of(first, transfers)
            contents = await trio.to_thread.run_sync(_read_all, [transfer.path for transfer in group])
            for transfer, content in zip(group, contents, strict=True):
                if content is None:
                    await outcomes.start(transfer, transfer.run)
                elif isinstance(content, tuple):
                    data, metadata = content
                    under_way.append(transfer)
                    yield Put(transfer.key, data, self._content_type, metadata)
                else:
                    outcomes.failed(transfer, content)


def _group_of(first: Transfer, transfers: trio.MemoryReceiveChannel[Transfer]) -> list[SmallUpload]:
    """Files to read together: the first, and others that have been found already."""
    assert isinstance(first, SmallUpload)
    group, size = [first], first.size or 0
    while len(group) < READ_COUNT and size < READ_SIZE:
        try:
            transfer = transfers.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            break
        assert isinstance(transfer, SmallUpload)
        group.append(transfer)
        size += transfer.size or 0
    return group


_Content = tuple[bytes, Mapping[str, str]] | StoreError | OSError | None


def _read_all(paths: Sequence[Path]) -> list[_Content]:
    """The contents of files with their metadata, or the error; None for a file that is large now."""
    return [_read(path) for path in paths]


def _read(path: Path) -> _Content:
    try:
        metadata = metadata_of_path(path)  # before the bytes: a file that changes meanwhile must look newer
        with opened_file(path) as file:
            return (file.read_now(), metadata) if file.size <= LARGE_SIZE else None
    except (StoreError, OSError) as error:
        return error


class SmallFileDownloader:
    """Moves small objects of one bucket into files."""

    def __init__(self, bucket: Bucket, *, is_dated: bool = False) -> None:
        self._bucket = bucket
        self._is_dated = is_dated  # files get the time of their objects

    async def move_all(self, transfers: trio.MemoryReceiveChannel[Transfer], outcomes: Outcomes) -> None:
        under_way: deque[SmallDownload] = deque()

        async def entries() -> AsyncIterator[ObjectInfo]:
            async for transfer in transfers:
                assert isinstance(transfer, SmallDownload)
                under_way.append(transfer)
                yield transfer.info

        async with aclosing(self._bucket.get_many(entries(), size_max=LARGE_SIZE)) as results:
            async for result in results:
                transfer = under_way.popleft()
                if isinstance(result.error, BodyTooLarge):
                    await outcomes.start(transfer, transfer.run)
                elif result.error is not None:
                    outcomes.failed(transfer, result.error)
                else:
                    await outcomes.start(transfer, partial(self._write, transfer, result.data or b""))

    async def _write(self, transfer: SmallDownload, data: bytes, progress: Progress) -> int:
        path = transfer.path_for()
        await trio.to_thread.run_sync(replace_file, path, data)
        if self._is_dated:
            set_time(path, transfer.info)
        return len(data)


def set_time(path: Path, info: ObjectInfo) -> None:
    """Give a file the time of its object; a link in its place keeps its own time."""
    changed_ns = file_time_of(info)
    os.utime(path, ns=(changed_ns, changed_ns), follow_symlinks=False)
