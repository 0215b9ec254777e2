"""Safe headers: what every answer with bytes of users tells browsers and caches.  Pure.

Users choose the bytes, the content type and the key of an object, so an answer must not become a page of this
server, and must not stay where others find it:

    Content-Security-Policy   no script runs, and the origin is opaque, should a browser show the bytes
    Content-Disposition       a browser saves the bytes; it shows them only where the token says so
    Cache-Control             no cache keeps them, neither a shared one nor that of the browser

Two more lines stand at the front of every answer of the server, refusals included
(`transport/http/exchange.py`): X-Content-Type-Options and Referrer-Policy.
"""

from __future__ import annotations

from urllib.parse import quote

from warehouse.auth.data_tokens import DataClaims

Header = tuple[bytes, bytes]

SANDBOX: Header = (b"Content-Security-Policy", b"sandbox; default-src 'none'")
NOT_CACHED: Header = (b"Cache-Control", b"private, no-store")
ATTACHED: Header = (b"Content-Disposition", b"attachment")

ALWAYS = (SANDBOX, NOT_CACHED)


def disposition(claims: DataClaims, key: str) -> Header:
    """What a browser does with an object whose URL it was given, and under which name it saves it."""
    del claims  # no token says anything else yet
    name = key.rstrip("/").rsplit("/", 1)[-1]
    return (ATTACHED[0], f"attachment; filename*=UTF-8''{quote(name, safe='')}".encode())
