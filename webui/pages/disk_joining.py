"""The pages below /volumes that let a machine join: a token, and the commands to paste there."""

from __future__ import annotations

from urllib.parse import urlsplit

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from warehouse.webui import forms, here
from warehouse.webui.joining import Joining, commands, join_of
from warehouse.webui.names import is_loopback
from warehouse.webui.rendering import page, url

bp = Blueprint("disk_joining", __name__)

LIVES = {"3600": "1 hour", "86400": "1 day", "604800": "1 week", "never": "until it is revoked"}
ROLES = {"both": "volume and compactor", "volume": "volume only", "compactor": "compactor only"}


@bp.get("/volumes/add")
async def ask_to_add() -> ResponseReturnValue:
    here.require("manage_cluster")
    return await page(
        "disks/add.html", lives=LIVES, roles=ROLES, address=_address(), store_is_local=_is_local()
    )


@bp.post("/volumes/add")
async def add() -> ResponseReturnValue:
    """Make a join token, and the commands that use it."""
    form = await request.form
    life = forms.choice(form, "life", tuple(LIVES), "86400")
    role = forms.choice(form, "role", tuple(ROLES), "both")
    folder = forms.text(form, "folder", least=1, most=1000, label="Folder of the disk")
    host = forms.text(form, "host", most=255, label="Address")
    port = forms.number(form, "port", least=1, most=65535, default=7410)
    scheme = await _scheme()  # first: a token that nobody is shown would be left over
    made = await here.store().create_join_token(
        role=role,
        is_reusable=forms.is_checked(form, "reusable"),
        expires_in_s=None if life == "never" else float(life),
    )
    profile = here.opened().profile
    joining = Joining(
        made.token,
        made.expires_ms,
        commands(
            join_of(profile, made.token, host=_address()),
            role=role,
            folder=folder,
            host=host,
            port=port,
            scheme=scheme,
        ),
    )
    session = here.session()
    assert session is not None
    session.keep_once(f"token {made.token_id}", joining)
    return redirect(url(f"/volumes/joining/{made.token_id}"), 303)


@bp.get("/volumes/joining/<token_id>")
async def show_joining(token_id: str) -> ResponseReturnValue:
    """A new join token and the commands to paste; shown once."""
    here.require("manage_cluster")
    session = here.session()
    joining = session.take_once(f"token {token_id}") if session is not None else None
    if not isinstance(joining, Joining):
        return await page("disks/joining.html", status=410, joining=None)
    return await page("disks/joining.html", joining=joining, store_is_local=_is_local())


async def _scheme() -> str:
    """ "https" where the disks of the store speak TLS."""
    disks = await here.store().disks() if here.can().see_cluster else []
    return "https" if any(disk.url.startswith("https:") for disk in disks) else "http"


def _address() -> str:
    """Where other machines reach the master: as this console does, or as this browser reaches the console."""
    known = urlsplit(here.opened().profile.master).hostname or ""
    shown = urlsplit(f"//{request.host}").hostname or ""
    return shown if is_loopback(known) and not is_loopback(shown) else known


def _is_local() -> bool:
    return is_loopback(urlsplit(here.opened().profile.master).hostname or "")
