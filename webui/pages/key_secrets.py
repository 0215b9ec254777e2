"""The pages below /keys with a secret: rotating one, and showing a new one once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from quart import Blueprint, Response, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.conf.profile import Profile
from warehouse.errors import StoreError
from warehouse.webui import forms, here
from warehouse.webui.rendering import page, url

bp = Blueprint("key_secrets", __name__)

SECRET_MAX = 1024  # characters
OVERLAPS = {"0": "ends at once", "3600": "works for 1 hour more", "86400": "works for 1 day more",
            "604800": "works for 1 week more", "2592000": "works for 30 days more"}  # fmt: skip


@dataclass(frozen=True)
class Secret:
    """What a page shows once."""

    new: warehouse.NewKey
    is_new: bool


def show_next(new: warehouse.NewKey, *, is_new: bool) -> ResponseReturnValue:
    """The secret waits here for the page that the browser opens next, which takes it away."""
    session = here.session()
    assert session is not None
    session.keep_once(f"key {new.key_id}", Secret(new, is_new))
    return redirect(url(f"/keys/id/{new.key_id}/secret"), 303)


@bp.get("/keys/id/<key_id>/secret")
async def show_secret(key_id: str) -> ResponseReturnValue:
    """The secret of a new key, or after a rotation; shown once, also if the page is loaded again."""
    session = here.session()
    secret = session.take_once(f"key {key_id}") if session is not None else None
    if not isinstance(secret, Secret):
        return await page("keys/secret.html", status=410, secret=None, key_id=key_id)
    return await page("keys/secret.html", secret=secret, key_id=key_id, profile=secret.new.profile.text())


@bp.post("/keys/id/<key_id>/profile")
async def download_profile(key_id: str) -> ResponseReturnValue:
    """The profile of a key as a file; the page that shows the secret sends it."""
    opened, form = here.opened(), await request.form
    at = opened.profile
    secret = forms.text(form, "secret", least=1, most=SECRET_MAX)
    profile = Profile(at.master, at.server_key, key_id, secret, at.authority)
    name = "".join(letter for letter in key_id if letter.isascii() and (letter.isalnum() or letter in "._-"))
    headers = {
        "Content-Disposition": f'attachment; filename="{name[:100]}.toml"',
        "Cache-Control": "no-store",
    }
    return Response(profile.text(), headers=headers, content_type="application/toml")


@bp.post("/keys/id/<key_id>/rotate")
async def rotate(key_id: str) -> ResponseReturnValue:
    form = await request.form
    overlap = forms.choice(form, "overlap", tuple(OVERLAPS), "86400")
    session, is_own = here.session(), key_id == here.opened().key_id
    new = await here.store().rotate_key(key_id, overlap_s=float(overlap))
    answer = show_next(new, is_new=False)  # first: nobody can find the secret out again
    if session is not None and is_own:
        # The connection with the secret before ends with it.  Whoever cannot stay signed in sees the new one
        # all the same, and signs in with it.
        with suppress(StoreError):
            session.add(await here.console().stores.sign_in(key_id, new.secret))
    return answer
