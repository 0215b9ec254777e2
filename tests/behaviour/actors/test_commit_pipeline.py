"""The commit pipeline: durable first, then visible, and an answer that means both."""

from __future__ import annotations

import gc
import uuid
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
import trio
from trio.testing import MockClock

from scripted_link import ScriptedLink, commit_all
from warehouse.actors.data.commit_pipeline import APPEND_SIZE, BATCH_MAX, CONFIRM_S, CommitPipeline
from warehouse.actors.data.put_request import PutDetails
from warehouse.auth.data_tokens import DataClaims
from warehouse.errors import (
    ChecksumMismatch,
    LinkDown,
    NeedleVoid,
    NoSuchBucket,
    OutcomeUnknown,
    StoreError,
    VolumeSealed,
    WriteFailed,
)
from warehouse.storage.disk import Buffer, OsDisk, OsFile
from warehouse.storage.format.needle import NeedleMetadata, encode_metadata
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import APPENDS_MAX, NewNeedle
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Answer,
    Commit,
    Envelope,
    NeedlesCommitted,
    NeedlesStored,
    StoredNeedle,
    encode_envelope,
)

CLAIMS = DataClaims(operation="put", audience="d", volume_id=1, expires_at_s=2**40, bucket_id=1, bucket="b")


class Body(bytearray):
    """Bytes that can be watched going away."""

    __slots__ = ("__weakref__",)


