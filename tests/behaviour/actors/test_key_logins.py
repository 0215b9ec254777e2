"""Logins at a real master: sealed secrets, those of earlier releases, rotated ones, and a keyring that lost a key."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio

import warehouse
from master_kit import RunningMaster, open_master
from warehouse.actors.control.key_secrets import seal_secret
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import Permission
from warehouse.catalog.identities import ApiKeyRow
from warehouse.errors import BadCredentials, NotAuthenticated, Overloaded, SealUnknown, StoreError
from warehouse.transport.messages import Attach, ListBuckets, LoggedIn, Login
from warehouse.transport.zeromq.link import Link

LIST = int(Permission.LIST)


async def login(master: RunningMaster, key: ApiKey) -> LoggedIn:
    return await master.ask(Login(key_id=key.key_id, secret=key.secret), LoggedIn)


async def test_a_catalog_without_its_keyring_gives_no_secret_away(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key = await master.add_key(LIST)
        await login(master, key)
        await login(master, master.root)
        rows = master.read("SELECT salt, hash, length(sealed) FROM api_keys")
        assert [(salt, hashed) for salt, hashed, _ in rows] == [(b"", b"")] * 2
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert {"catalog.sqlite3"} <= {path.name for path in files}
    for shown in (key, master.root):
        assert shown.key_id.encode() in content  # so the search would find what is there
        assert shown.secret.encode() not in content
        assert shown.hashed.digest not in content


async def test_a_key_of_an_earlier_release_goes_on_logging_in(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key = generate_api_key()
        await master.running.keys.add(
            ApiKeyRow(id=key.key_id, hashed=key.hashed, permissions=LIST, created_ms=1)
        )
        link = await master.connect_as(key)
        await link.request(ListBuckets(), timeout_s=30)
        with pytest.raises(BadCredentials):
            await login(master, ApiKey(key.key_id, key.secret + "x", key.hashed))


async def test_the_secret_before_a_rotation_buys_no_session_that_outlives_it(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        key, after = await master.add_key(LIST), generate_api_key()
        sealed = seal_secret(master.initialized.keyring.sealer, key.key_id, after.secret)
        until_ms = int(time.time() * 1000) + 3000

        def rotate(row: ApiKeyRow) -> ApiKeyRow:
            return msgspec.structs.replace(
                row, sealed=sealed, previous_sealed=row.sealed, previous_until_ms=until_ms
            )

        await master.running.keys.change(key.key_id, rotate)
        link = await master.connect_as(key)
        assert (await login(master, key)).expires_in_s < 3
        renewed = ApiKey(key.key_id, after.secret, after.hashed)
        assert (await login(master, renewed)).expires_in_s > 800
        with trio.fail_after(30):
            with pytest.raises(NotAuthenticated, match="expired"):
                while True:
                    await link.request(ListBuckets(), timeout_s=30)
                    await trio.sleep(0.05)
            assert time.time() * 1000 < until_ms + 20_000
            with pytest.raises(BadCredentials):
                while True:  # a token ends with a whole second, and so before the secret
                    await login(master, key)
        await link.request(Attach(token=(await login(master, renewed)).token), timeout_s=30)


async def test_a_keyring_that_lost_its_seal_key_is_named_and_not_the_secret(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        master.initialized.keyring.rotate_seal()
        key = await master.add_key(LIST)
        await master.stop()
        path = tmp_path / "keys" / "seal.json"
        content = json.loads(path.read_text())
        del content["keys"][-1]
        path.write_text(json.dumps(content))
        keyring = Keyring.load_or_create(tmp_path / "keys")
        master.initialized = replace(master.initialized, keyring=keyring)
        await master.start()
        with pytest.raises(SealUnknown, match="the keyring does not have it"):
            async with warehouse.connect(master.profile_of(key)):
                pass


@pytest.mark.timeout(300)
async def test_a_right_secret_logs_in_from_an_address_whose_logins_fail_and_with_a_key_under_attack(
    tmp_path: Path,
) -> None:
    """Whoever fails next to us, from our address and with our key, does not lock us out."""
    codes: list[str] = []
    async with open_master(tmp_path, has_compactor=False) as master:
        key = await master.add_key(LIST)

        async def fail(link: Link) -> None:
            while True:
                try:
                    await link.request(Login(key_id=key.key_id, secret="guess"), timeout_s=10)
                except (BadCredentials, Overloaded) as error:
                    codes.append(error.code)
                except StoreError:
                    await trio.sleep(0.2)  # its connection was shut: it comes back

        async with trio.open_nursery() as nursery:
            for number in range(8):
                link = await master.connect(f"stranger-{number}", None)
                nursery.start_soon(fail, link)
                nursery.start_soon(fail, link)
                nursery.start_soon(fail, link)
            with trio.fail_after(60):
                while "overloaded" not in codes:
                    await trio.sleep(0.05)
            master.profile_of(key).save(tmp_path / "profile.toml")
            for _ in range(5):
                with trio.fail_after(40):
                    async with warehouse.connect(tmp_path / "profile.toml") as store:
                        assert await store.buckets() == []
            nursery.cancel_scope.cancel()
        assert codes[0] == "bad_credentials"
        logins = master.running._sessions.failed_logins
        assert logins.total >= len(codes)
        assert logins.put_off_count >= codes.count("overloaded")
