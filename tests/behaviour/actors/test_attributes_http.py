"""Attributes, roles and amendments on their way through a volume actor: stored, told to the master, refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import crc32c
import msgspec
import pytest
import trio

from actor_kit import Actor, serving_actor
from warehouse.actors.data.volumes import report_of
from warehouse.storage.format.needle import ROLE_AMENDMENT, ROLE_MANIFEST, ROLE_OBJECT, ROLE_PART
from warehouse.transport.http.batch_format import (
    PUT_ROUTE,
    Outcome,
    PutHead,
    decode_outcomes,
    encode_put_head,
)
from warehouse.transport.messages import NeedlesStored
from warehouse.transport.messages.attributes import MANIFEST_INDEX, ObjectAttributes, encode_attributes

MD5 = bytes(range(16))
ATTRIBUTES = encode_attributes(ObjectAttributes(md5=MD5, tags=(("a", "b"),)))


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        yield actor


def make_old(actor: Actor) -> None:
    """Have its volume be one of an older release."""
    state = actor.volume._state
    state.identity = msgspec.structs.replace(state.identity, format=1)


async def put(actor: Actor, *items: tuple[PutHead, bytes]) -> list[Outcome]:
    body = b"".join(encode_put_head(head) + data for head, data in items)
    answer = await actor.post(PUT_ROUTE, body, lease_id=1, room=2**40)
    return decode_outcomes(answer, len(items))


def head_of(needle_id: int, data: bytes = b"", **more: Any) -> PutHead:
    return PutHead(needle_id, f"k{needle_id}", len(data), crc32c.crc32c(data), **more)


async def put_chunk(actor: Actor, needle_id: int, data: bytes, **claims: Any) -> int:
    """The status of a PUT with a token of an upload."""
    headers = [
        actor.authorization(
            first_needle_id=needle_id, last_needle_id=needle_id, key="large", room=2**40, **claims
        )
    ]
    status, _, _ = await actor.pool.request(
        "PUT", actor.url, f"/v1/needles/1/{needle_id}", headers=headers, body=data
    )
    return status


async def etag_of(actor: Actor, needle_id: int, *more: tuple[str, str], **claims: Any) -> tuple[int, str]:
    headers = [actor.authorization(operation="get", **claims), *more]
    status, found, _ = await actor.pool.request(
        "GET", actor.url, f"/v1/needles/1/{needle_id}", headers=headers
    )
    return status, {name.lower(): value for name, value in found.items()}["etag"]


async def test_attributes_lie_in_the_needle_and_are_told_to_the_master(actor: Actor) -> None:
    outcomes = await put(
        actor,
        (head_of(1, b"rich", attributes=ATTRIBUTES), b"rich"),
        (head_of(2, b"plain"), b"plain"),
        (head_of(3, attributes=ATTRIBUTES, amends=(1, 1), if_match="x", content_type="text/x"), b""),
    )
    assert [outcome.word for outcome in outcomes] == ["e1", "e2", "e3"]
    found = {needle_id: actor.volume.read(needle_id).metadata for needle_id in (1, 2, 3)}
    assert {i: (m.attributes, m.role, m.target) for i, m in found.items()} == {
        1: (ATTRIBUTES, ROLE_OBJECT, None),
        2: (b"", ROLE_OBJECT, None),
        3: (ATTRIBUTES, ROLE_AMENDMENT, (1, 1)),
    }
    assert actor.volume.read(3).metadata.content_type is None
    assert [(needle.attributes, needle.amends) for needle in actor.master.needles] == [
        (ATTRIBUTES, None),
        (b"", None),
        (ATTRIBUTES, (1, 1)),
    ]


async def test_an_object_has_the_etag_that_it_was_put_with_on_every_way_to_it(actor: Actor) -> None:
    await put(actor, (head_of(1, b"rich", attributes=ATTRIBUTES), b"rich"), (head_of(2, b"plain"), b"plain"))
    etag = f'"{MD5.hex()}"'
    assert await etag_of(actor, 1) == (200, etag)
    assert await etag_of(actor, 1, ("Range", "bytes=0-1")) == (206, etag)
    assert await etag_of(actor, 1, ("If-None-Match", etag)) == (304, etag)
    assert await etag_of(actor, 1, etag="signed-with") == (200, '"signed-with"')
    crc = crc32c.crc32c(b"plain")
    assert await etag_of(actor, 2) == (200, f'"1-2-{crc:08x}"')
    assert await etag_of(actor, 2, ("Range", "bytes=0-1")) == (206, f'"1-2-{crc:08x}"')


@pytest.mark.parametrize("size", [1000, 2 << 20])
@pytest.mark.parametrize(
    ("role", "chunk_index"), [(ROLE_PART, 0), (ROLE_PART, 3 << 40), (ROLE_MANIFEST, MANIFEST_INDEX)]
)
async def test_a_chunk_has_the_role_that_its_token_says(
    actor: Actor, role: int, chunk_index: int, size: int
) -> None:
    claims = {"upload_id": 5, "chunk_index": chunk_index, "chunk_count": None, "role": role}
    assert await put_chunk(actor, 9, bytes(size), **claims) == 201
    metadata = actor.volume.open_needle(9).metadata
    assert (metadata.role, metadata.chunk_index, metadata.upload_id) == (role, chunk_index, 5)
    assert [needle.chunk_index for needle in actor.master.needles] == [chunk_index]


@pytest.mark.parametrize(
    "claims", [{"upload_id": 5, "role": 4}, {"role": ROLE_PART}, {"upload_id": 5, "role": ROLE_AMENDMENT}]
)
async def test_a_role_that_cannot_be_is_refused(actor: Actor, claims: dict[str, Any]) -> None:
    assert await put_chunk(actor, 9, b"x", **claims) == 400
    assert actor.volume.find(9) is None


@pytest.mark.parametrize(
    ("head", "data", "code"),
    [
        (head_of(1, b"x", attributes=b"\xc1"), b"x", "bad_metadata"),
        (head_of(1, b"x", attributes=b"\x90"), b"x", "bad_metadata"),
        (head_of(1, b"x", attributes=ATTRIBUTES + b"\0"), b"x", "bad_metadata"),
        (head_of(1, b"x", attributes=bytes(16 * 1024 + 1)), b"x", "bad_metadata"),
        (head_of(1, attributes=b"\xc1", amends=(1, 1)), b"", "bad_metadata"),
        (head_of(1, b"x", attributes=ATTRIBUTES, amends=(1, 1)), b"x", "bad_request"),
        (head_of(1, metadata={"a": "b"}, amends=(1, 1)), b"", "bad_request"),
        (head_of(1, amends=(0, 1)), b"", "bad_request"),
        (head_of(1, amends=(1, 1 << 32)), b"", "bad_request"),
    ],
)
async def test_a_head_that_says_what_cannot_be_is_refused(
    actor: Actor, head: PutHead, data: bytes, code: str
) -> None:
    outcomes = await put(actor, (head, data), (head_of(2, b"next"), b"next"))
    assert [outcome.word for outcome in outcomes] == [code, "e2"]
    assert actor.volume.find(1) is None


async def test_an_old_volume_refuses_what_it_cannot_hold_and_takes_the_rest(actor: Actor) -> None:
    make_old(actor)
    outcomes = await put(
        actor,
        (head_of(1, b"x", attributes=ATTRIBUTES), b"x"),
        (head_of(2, b"plain"), b"plain"),
        (head_of(3, amends=(1, 2)), b""),
    )
    assert [outcome.word for outcome in outcomes] == ["volume_format_old", "e2", "volume_format_old"]
    for size in (1000, 2 << 20):
        claims = {"upload_id": 5, "chunk_index": 0, "chunk_count": None, "role": ROLE_PART}
        assert await put_chunk(actor, 9, bytes(size), **claims) == 507
    assert actor.volume.stats().live_count == 1
    assert report_of(actor.volume).format == 1


async def test_a_message_to_the_master_is_cut_by_what_its_needles_carry(actor: Actor) -> None:
    assert report_of(actor.volume).format == 2
    attributes = encode_attributes(ObjectAttributes(raw_metadata={"a": bytes(8000), "b": bytes(8000)}))
    await put(actor, *((head_of(number, attributes=attributes), b"") for number in range(1, 201)))
    assert sum(actor.master.told) == 200
    assert max(actor.master.told) <= 16
    whole = msgspec.msgpack.encode(NeedlesStored(needles=actor.master.needles[: max(actor.master.told)]))
    assert len(whole) < 1024 * 1024
