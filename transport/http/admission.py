"""HTTP admission: which connections a server keeps, and which it closes when there are too many.

A connection costs a stranger nothing and the server a descriptor.  So strangers never keep anybody out:

    stranger   has not shown a valid token yet.  When there are too many strangers, or too many of one
               address, the server closes the one that has been silent longest and keeps the newcomer.  It
               begins with the address that has the most
    holder     has shown a valid token.  Holders are counted separately, so strangers never take their places.
               When there are too many holders, the server closes one that has long been idle.  When all are
               busy, the next one stays a stranger, and is served as well

The server turns a newcomer away only while it is serving every stranger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice

from warehouse.transport.http.connection import Connection, HttpLimits
from warehouse.transport.seldom import Seldom

log = logging.getLogger(__name__)

PEEKS_MAX = 16  # silent strangers to look at for bytes that have just come
LEAVING_MAX = 64  # strangers that were told to end and have not ended yet


class Admission:
    """Keeps the books of one server.  It closes connections through `close`, which calls `forget`."""

    def __init__(self, limits: HttpLimits, close: Callable[[Connection], None]) -> None:
        self.on_vouched: Callable[[Connection], None] = lambda connection: None  # told of every new holder
        self._limits = limits
        self._close = close
        # In order of arrival.
        self._strangers: dict[Connection, None] = {}
        self._of_host: dict[str, dict[Connection, None]] = {}
        self._holders: dict[Connection, None] = {}
        self._leaving: set[Connection] = set()
        self._sent_away = Seldom(log, "connections without a token were closed to make room")
        self._turned_away = Seldom(log, "connections were turned away: all places are taken")

    @property
    def stranger_count(self) -> int:
        return len(self._strangers)

    @property
    def holder_count(self) -> int:
        return len(self._holders)

    def admit(self, connection: Connection) -> bool:
        """Admit a new connection; False when there is no place for it."""
        host = connection.host
        of_host = self._of_host.get(host, {})
        has_place = len(of_host) < self._limits.per_address() or self._send_one_away(host)
        if has_place and len(self._strangers) >= self._limits.connections:
            has_place = self._send_one_away(max(self._of_host, key=lambda name: len(self._of_host[name])))
        if not has_place:
            self._turned_away.happened(peer=connection.peer)
            return False
        self._strangers[connection] = None
        self._of_host.setdefault(host, {})[connection] = None
        return True

    def vouch(self, connection: Connection) -> None:
        """Make a stranger a holder: its client has shown a good token."""
        if connection.is_vouched or connection not in self._strangers:
            return
        if len(self._holders) >= self._limits.connections and not self._send_a_holder_away():
            return
        connection.is_vouched = True
        self.on_vouched(connection)
        self._forget_stranger(connection)
        self._holders[connection] = None

    def forget(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        self._holders.pop(connection, None)
        self._leaving.discard(connection)
        self._forget_stranger(connection)

    def make_room(self, count: int) -> bool:
        """Close up to `count` strangers, because the process has run out of descriptors."""
        is_any = False
        for _ in range(count):
            if not self._of_host:
                break
            is_any |= self._send_one_away(max(self._of_host, key=lambda name: len(self._of_host[name])))
        return is_any

    def _forget_stranger(self, connection: Connection) -> None:
        if connection in self._strangers:
            del self._strangers[connection]
            of_host = self._of_host[connection.host]
            del of_host[connection]
            if not of_host:
                del self._of_host[connection.host]

    def _send_one_away(self, host: str) -> bool:
        """Close a stranger of this address whose request nobody is serving; False: there is none."""
        silent = list(islice((one for one in self._of_host[host] if one.is_silent), PEEKS_MAX))
        chosen = next((one for one in silent if not one.has_unread()), None)
        if chosen is None and silent:
            chosen = silent[0]
        if chosen is not None:
            self._sent_away.happened(peer=chosen.peer)
            self._close(chosen)
            return True
        if len(self._leaving) >= LEAVING_MAX:
            return False
        # A stuck client lets us wait in the middle of an answer, or of a body that nobody wants.
        stuck = next((one for one in self._of_host[host] if one.is_stuck), None)
        if stuck is None:
            return False
        self._sent_away.happened(peer=stuck.peer)
        self._forget_stranger(stuck)
        self._leaving.add(stuck)
        stuck.give_up()
        return True

    def _send_a_holder_away(self) -> bool:
        idle_s = self._limits.idle_s / 4
        longest = max(
            (one for one in self._holders if one.is_silent and one.waited_s > idle_s),
            key=lambda one: one.waited_s,
            default=None,
        )
        if longest is None:
            return False
        self._close(longest)
        return True
