"""Tokens: they go on with the listing they come from, and with no other."""

from __future__ import annotations

import base64

import pytest

from warehouse.s3.failures import Failure
from warehouse.s3.tokens import TOKEN_SIZE_MAX, make_token, read_token

PHOTOS = ("objects", "photos", "2026/", "/")


@pytest.mark.parametrize("last", ["", "2026/a", "2026/ü😀\x01\n/", "x" * 1024])
def test_a_token_gives_back_the_last_entry(last: str) -> None:
    token = make_token(PHOTOS, last)
    assert read_token(PHOTOS, token) == last
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()
    assert len(token) <= TOKEN_SIZE_MAX


@pytest.mark.parametrize(
    "other",
    [
        ("objects", "films", "2026/", "/"),
        ("objects", "photos", "2025/", "/"),
        ("objects", "photos", "2026/", ""),
        ("objects", "photos2026/", "", "/"),
        ("buckets", "photos", "2026/", "/"),
    ],
)
def test_a_token_of_another_listing_is_refused(other: tuple[str, ...]) -> None:
    with pytest.raises(Failure) as refused:
        read_token(other, make_token(PHOTOS, "2026/a"))
    assert refused.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "AAAA",
        "not base64!",
        "ümlaut",
        "\x00",
        "A" * (TOKEN_SIZE_MAX + 1),
        make_token(PHOTOS, "2026/a") + "=",
        make_token(PHOTOS, "2026/a")[:-1],
        make_token(PHOTOS, "2026/a") + "A",
        base64.urlsafe_b64encode(b"\x02" + bytes(8) + b"of a later release").decode(),
        base64.urlsafe_b64encode(b"\x01" + bytes(8) + b"\xff").decode(),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Failure) as refused:
        read_token(PHOTOS, token)
    assert refused.value.code == "InvalidArgument"


def test_one_entry_has_one_token() -> None:
    """The last character of base64 has bits that mean nothing; a token that differs in them is none."""
    token = make_token(PHOTOS, "ab")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = []
    for last in alphabet:
        try:
            assert read_token(PHOTOS, token[:-1] + last)
        except Failure:
            continue
        accepted.append(last)
    assert token[-1] in accepted
    read = {read_token(PHOTOS, token[:-1] + last) for last in accepted}
    assert len(read) == len(accepted)
