"""Askers at a real master: a key's first signature, its later ones, and how a key ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from master_kit import RunningMaster, open_master
from warehouse.auth.keys import ApiKey
from warehouse.auth.rights import Permission
from warehouse.conf.server_keys import ServerKeys
from warehouse.errors import NoSuchApiKey, SignatureMismatch, StoreError
from warehouse.gateway import askers as askers_module
from warehouse.gateway.askers import Askers
from warehouse.gateway.link import GatewayLink, Place
from warehouse.s3.signing_keys import derive_signing_key, sign_v2, sign_v4
from warehouse.transport.messages import (
    CheckSignature,
    CreateJoinToken,
    EditKey,
    Join,
    JoinTokenMade,
    KeyCreated,
    RotateKey,
    SignatureChecked,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

LISTS = int(Permission.LIST)
REGION = "us-east-1"


def signed(
    key_id: str, secret: str, text: bytes = b"what was signed", region: str = REGION
) -> CheckSignature:
    date = time.strftime("%Y%m%d", time.gmtime())
    signature = sign_v4(derive_signing_key(secret, date, region), text)
    return CheckSignature(key_id, "v4", text, signature, date, region)


class Gateway:
    """A gateway's link and askers, and how many signatures it has shown."""

    def __init__(self, link: GatewayLink, askers: Askers) -> None:
        self.link = link
        self.askers = askers
        self.shown: list[CheckSignature] = []
        check = link.check

        async def counted(shown: CheckSignature) -> SignatureChecked:
            self.shown.append(shown)
            return await check(shown)

        link.check = counted  # type: ignore[method-assign]

    async def asks(self, shown: CheckSignature) -> str:
        """Ask for the list of buckets: "ok", or the code of the refusal."""
        try:
            async with self.askers.asker(shown) as asker:
                await asker.store.buckets()
        except StoreError as error:
            return error.code
        return "ok"


