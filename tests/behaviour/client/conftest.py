"""What the tests of the library share: a fake store with a bucket, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import warehouse
from fake_store import FakeStore, fake_store


@pytest.fixture
async def store() -> AsyncIterator[FakeStore]:
    """A store with one bucket, "photos", in which there is nothing."""
    async with fake_store() as store:
        store.buckets["photos"] = {}
        yield store


@pytest.fixture
async def client(store: FakeStore) -> AsyncIterator[warehouse.Store]:
    async with warehouse.connect(store.profile) as client:
        yield client


@pytest.fixture
def photos(client: warehouse.Store) -> warehouse.Bucket:
    return client.bucket("photos")
