"""Leader and followers: a request that waits holds up no other, and every connection gets its turn."""

from __future__ import annotations

import gc
import re
import socket
import time
from pathlib import Path

import pytest
import trio

from http_harness import (
    GOOD,
    RECEIVE_S,
    WAIT,
    Gate,
    echo,
    receive_all,
    receive_until,
    reset_when_closed,
    serving,
    split_answers,
    start_server,
)
from warehouse.transport.http import leader_followers
from warehouse.transport.http.connection import HttpLimits, State
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.head_memo import Recalled
from warehouse.transport.http.latch import Latch
from warehouse.transport.http.leader_followers import FOLLOWERS_MAX, MOVES, TURN_MAX
from warehouse.transport.http.server import HttpServer

ASK = b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
SUSPEND = b"PUT /suspend HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
SUSPEND_LONG = SUSPEND.replace(b"/suspend", b"/suspend?long")
RESUMED = b"PUT|/suspend||3|abc"


# --- states and moves -----------------------------------------------------------------------------

ARROWS = {(before, after) for before, arrows in MOVES.items() for after in arrows}


ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"


@pytest.mark.parametrize("text", [leader_followers.__doc__, ARCHITECTURE.read_text()], ids=["module", "docs"])
def test_the_diagrams_show_the_moves_of_the_table(text: str) -> None:
    drawn = re.findall(r"^    ([A-Z]+) -+> ([A-Z]+)\b", text, re.MULTILINE)
    assert sorted(drawn) == sorted((before.name, after.name) for before, after in ARROWS)


def test_every_state_is_reached_from_idle_and_leads_back_to_it() -> None:
    def reachable(start: State) -> set[State]:
        found, new = set(), {start}
        while new:
            found |= new
            new = {after for before in new for after in MOVES[before]} - found
        return found

    assert set(MOVES) == set(State)
    assert all(reachable(state) == set(State) for state in State)


async def test_connections_make_every_move_of_the_table(moves: set[tuple[State, State]]) -> None:
    """Moves that the table lacks fail at the connection itself, here and in every other behaviour test."""
    handler = Suspending()
    async with serving(handler, HttpLimits(header_s=0.2)) as served, await served.connect() as stream:
        await stream.send_all(ASK)
        await receive_until(stream, b"GET|/now||0|")
        assert moves == {(State.IDLE, State.READY), (State.READY, State.RUNNING), (State.RUNNING, State.IDLE)}
        await stream.send_all(SUSPEND + ASK[:5])
        await handler.hold(1)
        handler.resume_all()
        await receive_until(stream, RESUMED)
        await stream.send_all(ASK[5:] + ASK + ASK[:5])
        await receive_until(stream, b"GET|/now||0|")
        assert b"408" in await receive_all(stream)
    assert moves == ARROWS


async def test_requests_that_need_no_wait_are_answered_by_one_task():
    gate = Gate()
    async with serving(gate) as served:
        streams = [await served.connect() for _ in range(5)]
        for _ in range(3):
            for stream in streams:
                await stream.send_all(ASK)
            for stream in streams:
                await receive_until(stream, b"GET|/now||0|")
        for stream in streams:
            await stream.aclose()
    assert len(gate.tasks) == 1


async def test_any_number_of_waiting_requests_hold_up_no_other():
    gate = Gate()
    count = FOLLOWERS_MAX + 20
    async with serving(gate) as served:
        waiting = [await served.connect() for _ in range(count)]
        for stream in waiting:
            await stream.send_all(WAIT)
        await gate.hold(count)
        async with await served.connect() as other:
            for _ in range(3):
                await other.send_all(ASK)
                await receive_until(other, b"GET|/now||0|")
        gate.opened.set()
        for stream in waiting:
            await receive_until(stream, b"GET|/wait||0|")
        for _ in range(2):  # and all of them are served on
            for stream in waiting:
                await stream.send_all(ASK)
            for stream in waiting:
                await receive_until(stream, b"GET|/now||0|")
        for stream in waiting:
            await stream.aclose()


