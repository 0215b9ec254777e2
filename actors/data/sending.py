"""Sending: the bytes of needles, sent to a client in bounded and checked pieces.

A needle of this disk is read here.  A needle of another disk is fetched from its own actor and passed on.
The head of an answer goes out with the first piece: an earlier failure becomes a refusal, a later one ends
the connection, so that no client takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import NamedTuple

import trio

from warehouse.actors.data.authorization import Counters
from warehouse.actors.data.buffers import BufferPool
from warehouse.actors.data.chunk_lists import ChunkList, ChunkLists
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.scope import require_readable
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import LinkDown, NoSuchNeedle, ObjectInconsistent
from warehouse.storage.format.needle import BLOCK_SIZE
from warehouse.storage.reader import NeedleReader
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.pool import HttpPool


class Head(NamedTuple):
    """How an answer begins, and since when the client waits for it (`time.perf_counter`)."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content_length: int
    started: float


class Sending:
    """Sends needles and objects of one volume actor."""

    def __init__(
        self,
        pipelines: Mapping[int, CommitPipeline],
        pool: HttpPool,
        counters: Counters,
        buffers: BufferPool,
        chunk_lists: ChunkLists,
    ) -> None:
        self._pipelines = pipelines
        self._pool = pool
        self._counters = counters
        self._buffers = buffers
        self._chunk_lists = chunk_lists

    async def open(self, pipeline: CommitPipeline, needle_id: int) -> NeedleReader:
        try:
            return pipeline.volume.open_needle(needle_id, nowait=True)
        except BlockingIOError:
            self._counters.cold_reads += 1
            return await trio.to_thread.run_sync(pipeline.volume.open_needle, needle_id)

    async def _start(self, exchange: Exchange, head: Head) -> None:
        """Begin the answer: its first bytes are ready."""
        self._counters.get_latencies.add(perf_counter() - head.started)
        await exchange.start(head.status, head.headers, head.content_length)

    async def send_span(
        self,
        exchange: Exchange,
        reader: NeedleReader,
        start: int,
        length: int,
        head: Head | None,
    ) -> None:
        """Send `length` bytes of a needle from `start`; the head goes out with the first checked piece."""
        position, end = start, start + length
        with self._buffers.lend() as buffer:
            while position < end:
                # A piece ends on a multiple of the block size, so no block is read twice.
                size = min(len(buffer) - position % BLOCK_SIZE, end - position)
                try:
                    piece = reader.read(position, size, nowait=True, into=buffer)
                except BlockingIOError:
                    self._counters.cold_reads += 1
                    read = partial(reader.read, position, size, into=buffer)
                    piece = await trio.to_thread.run_sync(read)
                if head is not None:
                    await self._start(exchange, head)
                    head = None
                await exchange.write(piece)
                position += size
                self._counters.bytes_out += size

    async def send_object(
        self, exchange: Exchange, claims: DataClaims, start: int, length: int, head: Head
    ) -> None:
        """Send `length` bytes of an object of many chunks from `start`, chunk after chunk."""
        left: Head | None = head
        if claims.parts is not None:
            offset = 0
            for volume_id, needle_id, size, url, token in claims.parts:
                part_start, part_end = max(start - offset, 0), min(start + length - offset, size)
                offset += size
                if part_start < part_end:
                    source = (url, token)
                    await self._send_part(
                        exchange, claims, (volume_id, needle_id, size), part_start, part_end, source, left
                    )
                    left = None
        else:
            chunks = await self._chunk_lists.of(claims)
            for place in chunks.within(start, start + length):
                far = None if place.volume_id in self._pipelines else await chunks.grant_for(place)
                which = (place.volume_id, place.needle_id, place.size)
                await self._send_part(exchange, claims, which, place.start, place.end, far, left)
                left = None
        if left is not None:  # the answer has no bytes
            await self._start(exchange, left)

    async def chunks_of(self, claims: DataClaims) -> ChunkList:
        """As `ChunkLists.of`."""
        return await self._chunk_lists.of(claims)

    async def _send_part(
        self,
        exchange: Exchange,
        claims: DataClaims,
        which: tuple[int, int, int],
        start: int,
        end: int,
        source: tuple[str, str] | None,
        head: Head | None,
    ) -> None:
        """Send bytes `start` to `end` of a needle.

        Args:
            which: volume, needle and size.
            source: URL and token; None: the needle is on this disk.
        """
        volume_id, needle_id, size = which
        pipeline = self._pipelines.get(volume_id)
        if pipeline is None:
            assert source is not None
            await self._pass_on(exchange, source, f"/v1/needles/{volume_id}/{needle_id}", start, end, head)
            return
        reader = await self.open(pipeline, needle_id)
        require_readable(claims, reader.metadata)
        if reader.size != size:
            raise ObjectInconsistent(
                f"volume {volume_id}, needle {needle_id} has {reader.size} bytes, the URL is for {size}"
            )
        await self.send_span(exchange, reader, start, end - start, head)

    async def _pass_on(
        self,
        exchange: Exchange,
        source: tuple[str, str],
        target: str,
        start: int,
        end: int,
        head: Head | None,
    ) -> None:
        url, token = source
        headers = [("Authorization", f"Bearer {token}"), ("Range", f"bytes={start}-{end - 1}")]
        async with self._pool.stream("GET", url, target, headers=headers) as answer:
            if answer.status == 404:
                raise NoSuchNeedle(f"the actor at {url} no longer has its part of this object")
            if answer.status != 206:
                raise LinkDown(f"the actor at {url} answered {answer.status} for part of this object")
            if answer.content_length != end - start:
                raise ObjectInconsistent(
                    f"the actor at {url} was asked for {end - start} bytes and announced"
                    f" {answer.content_length}"
                )
            if head is not None:
                await self._start(exchange, head)
            with self._buffers.lend() as buffer:
                while received := await answer.read_into(buffer):
                    await exchange.write(buffer[:received])
                    self._counters.bytes_out += received
