"""Live: one WebSocket for all that changes while a page is open.

A page says which topics it watches, and gets what `feeds.py` finds about them:

    -> {"watch": ["overview", "bucket:photos"]}     replaces what was watched before
    <- [{"topic": "bucket:photos", ...}, ...]
"""

from __future__ import annotations

import json

import msgspec
import trio
from quart import Blueprint, Response, websocket
from quart.typing import ResponseReturnValue

from warehouse.errors import NotAuthenticated
from warehouse.webui import here
from warehouse.webui.feeds import Watcher, is_topic
from warehouse.webui.security import is_our_origin

bp = Blueprint("live", __name__)

TOPICS_MAX = 20  # of one page
TOPIC_SIZE_MAX = 1200  # characters
WATCHERS_MAX = 2_000
PAUSE_S = 0.25  # between two messages to one page


class Watch(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends."""

    watch: list[str]


@bp.websocket("/live")
async def live() -> ResponseReturnValue:
    console = here.console()
    if not is_our_origin(websocket, console.options):
        return Response("this WebSocket belongs to the console's own pages", 403)
    try:
        opened = here.opened()
    except NotAuthenticated:
        return Response("sign in first", 401)
    feeds = console.feeds
    if feeds.watcher_count >= WATCHERS_MAX:
        return Response("too many pages are open", 503)
    await websocket.accept()
    watcher, topics = Watcher(), set[str]()
    opened.use()
    feeds.watcher_count += 1
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, watcher)
            nursery.start_soon(_end_with, opened.ended, console.stopping, nursery.cancel_scope)
            while True:
                wanted = _wanted(await websocket.receive())
                feeds.watch(opened, watcher, wanted, topics)
                topics = wanted
    finally:
        feeds.watch(opened, watcher, set(), topics)
        feeds.watcher_count -= 1
        opened.leave()


def _wanted(message: str | bytes) -> set[str]:
    try:
        found = msgspec.json.decode(message, type=Watch).watch
    except msgspec.MsgspecError:
        return set()
    return {topic for topic in found[:TOPICS_MAX] if len(topic) <= TOPIC_SIZE_MAX and is_topic(topic)}


async def _send(watcher: Watcher) -> None:
    while True:
        await watcher.wake.wait()
        await websocket.send(json.dumps(watcher.take()))
        await trio.sleep(PAUSE_S)


async def _end_with(ended: trio.Event, stopping: trio.Event, scope: trio.CancelScope) -> None:
    """Close when the key ends (the page then goes to /sign-in) or the console stops."""

    async def wait(event: trio.Event, code: int, reason: str) -> None:
        await event.wait()
        with trio.move_on_after(1, shield=True):
            await websocket.close(code, reason)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, ended, 4401, "the key has ended")
        nursery.start_soon(wait, stopping, 1001, "the console stops")
