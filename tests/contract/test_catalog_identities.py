"""Accounts and API keys: what a catalog of any engine promises about them."""

from typing import Any

import msgspec
import pytest

from catalog_kit import CREATED_MS
from warehouse.auth.keys import generate_api_key
from warehouse.auth.limits import KeyLimits
from warehouse.auth.rights import EVERYTHING, Grant, Permission
from warehouse.catalog import identities
from warehouse.catalog.identities import AccountRow
from warehouse.errors import (
    AccountExists,
    AccountNotEmpty,
    ApiKeyExists,
    BadRequest,
    LastKeyManager,
    NoSuchAccount,
    NoSuchApiKey,
    TooManyApiKeys,
)

NOW_MS = CREATED_MS + 1000
MANAGER = int(Permission.MANAGE_KEYS)


def change(kit, key_id="KEY", /, **columns):
    return kit.do(
        lambda t: t.change_api_key(key_id, lambda row: msgspec.structs.replace(row, **columns), now_ms=NOW_MS)
    )


# --- accounts -------------------------------------------------------------------------------------


def test_a_catalog_begins_with_one_account_and_new_buckets_are_its(kit):
    (main,) = kit.catalog.accounts()
    assert (main.name, main.email) == ("main", None)
    kit.bucket()
    assert kit.catalog.bucket("photos").owner_id == main.id


def test_accounts_are_added_changed_and_deleted(kit):
    row = AccountRow("f" * 32, "family", "us@example.org", CREATED_MS)
    kit.do(lambda t: t.add_account(row))
    assert kit.catalog.account(row.id) == kit.catalog.account_by_name("family") == row
    kit.do(lambda t: t.change_account(row.id, name="friends", email=None))
    assert kit.catalog.account(row.id) == AccountRow(row.id, "friends", None, CREATED_MS)
    kit.do(lambda t: t.delete_account(row.id))
    assert kit.catalog.account(row.id) is None
    assert kit.catalog.account_by_name("friends") is None


def test_an_account_with_keys_or_buckets_is_not_deleted(kit):
    row = AccountRow("f" * 32, "family", None, CREATED_MS)
    kit.do(lambda t: t.add_account(row))
    kit.add_key(account_id=row.id)
    with pytest.raises(AccountNotEmpty, match="API keys"):
        kit.do(lambda t: t.delete_account(row.id))
    bucket_id = kit.do(lambda t: t.create_bucket("films", 1, row.id)).id
    assert kit.catalog.bucket("films").owner_id == row.id
    with pytest.raises(AccountNotEmpty, match="buckets"):
        kit.do(lambda t: t.delete_account(row.id))
    main = kit.catalog.account_by_name("main")
    kit.do(lambda t: t.set_bucket_owner(bucket_id, main.id))
    assert kit.catalog.bucket("films").owner_id == main.id


@pytest.mark.parametrize("name", ["", " ", "a\nb", " family", "x" * 129])
def test_names_of_accounts_are_checked(kit, name):
    with pytest.raises(BadRequest, match="name of an account"):
        kit.do(lambda t: t.add_account(AccountRow("f" * 32, name, None, 1)))


def test_a_name_is_of_one_account(kit):
    with pytest.raises(AccountExists):
        kit.do(lambda t: t.add_account(AccountRow("f" * 32, "main", None, 1)))
    kit.do(lambda t: t.add_account(AccountRow("f" * 32, "family", None, 1)))
    with pytest.raises(AccountExists):
        kit.do(lambda t: t.change_account("f" * 32, name="main", email=None))


