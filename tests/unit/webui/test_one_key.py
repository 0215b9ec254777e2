"""One key: its topics, its connection and its place in a session, with no store behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from quart import g
from trio.testing import MockClock

from warehouse.actors.control.changes import FOLLOWERS_OF_KEY_MAX
from warehouse.conf.profile import Profile
from warehouse.errors import NotAuthenticated, PermissionDenied, Unavailable
from warehouse.webui import feeds, here, stores
from warehouse.webui.app import create_app
from warehouse.webui.console import Console, ConsoleOptions
from warehouse.webui.feeds import Feeds, Publish, Watcher
from warehouse.webui.pages.key_secrets import Secret
from warehouse.webui.security import csrf_token
from warehouse.webui.sessions import SESSIONS_OF_KEY_MAX, Sessions
from warehouse.webui.stores import OpenStore, Stores

PATIENCE_S = 10.0


def opened_with(key_id: str) -> OpenStore:
    """A connection to nowhere."""
    nothing = cast(Any, None)
    info = SimpleNamespace(key_id=key_id)
    return OpenStore(key_id, nothing, cast(Any, info), Profile("", "", key_id, "")).use()


@pytest.fixture
def kind() -> Iterator[str]:
    """A topic whose store refuses it the first time."""
    asked = 0

    @feeds.provider("test-topic")
    async def refuse_once(opened: OpenStore, name: str, publish: Publish) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise PermissionDenied("not yet")
        publish({"found": asked})
        await trio.sleep_forever()

    yield "test-topic"
    del feeds._providers["test-topic"]


async def _next(watcher: Watcher) -> list[Any]:
    with trio.fail_after(PATIENCE_S):
        await watcher.wake.wait()
    return watcher.take()


async def test_a_topic_that_was_refused_is_asked_for_again_by_the_next_page(kind: str) -> None:
    async with trio.open_nursery() as nursery:
        all_feeds, opened = Feeds(nursery), opened_with("a")
        first, second = Watcher(), Watcher()
        all_feeds.watch(opened, first, {kind}, set())
        assert await _next(first) == [{"topic": kind, "refused": "permission_denied"}]
        all_feeds.watch(opened, second, {kind}, set())
        news = {"topic": kind, "found": 2}
        assert (await _next(first), await _next(second)) == ([news], [news])
        all_feeds.watch(opened, first, set(), {kind})
        all_feeds.watch(opened, second, set(), {kind})
        assert all_feeds.topic_count == 0


async def test_a_page_that_was_refused_goes_on_by_itself_when_its_key_may_do_more(
    kind: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        all_feeds, opened, page = Feeds(nursery), opened_with("a"), Watcher()
        all_feeds.watch(opened, page, {kind}, set())
        assert await _next(page) == [{"topic": kind, "refused": "permission_denied"}]
        assert await _next(page) == [{"topic": kind, "found": 2}]
        nursery.cancel_scope.cancel()


async def test_a_refusal_that_lasts_is_told_once(autojump_clock: MockClock) -> None:
    asked = 0

    async def refuse(opened: OpenStore, name: str, publish: Publish) -> None:
        nonlocal asked
        asked += 1
        raise PermissionDenied("never")

    feeds.provider("test-refused")(refuse)
    try:
        async with trio.open_nursery() as nursery:
            all_feeds, opened, page = Feeds(nursery), opened_with("a"), Watcher()
            all_feeds.watch(opened, page, {"test-refused"}, set())
            await trio.sleep(3.5 * feeds.REFUSED_AGAIN_S)
            assert asked == 4
            assert page.take() == [{"topic": "test-refused", "refused": "permission_denied"}]
            await trio.sleep(feeds.REFUSED_AGAIN_S)
            assert page.take() == []
            nursery.cancel_scope.cancel()
    finally:
        del feeds._providers["test-refused"]


async def test_one_key_watches_a_bounded_number_of_topics(kind: str) -> None:
    async with trio.open_nursery() as nursery:
        all_feeds, opened, page = Feeds(nursery), opened_with("a"), Watcher()
        allowed = {f"{kind}:{number}" for number in range(feeds.TOPICS_OF_KEY_MAX)}
        assert all_feeds.watch(opened, page, allowed, set()) == allowed
        more = Watcher()
        assert all_feeds.watch(opened, more, {f"{kind}:more"}, set()) == set()
        assert await _next(more) == [{"topic": f"{kind}:more", "refused": "overloaded"}]
        assert all_feeds.topic_count == feeds.TOPICS_OF_KEY_MAX
        other = Watcher()
        all_feeds.watch(opened_with("b"), other, {kind}, set())
        assert (await _next(other))[0]["topic"] == kind  # another key's topics are not counted with these
        all_feeds.watch(opened, page, set(), allowed)
        assert all_feeds.watch(opened, more, {f"{kind}:more"}, set()) == {f"{kind}:more"}
        assert all_feeds.topic_count == 2
        nursery.cancel_scope.cancel()


def test_the_master_lets_all_topics_of_a_key_wait_and_has_room_for_its_programs() -> None:
    assert feeds.TOPICS_OF_KEY_MAX < FOLLOWERS_OF_KEY_MAX


async def test_a_connection_that_breaks_does_not_end_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stores.warehouse, "connect", broken)
    async with trio.open_nursery() as nursery:
        opening = Stores(lambda: Profile("", "", "", ""), nursery)
        for _ in range(2):
            with pytest.raises(Unavailable, match="its log says why"):
                await opening.sign_in("a", "b")
        assert len(opening) == 0


async def test_one_key_that_signs_in_again_and_again_ends_no_session_of_another() -> None:
    sessions = Sessions(idle_s=3600, most_s=7200)
    other_cookie, other = sessions.begin()
    other.add(opened_with("other"))
    first_cookie, first = sessions.begin()
    one = opened_with("one")
    first.add(one.use())
    for _ in range(SESSIONS_OF_KEY_MAX):
        cookie, session = sessions.begin()
        session.add(one.use())
        sessions.end_surplus("one")
    assert len(sessions) == SESSIONS_OF_KEY_MAX + 1
    assert sessions.find(first_cookie) is None
    assert sessions.find(other_cookie) is other
    assert sessions.find(cookie) is session
    assert one.user_count == SESSIONS_OF_KEY_MAX + 1


async def test_a_request_uses_one_key_whatever_other_tabs_do() -> None:
    async with trio.open_nursery() as nursery:
        console = Console.make(ConsoleOptions(Path("/nowhere"), Path("/nowhere")), nursery)
        cookie, session = console.sessions.begin()
        first, second = opened_with("first"), opened_with("second")
        session.add(second)
        session.add(first)
        app = create_app(console)
        async with app.test_request_context("/", headers={"Cookie": f"warehouse_session={cookie}"}):
            assert here.opened() is first
            session.switch("second")
            assert here.opened() is first
            first.ended.set()
            with pytest.raises(NotAuthenticated):
                here.opened()
            here.drop_ended()
            assert (list(session.keys), session.current) == (["second"], second)
            here.drop_ended()
            assert session.current is second, "a key that has not ended was signed out"
            assert g.opened is first


async def test_a_new_secret_is_kept_even_if_its_key_cannot_sign_in_again() -> None:
    async with trio.open_nursery() as nursery:
        console = Console.make(ConsoleOptions(Path("/nowhere"), Path("/nowhere")), nursery)
        cookie, session = console.sessions.begin()
        own = opened_with("own")
        new = SimpleNamespace(key_id="own", secret="only here")

        async def rotate_key(key_id: str, *, overlap_s: float) -> Any:
            own.ended.set()  # the store ends the connection before it answers
            return new

        own.store = cast(Any, SimpleNamespace(rotate_key=rotate_key))
        session.add(own)
        client = create_app(console).test_client()
        headers = {"Cookie": f"warehouse_session={cookie}", "X-CSRF-Token": csrf_token(session.csrf_secret)}
        answer = await client.post("/keys/id/own/rotate", headers=headers, form={"overlap": "0"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/keys/id/own/secret")
        kept = session.take_once("key own")
        assert isinstance(kept, Secret)
        assert kept.new.secret == "only here"


async def test_no_join_token_is_made_that_nobody_would_see() -> None:
    async with trio.open_nursery() as nursery:
        console = Console.make(ConsoleOptions(Path("/nowhere"), Path("/nowhere")), nursery)
        cookie, session = console.sessions.begin()
        opened, made = opened_with("manager"), list[str]()

        async def disks() -> None:
            raise Unavailable("the store is away")

        async def create_join_token(**wish: object) -> None:
            made.append("a token")

        opened.info = cast(Any, SimpleNamespace(permissions=("see_cluster", "manage_cluster"), key_id="m"))
        opened.store = cast(Any, SimpleNamespace(disks=disks, create_join_token=create_join_token))
        session.add(opened)
        client = create_app(console).test_client()
        headers = {
            "Cookie": f"warehouse_session={cookie}",
            "X-CSRF-Token": csrf_token(session.csrf_secret),
            "Accept": "application/json",
        }
        answer = await client.post("/volumes/add", headers=headers, form={"folder": "/disk"})
        assert (answer.status_code, made) == (503, [])
