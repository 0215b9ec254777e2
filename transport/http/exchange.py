"""HTTP exchange: one request and its answer, as a handler sees them.

`server` makes an exchange for each request that needs a handler, and decides what happens around it.  What
must hold for every answer stands here: one request gets one answer, of exactly the declared length or with a
marked end, and with the lines that all answers share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate

import trio

from warehouse.errors import BodyTooLarge, LengthRequired, LinkDown, StoreError
from warehouse.transport.http.admission import Admission
from warehouse.transport.http.channel import BODY_RECEIVE_SIZE, JOIN_SIZE, Body
from warehouse.transport.http.chunked import LAST_CHUNK, chunk_head
from warehouse.transport.http.chunked_body import ChunkedBody
from warehouse.transport.http.connection import Clock, Connection, HttpLimits
from warehouse.transport.http.head_memo import HeadMemo
from warehouse.transport.http.heads import (
    CONTINUE,
    HeadRules,
    RequestHead,
    header_lines,
    status_line,
)
from warehouse.transport.http.latch import Latch
from warehouse.transport.http.refusals import InternalError, Refusals, Rendered, render_json
from warehouse.transport.http.rules import CorsRule

log = logging.getLogger(__name__)

# Whatever an answer is, a browser takes it for what it says it is, and tells no other site about its URL,
# in which a token may stand.
_SAFE_LINES = b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"

UNKNOWN_SIZE = 1 << 62  # of a body without a length that has not ended: more than any limit allows


class Shared:
    """State that all connections of one server share."""

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        cors: CorsRule,
        server_name: bytes,
        close: Callable[[Connection], None],
        rules: HeadRules,
        refusals: Refusals,
    ) -> None:
        self.handler = handler
        self.admission = Admission(limits, close)
        self.limits = limits
        self.cors = cors
        self.heads = HeadMemo(rules)
        self.refusals = refusals
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

    def rendered(self, error: Exception, exchange: Exchange | None) -> Rendered:
        """Return what to say of an error; `exchange` is None where the head of the request is not known."""
        try:
            return self.refusals.render(error, exchange)
        except Exception:
            log.exception("a failure could not be rendered")
            return render_json(InternalError("the server failed; its log says why"), None)

    def refusal_to_stranger(self, error: StoreError) -> bytes:
        """Return a whole refusal, for a connection that cannot have an exchange; it has to close."""
        rendered = self.rendered(error, None)
        lines = header_lines(rendered.headers)
        return b"%b%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
            self.first_lines(rendered.status),
            lines,
            len(rendered.body),
            rendered.body,
        )

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

    `request_id` is another one for each request, where the server makes such: it stands in log lines, and
    whoever writes the answer may put it there.

    A body in chunked coding has no length.  It can be read once the handler has called `accept_body`, so that
    handlers that need a length need not think of it.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_request_id",
        "_shared",
        "answer_left",
        "answer_size",
        "body_left",
        "connection_state",
        "has_length",
        "has_started",
        "peer",
        "status",
        "would_wait",
    )

    def __init__(self, connection: Connection, shared: Shared) -> None:
        super().__init__()
        self._connection = connection
        self._shared = shared
        self.connection_state = connection.handler_state
        self.peer = connection.peer
        self._request_id = ""
        self._chunked: ChunkedBody | None = None
        self.body_left = 0  # bytes of the request's body that nobody has read, or `UNKNOWN_SIZE`
        self.has_started = False  # the answer
        self.has_length = True  # the answer; otherwise `start_chunked` has begun it
        self.answer_size = 0  # declared, of the answer's body; without a length, of what has been written
        self.answer_left = 0  # bytes of its body that `write` must still send, or `UNKNOWN_SIZE`
        self.would_wait = False
        self.status = 0  # of the answer; 0: it has not begun

    @property
    def is_broken(self) -> bool:
        """Nothing more can be sent: the client has left, or does not read."""
        return self._connection.is_broken

    @property
    def sent_size(self) -> int:
        """Bytes of the answer's body that have been written."""
        if self.method == b"HEAD":
            return 0
        return self.answer_size - self.answer_left if self.has_length else self.answer_size

    @property
    def request_id(self) -> str:
        make = self._shared.refusals.make_request_id
        if not self._request_id and make is not None:
            self._request_id = make()
        return self._request_id

    # --- the request's body -----------------------------------------------------------------------

    def expect_chunks(self) -> None:
        """Begin with a body in chunked coding; `server` calls this when the head has been read."""
        self.body_left = UNKNOWN_SIZE
        self._chunked = ChunkedBody(self._connection)

    def accept_body(self, size_max: int) -> None:
        """Accept a body of up to `size_max` bytes, also of unknown length.

        Raises:
            BodyTooLarge: the body is longer.  One of unknown length is refused as soon as it is.
        """
        if self._chunked is not None:
            self._chunked.is_accepted = True
            self._chunked.limit(size_max)
        elif self.body_left > size_max:
            raise _too_large(self.body_left, size_max)

    async def read_body(self, size_max: int) -> bytes:
        """Receive the whole body.

        Raises:
            BadRequest: the body is malformed chunked coding.
            BodyTooLarge: the body is longer than `size_max`; if that was declared, nothing has been read.
            LengthRequired: the body is in chunked coding, which the handler has not accepted.
            LinkDown: the client closed the connection before the end of the body.
            RequestTimeout: the body came too slowly.
        """
        if self._chunked is not None:
            return await self._read_chunks(self._chunked, size_max)
        size = self.body_left
        if size > size_max:
            raise _too_large(size, size_max)
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

    @property
    def body_has_come(self) -> bool:
        """Whether `take_body` can take the whole rest of the body; never one in chunked coding."""
        return self._chunked is None and self._connection.received_size >= self.body_left

    def take_body(self) -> bytes:
        """The whole rest of a body that has come already: see `body_has_come`."""
        self.expects_continue = False  # the client did not wait for us
        body = self._connection.take_received(self.body_left)
        self.body_left = 0
        return body

    async def read_into(self, view: memoryview) -> int:
        """Receive the next bytes of the body, as many as have come and fit; return their number.

        That is 0 at the end of the body, and for an empty view.

        Raises:
            BadRequest, BodyTooLarge, LengthRequired, LinkDown, RequestTimeout: as `read_body`.
        """
        if not self.body_left or not view:
            return 0
        if self._chunked is not None:
            chunked = await self._begin_chunks(self._chunked)
            count = await chunked.read_into(view)
            self._note_end(chunked)
            return count
        if self.expects_continue:
            await self._say_continue()
        if len(view) > self.body_left:
            view = view[: self.body_left]
        count = await self._connection.receive_into(view)
        if not count:
            raise self._cut_short()
        self.body_left -= count
        return count

    async def read_piece(self, size: int) -> bytes:
        """Receive the next 1 to `size` bytes of the body; b"" at its end.  Raises as `read_into`.

        This takes memory for the bytes that have come, not for `size`.
        """
        if not self.body_left or not size:
            return b""
        if self._chunked is not None:
            chunked = await self._begin_chunks(self._chunked)
            piece = await chunked.read_piece(size)
            self._note_end(chunked)
            return piece
        if self.expects_continue:
            await self._say_continue()
        piece = await self._connection.receive(min(size, self.body_left))
        if not piece:
            raise self._cut_short()
        self.body_left -= len(piece)
        return piece

    async def _read_chunks(self, chunked: ChunkedBody, size_max: int) -> bytes:
        chunked.limit(size_max)
        body = bytearray()
        while piece := await self.read_piece(BODY_RECEIVE_SIZE):
            body += piece
        return bytes(body)

    async def _begin_chunks(self, chunked: ChunkedBody) -> ChunkedBody:
        if not chunked.is_accepted:
            raise LengthRequired("send a Content-Length: chunked coding is not accepted here")
        if self.expects_continue:
            await self._say_continue()
        return chunked

    def _note_end(self, chunked: ChunkedBody) -> None:
        if chunked.is_finished:
            self.body_left = 0

    def _give_up_chunks(self, chunked: ChunkedBody) -> None:
        """Decide at the answer whether another request can follow a body in chunked coding.

        The connection closes unless the body has ended and nothing follows: whoever finds another end of the
        body than we do would have hidden a request there.
        """
        if self.body_left and chunked.finish_nowait(self._shared.scratch):
            self.body_left = 0
        if self.body_left or self._connection.has_received:
            self.is_keep_alive = False

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
        if not self.has_length:
            await self._write_chunk(data)
            return
        if len(data) > self.answer_left:
            raise ValueError(f"{len(data)} bytes written, {self.answer_left} left of the declared length")
        self.answer_left -= len(data)
        await self._connection.send(data)

    async def start_chunked(self, status: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Send the head of an answer whose length nobody knows yet.

        `write` sends its body, and `end` marks its end.  Without that, as when the handler fails, the
        connection is cut: the client can tell.  A client of HTTP/1.0 knows no chunks; it gets the bytes as
        they are, and finds their end, or a reset, in the end of the connection.

        Raises as `respond`.
        """
        if status in (204, 304):
            raise ValueError(f"an answer of status {status} has no body")
        if not self.is_http_11:
            self.is_keep_alive = False
        head = self._answer_head(status, headers, None)
        if self.method != b"HEAD":
            self.has_length, self.answer_left = False, UNKNOWN_SIZE
            if not self.is_http_11:
                self._connection.reset_on_close(True)
        await self._connection.send(head)

    async def _write_chunk(self, data: Body) -> None:
        self._require_open_answer()
        if not data:
            return  # an empty chunk would be the last one
        self.answer_size += len(data)
        connection = self._connection
        try:
            if not self.is_http_11:
                await connection.send(data)
            elif len(data) > JOIN_SIZE:
                await connection.send_message(chunk_head(len(data)), data)
                await connection.send(b"\r\n")
            else:
                await connection.send(b"".join((chunk_head(len(data)), data, b"\r\n")))
        except BaseException:
            connection.is_broken = True  # a handler that was cancelled here must not go on inside of a chunk
            raise

    async def end(self) -> None:
        """End the answer that `start_chunked` has begun.  Raises as `respond`."""
        if self.method == b"HEAD":
            return
        self._require_open_answer()
        if self.is_http_11:
            await self._connection.send(LAST_CHUNK)
        else:
            self._connection.reset_on_close(False)
        self.answer_left = 0

    def _require_open_answer(self) -> None:
        if self.has_length or not self.answer_left:
            raise RuntimeError("no answer without a length has begun, or it has ended")
        if self._connection.is_broken:
            raise LinkDown(f"the answer to {self.peer} is torn")

    def _answer_head(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], content_length: int | None
    ) -> bytes:
        if self.has_started:
            raise RuntimeError("one request gets one answer")
        self.answer_size = content_length or 0
        shared = self._shared
        lines = header_lines(headers)
        if shared.cors.is_active:
            lines += header_lines(shared.cors.answer_headers(self.headers.get(b"origin"), headers))
        # From here on only the socket can fail.
        self.has_started, self.status = True, status
        if self._chunked is not None:
            self._give_up_chunks(self._chunked)
        if self.expects_continue or self.body_left > shared.limits.drain_size or shared.is_stopping:
            self.is_keep_alive = False
        if not self.is_keep_alive:
            lines += b"Connection: close\r\n"
        elif not self.is_http_11:
            lines += b"Connection: keep-alive\r\n"
        if status in (204, 304):  # RFC 9110, 8.6: neither may say how long its missing body is
            return b"%b%b\r\n" % (shared.first_lines(status), lines)
        if content_length is None:
            coding = b"Transfer-Encoding: chunked\r\n" if self.is_http_11 else b""
            return b"%b%b%b\r\n" % (shared.first_lines(status), lines, coding)
        return b"%b%bContent-Length: %d\r\n\r\n" % (shared.first_lines(status), lines, content_length)

    # --- what the server does around the handler --------------------------------------------------

    async def refuse(self, error: Exception, *, is_read: bool = True) -> None:
        """Answer with an error.  Raises as `respond`.

        Args:
            is_read: the head of the request is known.
        """
        rendered = self._shared.rendered(error, self if is_read else None)
        if rendered.closes:
            self.is_keep_alive = False
        await self.respond(rendered.status, rendered.headers, rendered.body)

    async def respond_preflight(self) -> bool:
        """Answer a browser that asks whether a page may send a request; False if this is another request."""
        headers = self._shared.cors.preflight_headers(self.method, self.headers)
        if headers is None:
            return False
        await self.respond(204, headers)
        return True


def _too_large(size: int, size_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has {size} bytes, at most {size_max} are accepted")


Handler = Callable[[Exchange], Awaitable[None]]
