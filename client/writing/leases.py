"""Leases: which needle id the next small put takes, and when to ask for more.  Pure.

A lease is the right to write a range of needle ids of one volume until it expires.  A `LeasePool` has the
leases of one bucket and hands out ids of each volume in turn, so that several disks share the load.  The
number of leased ids follows the rate: a client that puts one object leases a few; a client that puts
thousands a second leases hundreds, ahead of need.

Time is an argument (seconds of any monotonic clock).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from warehouse.client.headers import Header
from warehouse.transport.messages import Lease

NEEDLE_COUNT_FIRST = 8
NEEDLE_COUNT_MAX = 1024  # the largest number in one answer of the master
BYTE_COUNT_MAX = 64 * 1024 * 1024  # reserved by one request: more than a client writes in a second
LEASES_MAX = 64  # held at the same time; the oldest is dropped with its unused ids
BUSY_S = 5.0  # ids that were used up within this time were too few
IDLE_S = 30.0  # ids that lasted longer than this were too many
EXPIRY_MARGIN_S = 10.0  # a put started on a lease must arrive before it expires
AVOID_S = 10.0  # how long a volume that failed a put gets no further puts

# Bytes of a needle on disk besides data, key, type and metadata: 96 by the format, the bucket's name, and the
# framing of each metadata entry.  The number is generous, because running out of room costs a round trip.
NEEDLE_OVERHEAD = 256


class Ticket(msgspec.Struct, frozen=True):
    """The right to put one needle."""

    volume_id: int
    needle_id: int
    url: str
    target: str
    authorization: Header

    @property
    def token(self) -> str:
        return self.authorization[1].removeprefix("Bearer ")


class TicketRange(msgspec.Struct, frozen=True):
    """The tickets for `count` consecutive needles of one volume, from `first_id` on."""

    volume_id: int
    first_id: int
    count: int
    url: str
    authorization: Header

    def ticket(self, position: int) -> Ticket:
        """The ticket at `position`, counted from 0."""
        needle_id = self.first_id + position
        target = f"/v1/needles/{self.volume_id}/{needle_id}"
        return Ticket(self.volume_id, needle_id, self.url, target, self.authorization)


class _HeldLease:
    __slots__ = (
        "_whole_room",
        "authorization",
        "expires_s",
        "last_id",
        "next_id",
        "prefix",
        "room",
        "url",
        "volume_id",
    )

    def __init__(self, lease: Lease, now_s: float) -> None:
        self.volume_id = lease.volume_id
        self.next_id = lease.first_needle_id
        self.last_id = lease.last_needle_id
        self.room = self._whole_room = lease.byte_count
        self.url = lease.url
        self.prefix = f"/v1/needles/{lease.volume_id}/"
        self.authorization = ("Authorization", f"Bearer {lease.token}")
        self.expires_s = now_s + lease.expires_in_s - min(EXPIRY_MARGIN_S, lease.expires_in_s / 4)

    @property
    def is_nearly_spent(self) -> bool:
        return self.room * 16 < self._whole_room

    @property
    def left_count(self) -> int:
        return self.last_id - self.next_id + 1


class LeasePool:
    """The leases of one bucket."""

    def __init__(self) -> None:
        self._leases: deque[_HeldLease] = deque()
        self._left_count = 0  # of all leases held, expired ones included until they are met
        self._goal = NEEDLE_COUNT_FIRST
        self._asked_s = float("-inf")
        self._mean_size = 0.0  # stored bytes of a put, a moving average
        self._avoided: dict[int, float] = {}  # volume id -> until when

    def take(self, stored_size: int, now_s: float) -> Ticket | None:
        """The next ticket with room for `stored_size` bytes; None when a new lease is needed first."""
        self._mean_size += (stored_size - self._mean_size) / 16 if self._mean_size else stored_size
        leases = self._leases
        for _ in range(len(leases)):
            lease = leases[0]
            if lease.expires_s <= now_s:
                self._forget(lease)
                continue
            if lease.room < stored_size and lease.is_nearly_spent:
                self._forget(lease)
                continue
            leases.rotate(-1)
            if lease.room < stored_size:
                continue  # smaller puts still fit
            needle_id = lease.next_id
            lease.next_id += 1
            lease.room -= stored_size
            self._left_count -= 1
            if lease.next_id > lease.last_id:
                leases.pop()  # it was rotated to the end
            return Ticket(
                lease.volume_id, needle_id, lease.url, f"{lease.prefix}{needle_id}", lease.authorization
            )
        return None

    def take_range(self, stored_sizes: Sequence[int], now_s: float) -> TicketRange | None:
        """Tickets of one lease for the first of these puts, as many as it has; None as `take`."""
        first = self.take(stored_sizes[0], now_s)
        if first is None:
            return None
        count = 1
        lease = self._leases[-1] if self._leases else None  # it was rotated to the end, unless it is spent
        if lease is not None and lease.authorization == first.authorization:
            room = lease.room
            while count < len(stored_sizes) and count <= lease.left_count and room >= stored_sizes[count]:
                room -= stored_sizes[count]
                count += 1
            lease.room = room
            lease.next_id += count - 1
            self._left_count -= count - 1
            if lease.next_id > lease.last_id:
                self._leases.pop()
        return TicketRange(first.volume_id, first.needle_id, count, first.url, first.authorization)

    def is_short(self) -> bool:
        """True when it is time to ask for more ids, before the last one is used."""
        return self._left_count * 2 < self._goal

    def ask(self, stored_size: int, waiting_count: int, now_s: float) -> tuple[int, int, list[int]]:
        """What to ask the master for: needle count, byte count, volumes to exclude.

        Args:
            stored_size: bytes that the present put needs; the lease must have room for it.
            waiting_count: puts that wait for ids.
        """
        since_s = now_s - self._asked_s
        if since_s < BUSY_S:
            self._goal = min(self._goal * 2, NEEDLE_COUNT_MAX)
        elif since_s > IDLE_S:
            self._goal = max(self._goal // 2, NEEDLE_COUNT_FIRST)
        self._asked_s = now_s
        size = max(int(self._mean_size) + 1, NEEDLE_OVERHEAD)
        needle_count = max(self._goal, min(waiting_count, NEEDLE_COUNT_MAX))
        needle_count = max(1, min(needle_count, BYTE_COUNT_MAX // size))
        byte_count = max(
            needle_count * size * 5 // 4, stored_size
        )  # sizes vary: ids should run out before bytes
        self._avoided = {volume: until_s for volume, until_s in self._avoided.items() if until_s > now_s}
        return needle_count, byte_count, sorted(self._avoided)

    def add(self, leases: list[Lease], now_s: float) -> None:
        for lease in leases:
            held = _HeldLease(lease, now_s)
            self._leases.append(held)
            self._left_count += held.left_count
        while len(self._leases) > LEASES_MAX:
            self._forget(self._leases[0])

    def drop(self, ticket: Ticket) -> None:
        """Forget the lease of a ticket, because its token or its room is spent."""
        for lease in [held for held in self._leases if held.authorization == ticket.authorization]:
            self._forget(lease)

    def avoid(self, volume_id: int, now_s: float) -> None:
        """Forget the leases of a volume that failed, and request none there for a while."""
        self._avoided[volume_id] = now_s + AVOID_S
        self.drop_all(volume_id)

    def drop_all(self, volume_id: int) -> None:
        """Forget the leases of a volume whose actor does not know them, for example after a restart."""
        for lease in [held for held in self._leases if held.volume_id == volume_id]:
            self._forget(lease)

    def clear(self) -> None:
        """Forget all leases: the API key that they were made for has other rights now."""
        self._leases.clear()
        self._left_count = 0

    def _forget(self, lease: _HeldLease) -> None:
        self._leases.remove(lease)
        self._left_count -= lease.left_count