async def test_what_is_pipelined_behind_a_request_that_waits_is_answered_after_it():
    gate = Gate()
    async with serving(gate) as served, await served.connect() as stream:
        await stream.send_all(WAIT + ASK + WAIT + ASK)
        await gate.hold(1)
        gate.opened.set()
        received = b""
        with trio.fail_after(RECEIVE_S):
            while len(answers := split_whole(received)) < 4:
                received += await stream.receive_some()
    assert [answer.body for answer in answers] == [b"GET|/wait||0|", b"GET|/now||0|"] * 2


def split_whole(received: bytes) -> list:
    return split_answers(received) if received.endswith(b"|0|") else []


async def share_of_a_core() -> float:
    """What this process uses meanwhile, of the processor time that it can get."""
    before, started = time.process_time(), time.monotonic()
    await trio.sleep(0.5)
    return (time.process_time() - before) / (time.monotonic() - started)


async def test_a_client_that_talks_on_while_it_waits_costs_no_time():
    gate = Gate()
    async with serving(gate) as served, await served.connect() as stream:
        await stream.send_all(WAIT)
        await gate.hold(1)
        await stream.send_all(ASK)
        await trio.sleep(0.05)
        share = await share_of_a_core()
        assert share < 0.5, f"{share:.0%} of a core while nobody does anything"
        gate.opened.set()
        await receive_until(stream, b"GET|/now||0|")
        await stream.send_all(ASK)
        await receive_until(stream, b"GET|/now||0|")


async def test_a_client_that_leaves_while_it_waits_is_let_go_and_costs_no_time():
    gate = Gate()
    async with serving(gate) as served:
        stream = await served.connect()
        await stream.send_all(WAIT)
        await gate.hold(1)
        await stream.aclose()
        await trio.sleep(0.05)
        share = await share_of_a_core()
        assert share < 0.5, f"{share:.0%} of a core while nobody does anything"
        gate.opened.set()
        await served.wait_until_idle()
        await served.assert_alive()


async def test_a_head_that_ends_just_when_it_is_overdue_is_answered_once():
    begun_count = 0

    async def slow(exchange: Exchange) -> None:
        nonlocal begun_count
        begun_count += 1
        await trio.sleep(0.001)
        await echo(exchange)

    statuses = []
    async with serving(slow) as served:
        for _ in range(30):
            stream = await served.connect()
            await stream.send_all(GOOD[:-2])
            with trio.fail_after(RECEIVE_S):
                while not served.server.connection_count:
                    await trio.sleep(0.001)
                [connection] = served.server._connections
                while connection.is_between_requests:
                    await trio.sleep(0.001)
            connection._read_since -= 1000
            await stream.socket.send(GOOD[-2:])  # wakes the leader, and ...
            served.server._end_if_overdue(connection, served.nursery)  # ... in either order, the sweeper
            async with stream:
                [answer] = split_answers(await receive_all(stream))
            statuses.append(answer.status)
            await served.wait_until_idle()
    assert set(statuses) <= {200, 408}
    assert begun_count == statuses.count(200), "none was served and refused"


async def test_a_server_that_stops_while_it_turns_somebody_away_stops():
    gate = Gate()
    async with serving(gate, HttpLimits(connections=1)) as served:
        first = await served.connect()
        await first.send_all(WAIT)
        await gate.hold(1)
        ours, theirs = socket.socketpair()
        server = served.server
        server._enter(theirs)
        assert server.connection_count == 2
        server.stop()
        gate.opened.set()
        ours.close()
        await first.aclose()


# --- suspended requests --------------------------------------------------------------------------


