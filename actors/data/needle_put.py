"""Needle PUT: storing one needle that comes as the body of a request.

    up to SMALL_MAX     one read, one write shared with others; no thread
    larger              piece by piece into an extent of the volume, with two buffers: one fills from the
                        socket while a thread writes the other

Both end in the commit pipeline.  A needle that is there already (its client lost our answer) is committed as
it lies: see `duplicates.find_existing`.
"""

from __future__ import annotations

import time
from time import perf_counter

import trio
from crc32c import crc32c

from warehouse.actors.data.authorization import Counters, RequestAuthorizer
from warehouse.actors.data.buffers import BufferPool
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.duplicates import find_existing
from warehouse.actors.data.put_request import PutDetails, read_put
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import BodyTooLarge, LengthMismatch, LengthRequired, NeedleExists, StoreError
from warehouse.storage.extent import Extent, Placed
from warehouse.storage.format.needle import encode_metadata
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.writing.appending import NewNeedle
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.integrity import Checks

SMALL_MAX = 1024 * 1024  # bytes of a body that is kept in memory, for one read and one write


class NeedlePut:
    """Answers PUTs of one needle."""

    def __init__(
        self, authorizer: RequestAuthorizer, clock: StampClock, counters: Counters, buffers: BufferPool
    ) -> None:
        self._authorizer = authorizer
        self._clock = clock
        self._counters = counters
        self._buffers = buffers

    async def handle(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        size = _checked_size(exchange, claims)
        metadata, conditions, crc, checks = read_put(exchange.headers, claims)
        self._authorizer.use_lease(claims, size)
        details = PutDetails(claims, needle_id, size, metadata, conditions)
        etag, created_ms = await self._store(exchange, pipeline, details, crc, checks)
        self._counters.puts += 1
        self._counters.bytes_in += size
        await exchange.respond(
            201,
            ((b"Content-Type", b"application/json"), (b"ETag", b'"%b"' % etag.encode())),
            f'{{"etag":"{etag}","created_ms":{created_ms}}}'.encode(),
        )

    async def _store(
        self,
        exchange: Exchange,
        pipeline: CommitPipeline,
        details: PutDetails,
        crc: int | None,
        checks: Checks | None,
    ) -> tuple[str, int]:
        """Store the body; return the object's ETag and when it was created."""
        data: bytes | None = None
        try:
            if details.size <= SMALL_MAX:
                encoded = encode_metadata(details.metadata)
                data = await exchange.read_body(details.size)
                if checks is not None:
                    checks.update(data)
                    checks.finish()
                started = perf_counter()
                put = pipeline.submit(NewNeedle(details.needle_id, encoded, data, crc), details)
                await exchange.wait_for(put.latch)
                etag = await pipeline.result_of(put)
                self._counters.put_latencies.add(perf_counter() - started)
                return etag, details.metadata.created_ms
            placed, stamp = await self._receive_large(exchange, pipeline, details, crc, checks)
            started = perf_counter()
        except NeedleExists:
            started = perf_counter()
            if crc is None and data is not None:
                crc = crc32c(data)
            details, placed, stamp = find_existing(pipeline, details, crc)
        etag = await pipeline.commit(details.stored(placed, stamp), details.promise)
        self._counters.put_latencies.add(perf_counter() - started)
        return etag, details.metadata.created_ms

    # --- large bodies -----------------------------------------------------------------------------

    async def _receive_large(
        self,
        exchange: Exchange,
        pipeline: CommitPipeline,
        details: PutDetails,
        crc: int | None,
        checks: Checks | None,
    ) -> tuple[Placed, int]:
        """Write the body to the volume as it comes in; return where it lies, and its stamp."""
        await pipeline.pass_write_barrier()
        extent = self._reserve(pipeline, details)
        try:
            with self._buffers.lend() as first, self._buffers.lend() as second:
                await _receive(exchange, extent, details.size, (first, second), checks)
            if checks is not None:
                checks.finish()
            await pipeline.pass_write_barrier()
            stamp = self._clock.tick(time.time_ns() // 1_000_000)
            placed = extent.finish(stamp=stamp, crc=crc)
            pipeline.uncommitted.add(details.needle_id)
            return placed, stamp
        except BaseException:
            with trio.CancelScope(shield=True):
                await pipeline.pass_write_barrier()
            if extent.abort():
                self._authorizer.return_place(details.claims, details.needle_id, details.size)
            raise

    def _reserve(self, pipeline: CommitPipeline, details: PutDetails) -> Extent:
        """Take a place in the volume, on the room of the request's token."""
        claims, needle_id, size = details.claims, details.needle_id, details.size
        self._authorizer.use_place(claims, needle_id, size)
        try:
            return pipeline.volume.reserve(needle_id, details.metadata, size)
        except StoreError:
            self._authorizer.return_place(claims, needle_id, size)
            raise


def _checked_size(exchange: Exchange, claims: DataClaims) -> int:
    """The length of the body, if the token allows it."""
    if b"content-length" not in exchange.headers:
        raise LengthRequired("a PUT needs a Content-Length")
    size = exchange.content_length
    if claims.body_size_max is not None and size > claims.body_size_max:
        raise BodyTooLarge(
            f"this token allows bodies of up to {claims.body_size_max} bytes, this one has {size}"
        )
    if size < claims.body_size_min:
        raise LengthMismatch(
            f"this token allows bodies of at least {claims.body_size_min} bytes, this one has {size}"
        )
    if claims.body_size is not None and size != claims.body_size:
        raise LengthMismatch(f"this token is for a body of {claims.body_size} bytes, this one has {size}")
    return size


async def _receive(
    exchange: Exchange,
    extent: Extent,
    size: int,
    buffers: tuple[memoryview, memoryview],
    checks: Checks | None,
) -> None:
    """Body to extent with two buffers: one fills from the socket while a thread writes the other."""
    send_piece, receive_piece = trio.open_memory_channel[tuple[memoryview, int]](0)
    send_free, receive_free = trio.open_memory_channel[memoryview](2)
    for buffer in buffers:
        send_free.send_nowait(buffer)

    def write(piece: memoryview) -> None:
        if checks is not None:
            checks.update(piece)
        extent.write(piece)

    async def write_pieces() -> None:
        async with receive_piece:
            async for buffer, filled in receive_piece:
                await trio.to_thread.run_sync(write, buffer[:filled])
                send_free.send_nowait(buffer)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_pieces)
            async with send_piece:
                left = size
                while left:
                    buffer = await receive_free.receive()
                    filled = await _fill(exchange, buffer[:left])
                    if filled == 0:
                        raise LengthMismatch(f"the body ended {left} bytes before its declared {size}")
                    left -= filled
                    await send_piece.send((buffer, filled))
    except BaseExceptionGroup as group:
        raise _single(group) from None


async def _fill(exchange: Exchange, view: memoryview) -> int:
    filled = 0
    while filled < len(view):
        received = await exchange.read_into(view[filled:])
        if received == 0:
            break
        filled += received
    return filled


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a request failed with, out of its nursery's group."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _single(error)
        if not isinstance(error, trio.Cancelled):
            return error
    return group
