"""No answer with bytes of users becomes a page of the server, and no cache keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from actor_kit import Actor, data_token, serving_actor
from http_harness import Answer, receive_all, split_answers
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.batch_format import GET_ROUTE, encode_ids

PAGE = b"<script>alert(document.domain)</script>"
SMALL, LARGE, ABSENT = 1, 2, 99
LARGE_SIZE = 2 * 1024 * 1024  # not answered at once, and sent in pieces
SANDBOX = b"sandbox; default-src 'none'"


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        for needle_id, size in ((SMALL, len(PAGE)), (LARGE, LARGE_SIZE)):
            metadata = NeedleMetadata("b", 1, 'dir/evil"\r\nx: 1 ü.html', 1_790_000_000_000, "text/html")
            actor.volume.append(needle_id, metadata, PAGE.ljust(size), stamp=needle_id)
        yield actor


async def ask(actor: Actor, method: str, target: str, headers: str = "", body: bytes = b"") -> Answer:
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n"
    async with await trio.open_tcp_stream("127.0.0.1", int(actor.url.rpartition(":")[2])) as stream:
        await stream.send_all(head.encode() + body)
        [answer] = split_answers(await receive_all(stream), is_head=method == "HEAD")
    return answer


def bearer() -> str:
    return f"Authorization: Bearer {data_token(operation='get')}\r\n"


def require_always(answer: Answer) -> None:
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    assert answer.headers[b"referrer-policy"] == b"no-referrer"


def require_safe(answer: Answer) -> None:
    require_always(answer)
    assert answer.headers[b"content-security-policy"] == SANDBOX
    assert answer.headers[b"cache-control"] == b"private, no-store"
    assert answer.headers[b"content-disposition"].startswith(b"attachment")


@pytest.mark.parametrize("needle_id", [SMALL, LARGE])
@pytest.mark.parametrize("is_url", [False, True])
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("GET", "Range: bytes=0-7\r\n", 206),
        ("GET", "If-None-Match: *\r\n", 304),
    ],
)
async def test_every_answer_with_a_needle_is_safe(
    actor: Actor, needle_id: int, is_url: bool, method: str, headers: str, status: int
) -> None:
    target = f"/v1/needles/1/{needle_id}"
    if is_url:
        target += f"?token={data_token(operation='get')}"
    else:
        headers += bearer()
    answer = await ask(actor, method, target, headers)
    assert answer.status == status
    assert answer.headers[b"content-type"] == b"text/html"
    require_safe(answer)
    if is_url:
        saved_as = b"attachment; filename*=UTF-8''evil%22%0D%0Ax%3A%201%20%C3%BC.html"
        assert answer.headers[b"content-disposition"] == saved_as


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("GET", "", 200), ("HEAD", "", 200), ("GET", "Range: bytes=5-9\r\n", 206)],
)
async def test_an_object_of_many_chunks_is_safe(actor: Actor, method: str, headers: str, status: int) -> None:
    parts = [(1, SMALL, len(PAGE), "", ""), (1, SMALL, len(PAGE), "", "")]
    token = data_token(operation="get", first_needle_id=1, last_needle_id=1, parts=parts, etag="e", key="a/b")
    answer = await ask(actor, method, f"/v1/needles/1/{SMALL}?token={token}", headers)
    assert answer.status == status
    require_safe(answer)
    assert answer.headers[b"content-disposition"] == b"attachment; filename*=UTF-8''b"


async def test_a_batch_is_safe(actor: Actor) -> None:
    body = encode_ids([SMALL, LARGE])
    answer = await ask(actor, "POST", GET_ROUTE, f"{bearer()}Content-Length: {len(body)}\r\n", body)
    assert answer.status == 200
    require_safe(answer)


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", f"/v1/needles/1/{SMALL}", "", 401),
        ("GET", f"/v1/needles/1/{SMALL}?token=no", "", 401),
        ("GET", "/nowhere", "", 404),
        ("BREW", "/", "", 501),
        ("GET", "/", "Transfer-Encoding: chunked\r\n", 411),
        ("PUT", f"/v1/needles/1/{SMALL}", "", 401),
    ],
)
async def test_refusals_are_not_sniffed_or_kept(
    actor: Actor, method: str, target: str, headers: str, status: int
) -> None:
    answer = await ask(actor, method, target, headers)
    assert answer.status == status
    require_always(answer)
    assert answer.headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("headers", ["Range: bytes=99999999-\r\n", 'If-Match: "other"\r\n'])
async def test_refusals_to_a_token_holder_are_not_sniffed_or_kept(actor: Actor, headers: str) -> None:
    answer = await ask(actor, "GET", f"/v1/needles/1/{SMALL}", headers + bearer())
    assert answer.status in (412, 416)
    require_always(answer)
    assert answer.headers[b"cache-control"] == b"no-store"


async def test_answers_without_bytes_of_users_are_not_sniffed(actor: Actor) -> None:
    answer = await ask(actor, "GET", "/healthz")
    assert answer.status == 200
    require_always(answer)
