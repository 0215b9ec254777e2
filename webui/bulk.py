"""Bulk work on selected objects: deleting, copying, moving and renaming, as jobs of `work.py`.

An object that cannot be worked on is noted, and the others go on.  What says that nothing can go on (the key
has ended, the bucket is gone, the store is away) ends the job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import warehouse
from warehouse.client.nurseries import bounded_nursery
from warehouse.conf.formatting import format_size
from warehouse.errors import (
    BadCredentials,
    ClusterFull,
    LinkDown,
    NoSuchBucket,
    NoSuchObject,
    NotAuthenticated,
    OutcomeUnknown,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    StoreError,
    TokenRevoked,
)
from warehouse.webui.names import visible
from warehouse.webui.rendering import plural
from warehouse.webui.selection import Chosen, Selection
from warehouse.webui.work import Work

T = TypeVar("T")
COPIES_AT_ONCE = 8
DELETIONS_MAX = 5  # of the same objects, when the answers are lost
COUNT_S = 3.0  # a job counts for so long what there is to do
ENDS_ALL = (
    BadCredentials,
    NotAuthenticated,
    OutcomeUnknown,
    PermissionDenied,
    TokenRevoked,
    LinkDown,
    NoSuchBucket,
    ClusterFull,
    QuotaExceeded,
)


async def delete(work: Work, bucket: warehouse.Bucket, selection: Selection) -> str:
    """Delete all of a selection, a thousand objects a request."""
    await _count(work, bucket, selection)
    async with aclosing(selection.objects(bucket)) as batches:
        async for batch in batches:
            gone = await _delete_all(bucket, batch)
            work.did(len(gone), sum(chosen.size for chosen in gone))
    return f"Deleted {_amount(work)}"


async def _delete_all(bucket: warehouse.Bucket, batch: list[Chosen]) -> list[Chosen]:
    """Delete these; return those that this work has deleted."""
    existed, is_sure = await _until_sure(lambda: bucket.delete_many([chosen.key for chosen in batch]))
    if not is_sure:  # they were listed a moment ago: what is gone now, a deletion without an answer has done
        return batch
    return [chosen for chosen, was_there in zip(batch, existed, strict=True) if was_there]


async def _until_sure(delete: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
    """Delete until an answer comes; return it, and whether it is that of the first deletion.

    The master may have died after it deleted and before it answered.  To delete once more does no harm.

    Raises:
        OutcomeUnknown: too many answers were lost.
    """
    for number in range(DELETIONS_MAX - 1):
        try:
            return await delete(), number == 0
        except OutcomeUnknown:
            continue
    return await delete(), False


@dataclass(frozen=True)
class Target:
    """Where copies go.

    Attributes:
        key_of: the key of the copy of an object.
        replaces: objects that have such a key already are replaced; otherwise they are left as they are.
        moves: the originals are deleted.
        did: the word for what was done.
        folder: the copies go below it, in the bucket of the originals; what is found there by looking is no
            original, or the work would find its own copies, and copy these again. "": they go elsewhere.
    """

    bucket: warehouse.Bucket
    key_of: Callable[[str], str]
    replaces: bool = False
    moves: bool = False
    did: str = "Copied"
    folder: str = ""

    def takes(self, chosen: Chosen) -> bool:
        return not self.folder or not chosen.key.startswith(self.folder)


async def copy(work: Work, bucket: warehouse.Bucket, selection: Selection, target: Target) -> str:
    """Copy, or move, all of a selection, some objects at a time."""
    await _count(work, bucket, selection)
    async with (
        bounded_nursery(COPIES_AT_ONCE) as tasks,
        aclosing(selection.objects(bucket)) as batches,
    ):
        async for batch in batches:
            for chosen in filter(target.takes, batch):
                await tasks.wait_room()
                tasks.start(partial(_copy_one, work, bucket, chosen, target))
    return f"{target.did} {_amount(work)}"


async def _copy_one(work: Work, bucket: warehouse.Bucket, chosen: Chosen, target: Target) -> None:
    try:
        to_key = target.key_of(chosen.key)
        if target.bucket.name == bucket.name and to_key == chosen.key:
            raise PreconditionFailed("it is there already")
        await _copy_and_delete(bucket, chosen.key, to_key, target)
    except ENDS_ALL:
        raise
    except StoreError as error:
        work.failed(visible(chosen.key), error)
    else:
        work.did(1, chosen.size)


async def _copy_and_delete(bucket: warehouse.Bucket, key: str, to_key: str, target: Target) -> None:
    before = await bucket.stat(key) if target.moves else None
    condition = None if target.replaces else "*"
    try:
        await bucket.copy(key, to_key, to_bucket=target.bucket.name, if_none_match=condition)
    except PreconditionFailed:
        raise PreconditionFailed("there is an object of that name already") from None
    if before is not None:
        try:
            await _until_sure(partial(bucket.delete, key, if_match=before.etag))
        except PreconditionFailed:
            if await _is_there(bucket, key):  # otherwise a deletion without an answer has done it
                raise PreconditionFailed("it was stored anew meanwhile, and stays besides its copy") from None


async def _is_there(bucket: warehouse.Bucket, key: str) -> bool:
    try:
        await bucket.stat(key)
    except NoSuchObject:
        return False
    return True


async def _count(work: Work, bucket: warehouse.Bucket, selection: Selection) -> None:
    total = await selection.sum(bucket, COUNT_S)
    if total.is_complete:
        work.total_count, work.total_bytes = total.object_count, total.byte_count


def _amount(work: Work) -> str:
    return f"{plural(work.done_count, 'object')}, {format_size(work.done_bytes)}"
