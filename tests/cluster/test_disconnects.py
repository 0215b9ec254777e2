"""Who is there?  A hub against real processes that are killed, frozen, and lost in connection noise.

Run as a program, this file is the peer: `python test_disconnects.py links|noise ENDPOINT SERVER_KEY ...`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import trio
import zmq

from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Answer,
    Attach,
    Attached,
    Done,
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


# --- the peers' side, in processes of their own ---------------------------------------------------


async def links_main(endpoint: str, server_key: str, *names: str) -> None:
    """Keep one link per name; each says its name in its greeting, then asks something now and then."""

    async def keep(name: str) -> None:
        async def greet(link: Link) -> None:
            await link.ask_now(Attach(token=name), timeout_s=10)

        link = Link(
            endpoint=endpoint,
            server_key=server_key.encode(),
            keys=CurveKeys.generate(),
            name=name,
            incarnation=time.time_ns(),
            greet=greet,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            while True:
                await link.wait_up()
                await trio.sleep(random.uniform(0, 0.2))
                with suppress(Exception):
                    await link.request(ListBuckets(), timeout_s=10)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(keep, name)


def noise_main(endpoint: str, server_key: str, count: str, seed: str) -> None:
    """Connect and disconnect `count` times: half raw TCP, half DEALERs that say one thing and leave."""
    chance = random.Random(int(seed))
    host, port = endpoint.removeprefix("tcp://").split(":")
    context = zmq.Context()
    frame = encode_envelope(Envelope(1, 1, 5000, Attach(token="passer-by")))
    left = int(count)
    while left > 0:
        dealers, sockets = [], []
        for _ in range(min(20, left // 2 or 1)):
            public, secret = zmq.curve_keypair()
            dealer = context.socket(zmq.DEALER)
            dealer.routing_id = f"passer-by-{chance.randbytes(8).hex()}".encode()
            dealer.curve_publickey, dealer.curve_secretkey, dealer.curve_serverkey = (
                public,
                secret,
                server_key.encode(),
            )
            dealer.connect(endpoint)
            dealer.send(frame)
            dealers.append(dealer)
            raw = socket.create_connection((host, int(port)))
            if chance.random() < 0.3:
                raw.send(chance.randbytes(64))
            sockets.append(raw)
        left -= len(dealers) + len(sockets)
        for raw in sockets[::2]:
            raw.close()
        for dealer in dealers:
            how = chance.random()
            if how < 0.5:
                dealer.poll(chance.randint(0, 150))  # long enough for an answer, or not
            dealer.close(linger=0 if how < 0.8 else 300)
        for raw in sockets[1::2]:
            raw.close()
    context.term()


def flood_main(endpoint: str, server_key: str, frame_count: str) -> None:
    """Greet, then send one message of many frames of 8 MiB."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.curve_serverkey = server_key.encode()
    dealer.connect(endpoint)
    dealer.send(encode_envelope(Envelope(1, 1, 5000, Attach(token="flood"))))
    dealer.poll(5000)
    frame = bytes(FRAME_SIZE_MAX)
    for _ in range(int(frame_count) - 1):
        dealer.send(frame, zmq.SNDMORE, copy=False)
    dealer.send(frame, copy=False)
    time.sleep(60)


@contextmanager
def process(role: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, __file__, role, *arguments]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        yield child
    finally:
        child.kill()
        child.wait()


# --- the hub's side -------------------------------------------------------------------------------


