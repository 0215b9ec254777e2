"""A client always ends: whatever it waits for when it is cancelled or closed, nobody waits for good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest
import trio

import warehouse
from fake_store import FakeStore
from warehouse.client.control import Control
from warehouse.errors import LinkDown, StoreError, Unavailable
from warehouse.transport.messages import Answer, Login, Request
from warehouse.transport.zeromq.peers import Peer

Answering = Callable[[Peer, Request], Awaitable[Answer]]


async def test_a_client_that_is_cancelled_as_its_link_comes_up_ends(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on no cancellation reaches the link; one that came just before must not be lost in between."""
    controls: list[Control] = []
    scope = trio.CancelScope()
    wait_up = Control._wait_up

    async def wait_up_and_be_cancelled(self: Control, deadline: float) -> None:
        await wait_up(self, deadline)
        controls.append(self)
        scope.cancel()  # in the same turn of the event loop, as a deadline is that is over just now

    monkeypatch.setattr(Control, "_wait_up", wait_up_and_be_cancelled)
    is_stuck = False

    async def rescue() -> None:
        nonlocal is_stuck
        await trio.sleep(20)
        is_stuck = True
        for control in controls:
            control.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rescue)
        with scope:
            async with warehouse.connect(store.profile):
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert not is_stuck, "it waited for good; nothing but the test could end it"


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05, 0.1])
async def test_a_client_that_is_cancelled_at_any_time_ends(store: FakeStore, after_s: float) -> None:
    with trio.fail_after(30):
        for turn in range(5):
            with trio.move_on_after(after_s + turn * 0.003):
                async with warehouse.connect(store.profile) as client:
                    photos = client.bucket("photos")
                    async with trio.open_nursery() as nursery:
                        for number in range(20):
                            nursery.start_soon(photos.put, f"{number}", b"1")
                            nursery.start_soon(_get, photos, f"{number}")


async def _get(photos: warehouse.Bucket, key: str) -> None:
    with suppress(StoreError):
        await photos.get(key)


@pytest.mark.parametrize("way", ["put_many", "get_many"])
async def test_who_waits_for_results_learns_that_the_client_was_closed(store: FakeStore, way: str) -> None:
    seen: list[Any] = []
    failures: list[StoreError] = []
    first = trio.Event()

    async def source() -> AsyncIterator[Any]:
        yield ("a", b"1") if way == "put_many" else "a"
        await trio.sleep_forever()

    async def wait_for_results(photos: warehouse.Bucket) -> None:
        try:
            async for result in getattr(photos, way)(source()):
                seen.append(result)
                first.set()
        except LinkDown as error:
            failures.append(error)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, warehouse.connect(store.profile) as client:
            nursery.start_soon(wait_for_results, client.bucket("photos"))  # outlives the client
            await first.wait()
    assert len(seen) == 1
    assert [str(error) for error in failures] == ["the client was closed before the next result arrived"]


async def test_closing_results_ends_the_loop_of_another_task(store: FakeStore) -> None:
    async def source() -> AsyncIterator[tuple[str, bytes]]:
        yield ("a", b"1")
        await trio.sleep_forever()

    async with warehouse.connect(store.profile) as client:
        seen: list[str] = []
        with trio.fail_after(30):
            async with aclosing(client.bucket("photos").put_many(source())) as results:
                first = trio.Event()

                async def collect() -> None:
                    async for result in results:
                        seen.append(result.key)
                        first.set()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(collect)
                    await first.wait()
                    await results.aclose()
    assert seen == ["a"]


async def test_a_login_that_is_not_answered_keeps_nobody_beyond_its_own_time(store: FakeStore) -> None:
    """All who were told to log in again wait for one login after the other."""
    answer: Answering = store._answer

    async def answer_no_login(peer: Peer, request: Request) -> Answer:
        if isinstance(request, Login):
            await trio.sleep(60)
        return await answer(peer, request)

    failures: list[StoreError] = []

    async def ask(client: warehouse.Store) -> None:
        try:
            await client.buckets()
        except StoreError as error:
            failures.append(error)

    async with warehouse.connect(store.profile, timeout_s=3) as client:
        await client.buckets()
        store.hub._dispatcher.answer = answer_no_login
        store.faults.not_authenticated = 100
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ask, client)
    assert len(failures) == 8
    assert all(isinstance(error, Unavailable) for error in failures)
