"""Reservations: room on volumes that the master has set aside for bytes that are still to come.

Pure bookkeeping: numbers in, numbers out, time is an argument.  The master makes a reservation before a
client sends anything, so it accepts no byte without a place.  The reservation shrinks as its needles are
committed, and ends when it is used up, released or expired.  A restart of the master forgets all
reservations; the volumes themselves refuse what would not fit.

A step costs what it touches, never the number of all reservations: three indexes find the reservations of
one group, the reservations of one owner, and those that expire next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

_ENDED_KEPT = 64  # entries of ended reservations that may stay in the queue before it is rebuilt


@dataclass(slots=True)
class _Reservation:
    volume_id: int
    byte_count: int
    expires_at: float
    owner: Hashable
    group: Hashable
    payer: Hashable
    number: int  # of its current entry in the queue of expiries


class Reservations:
    """
    Attributes:
        on_change: called with a volume id and the change of its reserved bytes.
    """

    def __init__(self, on_change: Callable[[int, int], None] | None = None) -> None:
        self.on_change = on_change
        self._by_name: dict[Hashable, _Reservation] = {}
        self._reserved: dict[int, int] = {}
        self._owned: dict[Hashable, set[Hashable]] = {}  # owner -> names
        self._grouped: dict[Hashable, set[Hashable]] = {}  # group -> names
        self._held: dict[Hashable, int] = {}  # payer -> bytes
        self._expiries: list[tuple[float, int, Hashable]] = []  # a heap; an entry with an old number is void
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def queue_length(self) -> int:
        """Entries in the queue of expiries, including those of ended reservations."""
        return len(self._expiries)

    def reserved(self, volume_id: int) -> int:
        """Bytes of this volume that are reserved and not written yet."""
        return self._reserved.get(volume_id, 0)

    def held(self, payer: Hashable) -> int:
        """Bytes that are reserved for `payer`, on all volumes together, and not written yet."""
        return self._held.get(payer, 0)

    def reserve(
        self,
        name: Hashable,
        volume_id: int,
        byte_count: int,
        expires_at: float,
        owner: Hashable = None,
        group: Hashable = None,
        payer: Hashable = None,
    ) -> None:
        """Reserve `byte_count` bytes of a volume; a reservation of the same name ends.

        Args:
            owner: see `owner_left`.
            group: see `release_group`.
            payer: see `held`.
        """
        self.release(name)
        reservation = self._by_name[name] = _Reservation(
            volume_id, byte_count, expires_at, owner, group, payer, 0
        )
        self._await_expiry(name, reservation)
        if owner is not None:
            self._owned.setdefault(owner, set()).add(name)
        if group is not None:
            self._grouped.setdefault(group, set()).add(name)
        self._change(volume_id, byte_count, payer)

    def use(self, name: Hashable, byte_count: int) -> None:
        """Take note that `byte_count` bytes of this reservation are in the file now."""
        reservation = self._by_name.get(name)
        if reservation is not None:
            used = min(byte_count, reservation.byte_count)
            reservation.byte_count -= used
            self._change(reservation.volume_id, -used, reservation.payer)

    def release(self, name: Hashable) -> None:
        reservation = self._by_name.pop(name, None)
        if reservation is None:
            return
        _leave(self._owned, reservation.owner, name)
        _leave(self._grouped, reservation.group, name)
        self._change(reservation.volume_id, -reservation.byte_count, reservation.payer)

    def release_group(self, group: Hashable) -> None:
        """Release every reservation that was made for this group."""
        for name in list(self._grouped.get(group, ())):
            self.release(name)

    def owner_left(self, owner: Hashable, expires_at: float) -> None:
        """Let every reservation of `owner` expire at `expires_at` at the latest."""
        for name in self._owned.get(owner, ()):
            reservation = self._by_name[name]
            if expires_at < reservation.expires_at:
                reservation.expires_at = expires_at
                self._await_expiry(name, reservation)

    def expire(self, now: float) -> None:
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            _, number, name = heappop(expiries)
            reservation = self._by_name.get(name)
            if reservation is not None and reservation.number == number:
                self.release(name)

    def _await_expiry(self, name: Hashable, reservation: _Reservation) -> None:
        self._last_number += 1  # unique, so that names are never compared
        reservation.number = self._last_number
        heappush(self._expiries, (reservation.expires_at, reservation.number, name))
        if len(self._expiries) > 2 * len(self._by_name) + _ENDED_KEPT:
            self._expiries = [
                (reservation.expires_at, reservation.number, name)
                for name, reservation in self._by_name.items()
            ]
            heapify(self._expiries)

    def _change(self, volume_id: int, delta: int, payer: Hashable) -> None:
        if delta == 0:
            return
        if payer is not None:
            held = self._held.get(payer, 0) + delta
            if held:
                self._held[payer] = held
            else:
                del self._held[payer]
        left = self._reserved.get(volume_id, 0) + delta
        if left:
            self._reserved[volume_id] = left
        else:
            del self._reserved[volume_id]
        if self.on_change is not None:
            self.on_change(volume_id, delta)


def _leave(index: dict[Hashable, set[Hashable]], group: Hashable, name: Hashable) -> None:
    names = index.get(group)
    if names is not None:
        names.discard(name)
        if not names:
            del index[group]


# --- names ----------------------------------------------------------------------------------------


def slot_name(upload_id: int, volume_id: int, needle_id: int) -> tuple[str, int, int, int]:
    """The name of the reservation for one chunk of an upload."""
    return "slot", upload_id, volume_id, needle_id


def presigned_name(volume_id: int, needle_id: int) -> tuple[str, int, int]:
    """The name of the reservation for a presigned PUT."""
    return "presigned", volume_id, needle_id
