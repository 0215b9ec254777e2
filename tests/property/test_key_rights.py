"""Nobody gives what they do not have: random managers, asking the real handlers for random things.

What a key can do is asked of its rights one question at a time, for every flag (also one that this release
does not know), bucket and object key.  This does not use `Rights.covers`, by which the handlers decide.
"""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import msgspec
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from in_memory import make_folder
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.sessions import ClientSession
from warehouse.actors.master import Master
from warehouse.actors.process import Announcer
from warehouse.auth.limits import KeyLimits as Limits
from warehouse.auth.rights import ABOUT_BUCKETS, EVERYTHING, BucketName, Grant, Permission, Rights
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.settings import Settings
from warehouse.errors import StoreError
from warehouse.transport.messages import (
    CreateKey,
    DeleteKey,
    EditKey,
    ImportKey,
    KeyGrant,
    KeyLimits,
    Request,
    RotateKey,
)

UNKNOWN = 1 << 40
BUCKETS = ("photos", "team-a", "team-b")  # ids 1, 2, 3
PLACES = [BucketName(name, number) for number, name in enumerate((*BUCKETS, "team-new", "other"), 1)]
OBJECTS = ("2025/x", "2026/x", "2026/in/x")
PREFIXES = ("", "2026/", "2026/in/", "2025/")
FLAGS = [*Permission, UNKNOWN]
NOW_MS = int(time.time() * 1000)
SOON_MS, LATER_MS = NOW_MS + 10**8, NOW_MS + 10**9

expiry = st.sampled_from([None, SOON_MS, LATER_MS])
life = st.sampled_from([None, 60, 120])
limit = st.sampled_from([None, 1, 2])
some = st.integers(1, int(ABOUT_BUCKETS)).map(lambda n: n & int(ABOUT_BUCKETS) or int(Permission.READ))


def near(value: Any, others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly the same: what is given at random exceeds a manager in many ways at once, and shows none of them."""
    return st.one_of(st.just(value), st.just(value), st.just(value), others)


def near_flags(flags: int, possible: int, unknown: int) -> st.SearchStrategy[int]:
    """With one flag more, or one less."""
    bits = [1 << position for position in range(possible.bit_length()) if possible >> position & 1]
    return near(flags, st.sampled_from([*bits, *[unknown] * 4]).map(lambda bit: flags ^ bit))


def near_grant(grant: Grant) -> st.SearchStrategy[Grant]:
    return st.builds(
        lambda place, prefix, flags: Grant(flags or grant.permissions, place[0], place[1], prefix),
        near(
            (grant.bucket_id, grant.bucket_prefix),
            st.sampled_from([(1, None), (2, None), (3, None), (None, "team-"), (None, "t"), (None, "")]),
        ),
        near(grant.key_prefix, st.sampled_from(PREFIXES)),
        near_flags(grant.permissions, int(ABOUT_BUCKETS), 0),
    )


grants = st.lists(
    st.builds(
        lambda flags, place, prefix: Grant(flags, place[0], place[1], prefix),
        some,
        st.sampled_from([(1, None), (2, None), (None, "team-"), (None, "t"), (None, "")]),
        st.sampled_from(PREFIXES),
    ),
    max_size=2,
).map(tuple)
managers = st.builds(
    lambda permissions, grants, expires_ms, sign_s_max, uploads: {
        "permissions": permissions | int(Permission.MANAGE_KEYS),
        "grants": grants,
        "expires_ms": expires_ms,
        "sign_s_max": sign_s_max,
        "limits": Limits(open_uploads=uploads),
    },
    st.just(int(EVERYTHING)) | st.integers(0, int(EVERYTHING)),
    grants | st.none(),
    expiry,
    life,
    limit,
)


@st.composite
def near_rights(draw: st.DrawFn, manager: dict[str, Any], unknown: int) -> dict[str, Any]:
    """Rights that differ from the manager's in few ways."""
    near_grants = [draw(near_grant(one)) for one in manager["grants"] or ()]
    return {
        "permissions": draw(near_flags(manager["permissions"], int(EVERYTHING), unknown)),
        "grants": draw(near(manager["grants"] and tuple(near_grants), grants | st.none())),
        "expires_ms": draw(near(manager["expires_ms"], expiry)),
        "sign_s_max": draw(near(manager["sign_s_max"], life)),
        "limits": Limits(open_uploads=draw(near(manager["limits"].open_uploads, limit))),
    }


def said(rights: dict[str, Any]) -> dict[str, Any]:
    """As a request says it."""
    return {
        **rights,
        "permissions": names(rights["permissions"]),
        "grants": None
        if rights["grants"] is None
        else [
            KeyGrant(
                bucket=BUCKETS[one.bucket_id - 1] if one.bucket_id else f"{one.bucket_prefix}*",
                prefix=one.key_prefix,
                permissions=names(one.permissions),
            )
            for one in rights["grants"]
        ],
        "limits": KeyLimits(open_uploads=rights["limits"].open_uploads),
    }


def names(flags: int) -> list[str]:
    return [str(flag.name).lower() for flag in Permission if flag & flags]


@st.composite
def requests(draw: st.DrawFn, manager: dict[str, Any]) -> Request:
    kind = draw(st.sampled_from(["create", "import", "edit", "edit", "part", "rotate", "delete"]))
    key_id = draw(st.sampled_from(["OTHER", "OTHER", "MADE", "MANAGER"]))
    wish = said(draw(near_rights(manager, 0)))
    match kind:
        case "create":
            return CreateKey(name="n", **wish)
        case "import":
            return ImportKey(name="n", key_id="MADE", secret="a-secret-from-before", **wish)
        case "edit":
            return EditKey(key_id=key_id, **wish)
        case "part":
            kept = draw(st.sets(st.sampled_from([*wish, "is_enabled"]), max_size=2))
            return EditKey(key_id=key_id, **{name: {**wish, "is_enabled": True}[name] for name in kept})
        case "rotate":
            return RotateKey(key_id=key_id, overlap_s=draw(st.sampled_from([0.0, 60.0])))
    return DeleteKey(key_id=key_id)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], list[Request]]:
    manager = draw(managers)
    other = draw(near_rights(manager, UNKNOWN))
    return manager, other, draw(st.lists(requests(manager), min_size=1, max_size=8))


