"""put_many and get_many: as many single puts and gets, in order, each with its own fate, in few requests."""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
import trio

import warehouse
from bodies import noise
from fake_store import CREATED_MS, FakeStore, Needle
from warehouse import Put, PutResult
from warehouse.client import control, ordered_batches
from warehouse.client.reading import get_many
from warehouse.client.writing import put, put_many
from warehouse.errors import (
    BadKey,
    DiskFull,
    LeaseExhausted,
    MasterUnreachable,
    NeedleCorrupt,
    NeedleMissing,
    NoSuchBucket,
    NoSuchNeedle,
    NoSuchObject,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    StoreError,
    TokenExpired,
    TokenRevoked,
    VolumeOffline,
    VolumeSealed,
    WriteFailed,
)
from warehouse.transport.messages import BeginUpload, LeaseNeedles, LocateObjects, ResolveNeedle

MIB = 1024 * 1024


def items_of(count: int, prefix: str = "k") -> list[tuple[str, bytes]]:
    return [(f"{prefix}{number:05}", b"%d" % number) for number in range(count)]


async def put_all(bucket: warehouse.Bucket, items: object) -> list[PutResult]:
    return [result async for result in bucket.put_many(items)]  # type: ignore[arg-type]


def codes(results: list[PutResult]) -> list[str | None]:
    return [result.error and result.error.code for result in results]  # type: ignore[misc]


# --- what goes in comes out -----------------------------------------------------------------------


