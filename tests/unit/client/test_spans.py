"""Cutting: reads into spans, uploads into chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.client.listing import Prefix, merge_entries
from warehouse.client.reading.streams import SPAN_SIZE, SpanBuffers, plan_spans
from warehouse.client.writing.cutting import (
    STREAM_BUFFERED_MAX,
    STREAM_CHUNK_FIRST,
    STREAM_CHUNK_MAX,
    StreamChunker,
    chunk_of,
    count_chunks,
    stream_chunk_size,
    stream_parallel,
)
from warehouse.transport.messages import Chunk, Listing, ObjectInfo

SIZES = st.one_of(st.integers(0, 10), st.integers(0, 3 * SPAN_SIZE), st.just(SPAN_SIZE))


@given(st.lists(SIZES, min_size=1, max_size=5), st.data())
def test_spans_cover_the_range_exactly_and_in_order(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    start = data.draw(st.integers(0, total))
    length = data.draw(st.integers(0, total - start))
    chunks = [Chunk(1, number, size, 0) for number, size in enumerate(sizes, 1)]
    starts = {chunk.needle_id: sum(sizes[: chunk.needle_id - 1]) for chunk in chunks}
    position = start
    for span in plan_spans(chunks, start, length):
        assert 0 < span.length <= SPAN_SIZE
        assert starts[span.chunk.needle_id] + span.start == position
        assert span.start + span.length <= span.chunk.size
        assert span.start // SPAN_SIZE == (span.start + span.length - 1) // SPAN_SIZE
        chunk_start = starts[span.chunk.needle_id]
        assert span.is_verified == (start <= chunk_start and chunk_start + span.chunk.size <= start + length)
        position += span.length
    assert position == start + length


def test_full_buffers_are_used_again_and_spares_are_bounded() -> None:
    buffers = SpanBuffers()
    first = buffers.buffer(SPAN_SIZE)
    buffers.give(first)
    assert buffers.buffer(SPAN_SIZE) is first
    assert len(buffers.buffer(10)) == 10
    taken = 0
    while buffers.take_spare():
        taken += 1
    assert 0 < taken < 100
    buffers.give_spare()
    assert buffers.take_spare()


@given(st.integers(0, 10**7), st.integers(1, 10**6))
def test_chunks_add_up(object_size: int, chunk_size: int) -> None:
    count = count_chunks(object_size, chunk_size)
    for index in {0, count // 2, count - 1}:
        chunk = chunk_of(object_size, chunk_size, index)
        assert (chunk.chunk_count, chunk.object_size) == (count, object_size)
        assert chunk.size == chunk_size or index == count - 1
    last = chunk_of(object_size, chunk_size, count - 1)
    assert (count - 1) * chunk_size + last.size == object_size


def test_chunks_of_a_stream_grow_and_memory_stays_bounded() -> None:
    sizes = [stream_chunk_size(index) for index in range(1000)]
    assert sizes[0] == STREAM_CHUNK_FIRST
    assert sizes == sorted(sizes)
    assert sizes[-1] == STREAM_CHUNK_MAX
    for index in range(1000):
        assert stream_parallel(index) >= 1
        assert (stream_parallel(index) + 1) * sizes[index] <= STREAM_BUFFERED_MAX


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 40))
def test_a_stream_is_cut_without_losing_a_byte(piece_sizes: list[int], chunk_size: int) -> None:
    whole = bytes(range(256)) * 8
    pieces, position = [], 0
    for size in piece_sizes:
        pieces.append(whole[position : position + size])
        position += size

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def cut() -> list[bytes]:
        chunker = StreamChunker(stream(), chunk_size)
        chunks = []
        while True:
            chunk = await chunker.next()
            assert chunk.index == len(chunks)
            chunks.append(bytes(chunk.data))
            assert chunker.size == sum(map(len, chunks))
            if chunk.is_last:
                return chunks

    chunks = trio.run(cut)
    assert b"".join(chunks) == whole[:position]
    assert all(len(chunk) == chunk_size for chunk in chunks[:-1])
    assert len(chunks[-1]) > 0 or len(chunks) == 1


@given(st.sets(st.text(max_size=3)), st.sets(st.text(max_size=3)))
def test_objects_and_prefixes_of_a_page_come_in_one_order(keys: set[str], prefixes: set[str]) -> None:
    page = Listing(
        objects=[ObjectInfo(key=key, size=0, etag="", created_ms=0) for key in sorted(keys, key=str.encode)],
        prefixes=sorted(prefixes - keys, key=str.encode),
        next_after=None,
    )
    names = [entry.name if isinstance(entry, Prefix) else entry.key for entry in merge_entries(page)]
    assert names == sorted(keys | prefixes, key=str.encode)
