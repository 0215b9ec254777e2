"""GETs of needles that are not in memory: suspended without a task, and answered whatever the disk does."""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import warehouse.actors.data.cold_reads
from actor_kit import Actor, serving_actor
from warehouse.storage.format.needle import NeedleRead

BODIES = {needle_id: b"%d " % needle_id * 500 for needle_id in range(1, 33)}
WAIT_S = 10.0


class Cold:
    """Makes an actor's volume one of which nothing is in memory; `go_on` lets the disk answer."""

    def __init__(self, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.reading = 0
        read_small = actor.volume.read_small

        def read(needle_id: int, size_max: int, *, nowait: bool = False) -> NeedleRead | None:
            if nowait:
                raise BlockingIOError(errno.EAGAIN, "not in memory")
            self.reading += 1
            assert self.go_on.wait(WAIT_S)
            return read_small(needle_id, size_max)

        monkeypatch.setattr(actor.volume, "read_small", read)


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        await actor.put(BODIES)
        yield actor


@pytest.fixture
def cold(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> Cold:
    return Cold(actor, monkeypatch)


async def get_all(actor: Actor, needle_ids: list[int]) -> dict[int, tuple[int, bytes]]:
    answers: dict[int, tuple[int, bytes]] = {}

    async def get(needle_id: int) -> None:
        with trio.fail_after(WAIT_S):
            answers[needle_id] = await actor.get_one(needle_id)

    async with trio.open_nursery() as nursery:
        for needle_id in needle_ids:
            nursery.start_soon(get, needle_id)
    return answers


async def test_cold_needles_are_answered_each_to_whom_it_belongs(actor: Actor, cold: Cold) -> None:
    answers = await get_all(actor, [*BODIES, 99])
    assert answers.pop(99)[0] == 404
    assert answers == {needle_id: (200, body) for needle_id, body in BODIES.items()}
    assert actor.http.counters.cold_reads == len(BODIES) + 1


async def test_warm_reads_go_on_beside_cold_ones_that_are_stuck(
    actor: Actor, cold: Cold, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold.go_on.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get_all, actor, [1, 2, 3])
        while cold.reading < 3:
            await trio.sleep(0.001)
        status, _, _ = await actor.pool.request("GET", actor.url, "/healthz")
        assert status == 200
        cold.go_on.set()


async def test_a_disk_that_does_not_answer_is_told_of(
    actor: Actor, cold: Cold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse.actors.data.cold_reads, "DISK_S", 0.1)
    monkeypatch.setattr(warehouse.actors.data.cold_reads, "LOOK_S", 0.01)
    cold.go_on.clear()
    status, content = await actor.get_one(1)
    assert status == 500
    assert b"read_failed" in content
    assert b"has not answered" in content
    cold.go_on.set()
    while actor.cold_reads._running:
        await trio.sleep(0.001)
    assert await actor.get_one(1) == (200, BODIES[1])


async def test_clients_that_go_leave_nothing_behind(actor: Actor, cold: Cold) -> None:
    cold.go_on.clear()
    with trio.move_on_after(0.05):
        await get_all(actor, [*BODIES])
    cold.go_on.set()
    assert await get_all(actor, [5]) == {5: (200, BODIES[5])}
    with trio.fail_after(WAIT_S):
        while actor.cold_reads._reads:
            await trio.sleep(0.001)


async def test_the_actor_ends_while_reads_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = Actor(tmp_path)
    async with trio.open_nursery() as nursery:
        await actor.serve(nursery)
        await actor.put(BODIES)
        cold = Cold(actor, monkeypatch)
        cold.go_on.clear()
        nursery.start_soon(get_all, actor, [*BODIES])
        while not cold.reading:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
        threading.Timer(0.1, cold.go_on.set).start()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cold reads")]
    await actor.pool.aclose()
    actor.volume.close()
