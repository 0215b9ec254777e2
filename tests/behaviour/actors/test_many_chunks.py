"""A URL of an object of very many chunks: short, whole, in ranges, and never of another version."""

from __future__ import annotations

import json
import sqlite3
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from actor_kit import Actor, data_token, serving_actor
from http_harness import receive_all, split_answers, start_server
from master_kit import RunningMaster, open_master, until
from warehouse.errors import BadRequest, LinkDown, NoSuchObject, NotAuthenticated, StoreError, TokenInvalid
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.messages import (
    Chunk,
    ChunksLocated,
    Deleted,
    DeleteObjects,
    LocateChunks,
    Presign,
    Presigned,
    ReadGrant,
    Register,
    Welcome,
)

COUNT = 400
FIRST = 1_000_000  # needle of the large object in the catalog
SIZE = 50  # of a chunk; every tenth is on another disk
ETAG = "1-1-0000000a-400"


def chunk_data(number: int) -> bytes:
    return b"%06d|" % number + bytes([number % 256]) * (SIZE - 7)


WHOLE = b"".join(map(chunk_data, range(COUNT)))


class Neighbour:
    """Another disk's actor: each of its needles is a chunk."""

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[bytes] = []
        self.gone: set[int] = set()

    async def handle(self, exchange: Exchange) -> None:
        self.tokens.append(exchange.headers[b"authorization"])
        needle_id = int(exchange.path.rpartition(b"/")[2])
        if needle_id in self.gone:
            await exchange.respond(404)
            return
        first, _, last = exchange.headers[b"range"].removeprefix(b"bytes=").partition(b"-")
        await exchange.respond(206, [], chunk_data(needle_id - 1)[int(first) : int(last) + 1])


class Asked:
    """The master, as far as chunks go."""

    def __init__(self, neighbour: Neighbour) -> None:
        self.neighbour = neighbour
        self.questions: list[LocateChunks] = []
        self.failure: StoreError | None = None
        self.expires_in_s = 600.0
        self.is_far_offline = False
        self.count = COUNT

    async def __call__(self, question: LocateChunks) -> ChunksLocated:
        await trio.lowlevel.checkpoint()
        self.questions.append(question)
        if self.failure is not None:
            raise self.failure
        numbers = range(question.first, min(self.count, question.first + min(question.limit, 150)))
        grant = ReadGrant(
            volume_id=2,
            url=self.neighbour.url,
            token=f"right-{len(self.questions)}",
            expires_in_s=self.expires_in_s,
        )
        return ChunksLocated(
            chunks=[Chunk(2 if n % 10 == 9 else 1, n + 1, SIZE, 0) for n in numbers],
            grants=[] if self.is_far_offline else [grant],
            offline={2: "disk-2"} if self.is_far_offline else {},
        )


@pytest.fixture
async def asked(nursery: trio.Nursery) -> Asked:
    neighbour = Neighbour()
    neighbour.url = (await start_server(nursery, neighbour.handle)).url
    return Asked(neighbour)


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery, asked: Asked) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery, ask_master=asked) as actor:
        for number in range(COUNT):
            if number % 10 != 9:
                metadata = NeedleMetadata("b", 1, "film.mp4", 1_790_000_000_000, "video/mp4")
                actor.volume.append(number + 1, metadata, chunk_data(number), stamp=number + 1)
        yield actor


def target(**claims: object) -> str:
    fields = {
        "operation": "get",
        "first_needle_id": 1,
        "last_needle_id": 1,
        "upload_id": 5,
        "chunk_count": COUNT,
        "object_size": len(WHOLE),
        "etag": ETAG,
        "created_ms": 1_790_000_000_000,
        "chunk_list_token": "question",
    }
    return f"/v1/needles/1/1?token={data_token(**{**fields, **claims})}"


async def get(
    actor: Actor, method: str = "GET", headers: dict[str, str] | None = None, **claims: object
) -> tuple[int, dict[bytes, bytes], bytes]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"{method} {target(**claims)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"
    async with await trio.open_tcp_stream("127.0.0.1", int(actor.url.rpartition(":")[2])) as stream:
        await stream.send_all(head.encode())
        [answer] = split_answers(await receive_all(stream), is_head=method == "HEAD")
    return answer.status, answer.headers, answer.body


