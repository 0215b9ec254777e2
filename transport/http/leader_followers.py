"""Leader and followers: the tasks that serve the connections of one HTTP server.

A task for each connection would pay twice for each request: Trio would arm the socket for the first byte,
which is a system call, and switch to another task.  Here one selector watches all idle connections, and one
task at a time leads.  The leader takes what has come on each connection in turn, and answers it.

    request                        who answers it
    a plain function answers       the leader: no coroutine, no task switch, no system call but its own
    its handler never waits        the leader: the handler's coroutine ends at once
    `Exchange.wait_for`            nobody while it waits: the request is suspended, as a coroutine without
                                   a task.  A small put waits like this until it is durable and visible, a
                                   small read until the disk has brought its bytes.  One follower resumes
                                   all requests whose latches open together
    its handler waits otherwise    the leader stays with it, as an ordinary task that may wait for anything,
                                   and promotes a follower.  Large bodies and slow clients cause that
    its body has yet to come       a follower, from the start: bodies come soon, and the lead changes hands
                                   only once in a round of the event loop

A handler chooses by what it awaits, and need not know any of this.

A connection moves like this.  It may be closed while it is IDLE or RUNNING, and in any state when its server
ends; a closed connection makes no more moves.

    IDLE ------> READY       bytes have come: the leader takes it from the selector
    READY -----> RUNNING     the leader or a follower takes it from its queue
    RUNNING ---> SUSPENDED   its handler waits for a latch
    SUSPENDED -> READY       the latch has opened: a follower will resume it
    RUNNING ---> READY       the next request has come already, or its client does not take the answer yet
    RUNNING ---> IDLE        the answer is out, and nothing more has come
    IDLE ------> RUNNING     the server refuses it: its head is overdue, or there are too many connections

The leader sends immediate answers in bursts.  A single answer usually wakes a client that sleeps, and to wake
it costs as much as the rest of sending.  A client that runs already costs nothing more.

Source: Schmidt et al., "Leader/Followers", Pattern Languages of Programs, 2000.
"""

from __future__ import annotations

import selectors
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any

import trio

from warehouse.transport.http.connection import Connection, State
from warehouse.transport.http.latch import Latch

# Module names of their own: `State.READY` would cost a second look-up for each request.
IDLE, READY, RUNNING, SUSPENDED = State

# The arrows of the diagram above.  Nothing checks them while serving; the tests check every move they cause.
MOVES: Mapping[State, frozenset[State]] = {
    IDLE: frozenset({READY, RUNNING}),
    READY: frozenset({RUNNING}),
    RUNNING: frozenset({IDLE, READY, SUSPENDED}),
    SUSPENDED: frozenset({READY}),
}

TURN_MAX = 16  # requests that one task serves in a row before the other tasks of this process get a turn
BURST_MAX = 8  # answers that are sent back to back: the first of them waits until the last is ready
FOLLOWERS_MAX = 128  # that sleep; a follower beyond them ends when its work is done

