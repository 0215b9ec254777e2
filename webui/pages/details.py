"""The page of one object: what is known of it, a preview, and what can be done with it.

    GET  /buckets/NAME/objects/KEY     as=KIND: shown as that; bytes=N: so much of it
    GET  /buckets/NAME/state/KEY       whether it is still the version that a page shows
    GET  /buckets/NAME/check/KEY       why a browser could not show it
    POST /buckets/NAME/metadata/KEY    another content type and other user metadata

A key whose path a browser would change stands in `?key=`, as `names.object_url` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, unquote, urlencode

from quart import Blueprint, current_app, redirect, request
from quart.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

import warehouse
from warehouse.errors import BadRequest, NoSuchObject, ObjectReplaced, PreconditionFailed
from warehouse.webui import forms, here
from warehouse.webui.abilities import ObjectRights
from warehouse.webui.listing import KEY_MAX
from warehouse.webui.names import bucket_url, last_part, object_url, visible
from warehouse.webui.previews.kinds import KINDS
from warehouse.webui.previews.preview import Preview, Previewer, check
from warehouse.webui.rendering import is_plain_value, page, url
from warehouse.webui.selection import Selection
from warehouse.webui.stored import stored_facts
from warehouse.webui.work import Work

bp = Blueprint("details", __name__)

URL_LIFE_S = 6 * 3600.0  # of signed URLs in a page: a film is watched for hours
CHUNKS_SHOWN = 100
CHUNKS_ASKED = 10_000  # objects with more chunks say how many they are, not where
SPARE_ROWS = 3  # of metadata, for new ones
ROWS_MAX = 200
DRAWERS = {"pdf": "vendor/pdf.min.mjs", "parquet": "vendor/hyparquet/index.js"}


@dataclass(frozen=True)
class Piece:
    """A chunk of the object, and where it lies."""

    chunk: Any
    disk: str
    is_online: bool


def page_url(bucket: str, key: str, action: str = "objects", **words: object) -> str:
    """The URL of a page of an object, with words in its query; without the root."""
    base = object_url(bucket, key, action)
    query = urlencode({name: str(word) for name, word in words.items() if word not in ("", None)})
    return base + (("&" if "?" in base else "?") + query if query else "")


def folder_url(bucket: str, key: str) -> str:
    """The list that shows an object."""
    return (
        bucket_url(bucket, key[: len(key) - len(last_part(key))])
        if last_part(key) != key
        else bucket_url(bucket)
    )


def _key(key: str) -> str:
    found = request.args.get("key", "") or unquote(request.args.get("at", "")) or key
    if not found or len(found) > KEY_MAX:
        raise NoSuchObject("there is no object of this name")
    return found


# --- the page ---------------------------------------------------------------------------------------


@bp.get("/buckets/<bucket>/objects/")
@bp.get("/buckets/<bucket>/objects/<path:key>")
async def show(bucket: str, key: str = "") -> ResponseReturnValue:
    key, place = _key(key), here.store().bucket(bucket)
    rights = ObjectRights.of(here.can(), bucket, key)
    values: dict[str, Any] = {
        "bucket": bucket,
        "key": key,
        "rights": rights,
        "folder": folder_url(bucket, key),
    }
    try:
        info = await _find(place, key, rights)
    except NoSuchObject:
        return await page("details/gone.html", 404, page_url=partial(page_url, bucket, key), **values)
    if info is None:
        return await page("details/unknown.html", 403, **values)
    preview = None
    status = await here.store().status(volumes=False) if here.can().see_cluster else None
    if rights.read:
        wanted = forms.number(request.args, "bytes", least=0, most=1 << 40, default=0)
        preview = await Previewer(place, info, request.args.get("as", ""), wanted).make()
        _require_drawer(preview)
    return await page(
        "details/index.html",
        info=info,
        preview=preview,
        kinds=KINDS,
        source=await _source(place, info, rights) if preview and preview.form == "browser" else "",
        pieces=[] if status is None else await _pieces(place, info, rights, status),
        damages=[] if status is None else _damages(bucket, key, status),
        selection=Selection(keys=[(key, info.size)]),
        rows=[(name, value, is_plain_value(name + value)) for name, value in info.metadata.items()],
        stored=stored_facts(info.attributes),
        spare_rows=SPARE_ROWS,
        kept_pair=kept_pair,
        page_url=partial(page_url, bucket, key),
        **values,
    )


def _require_drawer(preview: Preview) -> None:
    """Say so if the build has not fetched what draws this kind."""
    needed = DRAWERS.get(preview.kind)
    if preview.form == "browser" and needed and needed not in current_app.config["STATIC_FILES"]:
        preview.form = "words"
        preview.note(
            f"This installation lacks what shows {KINDS[preview.kind]}: download the object.", "warn"
        )


async def _find(place: warehouse.Bucket, key: str, rights: ObjectRights) -> warehouse.ObjectInfo | None:
    """What is known of the object; None: the key may not know.

    Raises:
        NoSuchObject: it does not exist.
    """
    if rights.read:
        return await place.stat(key)
    if not rights.list:
        return None
    async for entry in place.list(key, limit=1):
        if isinstance(entry, warehouse.ObjectInfo) and entry.key == key:
            return entry
    raise NoSuchObject("there is no object of this name")


async def _source(place: warehouse.Bucket, info: warehouse.ObjectInfo, rights: ObjectRights) -> str:
    """From where a browser loads the bytes: the volume actor, or this console if the key may not sign."""
    if not rights.sign:
        return url(page_url(place.name, info.key, "download", through="console"))
    longest_s = here.opened().info.sign_s_max
    life_s = URL_LIFE_S if longest_s is None else min(URL_LIFE_S, longest_s)
    return await place.presign_get(info.key, life_s, disposition="inline")


async def _pieces(
    place: warehouse.Bucket, info: warehouse.ObjectInfo, rights: ObjectRights, status: warehouse.Status
) -> list[Piece]:
    """The first chunks and their disks, for keys that may see both."""
    if not rights.read or info.chunk_count > CHUNKS_ASKED:
        return []
    try:
        chunks = (await place.chunks(info.key)).chunks[:CHUNKS_SHOWN]
    except NoSuchObject:
        return []  # deleted just now: the page hears of it
    disks = {disk.disk_id: disk for disk in status.disks}
    places = await here.store().disks_of(chunk.volume_id for chunk in chunks)
    found = []
    for chunk in chunks:
        disk = disks.get(places.get(chunk.volume_id, ""))
        found.append(Piece(chunk, disk.name if disk else "", disk is not None and disk.is_online))
    return found


def _damages(bucket: str, key: str, status: warehouse.Status) -> list[str]:
    """What verifications have found wrong with it."""
    return [damage.problem for damage in status.damages if damage.bucket == bucket and damage.key == key]


@bp.get("/buckets/<bucket>/state/")
@bp.get("/buckets/<bucket>/state/<path:key>")
async def state(bucket: str, key: str = "") -> ResponseReturnValue:
    """A fragment that says what became of the version that a page shows."""
    key, place = _key(key), here.store().bucket(bucket)
    shown = forms.text(request.args, "etag", least=1, most=200)
    became = "same"
    try:
        info = await _find(place, key, ObjectRights.of(here.can(), bucket, key))
        became = "replaced" if info is not None and info.etag != shown else "same"
    except NoSuchObject:
        became = "deleted"
    return await page(
        "details/_state.html",
        bucket=bucket,
        key=key,
        etag=shown,
        became=became,
        folder=folder_url(bucket, key),
        page_url=partial(page_url, bucket, key),
    )


@bp.get("/buckets/<bucket>/check/")
@bp.get("/buckets/<bucket>/check/<path:key>")
async def look_why(bucket: str, key: str = "") -> ResponseReturnValue:
    """A fragment that says why a browser could not show an object."""
    place = here.store().bucket(bucket)
    kind, words = await check(place, await place.stat(_key(key)))
    return await page("details/_note.html", kind=kind, words=words)


# --- metadata ---------------------------------------------------------------------------------------


@bp.post("/buckets/<bucket>/metadata/")
@bp.post("/buckets/<bucket>/metadata/<path:key>")
async def change_metadata(bucket: str, key: str = "") -> ResponseReturnValue:
    """Store the object anew with these, if it is still the version that the page showed."""
    form, key = await request.form, _key(key)
    etag = forms.text(form, "etag", least=1, most=200)
    content_type = forms.text(form, "content_type", most=250) or None
    metadata = read_metadata(form)
    place = here.store().bucket(bucket)

    async def job(work: Work) -> str:
        info = await place.stat(key)
        if info.etag != etag:
            raise PreconditionFailed(CHANGED)
        work.total_count, work.total_bytes = 1, info.size

        def progress(done: int) -> None:
            work.done_bytes = done
            work.on_change()

        try:
            await place.copy(
                key, key, progress=progress, content_type=content_type, metadata=metadata, if_match=etag
            )
        except (PreconditionFailed, ObjectReplaced):
            raise PreconditionFailed(CHANGED) from None
        work.done_bytes = 0
        work.did(1, info.size)
        return "Type and metadata changed"

    opened = here.opened()
    title = f"Changing metadata of {visible(last_part(key))}"
    try:
        work = await here.console().works.start_and_see(opened.work, opened.ended, title, job)
    except PreconditionFailed as error:
        here.tell("bad", error.message)
    else:
        if not work.is_running:
            here.tell("good" if work.state == "done" else "bad", work.message)
    return redirect(url(page_url(bucket, key)), 303)


CHANGED = "Somebody changed the object meanwhile, so nothing was changed here: look at it as it is now."


def read_metadata(form: MultiDict[str, str]) -> dict[str, str]:
    """The metadata that a form says: fields `name` and `value`, row by row, and `kept` ones as they are.

    Raises:
        BadRequest: there is too much, a value has no name, or a name comes twice.
    """
    names, values, kept = form.getlist("name"), form.getlist("value"), form.getlist("kept")
    if len(names) != len(values) or len(names) + len(kept) > ROWS_MAX:
        raise BadRequest(f"metadata has up to {ROWS_MAX} rows of a name and a value each")
    pairs = [(name.strip(), value) for name, value in zip(names, values, strict=True)]
    pairs += [(unquote(name), unquote(value)) for name, _, value in (pair.partition("=") for pair in kept)]
    found: dict[str, str] = {}
    for name, value in pairs:
        if not name and not value:
            continue
        if not name:
            raise BadRequest(f"the value {value[:50]!r} has no name")
        if name in found:
            raise BadRequest(f"the name {name[:50]!r} comes twice")
        found[name] = value
    return found


def kept_pair(name: str, value: str) -> str:
    """How a form brings back a pair that its fields would change."""
    return f"{quote(name, safe='')}={quote(value, safe='')}"
