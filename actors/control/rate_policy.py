"""RatePolicy: how fast a compactor may go without slowing down the clients of its disk.

Pure: reports and clock readings (monotonic seconds) go in, bytes a second come out.
"""

from __future__ import annotations

from warehouse.conf.settings import Compaction, Verification

BUSY_PER_S = 5.0  # data requests a second; a compactor does not slow down fewer than these
BUSY_FOR_S = 3.0  # how long a disk counts as busy after its last busy report: clients come in bursts
VERIFY_RATE_MIN = 1024 * 1024  # a lower rate would take longer and help no client


class RatePolicy:
    """Whether clients use a disk now, as far as the request counts of its actor show."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._busy_until = 0.0

    def note_requests(self, request_count: int, *, now: float) -> None:
        """Take the number of requests that the actor has served since it started."""
        if self._last is not None:
            at, before = self._last
            # A restarted actor counts from 0, so it has served all of these since the last report.
            served = request_count - before if request_count >= before else request_count
            if served > BUSY_PER_S * (now - at):
                self._busy_until = now + BUSY_FOR_S
        self._last = (now, request_count)

    def is_busy(self, *, now: float) -> bool:
        return now < self._busy_until


def full_rate(settings: Compaction, *, is_busy: bool) -> int | None:
    """Bytes a second that a job may read and write; None: unlimited."""
    return settings.rate if is_busy else settings.rate_idle or None


def spread_rate(
    settings: Compaction, verification: Verification, *, is_busy: bool, disk_bytes: int
) -> int | None:
    """The rate of a verification that nobody waits for: it reads the disk in a quarter of the period."""
    full = full_rate(settings, is_busy=is_busy)
    enough = max(VERIFY_RATE_MIN, int(disk_bytes / (verification.period_s / 4)))
    return enough if full is None else min(full, enough)
