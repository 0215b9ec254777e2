"""Signing in and out, and switching between keys.

A person shows the id and the secret of an API key, or follows a link with a one-time code.  Afterwards they
are where they wanted to be.
"""

from __future__ import annotations

import logging
import math

import trio
from quart import Blueprint, Response, make_response, redirect, request
from quart.typing import ResponseReturnValue

from warehouse.errors import BadCredentials, NoSuchApiKey, NotAuthenticated, Overloaded, StoreError
from warehouse.webui import forms, here
from warehouse.webui.names import is_download, safe_next
from warehouse.webui.rendering import page, url
from warehouse.webui.security import client_address, drop_cookie, keep_cookie
from warehouse.webui.stores import OpenStore

log = logging.getLogger(__name__)
bp = Blueprint("sign_in", __name__)


def _next(wanted: str | None) -> str:
    return safe_next(wanted, here.console().options.root)


@bp.get("/sign-in")
async def show() -> ResponseReturnValue:
    following = _next(request.args.get("next"))
    code = request.args.get("code", "")
    if code:
        profile = await trio.to_thread.run_sync(here.console().codes.look, code)
        return await page("sign_in/code.html", code=code, key_id=profile.key_id, next=following)
    cause = request.args.get("cause", "")
    session = here.session()
    if cause == "elsewhere" and session is not None and session.current is not None:
        return redirect(following, 303)
    return await page("sign_in/index.html", next=following, cause=cause, key_id="", message="")


@bp.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    form = await request.form
    following = _next(form.get("next"))
    key_id = forms.text(form, "key_id", most=200, label="Key id")
    try:
        if code := forms.text(form, "code", most=100):
            profile = await trio.to_thread.run_sync(here.console().codes.take, code)
            opened = await here.console().stores.sign_in(profile.key_id, profile.secret)
        else:
            opened = await _checked(key_id, forms.text(form, "secret", most=1024))
    except StoreError as error:
        message = error.message
        return await page(
            "sign_in/index.html",
            status=error.status,
            next=following,
            cause="",
            key_id=key_id,
            message=message,
        )
    response = await make_response(await _go_on(following))
    assert isinstance(response, Response)
    _begin(opened, response)
    return response


async def _go_on(following: str) -> ResponseReturnValue:
    """Lead to where a person wanted to be.

    A form may lead to this console and, for who is signed in, to the volume actors; redirects count.  This
    form was shown to a stranger, so a download goes on from a page of its own.
    """
    if is_download(following, here.console().options.root):
        return await page("sign_in/download.html", where=following)
    return redirect(following, 303)


async def _checked(key_id: str, secret: str) -> OpenStore:
    """
    Raises:
        BadCredentials: the store does not know this key, or it does not work any more.
        Overloaded: too many attempts of this address have failed.
    """
    attempts = here.console().attempts
    address = client_address(request, here.console().options)
    wait_s = attempts.wait_s(address, trio.current_time())
    if wait_s > 0:
        raise Overloaded(f"too many attempts to sign in have failed: try again in {math.ceil(wait_s)} s")
    if not key_id or not secret:
        raise BadCredentials("type the id and the secret of an API key")
    attempts.begin(address, trio.current_time())
    try:
        opened = await here.console().stores.sign_in(key_id, secret)
    except (BadCredentials, NotAuthenticated):
        log.info("signing in failed", extra={"address": address})
        raise BadCredentials(
            "the store does not know this key, the secret is wrong, or the key is disabled or expired"
        ) from None
    except BaseException:  # the store is away: nobody has guessed anything
        attempts.succeeded(address, trio.current_time())
        raise
    attempts.succeeded(address, trio.current_time())
    return opened


def _begin(opened: OpenStore, response: Response) -> None:
    """Put the key into this browser's session, under a new cookie."""
    sessions = here.console().sessions
    before, cookie_before = here.session(), here.cookie()
    taken_over = [
        other
        for other in (before.keys.values() if before is not None else ())
        if not other.ended.is_set() and other.key_id != opened.key_id
    ]
    cookie, session = sessions.begin(began_s=before.began_s if before is not None and taken_over else None)
    for other in taken_over:
        session.add(other.use())
    if cookie_before is not None:
        sessions.end(cookie_before)
    session.add(opened)
    sessions.end_surplus(opened.key_id)
    keep_cookie(response, cookie, here.console().options, most_s=sessions.left_s(session))


@bp.post("/sign-out")
async def sign_out() -> ResponseReturnValue:
    """Sign out the current key, or with `all` the whole session."""
    session, cookie = here.session(), here.cookie()
    form = await request.form
    response = await make_response(redirect(url("/sign-in"), 303))
    assert isinstance(response, Response)
    if session is None or cookie is None:
        return response
    if not forms.is_checked(form, "all"):
        session.drop(session.current_id)
        if session.current is not None:
            return redirect(url("/"), 303)
    here.console().sessions.end(cookie)
    drop_cookie(response, here.console().options)
    response.headers["Clear-Site-Data"] = '"storage"'
    return response


@bp.post("/switch")
async def switch() -> ResponseReturnValue:
    """Make another key of this session the current one."""
    session = here.session()
    form = await request.form
    key_id = forms.text(form, "key_id", most=200, label="Key id")
    if session is None or not session.keys:
        raise NotAuthenticated("sign in first")
    if key_id not in session.keys:  # another tab has signed it out; the current key goes on
        raise NoSuchApiKey("this key is not signed in here any more")
    session.switch(key_id)
    return redirect(url("/"), 303)
