"""API keys: the long-lived credentials that buy access tokens.

A key is an id, which may be shown and logged, and a secret.  The store shows the secret once, and keeps it
sealed (`auth/sealing.py`).

Releases before 0.2 kept a hash of it, and those keys still log in.  The secret is 256 bits from the system's
generator, so a single salted SHA-256 is the right hash: an attacker has no dictionary to try, and 2^255
guesses need no stretching.  Passwords that people choose would need scrypt; this module never sees one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

KEY_ID_PREFIX = "WH"
_KEY_ID_ENTROPY = 13  # bytes; their base32 is cut to 20 characters of 5 bits
_KEY_ID_CHARACTERS = 20
_SECRET_ENTROPY = 32  # 43 characters of base64url
_SALT_SIZE = 16


@dataclass(frozen=True)
class HashedSecret:
    salt: bytes
    digest: bytes


@dataclass(frozen=True)
class ApiKey:
    """A key as it is handed to a person, once."""

    key_id: str
    secret: str = field(repr=False)
    hashed: HashedSecret = field(repr=False)


# Checked in place of a key that does not exist, so that both answers take the same work.
_NOBODY = HashedSecret(salt=bytes(_SALT_SIZE), digest=bytes(hashlib.sha256().digest_size))


def generate_api_key(entropy: Callable[[int], bytes] = secrets.token_bytes) -> ApiKey:
    key_id = KEY_ID_PREFIX + base64.b32encode(entropy(_KEY_ID_ENTROPY))[:_KEY_ID_CHARACTERS].decode()
    secret = base64.urlsafe_b64encode(entropy(_SECRET_ENTROPY)).rstrip(b"=").decode()
    return ApiKey(key_id, secret, hash_secret(secret, salt=entropy(_SALT_SIZE)))


def hash_secret(secret: str, *, salt: bytes) -> HashedSecret:
    # None of our secrets has a lone surrogate; such a secret is wrong, and must not raise.
    return HashedSecret(salt, hashlib.sha256(salt + secret.encode("utf-8", "surrogatepass")).digest())


def verify_secret(secret: str, hashed: HashedSecret | None) -> bool:
    """Is this the secret that was hashed?  Constant time; None (no such key) costs the same and is False."""
    known = hashed or _NOBODY
    is_equal = hmac.compare_digest(hash_secret(secret, salt=known.salt).digest, known.digest)
    return is_equal and hashed is not None