class Suspending:
    """A handler that suspends requests for /suspend until they are resumed; it answers others immediately."""

    def __init__(self, answer_size: int = 0) -> None:
        self.latches: list[Latch] = []
        self.tasks: set[trio.lowlevel.Task] = set()
        self.ended_count = 0
        self.suspended_count = 0
        self._answer_size = answer_size

    async def __call__(self, exchange: Exchange) -> None:
        self.tasks.add(trio.lowlevel.current_task())
        try:
            if exchange.path == b"/suspend":
                latch = Latch(1)
                self.latches.append(latch)
                self.suspended_count += not exchange._connection.has_task
                await exchange.wait_for(latch)
                self.tasks.add(trio.lowlevel.current_task())
                if exchange.query == b"long":
                    await exchange.respond(200, (), bytes(8 * 1024 * 1024))
                    return
                if self._answer_size:
                    await exchange.respond(200, (), bytes(self._answer_size))
                    return
            await echo(exchange)
        finally:
            self.ended_count += 1

    async def hold(self, count: int) -> None:
        with trio.fail_after(RECEIVE_S):
            while len(self.latches) < count:
                await trio.sleep(0.001)

    async def resume_one_by_one(self, latches: list[Latch]) -> None:
        for latch in latches:
            await trio.lowlevel.checkpoint()
            latch.count_down()

    def resume_all(self) -> None:
        latches, self.latches = self.latches, []
        for latch in latches:
            latch.count_down()


async def test_suspended_requests_have_no_tasks_and_are_answered_by_one():
    handler = Suspending()
    async with serving(handler) as served:
        streams = [await served.connect() for _ in range(50)]
        for _ in range(3):
            for stream in streams:
                await stream.send_all(SUSPEND)
            await handler.hold(len(streams))
            async with await served.connect() as other:  # nobody else waits for them
                await other.send_all(ASK)
                await receive_until(other, b"GET|/now||0|")
            handler.resume_all()
            for stream in streams:
                await receive_until(stream, RESUMED)
        for stream in streams:
            await stream.aclose()
    assert len(handler.tasks) <= 2, "a leader and a follower"


async def test_what_is_pipelined_behind_a_suspended_request_is_answered_after_it():
    handler = Suspending()
    async with serving(handler) as served, await served.connect() as stream:
        # The beginning of one more: else this looks like a request whose body has yet to come.
        await stream.send_all(SUSPEND + ASK + SUSPEND + ASK + ASK[:5])
        received = b""
        with trio.fail_after(RECEIVE_S):
            while received.count(b"HTTP/1.1 200") < 4 or not received.endswith(b"|0|"):
                handler.resume_all()
                with trio.move_on_after(0.01):
                    received += await stream.receive_some()
        assert handler.suspended_count == 1, (
            "the second has a task, that of the follower which answered the first"
        )
    assert [answer.body for answer in split_answers(received)] == [RESUMED, b"GET|/now||0|"] * 2


async def test_what_is_pipelined_waits_for_no_other_that_was_suspended_at_the_same_time():
    handler = Suspending(answer_size=0)
    async with serving(handler) as served:
        first, second = await served.connect(), await served.connect()
        await first.send_all(SUSPEND + ASK + ASK[:5])
        await handler.hold(1)
        await second.send_all(SUSPEND_LONG)
        await handler.hold(2)
        handler.resume_all()  # the second has to wait for its client, who does not read
        await receive_until(first, b"GET|/now||0|")
        await receive_until(second, bytes(1024))
        await first.aclose()
        await second.aclose()
    assert handler.suspended_count == 2


async def test_a_client_that_does_not_read_holds_up_no_other_that_was_suspended_with_it():
    handler = Suspending(answer_size=8 * 1024 * 1024)
    async with serving(handler) as served:
        streams = [await served.connect() for _ in range(4)]
        for stream in streams:
            await stream.send_all(SUSPEND)
        await handler.hold(len(streams))
        handler.resume_all()
        for stream in reversed(streams):  # the first to be answered reads last
            await receive_until(stream, bytes(1024 * 1024))
            await stream.aclose()


