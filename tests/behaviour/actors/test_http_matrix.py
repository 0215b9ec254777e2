"""The matrix of the HTTP ports: every route, with every credential that should not open it, and with those that do.

The tokens are a real master's, for a real data port.  From each good one the bad ones are made: the same claims,
signed for another disk or by somebody else, over, for other keys, needles, volumes, the other operation.  The
routes are the servers' own tables: one without a row here is named.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import crc32c
import msgspec
import pytest
import trio

from actor_kit import Actor
from master_kit import DISK_ID, RunningMaster, open_master, until
from warehouse.actors.monitoring import MonitoringServer
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, sign_data_token
from warehouse.auth.keys import ApiKey
from warehouse.auth.rights import Grant, Permission
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
from warehouse.transport.messages import (
    BeginUpload,
    KeysRevoked,
    Leased,
    LeaseNeedles,
    LocateObjects,
    ObjectsLocated,
    Presign,
    Presigned,
    RequestSlots,
    Slots,
    SlotWanted,
    UploadBegun,
)
from warehouse.transport.zeromq.link import Link

HERE, THERE = "photos", "films"
PART, OTHER_PART = "2026/", "2025/"
KEY, BODY = PART + "a", b"body"
PASSES = "passes"
RIGHTS = Permission.READ | Permission.WRITE | Permission.SIGN

# Every route of the data port, and which kinds of token have a row for it.
ROUTES: dict[bytes, frozenset[str]] = {
    b"/v1/needles/": frozenset(
        {"put", "put a chunk", "signed PUT", "get", "head", "signed GET", "signed HEAD"}
    ),
    b"/v1/batch/put": frozenset({"batch put"}),
    b"/v1/batch/get": frozenset({"batch get"}),
    b"/healthz": frozenset(),  # for load balancers: a word, and no token
    b"*": frozenset(),  # which methods there are
}
# The port with health and metrics: `test_monitoring.py` has its token.
MONITORING = {b"/healthz", b"/metrics"}


@dataclass
class Tokens:
    """What the master gave one API key, for the same key of objects in one bucket.

    Attributes:
        first_needle_id: of the lease.
        slot: needle id.
        put_url, get_url: needle ids in signed URLs.
    """

    lease: str
    grant: str
    chunk: str
    put_url: str
    get_url: str
    first_needle_id: int
    slot: int
    put_needle: int
    get_needle: int
    used: int = field(default=0)

    def next_needle(self) -> int:
        self.used += 1
        return self.first_needle_id + self.used


class Site:
    """A master and a data port that belong together."""

    def __init__(self, master: RunningMaster, actor: Actor) -> None:
        self.master = master
        self.actor = actor
        self.ids: dict[str, int] = {}
        self.access_token = ""

    async def set_up(self) -> None:
        """Two buckets with an object of the same key in each, put through the data port."""
        for name in (HERE, THERE):
            self.ids[name] = await self.master.create_bucket(name)
            leased = await self.master.ask(LeaseNeedles(bucket=name, needle_count=1, byte_count=9), Leased)
            lease = leased.leases[0]
            code = await self.put(lease.token, lease.first_needle_id)
            assert code == PASSES, code
        self.access_token = await self.master.token()

    async def key(self, bucket: str = HERE) -> tuple[ApiKey, Link]:
        """An API key for one part of a bucket, and its session."""
        key = await self.master.add_key(int(RIGHTS), (Grant(int(RIGHTS), self.ids[bucket], None, PART),))
        return key, await self.master.connect_as(key)

    async def tokens(self, link: Link, bucket: str = HERE) -> Tokens:
        async def ask(request: Any, wanted: type[Any]) -> Any:
            answer = await link.request(request, timeout_s=30)
            assert isinstance(answer, wanted)
            return answer

        lease = (await ask(LeaseNeedles(bucket=bucket, needle_count=100, byte_count=1000), Leased)).leases[0]
        located = await ask(LocateObjects(bucket=bucket, keys=[KEY], chunk_limit=1), ObjectsLocated)
        begun = await ask(BeginUpload(bucket=bucket, key=KEY), UploadBegun)
        wanted = [SlotWanted(chunk_index=0, size=len(BODY), chunk_count=1, object_size=len(BODY))]
        slot = (await ask(RequestSlots(upload_id=begun.upload_id, slots=wanted), Slots)).slots[0]
        urls = {
            method: (
                await ask(
                    Presign(bucket=bucket, key=KEY, method=method, expires_in_s=60.0, size_max=size),
                    Presigned,
                )
            ).url
            for method, size in (("PUT", len(BODY)), ("GET", None))
        }
        return Tokens(
            lease=lease.token,
            grant=located.grants[0].token,
            chunk=slot.token,
            put_url=token_of(urls["PUT"]),
            get_url=token_of(urls["GET"]),
            first_needle_id=lease.first_needle_id,
            slot=slot.needle_id,
            put_needle=needle_of(urls["PUT"]),
            get_needle=needle_of(urls["GET"]),
        )

    # --- requests ---------------------------------------------------------------------------------

    async def send(
        self, method: str, target: str, token: str | None, body: bytes = b"", key: str = KEY
    ) -> tuple[int, bytes]:
        headers = [("X-Warehouse-Key", key)] if method == "PUT" else []
        if token is not None and "?" not in target:
            headers.append(("Authorization", f"Bearer {token}"))
        status, _, content = await self.actor.pool.request(
            method, self.actor.url, target, headers=headers, body=body
        )
        return status, content

    async def put(
        self, token: str | None, needle_id: int, *, is_url: bool = False, method: str = "PUT"
    ) -> str:
        body = BODY if method == "PUT" else b""
        target = f"/v1/needles/1/{needle_id}" + (f"?token={token}" if is_url and token is not None else "")
        status, content = await self.send(method, target, token, body)
        if status in (200, 201):
            return PASSES
        return str(json.loads(content)["code"]) if content else str(status)

    async def batch_put(self, token: str | None, needle_id: int) -> str:
        head = encode_put_head(PutHead(needle_id, KEY, len(BODY), crc32c.crc32c(BODY)))
        status, content = await self.send("POST", PUT_ROUTE, token, head + BODY)
        if status != 200:
            return str(json.loads(content)["code"])
        (outcome,) = decode_outcomes(content, 1)
        return PASSES if isinstance(outcome.detail, int) else outcome.word

    async def batch_get(self, token: str | None, needle_id: int) -> str:
        status, content = await self.send("POST", GET_ROUTE, token, encode_ids([needle_id]))
        if status != 200:
            return str(json.loads(content)["code"])
        (frame,) = read_frames(content, [needle_id])
        return PASSES if frame.state == STATE_OK else STATES[frame.state].code


def token_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["token"][0]


def needle_of(url: str) -> int:
    return int(urlsplit(url).path.rpartition("/")[2])


Ask = Callable[[Site, Tokens, str | None], Awaitable[str]]


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        token: the one that opens it.
        ask: the request, with any token; returns `PASSES` or a code.
    """

    token: Callable[[Tokens], str]
    ask: Ask
    operation: str
    is_url: bool = False
    is_batch: bool = False