KEYRING = Keyring.load_or_create(make_folder("key-rights-keyring-"))


def can(row: ApiKeyRow) -> set[object]:
    """Everything that a key can do, one question at a time."""
    rights = Rights(Permission(row.permissions), row.grants)
    found: set[object] = {flag for flag in FLAGS if not flag & ABOUT_BUCKETS and flag & row.permissions}
    for flag in Permission:
        for bucket in PLACES if flag & ABOUT_BUCKETS else ():
            for key in OBJECTS:
                if rights.allows(flag, bucket, key):
                    found.add((flag, bucket.id, key))
            is_whole = row.grants is None or any(
                one.permissions & flag and one.is_for(bucket) and not one.key_prefix for one in row.grants
            )
            if is_whole and flag & row.permissions:
                found.add((flag, bucket.id))
    return found


def lasts(value: int | None) -> float:
    return float("inf") if value is None else value


def has_no_more(row: ApiKeyRow, giver: ApiKeyRow) -> bool:
    return (
        can(row) <= can(giver)
        and lasts(row.expires_ms) <= lasts(giver.expires_ms)
        and lasts(row.sign_s_max) <= lasts(giver.sign_s_max)
        and lasts(row.limits.open_uploads) <= lasts(giver.limits.open_uploads)
    )


def rows_of(catalog: SqliteCatalog) -> dict[str, ApiKeyRow]:
    return {row.id: msgspec.structs.replace(row, last_used_ms=None) for row in catalog.api_keys()}


async def ask(master: Master, asked: Request) -> bool:
    """Was the request of the manager granted?"""
    key = master.keys.get("MANAGER")
    assert key is not None
    assert key.row is not None
    session = ClientSession(key, expires_at=time.monotonic() + 60, epoch=key.row.epoch)
    peer: Any = SimpleNamespace(session=session, address="", is_gone=False)
    try:
        await master.routes.answer(peer, asked)
    except StoreError:
        return False
    return True


async def run(catalog: SqliteCatalog, manager: dict[str, Any], other: dict[str, Any], asked: Any) -> None:
    with catalog.transaction() as transaction:
        for name in BUCKETS:
            transaction.create_bucket(name, 1)
        transaction.add_api_key(ApiKeyRow(id="ROOT", permissions=int(EVERYTHING), created_ms=1))
        transaction.add_api_key(ApiKeyRow(id="MANAGER", created_ms=1, **manager))
        transaction.add_api_key(ApiKeyRow(id="OTHER", created_ms=1, **other))
    master = Master(catalog=catalog, keyring=KEYRING, settings=Settings(), announcer=Announcer(is_json=True))
    async with trio.open_nursery() as nursery:
        await nursery.start(master.context.writer.run)
        for one in asked:
            before = rows_of(catalog)
            if "MANAGER" not in before:
                break
            giver = before["MANAGER"]
            was_granted = await ask(master, one)
            after = rows_of(catalog)
            if not was_granted:
                assert after == before
            for key_id in before.keys() | after.keys():
                touched = [row for row in (before.get(key_id), after.get(key_id)) if row is not None]
                if before.get(key_id) != after.get(key_id):
                    assert all(has_no_more(row, giver) for row in touched), (one, giver, touched)
        nursery.cancel_scope.cancel()


ALL: dict[str, Any] = {
    "permissions": int(EVERYTHING),
    "grants": None,
    "expires_ms": None,
    "sign_s_max": None,
    "limits": Limits(),
}
CONFINED = {**ALL, "grants": (Grant(int(ABOUT_BUCKETS), 1),)}


@settings(max_examples=80, deadline=None)
@given(case=cases())
@example(case=(ALL, {**ALL, "permissions": int(EVERYTHING) | UNKNOWN}, [RotateKey(key_id="OTHER")]))
@example(case=(CONFINED, ALL, [CreateKey(name="n", permissions=["manage_buckets"])]))
@example(case=(CONFINED, ALL, [EditKey(key_id="MANAGER", grants=None)]))
def test_nobody_gives_what_they_do_not_have(
    case: tuple[dict[str, Any], dict[str, Any], list[Request]],
) -> None:
    folder = make_folder("key-rights-")
    try:
        with closing(SqliteCatalog.open(folder / "catalog.sqlite3")) as catalog:
            trio.run(run, catalog, *case)
    finally:
        shutil.rmtree(folder)


def test_the_questions_tell_rights_apart() -> None:
    def key(permissions: int, *grants: Grant) -> ApiKeyRow:
        return ApiKeyRow(id="KEY", permissions=permissions, grants=grants or None, created_ms=1)

    read = int(Permission.READ)
    assert has_no_more(key(read, Grant(read, 1)), key(read))
    for less, more in (
        (key(read, Grant(read, 1)), key(read)),
        (key(read, Grant(read, 1)), key(read, Grant(read, 2))),
        (key(read, Grant(read, 2)), key(read, Grant(read, None, "team-"))),
        (key(read, Grant(read, 1, None, "2026/")), key(read, Grant(read, 1))),
        (key(read), key(read | UNKNOWN)),
    ):
        assert not has_no_more(more, less)
