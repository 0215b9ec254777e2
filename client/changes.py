"""Changes: a program hears at once that objects of a bucket, or the buckets that it sees, have changed.

    async for change in store.bucket("photos").changes("2026/"):
        print(change.count, change.keys)

The iterators never end on their own.  They outlast lost connections and restarts of the master: what they
cannot know then, they say with `is_missed`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Generic, Self, TypeVar

import msgspec
import trio

from warehouse.client.control import Control, back_off_s
from warehouse.errors import DeadlineExceeded, LinkDown, OutcomeUnknown, Overloaded
from warehouse.transport.messages import BucketChanged, StoreChanged, WatchBucket, WatchStore

WAIT_S = 15.0
PACE_S = 0.25  # between two changes that are told: those in between are told together


class BucketChange(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of a bucket were stored, replaced or deleted.

    Attributes:
        count: keys that changed, each counted once.
        keys: up to 20 of them, the latest first.
        is_missed: there may have been more that nobody knows of: read again whatever you show.
    """

    count: int = 0
    keys: list[str] = []
    is_missed: bool = False


class StoreChange(msgspec.Struct, frozen=True, kw_only=True):
    """Buckets or API keys have changed, or what else was asked for.

    Attributes:
        subjects: "buckets": one that this key sees was created or deleted, or has other settings; "key": the
            API key of this connection; "keys": any API key or account (told to keys with manage_keys);
            "disks", "nodes", "jobs": see `Store.changes`.
        buckets: names of up to 20 of those buckets, the latest first.
        is_missed: as in `BucketChange`.
    """

    subjects: list[str] = []
    buckets: list[str] = []
    is_missed: bool = False


C = TypeVar("C", BucketChange, StoreChange)


class _Polls(ABC, Generic[C]):
    """Asks again and again; needs no closing."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._after = -1
        self._broken_count = 0
        self._told_at = float("-inf")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> C:
        while (change := await self._ask_once()) is None:
            pass
        self._told_at = trio.current_time()
        return change

    async def _ask_once(self) -> C | None:
        """The next change; None: nothing happened while the master waited, or it cannot be reached."""
        await trio.sleep_until(self._told_at + PACE_S)
        try:
            change = await self._ask(min(WAIT_S, self._control.timeout_s / 2))
        except OutcomeUnknown:  # the connection broke while the master waited
            await trio.sleep(back_off_s(self._broken_count))
            self._broken_count += 1
            return None
        except (LinkDown, DeadlineExceeded, Overloaded):  # after trying for the whole timeout
            return None
        self._broken_count = 0
        return change

    @abstractmethod
    async def _ask(self, wait_s: float) -> C | None: ...


class BucketChanges(_Polls[BucketChange]):
    """Made by `Bucket.changes`."""

    def __init__(self, control: Control, bucket: str, prefix: str) -> None:
        super().__init__(control)
        self._bucket, self._prefix = bucket, prefix

    async def _ask(self, wait_s: float) -> BucketChange | None:
        request = WatchBucket(bucket=self._bucket, prefix=self._prefix, after=self._after, wait_s=wait_s)
        answer = await self._control.ask(request, BucketChanged, is_repeatable=False)
        self._after = answer.next_after
        if not answer.count and not answer.is_missed:
            return None
        return BucketChange(count=answer.count, keys=answer.keys, is_missed=answer.is_missed)


class StoreChanges(_Polls[StoreChange]):
    """Made by `Store.changes`."""

    def __init__(self, control: Control, subjects: Collection[str]) -> None:
        super().__init__(control)
        self._subjects = [*subjects]

    async def _ask(self, wait_s: float) -> StoreChange | None:
        request = WatchStore(after=self._after, wait_s=wait_s, subjects=self._subjects)
        answer = await self._control.ask(request, StoreChanged, is_repeatable=False)
        self._after = answer.next_after
        if not answer.subjects and not answer.is_missed:
            return None
        return StoreChange(subjects=answer.subjects, buckets=answer.buckets, is_missed=answer.is_missed)
