"""Batches of puts: many small objects in few requests, each with its own outcome.

A batch takes tickets of one volume from a lease (of several volumes when one lease is too short) and sends
one request to each volume.  The outcomes of an item are those of a single put, and are treated the same way:
see `put.py`.  The master resolves an item in doubt.  Items that are not stored, and may be repeated, are sent
again together.

Large objects among the items are uploaded one by one, within the same order.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec
import trio
from crc32c import crc32c

from warehouse.client.headers import FAILURE_SIZE_MAX, PutOptions, put_options, read_failure
from warehouse.client.ordered_batches import Batch, OrderedBatches, Pending
from warehouse.client.patience import Patience, is_passing, told
from warehouse.client.writing.lease_supply import FORMAT_ATTRIBUTES, FORMAT_PLAIN, LeaseSupply
from warehouse.client.writing.leases import NEEDLE_OVERHEAD, Ticket, TicketRange
from warehouse.client.writing.put import RESOLVE_S, BucketWriter, Verdict, judge, without_answer
from warehouse.errors import BadRequest, BodyTooLarge, Overloaded, StoreError, Unavailable, from_code
from warehouse.transport.http.batch_format import PUT_ROUTE, PutHead, decode_outcomes, encode_put_head
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import ObjectWritten

BATCH_COUNT_MAX = 256
RESOLVES_MAX = 32  # needles of one batch that are resolved in parallel
ANSWER_SIZE_MAX = 1024 * 1024

Bytes = bytes | bytearray | memoryview


class Put(msgspec.Struct, frozen=True):
    """One item of `put_many`: the arguments of `Bucket.put`, with the bytes in memory."""

    key: str
    data: Bytes
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    if_match: str | None = None
    if_none_match: str | None = None


class PutResult(msgspec.Struct, frozen=True):
    """The outcome of one item of `put_many`: stored when `error` is None."""

    key: str
    error: StoreError | None
    etag: str | None = None
    size: int = 0
    created_ms: int = 0


PutItem = Put | tuple[str, Bytes]
PutLarge = Callable[[str, Bytes, PutOptions], Awaitable[ObjectWritten]]


class PendingPut(Pending[PutResult]):
    __slots__ = ("crc", "data", "failure", "is_given_up", "key", "options", "stored_size", "ticket")

    def __init__(self, key: str, data: Bytes, options: PutOptions | None) -> None:
        super().__init__()
        # As in `put_options`.  A key that is not text was refused; its result carries it as it was given.
        self.key = str.__str__(key) if isinstance(key, str) else key
        self.data = data
        self.options = options
        self.crc = 0
        self.stored_size = 0 if options is None else len(data) + options.names_size + NEEDLE_OVERHEAD
        self.failure: StoreError = Unavailable("no attempt was made")
        self.ticket: Ticket | None = None  # of the last attempt
        self.is_given_up = False  # nobody waits for it: do not send it (again)

    @property
    def format(self) -> int:
        """The least format of the volume that it is for."""
        return FORMAT_ATTRIBUTES if self.options is not None and self.options.has_attributes else FORMAT_PLAIN

    def succeed(self, etag: str, created_ms: int) -> None:
        self.finish(PutResult(self.key, None, etag, len(self.data), created_ms))

    def fail(self, error: StoreError) -> None:
        self.finish(PutResult(self.key, error))


class PutBatches(OrderedBatches[PutItem, PendingPut]):
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

    def take(self, item: PutItem) -> tuple[PendingPut, int]:
        given = item if isinstance(item, Put) else Put(*item)
        # Copy mutable data: the source may reuse its buffer for the next item.
        try:
            data = given.data if isinstance(given.data, bytes) else _copy(given.data)
            options = put_options(
                given.key, given.content_type, given.metadata, given.if_match, given.if_none_match
            )
        except StoreError as error:
            put = PendingPut(given.key, b"", None)
            put.fail(error)
            return put, 0
        put = PendingPut(given.key, data, options)
        return put, put.stored_size

    async def work(self, batch: Batch[PendingPut]) -> None:
        small = [put for put in batch.items if len(put.data) <= self._small_max]
        large = [put for put in batch.items if len(put.data) > self._small_max]
        if large:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sender.put_all, small)
                for put in large:
                    nursery.start_soon(self._put_alone, put)
        else:
            await self._sender.put_all(small)

    async def _put_alone(self, put: PendingPut) -> None:
        assert put.options is not None
        try:
            written = await self._put_large(put.key, put.data, put.options)
            put.succeed(written.etag, written.created_ms)
        except StoreError as error:
            put.fail(error)
        self._let_go(put)

    def _let_go(self, put: PendingPut) -> None:
        put.data = b""
        self.release(put)
        self.notify()


class PutSender:
    """Sends puts of one bucket in batches until the outcome of each is known.

    Args:
        let_go: called with each put when it has its result.
    """

    def __init__(self, writer: BucketWriter, pool: HttpPool, let_go: Callable[[PendingPut], None]) -> None:
        self._writer = writer
        self._pool = pool
        self._let_go = let_go

    async def put_all(self, puts: list[PendingPut]) -> None:
        """Store small objects; each put that is not given up has its result in the end.

        Args:
            puts: all for volumes of the same format.
        """
        for put in puts:
            put.crc = crc32c(put.data)
        if self._writer.in_doubt:
            await self._writer.in_doubt.wait(*(put.key for put in puts))
        patience = Patience(self._writer.timeout_s)
        while puts:
            await self._attempt(puts)
            puts = [put for put in puts if not (put.is_done or put.is_given_up)]
            if not puts:
                return
            failures = [put.failure for put in puts]
            # Failures that may have left something behind are counted; passing ones are limited by time.
            worst = next((failure for failure in failures if not is_passing(failure)), failures[0])
            if not patience.goes_on(worst):
                break
            await patience.pause(worst)
        for put in puts:
            put.fail(told(put.failure))
            self._let_go(put)

    # --- one attempt ------------------------------------------------------------------------------

    async def _attempt(self, puts: list[PendingPut]) -> None:
        supply = self._writer.supply(puts[0].format)
        groups: list[tuple[TicketRange, list[PendingPut]]] = []
        while puts:
            try:
                tickets = await supply.ticket_range([put.stored_size for put in puts])
            except StoreError as error:
                for put in puts:
                    put.fail(_again(error))
                    self._let_go(put)
                break
            groups.append((tickets, puts[: tickets.count]))
            puts = puts[tickets.count :]
        if len(groups) == 1:
            await self._send(supply, *groups[0])
            return
        async with trio.open_nursery() as nursery:
            for tickets, group in groups:
                nursery.start_soon(self._send, supply, tickets, group)

    async def _send(self, supply: LeaseSupply, tickets: TicketRange, puts: list[PendingPut]) -> None:
        """Send one request; a put whose outcome it leaves open stays without a result."""
        puts = [put for put in puts if not put.is_given_up]  # the last look before the request leaves
        if not puts:
            return
        for position, put in enumerate(puts):
            put.ticket = tickets.ticket(position)
        try:
            failures = await self._request(tickets, puts)
        except trio.Cancelled:
            await self._resolve_cancelled(tickets, puts)
            raise
        in_doubt: list[tuple[int, PendingPut]] = []
        for position, (put, failure) in enumerate(zip(puts, failures, strict=True)):
            if failure is None:
                self._let_go(put)
                continue
            put.failure = failure
            match judge(failure):
                case Verdict.GIVE_UP:
                    put.fail(told(failure))
                    self._let_go(put)
                case Verdict.LEASE_SPENT:
                    supply.drop(tickets.ticket(position), failure)
                case Verdict.VOLUME_REFUSED:
                    supply.avoid(tickets.volume_id)
                case Verdict.IN_DOUBT:
                    if not isinstance(failure, Overloaded):
                        supply.avoid(tickets.volume_id)
                    in_doubt.append((position, put))
        if in_doubt:
            await self._resolve(tickets, in_doubt)

    async def _request(self, tickets: TicketRange, puts: list[PendingPut]) -> Sequence[StoreError | None]:
        """Send puts; return None for each that is stored (it has its result), else the failure."""
        try:
            status, _, body = await self._pool.request(
                "POST",
                tickets.url,
                PUT_ROUTE,
                headers=(tickets.authorization,),
                body=_encode(tickets, puts),
                response_size_max=ANSWER_SIZE_MAX,
            )
            if status != 200:
                failure = read_failure(status, body[:FAILURE_SIZE_MAX])
                return [_again(failure) for _ in puts]
            outcomes = decode_outcomes(body, len(puts))
        except (Unavailable, BodyTooLarge) as error:
            failure = without_answer(error)
            return [_again(failure) for _ in puts]
        failures: list[StoreError | None] = []
        for put, outcome in zip(puts, outcomes, strict=True):
            if isinstance(outcome.detail, int):
                put.succeed(outcome.word, outcome.detail)
                failures.append(None)
            else:
                failures.append(from_code(outcome.word, outcome.detail))
        return failures

    async def _resolve_cancelled(self, tickets: TicketRange, puts: Sequence[PendingPut]) -> None:
        limit = trio.CapacityLimiter(RESOLVES_MAX)
        until_s = trio.current_time() + RESOLVE_S

        async def resolve(position: int, put: PendingPut) -> None:
            async with limit:
                within_s = max(until_s - trio.current_time(), 0.0)
                await self._writer.resolve_cancelled(put.key, tickets.ticket(position), put.failure, within_s)

        with trio.CancelScope(shield=True):  # one deadline for all; the rest continues in the background
            async with trio.open_nursery() as nursery:
                for position, put in enumerate(puts):
                    nursery.start_soon(resolve, position, put)

    async def _resolve(self, tickets: TicketRange, in_doubt: Sequence[tuple[int, PendingPut]]) -> None:
        """Resolve puts with the master; a put that never will be stored stays without a result."""
        limit = trio.CapacityLimiter(RESOLVES_MAX)

        async def resolve(position: int, put: PendingPut) -> None:
            ticket = tickets.ticket(position)
            async with limit:
                try:
                    if await self._writer.is_committed(put.key, ticket, put.failure):
                        assert put.options is not None
                        written = await self._writer.written_before(
                            put.key, ticket, len(put.data), put.crc, put.options
                        )
                        put.succeed(written.etag, written.created_ms)
                        self._let_go(put)
                except StoreError as error:
                    put.fail(error)
                    self._let_go(put)

        async with trio.open_nursery() as nursery:
            for position, put in in_doubt:
                nursery.start_soon(resolve, position, put)


def _copy(data: Bytes) -> bytes:
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise BadRequest(
            f"an item's data must be bytes, bytearray or memoryview, not {type(data).__name__}"
        ) from None


def _encode(tickets: TicketRange, puts: Sequence[PendingPut]) -> bytes:
    parts: list[Bytes] = []
    for needle_id, put in enumerate(puts, tickets.first_id):
        options = put.options
        assert options is not None
        head = PutHead(
            needle_id,
            put.key,
            len(put.data),
            put.crc,
            options.content_type or None,
            dict(options.metadata),
            options.if_match,
            options.if_none_match,
            options.attributes,
            options.amends,
        )
        parts.append(encode_put_head(head))
        parts.append(put.data)
    return b"".join(parts)


def _again(error: StoreError) -> StoreError:
    """A copy of the error for another item, because each may be raised."""
    return from_code(error.code, error.message)
