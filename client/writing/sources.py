"""Sources: where the bytes of an upload come from.

A `Source` (bytes in memory, a file, another object) knows its size and can be read from any position, again
if a chunk must be sent again.  A stream can do neither, so `uploads.py` buffers its chunks.  A `OnceSource`
is a stream that knows its size, of somebody who can send all of it again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol, Self

import trio

from warehouse.client.reading.locator import Located
from warehouse.client.reading.streams import BucketReader
from warehouse.errors import BadRequest

PIECE_SIZE = 1024 * 1024

Data = bytes | bytearray | memoryview
Pieces = AsyncIterable[bytes | memoryview]


class Source(Protocol):
    @property
    def size(self) -> int: ...

    def open(self, start: int, length: int) -> AbstractAsyncContextManager[Pieces]:
        """Read bytes `start` to `start + length`.  A piece is valid until the next one is requested."""


class MemorySource:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    @asynccontextmanager
    async def open(self, start: int, length: int) -> AsyncIterator[Pieces]:
        yield _MemoryPieces(self._data[start : start + length])


class _MemoryPieces:
    def __init__(self, data: memoryview) -> None:
        self._left = data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        if not self._left:
            raise StopAsyncIteration
        piece, self._left = self._left[:PIECE_SIZE], self._left[PIECE_SIZE:]
        return piece


class FileSource:
    """A regular file, with the size that it had when it was opened."""

    def __init__(self, file_number: int, size: int, name: str) -> None:
        self._file_number = file_number
        self._name = name
        self.size = size

    @asynccontextmanager
    async def open(self, start: int, length: int) -> AsyncIterator[Pieces]:
        yield _FilePieces(self, start, start + length)

    async def read_into(self, view: memoryview, position: int) -> int:
        count = await trio.to_thread.run_sync(os.preadv, self._file_number, [view], position)
        if count == 0:
            raise self._shorter(position)
        return count

    async def read(self) -> bytes:
        """The whole of a small file."""
        return await trio.to_thread.run_sync(self.read_now)

    def read_now(self) -> bytes:
        """The same, for a caller that already runs in a thread."""
        data = os.pread(self._file_number, self.size, 0)
        if len(data) != self.size:
            raise self._shorter(len(data))
        return data

    def _shorter(self, size: int) -> BadRequest:
        return BadRequest(
            f"{self._name} became shorter while it was read: {size} of {self.size} bytes remain"
        )


class _FilePieces:
    def __init__(self, source: FileSource, start: int, end: int) -> None:
        self._source = source
        self._position = start
        self._end = end
        self._buffer = memoryview(bytearray(min(PIECE_SIZE, end - start)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        left = self._end - self._position
        if not left:
            raise StopAsyncIteration
        wanted = self._buffer[:left]
        received = await self._source.read_into(wanted, self._position)
        self._position += received
        return wanted[:received]


class OnceSource:
    """A stream of known length, which is not kept: a chunk that fails after it has begun ends the put.

    The stream must hold no cancel scope while it yields.

    Args:
        size: bytes of the whole stream.

    Attributes:
        position: of the next byte.
    """

    def __init__(self, pieces: AsyncIterable[Data], size: int) -> None:
        self.pieces = pieces
        self.size = size
        self.position = 0
        self._pieces = aiter(pieces)
        self._rest = memoryview(b"")
        self._is_cut = False
        self._passed = 0  # all bytes up to there have been sent by whoever read them
        self._wake: trio.Event | None = None

    @asynccontextmanager
    async def open(self, length: int) -> AsyncIterator[Pieces]:
        """Read the next `length` bytes."""
        yield _OncePieces(self, length)

    async def wait_passed(self, position: int) -> None:
        """Wait until a reader has no more use for the bytes up to there, so that another may read on."""
        while self._passed < position:
            self._wake = trio.Event()
            await self._wake.wait()

    def note_passed(self) -> None:
        """Say that the bytes read so far are no longer used."""
        self._passed = self.position
        if self._wake is not None:
            self._wake.set()

    async def read(self, most: int) -> memoryview:
        """Some bytes, at most `most`.

        Raises:
            BadRequest: the stream is shorter than it was said to be.
        """
        while not self._rest:
            self._is_cut = True  # a generator that is cancelled while it waits has no more pieces
            piece = await anext(self._pieces, None)
            self._is_cut = False
            if piece is None:
                raise BadRequest(f"a stream of {self.size} bytes ended after {self.position}")
            self._rest = as_bytes_view(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        self.position += len(taken)
        return taken

    def is_at(self, position: int) -> bool:
        """Whether everything from there on can still be read."""
        return self.position == position and not self._is_cut

    async def require_end(self) -> None:
        """
        Raises:
            BadRequest: the stream is longer than it was said to be.
        """
        if self._rest or await anext(self._pieces, None) is not None:
            raise BadRequest(f"a stream of {self.size} bytes does not end there")


class _OncePieces:
    def __init__(self, source: OnceSource, length: int) -> None:
        self._source = source
        self._left = length

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        if not self._left:
            self._source.note_passed()
            raise StopAsyncIteration
        piece = await self._source.read(self._left)
        self._left -= len(piece)
        return piece


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
        OSError: the file cannot be opened.
        BadRequest: the path is not a regular file, so its size has no meaning.
    """
    name = os.fspath(path)
    # O_NONBLOCK: opening a named pipe without a writer would wait forever before we can refuse it.
    file_number = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(file_number)
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"{name} is not a regular file; pass its bytes as a stream instead")
        yield FileSource(file_number, status.st_size, name)
    finally:
        os.close(file_number)


def as_bytes_view(data: bytes | bytearray | memoryview) -> memoryview:
    """A view of bytes, whatever the item size of the buffer is."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise BadRequest("a buffer must be contiguous")
    return view.cast("B")
