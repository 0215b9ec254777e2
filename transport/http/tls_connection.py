"""TLS connection: the server's end of a connection that speaks TLS, from its first byte on.

The handshake is a part of the wait for the first request: see `tls`.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

import msgspec

from warehouse.errors import TlsRequired
from warehouse.transport.http.channel import RECEIVE_SIZE
from warehouse.transport.http.connection import Clock, Connection, HttpLimits
from warehouse.transport.http.tls import ServerTls, TlsChannel, TlsSocket

_PLAIN_BODY = msgspec.json.encode(
    {"code": TlsRequired.code, "message": "this port speaks TLS: write https:// instead of http://"}
)
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    b"Referrer-Policy: no-referrer\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_PLAIN_BODY), _PLAIN_BODY)


class TlsConnection(TlsChannel, Connection):
    """A `Connection` whose bytes are encrypted."""

    __slots__ = ("_tls",)

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        limits: HttpLimits,
        clock: Clock,
        *,
        tls: ServerTls,
        host: str = "",
    ) -> None:
        super().__init__(sock, peer, limits, clock, host=host)
        self._tls = tls

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

    def _receiving_failed(self, error: OSError) -> None:
        super()._receiving_failed(error)
        if isinstance(error, ssl.SSLError):
            self._tls.failed(self.peer, error)
            if error.reason == "HTTP_REQUEST":
                self._answer_plain_request()

    def _answer_plain_request(self) -> None:
        """Tell a client that speaks HTTP without TLS what is wrong, in the clear."""
        with suppress(OSError):
            socket.socket.send(self._sock, _PLAIN_ANSWER)
            # What nobody has read would make the kernel send a reset, which can overtake the answer.
            socket.socket.recv(self._sock, RECEIVE_SIZE)
