"""Strangers wait when their address has used its credit up; nobody else waits, and nobody is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
import trio.testing

from http_harness import RECEIVE_S, Served, echo, receive_until, serving
from tls_kit import LOOPBACK, Tls
from warehouse.transport.http import resting
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange

ASK = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
ASK_WITH_TOKEN = b"GET /now HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n\r\n"
ANSWER = b"GET|/now||0|"


async def door(exchange: Exchange) -> None:
    if b"authorization" in exchange.headers:
        exchange.vouch()
    await echo(exchange)


async def connect(served: Served, source: str) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", served.port, local_address=source)


async def test_a_flood_of_requests_is_slowed_down_and_answered_and_others_do_not_notice() -> None:
    limits = HttpLimits(strangers_per_s=20)
    async with serving(door, limits) as served, trio.open_nursery() as nursery:
        answered = 0

        async def flood(stream: trio.SocketStream) -> None:
            nonlocal answered
            async with stream:
                while True:
                    await stream.send_all(ASK * 10)
                    received = b""
                    while received.count(ANSWER) < 10:
                        piece = await stream.receive_some()
                        assert piece, "it was closed"
                        answered += (received + piece).count(ANSWER) - received.count(ANSWER)
                        received += piece

        began_s = time.monotonic()
        strangers = [await connect(served, "127.0.0.2") for _ in range(10)]
        for stream in strangers:
            nursery.start_soon(flood, stream)
        while not served.server._resting.count:
            await trio.sleep(0.01)
        for _ in range(5):
            asked_s = time.monotonic()
            async with await connect(served, "127.0.0.3") as other:
                await other.send_all(ASK)
                await receive_until(other, ANSWER)
            assert time.monotonic() - asked_s < RECEIVE_S / 4
        before = answered
        with trio.fail_after(RECEIVE_S):
            while answered < before + 10:  # it goes on
                await trio.sleep(0.01)
        assert answered <= 40 + 20 * (time.monotonic() - began_s) + 10
        nursery.cancel_scope.cancel()
    assert served.server._resting.count == 0


async def test_who_shows_a_token_never_rests_and_gets_its_price_back() -> None:
    limits = HttpLimits(strangers_per_s=1)
    async with serving(door, limits) as served:
        began_s = time.monotonic()
        for _ in range(30):  # say, a proxy that makes a connection for each request
            async with await connect(served, "127.0.0.2") as stream:
                for _ in range(10):
                    await stream.send_all(ASK_WITH_TOKEN)
                    await receive_until(stream, ANSWER)
        assert time.monotonic() - began_s < RECEIVE_S
        assert served.server._resting.count == 0


async def test_a_handshake_costs_nothing_when_a_token_follows(tmp_path: Path) -> None:
    """It wakes the server several times, and each of them is charged until the token is seen."""
    tls = Tls(tmp_path)
    limits = HttpLimits(strangers_per_s=5)
    async with serving(door, limits, tls=tls.server()) as served:
        for _ in range(10):
            raw = await connect(served, "127.0.0.2")
            async with trio.SSLStream(
                raw, tls.any_client(), server_hostname=LOOPBACK, https_compatible=True
            ) as stream:
                await stream.do_handshake()
                await stream.send_all(ASK_WITH_TOKEN[:20])
                await trio.testing.wait_all_tasks_blocked()
                await stream.send_all(ASK_WITH_TOKEN[20:])
                await receive_until(stream, ANSWER)
            credits = served.server._resting._credits
            assert credits is not None
            assert credits.balance("127.0.0.2", trio.current_time()) == credits.burst


async def test_a_newcomer_behind_the_address_of_a_flood_waits_and_is_served() -> None:
    limits = HttpLimits(strangers_per_s=10)
    async with serving(door, limits) as served:
        talking = [await connect(served, "127.0.0.2") for _ in range(25)]
        for stream in talking:
            await stream.send_all(ASK)
        while served.server._resting.count < 3:
            await trio.sleep(0.01)
        async with await connect(served, "127.0.0.2") as honest:
            for _ in range(30):
                await honest.send_all(ASK_WITH_TOKEN)
                await receive_until(honest, ANSWER)
        for stream in talking:
            await stream.aclose()


@pytest.mark.usefixtures("no_filter")
async def test_who_waits_and_says_nothing_takes_nobodys_turn_and_is_closed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resting, "WAIT_S", 1.0)
    limits = HttpLimits(strangers_per_s=5)
    async with serving(door, limits) as served:
        silent = [await connect(served, "127.0.0.2") for _ in range(80)]
        while served.server._resting.count < 60:
            await trio.sleep(0.01)
        await silent.pop().aclose()  # one that leaves costs nothing
        for _ in range(3):
            async with await connect(served, "127.0.0.2") as honest:
                await honest.send_all(ASK_WITH_TOKEN)
                await receive_until(honest, ANSWER)
        with trio.fail_after(RECEIVE_S):
            while served.server._resting.count:
                await trio.sleep(0.01)
        assert served.server.connection_count < 40, "no bare socket became one"
        for stream in silent:
            await stream.aclose()


@pytest.mark.usefixtures("no_filter")
async def test_of_those_who_wait_there_are_only_so_many() -> None:
    limits = HttpLimits(connections=20, strangers_per_s=1)
    async with serving(door, limits) as served:
        others = [await connect(served, "127.0.0.3") for _ in range(8)]
        flood = [await connect(served, "127.0.0.2") for _ in range(100)]
        waiting = served.server._resting._sockets
        with trio.fail_after(RECEIVE_S):
            while len(waiting.get("127.0.0.2", ())) < 10:
                await trio.sleep(0.01)
        for _ in range(10):
            flood.append(await connect(served, "127.0.0.2"))
            await trio.sleep(0.01)
            assert len(waiting["127.0.0.2"]) <= 10
        assert len(waiting["127.0.0.3"]) >= 4, "those of another address stay"
        for stream in (*others, *flood):
            await stream.aclose()
