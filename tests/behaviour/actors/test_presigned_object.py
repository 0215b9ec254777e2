"""A presigned URL of an object of many chunks: the server delivers exactly its size, or the reader sees an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from actor_kit import Actor, data_token, serving_actor
from http_harness import start_server
from warehouse.errors import LinkDown
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.exchange import Exchange

FIRST, SECOND = b"1" * 1000, b"2" * 500


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        for needle_id, data in ((1, FIRST), (2, SECOND)):
            actor.volume.append(needle_id, NeedleMetadata("b", 1, "film", 1), data, stamp=needle_id)
        yield actor


async def get(
    actor: Actor, parts: list[tuple[int, int, int, str, str]], method: str = "GET", span: str | None = None
) -> tuple[int, bytes]:
    token = data_token(
        operation="get", first_needle_id=1, last_needle_id=1, parts=parts, etag="e", key="film"
    )
    headers = [] if span is None else [("Range", span)]
    target = f"/v1/needles/1/1?token={token}"
    status, _, body = await actor.pool.request(method, actor.url, target, headers=headers)
    return status, body


async def neighbour(nursery: trio.Nursery, body: bytes, announced: int | None = None) -> str:
    """Another disk's actor, which answers every range with these bytes."""

    async def handle(exchange: Exchange) -> None:
        await exchange.start(206, [], len(body) if announced is None else announced)
        await exchange.write(body)

    return (await start_server(nursery, handle)).url


async def test_chunks_come_one_behind_the_other(actor: Actor, nursery: trio.Nursery) -> None:
    far = (2, 7, 300, await neighbour(nursery, b"3" * 300), "token")
    parts = [(1, 1, 1000, "", ""), far, (1, 2, 500, "", "")]
    assert await get(actor, parts) == (200, FIRST + b"3" * 300 + SECOND)
    assert await get(actor, parts[::2], span="bytes=990-1009") == (206, FIRST[-10:] + SECOND[:10])


@pytest.mark.parametrize("size", [499, 501, 0, 5000])
async def test_a_chunk_of_another_size_than_the_url_says_is_an_error(actor: Actor, size: int) -> None:
    status, body = await get(actor, [(1, 2, size, "", ""), (1, 1, 1000, "", "")])
    if size == 0:
        assert (status, body) == (200, FIRST)  # nothing of it was to be delivered
    else:
        assert status == 500
        assert b"object_inconsistent" in body
    if size:
        with pytest.raises(LinkDown):  # the head went out with the first chunk: the body ends too early
            await get(actor, [(1, 1, 1000, "", ""), (1, 2, size, "", "")])


@pytest.mark.parametrize(("came", "announced"), [(299, None), (301, None), (0, None), (299, 300)])
async def test_another_disk_that_sends_more_or_less_is_an_error(
    actor: Actor, nursery: trio.Nursery, came: int, announced: int | None
) -> None:
    far = (2, 7, 300, await neighbour(nursery, b"3" * came, announced), "token")
    with pytest.raises(LinkDown):
        await get(actor, [(1, 1, 1000, "", ""), far, (1, 2, 500, "", "")])


async def test_an_object_of_empty_chunks_is_answered(actor: Actor) -> None:
    actor.volume.append(3, NeedleMetadata("b", 1, "film", 1), b"", stamp=3)
    for method in ("GET", "HEAD"):
        assert await get(actor, [(1, 3, 0, "", ""), (1, 3, 0, "", "")], method) == (200, b"")
