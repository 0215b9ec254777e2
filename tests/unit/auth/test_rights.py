"""Rights: deny by default, for every permission and every bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.rights import (
    ABOUT_BUCKETS,
    EVERYTHING,
    PRESETS,
    READ_ONLY,
    READ_WRITE,
    BucketName,
    Grant,
    Permission,
    Rights,
    check_grants,
    names_of,
    parse_permissions,
)
from warehouse.errors import BadRequest, PermissionDenied

PHOTOS, PHOTOS_OLD, TEAM, FILMS = (
    BucketName("photos", 1),
    BucketName("photos", 2),  # an earlier bucket of that name
    BucketName("team-a", 3),
    BucketName("films", 4),
)
BUCKETS = (PHOTOS, PHOTOS_OLD, TEAM, FILMS)
KEYS = ("", "a", "a/", "a/b", "ab", "b")
NAMES = {bucket.id: bucket.name for bucket in BUCKETS}

permissions = st.integers(0, int(EVERYTHING) | 1 << 30).map(Permission)
grants = st.builds(
    Grant,
    st.integers(0, int(ABOUT_BUCKETS)) | st.just(1 << 30),
    bucket_id=st.integers(1, 4),
    key_prefix=st.sampled_from(KEYS),
) | st.builds(
    Grant,
    st.integers(0, int(ABOUT_BUCKETS)),
    bucket_prefix=st.sampled_from(["", "p", "photos", "team-", "x"]),
    key_prefix=st.sampled_from(KEYS),
)
rights = st.builds(Rights, permissions, st.none() | st.lists(grants, max_size=4).map(tuple))


def test_nothing_is_allowed_by_default():
    for permission in Permission:
        with pytest.raises(PermissionDenied, match=names_of(permission)):
            Rights(Permission(0)).require(permission, PHOTOS)
        assert not Rights.nothing().allows(permission)


@pytest.mark.parametrize("permission", list(Permission))
def test_a_grant_opens_its_bucket_for_its_permissions_alone(permission):
    held = Rights(EVERYTHING, (Grant(int(permission), 1),))
    for other in Permission:
        # What is not about a bucket does not depend on grants.
        is_wide = not other & ABOUT_BUCKETS
        assert held.allows(other, PHOTOS, "a") is (is_wide or other == permission), other
        assert held.allows(other, FILMS, "a") is is_wide, other


def test_a_grant_without_the_flag_grants_nothing():
    with pytest.raises(PermissionDenied, match="write"):
        Rights(READ_ONLY, (Grant(int(READ_WRITE), 1),)).require(Permission.WRITE, PHOTOS)


def test_a_grant_by_id_is_not_for_another_bucket_of_the_same_name():
    held = Rights(READ_WRITE, (Grant(int(READ_WRITE), PHOTOS.id),))
    assert held.allows(Permission.READ, PHOTOS)
    assert not held.allows(Permission.READ, PHOTOS_OLD)


def test_a_name_is_compared_whole_unless_a_prefix_was_meant():
    # CVE-2026-72921 let a right on /tenant1 open /tenant1234.
    held = Rights(READ_WRITE, (Grant(int(READ_WRITE), 9), Grant(int(Permission.READ), bucket_prefix="team-")))
    for name in ("tenant1", "tenant1234", "team", "TEAM-A", ""):
        assert not held.allows(Permission.READ, BucketName(name, 5))
    assert held.allows(Permission.READ, TEAM)
    assert not held.allows(Permission.WRITE, TEAM)


def test_a_prefix_of_keys_opens_what_begins_with_it():
    held = Rights(EVERYTHING, (Grant(int(ABOUT_BUCKETS), 1, None, "2026/"),))
    for key, expected in {"2026/a": True, "2026/": True, "2026": False, "2026a": False, "": False}.items():
        assert held.allows(Permission.READ, PHOTOS, key) is expected, key
    assert not held.allows(Permission.MANAGE_BUCKETS, PHOTOS), "a part of a bucket is not the bucket"
    with pytest.raises(PermissionDenied, match="on bucket 'photos' for '2025/a'"):
        held.require(Permission.READ, PHOTOS, "2025/a")


def test_prefixes_say_to_which_keys_a_right_is_confined():
    held = Rights(EVERYTHING, (Grant(1, 1, None, "b"), Grant(3, 1, None, "a/"), Grant(1, 1, None, "a/b")))
    assert held.prefixes(Permission.READ, PHOTOS) == ("a/", "b")
    assert held.prefixes(Permission.WRITE, PHOTOS) == ("a/",)
    assert held.prefixes(Permission.DELETE, PHOTOS) == ()
    assert held.prefixes(Permission.READ, FILMS) == ()
    assert Rights(READ_ONLY).prefixes(Permission.READ, PHOTOS) is None
    assert Rights(READ_ONLY).prefixes(Permission.WRITE, PHOTOS) == ()
    assert Rights(EVERYTHING, (Grant(1, 1, None, "b"), Grant(1, 1))).prefixes(Permission.READ, PHOTOS) is None


def test_several_permissions_asked_at_once_must_all_stand():
    held = Rights(READ_WRITE, (Grant(int(READ_ONLY), 1),))
    held.require(Permission.READ | Permission.LIST, PHOTOS)
    with pytest.raises(PermissionDenied):
        held.require(Permission.READ | Permission.WRITE, PHOTOS)


def test_an_unknown_bit_grants_nothing():
    assert not Rights(Permission(1 << 30)).allows(Permission.READ)
    with pytest.raises(PermissionDenied):
        Rights(EVERYTHING).require(Permission(1 << 30))


@given(rights)
def test_the_seen_buckets_are_those_that_are_named(held):
    seen = held.seen()
    for bucket in BUCKETS:
        is_named = seen is None or bucket.id in seen[0] or any(bucket.name.startswith(one) for one in seen[1])
        assert held.sees(bucket) == is_named


@given(rights)
def test_who_may_create_a_bucket_would_see_one_of_that_name(held):
    """So the answer that the name is taken tells nobody of a bucket that they may not see."""
    for bucket in BUCKETS:
        if held.allows(Permission.MANAGE_BUCKETS, BucketName(bucket.name)):
            assert held.sees(bucket)


def test_only_buckets_with_a_right_are_seen():
    assert Rights(READ_ONLY).sees(PHOTOS)
    assert not Rights(PRESETS["operator"]).sees(PHOTOS), "who has no right to data sees no bucket"
    held = Rights(READ_ONLY, (Grant(int(Permission.READ), 1, None, "2026/"), Grant(int(Permission.WRITE), 4)))
    assert held.sees(PHOTOS)
    assert not held.sees(FILMS), "the key lacks the permission that the grant names"
    assert not held.sees(PHOTOS_OLD)


@given(rights, rights)
def test_covered_rights_allow_nothing_more(held, wanted):
    if not held.covers(wanted, NAMES.get):
        return
    for permission in Permission:
        assert held.allows(permission) or not wanted.allows(permission)
        for bucket in (*BUCKETS, BucketName("photos-new", 77)):
            assert held.sees(bucket) or not wanted.sees(bucket)
            for key in (None, *KEYS):
                if wanted.allows(permission, bucket, key):
                    assert held.allows(permission, bucket, key), (permission, bucket, key)


@given(rights)
def test_rights_of_known_bits_cover_themselves(held):
    known = Rights(held.permissions & EVERYTHING, held.grants)
    # A grant of a flag that the key does not have cannot be handed on.
    is_sound = all(not one.permissions & ~int(known.permissions) for one in known.grants or ())
    assert known.covers(known, NAMES.get) is is_sound
    assert Rights(EVERYTHING).covers(known) is all(
        not one.permissions & ~int(EVERYTHING) for one in known.grants or ()
    )


@given(rights)
def test_nobody_gives_what_they_do_not_have(held):
    if held.grants is not None:
        assert not held.covers(Rights(Permission.READ)), "every bucket is more than some"
    assert not held.covers(Rights(Permission(1 << 40)))
    assert not Rights(EVERYTHING).covers(Rights(Permission.READ, (Grant(1 << 29, 1),)))


def test_every_preset_is_named_and_admin_is_everything():
    assert list(PRESETS) == ["admin", "operator", "writer", "read-only", "reader", "upload-only"]
    assert PRESETS["admin"] == EVERYTHING
    assert not PRESETS["operator"] & ABOUT_BUCKETS
    assert not (PRESETS["read-only"] | PRESETS["reader"]) & (Permission.WRITE | Permission.DELETE)
    assert PRESETS["upload-only"] == Permission.WRITE


@given(st.integers(0, int(EVERYTHING)).map(Permission))
def test_written_permissions_are_read_back(permission):
    assert parse_permissions(names_of(permission)) == permission


def test_permissions_are_read_as_people_write_them():
    assert parse_permissions(" Read , manage-buckets") == Permission.READ | Permission.MANAGE_BUCKETS
    assert parse_permissions("all") == EVERYTHING
    with pytest.raises(BadRequest, match="'reed' is no permission; there are read, write"):
        parse_permissions("reed")


GOOD_GRANTS = [Grant(1, 1), Grant(int(ABOUT_BUCKETS), bucket_prefix=""), Grant(1, 1, None, "x" * 1024)]
BAD_GRANTS = [
    Grant(1),
    Grant(1, 1, "a"),
    Grant(0, 1),
    Grant(-1, 1),
    Grant(int(Permission.MANAGE_KEYS), 1),
    Grant(1 << 40, 1),
    Grant(1, 0),
    Grant(1, 1 << 48),
    Grant(1, bucket_prefix="x" * 64),
    Grant(1, 1, None, "ü" * 513),
]


def test_grants_are_checked():
    check_grants(None)
    check_grants(GOOD_GRANTS)
    for wrong in BAD_GRANTS:
        with pytest.raises(BadRequest):
            check_grants([wrong])
    with pytest.raises(BadRequest, match="at most 256"):
        check_grants([Grant(1, 1)] * 257)


def test_what_is_granted_in_one_bucket_fits_into_a_token():
    long = ["/" * 1020 + str(number) for number in range(4)]
    check_grants([Grant(1, 1, None, prefix) for prefix in long])
    check_grants([Grant(1, bucket_id, None, prefix) for bucket_id in range(1, 9) for prefix in long])
    check_grants([Grant(1, None, "", prefix) for prefix in long])
    for more in (Grant(1, 1, None, "x" * 9), Grant(1, None, "b", "x" * 9)):
        with pytest.raises(BadRequest, match="at most 4096 bytes together"):
            check_grants([*(Grant(1, 1, None, prefix) for prefix in long), more])
    with pytest.raises(BadRequest):
        check_grants([Grant(1, 1, None, "\1" * 700)])  # six letters each


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
        "SIGN": 256,
        "SEE_EVENTS": 512,
    }


def test_many_keys_are_looked_at_together_and_refused_as_one_by_one():
    held = Rights(EVERYTHING, (Grant(int(READ_WRITE), 1, None, "a/"), Grant(int(READ_ONLY), 1, None, "b")))
    held.require_all(Permission.DELETE, PHOTOS, ["a/1", "a/2"])
    held.require_all(Permission.READ, PHOTOS, ["a/1", "b"])
    Rights(EVERYTHING).require_all(Permission.DELETE, PHOTOS, ["", "anything"])
    for keys, named in ((["a/1", "b", "c"], "'b'"), (["a/1", "a"], "'a'"), ([""], "''")):
        with pytest.raises(PermissionDenied, match=f"no delete right on bucket 'photos' for {named}"):
            held.require_all(Permission.DELETE, PHOTOS, keys)
    with pytest.raises(PermissionDenied, match="on bucket 'films'"):
        held.require_all(Permission.DELETE, FILMS, [])
    with pytest.raises(PermissionDenied, match="lacks the permission delete"):
        Rights(READ_ONLY).require_all(Permission.DELETE, PHOTOS, [])


def test_the_name_of_a_bucket_is_asked_for_once_however_many_grants_it_is_compared_with():
    # In a transaction each name is a query, and all puts wait for it.
    asked = []

    def name_of(bucket_id):
        asked.append(bucket_id)
        return "team-a"

    flags = int(READ_WRITE)
    giver = Rights(READ_WRITE, tuple(Grant(flags, bucket_prefix=f"team-{end}") for end in ("z", "y", "a")))
    wanted = Rights(READ_WRITE, tuple(Grant(flags, number) for number in range(1, 9)))
    assert giver.covers(wanted, name_of)
    assert asked == list(range(1, 9))


MINE, THEIRS = BucketName("photos", 1, "me"), BucketName("photos", 2, "them")


@given(rights, st.sampled_from(list(Permission)), st.sampled_from([MINE, THEIRS]), st.sampled_from(KEYS))
def test_rights_of_an_account_end_at_its_buckets_but_for_those_named_by_id(held, permission, bucket, key):
    confined = held.of_account("me")
    by_id = Rights(held.permissions, tuple(one for one in held.grants or () if one.bucket_id is not None))
    expected = held if bucket is MINE or not permission & ABOUT_BUCKETS else by_id
    assert confined.allows(permission, bucket, key) == expected.allows(permission, bucket, key)
    if permission & ABOUT_BUCKETS:
        assert confined.prefixes(permission, bucket) == expected.prefixes(permission, bucket)
        assert confined.allows(permission) == held.allows(permission)
    assert confined.sees(bucket) == (held if bucket is MINE else by_id).sees(bucket)
    assert not confined.is_everywhere
    assert confined.is_foreign(bucket) == (bucket is THEIRS)


@given(rights)
def test_rights_of_an_account_grant_none_that_are_of_all(held):
    assert not held.of_account("me").covers(held)
    assert not held.of_account("me").covers(held.of_account("them"))
    assert held.covers(held.of_account("me")) == held.covers(held)


def test_an_account_without_grants_sees_whatever_is_its_own():
    assert Rights(EVERYTHING).of_account("me").seen() == (frozenset(), frozenset({""}))
    assert Rights(EVERYTHING).seen() is None
    grants = (Grant(1, 7), Grant(1, bucket_prefix="p"))
    assert Rights(EVERYTHING, grants).of_account("me").seen() == (frozenset({7}), frozenset({"p"}))
