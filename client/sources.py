"""Sources: where the bytes of an upload come from.

A `Source` knows its size and can be read from any place, twice where a chunk has to be sent again: bytes in
memory, a file, another object.  A stream can do neither; `uploads.py` buffers its chunks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from typing import Protocol

import trio

from client.reads import BucketReader, Located
from errors import BadRequest

PIECE_SIZE = 1024 * 1024

Data = bytes | bytearray | memoryview
Pieces = AsyncIterable[bytes | memoryview]


class Source(Protocol):
    @property
    def size(self) -> int: ...

    def open(self, start: int, length: int) -> AbstractAsyncContextManager[Pieces]:
        """Read bytes `start` to `start + length`.  A piece is valid until the next one is asked for."""


class MemorySource:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    @asynccontextmanager
    async def open(self, start: int, length: int) -> AsyncIterator[Pieces]:
        async with aclosing(self._pieces(start, start + length)) as pieces:
            yield pieces

    async def _pieces(self, start: int, end: int) -> AsyncGenerator[memoryview, None]:
        for offset in range(start, end, PIECE_SIZE):
            yield self._data[offset : min(offset + PIECE_SIZE, end)]


class FileSource:
    """A regular file, as long as it was when it was opened."""

    def __init__(self, file_number: int, size: int, name: str) -> None:
        self._file_number = file_number
        self._name = name
        self.size = size

    @asynccontextmanager
    async def open(self, start: int, length: int) -> AsyncIterator[Pieces]:
        async with aclosing(self._pieces(start, start + length)) as pieces:
            yield pieces

    async def _pieces(self, start: int, end: int) -> AsyncGenerator[memoryview, None]:
        buffer = memoryview(bytearray(min(PIECE_SIZE, end - start)))
        position = start
        while position < end:
            wanted = buffer[: min(len(buffer), end - position)]
            received = await trio.to_thread.run_sync(os.preadv, self._file_number, [wanted], position)
            if received == 0:
                raise self._shorter(position)
            yield wanted[:received]
            position += received

    async def read(self) -> bytes:
        """The whole of a small file."""
        data = await trio.to_thread.run_sync(os.pread, self._file_number, self.size, 0)
        if len(data) != self.size:
            raise self._shorter(len(data))
        return data

    def _shorter(self, size: int) -> BadRequest:
        return BadRequest(
            f"{self._name} became shorter while it was read: {size} of {self.size} bytes are left"
        )


class ObjectSource:
    """One version of an object in the same store."""

    def __init__(self, reader: BucketReader, located: Located) -> None:
        self._reader = reader
        self._located = located
        self.size = located.info.size

    @asynccontextmanager
    async def open(self, start: int, length: int) -> AsyncIterator[Pieces]:
        async with self._reader.stream(self._located, start, length, window=2) as stream:
            yield stream.views()


@contextmanager
def opened_file(path: str | os.PathLike[str]) -> Iterator[FileSource]:
    """Open a regular file as a source.

    Raises:
        OSError: it cannot be opened.
        BadRequest: it is something else than a regular file, whose size would mean nothing.
    """
    name = os.fspath(path)
    # O_NONBLOCK: opening a named pipe nobody writes to would wait for ever before we can refuse it.
    file_number = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(file_number)
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"{name} is not a regular file; pass its bytes as a stream instead")
        yield FileSource(file_number, status.st_size, name)
    finally:
        os.close(file_number)


def as_bytes_view(data: bytes | bytearray | memoryview) -> memoryview:
    """A view whose length is a number of bytes, whatever the buffer's own items are."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise BadRequest("a buffer must be contiguous")
    return view.cast("B")
