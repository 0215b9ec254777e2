"""HTTP connection: one accepted socket, and how long a client may make us wait.

There is no cancel scope per request.  A wait leaves a note of its kind and start, and one sweeping task
(`HttpServer`) looks at all notes about once a second.  In the first three waits only the selector of
`leader_followers` waits, so the server closes the connection.  In the others a task waits: the sweeper wakes
it through `trio.lowlevel.notify_closing`, and the wait raises here.

    wait      begins                            may last
    FIRST     connection accepted               header_s, then closed
    NEXT      answer sent, nothing pipelined    idle_s, then closed
    HEAD      first byte of a request           header_s, then 408
    BODY      body bytes wanted                 body_stall_s without a byte, or a low average rate: 408
    DRAIN     bytes to be thrown away           drain_s, then closed
    write     the peer's window is full         write_stall_s without progress, or a low average rate
"""

from __future__ import annotations

import enum
import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio
from trio.lowlevel import wait_readable

from warehouse.errors import DeadlineExceeded, HeadersTooLarge, LinkDown, RequestTimeout
from warehouse.transport.http.channel import RECEIVE_SIZE, Channel
from warehouse.transport.http.heads import HEAD_END

NOT_WAITING, FIRST, NEXT, HEAD, BODY, DRAIN = range(6)


class State(enum.Enum):
    """What becomes of a connection next.  `leader_followers` makes the moves, and has the table of them."""

    IDLE = enum.auto()  # owes nothing; the selector watches it
    READY = enum.auto()  # bytes have come, or a latch has opened: waits in a queue for a task
    RUNNING = enum.auto()  # the leader, a follower or the server is answering it
    SUSPENDED = enum.auto()  # its request waits for a latch, without a task


@dataclass(frozen=True)
class HttpLimits:
    """Limits of one server for its clients.  Sizes are in bytes, rates in bytes per second."""

    header_size: int = 16 * 1024  # of the request line and all headers together
    connections: int = 1024  # of clients that have shown a token; and as many of clients that have not
    connections_per_address: int = 0  # without a token; 0: half of `connections`
    strangers_per_s: float = 0.0  # connections and requests without a token, of one address; 0: no bound
    header_s: float = 10.0
    idle_s: float = 75.0
    body_stall_s: float = 30.0
    write_stall_s: float = 30.0
    rate_min: int = 1024  # averaged over all waits of one body, or of one answer ...
    rate_grace_s: float = 10.0  # ... once they add up to this
    drain_size: int = 256 * 1024  # the server throws an unread body up to this away and keeps the connection
    drain_s: float = 5.0

    def per_address(self) -> int:
        return self.connections_per_address or (self.connections + 1) // 2

    def sweep_s(self) -> float:
        """Return the time between two looks for overdue waits: a wait ends at most two sweeps late."""
        shortest = min(self.header_s, self.idle_s, self.body_stall_s, self.write_stall_s, self.drain_s)
        return min(1.0, shortest / 4)


class Clock:
    """The sweeper's last look at the time: reading an attribute is cheaper than asking Trio.

    The clock counts time in which clients were served.  A process that was paused, or starved of CPU, served
    nobody, so a long gap between two looks counts as `step_max_s` only.
    """

    __slots__ = ("_looked_at", "_step_max_s", "now")

    def __init__(self, step_max_s: float) -> None:
        self.now = 0.0
        self._looked_at = 0.0
        self._step_max_s = step_max_s

    def look(self, now_s: float) -> None:
        self.now += min(now_s - self._looked_at, self._step_max_s)
        self._looked_at = now_s


