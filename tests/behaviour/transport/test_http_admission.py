"""Too many connections: silent strangers make room, token holders stay, and the log stays readable."""

from __future__ import annotations

import errno
import logging
import time

import pytest
import trio

from http_harness import RECEIVE_S, Served, echo, receive_all, receive_until, serving, split_answers
from warehouse.errors import TokenMissing
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange

ASK = b"GET /now HTTP/1.1\r\nHost: a\r\nAuthorization: good\r\n\r\n"
ANSWER = b"GET|/now||0|"
STRANGE = b"GET /strange HTTP/1.1\r\nHost: a\r\n\r\n"


async def door(exchange: Exchange) -> None:
    """Vouch for clients that show a token; answer strangers also, as /healthz does."""
    if b"authorization" in exchange.headers:
        exchange.vouch()
    if exchange.path == b"/long":
        await exchange.start(200, [], 50_000_000)
        for _ in range(50):
            await exchange.write(bytes(1_000_000))
        return
    if exchange.path == b"/refused":
        raise TokenMissing("no")
    await echo(exchange)


async def holder(served: Served) -> trio.SocketStream:
    stream = await served.connect()
    await ask(stream)
    return stream


async def ask(stream: trio.SocketStream) -> None:
    await stream.send_all(ASK)
    await receive_until(stream, ANSWER)


async def all_silent(served: Served, count: int) -> None:
    """Wait until there are `count` connections, all of them silent and with nothing unread."""
    with trio.fail_after(RECEIVE_S):
        while True:
            connections = served.server._connections
            if len(connections) == count and all(
                one.is_silent and not one.has_unread() for one in connections
            ):
                return
            await trio.sleep(0.002)


async def is_closed(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(RECEIVE_S):
        try:
            return await stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True
    return False


async def test_in_a_flood_of_silent_strangers_who_has_a_token_is_served_at_once(caplog) -> None:
    async with serving(door, HttpLimits(connections=200)) as served:
        holders = [await holder(served) for _ in range(10)]
        flood = [await served.connect() for _ in range(600)]
        started = time.monotonic()
        newcomer = await holder(served)
        for stream in (*holders, newcomer):
            await ask(stream)
        assert time.monotonic() - started < 5.0, "silence is ended after ten"
        assert served.server.connection_count <= 200 + 11
        assert await is_closed(flood[0])  # the one that was silent longest
        for stream in (*flood, *holders, newcomer):
            await stream.aclose()
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1, "one line a minute, not one for each"


async def test_a_stranger_that_asked_once_or_began_to_ask_makes_room_too() -> None:
    async with serving(door, HttpLimits(connections=2, connections_per_address=2)) as served:
        asked, began = await served.connect(), await served.connect()
        await asked.send_all(STRANGE)
        await receive_until(asked, b"GET|/strange||0|")
        await began.send_all(ASK[:20])
        await all_silent(served, 2)
        first = await holder(served)
        assert await is_closed(asked)
        second = await served.connect()
        third = await served.connect()
        assert await is_closed(began)
        for stream in (first, second, third):
            await ask(stream)
        for stream in (first, second, third, asked, began):
            await stream.aclose()


async def test_a_stranger_that_does_not_take_its_answer_makes_room() -> None:
    async with serving(door, HttpLimits(connections=1)) as served:
        stuck = await served.connect()
        await stuck.send_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        with trio.fail_after(RECEIVE_S):
            while not any(one.is_stuck for one in served.server._connections):
                await trio.sleep(0.005)
        newcomer = await holder(served)
        await served.wait_until_idle(1)
        await ask(newcomer)
        await newcomer.aclose()
        await stuck.aclose()


async def test_strangers_never_take_the_places_of_holders_nor_holders_those_of_strangers() -> None:
    async with serving(door, HttpLimits(connections=3, connections_per_address=3)) as served:
        holders = [await holder(served) for _ in range(3)]
        admission = served.server._shared.admission
        assert (admission.holder_count, admission.stranger_count) == (3, 0)
        extra = [await holder(served) for _ in range(2)]  # served, but the first to go
        assert (admission.holder_count, admission.stranger_count) == (3, 2)
        flood = [await served.connect() for _ in range(10)]
        for stream in extra:
            assert await is_closed(stream)
        for stream in holders:
            await ask(stream)
        for stream in (*holders, *extra, *flood):
            await stream.aclose()


async def test_a_holder_that_was_idle_for_long_makes_room_for_another() -> None:
    async with serving(door, HttpLimits(connections=1, idle_s=60.0)) as served:
        first = await holder(served)
        [connection] = served.server._connections
        connection._read_since -= 30.0
        second = await holder(served)
        assert await is_closed(first)
        assert served.server._shared.admission.holder_count == 1
        await ask(second)
        await second.aclose()
        await first.aclose()


async def test_without_descriptors_strangers_are_closed_and_the_newcomer_is_accepted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(door) as served:
        silent = [await served.connect() for _ in range(20)]
        with trio.fail_after(RECEIVE_S):
            while served.server.connection_count < 20:
                await trio.sleep(0.002)
        accept = trio.SocketListener.accept
        failures = 5

        async def failing(listener: trio.SocketListener) -> trio.SocketStream:
            nonlocal failures
            stream = await accept(listener)
            if failures:
                failures -= 1
                await stream.aclose()
                raise OSError(errno.EMFILE, "Too many open files")
            return stream

        monkeypatch.setattr(trio.SocketListener, "accept", failing)
        for _ in range(7):
            async with await served.connect() as stream:
                await stream.send_all(ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                try:
                    received = await receive_all(stream)
                except trio.BrokenResourceError:
                    continue
        [answer] = split_answers(received)
        assert answer.status == 200
        assert await is_closed(silent[0])
        for stream in silent:
            await stream.aclose()
    lines = [record.message for record in caplog.records if "cannot accept" in record.message]
    assert len(lines) == 1
