"""What a token says is what its bearer may do, at every door of the data port; and what else a signed URL fixes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import crc32c
import pytest
import trio
import trio.testing

from actor_kit import INCARNATION, Actor, data_token, serving_actor
from warehouse.actors.data import authorization
from warehouse.actors.data.commit_pipeline import Uncommitted
from warehouse.errors import DeadlineExceeded
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.batch_format import (
    GET_ROUTE,
    PUT_ROUTE,
    STATE_OK,
    STATES,
    PutHead,
    decode_outcomes,
    encode_ids,
    encode_put_head,
    read_frames,
)

LARGE = b"L" * (2 * 2**20)
KEY_OF: dict[str, Any] = {"key_id": "WHA", "epoch": 3}


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        for needle_id, key, data, upload_id in (
            (1, "photos/1", b"mine", None),
            (2, "films/1", b"theirs", None),
            (3, "films/2", LARGE, None),
            (4, "photos/4", b"chunk", 77),
            (5, "photos/5", LARGE, 77),
        ):
            metadata = NeedleMetadata("b", 1, key, 1_700_000_000_000, upload_id=upload_id)
            actor.volume.append(needle_id, metadata, data, stamp=needle_id)
        yield actor


async def ask(
    actor: Actor,
    method: str,
    needle_id: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    **claims: Any,
) -> tuple[int, Mapping[str, str], bytes]:
    all_headers = [actor.authorization(**claims), *(headers or {}).items()]
    return await actor.pool.request(
        method, actor.url, f"/v1/needles/1/{needle_id}", headers=all_headers, body=body
    )


async def ask_url(
    actor: Actor,
    needle_id: int,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    **claims: Any,
) -> tuple[int, Mapping[str, str], bytes]:
    token = data_token(operation="get", first_needle_id=needle_id, last_needle_id=needle_id, **claims)
    return await actor.pool.request(
        method, actor.url, f"/v1/needles/1/{needle_id}?token={token}", headers=[*(headers or {}).items()]
    )


async def batch_states(actor: Actor, needle_ids: list[int], **claims: Any) -> list[str]:
    answer = await actor.post(GET_ROUTE, encode_ids(needle_ids), operation="get", **claims)
    states = [frame.state for frame in read_frames(answer, needle_ids)]
    return ["ok" if state == STATE_OK else STATES[state].code for state in states]


# --- prefixes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("needle_id", [1, 2, 3])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_token_for_a_prefix_reads_no_other_key(actor: Actor, needle_id: int, method: str) -> None:
    for prefixes, is_open in ((("photos/",), needle_id == 1), (("x", "films/"), needle_id != 1), ((), False)):
        status, _, body = await ask(actor, method, needle_id, operation="get", prefixes=prefixes)
        assert status == (200 if is_open else 403)
        assert is_open or method == "HEAD" or b"token_scope" in body
    assert (await ask(actor, method, needle_id, operation="get"))[0] == 200


async def test_a_range_and_a_batch_get_keep_to_the_prefix(actor: Actor) -> None:
    status, _, _ = await ask(
        actor, "GET", 2, b"", {"Range": "bytes=0-1"}, operation="get", prefixes=("photos/",)
    )
    assert status == 403
    assert await batch_states(actor, [1, 2, 1], prefixes=("photos/",)) == ["ok", "token_scope", "ok"]
    assert await batch_states(actor, [1, 2], prefixes=()) == ["token_scope"] * 2


async def test_a_put_and_a_batch_put_keep_to_the_prefix(actor: Actor) -> None:
    claims: dict[str, Any] = {"prefixes": ("photos/",), "lease_id": 1, "room": 2**20}
    for key, status in (("photos/9", 201), ("photo", 403), ("films/photos/9", 403)):
        needle_id = 20 + len(key)
        answer = await ask(actor, "PUT", needle_id, b"data", {"X-Warehouse-Key": key}, **claims)
        assert answer[0] == status
    parts = []
    for needle_id, key in ((50, "films/9"), (51, "photos/10")):
        parts += [encode_put_head(PutHead(needle_id, key, 4, crc32c.crc32c(b"data"))), b"data"]
    outcomes = decode_outcomes(await actor.post(PUT_ROUTE, b"".join(parts), **claims), 2)
    assert [outcome.word for outcome in outcomes] == ["token_scope", "e51"]
    assert [needle.key for needle in actor.master.needles] == ["photos/9", "photos/10"]


async def test_a_stored_needle_names_the_key_behind_its_token(actor: Actor) -> None:
    await ask(actor, "PUT", 20, b"data", {"X-Warehouse-Key": "k"}, **KEY_OF)
    await ask(actor, "PUT", 21, LARGE, {"X-Warehouse-Key": "k"})
    assert [(needle.key_id, needle.epoch) for needle in actor.master.needles] == [("WHA", 3), ("", 0)]


# --- uploads, and needles on their way ------------------------------------------------------------


@pytest.mark.parametrize("needle_id", [4, 5])
async def test_a_read_grant_opens_no_chunk_of_an_upload_that_it_does_not_name(
    actor: Actor, needle_id: int
) -> None:
    exact: dict[str, Any] = {"first_needle_id": needle_id, "last_needle_id": needle_id}
    for claims, status in (
        (KEY_OF, 403),
        ({**KEY_OF, "upload_ids": ()}, 403),
        ({**KEY_OF, "upload_ids": (76, 78)}, 403),
        ({**KEY_OF, "upload_ids": (76, 77)}, 200),
        ({**KEY_OF, **exact}, 200),
        ({}, 200),  # release 0.1.0 signed it
    ):
        for method in ("GET", "HEAD"):
            assert (await ask(actor, method, needle_id, operation="get", **claims))[0] == status
        if "first_needle_id" not in claims and needle_id == 4:
            assert await batch_states(actor, [1, 4], **claims) == [
                "ok",
                "ok" if status == 200 else "token_scope",
            ]


async def test_a_needle_that_is_not_committed_is_read_when_the_master_has_decided(actor: Actor) -> None:
    actor.master.is_answering = trio.Event()
    answers: list[int] = []

    async def read(needle_id: int) -> None:
        answers.append((await ask(actor, "GET", needle_id, operation="get"))[0])

    async def read_together() -> None:
        answers.append(len(await batch_states(actor, [20, 21])))

    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, actor, "PUT", 20, b"data", {"X-Warehouse-Key": "k"})
            nursery.start_soon(ask, actor, "PUT", 21, LARGE, {"X-Warehouse-Key": "k"})
            while not {20, 21} <= actor.pipeline.uncommitted:
                await trio.sleep(0.001)
            nursery.start_soon(read, 20)
            nursery.start_soon(read, 21)
            nursery.start_soon(read_together)
            assert (await ask(actor, "GET", 1, operation="get"))[0] == 200  # others do not wait
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not answers
            actor.master.is_answering.set()
    assert sorted(answers) == [2, 200, 200]
    assert not actor.pipeline.uncommitted


async def test_a_read_of_what_is_never_decided_ends(autojump_clock: trio.testing.MockClock) -> None:
    uncommitted = Uncommitted()
    uncommitted |= {1, 2}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uncommitted.wait, 1)
        await trio.testing.wait_all_tasks_blocked()
        uncommitted.decided(1)
    with pytest.raises(DeadlineExceeded), trio.fail_after(1000):
        await uncommitted.wait(1, 2)


# --- revoked keys, and a silent master ------------------------------------------------------------


async def test_a_revoked_key_is_refused_on_the_next_request_of_an_open_connection(actor: Actor) -> None:
    others: dict[str, Any] = {"key_id": "WHB", "epoch": 1}
    for claims in (KEY_OF, others):
        assert (await ask(actor, "GET", 1, operation="get", **claims))[0] == 200
    actor.verifier.revoke({"WHA": 4})
    status, _, body = await ask(actor, "GET", 1, operation="get", **KEY_OF)
    assert (status, b"token_revoked" in body) == (401, True)
    status, _, body = await ask_url(actor, 1, **KEY_OF)
    assert (status, b"its key has lost rights" in body) == (401, True)
    for claims in (others, {**KEY_OF, "epoch": 4}):
        assert (await ask(actor, "GET", 1, operation="get", **claims))[0] == 200


async def test_an_actor_with_a_silent_master_honours_no_token_until_it_is_back(actor: Actor) -> None:
    actor.http.authorizer.unheard_s = 900.0
    for method, needle_id, operation in (("GET", 1, "get"), ("PUT", 30, "put")):
        status, headers, body = await ask(actor, method, needle_id, operation=operation, key="k")
        assert status == 503
        assert b"master_unreachable" in body
        assert int(headers["retry-after"]) > 0
    actor.http.authorizer.unheard_s = None
    assert (await ask(actor, "GET", 1, operation="get"))[0] == 200


# --- what a signed URL fixes ----------------------------------------------------------------------


async def test_a_url_says_how_its_object_is_shown_saved_and_kept(actor: Actor) -> None:
    _, headers, _ = await ask_url(
        actor, 1, disposition="attachment", file_name="Grüße;.txt", cache_control="public, max-age=60"
    )
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%3B.txt"
    assert headers["cache-control"] == "public, max-age=60"
    _, headers, _ = await ask_url(actor, 1, disposition="inline")
    assert headers["content-disposition"] == "inline; filename*=UTF-8''1"


async def test_a_url_fixes_the_least_size_and_that_nothing_is_overwritten(actor: Actor) -> None:
    claims: dict[str, Any] = {"key": "k", "body_size_min": 4, "body_size_max": 6, "if_none_match": "*"}
    for body, status in ((b"abc", 400), (b"abcdefg", 413), (b"abcd", 201)):
        assert (await ask(actor, "PUT", 30, body, {"If-None-Match": '"other"'}, **claims))[0] == status
    [needle] = actor.master.needles
    assert (needle.if_match, needle.if_none_match) == (None, "*")


async def test_a_url_that_works_once_works_once(actor: Actor) -> None:
    once: dict[str, Any] = {"once": INCARNATION, "token_id": "t1"}
    assert (await ask_url(actor, 1, "HEAD", **once))[0] == 200
    etag = (await ask_url(actor, 1))[1]["etag"]
    assert (await ask_url(actor, 1, headers={"If-None-Match": etag}, **once))[0] == 304
    assert (await ask_url(actor, 1, headers={"Range": "bytes=0-1"}, **once))[0] == 206
    for method in ("GET", "HEAD"):
        status, _, body = await ask_url(actor, 1, method, **once)
        assert status == 410
        assert method == "HEAD" or b"token_used" in body
    assert (await ask_url(actor, 1, once=INCARNATION, token_id="t2"))[0] == 200
    # As a Bearer token, it goes by the same rules, and not by the way around.
    exact: dict[str, Any] = {"operation": "get", "first_needle_id": 1, "last_needle_id": 1}
    assert (await ask(actor, "GET", 1, **exact, **once))[0] == 410
    with pytest.raises(AssertionError, match="token_scope"):
        await actor.post(GET_ROUTE, encode_ids([1]), once=INCARNATION, token_id="t3", **exact)
    parts = [(1, 1, 4, "", ""), (1, 2, 6, "", "")]
    assert (await ask_url(actor, 1, parts=parts, once=INCARNATION, token_id="t4"))[2] == b"minetheirs"
    assert (await ask_url(actor, 1, parts=parts, once=INCARNATION, token_id="t4"))[0] == 410


async def test_a_url_that_works_once_does_not_outlive_the_actor_that_counts(actor: Actor) -> None:
    for boot in (INCARNATION - 1, INCARNATION + 1):
        assert (await ask_url(actor, 1, once=boot, token_id="t1"))[0] == 410
    assert (await ask_url(actor, 1, once=INCARNATION))[0] == 410  # nobody could count it


async def test_the_urls_that_were_used_are_bounded(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "ONCE_MAX", 3)
    for number in range(3):
        assert (await ask_url(actor, 1, once=INCARNATION, token_id=f"t{number}"))[0] == 200
    assert (await ask_url(actor, 1, once=INCARNATION, token_id="t3"))[0] == 503
    assert (await ask_url(actor, 1, once=INCARNATION, token_id="t0"))[0] == 410
    now = time.time()
    monkeypatch.setattr("warehouse.actors.data.authorization.time.time", lambda: now + 3600)
    late: dict[str, Any] = {"expires_at_s": int(now) + 7200}
    assert (await ask_url(actor, 1, once=INCARNATION, token_id="t4", **late))[0] == 200
