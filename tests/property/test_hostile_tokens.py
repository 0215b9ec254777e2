"""Tokens under attack: whatever is made of a good token, and wherever it is shown, nothing opens and nothing breaks.

Every attack goes through a real HTTP server to a real volume.  Between the attacks honest requests work, at the
end nothing has been written, and no log has an exception.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import trio
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_kit import INCARNATION, KEY, Actor, data_token, serving_actor
from warehouse.actors.data import authorization
from warehouse.auth import data_tokens
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.batch_format import (
    GET_ROUTE,
    PUT_ROUTE,
    STATE_OK,
    PutHead,
    decode_outcomes,
    encode_ids,
    encode_put_head,
    read_frames,
)

SETTINGS = settings(max_examples=30, deadline=None)
OF_KEY: dict[str, Any] = {"key_id": "WHA", "epoch": 3, "token_id": "t"}
READ: dict[str, Any] = {"operation": "get", "prefixes": ("photos/",), **OF_KEY}
WRITE: dict[str, Any] = {
    "operation": "put",
    "prefixes": ("photos/",),
    "first_needle_id": 100,
    "last_needle_id": 199,
    "lease_id": 1,
    "room": 1_000_000,
    **OF_KEY,
}
# Needles of the volume: the one that `READ` opens, of another prefix, of another bucket, of an upload.
MINE, OTHER_PREFIX, OTHER_BUCKET, OF_UPLOAD = 1, 2, 3, 4

Forge = Callable[[str], str]


def segment(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def signed(header: object, payload: str, key: bytes = KEY) -> str:
    part = f"{segment(header)}.{payload}".encode()
    return (part + b"." + data_tokens._signature_segment(part, key)).decode()


GOOD_HEADER = {"alg": "HS256", "kid": "key", "typ": "JWT"}
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@st.composite
def changed_text(draw: st.DrawFn) -> Forge:
    """A letter changed, letters cut off, or letters added."""
    where, letter = draw(st.integers(0, 2**16)), draw(st.sampled_from(BASE64URL + ".="))
    how = draw(st.sampled_from(["flip", "cut", "add", "twice"]))

    def forge(token: str) -> str:
        at = where % len(token)
        if how == "flip":
            other = letter if letter != token[at] else ("A" if letter != "A" else "B")
            return token[:at] + other + token[at + 1 :]
        if how == "cut":
            return token[:at] or "A"
        return token + (letter if how == "add" else token)

    return forge


@st.composite
def changed_header(draw: st.DrawFn) -> Forge:
    """Another algorithm, another key, or more than a header may say; with the right signature or none."""
    change: dict[str, object] = draw(
        st.sampled_from(
            [
                {"alg": "none"},
                {"alg": "HS512"},
                {"alg": "RS256"},
                {"alg": "EdDSA"},
                {"kid": "other"},
                {"kid": "../key"},
                {"typ": "warehouse-access+jwt"},
                {"crit": ["exp"]},
                {"jwk": {"kty": "oct", "k": "AA"}},
                {"jku": "http://127.0.0.1/keys"},
            ]
        )
    )
    key = draw(st.sampled_from([KEY, b"", b"key", b"o" * 32]))
    has_signature = draw(st.booleans())

    def forge(token: str) -> str:
        made = signed({**GOOD_HEADER, **change}, token.split(".")[1], key)
        return made if has_signature else made.rpartition(".")[0] + "."

    return forge


def with_key(key: bytes) -> Forge:
    return lambda token: signed(GOOD_HEADER, token.split(".")[1], key)


@st.composite
def changed_claims(draw: st.DrawFn) -> Forge:
    """Claims that somebody has written who does not have the key of this disk; or that are no claims."""
    name = draw(st.sampled_from(["op", "aud", "vol", "exp", "bid", "lo", "hi", "pfx", "sub", "ep", "more"]))
    value = draw(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
    )

    def forge(token: str) -> str:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        return signed(GOOD_HEADER, segment({**claims, name: value}), b"o" * 32)

    return forge


forgeries = changed_text() | changed_header() | changed_claims() | st.sampled_from([with_key(b"x" * 32)])

# Genuine tokens, each for something else than what it is shown for: claims, needle and key.
misused_reads: st.SearchStrategy[tuple[dict[str, Any], int]] = st.sampled_from(
    [
        ({"audience": "other disk"}, MINE),
        ({"operation": "put", "first_needle_id": 1, "last_needle_id": 9}, MINE),
        ({"volume_id": 2}, MINE),
        ({"bucket_id": 2}, MINE),
        ({"bucket_id": 2}, OTHER_PREFIX),
        ({}, OTHER_PREFIX),
        ({}, OTHER_BUCKET),
        ({}, OF_UPLOAD),
        ({"upload_ids": (5, 6)}, OF_UPLOAD),
        ({"prefixes": ()}, MINE),
        ({"prefixes": ("photos/2", "x")}, MINE),
        ({"first_needle_id": 2, "last_needle_id": 9}, MINE),
        ({"expires_at_s": int(time.time()) - 1}, MINE),
        ({"epoch": 2}, MINE),
        ({"epoch": -1}, MINE),
        ({"once": INCARNATION - 1}, MINE),
    ]
)
misused_writes: st.SearchStrategy[tuple[dict[str, Any], int, str]] = st.sampled_from(
    [
        ({"audience": "other disk"}, 150, "photos/9"),
        ({"operation": "get"}, 150, "photos/9"),
        ({"volume_id": 2}, 150, "photos/9"),
        ({}, 99, "photos/9"),
        ({}, 200, "photos/9"),
        ({}, 150, "films/9"),
        ({"prefixes": ()}, 150, "photos/9"),
        ({"room": 3}, 150, "photos/9"),
        ({"body_size_max": 3}, 150, "photos/9"),
        ({"expires_at_s": 1}, 150, "photos/9"),
        ({"epoch": 2}, 150, "photos/9"),
    ]
)


class Attacker:
    """Shows tokens at the doors of an actor, and demands that none opens."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    async def ask(self, door: str, token: str, needle_id: int, key: str = "photos/9") -> tuple[int, bytes]:
        bearer, path = ("Authorization", f"Bearer {token}"), f"/v1/needles/1/{needle_id}"
        head = PutHead(needle_id, key, 4, crc32c(b"data"))
        method, target, headers, body = {
            "get": ("GET", path, [bearer], b""),
            "head": ("HEAD", path, [bearer], b""),
            "url": ("GET", f"{path}?token={token}", [], b""),
            "range": ("GET", path, [bearer, ("Range", "bytes=0-1")], b""),
            "batch get": ("POST", GET_ROUTE, [bearer], encode_ids([needle_id])),
            "put": ("PUT", path, [bearer, ("X-Warehouse-Key", key)], b"data"),
            "batch put": ("POST", PUT_ROUTE, [bearer], encode_put_head(head) + b"data"),
        }[door]
        status, _, content = await self.actor.pool.request(
            method, self.actor.url, target, headers=headers, body=body
        )
        return status, content

    async def require_refused(self, door: str, token: str, needle_id: int, key: str = "photos/9") -> None:
        status, content = await self.ask(door, token, needle_id, key)
        if status == 200 and door == "batch get":
            [frame] = read_frames(content, [needle_id])
            assert (frame.state != STATE_OK, bytes(frame.data).strip(b"\0")) == (True, b"")
        elif status == 200 and door == "batch put":
            [outcome] = decode_outcomes(content, 1)
            assert isinstance(outcome.detail, str), outcome
        else:
            # 503: the room of a lease is used up, which passes.
            assert status in (400, 401, 403, 404, 410, 413) or b"lease_exhausted" in content, (
                status,
                content,
            )

    async def require_honest(self) -> None:
        assert await self.ask("get", data_token(**READ), MINE) == (200, b"mine")


