"""Refused tokens: counted by address and code until the master is told, for its audit log.  Pure.

Anybody can send a wrong token, a thousand times a second.  So a disk tells counts, at most every ten seconds,
and of at most a hundred addresses one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from warehouse.errors import (
    StoreError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenRevoked,
    TokenScope,
    TokenUsed,
)
from warehouse.transport.messages import TokensRefused

ROWS_MAX = 100  # pairs of address and code that are counted one by one
TOLD_EVERY_S = 10.0
OTHERS = "others"  # in place of the addresses beyond that

_KINDS = (TokenMissing, TokenInvalid, TokenExpired, TokenRevoked, TokenScope, TokenUsed)


class RefusedTokens:
    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._told_at = float("-inf")

    def note(self, peer: str, error: StoreError) -> None:
        """Count `error` if it refuses a token.

        Args:
            peer: host and port, as `Exchange.peer` has them.
        """
        if isinstance(error, _KINDS):
            self._add(peer.rpartition(":")[0].strip("[]") or peer, error.code, 1)

    def _add(self, address: str, code: str, count: int) -> None:
        name = address, code
        if name not in self._counts and len(self._counts) >= ROWS_MAX:
            name = OTHERS, code
        self._counts[name] += count

    def take(self, *, now: float) -> list[TokensRefused]:
        """What to tell the master now; it counts as told."""
        if not self._counts or now - self._told_at < TOLD_EVERY_S:
            return []
        self._told_at = now
        counts, self._counts = self._counts, Counter()
        return [
            TokensRefused(address=address, code=code, count=count)
            for (address, code), count in counts.items()
        ]

    def give_back(self, rows: Iterable[TokensRefused]) -> None:
        """The master may not have heard of these: tell them again."""
        for row in rows:
            self._add(row.address, row.code, row.count)
