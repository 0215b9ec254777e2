"""Live: one WebSocket for all that changes while a page is open.

A page says which topics it watches, and gets what `feeds.py` finds about them:

    -> {"watch": ["overview", "bucket:photos"]}     replaces what was watched before
    <- [{"topic": "bucket:photos", ...}, ...]
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable

import msgspec
import trio
from quart import Blueprint, Response, websocket
from quart.typing import ResponseReturnValue

from warehouse.webui import here
from warehouse.webui.console import Console
from warehouse.webui.feeds import REFUSED_AGAIN_S, Watcher, is_topic
from warehouse.webui.security import is_our_origin
from warehouse.webui.sessions import Session
from warehouse.webui.stores import OpenStore

bp = Blueprint("live", __name__)

TOPICS_MAX = 20  # of one page
TOPIC_SIZE_MAX = 1200  # characters
WATCHERS_MAX = 2_000
PAGES_MAX = 100  # of one session
PAUSE_S = 0.25  # between two messages to one page
WATCH_PAUSE_S = 0.1  # between two messages of one page
KEY_ENDED, SESSION_CHANGED, STOPPING = 4401, 4402, 1001  # why a WebSocket is closed; see live.js


class Watch(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends."""

    watch: list[str]


@bp.websocket("/live")
async def live() -> ResponseReturnValue:
    console = here.console()
    if not is_our_origin(websocket, console.options):
        return Response("this WebSocket belongs to the console's own pages", 403)
    session, feeds = here.session(), console.feeds
    opened = session.current if session is not None else None
    if session is None or opened is None:  # a script sees no status of a refused WebSocket, but this
        await websocket.accept()
        await websocket.close(KEY_ENDED, "sign in first")
        return ""
    if feeds.watcher_count >= WATCHERS_MAX or session.page_count >= PAGES_MAX:
        return Response("too many pages are open", 503)
    feeds.watcher_count += 1
    session.page_count += 1
    opened.use()
    try:
        await websocket.accept()
        await _serve(session, opened, console)
    finally:
        feeds.watcher_count -= 1
        session.page_count -= 1
        opened.leave()
    return ""


async def _serve(session: Session, opened: OpenStore, console: Console) -> None:
    """Tell the page what it watches, until it leaves or has to."""
    watcher, wanted, watched = Watcher(), set[str](), set[str]()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, watcher)
            nursery.start_soon(_end_with, session, opened, console.stopping, nursery.cancel_scope)
            while True:
                with trio.move_on_after(REFUSED_AGAIN_S if wanted - watched else math.inf):
                    wanted = _wanted(await websocket.receive())
                watched = console.feeds.watch(opened, watcher, wanted, watched)
                await trio.sleep(WATCH_PAUSE_S)
    finally:
        console.feeds.watch(opened, watcher, set(), watched)


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


async def _end_with(
    session: Session, opened: OpenStore, stopping: trio.Event, scope: trio.CancelScope
) -> None:
    """Close when the key ends or is signed out here, another one takes its place, or the console stops."""

    async def wait_changed() -> None:
        while session.current is opened:
            await session.changed.wait()

    async def wait(event: Callable[[], Awaitable[None]], code: int, reason: str) -> None:
        await event()
        with trio.move_on_after(1, shield=True):
            await websocket.close(code, reason)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, opened.ended.wait, KEY_ENDED, "the key has ended")
        nursery.start_soon(wait, wait_changed, SESSION_CHANGED, "another key, or none")
        nursery.start_soon(wait, stopping.wait, STOPPING, "the console stops")
