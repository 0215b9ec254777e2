"""Access tokens: short-lived proofs that the bearer has logged in with an API key.

An access token is a JWT, signed by EdDSA; its bearer acts with the rights that an API key has at the moment.
The master that signed it checks it, once for each control connection.  Data tokens (`auth/data_tokens.py`)
differ in algorithm, key, `typ` and audience: neither kind passes as the other.

Claims that this release does not know are refused, not ignored: they may narrow the right.

Sources: RFC 7519 (JWT), RFC 8725 (its best current practice: fixed algorithms, `typ`, `aud`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Literal

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from warehouse.errors import SecretMissing, TokenExpired, TokenInvalid, TokenMissing

TOKEN_SIZE_MAX = 16 * 1024

_ALGORITHM = "EdDSA"
_TYPE = "warehouse-access+jwt"
_ISSUER = "warehouse-master"
_AUDIENCE = "warehouse-control"


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose rights the bearer of an access token has.

    Tokens of the first release also say what the key allowed when they were bought; that counts no more.
    """

    key_id: str = msgspec.field(name="sub")  # of the API key
    epoch: int  # the key's epoch when the token was bought; what takes rights away makes older tokens void
    expires_at_s: int = msgspec.field(name="exp")  # unix time
    # Bought with a signature of S3: it opens no buckets of other accounts.
    is_s3: bool | msgspec.UnsetType = msgspec.field(name="s3", default=msgspec.UNSET)
    permissions: int | msgspec.UnsetType = msgspec.field(name="perms", default=msgspec.UNSET)
    buckets: dict[str, Literal["r", "w", "rw"]] | msgspec.UnsetType | None = msgspec.UNSET


class AccessSigner:
    """Signs and checks the access tokens of one cluster.

    Args:
        private_key: Ed25519 in PEM; signs, and verifies its own tokens.
        earlier_keys: public halves (32 bytes) of keys that no longer sign, and until when (Unix time, in
            seconds) their tokens stay valid, so that a rotation logs nobody out.
    """

    def __init__(self, private_key: bytes, *, earlier_keys: Mapping[bytes, float] | None = None) -> None:
        self._private_key = _load_private_key(private_key)
        self.public = self._private_key.public_key().public_bytes_raw()  # 32 bytes
        self._public_keys: dict[str, tuple[Ed25519PublicKey, float]] = {}
        for raw, until_s in {**(earlier_keys or {}), self.public: math.inf}.items():
            public_key = Ed25519PublicKey.from_public_bytes(raw)
            self._public_keys[_key_id_of(public_key)] = public_key, until_s
        self.key_id = _key_id_of(self._private_key.public_key())

    def sign(self, claims: AccessClaims) -> str:
        payload = {**msgspec.to_builtins(claims), "iss": _ISSUER, "aud": _AUDIENCE}
        headers = {"kid": self.key_id, "typ": _TYPE}
        return jwt.encode(payload, self._private_key, algorithm=_ALGORITHM, headers=headers)

    def verify(self, token: str, *, now_s: float) -> AccessClaims:
        """Return the claims; they expire with the overlap of their key at the latest.

        The caller checks whether the API key still exists, and at which epoch.

        Raises:
            TokenMissing, TokenInvalid, TokenExpired: as for data tokens.
        """
        if not token:
            raise TokenMissing("an access token is needed: log in with an API key")
        if len(token) > TOKEN_SIZE_MAX:
            raise TokenInvalid(f"a token has at most {TOKEN_SIZE_MAX} bytes, this one {len(token)}")
        try:
            header = jwt.get_unverified_header(token)
            public_key, until_s = self._public_keys.get(str(header.get("kid")), (None, 0.0))
            if public_key is None:
                raise TokenInvalid("the access token names no current signing key")
            if header != {"alg": _ALGORITHM, "kid": header["kid"], "typ": _TYPE}:
                raise TokenInvalid("this is no access token: its header has another type, algorithm or more")
            payload = jwt.decode(
                token,
                public_key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                # Require an expiry here, and check it below: the caller passes the time.
                options={"require": ["exp", "aud", "iss", "sub"], "verify_exp": False},
            )
            claims = _access_claims_of(payload)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError) as error:
            raise TokenInvalid(f"the access token is not valid: {error}") from error
        expires_at_s = min(claims.expires_at_s, until_s)
        if now_s >= expires_at_s:
            raise TokenExpired(f"the access token expired {now_s - expires_at_s:.0f} s ago")
        return msgspec.structs.replace(claims, expires_at_s=int(expires_at_s))


def _access_claims_of(payload: dict[str, object]) -> AccessClaims:
    ours = {name: value for name, value in payload.items() if name not in ("iss", "aud")}
    return msgspec.convert(ours, AccessClaims)


def _load_private_key(pem: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise SecretMissing(f"the key for access tokens is not a PEM private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SecretMissing("the key for access tokens must be an Ed25519 private key")
    return key


def _key_id_of(public_key: Ed25519PublicKey) -> str:
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:16]
