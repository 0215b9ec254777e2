"""TCP connections that ZeroMQ owns, as the kernel sees them.

libzmq names a connection by its descriptor, and the kernel reuses descriptors at once.  The name of a
connection here is its two ends (address and port, twice): a descriptor that has another name now carries
another connection.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import dup

from warehouse.transport.endpoints import origin_of

# Fields of struct tcp_info, linux/tcp.h.
_BYTES_RECEIVED = struct.Struct("@Q")  # tcpi_bytes_received
_BYTES_RECEIVED_AT = 128
_UNACKED = struct.Struct("@I")  # tcpi_unacked, segments
_UNACKED_AT = 24
_BYTES_ACKED = struct.Struct("@Q")  # tcpi_bytes_acked
_BYTES_ACKED_AT = 120


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
            return _shut(connection, name)
    except OSError as error:
        if error.errno != errno.EMFILE:
            return False
    try:  # no descriptor is left for a duplicate, and this shutdown may be what gives one back
        with _borrowed(descriptor) as connection:
            return _shut(connection, name)
    except OSError:
        return False


def _shut(connection: socket.socket, name: str) -> bool:
    if not name or _name(connection) != name:
        return False
    connection.shutdown(socket.SHUT_RDWR)
    return True


def received_bytes(descriptor: int) -> int | None:
    """How many bytes a connection has delivered so far; None when the kernel does not tell.

    Asked of every connection several times a second, so it is quick.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        # Told what it is, Python asks the kernel little about the descriptor.
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
        finally:
            connection.detach()
    except OSError:
        return None
    if len(info) < _BYTES_RECEIVED_AT + 8:
        return None
    count: int = _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_AT)[0]
    return count


@dataclass(frozen=True)
class Progress:
    """How far a connection has come in both directions."""

    received: int
    acknowledged: int
    is_backlogged: bool  # something that we sent is not acknowledged yet

    def has_moved_since(self, earlier: Progress) -> bool:
        """Did the other end send something, or take some of what waits for it?

        Bytes that are acknowledged at once prove little: the kernel of a frozen process also takes them.
        """
        return self.received > earlier.received or (
            self.is_backlogged and self.acknowledged > earlier.acknowledged
        )


def progress_of(descriptor: int) -> Progress | None:
    """Ask the kernel how far a connection has come; None when it does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        with _borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
    except OSError:
        return None
    if len(info) < _BYTES_RECEIVED_AT + 8:
        return None
    return Progress(
        received=_BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_AT)[0],
        acknowledged=_BYTES_ACKED.unpack_from(info, _BYTES_ACKED_AT)[0],
        is_backlogged=_UNACKED.unpack_from(info, _UNACKED_AT)[0] > 0,
    )


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a connection."""

    name: str  # see `connection_name`
    address: str  # that it counts for, see `origin_of`
    local_port: int


def ends_of(descriptor: int) -> Ends | None:
    """Both ends of a TCP connection; None when the descriptor carries none (any more)."""
    try:
        with _borrowed(descriptor) as connection:
            ours, theirs = connection.getsockname(), connection.getpeername()
    except OSError:
        return None
    if not isinstance(ours, tuple) or not isinstance(theirs, tuple):
        return None
    return Ends(f"{ours}-{theirs}", origin_of(theirs[0]), int(ours[1]))


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Use a descriptor that libzmq keeps; needs no new descriptor, so it works when all are in use."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _name(connection: socket.socket) -> str:
    return f"{connection.getsockname()}-{connection.getpeername()}"
