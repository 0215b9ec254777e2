"""An address that knocks too often waits in front of both ports, and nobody else does."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from http_harness import RECEIVE_S, echo, receive_until, serving
from links_kit import Owner, open_hub, open_link, until
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.messages import Attach, Buckets, ListBuckets
from warehouse.transport.syn_filter import attach, program_of
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.link import Link

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has such a filter")

ASK = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"GET|/now||0|"
PAUSE_S = 0.01
SOON_S = 0.3  # less than the second after which a client sends its SYN again


async def greet(link: Link) -> None:
    await link.ask_now(Attach(token="good"), timeout_s=10)


async def gets_in(port: int, source: str, within_s: float) -> bool:
    with trio.move_on_after(within_s):
        async with await trio.open_tcp_stream("127.0.0.1", port, local_address=source):
            return True
    return False


@asynccontextmanager
async def flood_from(source: str, port: int) -> AsyncIterator[None]:
    """Connections that say nothing, as many as go, until one has to wait."""
    streams: list[trio.SocketStream] = []
    try:
        while len(streams) < 200:
            with trio.move_on_after(SOON_S) as scope:
                streams.append(await trio.open_tcp_stream("127.0.0.1", port, local_address=source))
            if scope.cancelled_caught:
                break
            # The kernel takes connections at once, and only those that the server has seen bar an address.
            await trio.sleep(PAUSE_S)
        assert len(streams) < 200, "none had to wait"
        yield
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    ("family", "host", "barred", "other"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.2", "127.0.0.3"),
        (socket.AF_INET6, "127.0.0.1", "127.0.0.2", "127.0.0.3"),
        (socket.AF_INET6, "::1", "::1", ""),
    ],
)
def test_the_kernel_drops_the_first_packet_of_those_that_a_program_names(
    family: int, host: str, barred: str, other: str
) -> None:
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        target = host, listener.getsockname()[1]
        with socket.create_connection(target, source_address=(barred, 0)) as early:
            served, _ = listener.accept()
            with served:
                assert attach(listener, program_of([barred]))
                early.sendall(b"still here")
                assert served.recv(10) == b"still here"
                with pytest.raises(TimeoutError):
                    socket.create_connection(target, SOON_S, (barred, 0))
                if other:
                    socket.create_connection(target, 5, (other, 0)).close()
                assert attach(listener, program_of([]))
                socket.create_connection(target, 5, (barred, 0)).close()


async def test_at_a_data_port_a_flood_waits_outside_and_gets_in_by_and_by() -> None:
    limits = HttpLimits(strangers_per_s=2)
    async with serving(echo, limits) as served:
        early = await trio.open_tcp_stream("127.0.0.1", served.port, local_address="127.0.0.2")
        async with early, flood_from("127.0.0.2", served.port):
            async with await trio.open_tcp_stream(
                "127.0.0.1", served.port, local_address="127.0.0.3"
            ) as other:
                await other.send_all(ASK)
                await receive_until(other, ANSWER)
            await early.send_all(ASK)
            await receive_until(early, ANSWER)
            assert await gets_in(served.port, "127.0.0.2", RECEIVE_S)


async def test_at_a_control_port_a_flood_waits_outside_and_gets_in_by_and_by() -> None:
    limits = HubLimits(connections_burst=4, connections_per_s=2)
    async with (
        open_hub(Owner(), limits=limits) as (_, endpoint),
        open_link(endpoint, greet=greet) as early,
    ):
        await early.wait_up()
        port = int(endpoint.rpartition(":")[2])
        async with flood_from("127.0.0.2", port):
            async with open_link(endpoint, keys=CurveKeys.generate(), greet=greet) as link:
                assert await link.request(ListBuckets(), timeout_s=10) == Buckets(buckets=[])
            assert await early.request(ListBuckets(), timeout_s=10) == Buckets(buckets=[])
            assert await gets_in(port, "127.0.0.2", 20)
        assert early.connect_count == 1


async def test_a_hub_that_listens_again_has_its_barrier_again() -> None:
    limits = HubLimits(connections_burst=4, connections_per_s=2)
    async with open_hub(Owner(), limits=limits) as (hub, endpoint):
        port = int(endpoint.rpartition(":")[2])
        listener = hub._router._listener
        hub.listen_with(CurveKeys.generate())
        await until(lambda: hub._router._listener not in (None, listener), timeout_s=10)
        async with flood_from("127.0.0.2", port):
            assert await gets_in(port, "127.0.0.3", 10)


@pytest.mark.usefixtures("no_filter")
async def test_without_a_filter_a_flood_is_held_off_inside() -> None:
    limits = HubLimits(connections_burst=4, connections_per_s=2)
    async with open_hub(Owner(), limits=limits) as (hub, endpoint):
        port = int(endpoint.rpartition(":")[2])
        async with AsyncExitStack() as stack:
            for _ in range(20):
                with trio.fail_after(30):
                    stream = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2")
                await stack.enter_async_context(stream)
            await until(lambda: hub.counters.held_off > 5, timeout_s=10)
