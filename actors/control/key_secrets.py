"""Key secrets: what the catalog has of the secret of an API key, and whether somebody shows it.

    sealed      since 0.2: the secret itself, under a key of the keyring (`auth/sealing.py`)
    hashed      in keys that a release before has made: good for logging in, and for nothing else
    previous    the secret before the last rotation, of either kind, until its overlap ends

Every check does the same work, whether there is such a key or not, and whichever of its secrets is shown: two
seals are opened and two hashes compared, of stand-ins where the key has none.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import HashedSecret, verify_secret
from warehouse.auth.sealing import API_KEY_SECRET, KEY_SIZE, Sealer
from warehouse.catalog.identities import ApiKeyRow
from warehouse.errors import KeyCannotSign, SealBroken
from warehouse.s3.signing_keys import derive_signing_key, sign_v2, sign_v4


@dataclass(frozen=True)
class Shown:
    """The secret of a key that somebody has shown.

    Attributes:
        until_ms: when it ends; None: not before the key does.
    """

    until_ms: int | None = None


@dataclass(frozen=True)
class Signer:
    """The secret that has signed something.

    Attributes:
        signing_key: what it signs with on that day and in that region; empty for SigV2.
    """

    shown: Shown
    signing_key: bytes


def seal_secret(sealer: Sealer, key_id: str, secret: str) -> bytes:
    """For `ApiKeyRow.sealed` of this key, and of no other."""
    return sealer.seal(secret.encode(), purpose=API_KEY_SECRET, subject=key_id)


class KeySecrets:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._stand_in = Sealer({"00" * 8: secrets.token_bytes(KEY_SIZE)})
        self._sealed_stand_in = seal_secret(self._stand_in, "", secrets.token_urlsafe(32))

    def seal(self, key_id: str, secret: str) -> bytes:
        return seal_secret(self._keyring.sealer, key_id, secret)

    def check(self, row: ApiKeyRow | None, secret: str, *, at_ms: int) -> Shown | None:
        """Is `secret` the secret of this key, or the one before while that still works?

        Args:
            row: None: there is no such key, and the answer is None.
        Raises:
            SealBroken, SealUnknown: the secret of the key cannot be read, so nobody can tell.
        """
        key_id = "" if row is None else row.id
        until_ms = None if row is None else row.previous_until_ms
        has_previous = until_ms is not None and at_ms < until_ms
        present = (None, None) if row is None else (row.sealed, row.hashed)
        previous = (row.previous_sealed, row.previous_hashed) if row and has_previous else (None, None)
        is_present, problem = self._is_one_of(key_id, *present, secret)
        is_previous, other_problem = self._is_one_of(key_id, *previous, secret)
        if is_present:
            return Shown()
        if is_previous:
            return Shown(until_ms)
        if problem or other_problem:
            raise problem or other_problem  # type: ignore[misc]  # one of the two it is
        return None

    def signer(
        self,
        row: ApiKeyRow,
        scheme: str,
        scope: tuple[str, str],
        string_to_sign: bytes,
        signature: str,
        *,
        at_ms: int,
    ) -> Signer | None:
        """Which secret of this key has signed that?  None: neither of them.

        Args:
            scheme: "v4" or "v2".
            scope: date and region of SigV4.
        Raises:
            KeyCannotSign: the store knows only hashes of its secrets.
            SealBroken, SealUnknown: a secret cannot be read, so nobody can tell.
        """
        candidates = [(row.sealed, Shown())]
        if row.previous_until_ms is not None and at_ms < row.previous_until_ms:
            candidates.append((row.previous_sealed, Shown(row.previous_until_ms)))
        if all(sealed is None for sealed, _ in candidates):
            raise KeyCannotSign(f"the API key {row.id!r} was made by an earlier release: rotate it first")
        found = None
        for sealed, shown in candidates:
            if sealed is None:
                continue
            secret = self._keyring.sealer.open(sealed, purpose=API_KEY_SECRET, subject=row.id).decode()
            signing_key = derive_signing_key(secret, *scope) if scheme == "v4" else b""
            expected = (
                sign_v4(signing_key, string_to_sign) if signing_key else sign_v2(secret, string_to_sign)
            )
            if hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
                found = found or Signer(shown, signing_key)
        return found

    def _is_one_of(
        self, key_id: str, sealed: bytes | None, hashed: HashedSecret | None, secret: str
    ) -> tuple[bool, SealBroken | None]:
        is_hashed_one = verify_secret(secret, hashed)
        sealer, subject = (self._stand_in, "") if sealed is None else (self._keyring.sealer, key_id)
        try:
            known = sealer.open(sealed or self._sealed_stand_in, purpose=API_KEY_SECRET, subject=subject)
        except SealBroken as error:
            return is_hashed_one, error
        return (_is_equal(known, secret) and sealed is not None) or is_hashed_one, None


def _is_equal(known: bytes, shown: str) -> bool:
    # Digests have one length: `compare_digest` would tell the length of a secret.
    digests = (hashlib.sha256(text).digest() for text in (known, shown.encode("utf-8", "surrogatepass")))
    return hmac.compare_digest(*digests)
