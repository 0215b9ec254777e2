"""Failed logins: counted by address, and logged once a minute, however many there are."""

from __future__ import annotations

import logging
from collections import Counter

import trio

log = logging.getLogger(__name__)

TOLD_EVERY_S = 60.0
ADDRESSES_MAX = 1000  # counted one by one; further ones are counted together
TOLD_MAX = 10  # addresses in one line


class FailedLogins:
    """Counts failed logins; `run` logs the counts."""

    def __init__(self) -> None:
        self.total = 0
        self._by_address: Counter[str] = Counter()

    def note(self, address: str) -> None:
        self.total += 1
        is_new = address not in self._by_address
        self._by_address["others" if is_new and len(self._by_address) >= ADDRESSES_MAX else address] += 1

    def tell(self) -> None:
        """Log the counts since the last call, the largest first; log nothing when no login failed."""
        if not self._by_address:
            return
        count, worst = self._by_address.total(), self._by_address.most_common(TOLD_MAX)
        self._by_address.clear()
        log.warning("logins failed", extra={"count": count, "addresses": dict(worst)})

    async def run(self) -> None:
        """Log the counts once a minute, until cancelled."""
        while True:
            await trio.sleep(TOLD_EVERY_S)
            self.tell()
