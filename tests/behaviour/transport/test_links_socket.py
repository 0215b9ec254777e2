"""OwnedSocket: no edge gets lost, whoever consumed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
import zmq

from warehouse.transport.zeromq.owned_socket import BATCH, OwnedSocket, has_message


@dataclass
class Pair:
    """Two connected sockets; the first one is owned, and keeps what it took."""

    mine: zmq.Socket[bytes]
    theirs: zmq.Socket[bytes]
    taken: list[bytes] = field(default_factory=list)

    def take(self) -> bool:
        try:
            self.taken.append(self.mine.recv(zmq.NOBLOCK))
        except zmq.Again:
            return False
        return True

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():
                await trio.sleep(0.001)


@pytest.fixture
def pair() -> Iterator[Pair]:
    context = zmq.Context()
    mine, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    mine.bind("inproc://pair")
    theirs.connect("inproc://pair")
    yield Pair(mine, theirs)
    context.destroy(linger=0)


async def test_what_arrives_is_taken_in_order(pair: Pair):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OwnedSocket(pair.mine, pair.take).run)
        expected = [str(number).encode() for number in range(3 * BATCH)]
        for message in expected:
            pair.theirs.send(message)
        await pair.until(lambda: len(pair.taken) == len(expected))
        assert pair.taken == expected
        nursery.cancel_scope.cancel()


async def test_an_edge_that_a_sender_consumed_is_given_back_by_its_poke(pair: Pair):
    owned = OwnedSocket(pair.mine, pair.take)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owned.run)
        await trio.testing.wait_all_tasks_blocked()
        pair.theirs.send(b"question")
        pair.mine.send(b"something else")
        assert has_message(pair.mine)  # and with this look the descriptor is quiet again
        owned.poke()
        await pair.until(lambda: pair.taken == [b"question"])
        nursery.cancel_scope.cancel()


async def test_an_edge_that_was_consumed_before_sleeping_is_noticed(pair: Pair):
    sent = False

    def on_dry() -> None:
        nonlocal sent
        if not sent:
            sent = True
            pair.theirs.send(b"just now")
            assert has_message(pair.mine)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(OwnedSocket(pair.mine, pair.take, on_dry=on_dry).run)
        await pair.until(lambda: pair.taken == [b"just now"])
        nursery.cancel_scope.cancel()


async def test_a_wake_has_it_look_again(pair: Pair):
    looks = 0

    def on_dry() -> None:
        nonlocal looks
        looks += 1

    owned = OwnedSocket(pair.mine, pair.take, on_dry=on_dry)
    owned.wake()  # nobody sleeps yet: harmless
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owned.run)
        await trio.testing.wait_all_tasks_blocked()
        assert looks == 1
        owned.wake()
        owned.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert looks == 2
        nursery.cancel_scope.cancel()


async def test_a_flood_leaves_others_their_turns_and_does_not_put_off_on_dry_forever(pair: Pair):
    pair.mine.setsockopt(zmq.RCVHWM, 0)
    dry_at, turns = [], 0

    def take_endlessly() -> bool:
        pair.taken.append(b"more")
        return len(pair.taken) < 100 * BATCH

    owned = OwnedSocket(pair.mine, take_endlessly, on_dry=lambda: dry_at.append(len(pair.taken)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owned.run)
        while len(pair.taken) < 100 * BATCH:
            turns += 1
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert turns >= 99
    assert dry_at[0] < 50 * BATCH
