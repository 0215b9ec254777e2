"""HTTP heads: the text before a body, from bytes to values and back.

    request   method SP target SP HTTP/1.1 CRLF *(name: value CRLF) CRLF
    answer    HTTP/1.1 SP status SP reason CRLF *(name: value CRLF) CRLF

llhttp parses (through httptools).  One parser sees exactly one head and is thrown away, so nothing of one
request can leak into the next.  Since version 9 llhttp itself refuses folded headers, bare line feeds,
control characters and lengths that are not a plain number; the tests check this for every release.  This
module adds the rules of RFC 9112 that a parser leaves to its user, and a few of our own.  It refuses whatever
two implementations could read in two ways: between a proxy and us that difference is request smuggling.
Bodies never pass through here, and nothing here knows a socket.

Source: RFC 9110 and RFC 9112; sections are named where a rule is theirs.
"""

from __future__ import annotations

import http
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httptools

from warehouse.errors import (
    BadRequest,
    HeadersTooLarge,
    LengthRequired,
    LinkDown,
    MethodUnknown,
)
from warehouse.transport.http.conditions import CONDITIONS

HEAD_END = b"\r\n\r\n"
# As numbers: looking for a bytes object of length 1 takes ten times as long.
CR, LF, NUL, SLASH, QUESTION_MARK, HASH, PERCENT = b"\r\n\0/?#%"
HEADER_COUNT_MAX = 100
CONTINUE_ASKED = b"100-continue"
LENGTH_DIGITS_MAX = 18  # below 2**63, whatever the digits are

# To repeat one of these is an attack or a bug; every other repeated field is a list (RFC 9110, 5.3).
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


