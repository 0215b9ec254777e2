"""Needle HTTP: what a volume actor answers on its data port.

    PUT, GET, HEAD  /v1/needles/{volume}/{needle}    with a token, as a Bearer header or as ?token=
    POST            /v1/batch/put, /v1/batch/get     many at once: see batch_http.py
    GET             /healthz, /metrics

This file turns requests into calls of `storage` and nothing else: the token says what is allowed, the
volume keeps the bytes, the commit pipeline makes them durable and visible.  Bodies flow in bounded pieces;
the hot path (small bodies, warm reads) hops to no thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial
from urllib.parse import quote

import trio
from crc32c import crc32c

from warehouse.actors.data.authorization import (
    Counters,
    RequestAuthorizer,
    bearer_token,
    require_bucket,
    require_needle,
)
from warehouse.actors.data.batch_http import BATCH_ROUTE, BatchHttp
from warehouse.actors.data.buffers import BufferPool
from warehouse.actors.data.chunk_lists import Ask, ChunkLists
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.commit_pipeline import CommitPipeline, stored_needle
from warehouse.actors.data.duplicates import find_existing
from warehouse.actors.data.put_request import read_put
from warehouse.actors.data.sending import Sending
from warehouse.actors.data.url_errors import for_url_holder
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier
from warehouse.errors import (
    BodyTooLarge,
    LeaseExhausted,
    LengthMismatch,
    LengthRequired,
    NeedleExists,
    NoSuchRoute,
    StoreError,
    TokenMissing,
    TokenScope,
)
from warehouse.storage.extent import Extent, Placed
from warehouse.storage.format.needle import NeedleMetadata, encode_metadata
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import NewNeedle
from warehouse.transport.http.conditions import CONDITIONS, is_not_modified, is_range_current
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.header_text import served_type
from warehouse.transport.http.heads import PlainFields
from warehouse.transport.http.integrity import Checks
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.rules import parse_range, require_method
from warehouse.transport.messages import etag_of

SMALL_MAX = 1024 * 1024  # up to this a body is one read, one write, no thread

NEEDLE_ROUTE = b"/v1/needles/"
NOT_PLAIN = frozenset((*CONDITIONS, b"range"))

# User bytes are never to run as a page: no sniffing, and an opaque origin should a browser render them.
SAFE_HEADERS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"sandbox; default-src 'none'"),
)


class NeedleHttp:
    """The handler of one volume actor's `HttpServer`."""

    def __init__(
        self,
        *,
        pipelines: Mapping[int, CommitPipeline],
        broken: Mapping[int, str],
        verifier: DataTokenVerifier,
        clock: StampClock,
        pool: HttpPool,
        is_ready: Callable[[], bool],
        render_metrics: Callable[[], bytes],
        cold_reads: ColdReads | None = None,
        ask_master: Ask | None = None,
    ) -> None:
        """
        Args:
            ask_master: asks which chunks an object has; None: URLs that want that are refused.
        """
        self._broken = broken  # volumes of this disk that could not be opened, and why
        self._clock = clock
        self._is_ready = is_ready
        self._render_metrics = render_metrics
        self.counters = Counters()
        self._buffers = BufferPool()
        self._cold_reads = cold_reads or ColdReads()
        self._authorizer = RequestAuthorizer(pipelines, broken, verifier)
        self._sending = Sending(pipelines, pool, self.counters, self._buffers, ChunkLists(ask_master))
        self._batches = BatchHttp(self._authorizer, clock, self.counters)

    async def handle(self, exchange: Exchange) -> None:
        try:
            if exchange.path.startswith(NEEDLE_ROUTE):
                await self._needle(exchange)
            elif exchange.path.startswith(BATCH_ROUTE):
                await self._batches.handle(exchange)
            elif exchange.path == b"/healthz":
                await self._health(exchange)
            elif exchange.path == b"/metrics":
                require_method(exchange.method, b"GET", b"HEAD")
                body = self._render_metrics()
                await exchange.respond(200, [(b"Content-Type", b"text/plain; version=0.0.4")], body)
            elif exchange.path == b"*":  # only OPTIONS can ask this: RFC 9110, 9.3.7
                await exchange.respond(204, [(b"Allow", b"GET, HEAD, PUT, POST")])
            else:
                raise NoSuchRoute(
                    "a volume actor serves /v1/needles/{volume}/{needle}, /v1/batch/put and get, "
                    "/healthz and /metrics"
                )
        except StoreError as error:
            self.counters.failed(error.code)
            told = for_url_holder(error) if exchange.query else error
            if told is error:
                raise
            raise told from error

    async def _health(self, exchange: Exchange) -> None:
        require_method(exchange.method, b"GET", b"HEAD")
        is_ready = self._is_ready()
        if self._broken:
            body = b'{"status":"some volumes could not be opened"}'
        else:
            body = b'{"status":"ok"}' if is_ready else b'{"status":"no master"}'
        is_well = is_ready and not self._broken
        await exchange.respond(200 if is_well else 503, [(b"Content-Type", b"application/json")], body)

    async def _needle(self, exchange: Exchange) -> None:
        method = exchange.method
        require_method(method, b"GET", b"HEAD", b"PUT")
        claims = self._authorizer.claims_of(exchange)
        pipeline, needle_id = self._allowed(claims, method, exchange.path)
        if method == b"PUT":
            await self._put(exchange, pipeline, claims, needle_id)
        elif claims.parts is not None or claims.chunk_list_token is not None:
            await self._get_object(exchange, pipeline, claims, needle_id)
        else:
            await self._get(exchange, pipeline, claims, needle_id)

    def _allowed(self, claims: DataClaims, method: bytes, path: bytes) -> tuple[CommitPipeline, int]:
        """The volume and the needle that a request is about, if its token is for that."""
        volume_id, needle_id = _needle_address(path)
        if claims.volume_id != volume_id:
            raise TokenScope(f"this token opens volume {claims.volume_id}, not volume {volume_id}")
        require_needle(claims, needle_id)
        if claims.operation != ("put" if method == b"PUT" else "get"):
            raise TokenScope(f"this token is for {claims.operation}, not for {method.decode()}")
        return self._authorizer.pipeline_of(volume_id), needle_id

    # --- GET --------------------------------------------------------------------------------------

    def get_nowait(self, path: bytes, fields: PlainFields) -> tuple[bytes, memoryview] | None:
        """The answer to a plain GET of a small needle that is in memory, for `HttpServer`.

        Everything else, refusals too, is `handle`'s: it says the same of the same request.

        Returns:
            Header lines, the empty one included, and data; or None.
        Raises:
            BlockingIOError: the needle is not in memory.
        """
        if not path.startswith(NEEDLE_ROUTE):
            return None
        token = fields.note
        if token is None:
            token = fields.note = _plain_token(fields.headers)
        if not token:
            return None
        try:
            claims = self._authorizer.claims_of_token(token)
            pipeline, needle_id = self._allowed(claims, b"GET", path)
            if claims.parts is not None or claims.chunk_list_token is not None:
                return None
            volume = pipeline.volume
            needle = volume.read_small(needle_id, SMALL_MAX, nowait=True)
            if needle is None:
                return None
            metadata = needle.metadata
            require_bucket(claims, metadata)
        except StoreError:
            return None
        type_field = served_type(claims.content_type or metadata.content_type).encode()
        self.counters.gets += 1
        self.counters.bytes_out += len(needle.data)
        data, crc = needle.data, needle.crc
        return _PLAIN_LINES % (type_field, volume.volume_id, needle_id, crc, crc, len(data)), data

    async def _get(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        volume = pipeline.volume
        needle = None
        if b"range" not in exchange.headers and exchange.method == b"GET":
            is_cold = exchange.would_wait
            try:
                if not is_cold:
                    needle = volume.read_small(needle_id, SMALL_MAX, nowait=True)
            except BlockingIOError:
                is_cold = True  # no wait in here: it would keep the error, and with it the buffer
            if is_cold:
                self.counters.cold_reads += 1
                needle = await self._cold_reads.read(volume, needle_id, SMALL_MAX, exchange.wait_for)
        if needle is None:
            await self._get_pieces(exchange, pipeline, claims, needle_id)
            return
        metadata = needle.metadata
        require_bucket(claims, metadata)
        headers = _needle_headers(exchange, claims, metadata, volume.volume_id, needle_id, needle.crc)
        if _is_not_modified(exchange, metadata, etag_of(volume.volume_id, needle_id, needle.crc)):
            await exchange.respond(304, headers)
            return
        self.counters.gets += 1
        self.counters.bytes_out += len(needle.data)
        await exchange.respond(200, headers, needle.data)

    async def _get_pieces(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        volume_id = pipeline.volume.volume_id
        reader = await self._sending.open(pipeline, needle_id)
        require_bucket(claims, reader.metadata)
        headers = _needle_headers(exchange, claims, reader.metadata, volume_id, needle_id, reader.crc)
        etag = etag_of(volume_id, needle_id, reader.crc)
        if _is_not_modified(exchange, reader.metadata, etag):
            await exchange.respond(304, headers)
            return
        span = _range_of(exchange, reader.size, etag, reader.metadata.created_ms)
        start, length = span or (0, reader.size)
        status = 200 if span is None else 206
        if span is not None:
            headers.append(_content_range(start, length, reader.size))
        if exchange.method == b"HEAD" or length == 0:
            await exchange.start(status, headers, length)
            return
        self.counters.gets += 1
        await self._sending.send_span(exchange, reader, start, length, (status, headers, length))

    async def _get_object(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        """A presigned URL of an object of many chunks: the whole of it, or a range."""
        first = await self._sending.open(pipeline, needle_id)  # an object that was replaced has lost it
        metadata = first.metadata
        require_bucket(claims, metadata)
        etag = claims.etag or ""
        created_ms = metadata.created_ms if claims.created_ms is None else claims.created_ms
        total = sum(part[2] for part in claims.parts) if claims.parts is not None else claims.object_size or 0
        headers = [
            (b"Content-Type", served_type(claims.content_type or metadata.content_type).encode()),
            (b"Accept-Ranges", b"bytes"),
            (b"ETag", f'"{etag}"'.encode()),
            (b"Last-Modified", formatdate(created_ms // 1000, usegmt=True).encode()),
            *SAFE_HEADERS,
            _content_disposition(claims.key or metadata.key),
        ]
        if is_not_modified(exchange.headers, etag, created_ms // 1000):
            await exchange.respond(304, headers)
            return
        span = _range_of(exchange, total, etag, created_ms)
        start, length = span or (0, total)
        if span is not None:
            headers.append(_content_range(start, length, total))
        status = 200 if span is None else 206
        if exchange.method == b"HEAD":
            await exchange.start(status, headers, length)
            return
        self.counters.gets += 1
        await self._sending.send_object(exchange, claims, start, length, (status, headers, length))

    # --- PUT --------------------------------------------------------------------------------------

    async def _put(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        if b"content-length" not in exchange.headers:
            raise LengthRequired("a PUT needs a Content-Length")
        size = exchange.content_length
        if claims.body_size_max is not None and size > claims.body_size_max:
            raise BodyTooLarge(
                f"this token allows bodies of up to {claims.body_size_max} bytes, this one has {size}"
            )
        if claims.body_size is not None and size != claims.body_size:
            raise LengthMismatch(f"this token is for a body of {claims.body_size} bytes, this one has {size}")
        metadata, conditions, crc, checks = read_put(exchange.headers, claims)
        self._authorizer.use_lease(claims, size)

        describe = partial(stored_needle, claims, needle_id, size, metadata, conditions)
        if size <= SMALL_MAX:
            new = NewNeedle(needle_id, encode_metadata(metadata), await exchange.read_body(size), crc)
            if checks is not None:
                checks.update(new.data)
                checks.finish()
            try:
                etag = await pipeline.put(new, describe, exchange.wait_for)
            except NeedleExists:
                known = crc32c(new.data) if crc is None else crc
                placed, metadata, stamp = find_existing(pipeline, needle_id, metadata, size, known)
                etag = await pipeline.commit(
                    stored_needle(claims, needle_id, size, metadata, conditions, placed, stamp)
                )
        else:
            placed, stamp = await self._put_large(
                exchange, pipeline, needle_id, metadata, size, crc, checks=checks, claims=claims
            )
            etag = await pipeline.commit(describe(placed, stamp))
        self.counters.puts += 1
        self.counters.bytes_in += size
        await exchange.respond(
            201,
            [(b"Content-Type", b"application/json"), (b"ETag", f'"{etag}"'.encode())],
            f'{{"etag":"{etag}","created_ms":{metadata.created_ms}}}'.encode(),
        )

    async def _put_large(
        self,
        exchange: Exchange,
        pipeline: CommitPipeline,
        needle_id: int,
        metadata: NeedleMetadata,
        size: int,
        crc: int | None,
        *,
        checks: Checks | None = None,
        claims: DataClaims | None = None,
    ) -> tuple[Placed, int]:
        """
        Args:
            claims: of the token whose room this takes.
        """
        await pipeline.pass_write_barrier()
        try:
            if claims is not None:
                self._authorizer.use_place(claims, needle_id, size)
            extent = pipeline.volume.reserve(needle_id, metadata, size)
        except LeaseExhausted:
            raise
        except StoreError as error:
            if claims is not None:
                self._authorizer.return_place(claims, needle_id, size)
            if not isinstance(error, NeedleExists):
                raise
            placed, _, stamp = find_existing(pipeline, needle_id, metadata, size, crc)
            return placed, stamp
        try:
            with self._buffers.lend() as first, self._buffers.lend() as second:
                await _receive(exchange, extent, size, (first, second), checks)
            if checks is not None:
                checks.finish()
            await pipeline.pass_write_barrier()
            stamp = self._clock.tick(time.time_ns() // 1_000_000)
            return extent.finish(stamp=stamp, crc=crc), stamp
        except BaseException:
            with trio.CancelScope(shield=True):
                await pipeline.pass_write_barrier()
            if extent.abort() and claims is not None:
                self._authorizer.return_place(claims, needle_id, size)
            raise


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


# --- reading requests -----------------------------------------------------------------------------


def _plain_token(headers: Mapping[bytes, bytes]) -> bytes:
    """The token of a request that asks for a whole needle, whatever it is; b"" of others."""
    if not NOT_PLAIN.isdisjoint(headers):
        return b""
    try:
        return bearer_token(headers) or b""
    except TokenMissing:
        return b""


def _needle_address(path: bytes) -> tuple[int, int]:
    volume, _, needle = path[len(NEEDLE_ROUTE) :].partition(b"/")
    if not volume.isdigit() or not needle.isdigit() or len(volume) > 10 or len(needle) > 10:
        raise NoSuchRoute("needles are at /v1/needles/{volume}/{needle}, both decimal numbers")
    volume_id, needle_id = int(volume), int(needle)
    if not (0 < volume_id < 2**32 and 0 < needle_id < 2**32):
        raise NoSuchRoute("volume and needle numbers go from 1 to 4294967295")
    return volume_id, needle_id


# --- writing answers ------------------------------------------------------------------------------

# What `_needle_headers` says to a plain GET.
_PLAIN_LINES = (
    b'Content-Type: %b\r\nETag: "%x-%x-%08x"\r\nAccept-Ranges: bytes\r\nX-Warehouse-CRC32C: %08x\r\n'
    b"Content-Length: %d\r\n\r\n"
)


def _needle_headers(
    exchange: Exchange, claims: DataClaims, metadata: NeedleMetadata, volume_id: int, needle_id: int, crc: int
) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"Content-Type", served_type(claims.content_type or metadata.content_type).encode()),
        (b"ETag", b'"%x-%x-%08x"' % (volume_id, needle_id, crc)),
        (b"Accept-Ranges", b"bytes"),
        (b"X-Warehouse-CRC32C", b"%08x" % crc),
    ]
    if exchange.query:  # a URL that a browser may have been given
        headers.extend(SAFE_HEADERS)
        headers.append(_content_disposition(metadata.key))
        headers.append((b"Last-Modified", formatdate(metadata.created_ms // 1000, usegmt=True).encode()))
    return headers


def _content_disposition(key: str) -> tuple[bytes, bytes]:
    name = key.rstrip("/").rsplit("/", 1)[-1]
    return (b"Content-Disposition", f"inline; filename*=UTF-8''{quote(name, safe='')}".encode())


def _content_range(start: int, length: int, size: int) -> tuple[bytes, bytes]:
    return (b"Content-Range", b"bytes %d-%d/%d" % (start, start + length - 1, size))


def _is_not_modified(exchange: Exchange, metadata: NeedleMetadata, etag: str) -> bool:
    return is_not_modified(exchange.headers, etag, metadata.created_ms // 1000)


def _range_of(exchange: Exchange, size: int, etag: str, created_ms: int) -> tuple[int, int] | None:
    header = exchange.headers.get(b"range")
    if header is None or not is_range_current(exchange.headers, etag, created_ms // 1000):
        return None  # RFC 9110, 13.1.5: another version, so the whole of it
    return parse_range(header, size)
