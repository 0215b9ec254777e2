"""Quotas: how much a bucket may hold, and whether it may hold more.  Pure.

A quota is hard: the transaction that makes a version visible decides, with all that was decided before.
It counts objects and their bytes as users see them, not the disk space of their needles.
"""

from __future__ import annotations

from typing import NamedTuple

from warehouse.catalog.records import BucketRow


class Quota(NamedTuple):
    """What a bucket holds, and what it may hold; None is any amount."""

    bucket: str
    object_count: int
    byte_count: int
    object_max: int | None
    byte_max: int | None

    def refusal(self, object_count: int, byte_count: int, more_objects: int, more_bytes: int) -> str | None:
        """Why the bucket may not grow by `more_objects` and `more_bytes`; None: it may.

        What does not make it grow is never refused, also when it holds more than its quota.

        Args:
            object_count, byte_count: what it holds now.
        """
        object_max, byte_max = self.object_max, self.byte_max
        if object_max is not None and more_objects > 0 and object_count + more_objects > object_max:
            return (
                f"bucket {self.bucket!r} holds {object_count:,} of {object_max:,} objects: no more until some"
                " are deleted or the quota is raised"
            )
        if byte_max is not None and more_bytes > 0 and byte_count + more_bytes > byte_max:
            return (
                f"bucket {self.bucket!r} holds {byte_count:,} of {byte_max:,} bytes, and this would be"
                f" {more_bytes:,} more: delete objects or have the quota raised"
            )
        return None

    def early_refusal_unseen(
        self, object_count: int, byte_count: int, *, is_new: bool, size: int
    ) -> str | None:
        """Why an object of at least `size` bytes cannot have room, for somebody who may not know the sizes of
        others; None: its commit decides.

        The size of the object that it would replace has no part in it: by asking with one size after the
        other, that size could be found out, and nothing would be replaced.

        Args:
            object_count, byte_count: what the bucket holds now.
            is_new: no object is to be replaced.
        """
        if is_new and (why := self.refusal(object_count, byte_count, 1, min(size, 1))) is not None:
            return why
        byte_max = self.byte_max
        is_too_large = byte_max is not None and byte_count <= byte_max < size
        return self.refusal(object_count, 0, 0, size) if is_too_large else None


def quota_of(bucket: BucketRow) -> Quota | None:
    """The quota of a bucket; None: it has none."""
    if bucket.quota_objects is None and bucket.quota_bytes is None:
        return None
    return Quota(
        bucket.name, bucket.object_count, bucket.byte_count, bucket.quota_objects, bucket.quota_bytes
    )
