"""Here: the console, session and key of the request that is being answered."""

from __future__ import annotations

from quart import current_app, g, has_websocket_context, request, websocket

import warehouse
from warehouse.errors import NotAuthenticated
from warehouse.webui.abilities import Abilities
from warehouse.webui.console import Console
from warehouse.webui.security import COOKIE
from warehouse.webui.sessions import Session
from warehouse.webui.stores import OpenStore


def console() -> Console:
    found: Console = current_app.config["CONSOLE"]
    return found


def cookie() -> str | None:
    where = websocket if has_websocket_context() else request
    return where.cookies.get(COOKIE)


def session() -> Session | None:
    """The session of this browser, if it has one; looked up once a request."""
    if "session" not in g:
        g.session = console().sessions.find(cookie())
    found: Session | None = g.session
    return found


def opened() -> OpenStore:
    """The connection of the current key.

    Raises:
        NotAuthenticated: nobody is signed in.
    """
    found = session()
    current = found.current if found is not None else None
    if current is None:
        raise NotAuthenticated("sign in first")
    return current


def store() -> warehouse.Store:
    """The store, with the rights of the current key and no others.

    Raises:
        NotAuthenticated: nobody is signed in.
    """
    return opened().store


def can() -> Abilities:
    """What the current key may do, for pages that leave out what would be refused."""
    return Abilities(opened().info)


def tell(kind: str, text: str) -> None:
    """Have the next page of this browser tell something; kind is "good", "warn" or "bad"."""
    found = session()
    if found is not None:
        found.tell(kind, text)
