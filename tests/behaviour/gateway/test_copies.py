"""Copies over S3 while others replace the source: a condition is about the version that is copied."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from warehouse.errors import ObjectReplaced
from warehouse.gateway.objects import READ_TRIES, Objects
from warehouse.s3.failures import Failure
from warehouse.s3.target import Target
from warehouse.transport.messages import ObjectInfo, ObjectWritten

OLD, NEW = "1-1-00000000", "2-2-00000000"


class Replaced:
    """A bucket whose object somebody replaces whenever it has been looked at, so many times."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.copied: list[str] = []

    def _etag(self) -> str:
        return OLD if self._left else NEW

    async def stat(self, key: str) -> ObjectInfo:
        found = ObjectInfo(key=key, size=3, etag=self._etag(), created_ms=0)
        self._left = max(self._left - 1, 0)
        return found

    async def copy(self, *_names: str, source_etag: str, **_options: Any) -> ObjectWritten:
        if source_etag != self._etag() or self._left:
            raise ObjectReplaced("it was replaced")
        self.copied.append(source_etag)
        return ObjectWritten(size=3, etag=source_etag, created_ms=0)


def asked(bucket: Replaced, headers: dict[bytes, bytes]) -> Any:
    store = SimpleNamespace(bucket=lambda _name: bucket)
    headers = {b"x-amz-copy-source": b"photos/a", **headers}
    return SimpleNamespace(store=store, bucket=bucket, target=Target("photos", "b"), headers=headers)


async def test_a_source_that_was_replaced_is_looked_at_again() -> None:
    bucket = Replaced(1)
    answer = await Objects().copy(asked(bucket, {}))
    assert answer.status == 200
    assert bucket.copied == [NEW]


async def test_a_condition_that_held_for_an_older_version_is_no_leave_to_copy_another() -> None:
    bucket = Replaced(1)
    with pytest.raises(Failure) as refused:
        await Objects().copy(asked(bucket, {b"x-amz-copy-source-if-match": OLD.encode()}))
    assert refused.value.code == "PreconditionFailed"
    assert not bucket.copied


async def test_a_source_that_is_replaced_all_the_time_is_given_up() -> None:
    bucket = Replaced(READ_TRIES + 1)
    with pytest.raises(ObjectReplaced):
        await Objects().copy(asked(bucket, {}))
    assert not bucket.copied
