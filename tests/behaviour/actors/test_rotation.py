"""Rotations in a running master: who is told, who is logged out, what a crash leaves to do."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from master_kit import DISK_ID, RunningMaster, open_master, until
from warehouse.actors.control import rotation
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.authority import split_bundle
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.auth.sealing import API_KEY_SECRET, generate_seal_key, seal_key_id_of
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.interface import Transaction
from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.conf.server_keys import ServerKeys
from warehouse.errors import (
    BadRequest,
    DiskFull,
    LinkDown,
    NotAuthenticated,
    PermissionDenied,
    SealUnknown,
    TokenInvalid,
    WriteFailed,
)
from warehouse.transport.messages import (
    Attach,
    Attached,
    CreateKey,
    DiskReport,
    Events,
    KeyCreated,
    Leased,
    LeaseNeedles,
    ListBuckets,
    ListEvents,
    ReplaceTokenKeys,
    ReportSeen,
    RotateSecret,
    SecretRotated,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.server_keys import hear_next_key


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[RunningMaster]:
    async with open_master(tmp_path / "master", has_compactor=False) as running:
        yield running


async def rotate(master: RunningMaster, what: str, overlap_s: int | None = None) -> SecretRotated:
    return await master.ask(RotateSecret(what=what, overlap_s=overlap_s), SecretRotated)


def keyring(master: RunningMaster) -> Keyring:
    return master.initialized.keyring


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", [Permission.MANAGE_KEYS, Permission.MANAGE_CLUSTER])
async def test_only_who_manages_keys_and_the_cluster_rotates(
    master: RunningMaster, lacking: Permission
) -> None:
    link = await master.connect_with(EVERYTHING & ~lacking)
    before = keyring(master).signing_key_id
    with pytest.raises(PermissionDenied):
        await link.request(RotateSecret(what="data"), timeout_s=30)
    assert keyring(master).signing_key_id == before


@pytest.mark.parametrize(
    ("what", "overlap_s"), [("access", 2**40), ("data", 31 * 86400), ("seal", 5), ("seal", 0), ("sale", None)]
)
async def test_an_overlap_that_makes_no_sense_is_refused(
    master: RunningMaster, what: str, overlap_s: int | None
) -> None:
    with pytest.raises(BadRequest):
        await rotate(master, what, overlap_s)


async def test_a_keyring_that_cannot_be_written_is_said_and_stays_as_it_is(
    master: RunningMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = keyring(master).signing_key_id
    monkeypatch.setattr("warehouse.actors.control.keyring.write_whole", full)
    with pytest.raises(WriteFailed, match="No space left"):
        await rotate(master, "data")
    assert keyring(master).signing_key_id == before


# --- access ---------------------------------------------------------------------------------------


async def test_a_rotation_with_an_overlap_logs_nobody_out(master: RunningMaster) -> None:
    key = await master.add_key(int(EVERYTHING))
    token = await master.token(key)
    link = await master.connect_as(key)
    answer = await rotate(master, "access")
    assert 890_000 < answer.until_ms - time.time() * 1000 <= 900_000
    await link.request(ListBuckets(), timeout_s=30)
    attached = await link.request(Attach(token=token), timeout_s=30)
    assert isinstance(attached, Attached)
    assert link.is_up


async def test_no_session_outlives_a_short_overlap(master: RunningMaster) -> None:
    link = await master.connect_with(int(EVERYTHING))
    await rotate(master, "access", 1)
    with trio.fail_after(40), pytest.raises(NotAuthenticated):
        while True:
            await link.request(ListBuckets(), timeout_s=30)
            await trio.sleep(0.05)


async def test_a_rotation_at_once_ends_sessions_and_what_they_wait_for(master: RunningMaster) -> None:
    key = await master.add_key(int(EVERYTHING))
    token = await master.token(key)
    link = await master.connect_as(key)
    ended, seen = trio.Event(), [0]

    async def follow() -> None:
        with pytest.raises(LinkDown):
            while True:
                answer = await link.request(ListEvents(after=seen[-1], wait_s=25.0), timeout_s=30)
                assert isinstance(answer, Events)
                seen.append(answer.next_after)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await until(lambda: len(seen) > 1 and master.running.hub.in_flight)
        count = link.connect_count
        assert (await rotate(master, "access", 0)).until_ms == 0
        with trio.fail_after(15):  # a second, and a loaded machine; the answer would take 25
            await ended.wait()
        with trio.fail_after(30):
            while link.connect_count == count:
                await trio.sleep(0.01)
    with pytest.raises(TokenInvalid):
        await link.request(Attach(token=token), timeout_s=30)
    with pytest.raises(NotAuthenticated):
        await master.ask(ListBuckets(), SecretRotated)  # who asked for it, too
    await master.client.request(Attach(token=await master.token()), timeout_s=30)
    await link.request(Attach(token=await master.token(key)), timeout_s=30)
    await link.request(ListBuckets(), timeout_s=30)


# --- data -----------------------------------------------------------------------------------------


async def lease_token(master: RunningMaster) -> bytes:
    leased = await master.ask(LeaseNeedles(bucket="photos", needle_count=1, byte_count=100), Leased)
    return leased.leases[0].token.encode()


def is_taken(disk_keys: dict[str, bytes], token: bytes) -> bool:
    try:
        DataTokenVerifier(DISK_ID, disk_keys).verify(token, now_s=time.time())
    except TokenInvalid:
        return False
    return True


async def test_a_disk_knows_a_new_secret_before_the_first_token_of_it(master: RunningMaster) -> None:
    await master.create_bucket("photos")
    first = await lease_token(master)
    hold = master.disk.hold(ReplaceTokenKeys)
    before = master.disk.token_keys
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotate, master, "data")
        await until(lambda: master.disk.of(ReplaceTokenKeys))
        meanwhile = await lease_token(master)
        assert is_taken(before, meanwhile)
        hold.set()
    after = await lease_token(master)
    assert not is_taken(before, after)
    for token in (first, meanwhile, after):
        assert is_taken(master.disk.token_keys, token)


async def test_a_rotation_of_the_data_secret_at_once_leaves_no_old_key_with_a_disk(
    master: RunningMaster,
) -> None:
    await master.create_bucket("photos")
    old = await lease_token(master)
    assert (await rotate(master, "data", 0)).unreached == []
    assert not is_taken(master.disk.token_keys, old)
    assert is_taken(master.disk.token_keys, await lease_token(master))


async def test_an_overlap_of_the_data_secret_ends_at_the_disks(master: RunningMaster) -> None:
    await master.create_bucket("photos")
    old = await lease_token(master)
    await rotate(master, "data", 1)
    await until(lambda: not is_taken(master.disk.token_keys, old), timeout_s=20)
    assert is_taken(master.disk.token_keys, await lease_token(master))


@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "refuses"])
async def test_a_disk_that_does_not_take_its_keys_gets_them_when_it_registers_again(
    master: RunningMaster, monkeypatch: pytest.MonkeyPatch, is_frozen: bool
) -> None:
    await master.create_bucket("photos")
    old = await lease_token(master)
    monkeypatch.setattr(rotation, "TELL_S", 0.2)
    if is_frozen:
        master.disk.hold(ReplaceTokenKeys)
    else:
        master.disk.failures[ReplaceTokenKeys] = DiskFull("of a release that does not know it, say")
    assert (await rotate(master, "data", 0)).unreached == ["disk-1"]
    await until(lambda: not is_taken(master.disk.token_keys, old))
    with trio.fail_after(30):
        assert master.disk.link is not None
        await master.disk.link.wait_up()
    assert is_taken(master.disk.token_keys, await lease_token(master))


async def test_a_disk_that_was_away_gets_the_new_keys_when_it_comes(master: RunningMaster) -> None:
    await master.create_bucket("photos")
    old = await lease_token(master)
    master.disk.disconnect()
    await until(lambda: not next(iter(master.running.context.fleet.disks.values())).is_online)
    assert (await rotate(master, "data", 0)).unreached == ["disk-1"]
    await master.connect_disk()
    assert not is_taken(master.disk.token_keys, old)
    assert is_taken(master.disk.token_keys, await lease_token(master))


# --- seal -----------------------------------------------------------------------------------------


async def add_sealed(master: RunningMaster, count: int) -> dict[str, str]:
    """API keys with sealed secrets, the secrets by id."""
    secrets = {}
    for _ in range(count):
        key = generate_api_key()
        seal = partial(keyring(master).sealer.seal, purpose=API_KEY_SECRET, subject=key.key_id)
        row = ApiKeyRow(
            id=key.key_id,
            sealed=seal(key.secret.encode()),
            previous_sealed=seal(b"the one before"),
            previous_until_ms=2**40,
            permissions=3,
            created_ms=1,
        )
        await master.running.keys.add(row)
        secrets[key.key_id] = key.secret
    return secrets


def sealed_rows(master: RunningMaster) -> list[ApiKeyRow]:
    """Of all keys but the root key."""
    return [row for row in master.running.context.catalog.api_keys() if row.id != master.root.key_id]


def expect_all_open(master: RunningMaster, secrets: dict[str, str]) -> None:
    rows = sealed_rows(master)
    assert {row.id for row in rows} == secrets.keys()
    for row in rows:
        for sealed, secret in (
            (row.sealed, secrets[row.id].encode()),
            (row.previous_sealed, b"the one before"),
        ):
            assert sealed is not None
            assert seal_key_id_of(sealed) == keyring(master).sealer.key_id
            assert keyring(master).sealer.open(sealed, purpose=API_KEY_SECRET, subject=row.id) == secret


async def test_all_secrets_are_sealed_anew_and_the_old_key_is_gone(
    master: RunningMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "SEALED_AT_ONCE", 3)
    secrets = await add_sealed(master, 7)
    epochs = {row.id: row.epoch for row in sealed_rows(master)}
    old = keyring(master).sealer.key_id
    answer = await rotate(master, "seal")
    assert answer.resealed_count == 7 + 1, "and the root key"
    assert keyring(master).sealer.key_id != old
    assert old.encode() not in (master._folder / "keys" / "seal.json").read_bytes()
    expect_all_open(master, secrets)
    assert {row.id: row.epoch for row in sealed_rows(master)} == epochs, "nobody was logged out"
    some = next(iter(secrets))
    live = master.running.keys.get(some)
    assert live is not None
    assert live.row == master.running.context.catalog.api_key(some)
    await master.token()


async def test_a_rotation_of_the_seal_that_was_cut_off_is_finished_by_the_next_start(
    master: RunningMaster,
) -> None:
    secrets = await add_sealed(master, 3)
    old = keyring(master).sealer.key_id
    keyring(master).rotate_seal()  # and then the power goes
    await master.restart()
    await until(lambda: old.encode() not in (master._folder / "keys" / "seal.json").read_bytes())
    expect_all_open(master, secrets)


async def test_a_key_that_is_being_made_while_the_seal_is_rotated_keeps_its_secret(
    master: RunningMaster,
) -> None:
    """All other keys are hashed, as those of 0.1.0: nothing has to be sealed anew."""
    hashed = ApiKey(master.root.key_id, master.root.secret, master.root.hashed)
    await master.running.keys.change(
        hashed.key_id, lambda row: msgspec.structs.replace(row, hashed=hashed.hashed, sealed=None)
    )
    await until(lambda: not master.client.is_up)  # its secret was changed, as far as sessions know
    await master.client.wait_up()
    old, writer = keyring(master).sealer.key_id, master.running.context.writer
    busy, go_on = threading.Event(), threading.Event()

    def hold(transaction: Transaction) -> None:
        busy.set()
        assert go_on.wait(20)

    made: list[KeyCreated] = []
    rotated: list[SecretRotated] = []

    async def make() -> None:
        made.append(await master.ask(CreateKey(name="new", preset="reader"), KeyCreated))

    async def turn() -> None:
        rotated.append(await rotate(master, "seal"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, hold)
        await until(busy.is_set)
        nursery.start_soon(make)
        await until(lambda: len(writer._queue) == 1)  # it is sealed, and waits for its transaction
        nursery.start_soon(turn)
        await until(lambda: keyring(master).sealer.key_id != old and (rotated or len(writer._queue) == 2))
        go_on.set()
    (created,) = made
    await master.token(ApiKey(created.key.key_id, created.secret, hashed.hashed))
    assert rotated[0].resealed_count == 1
    assert old.encode() not in (master._folder / "keys" / "seal.json").read_bytes()


async def test_a_secret_that_does_not_open_stays_and_keeps_its_key(master: RunningMaster) -> None:
    secrets = await add_sealed(master, 2)
    victim = next(iter(secrets))
    broken = msgspec.structs.replace  # a flipped bit
    await master.running.keys.change(
        victim, lambda row: broken(row, sealed=(row.sealed or b"")[:-1] + b"\0", previous_sealed=None)
    )
    bad = next(row.sealed for row in sealed_rows(master) if row.id == victim)
    old = keyring(master).sealer.key_id
    assert (await rotate(master, "seal")).resealed_count == 1 + 1, "the other one, and the root key"
    assert next(row.sealed for row in sealed_rows(master) if row.id == victim) == bad
    assert old.encode() in (master._folder / "keys" / "seal.json").read_bytes(), "somebody may mend it yet"


async def test_a_foreign_seal_does_not_keep_the_master_from_starting(master: RunningMaster) -> None:
    await add_sealed(master, 1)
    (folder := master._folder / "keys" / "seal.json").write_bytes(
        b'{"keys": [{"id": "%b", "key": "' % generate_seal_key()[0].encode() + b"A" * 43 + b'="}]}'
    )
    master.initialized = type(master.initialized)(Keyring.load_or_create(folder.parent), None)
    await master.restart()
    await until(lambda: master.client.refusal is not None)
    assert isinstance(master.client.refusal, SealUnknown)


# --- the server key -------------------------------------------------------------------------------


async def test_everybody_is_told_of_the_next_server_key(master: RunningMaster) -> None:
    key = await master.add_key(int(EVERYTHING))
    link = await master.connect_as(key)
    answer = await rotate(master, "curve", 3600)
    following = keyring(master).next_server_key
    assert following
    assert answer.until_ms > time.time() * 1000
    with pytest.raises(NotAuthenticated):  # so that the library attaches, which tells it
        await link.request(ListBuckets(), timeout_s=30)
    attached = await link.request(Attach(token=await fresh_token(master, key)), timeout_s=30)
    assert isinstance(attached, Attached)
    assert attached.next_server_key == following
    assert master.disk.link is not None
    report = DiskReport(volumes=[], disk_free=master.disk.free)
    seen = await master.disk.link.request(report, timeout_s=30)
    assert isinstance(seen, ReportSeen)
    assert seen.next_server_key == following
    assert master.disk.link.is_up


async def test_a_node_does_not_forget_the_next_server_key_before_it_is_in_use(
    master: RunningMaster, tmp_path: Path
) -> None:
    """The keyring switches first, the socket a moment later; an answer in between announces nothing."""
    present, following = master.profile.server_key, CurveKeys.generate().public.decode()
    path = tmp_path / "join.toml"
    Join("tcp://h:1", present, token="t").save(path)
    keys, link = ServerKeys(present, path), master.disk.link
    assert link is not None
    for announced in (following, following, ""):
        await hear_next_key(link, keys, announced)
        assert Join.load(path).server_key == f"{present} {following}"
    link.server_key = following.encode()  # after the switch
    await hear_next_key(link, keys, "")
    assert Join.load(path).server_key == following
    await hear_next_key(link, keys, "no key")
    assert Join.load(path).server_key == following


async def test_of_a_server_key_that_is_replaced_at_once_nobody_is_told(
    master: RunningMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master.running._rotations, "_listen_with", lambda keys: None)
    before = keyring(master).curve.public.decode()
    await rotate(master, "curve", 0)
    assert keyring(master).curve.public.decode() != before
    assert master.disk.link is not None
    seen = await master.disk.link.request(DiskReport(volumes=[], disk_free=1), timeout_s=30)
    assert isinstance(seen, ReportSeen)
    assert seen.next_server_key == ""


async def fresh_token(master: RunningMaster, key: ApiKey) -> str:
    await master.client.request(Attach(token=await master.token()), timeout_s=30)
    return await master.token(key)


async def test_a_switch_corrects_the_files_of_the_masters_machine_and_no_others(
    master: RunningMaster,
) -> None:
    folder = master._folder
    profile = master.profile
    other = Profile("tcp://elsewhere:1", "o" * 40, "WHO", "s")
    Join(profile.master, profile.server_key, "s" * 20).save(folder / "join.toml")
    profile.save(folder.parent / "profile.toml")
    other.save(folder / "profile.toml")
    await rotate(master, "curve", 0)
    now = keyring(master).curve.public.decode()
    await until(lambda: Join.load(folder / "join.toml").server_key == now, timeout_s=20)
    await until(lambda: Profile.load(folder.parent / "profile.toml").server_key == now, timeout_s=20)
    assert Profile.load(folder / "profile.toml") == other
    link = Link(
        endpoint=master.endpoint,
        server_key=now.encode(),
        keys=CurveKeys.generate(),
        name="new",
        incarnation=1,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        with trio.fail_after(40):
            await link.wait_up()
        nursery.cancel_scope.cancel()


# --- the authority --------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap_s", [3600, 0])
async def test_disks_register_again_only_when_their_certificates_count_no_more(
    master: RunningMaster, overlap_s: int
) -> None:
    link, welcome = master.disk.link, master.disk.welcome
    assert link is not None
    assert welcome is not None
    count = link.connect_count
    await rotate(master, "authority", overlap_s)
    if overlap_s:
        await link.request(DiskReport(volumes=[], disk_free=master.disk.free), timeout_s=10)
        assert (link.connect_count, master.disk.welcome) == (count, welcome)
        return
    await until(lambda: link.is_up and link.connect_count > count)
    assert master.disk.welcome is not None
    assert split_bundle(master.disk.welcome.authority) == [keyring(master).authority.certificate]


@pytest.mark.parametrize("overlap_s", [3600, 0])
async def test_clients_are_told_of_another_authority_at_once(master: RunningMaster, overlap_s: int) -> None:
    before = keyring(master).authority.certificate
    key = await master.add_key(int(EVERYTHING))
    link = await master.connect_as(key)
    bundle = master._folder / "authority.pem"
    bundle.write_text(before)
    await rotate(master, "authority", overlap_s)
    with pytest.raises(NotAuthenticated):
        await link.request(ListBuckets(), timeout_s=30)
    attached = await link.request(Attach(token=await fresh_token(master, key)), timeout_s=30)
    assert isinstance(attached, Attached)
    first, *others = split_bundle(attached.authority)
    assert first == keyring(master).authority.certificate != before
    assert others == ([before] if overlap_s else [])
    assert bundle.read_text() == attached.authority
    assert master.disk.link is not None
    report = DiskReport(volumes=[], disk_free=master.disk.free, authority_seen="another")
    seen = await master.disk.link.request(report, timeout_s=30)
    assert isinstance(seen, ReportSeen)
    assert seen.authority == attached.authority
