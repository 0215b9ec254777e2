"""The page /keys: API keys, what they may do, and their secrets, which are shown once."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
from quart import Blueprint, Response, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.conf.profile import Profile
from warehouse.errors import BadRequest, NotAuthenticated, StoreError, TokenRevoked
from warehouse.webui import feeds, forms, here
from warehouse.webui.key_forms import LIMITS, LIVES, KeyForm, Row, as_command, as_json, changes
from warehouse.webui.key_rights import (
    GRANT_FLAGS,
    OBJECT_FLAGS,
    PRESET_FLAGS,
    STORE_FLAGS,
    WORDS,
    in_words,
    is_within,
)
from warehouse.webui.rendering import page, url
from warehouse.webui.stores import OpenStore

bp = Blueprint("keys", __name__)

PAGE_SIZE = 100
FIND_MAX = 200  # characters
KEY_ID_MAX = 200
SECRET_MAX = 1024
BUCKETS_OFFERED = 1_000
OVERLAPS = {"0": "ends at once", "3600": "works for 1 hour more", "86400": "works for 1 day more",
            "604800": "works for 1 week more", "2592000": "works for 30 days more"}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A key in the table.

    Attributes:
        is_ours: the signed-in key may change it.
    """

    key: warehouse.KeyInfo
    can: str
    where: str
    state: tuple[str, str]
    is_ours: bool


def line_of(key: warehouse.KeyInfo, now_ms: float) -> Line:
    return Line(
        key, in_words(key.permissions), _where(key), _state(key, now_ms), is_within(here.opened().info, key)
    )


def _where(key: warehouse.KeyInfo) -> str:
    if not set(key.permissions) & set(GRANT_FLAGS):
        return ""
    if key.grants is None:
        return "every bucket"
    places = [f"{grant.bucket}/{grant.prefix}*" if grant.prefix else grant.bucket for grant in key.grants[:2]]
    left = len(key.grants) - len(places) + key.hidden_grant_count
    return ", ".join(places + ([f"{left} more"] if left else [])) or "no bucket"


def _state(key: warehouse.KeyInfo, now_ms: float) -> tuple[str, str]:
    """A kind of pill, and its word."""
    if not key.is_enabled:
        return "warn", "disabled"
    if key.expires_ms is not None and key.expires_ms <= now_ms:
        return "bad", "expired"
    return "good", "enabled"


# --- the list -------------------------------------------------------------------------------------


@bp.get("/keys")
async def show() -> ResponseReturnValue:
    find = forms.text(request.args, "find", most=FIND_MAX)
    start = forms.number(request.args, "start", least=0, most=1_000_000, default=0)
    word = find.casefold()
    found = [key for key in await here.store().keys() if _is_found(key, word)]
    shown = islice(found, start, start + PAGE_SIZE)
    now_ms = time.time() * 1000
    return await page(
        "keys/index.html",
        lines=[line_of(key, now_ms) for key in shown],
        total_count=len(found),
        find=find,
        start=start,
        next_start=start + PAGE_SIZE if start + PAGE_SIZE < len(found) else 0,
    )


def _is_found(key: warehouse.KeyInfo, word: str) -> bool:
    return any(word in text.casefold() for text in (key.name, key.key_id, key.account, key.description))


# --- making ---------------------------------------------------------------------------------------


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
    return _show_secret_next(new, is_new=True)


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


@bp.get("/keys/id/<key_id>/<any(rotate, disable, delete):action>")
async def ask(key_id: str, action: str) -> ResponseReturnValue:
    """The question before a change that ends something."""
    here.require("manage_keys")
    key = await here.store().key(key_id)
    return await page(
        "keys/ask.html", key=key, action=action, overlaps=OVERLAPS, is_own=key.key_id == here.opened().key_id
    )


@bp.post("/keys/id/<key_id>/rotate")
async def rotate(key_id: str) -> ResponseReturnValue:
    form = await request.form
    overlap = forms.choice(form, "overlap", tuple(OVERLAPS), "86400")
    session, is_own = here.session(), key_id == here.opened().key_id
    new = await here.store().rotate_key(key_id, overlap_s=float(overlap))
    answer = _show_secret_next(new, is_new=False)  # first: nobody can find the secret out again
    if session is not None and is_own:
        # The connection with the secret before ends with it.  Whoever cannot stay signed in sees the new one
        # all the same, and signs in with it.
        with suppress(StoreError):
            session.add(await here.console().stores.sign_in(key_id, new.secret))
    return answer


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


# --- secrets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Secret:
    """What a page shows once."""

    new: warehouse.NewKey
    is_new: bool


def _show_secret_next(new: warehouse.NewKey, *, is_new: bool) -> ResponseReturnValue:
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
