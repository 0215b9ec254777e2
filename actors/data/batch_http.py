"""Batch HTTP: many needles of one volume in one request; the layout is `transport/http/batch_format.py`'s.

    POST  /v1/batch/put     a lease's token
    POST  /v1/batch/get     a read grant's token

A put reads its body item by item and appends each item as it comes in.  All items then pass the commit
pipeline together, so they share fsyncs and catalog transactions.  A get reads needle by needle and sends
pieces.  Neither ever holds more than one needle and one piece.  The rules of a single request apply to each
needle, and one that fails leaves the others alone.
"""

from __future__ import annotations

import time

import trio

from warehouse.actors.data.authorization import Counters, RequestAuthorizer
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.duplicates import find_existing
from warehouse.actors.data.put_request import NO_PROMISE, PutDetails, check_batch, read_put_head
from warehouse.actors.data.safe_headers import ALWAYS
from warehouse.actors.data.scope import require_needle, require_readable, require_visible
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    LengthMismatch,
    LengthRequired,
    LinkDown,
    NeedleExists,
    NoSuchNeedle,
    ReadFailed,
    RequestTimeout,
    StoreError,
    TokenScope,
)
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.index import IndexEntry
from warehouse.storage.volume import Volume
from warehouse.transport.http.batch_format import (
    FRAME,
    GET_ROUTE,
    GET_SIZE_MAX,
    HEAD_SIZE,
    ITEM_SIZE_MAX,
    ITEMS_MAX,
    PUT_ROUTE,
    PUT_SIZE_MAX,
    STATE_OK,
    Outcome,
    PutHead,
    decode_head_size,
    decode_ids,
    decode_put_head,
    encode_outcomes,
    failed,
    state_of,
    stored,
)
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.rules import require_method
from warehouse.transport.messages import StoredNeedle

BUFFER_SIZE = 256 * 1024  # received at once
PIECE_SIZE = 256 * 1024  # sent at once
READ_AHEAD_SIZE = 2 * 1024 * 1024  # asked of the disk at once

BATCH_PATHS = _PUT_PATH, _GET_PATH = PUT_ROUTE.encode(), GET_ROUTE.encode()
_MSGPACK = (b"Content-Type", b"application/msgpack")
_BINARY = ((b"Content-Type", b"application/octet-stream"), *ALWAYS)


class BatchHttp:
    """The batch requests of one volume actor."""

    def __init__(self, authorizer: RequestAuthorizer, clock: StampClock, counters: Counters) -> None:
        self._authorizer = authorizer
        self._clock = clock
        self._counters = counters

    async def handle(self, exchange: Exchange) -> None:
        require_method(exchange.method, b"POST")
        check_batch(exchange.headers)
        claims = self._authorizer.claims_of(exchange)
        if b"content-length" not in exchange.headers:
            raise LengthRequired("a batch needs a Content-Length")
        serve = self._put if exchange.path == _PUT_PATH else self._get
        throttle = self._authorizer.throttle
        if claims.key_id not in throttle.limits:
            await serve(exchange, claims)
            return
        with throttle.one_request(claims.key_id, exchange):
            await serve(exchange, claims)

    # --- put --------------------------------------------------------------------------------------

    async def _put(self, exchange: Exchange, claims: DataClaims) -> None:
        if (
            claims.operation != "put"
            or claims.lease_id is None
            or claims.key is not None
            or claims.upload_id is not None
        ):
            raise TokenScope("a batch put needs the token of a lease")
        pipeline = self._authorizer.pipeline_of(claims.volume_id)
        size = exchange.content_length
        if size == 0:
            raise BadRequest("a batch has at least one item")
        if size > PUT_SIZE_MAX:
            raise BodyTooLarge(f"a batch has at most {PUT_SIZE_MAX} bytes, this one {size}")
        intake = _Intake(pipeline, claims, self._authorizer, self._clock)
        broken: StoreError | None = None
        try:
            await intake.take_all(_Body(exchange, size))
        except (LinkDown, RequestTimeout) as error:
            broken = error  # the client is gone; what has been appended is committed all the same
        except StoreError as error:
            intake.outcomes.append(failed(error))
            self._counters.failed(error.code)
        await self._commit(pipeline, intake, claims.proof or NO_PROMISE)
        if broken is not None:
            raise broken
        await exchange.respond(200, (_MSGPACK,), encode_outcomes(intake.outcomes))

    async def _commit(self, pipeline: CommitPipeline, intake: _Intake, promise: str) -> None:
        """Make what was appended durable and visible, and complete the outcomes."""
        counters, outcomes = self._counters, intake.outcomes
        started = time.perf_counter()
        done = await pipeline.commit_many(intake.needles, promise)
        if intake.needles:
            counters.put_latencies.add(time.perf_counter() - started)
        for position, needle, outcome in zip(intake.positions, intake.needles, done, strict=True):
            if isinstance(outcome, StoreError):
                outcomes[position] = failed(outcome)
            else:
                outcomes[position] = stored(outcome, needle.created_ms)
                counters.puts += 1
                counters.bytes_in += needle.size
        for error_code in intake.refusals:
            counters.failed(error_code)

    # --- get --------------------------------------------------------------------------------------

    async def _get(self, exchange: Exchange, claims: DataClaims) -> None:
        if claims.operation != "get" or claims.parts is not None or claims.chunk_list_token is not None:
            raise TokenScope("a batch get needs a read grant")
        if claims.last_needle_id or claims.once is not None:  # a signed URL, say, that works once
            raise TokenScope("a batch get needs a read grant, this token opens one needle")
        needle_ids = decode_ids(await exchange.read_body(GET_SIZE_MAX))
        started: float | None = time.perf_counter()
        for needle_id in needle_ids:
            require_needle(claims, needle_id)
        pipeline = self._authorizer.pipeline_of(claims.volume_id)
        if not pipeline.uncommitted.isdisjoint(needle_ids):
            await pipeline.uncommitted.wait(*needle_ids)
        reading = _Reading(pipeline.volume, claims, needle_ids)
        if not reading.look_up(nowait=True):
            await trio.to_thread.run_sync(reading.look_up)
        await exchange.start(200, _BINARY, reading.total)
        while (piece := reading.next_piece(nowait=True)) is not None:
            if not piece:
                self._counters.cold_reads += 1
                piece = await trio.to_thread.run_sync(reading.next_cold_piece)
                assert piece is not None
            if started is not None:
                self._counters.get_latencies.add(time.perf_counter() - started)
                started = None
            await exchange.write(piece)
            self._counters.bytes_out += len(piece)
        self._counters.gets += len(needle_ids) - len(reading.refusals)
        for error_code in reading.refusals:
            self._counters.failed(error_code)


