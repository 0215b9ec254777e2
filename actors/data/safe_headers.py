"""Safe headers: what every answer with bytes of users tells browsers and caches.  Pure.

Users choose the bytes, the content type and the key of an object, so an answer must not become a page of this
server, and must not stay where others find it:

    Content-Security-Policy   no script runs, and the origin is opaque, should a browser show the bytes
    Content-Disposition       a browser saves the bytes; it shows them only where the token says so
    Cache-Control             no cache keeps them, neither a shared one nor that of the browser, unless the
                              token says otherwise

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

ALWAYS = (SANDBOX, NOT_CACHED, ATTACHED)  # of answers whose token says nothing else


def signed_headers(claims: DataClaims, key: str) -> tuple[Header, Header]:
    """What a browser does with an object whose URL it was given, under which name it saves it, and who may
    keep it.  The name is a file name alone, whatever the token or the key says."""
    name = (claims.file_name or key).rstrip("/").rsplit("/", 1)[-1]
    how = claims.disposition or "attachment"
    shown = (ATTACHED[0], f"{how}; filename*=UTF-8''{quote(name, safe='')}".encode())
    if claims.cache_control is None:
        return shown, NOT_CACHED
    return shown, (NOT_CACHED[0], claims.cache_control.encode("latin-1"))