# How a request ended.  True: the next request has come already; False: not yet.  bytes: send this answer.
Outcome = bool | bytes
OUTCOME_TYPES = (bool, bytes)  # made once, not for each request
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
            serve: answers at most one request that has come on a connection, or closes it.  Returns a
                coroutine when that may have to wait.  Raises nothing.
            send: sends an answer that `serve` has returned.  Raises nothing.
        """
        self._serve = serve
        self._send = send
        self._unsent: list[tuple[Connection, bytes]] = []  # empty whenever this task waits
        self._selector = selectors.DefaultSelector()
        # Connections that are READY stand in one of three queues.
        self._ready: deque[Connection] = deque()  # for the leader
        self._for_followers: deque[Connection] = deque()
        self._resumable: deque[tuple[Connection, Serving]] = deque()  # for one follower, which has been woken
        self._suspended: dict[Connection, Serving] = {}
        self._followers = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None
        self._has_leader = False

    def watch(self, connection: Connection) -> None:
        """Serve the connection from now on, whenever something comes."""
        self._selector.register(connection.fileno(), selectors.EVENT_READ, connection)
        connection.is_watched = True

    def unwatch(self, connection: Connection) -> None:
        """Stop watching the connection, if it is watched.  Call this before its socket is closed."""
        if connection.is_watched:
            self._selector.unregister(connection.fileno())
            connection.is_watched = False

    def go_on(self, connection: Connection) -> None:
        """Serve a connection that was not watched for a while; its next request may have come already."""
        if connection.state is not IDLE:
            return  # it ends its request and is watched then
        if connection.has_request:
            connection.state = READY
            self._for_followers.append(connection)
            self._wake_follower()
        elif not connection.is_watched:
            self.watch(connection)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._run_follower)
            try:
                await trio.sleep_forever()  # keeps the nursery open for whoever wakes a follower
            finally:
                self._nursery = None

    def close(self) -> None:
        """Let suspended requests end as if their tasks had been cancelled.  Call this last."""
        self._selector.close()
        unfinished = [*self._suspended.values(), *(serving for _, serving in self._resumable)]
        self._suspended.clear()
        self._resumable.clear()
        for serving in unfinished:
            serving.close()

    # --- the followers ----------------------------------------------------------------------------

    async def _run_follower(self) -> None:
        """Do what there is to do, again and again; sleep in between."""
        while True:
            if self._resumable:
                await self._resume_all()
            elif self._for_followers:
                connection = self._for_followers.popleft()
                if self._for_followers:
                    self._wake_follower()  # the other connections must not wait for this one
                connection.state = RUNNING
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
        """Answer everything that has come on this connection, in a task that may wait."""
        connection.has_task = True
        while await self._await_outcome(connection, self._serve(connection)):
            await trio.lowlevel.checkpoint()
        connection.has_task = False
        self._make_idle(connection)

    async def _await_outcome(self, connection: Connection, outcome: Outcome | Serving) -> bool:
        while not isinstance(outcome, bool):
            outcome = self._send(connection, outcome) if isinstance(outcome, bytes) else await outcome
        return outcome

    # --- the leader -------------------------------------------------------------------------------

    async def _run_leader(self) -> None:
        """Lead until a request has to wait; another task leads then."""
        self._has_leader = True
        queue, served = self._ready, 0
        while True:
            while queue:
                connection = queue.popleft()
                if not connection.is_open:
                    continue
                if connection.lacks_body():
                    self._for_followers.append(connection)
                    self._wake_follower()
                    continue
                connection.state = RUNNING
                outcome = self._serve(connection)
                if isinstance(outcome, OUTCOME_TYPES):
                    self._complete(connection, outcome, queue)
                else:
                    self._send_burst(queue)  # those answers must not wait for this request
                    if await self._advance(connection, outcome, self._promote_follower, queue):
                        return
                served += 1
                if served >= TURN_MAX:
                    served = 0
                    self._send_burst(queue)
                    await trio.lowlevel.checkpoint()
            self._send_burst(queue)
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
        queue = self._ready
        for key, _ in self._selector.select(0):
            connection: Connection = key.data
            if connection.state is not IDLE:
                # The client talks on while its request is served.  The selector would tell us forever.
                self.unwatch(connection)
            else:
                connection.state = READY
                queue.append(connection)
        return bool(queue)

    # --- requests without a task ------------------------------------------------------------------

    async def _advance(
        self,
        connection: Connection,
        serving: Serving,
        on_wait: Callable[[], None],
        queue: deque[Connection],
    ) -> bool:
        """Begin or resume a request; tell whether this task had to wait for it.

        Args:
            on_wait: called before this task waits for the first time; sends the burst.
            queue: gets the connection when its next request has come already.
        """
        outcome = await _drive(serving, connection, on_wait)
        if isinstance(outcome, Latch):
            connection.state = SUSPENDED
            self._suspended[connection] = serving
            outcome.call_when_open(partial(self._resume, connection))
            return False
        if not connection.has_task:
            self._complete(connection, outcome, queue)
            return False
        if await self._await_outcome(connection, outcome):
            await trio.lowlevel.checkpoint()
            await self._serve_in_task(connection)
        else:
            connection.has_task = False
            self._make_idle(connection)
        return True

    def _resume(self, connection: Connection) -> None:
        """Let a follower resume the request of this connection: its latch has opened."""
        serving = self._suspended.pop(connection, None)
        if serving is not None:  # else `close` has ended it
            self._queue_resumable(connection, serving)

    def _queue_resumable(self, connection: Connection, serving: Serving) -> None:
        connection.state = READY
        self._resumable.append((connection, serving))
        if len(self._resumable) == 1:
            self._wake_follower()

    async def _resume_all(self) -> None:
        """Resume requests until none is left.  When one has to wait, another follower resumes the others."""

        def on_wait() -> None:
            self._send_burst(self._for_followers)
            if self._resumable or self._for_followers:
                self._wake_follower()

        served = 0
        while self._resumable:
            connection, serving = self._resumable.popleft()
            connection.state = RUNNING
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
            connection.state = READY
            queue.append(connection)
        else:
            self._unsent.append((connection, outcome))
            if len(self._unsent) >= BURST_MAX:
                self._send_burst(queue)

    def _send_burst(self, queue: deque[Connection]) -> None:
        """Send the answers that were kept back.  Call this before this task waits for anything."""
        unsent, self._unsent = self._unsent, []
        for connection, data in unsent:
            outcome = self._send(connection, data)
            if isinstance(outcome, bool):
                self._complete(connection, outcome, queue)
            else:
                self._queue_resumable(connection, outcome)

    def _make_idle(self, connection: Connection) -> None:
        connection.state = IDLE
        if not connection.is_watched and connection.is_open and not connection.is_resting:
            self.watch(connection)


@types.coroutine
def _drive(
    serving: Serving, connection: Connection, on_wait: Callable[[], None]
) -> Generator[Any, Any, Outcome | Latch]:
    """Run `serving` until it is done or waits for a latch.

    This is what `await serving` does, seen from the inside: whatever `serving` yields goes to Trio, and what
    Trio answers goes back.  `on_wait` is called before the first such wait, and the connection has a task
    from then on.

    Returns:
        What `serving` returned, or the latch that it waits for.
    """
    try:
        request = serving.send(None)
    except StopIteration as end:
        done: Outcome = end.value
        return done
    connection.push_answer()
    if isinstance(request, Latch):
        return request
    connection.has_task = True
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
