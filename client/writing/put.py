"""Small puts: one HTTP request each, and every outcome is known.

A put takes a needle id from a lease and sends its bytes.  The volume actor may answer:

    201                     done: durable, in the catalog, visible
    refused                 the caller must change something: raised, never repeated
    lease spent, disk full  certainly not written: repeated with another id while such failures pass
    anything else           in doubt (connection lost, timeout, 5xx, and a volume that calls the needle void,
                            because it sees only the tombstone): the needle may or may not be committed.
                            The writer asks the master to resolve it.  A committed needle is a stored object.
                            A needle that is not committed never will be, so the put is repeated elsewhere.

So a put is applied once or not at all, whatever breaks.  `OutcomeUnknown` is raised when the master cannot be
reached to resolve the put.
"""

from __future__ import annotations

import enum
from functools import partial

import trio
from crc32c import crc32c

from warehouse.client.control import Control
from warehouse.client.headers import FAILURE_SIZE_MAX, PutOptions, put_headers, read_failure, read_put_answer
from warehouse.client.patience import ATTEMPTS, Patience, told
from warehouse.client.writing.in_doubt import InDoubt
from warehouse.client.writing.lease_supply import FORMAT_ATTRIBUTES, FORMAT_PLAIN, LeaseSupply
from warehouse.client.writing.leases import NEEDLE_OVERHEAD, Ticket
from warehouse.errors import (
    BodyTooLarge,
    Busy,
    ClusterFull,
    DiskFull,
    LeaseExhausted,
    MasterUnreachable,
    NeedleExists,
    NeedleVoid,
    NoSuchBucket,
    NoSuchObject,
    NoSuchVolume,
    OutcomeUnknown,
    Overloaded,
    RequestRefused,
    RequestTimeout,
    StoreError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    Unavailable,
    VolumeFormatOld,
    VolumeFull,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    ObjectFound,
    ObjectWritten,
    Resolved,
    ResolveNeedle,
    StatObject,
    etag_of,
)

RESOLVE_S = 3.0  # for a cancelled put; longer would make Ctrl-C feel broken


class Verdict(enum.Enum):
    """What to do after a failed attempt to put a needle."""

    GIVE_UP = enum.auto()  # repeating changes nothing
    NOTHING_DONE = enum.auto()  # not written: the same again, later
    LEASE_SPENT = enum.auto()  # not written: take another lease of any volume
    VOLUME_REFUSED = enum.auto()  # not written: take another volume
    IN_DOUBT = enum.auto()  # resolve first, then take another volume


def judge(error: StoreError) -> Verdict:
    """Classify the failure of one attempt."""
    match error:
        case TokenExpired() | TokenInvalid() | TokenRevoked() | LeaseExhausted() | NoSuchBucket():
            # The next lease shows whether somebody made the bucket again under the same name, and what the
            # API key may still do.
            return Verdict.LEASE_SPENT
        case Busy():
            return Verdict.NOTHING_DONE
        case VolumeFull() | VolumeFormatOld() | DiskFull() | NoSuchVolume() | MasterUnreachable():
            return Verdict.VOLUME_REFUSED
        case ClusterFull():
            return Verdict.GIVE_UP
        case NeedleExists() | NeedleVoid() | RequestTimeout():
            return Verdict.IN_DOUBT
        case RequestRefused():
            return Verdict.GIVE_UP
        case _:
            return Verdict.IN_DOUBT


def without_answer(error: Unavailable | BodyTooLarge) -> Unavailable:
    """Treat a missing or over-long answer as `Unavailable`: we cannot tell what the volume did."""
    return error if isinstance(error, Unavailable) else Unavailable(error.message)


