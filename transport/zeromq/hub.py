"""Hub: the ROUTER end of the control plane, and who is connected to it.

Every other actor and every client connects here with a `Link`.  The hub authenticates connections (CURVE),
ties each to the key that opened it, hands requests to its owner, asks peers, and notices when one leaves.

    router       the listening socket, its monitor, its handshakes
    descriptors  which connection a descriptor carries now
    peers        who is connected: routing id, key, and the states of a peer
    outgoing     what the hub sends, and the peers that do not take it
    liveness     who has left, who is frozen
    gate         which connections are shut for what they cost
    dispatcher   what a frame leads to

This module joins them: it receives, sweeps, and is what an owner sees.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

import trio
import zmq

from warehouse.errors import Overloaded, PermissionDenied
from warehouse.transport.barrier import Barrier
from warehouse.transport.messages import Answer, Request
from warehouse.transport.zeromq.conversation import refuse_unopened
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.deaf import HeldKeys
from warehouse.transport.zeromq.descriptors import Descriptors
from warehouse.transport.zeromq.dispatcher import Dispatcher
from warehouse.transport.zeromq.gate import Gate
from warehouse.transport.zeromq.limits import IN_FLIGHT_MAX, HubCounters, HubLimits
from warehouse.transport.zeromq.liveness import Liveness
from warehouse.transport.zeromq.outgoing import Outgoing
from warehouse.transport.zeromq.owned_socket import NOBLOCK
from warehouse.transport.zeromq.peers import GONE, Peer, Peers
from warehouse.transport.zeromq.roles import ANYBODY, Role
from warehouse.transport.zeromq.router import Router

log = logging.getLogger(__name__)

IDENT_SIZE_MAX = 255  # as ZMTP has it; libzmq takes any size that the handshake brings
SWEPT_AT_ONCE = 256  # peers between two checkpoints
_SRCFD = int(zmq.SRCFD)


class Hub:
    """A ROUTER socket, its peers, and the tasks that answer them.

    Args:
        keys: this hub's identity; links must know the public half.
        incarnation: this process's boot number, written on every message.
        answer_now: called first with every request, must not wait; None hands the request on to `answer`.
        answer: runs as a task of its own within the request's budget, even when the peer leaves meanwhile.
        role_of: what a peer may say now; asked with every message, so it must be quick.
        in_flight_max: requests in work, all peers together; more are refused as Overloaded.
        on_gone: called once for every peer that is gone, right when it is noticed; not at the hub's own end.
    """

    def __init__(
        self,
        *,
        keys: CurveKeys,
        incarnation: int,
        answer_now: Callable[[Peer, Request], Answer | None],
        answer: Callable[[Peer, Request], Awaitable[Answer]],
        on_gone: Callable[[Peer], None],
        role_of: Callable[[Peer], Role] = lambda peer: ANYBODY,
        in_flight_max: int = IN_FLIGHT_MAX,
        limits: HubLimits | None = None,
    ) -> None:
        limits = limits or HubLimits()
        self.incarnation = incarnation
        self.denied: set[str] = set()  # User-Ids that finish no handshake; `drop` adds to it
        self._has_new_keys = False
        self.counters = counters = HubCounters()
        self._limits = limits
        held = HeldKeys()
        barrier = Barrier(per_s=limits.connections_per_s, burst=limits.connections_burst)
        self._router = router = Router(
            keys=keys,
            limits=limits,
            denied=self.denied,
            held=held,
            barrier=barrier,
            take=self._take,
            on_event=self._on_event,
            on_dry=self._on_dry,
        )
        self._outgoing = Outgoing(router=router, limits=limits, lose=self._lose, disconnect=self.disconnect)
        self._descriptors = Descriptors()
        self._peers = Peers(
            router=router,
            descriptors=self._descriptors,
            counters=counters,
            denied=self.denied,
            make=self._make_peer,
            on_gone=on_gone,
        )
        self._gate = Gate(
            router=router,
            descriptors=self._descriptors,
            peers=self._peers,
            held=held,
            barrier=barrier,
            limits=limits,
            counters=counters,
        )
        self._liveness = Liveness(router=router, peers=self._peers, outgoing=self._outgoing, limits=limits)
        self._dispatcher = Dispatcher(
            answer_now=answer_now,
            answer=answer,
            role_of=role_of,
            in_flight_max=in_flight_max,
            gate=self._gate,
            limits=limits,
            counters=counters,
            disconnect=self.disconnect,
        )

    @property
    def peers(self) -> Mapping[bytes, Peer]:
        """Who is connected now, by routing id."""
        return MappingProxyType(self._peers.by_ident)

    @property
    def in_flight(self) -> int:
        """Requests that `answer` is working on."""
        return self._dispatcher.in_flight

    def disconnect(self, peer: Peer, cause: str = "the hub closed the connection") -> None:
        """Close a peer's connection; its link notices at once, and may come back as a new peer."""
        self._peers.disconnect(peer, cause)

    def drop(self, user_id: str) -> int:
        """Deny a key: its connections end now and it gets no new ones; return how many ended."""
        self.denied.add(user_id)
        return self.disconnect_key(user_id, "its key was denied")

    def disconnect_key(self, user_id: str, cause: str) -> int:
        """Close all connections of a key, which may come back as nobody; return how many there were."""
        peers = [peer for peer in self._peers.by_ident.values() if peer.user_id == user_id]
        for peer in peers:
            self.disconnect(peer, cause)
        return len(peers)

    def listen_with(self, keys: CurveKeys) -> None:
        """Be known by other keys within a moment: all links connect again, with the new public half."""
        self._router.keys = keys
        self._has_new_keys = True

    # --- life -------------------------------------------------------------------------------------

    async def run(
        self, endpoint: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on `endpoint` until cancelled; report the endpoint really bound once ready.

        Raises:
            BadSetting: the endpoint cannot be bound.
        """
        router = self._router
        router.open(endpoint)
        try:
            async with trio.open_nursery() as nursery:
                self._dispatcher.nursery = nursery
                task_status.started(router.bound_endpoint)
                while True:
                    await self._serve()
                    self._close_to_listen_again()
                    router.open(router.bound_endpoint if endpoint.endswith(":0") else endpoint)
        finally:
            self._dispatcher.nursery = None
            router.close()
            for peer in list(self._peers.by_ident.values()):
                self._peers.forget(peer, "the hub was closed")

    async def _serve(self) -> None:
        """Until the socket holds too much of connections that nobody hears, or has other keys."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._router.run)
            nursery.start_soon(self._liveness.recheck_forever)
            await self._sweep_until_overgrown()
            nursery.cancel_scope.cancel()

    def _close_to_listen_again(self) -> None:
        if self._has_new_keys:
            self._has_new_keys = False
            log.warning("listening again, with new keys")
        else:
            self.counters.reopenings += 1
            log.warning("listening again: connections that nobody heard left too much behind")
        self._router.close()
        for peer in list(self._peers.by_ident.values()):
            self._peers.lose(peer, "the hub listens again")
        self._descriptors.reset()
        self._gate.reset()
        self._liveness.reset()

    # --- receiving --------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Receive one message and see to it; False when there is none."""
        socket = self._router.socket
        try:
            ident_frame = socket.recv(NOBLOCK, copy=False)
        except zmq.Again:
            return False
        frame = socket.recv(copy=False)  # the parts of a message arrive together
        is_whole, size, count = not frame.more, len(frame), 1
        while frame.more:
            frame = socket.recv(copy=False)
            size, count = size + len(frame), count + 1
        ident, descriptor = ident_frame.bytes, int(frame.get(_SRCFD))
        if len(ident) > IDENT_SIZE_MAX:
            self._gate.turn_away(descriptor, "its routing id is too long")
            return True
        self._router.take_events()  # know the connection that this came through
        if ident not in self._peers.by_ident and not self._gate.may_speak(descriptor):
            return True
        guard = self._gate.guard
        try:
            peer = self._peers.find(ident, str(frame.get("User-Id")), descriptor)
        except PermissionDenied as error:
            guard.took(descriptor, size, count)
            self._refuse_unknown(ident, frame.buffer, error)
            return True
        if peer is None:
            guard.took_left_behind(size)
            return True
        guard.took(descriptor, size, count)
        peer.signs.silent_s = 0.0
        if is_whole:
            self._dispatcher.handle_frame(peer, frame.buffer)
        else:
            self._dispatcher.refuse_frames(peer, size)
        return True

    def _refuse_unknown(self, ident: bytes, frame: memoryview, error: PermissionDenied) -> None:
        with suppress(Overloaded):
            refusal = refuse_unopened(frame, error, incarnation=self.incarnation)
            self._router.send_unless_gone(ident, refusal)

    def _make_peer(self, ident: bytes, user_id: str, descriptor: int) -> Peer:
        return Peer(
            ident=ident,
            user_id=user_id,
            address=self._gate.address_of(descriptor),
            descriptor=descriptor,
            generation=self._descriptors.generation_of(descriptor),
            incarnation=self.incarnation,
            send=self._outgoing.send,
        )

    def _lose(self, peer: Peer, cause: str) -> None:
        self._peers.lose(peer, cause)

    # --- connections ------------------------------------------------------------------------------

    def _on_event(self, event: int, descriptor: int) -> None:
        """The monitor tells that a connection was accepted, or that it ended."""
        if event == zmq.Event.ACCEPTED:
            self._descriptors.accepted(descriptor)
            self._gate.accepted(descriptor)
        else:
            self._gate.ended(descriptor)
            self._descriptors.ended(descriptor)
        self._liveness.note_hint(descriptor)  # accepted, too: the peers that had that descriptor have lost it

    def _on_dry(self) -> None:
        self._gate.note_dry()
        self._liveness.act_on_hints()

    async def _sweep_until_overgrown(self) -> None:
        sweep_s, swept_at = self._limits.sweep_s, trio.current_time()
        while True:
            await trio.sleep(sweep_s / 10 if self._gate.guard.is_alert else sweep_s)
            self._gate.shut_floods()
            self._outgoing.disconnect_those_that_take_nothing(list(self._peers.by_ident.values()))
            if self._has_new_keys or self._gate.has_overgrown():
                return
            self._gate.shut_overdue_newcomers()
            # What passed while this loop stood still counts little: peers may have spoken all the while.
            now = trio.current_time()
            passed_s = min(now - swept_at, 2 * sweep_s)
            swept_at = now
            peers = list(self._peers.by_ident.values())
            for start in range(0, len(peers), SWEPT_AT_ONCE):
                self._sweep(peers[start : start + SWEPT_AT_ONCE], passed_s)
                await trio.lowlevel.checkpoint()

    def _sweep(self, peers: list[Peer], passed_s: float) -> None:
        keep_account = self._dispatcher.keep_account
        for peer in peers:
            if peer.state is not GONE:
                keep_account(peer, passed_s)
        self._liveness.sweep([peer for peer in peers if peer.state is not GONE], passed_s)
