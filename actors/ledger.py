"""Ledger: who was promised how much room on which volume, so that no byte is accepted without a place.

Pure bookkeeping: numbers in, numbers out, time is an argument.  A promise is made before a client sends
anything, shrinks as its needles are committed, and ends when it is used up, released or expired.  After a
restart of the master the ledger is empty; the volumes refuse by themselves what would not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Promise:
    volume_id: int
    byte_count: int
    expires_at: float
    owner: object


class Ledger:
    def __init__(self) -> None:
        self._promises: dict[Hashable, _Promise] = {}
        self._reserved: dict[int, int] = {}

    def reserved(self, volume_id: int) -> int:
        """Bytes of this volume that are promised and not written yet."""
        return self._reserved.get(volume_id, 0)

    def promise(
        self, name: Hashable, volume_id: int, byte_count: int, expires_at: float, owner: object = None
    ) -> None:
        """
        Args:
            owner: see `owner_left`.
        """
        self.release(name)
        self._promises[name] = _Promise(volume_id, byte_count, expires_at, owner)
        self._reserved[volume_id] = self.reserved(volume_id) + byte_count

    def use(self, name: Hashable, byte_count: int) -> None:
        """`byte_count` of this promise are in the file now."""
        promise = self._promises.get(name)
        if promise is not None:
            used = min(byte_count, promise.byte_count)
            promise.byte_count -= used
            self._reserved[promise.volume_id] -= used

    def release(self, name: Hashable) -> None:
        promise = self._promises.pop(name, None)
        if promise is not None:
            self._reserved[promise.volume_id] -= promise.byte_count

    def release_if(self, condition: Callable[[Hashable], bool]) -> None:
        for name in [name for name in self._promises if condition(name)]:
            self.release(name)

    def owner_left(self, owner: object, expires_at: float) -> None:
        """What was promised to it ends then, if not sooner."""
        for promise in self._promises.values():
            if promise.owner is owner:
                promise.expires_at = min(promise.expires_at, expires_at)

    def expire(self, now: float) -> None:
        for name in [name for name, promise in self._promises.items() if promise.expires_at <= now]:
            self.release(name)
