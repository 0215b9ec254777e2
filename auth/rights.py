"""Rights: what a key, and every token bought with it, allows.

A key has permission flags, and grants that say for which buckets they hold.  A request is allowed if the key
has the flag and, where the flag is about a bucket, one of the grants covers flag, bucket and object key.
Everything else is refused; a flag that this release does not know grants nothing.

    grants None     every bucket there is and will be
    grants ()       no bucket

Rights of an account (`of_account`) are what S3 makes of a key: they end at the buckets of that account, but
for those that a grant names by their ids.  The beginning of a name names nobody's bucket in particular.

A grant names a bucket by its id, because a bucket that is made anew under an old name is not the one that was
meant; or it names all buckets whose names begin in a certain way, and means those to come, too.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import msgspec

from warehouse.errors import BadRequest, PermissionDenied


class Permission(enum.IntFlag):
    """The bits are stored and sent: a bit is never given a new meaning."""

    READ = 1  # get, stat, locate
    WRITE = 2  # put, overwrite
    DELETE = 4  # delete objects
    LIST = 8  # list the objects of a bucket
    MANAGE_BUCKETS = 16  # create and delete buckets, set their quotas
    SEE_CLUSTER = 32  # status, metrics
    MANAGE_CLUSTER = 64  # volumes, compaction, verification, nodes
    MANAGE_KEYS = 128  # create, edit, disable and delete API keys and accounts
    SIGN = 256  # have URLs signed, for what READ or WRITE allow
    SEE_EVENTS = 512  # the feed of events


EVERYTHING = Permission(sum(Permission))
READ_ONLY = Permission.READ | Permission.LIST
READ_WRITE = READ_ONLY | Permission.WRITE | Permission.DELETE

# Those that are about objects in a bucket, and hold for a part of its keys where a grant says so.
ABOUT_OBJECTS = READ_WRITE | Permission.SIGN
# Those that grants can restrict; all others are about the store.
ABOUT_BUCKETS = ABOUT_OBJECTS | Permission.MANAGE_BUCKETS
_ABOUT_BUCKETS = int(ABOUT_BUCKETS)

# What people ask for by name, from the greatest to the least.
PRESETS: Mapping[str, Permission] = {
    "admin": EVERYTHING,
    "operator": Permission.SEE_CLUSTER | Permission.MANAGE_CLUSTER | Permission.SEE_EVENTS,  # no data
    "writer": READ_WRITE | Permission.SIGN,
    "read-only": READ_ONLY | Permission.SEE_CLUSTER | Permission.SEE_EVENTS,
    "reader": READ_ONLY,
    "upload-only": Permission.WRITE,
}

GRANTS_MAX = 256  # of one key
NAME_PREFIX_MAX = 63  # characters of the beginning of a bucket's name
KEY_PREFIX_MAX = 1024  # bytes of UTF-8, as an object's key
KEY_PREFIXES_MAX = 4096  # bytes of JSON, in one bucket: a token of 16 KiB also has 7 KiB of upload ids
BUCKET_ID_MAX = (1 << 48) - 1


class BucketLike(Protocol):
    """A bucket, as far as rights are concerned."""

    @property
    def id(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def owner_id(self) -> str: ...


@dataclass(frozen=True)
class BucketName:
    """A bucket that does not exist, or whose row nobody needs."""

    name: str
    id: int = 0  # of no bucket
    owner_id: str = ""  # of the account that it is, or would be, of


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What a key may do in one bucket, or in all buckets whose names begin alike.

    Attributes:
        permissions: flags of ABOUT_BUCKETS, as a number.
        bucket_id: of the bucket; None: `bucket_prefix` says which.
        bucket_prefix: how the names of the buckets begin; "" is every bucket.
        key_prefix: how the keys of the objects begin; "" is the whole bucket.
    """

    permissions: int
    bucket_id: int | None = None
    bucket_prefix: str | None = None
    key_prefix: str = ""

    def is_for(self, bucket: BucketLike) -> bool:
        if self.bucket_prefix is not None:
            return bucket.name.startswith(self.bucket_prefix)
        return self.bucket_id == bucket.id

    def _covers(self, other: Grant, name_of: Callable[[int], str | None]) -> bool:
        """Is every key of every bucket of `other` one of this grant's?"""
        if not other.key_prefix.startswith(self.key_prefix):
            return False
        if self.bucket_prefix is None:
            return other.bucket_id is not None and other.bucket_id == self.bucket_id
        name = other.bucket_prefix
        if name is None and other.bucket_id is not None:
            name = name_of(other.bucket_id)  # buckets are never renamed
        return name is not None and name.startswith(self.bucket_prefix)


