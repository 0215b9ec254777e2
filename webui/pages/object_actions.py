"""What is done with selected objects: deleting, copying, moving, renaming, and links for others.

Each begins with a question (`/selection/ACTION`), a dialog where scripts run and a page where none do.  Its
answer goes to `/selection/ACTION/go`.  What is done within a second is told in a toast, and the rest goes on
in the panel.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from quart import Blueprint, Response, redirect, request
from quart.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from warehouse.conf.formatting import format_size
from warehouse.errors import BadRequest
from warehouse.webui import bulk, forms, here
from warehouse.webui.listing import KEY_MAX, View
from warehouse.webui.names import is_loopback, last_part, visible
from warehouse.webui.qr import qr_code
from warehouse.webui.rendering import is_htmx, page, plural, toasts_of, url
from warehouse.webui.selection import Selection, Sum
from warehouse.webui.work import Job, Work

bp = Blueprint("object_actions", __name__)

COUNT_S = 0.4  # a question counts for so long
NAMES_SHOWN = 10
LINKS_MAX = 100  # at once
LIVES_S = (600, 3600, 8 * 3600, 86_400, 3 * 86_400, 7 * 86_400)  # of links, to choose from
LIFE_MAX_S = LIVES_S[-1]

Form = MultiDict[str, str]
Act = Callable[[View, Selection, Form], Awaitable[ResponseReturnValue]]


@bp.post("/buckets/<bucket>/selection/<any(delete, copy, move, rename, link):action>")
async def ask(bucket: str, action: str) -> ResponseReturnValue:
    form = await request.form
    selection, view = Selection.read(form), View.read(bucket, form)
    values: dict[str, Any] = {"selection": selection, "view": view, "bucket": bucket}
    if action in ("copy", "move"):
        can = here.can()
        names = [info.name for info in await here.store().buckets()]
        values["targets"] = [name for name in names if can.may_somewhere("write", name)]
    if action == "link":
        values["lives_s"] = _lives_s(here.can().key.sign_s_max)
    else:
        values["amount"] = _amount(await selection.sum(here.store().bucket(bucket), COUNT_S))
    names = [visible(last_part(name)) for name in selection.names]
    values |= {"names": names[:NAMES_SHOWN], "more_names": max(0, len(names) - NAMES_SHOWN)}
    return await page(f"objects/ask_{action}.html", **values)


@bp.post("/buckets/<bucket>/selection/<any(delete, copy, move, rename, link):action>/go")
async def go(bucket: str, action: str) -> ResponseReturnValue:
    form = await request.form
    return await ACTS[action](View.read(bucket, form), Selection.read(form), form)


@bp.post("/buckets/<bucket>/selection/sum")
async def tell_sum(bucket: str) -> ResponseReturnValue:
    """What a selection comes to, with all that is in its folders, as JSON for the line above a list."""
    selection = Selection.read(await request.form)
    return {"words": _amount(await selection.sum(here.store().bucket(bucket), COUNT_S))}


# --- what they do ---------------------------------------------------------------------------------


async def _delete(view: View, selection: Selection, form: Form) -> ResponseReturnValue:
    job = partial(bulk.delete, bucket=here.store().bucket(view.bucket), selection=selection)
    return await _start(view, f"Deleting {_title(view, selection)}", job)


async def _copy(view: View, selection: Selection, form: Form, *, moves: bool = False) -> ResponseReturnValue:
    folder = _key_text(form, "folder")
    if folder and not folder.endswith("/"):
        folder += "/"
    to = forms.text(form, "to", least=1, most=200, label="Bucket")
    target = bulk.Target(
        bucket=here.store().bucket(to),
        key_of=lambda key: folder + key[len(view.prefix) :],
        replaces=forms.is_checked(form, "replaces"),
        moves=moves,
        did="Moved" if moves else "Copied",
        folder=folder if selection.query is not None and _is_among(view, folder, to) else "",
    )
    _require_elsewhere(view, selection, target)
    verb = "Moving" if moves else "Copying"
    return await _start(view, f"{verb} {_title(view, selection)}", _copying(view, selection, target))


async def _rename(view: View, selection: Selection, form: Form) -> ResponseReturnValue:
    """One object, or one folder with all that is in it."""
    if len(selection.names) != 1 or selection.query is not None:
        raise BadRequest("one object or folder can be renamed at a time")
    (before,) = selection.names
    name = _key_text(form, "name")
    is_folder = bool(selection.prefixes)
    name = name.rstrip("/") if is_folder else name
    if not name:
        raise BadRequest("Name is missing")
    after = before[: len(before) - len(last_part(before))] + name + ("/" if is_folder else "")
    target = bulk.Target(
        bucket=here.store().bucket(view.bucket),
        key_of=lambda key: after + key[len(before) :],
        moves=True,
        did="Renamed",
    )
    _require_elsewhere(view, selection, target)
    return await _start(view, f"Renaming {_title(view, selection)}", _copying(view, selection, target))


def _is_among(view: View, folder: str, to: str) -> bool:
    """Is this a folder below the one that is shown?  All that match are looked for there, too."""
    return to == view.bucket and folder != view.prefix and folder.startswith(view.prefix)


def _require_elsewhere(view: View, selection: Selection, target: bulk.Target) -> None:
    """
    Raises:
        BadRequest: a folder would go into itself.
    """
    for prefix in selection.prefixes if target.bucket.name == view.bucket else ():
        after = target.key_of(prefix)
        if after != prefix and after.startswith(prefix):
            raise BadRequest(f"the folder {visible(last_part(prefix))} cannot go into itself")


def _copying(view: View, selection: Selection, target: bulk.Target) -> Job:
    return partial(bulk.copy, bucket=here.store().bucket(view.bucket), selection=selection, target=target)


async def _link(view: View, selection: Selection, form: Form) -> ResponseReturnValue:
    """Signed URLs, with which anybody can read the objects for a while."""
    if selection.prefixes or selection.query is not None or len(selection.keys) > LINKS_MAX:
        raise BadRequest(f"links are made for up to {LINKS_MAX} objects, and not for folders")
    life_s = forms.number(form, "life_s", least=1, most=LIFE_MAX_S)
    disposition = forms.choice(form, "disposition", ("inline", "attachment"), "inline")
    is_once = forms.is_checked(form, "once")
    bucket = here.store().bucket(view.bucket)
    links = []
    for key, _ in selection.keys:
        link = await bucket.presign_get(
            key, life_s, disposition="inline" if disposition == "inline" else "attachment", once=is_once
        )
        links.append((visible(last_part(key)), link))
    picture = qr_code(links[0][1]) if len(links) == 1 else None
    values: dict[str, Any] = {"view": view, "bucket": view.bucket, "links": links, "picture": picture}
    is_local = any(is_loopback(urlsplit(link).hostname or "") for _, link in links)
    return await page("objects/links.html", life_s=life_s, is_once=is_once, is_local=is_local, **values)


ACTS: dict[str, Act] = {
    "delete": _delete,
    "copy": _copy,
    "move": partial(_copy, moves=True),
    "rename": _rename,
    "link": _link,
}


# --- inside ---------------------------------------------------------------------------------------


def _key_text(form: Form, name: str) -> str:
    """A part of a key, as it was typed, with its spaces."""
    text = form.get(name, "")
    if len(text) > KEY_MAX:
        raise BadRequest(f"{name} has {len(text)} characters; allowed are {KEY_MAX}")
    return text


def _lives_s(longest_s: int | None) -> list[int]:
    """How long links of this key may live, to choose from."""
    if longest_s is None or longest_s >= LIFE_MAX_S:
        return [*LIVES_S]
    return [*(life_s for life_s in LIVES_S if life_s < longest_s), longest_s]


def _amount(found: Sum) -> str:
    words = f"{plural(found.object_count, 'object')}, {format_size(found.byte_count)}"
    return words if found.is_complete else f"more than {words}"


def _title(view: View, selection: Selection) -> str:
    names = selection.names
    if len(names) == 1 and selection.query is None:
        return f"{visible(last_part(names[0]))} in {view.bucket}"
    return f"{'all that match' if selection.query else plural(len(names), 'item')} in {view.bucket}"


async def _start(view: View, title: str, job: Job) -> ResponseReturnValue:
    """Start work; wait for it a moment, and tell how it ended if it has.

    Raises:
        StoreError: it ended at once, and nothing was done.
    """
    opened = here.opened()
    work = await here.console().works.start_and_see(opened.work, opened.ended, title, job)
    toasts = [] if work.is_running else _told(work)
    if is_htmx():
        events = {"toasts": toasts_of(toasts), "done": {}}
        return Response("", 204, {"HX-Trigger": json.dumps(events)})
    for kind, text in toasts:
        here.tell(kind, text)
    return redirect(url(view.path()), 303)


def _told(work: Work) -> list[tuple[str, str]]:
    """What toasts say about work that has ended."""
    if work.state == "done":
        return [("good", work.message)]
    told = [("bad", text) for text in work.failures]
    if work.failure_count > len(told):
        told.append(("bad", f"and {work.failure_count - len(told):,} more"))
    if work.done_count or not told:
        told.insert(0, ("warn" if told else "bad", work.message))
    return told
