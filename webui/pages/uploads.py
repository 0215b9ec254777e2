"""Uploads: what a script in a browser needs to send files straight to the volume actors, as JSON.

    POST /buckets/BUCKET/uploads          begin uploads of up to 64 files; each answer has the first slots
    POST /buckets/BUCKET/uploads/slots    places for further chunks of up to 64 uploads
    POST /buckets/BUCKET/uploads/finish   make up to 64 objects visible
    POST /buckets/BUCKET/uploads/abort    give up to 64 uploads up
    PUT  /buckets/BUCKET/uploads/ID/N     one chunk through the console: `uploads_through.py`

The console keeps nothing of an upload: a browser that comes back goes on with what it remembers, and the
master decides about every request with the rights of the signed-in key.  An answer lists one result for each
thing asked for, in order; one that failed has `code`, `message` and `status` and does not affect the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import trio
from quart import Blueprint, Response, request

import warehouse
from warehouse.client.headers import DEFAULT_CONTENT_TYPE, guess_content_type
from warehouse.errors import (
    BadRequest,
    NoSuchObject,
    PermissionDenied,
    StoreError,
)
from warehouse.transport.http.header_text import check_content_type
from warehouse.webui import here
from warehouse.webui.abilities import Abilities
from warehouse.webui.stores import KEY_FAILURES

bp = Blueprint("uploads", __name__)

FILES_MAX = 64  # in one request
SLOTS_FIRST = 4  # that the answer to a beginning has
SLOTS_MAX = 8  # of one upload in one request
AT_ONCE = 16  # questions to the master for one request

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
UploadId = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}$")]  # too large for a number of JavaScript


class _Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class NewFile(_Wish, frozen=True):
    """A file to be uploaded.

    Attributes:
        if_exists: "ask": begin nothing and say that there is such an object; "replace": replace it.
    """

    key: Annotated[str, msgspec.Meta(max_length=2048)]
    size: Count
    chunk_size: Annotated[int, msgspec.Meta(ge=1)]
    content_type: Annotated[str, msgspec.Meta(max_length=255)] = ""
    if_exists: Literal["ask", "replace"] = "ask"


class Known(_Wish, frozen=True):
    """An upload that was begun."""

    id: UploadId
    size: Count
    chunk_size: Annotated[int, msgspec.Meta(ge=1)]


class MoreSlots(_Wish, frozen=True):
    id: UploadId
    size: Count
    chunk_size: Annotated[int, msgspec.Meta(ge=1)]
    chunks: Annotated[list[Count], msgspec.Meta(min_length=1, max_length=SLOTS_MAX)]
    exclude: Annotated[list[Count], msgspec.Meta(max_length=16)] = []


class _NewFiles(_Wish, frozen=True):
    files: Annotated[list[NewFile], msgspec.Meta(min_length=1, max_length=FILES_MAX)]


class _MoreSlotsOfAll(_Wish, frozen=True):
    uploads: Annotated[list[MoreSlots], msgspec.Meta(min_length=1, max_length=FILES_MAX)]


class _KnownUploads(_Wish, frozen=True):
    uploads: Annotated[list[Known], msgspec.Meta(min_length=1, max_length=FILES_MAX)]


W = TypeVar("W")
T = TypeVar("T")


async def _wanted(kind: type[W]) -> W:
    """The body of this request.

    Raises:
        BadRequest: it is not what a page of this console sends.
    """
    try:
        return msgspec.json.decode(await request.get_data(), type=kind)
    except msgspec.DecodeError as error:
        raise BadRequest(f"this request is not one: {error}") from None


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[dict[str, Any]]]) -> Response:
    """Do the work for each item, some at once, and answer with the results in order."""
    results: list[dict[str, Any]] = [{}] * len(items)
    limiter = trio.CapacityLimiter(AT_ONCE)
    ended: list[StoreError] = []

    async def do(number: int, item: T) -> None:
        async with limiter:
            try:
                results[number] = await work(item)
            except KEY_FAILURES as error:
                ended.append(error)
            except StoreError as error:
                results[number] = {"code": error.code, "message": error.message, "status": error.status}

    async with trio.open_nursery() as nursery:
        for number, item in enumerate(items):
            nursery.start_soon(do, number, item)
    if ended:
        raise ended[0]
    return Response(msgspec.json.encode({"results": results}), content_type="application/json")


def _shown_slots(slots: Sequence[warehouse.UploadSlot]) -> list[dict[str, Any]]:
    return [
        {
            "chunk": slot.chunk_index,
            "volume": slot.volume_id,
            "url": slot.url,
            "token": slot.token,
            "expires_in_s": slot.expires_in_s,
        }
        for slot in slots
    ]


def _content_type(key: str, told: str) -> str | None:
    """What the browser says counts where the key's ending says nothing."""
    if not told or guess_content_type(key) != DEFAULT_CONTENT_TYPE:
        return None
    try:
        check_content_type(told)
    except StoreError:
        return None
    return told