async def test_a_body_that_comes_late_waits_like_any_other():
    handler = Suspending()
    head, body = SUSPEND[:-3], SUSPEND[-3:]
    async with serving(handler) as served:
        streams = [await served.connect() for _ in range(20)]
        for stream in streams:
            await stream.send_all(head)
        await trio.sleep(0.02)
        for stream in streams:
            await stream.send_all(body)
        await handler.hold(len(streams))
        handler.resume_all()
        for stream in streams:
            await receive_until(stream, RESUMED)
            await stream.aclose()


async def test_a_client_that_leaves_while_its_request_is_suspended_is_let_go():
    handler = Suspending()
    async with serving(handler) as served:
        stream = await served.connect()
        await stream.send_all(SUSPEND)
        await handler.hold(1)
        await stream.aclose()
        await trio.sleep(0.02)
        handler.resume_all()
        await served.wait_until_idle()
        await served.assert_alive()


@pytest.mark.parametrize("attempt", range(6))  # the tasks of a tick run in any order
async def test_suspended_requests_end_with_their_server(attempt: int):
    handler = Suspending()
    async with trio.open_nursery() as other, trio.open_nursery() as nursery:
        served = await start_server(nursery, handler)
        streams = [await served.connect() for _ in range(5)]
        for stream in streams:
            await stream.send_all(SUSPEND)
        await handler.hold(len(streams))
        handler.latches[0].count_down()  # this one is woken, and has not run yet
        nursery.cancel_scope.cancel()
        # Those that bring about what is waited for may go on for a while.
        other.start_soon(handler.resume_one_by_one, handler.latches[1:3])
    assert handler.ended_count == len(streams)
    assert served.server.connection_count == 0
    for latch in handler.latches[3:]:
        latch.count_down()  # too late, and harmless
    for stream in streams:
        await stream.aclose()


async def test_a_server_that_stops_lets_suspended_requests_end():
    handler = Suspending()
    async with serving(handler) as served:
        stream = await served.connect()
        await stream.send_all(SUSPEND)
        await handler.hold(1)
        served.server.stop()
        handler.resume_all()
        received = await receive_all(stream)
        [answer] = split_answers(received)
        assert answer.body == RESUMED
        await stream.aclose()


# --- answers at once, and in bursts ---------------------------------------------------------------


def handle_nowait(recalled: Recalled) -> tuple[int, bytes, bytes] | None:
    """An answer of as many bytes as the path says; the handler's, if it says something else."""
    size = recalled[1][1:]
    if not size.isdigit():
        return None
    return 200, b"Content-Length: %b\r\n\r\n" % size, b"x" * int(size)


