"""Peers: who is connected to a hub.

A peer chooses its routing id, so the id proves nothing.  The User-Id does: libzmq sets it from the key of the
handshake.  A routing id belongs to the key that used it first; a message under it from another key is refused
and never carried out.  A `Peer` is one connection: a process that connects again is a new `Peer`, without
the session of the old one.

    PRESENT  --its queue is full-->             STALLED    (`outgoing`)
    STALLED  --its queue took a probe-->        PRESENT    (`liveness`)
    either   --no connection has its id, it is silent,
               its id came through another connection,
               the hub disconnects it-->        GONE       for good

`MOVES` is this diagram as data.
"""

from __future__ import annotations

import enum
import logging
from collections import OrderedDict
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

from warehouse.errors import Overloaded, PermissionDenied
from warehouse.transport.messages import Answer, Request
from warehouse.transport.zeromq.conversation import Conversation
from warehouse.transport.zeromq.descriptors import Descriptors
from warehouse.transport.zeromq.limits import HubCounters
from warehouse.transport.zeromq.roles import ANYBODY
from warehouse.transport.zeromq.router import Router, name_of
from warehouse.transport.zeromq.tcp import Progress, connection_name, shut_connection

log = logging.getLogger(__name__)

PROBE = b""  # a frame that says nothing; links answer it (`show_life`), those of 0.1.0 ignore it
KNOWN_IDS_MAX = 10_000  # routing ids of departed peers whose key is remembered


class PeerState(enum.Enum):
    """Where a peer is between its first message and its end."""

    PRESENT = enum.auto()
    STALLED = enum.auto()  # its queue is full: slow, not gone, but not forever
    GONE = enum.auto()  # for good: a later connection under the same routing id is another peer


# Looked at in every sweep, for every peer: a member of an enum costs more than a global does.
PRESENT, STALLED, GONE = PeerState

MOVES: dict[PeerState, set[PeerState]] = {
    PRESENT: {STALLED, GONE},
    STALLED: {PRESENT, GONE},
    GONE: set(),
}


@dataclass(slots=True)
class SignsOfLife:
    """What a peer has shown of itself; the seconds are those in which the hub's own loop was awake."""

    silent_s: float = 0.0  # since the hub heard from it
    unsent_s: float = 0.0  # since the hub sent it anything
    unprobed_s: float = 0.0
    unanswered_count: int = 0  # probes that its queue took since the hub heard from it
    has_heartbeats: bool = False  # the kernel saw bytes of it that were no messages
    progress: Progress | None = None  # at the last probe of this silence


@dataclass(slots=True)
class Queue:
    """What the hub sent to a peer, and how much of it the peer took."""

    sent_bytes: int = 0  # of frames; what goes over the wire is a little more
    taken_bytes: int = 0  # of them, when the kernel was last asked
    stalled_at: float = 0.0  # when it became STALLED


@dataclass(slots=True)
class Budget:
    """What a peer may still send."""

    credit: float = ANYBODY.burst  # bytes, at once; topped up by the sweep
    role_name: str = ""  # that the credit is for
    nobody_s: float = 0.0  # for how long it has not said who it is


class Peer:
    """One connected DEALER, from its first message until it is gone; never revived.

    An owner uses `session`, `ident`, `name`, `user_id`, `address`, `is_gone`, `request_name` and `request`;
    all else is the hub's.

    Args:
        address: where it comes from; "" when that is not known.
        descriptor, generation: which connection it is.
        incarnation: the hub's.
        send: how its conversation sends a frame to it.
    """

    session: Any = None  # the owner's, whatever it is

    def __init__(
        self,
        *,
        ident: bytes,
        user_id: str,
        address: str,
        descriptor: int,
        generation: int,
        incarnation: int,
        send: Callable[[Peer, bytes], None],
    ) -> None:
        self.ident = ident
        self.name = name_of(ident)
        self.user_id = user_id
        self.address = address
        self.state = PRESENT
        self.descriptor = descriptor
        self.generation = generation
        self.connection = connection_name(descriptor)
        self.signs = SignsOfLife()
        self.queue = Queue()
        self.budget = Budget()
        self.has_sent_bad_frame = False  # and a warning about it was logged
        self.conversation = Conversation(incarnation=incarnation, send=partial(send, self))

    def __repr__(self) -> str:
        return f"<Peer {self.name}{' (gone)' if self.is_gone else ''}>"

    @property
    def request_name(self) -> str:
        """The request that is being answered now, in a few letters that no other request has."""
        connection = blake2b(self.ident, digest_size=4).hexdigest()
        return f"{self.name}-{connection}/{self.conversation.request_id}"

    @property
    def is_gone(self) -> bool:
        return self.state is GONE

    def move_to(self, state: PeerState) -> None:
        assert state in MOVES[self.state], f"{self.name}: {self.state} to {state}"
        self.state = state

    async def request(self, body: Request, *, timeout_s: float) -> Answer:
        """Ask this peer something.

        A peer that is greeting answers afterwards: do not wait for it inside the answer to its greeting.

        Raises:
            LinkDown: it is gone, or goes before it answered.
            DeadlineExceeded: no answer in time.
            Overloaded: its queue is full.
            StoreError: what it refused the request with.
        """
        return await self.conversation.ask(body, timeout_s=timeout_s)