ROWS: dict[str, Row] = {
    "put": Row(lambda t: t.lease, lambda s, t, token: s.put(token, t.next_needle()), "put"),
    "batch put": Row(
        lambda t: t.lease, lambda s, t, token: s.batch_put(token, t.next_needle()), "put", is_batch=True
    ),
    "put a chunk": Row(lambda t: t.chunk, lambda s, t, token: s.put(token, t.slot), "put"),
    "signed PUT": Row(
        lambda t: t.put_url, lambda s, t, token: s.put(token, t.put_needle, is_url=True), "put", is_url=True
    ),
    "get": Row(lambda t: t.grant, lambda s, t, token: s.put(token, t.get_needle, method="GET"), "get"),
    "head": Row(lambda t: t.grant, lambda s, t, token: s.put(token, t.get_needle, method="HEAD"), "get"),
    "batch get": Row(
        lambda t: t.grant, lambda s, t, token: s.batch_get(token, t.get_needle), "get", is_batch=True
    ),
    "signed GET": Row(
        lambda t: t.get_url,
        lambda s, t, token: s.put(token, t.get_needle, is_url=True, method="GET"),
        "get",
        is_url=True,
    ),
    "signed HEAD": Row(
        lambda t: t.get_url,
        lambda s, t, token: s.put(token, t.get_needle, is_url=True, method="HEAD"),
        "get",
        is_url=True,
    ),
}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Site]:
    (folder / "disk").mkdir()
    verifier = DataTokenVerifier(DISK_ID, {})
    actor = Actor(folder / "disk", verifier=verifier)
    async with (
        open_master(folder / "master", has_compactor=False) as master,
        trio.open_nursery() as nursery,
    ):
        assert master.disk.welcome is not None
        verifier.replace_keys(master.disk.welcome.token_keys)
        actor.master.real = master.disk.link
        await actor.serve(nursery)
        site = Site(master, actor)
        try:
            await site.set_up()
            yield site
        finally:
            with trio.CancelScope(shield=True):
                await actor.pool.aclose()
            nursery.cancel_scope.cancel()
            actor.volume.close()


def claims_of(token: str) -> DataClaims:
    payload = token.split(".")[1]
    return msgspec.json.decode(urlsafe_b64decode(payload + "=="), type=DataClaims)


