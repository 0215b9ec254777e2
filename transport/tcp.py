"""TCP connections that ZeroMQ owns, as the kernel sees them.

libzmq names a connection by its descriptor, and descriptors are reused at once.  The two ends of a connection
(address and port, twice) are its name for as long as anybody cares: a descriptor that has another name now
carries another connection.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import dup

_BYTES_RECEIVED = struct.Struct("@Q")  # tcpi_bytes_received in struct tcp_info, linux/tcp.h
_BYTES_RECEIVED_AT = 128


def connection_name(descriptor: int) -> str:
    """Name a connection by its two ends; "" when there is none (any more)."""
    try:
        with _borrowed(descriptor) as connection:
            return _name(connection)
    except OSError:
        return ""


def shut_connection(descriptor: int, name: str) -> bool:
    """Shut a connection so that ZeroMQ sees its end; False when the descriptor is another one (by now).

    libzmq has no call for it: ZMQ_DISCONNECT_PEER is a draft.
    """
    try:
        # A duplicate cannot become another connection between the comparison and the shutdown.
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
        with _borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
    except OSError:
        return None
    if len(info) < _BYTES_RECEIVED_AT + 8:
        return None
    count: int = _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_AT)[0]
    return count


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Look through a descriptor that stays its owner's; needs no new one, so it works when all are in use."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _name(connection: socket.socket) -> str:
    return f"{connection.getsockname()}-{connection.getpeername()}"
