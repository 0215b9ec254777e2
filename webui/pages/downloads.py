"""Downloads: one object from its volume actor or through the console, many as a ZIP stream.

    GET  /buckets/BUCKET/download/KEY                   303 to a URL that a volume actor answers, for a while
    GET  /buckets/BUCKET/download/KEY?through=console   the bytes themselves; Range works
    POST /buckets/BUCKET/zip                            `selection` or `item`, see `selection.py`; or `prefix`
                                                        alone: all that begins with it

A key whose path a browser would change stands in `?key=`, as `names.object_url` writes it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from urllib.parse import quote, unquote

import trio
from quart import Blueprint, Response, request
from quart.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_range_header

import warehouse
from warehouse.errors import (
    BadRequest,
    NoSuchObject,
    ObjectReplaced,
    Overloaded,
    RangeNotSatisfiable,
    StoreError,
)
from warehouse.webui import here
from warehouse.webui.listing import KEY_MAX
from warehouse.webui.rendering import is_htmx
from warehouse.webui.selection import Query, Selection
from warehouse.webui.stores import OpenStore
from warehouse.webui.streaming import streamed
from warehouse.webui.zipping import SafeNames, ZipStream

log = logging.getLogger(__name__)

bp = Blueprint("downloads", __name__)

LIFE_S = 900.0  # of a signed URL: a download that broke off may be taken up again for so long
FILE_NAME_MAX = 255
ZIPS_AT_ONCE = 8  # of all browsers
SMALL_MAX = 256 * 1024  # bytes; objects up to this size are fetched many at once
LOOKED_UP = 128  # objects that are looked up before they are fetched
LOOKUPS_AT_ONCE = 16
OBJECTS_MAX = 500_000  # in one archive: their names are kept until its end

_zips = 0


def file_name_of(key: str) -> str:
    """Under which name a browser saves an object."""
    name = key.rstrip("/").rsplit("/", 1)[-1]
    shown = "".join(letter if letter.isprintable() else "_" for letter in name)
    return shown[-FILE_NAME_MAX:] or "object"


def attachment(name: str) -> str:
    """The header Content-Disposition that saves under this name, in all browsers: RFC 6266."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


# --- one object -------------------------------------------------------------------------------------


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


# --- many objects -------------------------------------------------------------------------------------


@bp.post("/buckets/<bucket>/zip")
async def zip_many(bucket: str) -> Response:
    form = await request.form
    place = here.store().bucket(bucket)
    selection, base = _selected(form)
    await _require_some(place, selection)
    one_folder = selection.prefixes[0] if len(selection.names) == len(selection.prefixes) == 1 else ""
    name = file_name_of(one_folder or base or bucket) + ".zip"
    headers = {"Content-Type": "application/zip", "Content-Disposition": attachment(name)}
    return streamed(partial(_archive, here.opened(), place, selection, base), 200, headers)


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


async def _require_some(place: warehouse.Bucket, selection: Selection) -> None:
    """
    Raises:
        BadRequest: nothing is there.
        StoreError: the first object cannot be read.
    """
    if _zips >= ZIPS_AT_ONCE:
        raise Overloaded("this console makes as many archives as it can: try again when one has ended")
    async with aclosing(selection.objects(place)) as batches:
        async for batch in batches:
            if batch and batch[0].size:
                async with place.open(batch[0].key, 0, 1) as stream:
                    await stream.read()
            if batch:
                return
    raise BadRequest("there is nothing to download")


@asynccontextmanager
async def _archive(
    opened: OpenStore, place: warehouse.Bucket, selection: Selection, base: str
) -> AsyncIterator[AsyncIterator[bytes]]:
    global _zips
    _zips += 1
    try:
        async with aclosing(_Archive(opened, place, selection, base).pieces()) as pieces:
            yield pieces
    finally:
        _zips -= 1


class _Archive:
    """One archive: the objects of a selection, in its order."""

    def __init__(self, opened: OpenStore, place: warehouse.Bucket, selection: Selection, base: str) -> None:
        self._opened = opened
        self._place = place
        self._selection = selection
        self._chosen = {key for key, _ in selection.keys}
        self._zip = ZipStream()
        self._names = SafeNames(base)
        self._count = 0

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._selection.objects(self._place)) as batches:
            async for batch in batches:
                for at in range(0, len(batch), LOOKED_UP):
                    infos = await self._infos([one.key for one in batch[at : at + LOOKED_UP]])
                    async with aclosing(self._entries(infos)) as entries:
                        async for piece in entries:
                            self._opened.require_open()
                            yield piece
        yield await trio.to_thread.run_sync(self._zip.close)

    async def _infos(self, keys: list[str]) -> list[warehouse.ObjectInfo]:
        """What is known of these objects; those that were deleted since they were listed are left out."""
        self._count += len(keys)
        if self._count > OBJECTS_MAX:
            raise BadRequest(f"an archive has at most {OBJECTS_MAX} objects")
        found: dict[str, warehouse.ObjectInfo] = {}
        failed: list[StoreError] = []

        async def look_up(mine: list[str]) -> None:
            for key in mine:
                try:
                    found[key] = await self._place.stat(key)
                except StoreError as error:
                    if not isinstance(error, NoSuchObject) or key in self._chosen:
                        failed.append(error)
                        return

        async with trio.open_nursery() as nursery:
            for start in range(LOOKUPS_AT_ONCE):
                nursery.start_soon(look_up, keys[start::LOOKUPS_AT_ONCE])
        if failed:
            raise failed[0]
        return [found[key] for key in keys if key in found]

    async def _entries(self, infos: list[warehouse.ObjectInfo]) -> AsyncGenerator[bytes, None]:
        small: list[warehouse.ObjectInfo] = []
        for info in infos:
            if info.size <= SMALL_MAX:
                small.append(info)
                continue
            for entries in (self._small(small), self._large(info)):
                async with aclosing(entries) as pieces:
                    async for piece in pieces:
                        yield piece
            small = []
        async with aclosing(self._small(small)) as pieces:
            async for piece in pieces:
                yield piece

    async def _small(self, infos: list[warehouse.ObjectInfo]) -> AsyncGenerator[bytes, None]:
        """Objects that are fetched many at once."""
        async with aclosing(self._place.get_many([info.key for info in infos])) as results:
            for info in infos:
                result = await anext(results)
                if isinstance(result.error, NoSuchObject) and info.key not in self._chosen:
                    continue
                if result.error is not None:
                    raise result.error
                yield await trio.to_thread.run_sync(self._whole_entry, info, result.data)

    def _whole_entry(self, info: warehouse.ObjectInfo, data: bytes | None) -> bytes:
        data = data or b""
        name = self._names.name(info.key, is_empty=not data)
        begun = self._zip.begin(name, len(data), info.created_ms, info.content_type)
        return begun + self._zip.write(data) + self._zip.end()

    async def _large(self, info: warehouse.ObjectInfo) -> AsyncGenerator[bytes, None]:
        async with self._place.open(info.key) as stream:
            info = stream.info
            name = self._names.name(info.key, is_empty=not info.size)
            yield self._zip.begin(name, info.size, info.created_ms, info.content_type)
            async for piece in stream:
                yield await trio.to_thread.run_sync(self._zip.write, piece)
            yield self._zip.end()
