"""Key wishes: from what a request says about an API key to a row of the catalog, and back.  Pure.

Everything that a request says is checked here, with bounds.  `require_within` decides whether somebody may
have their wish: a key never has more than whoever made it, changed it or read its secret.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Protocol

import msgspec
from msgspec import UNSET

from warehouse.auth.limits import KeyLimits as Limits
from warehouse.auth.rights import (
    ABOUT_BUCKETS,
    ABOUT_OBJECTS,
    EVERYTHING,
    NAME_PREFIX_MAX,
    PRESETS,
    Grant,
    Permission,
    Rights,
    check_grants,
    names_of,
    parse_permissions,
)
from warehouse.auth.rights_text import describe
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.records import BucketRow
from warehouse.errors import (
    BadApiKey,
    BadRequest,
    ExpiryPassed,
    GrantContradicts,
    GrantExceeds,
    GrantNamesNothing,
    NoSuchPreset,
)
from warehouse.transport.messages import EditKey, KeyGrant, KeyInfo, KeyLimits, KeyWish

NAME_LENGTH_MAX = 128
DESCRIPTION_LENGTH_MAX = 1024
TIME_MAX_MS = 253_402_300_799_000  # the end of the year 9999
SIGN_S_MAX = 7 * 24 * 3600  # no URL lives longer, whoever signs it
LIMIT_MAX = (1 << 53) - 1  # what every reader of JSON can hold
DEFAULT_PRESET = "reader"
DISTINCT_MIN = 6  # different characters in a secret that is imported
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,127}", re.ASCII)
_SECRET = re.compile(r"[!-~]{16,256}", re.ASCII)
_NAME_START = re.compile(r"(?:[a-z0-9][a-z0-9._-]*)?", re.ASCII)


class FindBucket(Protocol):
    """The bucket of that name, if there is one and the asker may know of it; else None."""

    def __call__(self, name: str) -> BucketRow | None: ...


NameOf = Callable[[int], str | None]


# --- new keys, and changes ------------------------------------------------------------------------


def new_key(wish: KeyWish, key_id: str, *, account_id: str, find: FindBucket, now_ms: int) -> ApiKeyRow:
    """The row of a new key, without a secret.

    Raises:
        BadRequest, NoSuchPreset, GrantNamesNothing, GrantContradicts, ExpiryPassed.
    """
    permissions, grants = _rights_of(wish, find)
    return ApiKeyRow(
        id=key_id,
        account_id=account_id,
        name=_name(wish.name),
        description=_description(wish.description),
        permissions=int(permissions),
        grants=grants,
        created_ms=now_ms,
        expires_ms=_expiry(wish.expires_ms, now_ms),
        sign_s_max=_sign_s_max(wish.sign_s_max),
        limits=_limits(wish.limits),
    )


def changed_key(
    row: ApiKeyRow, edit: EditKey, *, account_id: str | None, find: FindBucket, now_ms: int
) -> ApiKeyRow:
    """The row after a change.

    Args:
        account_id: None: it stays.
    Raises:
        BadRequest, NoSuchPreset, GrantNamesNothing, GrantContradicts, ExpiryPassed.
    """
    changes: dict[str, object] = {}
    if account_id is not None:
        changes["account_id"] = account_id
    if edit.name is not UNSET:
        changes["name"] = _name(edit.name)
    if edit.description is not UNSET:
        changes["description"] = _description(edit.description)
    if edit.expires_ms is not UNSET:
        changes["expires_ms"] = _expiry(edit.expires_ms, now_ms)
    if edit.sign_s_max is not UNSET:
        changes["sign_s_max"] = _sign_s_max(edit.sign_s_max)
    if edit.limits is not UNSET:
        changes["limits"] = _limits(edit.limits)
    if edit.is_enabled is not UNSET:
        changes["is_enabled"] = edit.is_enabled
    changes |= _changed_rights(row, edit, find)
    return msgspec.structs.replace(row, **changes)


def _changed_rights(row: ApiKeyRow, edit: EditKey, find: FindBucket) -> dict[str, object]:
    permissions = _named(
        "" if edit.preset is UNSET else edit.preset,
        None if edit.permissions is UNSET else edit.permissions,
    )
    if permissions is None and edit.grants is UNSET:
        return {}
    after = Permission(row.permissions) if permissions is None else permissions
    grants = row.grants
    if edit.grants is not UNSET:
        grants = None if edit.grants is None else _grants(edit.grants, after, find)
    return {"permissions": int(after), "grants": grants}


def _rights_of(wish: KeyWish, find: FindBucket) -> tuple[Permission, tuple[Grant, ...] | None]:
    permissions = _named(wish.preset, wish.permissions)
    if wish.grants is None:
        return PRESETS[DEFAULT_PRESET] if permissions is None else permissions, None
    if permissions is None:
        if not all(grant.permissions for grant in wish.grants):
            raise BadRequest("a grant that names no permissions needs a preset, or permissions of the key")
        permissions = Permission(0)
        for grant in wish.grants:
            permissions |= _granted(grant, permissions)
    return permissions, _grants(wish.grants, permissions, find)


def _named(preset: str, permissions: Sequence[str] | None) -> Permission | None:
    """What a preset or names of permissions say; None: there is neither."""
    if preset and permissions is not None:
        raise BadRequest("give a preset, or permissions, and not both")
    if preset and preset not in PRESETS:
        raise NoSuchPreset(f"there is no preset {preset[:64]!r}; there are {', '.join(PRESETS)}")
    if preset:
        return PRESETS[preset]
    return None if permissions is None else _parsed(permissions)


def _parsed(names: Sequence[str]) -> Permission:
    return parse_permissions(",".join(names)) if names else Permission(0)


# --- grants ---------------------------------------------------------------------------------------


def _grants(wishes: Sequence[KeyGrant], permissions: Permission, find: FindBucket) -> tuple[Grant, ...]:
    grants = tuple(_grant(wish, permissions, find) for wish in wishes)
    check_grants(grants)
    seen = set()
    for wish, grant in zip(wishes, grants, strict=True):
        beyond = Permission(grant.permissions & ~int(permissions))
        if beyond:
            raise GrantContradicts(
                f"the grant on {_place(wish)} gives {names_of(beyond)}, which the key does not have:"
                f" its permissions are {names_of(permissions)}"
            )
        if grant.key_prefix and grant.permissions & Permission.MANAGE_BUCKETS:
            raise GrantContradicts(
                f"the grant on {_place(wish)} is for a part of a bucket: a bucket is managed as a whole"
            )
        if (place := (grant.bucket_id, grant.bucket_prefix, grant.key_prefix)) in seen:
            raise GrantContradicts(f"two grants are for {_place(wish)}: make one of them")
        seen.add(place)
    return grants


def _grant(wish: KeyGrant, permissions: Permission, find: FindBucket) -> Grant:
    flags = int(_granted(wish, permissions))
    if not flags:
        raise GrantContradicts(
            f"the grant on {_place(wish)} gives nothing: the key has no permission for objects"
        )
    start, star, rest = wish.bucket.partition("*")
    if rest:
        raise BadRequest(f"a * stands at the end of a bucket's name, not as in {wish.bucket[:100]!r}")
    if not star:
        bucket = find(wish.bucket)
        if bucket is None:
            raise GrantNamesNothing(f"there is no bucket {wish.bucket[:100]!r} to grant something on")
        return Grant(flags, bucket.id, None, wish.prefix)
    if len(start) > NAME_PREFIX_MAX or not _NAME_START.fullmatch(start):
        raise GrantNamesNothing(f"the name of no bucket can begin with {start[:100]!r}")
    return Grant(flags, None, start, wish.prefix)


def _granted(wish: KeyGrant, permissions: Permission) -> Permission:
    """What a grant gives; without names, what the key may do with objects."""
    if not wish.permissions:
        return permissions & ABOUT_OBJECTS
    if [name.strip().lower() for name in wish.permissions] == ["all"]:
        return ABOUT_OBJECTS
    flags = _parsed(wish.permissions)
    if flags & ~ABOUT_BUCKETS:
        raise BadRequest(
            f"a grant gives some of {names_of(ABOUT_BUCKETS)}; {names_of(flags & ~ABOUT_BUCKETS)} is about"
            " the store, not about a bucket"
        )
    return flags


def _place(wish: KeyGrant) -> str:
    return f"{wish.bucket[:100]}/{wish.prefix[:100]}*" if wish.prefix else wish.bucket[:100]


# --- single fields --------------------------------------------------------------------------------


def _name(name: str) -> str:
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable() or name != name.strip():
        raise BadRequest(
            f"the name of a key has 1 to {NAME_LENGTH_MAX} printable characters, and no space at either end,"
            f" not {name[:200]!r}"
        )
    return name


def _description(text: str) -> str:
    if len(text) > DESCRIPTION_LENGTH_MAX or not text.replace("\n", "").isprintable():
        raise BadRequest(f"a description has at most {DESCRIPTION_LENGTH_MAX} printable characters")
    return text


def _expiry(expires_ms: int | None, now_ms: int) -> int | None:
    if expires_ms is None:
        return None
    if expires_ms <= now_ms:
        raise ExpiryPassed("the key would have expired already: name a time to come")
    if expires_ms > TIME_MAX_MS:
        raise BadRequest("a key expires before the year 10000, or never")
    return expires_ms


def _sign_s_max(seconds: int | None) -> int | None:
    if seconds is not None and not 1 <= seconds <= SIGN_S_MAX:
        raise BadRequest(f"what a key signs lives for 1 to {SIGN_S_MAX} seconds, not {seconds}")
    return seconds


def _limits(limits: KeyLimits) -> Limits:
    for name, value in msgspec.structs.asdict(limits).items():
        if value is not None and not (math.isfinite(value) and 0 < value <= LIMIT_MAX):
            raise BadRequest(f"the limit {name} is more than 0, not {value}; without a limit, leave it out")
    return Limits(**msgspec.structs.asdict(limits))


def check_imported(key_id: str, secret: str) -> None:
    """
    Raises:
        BadApiKey: no API key can have this id, or this secret, or the secret is easily guessed; the message
            does not show the secret.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise BadApiKey(
            "the id of a key has 3 to 128 letters, digits, '.', '_' and '-', and begins with a letter or"
            f" digit, not {key_id[:200]!r}"
        )
    if not _SECRET.fullmatch(secret):
        raise BadApiKey(
            f"a secret has 16 to 256 printable ASCII characters without spaces, this one {len(secret)}"
            " characters"
        )
    if (why := _weakness(key_id, secret)) is not None:
        raise BadApiKey(
            f"this secret could be guessed: {why}. Import one that a random generator made, or let"
            " `warehouse keys create` make one"
        )