async def test_an_object_of_many_chunks_comes_whole_and_in_ranges(actor: Actor, asked: Asked) -> None:
    status, headers, body = await get(actor)
    assert (status, body) == (200, WHOLE)
    assert headers[b"content-type"] == b"video/mp4"
    assert headers[b"etag"] == f'"{ETAG}"'.encode()
    assert b"film.mp4" in headers[b"content-disposition"]
    assert [question.first for question in asked.questions] == [0, 150, 300], "page by page"
    for start, end in ((0, 1), (49, 51), (440, 470), (7, len(WHOLE)), (len(WHOLE) - 3, len(WHOLE))):
        status, headers, body = await get(actor, headers={"Range": f"bytes={start}-{end - 1}"})
        assert (status, body) == (206, WHOLE[start:end])
        assert headers[b"content-range"] == b"bytes %d-%d/%d" % (start, end - 1, len(WHOLE))
    assert len(asked.questions) == 3, "the list is kept"


async def test_what_needs_no_bytes_needs_no_list(actor: Actor, asked: Asked) -> None:
    for method, headers, expected in (
        ("HEAD", {}, 200),
        ("HEAD", {"Range": "bytes=5-9"}, 206),
        ("GET", {"If-None-Match": f'"{ETAG}"'}, 304),
        ("GET", {"If-Match": '"other"'}, 412),
        ("GET", {"Range": "bytes=99999999-"}, 416),
    ):
        status, found, _ = await get(actor, method, headers)
        assert status == expected
        if expected == 200:
            assert found[b"content-length"] == b"%d" % len(WHOLE)
    assert not asked.questions


async def test_requests_of_one_moment_share_one_list(actor: Actor, asked: Asked) -> None:
    async def read() -> None:
        assert (await get(actor))[2] == WHOLE

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
    assert len(asked.questions) == 3


async def test_a_right_that_ends_is_asked_for_again(actor: Actor, asked: Asked) -> None:
    asked.expires_in_s = 30.0
    assert (await get(actor))[2] == WHOLE
    assert len(asked.questions) > 3
    assert asked.neighbour.tokens[-1] == b"Bearer right-%d" % len(asked.questions)


async def test_rights_are_asked_for_by_the_url_that_lives_longest(actor: Actor, asked: Asked) -> None:
    asked.expires_in_s = 30.0  # so that each read asks anew
    now_s = int(time.time())
    for exp, via in ((100, "early"), (1000, "late"), (200, "middle")):
        assert (await get(actor, expires_at_s=now_s + exp, chunk_list_token=via))[2] == WHOLE
    assert [question.token for question in asked.questions[:3]] == ["early"] * 3, "the list itself"
    later = [question.token for question in asked.questions if question.limit == 1]
    assert later == sorted(later), "the one that was shown first may have expired long ago"
    assert set(later) == {"early", "late"}


async def test_an_object_that_was_replaced_is_a_404_and_nothing_else(actor: Actor, asked: Asked) -> None:
    asked.failure = NoSuchObject("replaced")
    status, _, body = await get(actor)
    assert (status, json.loads(body)["code"]) == (404, "no_such_object")
    assert "URL" in json.loads(body)["message"]
    asked.failure = None
    assert (await get(actor))[0] == 200
    asked.neighbour.gone.add(10)  # its list is known; a chunk elsewhere has gone
    status, _, body = await get(actor, headers={"Range": "bytes=450-460"})
    assert status == 404
    actor.volume.delete(1, stamp=1000)  # the first chunk is how an actor knows
    for method in ("GET", "HEAD"):
        assert (await get(actor, method, {"Range": "bytes=60-70"}))[0] == 404


async def test_a_part_that_is_not_to_be_had_fails_before_the_answer_begins(
    actor: Actor, asked: Asked
) -> None:
    asked.is_far_offline = True
    status, headers, _ = await get(actor, headers={"Range": "bytes=460-470"})
    assert status == 503
    assert b"retry-after" in headers
    assert (await get(actor, headers={"Range": "bytes=0-99"}))[2] == WHOLE[:100]
    asked.failure = LinkDown("no master")
    assert (await get(actor, upload_id=6))[0] == 503


