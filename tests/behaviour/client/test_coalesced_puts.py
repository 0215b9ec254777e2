"""Puts and gets of one moment: they share requests, and each has an outcome of its own."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import trio

import warehouse
from fake_store import FakeStore
from warehouse.client import control
from warehouse.client.writing import coalesced_puts
from warehouse.errors import (
    BadRequest,
    DataDamaged,
    LinkDown,
    NoSuchBucket,
    NoSuchObject,
    OutcomeUnknown,
    PreconditionFailed,
    StoreError,
    WriteFailed,
)
from warehouse.transport.http.latch import Latch
from warehouse.transport.messages import ObjectWritten, ResolveNeedle
from warehouse.transport.messages.attributes import ObjectAttributes

ATTRIBUTES = ObjectAttributes(headers={"cache-control": b"no-store"})


async def put_at_once(bucket: warehouse.Bucket, count: int, size: int = 100) -> dict[str, str | StoreError]:
    """Put objects "0", "1", ... by as many tasks; the ETag or the error of each."""
    outcomes: dict[str, str | StoreError] = {}

    async def put(number: int) -> None:
        key = f"{number}"
        try:
            outcomes[key] = (await bucket.put(key, b"%d" % (number % 10) * size)).etag
        except StoreError as error:
            outcomes[key] = error

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(put, number)
    return outcomes


async def get_at_once(bucket: warehouse.Bucket, keys: list[str]) -> dict[str, bytes | StoreError]:
    outcomes: dict[str, bytes | StoreError] = {}

    async def get(key: str) -> None:
        try:
            outcomes[key] = await bucket.get(key)
        except StoreError as error:
            outcomes[key] = error

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(get, key)
    return outcomes


def assert_true(store: FakeStore, outcomes: dict[str, str | StoreError]) -> None:
    """What was said to be stored is there under that ETag, and nothing else is."""
    stored = {key: etag for key, etag in outcomes.items() if isinstance(etag, str)}
    assert {key: info.etag for key, info in store.buckets["photos"].items()} == stored


# --- puts -----------------------------------------------------------------------------------------


async def test_puts_of_one_moment_share_a_request(store: FakeStore, photos: warehouse.Bucket) -> None:
    outcomes = await put_at_once(photos, 50)
    assert_true(store, outcomes)
    assert len(outcomes) == 50
    assert store.http.total() <= 12, "the first leases are small, and a batch ends with its lease"
    assert sum(store.batches) + store.http["PUT"] == 50


async def test_a_put_that_is_alone_waits_for_nobody(store: FakeStore, photos: warehouse.Bucket) -> None:
    for number in range(5):
        await photos.put(f"{number}", b"alone")
    assert (store.http["PUT"], store.batches) == (5, [])


async def test_puts_wait_for_each_other_only_while_enough_requests_are_under_way(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await put_at_once(photos, 1)  # leases
    store.faults.put_delay_s = 0.5
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(photos.put, f"late {number}", b"x")
            await trio.sleep(0.002)
    assert store.http["PUT"] >= 3
    assert max(store.batches) > 1


@pytest.mark.parametrize("attributes", [None, ATTRIBUTES], ids=["plain", "attributes"])
@pytest.mark.parametrize("wait", [None, Latch.wait], ids=["task", "latch"])
async def test_puts_gather_while_each_turn_of_the_loop_brings_another(
    store: FakeStore,
    photos: warehouse.Bucket,
    attributes: ObjectAttributes | None,
    wait: coalesced_puts.Wait | None,
) -> None:
    async def put(key: str) -> None:
        await photos.put(key, b"x", attributes=attributes, wait=wait)

    for number in range(8):  # leases, more of them each time
        await put_at_once(photos, 40)
        await put(f"warm {number}")
    before = store.http.total()
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(put, f"late {number}")
            nursery.start_soon(put, f"as late {number}")
            await trio.lowlevel.checkpoint()
    assert store.http.total() - before <= 4, "two volumes, and a batch ends with its lease"


async def test_a_put_with_attributes_that_is_alone_waits_for_nobody(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    for number in range(5):
        await photos.put(f"{number}", b"alone", attributes=ATTRIBUTES, wait=Latch.wait)
    assert (store.http["PUT"], store.batches) == (0, [1] * 5)


async def test_gathered_puts_leave_when_they_are_many_although_more_are_coming(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalesced_puts, "GATHERED_MAX", 5)
    await put_at_once(photos, 40)
    store.batches.clear()
    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(photos.put, f"late {number}", b"x")
            await trio.lowlevel.checkpoint()
    assert len(store.batches) >= 2
    assert sum(store.batches) + store.http["PUT"] >= 12


async def test_a_server_that_ends_can_drop_a_put_that_has_no_task(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    def begin(key: str) -> Coroutine[Any, Any, ObjectWritten]:
        put = photos.put(key, b"x", attributes=ATTRIBUTES, wait=lambda latch: latch.suspend())
        assert isinstance(put.send(None), Latch)
        return put

    await photos.put("leases", b"x", attributes=ATTRIBUTES)
    dropped, kept = begin("queued"), begin("kept")
    dropped.close()
    store.faults.put_delay_s = 0.2
    while not store.batches or store.batches[-1] != 1:
        await trio.sleep(0.01)
    kept.close()
    await photos.put("next", b"x", attributes=ATTRIBUTES)
    assert {"leases", "next"} <= {*store.buckets["photos"]} <= {"leases", "kept", "next"}


async def test_larger_objects_travel_by_themselves(store: FakeStore, photos: warehouse.Bucket) -> None:
    assert_true(store, await put_at_once(photos, 10, size=65 * 1024))
    assert (store.http["PUT"], store.batches) == (10, [])
    assert set(await get_at_once(photos, [f"{number}" for number in range(10)])) == {*"0123456789"}
    assert (store.http["GET"], store.batches) == (10, [])


async def test_a_condition_that_fails_fails_one_put_alone(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("taken", b"first")
    refused: list[str] = []

    async def put(key: str) -> None:
        try:
            await photos.put(key, b"second", if_none_match="*")
        except PreconditionFailed:
            refused.append(key)

    async with trio.open_nursery() as nursery:
        for key in ("a", "taken", "b", "c"):
            nursery.start_soon(put, key)
    assert refused == ["taken"]
    assert {*store.buckets["photos"]} == {"a", "b", "c", "taken"}
    assert await photos.get("taken") == b"first"


async def test_a_condition_without_end_is_refused_to_one_put_alone(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    refused: list[str] = []

    async def put(key: str, condition: str | None = None) -> None:
        try:
            await photos.put(key, b"x", if_none_match=condition)
        except BadRequest:
            refused.append(key)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, "bad", "x" * 40_000)
        for number in range(9):
            nursery.start_soon(put, f"good {number}")
    assert refused == ["bad"]
    assert len(store.buckets["photos"]) == 9


async def test_text_of_other_types_than_str_harms_nobody(store: FakeStore, photos: warehouse.Bucket) -> None:
    class Name(str):  # as NumPy's, or a StrEnum
        __slots__ = ()

    async def put(number: int) -> None:
        await photos.put(
            Name(f"{number}"), b"x", content_type=Name("text/plain"), metadata={Name("a"): Name("b")}
        )

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(put, number)
    keys: list[str] = [Name(f"{number}") for number in range(10)]
    assert await get_at_once(photos, keys) == dict.fromkeys(keys, b"x")


async def test_a_missing_bucket_is_told_to_each(client: warehouse.Store) -> None:
    outcomes = await put_at_once(client.bucket("nowhere"), 10)
    assert len(outcomes) == 10
    assert all(isinstance(outcome, NoSuchBucket) for outcome in outcomes.values())
    assert len({id(outcome) for outcome in outcomes.values()}) == 10, "each raises an error of its own"


@pytest.mark.parametrize("fault", ["put_dropped_before_commit", "put_dropped_after_commit"])
async def test_a_lost_answer_is_resolved_for_each(
    store: FakeStore, photos: warehouse.Bucket, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BACK_OFF_S", 0.001)
    setattr(store.faults, fault, 2)
    outcomes = await put_at_once(photos, 40)
    assert all(isinstance(outcome, str) for outcome in outcomes.values())
    assert_true(store, outcomes)
    assert len(store.committed) == 40, "nothing was applied twice"


@pytest.mark.parametrize("count", [1, 10])
async def test_an_answer_that_is_too_long_is_resolved_like_one_that_was_lost(
    store: FakeStore, photos: warehouse.Bucket, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BACK_OFF_S", 0.001)
    await put_at_once(photos, 10)
    store.faults.put_answer_endless = 1
    outcomes = await put_at_once(photos, count, size=5)
    assert all(isinstance(outcome, str) for outcome in outcomes.values())
    assert store.faults.put_answer_endless == 0
    for key, etag in outcomes.items():
        assert store.buckets["photos"][key].etag == etag


async def test_what_failed_in_passing_is_put_again(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BACK_OFF_S", 0.001)
    store.faults.put_error_before_commit = [WriteFailed("EIO") for _ in range(5)]
    outcomes = await put_at_once(photos, 30)
    assert all(isinstance(outcome, str) for outcome in outcomes.values())
    assert_true(store, outcomes)


async def test_a_put_that_is_cancelled_under_way_is_resolved_and_the_others_are_stored(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await put_at_once(photos, 40)
    store.faults.put_delay_s = 1.5
    scope = trio.CancelScope()

    async def put_cancelled() -> None:
        with scope:
            await photos.put("cancelled", b"x")

    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(photos.put, f"kept {number}", b"x")
        nursery.start_soon(put_cancelled)
        await trio.sleep(0.1)
        scope.cancel()
        while not store.count(ResolveNeedle):
            await trio.sleep(0.005)
        assert "kept 0" not in store.buckets["photos"], "the batch is still under way"
    assert scope.cancelled_caught
    objects = store.buckets["photos"]
    assert "cancelled" not in objects
    assert sum(key.startswith("kept") for key in objects) == 9


async def test_a_put_that_is_cancelled_in_the_queue_is_never_sent(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_delay_s = 0.6
    async with trio.open_nursery() as nursery:
        for number in range(3):  # one request each: as many as may be in flight
            nursery.start_soon(photos.put, f"first {number}", b"x")
            await trio.sleep(0.01)
        nursery.start_soon(photos.put, "kept", b"x")
        with trio.move_on_after(0.01) as scope:
            await photos.put("cancelled", b"x")
    assert scope.cancelled_caught
    assert {*store.buckets["photos"]} == {"first 0", "first 1", "first 2", "kept"}
    assert store.count(ResolveNeedle) == 0


async def test_cancelled_puts_leave_the_lanes_to_others(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_delay_s = 5
    for count in (1, 3, 20):
        with trio.move_on_after(0.1):
            await put_at_once(photos, count)
    store.faults.put_delay_s = 0
    with trio.fail_after(40):
        assert_true(store, await put_at_once(photos, 20))


async def test_a_volume_that_is_stuck_does_not_keep_the_puts_to_others_waiting(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.stuck[1] = 60.0
    done: list[int] = []

    async def put(number: int) -> None:
        await photos.put(f"{number}", b"x")
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(put, number)
            await trio.sleep(0.05)
        with trio.move_on_after(30):
            while len(done) < 8:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert len(done) >= 8
    stored = store.buckets["photos"].values()
    assert {info.chunks[0].volume_id for info in stored} == {2}


async def test_closing_the_client_ends_puts_that_other_tasks_wait_for(store: FakeStore) -> None:
    outcomes: dict[str, str | StoreError] = {}
    async with trio.open_nursery() as nursery:
        async with warehouse.connect(store.profile) as client:
            photos = client.bucket("photos")
            await put_at_once(photos, 1)
            store.faults.put_delay_s = 30

            async def put_all() -> None:
                outcomes.update(await put_at_once(photos, 600))  # some are under way, and some wait

            nursery.start_soon(put_all)
            await trio.sleep(0.1)
        nursery.cancel_scope.deadline = trio.current_time() + 20
    assert len(outcomes) == 600
    assert all(isinstance(outcome, LinkDown | OutcomeUnknown) for outcome in outcomes.values())


# --- gets -----------------------------------------------------------------------------------------


async def test_gets_of_one_moment_share_a_request_for_each_volume(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    keys = [*await put_at_once(photos, 60)]
    store.batches.clear()
    found = await get_at_once(photos, keys)
    assert found == {key: key[-1].encode() * 100 for key in keys}
    assert store.http["GET"] == 0
    assert len(store.batches) <= 2
    assert sum(store.batches) == 60


async def test_a_get_that_is_alone_is_a_request_of_its_own(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"1")
    assert await photos.get("a") == b"1"
    assert (store.http["GET"], store.batches) == (1, [])


async def test_an_object_that_is_absent_or_empty_does_not_touch_the_others(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    keys = [*await put_at_once(photos, 5)]
    await photos.put("empty", b"")
    found = await get_at_once(photos, [*keys, "absent", "empty"])
    assert isinstance(found.pop("absent"), NoSuchObject)
    assert found.pop("empty") == b""
    assert found == {key: key.encode() * 100 for key in keys}


@pytest.mark.parametrize("fault", ["get_dropped", "get_cut_short", "get_garbled"])
async def test_what_went_wrong_together_is_read_once_more_alone(
    store: FakeStore, photos: warehouse.Bucket, fault: str
) -> None:
    keys = [*await put_at_once(photos, 20)]
    setattr(store.faults, fault, 1)
    assert await get_at_once(photos, keys) == {key: key[-1].encode() * 100 for key in keys}


async def test_damage_is_told_of_one_object_alone(store: FakeStore, photos: warehouse.Bucket) -> None:
    keys = [*await put_at_once(photos, 20)]
    chunk = store.buckets["photos"]["7"].chunks[0]
    needle = store.needles[chunk.volume_id, chunk.needle_id]
    needle.data = b"X" + needle.data[1:]
    found = await get_at_once(photos, keys)
    assert isinstance(found.pop("7"), DataDamaged)
    assert all(isinstance(data, bytes) for data in found.values())


async def test_a_get_that_is_cancelled_leaves_the_others(store: FakeStore, photos: warehouse.Bucket) -> None:
    keys = [*await put_at_once(photos, 10)]
    store.faults.locate_delay_s = 0.05
    with trio.move_on_after(0.02) as scope:
        await get_at_once(photos, keys)
    assert scope.cancelled_caught
    assert await get_at_once(photos, keys) == {key: key.encode() * 100 for key in keys}


async def test_closing_the_client_ends_gets_that_other_tasks_wait_for(store: FakeStore) -> None:
    outcomes: dict[str, bytes | StoreError] = {}
    async with trio.open_nursery() as nursery:
        async with warehouse.connect(store.profile) as client:
            photos = client.bucket("photos")
            keys = [*await put_at_once(photos, 20)]
            store.faults.locate_delay_s = 30

            async def get_all(some: list[str]) -> None:
                outcomes.update(await get_at_once(photos, some))

            nursery.start_soon(get_all, keys[:10])
            await trio.sleep(0.1)
            nursery.start_soon(get_all, keys[10:])  # their question waits for the answer to the first
            await trio.sleep(0.1)
        nursery.cancel_scope.deadline = trio.current_time() + 20
    assert len(outcomes) == 20
    assert all(isinstance(outcome, LinkDown) for outcome in outcomes.values())
