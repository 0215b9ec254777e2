"""Flood guard: no connection makes us hold more bytes than a message may have.

libzmq bounds a frame (MAXMSGSIZE) but not a message, and it hands out a message only once its last frame has
come.  A peer that never sends the last frame fills our memory with bytes that we can neither see nor refuse.
The kernel, however, counts the bytes that each connection delivered.  The guard finds a connection that had
delivered far more than the largest frame, and of which still no message came after the hub had read all there
was.

The same count bounds whole messages that wait: the backlog of a connection is the bytes that it delivered,
less those that the hub took.  libzmq's own bound (RCVHWM) stays off, because a connection that reaches it and
then ends is in the state in which libzmq aborts the process.  An honest peer waits for answers, so it never
has much under way.

The whole messages of a connection that has ended stay in memory until the hub has taken them.  The guard
counts them, too: otherwise a peer that connects again and again would leave a backlog each time.  See
`left_behind`.

Linux only; elsewhere the guard cannot ask the kernel and finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from warehouse.transport.zeromq.tcp import connection_name, received_bytes, shut_connection

QUIET_BYTES_PER_S = 1024  # heartbeats are no messages: a quiet peer's take about 200 bytes/s
MESSAGE_COST = 400  # bytes of memory that a short message takes, whatever is in it
CURVE_OVERHEAD = 33  # bytes that CurveZMQ adds to a frame
SHORT_MAX = 255  # bytes of a frame on the wire that ZMTP announces with 2 bytes; of a longer one, with 9


class FloodGuard:
    """Watches the connections of one socket.

    Args:
        connection_max: unread bytes that one connection may have delivered.
        total_max: and all connections together; beyond it the guard finds the largest ones.
        backlog_max: bytes that one connection may have delivered in messages that the hub has not taken yet.
        backlog_count_max: and about how many messages, judged by the size of those that the hub took.
        message_max: bytes that may be one message which is still coming, and no backlog of many.
        count_of: asks the kernel; an argument so that tests can answer.
    """

    def __init__(
        self,
        *,
        connection_max: int,
        total_max: int,
        backlog_max: int | None = None,
        backlog_count_max: int | None = None,
        message_max: int = 0,
        count_of: Callable[[int], int | None] = received_bytes,
    ) -> None:
        self.heard: set[int] = set()  # descriptors that a whole message came through since the last check
        self.is_alert = False  # something looks like a flood: check again soon
        self.unheard_count = 0  # connections that ended before a message of theirs was taken
        self.left_behind = 0.0  # bytes of memory, about, of messages whose connection has ended
        self._connection_max = connection_max
        self._total_max = total_max
        self._backlog_max = backlog_max
        self._backlog_count_max = backlog_count_max
        self._message_max = message_max
        self._count_of = count_of
        self._names: dict[int, str] = {}
        self._held: dict[int, float] = {}  # descriptor -> bytes of memory of its backlog, at the last look
        self._delivered: dict[int, int] = {}  # descriptor -> its count at the last check
        # descriptor -> [bytes delivered that were no messages, bytes taken, messages taken]
        self._taken: dict[int, list[int]] = {}
        self._accounted: dict[int, float] = {}  # descriptor -> delivered bytes that are explained

    def opened(self, descriptor: int, name: str = "") -> None:
        """
        Args:
            name: of the connection, for a caller that knows it already.
        """
        name = name or connection_name(descriptor)
        if name:
            self._names[descriptor] = name
            self._accounted[descriptor] = self._delivered[descriptor] = 0
            self._taken[descriptor] = [0, 0, 0]

    def closed(self, descriptor: int) -> None:
        if descriptor in self._taken:
            self.left_behind += self._held.pop(descriptor, 0.0)
        self._names.pop(descriptor, None)
        self._delivered.pop(descriptor, None)
        self._accounted.pop(descriptor, None)
        taken = self._taken.pop(descriptor, None)
        if taken is not None and taken[2] == 0:
            self.unheard_count += 1

    def took(self, descriptor: int, size: int, frame_count: int = 1) -> None:
        """Note a message that was received."""
        self.heard.add(descriptor)
        taken = self._taken.get(descriptor)
        if taken is not None:
            # Exact for a message of one frame, and all honest messages are.  While there is always more to
            # read, nothing else tells which of a connection's bytes are messages that wait.
            on_wire = size + frame_count * CURVE_OVERHEAD
            taken[1] += on_wire + frame_count * (2 if on_wire <= SHORT_MAX * frame_count else 9)
            taken[2] += frame_count

    def took_left_behind(self, size: int) -> None:
        """Note a message that was received from a connection that has ended."""
        self.left_behind = max(0.0, self.left_behind - size - MESSAGE_COST)

    def backlogged(self) -> list[int]:
        """Find the connections with more under way than an honest peer ever has; call it at any time."""
        if self._backlog_max is None or self._backlog_count_max is None:
            return []
        found: list[int] = []
        backlogs: dict[int, float] = {}
        for descriptor, (other_bytes, taken_bytes, taken_count) in self._taken.items():
            delivered = self._count_of(descriptor)
            backlog = 0 if delivered is None else delivered - other_bytes - taken_bytes
            if backlog <= 0:
                self._held.pop(descriptor, None)
                continue
            # Nothing taken of it yet: that is `check`'s business, and the bound of bytes.
            size = taken_bytes / taken_count if taken_count else backlog
            count = (backlog - self._message_max) / size
            backlogs[descriptor] = backlog + MESSAGE_COST * max(0.0, count)
            self._held[descriptor] = backlog + MESSAGE_COST * backlog / size  # were they all short
            if backlog > self._backlog_max or count > self._backlog_count_max:
                found.append(descriptor)
        if sum(backlogs.values()) > self._total_max:
            rest = {descriptor: size for descriptor, size in backlogs.items() if descriptor not in found}
            found += self._too_many(rest, connection_max=self._total_max)
        return found

    def check(self, *, elapsed_s: float) -> list[int]:
        """Find the connections to shut.

        Call it only if there was a moment with nothing left to read since the last call.  Then all bytes that
        had come by the last call and are no message yet are a part of one.
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
            # The hub has read all that had come by the last check, whatever our sum says: the kernel alone
            # counts heartbeats, and what encryption adds.
            taken = self._taken[descriptor]
            taken[0] = max(taken[0], min(before, delivered) - taken[1])
            if delivered < before:
                self._taken[descriptor] = [0, 0, 0]  # another connection by now
            if descriptor in heard or delivered < before:
                self._accounted[descriptor] = delivered
            else:
                accounted = min(before, self._accounted[descriptor] + QUIET_BYTES_PER_S * elapsed_s)
                self._accounted[descriptor] = accounted
                unread[descriptor] = before - accounted
                growth += delivered - accounted
        self.is_alert = growth > self._connection_max / 2
        return self._too_many(unread, connection_max=self._connection_max)

    def _too_many(self, unread: dict[int, float], *, connection_max: int) -> list[int]:
        total, flooding = sum(unread.values()), []
        for descriptor in sorted(unread, key=lambda descriptor: unread[descriptor], reverse=True):
            if unread[descriptor] <= connection_max and total <= self._total_max:
                break
            total -= unread[descriptor]
            flooding.append(descriptor)
        return flooding

    def shut(self, descriptor: int) -> str:
        """Shut a connection that `check` found, and name it; libzmq frees what it held of it.

        Returns:
            "" when the descriptor carries another connection by now.
        """
        name = self._names.get(descriptor, "")
        self.closed(descriptor)
        return name if shut_connection(descriptor, name) else ""
