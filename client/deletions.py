"""Deletions: many objects that somebody wants gone, also when an answer is lost."""

from __future__ import annotations

from collections.abc import Sequence

from client.library import Bucket
from errors import OutcomeUnknown

DELETE_BATCH = 1000
ATTEMPTS = 5


async def delete_batch(bucket: Bucket, keys: Sequence[str]) -> Sequence[bool]:
    """Delete up to `DELETE_BATCH` objects; tells of each whether it was there.  A lost answer: once more."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await bucket.delete_many(keys)
        except OutcomeUnknown:
            continue
    return await bucket.delete_many(keys)
