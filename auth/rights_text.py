"""Rights in words: what an API key can do and what it cannot, for people.  Pure.

can read and list photos/2026/*
can have URLs signed for photos/2026/*
cannot write or delete objects
cannot manage buckets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from warehouse.auth.rights import ABOUT_OBJECTS, EVERYTHING, Grant, Permission, Rights

EVERY_BUCKET = "every bucket"

# Flags about objects, as a sentence goes on with the place.
_OBJECTS = {
    Permission.READ: "read",
    Permission.LIST: "list",
    Permission.WRITE: "write",
    Permission.DELETE: "delete",
}
# Flags about the store: what the key can do, and what it cannot.
_STORE = {
    Permission.SEE_CLUSTER: ("see the state of the store", "see the state of the store"),
    Permission.SEE_EVENTS: ("follow the events of the store", "follow its events"),
    Permission.MANAGE_CLUSTER: ("manage disks, volumes and nodes", "manage the cluster"),
    Permission.MANAGE_KEYS: ("manage API keys and accounts", "manage API keys"),
}


def describe(rights: Rights, name_of: Callable[[int], str | None]) -> list[str]:
    """What these rights allow and what they do not, one sentence each.

    Args:
        name_of: the name of the bucket of an id; None: the bucket has gone, and its grants say nothing.
    """
    places = _places(rights, name_of)
    sentences: list[str] = []
    given = Permission(0)
    for place, flags in places:
        given |= flags
        sentences += _abilities(place, flags)
    sentences += [f"can {can}" for flag, (can, _) in _STORE.items() if flag & rights.permissions]
    if int(rights.permissions) & ~int(EVERYTHING):
        sentences.append("can do something that this release does not know")
    return sentences + _refusals(given | (rights.permissions & ~ABOUT_OBJECTS & ~Permission.MANAGE_BUCKETS))


def _places(rights: Rights, name_of: Callable[[int], str | None]) -> list[tuple[str, Permission]]:
    """Where which flags hold, each place once."""
    if rights.grants is None:
        return [(EVERY_BUCKET, rights.permissions)]
    found: dict[str, Permission] = {}
    for grant in rights.grants:
        place = _place(grant, name_of)
        flags = Permission(grant.permissions & int(rights.permissions) & int(EVERYTHING))
        if grant.key_prefix:
            flags &= ~Permission.MANAGE_BUCKETS
        if place is not None and flags:
            found[place] = found.get(place, Permission(0)) | flags
    return [*found.items()]


def _place(grant: Grant, name_of: Callable[[int], str | None]) -> str | None:
    keys = f"{grant.key_prefix}*" if grant.key_prefix else ""
    if grant.bucket_prefix is not None:
        buckets = f"buckets named {grant.bucket_prefix}*" if grant.bucket_prefix else EVERY_BUCKET
        return f"{keys} in {buckets}" if keys else buckets
    name = None if grant.bucket_id is None else name_of(grant.bucket_id)
    return None if name is None else f"{name}/{keys}" if keys else name


def _abilities(place: str, flags: Permission) -> list[str]:
    verbs = [verb for flag, verb in _OBJECTS.items() if flag & flags]
    sentences = [f"can {_joined(verbs, 'and')} {place}"] if verbs else []
    if flags & Permission.SIGN:
        sentences.append(f"can have URLs signed for {place}")
    if flags & Permission.MANAGE_BUCKETS:
        what = "buckets" if place == EVERY_BUCKET else place
        sentences.append(f"can create and delete {what}")
    return sentences


def _refusals(given: Permission) -> list[str]:
    verbs = [verb for flag, verb in _OBJECTS.items() if not flag & given]
    objects = [f"{_joined(verbs, 'or')} objects"] if verbs else []
    if not given & Permission.SIGN:
        objects.append("have URLs signed")
    store = [] if given & Permission.MANAGE_BUCKETS else ["manage buckets"]
    store += [cannot for flag, (_, cannot) in _STORE.items() if not flag & given]
    return [f"cannot {sentence}" for sentence in (*objects, *store)]


def _joined(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
