"""Outages: the master goes away, the console starts again, many people come."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from console_http import PATIENCE_S, Socket, Visitor
from console_kit import ConsoleStore
from warehouse.webui.feeds import TOPICS_OF_KEY_MAX
from warehouse.webui.live import KEY_ENDED, PAGES_MAX, TOPICS_MAX, WATCHERS_MAX


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def resident_kib(console: ConsoleStore) -> int:
    status = Path(f"/proc/{console.store.pids()['console']}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


def test_pages_say_within_seconds_that_the_store_is_away_and_recover(
    console: ConsoleStore, root: Visitor
) -> None:
    master = console.store.pids()["master"]
    os.kill(master, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        answer = root.get("/buckets")
        assert answer.status >= 500, answer.status
        assert time.monotonic() - began_s < 20
        assert "Traceback" not in answer.text
        assert 'role="alert"' in answer.text
    finally:
        os.kill(master, signal.SIGCONT)
    wait_until(lambda: root.get("/buckets").status == 200, "the page did not recover")


def test_who_was_signed_in_stays_so_when_the_master_is_killed(console: ConsoleStore, root: Visitor) -> None:
    with Socket(root) as live:
        live.watch("buckets")
        console.store.kill_actor("master")
        wait_until(lambda: root.get("/buckets").status == 200, "the page did not recover")
        console.put("after-the-master", {})
        while all(message.get("count") is None for message in live.messages()):
            pass


def test_a_console_that_starts_again_sends_open_pages_to_sign_in(
    console: ConsoleStore, root: Visitor
) -> None:
    before = console.store.pids()["console"]
    with Socket(root) as live:
        live.watch("buckets")
        live.messages()
        os.kill(before, signal.SIGKILL)
    wait_until(lambda: console.store.pids().get("console", before) != before, "no console was started")

    def is_back() -> bool:
        try:
            return Visitor(console.url).get("/sign-in").status == 200
        except OSError:
            return False

    wait_until(is_back, "the console did not come back")
    with Socket(root) as live:  # as its script does, again and again
        assert live.close_code() == KEY_ENDED
    assert root.get("/buckets").headers["location"].startswith("/sign-in?next=%2Fbuckets")
    assert Visitor(console.url).sign_in(console.root).get("/buckets").status == 200


def test_a_session_costs_little_memory(console: ConsoleStore) -> None:
    connection = Visitor(console.url).connect()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"key_id={console.root.key_id}&secret={console.root.secret}"

    def sign_in(count: int) -> None:
        nonlocal connection
        for number in range(count):
            if number % 200 == 0:  # a connection has a bound of requests
                connection.close()
                connection = Visitor(console.url).connect()
            assert (
                Visitor(console.url).ask("POST", "/sign-in", form, body, connection=connection).status == 303
            )

    sign_in(50)
    before = resident_kib(console)
    sign_in(300)
    connection.close()
    assert resident_kib(console) - before < 300 * 10


def test_two_thousand_open_pages_are_served_and_more_are_refused(console: ConsoleStore) -> None:
    people = [Visitor(console.url).sign_in(console.root) for _ in range(WATCHERS_MAX // PAGES_MAX + 1)]
    before = resident_kib(console)
    with ExitStack() as stack:
        pages = [stack.enter_context(Socket(people[n // PAGES_MAX])) for n in range(WATCHERS_MAX)]
        assert {page.status for page in pages} == {101}
        with Socket(people[-1]) as one_too_many:
            assert one_too_many.status == 503
        for page in pages:
            page.watch("buckets")
        assert resident_kib(console) - before < WATCHERS_MAX * 128
        console.put("seen-by-all", {})
        for page in pages:
            while all(message["topic"] != "buckets" for message in page.messages()):
                pass
        assert people[0].get("/buckets").status == 200


def test_a_page_for_which_there_was_no_room_follows_when_others_have_closed(console: ConsoleStore) -> None:
    visitor = Visitor(console.url).sign_in(console.make_key("many-pages", preset="reader"))
    names = [f"bucket:photos/{number}/" for number in range(TOPICS_OF_KEY_MAX)]
    with ExitStack() as last:
        with ExitStack() as others:
            for start in range(0, len(names), TOPICS_MAX):
                page = others.enter_context(Socket(visitor))
                page.watch(*names[start : start + TOPICS_MAX])
                waiting = {*names[start : start + TOPICS_MAX]}
                while waiting:  # each of them follows
                    waiting -= {message["topic"] for message in page.messages() if message.get("missed")}
            one_too_many = last.enter_context(Socket(visitor))
            one_too_many.watch("buckets")
            assert one_too_many.messages() == [{"topic": "buckets", "refused": "overloaded"}]
        while all(message.get("count") is None for message in one_too_many.messages()):
            pass
