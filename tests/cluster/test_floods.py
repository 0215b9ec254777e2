"""A stranger floods the control port and goes: the process behind it lives, and serves the others.

libzmq 4.3.5 aborts the process when a connection ends while its queue is full and a timer or a PING finds it
in that state.  So these floods are of a process of its own, and the test asks for its pid afterwards.

Run as a program, this file is that process: `python test_floods.py`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import zmq

from warehouse.transport.messages import (
    Answer,
    Attach,
    Attached,
    Buckets,
    Envelope,
    ListBuckets,
    Request,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.peers import Peer

ROOT = Path(__file__).resolve().parents[2]
LIST_BUCKETS = encode_envelope(Envelope(1, 1, 5000, ListBuckets()))


async def hub_main() -> None:
    """A hub that answers everything at once and never ends."""

    def answer_now(peer: Peer, request: Request) -> Answer:
        if isinstance(request, Attach):
            peer.session = request.token
            return Attached(incarnation=1, chunk_size=1, expires_in_s=60)
        return Buckets(buckets=[])

    async def answer(peer: Peer, request: Request) -> Answer:
        raise AssertionError("everything is answered at once")

    keys = CurveKeys.generate()
    hub = Hub(keys=keys, incarnation=1, answer_now=answer_now, answer=answer, on_gone=lambda peer: None)
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(hub.run, "tcp://127.0.0.1:0")
        print(endpoint, keys.public.decode(), flush=True)


@contextmanager
def hub_process() -> Iterator[tuple[subprocess.Popen[bytes], str, bytes]]:
    child = subprocess.Popen(
        [sys.executable, __file__], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], 30)[0], "the hub did not start"
        endpoint, key = child.stdout.readline().decode().split()
        yield child, endpoint, key.encode()
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def flood(endpoint: str, server_key: bytes, seconds: float, *, heartbeat_ms: int, reads: bool) -> int:
    """Send as fast as it goes, read the answers or not, then vanish."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.sndhwm = dealer.rcvhwm = 100_000
    dealer.heartbeat_ivl, dealer.heartbeat_timeout = heartbeat_ms, 60_000
    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.curve_serverkey = server_key
    dealer.connect(endpoint)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            for _ in range(200):
                dealer.send(LIST_BUCKETS, zmq.NOBLOCK)
                sent += 1
        except zmq.Again:
            time.sleep(0.001)
        while reads and dealer.poll(0):
            dealer.recv()
    context.destroy(linger=0)
    return sent


def flood_and_go(endpoint: str, server_key: bytes, count: int, seconds: float) -> int:
    """`count` floods, two at a time: with and without answers read, with and without PINGs between."""
    sent: list[int] = []

    def some(first: int) -> None:
        for number in range(first, count, 2):
            heartbeat_ms = 2 if number % 4 < 2 else 0
            sent.append(
                flood(endpoint, server_key, seconds, heartbeat_ms=heartbeat_ms, reads=number % 3 == 0)
            )

    threads = [threading.Thread(target=some, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)


@pytest.mark.parametrize(
    ("count", "seconds"), [pytest.param(12, 0.8), pytest.param(100, 1.0, marks=pytest.mark.long)]
)
async def test_a_flood_that_ends_suddenly_ends_no_process(count, seconds):
    with hub_process() as (child, endpoint, key):

        async def greet(link: Link) -> None:
            await link.ask_now(Attach(token="bystander"), timeout_s=10)

        link = Link(
            endpoint=endpoint,
            server_key=key,
            keys=CurveKeys.generate(),
            name="bystander",
            incarnation=1,
            greet=greet,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            await link.wait_up()
            sent = await trio.to_thread.run_sync(flood_and_go, endpoint, key, count, seconds)
            assert await link.request(ListBuckets(), timeout_s=10) == Buckets(buckets=[])
            nursery.cancel_scope.cancel()
        print(f"{count} floods, {sent:,} frames")
        assert sent > 1000 * count, "that was no flood"
        assert child.poll() is None
        assert link.connect_count == 1, "the bystander lost its connection"


async def test_a_frozen_hub_is_noticed_within_seconds_and_found_again_when_it_thaws():
    with hub_process() as (child, endpoint, key):
        link = Link(
            endpoint=endpoint, server_key=key, keys=CurveKeys.generate(), name="waiter", incarnation=1
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            await link.wait_up()
            for rounds in (1, 2):
                assert await link.request(ListBuckets(), timeout_s=10) == Buckets(buckets=[])
                child.send_signal(signal.SIGSTOP)
                with trio.fail_after(20):
                    await link.wait_down()
                child.send_signal(signal.SIGCONT)
                with trio.fail_after(30):
                    await link.wait_up()
                assert link.connect_count == rounds + 1
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(hub_main)
