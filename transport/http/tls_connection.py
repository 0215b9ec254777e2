"""TLS connection: the server's end of a connection that speaks TLS, from its first byte on.

The handshake is a part of the wait for the first request: see `tls`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from warehouse.errors import StoreError, TlsRequired
from warehouse.transport.http.channel import RECEIVE_SIZE
from warehouse.transport.http.connection import Clock, Connection, HttpLimits
from warehouse.transport.http.tls import ServerTls, TlsChannel, TlsSocket


class TlsConnection(TlsChannel, Connection):
    """A `Connection` whose bytes are encrypted."""

    __slots__ = ("_refusal", "_tls")

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        limits: HttpLimits,
        clock: Clock,
        *,
        tls: ServerTls,
        refusal: Callable[[StoreError], bytes],
        host: str = "",
    ) -> None:
        """
        Args:
            refusal: makes the answer to a client that speaks no TLS.
        """
        super().__init__(sock, peer, limits, clock, host=host)
        self._tls = tls
        self._refusal = refusal

    def receive_more(self) -> bool:
        if self.is_broken:
            return False  # OpenSSL answers no second question after an error
        if not isinstance(self._sock, TlsSocket):
            try:
                self._sock = self._tls.wrap(self._sock, self.peer)
            except OSError:
                self.is_broken = True
                return False
        return super().receive_more()

    def reset_on_close(self, is_reset: bool) -> None:
        super().reset_on_close(is_reset)
        if isinstance(self._sock, TlsSocket):
            self._sock.has_goodbye = not is_reset

    def _receiving_failed(self, error: OSError) -> None:
        super()._receiving_failed(error)
        if isinstance(error, ssl.SSLError):
            self._tls.failed(self.peer, error)
            if error.reason == "HTTP_REQUEST":
                self._answer_plain_request()

    def _answer_plain_request(self) -> None:
        """Tell a client that speaks HTTP without TLS what is wrong, in the clear."""
        refusal = self._refusal(TlsRequired("this port speaks TLS: write https:// instead of http://"))
        with suppress(OSError):
            socket.socket.send(self._sock, refusal)
            # What nobody has read would make the kernel send a reset, which can overtake the answer.
            socket.socket.recv(self._sock, RECEIVE_SIZE)
