"""Grant texts: how a person writes a grant, and how it is written back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.client.grant_texts import format_grant, grants_of, parse_grant
from warehouse.errors import BadRequest
from warehouse.transport.messages import KeyGrant

CASES = {
    "photos": KeyGrant(bucket="photos"),
    "photos:read": KeyGrant(bucket="photos", permissions=["read"]),
    "photos:read,list": KeyGrant(bucket="photos", permissions=["read", "list"]),
    " wh://photos:READ , List ": KeyGrant(bucket="photos", permissions=["read", "list"]),
    "photos:manage_buckets": KeyGrant(bucket="photos", permissions=["manage_buckets"]),
    "photos:all": KeyGrant(bucket="photos", permissions=["all"]),
    "photos/*:read": KeyGrant(bucket="photos", permissions=["read"]),
    "photos/2026/*:write": KeyGrant(bucket="photos", prefix="2026/", permissions=["write"]),
    "photos/2026/*": KeyGrant(bucket="photos", prefix="2026/"),
    "photos/a*:write": KeyGrant(bucket="photos", prefix="a", permissions=["write"]),
    "photos/a:b*": KeyGrant(bucket="photos", prefix="a:b"),
    "photos/a:b*:read": KeyGrant(bucket="photos", prefix="a:b", permissions=["read"]),
    "photos/**:read": KeyGrant(bucket="photos", prefix="*", permissions=["read"]),
    "team-*:read": KeyGrant(bucket="team-*", permissions=["read"]),
    "team-*/in/*:write": KeyGrant(bucket="team-*", prefix="in/", permissions=["write"]),
    "*:read": KeyGrant(bucket="*", permissions=["read"]),
    "*": KeyGrant(bucket="*"),
}


@pytest.mark.parametrize("text", CASES)
def test_what_a_text_says(text: str) -> None:
    assert parse_grant(text) == CASES[text]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names a bucket"),
        (":read", "names a bucket"),
        ("/a*:read", "names a bucket"),
        ("photos/a:read", "no \\* at the end"),
        ("photos/:read", "no \\* at the end"),
        ("photos/a", "no \\* at the end"),
        ("photos:", "after the last colon"),
        ("photos:read,", "after the last colon"),
        ("photos:read list", "after the last colon"),
        ("photos:1", "after the last colon"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_grant(text)


letters = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8)


@given(
    bucket=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}\*?", fullmatch=True) | st.just("*"),
    prefix=letters,
    permissions=st.lists(st.sampled_from(["read", "write", "manage_buckets"]), min_size=1, unique=True),
)
def test_a_grant_is_read_as_it_is_written(bucket: str, prefix: str, permissions: list[str]) -> None:
    grant = KeyGrant(bucket=bucket, prefix=prefix, permissions=permissions)
    assert parse_grant(format_grant(grant)) == grant


def test_a_program_gives_texts_or_grants_or_nothing() -> None:
    grant = KeyGrant(bucket="films", permissions=["read"])
    assert grants_of(["photos:read", grant]) == [KeyGrant(bucket="photos", permissions=["read"]), grant]
    assert grants_of([]) == []
    assert grants_of(None) is None
