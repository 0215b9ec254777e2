"""An attempt of the compactor: its rate, its holds, its ends, and what it leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from warehouse.actors.background.attempt import Attempt
from warehouse.errors import NoRoomToCompact, ReadFailed
from warehouse.storage.recovery import Damage
from warehouse.transport.messages import DAMAGES_MAX, TASK_ORPHANED_S

MIB = 1024 * 1024


class Toil:
    """Work of so many steps that reads and writes nothing but counters."""

    def __init__(self, steps: int = 10) -> None:
        self.position = 0
        self.end_offset = steps * MIB
        self.damages: list[Damage] = []
        self.damaged_count = 0
        self.events: list[str] = []
        self.before_step: Callable[[], None] = lambda: None

    @property
    def read_bytes(self) -> int:
        return self.position

    @property
    def written_bytes(self) -> int:
        return self.position // 2

    def step(self) -> bool:
        assert not self.events, "nothing is done after the end"
        self.before_step()
        self.position += MIB
        return self.position < self.end_offset

    def close(self) -> None:
        self.events.append("closed")

    def remove(self) -> None:
        self.events.append("removed")


def attempt_of(toil: Toil, *, rate: int | None = None, start: Callable[[], Toil] | None = None) -> Attempt:
    return Attempt(5, generation=3, start=start or (lambda: toil), reached=lambda w: w.position, rate=rate)


@pytest.fixture
def virtual(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Steps take no time at all: a clock that jumps does not wait for threads."""

    async def inline(call: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return call(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", inline)
    return autojump_clock


async def test_an_attempt_runs_to_its_end_and_says_so(virtual: MockClock) -> None:
    toil = Toil()
    toil.damages = [Damage(1, 8 * i, 8, i, "bad", "b", f"k{i}") for i in range(DAMAGES_MAX + 5)]
    toil.damaged_count = len(toil.damages)
    attempt = attempt_of(toil)
    assert attempt.poll(None).state == "running"
    await attempt.run()
    state = attempt.poll(None)
    assert (state.task_id, state.state, state.generation) == (5, "done", 3)
    assert state.done_bytes == state.total_bytes == state.end_offset == 10 * MIB
    assert state.written_bytes == 5 * MIB
    assert (len(state.damages), state.damaged_count) == (DAMAGES_MAX, DAMAGES_MAX + 5)
    assert (state.damages[7].bucket, state.damages[7].key) == ("b", "k7")
    assert toil.events == ["closed"], "what is done stays"
    assert attempt.ended.is_set()


@pytest.mark.parametrize("rate", [MIB, 10 * MIB])
async def test_the_rate_counts_what_is_read_and_written(virtual: MockClock, rate: int) -> None:
    toil = Toil(steps=100)
    attempt = attempt_of(toil, rate=rate)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt.run)
        while not attempt.ended.is_set():
            await trio.sleep(1)
            attempt.poll(rate)
    elapsed = trio.current_time() - begun
    assert elapsed == pytest.approx(150 * MIB / rate, rel=0.2)


async def test_an_attempt_is_held_and_goes_on(virtual: MockClock) -> None:
    toil = Toil(steps=1000)
    async with trio.open_nursery() as nursery:
        attempt = attempt_of(toil, rate=0)
        nursery.start_soon(attempt.run)
        for _ in range(10):
            await trio.sleep(20)
            assert attempt.poll(0).state == "running"
        assert toil.position == 0
        attempt.poll(3 * MIB)
        await trio.sleep(10)
        at = toil.position
        assert at == pytest.approx(20 * MIB, rel=0.2)
        attempt.poll(0)
        await trio.sleep(20)
        assert toil.position <= at + MIB
        assert attempt.poll(None).state == "running"
        await trio.sleep(1)
        assert attempt.poll(None).state == "done"


@pytest.mark.parametrize("rate", [0, 1, None])
async def test_a_stop_ends_it_at_once_and_removes_what_it_made(virtual: MockClock, rate: int | None) -> None:
    toil = Toil(steps=10**9)
    attempt = attempt_of(toil, rate=MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt.run)
        await trio.sleep(3)
        attempt.poll(rate)
        await trio.lowlevel.checkpoint()
        attempt.stop()
        begun = trio.current_time()
        await attempt.ended.wait()
        assert trio.current_time() == begun
    assert toil.events == ["closed", "removed"]
    assert attempt.poll(None).state == "failed"


async def test_a_stop_waits_for_the_step_in_its_thread() -> None:
    toil, is_in_step, release = Toil(), threading.Event(), threading.Event()

    def linger() -> None:
        is_in_step.set()
        assert release.wait(10)

    toil.before_step = linger
    attempt = attempt_of(toil)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt.run)
        await trio.to_thread.run_sync(is_in_step.wait, 10)
        attempt.stop()
        with trio.move_on_after(0.05):
            await attempt.ended.wait()
        assert not attempt.ended.is_set()
        assert toil.events == []
        release.set()
        with trio.fail_after(30):
            await attempt.ended.wait()
    assert toil.events == ["closed", "removed"]


async def test_the_end_of_the_process_removes_what_was_made(virtual: MockClock) -> None:
    toil = Toil(steps=10**9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt_of(toil, rate=MIB).run)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert toil.events == ["closed", "removed"]


@pytest.mark.parametrize("rate", [0, MIB])
async def test_an_attempt_that_nobody_polls_ends(virtual: MockClock, rate: int) -> None:
    toil = Toil(steps=10**9)
    attempt = attempt_of(toil, rate=rate)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt.run)
        for _ in range(5):
            await trio.sleep(TASK_ORPHANED_S - 1)
            assert attempt.poll(rate).state == "running"
        await attempt.ended.wait()
    assert trio.current_time() - begun == pytest.approx(6 * TASK_ORPHANED_S - 5, abs=2)
    state = attempt.poll(rate)
    assert (state.state, state.code) == ("failed", "deadline_exceeded")
    assert toil.events == (["closed", "removed"] if rate else []), "held from the start, it never began"


async def test_failures_are_told_with_their_code(virtual: MockClock) -> None:
    def refuse() -> Toil:
        raise NoRoomToCompact("5 bytes short")

    attempt = attempt_of(Toil(), start=refuse)
    await attempt.run()
    state = attempt.poll(None)
    assert (state.state, state.code, state.message) == ("failed", "no_room_to_compact", "5 bytes short")

    def fail() -> None:
        if toil.position == 3 * MIB:
            raise ReadFailed("the disk is gone")

    toil = Toil()
    toil.before_step = fail
    attempt = attempt_of(toil)
    await attempt.run()
    state = attempt.poll(None)
    assert (state.state, state.code, state.message) == ("failed", "read_failed", "the disk is gone")
    assert (state.done_bytes, state.total_bytes) == (3 * MIB, 10 * MIB)
    assert toil.events == ["closed", "removed"]


async def test_a_bug_costs_the_attempt_and_not_the_actor(virtual: MockClock) -> None:
    def break_down() -> None:
        raise ZeroDivisionError

    toil = Toil()
    toil.before_step = break_down
    attempt = attempt_of(toil)
    await attempt.run()
    state = attempt.poll(None)
    assert (state.state, state.code) == ("failed", "store_error")
    assert toil.events == ["closed", "removed"]
