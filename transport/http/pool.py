"""HTTP client: a pool of kept-alive connections to the data plane's servers.

    request   a small round trip: everything in, everything out
    stream    a large body either way; an early refusal is seen while the body is still being sent

The pool reuses connections last in, first out, so spare ones grow old and the server closes them.  At most
`connections_max` connections to each host are in use; requests get them in order of arrival.  A connection
goes back to the pool only after a whole request and a whole answer.  Anything else (an error, a cancellation,
a body left unread) closes the connection.

The server may close a kept connection just when we use it again.  The pool then repeats the request once, on
a fresh connection, but only when nothing can have happened twice: the method is GET or HEAD, or no byte of
the request was sent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from warehouse.errors import BadRequest, BodyTooLarge, DeadlineExceeded, LengthMismatch, LinkDown, StoreError
from warehouse.transport.http.channel import JOIN_SIZE, Body
from warehouse.transport.http.heads import AnswerHead
from warehouse.transport.http.tls import ClientTls
from warehouse.transport.http.wire import NoAnswer, Wire, connect

MEBIBYTE = 1024 * 1024
IDLE_S = 60.0  # less than the server's idle_s: we close an unused connection before the server does

Headers = Sequence[tuple[str, str]]
Answer = tuple[int, dict[str, str], bytes]


class HttpResponse:
    """An answer whose body is still to be read."""

    def __init__(self, answer: AnswerHead, wire: Wire, method: str) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.content_length = answer.content_length
        self._is_kept = answer.is_keep_alive
        self._wire = wire
        self._left = answer.content_length  # None: until the server closes
        if method == "HEAD" or answer.status in (204, 304):
            self._left = 0
        elif answer.content_length is None:
            self._is_kept = False

    async def read_into(self, view: memoryview) -> int:
        """Receive the next bytes of the body, as many as have come and fit; return their number.

        That is 0 at the end of the body, and for an empty view.

        Raises:
            LinkDown: the connection ended before the body did.
            DeadlineExceeded: the server sent nothing for too long.
        """
        left = self._left
        if left == 0 or not view:
            return 0
        if left is None:
            count = await self._wire.receive_into(view)
            self._left = None if count else 0
            return count
        count = await self._wire.receive_into(view[:left] if len(view) > left else view)
        if not count:
            raise self._cut_short()
        self._left = left - count
        return count

    async def read(self, size_max: int = 64 * MEBIBYTE) -> bytes:
        """Receive everything of the body that has not been read yet.

        Raises:
            BodyTooLarge: the body is longer than `size_max`.
            LinkDown, DeadlineExceeded: as `read_into`.
        """
        left = self._left
        if left is None:
            return await self._read_to_end(size_max)
        if left > size_max:
            raise BodyTooLarge(f"the answer has {left} bytes, at most {size_max} were expected")
        piece = self._wire.take_received(left)
        self._left = left = left - len(piece)
        if not left:
            return piece
        pieces = [piece]
        while left:
            piece = await self._wire.receive(left)
            if not piece:
                raise self._cut_short()
            self._left = left = left - len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    async def _read_to_end(self, size_max: int) -> bytes:
        pieces = []
        size = 0
        while piece := await self._wire.receive(size_max + 1 - size):
            size += len(piece)
            if size > size_max:
                raise BodyTooLarge(f"the answer has more than {size_max} bytes")
            pieces.append(piece)
        self._left = 0
        return b"".join(pieces)

    def _cut_short(self) -> LinkDown:
        return LinkDown(f"{self._wire.peer} closed the connection with {self._left} body bytes missing")

    def forget_wire(self) -> None:
        """Never use the connection again: the request was not sent to its end."""
        self._is_kept = False

    @property
    def leaves_wire_usable(self) -> bool:
        return self._is_kept and self._left == 0 and not self._wire.is_broken and not self._wire.has_received


class _Host:
    """One server: its idle connections, and the slots of those in use."""

    def __init__(
        self, url: str, tls: ClientTls, connections_max: int, connect_s: float, stall_s: float
    ) -> None:
        is_tls, self.host, self.port, self.authority = _split_url(url)
        self._tls = tls if is_tls else None
        self._slots = trio.Semaphore(connections_max, max_value=connections_max)
        self._idle: list[Wire] = []
        self._connect_s = connect_s
        self._stall_s = stall_s
        self._is_closed = False

    async def acquire(self) -> None:
        """Wait for a slot: the right to use a connection until `release`."""
        if self._is_closed:
            raise LinkDown("this pool of connections has been closed")
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()

    def release(self, wire: Wire | None) -> None:
        """Give the slot back, and the connection if it can take another request."""
        if wire is not None:
            if self._is_closed:
                wire.close()
            else:
                self._keep(wire)
        self._slots.release()

    def _keep(self, wire: Wire) -> None:
        now = wire.idle_since_s = trio.current_time()
        self._idle.append(wire)
        # The oldest connection lies at the bottom: nobody takes it, so nobody sees that the server closed it.
        if now - self._idle[0].idle_since_s > IDLE_S:
            self._idle.pop(0).close()

    def take_idle(self) -> Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if not wire.is_stale():
                return wire
            wire.close()
        return None

    async def connect(self) -> Wire:
        return await connect(
            self.host, self.port, tls=self._tls, connect_s=self._connect_s, stall_s=self._stall_s
        )

    def close(self) -> None:
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()


def _split_url(url: str) -> tuple[bool, str, int, str]:
    """Return whether it speaks TLS, host, port, and both as the Host header needs them."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, port = urlsplit(""), 0
    if (
        parts.scheme not in _DEFAULT_PORTS
        or not port
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
    ):
        raise BadRequest(f"the address of a server must look like https://host:port, not {url!r}")
    return parts.scheme == "https", parts.hostname, port, parts.netloc.rpartition("@")[2]


