"""Connections that libzmq reads and lets nobody hear: what they leave behind is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from links_kit import KEYS, Owner, RawDealer, open_hub, open_link, until
from warehouse.transport.messages import (
    Answer,
    Buckets,
    DeleteBucket,
    Envelope,
    ListBuckets,
    Request,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.deaf import HELD_MAX, HELD_S, Growth, HeldKeys, resident_bytes
from warehouse.transport.zeromq.gate import BACKLOG_COUNT_MAX
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.peers import Peer

MIB = 1024 * 1024
LIST_BUCKETS = encode_envelope(Envelope(7, 1, 5000, ListBuckets()))
USER = str(KEYS.public, "ascii")


async def send_unheard(hub: Hub, endpoint: str, ident: bytes) -> None:
    """20 MiB through a connection whose routing id another one has."""
    with RawDealer(endpoint, keys=CurveKeys.generate(), ident=ident) as first:
        await first.ask(ListBuckets(), request_id=1)
        with RawDealer(endpoint, keys=CurveKeys.generate(), ident=ident) as second:
            reopenings = hub.counters.reopenings
            for _ in range(20):
                second.socket.send(bytes(MIB))
            await until(
                lambda: (
                    max(hub._gate.guard._delivered.values(), default=0) >= 20 * MIB
                    or hub.counters.reopenings > reopenings
                )
            )


def test_connections_under_one_routing_id_do_not_fill_our_memory() -> None:
    """In a process of its own: how much one grows says nothing when other tests have filled it before."""
    here = Path(__file__).resolve()
    paths = os.pathsep.join(map(str, (here.parents[3], here.parent, here.parents[2] / "kits")))
    code = f"import trio, {here.stem} as tests; trio.run(tests.one_routing_id)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def one_routing_id() -> None:
    owner = Owner()
    async with (
        open_hub(owner, limits=HubLimits(unheard=48 * MIB)) as (hub, endpoint),
        open_link(endpoint) as link,
    ):
        await link.request(ListBuckets(), timeout_s=30)
        (peer,) = hub.peers.values()
        before = resident_bytes()
        for number in range(9):
            await send_unheard(hub, endpoint, b"twin-%d" % number)
            await trio.sleep(0.6)  # two sweeps
        assert 1 <= hub.counters.reopenings <= 4
        assert resident_bytes() - before < 120 * MIB, "nine times twenty came"
        assert peer in owner.gone
        with trio.fail_after(20):
            await link.wait_up()
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert link.connect_count == 1 + hub.counters.reopenings


async def test_whoever_is_shut_for_a_flood_comes_back_when_its_words_have_been_read() -> None:
    """Under its old routing id, as libzmq does by itself; before that nobody would hear it."""
    async with open_hub(Owner()) as (hub, endpoint), open_link(endpoint, keys=CurveKeys.generate()) as link:
        await link.wait_up()
        with RawDealer(endpoint, ident=b"flood", queue=0) as dealer:
            dealer.socket.reconnect_ivl = 1
            while not hub.counters.floods:
                for _ in range(2000):
                    dealer.socket.send(LIST_BUCKETS)
                await trio.sleep(0)
            assert USER in hub._gate.held
            await trio.sleep(2)
            assert hub._gate.guard.unheard_count == 0
            assert b"flood" not in hub.peers
        assert await link.request(ListBuckets(), timeout_s=30) == Buckets(buckets=[])
        assert link.connect_count == 1


async def test_what_comes_faster_than_it_is_read_is_found_though_each_says_little_at_a_time() -> None:
    class Slow(Owner):
        def answer_now(self, peer: Peer, request: Request) -> Answer | None:
            time.sleep(0.0003)
            return Buckets(buckets=[])

    async with open_hub(Slow()) as (hub, endpoint):
        with ExitStack() as stack:
            floods = [
                stack.enter_context(RawDealer(endpoint, keys=CurveKeys.generate(), queue=0)) for _ in range(4)
            ]
            sent, began = 0, time.monotonic()
            while hub.counters.floods < 4 and time.monotonic() - began < 30:
                while sent < (time.monotonic() - began) * 5000:
                    sent += 1
                    frame = encode_envelope(Envelope(7, sent, 5000, DeleteBucket(bucket="x" * 1000)))
                    for dealer in floods:
                        dealer.socket.send(frame)
                await trio.sleep(0)
        assert hub.counters.floods >= 4
        assert sent < 5 * BACKLOG_COUNT_MAX


async def test_a_held_key_gets_no_connection_and_any_other_does() -> None:
    async with open_hub(Owner()) as (hub, endpoint):
        now = trio.current_time()
        hub._gate.held.hold(USER, now)
        with RawDealer(endpoint) as held, RawDealer(endpoint, keys=CurveKeys.generate()) as other:
            held.socket.send(LIST_BUCKETS)
            assert isinstance((await other.ask(ListBuckets(), request_id=1)).body, Buckets)
            assert await held.receive(0.5) is None
            hub._gate.held.release(now + HELD_S + 1)
            assert isinstance((await held.answer()).body, Buckets)


def test_held_keys_are_let_go_in_order_and_the_oldest_are_forgotten() -> None:
    held = HeldKeys()
    held.hold("a", 0.0)
    held.hold("b", 1.0)
    held.hold("a", 2.0)
    held.release(1.0 + HELD_S)
    assert ("a" in held, "b" in held) == (True, False)
    for number in range(HELD_MAX):
        held.hold(str(number), 3.0)
    assert "a" not in held
    assert "0" in held


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([(100, 0), (900, 0), (1000, 1)], False),  # what grew before is not theirs
        ([(100, 0), (150, 1), (201, 1)], True),
        ([(100, 0), (50, 1), (140, 1)], False),
        ([(100, 0), (50, 1), (151, 1)], True),
        ([(0, 0), (0, 5)], False),  # nobody can tell
    ],
)
def test_growth_counts_after_the_first_connection_that_nobody_heard(
    seen: list[tuple[int, int]], expected: bool
) -> None:
    held = 100
    growth = Growth(100, memory=lambda: held, give_back=lambda: None)
    verdict = False
    for held, count in seen:  # noqa: B007
        verdict = growth.is_too_much(count, is_dry=True, now_s=0.0)
    assert verdict is expected


def test_what_waits_to_be_read_is_nothing_that_nobody_hears() -> None:
    held = 100
    growth = Growth(100, memory=lambda: held, give_back=lambda: None)
    assert not growth.is_too_much(0, is_dry=True, now_s=0.0)
    held = 450
    assert not growth.is_too_much(1, is_dry=False, now_s=0.0)
    assert growth.is_too_much(1, is_dry=True, now_s=0.0)
    held = 501
    assert growth.is_too_much(1, is_dry=False, now_s=60.0)


def test_memory_that_was_freed_is_given_back_and_is_no_reason() -> None:
    held, calls = 100, 0

    def give_back() -> None:
        nonlocal held, calls
        held, calls = 120, calls + 1

    growth = Growth(100, memory=lambda: held, give_back=give_back)
    held = 500
    assert not growth.is_too_much(1, is_dry=True, now_s=0.0)
    held = 500
    assert not growth.is_too_much(1, is_dry=True, now_s=1.0)
    assert calls == 1, "it takes time, so it is not done with every look"
    assert not growth.is_too_much(1, is_dry=True, now_s=60.0)
    assert calls == 2
