"""Token bucket: what an API key may still do of something that is limited for each second.  Pure.

The bucket is full at first and fills at the rate, up to a second's worth.  What is spent may go beyond what
is there, if it was known too late: then it is owed, and the next ones wait until that is paid.

Three relatives keep their own sums, because they have other rules:

    transport/credits.py             ten thousand addresses; those with full credit cost nothing, and debts
                                     have a limit; there are refunds
    actors/background/throttle.py    paces our own work: what a while earns and what it spends meet before the
                                     limit, so the rate is kept whatever a piece takes; a rate of 0 holds
    transport/zeromq/dispatcher.py   topped up by a sweep, so no message has to look at a clock
"""

from __future__ import annotations

import math
from typing import Final

BURST_S: Final = 1.0  # so many seconds' worth may come at once


class TokenBucket:
    """
    Args:
        burst_min: so much fits at least, however low the rate is.
    Attributes:
        left: what is there, as of the last `fill`; below 0: owed.
    """

    __slots__ = ("_burst_min", "_filled_at", "_rate", "left")

    def __init__(self, *, burst_min: float = 0.0) -> None:
        self.left = math.inf  # full, whatever a second's worth will be
        self._burst_min = burst_min
        self._filled_at = 0.0
        self._rate = 0.0

    def fill(self, rate: float | None, now: float) -> None:
        """Take over the rate, and credit the time since the last call with it.

        Args:
            rate: for each second; None: no limit.  What is spent meanwhile is not owed under a later one.
            now: seconds, of a clock that only goes on.
        """
        passed_s = max(0.0, now - self._filled_at)
        self._filled_at = now
        if rate is None:
            self.left = math.inf
            return
        self._rate = rate
        self.left = min(max(self._burst_min, rate * BURST_S), self.left + rate * passed_s)

    def wait_s(self, count: float) -> float:
        """Seconds until `count` are left, at the present rate; 0: they are."""
        missing = count - self.left
        if missing <= 0:
            return 0.0
        return missing / self._rate if self._rate > 0 else math.inf
