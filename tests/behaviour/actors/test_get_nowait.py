"""A GET that is answered at once is answered as the handler would: the same bytes, and the same refusals."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from actor_kit import Actor, data_token, serving_actor
from http_harness import start_server
from warehouse.actors.data.authorization import NEEDLE_ROUTE
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.exchange import Exchange

SIZES = {
    1: 0,
    2: 1,
    3: 4096,
    4: 64 * 1024,
    5: 64 * 1024 + 1,
    6: 256 * 1024 + 1,
    7: 1024 * 1024,
    8: 1024 * 1024 + 1,
}
CONTENT_TYPES = {
    20: None,
    21: "image/png",
    22: "text/plain; charset=ü",
    23: "text/☃",
    24: "a\r\nX-Forged: 1",
    25: "",
}
OTHERS_NEEDLE, DELETED_NEEDLE, DAMAGED_NEEDLE, ABSENT_NEEDLE = 30, 31, 32, 99


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        fill(actor)
        yield actor


def fill(actor: Actor) -> None:
    def append(needle_id: int, data: bytes, *, bucket_id: int = 1, content_type: str | None = None) -> None:
        metadata = NeedleMetadata("b", bucket_id, f"key {needle_id}", 1_790_000_000_000, content_type)
        actor.volume.append(needle_id, metadata, data, stamp=needle_id)

    for needle_id, size in SIZES.items():
        append(needle_id, bytes([needle_id]) * size)
    for needle_id, content_type in CONTENT_TYPES.items():
        append(needle_id, b"typed", content_type=content_type)
    append(OTHERS_NEEDLE, b"another bucket's", bucket_id=2)
    append(DELETED_NEEDLE, b"deleted")
    append(DAMAGED_NEEDLE, b"damaged" * 100)
    actor.volume.delete(DELETED_NEEDLE, stamp=50)
    content = bytearray(actor.path.read_bytes())
    at = content.index(b"damaged" * 100)
    with actor.path.open("r+b") as file:
        file.seek(at + 10)
        file.write(b"X")


def token(**claims: object) -> str:
    # Longer than the whole suite takes: the table below is made when it begins.
    return data_token(**{"operation": "get", "expires_at_s": int(time.time()) + 24 * 3600, **claims})


def request(
    needle: object,
    *,
    path: str | None = None,
    bearer: str | None = None,
    more: str = "",
    method: str = "GET",
) -> bytes:
    path = path or f"/v1/needles/1/{needle}"
    scheme = f"Authorization: Bearer {bearer or token()}\r\n" if bearer != "" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{scheme}{more}\r\n".encode()


def url_request(needle: object, *, more: str = "", method: str = "GET", **claims: object) -> bytes:
    """A request for a URL that carries its token."""
    path = f"/v1/needles/1/{needle}?token={token(**claims)}"
    return request(needle, path=path, bearer="", more=more, method=method)


SHAPES = {
    "plain": "",
    "a range": "Range: bytes=5-9\r\n",
    "a range of all": "Range: bytes=0-\r\n",
    "a range behind the end": "Range: bytes=90000000-\r\n",
    "several ranges": "Range: bytes=0-1,3-4\r\n",
    "a range of a version": 'Range: bytes=5-9\r\nIf-Range: "1-1-00000000"\r\n',
    "a range of a date": "If-Range: Fri, 31 Dec 2100 23:59:59 GMT\r\nRange: bytes=5-9\r\n",
    "not modified": "If-None-Match: *\r\n",
    "not modified since": "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
    "not matched": 'If-Match: "1-1-00000000"\r\n',
    "no condition": "If-None-Match: unquoted\r\n",
}
URL_CLAIMS: dict[str, dict[str, Any]] = {
    "a file name": {"file_name": "a/b/caf\u00e9 \r\n.txt"},
    "inline": {"disposition": "inline"},
    "to be cached": {"cache_control": "public, max-age=60"},
    "a content type": {"content_type": "text/x-given"},
    "an ETag": {"etag": "given"},
    "for other needles": {"first_needle_id": 4, "last_needle_id": 9},
    "expired": {"expires_at_s": 1_000_000_000},
}


REQUESTS = {
    **{f"{size} bytes": request(needle_id) for needle_id, size in SIZES.items()},
    **{f"content type {text!r}": request(needle_id) for needle_id, text in CONTENT_TYPES.items()},
    "absent": request(ABSENT_NEEDLE),
    "deleted": request(DELETED_NEEDLE),
    "damaged": request(DAMAGED_NEEDLE),
    "of another bucket": request(OTHERS_NEEDLE),
    "no address": request(0, path="/v1/needles/1/1_0"),
    "one number": request(0, path="/v1/needles/3"),
    "three numbers": request(0, path="/v1/needles/1/3/3"),
    "needle zero": request(0),
    "eleven digits": request("12345678901"),
    "another volume": request(0, path="/v1/needles/2/3"),
    "another route": request(0, path="/v1/nowhere"),
    "no token": request(3, bearer=""),
    "a broken token": request(3, bearer=token()[:-1] + "-"),
    "another scheme": request(3, bearer="", more="Authorization: Basic abc\r\n"),
    "a token for puts": request(3, bearer=token(operation="put")),
    "a token for other needles": request(3, bearer=token(first_needle_id=4, last_needle_id=9)),
    "a token for this needle": request(3, bearer=token(first_needle_id=3, last_needle_id=3)),
    "an expired token": request(3, bearer=token(expires_at_s=1_000_000_000)),
    "a token with a content type": request(3, bearer=token(content_type="text/x-given")),
    "a range": request(3, more="Range: bytes=5-9\r\n"),
    "a condition that holds": request(3, more="If-None-Match: *\r\n"),
    "a condition that does not": request(3, more='If-None-Match: "1-1-00000000"\r\n'),
    "an If-Match that holds": request(3, more="If-Match: *\r\n"),
    "an If-Match that does not": request(3, more='If-Match: "1-1-00000000"\r\n'),
    "a date that holds": request(3, more="If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n"),
    "a date that does not": request(3, more="If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
    "a condition that is none": request(3, more="If-None-Match: unquoted\r\n"),
    "an if-range alone": request(3, more='If-Range: "1-1-00000000"\r\n'),
    "the end of the connection": request(3, more="Connection: close\r\n"),
    **{f"HEAD, {name}": request(3, more=more, method="HEAD") for name, more in SHAPES.items()},
    **{f"GET, {name}": request(3, more=more) for name, more in SHAPES.items()},
    **{
        f"{method} of a URL, {name}": url_request(3, more=more, method=method)
        for name, more in SHAPES.items()
        for method in ("GET", "HEAD")
    },
    **{f"a URL, {name}": url_request(3, **claims) for name, claims in URL_CLAIMS.items()},
    **{f"a URL of {size} bytes": url_request(needle_id) for needle_id, size in SIZES.items()},
    "a URL, absent": url_request(ABSENT_NEEDLE),
    "a URL, damaged": url_request(DAMAGED_NEEDLE),
    "a URL and a header": url_request(3, more=f"Authorization: Bearer {token()}\r\n"),
    "a URL with more": request(3, path=f"/v1/needles/1/3?token={token()}&a=b", bearer=""),
    "a URL with two tokens": request(3, path=f"/v1/needles/1/3?token={token()}&token=x", bearer=""),
    "a URL with an odd type": request(
        3, path=f"/v1/needles/1/3?response-content-type=a&token={token()}", bearer=""
    ),
    "HEAD of nothing": request(1, method="HEAD"),
    "HEAD, damaged": request(DAMAGED_NEEDLE, method="HEAD"),
}


async def ask(url: str, heads: list[bytes]) -> list[bytes]:
    """What comes back for each of these requests, one after the other on one connection while it is kept."""
    host, port = url.removeprefix("http://").split(":")
    answers = []
    stream = await trio.open_tcp_stream(host, int(port))
    for head in heads:
        await stream.send_all(head)
        received = b""
        with trio.fail_after(40):
            while not is_whole(received, has_body=not head.startswith(b"HEAD")):
                piece = await stream.receive_some()
                assert piece, f"closed after {received[:300]!r}"
                received += piece
        answers.append(received)
        if b"\r\nConnection: close\r\n" in received:
            await stream.aclose()
            stream = await trio.open_tcp_stream(host, int(port))
    await stream.aclose()
    return [undated(answer) for answer in answers]


def is_whole(answer: bytes, *, has_body: bool) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end or not has_body or b"\r\nContent-Length: " not in head:
        return bool(end)
    return len(body) >= int(head.split(b"\r\nContent-Length: ")[1].split(b"\r\n")[0])


def undated(answer: bytes) -> bytes:
    """Without what changes from second to second; lines in order of their names."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Date: ")]
    return b"\r\n".join(sorted(lines)) + b"\r\n\r\n" + re.sub(rb"expired \d+ s ago", b"expired", body)


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_answer_is_the_handlers(actor: Actor, nursery: trio.Nursery, name: str) -> None:
    head = REQUESTS[name]
    handlers = await start_server(nursery, actor.http.handle)
    [expected] = await ask(handlers.url, [head])
    # The first makes the fields known; from the second on they are asked for at once.
    assert await ask(actor.url, [head] * 3) == [expected] * 3


