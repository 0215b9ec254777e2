"""Attempts: how often one address may fail to sign in.

The master slows down guessing, too.  It knows the console's address alone, so this keeps one stranger from
using up what all people behind the console share.
"""

from __future__ import annotations

from collections import OrderedDict

ADDRESSES_MAX = 10_000
BURST = 10.0
PER_S = 0.1


class Attempts:
    """A credit of failures for each address; times are arguments."""

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how much, and when it was that

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address has to wait before its next attempt; 0: not at all."""
        spent = self._now(address, now_s)
        return 0.0 if spent < BURST else (spent - BURST + 1) / PER_S

    def begin(self, address: str, now_s: float) -> None:
        """An attempt counts as failed until it has succeeded: many at a time are no way around this."""
        self._spent[address] = (min(self._now(address, now_s) + 1, 2 * BURST), now_s)
        self._spent.move_to_end(address)
        if len(self._spent) > ADDRESSES_MAX:
            self._spent.popitem(last=False)

    def succeeded(self, address: str, now_s: float) -> None:
        """The attempt that began was a good one."""
        if address in self._spent:
            self._spent[address] = (max(0.0, self._now(address, now_s) - 1), now_s)

    def _now(self, address: str, now_s: float) -> float:
        spent, at_s = self._spent.get(address, (0.0, now_s))
        return max(0.0, spent - (now_s - at_s) * PER_S)
