"""Rights of API keys in the console: in words, and whether one key may do all that another may.  Pure.

The sentences are those of the master (`auth/rights_text.py`).  Buckets have no ids here, so names stand for
them: each name is given a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from warehouse import KeyGrant, KeyInfo
from warehouse.auth.rights import (
    ABOUT_BUCKETS,
    ABOUT_OBJECTS,
    EVERYTHING,
    PRESETS,
    Grant,
    Permission,
    Rights,
    names_of,
)
from warehouse.auth.rights_text import describe

FLAGS = tuple(str(flag.name).lower() for flag in Permission)
OBJECT_FLAGS = tuple(name for name in FLAGS if Permission[name.upper()] & ABOUT_OBJECTS)
GRANT_FLAGS = tuple(name for name in FLAGS if Permission[name.upper()] & ABOUT_BUCKETS)
STORE_FLAGS = tuple(name for name in FLAGS if name not in GRANT_FLAGS)
PRESET_FLAGS = {
    preset: tuple(name for name in FLAGS if Permission[name.upper()] & flags)
    for preset, flags in PRESETS.items()
}
WORDS = {
    "read": "Read objects",
    "write": "Store and replace objects",
    "delete": "Delete objects",
    "list": "List the objects of a bucket",
    "sign": "Have URLs signed, for what it may read or write",
    "manage_buckets": "Create and delete buckets, set quotas",
    "see_cluster": "See disks, volumes and figures of the store",
    "see_events": "Follow the events of the store",
    "manage_cluster": "Manage disks, nodes, compaction and verification",
    "manage_keys": "Manage API keys and accounts",
}
assert set(WORDS) == set(FLAGS)
# Refusals as the master and the client library say them: which permissions, and where.
_REFUSAL = re.compile(
    r"this key (?:lacks the permission|lacks every one of|has no) (?P<flags>[a-z_]+(?:, [a-z_]+)*)"
    r"(?: right on bucket '(?P<bucket>[^']+)'(?: for (?P<key>.+))?)?",
    re.DOTALL,
)


class Names:
    """Numbers for names of buckets."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def id_of(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name) + 1

    def name_of(self, bucket_id: int) -> str:
        return self._names[bucket_id - 1]


def flags_of(names: Iterable[str]) -> Permission:
    """The flags of these names; a name that this release does not know stands for nothing."""
    total = Permission(0)
    for name in names:
        total |= Permission.__members__.get(name.upper(), Permission(0))
    return total


def rights_of(permissions: Iterable[str], grants: Iterable[KeyGrant] | None, names: Names) -> Rights:
    if grants is None:
        return Rights(flags_of(permissions), None)
    return Rights(flags_of(permissions), tuple(_grant(grant, names) for grant in grants))


def _grant(grant: KeyGrant, names: Names) -> Grant:
    flags = int(flags_of(grant.permissions))
    if grant.bucket.endswith("*"):
        return Grant(flags, None, grant.bucket[:-1], grant.prefix)
    return Grant(flags, names.id_of(grant.bucket), None, grant.prefix)


def sentences(permissions: Iterable[str], grants: Iterable[KeyGrant] | None) -> list[str]:
    """What a key with these could do and what not: "can read photos/2026/*", "cannot manage buckets"."""
    names = Names()
    return describe(rights_of(permissions, grants, names), names.name_of)


def refusal_in_words(message: str) -> str:
    """What a key may not, without names of permissions: "This key may not manage API keys and accounts".

    A refusal for another reason, and one with a permission that this release does not know, stays as it is.
    """
    found = _REFUSAL.fullmatch(message)
    flags = found["flags"].split(", ") if found is not None else []
    if found is None or not set(flags) <= set(FLAGS):
        return message
    acts = " or ".join(WORDS[flag][0].lower() + WORDS[flag][1:] for flag in flags)
    places = [f"bucket {found['bucket']}"] * bool(found["bucket"]) + [found["key"]] * bool(found["key"])
    where = f" ({', '.join(places)})" if places else ""
    return f"This key may not {acts}{where}. Whoever manages the keys of this store can allow it."


def preset_of(permissions: Iterable[str]) -> str:
    """The preset that is the same; "": none."""
    flags = flags_of(permissions)
    return next((preset for preset, its in PRESETS.items() if its == flags), "")


def is_within(mine: KeyInfo, theirs: KeyInfo) -> bool:
    """May a key do all that the other one may, so that it can change it?  The master decides."""
    names = Names()
    ours, rights = (rights_of(key.permissions, key.grants, names) for key in (mine, theirs))
    if flags_of(theirs.permissions) & ~flags_of(mine.permissions) or len(theirs.permissions) != len(
        [name for name in theirs.permissions if name in FLAGS]
    ):
        return False
    if theirs.hidden_grant_count and mine.grants is not None:
        return False
    return ours.covers(rights, names.name_of) and _is_bounded(mine, theirs)


def _is_bounded(mine: KeyInfo, theirs: KeyInfo) -> bool:
    pairs: list[tuple[float | None, float | None]] = [
        (mine.expires_ms, theirs.expires_ms),
        (mine.sign_s_max, theirs.sign_s_max),
        (mine.limits.requests_per_s, theirs.limits.requests_per_s),
        (mine.limits.bytes_per_s, theirs.limits.bytes_per_s),
        (mine.limits.requests_at_once, theirs.limits.requests_at_once),
        (mine.limits.open_uploads, theirs.limits.open_uploads),
        (mine.limits.lease_bytes, theirs.limits.lease_bytes),
    ]
    return all(most is None or (one is not None and one <= most) for most, one in pairs)


def in_words(permissions: Iterable[str]) -> str:
    """Permissions for a table: "everything", "reader", or their names."""
    flags = flags_of(permissions)
    if flags == EVERYTHING:
        return "everything"
    return preset_of(permissions) or names_of(flags).replace("_", " ").replace("none", "nothing")
