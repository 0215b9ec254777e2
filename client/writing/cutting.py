"""Cutting: an object into the chunks of an upload.  Pure but for reading a stream.

Bytes of known size are cut into chunks as large as the store takes.  A stream of unknown length is cut into
chunks that start small and grow, so that short streams take little memory and long ones few chunks.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass

from warehouse.client.writing.sources import as_bytes_view
from warehouse.transport.messages import SlotWanted

STREAM_CHUNK_FIRST = 8 * 1024 * 1024
STREAM_CHUNK_MAX = 32 * 1024 * 1024
STREAM_CHUNKS_A_SIZE = 64  # after this many chunks, their size doubles
STREAM_PARALLEL = 2
STREAM_BUFFERED_MAX = 64 * 1024 * 1024  # chunks of a stream in memory, including the one that is being filled


def count_chunks(object_size: int, chunk_size: int) -> int:
    return max(1, -(-object_size // chunk_size))  # an empty object has one empty chunk


def chunk_of(object_size: int, chunk_size: int, index: int) -> SlotWanted:
    """Chunk `index` of an object of known size: `chunk_size` bytes, the last chunk the rest."""
    return SlotWanted(
        chunk_index=index,
        size=min(chunk_size, object_size - index * chunk_size),
        chunk_count=count_chunks(object_size, chunk_size),
        object_size=object_size,
    )


def stream_chunk_size(index: int) -> int:
    """Bytes of chunk `index` of a stream; the first are small, because the stream may be short."""
    return min(STREAM_CHUNK_FIRST << (index // STREAM_CHUNKS_A_SIZE), STREAM_CHUNK_MAX)


def stream_parallel(index: int) -> int:
    """How many chunks of that size may be in flight while one more is filled."""
    return max(1, min(STREAM_PARALLEL, STREAM_BUFFERED_MAX // stream_chunk_size(index) - 1))


@dataclass(frozen=True, slots=True)
class StreamChunk:
    index: int
    data: bytearray
    is_last: bool


class StreamChunker:
    """Cuts a stream into chunks and marks the last one."""

    def __init__(self, pieces: AsyncIterable[bytes | bytearray | memoryview], chunk_size: int) -> None:
        self._chunk_size = chunk_size  # the largest that the store accepts
        self.size = 0  # bytes of all chunks so far
        self.count = 0
        self._pieces = aiter(pieces)
        self._rest = memoryview(b"")

    async def next(self) -> StreamChunk:
        """The next chunk; must not be called after the last one."""
        size_max = min(stream_chunk_size(self.count), self._chunk_size)
        # It grows as bytes come: `bytearray(size_max)` writes zeros, so a stream that stands still would take
        # all of it.  The kernel moves pages of a buffer of this size, and copies nothing.
        data = bytearray()
        while not self._rest or len(data) < size_max:
            taken = self._rest[: size_max - len(data)]
            data += taken
            self._rest = self._rest[len(taken) :]
            if self._rest:
                break  # the chunk is full, and more bytes follow
            piece = await anext(self._pieces, None)
            if piece is None:
                return self._cut(data, is_last=True)
            self._rest = as_bytes_view(piece)
        return self._cut(data, is_last=False)

    def _cut(self, data: bytearray, *, is_last: bool) -> StreamChunk:
        chunk = StreamChunk(self.count, data, is_last)
        self.count += 1
        self.size += len(data)
        return chunk
