"""HTTP exchange: one request and its answer, as a handler sees them.

`server` makes an exchange for each request that needs a handler, and decides what happens around it.  What
must hold for every answer stands here: one request gets one answer, of exactly the declared length, with the
lines that all answers share.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate

import msgspec
import trio

from warehouse.errors import BodyTooLarge, Busy, LinkDown, StoreError
from warehouse.transport.http.admission import Admission
from warehouse.transport.http.channel import JOIN_SIZE, Body
from warehouse.transport.http.connection import Clock, Connection, HttpLimits
from warehouse.transport.http.heads import CONTINUE, HeadMemo, RequestHead, header_lines, status_line
from warehouse.transport.http.latch import Latch
from warehouse.transport.http.rules import CorsRule, refusal_headers

_REFUSAL_HEADERS = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))

# Whatever an answer is, a browser takes it for what it says it is, and tells no other site about its URL,
# in which a token may stand.
_SAFE_LINES = b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"


class _Refusal(msgspec.Struct, omit_defaults=True):
    code: str
    message: str
    retry_after_s: float = 0.0


class Shared:
    """State that all connections of one server share."""

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        cors: CorsRule,
        server_name: bytes,
        close: Callable[[Connection], None],
    ) -> None:
        self.handler = handler
        self.admission = Admission(limits, close)
        self.limits = limits
        self.cors = cors
        self.heads = HeadMemo()
        self.clock = Clock(step_max_s=2 * limits.sweep_s())
        self.is_stopping = False
        self.scratch = memoryview(bytearray(64 * 1024))  # takes unwanted bytes; nobody reads it
        self._server_name = server_name
        self._date_s = 0
        self._first_lines: dict[int, bytes] = {}

    def first_lines(self, status: int) -> bytes:
        """Return how every answer of this status begins, in this second."""
        return self._first_lines.get(status) or self._make_first_lines(status)

    def _make_first_lines(self, status: int) -> bytes:
        date = formatdate(self._date_s, usegmt=True).encode()
        lines = b"%bServer: %b\r\nDate: %b\r\n" % (status_line(status), self._server_name, date)
        lines += _SAFE_LINES
        self._first_lines[status] = lines
        return lines

    def look_at_clocks(self) -> None:
        self.clock.look(trio.current_time())
        date_s = int(time.time())
        if date_s != self._date_s:
            self._date_s = date_s
            self._first_lines.clear()


class Exchange(RequestHead):
    """One request and its answer.

    `headers` has lower-case names.  `connection_state` belongs to the handler and lives as long as the
    connection: the handler can keep there what it has found out about a client.  `would_wait` says that
    `handle_nowait` has found that this request has to wait.
    """

    __slots__ = (
        "_connection",
        "_shared",
        "answer_left",
        "answer_size",
        "body_left",
        "connection_state",
        "has_started",
        "peer",
        "would_wait",
    )

    def __init__(self, connection: Connection, shared: Shared) -> None:
        super().__init__()
        self._connection = connection
        self._shared = shared
        self.connection_state = connection.handler_state
        self.peer = connection.peer
        self.body_left = 0  # bytes of the request's body that nobody has read
        self.has_started = False  # the answer
        self.answer_size = 0  # declared, of the answer's body
        self.answer_left = 0  # bytes of its body that `write` must still send
        self.would_wait = False

    # --- the request's body -----------------------------------------------------------------------

    async def read_body(self, size_max: int) -> bytes:
        """Receive the whole body.

        Raises:
            BodyTooLarge: the body is longer than `size_max`; nothing of it has been read.
            LinkDown: the client closed the connection before the end of the body.
            RequestTimeout: the body came too slowly.
        """
        size = self.body_left
        if size > size_max:
            raise BodyTooLarge(f"the body has {size} bytes, at most {size_max} are accepted")
        connection = self._connection
        if self.expects_continue:
            await self._say_continue()
        piece = connection.take_received(size)
        self.body_left = size - len(piece)
        if not self.body_left:
            return piece
        # One buffer that grows, not a list of pieces: a byte in a packet of its own would cost fifty.
        body = bytearray(piece)
        while self.body_left:
            piece = await connection.receive(self.body_left)
            if not piece:
                raise self._cut_short()
            self.body_left -= len(piece)
            body += piece
        return bytes(body)

    async def read_into(self, view: memoryview) -> int:
        """Receive the next bytes of the body, as many as have come and fit; return their number.

        That is 0 at the end of the body, and for an empty view.

        Raises:
            LinkDown, RequestTimeout: as `read_body`.
        """
        if not self.body_left or not view:
            return 0
        if self.expects_continue:
            await self._say_continue()
        if len(view) > self.body_left:
            view = view[: self.body_left]
        count = await self._connection.receive_into(view)
        if not count:
            raise self._cut_short()
        self.body_left -= count
        return count

    def _cut_short(self) -> LinkDown:
        self._connection.is_broken = True
        return LinkDown(
            f"{self.peer} closed the connection {self.body_left} bytes before the end of the body"
        )

    async def _say_continue(self) -> None:
        self.expects_continue = False
        if not self._connection.has_received:  # otherwise the client did not wait for us
            await self._connection.send(CONTINUE)

    def vouch(self) -> None:
        """Count the connection among those of token holders: the handler has seen a good token."""
        if not self._connection.is_vouched:
            self._shared.admission.vouch(self._connection)

    # --- a wait in between ------------------------------------------------------------------------

    async def wait_for(self, latch: Latch) -> None:
        """Wait until the latch opens; without a task where that is possible.

        Call this outside of all nurseries and cancel scopes that this request has opened.
        """
        if self._connection.has_task:
            await latch.wait()
        else:
            await latch.suspend()

    # --- the answer -------------------------------------------------------------------------------

    async def respond(
        self, status: int, headers: Sequence[tuple[bytes, bytes]] = (), body: Body = b""
    ) -> None:
        """Send the whole answer, or its head alone for HEAD.

        A small answer goes out when the handler returns or waits.

        Raises:
            LinkDown: the client has left.
            DeadlineExceeded: the client takes the answer too slowly.
        """
        data = self._answer_head(status, headers, len(body))
        connection = self._connection
        if body and self.method != b"HEAD":
            if len(body) > JOIN_SIZE:
                await connection.send_message(data, body)
                return
            data += body
        if not connection.has_task and self.is_keep_alive and not self.body_left:
            connection.answer = data
            return
        count = connection.send_now(data)
        if count < len(data):
            await connection.send_rest(data, count)

    async def start(self, status: int, headers: Sequence[tuple[bytes, bytes]], content_length: int) -> None:
        """Send the head of an answer whose body `write` will send.  Raises as `respond`."""
        head = self._answer_head(status, headers, content_length)
        self.answer_left = 0 if self.method == b"HEAD" else content_length
        await self._connection.send(head)

    async def write(self, data: Body) -> None:
        """Send the next bytes of a started answer's body, or nothing for HEAD.  Raises as `respond`."""
        if self.method == b"HEAD":
            return
        if len(data) > self.answer_left:
            raise ValueError(f"{len(data)} bytes written, {self.answer_left} left of the declared length")
        self.answer_left -= len(data)
        await self._connection.send(data)

    def _answer_head(self, status: int, headers: Sequence[tuple[bytes, bytes]], content_length: int) -> bytes:
        if self.has_started:
            raise RuntimeError("one request gets one answer")
        self.answer_size = content_length
        shared = self._shared
        lines = header_lines(headers)
        if shared.cors.is_active:
            lines += header_lines(shared.cors.answer_headers(self.headers.get(b"origin"), headers))
        # From here on only the socket can fail.
        self.has_started = True
        if self.expects_continue or self.body_left > shared.limits.drain_size or shared.is_stopping:
            self.is_keep_alive = False
        if not self.is_keep_alive:
            lines += b"Connection: close\r\n"
        elif not self.is_http_11:
            lines += b"Connection: keep-alive\r\n"
        if status in (204, 304):  # RFC 9110, 8.6: neither may say how long its missing body is
            return b"%b%b\r\n" % (shared.first_lines(status), lines)
        return b"%b%bContent-Length: %d\r\n\r\n" % (shared.first_lines(status), lines, content_length)

    # --- what the server does around the handler --------------------------------------------------

    async def refuse(self, error: StoreError) -> None:
        """Answer with an error.  Raises as `respond`."""
        headers = [*_REFUSAL_HEADERS, *refusal_headers(error)]
        retry_after_s = error.retry_after_s if isinstance(error, Busy) else 0.0
        body = msgspec.json.encode(_Refusal(error.code, error.message, retry_after_s))
        await self.respond(error.status, headers, body)

    async def respond_preflight(self) -> bool:
        """Answer a browser that asks whether a page may send a request; False if this is another request."""
        headers = self._shared.cors.preflight_headers(self.method, self.headers)
        if headers is None:
            return False
        await self.respond(204, headers)
        return True


Handler = Callable[[Exchange], Awaitable[None]]