def _weakness(key_id: str, secret: str) -> str | None:
    """Why somebody might guess the secret after few tries; None: not so easily.

    It is no measure of strength: who imports a secret answers for it.
    """
    if len(set(secret)) < DISTINCT_MIN:
        return f"it has fewer than {DISTINCT_MIN} different characters"
    # A text in itself, shifted: so long is what it repeats.
    period = next(start for start in range(1, len(secret) + 1) if secret[start:] == secret[:-start])
    if 2 * period <= len(secret):
        return "it repeats one part of itself"
    steps = Counter(ord(after) - ord(before) for before, after in pairwise(secret))
    if any(2 * steps[step] > len(secret) for step in (1, -1)):
        return "it counts, as 0123456789 does"
    if len(key_id) >= 8 and key_id.casefold() in secret.casefold():
        return "it has the id of the key in it"
    return None


# --- who may ------------------------------------------------------------------------------------------


def require_within(giver: ApiKeyRow, row: ApiKeyRow, name_of: NameOf) -> None:
    """Nobody gives what they do not have, or touches a key that has it.

    Args:
        row: a key as it is, or as it would be.
        name_of: the name of the bucket of an id.
    Raises:
        GrantExceeds: the key has more than the giver: rights, time, lives of URLs, or limits.
    """
    if not giver.rights.covers(row.rights, name_of):
        beyond = Permission(row.permissions & ~giver.permissions)
        what = _beyond_text(beyond) or "rights in buckets that yours does not have"
        raise GrantExceeds(f"the key {row.name!r} goes beyond yours: {what}")
    theirs, ours = msgspec.structs.asdict(row.limits), msgspec.structs.asdict(giver.limits)
    for what, wanted, most in (
        ("it lives longer", row.expires_ms, giver.expires_ms),
        ("what it signs lives longer", row.sign_s_max, giver.sign_s_max),
        *((f"its limit {name} is higher", theirs[name], ours[name]) for name in ours),
    ):
        if most is not None and (wanted is None or wanted > most):
            raise GrantExceeds(f"the key {row.name!r} goes beyond yours: {what}")


