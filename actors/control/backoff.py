"""Backoff: how long to leave something alone that failed."""

from __future__ import annotations

import trio

RETRY_S = 1.0  # after the first failure; twice as long after each further one
RETRY_S_MAX = 60.0


class Backoff:
    def __init__(self) -> None:
        self._failure_count = 0
        self.until = 0.0

    @property
    def is_waiting(self) -> bool:
        return trio.current_time() < self.until

    def failed(self) -> None:
        self.until = trio.current_time() + min(RETRY_S_MAX, RETRY_S * 2 ** min(self._failure_count, 10))
        self._failure_count += 1

    def worked(self) -> None:
        self._failure_count, self.until = 0, 0.0
