"""The library when things break: nothing is applied twice, nothing is taken for done that is not, nothing
wrong is handed out, and nothing half done is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

import warehouse
import warehouse.client.store
import warehouse.client.writing.uploads
from bodies import noise, pieces_of
from fake_store import CREATED_MS, FakeStore
from warehouse.client import control
from warehouse.client.writing import put
from warehouse.client.writing.sources import OnceSource
from warehouse.errors import (
    BadRequest,
    ClusterFull,
    LeaseExhausted,
    NeedleCorrupt,
    NeedleMissing,
    NeedleVoid,
    NoSuchBucket,
    NoSuchNeedle,
    NoSuchUpload,
    NotAuthenticated,
    ObjectReplaced,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    StoreError,
    TokenExpired,
    TokenRevoked,
    Unavailable,
    VolumeOffline,
    VolumeSealed,
    WriteFailed,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    AbortUpload,
    Answer,
    BeginUpload,
    CreateBucket,
    DeleteObjects,
    FinishUpload,
    LeaseNeedles,
    LocateObjects,
    Login,
    Request,
    RequestSlots,
    ResolveNeedle,
    StatObject,
)
from warehouse.transport.zeromq.peers import Peer

MIB = 1024 * 1024


@pytest.fixture
async def client(store: FakeStore) -> AsyncIterator[warehouse.Store]:
    async with warehouse.connect(store.profile, timeout_s=20) as client:
        yield client


# --- small puts -----------------------------------------------------------------------------------


async def test_a_put_whose_answer_was_lost_is_found_committed_and_not_repeated(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_dropped_after_commit = 1
    written = await photos.put("a", b"1", if_none_match="*")  # a second try would be refused
    assert written.etag == (await photos.stat("a")).etag
    assert written.created_ms == CREATED_MS
    assert store.http["PUT"] == 1
    assert store.count(ResolveNeedle) == 1


async def test_a_put_that_never_arrived_is_resolved_and_repeated_on_the_other_volume(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_dropped_before_commit = 1
    await photos.put("a", b"1")
    assert store.http["PUT"] == 2
    (void,) = store.void
    (committed,) = store.committed
    assert void[0] != committed[0]
    assert await photos.get("a") == b"1"


async def test_an_answer_that_says_unknown_is_resolved(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_error_after_commit = [OutcomeUnknown("the master did not answer")]
    await photos.put("a", b"1", if_none_match="*")
    assert store.http["PUT"] == 1
    assert len(store.committed) == 1


async def test_a_put_that_its_volume_calls_void_was_perhaps_committed_and_is_resolved(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    """Somebody read the object and deleted it: the volume sees a tombstone, and cannot know why."""
    store.faults.put_error_after_commit = [NeedleVoid("given up before it was committed")]

    answer = store._decide

    def decide(peer: Peer, request: Request) -> Answer:
        if isinstance(request, ResolveNeedle):
            store._remove(store.buckets["photos"].pop("a", None))
        return answer(peer, request)

    store._decide = decide  # type: ignore[method-assign]
    written = await photos.put("a", b"1")
    assert written.created_ms == 0
    assert store.http["PUT"] == 1
    assert store.buckets["photos"] == {}, "the deletion was not undone"


async def test_a_lost_put_that_was_replaced_meanwhile_has_no_time(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_dropped_after_commit = 1
    store.faults.refused["StatObject"] = [Overloaded("later"), PermissionDenied("write only")]
    with pytest.raises(PermissionDenied):
        await photos.put("a", b"1")
    store.faults.put_dropped_after_commit = 1
    store.faults.refused["StatObject"] = [WriteFailed("no")]
    written = await photos.put("a", b"2")
    assert written.created_ms == 0
    assert written.etag == store.buckets["photos"]["a"].etag


async def test_a_failed_disk_is_avoided(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_error_before_commit = [VolumeSealed("fsync failed")]
    for number in range(20):
        await photos.put(f"{number}", b"1")
    (void,) = store.void
    assert {volume for volume, _ in store.committed} == {1, 2} - {void[0]}


async def test_a_full_disk_sends_the_put_elsewhere_without_a_question(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.full = {1}
    for number in range(4):
        await photos.put(f"{number}", b"1")
    assert {volume for volume, _ in store.committed} == {2}
    assert store.count(ResolveNeedle) == 0


async def test_a_full_cluster_is_told_at_once(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.refused["LeaseNeedles"] = [ClusterFull("no room"), ClusterFull("not even for one")]
    with trio.fail_after(15), pytest.raises(ClusterFull, match="not even for one"):
        await photos.put("a", b"1")
    assert store.count(LeaseNeedles) == 2  # the second asked for the least
    await photos.put("a", b"1")


async def test_a_put_waits_for_a_volume_that_restarts(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.offline = {1, 2}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(photos.put, "a", b"1")
        await trio.sleep(0.3)
        store.faults.offline = set()
    assert await photos.get("a") == b"1"


@pytest.mark.parametrize("error", [LeaseExhausted("spent"), NotAuthenticated("odd")])
async def test_a_spent_lease_is_replaced_and_other_refusals_are_raised(
    store: FakeStore, photos: warehouse.Bucket, error: StoreError
) -> None:
    store.faults.put_error_before_commit = [error]
    if isinstance(error, LeaseExhausted):
        await photos.put("a", b"1")
        assert store.http["PUT"] == 2
    else:
        with pytest.raises(NotAuthenticated):
            await photos.put("a", b"1")
        assert store.http["PUT"] == 1
    assert store.count(ResolveNeedle) == 0


async def test_a_bucket_that_was_made_anew_by_somebody_else_takes_puts(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"1")
    store.faults.put_error_before_commit = [NoSuchBucket("that bucket was deleted")]
    await photos.put("a", b"2")
    assert await photos.get("a") == b"2"


async def test_a_copy_reads_while_its_writes_hold_every_connection(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.client.store, "HttpPool", partial(HttpPool, connections_max=1))
    store.chunk_size = MIB
    async with warehouse.connect(store.profile) as client:
        photos = client.bucket("photos")
        await photos.put("a", noise(4 * MIB))
        with trio.fail_after(30):
            await photos.copy("a", "b")
        assert await photos.get("b") == noise(4 * MIB)


@pytest.mark.parametrize("error", [TokenExpired, TokenRevoked])
async def test_expired_and_revoked_write_tokens_are_replaced(
    store: FakeStore, photos: warehouse.Bucket, error: type[StoreError]
) -> None:
    await photos.put("a", b"1")
    store.expire_tokens(error)
    await photos.put("b", b"2")
    assert await photos.get("b") == b"2"
    store.expire_tokens(error)
    await photos.put("large", noise(9 * MIB))
    store.expire_tokens(error)
    assert await photos.get("large") == noise(9 * MIB)
    assert store.count(ResolveNeedle) == 0


async def test_a_lease_is_not_used_when_it_is_about_to_expire(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.lease_s = 0.2
    await photos.put("a", b"1")
    await trio.sleep(0.2)
    await photos.put("b", b"2")
    assert store.count(LeaseNeedles) >= 2
    assert store.http["PUT"] == 2


async def test_a_put_gives_up_after_some_attempts_and_left_nothing(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.faults.put_error_before_commit = [WriteFailed(f"attempt {number}") for number in range(1, 9)]
    with pytest.raises(WriteFailed, match=f"attempt {put.ATTEMPTS}"):
        await photos.put("a", b"1")
    assert len(store.void) == put.ATTEMPTS
    assert store.buckets["photos"] == {}


async def test_a_put_that_cannot_be_resolved_says_so(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_dropped_after_commit = 1
    store.faults.refused["ResolveNeedle"] = [WriteFailed("the catalog is full")]
    with pytest.raises(OutcomeUnknown, match="photos/a may or may not"):
        await photos.put("a", b"1")
    assert store.http["PUT"] == 1


# --- uploads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("fault", ["put_dropped_before_commit", "put_dropped_after_commit", "put_garbled"])
async def test_a_failed_chunk_is_sent_again_on_another_slot(
    store: FakeStore, photos: warehouse.Bucket, fault: str, is_stream: bool
) -> None:
    store.chunk_size = 80 * MIB
    setattr(store.faults, fault, 1)
    data = noise(9 * MIB)
    await photos.put("film", pieces_of(data, MIB) if is_stream else data)
    assert await photos.get("film") == data
    assert store.aborted == []
    retried = [request for request in store.asked if isinstance(request, RequestSlots)][-1]
    if fault != "put_garbled" or not is_stream:
        assert len(retried.exclude_volumes) <= 1


async def test_progress_goes_back_when_a_chunk_is_sent_again(
    store: FakeStore, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    (tmp_path / "film").write_bytes(noise(9 * MIB))
    store.faults.put_dropped_after_commit = 1
    seen: list[int] = []
    await photos.upload("film", tmp_path / "film", seen.append)
    assert seen[-1] == 9 * MIB
    assert seen != sorted(seen)


async def test_an_upload_that_fails_is_aborted(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_error_before_commit = [BadRequest("no"), BadRequest("no")]
    with pytest.raises(BadRequest, match="no"):
        await photos.put("film", noise(9 * MIB))
    assert len(store.aborted) == 1
    assert store.uploads == {}
    assert store.buckets["photos"] == {}


async def test_an_upload_that_is_cancelled_is_aborted(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.put_delay_s = 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(photos.put, "film", noise(9 * MIB))
        await store.wait_for_puts(1)
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert len(store.aborted) == 1
    assert store.uploads == {}


async def test_an_upload_whose_source_fails_is_aborted_with_the_sources_error(
    store: FakeStore, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield noise(MIB)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        await photos.put("film", broken())
    assert len(store.aborted) == 1

    path = tmp_path / "shrinking"
    path.write_bytes(noise(9 * MIB))
    store.faults.put_delay_s = 0.05

    def shrink(count: int) -> None:
        path.write_bytes(b"")

    with pytest.raises(BadRequest, match="shorter"):
        await photos.upload("film", path, shrink)
    assert len(store.aborted) == 2
    assert store.buckets["photos"] == {}


async def test_a_finish_whose_answer_was_lost_is_repeated_and_known(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    # The fake forgets finished uploads, as if another put had replaced the object since.
    store.faults.answer_lost["FinishUpload"] = 1
    with pytest.raises(OutcomeUnknown, match="photos/film"):
        await photos.put("film", noise(2 * MIB))
    assert store.count(FinishUpload) == 2
    assert await photos.get("film") == noise(2 * MIB)


async def test_a_finish_that_was_surely_not_done_fails_plainly(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.client.writing.uploads, "RIDE_OUT_LATER_S", 0.5)
    store.faults.refused["FinishUpload"] = [Overloaded("busy")] * 1000
    async with warehouse.connect(store.profile, timeout_s=3) as client:
        with pytest.raises(Overloaded):
            await client.bucket("photos").put("film", noise(2 * MIB))
    assert store.count(AbortUpload) == 1
    assert store.uploads == {}


@pytest.mark.parametrize("is_repeatable", [True, False])
async def test_a_put_whose_upload_is_given_up_under_it_may_be_repeated(
    store: FakeStore, photos: warehouse.Bucket, is_repeatable: bool
) -> None:
    """Whoever puts an object knows of no upload: the bucket was deleted, say, and a repeat hears of it."""

    async def made() -> AsyncGenerator[bytes, None]:
        yield noise(2 * MIB)

    async with aclosing(made()) as pieces:
        if is_repeatable:
            store.faults.refused["RequestSlots"] = [NoSuchUpload("aborted")]
        else:
            store.faults.put_error_after_commit = [NeedleVoid("it was given up")]
        with pytest.raises(Unavailable, match="given up"):
            await photos.put("film", noise(2 * MIB) if is_repeatable else OnceSource(pieces, 2 * MIB))
    assert store.buckets["photos"] == {}
    assert store.uploads == {}
    await photos.put("film", noise(2 * MIB))


async def test_an_expired_upload_is_not_taken_for_done(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.refused["FinishUpload"] = [NoSuchUpload("expired")]
    with pytest.raises(OutcomeUnknown):
        await photos.put("film", noise(2 * MIB))
    assert store.buckets["photos"] == {}


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 9 * MIB])
@pytest.mark.parametrize("fault", ["get_dropped", "get_cut_short"])
async def test_a_broken_read_goes_on(
    store: FakeStore, photos: warehouse.Bucket, size: int, fault: str
) -> None:
    await photos.put("a", noise(size))
    setattr(store.faults, fault, 2)
    assert await photos.get("a") == noise(size)


@pytest.mark.parametrize("error", [TokenExpired, TokenRevoked])
async def test_expired_and_revoked_read_tokens_are_replaced(
    store: FakeStore, photos: warehouse.Bucket, error: type[StoreError]
) -> None:
    await photos.put("a", noise(9 * MIB))
    async with photos.open("a") as stream:
        received = await anext(stream)
        store.expire_tokens(error)
        async for piece in stream:
            received += piece
    assert received == noise(9 * MIB)


@pytest.mark.parametrize("size", [1000, 4 * MIB, 9 * MIB])
async def test_wrong_bytes_are_never_handed_out_as_whole(
    store: FakeStore, photos: warehouse.Bucket, size: int, tmp_path: Path
) -> None:
    await photos.put("a", noise(size))
    store.faults.get_garbled = 1
    with pytest.raises(NeedleCorrupt, match="needle"):
        await photos.get("a")
    store.faults.get_garbled = 1
    (tmp_path / "a").write_bytes(b"older")
    with pytest.raises(NeedleCorrupt):
        await photos.download("a", tmp_path / "a")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]
    assert await photos.get("a") == noise(size)


@pytest.mark.parametrize("size", [1000, 9 * MIB])
async def test_an_offline_disk_is_named(store: FakeStore, photos: warehouse.Bucket, size: int) -> None:
    await photos.put("a", noise(size))
    store.faults.offline = {1, 2}
    with trio.fail_after(30), pytest.raises(VolumeOffline, match=r"'disk-[12]' is offline; .*photos/a"):
        await photos.get("a")


async def test_a_disk_that_goes_while_a_stream_runs_may_come_back(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    store.chunk_size = 80 * MIB
    await photos.put("a", noise(40 * MIB))
    async with photos.open("a") as stream, trio.open_nursery() as nursery:
        received = bytearray(await anext(stream))
        store.faults.offline = {1, 2}

        async def come_back() -> None:
            await trio.sleep(1)
            store.faults.offline = set()

        nursery.start_soon(come_back)
        async for piece in stream:
            received += piece
    assert received == noise(40 * MIB)


@pytest.mark.parametrize("size", [1000, 9 * MIB])
async def test_a_needle_that_the_catalog_names_and_the_volume_lacks_is_damage(
    store: FakeStore, photos: warehouse.Bucket, size: int
) -> None:
    await photos.put("a", noise(size))
    for needle in store.needles.values():
        needle.is_deleted = True
    with pytest.raises(NeedleMissing, match="photos/a"):
        await photos.get("a")


async def test_a_needle_that_is_missing_once_is_asked_for_again(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"1")
    store.faults.get_error = [NoSuchNeedle("index behind")]
    assert await photos.get("a") == b"1"


@pytest.mark.parametrize("size", [1000, 9 * MIB])
async def test_a_get_starts_again_when_the_object_is_replaced(
    store: FakeStore, photos: warehouse.Bucket, size: int, tmp_path: Path
) -> None:
    objects = store.buckets["photos"]
    for seed in (1, 2, 3):
        await photos.put(f"version {seed}", noise(size, seed))
    versions = [msgspec.structs.replace(objects[f"version {seed}"], key="a") for seed in (1, 2, 3)]
    objects["a"] = versions[0]
    replacements = [versions[1]]

    def replace(volume_id: int, needle_id: int) -> None:
        if replacements:
            store._remove(objects["a"])
            objects["a"] = replacements.pop()

    store.before_get = replace
    assert await photos.get("a") == noise(size, 2)
    replacements.append(versions[2])
    await photos.download("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == noise(size, 3)


async def test_a_stream_never_mixes_versions(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.chunk_size = 80 * MIB
    await photos.put("a", noise(40 * MIB))
    async with photos.open("a") as stream:
        received = bytearray(await anext(stream))
        await photos.put("a", noise(40 * MIB, 2))
        error: Exception | None = None
        try:
            async for piece in stream:
                received += piece
        except ObjectReplaced as replaced:
            error = replaced
    assert "photos/a" in str(error)
    assert noise(40 * MIB).startswith(received)


async def test_a_copy_never_mixes_versions(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("a", noise(24 * MIB))
    asked: list[int] = []

    def replace(volume_id: int, needle_id: int) -> None:
        asked.append(needle_id)
        if len(asked) == 3:
            info = store.buckets["photos"]["a"]
            store._remove(info)
            chunks = [info.chunks[0]]
            store.buckets["photos"]["a"] = warehouse.ObjectInfo(
                key="a", size=4 * MIB, etag="another", created_ms=0, chunks=chunks
            )

    store.before_get = replace
    with pytest.raises(ObjectReplaced):
        await photos.copy("a", "b")
    assert "b" not in store.buckets["photos"]
    assert len(store.aborted) == 1


async def test_a_download_that_is_cancelled_leaves_nothing(
    store: FakeStore, photos: warehouse.Bucket, tmp_path: Path
) -> None:
    await photos.put("a", noise(9 * MIB))
    with trio.CancelScope() as scope:
        await photos.download("a", tmp_path / "a", lambda count: scope.cancel())
    assert scope.cancelled_caught
    assert [*tmp_path.iterdir()] == []


# --- the control link -----------------------------------------------------------------------------


async def test_repeatable_questions_outlive_a_broken_link(store: FakeStore, photos: warehouse.Bucket) -> None:
    for name in (
        "LeaseNeedles",
        "LocateObjects",
        "ResolveNeedle",
        "BeginUpload",
        "RequestSlots",
        "StatObject",
    ):
        store.faults.answer_lost[name] = 1
    store.faults.put_dropped_before_commit = 1
    await photos.put("a", b"1")
    assert await photos.get("a") == b"1"
    await photos.put("b", noise(2 * MIB))
    assert (await photos.stat("b")).size == 2 * MIB
    for kind in (LeaseNeedles, LocateObjects, ResolveNeedle, BeginUpload, RequestSlots, StatObject):
        assert store.count(kind) >= 2, kind


async def test_what_may_have_been_done_is_not_done_twice(store: FakeStore, photos: warehouse.Bucket) -> None:
    await photos.put("a", b"1")
    store.faults.answer_lost = {"DeleteObjects": 1}
    with pytest.raises(OutcomeUnknown):
        await photos.delete("a")
    assert store.count(DeleteObjects) == 1
    async with warehouse.connect(store.profile) as client:
        store.faults.answer_lost = {"CreateBucket": 1}
        with pytest.raises(OutcomeUnknown):
            await client.create_bucket("films")
        assert store.count(CreateBucket) == 1


async def test_a_session_that_was_forgotten_is_made_anew_once_for_all(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    await photos.put("a", b"1")
    logins = store.count(Login)
    store.faults.not_authenticated = 1
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(photos.stat, "a")
    assert store.count(Login) - logins == 1
    store.faults.not_authenticated = 10
    with pytest.raises(NotAuthenticated):
        await photos.stat("a")


async def test_an_overloaded_master_is_asked_again(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.refused["ListObjects"] = [Overloaded("busy"), Overloaded("busy")]
    assert [entry async for entry in photos.list()] == []


async def test_questions_wait_for_the_link_and_no_longer_than_allowed(store: FakeStore) -> None:
    async with warehouse.connect(store.profile, timeout_s=3) as client:
        store.secret = "changed"
        store._sessions.clear()
        for peer in [*store.hub.peers.values()]:
            await store._cut(peer)
        with trio.fail_after(15), pytest.raises(StoreError):
            await client.buckets()


def test_pauses_grow_up_to_a_bound() -> None:
    assert 0 < control.back_off_s(0) <= control.BACK_OFF_S
    assert control.BACK_OFF_MAX_S / 2 <= control.back_off_s(50) <= control.BACK_OFF_MAX_S


def test_every_failure_that_is_not_ours_is_uncertain() -> None:
    """Whoever adds an error must decide what it means for a put; not deciding must be the safe side."""
    assert put.judge(Unavailable("something new")) is put.Verdict.IN_DOUBT
    assert put.judge(StoreError("a code of a later release")) is put.Verdict.IN_DOUBT
