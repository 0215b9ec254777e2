"""Rights: what a key, and every token bought with it, allows.

A request is allowed if the key has the permission flag and, where the key is bound to named buckets, this
bucket is among them with the needed direction ("r", "w" or "rw").  Everything else is refused; a flag that
this release does not know grants nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from warehouse.errors import BadRequest, PermissionDenied


class Permission(enum.IntFlag):
    """The bits are stored and sent: a bit is never given a new meaning."""

    READ = 1  # get, stat, locate, presign for reading
    WRITE = 2  # put, overwrite, presign for writing
    DELETE = 4  # delete objects
    LIST = 8  # list the objects of a bucket
    MANAGE_BUCKETS = 16  # create and delete buckets
    SEE_CLUSTER = 32  # status, metrics, events
    MANAGE_CLUSTER = 64  # volumes, compaction, verification, drains
    MANAGE_KEYS = 128  # create, edit, disable and delete API keys


EVERYTHING = Permission(sum(Permission))
READ_ONLY = Permission.READ | Permission.LIST
READ_WRITE = READ_ONLY | Permission.WRITE | Permission.DELETE

# What a permission does to a bucket; those that are not here touch no bucket.
_DIRECTION = {
    Permission.READ: "r",
    Permission.LIST: "r",
    Permission.WRITE: "w",
    Permission.DELETE: "w",
    Permission.MANAGE_BUCKETS: "w",
}
_DIRECTIONS = ("r", "w", "rw")


@dataclass(frozen=True)
class Rights:
    """Permission flags, and the buckets they hold for: None is every bucket, {} is none."""

    permissions: Permission
    buckets: Mapping[str, str] | None = None

    def require(self, permission: Permission, bucket: str | None = None) -> None:
        """Return if all flags of `permission` are granted, for `bucket` where one is named.

        Call it before looking the bucket up: then the answer tells nothing of buckets that a key may not see.

        Raises:
            PermissionDenied: a flag is missing, or the key is bound to other buckets.
        """
        missing = _beyond(permission, self.permissions)
        if missing:
            raise PermissionDenied(f"this key lacks the permission {names_of(missing)}")
        if bucket is not None and self.buckets is not None:
            granted = self.buckets.get(bucket, "")
            for flag in permission:
                if _DIRECTION.get(flag, "") not in granted:
                    raise PermissionDenied(f"this key has no {names_of(flag)} right on bucket {bucket!r}")

    def allows(self, permission: Permission, bucket: str | None = None) -> bool:
        try:
            self.require(permission, bucket)
        except PermissionDenied:
            return False
        return True

    def sees(self, bucket: str) -> bool:
        """Does a list of buckets made for this key name `bucket`?"""
        return self.buckets is None or bool(self.buckets.get(bucket))

    def covers(self, other: Rights) -> bool:
        """Does `other` allow nothing that these rights do not?  Nobody may grant more than they have."""
        if _beyond(other.permissions, self.permissions):
            return False
        if self.buckets is None:
            return True
        if other.buckets is None:
            return False
        return all(set(granted) <= set(self.buckets.get(name, "")) for name, granted in other.buckets.items())


def _beyond(wanted: Permission, granted: Permission) -> Permission:
    # As plain numbers: `~` of a flag drops the bits that this release has no name for.
    return Permission(int(wanted) & ~int(granted))


def names_of(permission: Permission) -> str:
    """The flags as a person writes them: `read, write`."""
    known = [str(flag.name).lower() for flag in Permission if flag & permission]
    return ", ".join(known) or "none"


def parse_permissions(text: str) -> Permission:
    """Read flags as a person writes them: names with commas between, `all`, or `none`.

    Raises:
        BadRequest: a name that is no permission; the message lists those that are.
    """
    if text.strip().lower() == "none":
        return Permission(0)
    total = Permission(0)
    for word in text.split(","):
        name = word.strip().upper().replace("-", "_")
        if name == "ALL":
            total |= EVERYTHING
        elif name in Permission.__members__:
            total |= Permission[name]
        else:
            raise BadRequest(
                f"{word.strip()!r} is no permission; there are {names_of(EVERYTHING)}, all and none"
            )
    return total


def check_bucket_rights(buckets: Mapping[str, str] | None) -> None:
    """Raises BadRequest unless every bucket is given "r", "w" or "rw"."""
    for name, granted in (buckets or {}).items():
        if granted not in _DIRECTIONS:
            raise BadRequest(f'rights on bucket {name!r} are "r", "w" or "rw", not {granted!r}')
