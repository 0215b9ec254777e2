"""ZAP: who may finish a CURVE handshake?

libzmq asks this handler once per connection, over inproc.  The handler lets every key in that is not denied:
the first words of a peer (a join token, an access token) decide what it may *do*.  The answer gives the
connection its User-Id, the public key in Z85.  libzmq puts it on every message, so peers cannot choose it.

Source: RFC 27/ZAP, rfc.zeromq.org.
"""

from __future__ import annotations

import logging
from collections.abc import Container

import zmq
import zmq.utils.z85

from warehouse.transport.zeromq.owned_socket import OwnedSocket

log = logging.getLogger(__name__)

DOMAIN = b"warehouse"
_VERSION = b"1.0"


class ZapHandler:
    """Answers the handshakes of one ZeroMQ context; bind it before any server socket.

    Args:
        denied: keys that are refused.
        held: keys whose connection ends without a word; they may try again.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], denied: set[str], held: Container[str] = ()
    ) -> None:
        self._denied = denied
        self._held = held
        self._logged: set[str] = set()  # denied keys whose attempt was logged: they may try forever
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind("inproc://zeromq.zap.01")
        self._owned = OwnedSocket(self._socket, self._take)

    async def run(self) -> None:
        await self._owned.run()

    def close(self) -> None:
        self._socket.close(linger=0)

    def _take(self) -> bool:
        try:
            parts = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        request_id = parts[1] if len(parts) > 1 else b""
        user_id = self._admit(parts)
        status, text = (b"200", b"OK") if user_id else (b"400", b"denied")
        if user_id and user_id in self._held:
            status, text, user_id = b"300", b"later", ""  # the connection ends without a word
        self._socket.send_multipart([_VERSION, request_id, status, text, user_id.encode(), b""])
        return True

    def _admit(self, parts: list[bytes]) -> str:
        """Return the User-Id of a handshake, or "" to refuse it."""
        if len(parts) != 7:
            return ""
        version, _, domain, address, _, mechanism, key = parts
        if (version, domain, mechanism, len(key)) != (_VERSION, DOMAIN, b"CURVE", 32):
            return ""
        user_id: str = zmq.utils.z85.encode(key).decode()
        if user_id in self._denied:
            if user_id not in self._logged:
                self._logged.add(user_id)
                log.warning("denied key refused", extra={"user_id": user_id, "address": repr(address)})
            return ""
        return user_id