class Roll:
    """Who is there and who has left, by the names said in greetings."""

    def __init__(self) -> None:
        self.keys = CurveKeys.generate()
        self.left: list[str] = []
        self.left_at: dict[str, float] = {}
        self.hub = Hub(
            keys=self.keys,
            incarnation=1,
            answer_now=self.answer_now,
            answer=self.answer,
            on_gone=self.on_gone,
        )

    def answer_now(self, peer: Peer, request: Request) -> Answer:
        if isinstance(request, Attach):
            peer.session = request.token
            return Attached(incarnation=1, chunk_size=1, expires_in_s=60)
        return Done()

    async def answer(self, peer: Peer, request: Request) -> Answer:
        raise AssertionError("everything is answered at once")

    def on_gone(self, peer: Peer) -> None:
        self.left.append(str(peer.session))
        self.left_at[str(peer.session)] = time.monotonic()

    def present(self) -> set[str]:
        return {str(peer.session) for peer in self.hub.peers.values()}


@asynccontextmanager
async def open_roll() -> AsyncIterator[tuple[Roll, str, str]]:
    roll = Roll()
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(roll.hub.run, "tcp://127.0.0.1:0")
        yield roll, endpoint, roll.keys.public.decode()
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    with trio.fail_after(timeout_s):
        while not condition():
            await trio.sleep(0.001)


async def test_a_killed_peer_is_noticed_within_a_second():
    async with open_roll() as (roll, endpoint, key):

        async def time_one(name: str) -> float:
            with process("links", endpoint, key, name) as child:
                await until(lambda: name in roll.present(), 30)
                killed_at = time.monotonic()
                os.kill(child.pid, signal.SIGKILL)
                await until(lambda: name in roll.left, 20)
                return roll.left_at[name] - killed_at

        took_s = [await time_one(f"victim-{number}") for number in range(5)]
        print("noticed after ms:", [round(1000 * s, 1) for s in took_s])
        assert statistics.median(took_s) < 1.0
        assert not roll.hub.peers


async def test_a_frozen_peer_is_noticed_and_registers_again_unaided_when_it_thaws():
    async with open_roll() as (roll, endpoint, key):
        with process("links", endpoint, key, "sleeper") as child:
            await until(lambda: "sleeper" in roll.present(), 30)
            (before,) = roll.hub.peers.values()
            os.kill(child.pid, signal.SIGSTOP)
            await until(lambda: "sleeper" in roll.left, 20)
            assert before.is_gone
            assert not roll.hub.peers
            os.kill(child.pid, signal.SIGCONT)
            await until(lambda: "sleeper" in roll.present(), 30)
            (after,) = roll.hub.peers.values()
            assert after is not before
            assert after.ident != before.ident
            assert roll.left == ["sleeper"]


async def test_noise_neither_kills_the_living_nor_keeps_the_dead():
    """2,000 connects and disconnects while the hub lags 20 ms at every turn of its loop."""
    stayers = {f"stayer-{number}" for number in range(24)}
    leavers = [f"leaver-{number}" for number in range(6)]
    seed = 20240607
    async with open_roll() as (roll, endpoint, key):
        with process("links", endpoint, key, *sorted(stayers)), trio.CancelScope() as scope:
            await until(lambda: roll.present() == stayers, 30)
            async with trio.open_nursery() as nursery:

                async def lag() -> None:
                    while True:
                        time.sleep(0.02)
                        await trio.lowlevel.checkpoint()

                async def come_and_be_killed(name: str) -> None:
                    with process("links", endpoint, key, name):
                        await until(lambda: name in roll.present(), 40)

                nursery.start_soon(lag)
                started = time.monotonic()
                with (
                    process("noise", endpoint, key, "1000", str(seed)) as first,
                    process("noise", endpoint, key, "1000", str(seed + 1)) as second,
                ):
                    for name in leavers:
                        await come_and_be_killed(name)
                    await until(lambda: first.poll() is not None and second.poll() is not None, 50)
                    assert (first.returncode, second.returncode) == (0, 0)
                print(f"noise took {time.monotonic() - started:.1f} s")
                await until(lambda: roll.present() == stayers, 30)
                scope.cancel()
        assert stayers.isdisjoint(roll.left), f"living peers were declared dead ({seed=})"
        assert set(leavers) <= set(roll.left)
        passers_by = roll.left.count("passer-by")
        print(f"{passers_by} passers-by were heard, {seed=}")
        assert passers_by > 100, "the noise did not reach the hub"
        assert len(roll.left) == roll.hub.counters.departures


