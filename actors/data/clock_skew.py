"""Clock skew: how far this machine's wall clock is from the master's, and what follows from it.

Tokens expire by the master's clock, and stamps follow it, so a disk whose own clock is wrong stamps nothing
that others could not believe.
"""

from __future__ import annotations

import logging
import time

import trio

from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.errors import StampRefused
from warehouse.storage.format.stamp import StampClock

log = logging.getLogger(__name__)

SKEW_MS = 1000  # a smaller difference of the wall clocks is ignored
SKEW_STEP_MS = 300  # a new measurement counts when it differs by more than this
SKEW_ANSWER_MS = 2000  # an answer that took longer says nothing about clocks


class SentAt:
    """When a question was sent, by both clocks."""

    __slots__ = ("monotonic_s", "wall_ms")

    def __init__(self) -> None:
        self.monotonic_s = trio.current_time()
        self.wall_ms = now_ms()


class ClockSkew:
    """Keeps the stamp clock and the token verifier of one disk in step with the master's clock."""

    def __init__(self, clock: StampClock, verifier: DataTokenVerifier) -> None:
        self._clock = clock
        self._verifier = verifier
        self.skew_ms: int | None = None  # our wall clock less the master's; None: not known yet

    def measure(self, master_ms: int, sent_at: SentAt) -> None:
        """Learn the skew from an answer of the master.

        Args:
            master_ms: the master's wall clock when it answered; 0: it did not say.
            sent_at: when the question was sent.
        """
        took_ms = (trio.current_time() - sent_at.monotonic_s) * 1000
        if not master_ms or took_ms > SKEW_ANSWER_MS:
            return
        skew_ms = round(sent_at.wall_ms + took_ms / 2 - master_ms)
        if self.skew_ms is None or abs(skew_ms - self.skew_ms) > SKEW_STEP_MS:
            self._apply(skew_ms)

    def _apply(self, skew_ms: int) -> None:
        self.skew_ms = skew_ms
        is_off = abs(skew_ms) > SKEW_MS
        self._clock.correction_ms = -skew_ms if is_off else 0
        self._verifier.ahead_s = skew_ms / 1000 if is_off else 0.0
        if is_off:
            log.warning("the clock differs from the master's", extra={"ahead_s": skew_ms / 1000})


def observe_master_stamp(clock: StampClock, stamp: int) -> None:
    """Advance the clock to a stamp of the master; one that cannot be right is logged and ignored."""
    try:
        clock.admit(stamp, now_ms())
    except StampRefused as error:
        log.error("stamp of the master not believed", extra={"cause": error.message})


def require_stamps(clock: StampClock, *stamps: int) -> None:
    """Advance the clock to the stamps of a command.

    Raises:
        StampRefused: one of them cannot be right; the command must not be carried out.
    """
    for stamp in stamps:
        clock.admit(stamp, now_ms())


def now_ms() -> int:
    return time.time_ns() // 1_000_000
