"""Key columns: how API keys and their grants are stored.  Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from warehouse.auth.keys import HashedSecret
from warehouse.auth.limits import NO_LIMITS, KeyLimits
from warehouse.auth.rights import Grant, Permission, check_grants
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.sqlite.columns import names_of

_encode = msgspec.msgpack.Encoder().encode
_decode_grants = msgspec.msgpack.Decoder(tuple[Grant, ...]).decode
_decode_limits = msgspec.msgpack.Decoder(KeyLimits).decode

API_KEY_COLUMNS = (
    "id, account_id, name, description, salt, hash, sealed, permissions, grants, is_enabled, epoch,"
    " created_ms, expires_ms, last_used_ms, previous_salt, previous_hash, previous_sealed,"
    " previous_until_ms, sign_s_max, limits"
)
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
    of = dict(zip(names_of(API_KEY_COLUMNS), columns, strict=True))
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
