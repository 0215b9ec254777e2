"""Copies in a real store: what they take along, what they change, and who wins where two meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

import warehouse
from bodies import noise
from harness import RunningStore
from warehouse.errors import NoSuchObject, ObjectReplaced, PermissionDenied, PreconditionFailed, StoreError

SMALL, LARGE = 1000, 9 * 1024 * 1024  # one needle; an upload
TYPE, METADATA = "text/x-odd", {"who": "Mimi", "ü": "é"}
STALE = "1-1-00000000"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with RunningStore(tmp_path_factory.mktemp("copies") / "data", volumes=2) as store:
        yield store


@pytest.fixture
async def store(running: RunningStore) -> AsyncIterator[warehouse.Store]:
    async with warehouse.connect(running.profile) as store:
        yield store


@pytest.fixture
async def photos(store: warehouse.Store, request: pytest.FixtureRequest) -> warehouse.Bucket:
    """A bucket of this test alone."""
    number = len(await store.buckets())
    return await store.create_bucket(f"copies-{number}")


async def looked_at(bucket: warehouse.Bucket, key: str) -> tuple[bytes, str, dict[str, str]]:
    info = await bucket.stat(key)
    return await bucket.get(key), info.content_type or "", dict(info.metadata)


# --- what a copy has --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
@pytest.mark.parametrize("to_key", ["other.txt", "source.bin"])
@pytest.mark.parametrize(
    ("changes", "content_type", "metadata"),
    [
        ({}, TYPE, METADATA),
        ({"metadata": {"b": "2"}}, TYPE, {"b": "2"}),
        ({"metadata": {}}, TYPE, {}),
        ({"content_type": "text/plain"}, "text/plain", METADATA),
        ({"content_type": "text/plain", "metadata": {"who": ""}}, "text/plain", {"who": ""}),
    ],
)
async def test_a_copy_has_the_bytes_and_what_was_not_named(
    photos: warehouse.Bucket,
    size: int,
    to_key: str,
    changes: dict[str, Any],
    content_type: str,
    metadata: dict[str, str],
) -> None:
    content = noise(size)
    source = await photos.put("source.bin", content, content_type=TYPE, metadata=METADATA)
    written = await photos.copy("source.bin", to_key, **changes)
    assert (written.size, written.etag != source.etag) == (size, True)
    assert (await photos.stat(to_key)).etag == written.etag
    assert await looked_at(photos, to_key) == (content, content_type, metadata)
    if to_key != "source.bin":
        assert await looked_at(photos, "source.bin") == (content, TYPE, METADATA)


async def test_a_copy_in_another_bucket_is_like_one_in_the_same(
    store: warehouse.Store, photos: warehouse.Bucket
) -> None:
    there = await store.create_bucket(f"{photos.name}-there")
    await photos.put("a", b"new", content_type=TYPE, metadata=METADATA)
    old = await there.put("a", b"old")
    with pytest.raises(PreconditionFailed):
        await photos.copy("a", "a", there.name, if_none_match="*")
    assert await looked_at(there, "a") == (b"old", "application/octet-stream", {})
    await photos.copy("a", "a", there.name, metadata={"b": "2"}, if_match=old.etag)
    assert await looked_at(there, "a") == (b"new", TYPE, {"b": "2"})


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"a": "x" * 9000}},
        {"metadata": {"": "x"}},
        {"content_type": "no\ntype"},
        {"if_match": "\n"},
    ],
)
async def test_what_no_object_may_have_is_refused_and_changes_nothing(
    photos: warehouse.Bucket, changes: dict[str, Any]
) -> None:
    before = await photos.put("a", b"text", content_type=TYPE, metadata=METADATA)
    with pytest.raises(StoreError) as refused:
        await photos.copy("a", "a", **changes)
    assert refused.value.status == 400
    assert (await photos.stat("a")).etag == before.etag


async def test_a_source_that_is_missing_replaces_nothing(photos: warehouse.Bucket) -> None:
    await photos.put("b", b"old")
    with pytest.raises(NoSuchObject):
        await photos.copy("a", "b", metadata={})
    assert await photos.get("b") == b"old"


async def test_who_may_only_read_copies_nothing(store: warehouse.Store, photos: warehouse.Bucket) -> None:
    before = await photos.put("a", b"text", metadata=METADATA)
    reader = await store.create_key(f"reader of {photos.name}", preset="reader")
    async with warehouse.connect(reader.profile) as other:
        with pytest.raises(PermissionDenied):
            await other.bucket(photos.name).copy("a", "a", metadata={})
    assert (await photos.stat("a")).etag == before.etag


# --- conditions -------------------------------------------------------------------------------------

# What is there under the new name, the condition ("NOW": its ETag), and whether the copy is made.
CONDITIONS = [
    (None, {"if_none_match": "*"}, True),
    (b"old", {"if_none_match": "*"}, False),
    (b"old", {"if_none_match": "NOW"}, False),
    (b"old", {"if_none_match": STALE}, True),
    (b"old", {"if_match": "NOW"}, True),
    (b"old", {"if_match": STALE}, False),
    (b"old", {"if_match": "*"}, True),
    (None, {"if_match": "*"}, False),
    (None, {"if_match": STALE}, False),
    (b"old", {"if_match": "NOW", "if_none_match": STALE}, True),
    (b"old", {"if_match": "NOW", "if_none_match": "*"}, False),
]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(("there", "conditions", "is_made"), CONDITIONS)
async def test_a_condition_is_about_what_is_there_under_the_new_name(
    photos: warehouse.Bucket, size: int, there: bytes | None, conditions: dict[str, str], is_made: bool
) -> None:
    content = noise(size)
    await photos.put("source", content, content_type=TYPE, metadata=METADATA)
    now = (await photos.put("target", there, metadata={"old": "1"})).etag if there is not None else ""
    asked: dict[str, Any] = {name: now if etag == "NOW" else etag for name, etag in conditions.items()}
    if is_made:
        await photos.copy("source", "target", metadata={"new": "1"}, **asked)
        assert await looked_at(photos, "target") == (content, TYPE, {"new": "1"})
        return
    with pytest.raises(PreconditionFailed):
        await photos.copy("source", "target", metadata={"new": "1"}, **asked)
    if there is None:
        assert [info.key async for info in photos.list()] == ["source"]
    else:
        assert (await photos.stat("target")).etag == now
        assert await looked_at(photos, "target") == (there, "application/octet-stream", {"old": "1"})


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_edit_of_what_was_replaced_meanwhile_is_refused(photos: warehouse.Bucket, size: int) -> None:
    seen = await photos.put("a", noise(size), metadata={"mood": "calm"})
    await photos.put("a", b"replaced", metadata={"mood": "wild"})
    with pytest.raises(PreconditionFailed):
        await photos.copy("a", "a", metadata={"mood": "fine"}, if_match=seen.etag)
    assert await looked_at(photos, "a") == (b"replaced", "application/octet-stream", {"mood": "wild"})


# --- at the same time -------------------------------------------------------------------------------


async def race(bucket: warehouse.Bucket, count: int, to_key: str, **conditions: str) -> list[int]:
    """Copy "a" as often at once, each with its own number in the metadata; who won."""
    winners: list[int] = []

    async def copy(number: int) -> None:
        try:
            await bucket.copy("a", to_key, metadata={"number": f"{number}"}, **conditions)  # type: ignore[arg-type]
        except (PreconditionFailed, ObjectReplaced):  # noticed at its end, or while it read
            return
        winners.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(copy, number)
    return winners


@pytest.mark.parametrize(("size", "count"), [(SMALL, 2), (SMALL, 16), (LARGE, 2)])
async def test_one_of_several_edits_at_the_same_time_wins(
    photos: warehouse.Bucket, size: int, count: int
) -> None:
    content = noise(size)
    before = await photos.put("a", content, content_type=TYPE, metadata=METADATA)
    winners = await race(photos, count, "a", if_match=before.etag)
    assert len(winners) == 1
    assert await looked_at(photos, "a") == (content, TYPE, {"number": f"{winners[0]}"})


@pytest.mark.parametrize(("size", "count"), [(SMALL, 2), (SMALL, 16), (LARGE, 2)])
async def test_one_of_several_copies_gets_a_new_name(photos: warehouse.Bucket, size: int, count: int) -> None:
    content = noise(size)
    await photos.put("a", content, content_type=TYPE, metadata=METADATA)
    winners = await race(photos, count, "b", if_none_match="*")
    assert len(winners) == 1
    assert await looked_at(photos, "b") == (content, TYPE, {"number": f"{winners[0]}"})
    assert await looked_at(photos, "a") == (content, TYPE, METADATA)


async def test_an_edit_and_a_put_at_the_same_time_leave_one_of_both(photos: warehouse.Bucket) -> None:
    """Never the old bytes with the new metadata after the put was answered."""
    for number in range(20):
        before = await photos.put("a", b"old", metadata={"mood": "calm"})
        made: list[str] = []

        async def edit(etag: str, made: list[str]) -> None:
            try:
                await photos.copy("a", "a", metadata={"mood": "fine"}, if_match=etag)
            except (PreconditionFailed, ObjectReplaced):  # noticed at its end, or while it read
                made.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(edit, before.etag, made)
            nursery.start_soon(photos.put, "a", f"new {number}".encode())
        found = await looked_at(photos, "a")
        assert found[0] == f"new {number}".encode(), (found, made)
        assert found[2] == {}