def _unknown(bucket_id: int) -> str | None:
    return None


@dataclass(frozen=True)
class Rights:
    """Permission flags, and the buckets they hold for: None is every bucket, () is none.

    Attributes:
        account_id: only for buckets of this account, and those that grants name by id; None: of all accounts.
    """

    permissions: Permission
    grants: tuple[Grant, ...] | None = None
    account_id: str | None = None

    @classmethod
    def nothing(cls) -> Rights:
        return cls(Permission(0), ())

    def of_account(self, account_id: str) -> Rights:
        """What is left of these rights over S3, for a key of this account."""
        return replace(self, account_id=account_id)

    @property
    def is_everywhere(self) -> bool:
        """Do they hold for every bucket there is and will be?"""
        return self.grants is None and self.account_id is None

    def is_foreign(self, bucket: BucketLike) -> bool:
        """Does the bucket belong to an account that these rights are not for?"""
        return self.account_id is not None and bucket.owner_id != self.account_id

    def require(
        self, permission: Permission, bucket: BucketLike | None = None, key: str | None = None
    ) -> None:
        """Return if all flags of `permission` are granted, for `bucket` where one is given.

        Whether a key may know of a bucket at all, `sees` tells.

        Args:
            key: of an object, or the beginning of several; None: for flags about objects, any part of the
                bucket is enough.
        Raises:
            PermissionDenied: a flag is missing, or the grants are for other buckets or other keys.
        """
        missing = _beyond(permission, self.permissions)
        if missing:
            raise PermissionDenied(f"this key lacks the permission {names_of(Permission(missing))}")
        if bucket is None or self.is_everywhere:
            return
        for flag in permission & ABOUT_BUCKETS:
            if not self._has_grant(flag, bucket, key):
                where = "" if key is None or not self._has_grant(flag, bucket, None) else f" for {key!r}"
                raise PermissionDenied(
                    f"this key has no {names_of(flag)} right on bucket {bucket.name!r}{where}"
                )

    def _has_grant(self, flag: Permission, bucket: BucketLike, key: str | None) -> bool:
        if self.grants is None:
            return not self.is_foreign(bucket)
        for grant in self._grants_on(bucket):
            if grant.permissions & flag:
                if not grant.key_prefix:
                    return True
                # A part of a bucket is not enough to manage the bucket.
                if flag & ABOUT_OBJECTS and (key is None or key.startswith(grant.key_prefix)):
                    return True
        return False

    def _grants_on(self, bucket: BucketLike) -> Iterator[Grant]:
        """The grants that are for this bucket."""
        is_foreign = self.is_foreign(bucket)
        for grant in self.grants or ():
            if grant.is_for(bucket) and not (is_foreign and grant.bucket_id is None):
                yield grant

    def allows(
        self, permission: Permission, bucket: BucketLike | None = None, key: str | None = None
    ) -> bool:
        try:
            self.require(permission, bucket, key)
        except PermissionDenied:
            return False
        return True

    def prefixes(self, permission: Permission, bucket: BucketLike) -> tuple[str, ...] | None:
        """How keys begin for which one flag holds in this bucket; None: all keys; (): none."""
        if _beyond(permission, self.permissions):
            return ()
        if self.grants is None:
            return () if self.is_foreign(bucket) else None
        flag = int(permission)  # on flags, `&` takes four times as long
        found = {grant.key_prefix for grant in self._grants_on(bucket) if grant.permissions & flag}
        if "" in found:
            return None
        least: list[str] = []
        for one in sorted(found):  # what begins with another comes right after it, and says nothing more
            if not least or not one.startswith(least[-1]):
                least.append(one)
        return tuple(least)

    def require_all(self, permission: Permission, bucket: BucketLike, keys: Iterable[str]) -> None:
        """As `require` for one flag and each of the keys; a thousand of them cost little more than one.

        Raises:
            PermissionDenied: as `require`, for the first of the keys that is not granted.
        """
        self.require(permission, bucket)
        prefixes = self.prefixes(permission, bucket)
        if prefixes is None:
            return
        for key in keys:
            if not key.startswith(prefixes):
                self.require(permission, bucket, key)

    def seen(self) -> tuple[frozenset[int], frozenset[str]] | None:
        """The buckets that `sees` is true for: their ids, and how their names begin; None: every bucket.

        Those of the beginnings are of `account_id`, where there is one.
        """
        permissions = self.permissions & ABOUT_BUCKETS
        if not permissions:
            return frozenset(), frozenset()
        if self.grants is None:
            return None if self.account_id is None else (frozenset(), frozenset({""}))
        grants = [grant for grant in self.grants if grant.permissions & permissions]
        return (
            frozenset(grant.bucket_id for grant in grants if grant.bucket_id is not None),
            frozenset(grant.bucket_prefix for grant in grants if grant.bucket_prefix is not None),
        )

    def sees(self, bucket: BucketLike) -> bool:
        """Does this key know of the bucket?  To others it is as if there were no such bucket."""
        held = int.__and__(self.permissions, _ABOUT_BUCKETS)  # on flags, `&` takes four times as long
        if self.grants is None:
            return held != 0 and not self.is_foreign(bucket)
        return any(grant.permissions & held for grant in self._grants_on(bucket))

    def covers(self, other: Rights, name_of: Callable[[int], str | None] = _unknown) -> bool:
        """Does `other` allow nothing that these rights do not?  Nobody may grant more than they have.

        Args:
            name_of: the name of the bucket of an id; None: there is none.
        """
        if _beyond(other.permissions, self.permissions) or self.account_id not in (None, other.account_id):
            return False
        if self.grants is None:
            return not any(
                _beyond(Permission(one.permissions), self.permissions) for one in other.grants or ()
            )
        if other.grants is None:
            return not other.permissions & ABOUT_BUCKETS
        name_of = lru_cache(GRANTS_MAX)(name_of)  # each name is compared with every one of these grants
        return all(self._covers_grant(grant, name_of) for grant in other.grants)

    def _covers_grant(self, wanted: Grant, name_of: Callable[[int], str | None]) -> bool:
        if _beyond(Permission(wanted.permissions), self.permissions):
            return False
        left = int(wanted.permissions)
        for one in self.grants or ():
            if left & one.permissions and one._covers(wanted, name_of):
                left &= ~int(one.permissions)
        return not left


