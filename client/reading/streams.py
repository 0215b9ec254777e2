"""Reads: from a key to verified bytes, with bounded memory.

`BucketReader.get` is the short way, for objects that fit in memory; `Locator` finds the places of objects.

`ObjectStream` fetches an object, or a range of it, in spans of at most 4 MiB, with a few in flight, and
delivers them in order.  The volume actor verifies every block that it sends.  A chunk that is read from its
first to its last byte is verified here again, end to end against its CRC, before its last span is handed
out.  For a range that cuts a chunk, only the volume actor verifies the bytes.

Every byte that a stream hands out passes `ObjectStream.next_view`, which counts it: a stream delivers exactly
`size` bytes, or raises.

An object may be replaced while it is read.  A stream never mixes versions: it continues only while the
catalog still has the same ETag in the same place, and raises `ObjectReplaced` otherwise.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import trio
from crc32c import crc32c

from warehouse.client.control import Control
from warehouse.client.headers import FAILURE_SIZE_MAX, read_failure
from warehouse.client.nurseries import background
from warehouse.client.patience import Patience, told
from warehouse.client.reading.exact import Count, require_chunk, require_range
from warehouse.client.reading.locator import (
    Grant,
    Located,
    Locator,
    Question,
    Wants,
    absence,
    ask_where,
    denial,
)
from warehouse.errors import (
    BadRequest,
    LinkDown,
    NeedleCorrupt,
    NeedleMissing,
    NoSuchNeedle,
    NoSuchObject,
    NoSuchVolume,
    ObjectReplaced,
    RangeNotSatisfiable,
    StoreError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    TokenScope,
    Unavailable,
    VolumeOffline,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import Chunk, ObjectInfo, ReadGrant

SPAN_SIZE = 4 * 1024 * 1024  # a multiple of the blocks that volumes verify
WINDOW = 4  # spans of one stream in flight; measured: docs/performance.md, "Chunks at once"
SPARE_SPANS = 8  # for all streams of a client together, besides the first span of each
ATTEMPTS = 5
ATTEMPTS_MIDWAY = 14  # when bytes have been handed out ...
RIDE_OUT_MIDWAY_S = 15.0  # ... wait for a restart, which takes up to ten seconds


# --- spans ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one chunk, fetched with one request."""

    chunk: Chunk
    start: int  # within the chunk
    length: int
    is_verified: bool  # part of a chunk that is read as a whole

    @property
    def is_whole_chunk(self) -> bool:
        return self.length == self.chunk.size

    @property
    def ends_chunk(self) -> bool:
        return self.start + self.length == self.chunk.size


def plan_spans(chunks: Sequence[Chunk], start: int, length: int) -> Iterator[Span]:
    """Cut bytes `start` to `start + length` of an object into spans, in order; no span crosses a chunk."""
    end, chunk_start = start + length, 0
    for chunk in chunks:
        first, last = max(start - chunk_start, 0), min(end - chunk_start, chunk.size)
        is_verified = (first, last) == (0, chunk.size)
        while first < last:
            # Spans end on multiples of their size, so that no block is read and verified twice.
            span_length = min(SPAN_SIZE - first % SPAN_SIZE, last - first)
            yield Span(chunk, first, span_length, is_verified)
            first += span_length
        chunk_start += chunk.size