class Connection(Channel):
    """The server's end of a connection."""

    __slots__ = (
        "_backlog",
        "_body_waited_s",
        "_clock",
        "_drained_until",
        "_is_given_up",
        "_is_writing",
        "_limits",
        "_read_kind",
        "_read_since",
        "_read_wait",
        "_unsent",
        "_write_since",
        "_write_waited_s",
        "answer",
        "handler_state",
        "has_task",
        "host",
        "is_open",
        "is_resting",
        "is_vouched",
        "is_watched",
        "paid",
        "state",
    )

    def __init__(
        self, sock: socket.socket, peer: str, limits: HttpLimits, clock: Clock, *, host: str = ""
    ) -> None:
        super().__init__(sock, peer)
        self.host = host
        self.handler_state: dict[str, Any] = {}
        self._limits = limits
        self._clock = clock
        self._read_kind = BODY  # the kind of the next wait for bytes that are not a head
        self._read_wait = FIRST
        self._read_since = clock.now
        self._body_waited_s = 0.0
        self._drained_until = 0.0
        self._is_writing = False
        self._write_since = 0.0
        self._write_waited_s = 0.0
        self._unsent = -1
        self._backlog = -1  # bytes of earlier answers that the peer had not taken when this one first waited
        self.answer = b""  # to the current request; kept back, to be sent together with others
        self.is_open = True
        self.state = State.IDLE  # this and the next two are for `leader_followers`
        self.has_task = False  # the task that serves it may wait; otherwise its request can be suspended
        self.is_watched = False
        self.is_vouched = False  # the client has shown a good token
        self.is_resting = False  # nobody reads what it sends: see `resting`, also for the next one
        self.paid = 0.0  # credits that its address gets back when it shows a good token
        self._is_given_up = False

    def fileno(self) -> int:
        return self._fd

    def next_head(self) -> bytes | None:
        """Return the next request head that has come completely; None: call `receive_more` first.

        Raises:
            HeadersTooLarge: `header_size` bytes have come without the end of a head.
        """
        data, start = self._data, self._position
        end = data.find(HEAD_END, start)
        if end < 0:
            if len(data) - start > self._limits.header_size:
                raise self._too_large()
            return None
        end += len(HEAD_END)
        if end - start > self._limits.header_size:
            raise self._too_large()
        self._read_wait = NOT_WAITING
        if end == len(data):
            self._data = b""
            self._position = 0
            return data[start:] if start else data
        self._position = end
        return data[start:end]

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"the request head is longer than {self._limits.header_size} bytes")

    def receive_more(self) -> bool:
        """Take what has come, without waiting; False when the client will send nothing more."""
        try:
            received = self._sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return True
        except OSError as error:
            self._receiving_failed(error)
            return False
        if self._data:
            self._data = self._data[self._position :] + received
        else:
            self._data = received
        self._position = 0
        return bool(received)

    def _receiving_failed(self, error: OSError) -> None:
        self.is_broken = True

    @property
    def has_request(self) -> bool:
        """Whether the next head has come already, or more bytes than a head may have."""
        return self._position < len(self._data) and (
            self._data.find(HEAD_END, self._position) >= 0
            or len(self._data) - self._position > self._limits.header_size
        )

    @property
    def unread(self) -> bytes:
        """Return what has come of the next request."""
        return self._data[self._position :]

    def stop_waiting(self) -> None:
        """Note that nobody expects more bytes from this client."""
        self._read_wait = NOT_WAITING

    def lacks_body(self) -> bool:
        """Take what has come; return whether it looks like a request whose body has yet to come."""
        if self._position == len(self._data):
            self.receive_more()
        data = self._data
        return data.startswith((b"PUT ", b"POST "), self._position) and (
            len(data) - self._position == RECEIVE_SIZE or data.endswith(HEAD_END)
        )

    def await_head(self) -> None:
        """Note that we wait for the next request, or for the rest of its head."""
        if self._position < len(self._data):
            if self._read_wait != HEAD:
                self._read_wait = HEAD
                self._read_since = self._clock.now
        elif self._read_wait != FIRST:
            self._read_wait = NEXT
            self._read_since = self._clock.now

    def start_body(self) -> None:
        """Begin to count the bytes of the next body and answer, for the average rates."""
        self.received = 0
        self.sent = 0
        self._backlog = -1
        self._read_kind = BODY
        self._body_waited_s = 0.0
        self._write_waited_s = 0.0

    def push_answer(self) -> None:
        """Send what can be sent now of an answer that was kept back: its handler goes on and waits."""
        if self.answer:
            with suppress(LinkDown):  # sending the rest will raise again
                self.answer = self.answer[self.send_now(self.answer) :]

    async def drain(self, scratch: memoryview, size: int | None) -> None:
        """Throw `size` body bytes away, or all bytes until the peer closes; give up after `drain_s`.

        Raises:
            LinkDown, RequestTimeout: the peer broke the connection, or was too slow.
        """
        self._read_kind = DRAIN
        self._drained_until = self._clock.now + self._limits.drain_s
        left = size
        while left is None or left > 0:
            if self._clock.now > self._drained_until:
                raise RequestTimeout("the rest of the request came too slowly")
            count = await self.receive_into(scratch if left is None else scratch[:left])
            if count == 0:
                if left is None:
                    return
                raise LinkDown(f"{self.peer} closed the connection before the end of the body")
            if left is not None:
                left -= count

    async def _wait_readable(self) -> None:
        self._read_since = self._clock.now
        self._read_wait = self._read_kind
        try:
            await wait_readable(self._fd)
        except trio.ClosedResourceError:
            raise RequestTimeout("the request body came too slowly") from None
        finally:
            self._read_wait = NOT_WAITING
            self._body_waited_s += self._clock.now - self._read_since

    async def _wait_writable(self) -> None:
        self._write_since = self._clock.now
        self._unsent = -1
        self._is_writing = True
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except trio.ClosedResourceError:
            self.is_broken = True
            raise DeadlineExceeded(f"{self.peer} reads the answer too slowly") from None
        finally:
            self._is_writing = False
            self._write_waited_s += self._clock.now - self._write_since

    # --- the sweeper's side -----------------------------------------------------------------------

    def wake_if_overdue(self) -> None:
        """End a task's wait that has lasted too long, unless bytes are waking that task already."""
        if (self._read_wait in (BODY, DRAIN) and self._is_read_overdue()) or (
            self._is_writing and self._is_write_overdue()
        ):
            trio.lowlevel.notify_closing(self._fd)

    @property
    def is_between_requests(self) -> bool:
        """Whether the last request is done and nothing of the next one has come."""
        return self._read_wait in (FIRST, NEXT)

    @property
    def is_silent(self) -> bool:
        """Whether closing it interrupts no request: no whole request has come."""
        return self.state is State.IDLE and self._read_wait in (FIRST, NEXT, HEAD)

    @property
    def is_stuck(self) -> bool:
        """Whether a task waits until the client reads its answer, or sends a body that nobody wants."""
        return not self._is_given_up and (self._is_writing or self._read_wait == DRAIN)

    @property
    def waited_s(self) -> float:
        """Return how long a silent connection has been silent."""
        return self._clock.now - self._read_since

    def has_unread(self) -> bool:
        """Whether bytes have come that nobody has looked at."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def give_up(self) -> None:
        """End the wait of a stuck connection: its task closes it."""
        self._is_given_up = True
        trio.lowlevel.notify_closing(self._fd)

    @property
    def is_head_overdue(self) -> bool:
        """Whether the next request, or the rest of its head, takes too long."""
        return self._read_wait in (FIRST, NEXT, HEAD) and self._is_read_overdue()

    def _is_read_overdue(self) -> bool:
        limits = self._limits
        waited = self._clock.now - self._read_since
        match self._read_wait:
            case wait if wait == BODY:
                return waited > limits.body_stall_s or self._is_slow(
                    self.received, self._body_waited_s + waited
                )
            case wait if wait == NEXT:
                return waited > limits.idle_s
            case wait if wait == DRAIN:
                return self._clock.now > self._drained_until
            case _:
                return waited > limits.header_s

    def _is_write_overdue(self) -> bool:
        # The socket becomes writable only when a third of its buffer is free again, which may be megabytes.
        # So ask the kernel whether the peer has taken anything at all.
        unsent = _unsent_size(self._fd)
        now = self._clock.now
        if unsent < self._unsent:
            self._write_waited_s += now - self._write_since
            self._write_since = now
        self._unsent = unsent
        waited = now - self._write_since
        # What waits in the kernel, megabytes, has not moved: a client could live on it for an hour.
        if self._backlog < 0:
            self._backlog = max(unsent - self.sent, 0)
        moved = self.sent + self._backlog - max(unsent, 0)
        return waited > self._limits.write_stall_s or self._is_slow(moved, self._write_waited_s + waited)

    def _is_slow(self, moved: int, waited_s: float) -> bool:
        return waited_s > self._limits.rate_grace_s and moved < waited_s * self._limits.rate_min

    def close(self) -> None:
        self.is_open = False
        super().close()

    def reset_on_close(self, is_reset: bool) -> None:
        """Let the coming close send a reset, or end the stream as usual.

        Where the end of the connection is the end of a body, only a reset tells that the body is torn.
        """
        with suppress(OSError):  # the peer has left
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", is_reset, 0))

    def shut_down_sending(self) -> bool:
        """Tell the peer that no more bytes will follow, and still receive; False when the peer has left."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True


def _unsent_size(fd: int) -> int:
    """Return how many bytes the peer has not acknowledged; -1 where the system does not say."""
    try:
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0" * 4)
    except OSError:
        return -1
    return int.from_bytes(answer, sys.byteorder)
