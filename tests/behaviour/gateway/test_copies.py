"""Copies over S3 while others replace the source: a condition is about the version that is copied."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from warehouse.errors import ObjectReplaced
from warehouse.gateway.copies import TRIES, Copies
from warehouse.s3.failures import Failure
from warehouse.s3.target import Target
from warehouse.transport.messages import ObjectInfo, ObjectWritten

OLD, NEW = "1-1-00000000", "2-2-00000000"


class Version:
    """An open object; somebody replaces it while it is read, or nobody."""

    def __init__(self, etag: str, *, is_replaced: bool) -> None:
        self.info = ObjectInfo(key="a", size=3, etag=etag, created_ms=0)
        self._is_replaced = is_replaced

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"ab"
        if self._is_replaced:
            raise ObjectReplaced("it was replaced")
        yield b"c"


class Replaced:
    """A bucket whose object somebody replaces whenever it is read, so many times."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.stored: list[tuple[bytes, str | None]] = []  # what was put, and the ETag of its attributes

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Version]:
        left, self._left = self._left, max(self._left - 1, 0)
        yield Version(OLD if left else NEW, is_replaced=left > 0)

    async def put(self, key: str, data: bytes, *_: Any, attributes: Any, **_options: Any) -> ObjectWritten:
        self.stored.append((data, attributes().etag))
        return ObjectWritten(size=3, etag=attributes().etag, created_ms=0)


def asked(bucket: Replaced, headers: dict[bytes, bytes]) -> Any:
    store = SimpleNamespace(bucket=lambda _name: bucket)
    headers = {b"x-amz-copy-source": b"photos/a", **headers}
    return SimpleNamespace(
        store=store,
        bucket=bucket,
        target=Target("photos", "b"),
        headers=headers,
        asker=SimpleNamespace(account_id="0" * 32),
    )


async def test_a_source_that_was_replaced_is_looked_at_again() -> None:
    bucket = Replaced(1)
    answer = await Copies().copy(asked(bucket, {}))
    assert answer.status == 200
    assert bucket.stored == [(b"abc", hashlib.md5(b"abc").hexdigest())]


async def test_a_condition_that_held_for_an_older_version_is_no_leave_to_copy_another() -> None:
    bucket = Replaced(1)
    with pytest.raises(Failure) as refused:
        await Copies().copy(asked(bucket, {b"x-amz-copy-source-if-match": OLD.encode()}))
    assert refused.value.code == "PreconditionFailed"
    assert not bucket.stored


async def test_a_source_that_is_replaced_all_the_time_is_given_up() -> None:
    bucket = Replaced(TRIES)
    with pytest.raises(ObjectReplaced):
        await Copies().copy(asked(bucket, {}))
    assert not bucket.stored
