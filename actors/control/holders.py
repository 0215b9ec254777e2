"""Holders: whose tokens the master signs.

Every token names the API key that it was signed for, and the key's epoch: so it ends when the key loses a
right (`revocations.py`), or when the key expires, and nobody else's ends with it.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, NamedTuple

TOKEN_ID_ENTROPY = 9  # bytes: 12 characters


class Holder(NamedTuple):
    """An API key as it was when a token was signed.

    Attributes:
        expires_ms: of the key, since 1970; None: never.
    """

    key_id: str
    epoch: int
    expires_ms: int | None = None

    def claims(self) -> dict[str, Any]:
        """What a token says of its holder, and its own id."""
        return {
            "key_id": self.key_id,
            "epoch": self.epoch,
            "token_id": secrets.token_urlsafe(TOKEN_ID_ENTROPY),
        }

    def life_s(self, wanted_s: float) -> float:
        """How long a token may live that should live so long: no longer than its key."""
        if self.expires_ms is None:
            return wanted_s
        return max(0.0, min(wanted_s, self.expires_ms / 1000 - time.time()))