class SpanBuffers:
    """The buffers that all streams of one client share.

    Every stream may always hold one span, so no stream waits for another and nothing can deadlock.  Further
    spans come from a shared number of spares.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._spare_count = SPARE_SPANS

    def take_spare(self) -> bool:
        if self._spare_count == 0:
            return False
        self._spare_count -= 1
        return True

    def give_spare(self) -> None:
        self._spare_count += 1

    def buffer(self, length: int) -> bytearray:
        # New memory costs a page fault every 4 KiB: reuse the buffers of full spans.
        if length < SPAN_SIZE:
            return bytearray(length)
        return self._free.pop() if self._free else bytearray(SPAN_SIZE)

    def give(self, buffer: bytearray | memoryview) -> None:
        if isinstance(buffer, bytearray) and len(buffer) == SPAN_SIZE and len(self._free) < SPARE_SPANS:
            self._free.append(buffer)


@dataclass(slots=True)
class _Fetch:
    span: Span
    buffer: bytearray | memoryview
    is_spare: bool
    room: memoryview | None  # the memory that `buffer` is a part of, if any
    done: trio.Event = field(default_factory=trio.Event)
    error: StoreError | None = None


# --- reading --------------------------------------------------------------------------------------


class BucketReader:
    """The reads of one bucket."""

    def __init__(
        self,
        bucket: str,
        control: Control,
        pool: HttpPool,
        buffers: SpanBuffers,
        nursery: trio.Nursery,
    ) -> None:
        self.bucket = bucket
        self.pool = pool
        self.buffers = buffers
        self._control = control
        self._locator = Locator(bucket, control, pool, nursery)
        self._grants: dict[int, Grant] = {}  # of batches; an offline volume has none

    async def get(self, key: str) -> bytes:
        for _ in range(ATTEMPTS):
            located, data = await self._locator.locate_and_fetch(key)
            if data is not None:
                return data
            try:
                if located.info.chunk_count == 1 and located.info.size <= SPAN_SIZE:
                    return await self._get_small(located)
                async with self.stream(located) as stream:
                    return await stream.read()
            except ObjectReplaced:
                continue  # no byte was handed out yet: start again with the present version
        raise ObjectReplaced(f"{self.bucket}/{key} was replaced {ATTEMPTS} times while it was read")

    async def _get_small(self, located: Located) -> bytes:
        """The hot path: one chunk, one request, no task."""
        chunk = located.info.chunks[0]
        if chunk.size == 0:
            return b""
        patience = Patience(self._control.timeout_s, ATTEMPTS)
        while True:
            grant = located.grant_for(chunk.volume_id)
            try:
                status, _, body = await self.pool.request(
                    "GET",
                    grant.url,
                    f"/v1/needles/{chunk.volume_id}/{chunk.needle_id}",
                    headers=(grant.authorization,),
                    response_size_max=max(chunk.size, FAILURE_SIZE_MAX),
                )
                if status == 200:
                    require_chunk(chunk, len(body), crc32c(body))
                    return body
                failure = read_failure(status, body)
            except Unavailable as error:
                failure = error
            located = await self.locate_after(failure, located, patience)

    @asynccontextmanager
    async def open(self, key: str, start: int, length: int | None) -> AsyncIterator[ObjectStream]:
        async with AsyncExitStack() as stack:
            for _ in range(ATTEMPTS):
                located = await self._locator.locate(key)
                stream = await stack.enter_async_context(self.stream(located, start, length))
                try:
                    await stream.wait_first()
                except ObjectReplaced:
                    await stack.aclose()
                else:
                    yield stream
                    return
        raise ObjectReplaced(f"{self.bucket}/{key} was replaced {ATTEMPTS} times while it was opened")

    @asynccontextmanager
    async def stream(
        self, located: Located, start: int = 0, length: int | None = None, *, window: int | None = None
    ) -> AsyncIterator[ObjectStream]:
        """Read one known version of an object, or a range of it."""
        size = located.info.size
        if start < 0 or (length is not None and length < 0):
            raise BadRequest(f"start and length of a range must not be negative: {start=} {length=}")
        if start > size:
            raise RangeNotSatisfiable(
                f"{self.bucket}/{located.info.key} has {size} bytes, so a range cannot start at {start}"
            )
        wanted = size - start if length is None else min(length, size - start)
        async with background() as nursery:
            stream = ObjectStream(self, located, start, wanted, WINDOW if window is None else window, nursery)
            try:
                yield stream
            finally:
                stream.forget()

    async def locate(self, key: str) -> Located:
        return await self._locator.locate(key)

    def begin(self, key: str, wants: Wants) -> Question:
        """Ask for an object without a task that waits; see `Locator.begin`."""
        return self._locator.begin(key, wants)

    async def locate_many(self, keys: Sequence[str]) -> Sequence[ObjectInfo | StoreError]:
        """Locate many objects; an error for each that does not exist, or may not be read.

        `grant_for` has the rights to read.
        """
        answer = await ask_where(self._control, self.bucket, keys)
        for volume_id in answer.offline:
            self._grants.pop(volume_id, None)
        for grants in answer.distinct_grants():
            self.learn([*grants.values()])
        return [
            info
            if info is not None
            else denial(self.bucket, key)
            if position in answer.denied
            else absence(self.bucket, key, answer.why_unknown)
            for position, (key, info) in enumerate(zip(keys, answer.objects, strict=True))
        ]

    def learn(self, grants: Sequence[ReadGrant]) -> None:
        """Remember rights to read, for `grant_for`."""
        now_s = trio.current_time()
        for grant in grants:
            self._grants[grant.volume_id] = Grant.of(grant, now_s)

    def grant_for(self, volume_id: int) -> Grant | None:
        """A right to read a volume, valid for some seconds at least; None: locate its objects again."""
        grant = self._grants.get(volume_id)
        return grant if grant is not None and grant.expires_s > trio.current_time() else None

    def patience(self, *, is_midway: bool) -> Patience:
        """For one request.  Midway, bytes have been handed out, so the read cannot start again."""
        timeout_s = self._control.timeout_s
        if is_midway:
            return Patience(max(timeout_s, RIDE_OUT_MIDWAY_S), ATTEMPTS_MIDWAY)
        return Patience(timeout_s, ATTEMPTS)

    async def locate_after(self, failure: StoreError, located: Located, patience: Patience) -> Located:
        """Locate the same version again, after a fetch of it failed.

        Raises `failure` itself when another fetch would not help, `ObjectReplaced` when the version is gone.
        """
        is_missing = isinstance(failure, NoSuchNeedle | NoSuchVolume)
        is_passing = isinstance(
            failure, Unavailable | TokenExpired | TokenInvalid | TokenRevoked | TokenScope
        )
        if not (is_missing or is_passing) or not patience.goes_on(failure):
            raise told(failure)
        await patience.pause(failure)
        key = located.info.key
        try:
            now = await self._locator.locate(key)
        except NoSuchObject:
            raise ObjectReplaced(f"{self.bucket}/{key} was deleted while it was read") from failure
        # An ETag may be an MD5: another version of the same bytes has it too, and lies elsewhere.
        if (now.info.etag, now.info.chunks) != (located.info.etag, located.info.chunks):
            raise ObjectReplaced(f"{self.bucket}/{key} was replaced while it was read") from failure
        if is_missing and patience.failed_count > 1:
            raise NeedleMissing(
                f"the catalog has a needle of {self.bucket}/{key} that its volume lacks: {failure.message}"
            ) from failure
        return now


class ObjectStream:
    """The bytes of one object, or of a range of it, in order: `async for piece in stream`.

    `info` has size, ETag, type and metadata of the object; `size` is the number of bytes of this stream.
    """

    def __init__(
        self,
        reader: BucketReader,
        located: Located,
        start: int,
        length: int,
        window: int,
        nursery: trio.Nursery,
    ) -> None:
        self.info = located.info
        self.size = length
        self._reader = reader
        self._located = located
        self._locating = trio.Lock()
        self._window_max = window
        self._nursery = nursery
        self._spans = plan_spans(located.info.chunks, start, length)
        self._window: deque[_Fetch] = deque()
        self._held: _Fetch | None = None  # handed out, its buffer still in use
        self._count = Count(length, f"{reader.bucket}/{located.info.key}")
        self._planned = 0  # bytes up to the end of the last started span
        self._room: memoryview | None = None  # of `read`: for the rest of the stream
        self._room_start = 0
        self._crc = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        view = await self.next_view()
        if view is None:
            raise StopAsyncIteration
        return bytes(view)

    async def read(self) -> bytes:
        """The rest in one piece, for objects that fit in memory."""
        # Received bytes go directly to their place.  `getvalue` returns that memory without a copy, because
        # nobody else refers to it by then; if a failed task still does, it copies.
        whole = io.BytesIO(bytes(self._count.left))
        position = 0
        with whole.getbuffer() as room:
            self._room, self._room_start = room, self._count.delivered
            try:
                while (view := await self.next_view()) is not None:
                    assert self._held is not None
                    if self._held.room is not room:  # it was in flight before this call
                        room[position : position + len(view)] = view
                    position += len(view)
            finally:
                self._release_held()
                self._room = None
        return whole.getvalue()

    def views(self) -> AsyncIterator[memoryview]:
        """The pieces without a copy, each valid until the next one is requested."""
        return _Views(self)

    async def wait_first(self) -> None:
        """Wait for the first bytes, so that a problem of the object is raised at once."""
        self._fill_window()
        if self._window:
            await self._window[0].done.wait()
            if (error := self._window[0].error) is not None:
                raise error

    async def next_view(self) -> memoryview | None:
        """The next bytes, without a copy: valid until the next call.  None at the end.

        Raises:
            ObjectInconsistent: the chunks end before, or after, the last byte of this stream.
        """
        self._release_held()
        self._fill_window()
        if not self._window:
            await trio.lowlevel.checkpoint()
            self._count.require_all()
            return None
        fetch = self._window[0]
        await fetch.done.wait()
        if fetch.error is not None:
            raise fetch.error
        span = fetch.span
        view = memoryview(fetch.buffer)[: span.length]
        if span.is_verified:
            self._crc = crc32c(view, self._crc if span.start else 0)
            if span.ends_chunk:
                require_chunk(span.chunk, span.start + span.length, self._crc)
        self._count.add(span.length)
        self._held = self._window.popleft()
        self._fill_window()
        return view

    def forget(self) -> None:
        """Return the buffers; the tasks that filled them have ended or will be cancelled."""
        self._release_held()
        for fetch in self._window:
            if fetch.is_spare:
                self._reader.buffers.give_spare()
        self._window.clear()

    def _release_held(self) -> None:
        if self._held is not None:
            self._reader.buffers.give(self._held.buffer)
            if self._held.is_spare:
                self._reader.buffers.give_spare()
            self._held = None

    def _fill_window(self) -> None:
        buffers = self._reader.buffers
        while len(self._window) < self._window_max:
            is_spare = bool(self._window) or self._held is not None
            if is_spare and not buffers.take_spare():
                return
            span = next(self._spans, None)
            if span is None:
                if is_spare:
                    buffers.give_spare()
                return
            if self._room is None:
                fetch = _Fetch(span, buffers.buffer(span.length), is_spare, None)
            else:
                start = self._planned - self._room_start
                fetch = _Fetch(span, self._room[start : start + span.length], is_spare, self._room)
            self._planned += span.length
            self._window.append(fetch)
            self._nursery.start_soon(self._fetch, fetch)

    async def _fetch(self, fetch: _Fetch) -> None:
        patience = self._reader.patience(is_midway=self._count.delivered > 0)
        try:
            while True:
                located = self._located
                try:
                    await self._receive(fetch, located)
                    break
                except StoreError as error:
                    await self._recover(error, located, patience)
        except StoreError as error:
            fetch.error = error
        fetch.done.set()

    async def _recover(self, failure: StoreError, located: Located, patience: Patience) -> None:
        if isinstance(failure, VolumeOffline) and not self._count.delivered:
            raise failure  # nobody has received a byte yet: raise it at once
        async with self._locating:  # spans fail together: the first one locates for all
            if self._located is located:
                self._located = await self._reader.locate_after(failure, located, patience)

    async def _receive(self, fetch: _Fetch, located: Located) -> None:
        span, chunk = fetch.span, fetch.span.chunk
        grant = located.grant_for(chunk.volume_id)
        if grant.expires_s <= trio.current_time():
            raise TokenExpired("this stream takes longer than the right to read lasts")
        headers = [grant.authorization]
        if not span.is_whole_chunk:
            headers.append(("Range", f"bytes={span.start}-{span.start + span.length - 1}"))
        target = f"/v1/needles/{chunk.volume_id}/{chunk.needle_id}"
        async with self._reader.pool.stream("GET", grant.url, target, headers=headers) as response:
            if response.status != (200 if span.is_whole_chunk else 206):
                raise read_failure(response.status, await response.read(FAILURE_SIZE_MAX))
            if response.content_length != span.length:
                raise NeedleCorrupt(
                    f"volume {chunk.volume_id}, needle {chunk.needle_id}: asked for {span.length} bytes, "
                    f"the answer announces {response.content_length}"
                )
            if not span.is_whole_chunk:
                require_range(response.headers.get("content-range"), chunk, span.start, span.length)
            view = memoryview(fetch.buffer)[: span.length]
            filled = 0
            while filled < span.length:
                received = await response.read_into(view[filled:])
                if received == 0:
                    raise LinkDown(f"the body ended after {filled} of {span.length} bytes")
                filled += received


class _Views:
    # Not a generator, which would need closing when it is left early.
    def __init__(self, stream: ObjectStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        view = await self._stream.next_view()
        if view is None:
            raise StopAsyncIteration
        return view