READ_DOORS = ("get", "head", "url", "range", "batch get")
WRITE_DOORS = ("put", "batch put")
read_doors, write_doors = st.sampled_from(READ_DOORS), st.sampled_from(WRITE_DOORS)


def under_attack(folder: Path, attack: Callable[[Attacker], Any]) -> None:
    """Run attacks against an actor of their own; it must stay as it was, and log no exception."""
    broken: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = lambda record: broken.append(record) if record.exc_info else None  # type: ignore[method-assign]

    async def run() -> None:
        async with trio.open_nursery() as nursery, serving_actor(folder, nursery) as actor:
            for needle_id, bucket_id, key, upload_id, data in (
                (MINE, 1, "photos/1", None, b"mine"),
                (OTHER_PREFIX, 1, "films/1", None, b"XXXX"),
                (OTHER_BUCKET, 2, "photos/1", None, b"XXXX"),
                (OF_UPLOAD, 1, "photos/2", 77, b"XXXX"),
            ):
                metadata = NeedleMetadata("b", bucket_id, key, 1_700_000_000_000, upload_id=upload_id)
                actor.volume.append(needle_id, metadata, data, stamp=needle_id)
            actor.verifier.revoke({"WHA": 3})
            attacker = Attacker(actor)
            await attacker.require_honest()
            await attack(attacker)
            await attacker.require_honest()
            assert actor.master.needles == []
            assert actor.volume.stats().live_count == 4

    logging.getLogger().addHandler(handler)
    try:
        trio.run(run)
    finally:
        logging.getLogger().removeHandler(handler)
    assert broken == []


