"""The page /keys: all API keys; disabling, enabling and deleting one; what the own key may do now."""

from __future__ import annotations

import time

import msgspec
from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.webui import feeds, forms, here
from warehouse.webui.key_lines import line_of
from warehouse.webui.pages.key_secrets import OVERLAPS
from warehouse.webui.paging import rows_of
from warehouse.webui.rendering import page, url
from warehouse.webui.stores import OpenStore

bp = Blueprint("keys", __name__)

FIND_MAX = 200  # characters


@bp.get("/keys")
async def show() -> ResponseReturnValue:
    find = forms.text(request.args, "find", most=FIND_MAX)
    word = find.casefold()
    found = [key for key in await here.store().keys() if _is_found(key, word)]
    keys = rows_of(found, request.args)
    now_ms = time.time() * 1000
    return await page(
        "keys/index.html",
        lines=[line_of(key, now_ms) for key in keys.items],
        keys=keys,
        find=find,
    )


def _is_found(key: warehouse.KeyInfo, word: str) -> bool:
    return any(word in text.casefold() for text in (key.name, key.key_id, key.account, key.description))


# --- what ends something --------------------------------------------------------------------------


@bp.get("/keys/id/<key_id>/<any(rotate, disable, delete):action>")
async def ask(key_id: str, action: str) -> ResponseReturnValue:
    """The question before a change that ends something."""
    here.require("manage_keys")
    key = await here.store().key(key_id)
    return await page(
        "keys/ask.html", key=key, action=action, overlaps=OVERLAPS, is_own=key.key_id == here.opened().key_id
    )


@bp.post("/keys/id/<key_id>/disable")
async def disable(key_id: str) -> ResponseReturnValue:
    key = await here.store().disable_key(key_id)
    here.tell("good", f"Key {key.name} disabled")
    return redirect(url("/keys"), 303)


@bp.post("/keys/id/<key_id>/enable")
async def enable(key_id: str) -> ResponseReturnValue:
    key = await here.store().enable_key(key_id)
    here.tell("good", f"Key {key.name} enabled")
    return redirect(url("/keys"), 303)


@bp.post("/keys/id/<key_id>/delete")
async def delete(key_id: str) -> ResponseReturnValue:
    await here.store().delete_key(key_id)
    here.tell("good", f"Key {key_id} deleted")
    return redirect(url("/keys"), 303)


# --- what the own key may -------------------------------------------------------------------------


@bp.get("/me")
async def show_me() -> ResponseReturnValue:
    """The navigation as it is now, for a page at `at` that has heard that its key changed."""
    here.opened()
    return await page("keys/me.html", path=forms.text(request.args, "at", most=2_000))


# --- news -----------------------------------------------------------------------------------------


@feeds.provider("keys")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that API keys or accounts were made, changed or deleted."""
    async for change in opened.store.changes():
        if "keys" in change.subjects or change.is_missed:
            publish({"at": time.time()})


@feeds.provider("me")
async def follow_own(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that the key of a page may do something else now; when it ends, its pages hear that anyway."""
    before = _lasting(opened.info)
    async for change in opened.store.changes():
        if "key" not in change.subjects and not change.is_missed:
            continue
        opened.info = await opened.store.key()
        if before != (before := _lasting(opened.info)):
            publish({"event": "changed"})


def _lasting(key: warehouse.KeyInfo) -> warehouse.KeyInfo:
    return msgspec.structs.replace(key, last_used_ms=None, abilities=[])