@asynccontextmanager
async def gateway_of(master: RunningMaster) -> AsyncIterator[Gateway]:
    made = await master.ask(CreateJoinToken(role="gateway", expires_in_s=60.0), JoinTokenMade)

    async def join(link: Link) -> None:
        await link.ask_now(Join(made.token, "", "gateway-1", "gateway"), timeout_s=10)

    server_key = master.profile.server_key
    link = GatewayLink(
        Place(master.endpoint, server_key),
        name="gateway-1",
        keys=CurveKeys.generate(),
        server_keys=ServerKeys(server_key, None),
        join=join,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        with trio.fail_after(30):
            await link.wait_up()
        askers = Askers(link, nursery)
        nursery.start_soon(askers.run)
        yield Gateway(link, askers)
        nursery.cancel_scope.cancel()


async def test_one_signature_of_a_day_and_region_is_shown_and_no_more(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        for number in range(20):
            assert await gateway.asks(signed(key.key_id, key.secret, b"%d" % number)) == "ok"
        assert len(gateway.shown) == 1
        assert await gateway.asks(signed(key.key_id, key.secret, region="eu-1")) == "ok"
        assert len(gateway.shown) == 2
        assert len(gateway.askers) == 1, "one connection for each key"


async def test_many_first_requests_of_one_key_open_one_connection(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append(await gateway.asks(signed(key.key_id, key.secret, b"%d" % number)))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, number)
        assert answers == ["ok"] * 30
        assert len(gateway.askers) == 1


async def test_what_the_key_has_not_signed_is_refused_whether_it_is_known_or_not(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        for _ in range(2):
            assert await gateway.asks(signed(key.key_id, "guessed")) == "signature_mismatch"
            assert await gateway.asks(signed("NOBODY", key.secret)) == "no_such_api_key"
            assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
        one = signed(key.key_id, key.secret)
        bad = CheckSignature(one.key_id, "v4", one.string_to_sign, "é", one.date, one.region)
        assert await gateway.asks(bad) == "signature_mismatch"


async def test_wrong_signatures_of_a_key_keep_its_right_ones_from_nothing(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(gateway.asks, signed(key.key_id, "guessed", b"%d" % number))
            with trio.fail_after(30):
                while len(gateway.shown) < 50:
                    await trio.sleep(0.01)
                assert await gateway.asks(signed(key.key_id, key.secret, b"again")) == "ok"
                assert await gateway.asks(signed(key.key_id, key.secret, region="eu-1")) == "ok"
            nursery.cancel_scope.cancel()


async def test_each_signature_of_sigv2_is_shown(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        for number in range(3):
            text = b"GET\n%d" % number
            assert (
                await gateway.asks(CheckSignature(key.key_id, "v2", text, sign_v2(key.secret, text))) == "ok"
            )
        assert len(gateway.shown) == 3
        assert len(gateway.askers) == 1


async def test_a_key_that_is_disabled_ends_at_its_next_request(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
        await master.client.request(EditKey(key_id=key.key_id, is_enabled=False), timeout_s=30)
        assert await gateway.asks(signed(key.key_id, key.secret)) in (NoSuchApiKey.code, "not_authenticated")
        with trio.fail_after(10):
            while len(gateway.askers):
                await trio.sleep(0.01)
        await master.client.request(EditKey(key_id=key.key_id, is_enabled=True), timeout_s=30)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"


async def test_a_change_of_rights_counts_at_once_and_the_connection_stays(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS | int(Permission.READ))
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
        await master.client.request(EditKey(key_id=key.key_id, permissions=["list"]), timeout_s=30)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok", (
            "its token is void, itself it is not"
        )
        assert len(gateway.askers) == 1
        await master.client.request(EditKey(key_id=key.key_id, permissions=[]), timeout_s=30)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "permission_denied"


async def test_a_connection_that_ends_while_a_token_is_bought_fails_no_request(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS | int(Permission.READ))
        shown = signed(key.key_id, key.secret)
        assert await gateway.asks(shown) == "ok"
        async with gateway.askers.asker(shown) as asker:
            control = asker.store._session.control
            check, before = gateway.link.check, control.connection

            async def check_late(shown: CheckSignature) -> SignatureChecked:
                """The master ends the connections of a key that was changed; it did so by now."""
                checked = await check(shown)
                with trio.move_on_after(2):
                    while control.connection == before:
                        await trio.sleep(0.005)
                return checked

            gateway.link.check = check_late  # type: ignore[method-assign]
            await master.client.request(EditKey(key_id=key.key_id, permissions=["list"]), timeout_s=30)
            assert await asker.store.buckets() == []


async def test_a_rotation_without_an_overlap_ends_the_old_secret_at_once(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
        made = await master.ask(RotateKey(key_id=key.key_id, overlap_s=0.0), KeyCreated)
        for _ in range(2):
            assert await gateway.asks(signed(key.key_id, key.secret)) == SignatureMismatch.code
        assert await gateway.asks(signed(key.key_id, made.secret)) == "ok"
        assert await gateway.asks(signed(key.key_id, key.secret)) == SignatureMismatch.code


async def test_a_restarted_master_finds_the_gateway_and_its_keys_again(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
        await master.restart()
        with trio.fail_after(30):
            assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"
            assert await gateway.asks(signed(key.key_id, key.secret, region="eu-1")) == "ok"


async def test_a_key_that_asks_for_nothing_is_forgotten_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(askers_module, "IDLE_S", 0.0)
    monkeypatch.setattr(askers_module, "SWEEP_S", 0.05)
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        key = await master.add_key(LISTS)
        async with gateway.askers.asker(signed(key.key_id, key.secret)) as asker:
            await trio.sleep(0.2)
            assert not asker.ended.is_set(), "somebody uses it"
        with trio.fail_after(10):
            await asker.ended.wait()
        assert await gateway.asks(signed(key.key_id, key.secret)) == "ok"


async def test_a_gateway_that_is_full_makes_room_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(askers_module, "ASKERS_MAX", 2)
    async with open_master(tmp_path) as master, gateway_of(master) as gateway:
        keys: list[ApiKey] = [await master.add_key(LISTS) for _ in range(3)]
        first, second, third = (signed(key.key_id, key.secret) for key in keys)
        async with gateway.askers.asker(first), gateway.askers.asker(second):
            assert await gateway.asks(third) == "overloaded"
        assert await gateway.asks(third) == "ok"
        assert len(gateway.askers) <= 2