async def _found(bucket: warehouse.Bucket, key: str, can: Abilities) -> warehouse.ObjectInfo | None:
    """The object with this key, if there is one and this key of the API may know."""
    if not (can.may("read", bucket.name, key) or can.may("list", bucket.name, key)):
        return None  # unasked: a refusal would be a red line of the audit log for each file
    try:
        return await bucket.stat(key)
    except (NoSuchObject, PermissionDenied):
        return None


@bp.post("/buckets/<bucket>/uploads")
async def begin(bucket: str) -> Response:
    wanted = await _wanted(_NewFiles)
    target, can = here.store().bucket(bucket), here.can()

    async def begin_one(file: NewFile) -> dict[str, Any]:
        if file.if_exists == "ask" and (found := await _found(target, file.key, can)) is not None:
            return {"exists": {"size": found.size, "created_ms": found.created_ms}}
        upload = await target.begin_upload(
            file.key,
            file.size,
            chunk_size=file.chunk_size,
            content_type=_content_type(file.key, file.content_type),
            if_none_match="*" if file.if_exists == "ask" else None,
        )
        try:
            slots = await upload.slots(range(min(SLOTS_FIRST, upload.chunk_count)))
        except StoreError as error:
            if error.status < 500 or error.status == 507:  # it is refused, so nobody will send it
                await _give_up(upload)
                raise
            slots = []
        return {
            "id": str(upload.upload_id),
            "chunk_size": upload.chunk_size,
            "slots": _shown_slots(slots),
        }

    return await _each(wanted.files, begin_one)


async def _give_up(upload: warehouse.DirectUpload) -> None:
    try:
        await upload.abort()
    except StoreError:
        return  # the store gives it up later


@bp.post("/buckets/<bucket>/uploads/slots")
async def slots(bucket: str) -> Response:
    wanted = await _wanted(_MoreSlotsOfAll)
    target = here.store().bucket(bucket)

    async def more(known: MoreSlots) -> dict[str, Any]:
        upload = target.resume_upload(int(known.id), known.size, known.chunk_size)
        return {"slots": _shown_slots(await upload.slots(known.chunks, exclude_volumes=known.exclude))}

    return await _each(wanted.uploads, more)


@bp.post("/buckets/<bucket>/uploads/finish")
async def finish(bucket: str) -> Response:
    wanted = await _wanted(_KnownUploads)
    target = here.store().bucket(bucket)

    async def finish_one(known: Known) -> dict[str, Any]:
        written = await target.resume_upload(int(known.id), known.size, known.chunk_size).finish()
        return {"etag": written.etag, "size": written.size, "created_ms": written.created_ms}

    return await _each(wanted.uploads, finish_one)


@bp.post("/buckets/<bucket>/uploads/abort")
async def abort(bucket: str) -> Response:
    wanted = await _wanted(_KnownUploads)
    target = here.store().bucket(bucket)

    async def abort_one(known: Known) -> dict[str, Any]:
        await target.resume_upload(int(known.id), known.size, known.chunk_size).abort()
        return {}

    return await _each(wanted.uploads, abort_one)


@bp.get("/uploads/here")
async def is_here() -> tuple[str, int]:
    """A script asks whether the console answers when a volume actor does not."""
    here.opened()
    return "", 204
