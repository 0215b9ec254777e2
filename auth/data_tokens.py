"""Data tokens: short-lived proofs of the right to do one thing on one volume.

A data token is a JWT, signed by HS256 with a key that one disk and the master share.  Its bearer may do
what its claims say until it expires.  It is checked on every request of the data port.

The check uses no JWT library, because it sits on the hot path.  Everything that makes JWT headers
dangerous (choice of the algorithm, unknown `crit`, keys by URL) is gone when the whole header must equal,
byte for byte, the one that this module writes for a known key.  PyJWT accepts the same tokens, which a
test proves.  Access tokens (`auth/access_tokens.py`) differ in algorithm, key, `typ` and audience: neither
kind passes as the other.

Claims that this release does not know are refused, not ignored: they may narrow the right.

A token names the API key that it was signed for, and the key's epoch.  When a key loses a right, the master
says from which epoch on its tokens count (`DataTokenVerifier.revoke`); older ones are refused from then on.
Tokens of release 0.1.0 name no key, and stay good until they expire.

A token to write carries a **proof**: a mark over all its claims, made with a key that the disks do not have.
A disk can sign tokens for itself, and cannot make a proof.  So when it tells the master of a needle, it shows
the claims with the proof, and the master believes only what it has promised (`actors/control/promises.py`).

Sources: RFC 7519 (JWT), RFC 8725 (its best current practice: fixed algorithms, `typ`, `aud`).
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import field

from warehouse.errors import ClockSkew, TokenExpired, TokenInvalid, TokenMissing, TokenRevoked

TOKEN_SIZE_MAX = 16 * 1024  # a presigned GET of an object of many chunks carries a token for each
VERIFIED_MAX = (
    4096  # verified tokens remembered: one for each lease or read grant, which clients use many times
)
REVOKED_MAX = 100_000  # keys whose older tokens are refused, in memory
VERIFIED_SIZE_MAX = 1024  # longer ones are used once; this and VERIFIED_MAX bound the memory to 4 MiB

DataPart = tuple[int, int, int, str, str]  # volume, needle, size, url, data token for that needle


class DataClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the bearer of a data token may do.  Names on the wire are short: every request carries them."""

    operation: Literal["put", "get"] = field(name="op")
    audience: str = field(name="aud")  # disk id; or the master, in a token that it signs for itself
    volume_id: int = field(name="vol")
    expires_at_s: int = field(name="exp")  # unix time
    bucket_id: int = field(name="bid")
    bucket: str = field(name="bkt")  # name
    first_needle_id: int = field(name="lo", default=0)
    last_needle_id: int = field(name="hi", default=0)  # included; 0 to 0 in a get: any needle of the bucket
    key: str | None = None  # the only key that may be written
    body_size_max: int | None = field(name="max", default=None)
    body_size: int | None = field(name="len", default=None)  # exactly
    room: int | None = None  # bytes of data in all, over the whole lease
    lease_id: int | None = field(name="lid", default=None)
    upload_id: int | None = field(name="up", default=None)  # with the next three it places the chunk
    chunk_index: int = field(name="idx", default=0)
    chunk_count: int | None = field(name="cnt", default=1)
    object_size: int | None = field(name="osz", default=None)
    content_type: str | None = field(name="ct", default=None)
    metadata: dict[str, str] | None = field(name="meta", default=None)  # user metadata
    parts: list[DataPart] | None = None  # presigned GET of an object of some chunks: these chunks
    role: int = field(name="rol", default=0)  # of the needle, see `storage/format/needle.py`
    etag: str | None = None
    # Presigned GET of an object of any number of chunks: the token to ask the master for their list.
    chunk_list_token: str | None = field(name="via", default=None)
    created_ms: int | None = field(name="cms", default=None)  # of that object, since 1970
    key_id: str = field(name="sub", default="")  # of the API key that it was signed for; "": release 0.1.0
    epoch: int = field(name="ep", default=0)  # of that key at that moment
    token_id: str | None = field(name="jti", default=None)
    prefixes: tuple[str, ...] | None = field(name="pfx", default=None)  # of keys; None: the whole bucket
    # Whose chunks a read grant opens, as `named_upload`; and up to when needles need no such name.
    upload_ids: tuple[int, ...] | None = field(name="ups", default=None)
    named_after_ms: int = field(name="nam", default=0)
    # The rest is said by signed URLs alone.
    body_size_min: int = field(name="min", default=0)
    if_none_match: Literal["*"] | None = field(name="inm", default=None)  # a put that overwrites nothing
    disposition: Literal["inline", "attachment"] | None = field(name="dis", default=None)
    file_name: str | None = field(name="fn", default=None)  # under which a browser saves it
    cache_control: str | None = field(name="cc", default=None)
    # A get that works once: the incarnation of the volume actor that counts its uses.
    once: int | None = None
    # In a token: the proof, last of all.  In claims that were checked: the text that shows it to the master.
    proof: str | None = field(name="prf", default=None)


