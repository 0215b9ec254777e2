"""Grant texts: how a person writes what an API key may do in a bucket.  Pure.

photos:read,list            one bucket
photos/2026/*:read,write    the objects of it whose keys begin so
team-*:all                  all buckets whose names begin so, also those to come
*:read                      every bucket
photos                      without permissions: all that the key has for objects
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from warehouse.errors import BadRequest
from warehouse.transport.messages import KeyGrant

_PERMISSIONS = re.compile(r"[A-Za-z_-]+(\s*,\s*[A-Za-z_-]+)*", re.ASCII)


def parse_grant(text: str) -> KeyGrant:
    """
    Raises:
        BadRequest: the text has another form.
    """
    place, permissions = _split(text.strip().removeprefix("wh://"))
    bucket, slash, keys = place.partition("/")
    if not bucket:
        raise BadRequest(f"a grant names a bucket, such as photos:read,list, not {text[:200]!r}")
    if slash and not keys.endswith("*"):
        raise BadRequest(
            "a grant is for a bucket, or for keys that begin in a certain way, such as"
            f" {bucket[:100]}/2026/*; {text[:200]!r} has no * at the end of the place"
        )
    return KeyGrant(bucket=bucket, prefix=keys[:-1], permissions=permissions)


def _split(text: str) -> tuple[str, list[str]]:
    """The place, and the names of the permissions; a colon may also be part of a key."""
    place, colon, names = text.rpartition(":")
    if not colon or names.endswith("*"):
        return text, []
    if not _PERMISSIONS.fullmatch(names.strip()):
        raise BadRequest(f"permissions stand after the last colon, such as read,list, not {names[:200]!r}")
    return place, [name.strip().lower() for name in names.split(",")]


def format_grant(grant: KeyGrant) -> str:
    place = f"{grant.bucket}/{grant.prefix}*" if grant.prefix else grant.bucket
    return f"{place}:{','.join(grant.permissions)}" if grant.permissions else place


def grants_of(grants: Iterable[KeyGrant | str] | None) -> list[KeyGrant] | None:
    if grants is None:
        return None
    return [parse_grant(one) if isinstance(one, str) else one for one in grants]
