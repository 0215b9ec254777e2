"""Shares of keys in the console's time: who waits for whom, and how long."""

from __future__ import annotations

import statistics
import threading
import time

import pytest
import trio

from console_http import Visitor
from console_kit import ConsoleStore
from warehouse.errors import Overloaded
from warehouse.webui.shares import Shares

BROWSERS = 48


async def test_a_key_waits_for_itself_and_for_nobody_else(autojump_clock: trio.testing.MockClock) -> None:
    shares = Shares(at_once=2, line_max=10, wait_s=100)
    ended: list[str] = []

    async def ask(name: str) -> None:
        async with shares.share(name):
            await trio.sleep(1)
        ended.append(name)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(ask, "many")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, "one")
    assert ended.index("one") <= 2
    assert trio.current_time() == pytest.approx(3, abs=0.1)
    assert len(shares) == 0


async def test_a_line_that_is_too_long_is_refused_at_once(autojump_clock: trio.testing.MockClock) -> None:
    shares = Shares(at_once=1, line_max=2, wait_s=100)

    async def ask() -> None:
        async with shares.share("many"):
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            async with shares.share("many"):
                pass
        async with shares.share("other"):
            pass
    assert len(shares) == 0


async def test_a_line_that_does_not_move_is_left(autojump_clock: trio.testing.MockClock) -> None:
    shares = Shares(at_once=1, line_max=10, wait_s=5)
    async with shares.share("many"):
        with pytest.raises(Overloaded):
            async with shares.share("many"):
                pass
        assert trio.current_time() == pytest.approx(5, abs=0.1)
    async with shares.share("many"):
        pass
    assert len(shares) == 0


async def test_whoever_gives_up_leaves_the_line(autojump_clock: trio.testing.MockClock) -> None:
    shares = Shares(at_once=1, line_max=10, wait_s=100)
    async with shares.share("many"):
        with trio.move_on_after(1):
            async with shares.share("many"):
                pass
    assert len(shares) == 0


def test_a_key_that_asks_without_end_leaves_time_for_others(console: ConsoleStore, root: Visitor) -> None:
    console.put("many", {f"{number:04}": b"x" for number in range(500)})
    other = Visitor(console.url).sign_in(console.make_key("of somebody else", preset="admin"))
    is_over = threading.Event()
    waits: list[float] = []

    def timed(visitor: Visitor) -> float:
        began_s = time.monotonic()
        assert visitor.get("/buckets/many").status == 200
        return time.monotonic() - began_s

    def ask() -> None:
        while not is_over.is_set():
            waits.append(timed(root))

    threads = [threading.Thread(target=ask) for _ in range(BROWSERS)]
    for thread in threads:
        thread.start()
    try:
        while len(waits) < BROWSERS:
            is_over.wait(0.05)
        others = [timed(other) for _ in range(5)]
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert statistics.median(others) < statistics.median(waits[BROWSERS:]) / 2
