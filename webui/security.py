"""Security: what every answer of the console says to the browser, and what every request must show.

- A change (any method but GET and HEAD) comes from a page of this console: its Origin is ours, and it shows
  a CSRF token of its session and current key, in the field `csrf` or the header `X-CSRF-Token`.
- Pages are not compressed, and each has a token of its own: the length of a compressed page tells what is
  in it to whoever can put words next to it (docs/decisions/0011-pages-not-compressed.md).
- A page runs our own scripts and styles, and talks to this console and to the volume actors of the store.
- Nobody puts the console into a frame.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from quart import Request, Response
from quart.wrappers import Websocket

from warehouse.errors import StoreError
from warehouse.webui.console import ConsoleOptions
from warehouse.webui.sessions import Session

COOKIE = "warehouse_session"
BY_ITSELF = "X-By-Itself"  # nobody has touched the page lately
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Forged(StoreError):
    """A change was asked for by something else than a page of this console."""

    code = "request_forged"
    status = 403


def is_our_origin(request: Request | Websocket, options: ConsoleOptions) -> bool:
    """Does this request come from a page of the console?  Browsers say where; programs need not."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return site is not None or isinstance(request, Request)
    allowed = {request.host, urlsplit(options.public_url).netloc} - {""}
    try:
        return urlsplit(origin).netloc in allowed
    except ValueError:  # garbage
        return False


def comes_from_elsewhere(request: Request, options: ConsoleOptions) -> bool:
    """Is this a link that was followed from another site?  Browsers keep a strict cookie back then."""
    headers = request.headers
    return (
        request.method == "GET"
        and cookie_of(request, options) is None
        and headers.get("Sec-Fetch-Site") == "cross-site"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def client_address(request: Request, options: ConsoleOptions) -> str:
    """Whose attempts to sign in are counted together.

    Behind a proxy (`console.url` is set) this is the last address in X-Forwarded-For, which the proxy itself
    has added; otherwise that header is what any stranger says, and the connection counts.  Of IPv6 it is the
    network: each customer has as many addresses as they like.
    """
    peer = request.remote_addr or ""
    told = request.headers.getlist("X-Forwarded-For") if options.public_url else []
    for text in (told[-1].rpartition(",")[2].strip() if told else "", peer):
        try:
            address = ip_address(text)
        except ValueError:
            continue
        if isinstance(address, IPv6Address):
            mapped = address.ipv4_mapped
            return str(mapped) if mapped else str(IPv6Network((int(address), 64), strict=False))
        return str(address)
    return peer


async def require_our_page(request: Request, session: Session | None, options: ConsoleOptions) -> None:
    """
    Raises:
        Forged: the change does not come from a page of this console.
    """
    if request.method in SAFE_METHODS:
        return
    if not is_our_origin(request, options):
        raise Forged("this request comes from another site: open the console and try again there")
    if session is None:
        return  # signing in: there is nothing to protect yet
    expected = session.csrf_secret  # before waiting: meanwhile another tab may switch keys
    shown = request.headers.get("X-CSRF-Token")
    if shown is None:
        shown = (await request.form).get("csrf", "")
    if not is_csrf_token(shown, expected):
        raise Forged("this page is too old: reload it and try again")


def csrf_token(secret: bytes) -> str:
    """A token for one answer: the secret under a mask that comes with it, so that no two are alike.

    Args:
        secret: `Session.csrf_secret`.
    """
    mask = secrets.token_bytes(len(secret))
    return base64.urlsafe_b64encode(mask + _masked(secret, mask)).decode()


def is_csrf_token(shown: str, secret: bytes) -> bool:
    """Is this a token of the secret, from whichever page?"""
    try:
        data = base64.b64decode(shown.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return False
    size = len(secret)
    return len(data) == 2 * size and hmac.compare_digest(_masked(data[size:], data[:size]), secret)


def _masked(data: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, mask, strict=True))


def content_security_policy(data_origins: Iterable[str]) -> str:
    data = " ".join(sorted(data_origins))
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": f"'self' data: blob: {data}",
        "media-src": f"'self' blob: {data}",
        "connect-src": f"'self' {data}",
        "font-src": "'self'",
        "worker-src": "'self'",
        "frame-src": f"'self' {data}",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": f"'self' {data}",
        "manifest-src": "'self'",
    }
    return "; ".join(f"{name} {value.strip()}" for name, value in rules.items())


ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def protect(response: Response, data_origins: Iterable[str], *, is_secure: bool) -> None:
    """Add the headers that every answer has."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", content_security_policy(data_origins))
    headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
    headers.setdefault("Cache-Control", "private, no-store, no-transform")
    for name, value in ALWAYS.items():
        headers[name] = value
    if is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"


def is_of_a_person(request: Request | Websocket) -> bool:
    """Has somebody asked for this?  Scripts say so when a page asks of itself (`shared.js`), and a live
    connection begins again whenever it can."""
    return isinstance(request, Request) and BY_ITSELF not in request.headers


def cookie_name(options: ConsoleOptions) -> str:
    """Where browsers use HTTPS, a name that they take from nobody but the host itself, by HTTPS.

    Otherwise a neighbour (`http:` at the same host, another name of the domain) could put its own session
    into somebody's browser, and see what they do in it.  Source: RFC 6265bis, section 4.1.3.
    """
    if not options.is_secure:
        return COOKIE
    return f"__Secure-{COOKIE}" if options.root else f"__Host-{COOKIE}"


def cookie_of(request: Request | Websocket, options: ConsoleOptions) -> str | None:
    return request.cookies.get(cookie_name(options))


def keep_cookie(response: Response, cookie: str, options: ConsoleOptions, *, most_s: float) -> None:
    """Have the browser keep the cookie for as long as its session lasts if nobody uses it."""
    response.set_cookie(
        cookie_name(options),
        cookie,
        path=f"{options.root}/",
        httponly=True,
        samesite="Strict",
        secure=options.is_secure,
        max_age=int(most_s),
    )


def drop_cookie(response: Response, options: ConsoleOptions) -> None:
    response.delete_cookie(
        cookie_name(options),
        path=f"{options.root}/",
        httponly=True,
        samesite="Strict",
        secure=options.is_secure,
    )
