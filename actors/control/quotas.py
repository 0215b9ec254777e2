"""Quotas: requests that are refused early, because their bucket has no room for what they are to bring.

The transaction that makes an object visible decides (`catalog/quotas.py`).  Here bytes are kept from being
sent in vain: a request is refused only if what it asks for would be refused now, whatever it is.

A refusal is an answer about what is in the bucket.  So a key that may not know the size of an object gets
none that depends on it before it has replaced the object (`knows_size`), and figures only if it may count the
bucket (`told_to`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from warehouse.actors.control.sight import knows, may_count, shown_quota_refusal
from warehouse.auth.rights import Rights
from warehouse.catalog.interface import Catalog
from warehouse.catalog.quotas import quota_of
from warehouse.catalog.records import BucketRow
from warehouse.errors import QuotaExceeded


def knows_size(rights: Rights, bucket: BucketRow, key: str) -> bool:
    """May these rights know how large the object of this key is?"""
    return may_count(rights, bucket) or knows(rights, bucket, key)


@contextmanager
def told_to(rights: Rights, bucket: BucketRow) -> Iterator[None]:
    """Within this, a refusal by the quota of a bucket says what a key of these rights may know."""
    try:
        yield
    except QuotaExceeded as error:
        raise shown_quota_refusal(error, bucket, rights) from None


def require_room_for(
    catalog: Catalog, bucket: BucketRow, key: str, byte_count: int, *, rights: Rights
) -> None:
    """For one object, which may take the place of another.

    Args:
        byte_count: that it has at least.
        rights: of who asks.
    Raises:
        QuotaExceeded: the bucket has no room for it now.
    """
    if quota_of(bucket) is None:
        return
    bucket, current = catalog.bucket_and_object(bucket.name, key)
    quota = quota_of(bucket)
    if quota is None:
        return
    held = bucket.object_count, bucket.byte_count
    if not knows_size(rights, bucket, key):
        why = quota.early_refusal_unseen(*held, is_new=current is None, size=byte_count)
    else:
        why = quota.refusal(*held, *((1, byte_count) if current is None else (0, byte_count - current.size)))
    if why is not None:
        raise shown_quota_refusal(QuotaExceeded(why), bucket, rights)


def require_room_for_any(bucket: BucketRow, *, rights: Rights) -> None:
    """For puts whose keys are not known yet: each may take the place of an object, with fewer bytes.

    Args:
        rights: of who asks.
    Raises:
        QuotaExceeded: the bucket takes no object, and has none.
    """
    quota = quota_of(bucket)
    if quota is not None and bucket.object_count == 0:
        why = quota.refusal(0, bucket.byte_count, 1, 0)
        if why is not None:
            raise shown_quota_refusal(QuotaExceeded(why), bucket, rights)
