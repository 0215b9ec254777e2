"""The library against a store that answers well: what goes in comes out."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

import client
from fake_store import CREATED_MS, FakeStore, fake_store
from transport.messages import BeginUpload

MIB = 1024 * 1024


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
async def store() -> AsyncIterator[FakeStore]:
    async with fake_store() as store:
        store.buckets["photos"] = {}
        yield store


async def test_a_small_object_comes_back_with_its_type_and_metadata(store: FakeStore) -> None:
    async with client.connect(store.profile) as warehouse:
        photos = warehouse.bucket("photos")
        written = await photos.put("2026/chat é.jpg", b"meow", metadata={"who": "Mimi & Nana", "ü": ""})
        assert (written.size, written.created_ms) == (4, CREATED_MS)
        assert await photos.get("2026/chat é.jpg") == b"meow"
        info = await photos.stat("2026/chat é.jpg")
        assert (info.etag, info.content_type) == (written.etag, "image/jpeg")
        assert info.metadata == {"who": "Mimi & Nana", "ü": ""}
    assert store.count(BeginUpload) == 0


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 4 * MIB, 9 * MIB + 7])
async def test_bytes_of_every_size_come_back(store: FakeStore, size: int) -> None:
    data = noise(size)
    async with client.connect(store.profile) as warehouse:
        photos = warehouse.bucket("photos")
        written = await photos.put("a", data)
        assert written.size == size
        assert await photos.get("a") == data


async def test_a_large_object_is_spread_over_volumes(store: FakeStore) -> None:
    async with client.connect(store.profile) as warehouse:
        await warehouse.bucket("photos").put("film", noise(9 * MIB))
    chunks = store.buckets["photos"]["film"].chunks
    assert [chunk.size for chunk in chunks] == [4 * MIB, 4 * MIB, MIB]
    assert {chunk.volume_id for chunk in chunks} == {1, 2}