_encode_claims = msgspec.json.Encoder().encode
_decode_data_claims = msgspec.json.Decoder(DataClaims).decode


def sign_data_token(claims: DataClaims, *, key_id: str, key: bytes, proof_key: bytes | None = None) -> str:
    """
    Args:
        key: the one of the disk.
        proof_key: one that disks do not have; None: no proof.
    """
    payload = _encode_claims(claims)
    if proof_key is not None:
        payload = payload[:-1] + _PROOF_NAME + _proof_of(payload, proof_key) + b'"}'
    signed = _header_segment(key_id) + b"." + _base64url(payload)
    return (signed + b"." + _signature_segment(signed, key)).decode("ascii")


_PROOF_NAME = b',"prf":"'
_PROOF_SIZE = 22  # 16 bytes in base64
_PROOF_TAIL = len(_PROOF_NAME) + _PROOF_SIZE + len(b'"}')


def _proof_of(payload: bytes, key: bytes) -> bytes:
    return _base64url(hmac.digest(key, payload, "sha256")[:16])


def check_proof(text: str, keys: Iterable[bytes]) -> DataClaims:
    """The claims that the master has promised once, whoever shows them now; expired or not.

    Args:
        text: `DataClaims.proof` of a token that was checked.
        keys: with which the proof may have been made.
    Raises:
        TokenInvalid: there is no proof, or it was not made with one of these keys.
    """
    try:
        payload = urlsafe_b64decode(text.encode("ascii") + b"==")
        claims = _decode_data_claims(payload)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:  # also binascii.Error
        raise TokenInvalid(f"the proof cannot be read: {error}") from error
    promised, tail = payload[:-_PROOF_TAIL] + b"}", payload[-_PROOF_TAIL:]
    shown = tail[len(_PROOF_NAME) : -2]
    is_formed = tail.startswith(_PROOF_NAME) and tail.endswith(b'"}')
    if not is_formed or not any(hmac.compare_digest(shown, _proof_of(promised, key)) for key in keys):
        raise TokenInvalid("the master has not promised this")
    return claims


def named_upload(upload_id: int) -> int:
    """The name of an upload in a token, which may have to name hundreds.  Ids are random, in every bit."""
    return upload_id & 0xFFFFFFFF