async def test_objects_are_stored_and_read_in_order_with_few_requests(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    items = items_of(1000)
    results = await put_all(photos, items)
    assert [result.key for result in results] == [key for key, _ in items]
    assert codes(results) == [None] * 1000
    assert all(result.etag == store.buckets["photos"][result.key].etag for result in results)
    assert all(result.created_ms == CREATED_MS for result in results)
    assert [result.size for result in results] == [len(data) for _, data in items]
    assert store.http["PUT"] == 0
    assert len(store.batches) < 20
    keys = [key for key, _ in items]
    random.Random(1).shuffle(keys)
    got = [result async for result in photos.get_many(keys)]
    assert [(result.key, result.error) for result in got] == [(key, None) for key in keys]
    assert {result.key: result.data for result in got} == dict(items)
    assert store.http["GET"] == 0
    assert store.count(LocateObjects) == 2
    assert max(store.batches) <= 256


async def test_several_volumes_share_the_items(store: FakeStore, photos: warehouse.Bucket) -> None:
    assert codes(await put_all(photos, items_of(2000))) == [None] * 2000
    volumes = [volume for volume, _ in store.committed]
    assert min(volumes.count(1), volumes.count(2)) > 300


async def test_everything_that_a_put_takes_an_item_takes(store: FakeStore, photos: warehouse.Bucket) -> None:
    first = await photos.put("there", b"1")
    results = await put_all(
        photos,
        [
            Put("a.txt", b"a"),
            Put("b", bytearray(b"b"), content_type="image/x-b", metadata={"mood": "fine"}),
            Put("there", memoryview(b"2"), if_match=f'"{first.etag}"'),
            Put("there", b"3", if_none_match="*"),
            ("ключ/名", b""),
        ],
    )
    assert codes(results) == [None, None, None, "precondition_failed", None]
    objects = store.buckets["photos"]
    assert objects["a.txt"].content_type == "text/plain"
    assert (objects["b"].content_type, objects["b"].metadata) == ("image/x-b", {"mood": "fine"})
    got = [result.data async for result in photos.get_many(["there", "ключ/名", "b"])]
    assert got == [b"2", b"", b"b"]


@pytest.mark.parametrize("kind", ["list", "generator", "asynchronous"])
async def test_items_and_keys_may_come_from_anything_that_is_iterated(
    photos: warehouse.Bucket, kind: str
) -> None:
    async def each(values: list[object]) -> AsyncIterator[object]:
        for value in values:
            await trio.lowlevel.checkpoint()
            yield value

    items = items_of(600)
    keys: list[object] = [key for key, _ in items]
    source: object = items
    asked: object = keys
    if kind == "generator":
        source, asked = iter(items), iter(keys)
    elif kind == "asynchronous":
        source, asked = each([*items]), each(keys)
    assert codes(await put_all(photos, source)) == [None] * 600
    assert [result.data async for result in photos.get_many(asked)] == [data for _, data in items]  # type: ignore[arg-type]


async def test_nothing_gives_nothing(photos: warehouse.Bucket) -> None:
    assert await put_all(photos, []) == []
    assert [result async for result in photos.get_many([])] == []


async def test_a_buffer_may_be_used_again_for_the_next_item(photos: warehouse.Bucket) -> None:
    def items() -> Iterator[tuple[str, bytearray]]:
        buffer = bytearray(4)
        for number in range(300):
            buffer[:] = b"%04d" % number
            yield f"{number:04}", buffer

    assert codes(await put_all(photos, items())) == [None] * 300
    got = [result.data async for result in photos.get_many(f"{number:04}" for number in range(300))]
    assert got == [b"%04d" % number for number in range(300)]


async def test_large_objects_take_their_own_way_in_the_same_order(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    large, chunked = noise(2 * MIB), noise(9 * MIB, 2)
    items = [*items_of(10), ("large", large), ("chunked", chunked), *items_of(10, "z")]
    results = await put_all(photos, items)
    assert [result.key for result in results] == [key for key, _ in items]
    assert codes(results) == [None] * 22
    assert store.count(BeginUpload) == 2
    got = [result async for result in photos.get_many(key for key, _ in items)]
    assert [(result.key, result.data) for result in got] == items


async def test_one_error_an_item_and_the_others_are_stored(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    results = await put_all(
        photos,
        [
            ("good", b"1"),
            ("", b"2"),
            ("k" * 1025, b"3"),
            Put("bad", b"4", metadata={"": "x"}),
            ("fine", b"5"),
        ],
    )
    assert codes(results) == [None, "bad_key", "bad_key", "bad_metadata", None]
    assert sorted(store.buckets["photos"]) == ["fine", "good"]
    got = [result async for result in photos.get_many(["good", "absent", "", "fine"])]
    assert [type(result.error) for result in got] == [type(None), NoSuchObject, BadKey, type(None)]
    assert [result.data for result in got] == [b"1", None, None, b"5"]


async def test_what_is_no_key_or_no_bytes_fails_alone(photos: warehouse.Bucket) -> None:
    items: list = [("a", b"x"), ("none", None), ("text", "x"), (7, b"x"), ("b", b"z")]
    put = [result async for result in photos.put_many(items)]
    assert [result.error and result.error.code for result in put] == [
        None,
        "bad_request",
        "bad_request",
        "bad_key",
        None,
    ]
    assert put[1].error is not None
    assert "not NoneType" in put[1].error.message
    keys: list = ["a", 7, None, "b"]
    got = [result async for result in photos.get_many(keys)]
    assert [result.data for result in got] == [b"x", None, None, b"z"]
    assert [result.error and result.error.code for result in got] == [None, "bad_key", "bad_key", None]


@pytest.mark.parametrize(
    ("key", "source", "code"), [(5, b"x", "bad_key"), (b"k", b"x", "bad_key"), ("k", None, "bad_request")]
)
async def test_a_put_of_what_is_no_key_or_no_bytes_says_so(
    photos: warehouse.Bucket, key: str, source: bytes, code: str
) -> None:
    with pytest.raises(StoreError) as raised:
        await photos.put(key, source)
    assert raised.value.code == code


async def test_what_concerns_all_is_said_of_each(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.refused["LeaseNeedles"] = [PermissionDenied("no writing")] * 9
    results = await put_all(photos, items_of(3))
    assert codes(results) == ["permission_denied"] * 3
    assert len({id(result.error) for result in results}) == 3, "each may be raised by itself"
    del store.buckets["photos"]
    got = [result async for result in photos.get_many(["a", "b"])]
    assert all(isinstance(result.error, NoSuchBucket) for result in got)


# --- order, window, sources -----------------------------------------------------------------------


async def test_a_slow_source_does_not_keep_its_results_waiting(photos: warehouse.Bucket) -> None:
    send, receive = trio.open_memory_channel[tuple[str, bytes]](0)
    async with trio.open_nursery() as nursery:
        results = photos.put_many(receive)
        nursery.start_soon(send.send, ("first", b"1"))
        with trio.fail_after(40):
            assert (await anext(results)).key == "first"
        nursery.start_soon(send.send, ("second", b"2"))
        with trio.fail_after(40):
            assert (await anext(results)).key == "second"
        await send.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_what_the_source_raises_comes_behind_the_results_before_it(photos: warehouse.Bucket) -> None:
    def items() -> Iterator[tuple[str, bytes]]:
        yield from items_of(300)
        raise ZeroDivisionError("the source's own")

    seen = []
    with pytest.raises(ZeroDivisionError):
        async for result in photos.put_many(items()):
            seen.append(result)
    assert codes(seen) == [None] * 300


async def test_items_are_taken_as_results_are(store: FakeStore, photos: warehouse.Bucket) -> None:
    taken = 0

    def items() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield f"{number:06}", b"x"

    async with aclosing(photos.put_many(items())) as results:
        for _ in range(10):
            await anext(results)
        await trio.sleep(0.1)
        assert taken <= ordered_batches.PENDING_MAX + 11


async def test_bytes_under_way_are_bounded(store: FakeStore, photos: warehouse.Bucket) -> None:
    body = noise(MIB)
    taken = 0

    def items() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield f"{number}", body

    store.faults.put_delay_s = 30
    with trio.move_on_after(0.5):
        async for _ in photos.put_many(items()):
            pytest.fail("a result without an answer")
    assert taken <= ordered_batches.BYTES_MAX // MIB + 2


async def test_bytes_fetched_ahead_are_bounded(store: FakeStore, photos: warehouse.Bucket) -> None:
    body = noise(MIB // 2)
    await put_all(photos, [(f"{number:03}", body) for number in range(100)])
    store.batches.clear()
    async with aclosing(photos.get_many(f"{number:03}" for number in range(100))) as results:
        await anext(results)
        await trio.sleep(0.3)
        assert sum(store.batches) <= ordered_batches.BYTES_MAX // len(body) + 8
        assert [result.data async for result in results] == [body] * 99


async def test_many_loops_at_once_do_not_mix(photos: warehouse.Bucket) -> None:
    async def loop(name: str) -> None:
        items = items_of(500, name)
        assert codes(await put_all(photos, items)) == [None] * 500
        got = [result.data async for result in photos.get_many(key for key, _ in items)]
        assert got == [data for _, data in items]

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(loop, f"loop-{number}-")


# --- lost answers ---------------------------------------------------------------------------------


async def resolved_truly(store: FakeStore, results: list[PutResult]) -> None:
    """What was said to be stored is, with that ETag, and nothing that was not."""
    objects = store.buckets["photos"]
    for result in results:
        if result.error is None:
            assert objects[result.key].etag == result.etag
        else:
            assert result.key not in objects


@pytest.mark.parametrize("fault", ["put_dropped_before_commit", "put_dropped_after_commit"])
async def test_a_lost_answer_is_resolved_for_each_item(
    store: FakeStore, photos: warehouse.Bucket, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BACK_OFF_S", 0.001)
    setattr(store.faults, fault, 2)
    results = await put_all(photos, items_of(600))
    assert codes(results) == [None] * 600
    await resolved_truly(store, results)
    assert store.count(ResolveNeedle) >= 100
    assert len(store.committed) == 600, "nothing was applied twice"


async def test_a_put_that_cannot_be_resolved_is_unknown_and_the_others_are_not(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*arguments: object) -> bool:
        raise OutcomeUnknown("nobody answers")

    store.faults.put_error_after_commit = [WriteFailed("who knows")]
    monkeypatch.setattr(put.BucketWriter, "is_committed", lost)
    results = await put_all(photos, items_of(20))
    assert sorted(codes(results), key=str) == [None] * 19 + ["outcome_unknown"]


@pytest.mark.parametrize(
    "error",
    [
        TokenExpired("later"),
        TokenRevoked("its key was edited"),
        MasterUnreachable("no master"),
        LeaseExhausted("no room"),
        DiskFull("full"),
        WriteFailed("EIO"),
        VolumeSealed("sealed"),
        Overloaded("busy"),
        OutcomeUnknown("the master is slow"),
    ],
    ids=lambda error: error.code,
)
async def test_what_failed_in_passing_is_put_again_elsewhere(
    store: FakeStore, photos: warehouse.Bucket, error: StoreError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BACK_OFF_S", 0.001)
    store.faults.put_error_before_commit = [type(error)(error.message) for _ in range(7)]
    results = await put_all(photos, items_of(100))
    assert codes(results) == [None] * 100
    await resolved_truly(store, results)


async def test_a_refusal_is_not_repeated(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_error_before_commit = [PreconditionFailed("another version")]
    results = await put_all(photos, items_of(50))
    assert sorted(codes(results), key=str) == [None] * 49 + ["precondition_failed"]


@pytest.mark.parametrize("kind", ["offline", "full"])
async def test_a_volume_that_takes_nothing_is_left_for_the_other(
    store: FakeStore, photos: warehouse.Bucket, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BACK_OFF_S", 0.001)
    await put_all(photos, items_of(10, "leases-of-both-"))
    getattr(store.faults, kind).add(1)
    results = await put_all(photos, items_of(700))
    assert codes(results) == [None] * 700
    assert {store.buckets["photos"][result.key].chunks[0].volume_id for result in results} == {2}


@pytest.mark.parametrize("error", [TokenExpired, TokenRevoked])
async def test_expired_and_revoked_tokens_are_replaced(
    store: FakeStore, photos: warehouse.Bucket, error: type[StoreError]
) -> None:
    await put_all(photos, items_of(10))
    store.expire_tokens(error)
    leases = store.count(LeaseNeedles)
    assert codes(await put_all(photos, items_of(100))) == [None] * 100
    assert store.count(LeaseNeedles) > leases


# --- leaving early --------------------------------------------------------------------------------


async def test_a_cancelled_loop_leaves_each_item_stored_or_never_to_be(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_delay_s = 0.3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_all, photos, items_of(300))
        await store.wait_for_puts(256)
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    committed = set(store.committed)
    assert len(committed | store.void) >= 256
    await trio.sleep(0.6)
    assert store.committed == committed, "a put that was given up came through later"


async def test_a_loop_that_is_left_takes_no_more_items(store: FakeStore, photos: warehouse.Bucket) -> None:
    taken = 0

    def items() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        for number in range(1_000_000):
            taken += 1
            yield f"{number}", b"x"

    async for _ in photos.put_many(items()):
        break
    gc.collect()
    await trio.sleep(0.1)
    before = taken
    await trio.sleep(0.2)
    assert taken == before
    await photos.put("still", b"works")


async def test_closing_waits_until_all_is_decided(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_delay_s = 0.05
    async with aclosing(photos.put_many(items_of(5000))) as results:
        await anext(results)
    committed = set(store.committed)
    await trio.sleep(0.3)
    assert store.committed == committed


async def test_what_is_closed_gives_nothing_more(photos: warehouse.Bucket) -> None:
    results = photos.put_many(items_of(1000))
    await anext(results)
    await results.aclose()
    await results.aclose()
    untouched = photos.put_many(items_of(10))
    await untouched.aclose()
    for closed in (results, untouched):
        with trio.fail_after(40), pytest.raises(StopAsyncIteration):
            await anext(closed)


async def test_large_metadata_does_not_make_answers_too_large(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    metadata = {"note": "x" * 8000}
    items = (Put(f"{number:04}", b"x", metadata=metadata) for number in range(1000))
    assert codes(await put_all(photos, items)) == [None] * 1000
    got = [result async for result in photos.get_many(f"{number:04}" for number in range(1000))]
    assert all(result.data == b"x" for result in got)


async def test_a_connection_ends_while_loops_are_under_way(store: FakeStore) -> None:
    store.faults.put_delay_s = 0.2
    with trio.fail_after(30):
        async with warehouse.connect(store.profile) as client:
            results = client.bucket("photos").put_many(items_of(5000))
            await anext(results)
        committed = set(store.committed)
        await trio.sleep(0.5)
        assert store.committed == committed


async def test_a_source_that_is_left_is_closed(photos: warehouse.Bucket) -> None:
    is_closed = False

    async def items() -> AsyncIterator[tuple[str, bytes]]:
        nonlocal is_closed
        try:
            for number in range(100_000):
                await trio.lowlevel.checkpoint()
                yield f"{number}", b"x"
        finally:
            is_closed = True

    async with aclosing(photos.put_many(items())) as results:
        await anext(results)
    assert is_closed


# --- reading what is not as it should be ----------------------------------------------------------


async def stored_objects(photos: warehouse.Bucket, count: int = 100) -> dict[str, bytes]:
    items = items_of(count)
    assert codes(await put_all(photos, items)) == [None] * count
    return dict(items)


async def assert_all_read(photos: warehouse.Bucket, objects: dict[str, bytes]) -> None:
    got = {result.key: result async for result in photos.get_many(objects)}
    assert [result.error for result in got.values()] == [None] * len(objects)
    assert {key: result.data for key, result in got.items()} == objects


@pytest.mark.parametrize("fault", ["get_dropped", "get_cut_short", "get_garbled"])
async def test_what_is_lost_or_garbled_on_its_way_is_read_again(
    store: FakeStore, photos: warehouse.Bucket, fault: str
) -> None:
    objects = await stored_objects(photos)
    for count in (1, 2, 3):
        setattr(store.faults, fault, count)
        await assert_all_read(photos, objects)


async def test_a_needle_that_is_gone_was_replaced_and_the_new_version_is_read(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    objects = await stored_objects(photos)
    first = store.buckets["photos"]["k00005"].chunks[0]

    def replace(volume_id: int, needle_id: int) -> None:
        store.before_get = None
        store.needles[first.volume_id, first.needle_id].is_deleted = True
        moved = store.buckets["photos"]["k00005"]
        other = store.buckets["photos"]["k00006"]
        store.buckets["photos"]["k00005"] = type(moved)(**{**_fields(other), "key": "k00005"})  # type: ignore[arg-type]

    store.before_get = replace
    objects["k00005"] = objects["k00006"]
    await assert_all_read(photos, objects)


def _fields(info: object) -> dict[str, object]:
    return {name: getattr(info, name) for name in info.__struct_fields__}  # type: ignore[attr-defined]


async def test_damage_and_loss_are_named_and_the_others_are_read(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    objects = await stored_objects(photos)
    damaged, lost = (store.buckets["photos"][key].chunks[0] for key in ("k00010", "k00020"))
    kept = store.needles[damaged.volume_id, damaged.needle_id]
    store.needles[damaged.volume_id, damaged.needle_id] = Needle(b"xx", kept.key, None, {})
    del store.needles[lost.volume_id, lost.needle_id]
    got = {result.key: result async for result in photos.get_many(objects)}
    assert isinstance(got["k00010"].error, NeedleCorrupt)
    assert isinstance(got["k00020"].error, NeedleMissing)
    assert sum(result.error is None for result in got.values()) == 98
    assert all(result.data == objects[key] for key, result in got.items() if result.error is None)


async def test_a_disk_that_is_away_is_named_and_the_others_are_read(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    objects = await stored_objects(photos, 2000)
    store.faults.offline.add(1)
    here = {key for key in objects if store.buckets["photos"][key].chunks[0].volume_id == 2}
    async for result in photos.get_many(objects):
        if result.key in here:
            assert result.data == objects[result.key]
        else:
            assert isinstance(result.error, VolumeOffline)


async def test_one_error_of_the_volume_costs_one_more_request(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    objects = await stored_objects(photos)
    store.faults.get_error = [NoSuchNeedle("in passing")]
    await assert_all_read(photos, objects)
    assert store.http["GET"] == 1


# --- listings with locations ----------------------------------------------------------------------


async def test_entries_with_locations_are_read_without_asking_where_they_are(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    objects = await stored_objects(photos, 1500)
    got = {result.key: result async for result in photos.get_many(photos.list(with_locations=True))}
    assert {key: result.data for key, result in got.items()} == objects
    assert store.count(LocateObjects) == 0
    assert store.http["GET"] == 0


async def test_entries_of_any_listing_may_be_read(store: FakeStore, photos: warehouse.Bucket) -> None:
    large = noise(9 * MIB)
    await put_all(photos, [("a", b"a"), ("large", large)])
    for with_locations in (False, True):
        got = [result.data async for result in photos.get_many(photos.list(with_locations=with_locations))]
        assert got == [b"a", large]


async def test_an_entry_that_is_out_of_date_is_read_as_it_is_now(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await stored_objects(photos, 3)
    entries = [entry async for entry in photos.list(with_locations=True)]
    await photos.put("k00000", b"new")  # the needle of the old version is deleted
    await photos.delete("k00001")
    store.expire_tokens()
    got = [result async for result in photos.get_many(entries)]
    assert [result.data for result in got] == [b"new", None, b"2"]
    assert isinstance(got[1].error, NoSuchObject)


async def test_larger_objects_than_wanted_are_not_fetched(store: FakeStore, photos: warehouse.Bucket) -> None:
    await put_all(photos, [("a", b"12"), ("b", b"123"), ("large", noise(9 * MIB))])
    for keys in (["a", "b", "large"], photos.list(with_locations=True)):
        got = [result async for result in photos.get_many(keys, size_max=2)]
        assert [result.error and result.error.code for result in got] == [
            None,
            "body_too_large",
            "body_too_large",
        ]
    assert store.http["GET"] == 0


def test_limits_of_client_and_volume_fit() -> None:
    from warehouse.transport.http.batch_format import ITEM_SIZE_MAX, ITEMS_MAX, PUT_SIZE_MAX

    assert put_many.BATCH_COUNT_MAX <= ITEMS_MAX
    assert get_many.FETCH_COUNT_MAX <= ITEMS_MAX
    assert ordered_batches.BATCH_SIZE_MAX + ITEM_SIZE_MAX + 256 * 32 * 1024 < PUT_SIZE_MAX
    assert control.SMALL_MAX <= ITEM_SIZE_MAX
