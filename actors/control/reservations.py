"""Reservations: who was promised how much room on which volume, so that no byte is accepted without a place.

Pure bookkeeping: numbers in, numbers out, time is an argument.  A promise is made before a client sends
anything, shrinks as its needles are committed, and ends when it is used up, released or expired.  After a
restart of the master the reservations is empty; the volumes themselves refuse what would not fit.

Every step costs what it touches, never the number of all promises: those of one group, those of one owner
and those that expire next are found without looking at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

_SPENT_KEPT = 64  # entries of promises that ended, kept before the queue is cleared of them


@dataclass(slots=True)
class _Promise:
    volume_id: int
    byte_count: int
    expires_at: float
    owner: Hashable
    group: Hashable
    number: int  # of its present entry in the queue of expiries


class Reservations:
    """
    Attributes:
        on_change: called with a volume id and by how many bytes its reserved room has changed.
    """

    def __init__(self, on_change: Callable[[int, int], None] | None = None) -> None:
        self.on_change = on_change
        self._promises: dict[Hashable, _Promise] = {}
        self._reserved: dict[int, int] = {}
        self._owned: dict[Hashable, set[Hashable]] = {}  # owner -> names
        self._grouped: dict[Hashable, set[Hashable]] = {}  # group -> names
        self._expiries: list[tuple[float, int, Hashable]] = []  # a heap; an entry with an old number is void
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._promises)

    @property
    def queue_length(self) -> int:
        """Entries of the queue of expiries, those of promises that ended included."""
        return len(self._expiries)

    def reserved(self, volume_id: int) -> int:
        """Bytes of this volume that are promised and not written yet."""
        return self._reserved.get(volume_id, 0)

    def promise(
        self,
        name: Hashable,
        volume_id: int,
        byte_count: int,
        expires_at: float,
        owner: Hashable = None,
        group: Hashable = None,
    ) -> None:
        """
        Args:
            owner: see `owner_left`.
            group: see `release_group`.
        """
        self.release(name)
        promise = self._promises[name] = _Promise(volume_id, byte_count, expires_at, owner, group, 0)
        self._await_expiry(name, promise)
        if owner is not None:
            self._owned.setdefault(owner, set()).add(name)
        if group is not None:
            self._grouped.setdefault(group, set()).add(name)
        self._change(volume_id, byte_count)

    def use(self, name: Hashable, byte_count: int) -> None:
        """`byte_count` of this promise are in the file now."""
        promise = self._promises.get(name)
        if promise is not None:
            used = min(byte_count, promise.byte_count)
            promise.byte_count -= used
            self._change(promise.volume_id, -used)

    def release(self, name: Hashable) -> None:
        promise = self._promises.pop(name, None)
        if promise is None:
            return
        _leave(self._owned, promise.owner, name)
        _leave(self._grouped, promise.group, name)
        self._change(promise.volume_id, -promise.byte_count)

    def release_group(self, group: Hashable) -> None:
        """Release every promise that was made for this group."""
        for name in list(self._grouped.get(group, ())):
            self.release(name)

    def owner_left(self, owner: Hashable, expires_at: float) -> None:
        """Let every promise of `owner` expire at `expires_at` at the latest."""
        for name in self._owned.get(owner, ()):
            promise = self._promises[name]
            if expires_at < promise.expires_at:
                promise.expires_at = expires_at
                self._await_expiry(name, promise)

    def expire(self, now: float) -> None:
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            _, number, name = heappop(expiries)
            promise = self._promises.get(name)
            if promise is not None and promise.number == number:
                self.release(name)

    def _await_expiry(self, name: Hashable, promise: _Promise) -> None:
        self._last_number += 1  # unique, so that names are never compared
        promise.number = self._last_number
        heappush(self._expiries, (promise.expires_at, promise.number, name))
        if len(self._expiries) > 2 * len(self._promises) + _SPENT_KEPT:
            self._expiries = [
                (promise.expires_at, promise.number, name) for name, promise in self._promises.items()
            ]
            heapify(self._expiries)

    def _change(self, volume_id: int, delta: int) -> None:
        if delta == 0:
            return
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