class Bench:
    """One real volume with its commit pipeline, and a pretended master."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.link = ScriptedLink()
        self.clock = StampClock()
        self.pipeline = CommitPipeline(
            volume,
            self.link,  # type: ignore[arg-type]
            self.clock,
            is_synced=True,
            on_master_stamp=self.clock.observe,
        )

    def append(self, needle_id: int) -> StoredNeedle:
        stamp = self.clock.tick(1)
        placed = self.volume.append(
            needle_id, NeedleMetadata("b", 1, f"key-{needle_id}", 0), b"data", stamp=stamp
        )
        return StoredNeedle(
            self.volume.volume_id,
            needle_id,
            stamp,
            4,
            placed.crc,
            placed.stored_size,
            1,
            f"key-{needle_id}",
            0,
        )

    async def put(self, needle_id: int, data: bytes = b"data", crc: int | None = None) -> str:
        metadata = NeedleMetadata("b", 1, f"key-{needle_id}", 0)
        details = PutDetails(CLAIMS, needle_id, len(data), metadata, (None, None))
        new = NewNeedle(needle_id, encode_metadata(metadata), data, crc)
        put = self.pipeline.submit(new, details)
        await put.latch.wait()
        return await self.pipeline.result_of(put)


@pytest.fixture
async def bench(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Bench]:
    volume = Volume.create(
        OsDisk(tmp_path), "volumes/1", volume_id=1, uuid=str(uuid.uuid4()), capacity=2**20, created_ms=0
    )
    bench = Bench(volume)
    await nursery.start(bench.pipeline.run)
    yield bench
    nursery.cancel_scope.cancel()
    volume.close()


async def test_the_master_hears_of_a_needle_only_when_it_is_durable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync = bench.volume.sync
    monkeypatch.setattr(bench.volume, "sync", lambda: (sync(), order.append("synced"))[1])

    async def master(body: NeedlesStored) -> Answer:
        order.append("told")
        return await commit_all(body)

    bench.link.master = master
    assert await bench.pipeline.commit(bench.append(1)) == "etag-1"
    assert order == ["synced", "told"]


async def test_needles_of_one_moment_share_a_sync_and_a_message(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 51):
            nursery.start_soon(bench.pipeline.commit, bench.append(needle_id))
    assert bench.pipeline.sync_count <= 3
    assert len(bench.link.asked) <= 3
    assert sum(len(body.needles) for body in bench.link.asked) == 50


async def test_each_needle_gets_its_own_outcome(bench: Bench) -> None:
    async def master(body: NeedlesStored) -> Answer:
        commits = [
            Commit(None, None, "no_such_bucket", "gone") if needle.needle_id == 2 else Commit("fine")
            for needle in body.needles
        ]
        return NeedlesCommitted(commits=commits, stamp=1)

    bench.link.master = master
    outcomes: dict[int, str] = {}

    async def put(needle: StoredNeedle) -> None:
        try:
            outcomes[needle.needle_id] = await bench.pipeline.commit(needle)
        except NoSuchBucket as error:
            outcomes[needle.needle_id] = error.code

    async with trio.open_nursery() as nursery:
        for needle_id in (1, 2, 3):
            nursery.start_soon(put, bench.append(needle_id))
    assert outcomes == {1: "fine", 2: "no_such_bucket", 3: "fine"}


async def test_a_needle_is_offered_again_when_the_link_comes_back(bench: Bench) -> None:
    failures = iter([LinkDown("down"), LinkDown("down")])

    async def master(body: NeedlesStored) -> Answer:
        if (failure := next(failures, None)) is not None:
            raise failure
        return await commit_all(body)

    bench.link.master = master
    assert await bench.pipeline.commit(bench.append(1)) == "etag-1"
    assert len(bench.link.asked) == 3


async def test_a_needle_that_died_meanwhile_is_not_offered_again_and_nobody_but_the_master_says_why(
    bench: Bench,
) -> None:
    """Its tombstone may be that of a version that was committed, and replaced or deleted since."""

    async def master(body: NeedlesStored) -> Answer:
        bench.volume.delete(1, stamp=bench.clock.tick(2))
        raise LinkDown("down")

    bench.link.master = master
    with pytest.raises(NeedleVoid, match="the master knows"):
        await bench.pipeline.commit(bench.append(1))
    assert len(bench.link.asked) == 1


async def test_a_needle_that_died_before_it_could_be_stamped_anew_is_void(bench: Bench) -> None:
    async def master(body: NeedlesStored) -> Answer:
        bench.volume.delete(1, stamp=bench.clock.tick(2))
        return NeedlesCommitted(commits=[Commit(None, 10**15)], stamp=1)

    bench.link.master = master
    with pytest.raises(NeedleVoid, match="the master knows"):
        await bench.pipeline.commit(bench.append(1))


async def test_an_overtaken_needle_is_stamped_anew_durably_and_offered_again(bench: Bench) -> None:
    above = 10**15

    async def master(body: NeedlesStored) -> Answer:
        (needle,) = body.needles
        commit = Commit("fine") if needle.stamp > above else Commit(None, above)
        return NeedlesCommitted(commits=[commit], stamp=1)

    bench.link.master = master
    assert await bench.pipeline.commit(bench.append(1)) == "fine"
    first, second = bench.link.asked
    assert first.needles[0].stamp < above < second.needles[0].stamp
    assert bench.volume.stats().stamp_max == second.needles[0].stamp
    assert bench.pipeline.sync_count == 2, "the fresh stamp must be durable before it may win"


async def test_a_failed_sync_fails_every_waiter_and_seals(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        bench.volume.seal("sync failed")
        raise WriteFailed("sync failed")

    monkeypatch.setattr(bench.volume, "sync", fail)
    for needle_id in (1, 2):
        if needle_id == 2:
            with pytest.raises(StoreError):
                bench.append(needle_id)
            continue
        with pytest.raises(WriteFailed):
            await bench.pipeline.commit(bench.append(needle_id))
    assert bench.link.asked == [], "nothing that is not durable may become visible"
    with pytest.raises(VolumeSealed):
        await bench.pipeline.make_durable()


async def test_a_silent_master_means_outcome_unknown(bench: Bench, autojump_clock: MockClock) -> None:
    async def master(body: NeedlesStored) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    bench.link.master = master
    started = trio.current_time()
    with pytest.raises(OutcomeUnknown):
        await bench.pipeline.commit(bench.append(1))
    assert trio.current_time() - started == pytest.approx(CONFIRM_S, abs=1)


# --- needles that the pipeline appends itself ---------------------------------------------------------


async def test_needles_that_come_together_are_one_write_one_sync_one_message(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    pwritev = OsFile.pwritev

    def count(file: OsFile, buffers: Sequence[Buffer], offset: int) -> int:
        writes.append(len(buffers))
        return pwritev(file, buffers, offset)

    monkeypatch.setattr(OsFile, "pwritev", count)
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, 11):
            nursery.start_soon(bench.put, needle_id)
    assert 30 in writes, "header, data and footer of each"
    assert bench.pipeline.sync_count == 1
    [told] = bench.link.asked
    stamps = [needle.stamp for needle in told.needles]
    assert stamps == sorted(set(stamps))
    for needle in told.needles:
        read = bench.volume.read(needle.needle_id)
        assert (read.stamp, read.crc, bytes(read.data)) == (needle.stamp, needle.crc, b"data")


async def test_more_than_one_write_takes_go_in_several(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        for needle_id in range(1, APPENDS_MAX + 3):
            nursery.start_soon(bench.put, needle_id)
        for needle_id in range(1001, 1004):
            nursery.start_soon(bench.put, needle_id, bytes(APPEND_SIZE // 4))
    assert bench.volume.stats().live_count == APPENDS_MAX + 5


async def test_a_needle_that_cannot_be_appended_fails_alone(bench: Bench) -> None:
    assert await bench.put(2) == "etag-2"
    outcomes: dict[str, str] = {}

    async def put(name: str, needle_id: int, data: bytes, crc: int | None) -> None:
        try:
            outcomes[name] = await bench.put(needle_id, data, crc)
        except StoreError as error:
            outcomes[name] = error.code

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, "good", 1, b"data", None)
        nursery.start_soon(put, "taken", 2, b"data", None)
        nursery.start_soon(put, "flipped", 3, b"data", 0)
        nursery.start_soon(put, "large", 4, bytes(1 << 21), None)
        nursery.start_soon(put, "last", 5, b"data", None)
    assert outcomes == {
        "good": "etag-1",
        "taken": "needle_exists",
        "flipped": "checksum_mismatch",
        "large": "volume_full",
        "last": "etag-5",
    }


async def test_refused_needles_leave_no_bodies_behind(bench: Bench) -> None:
    """Not even until the next collection of cycles, which comes late in a volume actor."""
    gc.collect()
    gc.disable()
    try:
        for needle_id in range(1, 6):
            body = Body(b"x" * 100)
            gone = weakref.ref(body)
            with pytest.raises(ChecksumMismatch):
                await bench.put(needle_id, body, crc=0)  # type: ignore[arg-type]
            del body
            await trio.testing.wait_all_tasks_blocked()
            assert gone() is None
    finally:
        gc.enable()


async def test_an_appended_body_leaves_memory_with_its_request(bench: Bench) -> None:
    """A stage's loop refers to its latest batch until the next one, and that may be never."""
    gc.collect()
    gc.disable()
    try:
        body = Body(b"data")
        gone = weakref.ref(body)
        await bench.put(1, body)  # type: ignore[arg-type]
        del body
        await trio.testing.wait_all_tasks_blocked()
        assert gone() is None
    finally:
        gc.enable()


