"""Gate: which connections a hub shuts for what they cost, before and after anybody knows whose they are.

The gate joins five accounts, each in a module of its own: how many connections there may be without a word of
who they are (`newcomers`), how fast they may come from one address (`credits`), how many bytes a connection
may have the hub hold (`flood_guard`), and what libzmq keeps of connections that it lets nobody hear (`deaf`:
held keys, and the growth of memory).

A connection costs its address a credit, which it gets back when somebody logs in through it.  A connection
that is shut for what it did costs more.
"""

from __future__ import annotations

import logging

import trio

from warehouse.transport.barrier import Barrier
from warehouse.transport.credits import Credits
from warehouse.transport.messages import FRAME_SIZE_MAX
from warehouse.transport.seldom import Seldom
from warehouse.transport.zeromq.deaf import Growth, HeldKeys
from warehouse.transport.zeromq.descriptors import Descriptors
from warehouse.transport.zeromq.flood_guard import FloodGuard
from warehouse.transport.zeromq.limits import OFFENCE_PRICE, HubCounters, HubLimits
from warehouse.transport.zeromq.newcomers import Newcomers
from warehouse.transport.zeromq.peers import Peer, Peers
from warehouse.transport.zeromq.router import Router
from warehouse.transport.zeromq.tcp import Ends, ends_of, shut_connection

log = logging.getLogger(__name__)

HOLD_OFF_S = 1.0  # a connection of an address without credit is shut after that
UNREAD_MAX = 3 * FRAME_SIZE_MAX  # bytes of one connection: a frame, and what the kernel may hold on top
UNREAD_TOTAL_MAX = 32 * FRAME_SIZE_MAX
BACKLOG_MAX = 8 * FRAME_SIZE_MAX  # bytes of one connection that wait for the hub in whole messages
BACKLOG_COUNT_MAX = 20_000  # and how many messages; a link has at most 2,048 under way
LEFT_BEHIND_MAX = 8 * FRAME_SIZE_MAX  # bytes of connections that have ended; see `_is_too_much_left_behind`


