"""Audit sampling: of many refusals of one address, which are written down?  Pure.

In each minute the first ones are written, and then one of many.  So an attack shows at once, with its size,
and cannot push everything else out of the log.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

NAMES_MAX = 1000  # that are counted apart in one minute
MINUTE_S = 60.0

N = TypeVar("N", bound=Hashable)


class Sampler(Generic[N]):
    """
    Args:
        per_minute: of one name, written in full.
        every: one of this many is written beyond that.
        others: the name under which names beyond the bound are counted together.
    """

    def __init__(self, *, per_minute: int, every: int, others: N) -> None:
        self._per_minute = per_minute
        self._every = every
        self._others = others
        self._began_at = 0.0
        self._seen: dict[N, int] = {}
        self._left_out: dict[N, int] = {}

    def admit(self, name: N, now: float) -> int | None:
        """Is the next one of `name` written?

        Args:
            now: seconds, of any clock that only goes on.
        Returns:
            How many of this name were left out since the last that was written; None: this one is left out.
        """
        if now - self._began_at >= MINUTE_S:
            self._began_at = now
            self._seen.clear()
        if name not in self._seen and len(self._seen) >= NAMES_MAX:
            name = self._others
        seen = self._seen[name] = self._seen.get(name, 0) + 1
        if seen > self._per_minute and (seen - self._per_minute) % self._every:
            self._left_out[name] = self._left_out.get(name, 0) + 1
            return None
        return self._left_out.pop(name, 0)

    def take_left_out(self) -> dict[N, int]:
        """How many were left out and not told of yet; they count as told."""
        left_out, self._left_out = self._left_out, {}
        return left_out
