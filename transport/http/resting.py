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
import select
import socket
from collections.abc import Callable, Iterable

import trio

from warehouse.transport.credits import Credits
from warehouse.transport.http.connection import Connection, HttpLimits
from warehouse.transport.seldom import Seldom

log = logging.getLogger(__name__)

PRICE = 1.0  # of a connection, and of a request without a good token
TLS_PRICE = 5.0  # of a connection with a handshake
EVERY_S = 0.05  # between two looks at who may go on
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
        self._enter = enter
        self._go_on = go_on
        # For each address in order of arrival: sockets with the time when they came, and connections.
        self._sockets: dict[str, dict[socket.socket, float]] = {}
        self._connections: dict[str, dict[Connection, None]] = {}
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
        if host not in self._sockets and self._credits.take(host, self._connection_price, now_s):
            return False
        self._sockets.setdefault(host, {})[sock] = now_s
        self._socket_count += 1
        if len(self._sockets[host]) > self._limits.per_address():
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
        self._take_socket(host, next(iter(self._sockets[host]))).close()

    def _take_socket(self, host: str, sock: socket.socket) -> socket.socket:
        self._socket_count -= 1
        del self._sockets[host][sock]
        if not self._sockets[host]:
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
            while True:
                await self._is_needed.wait()
                await trio.sleep(EVERY_S)
                self.wake_some()
                if not self._sockets and not self._connections:
                    self._is_needed = trio.Event()
        finally:
            for host, sockets in list(self._sockets.items()):
                for sock in list(sockets):
                    self._take_socket(host, sock).close()

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
        for host, sockets in list(self._sockets.items()):
            self._look_at(host, sockets, now_s)

    def _look_at(self, host: str, sockets: dict[socket.socket, float], now_s: float) -> None:
        """Let sockets of an address go on.  Silent ones need nothing, so they use up nobody's turn."""
        assert self._credits is not None
        talking, left = _talking_and_left(sockets)
        overdue = (sock for sock, since_s in sockets.items() if now_s - since_s > WAIT_S)
        for sock in {*left, *overdue}:
            self._take_socket(host, sock).close()
        for sock in talking:
            if sock in self._sockets.get(host, ()):  # else it was overdue
                if not self._credits.take(host, self._connection_price, now_s):
                    break
                self._enter(self._take_socket(host, sock))


def _talking_and_left(sockets: Iterable[socket.socket]) -> tuple[list[socket.socket], set[socket.socket]]:
    """Those that have said something, in their order, and those whose client has gone without a word."""
    poll, by_number = select.poll(), {sock.fileno(): sock for sock in sockets}
    for number in by_number:
        poll.register(number, select.POLLIN)
    found = {number for number, _ in poll.poll(0)}
    talking = [sock for number, sock in by_number.items() if number in found]
    left = {sock for sock in talking if not _has_bytes(sock)}
    return [sock for sock in talking if sock not in left], left


def _has_bytes(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
