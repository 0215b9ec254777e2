"""Seldom: a log line for something that strangers can make happen thousands of times a second.

The first time is told at once; what follows is counted, and told once in a while.
"""

from __future__ import annotations

import logging
import time

PERIOD_S = 60.0


class Seldom:
    """One kind of event."""

    def __init__(self, log: logging.Logger, event: str, *, level: int = logging.WARNING) -> None:
        self._log = log
        self._event = event
        self._level = level
        self._told_at: float | None = None
        self._count = 0

    def happened(self, count: int = 1, **extra: object) -> None:
        """Note it, and tell of it when the last telling is a minute ago.

        Args:
            extra: fields of the line; those of this time.
        """
        self._count += count
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < PERIOD_S:
            return
        self._told_at = now
        self._log.log(self._level, self._event, extra={"count": self._count, **extra})
        self._count = 0
