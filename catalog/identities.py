"""Identities: accounts, API keys and their rights, as a catalog keeps them.

Columns are read in the order of the fields, so a field and its place in the column list below it change
together.
"""

from __future__ import annotations

from typing import Any

import msgspec

from warehouse.auth.keys import HashedSecret
from warehouse.auth.limits import NO_LIMITS, KeyLimits
from warehouse.auth.rights import Grant, Permission, Rights, check_grants
from warehouse.errors import BadRequest

_encode = msgspec.msgpack.Encoder().encode
_decode_grants = msgspec.msgpack.Decoder(tuple[Grant, ...]).decode
_decode_limits = msgspec.msgpack.Decoder(KeyLimits).decode

# API keys, and those whose revocation is remembered: a volume actor is told of all of them in one message.
KEYS_MAX = 20_000
ROOTS_MAX = 1_000  # root keys beyond that: whoever has filled a store with keys does not lock its owner out
MAIN_ACCOUNT = "main"  # the name of the account that every catalog begins with


class AccountRow(msgspec.Struct, frozen=True):
    """Whose keys and buckets belong together."""

    id: str  # 32 hexadecimal digits
    name: str
    email: str | None
    created_ms: int


ACCOUNT_COLUMNS = "id, name, email, created_ms"


class ApiKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key.

    Attributes:
        account_id: "" for the first account there is, when the row is written.
        hashed: of the secret, in a catalog of an earlier release; None where the secret is sealed.
        sealed: the secret, see `auth/sealing.py`; a key that has none can log in, and cannot sign for S3.
        permissions: a number of `auth.rights.Permission`.
        grants: None is every bucket, () is none.
        epoch: grows with every change that takes rights away; what was signed at an older one is void.
        previous_hashed, previous_sealed: of the secret before the last rotation.
        previous_until_ms: until when that one works, too.
        sign_s_max: how long, in seconds, what the key has signed may live; None: as long as the store allows.
    """

    id: str
    account_id: str = ""
    name: str = ""
    description: str = ""
    hashed: HashedSecret | None = None
    sealed: bytes | None = None
    permissions: int
    grants: tuple[Grant, ...] | None = None
    is_enabled: bool = True
    epoch: int = 1
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    previous_hashed: HashedSecret | None = None
    previous_sealed: bytes | None = None
    previous_until_ms: int | None = None
    sign_s_max: int | None = None
    limits: KeyLimits = NO_LIMITS

    @property
    def rights(self) -> Rights:
        return Rights(Permission(self.permissions), self.grants)

    def is_usable(self, now_ms: int) -> bool:
        """Is it enabled, and not expired?"""
        return self.is_enabled and (self.expires_ms is None or now_ms < self.expires_ms)

    def may_manage_keys(self, now_ms: int) -> bool:
        return self.is_usable(now_ms) and bool(self.permissions & Permission.MANAGE_KEYS)

    def is_free_manager(self, now_ms: int) -> bool:
        """May it manage keys, with nothing of its own that keeps it from some of them?

        A key touches none that has more than itself.  So a manager that ends, or has grants or limits, cannot
        take these away again, from itself or from others.
        """
        return self.may_manage_keys(now_ms) and (
            self.expires_ms is None
            and self.grants is None
            and self.sign_s_max is None
            and self.limits == NO_LIMITS
        )


API_KEY_COLUMNS = (
    "id, account_id, name, description, salt, hash, sealed, permissions, grants, is_enabled, epoch,"
    " created_ms, expires_ms, last_used_ms, previous_salt, previous_hash, previous_sealed,"
    " previous_until_ms, sign_s_max, limits"
)
API_KEY_MARKS = ", ".join("?" for _ in API_KEY_COLUMNS.split(","))
# The same for a file whose schema is older than step 4; `legacy_grants` makes grants of what it has.
API_KEY_COLUMNS_3 = (
    "id, '', name, '', salt, hash, NULL, permissions, legacy_grants(buckets, bucket_ids), is_enabled, epoch,"
    " created_ms, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"
)


def api_key_row(columns: tuple[Any, ...]) -> ApiKeyRow:
    """
    Raises:
        BadRequest, msgspec.MsgspecError: no honest master has written it.
    """
    names = [name.strip() for name in API_KEY_COLUMNS.split(",")]
    of = dict(zip(names, columns, strict=True))
    hashed = _hashed(of.pop("salt"), of.pop("hash"))
    previous = _hashed(of.pop("previous_salt"), of.pop("previous_hash"))
    grants = unpack_grants(of.pop("grants"))
    check_grants(grants)
    limits = of.pop("limits")
    return ApiKeyRow(
        hashed=hashed,
        previous_hashed=previous,
        grants=grants,
        limits=NO_LIMITS if limits is None else _decode_limits(limits),
        is_enabled=bool(of.pop("is_enabled")),
        **of,
    )


def api_key_columns(row: ApiKeyRow) -> tuple[Any, ...]:
    hashed, previous = row.hashed, row.previous_hashed
    return (
        row.id,
        row.account_id,
        row.name,
        row.description,
        b"" if hashed is None else hashed.salt,
        b"" if hashed is None else hashed.digest,
        row.sealed,
        row.permissions,
        pack_grants(row.grants),
        row.is_enabled,
        row.epoch,
        row.created_ms,
        row.expires_ms,
        row.last_used_ms,
        None if previous is None else previous.salt,
        None if previous is None else previous.digest,
        row.previous_sealed,
        row.previous_until_ms,
        row.sign_s_max,
        None if row.limits == NO_LIMITS else _encode(row.limits),
    )


def _hashed(salt: bytes | None, digest: bytes | None) -> HashedSecret | None:
    return HashedSecret(salt, digest) if salt and digest else None


def pack_grants(grants: tuple[Grant, ...] | None) -> bytes | None:
    return None if grants is None else _encode(grants)


def unpack_grants(packed: bytes | None) -> tuple[Grant, ...] | None:
    return None if packed is None else _decode_grants(packed)


def mark_of_bucket(bucket_id: int) -> bytes:
    """Bytes that packed grants have if one of them is on this bucket; others may have them, too."""
    return _encode((bucket_id, None))[1:]  # two neighbours in a `Grant`


# --- catalogs of earlier releases -----------------------------------------------------------------

# What a right of theirs, by bucket, allowed.
_DIRECTIONS = {
    "r": Permission.READ | Permission.LIST | Permission.SIGN,
    "w": Permission.WRITE | Permission.DELETE | Permission.MANAGE_BUCKETS | Permission.SIGN,
}


def legacy_grants(packed: bytes | None, bucket_ids: str | None) -> bytes | None:
    """The grants of a key whose rights an earlier release kept by the names of buckets.

    Args:
        packed: a map of names to "r", "w" or "rw", packed; None: every bucket.
        bucket_ids: "id:name" of all buckets, with commas between.  A right on any other bucket is void.
    """
    if packed is None:
        return None
    try:
        rights = msgspec.msgpack.decode(packed, type=dict[str, str])
    except msgspec.MsgspecError:
        rights = {}
    ids = {
        name: int(number)
        for number, _, name in (one.partition(":") for one in (bucket_ids or "").split(",") if one)
    }
    grants = []
    for name, directions in rights.items():
        permissions = 0
        for direction in directions:
            permissions |= int(_DIRECTIONS.get(direction, 0))
        if name in ids and permissions:
            grants.append(Grant(permissions, ids[name]))
    return pack_grants(tuple(grants))


def check_account_name(name: str) -> None:
    """
    Raises:
        BadRequest: a name has 1 to 128 characters that can be printed.
    """
    if not 1 <= len(name) <= 128 or not name.isprintable() or name != name.strip():
        raise BadRequest(
            "the name of an account has 1 to 128 printable characters, and no space at either end,"
            f" not {name[:200]!r}"
        )
