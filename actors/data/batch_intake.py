"""Batch intake: the items of a batch of puts, from the body of their request into a volume.

The items that came together are one write.  Each has an outcome of its own.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from warehouse.actors.data.authorization import RequestAuthorizer
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.duplicates import find_existing
from warehouse.actors.data.put_request import PutDetails, read_put_head
from warehouse.actors.data.scope import require_needle
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import BodyTooLarge, LengthMismatch, NeedleExists, StoreError
from warehouse.storage.format.needle import encode_metadata
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.writing.appending import APPENDS_MAX, NewNeedle
from warehouse.transport.http.batch_format import (
    HEAD_SIZE,
    ITEMS_MAX,
    Outcome,
    PutHead,
    decode_head_size,
    decode_put_head,
    failed,
)
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.messages import StoredNeedle

BUFFER_SIZE = 256 * 1024  # received at once
_PENDING = Outcome("", 0)


class BatchBody:
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


class _Taken(NamedTuple):
    """An item that has come, and is not written yet."""

    position: int  # of its outcome
    details: PutDetails
    new: NewNeedle


class Intake:
    """One batch of puts on its way into a volume.

    The items that came together are one write.
    """

    def __init__(
        self, pipeline: CommitPipeline, claims: DataClaims, authorizer: RequestAuthorizer, clock: StampClock
    ) -> None:
        self._pipeline = pipeline
        self._claims = claims
        self._authorizer = authorizer
        self._clock = clock
        self._taken: list[_Taken] = []  # their data lie in the buffer of the body
        self.outcomes: list[Outcome] = []  # those of appended items are filled in after the commit
        self.needles: list[StoredNeedle] = []
        self.positions: list[int] = []  # where the outcomes of those needles are
        self.refusals: list[str] = []  # error codes

    async def take_all(self, body: BatchBody) -> None:
        """Append the items of a body.

        Raises:
            BadRequest, LengthMismatch, BodyTooLarge: nothing after this can be read.
            LinkDown, RequestTimeout: the client is gone, or too slow.
        """
        try:
            while body.left:
                if len(self.outcomes) == ITEMS_MAX:
                    raise BodyTooLarge(f"a batch has at most {ITEMS_MAX} items")
                prefix = body.take_now(HEAD_SIZE.size) or await self._receive(body, HEAD_SIZE.size)
                size = decode_head_size(prefix)
                head = decode_put_head(body.take_now(size) or await self._receive(body, size))
                data = body.take_now(head.size)
                if data is None:
                    data = await self._receive(body, head.size)
                try:
                    self._take(head, data)
                except StoreError as error:
                    self.refusals.append(error.code)
                    self.outcomes.append(failed(error))
                if len(self._taken) == APPENDS_MAX:
                    await self._write()
        except StoreError:
            await self._write()  # what came before is stored all the same
            raise
        await self._write()

    async def _receive(self, body: BatchBody, size: int) -> memoryview:
        await self._write()  # the next bytes take the place of these items
        return await body.take(size)

    def _take(self, head: PutHead, data: memoryview) -> None:
        claims, needle_id = self._claims, head.needle_id
        require_needle(claims, needle_id)
        if claims.body_size_max is not None and head.size > claims.body_size_max:
            raise BodyTooLarge(
                f"this token allows up to {claims.body_size_max} bytes, needle {needle_id} has {head.size}"
            )
        metadata, conditions = read_put_head(head, claims, time.time_ns() // 1_000_000)
        self._authorizer.use_lease(claims, head.size)
        details = PutDetails(claims, needle_id, head.size, metadata, conditions)
        new = NewNeedle(needle_id, encode_metadata(metadata), data, head.crc)
        self._taken.append(_Taken(len(self.outcomes), details, new))
        self.outcomes.append(_PENDING)

    async def _write(self) -> None:
        if not self._taken:
            return
        pipeline = self._pipeline
        if pipeline.write_barrier is not None:
            await pipeline.pass_write_barrier()
        taken, self._taken = self._taken, []
        written = pipeline.volume.append_many([one.new for one in taken], self._tick)
        for one, outcome in zip(taken, written, strict=True):
            details = one.details
            if isinstance(outcome, NeedleExists):
                try:
                    details, placed, stamp = find_existing(pipeline, details, one.new.crc)
                    outcome = placed, stamp
                except StoreError as error:
                    outcome = error
            if isinstance(outcome, StoreError):
                self.refusals.append(outcome.code)
                self.outcomes[one.position] = failed(outcome)
                continue
            pipeline.uncommitted.add(details.needle_id)
            self.positions.append(one.position)
            self.needles.append(details.stored(*outcome))

    def _tick(self) -> int:
        return self._clock.tick(time.time_ns() // 1_000_000)
