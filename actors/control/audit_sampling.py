"""Audit sampling: of many lines that are alike, which are written down?  Pure.

    refusals            of one address: the first ones of each minute, and then one of many (`Sampler`)
    what is repeated    by one key, with success: as many as honest clients need, then one of many (`Repeats`)

So an attack shows at once, with its size, and cannot push everything else out of the log.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from warehouse.transport.credits import Credits

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


class Repeated(NamedTuple):
    """Who has done what, again."""

    action: str
    key: str
    address: str


class Allowance(NamedTuple):
    """How many lines of one key and action are written: `burst` at once, and `per_s` in the long run."""

    burst: float
    per_s: float


class Repeats:
    """Limits the lines about what a key repeats without changing anything.

    An honest crowd (a thousand clients of one key that start) is written in full; who goes on is counted.

    Args:
        every: one of this many is written beyond the allowance.
    """

    def __init__(self, *, every: int) -> None:
        self._every = every
        self._credits: dict[Allowance, Credits] = {}
        self._beyond: dict[tuple[str, str], int] = {}  # by action and key, since they were told of
        self._left_out: dict[Repeated, int] = {}

    def admit(self, name: Repeated, allowance: Allowance, now: float) -> int | None:
        """As `Sampler.admit`; the count is of this key, action and address."""
        credits = self._credits.get(allowance)
        if credits is None:
            credits = self._credits[allowance] = Credits(per_s=allowance.per_s, burst=allowance.burst)
        whose = name.action, name.key
        if not credits.take(" ".join(whose), 1, now):
            if whose not in self._beyond and len(self._beyond) >= NAMES_MAX:
                whose = "", ""
            beyond = self._beyond[whose] = self._beyond.get(whose, 0) + 1
            if beyond % self._every:
                if name not in self._left_out and len(self._left_out) >= NAMES_MAX:
                    name = Repeated(name.action, "others", "others")
                self._left_out[name] = self._left_out.get(name, 0) + 1
                return None
        return self._left_out.pop(name, 0)

    def take_left_out(self) -> dict[Repeated, int]:
        """How many were left out and not told of yet; they count as told."""
        left_out, self._left_out = self._left_out, {}
        self._beyond.clear()
        return left_out
