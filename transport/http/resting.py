"""Resting: clients without a token wait their turn while their address has no credit left.

A connection and a request without a good token cost an address a credit each (`transport/credits.py`).  An
address that has used its credit up is not refused: its clients rest, and go on one after the other as the
credit grows back.  So a flood costs the server as much as its address may cost, and an honest client behind
the same address is slower and still served.

    a new connection          is accepted and nothing else: it is a bare socket, until it has said something
                              and may go on
    a connection that is      nobody reads what it sends
    between two requests

There is a bound on bare sockets.  When there are too many, the address with the most of them loses the one
that has waited longest.  A connection that has shown a good token never rests, and its address gets back what
the connection has cost it.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable

import trio

from warehouse.transport.barrier import Barrier
from warehouse.transport.credits import Credits
from warehouse.transport.http.connection import Connection, HttpLimits
from warehouse.transport.seldom import Seldom

log = logging.getLogger(__name__)

PRICE = 1.0  # of a connection, and of a request without a good token
TLS_PRICE = 5.0  # of a connection with a handshake
EVERY_S = 0.02  # between two looks at who may go on
WAIT_S = 10.0  # nobody waits longer for a connection


class Resting:
    """Keeps the books of one server's addresses.

    Args:
        enter: makes a connection of a bare socket.
        go_on: has the server listen to a connection again.
        is_tls: each connection begins with a handshake.
    """

    def __init__(
        self,
        limits: HttpLimits,
        enter: Callable[[socket.socket], None],
        go_on: Callable[[Connection], None],
        *,
        is_tls: bool,
    ) -> None:
        self._credits: Credits | None = None
        if limits.strangers_per_s:
            self._credits = Credits(per_s=limits.strangers_per_s, burst=2 * limits.strangers_per_s)
        self._limits = limits
        self._connection_price = TLS_PRICE if is_tls else PRICE
        connections_per_s = limits.strangers_per_s / self._connection_price
        self.barrier = Barrier(per_s=connections_per_s, burst=2 * connections_per_s)
        self._enter = enter
        self._go_on = go_on
        self._sockets: dict[str, BareSockets] = {}  # by address
        self._connections: dict[str, dict[Connection, None]] = {}  # by address, in order of arrival
        self._selector = selectors.DefaultSelector()  # of sockets that have said nothing
        self._socket_count = 0
        self._is_needed = trio.Event()
        self._dropped = Seldom(log, "waiting connections without a token were closed to make room")

    @property
    def count(self) -> int:
        return self._socket_count + sum(map(len, self._connections.values()))

    # --- who has to rest --------------------------------------------------------------------------

    def keeps(self, sock: socket.socket, host: str) -> bool:
        """Charge a new connection; True: it rests, and is no business of the caller's any more."""
        if self._credits is None or not host:
            return False
        now_s = trio.current_time()
        self.barrier.came(host, now_s)
        if host not in self._sockets and self._credits.take(host, self._connection_price, now_s):
            return False
        bare = self._sockets.setdefault(host, BareSockets())
        bare.silent[sock] = now_s
        self._selector.register(sock, selectors.EVENT_READ, host)
        self._socket_count += 1
        if len(bare) > self._limits.per_address():
            self._drop_oldest(host)
        elif self._socket_count > self._limits.connections:
            self._drop_oldest(max(self._sockets, key=lambda name: len(self._sockets[name])))
        self._is_needed.set()
        return True

    def rests(self, connection: Connection) -> bool:
        """Charge a request that showed no good token; True: its connection rests now."""
        if self._credits is None or not connection.host:
            return False
        host = connection.host
        if host not in self._connections and self._credits.take(host, PRICE, trio.current_time()):
            connection.paid += PRICE
            return False
        self._connections.setdefault(host, {})[connection] = None
        connection.is_resting = True
        self._is_needed.set()
        return True

    def give_back(self, connection: Connection) -> None:
        """A connection has shown a good token: what came before was its handshake, and the head in pieces."""
        if self._credits is not None and connection.host:
            price, connection.paid = self._connection_price + connection.paid, 0.0
            self._credits.give_back(connection.host, price, trio.current_time())
            self.barrier.give_back(connection.host, trio.current_time())

    # --- who rests no longer ----------------------------------------------------------------------

    def forget(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        if connection.is_resting:
            self._take_connection(connection)

    def drop(self, count: int) -> int:
        """Close up to `count` bare sockets; return how many."""
        dropped = min(count, self._socket_count)
        for _ in range(dropped):
            self._drop_oldest(max(self._sockets, key=lambda name: len(self._sockets[name])))
        return dropped

    def _drop_oldest(self, host: str) -> None:
        self._dropped.happened(address=host)
        self._take_socket(host, self._sockets[host].oldest()).close()

    def _take_socket(self, host: str, sock: socket.socket) -> socket.socket:
        self._socket_count -= 1
        bare = self._sockets[host]
        if bare.silent.pop(sock, None) is None:
            del bare.talking[sock]
        else:
            self._selector.unregister(sock)
        if not bare:
            del self._sockets[host]
        return sock

    def _take_connection(self, connection: Connection) -> None:
        connection.is_resting = False
        same = self._connections[connection.host]
        del same[connection]
        if not same:
            del self._connections[connection.host]

    async def run(self) -> None:
        """Wake clients as the credit of their address allows, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.barrier.run)
                while True:
                    await self._is_needed.wait()
                    await trio.sleep(EVERY_S)
                    self.wake_some()
                    if not self._sockets and not self._connections:
                        self._is_needed = trio.Event()
        finally:
            for host, bare in list(self._sockets.items()):
                for sock in (*bare.silent, *bare.talking):
                    self._take_socket(host, sock).close()
            self._selector.close()

    def wake_some(self) -> None:
        """Let those go on whose address has credit for it: connections first, they have waited longer."""
        assert self._credits is not None
        now_s = trio.current_time()
        for host, connections in list(self._connections.items()):
            for connection in list(connections):
                if not self._credits.take(host, PRICE, now_s):
                    break
                connection.paid += PRICE
                self._take_connection(connection)
                self._go_on(connection)
        self._find_talking()
        for host, bare in list(self._sockets.items()):
            for sock in bare.overdue(now_s):
                self._take_socket(host, sock).close()
            for sock in list(bare.talking):
                if not self._credits.take(host, self._connection_price, now_s):
                    break
                self._enter(self._take_socket(host, sock))

    def _find_talking(self) -> None:
        """Silent sockets need nothing, so they use up nobody's turn."""
        for key, _ in self._selector.select(0):
            host, sock = key.data, key.fileobj
            assert isinstance(sock, socket.socket)
            if _has_bytes(sock):
                self._sockets[host].talks(sock)
                self._selector.unregister(sock)
            else:
                self._take_socket(host, sock).close()  # its client has gone without a word


class BareSockets:
    """Those of one address, with the time when each came."""

    def __init__(self) -> None:
        self.silent: dict[socket.socket, float] = {}  # in the order in which they came
        self.talking: dict[socket.socket, float] = {}  # in the order in which they were found to have spoken

    def __len__(self) -> int:
        return len(self.silent) + len(self.talking)

    def talks(self, sock: socket.socket) -> None:
        self.talking[sock] = self.silent.pop(sock)

    def oldest(self) -> socket.socket:
        """The one to close first."""
        return next(iter(self.silent or self.talking))

    def overdue(self, now_s: float) -> list[socket.socket]:
        found = [sock for sock, since_s in self.talking.items() if now_s - since_s > WAIT_S]
        for sock, since_s in self.silent.items():
            if now_s - since_s <= WAIT_S:
                break
            found.append(sock)
        return found


def _has_bytes(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
