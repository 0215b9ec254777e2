"""Patience: how often, and for how long, something is tried that failed.

    passing     nothing was done, and the same will work soon: a volume actor that restarts and knows its keys
                in a moment, a server whose connections are all taken, a connection that was not to be had.
                Tried again until the time is over, with growing pauses
    others      may have left something behind, or do not pass: tried a few times

What is final (the caller must change something) does not come here.
"""

from __future__ import annotations

import trio

from warehouse.client.control import back_off_s
from warehouse.errors import (
    LeaseExhausted,
    LinkDown,
    Overloaded,
    StoreError,
    TokenInvalid,
    Unavailable,
    VolumeOffline,
)

ATTEMPTS = 4  # at what may have left something behind


def is_passing(failure: StoreError) -> bool:
    return isinstance(failure, LeaseExhausted | LinkDown | Overloaded | TokenInvalid | VolumeOffline)


class Patience:
    """Counts the attempts at one thing.

    Args:
        limit_s: for how long failures that pass are followed by another attempt.
        attempts: at everything else.
    """

    __slots__ = ("_attempts_left", "_give_up_s", "failed_count")

    def __init__(self, limit_s: float, attempts: int = ATTEMPTS) -> None:
        self._give_up_s = trio.current_time() + limit_s
        self._attempts_left = attempts
        self.failed_count = 0

    def goes_on(self, failure: StoreError) -> bool:
        """Note that an attempt failed; whether there is to be another one."""
        self.failed_count += 1
        if is_passing(failure):
            return trio.current_time() < self._give_up_s
        self._attempts_left -= 1
        return self._attempts_left > 0

    async def pause(self) -> None:
        """Before the next attempt; none before the second, for most failures are over by then."""
        if self.failed_count > 1:
            await trio.sleep(back_off_s(self.failed_count - 2))


def told(failure: StoreError) -> StoreError:
    """What a caller is told in the end, when it is not for him to change anything."""
    if isinstance(failure, TokenInvalid):
        return Unavailable(f"a volume refuses what the master signed for it: {failure.message}")
    return failure
