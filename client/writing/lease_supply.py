"""Lease supply: tickets for small puts to one bucket, and new leases before the old ones are used up.

One task asks the master at a time, in the background, so that a put waits only where no lease has room for
it.  Needles with attributes need volumes of a newer format than others do, so each format has a supply of its
own: plain ones go to any volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from warehouse.client.control import Control, back_off_s
from warehouse.client.writing.leases import LeasePool, Ticket, TicketRange
from warehouse.errors import (
    ClusterFull,
    DeadlineExceeded,
    LinkDown,
    StoreError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    Unavailable,
)
from warehouse.transport.messages import Lease, Leased, LeaseNeedles

RIDE_OUT_S = 10.0  # how long a put waits for any volume that accepts it

FORMAT_PLAIN: Final = 1  # of volumes, the least that a needle needs
FORMAT_ATTRIBUTES: Final = 2


class LeaseSupply:
    """
    Args:
        format: the least format of the volumes that leases are asked for.
    """

    def __init__(self, bucket: str, control: Control, nursery: trio.Nursery, format: int) -> None:
        self._bucket = bucket
        self._control = control
        self._nursery = nursery
        self._format = format
        self._leases = LeasePool()
        self._waiting_count = 0
        self._refill: trio.Event | None = None  # set when the current lease request is answered
        self._refill_error: StoreError | None = None

    async def ticket(self, stored_size: int) -> Ticket:
        """
        Raises:
            StoreError: the master leases nothing.
        """
        while True:
            ticket = self._leases.take(stored_size, trio.current_time())
            self._refill_if_short(stored_size, is_empty=ticket is None)
            if ticket is not None:
                return ticket
            await self._wait_refill(1)

    async def ticket_range(self, stored_sizes: Sequence[int]) -> TicketRange:
        """Tickets of one volume for the first of these puts, as many as a lease has; raises as `ticket`."""
        while True:
            tickets = self._leases.take_range(stored_sizes, trio.current_time())
            self._refill_if_short(stored_sizes[0], is_empty=tickets is None)
            if tickets is not None:
                return tickets
            await self._wait_refill(len(stored_sizes))

    def drop(self, ticket: Ticket, failure: StoreError) -> None:
        """Forget a spent lease; all leases of its volume, if the actor does not know our token; all leases,
        if our API key lost rights."""
        if isinstance(failure, TokenRevoked):
            self._leases.clear()
        elif isinstance(failure, TokenInvalid | TokenExpired):
            self._leases.drop_all(ticket.volume_id)
        self._leases.drop(ticket)

    def avoid(self, volume_id: int) -> None:
        """Use other volumes for a while, because this one failed."""
        self._leases.avoid(volume_id, trio.current_time())

    # --- asking -----------------------------------------------------------------------------------

    def _refill_if_short(self, stored_size: int, *, is_empty: bool) -> None:
        if self._refill is None and (is_empty or self._leases.is_short()):
            self._refill = trio.Event()
            self._nursery.start_soon(self._ask_for_leases, stored_size, self._refill)

    async def _wait_refill(self, put_count: int) -> None:
        assert self._refill is not None
        self._waiting_count += put_count
        try:
            await self._refill.wait()
        finally:
            self._waiting_count -= put_count
        if self._refill_error is not None:
            raise self._refill_error

    async def _ask_for_leases(self, stored_size: int, refill: trio.Event) -> None:
        try:
            await trio.lowlevel.checkpoint()  # count the puts that start at this moment as waiting
            leases = await self._lease(stored_size)
            self._leases.add(leases, trio.current_time())
            self._refill_error = None
        except StoreError as error:
            self._refill_error = error
        finally:
            self._refill = None
            refill.set()

    async def _lease(self, stored_size: int) -> list[Lease]:
        needle_count, byte_count, avoided = self._leases.ask(
            stored_size, self._waiting_count, trio.current_time()
        )
        give_up = trio.current_time() + RIDE_OUT_S
        attempt = 0
        while True:
            try:
                leased = await self._control.ask(
                    LeaseNeedles(
                        bucket=self._bucket,
                        needle_count=needle_count,
                        byte_count=byte_count,
                        exclude_volumes=avoided,
                        format=self._format,
                    ),
                    Leased,
                )
            except Unavailable as error:
                is_least = (needle_count, avoided) == (1, [])
                if isinstance(error, LinkDown | DeadlineExceeded) or (
                    is_least and (isinstance(error, ClusterFull) or trio.current_time() > give_up)
                ):
                    raise
                # Ask for the least that helps: one needle on any volume, also on one that failed just now.
                needle_count, byte_count, avoided = 1, stored_size, []
                if is_least:  # a restarting actor is back within seconds
                    await trio.sleep(back_off_s(attempt))
                    attempt += 1
            else:
                if any(lease.byte_count >= stored_size for lease in leased.leases):
                    return leased.leases
                # Room is short: the master reserved less than we asked for, and no lease fits this put.
                if (needle_count, avoided) == (1, []):
                    raise ClusterFull(f"no volume has room for another {stored_size} bytes")
                needle_count, byte_count, avoided = 1, stored_size, []
