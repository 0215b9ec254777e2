"""Batch HTTP: many needles of one volume in one request; the layout is `transport/http/batch_format.py`'s.

    POST  /v1/batch/put     a lease's token
    POST  /v1/batch/get     a read grant's token

A put reads its body item by item, and appends the items that came together with one write
(`batch_intake.py`).  All items then pass the commit pipeline together, so they share fsyncs and catalog
transactions.  A get reads needle by needle and sends pieces.  Neither ever holds more than one needle and one
piece.  The rules of a single request apply to each needle, and one that fails leaves the others alone.
"""

from __future__ import annotations

import time

import trio

from warehouse.actors.data.authorization import Counters, RequestAuthorizer
from warehouse.actors.data.batch_intake import BatchBody, Intake
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.put_request import NO_PROMISE, check_batch
from warehouse.actors.data.safe_headers import ALWAYS
from warehouse.actors.data.scope import require_needle, require_readable, require_visible
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    LengthRequired,
    LinkDown,
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
    ITEM_SIZE_MAX,
    PUT_ROUTE,
    PUT_SIZE_MAX,
    STATE_OK,
    decode_ids,
    encode_outcomes,
    failed,
    state_of,
    stored,
)
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.rules import require_method

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
        intake = Intake(pipeline, claims, self._authorizer, self._clock)
        broken: StoreError | None = None
        try:
            await intake.take_all(BatchBody(exchange, size))
        except (LinkDown, RequestTimeout) as error:
            broken = error  # the client is gone; what has been appended is committed all the same
        except StoreError as error:
            intake.outcomes.append(failed(error))
            self._counters.failed(error.code)
        await self._commit(pipeline, intake, claims.proof or NO_PROMISE)
        if broken is not None:
            raise broken
        await exchange.respond(200, (_MSGPACK,), encode_outcomes(intake.outcomes))

    async def _commit(self, pipeline: CommitPipeline, intake: Intake, promise: str) -> None:
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
