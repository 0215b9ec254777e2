"""Here: the console, session and key of the request that is being answered."""

from __future__ import annotations

from quart import Request, current_app, g, has_websocket_context, request, websocket
from quart.wrappers import Websocket

import warehouse
from warehouse.errors import NotAuthenticated, PermissionDenied
from warehouse.webui.abilities import Abilities
from warehouse.webui.console import Console
from warehouse.webui.security import cookie_of, is_of_a_person
from warehouse.webui.sessions import Session
from warehouse.webui.stores import OpenStore


def console() -> Console:
    found: Console = current_app.config["CONSOLE"]
    return found


def _asked() -> Request | Websocket:
    return websocket if has_websocket_context() else request


def cookie() -> str | None:
    return cookie_of(_asked(), console().options)


def session() -> Session | None:
    """The session of this browser, if it has one; looked up once a request."""
    if "session" not in g:
        g.session = console().sessions.find(cookie(), is_use=is_of_a_person(_asked()))
    found: Session | None = g.session
    return found


def current() -> OpenStore | None:
    """The connection of the current key, if it has not ended.

    It is the same for all of a request: another tab may switch keys while a page is being made.
    """
    if "opened" not in g:
        found = session()
        g.opened = found.current if found is not None else None
    opened: OpenStore | None = g.opened
    return None if opened is None or opened.ended.is_set() else opened


def opened() -> OpenStore:
    """The connection of the current key.

    Raises:
        NotAuthenticated: nobody is signed in.
    """
    found = current()
    if found is None:
        raise NotAuthenticated("sign in first")
    return found


def drop_ended() -> None:
    """Sign out the key that this request was made with: the store has said that it has ended.

    Another tab may have made another key the current one meanwhile, or have signed in anew with the same one.
    """
    found = session()
    if found is None:
        return
    used: OpenStore | None = g.get("opened")
    if used is None:  # it had ended before the request came
        last = found.keys.get(found.current_id)
        used = last if last is not None and last.ended.is_set() else None
    if used is not None and found.keys.get(used.key_id) is used:
        found.drop(used.key_id)


def store() -> warehouse.Store:
    """The store, with the rights of the current key and no others.

    Raises:
        NotAuthenticated: nobody is signed in.
    """
    return opened().store


def can() -> Abilities:
    """What the current key may do, for pages that leave out what would be refused."""
    return Abilities(opened().info)


def data_origins() -> frozenset[str]:
    """Where this answer may load objects from; strangers are not told where the volume actors are."""
    return console().data_origins if current() is not None else frozenset()


def require(permission: str) -> None:
    """For pages that would otherwise ask the store nothing.

    Raises:
        NotAuthenticated: nobody is signed in.
        PermissionDenied: the key lacks this permission.
    """
    if not can().has(permission):
        raise PermissionDenied(f"this key lacks the permission {permission}")


def tell(kind: str, text: str) -> None:
    """Have the next page of this browser tell something; kind is "good", "warn" or "bad"."""
    found = session()
    if found is not None:
        found.tell(kind, text)