class Gate:
    """Shuts connections of one hub; the peers that they carried are gone."""

    def __init__(
        self,
        *,
        router: Router,
        descriptors: Descriptors,
        peers: Peers,
        held: HeldKeys,
        barrier: Barrier,
        limits: HubLimits,
        counters: HubCounters,
    ) -> None:
        self._router = router
        self._descriptors = descriptors
        self._peers = peers
        self._barrier = barrier
        self._limits = limits
        self._counters = counters
        self._credits = Credits(per_s=limits.connections_per_s, burst=limits.connections_burst)
        self._turned_away = Seldom(log, "connection shut")
        self.held = held
        self.reset()

    def reset(self) -> None:
        """Know nothing of any connection, as before the first one."""
        self.guard = FloodGuard(
            connection_max=UNREAD_MAX,
            total_max=UNREAD_TOTAL_MAX,
            backlog_max=BACKLOG_MAX,
            backlog_count_max=BACKLOG_COUNT_MAX,
            message_max=FRAME_SIZE_MAX,
        )
        self.newcomers = Newcomers(
            total_max=self._limits.connections,
            newcomers_max=self._limits.newcomers,
            per_address=self._limits.per_address(),
            nobody_s=self._limits.nobody_s,
        )
        # descriptor -> address, and when it came, the oldest first: see `_hold_off`
        self._held_off: dict[int, tuple[str, float]] = {}
        self._growth = Growth(self._limits.unheard)
        self._was_dry = False  # the hub has read all there was since the last sweep

    # --- connections come and go ------------------------------------------------------------------

    def accepted(self, descriptor: int) -> None:
        """Let a new connection in, or shut it."""
        ends = ends_of(descriptor)
        if ends is None or ends.local_port != self._router.port:
            return  # it has ended, and the number is another's by now
        now_s = trio.current_time()
        self._barrier.came(ends.address, now_s)
        if not self._credits.take(ends.address, 1, now_s):
            self._hold_off(descriptor, ends, now_s)
            return
        if self._is_too_much_left_behind(ends.address, now_s):
            self._shut_at_once(
                descriptor, ends, "too much is still to be read of connections that have ended"
            )
            return
        self.guard.opened(descriptor, ends.name)
        for other in self.newcomers.accepted(descriptor, ends.address, now_s):
            self.turn_away(other, "too many connections that have not said who they are")

    def _hold_off(self, descriptor: int, ends: Ends, now_s: float) -> None:
        """Let a connection of an address without credit be, for a moment.

        If it says nothing it costs nothing, and whoever is shut at once comes back at once.
        """
        self._counters.held_off += 1
        self.guard.opened(descriptor, ends.name)
        self._held_off[descriptor] = (ends.address, now_s)
        if len(self._held_off) > self._limits.newcomers:
            self._end_hold_off(next(iter(self._held_off)))

    def _end_hold_off(self, descriptor: int) -> None:
        del self._held_off[descriptor]
        self.turn_away(descriptor, "too many connections of its address without a login")

    def may_speak(self, descriptor: int) -> bool:
        """Somebody who was not heard before says something; False: it is shut."""
        if descriptor not in self._held_off:
            return True
        address, now_s = self._held_off[descriptor][0], trio.current_time()
        if not self._credits.take(address, 1, now_s):
            self._end_hold_off(descriptor)
            return False
        del self._held_off[descriptor]
        for other in self.newcomers.accepted(descriptor, address, now_s):
            self.turn_away(other, "too many connections that have not said who they are")
        return True

    def _is_too_much_left_behind(self, address: str, now_s: float) -> bool:
        """Connections that end leave messages in memory; who comes again and again could leave any number.

        An address that has cost little lately is not to blame, and gets in for longer.
        """
        is_to_blame = self._credits.balance(address, now_s) < self._credits.burst / 2
        return self.guard.left_behind > LEFT_BEHIND_MAX * (1 if is_to_blame else 4)

    def became_known(self, descriptor: int) -> None:
        """Somebody has logged in through this connection."""
        if self.newcomers.became_known(descriptor):
            address, now_s = self.newcomers.address_of(descriptor), trio.current_time()
            self._credits.give_back(address, 1, now_s)
            self._barrier.give_back(address, now_s)

    def address_of(self, descriptor: int) -> str:
        """Where a connection comes from; "" when it has ended."""
        known = self.newcomers.address_of(descriptor)
        if known:
            return known
        ends = ends_of(descriptor)  # it speaks before the monitor has told of it
        return "" if ends is None else ends.address

    def note_offence(self, peer: Peer) -> None:
        """A peer is shut for what it did before it said who it is."""
        self.hold(peer.user_id)
        self._credits.fine(peer.address, OFFENCE_PRICE, trio.current_time())

    def ended(self, descriptor: int) -> None:
        self.guard.closed(descriptor)
        self.newcomers.closed(descriptor)
        self._held_off.pop(descriptor, None)

    def hold(self, user_id: str) -> None:
        """Give this key no new connection until the hub has read the last words of the one it shut."""
        self.held.hold(user_id, trio.current_time())

    def note_dry(self) -> None:
        """The socket seems dry.

        Under a flood the hub calls this now and then although there is more.  That is no moment to think that
        it has read everything, or what waits would count as read, whatever it is.
        """
        self._was_dry = self._was_dry or not self._router.has_message()

    # --- what each sweep looks at -----------------------------------------------------------------

    def shut_floods(self) -> None:
        if not self._router.has_message():
            self.guard.left_behind = 0.0
        for descriptor in self.guard.backlogged():
            self._shut_flood(descriptor, "more messages than it may have under way")
        if not self._was_dry and self._router.has_message():
            return  # busy all the time: a connection that the hub did not get round to is not to blame
        self._was_dry = False
        for descriptor in self.guard.check(elapsed_s=self._limits.sweep_s):
            self._shut_flood(descriptor, "a message without end")

    def shut_overdue_newcomers(self) -> None:
        held_until_s = trio.current_time() - HOLD_OFF_S
        while self._held_off and next(iter(self._held_off.values()))[1] < held_until_s:
            self._end_hold_off(next(iter(self._held_off)))
        for descriptor in self.newcomers.overdue(trio.current_time()):
            if not self._peers.by_descriptor.get(descriptor):  # peers have an account of their own
                self.turn_away(descriptor, f"no word for {self._limits.nobody_s:.3g} s")

    def has_overgrown(self) -> bool:
        """Has memory grown too much after connections that nobody heard?"""
        now_s = trio.current_time()
        if is_dry := not self._router.has_message():
            self.held.release(now_s)
        return self._growth.is_too_much(self.guard.unheard_count, is_dry=is_dry, now_s=now_s)

    # --- shutting ---------------------------------------------------------------------------------

    def turn_away(self, descriptor: int, cause: str) -> None:
        """Shut a connection that is nobody's, or whose peers count as nobody."""
        if self._descriptors.is_shut(descriptor):
            return
        self._note_turned_away(self.newcomers.address_of(descriptor), cause)
        if name := self.guard.shut(descriptor):
            self._descriptors.note_shut(descriptor, name)
        for peer in list(self._peers.by_descriptor.get(descriptor, ())):
            self._peers.lose(peer, cause)

    def _shut_at_once(self, descriptor: int, ends: Ends, cause: str) -> None:
        """Before it said a word: the guard knows nothing of it, and it leaves nothing behind."""
        self._note_turned_away(ends.address, cause)
        if shut_connection(descriptor, ends.name):
            self._descriptors.note_shut(descriptor, ends.name)

    def _shut_flood(self, descriptor: int, cause: str) -> None:
        self._counters.floods += 1
        if self.newcomers.is_newcomer(descriptor):
            self._credits.fine(self.newcomers.address_of(descriptor), OFFENCE_PRICE, trio.current_time())
        peers = list(self._peers.by_descriptor.get(descriptor, ()))
        log.warning("connection shut", extra={"peers": [peer.name for peer in peers], "cause": cause})
        if name := self.guard.shut(descriptor):
            self._descriptors.note_shut(descriptor, name)
        for peer in peers:
            self.hold(peer.user_id)
            self._peers.lose(peer, cause)

    def _note_turned_away(self, address: str, cause: str) -> None:
        self._counters.turned_away += 1
        self._turned_away.happened(address=address, cause=cause)
