"""HTTP rules: what range and cross-origin headers mean, and the headers of refusals.  Values in, values out.

Range                      parse_range          RFC 9110, 14.2; one range of bytes
Origin                     CorsRule             the Fetch standard, "CORS protocol"
a refusal's own headers    refusal_headers      RFC 9110, 15.5 and 15.6
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from warehouse.errors import Busy, MethodNotAllowed, RangeNotSatisfiable, StoreError, UnsupportedCoding

Header = tuple[bytes, bytes]

RETRY_AFTER_S = 1
PREFLIGHT_AGE_S = 600  # browsers cap it anyway (Chromium at 7,200)
RANGE_DIGITS_MAX = 18
_PLAIN_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{1,18})").fullmatch


class RangeOutside(RangeNotSatisfiable):
    """No byte of the object lies in the range.  Carries the size, for Content-Range."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class NotAllowed(MethodNotAllowed):
    """This resource does not answer this method.  Carries the methods that it answers, for Allow."""

    def __init__(self, method: bytes, *allowed: bytes) -> None:
        names = b", ".join(allowed)
        super().__init__(f"{method[:20].decode('latin-1')} is not allowed here; allowed: {names.decode()}")
        self.allowed = names


def require_method(method: bytes, *allowed: bytes) -> None:
    """Raise NotAllowed unless `method` is one of these."""
    if method not in allowed:
        raise NotAllowed(method, *allowed)


def parse_range(header: bytes, size: int) -> tuple[int, int] | None:
    """Read a Range header against an object of `size` bytes.

    Returns:
        Start and length of the range, clipped to the object.  None when the server ignores the header and
        sends the whole object: the header has another unit, several ranges, or no valid syntax.  (RFC 9110
        lets a server ignore Range, and asks for that when the server does not understand the unit.)
    Raises:
        RangeNotSatisfiable: the range is well formed but begins after the end, or asks for 0 bytes.
    """
    plain = _PLAIN_RANGE(header)
    if plain is not None:  # nearly always
        start, end = int(plain[1]), int(plain[2])
        if start <= end and start < size:
            return start, min(end, size - 1) - start + 1
    unit, equals, spec = header.partition(b"=")
    if not equals or unit.strip().lower() != b"bytes":
        return None
    first, dash, last = spec.strip().partition(b"-")
    if not dash or not _is_number_or_empty(first) or not _is_number_or_empty(last):
        return None
    if first:
        start, end = int(first), int(last) if last else size - 1
        if last and end < start:
            return None
    elif last:
        start, end = max(0, size - int(last)), size - 1
        if int(last) == 0:
            raise RangeOutside("a range of the last 0 bytes", size)
    else:
        return None
    if start >= size:
        raise RangeOutside(f"the range begins at {start}, the object has {size} bytes", size)
    return start, min(end, size - 1) - start + 1


def _is_number_or_empty(text: bytes) -> bool:
    return not text or (text.isdigit() and len(text) <= RANGE_DIGITS_MAX)


def refusal_headers(error: StoreError) -> list[Header]:
    """Return the headers that RFC 9110 asks for with some statuses."""
    if error.status == 401:
        return [(b"WWW-Authenticate", b'Bearer realm="warehouse"')]
    if isinstance(error, Busy):
        return [(b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after_s)))]
    if error.status == 503:
        return [(b"Retry-After", b"%d" % RETRY_AFTER_S)]
    if isinstance(error, NotAllowed):
        return [(b"Allow", error.allowed)]
    if isinstance(error, UnsupportedCoding):
        return [(b"Accept-Encoding", b"identity")]
    if isinstance(error, RangeOutside):
        return [(b"Content-Range", b"bytes */%d" % error.size)]
    return []


class CorsRule:
    """Decides which web pages may use the data plane, and what to tell their browser."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.rstrip("/").encode("latin-1") for origin in origins)
        self._allows_any = b"*" in self._origins
        self.is_active = bool(self._origins)

    def _allowed(self, origin: bytes) -> bytes | None:
        if self._allows_any:
            return b"*"
        return origin if origin in self._origins else None

    @property
    def varies(self) -> bytes:
        """The header line of an answer without a page of another origin: a cache must not give it to one."""
        return b"Vary: Origin\r\n" if self.is_active and not self._allows_any else b""

    def answer_headers(self, origin: bytes | None, headers: Sequence[Header]) -> list[Header]:
        """Return the headers to add to an answer that carries `headers`."""
        added = [] if self._allows_any else [(b"Vary", b"Origin")]
        allowed = self._allowed(origin) if origin is not None else None
        if allowed is not None:
            # A page sees only a few headers unless we name the others, each in full.
            exposed = [b"ETag", b"Content-Range", b"Accept-Ranges", b"Date", b"Retry-After"]
            exposed += [name for name, _ in headers if name[:12].lower() == b"x-warehouse-"]
            added.append((b"Access-Control-Allow-Origin", allowed))
            added.append((b"Access-Control-Expose-Headers", b", ".join(exposed)))
        return added

    def preflight_headers(self, method: bytes, headers: Mapping[bytes, bytes]) -> list[Header] | None:
        """Answer a preflight; None when this is another request, or when the page is not allowed."""
        if method != b"OPTIONS" or b"access-control-request-method" not in headers:
            return None
        if self._allowed(headers.get(b"origin", b"")) is None:
            return None
        answer = [
            (b"Access-Control-Allow-Methods", b"GET, HEAD, PUT, POST, DELETE, OPTIONS"),
            (b"Access-Control-Max-Age", b"%d" % PREFLIGHT_AGE_S),
        ]
        # Tokens travel in a header, never as a cookie, so we can allow any header.
        asked = headers.get(b"access-control-request-headers")
        if asked:
            answer.append((b"Access-Control-Allow-Headers", asked))
        return answer