async def forward(stream: trio.SocketStream, other: trio.SocketStream, is_open: Callable[[], bool]) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for piece in stream:
            while not is_open():
                await trio.sleep(0.01)
            await other.send_all(piece)
        await other.send_eof()


async def test_a_silent_partition_is_noticed_on_both_sides_and_heals_unaided():
    """Nothing is closed, nothing is refused, nothing comes through any more: only probes tell."""
    async with open_roll() as (roll, endpoint, key), trio.open_nursery() as nursery:
        is_whole = True
        host, port = endpoint.removeprefix("tcp://").split(":")

        async def carry(client: trio.SocketStream) -> None:
            async with (
                client,
                await trio.open_tcp_stream(host, int(port)) as server,
                trio.open_nursery() as ways,
            ):
                ways.start_soon(forward, client, server, lambda: is_whole)
                ways.start_soon(forward, server, client, lambda: is_whole)

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, carry, [listener])
        proxy = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"

        async def greet(link: Link) -> None:
            await link.ask_now(Attach(token="far"), timeout_s=10)

        link = Link(
            endpoint=proxy,
            server_key=key.encode(),
            keys=CurveKeys.generate(),
            name="far",
            incarnation=1,
            greet=greet,
        )
        await nursery.start(link.run)
        await link.wait_up()
        assert roll.present() == {"far"}
        is_whole = False
        started = trio.current_time()
        with trio.fail_after(20):
            await link.wait_down()
        link_s = trio.current_time() - started
        await until(lambda: "far" in roll.left, 20)
        print(f"noticed after {link_s:.1f} s by the link, {trio.current_time() - started:.1f} s by the hub")
        with trio.move_on_after(0.5):
            await link.wait_up()
        assert not link.is_up
        is_whole = True
        with trio.fail_after(30):
            await link.wait_up()
        assert roll.present() == {"far"}
        assert roll.left == ["far"]
        nursery.cancel_scope.cancel()


async def test_a_loop_that_stands_still_is_no_dead_peer():
    """Heartbeats are the I/O thread's business, and nothing that the loop leaves undone may stop that thread."""
    async with open_roll() as (roll, endpoint, key):
        names = {f"peer-{number}" for number in range(5)}
        with process("links", endpoint, key, *names):
            await until(lambda: roll.present() == names, 30)
            host, port = endpoint.removeprefix("tcp://").split(":")
            for _ in range(1500):  # the monitor's events of these wait until the loop moves again
                socket.create_connection((host, int(port))).close()
            time.sleep(5)
            await trio.sleep(0.5)
            assert roll.present() == names
            assert roll.left == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's count of bytes is Linux's")
async def test_a_message_without_end_costs_its_sender_the_connection_and_us_little_memory():
    """800 MiB in frames of 8: libzmq would hold all of it before anybody could read the first byte."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async with open_roll() as (roll, endpoint, key):
        with process("links", endpoint, key, "bystander"):
            await until(lambda: "bystander" in roll.present(), 30)
            before = peak = resident()
            with process("flood", endpoint, key, "100"):
                await until(lambda: "flood" in roll.present(), 30)
                with trio.fail_after(20):
                    while "flood" not in roll.left:
                        peak = max(peak, resident())
                        await trio.sleep(0.01)
            print(f"peak {(peak - before) >> 20} MiB above {before >> 20} MiB")
            assert roll.hub.counters.floods >= 1
            assert peak - before < 400 << 20
            await trio.sleep(0.5)
            assert roll.present() == {"bystander"}
            assert "bystander" not in roll.left


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "links":
        trio.run(links_main, *arguments)  # type: ignore[arg-type]
    elif role == "noise":
        noise_main(*arguments)
    else:
        flood_main(*arguments)
