"""Quotas: requests that are refused early, because their bucket has no room for what they are to bring.

The transaction that makes an object visible decides (`catalog/quotas.py`).  Here bytes are kept from being
sent in vain: a request is refused only if what it asks for would be refused now, whatever it is.
"""

from __future__ import annotations

from warehouse.catalog.interface import Catalog
from warehouse.catalog.quotas import quota_of
from warehouse.catalog.records import BucketRow
from warehouse.errors import QuotaExceeded


def require_room_for(catalog: Catalog, bucket: BucketRow, key: str, byte_count: int) -> None:
    """For one object, which may take the place of another.

    Args:
        byte_count: that it has at least.
    Raises:
        QuotaExceeded: the bucket has no room for it now.
    """
    if quota_of(bucket) is None:
        return
    bucket, current = catalog.bucket_and_object(bucket.name, key)
    quota = quota_of(bucket)
    if quota is None:
        return
    more = (1, byte_count) if current is None else (0, byte_count - current.size)
    if (why := quota.refusal(bucket.object_count, bucket.byte_count, *more)) is not None:
        raise QuotaExceeded(why)


def require_room_for_any(bucket: BucketRow) -> None:
    """For puts whose keys are not known yet: each may take the place of an object, with fewer bytes.

    Raises:
        QuotaExceeded: the bucket takes no object, and has none.
    """
    quota = quota_of(bucket)
    if quota is not None and bucket.object_count == 0:
        why = quota.refusal(0, bucket.byte_count, 1, 0)
        if why is not None:
            raise QuotaExceeded(why)