def _beyond_text(beyond: Permission) -> str:
    if not beyond:
        return ""
    unknown = " and what this release does not know" if int(beyond) & ~int(EVERYTHING) else ""
    return f"{names_of(beyond)}{unknown}"


# --- rows for messages ------------------------------------------------------------------------------


def key_info(
    row: ApiKeyRow, *, account: str, name_of: NameOf, last_used_ms: int | None, now_ms: int
) -> KeyInfo:
    """What is shown of a key.

    Args:
        name_of: the name of the bucket of an id; None: it has gone, or the asker may not know of it.
    """
    shown, hidden_count = _shown_grants(row.grants, name_of)
    until_ms = row.previous_until_ms
    return KeyInfo(
        key_id=row.id,
        name=row.name,
        description=row.description,
        account=account,
        account_id=row.account_id,
        permissions=_names(row.permissions),
        grants=shown,
        abilities=describe(Rights(Permission(row.permissions), row.grants), name_of),
        is_enabled=row.is_enabled,
        is_sealed=row.sealed is not None,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        last_used_ms=last_used_ms,
        previous_until_ms=until_ms if until_ms is not None and until_ms > now_ms else None,
        sign_s_max=row.sign_s_max,
        limits=KeyLimits(**msgspec.structs.asdict(row.limits)),
        hidden_grant_count=hidden_count,
    )


def _shown_grants(grants: Collection[Grant] | None, name_of: NameOf) -> tuple[list[KeyGrant] | None, int]:
    if grants is None:
        return None, 0
    shown = []
    for grant in grants:
        bucket = f"{grant.bucket_prefix}*" if grant.bucket_id is None else name_of(grant.bucket_id)
        if bucket is not None:
            shown.append(
                KeyGrant(bucket=bucket, prefix=grant.key_prefix, permissions=_names(grant.permissions))
            )
    return shown, len(grants) - len(shown)


def _names(number: int) -> list[str]:
    return [str(flag.name).lower() for flag in Permission if flag & number]
