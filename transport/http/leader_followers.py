"""HTTP crew: the tasks that serve the connections of one server, as leader and followers.

A task for each connection would pay twice for each request: the wait for its first byte arms the socket
anew, a system call, and switches to another task.  Here one selector watches all connections that owe
nothing, and one task at a time leads: it takes what has come on each of them in turn, and answers.

    answered at once  a warm read, say: no coroutine, no task switch, no call to the kernel but its own
    `Exchange.wait_for`  a small put, until others have made it durable and visible, a small read, until the
                      disk has brought its bytes: the request rests, as a coroutine without a task, and the
                      leader goes on at once.  What others finish together, one follower answers together
    any other wait    a large body, a slow client: the leader stays with it, an ordinary task that may wait
                      for whatever it likes, and at that moment a follower takes the lead
    no wait           the same, as a coroutine that comes to its end at once
    a body to come    the request goes to a follower at once: bodies come soon, and the lead changes hands
                      only once in a round of the event loop

A handler chooses between the middle three by what it awaits, and need not know of the rest.

Answers to requests that cost no wait go out in bursts, a few of them back to back.  To send one alone
means, as often as not, to wake the client that sleeps for it, which costs as much as all the rest of sending;
to send to one that runs already costs nothing more.

Source: Schmidt et al., "Leader/Followers", Pattern Languages of Programs, 2000.
"""

from __future__ import annotations

import selectors
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

import trio

from warehouse.transport.http.connection import Connection
from warehouse.transport.http.latch import Latch

TURN_MAX = 16  # requests served in a row before the other tasks of this process get a turn
BURST_MAX = 8  # answers that are sent back to back: the first of them waits for the last to be ready
FOLLOWERS_MAX = 128  # that sleep; more of them end when their work is done

# What became of a request.  bool: it is over, and another one has come already or not.  bytes: its answer.
Outcome = bool | bytes
Serving = Coroutine[Any, Any, Outcome]


