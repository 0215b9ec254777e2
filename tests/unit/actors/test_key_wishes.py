"""Key wishes: what a request may say about a key, and what nobody may give."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from warehouse.actors.control.key_wishes import (
    SIGN_S_MAX,
    TIME_MAX_MS,
    changed_key,
    check_imported,
    key_info,
    new_key,
    require_within,
)
from warehouse.auth.keys import generate_api_key
from warehouse.auth.limits import KeyLimits as Limits
from warehouse.auth.rights import ABOUT_OBJECTS, EVERYTHING, PRESETS, READ_ONLY, Grant, Permission
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.records import BucketRow
from warehouse.errors import (
    BadApiKey,
    BadRequest,
    ExpiryPassed,
    GrantContradicts,
    GrantExceeds,
    GrantNamesNothing,
    NoSuchPreset,
    StoreError,
)
from warehouse.transport.messages import CreateKey, EditKey, KeyGrant, KeyLimits

NOW_MS = 1_790_000_000_000
PHOTOS = BucketRow(id=7, name="photos", created_ms=1, object_count=0, byte_count=0)
NAMES = {7: "photos"}
READ, WRITE = int(Permission.READ), int(Permission.WRITE)


def find(name: str) -> BucketRow | None:
    return PHOTOS if name == "photos" else None


def make(**wish: Any) -> ApiKeyRow:
    return new_key(CreateKey(name="n", **wish), "KEY", account_id="a", find=find, now_ms=NOW_MS)


def grant(bucket: str, permissions: str = "", prefix: str = "") -> KeyGrant:
    return KeyGrant(bucket=bucket, prefix=prefix, permissions=permissions.split(",") if permissions else [])


# What is wished, and what the key may do then.
RIGHTS: dict[str, tuple[dict[str, Any], int, tuple[Grant, ...] | None]] = {
    "nothing said": ({}, int(READ_ONLY), None),
    "a preset": ({"preset": "upload-only"}, WRITE, None),
    "permissions": ({"permissions": ["read", "see-cluster"]}, READ | int(Permission.SEE_CLUSTER), None),
    "no permissions": ({"permissions": []}, 0, None),
    "no bucket": ({"grants": []}, 0, ()),
    "one bucket": ({"grants": [grant("photos", "read,write")]}, READ | WRITE, (Grant(READ | WRITE, 7),)),
    "a part of it": (
        {"grants": [grant("photos", "read", "2026/")]},
        READ,
        (Grant(READ, 7, None, "2026/"),),
    ),
    "names that begin alike": (
        {"grants": [grant("team-*", "read")]},
        READ,
        (Grant(READ, None, "team-"),),
    ),
    "every bucket by name": ({"grants": [grant("*", "write")]}, WRITE, (Grant(WRITE, None, ""),)),
    "all": ({"grants": [grant("photos", "all")]}, int(ABOUT_OBJECTS), (Grant(int(ABOUT_OBJECTS), 7),)),
    "a preset for one bucket": (
        {"preset": "reader", "grants": [grant("photos")]},
        int(READ_ONLY),
        (Grant(int(READ_ONLY), 7),),
    ),
    "less than the preset": (
        {"preset": "read-only", "grants": [grant("photos", "read")]},
        int(PRESETS["read-only"]),
        (Grant(READ, 7),),
    ),
    "two places": (
        {"grants": [grant("photos", "read"), grant("photos", "write", "in/")]},
        READ | WRITE,
        (Grant(READ, 7), Grant(WRITE, 7, None, "in/")),
    ),
}


@pytest.mark.parametrize("name", RIGHTS)
def test_what_a_wish_comes_to(name: str) -> None:
    wish, permissions, grants = RIGHTS[name]
    row = make(**wish)
    assert (row.permissions, row.grants) == (permissions, grants)
    assert (row.sealed, row.hashed, row.is_enabled) == (None, None, True)


WRONG: dict[str, tuple[dict[str, Any], type[StoreError], str]] = {
    "a bucket that is absent": ({"grants": [grant("flims", "read")]}, GrantNamesNothing, "no bucket 'flims'"),
    "no name begins so": ({"grants": [grant("Team*", "read")]}, GrantNamesNothing, "can begin with 'Team'"),
    "an empty name": ({"grants": [grant("", "read")]}, GrantNamesNothing, "no bucket ''"),
    "a star inside": ({"grants": [grant("te*m", "read")]}, BadRequest, "at the end"),
    "twice": (
        {"grants": [grant("photos", "read"), grant("photos", "write")]},
        GrantContradicts,
        "two grants are for photos",
    ),
    "beyond the permissions": (
        {"preset": "reader", "grants": [grant("photos", "read,write")]},
        GrantContradicts,
        "gives write, which the key does not have",
    ),
    "managing a part": (
        {"grants": [grant("photos", "manage_buckets", "a/")]},
        GrantContradicts,
        "managed as a whole",
    ),
    "a grant of nothing": ({"preset": "operator", "grants": [grant("photos")]}, GrantContradicts, "nothing"),
    "nothing to grant": ({"grants": [grant("photos")]}, BadRequest, "needs a preset"),
    "no permission": ({"permissions": ["fly"]}, BadRequest, "'fly' is no permission"),
    "no permission in a grant": ({"grants": [grant("photos", "fly")]}, BadRequest, "'fly' is no permission"),
    "about the store": ({"grants": [grant("photos", "manage_keys")]}, BadRequest, "about the store"),
    "no preset": ({"preset": "emperor"}, NoSuchPreset, "there are admin, operator, writer"),
    "both": ({"preset": "reader", "permissions": []}, BadRequest, "not both"),
    "a long prefix": ({"grants": [grant("photos", "read", "x" * 1025)]}, BadRequest, "1024 bytes"),
    "many": ({"grants": [grant("*", "read", str(n)) for n in range(257)]}, BadRequest, "at most 256"),
    "expired": ({"expires_ms": NOW_MS}, ExpiryPassed, "expired already"),
    "long ago": ({"expires_ms": -1}, ExpiryPassed, "expired already"),
    "never ever": ({"expires_ms": TIME_MAX_MS + 1}, BadRequest, "year 10000"),
    "no life": ({"sign_s_max": 0}, BadRequest, "1 to 604800 seconds"),
    "a long life": ({"sign_s_max": SIGN_S_MAX + 1}, BadRequest, "1 to 604800 seconds"),
    "a limit of nothing": ({"limits": KeyLimits(requests_per_s=0)}, BadRequest, "requests_per_s"),
    "a limit below": ({"limits": KeyLimits(open_uploads=-1)}, BadRequest, "open_uploads"),
    "no number": ({"limits": KeyLimits(bytes_per_s=float("nan"))}, BadRequest, "bytes_per_s"),
    "no end": ({"limits": KeyLimits(bytes_per_s=float("inf"))}, BadRequest, "bytes_per_s"),
    "a long description": ({"description": "x" * 1025}, BadRequest, "description"),
    "control characters": ({"description": "\x1b[2J"}, BadRequest, "description"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_wish_may_not_say(name: str) -> None:
    wish, error, words = WRONG[name]
    with pytest.raises(error, match=words) as caught:
        make(**wish)
    assert type(caught.value) is error


@pytest.mark.parametrize("name", ["", " a", "a ", "a\n", "x" * 129, "\u202ea"])
def test_a_name_is_for_people(name: str) -> None:
    with pytest.raises(BadRequest, match="name of a key"):
        new_key(CreateKey(name=name), "KEY", account_id="a", find=find, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("key_id", "secret"),
    [
        ("", "s" * 16),
        ("ab", "s" * 16),
        ("x" * 129, "s" * 16),
        ("a/b", "s" * 16),
        ("a b", "s" * 16),
        ("-abc", "s" * 16),
        ("é" * 5, "s" * 16),
        ("AKIA", "s" * 15),
        ("AKIA", "s" * 257),
        ("AKIA", "s" * 16 + " "),
        ("AKIA", "s" * 16 + "\n"),
        ("AKIA", "é" * 16),
    ],
)
def test_an_imported_key_looks_like_one(key_id: str, secret: str) -> None:
    check_imported("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    with pytest.raises(BadApiKey) as caught:
        check_imported(key_id, secret)
    assert secret not in caught.value.message


@pytest.mark.parametrize(
    "secret",
    [
        "s" * 20,
        "abababababababab",
        "passwordpassword",
        "hunter2!hunter2!hun",
        "0123456789abcdef",
        "zyxwvutsrqponmlk",
        "AKIAIOSFODNN7-12",
        "akiaiosfodnn7xyz!",
    ],
)
def test_a_secret_that_is_easily_guessed_is_not_imported(secret: str) -> None:
    with pytest.raises(BadApiKey, match="could be guessed") as caught:
        check_imported("AKIAIOSFODNN7", secret)
    assert secret not in caught.value.message


def test_no_secret_that_we_make_counts_as_guessed() -> None:
    for _ in range(500):
        key = generate_api_key()
        check_imported(key.key_id, key.secret)
        check_imported(key.key_id, key.secret[:16])


# --- changes --------------------------------------------------------------------------------------

ROW = ApiKeyRow(
    id="KEY",
    account_id="a",
    name="n",
    permissions=READ | WRITE,
    grants=(Grant(READ, 7),),
    created_ms=1,
    expires_ms=NOW_MS + 5,
    sign_s_max=60,
    limits=Limits(open_uploads=2),
)


def edit(account_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """The fields that a change changes."""
    row = changed_key(ROW, EditKey(key_id="KEY", **changes), account_id=account_id, find=find, now_ms=NOW_MS)
    return {
        name: getattr(row, name) for name in row.__struct_fields__ if getattr(row, name) != getattr(ROW, name)
    }


def test_a_change_changes_what_it_names_and_nothing_else() -> None:
    assert edit() == {}
    assert edit("b", name="x", description="y") == {"account_id": "b", "name": "x", "description": "y"}
    assert edit(expires_ms=None, sign_s_max=None, limits=KeyLimits()) == {
        "expires_ms": None,
        "sign_s_max": None,
        "limits": Limits(),
    }
    assert edit(is_enabled=False) == {"is_enabled": False}
    assert edit(grants=None) == {"grants": None}
    assert edit(grants=[]) == {"grants": ()}
    assert edit(preset="reader") == {"permissions": int(READ_ONLY)}
    both = (Grant(READ | WRITE, 7),)
    assert edit(grants=[grant("photos")]) == {"grants": both}
    assert edit(grants=[grant("photos", "read,write")]) == {"grants": both}
    assert edit(permissions=["write"], grants=[grant("photos")]) == {
        "permissions": WRITE,
        "grants": (Grant(WRITE, 7),),
    }


def test_a_change_is_checked_as_a_new_key_is() -> None:
    for changes, error in (
        ({"grants": [grant("photos", "delete")]}, GrantContradicts),
        ({"grants": [grant("films", "read")]}, GrantNamesNothing),
        ({"preset": "x"}, NoSuchPreset),
        ({"expires_ms": NOW_MS}, ExpiryPassed),
        ({"name": ""}, BadRequest),
        ({"limits": KeyLimits(lease_bytes=0)}, BadRequest),
    ):
        with pytest.raises(error):
            edit(**changes)


# --- who may ------------------------------------------------------------------------------------------

GIVER = ApiKeyRow(
    id="GIVER",
    permissions=READ | int(Permission.MANAGE_KEYS),
    grants=(Grant(READ, 7),),
    created_ms=1,
    expires_ms=NOW_MS + 100,
    sign_s_max=60,
    limits=Limits(requests_per_s=5.0),
)
WITHIN = msgspec.structs.replace(GIVER, id="KEY", permissions=READ)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"permissions": READ | WRITE}, "write"),
        ({"permissions": READ | 1 << 40}, "does not know"),
        ({"grants": None}, "buckets that yours does not have"),
        ({"grants": (Grant(READ, 8),)}, "buckets that yours does not have"),
        ({"grants": (Grant(READ, None, "photos"),)}, "buckets that yours does not have"),
        ({"expires_ms": None}, "it lives longer"),
        ({"expires_ms": NOW_MS + 101}, "it lives longer"),
        ({"sign_s_max": None}, "signs lives longer"),
        ({"sign_s_max": 61}, "signs lives longer"),
        ({"limits": Limits()}, "limit requests_per_s"),
        ({"limits": Limits(requests_per_s=5.5)}, "limit requests_per_s"),
    ],
)
def test_nobody_gives_what_they_do_not_have(changes: dict[str, Any], words: str) -> None:
    require_within(GIVER, GIVER, NAMES.get)
    require_within(GIVER, WITHIN, NAMES.get)
    require_within(ApiKeyRow(id="ROOT", permissions=int(EVERYTHING), created_ms=1), GIVER, NAMES.get)
    with pytest.raises(GrantExceeds, match=words):
        require_within(GIVER, msgspec.structs.replace(WITHIN, **changes), NAMES.get)


# --- what is shown ------------------------------------------------------------------------------------


def test_what_is_shown_of_a_key_has_names_and_no_secret() -> None:
    row = msgspec.structs.replace(
        ROW,
        sealed=b"its-secret",
        grants=(Grant(READ, 7, None, "a/"), Grant(WRITE, None, "team-"), Grant(READ, 8)),
        previous_until_ms=NOW_MS,
    )
    info = key_info(row, account="main", name_of=NAMES.get, last_used_ms=3, now_ms=NOW_MS)
    assert info.permissions == ["read", "write"]
    assert info.grants == [grant("photos", "read", "a/"), grant("team-*", "write")]
    assert info.hidden_grant_count == 1
    assert info.abilities[:2] == ["can read photos/a/*", "can write buckets named team-*"]
    assert (info.is_sealed, info.previous_until_ms, info.last_used_ms) == (True, None, 3)
    assert info.limits == KeyLimits(open_uploads=2)
    assert b"its-secret" not in msgspec.json.encode(info)
    again = msgspec.structs.replace(row, sealed=None, grants=None, previous_until_ms=NOW_MS + 1)
    info = key_info(again, account="main", name_of=NAMES.get, last_used_ms=None, now_ms=NOW_MS)
    assert (info.is_sealed, info.previous_until_ms, info.grants) == (False, NOW_MS + 1, None)
