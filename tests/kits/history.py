"""History: what a store may answer for a key, given what it acknowledged and what it left open.

An acknowledged put or delete leaves one possible content.  One that failed may have happened or not, so its
content joins the possible ones.  Anything else that a read returns is lost or wrong data.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field


@dataclass
class KeyHistory:
    possible: set[bytes | None] = field(default_factory=lambda: {None})  # digests; None: absent
    acknowledged: int = 0
    open_ended: int = 0

    def acknowledge(self, content: bytes | None) -> None:
        self.possible = {digest(content)}
        self.acknowledged += 1

    def leave_open(self, content: bytes | None) -> None:
        self.possible.add(digest(content))
        self.open_ended += 1

    def allows(self, content: bytes | None) -> bool:
        return digest(content) in self.possible


def digest(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.blake2b(content, digest_size=16).digest()


def random_content(rng: random.Random, *, large_share: float = 0.02) -> bytes:
    """Mostly small objects; some empty, some of many blocks, a few that take the path of large uploads."""
    dice = rng.random()
    if dice < 0.05:
        return b""
    if dice < 1 - large_share:
        return rng.randbytes(rng.choice((1, 100, 4096, 5000, 65_536)))
    return rng.randbytes(rng.choice((300_000, 1_100_000, 2_500_000)))