def test_an_account_that_is_absent_is_said_to_be(kit):
    for ask in (
        lambda t: t.change_account("nobody", name="x", email=None),
        lambda t: t.delete_account("nobody"),
        lambda t: t.set_bucket_owner(1, "nobody"),
    ):
        with pytest.raises(NoSuchAccount, match="nobody"):
            kit.do(ask)
    with pytest.raises(NoSuchAccount):
        kit.add_key(account_id="nobody")


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_remembered_with_all_that_it_has(kit, tmp_path):
    key = generate_api_key()
    columns = {
        "name": "backup job",
        "description": "nightly",
        "hashed": key.hashed,
        "sealed": b"sealed",
        "grants": (Grant(1, 7), Grant(3, bucket_prefix="team-", key_prefix="2026/")),
        "expires_ms": NOW_MS + 5,
        "previous_hashed": key.hashed,
        "previous_sealed": b"before",
        "previous_until_ms": NOW_MS,
        "sign_s_max": 60,
        "limits": KeyLimits(requests_per_s=5, open_uploads=2),
    }
    added = kit.add_key(permissions=5, **columns)
    assert {name: getattr(added, name) for name in columns} == columns
    assert (added.account_id, added.epoch) == (kit.catalog.accounts()[0].id, 1)
    kit.reopen()
    assert kit.catalog.api_key("KEY") == added
    assert all(key.secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_every_bucket_and_no_bucket_are_different_things(kit):
    kit.add_key("EVERY", grants=None)
    kit.add_key("NONE", grants=())
    assert kit.catalog.api_key("EVERY").grants is None
    assert kit.catalog.api_key("NONE").grants == ()


def test_a_key_id_is_used_once_and_its_grants_are_checked(kit):
    kit.add_key()
    with pytest.raises(ApiKeyExists, match="KEY"):
        kit.add_key()
    for wrong in (Grant(1), Grant(0, 1), Grant(1, 1, "x"), Grant(MANAGER, 1), Grant(1 << 40, 1)):
        with pytest.raises(BadRequest):
            kit.add_key("OTHER", grants=(wrong,))
        with pytest.raises(BadRequest):
            change(kit, grants=(wrong,))
    assert kit.catalog.api_key("KEY").grants is None


def test_keys_are_listed_oldest_first(kit):
    for number in (3, 1, 2):
        kit.add_key(f"KEY{number}", created_ms=CREATED_MS + number)
    assert [row.id for row in kit.catalog.api_keys()] == ["KEY1", "KEY2", "KEY3"]
    assert kit.catalog.api_key_count() == 3


# What a change is, and whether it makes void what the key has signed.
CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "another name": ({"name": "x", "description": "y"}, False),
    "more permissions": ({"permissions": 7}, False),
    "a grant more": ({"grants": (Grant(3, 1), Grant(1, 2))}, False),
    "a wider grant": ({"grants": (Grant(3, bucket_prefix=""),)}, True),  # the bucket of id 1 has no name
    "every bucket": ({"grants": None}, False),
    "a later end": ({"expires_ms": NOW_MS + 200}, False),
    "no end": ({"expires_ms": None}, False),
    "a new secret, and the old one for a while": (
        {"sealed": b"new", "previous_sealed": b"old", "previous_until_ms": NOW_MS + 9},
        False,
    ),
    "fewer permissions": ({"permissions": 1}, True),
    "no grant": ({"grants": ()}, True),
    "a narrower grant": ({"grants": (Grant(3, 1, None, "a/"),)}, True),
    "another bucket": ({"grants": (Grant(3, 2),)}, True),
    "disabled": ({"is_enabled": False}, True),
    "an earlier end": ({"expires_ms": NOW_MS + 50}, True),
    "shorter lives": ({"sign_s_max": 5}, True),
    "a new secret at once": ({"sealed": b"new"}, True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_takes_rights_away_starts_a_new_epoch(kit, name):
    columns, is_new = CHANGES[name]
    kit.add_key(permissions=3, grants=(Grant(3, 1),), expires_ms=NOW_MS + 100, sealed=b"old")
    after = change(kit, **columns)
    assert after.epoch == 1 + is_new
    assert kit.catalog.api_key("KEY") == after
    assert kit.catalog.revocations() == ({"KEY": 2} if is_new else {})


def test_a_grant_by_name_covers_a_bucket_that_has_such_a_name(kit):
    bucket_id = kit.bucket("photos")
    kit.add_key(grants=(Grant(3, bucket_id),))
    assert change(kit, grants=(Grant(3, bucket_prefix="ph"),)).epoch == 1
    assert change(kit, grants=(Grant(3, bucket_id),)).epoch == 2


def test_a_deleted_key_is_gone_and_what_it_signed_stays_void_under_a_new_key_of_its_id(kit):
    kit.add_key()
    kit.do(lambda t: t.delete_api_key("KEY", now_ms=NOW_MS))
    assert kit.catalog.api_key("KEY") is None
    assert kit.catalog.revocations() == {"KEY": 2}
    assert kit.add_key().epoch == 2
    kit.do(lambda t: t.forget_revocations(NOW_MS))
    assert kit.catalog.revocations() == {"KEY": 2}
    kit.do(lambda t: t.forget_revocations(NOW_MS + 1))
    assert kit.catalog.revocations() == {}


def test_a_key_that_is_absent_is_said_to_be(kit):
    with pytest.raises(NoSuchApiKey, match="KEY"):
        change(kit)
    with pytest.raises(NoSuchApiKey, match="KEY"):
        kit.do(lambda t: t.delete_api_key("KEY", now_ms=NOW_MS))


@pytest.mark.parametrize(
    "end",
    [
        {"is_enabled": False},
        {"permissions": int(EVERYTHING) & ~MANAGER},
        {"expires_ms": NOW_MS},
        {"expires_ms": NOW_MS + 10**9},
        {"grants": ()},
        {"grants": (Grant(int(Permission.READ), None, "team-"),)},
        {"limits": KeyLimits(requests_per_s=0.001)},
        {"limits": KeyLimits(bytes_per_s=10.0)},
        {"sign_s_max": 60},
        None,
    ],
)
def test_the_last_key_that_may_manage_keys_stays_and_is_not_confined(kit, end):
    def act():
        if end is None:
            kit.do(lambda t: t.delete_api_key("KEY", now_ms=NOW_MS))
        else:
            change(kit, **end)

    kit.add_key(permissions=int(EVERYTHING))
    kit.add_key("DISABLED", permissions=MANAGER, is_enabled=False)
    kit.add_key("EXPIRED", permissions=MANAGER, expires_ms=NOW_MS)
    # These manage, but could never lift what confines them, and the keys of all others are beyond them.
    kit.add_key("ENDS", permissions=MANAGER, expires_ms=NOW_MS + 10**9)
    kit.add_key("GRANTED", permissions=MANAGER, grants=())
    kit.add_key("LIMITED", permissions=MANAGER, limits=KeyLimits(requests_at_once=1))
    with pytest.raises(LastKeyManager):
        act()
    assert kit.catalog.api_key("KEY").is_free_manager(NOW_MS)
    assert kit.catalog.revocations() == {}
    kit.add_key("OTHER", permissions=MANAGER)
    act()


def test_confined_managers_end_while_any_other_is_left(kit):
    """Of a store that has no free manager, as an earlier release allowed it."""
    kit.add_key(permissions=MANAGER, grants=())
    kit.add_key("ENDS", permissions=MANAGER, expires_ms=NOW_MS + 10)
    change(kit, expires_ms=NOW_MS + 5)
    kit.do(lambda t: t.delete_api_key("KEY", now_ms=NOW_MS))
    with pytest.raises(LastKeyManager, match="last key that may manage keys: make"):
        kit.do(lambda t: t.delete_api_key("ENDS", now_ms=NOW_MS))


def test_keys_that_never_managed_anything_may_all_go(kit):
    kit.add_key()
    kit.do(lambda t: t.delete_api_key("KEY", now_ms=NOW_MS))


def test_the_last_use_is_noted_and_never_goes_back(kit):
    kit.add_key()
    kit.do(lambda t: t.note_keys_used({"KEY": 7, "GONE": 8}))
    kit.do(lambda t: t.note_keys_used({"KEY": 5}))
    assert kit.catalog.api_key("KEY").last_used_ms == 7


def test_secrets_that_are_sealed_anew_void_nothing(kit):
    kit.add_key(sealed=b"old", previous_sealed=b"older", previous_until_ms=NOW_MS + 1)
    kit.add_key("PLAIN")
    before = kit.catalog.api_key("KEY")

    def again(row):
        return (b"new " + row.sealed, b"new " + row.previous_sealed) if row.sealed else (None, None)

    assert kit.do(lambda t: t.reseal_api_keys(["KEY", "PLAIN", "GONE"], again)) == 1
    after = kit.catalog.api_key("KEY")
    assert after == msgspec.structs.replace(before, sealed=b"new old", previous_sealed=b"new older")
    assert kit.catalog.revocations() == {}


def test_keys_are_listed_page_by_page_by_their_ids(kit):
    for number in (3, 1, 2):
        kit.add_key(f"KEY{number}", created_ms=CREATED_MS - number)
    assert [row.id for row in kit.catalog.api_keys_after("", 2)] == ["KEY1", "KEY2"]
    assert [row.id for row in kit.catalog.api_keys_after("KEY2", 2)] == ["KEY3"]
    assert kit.catalog.api_keys_after("KEY3", 2) == []
    assert kit.catalog.api_keys_after("KEY1", 1) == [kit.catalog.api_key("KEY2")]


def test_a_transaction_knows_the_names_of_buckets(kit):
    photos = kit.bucket("photos")
    assert kit.do(lambda t: (t.bucket_name(photos), t.bucket_name(photos + 1))) == ("photos", None)
    assert kit.do(lambda t: (t.create_bucket("films", 1), t.bucket_name(photos + 1)))[1] == "films"


def test_keys_and_revocations_are_so_many_at_most(kit, monkeypatch):
    monkeypatch.setattr(identities, "KEYS_MAX", 3)
    for key_id in ("KEY1", "KEY2", "KEY3"):
        kit.add_key(key_id)
    with pytest.raises(TooManyApiKeys):
        kit.add_key("KEY4")
    kit.do(lambda t: t.delete_api_key("KEY1", now_ms=NOW_MS))
    with pytest.raises(TooManyApiKeys):  # what was deleted is remembered
        kit.add_key("KEY4")
    change(kit, "KEY2", name="keys that there are can be changed", is_enabled=False)
    monkeypatch.setattr(identities, "KEYS_MAX", 6)
    with pytest.raises(TooManyApiKeys, match="while there are fewer than 4"):
        row = msgspec.structs.replace(kit.catalog.api_key("KEY2"), id="KEY4")
        kit.do(lambda t: t.add_api_key(row, reserve=2))
    kit.do(lambda t: t.forget_revocations(NOW_MS + 1))
    assert kit.catalog.revocations() == {}
    kit.add_key("KEY4")


def test_the_revocation_of_one_key_is_read_alone(kit):
    kit.add_key()
    assert kit.catalog.revocation("KEY") is None
    change(kit, is_enabled=False)
    assert kit.catalog.revocation("KEY") == kit.catalog.revocations()["KEY"] == 2
