"""Hub: the ROUTER end of the control plane, and who is connected to it.

Every other actor and every client connects here with a `Link`.  The hub authenticates connections (CURVE),
ties each to the key that opened it, hands requests to its owner, asks peers, and notices when one leaves.

How a departure is noticed.  Each message tells the descriptor it came through (SRCFD), so the hub knows
which peers a descriptor carried; the socket's monitor tells which descriptor ended.  Descriptors are
reused at once, so that is a hint and no verdict: each peer bound to it is probed, and a ROUTER_MANDATORY
send that answers EHOSTUNREACH is the verdict.  A sweep over all peers catches what slipped through.  The
order is: take the monitor's events, drain the ROUTER, then act; or a dead peer's last words would bring it
back.

    connection            message with a new      EHOSTUNREACH, silence, disconnect,
    (authenticated)  -->  routing id: Peer   -->  or its id on a new descriptor: gone, for good

How a frozen or unplugged peer is noticed.  libzmq's heartbeats stay off: their timer aborts the process when
a connection ends while its queue is full, so any stranger could end us.  Instead the hub probes each peer
once a second, and a link answers every probe before anything else.  A peer is gone when all of these hold:

    - it said nothing for `silence_s`, counted in time that this loop was awake: our own pause accuses nobody;
    - it left at least two probes unanswered that its queue had taken;
    - the kernel saw nothing move: no byte came from it, and nothing of what waits for it was acknowledged.

So a large message on a slow line, a full queue (see `stall_s`) or a pause of two seconds ends nobody.  The
rule applies to whoever has shown that it can answer: a link of this release with its first word, one of
0.1.0 with its first ZMTP heartbeat (the kernel counts those bytes).  Anybody else is left to TCP, which ends
a connection that acknowledges nothing for `stall_s`.

A routing id is chosen by the peer, so it proves nothing; the User-Id, set by libzmq from the handshake,
does.  A routing id belongs to the key that used it first: a message with another User-Id is refused, never
carried out.  A `Peer` is one connection: whoever comes back is a new `Peer`, without the old one's session.

What a peer may say, and how much, depends on its role (`transport.roles`), which the owner tells.  How many
connections there may be, and for how long without a word of who they are, is in `transport.newcomers`.  What
libzmq keeps of connections that it lets nobody hear is in `transport.deaf`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from socket import AF_INET6, SOCK_STREAM, getaddrinfo
from types import MappingProxyType
from typing import Any

import trio
import zmq

from warehouse.errors import (
    BadSetting,
    LinkDown,
    Overloaded,
    PermissionDenied,
    StoreError,
)
from warehouse.transport.endpoints import host_and_port
from warehouse.transport.messages import FRAME_SIZE_MAX, Answer, Envelope, Request
from warehouse.transport.zeromq.conversation import Conversation, refusal_of, refusal_of_bug, refuse_unopened
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.deaf import UNHEARD_MAX, Growth, HeldKeys
from warehouse.transport.zeromq.flood_guard import FloodGuard
from warehouse.transport.zeromq.newcomers import NOBODY_S, Newcomers
from warehouse.transport.zeromq.owned_socket import (
    NOBLOCK,
    SNDMORE,
    OwnedSocket,
    close_monitored,
    has_message,
    open_monitor,
    receive_event,
    watch_with_tcp,
)
from warehouse.transport.zeromq.roles import ANYBODY, MALFORMED_COST, Role
from warehouse.transport.zeromq.tcp import (
    Progress,
    address_of,
    connection_name,
    local_port,
    progress_of,
    shut_connection,
)
from warehouse.transport.zeromq.zap import DOMAIN, ZapHandler

log = logging.getLogger(__name__)

PROBE = b""  # a frame that says nothing; links answer it (`show_life`), those of 0.1.0 ignore it
IN_FLIGHT_MAX = 20_000
RECHECK_S = 0.01  # libzmq reports a closed descriptor shortly before its peer becomes unreachable
UNREAD_MAX = 3 * FRAME_SIZE_MAX  # bytes of one connection: a frame, and what the kernel may hold on top
UNREAD_TOTAL_MAX = 32 * FRAME_SIZE_MAX
BACKLOG_MAX = 8 * FRAME_SIZE_MAX  # bytes of one connection that wait for us in whole messages
UNTAKEN_MAX = 8 * FRAME_SIZE_MAX  # bytes of answers that one peer has not taken yet
UNTAKEN_TOTAL_MAX = 64 * FRAME_SIZE_MAX
UNTAKEN_LOOK = FRAME_SIZE_MAX  # the kernel is asked once that many may wait
LEFT_BEHIND_MAX = 8 * FRAME_SIZE_MAX  # bytes of connections that have ended: with more, nobody new comes in
BACKLOG_COUNT_MAX = 20_000  # and how many messages; a link has at most 2,048 under way
CURVE_OVERHEAD = 64  # bytes that encryption adds to a frame, generously (RFC 26: 33)
IDENT_SIZE_MAX = 255  # as ZMTP has it; libzmq takes any size that the handshake brings
CONNECTIONS_MAX = 8192
NEWCOMERS_MAX = 1024
KNOWN_IDS_MAX = 10_000  # routing ids of departed peers whose key is remembered
_SRCFD = int(zmq.SRCFD)
_MONITORED = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED


@dataclass(frozen=True)
class HubLimits:
    """Bounds and intervals of a hub; the defaults are the ones to use."""

    peer_in_flight: int = 5_000  # requests of one peer in work: nobody uses up what is there for all
    queue: int = 10_000  # messages to one peer that wait in libzmq
    untaken: int = UNTAKEN_MAX  # and bytes of them
    sweep_s: float = 0.25
    probe_s: float = 1.0  # how often a peer is probed that says nothing, or that we say nothing to
    silence_s: float = 3.0  # whoever answers no probe for this long is gone; see above
    stall_s: float = 10.0  # a peer whose queue stays full for this long is disconnected
    handshake_ms: int = 5000  # a connection that is not authenticated by then is closed
    backlog: int = 1024  # connections that the kernel holds while the hub is busy (a restart: all at once)
    connections: int = CONNECTIONS_MAX  # all together; how many descriptors there are decides, see `master`
    newcomers: int = NEWCOMERS_MAX  # of them, whoever has not said who it is
    nobody_s: float = NOBODY_S  # and for how long
    unheard: int = UNHEARD_MAX  # bytes by which memory may grow after connections that nobody heard


@dataclass
class HubCounters:
    """What the hub has seen since it started."""

    requests: int = 0
    malformed: int = 0  # frames that nobody could understand or that break the protocol
    impostors: int = 0  # messages under the routing id of somebody else
    overloads: int = 0
    arrivals: int = 0
    departures: int = 0
    floods: int = 0  # connections shut for the bytes they made us hold
    reopenings: int = 0  # sockets closed for what they held of connections that nobody heard
    over_budget: int = 0  # requests refused unread, because their sender had sent too much lately
    turned_away: int = 0  # connections shut because they did not say who they are, or too many came


class Peer:
    """One connected DEALER, from its first message until it is gone; never revived."""

    session: Any = None  # the owner's, whatever it is

    def __init__(self, hub: Hub, *, ident: bytes, user_id: str, descriptor: int) -> None:
        self.ident = ident
        self.name = _name_of(ident)
        self.user_id = user_id
        self.address = hub._newcomers.address_of(descriptor)  # "" when it is not known
        self.is_gone = False
        self._credit = ANYBODY.burst  # bytes that it may still send at once; topped up by the sweep
        self._role_name = ""  # that its credit is for
        self._nobody_s = 0.0
        self._descriptor = descriptor
        self._generation = hub._generations.get(descriptor, 0)
        self._connection = connection_name(descriptor)
        # Seconds of our own waking time, added up by the sweep.
        self._silent_s = 0.0  # since it was heard from
        self._unsent_s = 0.0  # since we sent it anything
        self._unprobed_s = 0.0
        self._unanswered = 0  # probes that its queue took since it was heard from
        self._is_judged = False  # it has shown that it answers probes, or has heartbeats
        self._progress: Progress | None = None  # at the last probe of this silence
        self._stalled_at: float | None = None
        self._sent_bytes = 0  # of frames; what goes over the wire is a little more
        self._taken_bytes = 0  # of them, when the kernel was last asked
        self._is_accused = False  # a warning about it was logged
        self._conversation = Conversation(incarnation=hub.incarnation, send=partial(hub._send, self))

    def __repr__(self) -> str:
        return f"<Peer {self.name}{' (gone)' if self.is_gone else ''}>"

    async def request(self, body: Request, *, timeout_s: float) -> Answer:
        """Ask this peer something.

        A peer that is greeting answers afterwards: do not wait for it inside the answer to its greeting.

        Raises:
            LinkDown: it is gone, or goes before it answered.
            DeadlineExceeded: no answer in time.
            Overloaded: its queue is full.
            StoreError: what it refused the request with.
        """
        return await self._conversation.ask(body, timeout_s=timeout_s)


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
        self.incarnation = incarnation
        self.denied: set[str] = set()  # User-Ids that finish no handshake; `drop` adds to it
        self.counters = HubCounters()
        self._keys = keys
        self._answer_now = answer_now
        self._answer = answer
        self._on_gone = on_gone
        self._role_of = role_of
        self._limits = limits or HubLimits()
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._in_work: dict[str, int] = {}  # role -> bytes of its requests in flight
        self._peers: dict[bytes, Peer] = {}
        self._known_ids: OrderedDict[bytes, str] = OrderedDict()  # departed routing id -> User-Id
        self._held = HeldKeys()
        self._nursery: trio.Nursery | None = None
        self._begin()

    def _begin(self) -> None:
        """Know nothing of any connection yet."""
        self._bound: dict[int, set[Peer]] = {}  # descriptor -> peers whose messages came through it
        self._generations: dict[int, int] = {}  # descriptor -> how many connections it has carried
        # descriptor -> its generation and the connection that we shut, until libzmq says so too
        self._shut: dict[int, tuple[int, str]] = {}
        self._guard = FloodGuard(
            connection_max=UNREAD_MAX,
            total_max=UNREAD_TOTAL_MAX,
            backlog_max=BACKLOG_MAX,
            backlog_count_max=BACKLOG_COUNT_MAX,
            message_max=FRAME_SIZE_MAX,
        )
        self._newcomers = Newcomers(
            total_max=self._limits.connections,
            newcomers_max=self._limits.newcomers,
            nobody_s=self._limits.nobody_s,
        )
        self._is_dry = False  # all there was has been read since the last sweep
        self._departures: list[int] = []  # descriptors that the monitor named since the last dry moment
        self._suspects: set[Peer] = set()  # to be probed once more
        self._suspicion = trio.Event()
        self._growth = Growth(self._limits.unheard)
        self._has_grown = trio.Event()

    @property
    def peers(self) -> Mapping[bytes, Peer]:
        """Who is connected now, by routing id."""
        return MappingProxyType(self._peers)

    @property
    def in_flight(self) -> int:
        """Requests that `answer` is working on."""
        return self._in_flight

    # --- life -------------------------------------------------------------------------------------

    async def run(
        self, endpoint: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on `endpoint` until cancelled; report the endpoint really bound once ready.

        Raises:
            BadSetting: the endpoint cannot be bound.
        """
        opened = self._open(endpoint)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started(self._bound_endpoint)
                while True:
                    await self._serve(opened)
                    self.counters.reopenings += 1
                    log.warning("listening anew: connections that nobody heard left too much behind")
                    opened.close()
                    for peer in list(self._peers.values()):
                        self._gone(peer, "the hub listens anew")
                    self._begin()
                    opened = self._open(self._bound_endpoint if endpoint.endswith(":0") else endpoint)
        finally:
            self._nursery = None
            opened.close()
            for peer in list(self._peers.values()):
                self._forget(peer, "the hub was closed")

    def _open(self, endpoint: str) -> _Opened:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            zap = ZapHandler(context, self.denied, self._held)
            self._socket = context.socket(zmq.ROUTER)
            monitor = open_monitor(context, self._socket, _MONITORED)
            self._owned = OwnedSocket(self._socket, self._take, on_dry=self._act_on_departures)
            opened = _Opened(context, zap, self._socket, monitor)
            try:
                self._bind(endpoint)
            except BaseException:
                opened.close()
                raise
        except BaseException:
            context.destroy(linger=0)
            raise
        return opened

    async def _serve(self, opened: _Opened) -> None:
        """Until the socket holds too much that nobody hears."""
        watch = OwnedSocket(
            opened.monitor, partial(self._take_event, opened.monitor), on_dry=self._owned.wake
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.zap.run)
            nursery.start_soon(watch.run)
            nursery.start_soon(self._owned.run)
            nursery.start_soon(self._sweep_forever)
            nursery.start_soon(self._recheck_forever)
            await self._has_grown.wait()
            nursery.cancel_scope.cancel()

    def _bind(self, endpoint: str) -> None:
        socket, limits = self._socket, self._limits
        socket.linger = 0
        socket.ipv6 = _is_ipv6_only(endpoint)
        socket.router_mandatory = True
        socket.sndhwm = limits.queue
        # Not bounded here.  With a bound, libzmq stops reading a connection whose queue is full, and a
        # connection that ends in that state stays half dead until it is drained: the state in which its
        # timers and PING commands abort the process.  What may wait is bounded by `FloodGuard` instead.
        socket.rcvhwm = 0
        socket.maxmsgsize = FRAME_SIZE_MAX + CURVE_OVERHEAD
        socket.backlog = limits.backlog
        socket.handshake_ivl = limits.handshake_ms
        watch_with_tcp(socket, timeout_s=limits.stall_s)
        socket.zap_domain = DOMAIN
        socket.curve_server = True
        socket.curve_publickey = self._keys.public
        socket.curve_secretkey = self._keys.secret
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise BadSetting(f"cannot listen on {endpoint}: {error.strerror}") from error
        self._bound_endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._port = host_and_port(self._bound_endpoint)[1]

    # --- receiving --------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Receive one message and see to it; False when there is none."""
        try:
            ident_frame = self._socket.recv(NOBLOCK, copy=False)
        except zmq.Again:
            return False
        frame = self._socket.recv(copy=False)  # the parts of a message arrive together
        is_whole, size, count = not frame.more, len(frame), 1
        while frame.more:
            frame = self._socket.recv(copy=False)
            size, count = size + len(frame), count + 1
        ident, descriptor = ident_frame.bytes, int(frame.get(_SRCFD))
        if len(ident) > IDENT_SIZE_MAX:
            self._turn_away(descriptor, "its routing id is too long")
            return True
        try:
            peer = self._peer_of(ident, str(frame.get("User-Id")), descriptor)
        except PermissionDenied as error:
            self._guard.took(descriptor, size, count)
            with suppress(Overloaded):
                self._send_unless_gone(
                    ident, refuse_unopened(frame.buffer, error, incarnation=self.incarnation)
                )
            return True
        if peer is None:
            self._guard.took_left_behind(size)
        else:
            self._guard.took(descriptor, size, count)
            peer._silent_s = 0.0
            peer._credit -= size
            if is_whole:
                self._hear(peer, frame.buffer)
            else:
                self._accuse(peer, "a message of several frames")
        return True

    def _hear(self, peer: Peer, frame: memoryview) -> None:
        role = self._role_of(peer)
        if role.name != peer._role_name:
            peer._role_name, peer._credit = role.name, role.burst
        if peer._credit < 0:
            self._refuse_over_budget(peer, role, frame)
            return
        try:
            envelope = peer._conversation.open(frame, role.decode)
        except StoreError as error:
            peer._credit -= (MALFORMED_COST - 1) * len(frame)
            self._accuse(peer, error.message)
            return
        if envelope is None:
            return
        self.counters.requests += 1
        request: Request = envelope.body  # type: ignore[assignment]  # `open` returns nothing else
        answer: Answer | None
        try:
            answer = self._answer_now(peer, request)
        except StoreError as error:
            answer = refusal_of(error)
        except Exception as error:
            answer = refusal_of_bug(error)
        if answer is not None:
            if role.is_nobody:
                self._note_introduction(peer)
            peer._conversation.reply(envelope.request_id, answer)
        else:
            self._answer_later(peer, role, envelope, len(frame))

    def _note_introduction(self, peer: Peer) -> None:
        """Before the next connection is accepted: from here on this one is not pushed out by others."""
        if not self._role_of(peer).is_nobody:
            self._newcomers.became_known(peer._descriptor)

    def _refuse_over_budget(self, peer: Peer, role: Role, frame: memoryview) -> None:
        """Refuse what a peer beyond its budget of bytes says, unread; who has not said who it is goes."""
        self.counters.over_budget += 1
        if role.is_nobody:
            self._held.hold(peer.user_id, trio.current_time())
            self.disconnect(peer, f"more than {role.bytes_per_s} bytes/s, and no word of who it is")
            return
        error = Overloaded(f"more than {role.bytes_per_s} bytes/s from one {role.name}: try again shortly")
        peer._conversation.refuse_unread(frame, error)

    def _answer_later(self, peer: Peer, role: Role, envelope: Envelope, size: int) -> None:
        assert self._nursery is not None
        conversation = peer._conversation
        peer_max = role.in_flight_max or self._limits.peer_in_flight
        cause = None
        if self._in_flight >= self._in_flight_max or conversation.running_count >= peer_max:
            cause = f"{self._in_flight} requests in work already, try again later"
        elif self._in_work.get(role.name, 0) + size > role.in_work_max:
            cause = f"{role.in_work_max} bytes of requests in work already, try again later"
        if cause is not None:
            self.counters.overloads += 1
            conversation.reply(envelope.request_id, refusal_of(Overloaded(cause)))
            return
        self._in_flight += 1
        self._in_work[role.name] = self._in_work.get(role.name, 0) + size
        conversation.begin(envelope)
        self._nursery.start_soon(self._run_answer, peer, role, envelope, size)

    async def _run_answer(self, peer: Peer, role: Role, envelope: Envelope, size: int) -> None:
        request: Request = envelope.body  # type: ignore[assignment]  # `open` returns nothing else
        try:
            await peer._conversation.answer(envelope, partial(self._answer, peer, request))
        finally:
            self._in_flight -= 1
            self._in_work[role.name] -= size
            if not peer.is_gone:
                self._note_introduction(peer)

    def _accuse(self, peer: Peer, what: str) -> None:
        self.counters.malformed += 1
        # Once a peer: whoever sends a million broken frames must not fill the log.
        level = logging.DEBUG if peer._is_accused else logging.WARNING
        peer._is_accused = True
        log.log(level, "bad frame", extra={"peer": peer.name, "user_id": peer.user_id, "cause": what})

    # --- who is there -----------------------------------------------------------------------------

    def _peer_of(self, ident: bytes, user_id: str, descriptor: int) -> Peer | None:
        """Return whom a message is from, None when they are gone already.

        Raises:
            PermissionDenied: the key was denied, or the routing id belongs to another one.
        """
        peer = self._peers.get(ident)
        if peer is not None and self._is_of(peer, descriptor) and peer.user_id == user_id:
            return peer
        if peer is not None:  # libzmq takes an id over only when its connection has ended
            self._gone(peer, "its routing id came through another connection")
        if self._known_ids.get(ident, user_id) != user_id:
            self._note_impostor(ident, user_id)
            raise PermissionDenied("this routing id belongs to another key")
        if user_id in self.denied:
            raise PermissionDenied("this key was denied")
        return self._meet(ident, user_id, descriptor)

    def _note_impostor(self, ident: bytes, user_id: str) -> None:
        self.counters.impostors += 1
        count = self.counters.impostors
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: seen, and no flood in the log
            names = {"peer": _name_of(ident), "user_id": user_id, "count": count}
            log.warning("routing id of another key refused", extra=names)

    def _is_of(self, peer: Peer, descriptor: int) -> bool:
        """Is what came through this descriptor from the connection that this peer is?"""
        if peer._descriptor != descriptor:
            return False
        generation = self._generations.get(descriptor, 0)
        if peer._generation != generation:  # the descriptor was reused, or its own event came late
            if connection_name(descriptor) != peer._connection:
                return False
            peer._generation = generation
        return True

    def _meet(self, ident: bytes, user_id: str, descriptor: int) -> Peer | None:
        if self._is_shut(descriptor):
            return None  # said before we turned them out, or by somebody who has not noticed yet
        # The message may have waited here longer than its sender lived.
        has_message(self._socket)
        with suppress(Overloaded):
            if not self._send_unless_gone(ident, PROBE):
                return None
        peer = Peer(self, ident=ident, user_id=user_id, descriptor=descriptor)
        self._peers[ident] = peer
        self._bound.setdefault(descriptor, set()).add(peer)
        self.counters.arrivals += 1
        log.debug("peer came", extra={"peer": peer.name, "user_id": user_id})
        return peer

    # --- who has left -----------------------------------------------------------------------------

    def _take_event(self, monitor: zmq.Socket[bytes]) -> bool:
        received = receive_event(monitor)
        if received is None:
            return False
        event, descriptor = received
        if event == zmq.Event.ACCEPTED:
            self._generations[descriptor] = self._generations.get(descriptor, 0) + 1
            if local_port(descriptor) == self._port:  # else it has ended, and the number is another's by now
                if self._guard.left_behind > LEFT_BEHIND_MAX:
                    self._shut_at_once(descriptor)
                else:
                    self._guard.opened(descriptor)
                    self._admit(descriptor)
        else:
            self._guard.closed(descriptor)
            self._newcomers.closed(descriptor)
            self._shut.pop(descriptor, None)
        self._departures.append(descriptor)  # accepted too: who had that descriptor before has lost it
        return True

    def _shut_at_once(self, descriptor: int) -> None:
        """Before it said a word: the guard knows nothing of it, and it leaves nothing behind."""
        self._note_turned_away(descriptor, "too much is still to be read of connections that have ended")
        name = connection_name(descriptor)
        if shut_connection(descriptor, name):
            self._note_shut(descriptor, name)

    def _admit(self, descriptor: int) -> None:
        for other in self._newcomers.accepted(descriptor, address_of(descriptor), trio.current_time()):
            self._turn_away(other, "too many connections that have not said who they are")

    def _act_on_departures(self) -> None:
        # Under a flood this is called now and then though there is more: that is no moment to think that
        # everything was read, or what waits would count as read, whatever it is.
        self._is_dry = self._is_dry or not has_message(self._socket)
        if not self._departures:
            return
        descriptors, self._departures = self._departures, []
        suspects = {peer for descriptor in descriptors for peer in self._bound.get(descriptor, ())}
        if suspects:
            self._probe(suspects)
            self._suspects |= {peer for peer in suspects if not peer.is_gone}
            self._suspicion.set()

    async def _recheck_forever(self) -> None:
        while True:
            await self._suspicion.wait()
            await trio.sleep(RECHECK_S)
            self._suspicion = trio.Event()
            suspects, self._suspects = self._suspects, set()
            self._probe(suspects)

    async def _sweep_forever(self) -> None:
        swept_at = trio.current_time()
        while True:
            await trio.sleep(self._limits.sweep_s / 10 if self._guard.is_alert else self._limits.sweep_s)
            self._shut_floods()
            self._shut_those_that_take_nothing()
            now_s = trio.current_time()
            if is_dry := not has_message(self._socket):
                self._held.release(now_s)
            if self._growth.is_too_much(self._guard.unheard_count, is_dry=is_dry, now_s=now_s):
                self._has_grown.set()
            for descriptor in self._newcomers.overdue(trio.current_time()):
                if not self._bound.get(descriptor):  # peers have an account of their own
                    self._turn_away(descriptor, f"no word for {self._limits.nobody_s:.3g} s")
            # What passed while this loop stood still counts little: peers may have spoken all the while.
            now = trio.current_time()
            passed_s = min(now - swept_at, 2 * self._limits.sweep_s)
            swept_at = now
            peers = list(self._peers.values())
            for start in range(0, len(peers), 256):
                self._sweep([peer for peer in peers[start : start + 256] if not peer.is_gone], passed_s)
                await trio.lowlevel.checkpoint()

    def _sweep(self, peers: list[Peer], passed_s: float) -> None:
        probe_s, due = self._limits.probe_s, []
        for peer in peers:
            self._keep_account(peer, passed_s)
            if peer.is_gone:
                continue
            if peer._silent_s == 0.0:  # heard from since the last sweep
                peer._unanswered, peer._progress = 0, None
            peer._silent_s += passed_s
            peer._unsent_s += passed_s
            peer._unprobed_s += passed_s
            # Whoever spoke a moment ago is there, as far as anybody can know yet.  A probe wakes both ends,
            # so where nothing happens there are few: they are most of what an idle store does.
            is_quiet = peer._silent_s >= probe_s or peer._unsent_s >= probe_s
            if peer._stalled_at is not None or (is_quiet and peer._unprobed_s >= probe_s):
                due.append(peer)
            elif self._is_frozen(peer):
                self.disconnect(peer, f"it said nothing for {peer._silent_s:.1f} s and answered no probe")
        for peer in due:
            self._look_for_life(peer)
        self._probe(due)

    def _keep_account(self, peer: Peer, passed_s: float) -> None:
        """Top up its credit, and see whether it has said who it is."""
        role = self._role_of(peer)
        peer._credit = min(peer._credit + role.bytes_per_s * passed_s, role.burst)
        if not role.is_nobody:
            peer._nobody_s = 0.0
            self._newcomers.became_known(peer._descriptor)
            return
        peer._nobody_s += passed_s
        if peer._nobody_s > self._limits.nobody_s:
            self.counters.turned_away += 1
            self.disconnect(peer, f"it has not said for {self._limits.nobody_s:.3g} s who it is")

    def _is_frozen(self, peer: Peer) -> bool:
        return (
            (peer._is_judged or peer._conversation.has_shown_life)
            and peer._unanswered >= 2
            and peer._silent_s >= self._limits.silence_s
        )

    def _look_for_life(self, peer: Peer) -> None:
        """Ask the kernel whether something moved since the last probe: that is life, too."""
        peer._unprobed_s = 0.0
        before, peer._progress = peer._progress, progress_of(peer._descriptor)
        if before is None or peer._progress is None or not peer._progress.has_moved_since(before):
            return
        if peer._progress.received > before.received:
            peer._is_judged = True
        peer._unanswered = 0
        peer._silent_s = min(peer._silent_s, self._limits.probe_s)  # it may be that long ago

    def _shut_floods(self) -> None:
        if not has_message(self._socket):
            self._guard.left_behind = 0.0
        for descriptor in self._guard.backlogged():
            self._shut_flood(descriptor, "more messages than it may have under way")
        if not self._is_dry and has_message(self._socket):
            return  # busy all the time: a connection that we did not get round to is not to blame
        self._is_dry = False
        for descriptor in self._guard.check(elapsed_s=self._limits.sweep_s):
            self._shut_flood(descriptor, "a message without end")

    def _shut_flood(self, descriptor: int, cause: str) -> None:
        self.counters.floods += 1
        peers = list(self._bound.get(descriptor, ()))
        log.warning("connection shut", extra={"peers": [peer.name for peer in peers], "cause": cause})
        if name := self._guard.shut(descriptor):
            self._note_shut(descriptor, name)
        for peer in peers:
            self._held.hold(peer.user_id, trio.current_time())
            self._gone(peer, cause)

    def _probe(self, peers: Iterable[Peer]) -> None:
        has_message(self._socket)  # have libzmq take note of what has ended, a send may put that off
        for peer in peers:
            if peer.is_gone:
                continue
            try:
                if self._send_unless_gone(peer.ident, PROBE):
                    peer._stalled_at = None
                    peer._unanswered += 1
                    peer._unsent_s = 0.0
                else:
                    self._gone(peer, "its connection ended")
            except Overloaded:
                self._note_stall(peer)
        self._owned.poke()

    def _note_stall(self, peer: Peer) -> None:
        """A full queue is slow, not gone; but not forever."""
        peer._unanswered = 0  # no probe gets through: what it would answer, nobody knows
        now = trio.current_time()
        if peer._stalled_at is None:
            peer._stalled_at = now
        elif now - peer._stalled_at > self._limits.stall_s:
            self.disconnect(peer, f"it took nothing for {self._limits.stall_s:.3g} s")

    def _gone(self, peer: Peer, cause: str) -> None:
        if peer.is_gone:
            return
        self._forget(peer, cause)
        self._known_ids[peer.ident] = peer.user_id
        self._known_ids.move_to_end(peer.ident)
        if len(self._known_ids) > KNOWN_IDS_MAX:
            self._known_ids.popitem(last=False)
        self.counters.departures += 1
        log.debug("peer gone", extra={"peer": peer.name, "cause": cause})
        try:
            self._on_gone(peer)
        except Exception as error:  # the owner's bug must not keep the others' departures from being noticed
            log.error("on_gone failed", exc_info=error)

    def _forget(self, peer: Peer, cause: str) -> None:
        peer.is_gone = True
        del self._peers[peer.ident]
        bound = self._bound[peer._descriptor]
        bound.discard(peer)
        if not bound:
            del self._bound[peer._descriptor]
        self._suspects.discard(peer)
        peer._conversation.end(f"{peer.name} is gone: {cause}")

    def _turn_away(self, descriptor: int, cause: str) -> None:
        """Shut a connection that is nobody's, or whose peers count as nobody."""
        if self._is_shut(descriptor):
            return
        self._note_turned_away(descriptor, cause)
        if name := self._guard.shut(descriptor):
            self._note_shut(descriptor, name)
        for peer in list(self._bound.get(descriptor, ())):
            self._gone(peer, cause)

    def _note_shut(self, descriptor: int, name: str) -> None:
        self._shut[descriptor] = self._generations.get(descriptor, 0), name

    def _is_shut(self, descriptor: int) -> bool:
        """Is the connection that has this descriptor one that we shut?

        Another one has it at once, and may speak before we are told that there is another one.
        """
        generation, name = self._shut.get(descriptor, (-1, ""))
        if generation != self._generations.get(descriptor, 0):
            return False
        return connection_name(descriptor) in ("", name)

    def _note_turned_away(self, descriptor: int, cause: str) -> None:
        self.counters.turned_away += 1
        count = self.counters.turned_away
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: seen, and no flood in the log
            names = {"address": address_of(descriptor), "cause": cause, "count": count}
            log.warning("connection shut", extra=names)

    # --- turning peers out ------------------------------------------------------------------------

    def disconnect(self, peer: Peer, cause: str = "the hub closed the connection") -> None:
        """Close a peer's connection; its link notices at once, and may come back as a new peer."""
        if peer.is_gone:
            return
        if shut_connection(peer._descriptor, peer._connection):
            self._shut[peer._descriptor] = peer._generation, peer._connection
        self._gone(peer, cause)

    def drop(self, user_id: str) -> int:
        """Deny a key: its connections end now and it gets no new ones; return how many ended."""
        self.denied.add(user_id)
        peers = [peer for peer in self._peers.values() if peer.user_id == user_id]
        for peer in peers:
            self.disconnect(peer, "its key was denied")
        return len(peers)

    # --- sending ----------------------------------------------------------------------------------

    def _send(self, peer: Peer, frame: bytes) -> None:
        try:
            is_sent = self._send_unless_gone(peer.ident, frame)
        except Overloaded:
            self._note_stall(peer)
            raise
        if not is_sent:
            self._gone(peer, "its connection ended")
            raise LinkDown(f"{peer.name} is gone")
        peer._unsent_s = 0.0
        peer._sent_bytes += len(frame)
        if peer._sent_bytes - peer._taken_bytes > UNTAKEN_LOOK and self._untaken(peer) > self._limits.untaken:
            self.disconnect(peer, f"it does not take its answers: {self._limits.untaken} bytes wait for it")
        self._owned.poke()

    def _untaken(self, peer: Peer) -> int:
        """Ask the kernel how much of what we sent a peer is not acknowledged yet."""
        progress = progress_of(peer._descriptor)
        if progress is None:
            return 0
        peer._taken_bytes = progress.acknowledged
        peer._sent_bytes = max(peer._sent_bytes, progress.acknowledged)  # encryption and probes on top
        return peer._sent_bytes - peer._taken_bytes

    def _shut_those_that_take_nothing(self) -> None:
        """Bound what all peers together have us hold for them: those with most go first."""
        queued = {
            peer: self._untaken(peer)
            for peer in self._peers.values()
            if peer._sent_bytes - peer._taken_bytes > UNTAKEN_LOOK
        }
        total = sum(queued.values())
        for peer in sorted(queued, key=lambda peer: queued[peer], reverse=True):
            if total <= UNTAKEN_TOTAL_MAX:
                break
            total -= queued[peer]
            self.disconnect(peer, f"it does not take its answers: {queued[peer]} bytes wait for it")

    def _send_unless_gone(self, ident: bytes, frame: bytes) -> bool:
        """Send a frame; False when nobody has that routing id now.

        Raises:
            Overloaded: the queue of that connection is full.
        """
        try:
            self._socket.send(ident, NOBLOCK | SNDMORE)  # decides: the rest of a message always fits
            self._socket.send(frame, NOBLOCK)
        except zmq.Again as error:
            raise Overloaded(f"the queue of {_name_of(ident)} is full") from error
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True


def _is_ipv6_only(endpoint: str) -> bool:
    """Whether a host has no IPv4 address: libzmq has to be told, and refuses itself what is no host."""
    try:
        found = getaddrinfo(host_and_port(endpoint)[0], None, type=SOCK_STREAM)
    except (OSError, ValueError):
        return "[" in endpoint
    return {family for family, *_ in found} == {AF_INET6}


@dataclass
class _Opened:
    """What is open while the hub listens."""

    context: zmq.Context[zmq.Socket[bytes]]
    zap: ZapHandler
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]

    def close(self) -> None:
        """Close all of it; a second call does nothing."""
        if self.context.closed:
            return
        close_monitored(self.socket, self.monitor)
        self.zap.close()
        self.context.destroy(linger=0)


def _name_of(ident: bytes) -> str:
    """The readable part of a routing id: peers choose it, so it goes to logs in harmless characters only."""
    name, _, _ = ident.rpartition(b"-")
    text = (name or ident)[:64].decode("ascii", "backslashreplace")
    return text if text.isprintable() else (name or ident)[:32].hex()
