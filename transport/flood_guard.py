"""Flood guard: no connection makes us hold more bytes than a message may have.

libzmq bounds a frame (MAXMSGSIZE) but not a message, and it hands out a message only once its last frame has
come.  Whoever never sends that last frame fills our memory with something that we can neither see nor refuse.
The kernel, however, counts what each connection delivered.  A connection is shut when it had delivered far
more than the largest frame, we then read all there was, and still no message had come of it.

Linux only; elsewhere the kernel's count is not asked for and the guard finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from transport.tcp import connection_name, received_bytes, shut_connection

QUIET_BYTES_PER_S = 1024  # heartbeats are no messages: a quiet peer's take about 200 bytes/s


class FloodGuard:
    """Watches the connections of one socket.

    Args:
        connection_max: unread bytes that one connection may have delivered.
        total_max: and all of them together; beyond it the largest ones go.
        count_of: asks the kernel; an argument so that tests can answer.
    """

    def __init__(
        self,
        *,
        connection_max: int,
        total_max: int,
        count_of: Callable[[int], int | None] = received_bytes,
    ) -> None:
        self.heard: set[int] = set()  # descriptors that a whole message came through since the last check
        self.is_alert = False  # something looks like a flood: check again soon
        self._connection_max = connection_max
        self._total_max = total_max
        self._count_of = count_of
        self._names: dict[int, str] = {}
        self._delivered: dict[int, int] = {}  # descriptor -> its count at the last check
        self._accounted: dict[
            int, float
        ] = {}  # descriptor -> delivered bytes that are no reason for suspicion

    def opened(self, descriptor: int) -> None:
        name = connection_name(descriptor)
        if name:
            self._names[descriptor] = name
            self._accounted[descriptor] = self._delivered[descriptor] = 0

    def closed(self, descriptor: int) -> None:
        self._names.pop(descriptor, None)
        self._delivered.pop(descriptor, None)
        self._accounted.pop(descriptor, None)

    def check(self, *, elapsed_s: float) -> list[int]:
        """Find the connections to shut.

        Call it only when since the last call there was a moment with nothing left to read: what had been
        delivered by the last call and is no message yet, is the part of one.
        """
        heard, self.heard = self.heard, set()
        unread: dict[int, float] = {}
        growth = 0.0
        for descriptor, before in list(self._delivered.items()):
            delivered = self._count_of(descriptor)
            if delivered is None:
                self.closed(descriptor)
                continue
            self._delivered[descriptor] = delivered
            if descriptor in heard or delivered < before:
                self._accounted[descriptor] = delivered
            else:
                accounted = min(before, self._accounted[descriptor] + QUIET_BYTES_PER_S * elapsed_s)
                self._accounted[descriptor] = accounted
                unread[descriptor] = before - accounted
                growth += delivered - accounted
        self.is_alert = growth > self._connection_max / 2
        return self._too_many(unread)

    def _too_many(self, unread: dict[int, float]) -> list[int]:
        total, flooding = sum(unread.values()), []
        for descriptor in sorted(unread, key=lambda descriptor: unread[descriptor], reverse=True):
            if unread[descriptor] <= self._connection_max and total <= self._total_max:
                break
            total -= unread[descriptor]
            flooding.append(descriptor)
        return flooding

    def shut(self, descriptor: int) -> bool:
        """Shut a connection that `check` found; libzmq frees what it held of it."""
        name = self._names.get(descriptor, "")
        self.closed(descriptor)
        return shut_connection(descriptor, name)
