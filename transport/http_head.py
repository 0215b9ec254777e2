"""HTTP heads: the text before a body, from bytes to values and back.

    request   method SP target SP HTTP/1.1 CRLF *(name: value CRLF) CRLF
    answer    HTTP/1.1 SP status SP reason CRLF *(name: value CRLF) CRLF

Parsing is llhttp's (through httptools); one parser sees exactly one head and is thrown away, so nothing
of one request can leak into the next.  On top of it stand the rules of RFC 9112 that a parser leaves to
its user, and a few of our own: whatever two implementations could read in two ways is refused, because
between a proxy and us that difference is request smuggling.  Bodies never pass through here, and nothing
here knows a socket.

Source: RFC 9110 and RFC 9112; sections are named where a rule is theirs.
"""

from __future__ import annotations

import http
from collections.abc import Sequence

import httptools

from errors import BadRequest, HeadersTooLarge, LengthRequired, LinkDown

HEAD_END = b"\r\n\r\n"
HEADER_COUNT_MAX = 100
LENGTH_DIGITS_MAX = 18  # below 2**63, whatever the digits are

# A second one of these is an attack or a bug; every other repeated field is a list (RFC 9110, 5.3).
SINGLE_HEADERS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-range",
        b"content-type",
        b"host",
        b"origin",
        b"range",
        b"transfer-encoding",
    }
)


class RequestHead:
    """What a request says before its body.  Filled by the parser, checked by `parse_request_head`."""

    __slots__ = (
        "content_length",
        "expects_continue",
        "header_count",
        "headers",
        "is_http_11",
        "is_keep_alive",
        "method",
        "path",
        "query",
        "target",
    )

    method: bytes
    path: bytes
    query: bytes
    content_length: int
    is_http_11: bool
    is_keep_alive: bool
    expects_continue: bool

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.header_count = 0
        self.target = b""

    @classmethod
    def unreadable(cls) -> RequestHead:
        """What stands in for a head that could not be read, so that a refusal can be sent."""
        head = cls()
        head.method = head.path = head.query = b""
        head.content_length = 0
        head.is_http_11 = True
        head.is_keep_alive = head.expects_continue = False
        return head

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_count += 1
        name = name.lower()
        headers = self.headers
        if name in headers:
            if name in SINGLE_HEADERS:
                raise BadRequest(f"the header {name.decode()} must come once, it came twice")
            headers[name] += b", " + value.rstrip()
        else:
            headers[name] = value.rstrip()


def parse_request_head(head: bytes) -> RequestHead:
    """Read one request head, from its first byte to the empty line, both included.

    Raises:
        BadRequest: the bytes are no HTTP/1.0 or HTTP/1.1 request, or may be read in two ways.
        HeadersTooLarge: there are more header fields than any honest client sends.
        LengthRequired: the body comes in chunks, so its length is not known beforehand.
    """
    if head.startswith(b"\r\n"):
        head = head[2:]  # one empty line before a request is forgiven: RFC 9112, 2.2
    request = RequestHead()
    parser = httptools.HttpRequestParser(request)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # an offer that RFC 9110 (7.8) lets us ignore; the request itself stands
    except httptools.HttpParserError as error:
        if isinstance(error.__context__, BadRequest):
            raise error.__context__ from None
        raise BadRequest(f"malformed request: {error}") from error
    headers = request.headers
    # Each header takes one line: folded lines and bare line feeds would make the two counts differ.
    if head.count(b"\n") != request.header_count + 2:
        raise BadRequest("malformed request: lines and headers do not match")
    if request.header_count > HEADER_COUNT_MAX:
        raise HeadersTooLarge(f"{request.header_count} header fields, at most {HEADER_COUNT_MAX}")
    request.method = parser.get_method()
    _read_version(request, head)
    request.is_keep_alive = _is_kept(headers.get(b"connection"), request.is_http_11)
    _split_target(request)
    _check_framing(request)
    request.expects_continue = b"expect" in headers and (
        request.is_http_11 and headers[b"expect"].lower() == b"100-continue"
    )
    return request


