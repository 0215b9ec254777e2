"""Patience: how often, and for how long, a failed attempt is followed by another.

    passing     nothing was done, and the same attempt will work soon: a volume actor is restarting, all
                connections of a server are in use, no connection could be opened.  Repeated until the time is
                over, with growing pauses
    others      may have left something behind, or will not pass: repeated a few times

A final failure (the caller must change something) is never repeated.
"""

from __future__ import annotations

import trio

from warehouse.client.control import back_off_s
from warehouse.errors import (
    Busy,
    LeaseExhausted,
    LinkDown,
    MasterUnreachable,
    Overloaded,
    PermissionDenied,
    StoreError,
    TokenInvalid,
    TokenScope,
    Unavailable,
    VolumeOffline,
)

ATTEMPTS = 4  # when a failure may have left something behind


def is_passing(failure: StoreError) -> bool:
    return isinstance(
        failure, LeaseExhausted | LinkDown | MasterUnreachable | Overloaded | TokenInvalid | VolumeOffline
    )


class Patience:
    """Counts the attempts at one operation.

    Args:
        limit_s: how long passing failures are followed by another attempt.
        attempts: the number of attempts when failures do not pass.
    """

    __slots__ = ("_attempts_left", "_give_up_s", "failed_count")

    def __init__(self, limit_s: float, attempts: int = ATTEMPTS) -> None:
        self._give_up_s = trio.current_time() + limit_s
        self._attempts_left = attempts
        self.failed_count = 0

    def goes_on(self, failure: StoreError) -> bool:
        """Count a failed attempt; return whether another one should follow."""
        self.failed_count += 1
        if is_passing(failure):
            return trio.current_time() < self._give_up_s
        self._attempts_left -= 1
        return self._attempts_left > 0

    async def pause(self, failure: StoreError | None = None) -> None:
        """Wait before the next attempt; not before the second, because most failures are over by then.

        Args:
            failure: the latest; one that says how long to wait is taken at its word.
        """
        if isinstance(failure, Busy):
            await trio.sleep(min(failure.retry_after_s, max(0.0, self._give_up_s - trio.current_time())))
        elif self.failed_count > 1:
            await trio.sleep(back_off_s(self.failed_count - 2))


def told(failure: StoreError) -> StoreError:
    """The error to raise after the last attempt, for a failure that the caller cannot change."""
    if isinstance(failure, TokenInvalid):
        return Unavailable(f"a volume refuses what the master signed for it: {failure.message}")
    if isinstance(failure, TokenScope):  # the master lets a token do what our API key may
        return PermissionDenied(f"this API key may not do that: {failure.message}")
    return failure