@pytest.mark.parametrize(
    "wrong", [{"chunk_count": COUNT + 1}, {"object_size": len(WHOLE) - 1}, {"chunk_count": COUNT - 1}]
)
async def test_a_list_that_does_not_add_up_is_not_served(actor: Actor, wrong: dict[str, int]) -> None:
    assert (await get(actor, **wrong))[0] == 500  # type: ignore[arg-type]


# --- the master's half ----------------------------------------------------------------------------


async def url_of(master: RunningMaster, key: str) -> str:
    request = Presign(bucket="photos", key=key, method="GET", expires_in_s=7 * 24 * 3600.0)
    return (await master.ask(request, Presigned)).url


def claims_of(url: str) -> dict[str, object]:
    (token,) = parse_qs(urlsplit(url).query)["token"]
    found: dict[str, object] = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


async def many(master: RunningMaster, key: str, count: int) -> None:
    """An object of that many chunks, put where the catalog keeps them: uploading so many takes too long."""
    [[bucket_id]] = master.read("SELECT id FROM buckets WHERE name = 'photos'")
    await master.stop()
    with closing(sqlite3.connect(master._folder / "catalog.sqlite3")) as connection, connection:
        connection.execute(
            "INSERT INTO objects (bucket_id, key, size, stamp, created_ms, volume_id, needle_id, crc,"
            " chunk_count, upload_id) VALUES (?, ?, ?, 1, 1790000000000, 1, ?, 7, ?, 77)",
            (bucket_id, key, count * SIZE, FIRST, count),
        )
        connection.executemany(
            "INSERT INTO chunks (upload_id, chunk_index, volume_id, needle_id, size, crc, stamp, is_stored)"
            " VALUES (77, ?, 1, ?, ?, 7, 1, 1)",
            [(number, FIRST + number, SIZE) for number in range(count)],
        )
        connection.execute("UPDATE buckets SET object_count = 1, byte_count = ?", (count * SIZE,))
    await master.start()
    assert master.disk.link is not None
    with trio.fail_after(40):
        await master.disk.link.wait_up()
        await master.client.wait_up()
    await until(lambda: master.disk.link is not None and master.disk.link.is_up)


@pytest.mark.parametrize("count", [9, 50_000])
async def test_the_url_of_any_object_is_short_and_leads_to_all_of_its_chunks(
    tmp_path: Path, count: int
) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        key = "\u2603" * 300 + "\x01" * 100
        await many(master, key, count)
        url = await url_of(master, key)
        assert len(url) < 2048
        claims = claims_of(url)
        assert (claims["cnt"], claims["osz"]) == (count, count * SIZE)
        link = master.disk.link
        assert link is not None
        found: list[Chunk] = []
        while len(found) < count:
            question = LocateChunks(token=str(claims["via"]), first=len(found), limit=8192)
            answer = await link.request(question, timeout_s=10)
            assert isinstance(answer, ChunksLocated)
            assert [grant.volume_id for grant in answer.grants] == [1]
            found += answer.chunks
        assert [chunk.needle_id for chunk in found] == list(range(FIRST, FIRST + count))
        # Whoever is no disk of ours, or makes up a question, learns nothing.
        with pytest.raises(NotAuthenticated):
            await master.ask(LocateChunks(token=str(claims["via"])), ChunksLocated)
        with pytest.raises(TokenInvalid):
            await link.request(LocateChunks(token=urlsplit(url).query.removeprefix("token=")), timeout_s=30)
        for limit in (0, 8193):
            with pytest.raises(BadRequest):
                await link.request(LocateChunks(token=str(claims["via"]), limit=limit), timeout_s=30)
        # A URL is for one version.
        await master.ask(DeleteObjects(bucket="photos", keys=[key]), Deleted)
        with pytest.raises(NoSuchObject):
            await link.request(LocateChunks(token=str(claims["via"])), timeout_s=30)


async def test_no_disk_gets_the_keys_to_what_the_master_signs_for_itself(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        register = Register(
            join_secret="",
            disk_id="master",
            disk_name="disk-2",
            incarnation=1,
            url="http://127.0.0.1:1",
            volumes=[],
            disk_capacity=1 << 40,
            disk_free=1 << 40,
        )
        with pytest.raises(BadRequest):
            await master.ask(register, Welcome)