@SETTINGS
@given(st.lists(st.tuples(forgeries, read_doors), min_size=5, max_size=30))
def test_no_forgery_reads(attacks: list[tuple[Forge, str]]) -> None:
    async def attack(attacker: Attacker) -> None:
        good = data_token(**READ)
        for forge, door in attacks:
            await attacker.require_refused(door, forge(good), MINE)

    with tempfile.TemporaryDirectory() as folder:
        under_attack(Path(folder), attack)


@SETTINGS
@given(st.lists(st.tuples(forgeries, write_doors), min_size=5, max_size=30))
def test_no_forgery_writes(attacks: list[tuple[Forge, str]]) -> None:
    async def attack(attacker: Attacker) -> None:
        good = data_token(**WRITE)
        for forge, door in attacks:
            await attacker.require_refused(door, forge(good), 150)

    with tempfile.TemporaryDirectory() as folder:
        under_attack(Path(folder), attack)


@SETTINGS
@given(
    st.lists(st.tuples(misused_reads, read_doors), min_size=5, max_size=30),
    st.lists(st.tuples(misused_writes, write_doors), min_size=5, max_size=30),
)
def test_a_genuine_token_opens_what_it_is_for_and_nothing_else(
    reads: list[tuple[tuple[dict[str, Any], int], str]],
    writes: list[tuple[tuple[dict[str, Any], int, str], str]],
) -> None:
    async def attack(attacker: Attacker) -> None:
        for (claims, needle_id), door in reads:
            await attacker.require_refused(door, data_token(**{**READ, **claims}), needle_id)
        for number, ((claims, needle_id, key), door) in enumerate(writes):
            token = data_token(**{**WRITE, "lease_id": number, **claims})
            await attacker.require_refused(door, token, needle_id, key)

    with tempfile.TemporaryDirectory() as folder:
        under_attack(Path(folder), attack)


def test_a_token_that_was_good_is_not_when_its_time_is_over(tmp_path: Path) -> None:
    async def attack(attacker: Attacker) -> None:
        good = data_token(**READ)
        for door in READ_DOORS:
            assert (await attacker.ask(door, good, MINE))[0] in (200, 206)
        later = SimpleNamespace(time=lambda: time.time() + 61)
        with mock.patch.object(authorization, "time", later):
            for door in READ_DOORS:
                await attacker.require_refused(door, good, MINE)
            for door in WRITE_DOORS:
                await attacker.require_refused(door, data_token(**WRITE), 150)

    under_attack(tmp_path, attack)


def test_the_attacks_would_open_if_they_were_honest(tmp_path: Path) -> None:
    """So a refusal above is one of the token, not of the request around it."""

    async def run() -> None:
        async with trio.open_nursery() as nursery, serving_actor(tmp_path, nursery) as actor:
            metadata = NeedleMetadata("b", 1, "photos/1", 1)
            actor.volume.append(MINE, metadata, b"mine", stamp=1)
            attacker = Attacker(actor)
            for door in READ_DOORS:
                assert (await attacker.ask(door, data_token(**READ), MINE))[0] in (200, 206)
            for number, door in enumerate(WRITE_DOORS):
                assert (await attacker.ask(door, data_token(**WRITE), 150 + number))[0] in (200, 201)
            assert [needle.needle_id for needle in actor.master.needles] == [150, 151]

    trio.run(run)
