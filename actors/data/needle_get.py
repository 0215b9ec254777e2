"""Needle GET: sending one needle, or an object of many chunks, to a client.

What is answered to a GET of one needle is decided in one place, `_decide`: whether the token may read it,
conditions, the range, headers and counters.  The answer is delivered in one of two ways:

    get_nowait    a small needle that is in memory: a function call, without a coroutine
    handle        everything else: large needles, needles that the disk has to bring, refusals

`get_nowait` returns None when the request is not for it, and the server then calls the handler, which
answers the same request the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from time import perf_counter
from typing import Final, NamedTuple

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
from warehouse.transport.http.conditions import is_not_modified, is_range_current
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.head_memo import Recalled
from warehouse.transport.http.header_text import served_type
from warehouse.transport.http.heads import header_lines
from warehouse.transport.http.rules import parse_range
from warehouse.transport.messages import etag_of
from warehouse.transport.messages.attributes import decode_attributes

Header = tuple[bytes, bytes]
Headers = list[Header]

# The headers of every answer with a needle, and how each is written from `Described`.
_NEEDLE_HEADERS: Final = (
    (b"Content-Type", b"%b"),
    (b"ETag", b'"%b"'),
    (b"Accept-Ranges", b"bytes"),
    (b"X-Warehouse-CRC32C", b"%08x"),
    SANDBOX,
)
_UNSIGNED = ALWAYS[1:]  # beside those, where the token is no part of a URL
_LENGTH: Final = b"Content-Length: %d\r\n\r\n"
_LINES: Final = b"".join(b"%b: %b\r\n" % header for header in (*_NEEDLE_HEADERS, *_UNSIGNED))
_PLAIN_LINES: Final = _LINES + _LENGTH
URLS_KEPT = 2048  # of which it is kept what to say; each takes some 2 KiB

Described = tuple[bytes, bytes, int]  # content type, ETag, CRC-32C


class Told(NamedTuple):
    """What is said of a needle to whoever may read it.

    Attributes:
        headers: of each answer with it; a range adds its own.
        lines: the same, as they are written.
    """

    etag: str
    created_ms: int
    headers: Sequence[Header]
    lines: bytes


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
        self._known: dict[bytes, tuple[int, int, bytes, Told]] = {}  # by token, of URLs

    def get_nowait(self, recalled: Recalled) -> tuple[int, bytes, bytes | memoryview] | None:
        """Answer a GET or HEAD of a small needle that is in memory; for `HttpServer`.

        Returns:
            Status, header lines, the empty one included, and data; None: ask the handler.
        Raises:
            BlockingIOError: the needle is not in memory.
        """
        method, path, query, fields, headers = recalled
        token = _token_alone(query, headers) if query else fields.note
        if token is None:
            token = fields.note = _token_of(headers)
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
            pipeline, needle_id = self._authorizer.place_of(claims, method, path)
            if claims.parts is not None or claims.chunk_list_token is not None or claims.once is not None:
                return None
            if needle_id in pipeline.uncommitted or (self._limits and claims.key_id in self._limits):
                return None
            needle = pipeline.volume.read_small(needle_id, SMALL_MAX, nowait=True)
            if needle is None:
                return None
            data = needle.data
            if fields.is_whole and headers is fields.headers and method == b"GET" and not query:
                status, lines = 200, _PLAIN_LINES % (*_described(claims, needle_id, needle), len(data))
            else:
                if query:
                    etag, created_ms, _, lines = self._told_again(token, claims, needle_id, needle)
                else:
                    described, created_ms = _described(claims, needle_id, needle), needle.metadata.created_ms
                    etag, lines = described[1].decode(), _LINES % described
                status, ranged, start, length = _select(headers, len(data), etag, created_ms)
                if status == 304:
                    return status, lines + b"\r\n", b""
                if ranged:
                    lines += header_lines(ranged)
                    data = data[start : start + length]
                lines += _LENGTH % length
                if method == b"HEAD":
                    return status, lines, b""
        except StoreError:
            return None
        counters.gets += 1
        counters.bytes_out += len(data)
        if weight:
            counters.get_latencies.add(perf_counter() - started, weight)
        return status, lines, data

    async def handle(
        self, exchange: Exchange, pipeline: CommitPipeline, claims: DataClaims, needle_id: int
    ) -> None:
        """Answer a GET or HEAD of one needle."""
        started = perf_counter()
        if needle_id in pipeline.uncommitted:
            await pipeline.uncommitted.wait(needle_id)
        needle = await self._read_small(exchange, pipeline.volume, needle_id)
        if needle is not None:
            told, size = _told(claims, needle_id, needle, is_url=bool(exchange.query)), len(needle.data)
        else:
            reader = await self._sending.open(pipeline, needle_id)
            told, size = _told(claims, needle_id, reader, is_url=bool(exchange.query)), reader.size
        status, ranged, start, length = _select(exchange.headers, size, told.etag, told.created_ms)
        headers = [*told.headers, *ranged]
        if status == 304:
            await exchange.respond(304, headers)
            return
        is_head = exchange.method == b"HEAD"
        self._authorizer.use_once(claims, is_use=not is_head)
        self._counters.gets += not is_head
        if needle is not None:
            self._counters.get_latencies.add(perf_counter() - started)
            self._counters.bytes_out += length
            await exchange.respond(status, headers, needle.data)
        elif is_head or length == 0:
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

    def _told_again(self, token: bytes, claims: DataClaims, needle_id: int, needle: NeedleRead) -> Told:
        """What `_told` says to whoever has a URL.

        URLs are used again and again, so it is kept: for as long as the token is, and the needle is the same.
        """
        known = self._known.get(token)
        if known is not None and known[:2] == (needle_id, needle.crc) and known[2] == needle.metadata_bytes:
            return known[3]
        told = _told(claims, needle_id, needle, is_url=True)
        if len(self._known) >= URLS_KEPT:
            self._known.clear()
        self._known[token] = needle_id, needle.crc, bytes(needle.metadata_bytes), told
        return told

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
            SANDBOX,
            *_told_of_url(claims, claims.key or metadata.key, created_ms),
        ]
        status, ranged, start, length = _select(exchange.headers, total, etag, created_ms)
        headers += ranged
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


def _described(claims: DataClaims, needle_id: int, needle: NeedleRead | NeedleReader) -> Described:
    """
    Raises:
        TokenScope: the needle is not one that the token opens.
    """
    metadata = needle.metadata
    require_readable(claims, metadata)
    if metadata.upload_id is not None:
        require_visible(claims, metadata)
    crc = needle.crc
    etag = claims.etag or _stored_etag(metadata) or etag_of(claims.volume_id, needle_id, crc)
    return served_type(claims.content_type or metadata.content_type).encode(), etag.encode(), crc


def _told(
    claims: DataClaims, needle_id: int, needle: NeedleRead | NeedleReader, *, is_url: bool = False
) -> Told:
    """
    Args:
        is_url: the token is part of a URL, which a browser may have been given.
    Raises:
        TokenScope: the needle is not one that the token opens.
    """
    described, metadata = _described(claims, needle_id, needle), needle.metadata
    headers: Headers = []
    used = 0
    for name, template in _NEEDLE_HEADERS:
        count = template.count(b"%")
        headers.append((name, template % described[used : used + count]))
        used += count
    headers += _told_of_url(claims, metadata.key, metadata.created_ms) if is_url else _UNSIGNED
    return Told(described[1].decode(), metadata.created_ms, headers, header_lines(headers))


def _stored_etag(metadata: NeedleMetadata) -> str | None:
    """The ETag that the object was put with; None: it follows from the needle.  No amendment changes it."""
    if not metadata.attributes:
        return None
    try:
        return decode_attributes(metadata.attributes).etag
    except BadMetadata:  # a later release may know more of them
        return None


def _token_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The token of the Authorization header; b"": there is none."""
    try:
        return bearer_token(headers) or b""
    except TokenMissing:
        return b""