VARYING = CONDITIONS | {b"range"}  # fields that are others from request to request
# Other methods are refused as unknown: RFC 9110, 15.6.2.  CONNECT is for proxies.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"))
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~\w-]+) [\x21-\x7e]+ HTTP/1\.[01]\r\n", re.ASCII).match
_ORIGIN = re.compile(rb"https?://([^/?#]+)", re.IGNORECASE).match
# uri-host [":" port]: RFC 3986, 3.2.2.  It may be empty.
_HOST = re.compile(
    rb"(?:\[[\w.~!$&'()*+,;=:%-]+\]|(?:[\w.~!$&'()*+,;=-]|%[\da-f]{2})*)(?::\d*)?", re.ASCII | re.IGNORECASE
).fullmatch
_ENCODED = re.compile(rb"%([\da-fA-F]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_AS_ASCII = bytes(octet if octet < 128 else ord("x") for octet in range(256))


@dataclass(frozen=True)
class HeadRules:
    """What a server takes beyond the plain requests of needles.

    Attributes:
        takes_chunked: bodies in chunked coding, where a handler accepts them.
        takes_utf8: bytes above ASCII in a request target, if they are UTF-8.
        is_literal: the path is the one that was sent, percent signs and all.  Where the target is an address,
            it names the host that Host does, so that both can tell which host was asked.
        are_signed: nearly all heads have an Authorization that ends in `Signature=` and 64 hexadecimal
            digits, which are others in each request.
    """

    takes_chunked: bool = False
    takes_utf8: bool = False
    is_literal: bool = False
    are_signed: bool = False


NEEDLE_RULES = HeadRules()


class RequestHead:
    """What a request says before its body.  `parse_request_head` or a `HeadMemo` fills it in."""

    __slots__ = (
        "_fields",
        "content_length",
        "expects_continue",
        "fields",
        "headers",
        "is_chunked",
        "is_http_11",
        "is_keep_alive",
        "method",
        "path",
        "query",
        "repeated_count",
        "target",
    )

    def __init__(self) -> None:
        self.method = self.target = self.path = self.query = b""
        self._fields: dict[bytes, bytes] = {}
        self.fields: PlainFields | None = None  # what is remembered of the headers of a plain GET or HEAD
        self.headers: Mapping[bytes, bytes] = self._fields  # may be shared with other requests
        self.repeated_count = 0
        self.content_length = 0
        self.is_chunked = False  # nobody knows the length of the body yet
        self.is_http_11 = True
        self.is_keep_alive = False
        self.expects_continue = False

    def recalled(
        self, method: bytes, path: bytes, query: bytes, fields: PlainFields, headers: Mapping[bytes, bytes]
    ) -> None:
        """Fill this in as `parse_request_head` would for the same request."""
        self.method, self.path, self.query = method, path, query
        self.target = path + b"?" + query if query else path
        self.fields, self.is_keep_alive = fields, fields.is_keep_alive
        self.headers = headers

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._fields
        if name in headers:
            if name in SINGLE_HEADERS:
                raise BadRequest(f"the header {name.decode()} must come once, but came twice")
            self.repeated_count += 1
            headers[name] += b", " + value.rstrip()
        else:
            headers[name] = value.rstrip()


class PlainFields:
    """The header fields of a plain GET or HEAD, after the parser has read them and all rules have passed.

    Attributes:
        headers: where heads are signed, those of the first request: with its signature.  Of fields that came
            with a range or a condition, all but these.
        is_whole: there is no range and no condition among the headers.
        unsigned: the Authorization header up to the signature.
    """

    __slots__ = ("headers", "is_keep_alive", "is_whole", "note", "unsigned")

    def __init__(self, headers: Mapping[bytes, bytes], is_keep_alive: bool, unsigned: bytes = b"") -> None:
        self.headers = headers
        self.is_keep_alive = is_keep_alive
        self.is_whole = VARYING.isdisjoint(headers)
        self.unsigned = unsigned
        self.note: Any = None  # belongs to the handler: what it has found out from these fields


def parse_request_head(head: bytes, request: RequestHead, rules: HeadRules = NEEDLE_RULES) -> None:
    """Read one request head, from its first byte to the empty line, both included, into `request`.

    This runs for every request, so only rules for rare requests stand in functions of their own.

    Raises:
        BadRequest: the bytes are not an HTTP/1.0 or HTTP/1.1 request, or can be read in two ways.
        HeadersTooLarge: there are more header fields than any honest client sends.
        LengthRequired: the body comes in chunks, so nobody knows its length beforehand, and `rules` want it.
        MethodUnknown: no server for files has such a method.
    """
    if head[0] == CR:
        head = head.removeprefix(b"\r\n")  # one empty line before a request is forgiven: RFC 9112, 2.2
    readable = head
    if rules.takes_utf8 and not head.isascii():
        readable = _with_ascii_target(head)
    parser = httptools.HttpRequestParser(request)
    try:
        parser.feed_data(readable)
    except httptools.HttpParserUpgrade:
        pass  # RFC 9110 (7.8) lets us ignore the offer and answer the request
    except httptools.HttpParserError as error:
        if isinstance(error.__context__, BadRequest):
            raise error.__context__ from None
        _require_known_method(head)
        raise BadRequest(f"malformed request: {error}") from error
    headers = request.headers
    header_count = len(headers) + request.repeated_count
    if header_count > HEADER_COUNT_MAX:
        raise HeadersTooLarge(f"the request has {header_count} header fields, more than {HEADER_COUNT_MAX}")
    request.method = method = parser.get_method()
    if method not in METHODS:
        _require_known_method(head)
    if readable is not head:
        request.target = _target_as_sent(head, len(method) + 1, len(request.target))
    target = request.target
    # Exactly one blank before and after the target, and then the version that nearly every client speaks.
    if not head.startswith(b" HTTP/1.1\r\n", len(method) + 1 + len(target)):
        _require_http_10(request, head)
    elif b"host" not in headers:
        raise BadRequest("an HTTP/1.1 request needs a Host header")  # RFC 9112, 3.2
    if b"host" in headers and not _is_host(headers[b"host"]):
        raise BadRequest(f"the Host header does not name a host: {ascii(headers[b'host'])[1:100]}")
    request.is_keep_alive = request.is_http_11
    if b"connection" in headers:
        request.is_keep_alive = _is_kept(headers[b"connection"], request.is_http_11)
    if target[0] != SLASH or HASH in target:
        target = _path_of(target, method, headers.get(b"host") if rules.is_literal else None)
    request.path = target
    if QUESTION_MARK in target:
        request.path, _, request.query = target.partition(b"?")
    if PERCENT in request.path and not rules.is_literal:
        request.path = _ENCODED.sub(_plain_letter, request.path)
    if b"content-length" in headers:
        request.content_length = _length_of(headers[b"content-length"])
    if b"transfer-encoding" in headers:
        _require_chunked(request, rules)
    if b"expect" in headers and request.is_http_11:
        has_body = request.content_length > 0 or request.is_chunked
        request.expects_continue = has_body and CONTINUE_ASKED in expectations(headers)


def _with_ascii_target(head: bytes) -> bytes:
    """Put a letter in place of each byte above ASCII in the target: llhttp takes no others."""
    start, end = head.find(b" "), head.find(b"\r\n")
    if not 0 <= start < end:
        return head  # there is no target
    return head[:start] + head[start:end].translate(_AS_ASCII) + head[end:]


def _target_as_sent(head: bytes, start: int, size: int) -> bytes:
    target = head[start : start + size]
    try:
        target.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the request target has bytes that are neither ASCII nor UTF-8") from error
    return target


def _require_known_method(head: bytes) -> None:
    line = _REQUEST_LINE(head)
    if line is not None and line[1] not in METHODS:
        raise MethodUnknown(
            f"this server does not know the method {line[1][:40].decode()}; methods are in capital letters"
        )


def _require_http_10(request: RequestHead, head: bytes) -> None:
    request.is_http_11 = False
    if not head.endswith(b" HTTP/1.0", 0, head.find(b"\r\n")):
        raise BadRequest("this server speaks HTTP/1.1 and HTTP/1.0")


def _is_kept(connection: bytes, is_http_11: bool) -> bool:
    """Apply RFC 9112, 9.3.  (llhttp has forgotten the answer once a message without a body is complete.)"""
    options = [option.strip() for option in connection.lower().split(b",")]
    return b"close" not in options and (is_http_11 or b"keep-alive" in options)


def _path_of(target: bytes, method: bytes, host: bytes | None) -> bytes:
    """Understand the rarer forms of a request target: RFC 9112, 3.2.

    Args:
        host: that an address in the target has to name; None: the target may name any.
    """
    if HASH in target:
        raise BadRequest("a request target must not have a fragment (#)")
    if target == b"*" and method == b"OPTIONS":
        return target
    origin = _ORIGIN(target)  # the form for proxies, which an origin server must understand
    if origin is None:
        raise BadRequest("the request target must be a path that begins with /")
    if not _is_host(origin[1]):  # a name with a password, say: RFC 9110, 4.2.4
        raise BadRequest(f"the request target does not name a host: {ascii(origin[1])[1:100]}")
    if host is not None and origin[1].lower() != host.lower():
        raise BadRequest("the request target and the Host header name two hosts")
    path = target[origin.end() :]
    return path if path.startswith(b"/") else b"/" + path


@lru_cache(maxsize=64)  # a client sends the same text in each request
def _is_host(text: bytes) -> bool:
    return _HOST(text) is not None


def _plain_letter(encoded: re.Match[bytes]) -> bytes:
    """Decode an octet of a path if it needs no encoding: the path means the same then.

    Source: RFC 3986, 6.2.2.2.
    """
    octet = int(encoded[1], 16)
    return bytes((octet,)) if octet in _UNRESERVED else encoded[0]


def expectations(headers: Mapping[bytes, bytes]) -> set[bytes]:
    """Return what the client expects, in small letters.  A server may refuse what it cannot meet.

    Source: RFC 9110, 10.1.1.
    """
    return {member.strip() for member in headers.get(b"expect", b"").lower().split(b",")} - {b""}


def _length_of(value: bytes) -> int:
    if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
        raise BadRequest("Content-Length must be a plain decimal number")
    return int(value)


def _require_chunked(request: RequestHead, rules: HeadRules) -> None:
    """Take a body in chunked coding, and no other, where the rules do: RFC 9112, 6.1 to 6.3."""
    if b"content-length" in request.headers:
        raise BadRequest("a request must not have both Content-Length and Transfer-Encoding")
    if not rules.takes_chunked:
        raise LengthRequired("send a Content-Length: this server does not accept chunked coding")
    if not request.is_http_11:
        raise BadRequest("a request of HTTP/1.0 must not have a Transfer-Encoding")
    if request.headers[b"transfer-encoding"].lower() != b"chunked":
        raise BadRequest("a request may have one Transfer-Encoding, which is chunked")
    request.is_chunked = True


class AnswerHead:
    """What an answer says before its body."""

    __slots__ = ("content_length", "headers", "is_keep_alive", "status")

    status: int
    content_length: int | None
    is_keep_alive: bool

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").rstrip()


def parse_answer_head(head: bytes) -> AnswerHead:
    """Read one answer head, from its first byte to the empty line, both included.

    `content_length` is None when only the end of the connection ends the body.

    Raises:
        LinkDown: the bytes are not an HTTP/1.x answer, or its body is framed in a way that we do not read.
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
    if "transfer-encoding" in headers:
        raise LinkDown("the answer comes in chunked coding, which no volume actor sends")
    answer.status = parser.get_status_code()
    length = headers.get("content-length")
    if length is None:
        answer.content_length = None
    elif length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS_MAX:
        answer.content_length = int(length)
    else:
        raise LinkDown(f"malformed answer: Content-Length {length[:40]!r}")
    answer.is_keep_alive = is_http_11 = head.startswith(b"HTTP/1.1")
    if "connection" in headers:
        answer.is_keep_alive = _is_kept(headers["connection"].encode("latin-1"), is_http_11)
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
        ValueError: a name or value holds a line break or NUL, which would forge headers.
    """
    lines = b""
    for name, value in headers:
        line = name + b": " + value
        if CR in line or LF in line or NUL in line:
            raise ValueError("a header name or value holds a line break or NUL")
        lines += line + b"\r\n"
    return lines