def _beyond(wanted: Permission, granted: Permission) -> int:
    # As plain numbers: `~` of a flag drops the bits that this release has no name for, and is slow.
    return int.__and__(wanted, int.__invert__(granted))


# --- texts ----------------------------------------------------------------------------------------


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


def check_grants(grants: Iterable[Grant] | None) -> None:
    """Check what came from outside: a request, a catalog file, a backup.

    Raises:
        BadRequest: a grant names no bucket or two, grants nothing, or is out of bounds.
    """
    grants = tuple(grants or ())
    if len(grants) > GRANTS_MAX:
        raise BadRequest(f"a key has at most {GRANTS_MAX} grants, not {len(grants)}")
    for grant in grants:
        _check_grant(grant)
    _check_that_tokens_hold(grants)


def _check_that_tokens_hold(grants: tuple[Grant, ...]) -> None:
    """Tokens for a bucket carry all beginnings of keys that are granted there."""
    of_bucket: Counter[int | None] = Counter()
    for grant in grants:
        of_bucket[grant.bucket_id] += len(msgspec.json.encode(grant.key_prefix))
    of_names = of_bucket.pop(None, 0)  # may be for any bucket
    if of_names + max(of_bucket.values(), default=0) > KEY_PREFIXES_MAX:
        raise BadRequest(
            f"the beginnings of keys that are granted in one bucket have at most {KEY_PREFIXES_MAX} bytes"
            " together, because every token carries them"
        )


def _check_grant(grant: Grant) -> None:
    if (grant.bucket_id is None) == (grant.bucket_prefix is None):
        raise BadRequest("a grant names a bucket, or how the names of buckets begin, and not both")
    if grant.bucket_id is not None and not 1 <= grant.bucket_id <= BUCKET_ID_MAX:
        raise BadRequest(f"a bucket's id is from 1 to {BUCKET_ID_MAX}, not {grant.bucket_id}")
    if len(grant.bucket_prefix or "") > NAME_PREFIX_MAX:
        raise BadRequest(f"the beginning of a bucket's name has at most {NAME_PREFIX_MAX} characters")
    if len(grant.key_prefix.encode("utf-8", "surrogatepass")) > KEY_PREFIX_MAX:
        raise BadRequest(f"the beginning of a key has at most {KEY_PREFIX_MAX} bytes")
    if grant.permissions <= 0 or grant.permissions & ~int(ABOUT_BUCKETS):
        raise BadRequest(
            f"a grant gives some of {names_of(ABOUT_BUCKETS)}; all other permissions are about the store,"
            " not about a bucket"
        )
