"""Seldom: a log line for events that strangers can cause thousands of times a second.

The first event is logged immediately.  Later events are counted, and logged together once a minute.
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
        self._logged_at: float | None = None
        self._count = 0

    def happened(self, count: int = 1, **extra: object) -> None:
        """Count the event; log it unless the last line is less than a minute old.

        Args:
            extra: fields of the line, from this event.
        """
        self._count += count
        now = time.monotonic()
        if self._logged_at is not None and now - self._logged_at < PERIOD_S:
            return
        self._logged_at = now
        self._log.log(self._level, self._event, extra={"count": self._count, **extra})
        self._count = 0
