"""Link: the DEALER end of the control plane; it keeps itself connected.

    connecting --handshake--> greeting --greet() returned--> up --connection ends--> connecting ...
         ^                        |
         +------- refused, or the connection ended (with a growing pause) -------+

Every connection is a new socket with a new routing id (the link's name and random digits).  So no frame
that was meant for an old connection is ever delivered through a new one: libzmq alone would keep requests for
a hub that is down, and hand them to the next process that listens there.  Requests that waited for an answer
fail at once with LinkDown.  The caller decides what to do, because only the caller knows whether it is safe
to repeat the request.

A link answers the hub's early requests after `greet` has returned: the owner sees its own registration first.

How a link notices that the hub is frozen or unplugged.  The hub says something to every link at least once a
second, if only a probe, which a link answers before anything else.  After `SILENCE_S` without a word the link
knocks at the hub's port (see `knock`).  If nobody greets, the hub is frozen or gone, and the link ends the
connection.  If somebody does, the hub's loop is busy, and the link waits, up to `BUSY_MAX_S`.  Only time in
which our own loop was awake counts.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType

import trio
import zmq

from warehouse.errors import (
    BadCredentials,
    BadRequest,
    BadSetting,
    Busy,
    DataDamaged,
    DeadlineExceeded,
    LinkDown,
    Overloaded,
    RequestRefused,
    StoreError,
    Unavailable,
    from_code,
)
from warehouse.transport.messages import FRAME_SIZE_MAX, Answer, Envelope, Request
from warehouse.transport.zeromq.conversation import Conversation, refusal_of
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.knock import is_greeted, needs_ipv6
from warehouse.transport.zeromq.owned_socket import (
    NOBLOCK,
    OwnedSocket,
    close_monitored,
    has_message,
    open_monitor,
    receive_event,
    watch_with_tcp,
)

log = logging.getLogger(__name__)

CURVE_OVERHEAD = 64
IN_FLIGHT_MAX = 1024  # requests that wait for an answer; more wait for their turn
QUEUE_MAX = 4 * IN_FLIGHT_MAX  # libzmq's; the turns of IN_FLIGHT_MAX run out first
ANSWERS_MAX = 1024  # requests of the hub in work or waiting for `greet`
PAUSE_MIN_S = 0.05  # after a refused greeting or handshake; doubles up to PAUSE_MAX_S
PAUSE_MAX_S = 5.0
ASKED_MAX_S = 60.0  # a hub that is busy may put us off for this long
SILENCE_S = 2.5  # without a word from the hub: knock
KNOCK_S = 1.0  # a greeting takes no longer
BUSY_MAX_S = 30.0  # the link gives up a hub that greets and says nothing for this long
LOOK_S = 0.25  # how often the link looks at the silence
UNPLUGGED_S = 10.0  # TCP ends a connection that acknowledges nothing for this long
assert SILENCE_S + KNOCK_S + 2 * LOOK_S < 5  # how soon a link notices a frozen hub, as documented
_FAILED = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
_MONITORED = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | _FAILED


async def _answer_nothing(request: Request) -> Answer:
    raise BadRequest(f"this actor does not answer {type(request).__name__}")


class Link:
    """A connection to a hub that comes back automatically.

    Args:
        endpoint: where the hub listens, "tcp://host:port".
        server_key: the hub's public key; no other process can answer in its place.  Behind a space, there may
            be the key that it will have later; see `expect_keys`.
        read_server_key: reads the same where it is kept; asked when a handshake fails, in a thread.
        keys: our own identity.
        name: how logs call this link, ASCII; the routing id starts with it.
        incarnation: our process's boot number, written on every message.
        greet: sends the first requests of every new connection, with `ask_now`; then the link is up.
        answer: answers what the hub asks, each in a task of its own within the request's budget.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        server_key: bytes,
        keys: CurveKeys,
        name: str,
        incarnation: int,
        greet: Callable[[Link], Awaitable[None]] | None = None,
        answer: Callable[[Request], Awaitable[Answer]] | None = None,
        read_server_key: Callable[[], bytes] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self.incarnation = incarnation
        # Why the hub turned this link away last time; None once the hub lets it in.
        self.refusal: StoreError | None = None
        self.trouble: StoreError | None = None  # why the last greeting failed, if another try may succeed
        self.connect_count = 0  # greetings that succeeded
        self.server_key, _, other = server_key.partition(b" ")  # that the link uses now
        self._other_key = other or None
        self._read_server_key = read_server_key
        self._known_server_key = server_key
        self._keys = keys
        self._greet = greet
        self._answer = answer or _answer_nothing
        self._turns = trio.Semaphore(IN_FLIGHT_MAX)
        self._connection: _Connection | None = None
        self._is_up = False
        self._down = trio.Event()
        self._down.set()
        self._news = trio.Event()  # set when the link comes up or is turned away, and replaced then

    @property
    def is_up(self) -> bool:
        return self._is_up

    def expect_keys(self, next_server_key: bytes | None) -> None:
        """What the hub, at the key in use, says about the key that it will have later; None: this one stays.

        From a handshake that fails on, the link tries the two in turns.
        """
        self._other_key = None if next_server_key == self.server_key else next_server_key

    async def _try_other_key(self) -> None:
        """After a handshake that failed: what is kept may be newer, or the other key may be in use by now."""
        kept = self._known_server_key
        if self._read_server_key is not None:
            try:
                kept = await trio.to_thread.run_sync(self._read_server_key)
            except StoreError as error:
                log.info("server key not read again", extra={"cause": error.message})
        if kept != self._known_server_key:
            self._known_server_key = kept
            self.server_key, _, other = kept.partition(b" ")
            self._other_key = other or None
        elif self._other_key is not None:
            self.server_key, self._other_key = self._other_key, self.server_key

    # --- asking -----------------------------------------------------------------------------------

    async def request(self, body: Request, *, timeout_s: float) -> Answer:
        """Ask the hub; waits for the link to be up, and for a turn, within the same time.

        Raises:
            LinkDown: no connection in time (nothing was sent), or it ended before the answer came.
            DeadlineExceeded: no answer in time; the request may or may not have taken effect.
            StoreError: the hub refused this request, or turned the link away (`refusal`).
        """
        deadline = trio.current_time() + timeout_s
        try:
            self._turns.acquire_nowait()
        except trio.WouldBlock:
            await self._wait_for_turn(body, deadline)
        try:
            if not self._is_up:
                with trio.move_on_at(deadline):
                    await self.wait_up()
            if not self._is_up:
                raise LinkDown(f"no connection to {self.endpoint} within {timeout_s:.3g} s")
            return await self.ask_now(body, timeout_s=deadline - trio.current_time())
        finally:
            self._turns.release()

    async def _wait_for_turn(self, body: Request, deadline: float) -> None:
        with trio.move_on_at(deadline) as scope:
            await self._turns.acquire()
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"{IN_FLIGHT_MAX} requests before {type(body).__name__}; it was not sent")

    async def ask_now(self, body: Request, *, timeout_s: float) -> Answer:
        """Ask on the present connection, up or only greeting; raises as `request` does."""
        if self._connection is None:
            raise LinkDown(f"no connection to {self.endpoint}")
        return await self._connection.conversation.ask(body, timeout_s=timeout_s)

    async def wait_up(self) -> None:
        """Wait until the link is up.

        Raises:
            StoreError: the hub turned us away; the link goes on trying.
        """
        while not self.is_up:
            if self.refusal is not None:
                raise from_code(self.refusal.code, self.refusal.message)
            await self._news.wait()

    async def wait_down(self) -> None:
        """Wait until the link is not up."""
        await self._down.wait()

    # --- life -------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and connect again, until cancelled.  Reports started at once; use `wait_up` for the rest.

        Raises:
            BadSetting: the endpoint or the hub's key can never work.
        """
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                pause_s = PAUSE_MIN_S
                while True:
                    was_up = await self._connect_once(context, nursery)
                    pause_s = PAUSE_MIN_S if was_up else min(2 * pause_s, PAUSE_MAX_S)
                    # Spread out: after the hub's restart all its links come at once.
                    spread = random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
                    await trio.sleep(spread * max(pause_s, 2 * self._asked_to_wait_s()))
        finally:
            context.destroy(linger=0)

    def _asked_to_wait_s(self) -> float:
        """When the hub wants us back, which was too busy for our greeting."""
        return min(self.trouble.retry_after_s, ASKED_MAX_S) if isinstance(self.trouble, Busy) else 0.0

    async def _connect_once(self, context: zmq.Context[zmq.Socket[bytes]], answers: trio.Nursery) -> bool:
        """Live through one connection; return whether the link was up on it."""
        was_up = False
        try:
            is_ipv6 = await needs_ipv6(self.endpoint)
        except OSError as error:
            log.info("not connected", extra={"endpoint": self.endpoint, "cause": str(error)})
            return False
        with _Connection(self, context, answers, is_ipv6=is_ipv6) as connection:
            async with trio.open_nursery() as nursery:
                connection.start(nursery)
                self._connection = connection
                try:
                    was_up = await self._greet_on(connection)
                    if was_up:
                        await connection.ended.wait()
                finally:
                    self._connection = None
                    if was_up:
                        self._is_up = False
                        self._down.set()
                        log.info("link down", extra={"endpoint": self.endpoint, "cause": connection.cause})
                nursery.cancel_scope.cancel()
        return was_up

    async def _greet_on(self, connection: _Connection) -> bool:
        await connection.ready.wait()
        if connection.ended.is_set():
            if connection.refusal is not None:
                self._note_refusal(connection.refusal)
            else:
                log.info("not connected", extra={"endpoint": self.endpoint, "cause": connection.cause})
                await self._try_other_key()  # so ends a handshake with a hub that has another key
            return False
        connection.conversation.show_life()  # this link answers probes: the hub may judge it by them at once
        try:
            if self._greet is not None:
                await self._greet(self)
        except StoreError as error:
            if isinstance(error, RequestRefused | DataDamaged):
                self._note_refusal(error)
            else:
                self.trouble = error
                level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
                log.log(level, "greeting failed", extra={"endpoint": self.endpoint, "cause": error.message})
            return False
        if connection.ended.is_set():
            return False
        self.refusal = self.trouble = None
        self.connect_count += 1
        self._is_up = True
        self._down = trio.Event()
        self._tell_waiters()
        log.info("link up", extra={"endpoint": self.endpoint})
        connection.answer_held()
        return True

    def _note_refusal(self, error: StoreError) -> None:
        if self.refusal is None or self.refusal.code != error.code:
            log.warning(
                "turned away", extra={"endpoint": self.endpoint, "code": error.code, "cause": error.message}
            )
        self.refusal = error
        self._tell_waiters()

    def _tell_waiters(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


class _Connection:
    """One DEALER socket, from connecting to its end."""

    def __init__(
        self, link: Link, context: zmq.Context[zmq.Socket[bytes]], answers: trio.Nursery, *, is_ipv6: bool
    ) -> None:
        self.ready = trio.Event()  # the handshake is done, or the connection ended before that
        self.ended = trio.Event()
        self.cause = "closed"
        self.refusal: StoreError | None = None
        self.conversation = Conversation(incarnation=link.incarnation, send=self._send)
        self._link = link
        self._is_ipv6 = is_ipv6
        self._answers = answers
        self._held: list[Envelope] | None = []  # what the hub asked before the greeting was done
        self._end_cause: str | None = None
        self._silent_s = 0.0  # of our own waking time, since the hub said anything
        self._socket = context.socket(zmq.DEALER)
        self._monitor = open_monitor(context, self._socket, _MONITORED)
        self._owned = OwnedSocket(self._socket, self._take, on_dry=self._end_when_due)

    def __enter__(self) -> _Connection:
        try:
            self._connect()
        except BaseException:
            close_monitored(self._socket, self._monitor)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.conversation.end(f"the connection to {self._link.endpoint} was closed")
        close_monitored(self._socket, self._monitor)

    def _connect(self) -> None:
        socket, link = self._socket, self._link
        socket.linger = 0
        socket.ipv6 = self._is_ipv6
        socket.routing_id = f"{link.name}-{secrets.token_hex(8)}".encode()
        socket.immediate = True  # nothing is queued for a hub that is not there
        socket.sndhwm = socket.rcvhwm = QUEUE_MAX
        socket.maxmsgsize = FRAME_SIZE_MAX + CURVE_OVERHEAD
        socket.connect_timeout = 5000
        socket.handshake_ivl = 5000
        socket.reconnect_ivl = 20
        socket.reconnect_ivl_max = 1000
        watch_with_tcp(socket, timeout_s=UNPLUGGED_S)
        try:
            socket.curve_serverkey = link.server_key
            socket.curve_publickey = link._keys.public
            socket.curve_secretkey = link._keys.secret
            socket.connect(link.endpoint)
        except zmq.ZMQError as error:
            raise BadSetting(f"cannot connect to {link.endpoint}: {error.strerror}") from error

    def start(self, nursery: trio.Nursery) -> None:
        watch = OwnedSocket(self._monitor, self._take_event, on_dry=self._owned.wake)
        nursery.start_soon(watch.run)
        nursery.start_soon(self._owned.run)
        nursery.start_soon(self._watch_silence)

    # --- what happens to the connection -----------------------------------------------------------

    def _take_event(self) -> bool:
        received = receive_event(self._monitor)
        if received is None:
            return False
        event, value = received
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self.ready.set()
        else:
            if event == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self.refusal = BadCredentials(f"{self._link.endpoint} does not admit our key ({value})")
            self._end_cause = (
                "the connection ended" if event == zmq.Event.DISCONNECTED else "the handshake failed"
            )
        return True

    def _end_when_due(self) -> None:
        """End after the socket was drained: answers that arrived before the end still count."""
        if self._end_cause is not None and not self.ended.is_set():
            self.cause = self._end_cause
            self.conversation.end(f"{self._end_cause}: {self._link.endpoint}")
            self.ended.set()
            self.ready.set()

    async def _watch_silence(self) -> None:
        await self.ready.wait()
        looked_at, knocked_at = trio.current_time(), 0.0
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            self._silent_s += min(now - looked_at, 2 * LOOK_S)  # our own pause is not the hub's silence
            looked_at = now
            if self._silent_s < SILENCE_S:
                knocked_at = 0.0
                if SILENCE_S / 2 <= self._silent_s < SILENCE_S / 2 + 2 * LOOK_S:
                    self.conversation.show_life()  # a hub that never heard from us does not probe us
            elif self._silent_s - knocked_at >= KNOCK_S:
                knocked_at = self._silent_s
                is_alive = await is_greeted(self._link.endpoint, timeout_s=KNOCK_S)
                if self._silent_s == knocked_at and (not is_alive or self._silent_s > BUSY_MAX_S):
                    self._end_cause = f"the hub said nothing for {self._silent_s:.1f} s"
                    self._owned.wake()
                    self._end_when_due()
                    return
                looked_at = trio.current_time()

    # --- messages ---------------------------------------------------------------------------------

    def _take(self) -> bool:
        try:
            frame = self._socket.recv(NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self._silent_s = 0.0
        is_whole = not frame.more
        while frame.more:
            frame = self._socket.recv(copy=False)
        if not is_whole:
            return True
        if len(frame):
            self._handle_frame(frame.buffer)
        else:
            self.conversation.show_life()  # the hub's probe
        return True

    def _handle_frame(self, frame: memoryview) -> None:
        try:
            envelope = self.conversation.open(frame)
        except StoreError as error:
            log.warning("bad frame", extra={"endpoint": self._link.endpoint, "cause": error.message})
            return
        if envelope is None:
            return
        if self.conversation.running_count >= ANSWERS_MAX:
            overload = Overloaded(f"{ANSWERS_MAX} requests in work already, try again later")
            self.conversation.reply(envelope.request_id, refusal_of(overload))
            return
        self.conversation.begin(envelope)
        if self._held is not None:
            self._held.append(envelope)
        else:
            self._start_answer(envelope)

    def answer_held(self) -> None:
        held, self._held = self._held or [], None
        for envelope in held:
            self._start_answer(envelope)

    def _start_answer(self, envelope: Envelope) -> None:
        request: Request = envelope.body  # type: ignore[assignment]  # `open` returns nothing else
        self._answers.start_soon(self.conversation.answer, envelope, partial(self._link._answer, request))

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame, NOBLOCK)
        except zmq.Again:
            has_message(self._socket)  # libzmq takes note here of a connection that was just made
            try:
                self._socket.send(frame, NOBLOCK)
            except zmq.Again as error:
                raise LinkDown(f"the connection to {self._link.endpoint} takes no messages") from error
        self._owned.poke()
