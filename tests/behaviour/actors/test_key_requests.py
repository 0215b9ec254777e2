"""Keys and accounts at a real master: made, shown, changed, rotated, imported, deleted; and by whom."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from master_kit import RunningMaster, open_master, until
from warehouse.actors.control import key_requests
from warehouse.actors.control.context import now_ms
from warehouse.auth.keys import ApiKey, generate_api_key
from warehouse.auth.rights import EVERYTHING, READ_ONLY, Grant, Permission
from warehouse.catalog import identities
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.interface import Transaction
from warehouse.errors import (
    AccountExists,
    AccountNotEmpty,
    ApiKeyExists,
    BadCredentials,
    BadRequest,
    GrantExceeds,
    GrantNamesNothing,
    LastKeyManager,
    LinkDown,
    NoSuchAccount,
    NoSuchApiKey,
    NoSuchBucket,
    NotAuthenticated,
    PermissionDenied,
    StoreError,
    TooManyApiKeys,
)
from warehouse.transport.messages import (
    Accounts,
    AccountShown,
    Answer,
    Buckets,
    CreateAccount,
    CreateBucket,
    CreateKey,
    DeleteAccount,
    DeleteBucket,
    DeleteKey,
    Done,
    EditAccount,
    EditKey,
    GiveBucket,
    ImportKey,
    KeyCreated,
    KeyGrant,
    KeyLimits,
    Keys,
    KeyShown,
    ListAccounts,
    ListBuckets,
    ListKeys,
    ListObjects,
    Request,
    RotateKey,
    ShowKey,
)
from warehouse.transport.zeromq.link import Link

MANAGER = int(Permission.MANAGE_KEYS)
READ = int(Permission.READ)


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[RunningMaster]:
    async with open_master(tmp_path, has_compactor=False) as master:
        await master.create_bucket("photos")
        yield master


async def ask(link: Link, request: Request) -> Answer:
    return await link.request(request, timeout_s=10)


async def refused(link: Link, request: Request, error: type[StoreError], words: str = "") -> None:
    with pytest.raises(error, match=words or None) as caught:
        await ask(link, request)
    assert type(caught.value) is error


def shown(created: KeyCreated) -> ApiKey:
    return msgspec.convert(
        {"key_id": created.key.key_id, "secret": created.secret, "hashed": generate_api_key().hashed}, ApiKey
    )


async def create(master: RunningMaster, name: str = "n", **wish) -> KeyCreated:
    return await master.ask(CreateKey(name=name, **wish), KeyCreated)


async def test_a_key_of_one_bucket_opens_it_and_nothing_else(master: RunningMaster) -> None:
    await master.create_bucket("films")
    made = await create(
        master, preset="reader", grants=[KeyGrant(bucket="photos")], description="d", sign_s_max=60
    )
    assert made.key.grants == [KeyGrant(bucket="photos", permissions=["read", "list"])]
    assert (made.key.name, made.key.description, made.key.account) == ("n", "d", "main")
    assert (made.key.is_sealed, made.key.is_enabled, made.key.last_used_ms) == (True, True, None)
    link = await master.connect_as(shown(made))
    await ask(link, ListObjects(bucket="photos"))
    for request in (ListObjects(bucket="films"), DeleteBucket(bucket="photos"), ListKeys()):
        with pytest.raises(StoreError):
            await ask(link, request)
    own = await ask(link, ShowKey())
    assert isinstance(own, KeyShown)
    assert own.key.key_id == made.key.key_id
    assert own.key.last_used_ms is not None
    assert own.key.abilities[0] == "can read and list photos"
    await refused(link, ShowKey(key_id=master.root.key_id), PermissionDenied)


async def test_a_bucket_made_anew_is_not_open_and_not_shown(master: RunningMaster) -> None:
    made = await create(master, grants=[KeyGrant(bucket="photos", permissions=["read", "list"])])
    link = await master.connect_as(shown(made))
    await master.ask(DeleteBucket(bucket="photos"), Done)
    await master.create_bucket("photos")
    with pytest.raises(StoreError):
        await ask(link, ListObjects(bucket="photos"))
    info = (await master.ask(ShowKey(key_id=made.key.key_id), KeyShown)).key
    assert (info.grants, info.hidden_grant_count) == ([], 0)


async def test_keys_are_listed_page_by_page(master: RunningMaster) -> None:
    ids = {(await create(master, f"key {number}")).key.key_id for number in range(5)}
    found, after, pages = [], "", 0
    while True:
        page = await master.ask(ListKeys(after=after, limit=2), Keys)
        found += page.keys
        pages += 1
        after = page.next_after
        if not after:
            break
    assert {key.key_id for key in found} == {*ids, master.root.key_id}
    assert len(found) == 6
    assert pages in (3, 4)
    everything = (await master.ask(ListKeys(), Keys)).keys
    assert [key.key_id for key in everything] == sorted(key.key_id for key in found)


async def test_a_change_counts_at_once(master: RunningMaster) -> None:
    made = await create(master, preset="reader")
    key_id, link = made.key.key_id, await master.connect_as(shown(made))
    answer = await master.ask(EditKey(key_id=key_id, name="x", preset="writer"), KeyShown)
    assert (answer.key.name, len(answer.key.permissions)) == ("x", 5)
    await ask(link, ListObjects(bucket="photos"))
    await master.ask(EditKey(key_id=key_id, is_enabled=False), KeyShown)
    with pytest.raises(StoreError):
        await ask(link, ListBuckets())
    with pytest.raises(BadCredentials):
        await master.token(shown(made))
    await master.ask(EditKey(key_id=key_id, is_enabled=True), KeyShown)
    await master.token(shown(made))
    expires_ms = int(time.time() * 1000) + 300
    await master.ask(EditKey(key_id=key_id, expires_ms=expires_ms), KeyShown)
    with trio.fail_after(40), pytest.raises(BadCredentials):
        while True:
            await master.token(shown(made))
    await master.ask(DeleteKey(key_id=key_id), Done)
    for request in (
        ShowKey(key_id=key_id),
        EditKey(key_id=key_id),
        RotateKey(key_id=key_id),
        DeleteKey(key_id=key_id),
    ):
        await refused(master.client, request, NoSuchApiKey)


async def test_a_rotation_leaves_the_old_secret_for_a_while_or_ends_it(master: RunningMaster) -> None:
    first = await create(master)
    key_id = first.key.key_id
    second = await master.ask(RotateKey(key_id=key_id), KeyCreated)
    assert second.key.previous_until_ms is not None
    assert 86_000_000 < second.key.previous_until_ms - time.time() * 1000 < 86_500_000
    for made in (first, second):
        await master.token(shown(made))
    link = await master.connect_as(shown(first))
    third = await master.ask(RotateKey(key_id=key_id, overlap_s=0), KeyCreated)
    assert third.key.previous_until_ms is None
    await master.token(shown(third))
    for made in (first, second):
        with pytest.raises(BadCredentials):
            await master.token(shown(made))
    with pytest.raises(StoreError):
        await ask(link, ListBuckets())
    for wrong in (-1, 31 * 86_400, float("nan")):
        await refused(master.client, RotateKey(key_id=key_id, overlap_s=wrong), BadRequest, "overlap")


async def test_whoever_rotates_their_own_key_at_once_is_told_the_new_secret(master: RunningMaster) -> None:
    made = await create(master, preset="admin")
    link = await master.connect_as(shown(made))
    answer = await ask(link, RotateKey(key_id=made.key.key_id, overlap_s=0))
    assert isinstance(answer, KeyCreated)
    await master.token(shown(answer))


async def test_a_key_of_an_earlier_release_has_to_be_rotated_for_s3(master: RunningMaster) -> None:
    old = generate_api_key()
    await master.running.keys.add(ApiKeyRow(id=old.key_id, hashed=old.hashed, permissions=READ, created_ms=1))
    assert not (await master.ask(ShowKey(key_id=old.key_id), KeyShown)).key.is_sealed
    renewed = await master.ask(RotateKey(key_id=old.key_id), KeyCreated)
    assert renewed.key.is_sealed
    for key in (old, shown(renewed)):
        await master.token(key)


async def test_an_imported_key_works_with_the_secret_that_people_have(master: RunningMaster) -> None:
    request = ImportKey(key_id="AKIAIOSFODNN7EXAMPLE", secret="a-secret-from-before", name="old")
    info = (await master.ask(request, KeyShown)).key
    assert (info.key_id, info.is_sealed) == ("AKIAIOSFODNN7EXAMPLE", True)
    await master.token(ApiKey(info.key_id, "a-secret-from-before", generate_api_key().hashed))
    await refused(master.client, request, ApiKeyExists)


async def test_the_last_manager_stays(master: RunningMaster) -> None:
    root = master.root.key_id
    for request in (
        DeleteKey(key_id=root),
        EditKey(key_id=root, is_enabled=False),
        EditKey(key_id=root, preset="writer"),
        EditKey(key_id=root, expires_ms=now_ms() + 3_600_000),
        EditKey(key_id=root, grants=[]),
        EditKey(key_id=root, limits=KeyLimits(requests_per_s=0.001)),
        EditKey(key_id=root, sign_s_max=60),
    ):
        await refused(master.client, request, LastKeyManager)
    await create(master, preset="admin")
    await master.ask(EditKey(key_id=root, is_enabled=False), KeyShown)
    with pytest.raises((NotAuthenticated, LinkDown)):
        await ask(master.client, ListKeys())


# --- by whom --------------------------------------------------------------------------------------


async def test_without_the_permission_nothing_is_told_or_done(master: RunningMaster) -> None:
    link = await master.connect_with(int(EVERYTHING) & ~MANAGER)
    made = await create(master)
    for request in (
        CreateKey(name="n", preset="reader"),
        ImportKey(name="n", key_id="AKIA", secret="a-secret-from-before"),
        ShowKey(key_id=made.key.key_id),
        ListKeys(),
        EditKey(key_id=made.key.key_id, name="x"),
        RotateKey(key_id=made.key.key_id),
        DeleteKey(key_id=made.key.key_id),
        CreateAccount(name="x"),
        ListAccounts(),
        EditAccount(account="main", name="x"),
        DeleteAccount(account="main"),
    ):
        await refused(link, request, PermissionDenied, "manage_keys")


async def test_nobody_touches_a_key_that_has_more(master: RunningMaster) -> None:
    link = await master.connect_with(READ | MANAGER)
    for request in (
        EditKey(key_id=master.root.key_id, name="x"),
        EditKey(key_id=master.root.key_id, is_enabled=False),
        RotateKey(key_id=master.root.key_id),
        DeleteKey(key_id=master.root.key_id),
        CreateKey(name="n", preset="writer"),
        ImportKey(name="n", key_id="AKIA", secret="a-secret-from-before", preset="admin"),
    ):
        await refused(link, request, GrantExceeds)
    mine = await ask(link, CreateKey(name="n", permissions=["read"]))
    assert isinstance(mine, KeyCreated)
    await refused(link, EditKey(key_id=mine.key.key_id, permissions=["read", "write"]), GrantExceeds)
    own = await ask(link, ShowKey())
    assert isinstance(own, KeyShown)
    await refused(link, EditKey(key_id=own.key.key_id, preset="admin"), GrantExceeds)
    assert len((await master.ask(ListKeys(), Keys)).keys) == 3


async def test_a_bucket_that_a_manager_may_not_see_is_as_if_there_were_none(master: RunningMaster) -> None:
    films = await master.create_bucket("films")
    made = await create(
        master,
        grants=[
            KeyGrant(bucket="photos", permissions=["read"]),
            KeyGrant(bucket="films", permissions=["read"]),
        ],
    )
    link = await master.connect_with(int(READ_ONLY) | MANAGER, (Grant(int(READ_ONLY), films),))
    messages = set()
    for name in ("photos", "absent"):
        request = CreateKey(name="n", grants=[KeyGrant(bucket=name, permissions=["read"])])
        with pytest.raises(GrantNamesNothing) as caught:
            await ask(link, request)
        messages.add(caught.value.message.replace(name, "NAME"))
    assert len(messages) == 1
    seen = await ask(link, ShowKey(key_id=made.key.key_id))
    assert isinstance(seen, KeyShown)
    assert seen.key.grants == [KeyGrant(bucket="films", permissions=["read"])]
    assert seen.key.hidden_grant_count == 1
    assert "photos" not in str(seen)


async def test_a_manager_that_loses_the_right_in_between_changes_nothing(master: RunningMaster) -> None:
    """Both requests are admitted while the catalog is busy; the change of the asker's key comes first."""
    made = await create(master, preset="admin")
    link = await master.connect_as(shown(made))
    writer, is_busy, goes_on = master.running.context.writer, threading.Event(), threading.Event()

    def be_busy(transaction: Transaction) -> None:
        is_busy.set()
        goes_on.wait(20)

    def waits(name: str) -> bool:
        return any(f"KeyHandlers.{name}" in request.work.__qualname__ for request in writer._queue)

    async def give() -> None:
        with pytest.raises((NotAuthenticated, LinkDown)):
            await ask(link, CreateKey(name="late", preset="reader"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, be_busy)
        await until(is_busy.is_set)
        edit = EditKey(key_id=made.key.key_id, preset="reader")
        nursery.start_soon(master.ask, edit, KeyShown)
        await until(lambda: waits("_change"))
        nursery.start_soon(give)
        await until(lambda: waits("_add"))
        goes_on.set()
    assert "late" not in [key.name for key in (await master.ask(ListKeys(), Keys)).keys]


async def test_a_request_to_delete_a_bucket_spares_a_later_one_of_its_name(master: RunningMaster) -> None:
    """The key may delete one bucket by its number; while its request waits, another takes the name."""
    grants = [KeyGrant(bucket="photos", permissions=["manage_buckets", "delete"])]
    made = await create(master, permissions=["manage_buckets", "delete"], grants=grants)
    link = await master.connect_as(shown(made))
    writer, is_busy, goes_on = master.running.context.writer, threading.Event(), threading.Event()

    def replace(transaction: Transaction) -> None:
        is_busy.set()
        goes_on.wait(20)
        transaction.delete_bucket("photos", force=True, stamp=1)
        transaction.create_bucket("photos", 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, replace)
        await until(is_busy.is_set)
        nursery.start_soon(refused, link, DeleteBucket(bucket="photos", force=True), NoSuchBucket)
        await until(lambda: len(writer._queue) > 0)
        goes_on.set()
    assert [bucket.name for bucket in (await master.ask(ListBuckets(), Buckets)).buckets] == ["photos"]


async def test_a_page_of_keys_has_few_enough_grants_to_be_put_into_words(
    master: RunningMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_requests, "GRANTS_MAX", 3)
    for number, count in enumerate((2, 1, 4, 1)):
        grants = [KeyGrant(bucket="photos", prefix=f"{part}/") for part in range(count)]
        await master.ask(
            ImportKey(
                name="n", key_id=f"AAA{number}", secret="a-secret-from-before", preset="reader", grants=grants
            ),
            KeyShown,
        )
    pages, after = [], ""
    while True:
        page = await master.ask(ListKeys(after=after), Keys)
        pages.append([key.key_id for key in page.keys if key.key_id.startswith("AAA")])
        if not (after := page.next_after):
            break
    assert pages[:3] == [["AAA0", "AAA1"], ["AAA2"], ["AAA3"]]


async def test_a_manager_of_one_bucket_leaves_keys_to_those_of_the_store(
    master: RunningMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = [KeyGrant(bucket="photos")]
    made = await create(master, permissions=["read", "manage_keys"], grants=grants)
    link = await master.connect_as(shown(made))
    monkeypatch.setattr(identities, "KEYS_MAX", 5)
    monkeypatch.setattr(key_requests, "KEYS_RESERVED", 2)
    theirs = CreateKey(name="n", permissions=["read"], grants=[])
    await ask(link, theirs)
    await refused(link, theirs, TooManyApiKeys, "fewer than 3")
    await create(master)
    await create(master)
    await refused(master.client, CreateKey(name="n"), TooManyApiKeys)


# --- accounts -------------------------------------------------------------------------------------


async def test_accounts_have_keys_and_buckets(master: RunningMaster) -> None:
    made = await master.ask(CreateAccount(name="family", email="a@example.org"), AccountShown)
    names = [one.name for one in (await master.ask(ListAccounts(), Accounts)).accounts]
    assert names == ["main", "family"]
    key = await create(master, account="family", preset="admin")
    assert (key.key.account, key.key.account_id) == ("family", made.account.account_id)
    link = await master.connect_as(shown(key))
    await ask(link, CreateBucket(bucket="theirs"))
    child = await ask(link, CreateKey(name="n"))
    assert isinstance(child, KeyCreated)
    assert child.key.account == "family"
    owners = dict(master.read("SELECT name, owner_id FROM buckets"))
    assert owners["theirs"] == made.account.account_id != owners["photos"]
    await refused(master.client, DeleteAccount(account="family"), AccountNotEmpty)
    for key_id in (key.key.key_id, child.key.key_id):
        answer = await master.ask(EditKey(key_id=key_id, account="main"), KeyShown)
        assert answer.key.account == "main"
    await master.ask(GiveBucket(bucket="theirs", account="main"), Done)
    await master.ask(GiveBucket(bucket="photos", account="family"), Done)
    await refused(master.client, DeleteAccount(account="family"), AccountNotEmpty)
    await master.ask(GiveBucket(bucket="photos", account="main"), Done)
    buckets = (await master.ask(ListBuckets(), Buckets)).buckets
    assert {bucket.owner_id for bucket in buckets} == {answer.key.account_id}
    edited = await master.ask(EditAccount(account="family", name="house", email=None), AccountShown)
    assert (edited.account.name, edited.account.email) == ("house", None)
    await master.ask(DeleteAccount(account=made.account.account_id), Done)
    assert len((await master.ask(ListAccounts(), Accounts)).accounts) == 1


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (CreateAccount(name="main"), AccountExists, ""),
        (CreateAccount(name=""), BadRequest, "name of an account"),
        (CreateAccount(name="x", email="nobody"), BadRequest, "one @"),
        (CreateAccount(name="x", email="a@b\nc"), BadRequest, "one @"),
        (EditAccount(account="nobody", name="x"), NoSuchAccount, "nobody"),
        (EditAccount(account="main", email="@"), BadRequest, "one @"),
        (DeleteAccount(account="nobody"), NoSuchAccount, "nobody"),
        (GiveBucket(bucket="photos", account="nobody"), NoSuchAccount, "nobody"),
        (GiveBucket(bucket="none", account="main"), NoSuchBucket, "none"),
        (DeleteAccount(account="main"), AccountNotEmpty, ""),
        (CreateKey(name="n", account="nobody"), NoSuchAccount, "nobody"),
    ],
)
async def test_what_is_wrong_with_an_account_is_said(
    master: RunningMaster, request_: Request, error: type[StoreError], words: str
) -> None:
    await refused(master.client, request_, error, words)