def _read_version(request: RequestHead, head: bytes) -> None:
    line_end = head.find(b"\r\n")
    request.is_http_11 = head.endswith(b" HTTP/1.1", 0, line_end)
    if request.is_http_11:
        if b"host" not in request.headers:
            raise BadRequest("an HTTP/1.1 request needs a Host header")  # RFC 9112, 3.2
    elif not head.endswith(b" HTTP/1.0", 0, line_end):
        raise BadRequest("this server speaks HTTP/1.1 and HTTP/1.0")


def _is_kept(connection: bytes | None, is_http_11: bool) -> bool:
    """RFC 9112, 9.3.  (llhttp has forgotten the answer once a message without a body is complete.)"""
    if connection is None:
        return is_http_11
    options = [option.strip() for option in connection.lower().split(b",")]
    return b"close" not in options and (is_http_11 or b"keep-alive" in options)


def _split_target(request: RequestHead) -> None:
    target = request.target
    if not target.startswith(b"/"):
        if target[:7].lower() == b"http://":  # what a proxy is asked; RFC 9112 (3.2.2) wants it understood
            target = target[7:]
            slash = target.find(b"/")
            target = target[slash:] if slash >= 0 else b"/"
        elif target != b"*" or request.method != b"OPTIONS":
            raise BadRequest("the request target must be a path that begins with /")
    if b"#" in target:
        raise BadRequest("a fragment (#) has no place in a request target")
    request.path, _, request.query = target.partition(b"?")


def _check_framing(request: RequestHead) -> None:
    """Find the body's length, by one rule: Content-Length in plain digits, or there is no body."""
    headers = request.headers
    length = headers.get(b"content-length")
    if b"transfer-encoding" in headers:
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding in one request")
        raise LengthRequired("send a Content-Length: bodies in chunked coding are not accepted")
    if length is None:
        request.content_length = 0
    elif length.isdigit() and len(length) <= LENGTH_DIGITS_MAX:
        request.content_length = int(length)
    else:
        raise BadRequest("Content-Length must be a plain decimal number")


class AnswerHead:
    """What an answer says before its body."""

    __slots__ = ("content_length", "header_count", "headers", "is_keep_alive", "status")

    status: int
    content_length: int | None
    is_keep_alive: bool

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.header_count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_count += 1
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").rstrip()


def parse_answer_head(head: bytes) -> AnswerHead:
    """Read one answer head, from its first byte to the empty line, both included.

    `content_length` is None when only the end of the connection ends the body.

    Raises:
        LinkDown: the bytes are no HTTP/1.x answer, or its body is framed in a way we do not read.
    """
    answer = AnswerHead()
    parser = httptools.HttpResponseParser(answer)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade as error:
        raise LinkDown("the server switched to another protocol unasked") from error
    except httptools.HttpParserError as error:
        raise LinkDown(f"malformed answer: {error}") from error
    headers = answer.headers
    if head.count(b"\n") != answer.header_count + 2 or answer.header_count > HEADER_COUNT_MAX:
        raise LinkDown("malformed answer: lines and headers do not match")
    if "transfer-encoding" in headers:
        raise LinkDown("the answer comes in chunked coding, which no Warehouse server sends")
    answer.status = parser.get_status_code()
    length = headers.get("content-length")
    if length is None:
        answer.content_length = None
    elif length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS_MAX:
        answer.content_length = int(length)
    else:
        raise LinkDown(f"malformed answer: Content-Length {length[:40]!r}")
    connection = headers.get("connection")
    answer.is_keep_alive = _is_kept(
        connection.encode("latin-1") if connection is not None else None, head.startswith(b"HTTP/1.1")
    )
    return answer


# --- writing --------------------------------------------------------------------------------------

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus
}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def header_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write headers as lines.

    Raises:
        ValueError: a name or value holds a line break or NUL; sent on, it would forge headers.
    """
    if not headers:
        return b""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not lines.count(b"\n") == lines.count(b"\r") == len(headers) or b"\0" in lines:
        raise ValueError("a header name or value holds a line break or NUL")
    return lines
