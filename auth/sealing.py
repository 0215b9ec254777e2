"""Sealing: secrets that the store has to read again, encrypted under a key of its keyring.

A hash is enough to check a secret that somebody shows.  It is not enough where the store computes with the
secret (HMAC chains of S3), so such secrets are sealed: whoever has the catalog and not the keyring can do
nothing with them.  Sealed bytes:

    offset  size  field
         0     1  version     1
         1     8  seal key id  which key of the keyring; in text 16 hex digits
         9    12  nonce       random
        21     n  ciphertext  AES-256-GCM
      21+n    16  tag         over the ciphertext and the associated data

The associated data is the first nine bytes, the purpose and the subject, each of the two with its length in
front (2 bytes, big-endian).  So a sealed secret opens only as what it was sealed for: one that was moved to
another row, or that another part of the store has sealed, is refused like one with a flipped bit.

A random nonce is safe for 2^32 secrets under one key; a store seals one for each API key.

Source: NIST SP 800-38D (GCM), section 8.3.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from warehouse.errors import SealBroken, SealUnknown

KEY_SIZE = 32
SECRET_SIZE_MAX = 4096
API_KEY_SECRET = "api key secret"  # noqa: S105 - a purpose: the subject is the id of the API key

_VERSION = b"\x01"
_KEY_ID_SIZE = 8
_NONCE_AT = 1 + _KEY_ID_SIZE
_NONCE_SIZE = 12
_CIPHERTEXT_AT = _NONCE_AT + _NONCE_SIZE
_TAG_SIZE = 16


class Sealer:
    """Seals with the newest key of a keyring, and opens with any of them.

    Args:
        keys: seal key id (16 hex digits) -> 32 bytes; oldest first, at least one.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            if len(bytes.fromhex(key_id)) != _KEY_ID_SIZE or len(key) != KEY_SIZE:
                raise ValueError(f"a seal key has an id of 16 hex digits and {KEY_SIZE} bytes")
        self._keys = dict(keys)
        self.key_id = next(reversed(self._keys))  # seals

    def seal(
        self,
        secret: bytes,
        *,
        purpose: str,
        subject: str,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> bytes:
        """
        Args:
            secret: at most 4,096 bytes.
            purpose: what kind of secret it is; a constant of this module.
            subject: whose secret it is, such as the id of an API key.
        """
        if len(secret) > SECRET_SIZE_MAX:
            raise ValueError(f"a secret has at most {SECRET_SIZE_MAX} bytes, this one {len(secret)}")
        head = _VERSION + bytes.fromhex(self.key_id)
        nonce = entropy(_NONCE_SIZE)
        sealed = AESGCM(self._keys[self.key_id]).encrypt(nonce, secret, _bound_to(head, purpose, subject))
        return head + nonce + sealed

    def open(self, sealed: bytes, *, purpose: str, subject: str) -> bytes:
        """The secret, if it was sealed for this purpose and subject.

        Raises:
            SealUnknown: the keyring has not the key that it was sealed with.
            SealBroken: these are no sealed bytes, they were changed, or they were sealed for something else.
        """
        key_id = seal_key_id_of(sealed)
        key = self._keys.get(key_id)
        if key is None:
            raise SealUnknown(
                f"the {purpose} of {subject!r} was sealed with the key {key_id}: the keyring does not have it"
            )
        head, nonce = sealed[:_NONCE_AT], sealed[_NONCE_AT:_CIPHERTEXT_AT]
        try:
            return AESGCM(key).decrypt(nonce, sealed[_CIPHERTEXT_AT:], _bound_to(head, purpose, subject))
        except InvalidTag:
            raise SealBroken(
                f"the {purpose} of {subject!r} does not open: it was changed, or sealed for something else"
            ) from None


def seal_key_id_of(sealed: bytes) -> str:
    """With which key was this sealed?

    Raises:
        SealBroken: these are no sealed bytes of a version that this release knows.
    """
    if sealed[:1] != _VERSION or not 0 <= len(sealed) - _CIPHERTEXT_AT - _TAG_SIZE <= SECRET_SIZE_MAX:
        raise SealBroken(f"{len(sealed)} bytes are not a sealed secret that this release can read")
    return sealed[1:_NONCE_AT].hex()


def generate_seal_key(entropy: Callable[[int], bytes] = secrets.token_bytes) -> tuple[str, bytes]:
    """A new key: its id, its 32 bytes."""
    return entropy(_KEY_ID_SIZE).hex(), entropy(KEY_SIZE)


def _bound_to(head: bytes, purpose: str, subject: str) -> bytes:
    parts = [text.encode() for text in (purpose, subject)]
    return head + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