def _token_alone(query: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """The token of a query that says nothing else, and is the only one; b"" of other requests."""
    if not query.startswith(b"token=") or b"&" in query or b"authorization" in headers:
        return b""
    return query[6:]


def _select(
    asked: Mapping[bytes, bytes], size: int, etag: str, created_ms: int
) -> tuple[int, Sequence[Header], int, int]:
    """Status, header, start and length of the answer to these conditions and this Range.

    Args:
        asked: headers of the request.
        size: of the whole, in bytes.
    Raises:
        PreconditionFailed, BadRequest: see `is_not_modified` and `is_range_current`.
        RangeOutside: the range begins after the last byte.
    """
    modified_s = created_ms // 1000
    if is_not_modified(asked, etag, modified_s):
        return 304, (), 0, 0
    header = asked.get(b"range")
    # RFC 9110, 13.1.5: a range of another version gets the whole of this one.
    if header is None or not is_range_current(asked, etag, modified_s):
        return 200, (), 0, size
    span = parse_range(header, size)
    if span is None:
        return 200, (), 0, size
    start, length = span
    return 206, ((b"Content-Range", b"bytes %d-%d/%d" % (start, start + length - 1, size)),), start, length


def _told_of_url(claims: DataClaims, key: str, created_ms: int) -> Sequence[Header]:
    modified = formatdate(created_ms // 1000, usegmt=True).encode()
    return (*signed_headers(claims, key), (b"Last-Modified", modified))
