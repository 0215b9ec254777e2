"""Downloads: one object, from its volume actor or through the console; `archives.py` has many as one.

    GET  /buckets/BUCKET/download/KEY                   303 to a URL that a volume actor answers, for a while
    GET  /buckets/BUCKET/download/KEY?through=console   the bytes themselves; Range works

A key whose path a browser would change stands in `?key=`, as `names.object_url` writes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from quart import Blueprint, Response, request
from quart.typing import ResponseReturnValue
from werkzeug.http import parse_range_header

import warehouse
from warehouse.errors import ObjectReplaced, RangeNotSatisfiable
from warehouse.webui import here
from warehouse.webui.file_names import attachment, file_name_of
from warehouse.webui.rendering import is_htmx
from warehouse.webui.stores import OpenStore
from warehouse.webui.streaming import streamed

bp = Blueprint("downloads", __name__)

LIFE_S = 900.0  # of a signed URL: a download that broke off may be taken up again for so long


@bp.get("/buckets/<bucket>/download/")
@bp.get("/buckets/<bucket>/download/<path:key>")
async def download(bucket: str, key: str = "") -> ResponseReturnValue:
    key = request.args.get("key", key)
    place = here.store().bucket(bucket)
    if request.args.get("through") == "console" or not here.can().may("sign", bucket, key):
        return await _through_console(place, key)
    longest_s = here.opened().info.sign_s_max
    address = await place.presign_get(
        key,
        LIFE_S if longest_s is None else min(LIFE_S, longest_s),
        disposition="attachment",
        file_name=file_name_of(key),
    )
    if is_htmx():  # a script that follows it would load it into memory
        return Response("", 204, {"HX-Redirect": address})
    return Response("", 303, {"Location": address})


async def _through_console(place: warehouse.Bucket, key: str) -> Response:
    info = await place.stat(key)
    start, length = _range(info)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": attachment(file_name_of(key)),
        "Content-Length": str(length),
        "Accept-Ranges": "bytes",
        "ETag": f'"{info.etag}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    status = 200
    if length < info.size:
        status = 206
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{info.size}"
    if request.method == "HEAD":
        return Response("", status, headers)
    if length:
        async with place.open(key, start, 1) as stream:  # a failure is a page as long as nothing was sent
            await stream.read()
    opener = partial(_object, here.opened(), place, info, start, length)
    return streamed(opener, status, headers)


def _range(info: warehouse.ObjectInfo) -> tuple[int, int]:
    """Where to begin, and how many bytes; several ranges, or those of another version: all of it.

    Raises:
        RangeNotSatisfiable: it begins beyond the end.
    """
    asked = parse_range_header(request.headers.get("Range"))
    condition = request.headers.get("If-Range")
    if asked is None or len(asked.ranges) != 1 or (condition and condition.strip('"') != info.etag):
        return 0, info.size
    found = asked.range_for_length(info.size)
    if found is None:
        raise RangeNotSatisfiable(f"the object has {info.size} bytes")
    return found[0], found[1] - found[0]


@asynccontextmanager
async def _object(
    opened: OpenStore, place: warehouse.Bucket, info: warehouse.ObjectInfo, start: int, length: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    if not length:
        yield _pieces(opened, None)
        return
    async with place.open(info.key, start, length) as stream:
        if stream.info.etag != info.etag:
            raise ObjectReplaced("the object was replaced")
        yield _pieces(opened, stream)


async def _pieces(opened: OpenStore, stream: warehouse.ObjectStream | None) -> AsyncGenerator[bytes, None]:
    if stream is None:
        return
    async for piece in stream:
        opened.require_open()
        yield piece
