"""Rights: deny by default, for every permission and every bucket."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.rights import (
    EVERYTHING,
    READ_ONLY,
    READ_WRITE,
    Permission,
    Rights,
    check_bucket_rights,
    names_of,
    parse_permissions,
)
from warehouse.errors import BadRequest, PermissionDenied

BUCKET_PERMISSIONS = {
    Permission.READ: "r",
    Permission.LIST: "r",
    Permission.WRITE: "w",
    Permission.DELETE: "w",
    Permission.MANAGE_BUCKETS: "w",
}
rights = st.builds(
    Rights,
    st.integers(0, int(EVERYTHING)).map(Permission),
    st.none() | st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["r", "w", "rw"])),
)


def test_nothing_is_allowed_by_default():
    for permission in Permission:
        with pytest.raises(PermissionDenied, match=names_of(permission)):
            Rights(Permission(0)).require(permission, "photos")


def test_every_permission_and_direction_is_decided_as_the_table_says():
    for permission, granted in itertools.product(Permission, ["r", "w", "rw", None]):
        buckets = {} if granted is None else {"photos": granted}
        expected = BUCKET_PERMISSIONS.get(permission, "") in (granted or "")
        assert Rights(EVERYTHING, buckets).allows(permission, "photos") is expected, (permission, granted)


def test_a_bucket_right_without_the_flag_grants_nothing():
    with pytest.raises(PermissionDenied, match="write"):
        Rights(READ_ONLY, {"photos": "rw"}).require(Permission.WRITE, "photos")


def test_a_bucket_name_is_compared_whole():
    # CVE-2026-72921 let a right on /tenant1 open /tenant1234.
    held = Rights(READ_WRITE, {"tenant1": "rw"})
    for name in ("tenant1234", "tenant", "TENANT1", "tenant1/", ""):
        assert not held.allows(Permission.READ, name)


def test_several_permissions_asked_at_once_must_all_stand():
    held = Rights(READ_WRITE, {"photos": "r"})
    held.require(Permission.READ | Permission.LIST, "photos")
    with pytest.raises(PermissionDenied):
        held.require(Permission.READ | Permission.WRITE, "photos")


def test_an_unknown_bit_grants_nothing():
    assert not Rights(Permission(1 << 30)).allows(Permission.READ)
    with pytest.raises(PermissionDenied):
        Rights(EVERYTHING).require(Permission(1 << 30))


def test_only_buckets_with_a_right_are_seen():
    assert Rights(READ_ONLY).sees("photos")
    held = Rights(READ_ONLY, {"photos": "w"})
    assert held.sees("photos")
    assert not held.sees("films")


@given(rights, rights)
def test_covered_rights_allow_nothing_more(held, wanted):
    exceeds = [
        (permission, bucket)
        for permission in Permission
        for bucket in (None, "a", "b", "c", "unnamed")
        if wanted.allows(permission, bucket) and not held.allows(permission, bucket)
    ]
    if held.covers(wanted):
        assert exceeds == []


@given(rights)
def test_rights_cover_themselves_and_are_covered_by_everything(held):
    assert held.covers(held)
    assert Rights(EVERYTHING).covers(held)


@given(st.integers(0, int(EVERYTHING)).map(Permission))
def test_written_permissions_are_read_back(permission):
    assert parse_permissions(names_of(permission)) == permission


def test_permissions_are_read_as_people_write_them():
    assert parse_permissions(" Read , manage-buckets") == Permission.READ | Permission.MANAGE_BUCKETS
    assert parse_permissions("all") == EVERYTHING
    with pytest.raises(BadRequest, match="'reed' is no permission; there are read, write"):
        parse_permissions("reed")


def test_bucket_rights_are_checked():
    check_bucket_rights(None)
    check_bucket_rights({"photos": "rw"})
    for wrong in ("", "x", "wr", "rwx"):
        with pytest.raises(BadRequest, match="photos"):
            check_bucket_rights({"photos": wrong})


def test_the_bits_never_change():
    # They are stored in catalogs and signed into tokens.
    assert {flag.name: int(flag) for flag in Permission} == {
        "READ": 1,
        "WRITE": 2,
        "DELETE": 4,
        "LIST": 8,
        "MANAGE_BUCKETS": 16,
        "SEE_CLUSTER": 32,
        "MANAGE_CLUSTER": 64,
        "MANAGE_KEYS": 128,
    }
