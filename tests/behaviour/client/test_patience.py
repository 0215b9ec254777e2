"""What passes is waited for until the client's time is over, and nothing that passes is called final."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

import warehouse
from bodies import noise
from fake_store import FakeStore, fake_store
from warehouse.client import patience
from warehouse.client.writing import put, uploads
from warehouse.errors import (
    BadCredentials,
    Busy,
    LinkDown,
    Overloaded,
    RequestRefused,
    StoreError,
    TokenInvalid,
    Unavailable,
    VolumeOffline,
)
from warehouse.transport.messages import (
    AbortUpload,
    Answer,
    FinishUpload,
    Login,
    Request,
    RequestSlots,
    ResolveNeedle,
)
from warehouse.transport.zeromq.peers import Peer

MIB = 1024 * 1024
TIMES = 3 * patience.ATTEMPTS  # more often than anything is tried that does not pass


@pytest.fixture
async def client(store: FakeStore) -> AsyncIterator[warehouse.Store]:
    async with warehouse.connect(store.profile, timeout_s=10) as client:
        yield client


# --- puts ---------------------------------------------------------------------------------------------


async def by_put(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"1")


async def by_put_many(photos: warehouse.Bucket) -> None:
    async for result in photos.put_many([("a", b"1")]):
        if result.error is not None:
            raise result.error


async def by_upload(photos: warehouse.Bucket) -> None:
    await photos.put("a", noise(5 * MIB))


WAYS = [by_put, by_put_many, by_upload]
Way = Callable[[warehouse.Bucket], Awaitable[None]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("failure", [TokenInvalid("signed with an unknown key"), Overloaded("1024 are here")])
async def test_a_put_outlasts_what_passes(
    store: FakeStore, photos: warehouse.Bucket, failure: StoreError, way: Way
) -> None:
    """A volume actor that restarts knows no key until its master has answered; a full one lets others go."""
    store.faults.put_error_before_commit = [failure] * TIMES
    await way(photos)
    assert store.faults.put_error_before_commit == []
    assert [*store.buckets["photos"]] == ["a"]
    assert store.aborted == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_put_outlasts_connections_that_break(
    store: FakeStore, photos: warehouse.Bucket, way: Way
) -> None:
    if way is by_put_many:  # the fake's batches know no such fault
        store.faults.put_error_before_commit = [LinkDown("the connection broke")] * TIMES
    else:
        store.faults.put_dropped_before_commit = TIMES
    await way(photos)
    assert [*store.buckets["photos"]] == ["a"]


@pytest.mark.parametrize("way", WAYS)
async def test_what_does_not_pass_in_time_is_still_not_called_the_callers_fault(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    monkeypatch.setattr(uploads, "RIDE_OUT_S", 0.5)
    store.faults.put_error_before_commit = [TokenInvalid("signed with an unknown key")] * 1000
    async with warehouse.connect(store.profile, timeout_s=3) as client:
        with (
            trio.fail_after(30),
            pytest.raises(Unavailable, match="refuses what the master signed") as caught,
        ):
            await way(client.bucket("photos"))
    assert not isinstance(caught.value, RequestRefused)


# --- gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 9 * MIB])
@pytest.mark.parametrize("failure", [TokenInvalid("signed with an unknown key"), Overloaded("1024 are here")])
async def test_a_get_outlasts_what_passes(
    store: FakeStore, photos: warehouse.Bucket, failure: StoreError, size: int
) -> None:
    await photos.put("a", noise(size))
    store.faults.get_error = [failure] * TIMES
    assert await photos.get("a") == noise(size)
    assert store.faults.get_error == []


async def test_a_get_that_is_refused_for_too_long_is_not_the_callers_fault(store: FakeStore) -> None:
    async with warehouse.connect(store.profile, timeout_s=3) as client:
        photos = client.bucket("photos")
        await photos.put("a", b"1")
        store.faults.get_error = [TokenInvalid("signed with an unknown key")] * 1000
        with trio.fail_after(30), pytest.raises(Unavailable):
            await photos.get("a")


# --- connecting ---------------------------------------------------------------------------------------


def answer_logins_with(store: FakeStore, failures: list[StoreError]) -> None:
    answer = store._answer

    async def answer_login(peer: Peer, request: Request) -> Answer:
        if isinstance(request, Login) and failures:
            raise failures.pop(0)
        return await answer(peer, request)

    store.hub._dispatcher.answer = answer_login


async def test_a_master_that_is_busy_is_worth_the_full_time(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.client.control.FIRST_ANSWER_S", 1.0)
    answer_logins_with(store, [Overloaded("512 clients are logged in")] * 5)
    with trio.fail_after(30):
        async with warehouse.connect(store.profile, timeout_s=20) as client:
            assert [info.name for info in await client.buckets()] == ["photos"]


async def test_a_master_that_stays_busy_says_so_and_not_that_nobody_is_there(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.client.control.FIRST_ANSWER_S", 1.0)
    answer_logins_with(store, [Overloaded("512 clients are logged in")] * 1000)
    with trio.fail_after(40), pytest.raises(Overloaded, match="512 clients are logged in"):
        async with warehouse.connect(store.profile, timeout_s=3):
            pass


async def test_a_wrong_key_is_told_at_once(store: FakeStore) -> None:
    answer_logins_with(store, [BadCredentials("no such key")] * 1000)
    with trio.fail_after(30), pytest.raises(BadCredentials):
        async with warehouse.connect(store.profile):
            pass


# --- uploads whose chunks are all stored --------------------------------------------------------------


@pytest.mark.parametrize("failure", [VolumeOffline("disk-1 restarts"), Unavailable("overtaken")])
async def test_a_finish_that_needs_a_disk_that_restarts_is_asked_again_and_nothing_is_thrown_away(
    store: FakeStore, photos: warehouse.Bucket, failure: StoreError
) -> None:
    store.faults.refused["FinishUpload"] = [failure] * 4
    written = await photos.put("film", noise(9 * MIB))
    assert store.aborted == []
    assert store.count(FinishUpload) == 5
    assert store.buckets["photos"]["film"].etag == written.etag
    assert store.count(AbortUpload) == 0


async def test_an_upload_with_stored_chunks_waits_longer_for_the_next_slot(
    store: FakeStore, photos: warehouse.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "RIDE_OUT_S", 0.1)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield noise(4 * MIB)

    decide, refused_count = store._decide, 0

    def decide_slots(peer: Peer, request: Request) -> Any:
        nonlocal refused_count
        # Two chunks travel at once, so one is stored when the fourth asks for its place.
        if isinstance(request, RequestSlots) and request.slots[0].chunk_index == 3 and refused_count < 6:
            refused_count += 1
            raise VolumeOffline("no volume takes writes now")
        return decide(peer, request)

    store._decide = decide_slots  # type: ignore[method-assign]
    await photos.put("film", pieces())
    assert refused_count == 6
    assert store.buckets["photos"]["film"].size == 24 * MIB
    assert store.aborted == []


# --- puts that were cancelled -------------------------------------------------------------------------


async def put_one(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"old")


async def put_some(photos: warehouse.Bucket) -> None:
    async with trio.open_nursery() as nursery:
        for key in ("a", "b", "c"):
            nursery.start_soon(photos.put, key, b"old")


async def put_a_batch(photos: warehouse.Bucket) -> None:
    async for _ in photos.put_many([("a", b"old"), ("b", b"old")]):
        pass


async def put_a_larger_one(photos: warehouse.Bucket) -> None:
    await photos.put("a", bytes(100_000))


async def then_put(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"new")


async def then_put_many(photos: warehouse.Bucket) -> None:
    async for result in photos.put_many([("a", b"new")]):
        assert result.error is None


async def then_upload(photos: warehouse.Bucket) -> None:
    await photos.put("a", b"new" + bytes(5 * MIB))


async def then_delete(photos: warehouse.Bucket) -> None:
    await photos.delete("a")


async def then_delete_many(photos: warehouse.Bucket) -> None:
    await photos.delete_many(["z", "a"])


@pytest.mark.parametrize(
    ("cancelled", "later"),
    [
        (put_one, then_put),
        (put_some, then_put),
        (put_a_batch, then_put),
        (put_a_larger_one, then_put),
        (put_one, then_put_many),
        (put_one, then_upload),
        (put_one, then_delete),
        (put_one, then_delete_many),
    ],
)
async def test_a_cancelled_put_never_overtakes_what_comes_later(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, cancelled: Way, later: Way
) -> None:
    """Its volume has the bytes, its master restarts: it can still be committed, and cannot be resolved."""
    for module in ("warehouse.client.writing.put", "warehouse.client.writing.put_many"):
        monkeypatch.setattr(f"{module}.RESOLVE_S", 0.05)
    decide = store._decide
    is_master_away = True
    resolved = trio.Event()

    def decide_later(peer: Peer, request: Request) -> Any:
        if isinstance(request, ResolveNeedle):
            if is_master_away:
                raise Unavailable("restarting")
            resolved.set()
        return decide(peer, request)

    store._decide = decide_later  # type: ignore[method-assign]
    async with warehouse.connect(store.profile, timeout_s=30) as client, trio.open_nursery() as nursery:
        photos = client.bucket("photos")
        await photos.put("warm", b"")
        store.faults.put_delay_s = 1.0
        store.puts_in_flight_max = 0
        async with trio.open_nursery() as given_up:
            given_up.start_soon(cancelled, photos)
            await store.wait_for_puts(3 if cancelled is put_some else 2 if cancelled is put_a_batch else 1)
            given_up.cancel_scope.cancel()
        store.faults.put_delay_s = 0.0

        async def come_back() -> None:
            nonlocal is_master_away
            await trio.sleep(0.3)
            is_master_away = False

        nursery.start_soon(come_back)
        with trio.fail_after(30):
            await later(photos)
        assert resolved.is_set(), "it waited for the cancelled put"
        after = store.buckets["photos"].get("a")
        await trio.sleep(1.0)  # by now the old one has arrived
        assert store.buckets["photos"].get("a") == after
        assert (after is None) == (later in (then_delete, then_delete_many))


def test_patience_for_what_leaves_something_behind_is_counted() -> None:
    assert put.ATTEMPTS == patience.ATTEMPTS == 4


async def test_a_client_that_is_told_to_come_back_later_does() -> None:
    async with fake_store() as store, warehouse.connect(store.profile) as client:
        bucket = await client.create_bucket("photos")
        store.faults.refused["LeaseNeedles"] = [Busy("too much", retry_after_s=0.4)]
        began = trio.current_time()
        await bucket.put("cat", b"cat")
        assert trio.current_time() - began >= 0.4
        assert store.buckets["photos"]["cat"].size == 3


async def test_a_client_waits_no_longer_than_it_was_given_time() -> None:
    async with fake_store() as store, warehouse.connect(store.profile, timeout_s=5) as client:
        bucket = await client.create_bucket("photos")
        store.faults.refused["StatObject"] = [Busy("too much", retry_after_s=60.0)]
        began = trio.current_time()
        with pytest.raises(Busy) as caught:
            await bucket.stat("cat")
        assert caught.value.retry_after_s == 60.0
        assert trio.current_time() - began < 40
