"""Needle GET: sending one needle, or an object of many chunks, to a client.

What is answered to a GET of one needle is decided in one place, `_decide`: whether the token may read it,
conditions, the range, headers and counters.  The answer is delivered in one of two ways:

    get_nowait    a plain GET of a small needle that is in memory: a function call, without a coroutine
    handle        everything else: HEAD, conditions, ranges, large needles, needles that the disk has to
                  bring, refusals

`get_nowait` returns None when the request is not for it, and the server then calls the handler, which
answers the same request the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from time import perf_counter
from typing import Final

from warehouse.actors.data.authorization import TIMED_EVERY, Counters, RequestAuthorizer, bearer_token
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.needle_put import SMALL_MAX
from warehouse.actors.data.safe_headers import ALWAYS, SANDBOX, signed_headers
from warehouse.actors.data.scope import require_readable, require_visible
from warehouse.actors.data.sending import Head, Sending
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import BadMetadata, StoreError, TokenMissing
from warehouse.storage.format.needle import NeedleMetadata, NeedleRead
from warehouse.storage.reader import NeedleReader
from warehouse.storage.volume import Volume
from warehouse.transport.http.conditions import CONDITIONS, is_not_modified, is_range_current
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.header_text import served_type
from warehouse.transport.http.heads import PlainFields
from warehouse.transport.http.rules import parse_range
from warehouse.transport.messages import etag_of
from warehouse.transport.messages.attributes import decode_attributes

Headers = list[tuple[bytes, bytes]]

NOT_PLAIN = frozenset((*CONDITIONS, b"range"))

# The headers of every answer with a needle, and how each is written from `NeedleFields`.
_NEEDLE_HEADERS: Final = (
    (b"Content-Type", b"%b"),
    (b"ETag", b'"%b"'),
    (b"Accept-Ranges", b"bytes"),
    (b"X-Warehouse-CRC32C", b"%08x"),
    SANDBOX,
)
_UNSIGNED = ALWAYS[1:]  # beside those, where the token is no part of a URL
NeedleFields = tuple[bytes, bytes, int, int]  # content type, ETag, CRC-32C, Content-Length
_PLAIN_LINES: Final = (
    b"".join(b"%b: %b\r\n" % header for header in (*_NEEDLE_HEADERS, *_UNSIGNED))
    + b"Content-Length: %d\r\n\r\n"
)

# What is answered to a GET or HEAD of a needle: status, fields, more headers, and the first byte.
# A plain tuple, because one is made for each request.
Answer = tuple[int, NeedleFields, Sequence[tuple[bytes, bytes]], int]


class NeedleGet:
    """Answers GETs and HEADs of one needle, and of objects of many chunks."""

    def __init__(
        self, authorizer: RequestAuthorizer, sending: Sending, cold_reads: ColdReads, counters: Counters
    ) -> None:
        self._authorizer = authorizer
        self._limits = authorizer.throttle.limits
        self._sending = sending
        self._cold_reads = cold_reads
        self._counters = counters

    def get_nowait(self, path: bytes, fields: PlainFields) -> tuple[bytes, memoryview] | None:
        """Answer a plain GET of a small needle that is in memory; for `HttpServer`.

        Returns:
            Header lines, the empty one included, and data; None: ask the handler.
        Raises:
            BlockingIOError: the needle is not in memory.
        """
        token = fields.note
        if token is None:
            token = fields.note = _plain_token(fields.headers)
        if not token:
            return None
        counters = self._counters
        weight = 0  # how many gets this one stands for, if it is timed
        if counters.timed_left:
            counters.timed_left -= 1
            weight = 1
        elif not counters.gets % TIMED_EVERY:
            weight = TIMED_EVERY
        started = perf_counter() if weight else 0.0
        try:
            claims = self._authorizer.claims_of_token(token)
            pipeline, needle_id = self._authorizer.place_of(claims, b"GET", path)
            if claims.parts is not None or claims.chunk_list_token is not None or claims.once is not None:
                return None
            if needle_id in pipeline.uncommitted or (self._limits and claims.key_id in self._limits):
                return None
            needle = pipeline.volume.read_small(needle_id, SMALL_MAX, nowait=True)
            if needle is None:
                return None
            data = needle.data
            _, values, _, _ = self._decide(claims, needle_id, needle, len(data), None)
        except StoreError:
            return None
        counters.bytes_out += len(data)
        if weight:
            counters.get_latencies.add(perf_counter() - started, weight)
        return _PLAIN_LINES % values, data

    async def handle(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        """Answer a GET or HEAD of one needle."""
        started = perf_counter()
        if needle_id in pipeline.uncommitted:
            await pipeline.uncommitted.wait(needle_id)
        needle = await self._read_small(exchange, pipeline.volume, needle_id)
        if needle is not None:
            answer = self._decide(claims, needle_id, needle, len(needle.data), exchange)
        else:
            reader = await self._sending.open(pipeline, needle_id)
            answer = self._decide(claims, needle_id, reader, reader.size, exchange)
        status, fields, more, start = answer
        headers, length = _headers_of(fields, more), fields[-1]
        if status == 304:
            await exchange.respond(304, headers)
            return
        self._authorizer.use_once(claims, is_use=exchange.method != b"HEAD")
        if needle is not None:
            self._counters.get_latencies.add(perf_counter() - started)
            self._counters.bytes_out += length
            await exchange.respond(status, headers, needle.data)
        elif exchange.method == b"HEAD" or length == 0:
            await exchange.start(status, headers, length)
        else:
            head = Head(status, headers, length, started)
            await self._sending.send_span(exchange, reader, start, length, head)

    async def _read_small(self, exchange: Exchange, volume: Volume, needle_id: int) -> NeedleRead | None:
        """The needle, if it is small and the request wants the whole of it."""
        if b"range" in exchange.headers or exchange.method != b"GET":
            return None
        if not exchange.would_wait:
            try:
                return volume.read_small(needle_id, SMALL_MAX, nowait=True)
            except BlockingIOError:
                pass  # no wait in here: it would keep the error, and with it the buffer
        self._counters.cold_reads += 1
        return await self._cold_reads.read(volume, needle_id, SMALL_MAX, exchange.wait_for)

    def _decide(
        self,
        claims: DataClaims,
        needle_id: int,
        needle: NeedleRead | NeedleReader,
        size: int,
        exchange: Exchange | None,
    ) -> Answer:
        """What is answered to a GET or HEAD of this needle.  Counts it, if data is to be sent.

        Args:
            size: bytes of data.
            exchange: None: a plain GET, with no condition, no range, and its token in a header.
        Raises:
            TokenScope: the needle is not one that the token opens.
            PreconditionFailed, RangeOutside, BadRequest: see `_select`.
        """
        metadata = needle.metadata
        require_readable(claims, metadata)
        if metadata.upload_id is not None:
            require_visible(claims, metadata)
        crc = needle.crc
        etag = claims.etag or _stored_etag(metadata) or etag_of(claims.volume_id, needle_id, crc)
        content_type = served_type(claims.content_type or metadata.content_type).encode()
        if exchange is None:
            self._counters.gets += 1
            return 200, (content_type, etag.encode(), crc, size), (), 0
        more: Headers = []
        if exchange.query:  # a URL that a browser may have been given
            more += (*signed_headers(claims, metadata.key), _last_modified(metadata.created_ms))
        else:
            more += _UNSIGNED
        status, start, length = _select(exchange, more, size, etag, metadata.created_ms)
        if status != 304 and exchange.method != b"HEAD":
            self._counters.gets += 1
        return status, (content_type, etag.encode(), crc, length), more, start

    async def handle_object(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        """Answer a presigned URL of an object of many chunks, whose first chunk is this needle."""
        started = perf_counter()
        first = await self._sending.open(pipeline, needle_id)  # gone, if the object was replaced
        metadata = first.metadata
        require_readable(claims, metadata)
        etag = claims.etag or ""
        created_ms = metadata.created_ms if claims.created_ms is None else claims.created_ms
        total = sum(part[2] for part in claims.parts) if claims.parts is not None else claims.object_size or 0
        headers = [
            (b"Content-Type", served_type(claims.content_type or metadata.content_type).encode()),
            (b"Accept-Ranges", b"bytes"),
            (b"ETag", f'"{etag}"'.encode()),
            _last_modified(created_ms),
            SANDBOX,
            *signed_headers(claims, claims.key or metadata.key),
        ]
        status, start, length = _select(exchange, headers, total, etag, created_ms)
        if status == 304:
            await exchange.respond(304, headers)
            return
        self._authorizer.use_once(claims, is_use=exchange.method != b"HEAD")
        if exchange.method == b"HEAD":
            await exchange.start(status, headers, length)
        else:
            self._counters.gets += 1
            head = Head(status, headers, length, started)
            await self._sending.send_object(exchange, claims, start, length, head)


def _stored_etag(metadata: NeedleMetadata) -> str | None:
    """The ETag that the object was put with; None: it follows from the needle.  No amendment changes it."""
    if not metadata.attributes:
        return None
    try:
        return decode_attributes(metadata.attributes).etag
    except BadMetadata:  # a later release may know more of them
        return None


def _plain_token(headers: Mapping[bytes, bytes]) -> bytes:
    """The token of a request that asks for a whole needle, unconditionally; b"" of other requests."""
    if not NOT_PLAIN.isdisjoint(headers):
        return b""
    try:
        return bearer_token(headers) or b""
    except TokenMissing:
        return b""


def _select(
    exchange: Exchange, headers: Headers, size: int, etag: str, created_ms: int
) -> tuple[int, int, int]:
    """Status, start and length of the answer to these conditions and this Range.

    Args:
        headers: of the answer; a 206 adds its Content-Range.
        size: of the whole, in bytes.
    Raises:
        PreconditionFailed, BadRequest: see `is_not_modified` and `is_range_current`.
        RangeOutside: the range begins after the last byte.
    """
    modified_s = created_ms // 1000
    if is_not_modified(exchange.headers, etag, modified_s):
        return 304, 0, 0
    header = exchange.headers.get(b"range")
    # RFC 9110, 13.1.5: a range of another version gets the whole of this one.
    if header is None or not is_range_current(exchange.headers, etag, modified_s):
        return 200, 0, size
    span = parse_range(header, size)
    if span is None:
        return 200, 0, size
    start, length = span
    headers.append((b"Content-Range", b"bytes %d-%d/%d" % (start, start + length - 1, size)))
    return 206, start, length


def _headers_of(fields: NeedleFields, more: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The headers that `_PLAIN_LINES` has as lines, and those of this answer alone."""
    headers: Headers = []
    used = 0
    for name, template in _NEEDLE_HEADERS:
        count = template.count(b"%")
        headers.append((name, template % fields[used : used + count]))
        used += count
    headers += more
    return headers


def _last_modified(created_ms: int) -> tuple[bytes, bytes]:
    return (b"Last-Modified", formatdate(created_ms // 1000, usegmt=True).encode())
