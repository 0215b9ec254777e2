"""Disk throttle: holds the requests of API keys to their limits, at one disk.  Pure.

The master says which keys have limits, in its welcome and with every change.  Each disk counts for itself: a
key that uses two disks may have twice as much.  A key without limits is looked up in a dict, which is empty
where no key has any.

Bytes are paid when they are known: the body of a put before it is read, that of an answer when it has been
sent.  So one request may go far beyond what is left, and the next ones wait until that is paid.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from warehouse.actors.token_bucket import TokenBucket
from warehouse.errors import Busy
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.messages import DataLimits

AT_ONCE_AFTER_S = 0.1  # when to come back to a key whose other requests are under way
AFTER_S_MAX = 60.0


class _Use:
    """What one key has used."""

    __slots__ = ("at_once", "bytes", "requests")

    def __init__(self) -> None:
        self.at_once = 0
        self.requests = TokenBucket(burst_min=1.0)
        self.bytes = TokenBucket()


class DiskThrottle:
    """
    Attributes:
        limits: of the keys that have some, by id; one dict for good, which the hot path holds.
    """

    def __init__(self) -> None:
        self.limits: dict[str, DataLimits] = {}
        self._uses: dict[str, _Use] = {}

    def replace(self, limits: Mapping[str, DataLimits]) -> None:
        """From now on these keys have limits, and no other; what is under way still counts."""
        self.limits.clear()
        self.limits.update(limits)
        for key_id in self._uses.keys() - limits.keys():
            if not self._uses[key_id].at_once:
                del self._uses[key_id]

    @contextmanager
    def one_request(self, key_id: str, exchange: Exchange) -> Iterator[None]:
        """A request of a key that has limits, from its admission to its answer.

        Raises:
            Busy: the key has used up what its limits allow; nothing was done.
        """
        use = self._admit(key_id, time.monotonic())
        use.bytes.left -= exchange.content_length
        use.at_once += 1
        try:
            yield
        finally:
            use.at_once -= 1
            if exchange.has_started and exchange.method != b"HEAD":
                use.bytes.left -= exchange.answer_size

    def _admit(self, key_id: str, now: float) -> _Use:
        limits = self.limits[key_id]
        use = self._uses.get(key_id)
        if use is None:
            use = self._uses[key_id] = _Use()
        use.requests.fill(limits.requests_per_s, now)
        use.bytes.fill(limits.bytes_per_s, now)
        most = limits.requests_at_once
        if most is not None and use.at_once >= most:
            raise Busy(
                f"this key may have {most} requests under way at a disk",
                retry_after_s=AT_ONCE_AFTER_S,
            )
        if wait_s := use.requests.wait_s(1.0):
            raise Busy(
                f"this key may send {limits.requests_per_s:g} requests a second to a disk",
                retry_after_s=min(wait_s, AFTER_S_MAX),
            )
        if wait_s := use.bytes.wait_s(0.0):
            raise Busy(
                f"this key may send and get {limits.bytes_per_s:,.0f} bytes a second at a disk",
                retry_after_s=min(wait_s, AFTER_S_MAX),
            )
        use.requests.left -= 1.0
        return use
