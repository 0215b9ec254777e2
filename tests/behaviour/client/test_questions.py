"""Questions: gets that wait for a latch alone, as those of gateways do."""

from __future__ import annotations

import pytest
import trio

import warehouse
from fake_store import FakeStore
from warehouse.client.reading.locator import SHARED_SIZE_MAX, Question, Wants
from warehouse.errors import BadKey, LinkDown, NoSuchBucket, NoSuchObject, ObjectInconsistent, StoreError
from warehouse.transport.messages import LocateObjects


async def put_all(photos: warehouse.Bucket, count: int) -> list[str]:
    keys = [f"{number}" for number in range(count)]
    for key in keys:
        await photos.put(key, key.encode() * 100)
    return keys


def begin_all(photos: warehouse.Bucket, keys: list[str]) -> list[Question]:
    return [photos.reads.begin(key, Wants.DATA) for key in keys]


async def bytes_of(question: Question) -> bytes | None:
    with trio.fail_after(20):
        await question.latch.wait()
    return question.answer()[1]


async def test_questions_of_one_moment_share_messages_and_requests(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    keys = await put_all(photos, 40)
    store.http.clear()
    store.asked.clear()
    questions = begin_all(photos, keys)
    assert [await bytes_of(question) for question in questions] == [key.encode() * 100 for key in keys]
    assert store.count(LocateObjects) <= 2
    assert len(store.batches) <= 2 * 2, "one request for each volume and message"
    assert store.http["GET"] == 0


async def test_a_question_that_is_alone_has_its_bytes_at_once(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"alone")
    store.asked.clear()
    question = photos.reads.begin("a", Wants.DATA)
    assert await bytes_of(question) == b"alone"
    located, _ = question.answer()
    assert (located.info.key, located.info.size, store.count(LocateObjects)) == ("a", 5, 1)


async def test_a_place_comes_without_bytes(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("a", b"alone")
    store.batches.clear()
    assert await bytes_of(photos.reads.begin("a", Wants.PLACE)) is None
    assert store.batches == []


@pytest.mark.parametrize("size", [0, SHARED_SIZE_MAX + 1])
async def test_an_empty_or_large_object_has_a_place_alone(photos: warehouse.Bucket, size: int) -> None:
    await photos.put("odd", b"x" * size)
    question = photos.reads.begin("odd", Wants.DATA)
    assert await bytes_of(question) is None
    located, _ = question.answer()
    async with photos.reads.stream(located) as stream:
        assert await stream.read() == b"x" * size


async def test_an_absent_object_leaves_the_others_alone(photos: warehouse.Bucket) -> None:
    keys = await put_all(photos, 3)
    absent, *there = begin_all(photos, ["absent", *keys])
    assert [await bytes_of(question) for question in there] == [key.encode() * 100 for key in keys]
    with pytest.raises(NoSuchObject):
        await bytes_of(absent)


async def test_a_bucket_that_is_not_there_is_told(client: warehouse.Store) -> None:
    with pytest.raises(NoSuchBucket):
        await bytes_of(client.bucket("nowhere").reads.begin("a", Wants.DATA))


@pytest.mark.parametrize("key", ["", "x" * 1025, "\ud800"])
async def test_an_impossible_key_is_refused_at_once(
    store: FakeStore, photos: warehouse.Bucket, key: str
) -> None:
    store.asked.clear()
    with pytest.raises(BadKey):
        photos.reads.begin(key, Wants.DATA)
    assert store.asked == []


@pytest.mark.parametrize("fault", ["get_dropped", "get_cut_short", "get_garbled"])
async def test_bytes_with_a_problem_are_not_handed_out(
    store: FakeStore, photos: warehouse.Bucket, fault: str
) -> None:
    keys = await put_all(photos, 6)
    setattr(store.faults, fault, 1)
    for key, question in zip(keys, begin_all(photos, keys), strict=True):
        data = await bytes_of(question)
        assert data in (None, key.encode() * 100)
        if data is None:  # its caller streams it, from the same place
            async with photos.reads.stream(question.answer()[0]) as stream:
                assert await stream.read() == key.encode() * 100


async def test_damage_touches_one_question_alone(store: FakeStore, photos: warehouse.Bucket) -> None:
    keys = await put_all(photos, 6)
    chunk = store.buckets["photos"]["3"].chunks[0]
    needle = store.needles[chunk.volume_id, chunk.needle_id]
    needle.data = b"X" + needle.data[1:]
    found = [await bytes_of(question) for question in begin_all(photos, keys)]
    assert found == [None if key == "3" else key.encode() * 100 for key in keys]


async def test_a_version_that_is_replaced_between_place_and_bytes_is_never_mixed_with_the_next(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"first")
    chunk = store.buckets["photos"]["a"].chunks[0]

    def replace(volume_id: int, needle_id: int) -> None:
        store.needles[chunk.volume_id, chunk.needle_id].is_deleted = True

    store.before_get = replace
    question = photos.reads.begin("a", Wants.DATA)
    data = await bytes_of(question)
    located, _ = question.answer()
    assert located.info.etag == store.buckets["photos"]["a"].etag
    assert data in (None, b"first")


async def test_a_disk_that_is_offline_has_a_place_and_no_bytes(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    keys = await put_all(photos, 4)
    store.faults.offline.update((1, 2))
    for question in begin_all(photos, keys):
        assert await bytes_of(question) is None


async def test_a_master_that_contradicts_itself_is_told_at_once(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    keys = await put_all(photos, 2)
    chunk = store.buckets["photos"]["0"].chunks[0]
    chunk = type(chunk)(chunk.volume_id, chunk.needle_id, chunk.size + 1, chunk.crc)
    store.buckets["photos"]["0"].chunks[0] = chunk
    bad, good = begin_all(photos, keys)
    with pytest.raises(ObjectInconsistent):
        await bytes_of(bad)
    assert await bytes_of(good) == b"1" * 100


async def test_who_stops_waiting_leaves_the_others(store: FakeStore, photos: warehouse.Bucket) -> None:
    keys = await put_all(photos, 6)
    store.faults.locate_delay_s = 0.05
    questions = begin_all(photos, keys)
    with trio.move_on_after(0.01) as scope:
        await bytes_of(questions[0])
    assert scope.cancelled_caught
    assert [await bytes_of(question) for question in questions] == [key.encode() * 100 for key in keys]


async def test_a_master_that_does_not_answer_is_told_in_time(store: FakeStore) -> None:
    async with warehouse.connect(store.profile, timeout_s=0.3) as client:
        photos = client.bucket("photos")
        store.faults.locate_delay_s = 30
        with pytest.raises(StoreError):
            await bytes_of(photos.reads.begin("a", Wants.DATA))


async def test_closing_the_client_ends_every_question(store: FakeStore) -> None:
    async with warehouse.connect(store.profile) as client:
        photos = client.bucket("photos")
        keys = await put_all(photos, 4)
        store.faults.locate_delay_s = 30
        questions = begin_all(photos, keys[:2])
        await trio.sleep(0.05)
        questions += begin_all(photos, keys[2:])  # these wait for the answer to the first message
    questions.append(photos.reads.begin("late", Wants.DATA))
    for question in questions:
        with pytest.raises(LinkDown):
            await bytes_of(question)
