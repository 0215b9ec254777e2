"""Abilities: what the signed-in key may do, so that a page shows no button that would be refused.

The master decides about every call whatever this says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from warehouse import KeyGrant, KeyInfo

OBJECT_RIGHTS = ("list", "read", "write", "delete", "sign")
DATA = frozenset(OBJECT_RIGHTS)


@dataclass(frozen=True)
class Abilities:
    """What one key may do."""

    key: KeyInfo

    def has(self, permission: str) -> bool:
        """A permission by name, wherever it applies: "see_cluster", "manage_keys", "read", ..."""
        return permission in self.key.permissions

    @property
    def see_cluster(self) -> bool:
        return self.has("see_cluster")

    @property
    def manage_cluster(self) -> bool:
        return self.has("manage_cluster")

    @property
    def manage_buckets(self) -> bool:
        return self.has("manage_buckets")

    @property
    def manage_keys(self) -> bool:
        return self.has("manage_keys")

    @property
    def see_events(self) -> bool:
        return self.has("see_events")

    def _grants(self, bucket: str) -> Iterable[KeyGrant]:
        for grant in self.key.grants or ():
            name = grant.bucket
            if name == bucket or (name.endswith("*") and bucket.startswith(name[:-1])):
                yield grant

    def may(self, permission: str, bucket: str, key: str = "") -> bool:
        """May it do this with every key of a bucket that begins with `key`?"""
        if permission not in self.key.permissions:
            return False
        if self.key.grants is None:
            return True
        return any(
            key.startswith(grant.prefix) and (not grant.permissions or permission in grant.permissions)
            for grant in self._grants(bucket)
        )

    def may_somewhere(self, permission: str, bucket: str, prefix: str = "") -> bool:
        """May it do this with some key of a bucket that begins with `prefix`?"""
        if permission not in self.key.permissions:
            return False
        if self.key.grants is None:
            return True
        return any(
            (prefix.startswith(grant.prefix) or grant.prefix.startswith(prefix))
            and (not grant.permissions or permission in grant.permissions)
            for grant in self._grants(bucket)
        )

    def prefixes(self, permission: str, bucket: str) -> list[str]:
        """The beginnings of keys with which it may do this; [""]: the whole bucket."""
        if permission not in self.key.permissions:
            return []
        if self.key.grants is None:
            return [""]
        return sorted(
            {
                grant.prefix
                for grant in self._grants(bucket)
                if not grant.permissions or permission in grant.permissions
            }
        )


@dataclass(frozen=True)
class ObjectRights:
    """What the key may do with an object, or with some of the objects below a prefix."""

    list: bool
    read: bool
    write: bool
    delete: bool
    sign: bool

    @classmethod
    def of(cls, can: Abilities, bucket: str, key: str) -> ObjectRights:
        return cls(*(can.may(right, bucket, key) for right in OBJECT_RIGHTS))

    @classmethod
    def somewhere(cls, can: Abilities, bucket: str, prefix: str) -> ObjectRights:
        return cls(*(can.may_somewhere(right, bucket, prefix) for right in OBJECT_RIGHTS))
