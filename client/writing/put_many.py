"""Batches of puts: many small objects in few requests, each with an outcome of its own.

A batch takes needle ids of one volume from a lease (of several, where one does not do) and sends one request
to each volume.  What may come back for an item is what may come back for a put of its own, and it is treated
in the same way: see `put.py`.  An item whose fate is in doubt is settled with the master; one that is not
stored, and may be, travels again with the others that are left.

Large objects among the items take the ordinary way, within the same order.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec
import trio
from crc32c import crc32c

from warehouse.client.headers import FAILURE_SIZE_MAX, PutOptions, put_options, read_failure
from warehouse.client.ordered_batches import Batch, Flow, Slot
from warehouse.client.patience import Patience, is_passing, told
from warehouse.client.writing.leases import NEEDLE_OVERHEAD, Run, Ticket
from warehouse.client.writing.put import SETTLE_S, BucketWriter, Verdict, judge, without_answer
from warehouse.errors import BadRequest, BodyTooLarge, Overloaded, StoreError, Unavailable, from_code
from warehouse.transport.http.batch_format import PUT_ROUTE, PutHead, decode_outcomes, encode_put_head
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import ObjectWritten

BATCH_COUNT_MAX = 256
SETTLES_MAX = 32  # needles of one batch that are settled at once
ANSWER_SIZE_MAX = 1024 * 1024

Bytes = bytes | bytearray | memoryview


class Put(msgspec.Struct, frozen=True):
    """One item of `put_many`: as the arguments of `Bucket.put`, the bytes in memory."""

    key: str
    data: Bytes
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    if_match: str | None = None
    if_none_match: str | None = None


class PutResult(msgspec.Struct, frozen=True):
    """What became of one item of `put_many`: stored, if `error` is None."""

    key: str
    error: StoreError | None
    etag: str | None = None
    size: int = 0
    created_ms: int = 0


PutItem = Put | tuple[str, Bytes]
PutLarge = Callable[[str, Bytes, PutOptions], Awaitable[ObjectWritten]]


class PutSlot(Slot[PutResult]):
    __slots__ = ("crc", "data", "failure", "is_given_up", "key", "options", "stored_size", "ticket")

    def __init__(self, key: str, data: Bytes, options: PutOptions | None) -> None:
        super().__init__()
        # As in `put_options`; what is no text at all has been refused, and is told as it was given.
        self.key = str.__str__(key) if isinstance(key, str) else key
        self.data = data
        self.options = options
        self.crc = 0
        self.stored_size = 0 if options is None else len(data) + options.names_size + NEEDLE_OVERHEAD
        self.failure: StoreError = Unavailable("no attempt was made")
        self.ticket: Ticket | None = None  # of the last attempt
        self.is_given_up = False  # nobody waits for it: it must not be sent (again)

    def succeed(self, etag: str, created_ms: int) -> None:
        self.finish(PutResult(self.key, None, etag, len(self.data), created_ms))

    def fail(self, error: StoreError) -> None:
        self.finish(PutResult(self.key, error))


class PutFlow(Flow[PutItem, PutSlot]):
    """The puts of one `put_many`."""

    batch_count_max = BATCH_COUNT_MAX

    def __init__(
        self,
        source: Iterable[PutItem] | AsyncIterable[PutItem],
        writer: BucketWriter,
        pool: HttpPool,
        small_max: int,
        put_large: PutLarge,
    ) -> None:
        super().__init__(source)
        self._sender = PutSender(writer, pool, self._let_go)
        self._small_max = small_max
        self._put_large = put_large

    def take(self, item: PutItem) -> tuple[PutSlot, int]:
        put = item if isinstance(item, Put) else Put(*item)
        # A copy of what may change: the source may use its buffer again when it is asked for the next item.
        try:
            data = put.data if isinstance(put.data, bytes) else _copy(put.data)
            options = put_options(put.key, put.content_type, put.metadata, put.if_match, put.if_none_match)
        except StoreError as error:
            slot = PutSlot(put.key, b"", None)
            slot.fail(error)
            return slot, 0
        slot = PutSlot(put.key, data, options)
        return slot, slot.stored_size

    async def work(self, batch: Batch[PutSlot]) -> None:
        small = [slot for slot in batch.slots if len(slot.data) <= self._small_max]
        large = [slot for slot in batch.slots if len(slot.data) > self._small_max]
        if large:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sender.put_all, small)
                for slot in large:
                    nursery.start_soon(self._put_alone, slot)
        else:
            await self._sender.put_all(small)

    async def _put_alone(self, slot: PutSlot) -> None:
        assert slot.options is not None
        try:
            written = await self._put_large(slot.key, slot.data, slot.options)
            slot.succeed(written.etag, written.created_ms)
        except StoreError as error:
            slot.fail(error)
        self._let_go(slot)

    def _let_go(self, slot: PutSlot) -> None:
        slot.data = b""
        self.release(slot)
        self.notify()


class PutSender:
    """Sends puts of one bucket in batches, and sees to it that it is decided what became of each.

    Args:
        let_go: told of each slot when it has its result.
    """

    def __init__(self, writer: BucketWriter, pool: HttpPool, let_go: Callable[[PutSlot], None]) -> None:
        self._writer = writer
        self._pool = pool
        self._let_go = let_go

    async def put_all(self, slots: list[PutSlot]) -> None:
        """Store small objects; each slot has its result in the end, if it is not given up meanwhile."""
        for slot in slots:
            slot.crc = crc32c(slot.data)
        if self._writer.unsettled:
            await self._writer.unsettled.wait(*(slot.key for slot in slots))
        patience = Patience(self._writer.timeout_s)
        while slots:
            await self._attempt(slots)
            slots = [slot for slot in slots if not (slot.is_done or slot.is_given_up)]
            if not slots:
                return
            failures = [slot.failure for slot in slots]
            # What may have left something behind counts; where all of it passes, the time does.
            worst = next((failure for failure in failures if not is_passing(failure)), failures[0])
            if not patience.goes_on(worst):
                break
            await patience.pause()
        for slot in slots:
            slot.fail(told(slot.failure))
            self._let_go(slot)

    # --- one attempt ------------------------------------------------------------------------------

    async def _attempt(self, slots: list[PutSlot]) -> None:
        parts: list[tuple[Run, list[PutSlot]]] = []
        while slots:
            try:
                run = await self._writer.run_for([slot.stored_size for slot in slots])
            except StoreError as error:
                for slot in slots:
                    slot.fail(_again(error))
                    self._let_go(slot)
                break
            parts.append((run, slots[: run.count]))
            slots = slots[run.count :]
        if len(parts) == 1:
            await self._send(*parts[0])
            return
        async with trio.open_nursery() as nursery:
            for run, part in parts:
                nursery.start_soon(self._send, run, part)

    async def _send(self, run: Run, slots: list[PutSlot]) -> None:
        """One request; what it did not decide stays without a result."""
        slots = [slot for slot in slots if not slot.is_given_up]  # the last look before they are on their way
        if not slots:
            return
        for position, slot in enumerate(slots):
            slot.ticket = run.ticket(position)
        try:
            failures = await self._request(run, slots)
        except trio.Cancelled:
            await self._settle_cancelled(run, slots)
            raise
        leases, now_s = self._writer.leases, trio.current_time()
        uncertain: list[tuple[int, PutSlot]] = []
        for position, (slot, failure) in enumerate(zip(slots, failures, strict=True)):
            if failure is None:
                self._let_go(slot)
                continue
            slot.failure = failure
            match judge(failure):
                case Verdict.GIVE_UP:
                    slot.fail(failure)
                    self._let_go(slot)
                case Verdict.LEASE_SPENT:
                    self._writer.drop_lease(run.ticket(position), failure)
                case Verdict.VOLUME_REFUSED:
                    leases.avoid(run.volume_id, now_s)
                case Verdict.UNCERTAIN:
                    if not isinstance(failure, Overloaded):
                        leases.avoid(run.volume_id, now_s)
                    uncertain.append((position, slot))
        if uncertain:
            await self._settle(run, uncertain)

    async def _request(self, run: Run, slots: list[PutSlot]) -> Sequence[StoreError | None]:
        """Send items; for each None when it is stored (and has its result), or why it may not be."""
        try:
            status, _, body = await self._pool.request(
                "POST",
                run.url,
                PUT_ROUTE,
                headers=(run.authorization,),
                body=_encode(run, slots),
                response_size_max=ANSWER_SIZE_MAX,
            )
            if status != 200:
                failure = read_failure(status, body[:FAILURE_SIZE_MAX])
                return [_again(failure) for _ in slots]
            outcomes = decode_outcomes(body, len(slots))
        except (Unavailable, BodyTooLarge) as error:
            failure = without_answer(error)
            return [_again(failure) for _ in slots]
        failures: list[StoreError | None] = []
        for slot, outcome in zip(slots, outcomes, strict=True):
            if isinstance(outcome.detail, int):
                slot.succeed(outcome.word, outcome.detail)
                failures.append(None)
            else:
                failures.append(from_code(outcome.word, outcome.detail))
        return failures

    async def _settle_cancelled(self, run: Run, slots: Sequence[PutSlot]) -> None:
        limit = trio.CapacityLimiter(SETTLES_MAX)
        until_s = trio.current_time() + SETTLE_S

        async def settle(position: int, slot: PutSlot) -> None:
            async with limit:
                within_s = max(until_s - trio.current_time(), 0.0)
                await self._writer.settle_cancelled(slot.key, run.ticket(position), slot.failure, within_s)

        with trio.CancelScope(shield=True):  # all are bounded by one time; whatever is left goes on behind
            async with trio.open_nursery() as nursery:
                for position, slot in enumerate(slots):
                    nursery.start_soon(settle, position, slot)

    async def _settle(self, run: Run, doubtful: Sequence[tuple[int, PutSlot]]) -> None:
        """Ask the master what became of some needles; what never will be stored stays without a result."""
        limit = trio.CapacityLimiter(SETTLES_MAX)

        async def settle(position: int, slot: PutSlot) -> None:
            ticket = run.ticket(position)
            async with limit:
                try:
                    if await self._writer.is_committed(slot.key, ticket, slot.failure):
                        written = await self._writer.written_before(
                            slot.key, ticket, len(slot.data), slot.crc
                        )
                        slot.succeed(written.etag, written.created_ms)
                        self._let_go(slot)
                except StoreError as error:
                    slot.fail(error)
                    self._let_go(slot)

        async with trio.open_nursery() as nursery:
            for position, slot in doubtful:
                nursery.start_soon(settle, position, slot)


def _copy(data: Bytes) -> bytes:
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise BadRequest(
            f"an item's data is bytes, a bytearray or a memoryview, not {type(data).__name__}"
        ) from None


def _encode(run: Run, slots: Sequence[PutSlot]) -> bytes:
    parts: list[Bytes] = []
    for needle_id, slot in enumerate(slots, run.first_id):
        options = slot.options
        assert options is not None
        head = PutHead(
            needle_id,
            slot.key,
            len(slot.data),
            slot.crc,
            options.content_type,
            dict(options.metadata),
            options.if_match,
            options.if_none_match,
        )
        parts.append(encode_put_head(head))
        parts.append(slot.data)
    return b"".join(parts)


def _again(error: StoreError) -> StoreError:
    """The same error for another item: each may be raised by itself."""
    return from_code(error.code, error.message)
