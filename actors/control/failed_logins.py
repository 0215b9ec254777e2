"""Failed logins: how fast one may fail, how many have, and one line in the log a minute.

A right secret always logs in, so nobody can lock others out: neither from the same address, nor by failing
with their key.  Secrets are random and too long to be guessed; what is bounded here is what failures cost.
Each address and each key id has a budget of failures.  Within it, a failure is answered after half a second.
Beyond it, the answer takes longer, and says when to come back and not whether the secret was wrong.

Budgets are kept for key ids that exist and for those that do not, so that nobody learns which ones do.
"""

from __future__ import annotations

import logging
import math
from collections import Counter

import trio

from warehouse.actors.control.events import EventLog
from warehouse.errors import Overloaded
from warehouse.transport.credits import Credits

log = logging.getLogger(__name__)

FAILED_S = 0.5  # makes guessing slow; the answer does not tell which half was wrong
PUT_OFF_S = 2.0  # beyond a budget
ADDRESS_PER_S, ADDRESS_BURST = 0.5, 20.0
KEY_PER_S, KEY_BURST = 1.0, 40.0

TOLD_EVERY_S = 60.0
ADDRESSES_MAX = 1000  # counted one by one; further ones are counted together
TOLD_MAX = 10  # addresses in one line


class FailedLogins:
    """Counts failed logins and slows them down; `run` logs the counts."""

    def __init__(self, events: EventLog) -> None:
        self.total = 0
        self.put_off_count = 0  # of them, those beyond a budget
        self._events = events
        self._by_address: Counter[str] = Counter()
        self._of_address = Credits(per_s=ADDRESS_PER_S, burst=ADDRESS_BURST)
        self._of_key = Credits(per_s=KEY_PER_S, burst=KEY_BURST)

    async def slow_down(self, address: str, key_id: str) -> None:
        """Note a failed login, and let its client wait.

        Raises:
            Overloaded: too many have failed lately, from this address or with this key id.
        """
        wait_s = self.note(address, key_id, trio.current_time())
        if wait_s <= 0:
            await trio.sleep(FAILED_S)
            return
        await trio.sleep(PUT_OFF_S)
        raise Overloaded(
            "too many logins have failed from this address, or with this key:"
            f" try again in {math.ceil(wait_s)} s"
        )

    async def slow_down_key(self, key_id: str) -> None:
        """As `slow_down`, of a signature that a gateway shows: its address is not that of who failed.

        Raises:
            Overloaded: too many have failed lately with this key id.
        """
        await self.slow_down("", key_id)

    def note(self, address: str, key_id: str, now_s: float) -> float:
        """Note a failed login; return in how many seconds to come back, 0 while it is within its budgets."""
        self.total += 1
        is_new = address not in self._by_address
        self._by_address["others" if is_new and len(self._by_address) >= ADDRESSES_MAX else address] += 1
        wait_s = 0.0
        for credits, name in ((self._of_address, address), (self._of_key, key_id)):
            if not name:
                continue
            credits.fine(name, 1, now_s)
            wait_s = max(wait_s, -credits.balance(name, now_s) / credits.per_s)
        self.put_off_count += wait_s > 0
        return wait_s

    def tell(self) -> None:
        """Tell of the counts since the last call, the largest first; say nothing when no login failed."""
        if not self._by_address:
            return
        count, worst = self._by_address.total(), self._by_address.most_common(TOLD_MAX)
        self._by_address.clear()
        log.warning("logins failed", extra={"count": count, "addresses": dict(worst)})
        self._events.record("logins_failed", count=count, address=worst[0][0])

    async def run(self) -> None:
        """Tell of the counts once a minute, until cancelled."""
        while True:
            await trio.sleep(TOLD_EVERY_S)
            self.tell()