async def test_a_bug_in_an_append_costs_its_requests_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(bench.volume, "append_many", fail)
        with pytest.raises(OutcomeUnknown, match="log"):
            await bench.put(1)
    assert await bench.put(2) == "etag-2"


async def test_needles_wait_while_writers_are_kept_waiting(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        with bench.pipeline.write_barrier_raised():
            nursery.start_soon(bench.put, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert bench.volume.stats().live_count == 0
    assert bench.volume.stats().live_count == 1


# --- many at once ---------------------------------------------------------------------------------


async def test_needles_of_one_batch_share_one_sync_and_as_few_messages_as_they_fit_in(bench: Bench) -> None:
    needles = [bench.append(needle_id) for needle_id in range(1, BATCH_MAX + 11)]
    assert await bench.pipeline.commit_many(needles) == [f"etag-{needle.needle_id}" for needle in needles]
    assert bench.pipeline.sync_count == 1
    assert sorted(len(body.needles) for body in bench.link.asked) == [10, BATCH_MAX]
    assert await bench.pipeline.commit_many([]) == []


async def test_needles_that_say_much_travel_in_messages_that_fit(bench: Bench) -> None:
    """Metadata of the smallest pairs, and conditions: 512 of these would be longer than any message."""
    pairs = {f"{number:x}": "" for number in range(1500)}
    needles = [
        msgspec.structs.replace(
            bench.append(needle_id), metadata=pairs, if_match='"' + "x" * 1000 + '"', if_none_match="y" * 1000
        )
        for needle_id in range(1, BATCH_MAX + 1)
    ]
    assert await bench.pipeline.commit_many(needles) == [f"etag-{needle.needle_id}" for needle in needles]
    sizes = [len(encode_envelope(Envelope(1, 1, 1, body))) for body in bench.link.asked]
    assert len(sizes) > 1
    assert max(sizes) < FRAME_SIZE_MAX
    assert sum(len(body.needles) for body in bench.link.asked) == BATCH_MAX


async def test_each_needle_of_a_batch_has_its_own_outcome(bench: Bench) -> None:
    above = 10**15
    bench.append(1)

    async def master(body: NeedlesStored) -> Answer:
        answers = {
            2: Commit(None, None, "no_such_bucket", "gone"),
            3: Commit(None, above),  # overtaken, until it is stamped anew
            4: Commit(None, above),  # and voided before it can be
        }
        if any(needle.needle_id == 4 for needle in body.needles):
            bench.volume.delete(4, stamp=bench.clock.tick(2))
        commits = [
            answers.get(needle.needle_id, Commit("fine")) if needle.stamp < above else Commit("at last")
            for needle in body.needles
        ]
        return NeedlesCommitted(commits=commits, stamp=1)

    bench.link.master = master
    outcomes = await bench.pipeline.commit_many([bench.append(needle_id) for needle_id in (2, 3, 4, 5)])
    assert [outcome if isinstance(outcome, str) else outcome.code for outcome in outcomes] == [
        "no_such_bucket",
        "at last",
        "needle_void",
        "fine",
    ]
    assert [len(body.needles) for body in bench.link.asked] == [4, 1], "only what was overtaken comes again"


async def test_a_silent_master_leaves_every_needle_of_a_batch_unknown(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async def master(body: NeedlesStored) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    bench.link.master = master
    outcomes = await bench.pipeline.commit_many([bench.append(1), bench.append(2)])
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, OutcomeUnknown]
