"""HTTP wire: the client's end of a connection.

This is the mirror of `connection`.  A client has few connections and no sweeper, so each wait has a small
cancel scope of its own.  A wait happens about once per round trip.
"""

from __future__ import annotations

import socket

import trio

from warehouse.errors import DeadlineExceeded, LinkDown
from warehouse.transport.endpoints import host_in_url
from warehouse.transport.http.channel import RECEIVE_SIZE, Channel, plain_socket
from warehouse.transport.http.heads import HEAD_END, AnswerHead, parse_answer_head
from warehouse.transport.http.tls import ClientTls, TlsChannel

HEAD_SIZE_MAX = 64 * 1024


class NoAnswer(LinkDown):
    """The server closed the connection before it sent the first byte of an answer."""


class Wire(Channel):
    """One connection to a server, used by one request at a time."""

    __slots__ = ("idle_since_s", "stall_s")

    def __init__(self, sock: socket.socket, peer: str, stall_s: float) -> None:
        super().__init__(sock, peer)
        self.stall_s = stall_s
        self.idle_since_s = 0.0

    def is_stale(self) -> bool:
        """Whether the server has closed an idle connection, or has sent something unasked."""
        try:
            self._sock.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    async def receive_head(self, *, is_patient: bool = False) -> AnswerHead:
        """Receive the head of the final answer; skip interim ones (1xx).

        Args:
            is_patient: wait without a limit; the caller has set a limit.
        Raises:
            NoAnswer: the server closed the connection before it sent a byte.
            LinkDown: the connection broke, or the server sent something else than an answer.
            DeadlineExceeded: the server sent nothing for `stall_s`.
        """
        data = b""
        while True:
            end = data.find(HEAD_END)
            if end >= 0:
                size = end + len(HEAD_END)
                answer = parse_answer_head(data[:size])
                if answer.status >= 200:
                    self._data = data
                    self._position = size
                    return answer
                data = data[size:]
                continue
            if len(data) > HEAD_SIZE_MAX:
                raise LinkDown(f"{self.peer} sent an answer whose head is longer than {HEAD_SIZE_MAX} bytes")
            piece = await self._receive_waiting(is_patient)
            if not piece:
                self.is_broken = True
                if not data:
                    raise NoAnswer(f"{self.peer} closed the connection without an answer")
                raise LinkDown(f"{self.peer} closed the connection inside an answer's head")
            data = data + piece if data else piece

    async def _receive_waiting(self, is_patient: bool) -> bytes:
        """Wait, then receive: an answer has hardly ever come before.  b"" at the end of the stream."""
        while True:
            if is_patient:
                await trio.lowlevel.wait_readable(self._fd)
            else:
                await self._wait_readable()
            try:
                return self._sock.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return b""
            except OSError as error:
                self._broke(error)

    async def _wait_readable(self) -> None:
        with trio.move_on_after(self.stall_s) as scope:
            await trio.lowlevel.wait_readable(self._fd)
        if scope.cancelled_caught:
            self.is_broken = True
            raise DeadlineExceeded(f"{self.peer} sent nothing for {self.stall_s:g} s")

    async def _wait_writable(self) -> None:
        with trio.move_on_after(self.stall_s) as scope:
            await trio.lowlevel.wait_writable(self._fd)
        if scope.cancelled_caught:
            self.is_broken = True
            raise DeadlineExceeded(f"{self.peer} took nothing for {self.stall_s:g} s")


class TlsWire(TlsChannel, Wire):
    """A `Wire` whose bytes are encrypted."""

    __slots__ = ()


async def connect(
    host: str, port: int, *, tls: ClientTls | None = None, connect_s: float, stall_s: float
) -> Wire:
    """Open a connection.

    Args:
        tls: whom to trust; None: a plain connection.
    Raises:
        CertificateRefused: the server shows no certificate for `host` that we trust.
        LinkDown: nobody listens there, nobody answered within `connect_s`, or that is no TLS.
    """
    peer = f"{host_in_url(host)}:{port}"
    missing = "connection to"
    try:
        with trio.fail_after(connect_s):
            sock = plain_socket(await trio.open_tcp_stream(host, port))
            if tls is None:
                return Wire(sock, peer, stall_s)
            missing = "TLS with"
            return TlsWire(await tls.shake_hands(sock, host, peer), peer, stall_s)
    except trio.TooSlowError:
        raise LinkDown(f"no {missing} {peer} within {connect_s:g} s") from None
    except OSError as error:
        raise LinkDown(f"no connection to {peer}: {error}") from error
