"""TCP connections that ZeroMQ owns, as the kernel sees them.

libzmq names a connection by its descriptor, and descriptors are reused at once.  Everything here works on a
duplicate: what was duplicated cannot change under us, and libzmq's own descriptor is never touched.
"""

from __future__ import annotations

import socket
import struct
import sys
from os import dup

_BYTES_RECEIVED = struct.Struct("@Q")  # tcpi_bytes_received in struct tcp_info, linux/tcp.h
_BYTES_RECEIVED_AT = 128


def connection_name(descriptor: int) -> str:
    """Name a connection by its two ends; "" when there is none (any more)."""
    try:
        with socket.socket(fileno=dup(descriptor)) as connection:
            return _name(connection)
    except OSError:
        return ""


def shut_connection(descriptor: int, name: str) -> bool:
    """Shut a connection so that ZeroMQ sees its end; False when the descriptor is another one (by now).

    libzmq has no call for it: ZMQ_DISCONNECT_PEER is a draft.
    """
    try:
        with socket.socket(fileno=dup(descriptor)) as connection:
            if not name or _name(connection) != name:
                return False
            connection.shutdown(socket.SHUT_RDWR)
            return True
    except OSError:
        return False


def received_bytes(descriptor: int) -> int | None:
    """How many bytes a connection has delivered so far; None when the kernel does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        with socket.socket(fileno=dup(descriptor)) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
    except OSError:
        return None
    if len(info) < _BYTES_RECEIVED_AT + 8:
        return None
    count: int = _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_AT)[0]
    return count


def _name(connection: socket.socket) -> str:
    return f"{connection.getsockname()}-{connection.getpeername()}"
