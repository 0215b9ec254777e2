"""Join tokens: what a machine shows once, so that its key becomes that of a node.  Pure.

    wjt-2f8a61c90d4e-8Vb0v2Yc...      "wjt", the token's id, its secret

The store keeps the digest of the secret, never the secret: it has 256 bits, so a plain SHA-256 cannot be
guessed back.  Whoever makes a token sees its text once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from warehouse.errors import JoinTokenInvalid, JoinTokenRole

# What a token may let a machine join as; "both" is volume and compactor, which serve one disk.
ROLES = ("volume", "compactor", "both", "gateway")
_MEANS = {"both": ("volume", "compactor")}
_TEXT = re.compile(r"wjt-([0-9a-f]{12})-([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True)
class JoinToken:
    """
    Attributes:
        token_id: 12 hexadecimal digits; not secret.
        secret: 43 characters; it shows in no log and no traceback.
    """

    token_id: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> JoinToken:
        return cls(secrets.token_hex(6), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """
        Raises:
            JoinTokenInvalid: this is not the text of a join token.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise JoinTokenInvalid("this is not a join token: one begins with wjt- and has 60 characters")
        return cls(match[1], match[2])

    @property
    def text(self) -> str:
        return f"wjt-{self.token_id}-{self.secret}"

    @property
    def digest(self) -> bytes:
        """What the store keeps in place of the secret, 32 bytes."""
        return hashlib.sha256(b"warehouse join token\0" + self.secret.encode()).digest()

    def has(self, digest: bytes) -> bool:
        """Is this the token whose digest the store has kept?  Takes the same time whatever differs."""
        return hmac.compare_digest(self.digest, digest)


def allows(role: str, wanted: str) -> bool:
    """May a machine with a token, or a node, of the one role act in the other?"""
    return wanted in ROLES and wanted in {role, *_MEANS.get(role, ())}


def joined_role(before: str | None, token_role: str) -> str:
    """The role of a node that had one role, or none, and joins with a token of another.

    Raises:
        JoinTokenRole: a gateway has a key of its own, and a disk's key is not that of a gateway.
    """
    if before in (None, token_role):
        return token_role
    if "gateway" in (before, token_role):
        raise JoinTokenRole(f"a {before} node cannot join as {token_role}: it needs another key")
    return "both"
