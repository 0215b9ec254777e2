"""Gateways at a real master: they show signatures, and get signing keys and tokens, and never a secret."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from master_kit import RunningMaster, open_master
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.catalog.identities import ApiKeyRow
from warehouse.errors import StoreError
from warehouse.s3.signing_keys import derive_signing_key, sign_v2, sign_v4
from warehouse.transport.messages import (
    Attach,
    Attached,
    CheckSignature,
    ClusterStatus,
    CreateJoinToken,
    DataUrls,
    Done,
    EditKey,
    GatewayWelcome,
    Join,
    JoinTokenMade,
    KeyCreated,
    ListBuckets,
    ListDataUrls,
    ListNodes,
    Nodes,
    RegisterGateway,
    RemoveNode,
    RotateKey,
    SignatureChecked,
    Status,
    StoreChanged,
    WatchStore,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

INCARNATIONS = itertools.count(1000)
TEXT = b"AWS4-HMAC-SHA256\n20261130T101112Z\n20261130/eu-test-1/s3/aws4_request\n" + b"0" * 64
REGION = "eu-test-1"


def day(offset_days: float = 0) -> str:
    return time.strftime("%Y%m%d", time.gmtime(time.time() + offset_days * 86400))


def signed(key: ApiKey, secret: str = "", *, date: str = "") -> CheckSignature:
    """What a gateway shows of a request that `key` has signed with SigV4."""
    date = date or day()
    return CheckSignature(
        key_id=key.key_id,
        scheme="v4",
        string_to_sign=TEXT,
        signature=sign_v4(derive_signing_key(secret or key.secret, date, REGION), TEXT),
        date=date,
        region=REGION,
    )


@asynccontextmanager
async def connected(master: RunningMaster, keys: CurveKeys) -> AsyncIterator[Link]:
    scope = trio.CancelScope()  # of the link's task
    link = await master.connect("gateway", None, incarnation=next(INCARNATIONS), scope=scope, keys=keys)
    with trio.fail_after(30):
        await link.wait_up()
    yield link
    scope.cancel()


async def joined(master: RunningMaster, **changes: Any) -> CurveKeys:
    """The keys of a machine that has joined as a gateway."""
    keys = CurveKeys.generate()
    made = await master.ask(CreateJoinToken(role="gateway", expires_in_s=60.0), JoinTokenMade)
    values = {"token": made.token, "disk_id": "", "disk_name": "gateway-1", "role": "gateway"}
    async with connected(master, keys) as link:
        assert await link.request(Join(**{**values, **changes}), timeout_s=30) == Done()
    return keys


@asynccontextmanager
async def a_gateway(
    master: RunningMaster, keys: CurveKeys | None = None, url: str = ""
) -> AsyncIterator[Link]:
    async with connected(master, keys or await joined(master)) as link:
        welcome = await link.request(RegisterGateway(name="gateway-1", incarnation=1, url=url), timeout_s=30)
        assert isinstance(welcome, GatewayWelcome)
        yield link


async def code_of(link: Link, request: Any) -> str:
    try:
        await link.request(request, timeout_s=30)
    except StoreError as error:
        return error.code
    return "ok"


async def is_online(master: RunningMaster) -> bool:
    (node,) = [one for one in (await master.ask(ListNodes(), Nodes)).nodes if one.role == "gateway"]
    return node.is_online


async def test_status_and_urls_name_the_gateways_that_are_connected(tmp_path: Path) -> None:
    url = "http://127.0.0.1:7490"
    async with open_master(tmp_path) as master:
        keys = await joined(master)
        async with a_gateway(master, keys, url), a_gateway(master, keys, url), a_gateway(master, keys):
            assert (await master.ask(ListDataUrls(), DataUrls)).s3_urls == [url]
            assert (await master.ask(ClusterStatus(), Status)).gateways == ["gateway-1"] * 3
        while (await master.ask(ClusterStatus(), Status)).gateways:
            await trio.sleep(0.02)
        assert not (await master.ask(ListDataUrls(), DataUrls)).s3_urls


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://h:1", "http://", "http://[::1", "h:7490"])
async def test_a_gateway_at_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    async with open_master(tmp_path) as master, connected(master, await joined(master)) as link:
        assert await code_of(link, RegisterGateway(name="g", incarnation=1, url=url)) == "bad_request"


async def test_a_gateway_is_online_while_it_is_connected_and_watchers_hear_of_both(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        keys = await joined(master)
        assert not await is_online(master)

        async def next_change(after: int) -> StoreChanged:
            told = await master.ask(WatchStore(after=after, wait_s=30.0, subjects=["nodes"]), StoreChanged)
            assert told.subjects == ["nodes"]
            return told

        before = (
            await master.ask(WatchStore(after=-1, wait_s=0.0, subjects=["nodes"]), StoreChanged)
        ).next_after
        async with a_gateway(master, keys):
            told = await next_change(before)
            assert await is_online(master)
        with trio.fail_after(30):
            while await is_online(master):
                told = await next_change(told.next_after)


async def test_a_signature_buys_a_signing_key_and_a_session(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(int(Permission.LIST))
        async with a_gateway(master) as gateway:
            checked = await gateway.request(signed(key), timeout_s=30)
            assert isinstance(checked, SignatureChecked)
            assert checked.signing_key == derive_signing_key(key.secret, day(), REGION)
            assert 0 < checked.expires_in_s <= 900
            assert checked.account_id
            assert key.secret.encode() not in checked.signing_key
            async with connected(master, CurveKeys.generate()) as client:
                assert isinstance(await client.request(Attach(token=checked.token), timeout_s=30), Attached)
                assert await code_of(client, ListBuckets()) == "ok"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signature": "0" * 64}, "signature_mismatch"),
        ({"signature": ""}, "signature_mismatch"),
        ({"signature": "\u00e9"}, "signature_mismatch"),
        ({"string_to_sign": TEXT + b"x"}, "signature_mismatch"),
        ({"region": "eu-test-2"}, "signature_mismatch"),
        ({"date": day(-1)}, "signature_mismatch"),
        ({"scheme": "v2"}, "signature_mismatch"),
        ({"scheme": "v3"}, "bad_request"),
        ({"date": "20260230"}, "bad_request"),
        ({"date": "2026113"}, "bad_request"),
        ({"date": ""}, "bad_request"),
        ({"date": day(-10)}, "bad_request"),
        ({"date": day(3)}, "bad_request"),
        ({"region": ""}, "bad_request"),
        ({"region": "eu/s3"}, "bad_request"),
        ({"region": "x" * 65}, "bad_request"),
        ({"key_id": "NOBODY"}, "no_such_api_key"),
        ({"string_to_sign": bytes(40_000)}, "malformed_message"),
    ],
)
async def test_what_is_no_signature_of_the_key(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(int(Permission.LIST))
        async with a_gateway(master) as gateway:
            assert await code_of(gateway, msgspec.structs.replace(signed(key), **changes)) == code


async def test_a_signed_url_of_last_week_is_checked_with_the_key_of_its_day(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(int(Permission.LIST))
        async with a_gateway(master) as gateway:
            checked = await gateway.request(signed(key, date=day(-7)), timeout_s=30)
            assert isinstance(checked, SignatureChecked)
            assert checked.signing_key == derive_signing_key(key.secret, day(-7), REGION)


async def test_sigv2_is_checked_and_tells_no_signing_key(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(int(Permission.LIST))
        async with a_gateway(master) as gateway:
            text = b"GET\n\n\nMon, 30 Nov 2026 10:11:12 GMT\n/photos/a"
            show = CheckSignature(
                key_id=key.key_id, scheme="v2", string_to_sign=text, signature=sign_v2(key.secret, text)
            )
            checked = await gateway.request(show, timeout_s=30)
            assert isinstance(checked, SignatureChecked)
            assert checked.signing_key == b""


async def test_a_key_that_ends_ends_at_the_gateway(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(int(Permission.LIST))
        async with a_gateway(master) as gateway:
            checked = await gateway.request(signed(key), timeout_s=30)
            assert isinstance(checked, SignatureChecked)
            await master.client.request(EditKey(key_id=key.key_id, is_enabled=False), timeout_s=30)
            assert await code_of(gateway, signed(key)) == "no_such_api_key"
            async with connected(master, CurveKeys.generate()) as client:
                assert await code_of(client, Attach(token=checked.token)) == "not_authenticated"


async def test_a_rotation_with_an_overlap_keeps_both_secrets_and_one_without_ends_the_first(
    tmp_path: Path,
) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(int(Permission.LIST))
        async with a_gateway(master) as gateway:
            made = await master.ask(RotateKey(key_id=key.key_id, overlap_s=60.0), KeyCreated)
            first = await gateway.request(signed(key), timeout_s=30)
            assert isinstance(first, SignatureChecked)
            assert first.expires_in_s <= 60, "a token of the earlier secret ends with it"
            second = made.secret
            assert await code_of(gateway, signed(key, second)) == "ok"
            made = await master.ask(RotateKey(key_id=key.key_id, overlap_s=0.0), KeyCreated)
            for old in (key.secret, second):
                assert await code_of(gateway, signed(key, old)) == "signature_mismatch"
            assert await code_of(gateway, signed(key, made.secret)) == "ok"


async def test_a_key_of_an_earlier_release_cannot_sign_and_is_told_what_to_do(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key, list_only = generate_api_key(), int(Permission.LIST)
        assert master.running is not None
        await master.running.keys.add(
            ApiKeyRow(id=key.key_id, hashed=key.hashed, permissions=list_only, created_ms=1)
        )
        async with a_gateway(master) as gateway:
            with pytest.raises(StoreError, match="rotate") as caught:
                await gateway.request(signed(key), timeout_s=30)
            assert caught.value.code == "key_cannot_sign"


async def test_only_a_node_that_joined_as_a_gateway_is_one(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        stranger, disk = CurveKeys.generate(), await master.new_node("disk-2")
        for keys, code in ((stranger, "node_unknown"), (disk, "join_token_role")):
            async with connected(master, keys) as link:
                assert await code_of(link, RegisterGateway(name="x", incarnation=1)) == code
                assert await code_of(link, signed(master.root)) == "not_authenticated"
        client = await master.connect_with(int(EVERYTHING))
        for request in (RegisterGateway(name="x", incarnation=1), signed(master.root)):
            assert await code_of(client, request) in ("node_unknown", "not_authenticated")


async def test_a_removed_gateway_shows_nothing_any_more(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        keys = await joined(master)
        async with a_gateway(master, keys) as gateway:
            assert await code_of(gateway, signed(master.root)) == "ok"
            (node,) = [one for one in (await master.ask(ListNodes(), Nodes)).nodes if one.role == "gateway"]
            assert (node.name, node.disk_ids) == ("gateway-1", [])
            await master.ask(RemoveNode(node="gateway-1"), Done)
        async with connected(master, keys) as link:
            assert await code_of(link, RegisterGateway(name="x", incarnation=1)) == "node_removed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"disk_id": "e" * 32}, "bad_request"),
        ({"disk_name": ""}, "bad_request"),
        ({"role": "volume", "disk_id": "e" * 32}, "join_token_role"),
    ],
)
async def test_a_token_for_gateways_lets_nothing_else_in(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    async with open_master(tmp_path) as master:
        with pytest.raises(StoreError) as caught:
            await joined(master, **changes)
        assert caught.value.code == code