class DataTokenVerifier:
    """Checks the data tokens of one disk.

    The verifier remembers verified tokens, so that the hundreds of requests of one lease cost a dictionary
    lookup each.  It checks the expiry every time.
    """

    def __init__(self, audience: str, keys: Mapping[str, bytes]) -> None:
        self._audience = audience
        self.ahead_s = 0.0  # how far the clock here is ahead of the master's, which signs
        self._keys: dict[bytes, bytes] = {}  # header segment -> key
        self._verified: OrderedDict[bytes, DataClaims] = OrderedDict()
        self._revoked: dict[str, int] = {}  # API key id -> the first epoch whose tokens count
        self.replace_keys(keys)

    def replace_keys(self, keys: Mapping[str, bytes], revoked: Mapping[str, int] | None = None) -> None:
        """From now on only these keys count: tokens of all other keys are void at once.

        Args:
            revoked: as for `revoke`, in place of all that was revoked before; None: that stays.
        """
        self._keys = {_header_segment(key_id): key for key_id, key in keys.items()}
        self._verified.clear()
        if revoked is not None:
            self._revoked.clear()
            self._keep_revoked(revoked.items())

    def revoke(self, epochs: Mapping[str, int]) -> None:
        """Refuse from now on the tokens of these API keys that are older than the epoch beside each.

        What was remembered of such tokens is forgotten, so `verify` does not look here for those that it
        remembers.
        """
        self._keep_revoked(epochs.items())
        for token, claims in list(self._verified.items()):
            if claims.key_id in epochs and claims.epoch < epochs[claims.key_id]:
                del self._verified[token]

    def _keep_revoked(self, epochs: Iterable[tuple[str, int]]) -> None:
        for key_id, epoch in epochs:
            # Taken out first, so that the key that was revoked last comes last.
            self._revoked[key_id] = max(epoch, self._revoked.pop(key_id, 0))
        while len(self._revoked) > REVOKED_MAX:
            del self._revoked[next(iter(self._revoked))]

    def verify(self, token: bytes, *, now_s: float) -> DataClaims:
        """Return what the token allows.

        Raises:
            TokenMissing: an empty token.
            TokenInvalid: not signed by a current key of this disk, or signed for another disk.
            TokenExpired: it was good once; get a new one.
            TokenRevoked: it was good once; its API key has lost rights since, or is gone.
            ClockSkew: it is still good by the master's clock; the clock here is ahead.
        """
        claims = self._verified.get(token)
        if claims is None:
            claims = self._check(token)
            self._remember(token, claims, now_s)
        else:
            self._verified.move_to_end(token)
        if now_s >= claims.expires_at_s:
            if now_s - self.ahead_s < claims.expires_at_s:
                raise ClockSkew(
                    f"the token expired {now_s - claims.expires_at_s:.0f} s ago by the clock of this disk's"
                    f" machine, which is {self.ahead_s:,.0f} s ahead of the master's; by that it is good"
                )
            raise TokenExpired(f"the token expired {now_s - claims.expires_at_s:.0f} s ago by the clock here")
        return claims

    def _check(self, token: bytes) -> DataClaims:
        if not token:
            raise TokenMissing("a token is needed: `Authorization: Bearer ...` or `?token=...`")
        if len(token) > TOKEN_SIZE_MAX:
            raise TokenInvalid(f"a token has at most {TOKEN_SIZE_MAX} bytes, this one {len(token)}")
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        key = self._keys.get(header)
        if key is None:
            raise TokenInvalid("the token's header names no current key of this disk")
        # Compare what base64 writes, not what it reads: then nobody can change a single bit of the token.
        if not hmac.compare_digest(signature, _signature_segment(signed, key)):
            raise TokenInvalid("the token's signature does not match")
        try:
            claims = _decode_data_claims(urlsafe_b64decode(payload + b"=="))
        except (binascii.Error, msgspec.DecodeError, RecursionError) as error:
            raise TokenInvalid(f"the token's claims cannot be read: {error}") from error
        if claims.audience != self._audience:
            raise TokenInvalid("the token was signed for another disk")
        if claims.proof is not None:
            claims = msgspec.structs.replace(claims, proof=payload.decode("ascii"))
        if claims.key_id and claims.epoch < self._revoked.get(claims.key_id, 0):
            raise TokenRevoked("the API key of this token was changed, disabled or deleted after it was made")
        return claims

    def _remember(self, token: bytes, claims: DataClaims, now_s: float) -> None:
        if len(token) > VERIFIED_SIZE_MAX:
            return
        self._verified[bytes(token)] = claims
        # The token that was unused for longest comes first; as a rule it has expired.
        oldest = next(iter(self._verified))
        while len(self._verified) > 1 and (
            len(self._verified) > VERIFIED_MAX or self._verified[oldest].expires_at_s <= now_s
        ):
            del self._verified[oldest]
            oldest = next(iter(self._verified))


@lru_cache(maxsize=64)
def _header_segment(key_id: str) -> bytes:
    header = {"alg": "HS256", "kid": key_id, "typ": "JWT"}
    return _base64url(json.dumps(header, separators=(",", ":")).encode())


def _signature_segment(signed: bytes, key: bytes) -> bytes:
    return _base64url(hmac.digest(key, signed, "sha256"))


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