def sized(size: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % size


async def known(stream: trio.SocketStream) -> None:
    """Make the fields of these requests known to the server: those of the first go to the handler."""
    await stream.send_all(ASK)
    await receive_until(stream, b"GET|/now||0|")


async def test_pipelined_answers_come_whole_and_in_order_whoever_gives_them():
    sizes = [*range(1, 40), 64 * 1024, 3, 64 * 1024 + 1, 5, 1024 * 1024, 7, 0]
    async with serving(echo, handle_nowait=handle_nowait) as served, await served.connect() as stream:
        await known(stream)

        async def send() -> None:
            for size in sizes:
                await stream.send_all(sized(size) + ASK)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = b""
            with trio.fail_after(RECEIVE_S):
                while received.count(b"HTTP/1.1 200") < 2 * len(sizes) or not received.endswith(b"|0|"):
                    received += await stream.receive_some()
    bodies = [answer.body for answer in split_answers(received)]
    assert bodies[1::2] == [b"GET|/now||0|"] * len(sizes)
    assert [len(body) for body in bodies[0::2]] == sizes


async def test_a_client_that_does_not_read_is_waited_for_without_the_others_and_loses_nothing():
    size, count = 60_000, 200  # more than both sockets take
    async with serving(echo, handle_nowait=handle_nowait) as served:
        slow, *others = [await served.connect() for _ in range(20)]
        await known(slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send_all, sized(size) * count)
            for _ in range(20):
                for stream in others:
                    await stream.send_all(sized(100))
                for stream in others:
                    await receive_until(stream, b"x" * 100)
            received = bytearray()
            with trio.fail_after(RECEIVE_S):
                while received.count(b"HTTP/1.1 200") < count or not received.endswith(b"x" * size):
                    received += await slow.receive_some()
        assert [len(answer.body) for answer in split_answers(bytes(received))] == [size] * count
        for stream in (slow, *others):
            await stream.aclose()


async def test_clients_that_leave_before_their_answer_cost_the_others_nothing():
    async with serving(echo, handle_nowait=handle_nowait) as served:
        streams = [await served.connect() for _ in range(30)]
        await known(streams[0])
        for round_number in range(10):
            for stream in streams:
                await stream.send_all(sized(40_000))
            gone = streams.pop(round_number)
            reset_when_closed(gone)
            gone.socket.close()
            for stream in streams:
                await receive_until(stream, b"x" * 40_000)
        for stream in streams:
            await stream.aclose()


async def test_a_flood_of_answers_at_once_lets_the_other_tasks_run():
    async with serving(echo, handle_nowait=handle_nowait) as served, await served.connect() as stream:
        await known(stream)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        count = 2_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, sized(1) * count)
            nursery.start_soon(count_turns)
            received = b""
            with trio.fail_after(RECEIVE_S):
                while received.count(b"HTTP/1.1 200") < count or not received.endswith(b"x"):
                    received += await stream.receive_some()
            assert turns >= count // TURN_MAX - 1  # the last of them may come after the last answer
            nursery.cancel_scope.cancel()


async def test_a_request_that_would_wait_goes_to_the_handler_which_is_told():
    told: list[tuple[bytes, bool]] = []

    async def handler(exchange: Exchange) -> None:
        told.append((exchange.path, exchange.would_wait))
        await echo(exchange)

    def cold(recalled: Recalled) -> None:
        if recalled[1] == b"/cold":
            raise BlockingIOError

    async with serving(handler, handle_nowait=cold) as served, await served.connect() as stream:
        await known(stream)
        await stream.send_all(ASK.replace(b"/now", b"/cold"))
        await receive_until(stream, b"GET|/cold||0|")
        await known(stream)
    assert told == [(b"/now", False), (b"/cold", True), (b"/now", False)]


async def test_a_bug_in_what_answers_at_once_costs_nothing_the_handler_answers(caplog):
    def broken(recalled: Recalled) -> None:
        raise ZeroDivisionError

    async with serving(echo, handle_nowait=broken) as served, await served.connect() as stream:
        for _ in range(3):
            await stream.send_all(ASK)
            await receive_until(stream, b"GET|/now||0|")
    assert caplog.text.count("no immediate answer") == 2


async def test_a_server_that_stops_says_so_where_it_would_have_answered_at_once():
    count = 5_000
    async with serving(echo, handle_nowait=handle_nowait) as served, await served.connect() as stream:
        await known(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, sized(1) * count)
            received = await stream.receive_some()
            served.server.stop()
            received += await receive_all(stream)
    answers = split_answers(received)
    assert len(answers) < count
    assert all(answer.body == b"x" for answer in answers[:-1])
    assert answers[-1].headers[b"connection"] == b"close"


# --- answers that are kept back: none is, while anybody waits -------------------------------------


@pytest.mark.parametrize("suspends", [False, True])
async def test_an_answer_is_not_kept_back_while_its_handler_waits(suspends: bool):
    latch = Latch(1)

    async def handler(exchange: Exchange) -> None:
        await echo(exchange)
        if suspends:
            await exchange.wait_for(latch)
        else:
            await latch.wait()

    async with serving(handler) as served, await served.connect() as stream:
        await stream.send_all(ASK)
        await receive_until(stream, b"GET|/now||0|")
        latch.count_down()
        await stream.send_all(ASK)
        await receive_until(stream, b"GET|/now||0|")


