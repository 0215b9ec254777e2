"""Key throttle: holds the requests of one API key to its limits, at the master.  Pure.

What the key sends to volume actors is held to its limits there (`actors/data/disk_throttle.py`), at each disk
for itself.  A request beyond a limit is refused with `Busy`, which says when to come back; nothing was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from warehouse.actors.token_bucket import TokenBucket
from warehouse.auth.limits import KeyLimits
from warehouse.errors import BadRequest, Busy

AT_ONCE_AFTER_S = 0.2  # when to come back to a key whose other requests are still being answered
ROOM_AFTER_S = 2.0  # leases end when they are used up or expire
UPLOADS_AFTER_S = 2.0
AFTER_S_MAX = 3600.0  # nobody waits for ever: limits can be raised


class KeyThrottle:
    """
    Attributes:
        limits: of the key, now.
    """

    def __init__(self, limits: KeyLimits) -> None:
        self.limits = limits
        self._requests = TokenBucket(burst_min=1.0)
        self._at_once = 0
        self._beginning = 0

    def admit(self, now: float) -> None:
        """Count a request.

        Args:
            now: seconds, of a clock that only goes on.
        Raises:
            Busy: the key has sent too many within the last second.
        """
        rate = self.limits.requests_per_s
        if rate is None:
            return
        self._requests.fill(rate, now)
        if wait_s := self._requests.wait_s(1.0):
            raise Busy(
                f"this key may send {rate:g} requests a second", retry_after_s=min(wait_s, AFTER_S_MAX)
            )
        self._requests.left -= 1.0

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """One request that waits for its answer.

        Raises:
            Busy: too many of this key wait already.
        """
        most = self.limits.requests_at_once
        if most is not None and self._at_once >= most:
            raise Busy(f"this key may have {most} requests answered at once", retry_after_s=AT_ONCE_AFTER_S)
        self._at_once += 1
        try:
            yield
        finally:
            self._at_once -= 1

    @contextmanager
    def one_more_upload(self, count_open: Callable[[], int]) -> Iterator[None]:
        """An upload that is being begun.

        Args:
            count_open: how many uploads of the key the catalog has that are not finished.
        Raises:
            Busy: the key has begun as many uploads as it may, and none of them has ended.
        """
        most = self.limits.open_uploads
        if most is None:
            yield
            return
        if count_open() + self._beginning >= most:
            raise Busy(
                f"this key may have {most} uploads open: finish or abort one", retry_after_s=UPLOADS_AFTER_S
            )
        self._beginning += 1
        try:
            yield
        finally:
            self._beginning -= 1

    def room(self, reserved: int, needed: int) -> int | None:
        """How many bytes more may be reserved for this key; None: any number.

        Args:
            reserved: for the key, now.
            needed: at least.
        Raises:
            Busy: there is less left than that.
            BadRequest: the key never may have so much.
        """
        most = self.limits.lease_bytes
        if most is None:
            return None
        if needed > most:
            raise BadRequest(f"this key may have {most:,} bytes under lease, and this takes {needed:,}")
        if reserved + needed > most:
            raise Busy(
                f"this key has {reserved:,} of {most:,} bytes under lease, and this takes {needed:,}",
                retry_after_s=ROOM_AFTER_S,
            )
        return most - reserved
