"""HTTP crew: the tasks that serve the connections of one server, as leader and followers.

A task for each connection would pay twice for each request: the wait for its first byte arms the socket
anew, a system call, and switches to another task.  Here one selector watches all connections that owe
nothing, and one task at a time leads: it takes what has come on each of them in turn.

    PUT, POST  wait for an fsync, nearly all of them.  Each goes to a follower at once: what came at one
               moment then runs, and is synced, together
    others     it answers itself.  If that needs no wait (a warm read, say) the request costs no task switch
               and no call to the kernel but its own; if it does (a cold read, a slow client), the leader
               stays with it, an ordinary task that may wait for whatever it likes, and at that moment a
               follower takes the lead

So handlers need not know of any of this.

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

from transport.http_connection import Connection

TURN_MAX = 16  # requests served in a row before the other tasks of this process get a turn
FOLLOWERS_MAX = 128  # that sleep; more of them end when their work is done


class Crew:
    """Serves connections as bytes come in on them."""

    def __init__(self, serve: Callable[[Connection], Coroutine[Any, Any, bool]]) -> None:
        """
        Args:
            serve: answers at most one request of what has come on a connection, or closes it; tells whether
                another one has come already.  Raises nothing.
        """
        self._serve = serve
        self._selector = selectors.DefaultSelector()
        self._ready: deque[Connection] = deque()  # for the leader
        self._given: deque[Connection] = deque()  # for the followers that have just been woken
        self._followers = trio.lowlevel.ParkingLot()
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
            nursery.start_soon(self._follow, nursery)

    def close(self) -> None:
        """To be called last."""
        self._selector.close()

    async def _follow(self, nursery: trio.Nursery) -> None:
        """Do what there is to do, again and again; asleep in between."""
        while True:
            if self._given:
                connection = self._given.popleft()
                while await self._serve(connection):
                    await trio.lowlevel.checkpoint()
                self._rest(connection)
            elif not self._is_led:
                await self._lead(nursery)
            if self._given or not self._is_led:
                continue
            if len(self._followers) >= FOLLOWERS_MAX:
                return
            await self._followers.park()

    def _wake_follower(self, nursery: trio.Nursery) -> None:
        if not self._followers.unpark():
            nursery.start_soon(self._follow, nursery)

    async def _lead(self, nursery: trio.Nursery) -> None:
        """Return when a request had to wait, and the lead went to another task."""

        def hand_over() -> None:
            self._is_led = False
            self._wake_follower(nursery)

        self._is_led = True
        served = 0
        while True:
            while self._ready:
                connection = self._ready.popleft()
                if not connection.is_open:
                    continue
                if connection.has_body_coming():
                    self._given.append(connection)
                    self._wake_follower(nursery)
                    continue
                has_more, had_to_wait = await _tell_wait(self._serve(connection), hand_over)
                while has_more and had_to_wait:  # another leads, and may be asleep: go on with it here
                    await trio.lowlevel.checkpoint()
                    has_more = await self._serve(connection)
                if has_more:
                    self._ready.append(connection)
                else:
                    self._rest(connection)
                if had_to_wait:
                    return
                served += 1
                if served >= TURN_MAX:
                    served = 0
                    await trio.lowlevel.checkpoint()
            if self._given:
                served = 0
                await trio.lowlevel.checkpoint()
            if not self._find_ready():
                served = 0
                await trio.lowlevel.wait_readable(self._selector.fileno())

    def _rest(self, connection: Connection) -> None:
        """It owes nothing until something comes."""
        connection.is_busy = False
        if connection.is_open and not connection.is_watched:
            self.watch(connection)

    def _find_ready(self) -> bool:
        for key, _ in self._selector.select(0):
            connection: Connection = key.data
            if connection.is_busy:
                # It says more than it was asked for.  The selector would tell us for ever.
                self.unwatch(connection)
            else:
                connection.is_busy = True
                self._ready.append(connection)
        return bool(self._ready)


@types.coroutine
def _tell_wait(
    work: Coroutine[Any, Any, bool], on_wait: Callable[[], None]
) -> Generator[Any, Any, tuple[bool, bool]]:
    """Await `work`, calling `on_wait` when it has to wait for the first time.

    This is what `await work` does, seen from the inside: whatever `work` yields goes to Trio, and what Trio
    answers goes back.

    Returns:
        What `work` returned, and whether it had to wait.
    """
    try:
        request = work.send(None)
    except StopIteration as end:
        return end.value, False
    on_wait()
    while True:
        try:
            answer = yield request
        except BaseException as error:
            resume = partial(work.throw, error)
        else:
            resume = partial(work.send, answer)
        try:
            request = resume()
        except StopIteration as end:
            return end.value, True
