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
        self._for_followers: deque[Connection] = deque()  # for followers that are awake
        self._suspended: dict[Connection, Serving] = {}
        self._resumable: deque[tuple[Connection, Serving]] = deque()  # for one follower, which has been woken
        self._followers = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None
        self._has_leader = False

    def watch(self, connection: Connection) -> None:
        """From now on the connection is served whenever something comes."""
        self._selector.register(connection.fileno(), selectors.EVENT_READ, connection)
        connection.is_watched = True

    def unwatch(self, connection: Connection) -> None:
        """To be called before its socket is closed; does nothing when it is not watched."""
        if connection.is_watched:
            self._selector.unregister(connection.fileno())
            connection.is_watched = False

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._run_follower)
            try:
                await trio.sleep_forever()  # the nursery is open for as long as anybody wakes a follower
            finally:
                self._nursery = None

    def close(self) -> None:
        """To be called last.  Requests that rest end here, as if their tasks had been cancelled."""
        self._selector.close()
        unfinished = [*self._suspended.values(), *(serving for _, serving in self._resumable)]
        self._suspended.clear()
        self._resumable.clear()
        for serving in unfinished:
            serving.close()

    async def _run_follower(self) -> None:
        """Do what there is to do, again and again; asleep in between."""
        while True:
            if self._resumable:
                await self._resume_all()
            elif self._for_followers:
                connection = self._for_followers.popleft()
                if self._for_followers:
                    self._wake_follower()  # this one may have to wait long, and the others not for that
                await self._serve_in_task(connection)
            elif not self._has_leader:
                await self._run_leader()
            if self._resumable or self._for_followers or not self._has_leader:
                continue
            if len(self._followers) >= FOLLOWERS_MAX:
                return
            await self._followers.park()

    def _wake_follower(self) -> None:
        if not self._followers.unpark() and self._nursery is not None:
            self._nursery.start_soon(self._run_follower)

    async def _serve_in_task(self, connection: Connection) -> None:
        """In a task that may wait: answer what has come on this connection."""
        connection.is_led = False
        while await self._await_outcome(connection, self._serve(connection)):
            await trio.lowlevel.checkpoint()
        self._make_idle(connection)

    async def _await_outcome(self, connection: Connection, outcome: Outcome | Serving) -> bool:
        while not isinstance(outcome, bool):
            outcome = self._send(connection, outcome) if isinstance(outcome, bytes) else await outcome
        return outcome

    # --- the leader -------------------------------------------------------------------------------

    async def _run_leader(self) -> None:
        """Return when a request had to wait, and the lead went to another task."""
        self._has_leader = True
        served = 0
        while True:
            while self._ready:
                connection = self._ready.popleft()
                if not connection.is_open:
                    continue
                if connection.lacks_body():
                    self._for_followers.append(connection)
                    self._wake_follower()
                    continue
                connection.is_led = True
                outcome = self._serve(connection)
                if isinstance(outcome, (bool, bytes)):
                    self._complete(connection, outcome, self._ready)
                else:
                    self._send_burst(self._ready)  # it may take longer than those can wait
                    if await self._advance(connection, outcome, self._promote_follower, self._ready):
                        return
                served += 1
                if served >= TURN_MAX:
                    served = 0
                    self._send_burst(self._ready)
                    await trio.lowlevel.checkpoint()
            self._send_burst(self._ready)
            if self._for_followers:
                served = 0
                await trio.lowlevel.checkpoint()
            if not self._find_ready():
                served = 0
                await trio.lowlevel.wait_readable(self._selector.fileno())

    def _promote_follower(self) -> None:
        self._send_burst(self._ready)
        self._has_leader = False
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

    async def _advance(
        self,
        connection: Connection,
        serving: Serving,
        on_wait: Callable[[], None],
        queue: deque[Connection],
    ) -> bool:
        """Begin a request, or go on with one that has rested; tell whether this task had to wait for it.

        Args:
            on_wait: called when it has to, before it does; sends the burst.
            queue: gets the connection when another request has come already.
        """
        connection.is_led = True
        outcome = await _drive(serving, connection, on_wait)
        if isinstance(outcome, Latch):
            self._suspended[connection] = serving
            outcome.call_when_open(partial(self._resume, connection))
            return False
        if connection.is_led:
            self._complete(connection, outcome, queue)
            return False
        if await self._await_outcome(connection, outcome):
            await trio.lowlevel.checkpoint()
            await self._serve_in_task(connection)
        else:
            self._make_idle(connection)
        return True

    def _resume(self, connection: Connection) -> None:
        """What this connection's request rested for has come."""
        serving = self._suspended.pop(connection, None)
        if serving is None:
            return  # the crew has been closed
        self._queue_resumable(connection, serving)

    def _queue_resumable(self, connection: Connection, serving: Serving) -> None:
        self._resumable.append((connection, serving))
        if len(self._resumable) == 1:
            self._wake_follower()

    async def _resume_all(self) -> None:
        """Until there are none, or one has to wait: then another follower sees to the others."""

        def on_wait() -> None:
            self._send_burst(self._for_followers)
            if self._resumable or self._for_followers:
                self._wake_follower()

        served = 0
        while self._resumable:
            connection, serving = self._resumable.popleft()
            if await self._advance(connection, serving, on_wait, self._for_followers):
                return
            served += 1
            if served >= TURN_MAX:
                served = 0
                self._send_burst(self._for_followers)
                if self._for_followers:
                    self._wake_follower()
                await trio.lowlevel.checkpoint()
        self._send_burst(self._for_followers)

    # --- after a request that did not wait --------------------------------------------------------

    def _complete(self, connection: Connection, outcome: Outcome, queue: deque[Connection]) -> None:
        if outcome is False:
            self._make_idle(connection)
        elif outcome is True:
            queue.append(connection)
        else:
            self._unsent.append((connection, outcome))
            if len(self._unsent) >= BURST_MAX:
                self._send_burst(queue)

    def _send_burst(self, queue: deque[Connection]) -> None:
        """To be called before this task waits for whatever it may be."""
        unsent, self._unsent = self._unsent, []
        for connection, data in unsent:
            outcome = self._send(connection, data)
            if isinstance(outcome, bool):
                self._complete(connection, outcome, queue)
            else:
                self._queue_resumable(connection, outcome)

    def _make_idle(self, connection: Connection) -> None:
        """It owes nothing until something comes."""
        connection.is_busy = False
        if connection.is_open and not connection.is_watched:
            self.watch(connection)


@types.coroutine
def _drive(
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