class BucketWriter:
    """The small puts of one bucket."""

    def __init__(self, bucket: str, control: Control, pool: HttpPool, nursery: trio.Nursery) -> None:
        self._bucket = bucket
        self._control = control
        self._pool = pool
        self._supplies = {
            format: LeaseSupply(bucket, control, nursery, format)
            for format in (FORMAT_PLAIN, FORMAT_ATTRIBUTES)
        }
        self._plain = self._supplies[FORMAT_PLAIN]
        self.in_doubt = InDoubt(nursery)

    def supply(self, format: int) -> LeaseSupply:
        """The leases on volumes of at least this format."""
        return self._supplies[format]

    async def put(self, key: str, data: bytes | bytearray | memoryview, options: PutOptions) -> ObjectWritten:
        """Store at most `Control.small_max` bytes without attributes under a key."""
        size = len(data)
        stored_size = size + options.names_size + NEEDLE_OVERHEAD
        crc = crc32c(data)
        headers = put_headers(key, options)
        headers.append(("X-Warehouse-CRC32C", f"{crc:08x}"))
        failure: StoreError = Unavailable("no attempt was made")
        if self.in_doubt:
            await self.in_doubt.wait(key)
        patience = Patience(self._control.timeout_s, ATTEMPTS)
        while True:
            ticket = await self._plain.ticket(stored_size)
            try:
                status, _, body = await self._pool.request(
                    "PUT",
                    ticket.url,
                    ticket.target,
                    headers=[ticket.authorization, *headers],
                    body=data,
                    response_size_max=FAILURE_SIZE_MAX,
                )
                if status == 201:
                    answer = read_put_answer(body)
                    return ObjectWritten(etag=answer.etag, size=size, created_ms=answer.created_ms)
                failure = read_failure(status, body)
            except (Unavailable, BodyTooLarge) as error:
                failure = without_answer(error)
            except trio.Cancelled:
                await self.resolve_cancelled(key, ticket, failure)
                raise
            match judge(failure):
                case Verdict.GIVE_UP:
                    raise told(failure)
                case Verdict.LEASE_SPENT:
                    self._plain.drop(ticket, failure)
                case Verdict.VOLUME_REFUSED:
                    self._plain.avoid(ticket.volume_id)
                case Verdict.IN_DOUBT:
                    if not isinstance(failure, Overloaded):
                        self._plain.avoid(ticket.volume_id)
                    if await self.is_committed(key, ticket, failure):
                        return await self.written_before(key, ticket, size, crc, options)
            if not patience.goes_on(failure):
                raise told(failure)
            await patience.pause(failure)

    @property
    def timeout_s(self) -> float:
        return self._control.timeout_s

    # --- in doubt ---------------------------------------------------------------------------------

    async def resolve_cancelled(
        self, key: str, ticket: Ticket, failure: StoreError, within_s: float = RESOLVE_S
    ) -> None:
        """Resolve a cancelled put whose bytes may still be travelling, so that it overtakes nothing later."""
        ask = partial(self.is_committed, key, ticket, failure)
        await self.in_doubt.resolve(key, ask, within_s)

    async def is_committed(self, key: str, ticket: Ticket, failure: StoreError) -> bool:
        """Resolve a needle after a failure.  True: it is stored; False: it never will be.

        Raises:
            OutcomeUnknown: the master could not be asked.
        """
        question = ResolveNeedle(
            bucket=self._bucket,
            key=key,
            volume_id=ticket.volume_id,
            needle_id=ticket.needle_id,
            token=ticket.token,
        )
        try:
            resolved = await self._control.ask(question, Resolved)
        except Unavailable as error:
            raise OutcomeUnknown(
                f"{self._bucket}/{key} may or may not be stored: {failure.message}; "
                f"and the master could not be asked: {error.message}"
            ) from failure
        return resolved.is_committed

    async def written_before(
        self, key: str, ticket: Ticket, size: int, crc: int, options: PutOptions
    ) -> ObjectWritten:
        """The result of a committed put whose answer was lost; `created_ms` is 0 if it was replaced since.

        An ETag that is an MD5 says nothing of versions: the time may be that of a later one of equal bytes.
        """
        etag = options.etag or etag_of(ticket.volume_id, ticket.needle_id, crc)
        created_ms = 0
        try:
            found = await self._control.ask(StatObject(bucket=self._bucket, key=key), ObjectFound)
        except (NoSuchObject, Unavailable):
            pass
        else:
            if found.object.etag == etag:
                created_ms = found.object.created_ms
        return ObjectWritten(etag=etag, size=size, created_ms=created_ms)
