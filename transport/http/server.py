"""HTTP server: the lean HTTP/1.1 of the data plane, on Trio.

A handler gets one `Exchange` at a time: the request as read by `heads`, its body on demand, and one answer.
The server decides what happens around the handler:

- An error before the answer has begun becomes an answer (`refusals`).  After that, an error closes the
  connection: a client never takes a torn body for a whole one.
- The server throws a small unread body away.  For a larger one the answer says `Connection: close`, and the
  socket stays half open until the client has had time to read the answer.  To close immediately would make
  the kernel send a reset, which can overtake the answer.
- `Expect: 100-continue` is answered when the handler first asks for the body, so it can refuse first.
- A bug in a handler costs one connection, never the server.

Most requests of a busy server are plain GETs and HEADs that need no wait.  They need no exchange and no
coroutine either: the server first asks `handle_nowait`, a plain function, and asks the handler only when that
function has no answer.

`leader_followers` decides which task serves which connection.  `connection` owns the raw socket and the time
limits.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, ParamSpec

import trio

from warehouse.errors import Overloaded, RequestTimeout, StoreError
from warehouse.transport.endpoints import host_in_url, origin_of
from warehouse.transport.http.channel import JOIN_SIZE, Body, plain_socket, prepare_socket
from warehouse.transport.http.connection import Connection, HttpLimits, State
from warehouse.transport.http.exchange import Exchange, Handler, Shared
from warehouse.transport.http.head_memo import Recalled
from warehouse.transport.http.heads import NEEDLE_RULES, HeadRules
from warehouse.transport.http.leader_followers import LeaderFollowers, Outcome, Serving
from warehouse.transport.http.refusals import NEEDLE_REFUSALS, InternalError, Refusals
from warehouse.transport.http.resting import Resting
from warehouse.transport.http.rules import CorsRule
from warehouse.transport.http.tls import ServerTls
from warehouse.transport.http.tls_connection import TlsConnection
from warehouse.transport.seldom import Seldom

log = logging.getLogger(__name__)

P = ParamSpec("P")

# Takes a plain GET or HEAD.  Returns the status of its answer, the header lines with the empty one, and the
# body; or None, and the server asks the handler.  Raises BlockingIOError when the handler will have to wait.
# An answer means that the client has shown a good token.
NowaitHandler = Callable[[Recalled], tuple[int, bytes, Body] | None]

ACCEPT_PAUSE_S = 0.1  # after the system ran out of descriptors or memory
ACCEPTED_AT_ONCE = 32  # connections between two turns of the other tasks
REFUSING_MAX = 64  # connections over the limit that get an answer at the same time; others are just closed
STRANGERS_CLOSED = 8  # silent ones, when the system ran out of those
STOP_GRACE_S = 5.0
OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class HttpServer:
    """Listens, has leader and followers serve the connections, and ends waits that last too long."""

    def __init__(
        self,
        handler: Handler,
        *,
        handle_nowait: NowaitHandler | None = None,
        limits: HttpLimits | None = None,
        cors_origins: Sequence[str] = (),
        server_name: bytes = b"warehouse",
        tls: ServerTls | None = None,
        rules: HeadRules = NEEDLE_RULES,
        refusals: Refusals = NEEDLE_REFUSALS,
    ) -> None:
        """
        Args:
            tls: the certificate to show; None: connections are plain.
            rules: which unusual requests the handler understands.
            refusals: what a client hears whose request fails.
        """
        self._tls = tls
        cors = CorsRule(cors_origins)
        self._shared = Shared(
            handler, limits or HttpLimits(), cors, server_name, self._close, rules, refusals
        )
        self._handle_nowait = handle_nowait
        self._leader_followers = LeaderFollowers(self._serve, self._send)
        self._resting = Resting(
            self._shared.limits, self._enter, self._leader_followers.go_on, is_tls=tls is not None
        )
        self._shared.admission.on_vouched = self._resting.give_back
        self._connections: set[Connection] = set()
        self._nursery: trio.Nursery | None = None  # of the tasks that serve
        self._refusing = 0
        self._refusing_max = min(REFUSING_MAX, self._shared.limits.connections)
        self._out_of_room = Seldom(log, "cannot accept connections")
        self._is_empty = trio.Event()  # set once we are stopping and the last connection is closed
        self._accepting = trio.CancelScope()
        self._serving = trio.CancelScope()

    def allow_origins(self, origins: Sequence[str]) -> None:
        """Have the next answers say that scripts of these pages, and of no others, may read them."""
        self._shared.cors = CorsRule(origins)

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, or until `stop` was called and the requests in flight are done.

        The listeners are closed then.
        """
        self._shared.look_at_clocks()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep, nursery)
                with self._serving:
                    async with trio.open_nursery() as serving:
                        self._nursery = serving
                        serving.start_soon(self._leader_followers.run)
                        with self._accepting:
                            await self._accept_all(listeners, task_status)
                        self._look_if_empty()
                        await self._is_empty.wait()
                        serving.cancel_scope.cancel()
                nursery.cancel_scope.cancel()
        finally:
            for connection in list(self._connections):
                self._close(connection)
            self._leader_followers.close()

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Accept no more connections, close idle ones, and give requests in flight `grace_s`."""
        self._shared.is_stopping = True
        self._handle_nowait = None  # from now on each answer says that its connection ends
        self._accepting.cancel()
        self._serving.deadline = trio.current_time() + grace_s
        for connection in list(self._connections):
            if connection.state is State.IDLE and (connection.is_between_requests or connection.is_resting):
                self._close(connection)

    async def _sweep(self, nursery: trio.Nursery) -> None:
        shared = self._shared
        while True:
            shared.look_at_clocks()
            for connection in list(self._connections):
                self._end_if_overdue(connection, nursery)
            await trio.sleep(shared.limits.sweep_s())

    def _end_if_overdue(self, connection: Connection, nursery: trio.Nursery) -> None:
        connection.wake_if_overdue()
        if connection.state is not State.IDLE or not connection.is_head_overdue:
            return
        if connection.is_between_requests:
            self._close(connection)
        else:
            # Now, and not in that task: the leader may run before it.
            connection.state, connection.has_task = State.RUNNING, True
            connection.stop_waiting()
            self._leader_followers.unwatch(connection)
            nursery.start_soon(self._time_out, connection)

    # --- accepting --------------------------------------------------------------------------------

    async def _accept_all(
        self,
        listeners: list[trio.SocketListener],
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._resting.run)
                for listener in listeners:
                    accepting.start_soon(self._accept, listener)
                task_status.started()
        finally:
            self._resting.barrier.step_aside()
            for listener in listeners:
                listener.socket.close()

    async def _accept(self, listener: trio.SocketListener) -> None:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as queue:
            self._resting.barrier.stand_before(queue)
            await self._accept_from(listener, queue)

    async def _accept_from(self, listener: trio.SocketListener, queue: socket.socket) -> None:
        """
        Args:
            queue: the listener once more, without Trio's wrapper, to take those who have come by now.
        """
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in OUT_OF_ROOM:
                    raise
                self._out_of_room.happened(cause=str(error))
                if not self._make_room():
                    await trio.sleep(ACCEPT_PAUSE_S)
            else:
                self._receive(plain_socket(stream))
                # With a flood in front, to wait for each of them would cost more than to take it.
                for _ in range(ACCEPTED_AT_ONCE):
                    try:
                        sock, _ = queue.accept()
                    except OSError:
                        break  # there is none, or `listener.accept` says what is wrong
                    prepare_socket(sock)
                    self._receive(sock)

    def _make_room(self) -> bool:
        """Close some who have shown no token; False: there is none that can be closed."""
        return bool(self._resting.drop(STRANGERS_CLOSED)) or self._shared.admission.make_room(
            STRANGERS_CLOSED
        )

    def _receive(self, sock: socket.socket) -> None:
        """Let a new connection in, now or when its address has credit for it."""
        try:
            address = sock.getpeername()
        except OSError:
            sock.close()  # the client has left
            return
        if not self._resting.keeps(sock, origin_of(address[0]) if isinstance(address, tuple) else ""):
            self._enter(sock)

    def _enter(self, sock: socket.socket) -> None:
        try:
            address = sock.getpeername()
        except OSError:
            sock.close()  # the client has left
            return
        host, peer = "", "local"
        if isinstance(address, tuple):
            host, peer = origin_of(address[0]), f"{host_in_url(address[0])}:{address[1]}"
        limits = self._shared.limits
        clock = self._shared.clock
        connection = (
            Connection(sock, peer, limits, clock, host=host)
            if self._tls is None
            else TlsConnection(
                sock, peer, limits, clock, tls=self._tls, host=host, refusal=self._shared.refusal_to_stranger
            )
        )
        if self._shared.admission.admit(connection):
            self._connections.add(connection)
            self._leader_followers.watch(connection)
        elif self._can_refuse():
            self._connections.add(connection)
            self._refusing += 1
            connection.state, connection.has_task = State.RUNNING, True
            assert self._nursery is not None
            self._nursery.start_soon(self._turn_away, connection)
        else:
            connection.close()

    def _can_refuse(self) -> bool:
        """Whether to tell a client that there is no place for it; a TLS handshake would cost too much now."""
        return self._refusing < self._refusing_max and self._tls is None

    def _close(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        self._leader_followers.unwatch(connection)
        connection.close()
        self._connections.discard(connection)
        self._shared.admission.forget(connection)
        self._resting.forget(connection)
        self._look_if_empty()

    async def _turn_away(self, connection: Connection) -> None:
        """Refuse a connection over the limit."""
        error = Overloaded("the connection limit is reached; try again shortly")
        try:
            await _refuse_unread(Exchange(connection, self._shared), connection, self._shared, error)
        finally:
            connection.close()
            self._connections.discard(connection)
            self._refusing -= 1
            self._look_if_empty()

    def _look_if_empty(self) -> None:
        if self._shared.is_stopping and not self._connections:
            self._is_empty.set()

    # --- serving ----------------------------------------------------------------------------------

    def _serve(self, connection: Connection) -> Outcome | Serving:
        """Answer one request on a connection, or close it; `leader_followers` calls this."""
        would_wait = False
        try:
            head = connection.next_head()
            if head is None:
                if not connection.receive_more():
                    return self._end_request(connection, is_kept=False)
                head = connection.next_head()
                if head is None:
                    return self._end_request(connection, is_kept=True)
            recalled = self._shared.heads.recall(head)
            # What a page of another origin is told depends on all headers, and only an exchange has these.
            if (
                recalled is not None
                and recalled[3].is_keep_alive
                and self._handle_nowait is not None
                and not (self._shared.cors.is_active and b"origin" in recalled[3].headers)
            ):
                try:
                    answer = self._handle_nowait(recalled)
                except BlockingIOError:
                    would_wait = True
                except Exception:
                    log.exception("no immediate answer", extra={"path": recalled[1].decode("latin-1")})
                else:
                    if answer is not None:
                        return self._answer_nowait(connection, *answer)
        except StoreError as error:
            return self._finish(connection, _refuse_head, self._shared, error)
        except Exception:
            return self._failed(connection)
        return self._finish(connection, _serve_request, self._shared, head, recalled, would_wait)

    def _answer_nowait(
        self, connection: Connection, status: int, lines: bytes, body: Body
    ) -> bytes | Serving:
        if not connection.is_vouched:
            self._shared.admission.vouch(connection)
        first_lines = self._shared.first_lines(status) + self._shared.cors.varies
        if len(body) > JOIN_SIZE:
            return self._finish(connection, _send_answer, first_lines + lines, body)
        return b"".join((first_lines, lines, body))

    def _send(self, connection: Connection, data: bytes) -> bool | Serving:
        """Send an answer that is ready, and end its request; `leader_followers` calls this."""
        try:
            count = connection.send_now(data)
        except StoreError:
            return self._end_request(connection, is_kept=False)
        if count < len(data):
            return self._finish(connection, _send_rest, data, count)
        return self._end_request(connection, is_kept=True)

    async def _finish(
        self,
        connection: Connection,
        work: Callable[Concatenate[Connection, P], Awaitable[bool]],
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> Outcome:
        """Do `work`, and end the request however that ends."""
        try:
            is_kept = await work(connection, *arguments, **keywords)
            answer, connection.answer = connection.answer, b""
            if answer and is_kept:
                return answer
            if answer:  # the handler failed after it had answered
                await connection.send(answer)
        except StoreError:
            is_kept = False  # the client has left, or is too slow
        except Exception:
            return self._failed(connection)
        except BaseException:
            connection.push_answer()
            self._close(connection)
            raise
        return self._end_request(connection, is_kept)

    def _failed(self, connection: Connection) -> bool:
        """Survive a bug of the server itself: it costs one connection, not the actor."""
        log.exception("connection failed", extra={"peer": connection.peer})
        return self._end_request(connection, is_kept=False)

    def _end_request(self, connection: Connection, is_kept: bool) -> bool:
        if not is_kept or (self._shared.is_stopping and not connection.has_received):
            self._close(connection)
            return False
        connection.await_head()
        if not connection.is_vouched and self._resting.rests(connection):
            self._leader_followers.unwatch(connection)
            return False
        return connection.has_request

    async def _time_out(self, connection: Connection) -> None:
        """Refuse a request whose head did not arrive completely, and close its connection."""
        error = RequestTimeout("the request head was not complete in time")
        try:
            await _refuse_head(connection, self._shared, error)
        finally:
            self._close(connection)


# --- one connection -------------------------------------------------------------------------------


# Each of these returns whether the connection can take another request.


async def _serve_request(
    connection: Connection,
    shared: Shared,
    head: bytes,
    recalled: Recalled | None,
    would_wait: bool,
) -> bool:
    exchange = Exchange(connection, shared)
    exchange.would_wait = would_wait
    try:
        if recalled is not None:
            exchange.recalled(*recalled)
        else:
            shared.heads.learn(head, exchange)
    except StoreError as error:
        _note_head_method(exchange, head)
        await _refuse_unread(exchange, connection, shared, error)
        return False
    return await _serve_exchange(exchange, connection, shared) and not shared.is_stopping


async def _refuse_head(connection: Connection, shared: Shared, error: StoreError) -> bool:
    exchange = Exchange(connection, shared)
    _note_head_method(exchange, connection.unread)
    await _refuse_unread(exchange, connection, shared, error)
    return False


def _note_head_method(exchange: Exchange, head: bytes) -> None:
    """Let the refusal of a HEAD have no body, even when its head could not be read."""
    if head.removeprefix(b"\r\n").startswith(b"HEAD "):
        exchange.method = b"HEAD"


async def _send_answer(connection: Connection, head: bytes, body: Body) -> bool:
    connection.start_body()
    await connection.send_message(head, body)
    return True


async def _send_rest(connection: Connection, data: bytes, start: int) -> bool:
    connection.start_body()
    connection.sent = start
    await connection.send_rest(data, start)
    return True


async def _serve_exchange(exchange: Exchange, connection: Connection, shared: Shared) -> bool:
    """Let the handler answer one request."""
    exchange.body_left = exchange.content_length
    if exchange.is_chunked:
        exchange.expect_chunks()
    connection.start_body()
    try:
        try:
            if not shared.cors.is_active or not await exchange.respond_preflight():
                await shared.handler(exchange)
            if not exchange.has_started:
                raise RuntimeError("the handler returned without an answer")
        except shared.refusals.expected as error:
            if not await _answer_failure(exchange, connection, error):
                return False
        except Exception:
            if not await _answer_bug(exchange, connection):
                return False
        if exchange.answer_left:
            told = (
                "handler wrote less than it declared"
                if exchange.has_length
                else "handler did not end its answer"
            )
            log.error(told, extra=_named(exchange))
            return False
        if not exchange.is_keep_alive:
            if exchange.body_left or connection.has_received:
                await _linger(connection, shared)
            return False
        if exchange.body_left:
            await connection.drain(shared.scratch, exchange.body_left)
    except StoreError:
        return False  # the client has left, or is too slow
    return True


async def _answer_failure(exchange: Exchange, connection: Connection, error: Exception) -> bool:
    """Turn a failure of the handler into an answer; False when it is too late for one."""
    if connection.is_broken:
        return False
    if exchange.has_started:
        code = getattr(error, "code", type(error).__name__)
        log.warning("answer cut short", extra=_named(exchange) | {"code": code})
        return False
    if isinstance(error, RequestTimeout):
        exchange.is_keep_alive = False
    await exchange.refuse(error)
    return True


async def _answer_bug(exchange: Exchange, connection: Connection) -> bool:
    """Log the exception of a handler, and answer if it is not too late."""
    log.exception("handler failed", extra=_named(exchange))
    if connection.is_broken or exchange.has_started:
        return False
    exchange.is_keep_alive = False
    await exchange.refuse(InternalError("the server failed at this request; its log says why"))
    return True


def _named(exchange: Exchange) -> dict[str, str]:
    """Name a request in a log line, without its query: a token may stand there."""
    named = {"method": exchange.method.decode("latin-1"), "path": exchange.path.decode("latin-1")}
    if exchange.request_id:
        named["request_id"] = exchange.request_id
    return named


async def _linger(connection: Connection, shared: Shared) -> None:
    """Give a client that may still be sending time to read its answer."""
    if connection.shut_down_sending():
        await connection.drain(shared.scratch, None)


async def _refuse_unread(
    exchange: Exchange, connection: Connection, shared: Shared, error: StoreError
) -> None:
    """Answer a request that could not be read, and let the client read the answer."""
    exchange.is_keep_alive = False
    try:
        await exchange.refuse(error, is_read=False)
        await _linger(connection, shared)
    except StoreError:
        return  # the client has left, or does not read