# --- items coming in ------------------------------------------------------------------------------


class _Body:
    """The body of a request, taken in pieces of any size; a piece is valid until the next is taken."""

    def __init__(self, exchange: Exchange, size: int) -> None:
        self._exchange = exchange
        self._buffer = memoryview(bytearray(min(size, BUFFER_SIZE)))
        self._start = self._end = 0
        self.left = size

    def take_now(self, size: int) -> memoryview | None:
        """The next bytes; None: they have not been received yet."""
        end = self._start + size
        if end > self._end:
            return None
        piece = self._buffer[self._start : end]
        self._start = end
        self.left -= size
        return piece

    async def take(self, size: int) -> memoryview:
        """The next bytes.

        Raises:
            LengthMismatch: the body ends earlier.
            LinkDown, RequestTimeout: as `Exchange.read_into`.
        """
        if size > self.left:
            raise LengthMismatch(f"the batch ends inside an item: {size - self.left} bytes are missing")
        received = self._buffer[self._start : self._end]
        is_large = size > len(self._buffer)
        target = memoryview(bytearray(size)) if is_large else self._buffer
        if is_large or self._start + size > len(self._buffer):
            target[: len(received)] = received  # a memmove: the two may overlap
            self._start, self._end = 0, len(received)
        wanted = size if is_large else self._start + size
        end = self._end
        while end < wanted:
            end += await self._exchange.read_into(target[end:])
        self.left -= size
        if is_large:
            self._start = self._end = 0
            return target
        start = self._start
        self._start, self._end = start + size, end
        return self._buffer[start : start + size]


class _Intake:
    """One batch of puts on its way into a volume."""

    def __init__(
        self, pipeline: CommitPipeline, claims: DataClaims, authorizer: RequestAuthorizer, clock: StampClock
    ) -> None:
        self._pipeline = pipeline
        self._claims = claims
        self._authorizer = authorizer
        self._clock = clock
        self.outcomes: list[Outcome] = []  # those of appended items are filled in after the commit
        self.needles: list[StoredNeedle] = []
        self.positions: list[int] = []  # where the outcomes of those needles are
        self.refusals: list[str] = []  # error codes

    async def take_all(self, body: _Body) -> None:
        """Append the items of a body.

        Raises:
            BadRequest, LengthMismatch, BodyTooLarge: nothing after this can be read.
            LinkDown, RequestTimeout: the client is gone, or too slow.
        """
        pipeline = self._pipeline
        while body.left:
            if len(self.outcomes) == ITEMS_MAX:
                raise BodyTooLarge(f"a batch has at most {ITEMS_MAX} items")
            prefix = body.take_now(HEAD_SIZE.size)
            if prefix is None:
                prefix = await body.take(HEAD_SIZE.size)
            size = decode_head_size(prefix)
            encoded = body.take_now(size)
            if encoded is None:
                encoded = await body.take(size)
            head = decode_put_head(encoded)
            data = body.take_now(head.size)
            if data is None:
                data = await body.take(head.size)
            if pipeline.write_barrier is not None:
                await pipeline.pass_write_barrier()
            try:
                self._append(head, data)
            except StoreError as error:
                self.refusals.append(error.code)
                self.outcomes.append(failed(error))

    def _append(self, head: PutHead, data: memoryview) -> None:
        claims, needle_id = self._claims, head.needle_id
        require_needle(claims, needle_id)
        if claims.body_size_max is not None and head.size > claims.body_size_max:
            raise BodyTooLarge(
                f"this token allows up to {claims.body_size_max} bytes, needle {needle_id} has {head.size}"
            )
        created_ms = time.time_ns() // 1_000_000
        metadata, conditions = read_put_head(head, claims, created_ms)
        self._authorizer.use_lease(claims, head.size)
        details = PutDetails(claims, needle_id, head.size, metadata, conditions)
        stamp = self._clock.tick(created_ms)
        try:
            placed = self._pipeline.volume.append(needle_id, metadata, data, stamp=stamp, crc=head.crc)
        except NeedleExists:
            details, placed, stamp = find_existing(self._pipeline, details, head.crc)
        self._pipeline.uncommitted.add(needle_id)
        self.positions.append(len(self.outcomes))
        self.outcomes.append(_PENDING)
        self.needles.append(details.stored(placed, stamp))


