"""Uploads through: one chunk of an upload through the console, for browsers that reach no volume actor.

    PUT /buckets/BUCKET/uploads/ID/N?size=…&chunk_size=…    201 when the chunk is stored, with its checksum

This is answered below Quart, which would collect a body that comes faster than it goes.  Here a piece is
taken from the browser when the one before is on its way to the volume actor, so memory stays flat.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import msgspec
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from quart import Quart, Request
from werkzeug.datastructures import Headers

from warehouse.errors import BadRequest, LengthMismatch, NotAuthenticated, StoreError, Unavailable
from warehouse.webui.bodies import Body
from warehouse.webui.console import Console
from warehouse.webui.security import ALWAYS, Forged, cookie_of, require_our_page
from warehouse.webui.stores import OpenStore

log = logging.getLogger(__name__)

_is_ours = re.compile(r"/buckets/([^/]+)/uploads/([0-9]{1,19})/([0-9]{1,7})").fullmatch
PIECE_S = 60.0  # for the browser to send the next piece


def mount(app: Quart, console: Console) -> None:
    """Answer these requests before Quart sees them."""
    inner = app.asgi_app

    async def outer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and scope["method"] == "PUT" and (place := _is_ours(scope["path"])):
            body = Body(receive)
            chunk = _Chunk(console, scope, body.receive, *place.groups())
            status, answer = await chunk.answer()
            await body.drain()
            await _respond(send, status, answer)
        else:
            await inner(scope, receive, send)

    app.asgi_app = outer  # type: ignore[method-assign]


async def _respond(send: ASGISendCallable, status: int, answer: dict[str, object]) -> None:
    body = msgspec.json.encode(answer)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"private, no-store, no-transform"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        *((name.lower().encode(), value.encode()) for name, value in ALWAYS.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class _Chunk:
    """One request."""

    def __init__(
        self,
        console: Console,
        scope: HTTPScope,
        receive: ASGIReceiveCallable,
        bucket: str,
        upload_id: str,
        index: str,
    ) -> None:
        self._console = console
        self._scope = scope
        self._receive = receive
        self._bucket = bucket
        self._upload_id = int(upload_id)
        self._index = int(index)
        self._headers = Headers()
        for name, value in scope["headers"]:
            self._headers.add(name.decode("latin-1").title(), value.decode("latin-1"))

    async def answer(self) -> tuple[int, dict[str, object]]:
        try:
            opened = await self._admitted()
            with self._console.chunks.turn(opened.key_id):
                crc = await self._send(opened)
        except StoreError as error:
            return error.status, {"code": error.code, "message": error.message}
        except trio.TooSlowError:
            return 408, {"code": "too_slow", "message": "the browser sent nothing for a minute"}
        return 201, {"crc32c": f"{crc:08x}"}

    async def _admitted(self) -> OpenStore:
        """The connection of the key that asks.

        Raises:
            Forged: the request does not come from a page of this console.
            NotAuthenticated: nobody is signed in.
        """
        request = Request(
            "PUT",
            self._scope["scheme"],
            self._scope["path"],
            self._scope["query_string"],
            self._headers,
            "",
            self._scope["http_version"],
            self._scope,
            send_push_promise=_no_push,
        )
        session = self._console.sessions.find(cookie_of(request, self._console.options))
        current = session.current if session is not None else None
        if current is None:
            raise NotAuthenticated("sign in first")
        if "X-Csrf-Token" not in self._headers:  # it would be looked for in the body
            raise Forged("this page is too old: reload it and try again")
        await require_our_page(request, session, self._console.options)
        return current

    async def _send(self, opened: OpenStore) -> int:
        """The CRC-32C of the chunk, when it is stored; the browser compares it with its own."""
        query = parse_qs(self._scope["query_string"].decode("latin-1"))
        size, chunk_size = _number(query, "size"), _number(query, "chunk_size")
        upload = opened.store.bucket(self._bucket).resume_upload(self._upload_id, size, chunk_size)
        length = upload.chunk_length(self._index)
        if self._headers.get("Content-Length", "0") != str(length):
            raise LengthMismatch(f"chunk {self._index} has {length} bytes")
        return await upload.send(self._index, self._pieces(opened))

    async def _pieces(self, opened: OpenStore) -> AsyncIterator[bytes]:
        """The body, a piece at a time."""
        while True:
            with trio.fail_after(PIECE_S):
                event = await self._receive()
            if event["type"] != "http.request":
                raise Unavailable("the browser went away")
            if opened.ended.is_set():
                raise NotAuthenticated("this key was signed out")
            if event["body"]:
                yield event["body"]
            if not event.get("more_body"):
                return


async def _no_push(path: str, headers: Headers) -> None:
    return None


def _number(query: dict[str, list[str]], name: str) -> int:
    text = query.get(name, [""])[0]
    if not re.fullmatch("[0-9]{1,16}", text):
        raise BadRequest(f"{name} is a number of bytes, not {text[:50]!r}")
    return int(text)
