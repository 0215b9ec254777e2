"""Security: what every answer of the console says to the browser, and what every request must show.

- A change (any method but GET and HEAD) comes from a page of this console: its Origin is ours, and it shows
  the CSRF token of its session, in the field `csrf` or the header `X-CSRF-Token`.
- A page runs our own scripts and styles, and talks to this console and to the volume actors of the store.
- Nobody puts the console into a frame.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from quart import Request, Response
from quart.wrappers import Websocket

from warehouse.errors import StoreError
from warehouse.webui.console import ConsoleOptions
from warehouse.webui.sessions import Session

COOKIE = "warehouse_session"
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
    allowed = {request.host}
    if options.public_url:
        allowed.add(urlsplit(options.public_url).netloc)
    return urlsplit(origin).netloc in allowed


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
    shown = request.headers.get("X-CSRF-Token")
    if shown is None:
        shown = (await request.form).get("csrf", "")
    if not hmac.compare_digest(shown.encode(), session.csrf.encode()):
        raise Forged("this page is too old: reload it and try again")


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


def protect(response: Response, data_origins: Iterable[str], *, is_secure: bool) -> None:
    """Add the headers that every answer has."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", content_security_policy(data_origins))
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
    headers.setdefault("Cache-Control", "private, no-store")
    if is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"


def keep_cookie(response: Response, cookie: str, options: ConsoleOptions) -> None:
    response.set_cookie(
        COOKIE,
        cookie,
        path=f"{options.root}/",
        httponly=True,
        samesite="Strict",
        secure=options.is_secure,
        max_age=int(options.session_s),
    )


def drop_cookie(response: Response, options: ConsoleOptions) -> None:
    response.delete_cookie(COOKIE, path=f"{options.root}/", httponly=True, samesite="Strict")
