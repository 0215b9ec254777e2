"""HTTP channel: one connected socket as both ends of the data plane use it.

A raw non-blocking socket call comes first; Trio waits only when the kernel said that the call would block.
A peer that is always ready would never make us wait, so the other tasks get their turn after `BURST_SIZE`
bytes.  The subclass decides how long a wait may last: `connection` (server) and `wire` (client).

Received bytes that nobody has asked for yet (a body that came together with its head, the next pipelined
request) stay in `_data` from `_position` on.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import NoReturn

import trio

from warehouse.errors import LinkDown

Body = bytes | bytearray | memoryview

RECEIVE_SIZE = 64 * 1024  # while looking for a head
BODY_RECEIVE_SIZE = 256 * 1024
BURST_SIZE = 1024 * 1024
JOIN_SIZE = 64 * 1024  # up to this, copying head and body together is cheaper than two buffers


TCP_NOTSENT_LOWAT = 25 if sys.platform == "linux" else 0x201  # not in Python's socket module everywhere


def plain_socket(stream: trio.SocketStream) -> socket.socket:
    """Take a connected socket out of Trio's wrapper, which costs a checkpoint per call."""
    sock = socket.socket(fileno=stream.socket.detach())
    prepare_socket(sock)
    return sock


def prepare_socket(sock: socket.socket) -> None:
    """Set what a connected socket of either end needs."""
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    # Trio keeps the unsent part of the buffer at 16 KiB, for the sake of latency; bulk wants it full.
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0)


class Channel:
    """Bytes in and out of one socket.  One task receives, one sends; they may be the same."""

    __slots__ = ("_burst", "_data", "_fd", "_position", "_sock", "is_broken", "peer", "received", "sent")

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._data = b""
        self._position = 0
        self._burst = 0
        self.peer = peer
        self.is_broken = False  # nothing more can be sent or received
        self.received = 0  # body bytes; the owner may set it to 0 when a body begins
        self.sent = 0

    async def _wait_readable(self) -> None:
        raise NotImplementedError

    async def _wait_writable(self) -> None:
        raise NotImplementedError

    # --- receiving --------------------------------------------------------------------------------

    @property
    def has_received(self) -> bool:
        """Whether bytes have been received that nobody has taken yet."""
        return self._position < len(self._data)

    @property
    def received_size(self) -> int:
        """How many bytes have been received that nobody has taken yet."""
        return len(self._data) - self._position

    def take_received(self, size: int) -> bytes:
        """Take up to `size` bytes that have been received."""
        start = self._position
        data = self._data
        end = start + size
        if end >= len(data):
            piece = data[start:]
            self._data = b""
            self._position = 0
        else:
            piece = data[start:end]
            self._position = end
        self.received += len(piece)
        return piece

    async def receive_into(self, view: memoryview) -> int:
        """Receive 1 to `len(view)` bytes, straight from the socket; 0 at the end of the stream.

        Raises:
            LinkDown: the connection broke; and what `_wait_readable` raises.
        """
        if self._position < len(self._data):
            piece = self.take_received(len(view))
            view[: len(piece)] = piece
            return len(piece)
        # Before bytes are taken: a reader that is cancelled in this checkpoint must not lose any.
        if self._burst >= BURST_SIZE:
            await self._let_others_run()
        while True:
            try:
                count = self._sock.recv_into(view)
                break
            except BlockingIOError:
                self._burst = 0
                await self._wait_readable()
            except OSError as error:
                self._broke(error)
        self.received += count
        self._burst += count
        return count

    async def receive(self, size: int) -> bytes:
        """Receive 1 to `size` bytes; b"" at the end of the stream.  Raises as `receive_into`.

        This takes memory for the bytes that came, not for `size`.
        """
        if self._position < len(self._data):
            return self.take_received(size)
        if self._burst >= BURST_SIZE:
            await self._let_others_run()
        while True:
            try:
                piece = self._sock.recv(min(size, BODY_RECEIVE_SIZE))
                break
            except BlockingIOError:
                self._burst = 0
                await self._wait_readable()
            except OSError as error:
                self._broke(error)
        self.received += len(piece)
        self._burst += len(piece)
        return piece

    async def fetch(self) -> bool:
        """Receive something, unless bytes wait to be taken; False at the end of the stream.

        Raises as `receive`.
        """
        if self._burst >= BURST_SIZE:
            await self._let_others_run()
        if self._position == len(self._data):
            piece = await self.receive(RECEIVE_SIZE)
            self.received -= len(piece)  # they are counted when they are taken
            self._data = piece + self._data[self._position :]
            self._position = 0
        return bool(self._data)

    @property
    def buffered(self) -> tuple[bytes, int]:
        """Return bytes that have been received, and where those begin that nobody has taken."""
        return self._data, self._position

    def skip(self, size: int) -> None:
        """Take `size` bytes that `buffered` has shown."""
        self.received += size
        self._position += size
        if self._position == len(self._data):
            self._data = b""
            self._position = 0

    def charge(self, size: int) -> None:
        """Count work that took as long as to move `size` bytes, so that others have their turn earlier."""
        self._burst += size

    # --- sending ----------------------------------------------------------------------------------

    def send_now(self, data: Body) -> int:
        """Send what can be sent without waiting; return its number of bytes.

        Raises:
            LinkDown: the connection broke.
        """
        try:
            count = self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._broke(error)
        self.sent += count
        return count

    async def send(self, data: Body) -> None:
        """Send all of `data`.

        Raises:
            LinkDown: the connection broke; and what `_wait_writable` raises.
        """
        count = self.send_now(data)
        if count < len(data):
            await self.send_rest(data, count)
        self._burst += count
        if self._burst >= BURST_SIZE:
            await self._let_others_run()

    async def send_message(self, head: bytes, body: Body) -> None:
        """Send a head and the body that follows it, in one system call where it fits.  Raises as `send`."""
        if len(body) <= JOIN_SIZE:
            await self.send(b"".join((head, body)))
            return
        try:
            count = self._sock.sendmsg([head, body])
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._broke(error)
        self.sent += count
        if count < len(head):
            await self.send_rest(head, count)
            count = len(head)
        if count < len(head) + len(body):
            await self.send_rest(body, count - len(head))

    async def send_rest(self, data: Body, start: int) -> None:
        """Send `data` from `start` on, after `send_now` could not.  Raises as `send`."""
        rest = memoryview(data)[start:]
        while rest:
            self._burst = 0
            await self._wait_writable()
            try:
                count = self._sock.send(rest)
            except BlockingIOError:
                continue
            except OSError as error:
                self._broke(error)
            self.sent += count
            rest = rest[count:]

    # --- ends -------------------------------------------------------------------------------------

    async def _let_others_run(self) -> None:
        self._burst = 0
        await trio.lowlevel.checkpoint()

    def _broke(self, error: OSError) -> NoReturn:
        self.is_broken = True
        raise LinkDown(f"the connection to {self.peer} broke: {error.strerror or error}") from error

    def close(self) -> None:
        self._sock.close()
