"""Bulk work on objects, with a fake store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import warehouse
from fake_store import FakeStore, fake_store
from warehouse.errors import NoSuchBucket, OutcomeUnknown
from warehouse.webui import bulk
from warehouse.webui.selection import Selection
from warehouse.webui.work import Work


@pytest.fixture
async def store() -> AsyncIterator[FakeStore]:
    async with fake_store() as store:
        store.buckets["photos"], store.buckets["copies"] = {}, {}
        yield store


@pytest.fixture
async def photos(store: FakeStore) -> AsyncIterator[warehouse.Bucket]:
    async with warehouse.connect(store.profile) as client:
        bucket = client.bucket("photos")
        for number in range(5):
            await bucket.put(f"raw/{number}", b"x" * number, metadata={"n": str(number)})
        await bucket.put("a", b"a")
        yield bucket


def keys(store: FakeStore, bucket: str = "photos") -> list[str]:
    return sorted(store.buckets[bucket])


async def test_deleting_a_folder_leaves_all_else(store: FakeStore, photos: warehouse.Bucket) -> None:
    work = Work(1, "")
    message = await bulk.delete(work, photos, Selection(prefixes=["raw/"]))
    assert keys(store) == ["a"]
    assert message == "Deleted 5 objects, 10 B"
    assert (work.total_count, work.done_count, work.total_bytes, work.done_bytes) == (5, 5, 10, 10)


async def test_what_was_gone_already_is_not_counted(store: FakeStore, photos: warehouse.Bucket) -> None:
    message = await bulk.delete(Work(1, ""), photos, Selection(keys=[("a", 1), ("never", 9)]))
    assert message == "Deleted 1 object, 1 B"


async def test_a_copy_has_type_metadata_and_bytes(store: FakeStore, photos: warehouse.Bucket) -> None:
    target = bulk.Target(photos, lambda key: key.replace("raw/", "new/"))
    assert (
        await bulk.copy(Work(1, ""), photos, Selection(prefixes=["raw/"]), target) == "Copied 5 objects, 10 B"
    )
    assert await photos.get("new/3") == b"xxx"
    assert (await photos.stat("new/3")).metadata == {"n": "3"}
    assert await photos.get("raw/3") == b"xxx"


async def test_moving_onto_itself_loses_nothing(store: FakeStore, photos: warehouse.Bucket) -> None:
    work = Work(1, "")
    target = bulk.Target(photos, lambda key: key, replaces=True, moves=True)
    await bulk.copy(work, photos, Selection(prefixes=["raw/"]), target)
    assert await photos.get("raw/3") == b"xxx"
    assert work.failure_count == 5


async def test_a_name_that_is_taken_stays_unless_it_is_to_be_replaced(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    work = Work(1, "")
    await bulk.copy(
        work, photos, Selection(keys=[("a", 1)]), bulk.Target(photos, lambda key: "raw/3", moves=True)
    )
    assert work.failures == ["a: there is an object of that name already"]
    assert await photos.get("raw/3") == b"xxx"
    assert "a" in keys(store)
    target = bulk.Target(photos, lambda key: "raw/3", replaces=True, moves=True)
    await bulk.copy(Work(2, ""), photos, Selection(keys=[("a", 1)]), target)
    assert await photos.get("raw/3") == b"a"
    assert "a" not in keys(store)


async def test_an_object_that_vanished_does_not_end_the_work(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    work = Work(1, "")
    selection = Selection(keys=[("gone", 1), ("a", 1)])
    await bulk.copy(work, photos, selection, bulk.Target(photos, lambda key: f"to/{key}"))
    assert work.done_count == work.failure_count == 1
    assert "to/a" in keys(store)


async def test_a_target_that_is_gone_ends_the_work(store: FakeStore, photos: warehouse.Bucket) -> None:
    async with warehouse.connect(store.profile) as client:
        target = bulk.Target(client.bucket("nowhere"), lambda key: key, moves=True)
        with pytest.raises(NoSuchBucket):
            await bulk.copy(Work(1, ""), photos, Selection(prefixes=["raw/"]), target)
    assert len(keys(store)) == 6


def lose_answers(monkeypatch: pytest.MonkeyPatch, name: str, *, happens: bool) -> None:
    """The first deletion has no answer, as when the master dies before it has answered.

    Args:
        happens: it was done all the same.
    """
    really: Callable[..., Awaitable[object]] = getattr(warehouse.Bucket, name)
    lost: list[str] = []

    async def delete(bucket: warehouse.Bucket, *args: object, **options: object) -> object:
        if lost:
            return await really(bucket, *args, **options)
        lost.append(name)
        if happens:
            await really(bucket, *args, **options)
        raise OutcomeUnknown("the answer was lost")

    monkeypatch.setattr(warehouse.Bucket, name, delete)


@pytest.mark.parametrize("happens", [False, True])
async def test_a_deletion_whose_answer_was_lost_goes_on(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch, happens: bool
) -> None:
    lose_answers(monkeypatch, "delete_many", happens=happens)
    message = await bulk.delete(Work(1, ""), photos, Selection(prefixes=["raw/"]))
    assert keys(store) == ["a"]
    assert message == "Deleted 5 objects, 10 B"


@pytest.mark.parametrize("happens", [False, True])
async def test_a_move_whose_answers_were_lost_leaves_no_original(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch, happens: bool
) -> None:
    lose_answers(monkeypatch, "delete", happens=happens)
    work = Work(1, "")
    target = bulk.Target(photos, lambda key: key.replace("raw/", "new/"), moves=True, did="Moved")
    assert await bulk.copy(work, photos, Selection(prefixes=["raw/"]), target) == "Moved 5 objects, 10 B"
    assert work.failures == []
    assert keys(store) == ["a", *(f"new/{n}" for n in range(5))]


async def test_deletions_that_never_have_an_answer_end(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def delete_many(bucket: warehouse.Bucket, *args: object) -> object:
        raise OutcomeUnknown("the answer was lost")

    monkeypatch.setattr(warehouse.Bucket, "delete_many", delete_many)
    with pytest.raises(OutcomeUnknown):
        await bulk.delete(Work(1, ""), photos, Selection(prefixes=["raw/"]))