class Peers:
    """The peers of one hub, by routing id and by descriptor.

    Args:
        denied: keys that may not speak.
        make: makes the `Peer` of a routing id, a User-Id and a descriptor.
        on_gone: called once for every peer that is gone, right when it is noticed.
    """

    def __init__(
        self,
        *,
        router: Router,
        descriptors: Descriptors,
        counters: HubCounters,
        denied: Container[str],
        make: Callable[[bytes, str, int], Peer],
        on_gone: Callable[[Peer], None],
    ) -> None:
        self.by_ident: dict[bytes, Peer] = {}
        self.by_descriptor: dict[int, set[Peer]] = {}  # whose messages came through it
        self._known_ids: OrderedDict[bytes, str] = OrderedDict()  # departed routing id -> User-Id
        self._router = router
        self._descriptors = descriptors
        self._generations = descriptors.generations
        self._counters = counters
        self._denied = denied
        self._make = make
        self._on_gone = on_gone

    # --- who sent this ----------------------------------------------------------------------------

    def find(self, ident: bytes, user_id: str, descriptor: int) -> Peer | None:
        """Return who sent a message, None when that peer is gone already.

        Raises:
            PermissionDenied: the key was denied, or the routing id belongs to another key.
        """
        peer = self.by_ident.get(ident)
        if (
            peer is not None
            and peer.descriptor == descriptor
            and (peer.generation == self._generations.get(descriptor, 0) or self._is_same_connection(peer))
            and peer.user_id == user_id
        ):
            return peer
        if peer is not None:  # libzmq takes an id over only when its connection has ended
            self.lose(peer, "its routing id came through another connection")
        if self._known_ids.get(ident, user_id) != user_id:
            self._note_spoofed_id(ident, user_id)
            raise PermissionDenied("this routing id belongs to another key")
        if user_id in self._denied:
            raise PermissionDenied("this key was denied")
        return self._meet(ident, user_id, descriptor)

    def _is_same_connection(self, peer: Peer) -> bool:
        """Its descriptor has another generation: was it reused, or did the event of this peer come late?"""
        if connection_name(peer.descriptor) != peer.connection:
            return False
        peer.generation = self._descriptors.generation_of(peer.descriptor)
        return True

    def _note_spoofed_id(self, ident: bytes, user_id: str) -> None:
        self._counters.spoofed_ids += 1
        count = self._counters.spoofed_ids
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: seen, and no flood in the log
            names = {"peer": name_of(ident), "user_id": user_id, "count": count}
            log.warning("routing id of another key refused", extra=names)

    def _meet(self, ident: bytes, user_id: str, descriptor: int) -> Peer | None:
        if self._descriptors.is_shut(descriptor):
            return None  # sent before the hub shut the connection, or by somebody who has not noticed yet
        # The message may have waited here longer than its sender lived.
        self._router.has_message()
        with suppress(Overloaded):
            if not self._router.send_unless_gone(ident, PROBE):
                return None
        peer = self._make(ident, user_id, descriptor)
        self.by_ident[ident] = peer
        self.by_descriptor.setdefault(descriptor, set()).add(peer)
        self._counters.arrivals += 1
        log.debug("peer came", extra={"peer": peer.name, "user_id": user_id})
        return peer

    # --- who is gone ------------------------------------------------------------------------------

    def disconnect(self, peer: Peer, cause: str) -> None:
        """Close a peer's connection; its link notices at once, and may come back as a new peer."""
        if peer.is_gone:
            return
        if shut_connection(peer.descriptor, peer.connection):
            self._descriptors.shut[peer.descriptor] = peer.generation, peer.connection
        self.lose(peer, cause)

    def lose(self, peer: Peer, cause: str) -> None:
        """This peer is gone: tell the owner."""
        if peer.is_gone:
            return
        self.forget(peer, cause)
        self._known_ids[peer.ident] = peer.user_id
        self._known_ids.move_to_end(peer.ident)
        if len(self._known_ids) > KNOWN_IDS_MAX:
            self._known_ids.popitem(last=False)
        self._counters.departures += 1
        log.debug("peer gone", extra={"peer": peer.name, "cause": cause})
        try:
            self._on_gone(peer)
        except Exception as error:  # the owner's bug must not hide the departures of others
            log.error("on_gone failed", exc_info=error)

    def forget(self, peer: Peer, cause: str) -> None:
        """This peer is gone, and nobody needs to hear of it."""
        peer.move_to(GONE)
        del self.by_ident[peer.ident]
        bound = self.by_descriptor[peer.descriptor]
        bound.discard(peer)
        if not bound:
            del self.by_descriptor[peer.descriptor]
        peer.conversation.end(f"{peer.name} is gone: {cause}")
