"""Liveness: which peers have left, and which are frozen or unplugged.

How the hub notices that a peer left.  Each message tells the descriptor it came through (SRCFD), so the hub
knows which peers a descriptor carried.  The socket's monitor tells which descriptor ended.  The kernel reuses
descriptors at once, so that is a hint and no verdict: the hub probes each peer of that descriptor, and a
ROUTER_MANDATORY send that answers EHOSTUNREACH is the verdict.  libzmq reports a closed descriptor shortly
before its peer becomes unreachable, so the hub rechecks soon.  A sweep over all peers catches what slipped
through.  The order is: take the monitor's events, drain the ROUTER, then act.  In any other order the last
words of a dead peer would bring it back.

How the hub notices that a peer is frozen or unplugged.  libzmq's heartbeats stay off: their timer aborts the
process when a connection ends while its queue is full, so any stranger could end the hub.  Instead the hub
probes each peer once a second, and a link answers every probe before anything else.  A peer is gone when all
of these hold:

    - it said nothing for `silence_s`, counted in time that this loop was awake: our own pause blames nobody;
    - it left at least two probes unanswered that its queue had taken;
    - the kernel saw nothing move: no byte came from it, and it acknowledged nothing of what waits for it.

So a large message on a slow line, a full queue (see `outgoing`) or a pause of two seconds ends nobody.  The
rule applies to peers that have shown that they can answer: a link of this release with its first word, one of
0.1.0 with its first ZMTP heartbeat (the kernel counts those bytes).  All others are left to TCP, which ends
a connection that acknowledges nothing for `stall_s`.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from warehouse.errors import Overloaded
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.outgoing import Outgoing
from warehouse.transport.zeromq.peers import GONE, PRESENT, PROBE, STALLED, Peer, Peers
from warehouse.transport.zeromq.router import Router
from warehouse.transport.zeromq.tcp import progress_of

RECHECK_S = 0.01


class Liveness:
    """Probes the peers of a hub, and ends those that are gone or frozen."""

    def __init__(self, *, router: Router, peers: Peers, outgoing: Outgoing, limits: HubLimits) -> None:
        self._router = router
        self._peers = peers
        self._outgoing = outgoing
        self._limits = limits
        self._hints: list[int] = []  # descriptors that the monitor named since the socket was last dry
        self._to_recheck: set[Peer] = set()
        self._recheck_due = trio.Event()

    def reset(self) -> None:
        """Know nothing of any connection, as before the first one."""
        self._hints.clear()
        self._to_recheck.clear()

    # --- who has left -----------------------------------------------------------------------------

    def note_hint(self, descriptor: int) -> None:
        """The monitor named this descriptor: its connection ended, or another one has it."""
        self._hints.append(descriptor)

    def act_on_hints(self) -> None:
        """Probe the peers of all descriptors that the monitor named; call it when the socket is dry."""
        if not self._hints:
            return
        descriptors, self._hints = self._hints, []
        by_descriptor = self._peers.by_descriptor
        named = {peer for descriptor in descriptors for peer in by_descriptor.get(descriptor, ())}
        if named:
            self.probe(named)
            self._to_recheck |= {peer for peer in named if not peer.is_gone}
            self._recheck_due.set()

    async def recheck_forever(self) -> None:
        while True:
            await self._recheck_due.wait()
            await trio.sleep(RECHECK_S)
            self._recheck_due = trio.Event()
            self.probe(self._take_those_to_recheck())

    def _take_those_to_recheck(self) -> set[Peer]:
        peers, self._to_recheck = self._to_recheck, set()
        return peers

    def probe(self, peers: Iterable[Peer]) -> None:
        self._router.has_message()  # have libzmq take note of what has ended, a send may put that off
        for peer in peers:
            if peer.state is GONE:
                continue
            try:
                if self._router.send_unless_gone(peer.ident, PROBE):
                    if peer.state is STALLED:
                        peer.move_to(PRESENT)
                    peer.signs.unanswered_count += 1
                    peer.signs.unsent_s = 0.0
                else:
                    self._peers.lose(peer, "its connection ended")
            except Overloaded:
                self._outgoing.note_stall(peer)
        self._router.poke()

    # --- who is frozen ----------------------------------------------------------------------------

    def sweep(self, peers: Iterable[Peer], passed_s: float) -> None:
        """Probe the quiet ones of some peers, and end the frozen ones.

        Args:
            passed_s: time since the last sweep that this loop was awake.
        """
        probe_s, due = self._limits.probe_s, []
        for peer in peers:
            signs = peer.signs
            if signs.silent_s == 0.0:  # heard from since the last sweep
                signs.unanswered_count, signs.progress = 0, None
            signs.silent_s += passed_s
            signs.unsent_s += passed_s
            signs.unprobed_s += passed_s
            # A peer that spoke a moment ago is there, as far as anybody can know yet.  A probe wakes both
            # ends, so there are few where nothing happens: they are most of what an idle store does.
            is_quiet = signs.silent_s >= probe_s or signs.unsent_s >= probe_s
            if peer.state is STALLED or (is_quiet and signs.unprobed_s >= probe_s):
                due.append(peer)
            elif signs.unanswered_count >= 2 and self._is_frozen(peer):
                cause = f"it said nothing for {signs.silent_s:.1f} s and answered no probe"
                self._peers.disconnect(peer, cause)
        for peer in due:
            self._look_for_life(peer)
        self.probe(due)

    def _is_frozen(self, peer: Peer) -> bool:
        can_answer = peer.signs.has_heartbeats or peer.conversation.has_shown_life
        return can_answer and peer.signs.silent_s >= self._limits.silence_s

    def _look_for_life(self, peer: Peer) -> None:
        """Ask the kernel whether something moved since the last probe: that is a sign of life, too."""
        signs = peer.signs
        signs.unprobed_s = 0.0
        before, signs.progress = signs.progress, progress_of(peer.descriptor)
        if before is None or signs.progress is None or not signs.progress.has_moved_since(before):
            return
        if signs.progress.received > before.received:
            signs.has_heartbeats = True
        signs.unanswered_count = 0
        signs.silent_s = min(signs.silent_s, self._limits.probe_s)  # it may be that long ago