class LeaderFollowers:
    """Serves connections as bytes come in on them."""

    def __init__(
        self,
        serve: Callable[[Connection], Outcome | Serving],
        send: Callable[[Connection, bytes], bool | Serving],
    ) -> None:
        """
        Args:
            serve: answers at most one request of what has come on a connection, or closes it; a coroutine,
                when that may have to wait.  Raises nothing.
            send: sends an answer that `serve` has returned.  Raises nothing.
        """
        self._serve = serve
        self._send = send
        self._unsent: list[tuple[Connection, bytes]] = []  # empty whenever this task waits
        self._selector = selectors.DefaultSelector()
        self._ready: deque[Connection] = deque()  # for the leader
        self._given: deque[Connection] = deque()  # for followers that are awake
        self._resting: dict[Connection, Serving] = {}
        self._rested: deque[tuple[Connection, Serving]] = deque()  # for one follower, which has been woken
        self._followers = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None
        self._is_led = False

    def watch(self, connection: Connection) -> None:
        """From now on the connection is served whenever something comes."""
        self._selector.register(connection.fileno(), selectors.EVENT_READ, connection)
        connection.is_watched = True

    def unwatch(self, connection: Connection) -> None:
        """To be called before its socket is closed; does nothing when it is not watched."""
        if connection.is_watched:
            self._selector.unregister(connection.fileno())
            connection.is_watched = False

    async def work(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._follow)
            try:
                await trio.sleep_forever()  # the nursery is open for as long as anybody wakes a follower
            finally:
                self._nursery = None

    def close(self) -> None:
        """To be called last.  Requests that rest end here, as if their tasks had been cancelled."""
        self._selector.close()
        unfinished = [*self._resting.values(), *(serving for _, serving in self._rested)]
        self._resting.clear()
        self._rested.clear()
        for serving in unfinished:
            serving.close()

    async def _follow(self) -> None:
        """Do what there is to do, again and again; asleep in between."""
        while True:
            if self._rested:
                await self._go_on_with_rested()
            elif self._given:
                connection = self._given.popleft()
                if self._given:
                    self._wake_follower()  # this one may have to wait long, and the others not for that
                await self._serve_all(connection)
            elif not self._is_led:
                await self._lead()
            if self._rested or self._given or not self._is_led:
                continue
            if len(self._followers) >= FOLLOWERS_MAX:
                return
            await self._followers.park()

    def _wake_follower(self) -> None:
        if not self._followers.unpark() and self._nursery is not None:
            self._nursery.start_soon(self._follow)

    async def _serve_all(self, connection: Connection) -> None:
        """In a task that may wait: answer what has come on this connection."""
        connection.is_led = False
        while await self._see_through(connection, self._serve(connection)):
            await trio.lowlevel.checkpoint()
        self._release(connection)

    async def _see_through(self, connection: Connection, outcome: Outcome | Serving) -> bool:
        while not isinstance(outcome, bool):
            outcome = self._send(connection, outcome) if isinstance(outcome, bytes) else await outcome
        return outcome

    # --- the leader -------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """Return when a request had to wait, and the lead went to another task."""
        self._is_led = True
        served = 0
        while True:
            while self._ready:
                connection = self._ready.popleft()
                if not connection.is_open:
                    continue
                if connection.lacks_body():
                    self._given.append(connection)
                    self._wake_follower()
                    continue
                connection.is_led = True
                outcome = self._serve(connection)
                if isinstance(outcome, (bool, bytes)):
                    self._settle(connection, outcome, self._ready)
                else:
                    self._send_burst(self._ready)  # it may take longer than those can wait
                    if await self._run(connection, outcome, self._hand_over, self._ready):
                        return
                served += 1
                if served >= TURN_MAX:
                    served = 0
                    self._send_burst(self._ready)
                    await trio.lowlevel.checkpoint()
            self._send_burst(self._ready)
            if self._given:
                served = 0
                await trio.lowlevel.checkpoint()
            if not self._find_ready():
                served = 0
                await trio.lowlevel.wait_readable(self._selector.fileno())

    def _hand_over(self) -> None:
        self._send_burst(self._ready)
        self._is_led = False
        self._wake_follower()

    def _find_ready(self) -> bool:
        for key, _ in self._selector.select(0):
            connection: Connection = key.data
            if connection.is_busy:
                # It says more than it was asked for.  The selector would tell us forever.
                self.unwatch(connection)
            else:
                connection.is_busy = True
                self._ready.append(connection)
        return bool(self._ready)

    # --- requests without a task ------------------------------------------------------------------

    async def _run(
        self,
        connection: Connection,
        serving: Serving,
        on_wait: Callable[[], None],
        more: deque[Connection],
    ) -> bool:
        """Begin a request, or go on with one that has rested; tell whether this task had to wait for it.

        Args:
            on_wait: called when it has to, before it does; sends the burst.
            more: gets the connection when another request has come already.
        """
        connection.is_led = True
        outcome = await _tell_wait(serving, connection, on_wait)
        if isinstance(outcome, Latch):
            self._resting[connection] = serving
            outcome.call_when_open(partial(self._end_rest, connection))
            return False
        if connection.is_led:
            self._settle(connection, outcome, more)
            return False
        if await self._see_through(connection, outcome):
            await trio.lowlevel.checkpoint()
            await self._serve_all(connection)
        else:
            self._release(connection)
        return True

    def _end_rest(self, connection: Connection) -> None:
        """What this connection's request rested for has come."""
        serving = self._resting.pop(connection, None)
        if serving is None:
            return  # the crew has been closed
        self._go_on_later(connection, serving)

    def _go_on_later(self, connection: Connection, serving: Serving) -> None:
        self._rested.append((connection, serving))
        if len(self._rested) == 1:
            self._wake_follower()

    async def _go_on_with_rested(self) -> None:
        """Until there are none, or one has to wait: then another follower sees to the others."""

        def on_wait() -> None:
            self._send_burst(self._given)
            if self._rested or self._given:
                self._wake_follower()

        served = 0
        while self._rested:
            connection, serving = self._rested.popleft()
            if await self._run(connection, serving, on_wait, self._given):
                return
            served += 1
            if served >= TURN_MAX:
                served = 0
                self._send_burst(self._given)
                if self._given:
                    self._wake_follower()
                await trio.lowlevel.checkpoint()
        self._send_burst(self._given)

    # --- after a request that did not wait --------------------------------------------------------

    def _settle(self, connection: Connection, outcome: Outcome, more: deque[Connection]) -> None:
        if outcome is False:
            self._release(connection)
        elif outcome is True:
            more.append(connection)
        else:
            self._unsent.append((connection, outcome))
            if len(self._unsent) >= BURST_MAX:
                self._send_burst(more)

    def _send_burst(self, more: deque[Connection]) -> None:
        """To be called before this task waits for whatever it may be."""
        unsent, self._unsent = self._unsent, []
        for connection, data in unsent:
            outcome = self._send(connection, data)
            if isinstance(outcome, bool):
                self._settle(connection, outcome, more)
            else:
                self._go_on_later(connection, outcome)

    def _release(self, connection: Connection) -> None:
        """It owes nothing until something comes."""
        connection.is_busy = False
        if connection.is_open and not connection.is_watched:
            self.watch(connection)


@types.coroutine
def _tell_wait(
    serving: Serving, connection: Connection, on_wait: Callable[[], None]
) -> Generator[Any, Any, Outcome | Latch]:
    """Await `serving`, or go on with that, until it is done or rests.

    This is what `await serving` does, seen from the inside: whatever `serving` yields goes to Trio, and what
    Trio answers goes back.  When it has to wait for the first time, that is told to `on_wait`, and the
    connection has a task from then on.

    Returns:
        What `serving` returned, or the latch that it rests for.
    """
    try:
        request = serving.send(None)
    except StopIteration as end:
        done: Outcome = end.value
        return done
    connection.push_answer()
    if isinstance(request, Latch):
        return request
    connection.is_led = False
    on_wait()
    while True:
        try:
            answer = yield request
        except BaseException as error:
            resume = partial(serving.throw, error)
        else:
            resume = partial(serving.send, answer)
        try:
            request = resume()
        except StopIteration as end:
            done = end.value
            return done
