"""Router: the hub's listening socket, with the monitor of its connections and their handshakes.

The socket is a ROUTER under CURVE.  ROUTER_MANDATORY makes a send tell whether anybody has that routing id
now.  libzmq's heartbeats stay off, see `liveness`.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from socket import AF_INET6, SOCK_STREAM, getaddrinfo
from socket import socket as Socket

import trio
import zmq

from warehouse.errors import BadSetting, Overloaded
from warehouse.transport.barrier import Barrier
from warehouse.transport.endpoints import host_and_port
from warehouse.transport.messages import FRAME_SIZE_MAX
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.limits import HubLimits
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
from warehouse.transport.zeromq.zap import DOMAIN, ZapHandler

CURVE_OVERHEAD = 64  # bytes that encryption adds to a frame, generously (RFC 26: 33)
EVENTS_REST_S = 0.002  # connections that come faster than that are looked at together
EVENTS_BATCH = 16  # at up to 50 us each; messages of others must not wait for a flood of connections
_MONITORED = zmq.Event.LISTENING | zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED


class Router:
    """The socket of a hub while it listens; it may be closed and opened again, then with the present `keys`.

    Args:
        denied: keys that finish no handshake.
        held: keys that get no new connection yet.
        barrier: stands before the socket.
        take: receives one message and acts on it; False when there is none.
        on_event: told of every connection that was accepted or ended (the event, its descriptor).
        on_dry: called each time nothing is left to receive.
    """

    socket: zmq.Socket[bytes]
    bound_endpoint = ""
    port = 0

    def __init__(
        self,
        *,
        keys: CurveKeys,
        limits: HubLimits,
        denied: set[str],
        held: Container[str],
        barrier: Barrier,
        take: Callable[[], bool],
        on_event: Callable[[int, int], None],
        on_dry: Callable[[], None],
    ) -> None:
        self.keys = keys
        self._limits = limits
        self._denied = denied
        self._held = held
        self._barrier = barrier
        self._listener: Socket | None = None  # libzmq's
        self._take = take
        self._on_event = on_event
        self._on_dry = on_dry
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    # --- life -------------------------------------------------------------------------------------

    def open(self, endpoint: str) -> None:
        """Listen on `endpoint`.

        Raises:
            BadSetting: the endpoint cannot be bound.
        """
        self._context = context = zmq.Context()
        try:
            self._zap = ZapHandler(context, self._denied, self._held)
            self.socket = context.socket(zmq.ROUTER)
            self._monitor = open_monitor(context, self.socket, _MONITORED)
            self._owned = OwnedSocket(self.socket, self._take, on_dry=self._on_dry)
            try:
                self._bind(endpoint)
                self._find_listener()
            except BaseException:
                self.close()
                raise
        except BaseException:
            context.destroy(linger=0)
            raise

    async def run(self) -> None:
        """Receive until cancelled."""
        watch = OwnedSocket(
            self._monitor, self._take_event, on_dry=self._owned.wake, rest_s=EVENTS_REST_S, batch=EVENTS_BATCH
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._barrier.run)
            nursery.start_soon(self._zap.run)
            nursery.start_soon(watch.run)
            nursery.start_soon(self._owned.run)

    def close(self) -> None:
        """Close all of it; a second call does nothing."""
        if self._context is None or self._context.closed:
            return
        self._barrier.step_aside()
        if self._listener is not None:
            self._listener.detach()
            self._listener = None
        close_monitored(self.socket, self._monitor)
        self._zap.close()
        self._context.destroy(linger=0)

    def _bind(self, endpoint: str) -> None:
        socket, limits = self.socket, self._limits
        socket.linger = 0
        socket.ipv6 = _is_ipv6_only(endpoint)
        socket.router_mandatory = True
        socket.sndhwm = limits.queue
        # Not bounded here.  With a bound, libzmq stops reading a connection whose queue is full, and a
        # connection that ends in that state stays half dead until it is drained: the state in which its
        # timers and PING commands abort the process.  `FloodGuard` bounds what may wait instead.
        socket.rcvhwm = 0
        socket.maxmsgsize = FRAME_SIZE_MAX + CURVE_OVERHEAD
        socket.backlog = limits.backlog
        socket.handshake_ivl = limits.handshake_ms
        watch_with_tcp(socket, timeout_s=limits.stall_s)
        socket.zap_domain = DOMAIN
        socket.curve_server = True
        socket.curve_publickey = self.keys.public
        socket.curve_secretkey = self.keys.secret
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise BadSetting(f"cannot listen on {endpoint}: {error.strerror}") from error
        self.bound_endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.port = host_and_port(self.bound_endpoint)[1]

    def _find_listener(self) -> None:
        received = receive_event(self._monitor)  # libzmq tells of it before `bind` returns
        assert received is not None
        assert received[0] == zmq.Event.LISTENING
        self._listener = Socket(fileno=received[1])
        self._barrier.stand_before(self._listener)

    def take_events(self) -> None:
        """Hear of all connections that have come or ended by now."""
        while has_message(self._monitor):  # to receive nothing would take ten times as long
            self._take_event()

    def _take_event(self) -> bool:
        received = receive_event(self._monitor)
        if received is None:
            return False
        self._on_event(*received)
        return True

    # --- messages ---------------------------------------------------------------------------------

    def has_message(self) -> bool:
        """Is there something to receive?  Also has libzmq take note of connections that came or ended."""
        return has_message(self.socket)

    def send_unless_gone(self, ident: bytes, frame: bytes) -> bool:
        """Send a frame; False when nobody has that routing id now.  Call `poke` afterwards.

        Raises:
            Overloaded: the queue of that connection is full.
        """
        try:
            self.socket.send(ident, NOBLOCK | SNDMORE)  # decides: the rest of a message always fits
            self.socket.send(frame, NOBLOCK)
        except zmq.Again as error:
            raise Overloaded(f"the queue of {name_of(ident)} is full") from error
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def poke(self) -> None:
        """Look for what arrived during a send; call it after every send."""
        self._owned.poke()


def name_of(ident: bytes) -> str:
    """The readable part of a routing id; peers choose it, so only harmless characters of it go to logs."""
    name, _, _ = ident.rpartition(b"-")
    text = (name or ident)[:64].decode("ascii", "backslashreplace")
    return text if text.isprintable() else (name or ident)[:32].hex()


def _is_ipv6_only(endpoint: str) -> bool:
    """Whether a host has no IPv4 address: libzmq has to be told, and refuses itself what is no host."""
    try:
        found = getaddrinfo(host_and_port(endpoint)[0], None, type=SOCK_STREAM)
    except (OSError, ValueError):
        return "[" in endpoint
    return {family for family, *_ in found} == {AF_INET6}
