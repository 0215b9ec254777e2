"""Barrier: an address that opens connections without end has to wait in front of the server.

`Credits` decide what an address may do once it is connected, but to be connected costs the server something,
too: a stranger that is shut at once comes back at once, thousands of times a second.  So each address also
has an account of mere connections, with a little more room (`ROOM`).  An address that has used it up is
barred: the kernel drops what asks for a connection (`syn_filter`) until there is credit again.  It costs
the server next to nothing then, and nobody else waits for it.

Whoever shows a good token or logs in gets the price of its connection back, as with `Credits`.  Connections
that are open stay open.

Where the kernel takes no filter, nobody is ever barred.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import trio

from warehouse.transport.credits import Credits
from warehouse.transport.seldom import Seldom
from warehouse.transport.syn_filter import ADDRESSES_MAX, attach, program_of

log = logging.getLogger(__name__)

LOOK_S = 0.02  # between two looks at who may knock again; what has gathered by then comes at once
ROOM = 1.25  # times as many connections as the server itself would take from an address


class Barrier:
    """In front of the sockets that one server listens on.

    Args:
        per_s: connections of strangers that the server takes from one address in a second; 0: any number.
        burst: and how many at once.
        set_filter: has a socket filter what comes; an argument so that tests can answer.
    """

    def __init__(
        self,
        *,
        per_s: float,
        burst: float,
        set_filter: Callable[[socket.socket, bytes], bool] | None = None,
    ) -> None:
        self.barred: dict[str, None] = {}  # addresses, in the order in which they were
        self._credits = Credits(per_s=ROOM * per_s, burst=ROOM * burst) if per_s else None
        self._set_filter = set_filter or attach
        self._listeners: list[socket.socket] = []
        self._is_able = True
        self._is_needed = trio.Event()
        self._was_barred = Seldom(log, "an address has to wait: it opens connections without end")

    def stand_before(self, listener: socket.socket) -> None:
        """Guard this socket, too; the caller keeps it open until `step_aside`, or `run` ends."""
        self._listeners.append(listener)
        if self.barred:
            self._filter()

    def step_aside(self) -> None:
        """Guard none of the sockets any more; what is known of addresses stays known."""
        self._listeners.clear()

    def came(self, address: str, now_s: float) -> None:
        """A connection has come from this address."""
        if self._credits is None or not address:
            return
        self._credits.fine(address, 1, now_s)
        if self._is_able and address not in self.barred and self._credits.balance(address, now_s) <= 0:
            self._bar(address)

    def give_back(self, address: str, now_s: float) -> None:
        """A connection of this address was an honest one's."""
        if self._credits is not None and address:
            self._credits.give_back(address, 1, now_s)

    def _bar(self, address: str) -> None:
        self._was_barred.happened(address=address)
        self.barred[address] = None
        if len(self.barred) > ADDRESSES_MAX:
            del self.barred[next(iter(self.barred))]
        self._filter()
        self._is_needed.set()

    def _filter(self) -> None:
        program = program_of(self.barred)
        if not all(self._set_filter(listener, program) for listener in self._listeners):
            self._is_able = False
            self.barred.clear()

    async def run(self) -> None:
        """Let addresses in again as their credit grows, until cancelled."""
        while True:
            await self._is_needed.wait()
            await trio.sleep(LOOK_S)
            self.let_in_again(trio.current_time())
            if not self.barred:
                self._is_needed = trio.Event()

    def let_in_again(self, now_s: float) -> None:
        """Bar those no longer who have credit for a connection."""
        assert self._credits is not None
        before = len(self.barred)
        for address in list(self.barred):
            if self._credits.balance(address, now_s) >= 1:
                del self.barred[address]
        if len(self.barred) != before:
            self._filter()
