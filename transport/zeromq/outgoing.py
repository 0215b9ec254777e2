"""Outgoing: what a hub sends to its peers, and the peers that do not take it.

A send never waits.  A message that libzmq cannot pass on stays in the queue of its connection, and the bytes
stay in our memory.  Two bounds keep that finite: a peer whose queue is full is STALLED, and the hub
disconnects it after `stall_s`; and the kernel tells how many bytes the other end has acknowledged, so the hub
bounds what one peer, and all together, have not taken yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from warehouse.errors import LinkDown, Overloaded
from warehouse.transport.messages import FRAME_SIZE_MAX
from warehouse.transport.zeromq.limits import HubLimits
from warehouse.transport.zeromq.peers import PRESENT, STALLED, Peer
from warehouse.transport.zeromq.router import Router
from warehouse.transport.zeromq.tcp import progress_of

UNTAKEN_TOTAL_MAX = 64 * FRAME_SIZE_MAX
UNTAKEN_LOOK = FRAME_SIZE_MAX  # ask the kernel once this many bytes may wait


class Outgoing:
    """Sends the frames of a hub.

    Args:
        lose: told of a peer whose connection ended.
        disconnect: ends the connection of a peer.
    """

    def __init__(
        self,
        *,
        router: Router,
        limits: HubLimits,
        lose: Callable[[Peer, str], None],
        disconnect: Callable[[Peer, str], None],
    ) -> None:
        self._router = router
        self._limits = limits
        self._lose = lose
        self._disconnect = disconnect

    def send(self, peer: Peer, frame: bytes) -> None:
        """Send a frame to a peer.

        Raises:
            LinkDown: it is gone.
            Overloaded: its queue is full.
        """
        try:
            is_sent = self._router.send_unless_gone(peer.ident, frame)
        except Overloaded:
            self.note_stall(peer)
            raise
        if not is_sent:
            self._lose(peer, "its connection ended")
            raise LinkDown(f"{peer.name} is gone")
        peer.signs.unsent_s = 0.0
        queue = peer.queue
        queue.sent_bytes += len(frame)
        if queue.sent_bytes - queue.taken_bytes > UNTAKEN_LOOK and _untaken(peer) > self._limits.untaken:
            self._disconnect(peer, f"it does not take its answers: {self._limits.untaken} bytes wait for it")
        self._router.poke()

    def note_stall(self, peer: Peer) -> None:
        """A full queue is slow, not gone; but not forever."""
        peer.signs.unanswered_count = 0  # no probe gets through: nobody knows what the peer would answer
        now = trio.current_time()
        if peer.state is PRESENT:
            peer.move_to(STALLED)
            peer.queue.stalled_at = now
        elif peer.state is STALLED and now - peer.queue.stalled_at > self._limits.stall_s:
            self._disconnect(peer, f"it took nothing for {self._limits.stall_s:.3g} s")

    def disconnect_those_that_take_nothing(self, peers: Iterable[Peer]) -> None:
        """Bound what all peers together have the hub hold for them: those with most go first."""
        untaken = {
            peer: _untaken(peer)
            for peer in peers
            if peer.queue.sent_bytes - peer.queue.taken_bytes > UNTAKEN_LOOK
        }
        total = sum(untaken.values())
        for peer in sorted(untaken, key=lambda peer: untaken[peer], reverse=True):
            if total <= UNTAKEN_TOTAL_MAX:
                break
            total -= untaken[peer]
            self._disconnect(peer, f"it does not take its answers: {untaken[peer]} bytes wait for it")


def _untaken(peer: Peer) -> int:
    """Ask the kernel how much of what the hub sent a peer is not acknowledged yet."""
    progress = progress_of(peer.descriptor)
    if progress is None:
        return 0
    queue = peer.queue
    queue.taken_bytes = progress.acknowledged
    queue.sent_bytes = max(queue.sent_bytes, progress.acknowledged)  # encryption and probes on top
    return queue.sent_bytes - queue.taken_bytes