_PENDING = Outcome("", 0)


# --- needles going out ----------------------------------------------------------------------------


class _Reading:
    """The needles of one batch get; used by the event loop and by a thread, never at the same time."""

    def __init__(self, volume: Volume, claims: DataClaims, needle_ids: list[int]) -> None:
        self._volume = volume
        self._claims = claims
        self._needle_ids = needle_ids
        self._found: list[IndexEntry | StoreError] = []
        self._generation = volume.generation
        self._position = 0
        self._begun = 0  # the disk has been asked for the needles before this position
        self.total = 0  # bytes of the answer; complete after `look_up`
        self.refusals: list[str] = []  # error codes

    def look_up(self, *, nowait: bool = False) -> bool:
        """Look up all sizes in the index; False: it is not in memory, with `nowait`."""
        for needle_id in self._needle_ids[len(self._found) :]:
            try:
                found: IndexEntry | StoreError | None = self._volume.find(needle_id, nowait=nowait)
            except BlockingIOError:
                return False
            except StoreError as error:
                found = error
            if isinstance(found, IndexEntry):
                if found.is_deleted:
                    found = None
                elif found.data_size > ITEM_SIZE_MAX:
                    found = BodyTooLarge("")
                else:
                    self.total += found.data_size
            self._found.append(found or NoSuchNeedle(""))
            self.total += FRAME.size
        return True

    def next_piece(self, *, nowait: bool = False) -> bytes | None:
        """The next frames, about `PIECE_SIZE` bytes; None: all have been taken.

        With `nowait` the piece ends before the first needle that is not in memory, so it may be empty.
        """
        if self._position == len(self._needle_ids):
            return None
        parts: list[bytes | memoryview] = []
        size = 0
        while size < PIECE_SIZE and self._position < len(self._needle_ids):
            needle_id, found = self._needle_ids[self._position], self._found[self._position]
            try:
                header, data = self._frame(needle_id, found, nowait)
            except BlockingIOError:
                break
            self._position += 1
            parts += (header, data)
            size += len(header) + len(data)
        return b"".join(parts)

    def next_cold_piece(self) -> bytes | None:
        """`next_piece`, after asking the disk for these needles and for those that follow."""
        end = self._position
        size = 0
        while size < READ_AHEAD_SIZE and end < len(self._needle_ids):
            found = self._found[end]
            size += found.data_size if isinstance(found, IndexEntry) else 0
            end += 1
        first, self._begun = max(self._begun, self._position), max(self._begun, end)
        if first < end:
            self._volume.start_reading(self._needle_ids[first:end])
        return self.next_piece()

    def _frame(
        self, needle_id: int, found: IndexEntry | StoreError, nowait: bool
    ) -> tuple[bytes, bytes | memoryview]:
        if isinstance(found, StoreError):
            return self._refusal(needle_id, found, 0)
        # After a generation switch the needle lies elsewhere.
        hint = found if self._volume.generation == self._generation else None
        try:
            needle = self._volume.read(needle_id, nowait=nowait, found=hint)
            metadata = needle.metadata
            require_readable(self._claims, metadata)
            if metadata.upload_id is not None:
                require_visible(self._claims, metadata)
            if len(needle.data) != found.data_size:
                raise ReadFailed("the index and the needle give different sizes")
        except StoreError as error:
            return self._refusal(needle_id, error, found.data_size)
        return FRAME.pack(needle_id, STATE_OK, found.data_size, needle.crc), needle.data

    def _refusal(self, needle_id: int, error: StoreError, promised_size: int) -> tuple[bytes, bytes]:
        self.refusals.append(error.code)
        return FRAME.pack(needle_id, state_of(error), promised_size, 0), bytes(promised_size)
