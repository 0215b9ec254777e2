"""Throttle: how long to wait before the next piece of work, so that a rate is kept (a token bucket).

Pure: clock readings (monotonic seconds) go in, seconds come out.  A piece of work that takes too much makes
the next piece wait.  Unused allowance lasts for a moment only: after a pause the work may not make up for it
at the expense of clients.
"""

from __future__ import annotations

import math
from typing import Final

BURST_S: Final = 0.25  # for how long unused allowance lasts
WAIT_MIN_S: Final = 0.001  # a shorter wait is not worth it, and stays owed


class Throttle:
    """
    Args:
        rate: bytes a second; 0: hold; None: unlimited.
    """

    def __init__(self, rate: int | None, *, now: float) -> None:
        self.rate = rate
        self._now = now
        self._allowance = 0.0  # bytes; below 0: owed

    def set_rate(self, rate: int | None, *, now: float) -> None:
        self._earn(0, now)
        self.rate = rate
        self._allowance = 0.0 if rate is None else min(self._allowance, rate * BURST_S)

    def spend(self, count: int, *, now: float) -> None:
        """`count` bytes were moved since the last call, up to now."""
        self._earn(count, now)

    def wait_s(self, *, now: float) -> float:
        """Seconds until more bytes may be moved, if the rate stays; infinite while it is 0."""
        self._earn(0, now)
        if self.rate is None:
            return 0.0
        if self.rate == 0:
            return math.inf
        owed_s = -self._allowance / self.rate
        return owed_s if owed_s > WAIT_MIN_S else 0.0

    def _earn(self, spent: int, now: float) -> None:
        """Credit the time since the last call, in which `spent` bytes were moved."""
        elapsed, self._now = max(0.0, now - self._now), now
        if self.rate is not None:
            earned = self._allowance + self.rate * elapsed - spent
            self._allowance = min(self.rate * BURST_S, earned)