_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Hold:
    """What one request holds of a host: a slot, and a connection."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self._wire: Wire | None = None
        self.is_wire_usable = False

    async def open(self, method: str, head: bytes, body: Body) -> HttpResponse:
        """Send a request and receive the head of its answer, over a kept connection if possible."""
        wire = self._wire = self._host.take_idle()
        if wire is not None:
            wire.sent = 0
            try:
                return HttpResponse(await _round_trip(wire, head, body), wire, method)
            except LinkDown as error:
                is_harmless = isinstance(error, NoAnswer) and method in ("GET", "HEAD")
                if wire.sent and not is_harmless:
                    raise
            wire.close()
        wire = self._wire = await self._host.connect()
        return HttpResponse(await _round_trip(wire, head, body), wire, method)

    async def upload(
        self, method: str, head: bytes, body: Body | AsyncIterable[Body], size: int
    ) -> HttpResponse:
        """Send a request with a large body; stop sending when the server refuses it."""
        wire = self._wire = self._host.take_idle() or await self._host.connect()
        upload = _Upload(wire, head, body, size)
        response = HttpResponse(await upload.run(), wire, method)
        if not upload.is_sent:
            response.forget_wire()
        return response

    def end(self) -> None:
        if self.is_wire_usable:
            self._host.release(self._wire)
            return
        if self._wire is not None:
            self._wire.close()
        self._host.release(None)


async def _round_trip(wire: Wire, head: bytes, body: Body) -> AnswerHead:
    try:
        await wire.send_message(head, body)
    except LinkDown:
        if not wire.sent:
            raise
        # A server that refuses a body may close before it has read all of it; its answer can still be read.
        try:
            return await wire.receive_head()
        except StoreError:
            pass
        raise
    return await wire.receive_head()


class _Upload:
    """Sends a body while it listens for an early answer."""

    def __init__(self, wire: Wire, head: bytes, body: Body | AsyncIterable[Body], size: int) -> None:
        self._wire = wire
        self._head = head
        self._body = body
        self._left = size
        self._listening = trio.CancelScope()
        self._failure: Exception | None = None
        self._is_sending = False  # in contrast to waiting for the next piece, which may come over a wire, too
        self.is_sent = False

    async def run(self) -> AnswerHead:
        """Send everything, or as much as the server wants; return the head of the answer."""
        answer: AnswerHead | None = None
        failure: StoreError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            with self._listening:
                try:
                    answer = await self._wire.receive_head(is_patient=True)
                except StoreError as error:
                    failure = error
            if answer is None or answer.status >= 300:
                nursery.cancel_scope.cancel()
        # The failure of the sender explains more than what the listener saw after it.
        if self._failure is not None and (answer is None or not isinstance(self._failure, StoreError)):
            raise self._failure
        if answer is not None:
            return answer
        raise failure or DeadlineExceeded(f"{self._wire.peer} did not answer within {self._wire.stall_s:g} s")

    async def _send(self) -> None:
        try:
            await self._send_on(self._head)
            if isinstance(self._body, AsyncIterable):
                await self._send_pieces(self._body)
            else:
                await self._send_piece(self._body)
            if self._left:
                raise LengthMismatch(f"the body ended {self._left} bytes before its declared length")
            self.is_sent = True
        except LinkDown as error:
            self._failure = error  # the answer that explains this may have come already
            if not self._is_sending:
                self._listening.cancel()
        except Exception as error:
            self._failure = error
            self._listening.cancel()
        self._listening.deadline = trio.current_time() + self._wire.stall_s

    async def _send_pieces(self, pieces: AsyncIterable[Body]) -> None:
        try:
            async for piece in pieces:
                await self._send_piece(piece)
        finally:
            # Only we can close a generator that we stop in the middle.
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _send_piece(self, piece: Body) -> None:
        if len(piece) > self._left:
            raise LengthMismatch(f"the body is {len(piece) - self._left} bytes longer than declared")
        self._left -= len(piece)
        await self._send_on(piece)

    async def _send_on(self, data: Body) -> None:
        self._is_sending = True
        await self._wire.send(data)
        self._is_sending = False


class HttpPool:
    """Holds the connections of one client to any number of servers."""

    def __init__(
        self,
        *,
        tls: ClientTls | None = None,
        connections_max: int = 64,
        connect_s: float = 5.0,
        stall_s: float = 30.0,
    ) -> None:
        """
        Args:
            tls: whom to trust at https:// addresses; None: nobody.
            connections_max: in use at a time, for each server.
            connect_s: time for a connection, with its handshake.
            stall_s: how long a server may move no byte.
        """
        self._tls = tls or ClientTls()
        self._connections_max = connections_max
        self._connect_s = connect_s
        self._stall_s = stall_s
        self._hosts: dict[str, _Host] = {}
        self._is_closed = False

    async def request(
        self,
        method: str,
        url: str,
        target: str,
        *,
        headers: Headers = (),
        body: Body | None = None,
        response_size_max: int = 64 * MEBIBYTE,
    ) -> Answer:
        """Send one request and read the whole answer: status, headers (lower-case names), body.

        Args:
            url: the server, as http://host:port or https://host:port.
            target: path and query, already percent-encoded.
        Raises:
            LinkDown: no connection could be made, or it broke; the server may or may not have acted.
            CertificateRefused: the server is not one that we trust; nothing was sent.
            DeadlineExceeded: the server moved no byte for `stall_s`; it may or may not have acted.
            BodyTooLarge: the answer is longer than `response_size_max`.
            BadRequest: the request cannot be written as HTTP.
        """
        host = self._hosts.get(url) or self._add_host(url)
        head = _request_head(method, target, host.authority, headers, None if body is None else len(body))
        await host.acquire()
        hold = _Hold(host)
        try:
            response = await hold.open(method, head, body or b"")
            content = await response.read(response_size_max)
            hold.is_wire_usable = response.leaves_wire_usable
        finally:
            hold.end()
        return response.status, response.headers, content

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        target: str,
        *,
        headers: Headers = (),
        body: Body | None = None,
        body_length: int | None = None,
        body_pieces: AsyncIterable[Body] | None = None,
    ) -> AsyncIterator[HttpResponse]:
        """Send one request and yield the answer, whose body the caller reads.

        The body of the request is either `body`, or `body_length` bytes that `body_pieces` yields.  Sending
        stops as soon as the server answers with a status of 300 or more; a generator is then closed.

        Raises: as `request`; LengthMismatch when `body_pieces` yields more or less than `body_length`;
            and whatever `body_pieces` raises.
        """
        if body_pieces is not None and (body_length is None or body is not None):
            raise ValueError("body_pieces go with body_length, and not with body")
        host = self._hosts.get(url) or self._add_host(url)
        length = body_length if body is None else len(body)
        head = _request_head(method, target, host.authority, headers, length)
        await host.acquire()
        hold = _Hold(host)
        try:
            if body_pieces is not None:
                response = await hold.upload(method, head, body_pieces, length or 0)
            elif body is not None and len(body) > JOIN_SIZE:
                response = await hold.upload(method, head, body, len(body))
            else:
                response = await hold.open(method, head, body or b"")
            yield response
            hold.is_wire_usable = response.leaves_wire_usable
        finally:
            hold.end()

    async def aclose(self) -> None:
        """Close idle connections; a connection in use is closed when its request is done."""
        self._is_closed = True
        for host in self._hosts.values():
            host.close()
        await trio.lowlevel.checkpoint()

    def _add_host(self, url: str) -> _Host:
        host = _Host(url, self._tls, self._connections_max, self._connect_s, self._stall_s)
        if self._is_closed:
            host.close()
        self._hosts[url] = host
        return host


def _request_head(
    method: str, target: str, authority: str, headers: Headers, content_length: int | None
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if content_length is not None:
        lines.append(f"Content-Length: {content_length}")
    elif method in ("PUT", "POST"):
        lines.append("Content-Length: 0")
    text = "".join(lines)
    if "\r" in text or "\n" in text or "\0" in text or " " in target:
        raise BadRequest("a target or header holds a line break, NUL or blank where HTTP allows none")
    lines.append("\r\n")
    try:
        return "\r\n".join(lines).encode("latin-1")
    except UnicodeEncodeError as error:
        bad = error.object[error.start]
        raise BadRequest(f"{bad!r} must be encoded in a target or header") from error
