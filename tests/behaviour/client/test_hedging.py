"""Late reads are asked for once more: real sockets, and a server that is slow when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import trio
import trio.testing

import warehouse
from fake_store import FakeStore, fake_store
from warehouse.client.reading.hedging import LEARN_COUNT, HedgedReads, _Race
from warehouse.errors import LinkDown, NeedleCorrupt, NoSuchObject, StoreError
from warehouse.transport.http.pool import Answer, HttpPool

PATIENCE_S = 5.0  # so late is an answer that must not be waited for


@pytest.fixture
async def store() -> AsyncIterator[FakeStore]:
    async with fake_store() as store:
        store.buckets["photos"] = {}
        yield store


@pytest.fixture
async def photos(store: FakeStore) -> AsyncIterator[warehouse.Bucket]:
    """A bucket with "a", of which enough has been read to know what is late."""
    async with warehouse.connect(store.profile, hedge=True) as client:
        photos = client.bucket("photos")
        await photos.put("a", b"1")
        for _ in range(LEARN_COUNT):
            await photos.get("a")
        assert store.http["GET"] == LEARN_COUNT, "nothing was asked twice"
        yield photos


async def test_a_late_answer_is_asked_for_once_more(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.get_delay_s = [PATIENCE_S]
    with trio.fail_after(PATIENCE_S / 2):
        assert await photos.get("a") == b"1"
    assert store.http["GET"] == LEARN_COUNT + 2


async def test_the_first_answer_wins_even_if_it_is_late(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.get_delay_s = [0.2, PATIENCE_S]
    with trio.fail_after(PATIENCE_S / 2):
        assert await photos.get("a") == b"1"
    assert store.http["GET"] == LEARN_COUNT + 2


async def test_what_is_answered_in_time_is_asked_once(store: FakeStore, photos: warehouse.Bucket) -> None:
    for _ in range(20):
        await photos.get("a")
    assert store.http["GET"] <= LEARN_COUNT + 21, "but for a moment of a busy machine"


async def test_a_shared_read_is_hedged_too(store: FakeStore, photos: warehouse.Bucket) -> None:
    found: list[bytes] = []

    async def get() -> None:
        found.append(await photos.get("a"))

    store.faults.get_delay_s = [PATIENCE_S]
    with trio.fail_after(PATIENCE_S / 2):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(get)
    assert found == [b"1"] * 5
    assert store.batches[-1] == 5
    assert store.http["POST"] == 2


async def test_a_store_that_is_slow_for_all_gets_few_requests_more(
    store: FakeStore, photos: warehouse.Bucket
) -> None:
    before = store.http["GET"]
    store.faults.get_delay_s = [0.02] * 1000
    for _ in range(100):
        await photos.get("a")
    extra_count = store.http["GET"] - before - 100
    assert extra_count <= (LEARN_COUNT + 100) * 0.05 + 1


async def test_without_the_option_nothing_is_asked_twice(store: FakeStore) -> None:
    async with warehouse.connect(store.profile) as client:
        photos = client.bucket("photos")
        await photos.put("a", b"1")
        for _ in range(LEARN_COUNT):
            await photos.get("a")
        store.faults.get_delay_s = [0.2]
        assert await photos.get("a") == b"1"
    assert store.http["GET"] == LEARN_COUNT + 1


async def test_errors_leave_as_they_do_without(store: FakeStore, photos: warehouse.Bucket) -> None:
    with pytest.raises(NoSuchObject):
        await photos.get("b")
    store.faults.get_error = [NeedleCorrupt("bad")]
    with pytest.raises(NeedleCorrupt):
        await photos.get("a")


async def test_a_hedged_get_can_be_cancelled(store: FakeStore, photos: warehouse.Bucket) -> None:
    store.faults.get_delay_s = [PATIENCE_S] * 2
    with trio.move_on_after(0.1) as scope:
        await photos.get("a")
    assert scope.cancelled_caught
    assert await photos.get("a") == b"1"


# --- one race -------------------------------------------------------------------------------------


class SlowServer:
    """Answers a request at once, unless its connection is one of `slow`: those it keeps waiting."""

    def __init__(self, *slow: int, hangs_up: bool = False) -> None:
        self.slow = slow
        self.hangs_up = hangs_up
        self.connection_count = 0
        self.closed: list[int] = []
        self.go_on = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        number = self.connection_count
        self.connection_count += 1
        async with stream:
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    if number in self.slow:
                        await self.go_on.wait()
                        if self.hangs_up:
                            return
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
            self.closed.append(number)


async def race(server: SlowServer, *, release_after_s: float = PATIENCE_S) -> bytes | LinkDown:
    """What became of one read that is late when the server is slow."""
    pool = HttpPool()
    outcome: bytes | LinkDown
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, server.serve, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

        async def release() -> None:
            await trio.sleep(release_after_s)
            server.go_on.set()

        nursery.start_soon(release)
        reads = HedgedReads(pool, nursery)
        reads._times.late_s = 0.02
        reads._times._allowance = 1
        try:
            _, _, outcome = await reads.request("GET", url, "/", response_size_max=10)
        except LinkDown as error:
            outcome = error
        server.go_on.set()
        losers = [] if server.hangs_up else [*server.slow]
        with trio.move_on_after(PATIENCE_S):
            while len(server.closed) < len(losers):
                await trio.sleep(0.005)
        closed = [*server.closed]
        await pool.aclose()
        nursery.cancel_scope.cancel()
    assert closed == losers, "and nobody else"
    return outcome


async def test_the_losers_connection_is_closed_and_the_winners_kept() -> None:
    server = SlowServer(0)
    with trio.fail_after(PATIENCE_S / 2):
        assert await race(server) == b"1"


async def test_a_first_request_that_is_in_time_stays_the_only_one() -> None:
    server = SlowServer()
    assert await race(server) == b"0"
    assert server.connection_count == 1


async def test_when_both_fail_the_failure_leaves_plain() -> None:
    server = SlowServer(0, 1, hangs_up=True)
    assert isinstance(await race(server, release_after_s=0.2), LinkDown)
    assert server.connection_count == 2


async def test_when_the_first_failed_and_the_client_is_closed_nobody_waits_for_the_second() -> None:
    first_fails = trio.Event()
    ask_count = 0

    async def ask() -> Answer:
        nonlocal ask_count
        ask_count += 1
        if ask_count == 1:
            await first_fails.wait()
            raise LinkDown("hung up")
        await trio.sleep_forever()
        raise AssertionError

    failures: list[StoreError] = []

    async def run_first() -> None:
        try:
            await race.run_first()
        except StoreError as error:
            failures.append(error)

    race = _Race(ask, 0.0)
    async with trio.open_nursery() as reader:
        reader.start_soon(run_first)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as of_client:
            race.second = trio.CancelScope()
            of_client.start_soon(race.run_second)
            await trio.testing.wait_all_tasks_blocked()
            first_fails.set()
            await trio.testing.wait_all_tasks_blocked()
            of_client.cancel_scope.cancel()
        reader.cancel_scope.deadline = trio.current_time() + PATIENCE_S
    assert [error.message for error in failures] == ["hung up"]