async def test_only_what_asks_for_more_goes_to_the_handler(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[bytes] = []
    handle = actor.http.routes[NEEDLE_ROUTE]

    async def noted(exchange: Exchange) -> None:
        handled.append(exchange.path)
        await handle(exchange)

    monkeypatch.setattr(actor.http, "routes", {NEEDLE_ROUTE: noted})
    bearer = token()
    heads = [request(needle_id, bearer=bearer) for needle_id in (1, 2, 3, 7, 8, 22, 3)]
    gets, out = actor.http.counters.gets, actor.http.counters.bytes_out
    await ask(actor.url, heads)
    assert handled == [b"/v1/needles/1/1", b"/v1/needles/1/8"]
    assert actor.http.counters.gets - gets == 7
    assert actor.http.counters.bytes_out - out == sum(SIZES[i] for i in (1, 2, 3, 7, 8, 3)) + len(b"typed")
    assert actor.http.counters.failures == {}


async def test_urls_ranges_heads_and_conditions_are_answered_at_once(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[bytes] = []
    handle = actor.http.routes[NEEDLE_ROUTE]

    async def noted(exchange: Exchange) -> None:
        handled.append(exchange.target)
        await handle(exchange)

    monkeypatch.setattr(actor.http, "routes", {NEEDLE_ROUTE: noted})
    first = url_request(2)
    await ask(actor.url, [first])
    handled.clear()
    gets, out = actor.http.counters.gets, actor.http.counters.bytes_out
    asked = [
        url_request(3),
        url_request(3, method="HEAD"),
        url_request(3, more="Range: bytes=10-19\r\n"),
        url_request(4, more="Range: bytes=-7\r\n"),
        url_request(3, more="If-None-Match: *\r\nRange: bytes=1-2\r\n"),
    ]
    answers = await ask(actor.url, asked)
    assert handled == []
    assert [int(answer.split(b"HTTP/1.1 ")[1][:3]) for answer in answers] == [200, 200, 206, 206, 304]
    assert [len(answer.partition(b"\r\n\r\n")[2]) for answer in answers] == [4096, 0, 10, 7, 0]
    assert actor.http.counters.gets - gets == 3
    assert actor.http.counters.bytes_out - out == 4096 + 10 + 7


async def test_a_refusal_counts_once(actor: Actor) -> None:
    await ask(actor.url, [request(ABSENT_NEEDLE, bearer=token())] * 3)
    assert actor.http.counters.failures == {"no_such_needle": 3}
    assert actor.http.counters.gets == 0


async def test_damage_is_found_once(actor: Actor) -> None:
    answers = await ask(actor.url, [request(DAMAGED_NEEDLE, bearer=token())] * 4)
    assert all(b"needle_corrupt" in answer for answer in answers)
    assert actor.volume.stats().damaged_count == 1


async def test_fields_that_are_known_open_nothing_when_the_token_does_not_any_more(actor: Actor) -> None:
    head = request(3, bearer=token())
    verifier: DataTokenVerifier = actor.http.authorizer._verifier
    before = await ask(actor.url, [head] * 2)
    verifier.replace_keys({"key": b"o" * 32})
    after = await ask(actor.url, [head] * 2)
    assert all(b"HTTP/1.1 200 OK" in answer for answer in before)
    assert all(b"token_invalid" in answer for answer in after)


async def test_fields_that_are_known_open_nothing_when_the_token_has_expired(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = request(3, bearer=token())
    await ask(actor.url, [head] * 2)
    now = time.time()
    monkeypatch.setattr("warehouse.actors.data.authorization.time.time", lambda: now + 25 * 3600)
    assert all(b"token_expired" in answer for answer in await ask(actor.url, [head] * 2))
