"""Sessions: what keeps them awake, how long they last, and what the browser is told of that."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import quart.typing
import trio
from quart import Response

from warehouse.conf.profile import Profile
from warehouse.webui import sign_in
from warehouse.webui.app import create_app
from warehouse.webui.console import Console, ConsoleOptions
from warehouse.webui.sessions import COOKIE_RENEWED_S, KEYS_MAX, Session, Sessions
from warehouse.webui.stores import OpenStore

IDLE_S, MOST_S = 3600.0, 10 * 3600.0
JSON = {"Accept": "application/json"}


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Kit:
    """Sessions on a clock of their own, and a browser that has one of them."""

    clock: Clock = field(default_factory=Clock)
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(idle_s=IDLE_S, most_s=MOST_S, clock=self.clock)


def opened_with(key_id: str) -> OpenStore:
    """A connection to nowhere."""
    info = SimpleNamespace(key_id=key_id, permissions=[])
    return OpenStore(key_id, cast(Any, None), cast(Any, info), Profile("", "", key_id, "")).use()


def test_what_a_page_asks_of_itself_keeps_no_session_awake() -> None:
    kit = Kit()
    cookie, session = kit.sessions.begin()
    opened = opened_with("a")
    session.add(opened)
    for _ in range(6):
        kit.clock.now_s += IDLE_S / 6
        assert (kit.sessions.find(cookie, is_use=False) is session) is (kit.clock.now_s < 1000 + IDLE_S)
    assert kit.sessions.find(cookie) is None
    assert opened.ended.is_set()
    assert session.current is None


def test_an_old_session_is_ended_also_if_nobody_asks() -> None:
    kit = Kit()
    _, idle = kit.sessions.begin()
    idle.add(opened_with("idle"))
    cookie, busy = kit.sessions.begin()
    busy.add(opened_with("busy"))
    kit.clock.now_s += IDLE_S - 1
    assert kit.sessions.find(cookie) is busy
    kit.clock.now_s += 2
    kit.sessions.end_old()
    assert (len(kit.sessions), idle.current, busy.current) == (1, None, busy.keys["busy"])


def test_a_session_that_is_used_all_the_time_ends_all_the_same() -> None:
    kit = Kit()
    cookie, session = kit.sessions.begin()
    session.add(opened_with("a"))
    used_s = 0.0
    while kit.sessions.find(cookie) is not None:
        kit.clock.now_s += IDLE_S / 2
        used_s += IDLE_S / 2
    assert used_s == MOST_S
    assert len(kit.sessions) == 0


def test_a_browser_keeps_the_cookie_as_long_as_the_session_lasts() -> None:
    kit = Kit()
    cookie, _ = kit.sessions.begin()
    assert kit.sessions.renew(cookie) is None, "it was told a moment ago"
    kit.clock.now_s += COOKIE_RENEWED_S
    kit.sessions.find(cookie)
    assert kit.sessions.renew(cookie) == IDLE_S
    assert kit.sessions.renew(cookie) is None
    for _ in range(11):
        kit.clock.now_s += IDLE_S * 0.9
        kit.sessions.find(cookie)
    left_s = kit.sessions.renew(cookie)
    assert left_s is not None
    assert 0 < left_s < IDLE_S, "it ends soon, however much it is used"
    kit.sessions.end(cookie)
    kit.clock.now_s += COOKIE_RENEWED_S
    assert kit.sessions.renew(cookie) is None, "whoever has signed out is given no cookie back"


def test_an_eleventh_key_takes_the_place_of_the_first() -> None:
    _, session = Kit().sessions.begin()
    opened = [opened_with(str(number)) for number in range(KEYS_MAX + 1)]
    for one in opened:
        session.add(one)
    assert [one.ended.is_set() for one in opened] == [True, *[False] * KEYS_MAX]


# --- what the application makes of it ---------------------------------------------------------------


@dataclass
class Browser:
    kit: Kit
    console: Console
    client: quart.typing.TestClientProtocol
    cookie: str

    async def told_s(self, path: str = "/nothing", **headers: str) -> int | None:
        """For how long this answer has the browser keep its cookie; None: it says nothing."""
        sent = {**JSON, "Cookie": f"warehouse_session={self.cookie}", **headers}
        answer = await self.client.get(path, headers=sent)
        found = re.search(r"Max-Age=(\d+)", answer.headers.get("Set-Cookie", ""))
        return None if found is None else int(found[1])


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    kit = Kit()
    async with trio.open_nursery() as nursery:
        console = Console.make(ConsoleOptions(Path("/nowhere"), Path("/nowhere")), nursery)
        console.sessions = kit.sessions
        cookie, session = kit.sessions.begin()
        session.add(opened_with("a"))
        yield Browser(kit, console, create_app(console).test_client(use_cookies=False), cookie)


async def test_the_cookie_is_renewed_by_what_a_person_does_alone() -> None:
    async with browser() as one:
        one.kit.clock.now_s += IDLE_S / 2
        assert await one.told_s(**{"X-By-Itself": "yes"}) is None
        assert await one.told_s("/static/x/nothing") is None, "others may keep this answer"
        assert await one.told_s() == IDLE_S
        assert await one.told_s() is None
        one.kit.clock.now_s += IDLE_S - 1
        await one.told_s(**{"X-By-Itself": "yes"})
        one.kit.clock.now_s += 2
        assert await one.told_s() is None
        assert len(one.kit.sessions) == 0


async def test_a_live_connection_keeps_no_session_awake() -> None:
    async with browser() as one:
        one.kit.clock.now_s += IDLE_S - 1
        headers = {"Cookie": f"warehouse_session={one.cookie}", "Origin": "http://localhost"}
        async with one.client.websocket("/live", headers=headers):
            one.kit.clock.now_s += 2
            one.kit.sessions.end_old()
        assert len(one.kit.sessions) == 0


async def signed_in_with(one: Browser, key_id: str) -> Session:
    """The session after somebody has shown this key in the browser; the cookie before is worth nothing."""
    before = one.cookie
    app = create_app(one.console)
    async with app.test_request_context("/", headers={"Cookie": f"warehouse_session={before}"}):
        answer = Response("")
        sign_in._begin(opened_with(key_id), answer)
    found = re.search("warehouse_session=([^;]+)", answer.headers["Set-Cookie"])
    assert found is not None
    one.cookie = found[1]
    assert one.kit.sessions.find(before) is None
    session = one.kit.sessions.find(one.cookie)
    assert session is not None
    return session


async def test_another_key_makes_a_session_with_the_first_one_no_younger() -> None:
    """Otherwise a key that once signed in would be kept by signing in others."""
    async with browser() as one:
        began_s = one.kit.clock.now_s
        for _ in range(2):
            one.kit.clock.now_s += 60
            session = await signed_in_with(one, "b")
            assert (session.began_s, set(session.keys)) == (began_s, {"a", "b"})


async def test_signing_in_again_with_the_only_key_begins_anew() -> None:
    async with browser() as one:
        one.kit.clock.now_s += 60
        session = await signed_in_with(one, "a")
        assert session.began_s == one.kit.clock.now_s
