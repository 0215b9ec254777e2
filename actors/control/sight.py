"""Sight: what a key is shown of buckets and keys that it did not ask for by name.

lists of buckets    the buckets that the key sees; their sums only where it may list the whole bucket
quotas              their figures, in refusals too, only where the key may count the bucket
events, damage      the names of buckets that it sees, and of keys that it may list or read; the same
                    events and the same damage for everybody, so that numbers tell nothing
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice

import msgspec

from warehouse.actors.control.events import Entry
from warehouse.auth.rights import BucketLike, BucketName, Permission, Rights
from warehouse.catalog.interface import Catalog
from warehouse.catalog.records import BucketRow
from warehouse.errors import NoSuchBucket, QuotaExceeded
from warehouse.transport.messages import BucketInfo, Event, NeedleDamage

# Fields of events.
OF_KEYS = frozenset({"key_id", "account_id"})  # for those who manage keys
OF_QUOTAS = frozenset({"quota_objects", "quota_bytes"})  # for those who know how much is in the bucket


# --- buckets --------------------------------------------------------------------------------------


def seen_buckets(catalog: Catalog, rights: Rights, *, after: str, limit: int | None) -> list[BucketRow]:
    """The buckets that a key sees, by name: up to `limit` whose names are greater than `after`.

    It costs nothing that there are others.
    """
    seen = rights.seen()
    if seen is None:
        return catalog.buckets(after=after, limit=limit)
    ids, prefixes = seen
    ways: list[Iterable[BucketRow]] = [
        catalog.buckets(after=after, limit=limit, prefix=prefix, owner_id=rights.account_id)
        for prefix in prefixes
    ]
    ways.append(sorted((row for row in _by_id(catalog, ids) if row.name > after), key=_name))
    found = {row.name: row for row in merge(*ways, key=_name)}
    return list(islice(found.values(), limit))


def _name(row: BucketRow) -> str:
    return row.name


def _by_id(catalog: Catalog, ids: Iterable[int]) -> Iterable[BucketRow]:
    for bucket_id in ids:
        try:
            yield catalog.bucket_by_id(bucket_id)
        except NoSuchBucket:  # it was deleted, and the grant with it, a moment ago
            continue


def may_count(rights: Rights, bucket: BucketLike) -> bool:
    """May these rights know how much is in the bucket, and how much may be?"""
    # Whoever sets quotas has to know what they limit.
    return rights.prefixes(Permission.LIST, bucket) is None or rights.allows(
        Permission.MANAGE_BUCKETS, bucket
    )


def bucket_info(row: BucketRow, rights: Rights) -> BucketInfo:
    is_counted = may_count(rights, row)
    return BucketInfo(
        name=row.name,
        created_ms=row.created_ms,
        object_count=row.object_count if is_counted else 0,
        byte_count=row.byte_count if is_counted else 0,
        is_counted=is_counted,
        quota_objects=row.quota_objects if is_counted else None,
        quota_bytes=row.quota_bytes if is_counted else None,
        owner_id=row.owner_id,
        region=row.region,
    )


def shown_quota_refusal(error: QuotaExceeded, bucket: BucketLike, rights: Rights) -> QuotaExceeded:
    """The refusal of a put, without figures that are none of this key's business.

    Two of them with an overwrite in between would tell how large an object was that the key may not see.
    """
    if may_count(rights, bucket):
        return error
    return QuotaExceeded(
        f"bucket {bucket.name!r} has no room for this within its quota; what is used and what is allowed is"
        " told to keys that may list the whole bucket"
    )


# --- events and damage ----------------------------------------------------------------------------


def shown_event(entry: Entry, rights: Rights) -> Event:
    """An event without the names that are none of this key's business."""
    event = entry.event
    hidden = set() if Permission.MANAGE_KEYS & rights.permissions else OF_KEYS & event.fields.keys()
    name = event.fields.get("bucket")
    if isinstance(name, str):
        hidden |= _hidden_names(rights, entry.bucket or BucketName(name), event.fields)
    if not hidden:
        return event
    fields = {name: value for name, value in event.fields.items() if name not in hidden}
    return msgspec.structs.replace(event, fields=fields)


def _hidden_names(rights: Rights, bucket: BucketLike, fields: Mapping[str, object]) -> set[str]:
    if not rights.sees(bucket):
        return {"bucket", "key", *OF_QUOTAS}
    hidden = set() if may_count(rights, bucket) else {*OF_QUOTAS}
    return hidden if knows(rights, bucket, fields.get("key")) else {"key", *hidden}


def knows(rights: Rights, bucket: BucketLike, key: object) -> bool:
    """May these rights know that there is an object of this key?"""
    return isinstance(key, str) and any(
        rights.allows(flag, bucket, key) for flag in (Permission.LIST, Permission.READ)
    )


def shown_damages(catalog: Catalog, damages: Sequence[NeedleDamage], rights: Rights) -> list[NeedleDamage]:
    """Damage without the names that are none of this key's business."""
    if _sees_all_names(rights):
        return list(damages)
    buckets: dict[str, BucketLike] = {}
    shown = []
    for damage in damages:
        name = damage.bucket
        if name is not None:
            if name not in buckets:
                buckets[name] = bucket_named(catalog, name)
            hidden = _hidden_names(rights, buckets[name], {"key": damage.key}) - OF_QUOTAS
            damage = msgspec.structs.replace(damage, **dict.fromkeys(hidden))
        shown.append(damage)
    return shown


def _sees_all_names(rights: Rights) -> bool:
    return rights.is_everywhere and bool(rights.permissions & (Permission.LIST | Permission.READ))


def bucket_named(catalog: Catalog, name: str) -> BucketLike:
    """The bucket of that name; one that no grant names by its id, if there is none."""
    try:
        return catalog.bucket(name)
    except NoSuchBucket:
        return BucketName(name)