def narrow(server: HttpServer, stream: trio.SocketStream) -> None:
    """Make the only connection one that takes little of an answer at once."""
    [connection] = server._connections
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5_000)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5_000)


@pytest.mark.parametrize("what", ["fails", "waits", "waits, and the server stops"])
async def test_an_answer_is_whole_whatever_its_handler_does_after_it(what: str):
    size = 60_000
    answered, go_on = trio.Event(), trio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.path == b"/now":
            await echo(exchange)
            return
        await exchange.respond(200, (), b"y" * size)
        answered.set()
        if what == "fails":
            raise ZeroDivisionError
        await go_on.wait()

    async with serving(handler) as served, await served.connect() as stream:
        await known(stream)
        narrow(served.server, stream)
        await stream.send_all(sized(size))
        await answered.wait()
        if what.endswith("stops"):
            served.server.stop()
        go_on.set()
        received = await receive_until(stream, b"y" * 1000)
        while not received.endswith(b"y" * size):
            with trio.fail_after(RECEIVE_S):
                received += await stream.receive_some()
        assert len(split_answers(received)[0].body) == size


async def test_an_answer_is_out_when_the_server_ends_while_its_handler_waits():
    waits = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await echo(exchange)
        waits.set()
        await trio.sleep_forever()

    async with serving(handler) as served, await served.connect() as stream:
        await stream.send_all(ASK)
        await waits.wait()
        served.server.stop(grace_s=0.05)
        assert b"GET|/now||0|" in await receive_all(stream)


@pytest.mark.parametrize("attempt", range(30))
async def test_a_server_that_is_cancelled_lets_answers_go_that_are_half_sent(attempt: int):
    async with trio.open_nursery() as nursery:
        served = await start_server(nursery, echo, handle_nowait=handle_nowait)
        stream = await served.connect()
        await known(stream)
        narrow(served.server, stream)
        await stream.send_all(sized(60_000))
        for _ in range(attempt % 4):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await stream.aclose()
    gc.collect()  # a coroutine that nobody awaited would be told of here


# --- who is waited for by whom --------------------------------------------------------------------


async def test_what_is_pipelined_waits_for_no_other_that_was_answered_before_it():
    """One connection goes on with a request that waits long; the next request of the other waits for nothing."""
    suspending, gate = Suspending(), Gate()

    async def handler(exchange: Exchange) -> None:
        await (gate if exchange.path == b"/wait" else suspending)(exchange)

    async with serving(handler) as served:
        first, second = await served.connect(), await served.connect()
        await first.send_all(SUSPEND + WAIT + ASK[:5])
        await suspending.hold(1)
        await second.send_all(SUSPEND + ASK + ASK[:5])
        await suspending.hold(2)
        suspending.resume_all()
        await receive_until(second, b"GET|/now||0|")
        gate.opened.set()
        await receive_until(first, b"GET|/wait||0|")
        await first.aclose()
        await second.aclose()


async def test_bodies_that_do_not_come_hold_up_nobody_elses():
    handler = Suspending()
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    async with serving(handler) as served:
        stuck = [await served.connect() for _ in range(6)]
        for stream in stuck:
            await stream.send_all(SUSPEND + head + b"a")
        await handler.hold(len(stuck))
        handler.resume_all()
        for stream in stuck:
            await receive_until(stream, RESUMED)
        others = [await served.connect() for _ in range(3)]
        for stream in others:
            await stream.send_all(head)
            await trio.sleep(0.005)
            await stream.send_all(b"abc")
            await receive_until(stream, b"PUT|/x||3|abc")
        for stream in (*stuck, *others):
            await stream.aclose()
