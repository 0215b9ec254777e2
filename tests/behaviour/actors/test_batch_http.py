"""Batches at a real volume: damage, cold reads, a raised write barrier, and no more in memory than a needle and a piece."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import crc32c
import pytest
import trio

from actor_kit import Actor, serving_actor
from warehouse.actors.data import batch_intake
from warehouse.errors import StoreError, VolumeFull, WriteFailed
from warehouse.storage.extent import Placed
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.writing.appending import NewNeedle
from warehouse.transport.http.batch_format import (
    Frame,
    Outcome,
    error_of,
)


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        yield actor


BODIES = {
    1: b"",
    2: b"small",
    3: bytes(range(256)) * 1024,  # as large as the buffer
    4: b"\x07" * 700_000,  # larger
    5: b"five",
    6: b"\x01" * 2**20,  # the largest
    7: b"\xff" * 262_143,
}


def data_of(frames: list[Frame]) -> list[bytes]:
    return [bytes(frame.data) for frame in frames]


@pytest.mark.parametrize("buffer_size", [1, 37, 4096, 256 * 1024])
async def test_items_of_every_size_are_cut_right_whatever_the_buffer(
    actor: Actor, monkeypatch: pytest.MonkeyPatch, buffer_size: int
) -> None:
    monkeypatch.setattr(batch_intake, "BUFFER_SIZE", buffer_size)
    outcomes = await actor.put(BODIES)
    assert [outcome.word for outcome in outcomes] == [f"e{needle_id}" for needle_id in BODIES]
    frames = await actor.get([*BODIES])
    assert data_of(frames) == [*BODIES.values()]
    assert [frame.crc for frame in frames] == [crc32c.crc32c(data) for data in BODIES.values()]
    assert {needle_id: bytes(actor.volume.read(needle_id).data) for needle_id in BODIES} == BODIES


async def test_a_batch_shares_one_sync_and_one_message(actor: Actor) -> None:
    await actor.put(dict.fromkeys(range(1, 301), b"x"))
    assert actor.pipeline.sync_count == 1
    assert actor.master.told == [300]
    assert (actor.http.counters.puts, actor.http.counters.bytes_in) == (300, 300)


async def test_needles_that_are_not_in_memory_are_read_in_a_thread(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await actor.put(BODIES)
    read, find = actor.volume.read, actor.volume.find

    def cold_read(needle_id: int, *, nowait: bool = False, found: object = None) -> object:
        if nowait and needle_id in (2, 4, 5):
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return read(needle_id, nowait=nowait, found=found)  # type: ignore[arg-type]

    def cold_find(needle_id: int, *, nowait: bool = False) -> object:
        if nowait and needle_id == 3:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return find(needle_id, nowait=nowait)

    monkeypatch.setattr(actor.volume, "read", cold_read)
    monkeypatch.setattr(actor.volume, "find", cold_find)
    assert data_of(await actor.get([*BODIES])) == [*BODIES.values()]
    assert actor.http.counters.cold_reads >= 2


async def test_the_disk_is_asked_for_many_needles_of_a_cold_batch_at_once(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = {needle_id: bytes([needle_id]) * 100_000 for needle_id in range(1, 41)}
    await actor.put(bodies)
    read, asked = actor.volume.read, []

    def cold_read(needle_id: int, *, nowait: bool = False, found: object = None) -> object:
        if nowait:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return read(needle_id, found=found)  # type: ignore[arg-type]

    monkeypatch.setattr(actor.volume, "read", cold_read)
    monkeypatch.setattr(actor.volume, "start_reading", asked.append)
    assert data_of(await actor.get([*bodies])) == [*bodies.values()]
    assert asked[0] == [*range(1, 22)], "2 MiB"
    assert asked[-1][-1] == 40


async def test_damage_that_shows_while_the_answer_is_sent_is_zeros_that_say_so(actor: Actor) -> None:
    await actor.put(BODIES)
    content = bytearray(actor.path.read_bytes())
    content[content.index(b"small")] ^= 1
    actor.path.write_bytes(content)
    actor.volume.delete(5, stamp=1)
    frames = await actor.get([1, 2, 5, 99, 7])
    assert data_of(frames) == [b"", bytes(5), b"", b"", BODIES[7]]
    codes = [error_of(frame.state, 1, frame.needle_id).code if frame.state else None for frame in frames]
    assert codes == [None, "needle_corrupt", "no_such_needle", "no_such_needle", None]
    assert actor.http.counters.failures == {"needle_corrupt": 1, "no_such_needle": 2}
    assert [damage.needle_id for damage in actor.volume.damages()] == [2], "and it is reported"


async def test_a_needle_too_large_for_a_batch_is_to_be_asked_for_alone(actor: Actor) -> None:
    await actor.put({1: b"one"})
    actor.volume.append(2, NeedleMetadata("b", 1, "large", 0), bytes(2**20 + 1), stamp=5)
    frames = await actor.get([2, 1])
    assert data_of(frames) == [b"", b"one"]
    assert error_of(frames[0].state, 1, 2).code == "body_too_large"


async def test_items_wait_at_a_closed_gate(actor: Actor) -> None:
    outcomes: list[Outcome] = []

    async def put() -> None:
        outcomes.extend(await actor.put({1: b"one", 2: b"two"}))

    async with trio.open_nursery() as nursery:
        with actor.pipeline.write_barrier_raised():
            nursery.start_soon(put)
            await trio.sleep(0.1)
            assert actor.volume.stats().live_count == 0
    assert [outcome.word for outcome in outcomes] == ["e1", "e2"]


async def test_a_volume_that_is_full_takes_what_still_fits(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_many = actor.volume.append_many

    def append_all_but_one(
        needles: Sequence[NewNeedle], tick: Callable[[], int]
    ) -> list[tuple[Placed, int] | StoreError]:
        done = iter(append_many([new for new in needles if new.needle_id != 3], tick))
        return [VolumeFull("a test") if new.needle_id == 3 else next(done) for new in needles]

    monkeypatch.setattr(actor.volume, "append_many", append_all_but_one)
    outcomes = await actor.put(dict.fromkeys(range(1, 6), b"x"))
    assert [outcome.word for outcome in outcomes] == ["e1", "e2", "volume_full", "e4", "e5"]


async def test_items_that_came_together_are_one_write(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    append_many, counts = actor.volume.append_many, []

    def counted(
        needles: Sequence[NewNeedle], tick: Callable[[], int]
    ) -> list[tuple[Placed, int] | StoreError]:
        counts.append(len(needles))
        return append_many(needles, tick)

    monkeypatch.setattr(actor.volume, "append_many", counted)
    outcomes = await actor.put({number: b"%d" % number for number in range(1, 101)})
    assert [outcome.word for outcome in outcomes] == [f"e{number}" for number in range(1, 101)]
    assert sum(counts) == 100
    assert len(counts) <= 3
    assert data_of(await actor.get([*range(1, 101)])) == [b"%d" % number for number in range(1, 101)]


async def test_a_failed_sync_fails_every_item(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        actor.volume.seal("sync failed")
        raise WriteFailed("sync failed")

    monkeypatch.setattr(actor.volume, "sync", fail)
    assert [outcome.word for outcome in await actor.put({1: b"x", 2: b"y"})] == ["write_failed"] * 2
    assert actor.master.told == [], "nothing that is not durable may become visible"
