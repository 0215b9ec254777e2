"""Upload memory: requests take turns where there is no room, in bounds of size and time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from warehouse.gateway.upload_memory import FIRST, LONG, SMALL, WAIT_S, UploadMemory, held_most, lease_of
from warehouse.s3.failures import Failure

MIB = 1024 * 1024


def exchange() -> Any:
    return SimpleNamespace(connection_state={})


@pytest.mark.parametrize(
    ("size", "received", "held"),
    [
        (0, 0, 0),
        (None, 1, 1),
        (None, SMALL, SMALL),
        (None, SMALL + 1, FIRST),
        (None, LONG, FIRST),
        (None, LONG + 1, 64 * MIB),
        (5 << 30, 1, 1),
        (5 << 30, 4 << 30, SMALL),
    ],
)
def test_a_body_holds_what_has_come_of_it_or_some_chunks(size: int | None, received: int, held: int) -> None:
    assert held_most(size, received) == held


async def test_what_a_request_holds_comes_back_however_it_ends() -> None:
    memory, one = UploadMemory(100), exchange()
    with pytest.raises(ValueError, match="broken"), memory.lease(one):
        await lease_of(one).grow(60)
        await lease_of(one).grow(50)
        assert memory.free == 40
        raise ValueError("broken")
    assert memory.free == 100
    assert not one.connection_state


async def test_those_who_wait_are_served_in_their_order(autojump_clock: trio.testing.MockClock) -> None:
    memory, done = UploadMemory(100), []

    async def upload(name: str, size: int) -> None:
        one = exchange()
        with memory.lease(one):
            await lease_of(one).grow(size)
            done.append(name)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for name, size in (("a", 70), ("b", 60), ("c", 10), ("d", 100), ("e", 1000)):
            nursery.start_soon(upload, name, size)
            await trio.sleep(0.01)
        assert done == ["a"], "c fits, and it is not its turn"
    assert [*done[:1], *sorted(done[1:3]), *done[3:]] == ["a", "b", "c", "d", "e"], "b and c fit together"
    assert memory.free == 100


async def test_a_wait_ends_with_slow_down(autojump_clock: trio.testing.MockClock) -> None:
    memory, holder, late = UploadMemory(100), exchange(), exchange()
    with memory.lease(holder), memory.lease(late):
        await lease_of(holder).grow(80)
        await lease_of(late).grow(10)
        begun = trio.current_time()
        with pytest.raises(Failure) as refused:
            await lease_of(late).grow(30)
        assert (refused.value.code, refused.value.status) == ("SlowDown", 503)
        assert trio.current_time() - begun == pytest.approx(WAIT_S)
        await lease_of(late).grow(20)
    assert memory.free == 100


async def test_who_leaves_while_waiting_lets_the_next_in(autojump_clock: trio.testing.MockClock) -> None:
    memory, holder, small = UploadMemory(100), exchange(), exchange()
    with memory.lease(holder), memory.lease(small):
        await lease_of(holder).grow(80)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.take, 100)
            await trio.sleep(0.01)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(lease_of(small).grow, 20)
                await trio.sleep(0.01)
                assert lease_of(small).held == 0
                nursery.cancel_scope.cancel()
    assert memory.free == 100


async def test_who_takes_without_a_wait_overtakes_nobody(autojump_clock: trio.testing.MockClock) -> None:
    memory, holder, late, small = UploadMemory(100), exchange(), exchange(), exchange()
    with memory.lease(holder), memory.lease(small):
        assert lease_of(holder).grow_nowait(80)
        assert not lease_of(small).grow_nowait(21), "there is no room"
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with memory.lease(late):
                    await lease_of(late).grow(30)

            nursery.start_soon(wait)
            await trio.sleep(1)
            assert not lease_of(small).grow_nowait(10), "somebody waits"
            nursery.cancel_scope.cancel()
        assert lease_of(small).grow_nowait(20)
        assert lease_of(small).grow_nowait(20), "it is held already"
        assert memory.free == 0
    assert memory.free == 100
