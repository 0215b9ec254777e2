"""The live feed, with a WebSocket client that is not ours: what a page hears, and when it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

import warehouse
from console_http import Visitor
from console_kit import ConsoleStore

PATIENCE_S = 60


@asynccontextmanager
async def page(visitor: Visitor, *topics: str) -> AsyncIterator[WebSocketConnection]:
    """The WebSocket of a page that watches these topics."""
    url = f"ws://{urlsplit(visitor.url).netloc}{visitor.root}/live"
    headers = [(b"Cookie", visitor.cookie.encode()), (b"Origin", visitor.origin.encode())]
    with trio.fail_after(PATIENCE_S):
        async with open_websocket_url(url, extra_headers=headers) as socket:
            try:
                await socket.send_message(json.dumps({"watch": topics}))
                yield socket
            finally:
                await trio.aclose_forcefully(
                    socket._stream
                )  # the library leaves it open where the server closed first


async def heard(socket: WebSocketConnection, topic: str) -> dict[str, Any]:
    """The next message of a topic."""
    while True:
        for message in json.loads(await socket.get_message()):
            if message["topic"] == topic:
                found: dict[str, Any] = message
                return found


async def test_a_page_and_a_program_hear_of_the_same_put(console: ConsoleStore, root: Visitor) -> None:
    async with page(root, "bucket:photos/live/") as socket, warehouse.connect(console.root) as store:
        assert (await heard(socket, "bucket:photos/live/"))["missed"]  # from here on it misses nothing
        changes = store.bucket("photos").changes("live/")
        assert (await anext(changes)).is_missed
        await store.bucket("photos").put("elsewhere", b"")
        await store.bucket("photos").put("live/cat.jpg", b"cat")
        message = await heard(socket, "bucket:photos/live/")
        assert (message["missed"], message["count"]) == (False, 1)
        change = await anext(changes)
        assert (change.keys, change.count) == (["live/cat.jpg"], 1)


async def test_two_pages_of_a_key_share_what_is_found(console: ConsoleStore, root: Visitor) -> None:
    async with page(root, "buckets") as first, page(root, "buckets") as second:
        before = [(await heard(socket, "buckets"))["count"] for socket in (first, second)]
        async with warehouse.connect(console.root) as store:
            await store.create_bucket("made-elsewhere")
        assert [(await heard(socket, "buckets"))["count"] for socket in (first, second)] == [
            n + 1 for n in before
        ]


async def test_the_feed_of_events_tells_of_a_bucket_that_is_made(
    console: ConsoleStore, root: Visitor
) -> None:
    async def make_some(store: warehouse.Store) -> None:
        for number in range(1000):  # the feed begins some time after the page has asked for it
            await store.create_bucket(f"told-by-an-event-{number}")
            await trio.sleep(0.2)

    async with (
        page(root, "events") as socket,
        warehouse.connect(console.root) as store,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(make_some, store)
        while "told-by-an-event" not in json.dumps((await heard(socket, "events")).get("event", "")):
            pass
        nursery.cancel_scope.cancel()


async def test_the_feed_closes_when_its_key_ends(console: ConsoleStore) -> None:
    async with warehouse.connect(console.root) as store:
        new = await store.create_key("to end live", preset="reader")
        visitor = await trio.to_thread.run_sync(Visitor(console.url).sign_in, new.profile)
        async with page(visitor, "buckets") as socket:
            await heard(socket, "buckets")
            await store.disable_key(new.key_id)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await socket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 4401


async def test_nobody_else_gets_in(console: ConsoleStore, visitor: Visitor) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        async with page(visitor, "buckets") as socket:
            await socket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 4401  # the page goes to /sign-in
