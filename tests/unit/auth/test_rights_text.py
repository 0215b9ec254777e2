"""Rights in words: what a person reads is what the rights say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.rights import ABOUT_BUCKETS, EVERYTHING, PRESETS, Grant, Permission, Rights
from warehouse.auth.rights_text import describe

NAMES = {1: "photos", 2: "films"}
READ, LIST, WRITE, SIGN = Permission.READ, Permission.LIST, Permission.WRITE, Permission.SIGN
MANAGE_BUCKETS = Permission.MANAGE_BUCKETS

CASES = {
    "admin": (
        Rights(EVERYTHING),
        [
            "can read, list, write and delete every bucket",
            "can have URLs signed for every bucket",
            "can create and delete buckets",
            "can see the state of the store",
            "can follow the events of the store",
            "can manage disks, volumes and nodes",
            "can manage API keys and accounts",
        ],
    ),
    "operator": (
        Rights(PRESETS["operator"]),
        [
            "can see the state of the store",
            "can follow the events of the store",
            "can manage disks, volumes and nodes",
            "cannot read, list, write or delete objects",
            "cannot have URLs signed",
            "cannot manage buckets",
            "cannot manage API keys",
        ],
    ),
    "a part of a bucket": (
        Rights(READ | LIST | SIGN, (Grant(int(READ | LIST), 1, None, "2026/"), Grant(int(SIGN), 2))),
        [
            "can read and list photos/2026/*",
            "can have URLs signed for films",
            "cannot write or delete objects",
        ],
    ),
    "names that begin alike": (
        Rights(
            READ | WRITE | MANAGE_BUCKETS,
            (
                Grant(int(READ | MANAGE_BUCKETS), None, "team-"),
                Grant(int(WRITE), None, "team-", "in/"),
                Grant(int(WRITE | MANAGE_BUCKETS), None, ""),
            ),
        ),
        [
            "can read buckets named team-*",
            "can create and delete buckets named team-*",
            "can write in/* in buckets named team-*",
            "can write every bucket",
            "can create and delete buckets",
            "cannot list or delete objects",
            "cannot have URLs signed",
        ],
    ),
    "grants beyond the permissions": (
        Rights(READ, (Grant(int(READ | WRITE), 1), Grant(int(WRITE), 2))),
        ["can read photos", "cannot list, write or delete objects"],
    ),
    "a bucket that has gone": (
        Rights(READ, (Grant(int(READ), 99),)),
        ["cannot read, list, write or delete objects"],
    ),
    "nothing": (Rights.nothing(), ["cannot read, list, write or delete objects", "cannot manage API keys"]),
    "more than this release knows": (
        Rights(Permission(1 << 40)),
        ["can do something that this release does not know", "cannot manage buckets"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rights_in_words(name: str) -> None:
    rights, expected = CASES[name]
    sentences = describe(rights, NAMES.get)
    if name in ("admin", "operator"):
        assert sentences == expected
    else:
        assert [sentence for sentence in sentences if sentence in expected] == expected
        can = [sentence for sentence in sentences if sentence.startswith("can ")]
        assert can == [sentence for sentence in expected if sentence.startswith("can ")]


grants = st.builds(
    Grant,
    st.integers(1, int(ABOUT_BUCKETS)) | st.just(1 << 40),
    bucket_id=st.integers(1, 3),
    key_prefix=st.sampled_from(["", "a/"]),
)
VERBS = {"read": Permission.READ, "list": Permission.LIST, "write": WRITE, "delete": Permission.DELETE}


@given(
    permissions=st.integers(0, int(EVERYTHING) | 1 << 40).map(Permission),
    grants=st.none() | st.lists(grants, max_size=4).map(tuple),
)
def test_no_sentence_says_what_is_not_so(permissions: Permission, grants: tuple[Grant, ...] | None) -> None:
    rights = Rights(permissions, grants)
    sentences = describe(rights, NAMES.get)
    assert sentences
    for verb, flag in VERBS.items():
        is_granted = bool(flag & permissions) and (
            grants is None or any(grant.permissions & flag and grant.bucket_id in NAMES for grant in grants)
        )
        about_objects = [sentence for sentence in sentences if not sentence.startswith("can create")]
        words = [sentence.replace(",", " ").split() for sentence in about_objects]
        assert any(line[0] == "can" and verb in line for line in words) == is_granted
        assert any(line[0] == "cannot" and verb in line for line in words) != is_granted
