"""The pages below /keys with the form of an API key: making, importing and editing one."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.errors import BadRequest, NotAuthenticated, StoreError, TokenRevoked
from warehouse.webui import forms, here
from warehouse.webui.key_forms import LIMITS, LIVES, KeyForm, Row, as_command, as_json, changes
from warehouse.webui.key_lines import line_of
from warehouse.webui.key_rights import GRANT_FLAGS, OBJECT_FLAGS, PRESET_FLAGS, STORE_FLAGS, WORDS
from warehouse.webui.pages.key_secrets import SECRET_MAX, show_next
from warehouse.webui.rendering import page, url

bp = Blueprint("key_editing", __name__)

KEY_ID_MAX = 200
BUCKETS_OFFERED = 1_000


@bp.get("/keys/new")
async def ask_for_new() -> ResponseReturnValue:
    return await _show_form(_first_form())


@bp.get("/keys/import")
async def ask_for_imported() -> ResponseReturnValue:
    return await _show_form(_first_form(), is_import=True)


def _first_form() -> KeyForm:
    """A reader's, as far as the signed-in key can give that."""
    here.require("manage_keys")
    mine = here.opened().info
    form = KeyForm(account=mine.account, is_everywhere=mine.grants is None)
    form = form.after("preset-reader", mine.permissions)
    return form if form.is_everywhere else form.after("add", mine.permissions)


@bp.post("/keys/new")
async def create() -> ResponseReturnValue:
    here.require("manage_keys")
    sent = await request.form
    form, action = KeyForm.read(sent), sent.get("do", "save")
    if action != "save":
        return await _show_form(form.after(action, here.opened().info.permissions))
    try:
        new = await here.store().create_key(**form.wish(datetime.now(UTC)))
    except StoreError as error:
        return await _show_form(form, error=_or_raise(error))
    return show_next(new, is_new=True)


@bp.post("/keys/import")
async def import_() -> ResponseReturnValue:
    here.require("manage_keys")
    sent = await request.form
    form, action = KeyForm.read(sent), sent.get("do", "save")
    key_id = forms.text(sent, "key_id", most=KEY_ID_MAX)
    if action != "save":
        form = form.after(action, here.opened().info.permissions)
        return await _show_form(form, is_import=True, key_id=key_id)
    try:
        secret = forms.text(sent, "secret", least=1, most=SECRET_MAX)
        wish = form.wish(datetime.now(UTC))
        key = await here.store().import_key(key_id, secret, **wish)
    except StoreError as error:
        return await _show_form(form, error=_or_raise(error), is_import=True, key_id=key_id)
    here.tell("good", f"Key {key.name} imported")
    return redirect(url(f"/keys/id/{key.key_id}"), 303)


def _or_raise(error: StoreError) -> StoreError:
    """Failures that the form can tell; those of the session are the application's."""
    if isinstance(error, NotAuthenticated | TokenRevoked):
        raise error
    return error


async def _show_form(
    form: KeyForm,
    *,
    key: warehouse.KeyInfo | None = None,
    error: StoreError | None = None,
    is_import: bool = False,
    key_id: str = "",
    doubts: str = "",
) -> ResponseReturnValue:
    """The form; of a key that there is, with all about it."""
    store, mine = here.store(), here.opened().info
    have = set(mine.permissions)
    rows = form.rows or ((Row(),) if not form.is_everywhere else ())
    return await page(
        "keys/form.html",
        status=error.status if error is not None else 422 if doubts else 200,
        form=form,
        rows=rows,
        key=key,
        line=None if key is None else line_of(key, time.time() * 1000),
        error=error,
        doubts=doubts,
        is_import=is_import,
        is_own=key is not None and key.key_id == mine.key_id,
        key_id=key_id,
        accounts=[account.name for account in await store.accounts()],
        buckets=[bucket.name for bucket in (await store.buckets())[:BUCKETS_OFFERED]],
        can_everywhere=mine.grants is None,
        presets=[name for name, flags in PRESET_FLAGS.items() if have & set(flags)],
        object_flags=[name for name in OBJECT_FLAGS if name in have],
        store_flags=[name for name in ("manage_buckets", *STORE_FLAGS) if name in have],
        grant_flags=[name for name in GRANT_FLAGS if name in have],
        words=WORDS,
        lives=LIVES,
        limits=LIMITS,
        **_preview(form, key, is_import=is_import, key_id=key_id),
    )


