"""The page /buckets/NAME: the objects of one folder, or those that somebody looks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quart import Blueprint, Response, make_response, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.errors import BadRequest
from warehouse.webui import forms, here
from warehouse.webui.abilities import ObjectRights
from warehouse.webui.lines import line_of
from warehouse.webui.listing import SHOWN_MAX, Rows, View, read
from warehouse.webui.names import object_url
from warehouse.webui.rendering import page, url

bp = Blueprint("objects", __name__)


@bp.get("/buckets/<bucket>")
async def show(bucket: str) -> ResponseReturnValue:
    view = View.read(bucket, request.args)
    can, store = here.can(), here.store()
    rights = ObjectRights.somewhere(can, bucket, view.prefix)
    if not rights.list:
        info = await store.bucket(bucket).info()  # refused to a key that has nothing to do here
        starts = can.prefixes("write", bucket)
        if "prefix" not in request.args and len(starts) == 1 and starts[0] and not rights.read:
            return redirect(url(replace(view, prefix=starts[0]).path()), 303)
        folders = [] if any(view.prefix.startswith(start) for start in starts) else starts
        return await page(
            "objects/unlisted.html", view=view, bucket=bucket, rights=rights, info=info, folders=folders
        )
    if "prefix" not in request.args and "at" not in request.args:
        starts = can.prefixes("list", bucket)
        if len(starts) == 1 and starts[0]:
            return redirect(url(replace(view, prefix=starts[0]).path()), 303)
    return await _list(view, rights, store)


async def _list(view: View, rights: ObjectRights, store: warehouse.Store) -> ResponseReturnValue:
    bucket = store.bucket(view.bucket)
    info = await bucket.info()
    rows = await read(bucket, view)
    response = await make_response(
        await page(
            "objects/index.html",
            view=view,
            bucket=view.bucket,
            prefix=view.prefix,
            rights=rights,
            info=info,
            rows=rows,
            lines=[line_of(row, view) for row in rows.rows],
            facts=_facts(view, rows, info),
        )
    )
    if "at" in request.args:
        response.headers["HX-Replace-Url"] = url(view.path())
    return response


@bp.get("/buckets/<bucket>/rows")
async def more(bucket: str) -> ResponseReturnValue:
    """A page of rows; with `shown`: the first so many, to replace what a page shows."""
    view = View.read(bucket, request.args)
    shown = forms.number(request.args, "shown", least=0, most=1 << 20, default=0)
    place = here.store().bucket(bucket)
    rights = ObjectRights.somewhere(here.can(), bucket, view.prefix)
    values: dict[str, Any] = {"view": view, "bucket": bucket, "prefix": view.prefix, "rights": rights}
    if not shown:
        rows, facts = await read(place, view), dict[str, object]()
    else:
        rows = await read(place, replace(view, cursor=""), min(shown, SHOWN_MAX), settles=True)
        values["info"] = await place.info()
        facts = _facts(view, rows, values["info"])
    lines = [line_of(row, view) for row in rows.rows]
    return await page("objects/_rows.html", rows=rows, lines=lines, facts=facts, **values)


def _facts(view: View, rows: Rows, info: warehouse.BucketInfo) -> dict[str, object]:
    """How much the list has: all of the bucket, or what is on this page."""
    if not view.prefix and not view.find and info.is_counted:
        return {"objects": info.object_count, "bytes": info.byte_count, "folders": 0, "is_all": True}
    return {
        "objects": rows.object_count,
        "bytes": rows.byte_count,
        "folders": len(rows.rows) - rows.object_count,
        "is_all": not rows.cursor and not view.cursor,
    }


@bp.post("/buckets/<bucket>/folder")
async def open_folder(bucket: str) -> ResponseReturnValue:
    """A new folder is a place without objects: it is there as soon as something is stored in it."""
    form = await request.form
    name = form.get("name", "").strip("/")
    view = View.read(bucket, form)
    if not name:
        here.tell("bad", "Name is missing")
        return redirect(url(view.path()), 303)
    return redirect(url(View(bucket, f"{view.prefix}{name}/").path()), 303)


@bp.get("/buckets/<bucket>/open")
async def open_by_name(bucket: str) -> Response:
    """To the page of an object whose name somebody knows."""
    key = request.args.get("key", "")  # with its spaces, which may be part of it
    if not key:
        raise BadRequest("Name is missing")
    return redirect(url(object_url(bucket, key)), 303)  # type: ignore[return-value]
