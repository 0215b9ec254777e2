"""Archives: many objects as one ZIP stream.

    POST /buckets/BUCKET/zip    `selection` or `item`, see `selection.py`; or `prefix` alone: all below it

A key has a few turns at a time, because an archive keeps the names of all that is in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from urllib.parse import unquote

from quart import Blueprint, Response, request
from werkzeug.datastructures import MultiDict

from warehouse.errors import BadRequest
from warehouse.webui import here
from warehouse.webui.archiving import Archive, require_makeable
from warehouse.webui.file_names import attachment, file_name_of
from warehouse.webui.held import hold
from warehouse.webui.listing import KEY_MAX
from warehouse.webui.selection import Query, Selection
from warehouse.webui.streaming import streamed

bp = Blueprint("archives", __name__)


@bp.post("/buckets/<bucket>/zip")
async def zip_many(bucket: str) -> Response:
    form = await request.form
    place = here.store().bucket(bucket)
    selection, base = _selected(form)
    opened = here.opened()
    hold(here.console().archives.turn(opened.key_id))
    await require_makeable(place, selection, base)
    one_folder = selection.prefixes[0] if len(selection.names) == len(selection.prefixes) == 1 else ""
    name = file_name_of(one_folder or base or bucket) + ".zip"
    headers = {"Content-Type": "application/zip", "Content-Disposition": attachment(name)}
    return streamed(partial(_opened, Archive(opened, place, selection, base)), 200, headers)


def _selected(form: MultiDict[str, str]) -> tuple[Selection, str]:
    """What was chosen, and the folder that its names are told from."""
    prefix = form.get("prefix", "") or unquote(form.get("at", ""))
    if len(prefix) > KEY_MAX:
        raise BadRequest("the prefix is too long")
    if form.get("selection") or form.get("item"):
        return Selection.read(form), prefix
    if "prefix" not in form and "at" not in form:
        raise BadRequest("nothing is selected")
    base = prefix[: prefix.rfind("/", 0, -1) + 1]  # the archive of a folder has the folder in it
    if not prefix:
        return Selection(query=Query()), ""
    return Selection(prefixes=[prefix]), base


@asynccontextmanager
async def _opened(archive: Archive) -> AsyncIterator[AsyncIterator[bytes]]:
    async with aclosing(archive.pieces()) as pieces:
        yield pieces