def _preview(
    form: KeyForm, key: warehouse.KeyInfo | None, *, is_import: bool = False, key_id: str = ""
) -> dict[str, Any]:
    """What the form comes to: sentences, JSON, the command; or what is wrong with it."""
    now = datetime.now(UTC)
    told: dict[str, Any] = {"told": form.sentences(), "wish_json": "", "command": "", "wrong": ""}
    try:
        wish = form.wish(now, None if key is None or key.expires_ms is None else _moment(key.expires_ms))
        told["wish_json"] = as_json(wish)
        if key is not None:
            changed = changes(form, key, now)
            told["command"] = as_command(changed, key.key_id) if changed else ""
        else:
            command = as_command(wish)
            told["command"] = _import_command(command, wish["name"], key_id) if is_import else command
    except BadRequest as error:
        told["wrong"] = error.message
    return told


def _import_command(command: str, name: str, key_id: str) -> str:
    """The same key by `keys import`, which reads the secret from a file."""
    words = as_command({"name": name})
    rest = command.removeprefix(words)
    return f"{as_command({'name': key_id or 'KEY_ID'}).replace(' create ', ' import ', 1)}{rest} < secret.txt"


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


@bp.post("/keys/preview")
async def preview() -> ResponseReturnValue:
    """What a key of the form could do, while somebody fills it in."""
    here.require("manage_keys")
    sent = await request.form
    key_id = forms.text(sent, "of", most=KEY_ID_MAX)
    key = await here.store().key(key_id) if key_id else None
    imported = forms.text(sent, "key_id", most=KEY_ID_MAX)
    return await page(
        "keys/_preview.html", **_preview(KeyForm.read(sent), key, is_import="key_id" in sent, key_id=imported)
    )


# --- one key --------------------------------------------------------------------------------------


@bp.get("/keys/id/<key_id>")
async def show_one(key_id: str) -> ResponseReturnValue:
    here.require("manage_keys")
    key = await here.store().key(key_id)
    return await _show_form(KeyForm.of(key), key=key)


@bp.post("/keys/id/<key_id>")
async def edit(key_id: str) -> ResponseReturnValue:
    sent = await request.form
    here.require("manage_keys")
    key = await here.store().key(key_id)
    form, action = KeyForm.read(sent), sent.get("do", "save")
    if action != "save":
        return await _show_form(form.after(action, here.opened().info.permissions), key=key)
    try:
        wish = changes(form, key, datetime.now(UTC))
        doubts = _doubts(key, wish)
        if doubts and not forms.is_checked(sent, "sure"):
            return await _show_form(form, key=key, doubts=doubts)
        if wish:
            await here.store().edit_key(key_id, **wish)
    except StoreError as error:
        return await _show_form(form, key=key, error=_or_raise(error))
    here.tell("good", f"Key {wish.get('name', key.name)} changed" if wish else "Nothing was changed")
    return redirect(url("/keys"), 303)


def _doubts(key: warehouse.KeyInfo, wish: dict[str, Any]) -> str:
    """What somebody loses who changes the key they are signed in with; "": nothing."""
    if key.key_id != here.opened().key_id:
        return ""
    lost = [name for name in key.permissions if name not in wish.get("permissions", key.permissions)]
    parts = [WORDS.get(name, name) for name in lost]
    if "grants" in wish and wish["grants"] is not None:
        parts.append("Reach buckets that it reaches now")
    if wish.get("expires") is not None:
        parts.append("Work after the day that you chose")
    if not parts:
        return ""
    return f"You are signed in with this key. Afterwards it may not: {'; '.join(parts)}."