def spoilt_tokens(site: Site, good: str, row: Row) -> dict[str, tuple[str | None, set[str]]]:
    """What must not open it, by name: the token, and the codes of which one is the answer."""
    welcome = site.master.disk.welcome
    assert welcome is not None
    keys = welcome.token_keys
    claims = claims_of(good)

    def signed(by: dict[str, bytes] | None = None, **changes: Any) -> str:
        key_id, key = [*(by or keys).items()][-1]
        return sign_data_token(msgspec.structs.replace(claims, **changes), key_id=key_id, key=key)

    last_id = [*keys][-1]
    scope = {"token_scope"}
    cells: dict[str, tuple[str | None, set[str]]] = {
        "no credentials": (None, {"token_missing"}),
        "empty": ("", {"token_missing"}),
        "expired": (signed(expires_at_s=int(time.time()) - 1), {"token_expired"}),
        "forged": (signed({last_id: b"f" * 32}), {"token_invalid"}),
        "of another key id": (signed({"other": b"f" * 32}), {"token_invalid"}),
        "one bit changed": (good[:-1] + chr(ord(good[-1]) ^ 1), {"token_invalid"}),
        "an access token": (site.access_token, {"token_invalid"}),
        "for another disk": (signed(audience="e" * 32), {"token_invalid"}),
        "for the master": (signed(audience="master"), {"token_invalid"}),
        "for another volume": (signed(volume_id=2), {"token_scope", "no_such_volume"}),
        "for the other operation": (signed(operation="get" if row.operation == "put" else "put"), scope),
        "for other needles": (signed(first_needle_id=9000, last_needle_id=9001), scope),
        "for another part": (signed(prefixes=(OTHER_PART,)), scope),
    }
    if row.operation == "get":
        cells["for another bucket"] = (signed(bucket_id=site.ids[THERE]), scope)
    return cells


# An answer to HEAD has no body, so no code.
_STATUS = {
    "token_missing": "401",
    "token_invalid": "401",
    "token_expired": "401",
    "token_revoked": "401",
    "token_scope": "403",
    "no_such_volume": "404",
}


def as_told(name: str, codes: set[str]) -> set[str]:
    return {_STATUS.get(code, code) for code in codes} if "head" in name.lower() else codes


def test_every_route_has_its_rows(tmp_path: Path) -> None:
    actor = Actor(tmp_path)
    try:
        assert set(actor.http.routes) == set(ROUTES), f"a route without a row: {__file__}"
    finally:
        actor.volume.close()
    assert set().union(*ROUTES.values()) == set(ROWS)
    assert set(MonitoringServer(health=lambda: (True, ""), metrics=bytes).routes) == MONITORING


async def test_a_token_opens_what_it_is_for_and_nothing_else(tmp_path: Path) -> None:
    wrong, count = [], 0
    async with opened(tmp_path) as site:
        _, link = await site.key()
        tokens = await site.tokens(link)
        _, link = await site.key(THERE)
        others = await site.tokens(link, THERE)
        for name, row in ROWS.items():
            good = row.token(tokens)
            cells = spoilt_tokens(site, good, row)
            for other_name, other in ROWS.items():
                if other.token(tokens) != good:
                    cells[f"that of {other_name}"] = (other.token(tokens), _of_other(row, other))
            # A lease and a slot are good for their own bucket alone, whoever shows them; so it is for reads.
            if row.operation == "get":
                cells["another key's, of another bucket"] = (row.token(others), {"token_scope"})
            for cell, (token, codes) in cells.items():
                result = await row.ask(site, tokens, token)
                count += 1
                if result not in as_told(name, codes):
                    wrong.append(f"{name}, {cell}: {result} instead of {as_told(name, codes)}")
            result = await row.ask(site, tokens, good)
            if result != PASSES:
                wrong.append(f"{name}, exactly the right one: {result}")
    assert not wrong, "\n".join(wrong)
    assert count > 100


def _of_other(row: Row, other: Row) -> set[str]:
    """What a good token of another row is refused with."""
    if row.is_batch and not other.is_batch and row.operation == other.operation:
        return {"token_scope"}
    return {"token_scope", PASSES} if row.operation == other.operation == "get" else {"token_scope"}


@pytest.mark.parametrize(
    "columns", [{"is_enabled": False}, {"permissions": int(Permission.SIGN)}, {"expires_ms": 1}, None]
)
async def test_what_a_key_was_given_ends_with_it_and_nothing_else_does(
    tmp_path: Path, columns: dict[str, Any] | None
) -> None:
    """Disabled, edited, expired or deleted a moment ago."""
    async with opened(tmp_path) as site:
        key, link = await site.key()
        tokens = await site.tokens(link)
        _, other_link = await site.key()
        others = await site.tokens(other_link)
        for row in ROWS.values():  # so that each token is remembered as a good one
            await row.ask(site, tokens, row.token(tokens))
        keys = site.master.running.keys
        if columns is None:
            await keys.delete(key.key_id)
        else:
            changes = columns
            await keys.change(key.key_id, lambda row: msgspec.structs.replace(row, **changes))
        await until(lambda: site.master.disk.of(KeysRevoked))
        for command in site.master.disk.of(KeysRevoked):
            site.actor.verifier.revoke(command.epochs)
        for name, row in ROWS.items():
            result = await row.ask(site, tokens, row.token(tokens))
            assert {result} == as_told(name, {"token_revoked"}), name
            assert await row.ask(site, others, row.token(others)) == PASSES, name


async def test_what_needs_no_token_tells_next_to_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as site:
        assert await site.send("GET", "/healthz", None) == (200, b'{"status":"ok"}')
        status, body = await site.send("OPTIONS", "*", None)
        assert (status, body) == (204, b"")
        for path in ("/metrics", "/", "/v1", "/v1/batch/other", "/v1/needles", "/healthz/"):
            status, body = await site.send("GET", path, None)
            assert (status, json.loads(body)["code"]) == (404, "no_such_route")
