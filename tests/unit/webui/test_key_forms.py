"""The form of an API key: what it reads, what it comes to, and which command does the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict

from warehouse import KeyGrant, KeyInfo, KeyLimits
from warehouse.errors import BadRequest
from warehouse.webui.key_forms import KeyForm, as_command, as_json, changes

NOW = datetime(2026, 11, 29, 21, 0, tzinfo=UTC)
MINE = ["read", "write", "delete", "list", "sign"]


def key(**more: Any) -> KeyInfo:
    fields: dict[str, Any] = {
        "key_id": "K1",
        "name": "thumbnails",
        "description": "",
        "account": "main",
        "account_id": "a",
        "permissions": ["read", "list"],
        "grants": [KeyGrant(bucket="photos", prefix="2026/", permissions=["read", "list"])],
        "abilities": [],
        "is_enabled": True,
        "is_sealed": True,
        "created_ms": 0,
    }
    return KeyInfo(**{**fields, **more})


def sent(**fields: str | list[str]) -> KeyForm:
    pairs = [
        (n.replace("__", "-"), v) for n, vs in fields.items() for v in ([vs] if isinstance(vs, str) else vs)
    ]
    return KeyForm.read(MultiDict(pairs))


def test_a_form_comes_to_a_wish_sentences_and_the_command() -> None:
    form = sent(
        name="thumbnails",
        may=["read", "list"],
        where="grants",
        bucket__0="photos",
        prefix__0="2026/",
        may__0=["read", "list", "write"],
        bucket__1="",
        expires="86400",
        limits="",
        bytes_per_s="10MiB",
        sign_max="1h",
    )
    wish = form.wish(NOW)
    assert wish["grants"] == [KeyGrant(bucket="photos", prefix="2026/", permissions=["read", "list"])]
    assert wish["expires"] == NOW + timedelta(days=1)
    assert wish["sign_s_max"] == 3600
    assert wish["limits"] == KeyLimits(bytes_per_s=10 * 1024 * 1024)
    assert form.sentences()[0] == "can read and list photos/2026/*"
    assert as_command(wish) == (
        "warehouse keys create thumbnails --preset reader --grant 'photos/2026/*:read,list'"
        " --expires 2026-11-30T21:00:00+00:00 --sign-max 3600s --limit-bytes 10MiB"
    )
    assert json.loads(as_json(wish))["grants"][0]["bucket"] == "photos"


def test_a_form_of_a_key_changes_nothing() -> None:
    for one in (
        key(),
        key(grants=None, permissions=["write"], expires_ms=1_900_000_000_123, sign_s_max=90),
        key(limits=KeyLimits(requests_per_s=2.5, lease_bytes=1 << 30, open_uploads=7), grants=[]),
    ):
        assert changes(KeyForm.of(one), one, NOW) == {}


def test_only_what_was_changed_is_sent() -> None:
    form = KeyForm.of(key(description="old"))
    changed = changes(form.after("preset-writer", MINE), key(description="old"), NOW)
    assert set(changed) == {"permissions", "grants"}
    assert as_command({"permissions": ["write"]}, "K1") == "warehouse keys edit K1 --preset upload-only"
    assert as_command({"grants": None, "expires": None}, "K1").endswith("--every-bucket --expires none")


def test_rows_are_added_and_taken_away() -> None:
    form = sent(name="x", may=["read"], where="grants", bucket__0="a", bucket__1="b")
    assert [row.bucket for row in form.after("add", MINE).rows] == ["a", "b", ""]
    assert [row.bucket for row in form.after("remove-0", MINE).rows] == ["b"]
    for nothing in ("remove-", "remove-x", "preset-none", "add-1-2", ""):
        assert form.after(nothing, MINE).may == form.may


def test_the_choice_of_only_these_brings_the_first_row_and_no_second() -> None:
    form = sent(name="x", may=["read", "manage_buckets"], where="grants")
    first = form.after("only", MINE)
    assert [(row.bucket, row.may) for row in first.rows] == [("", ("read",))]
    assert first.after("only", MINE) == first
    assert sent(where="everywhere", bucket__0="a").after("only", MINE).is_everywhere is False


def test_a_preset_gives_no_more_than_somebody_has() -> None:
    assert sent(name="x").after("preset-admin", ["read", "manage_keys"]).may == {"read", "manage_keys"}


def test_a_prefix_that_no_field_can_hold_comes_back() -> None:
    form = sent(bucket__0="a", kept__0="raw%0D%0A%00/")
    assert form.rows[0].prefix == "raw\r\n\0/"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"where": "grants", "prefix__0": "x", "bucket__0": ""},
        {"where": "grants", "bucket__0": "photos"},
        {"expires": "at", "expires_at": "tomorrow"},
        {"sign_max": "soon"},
        {"requests_per_s": "many"},
        {"lease_bytes": "1 elephant"},
    ],
)
def test_what_cannot_be_is_said_in_words(fields: dict[str, str]) -> None:
    whole: dict[str, str | list[str]] = {"name": "x", "may": ["read"], "where": "everywhere", **fields}
    form = sent(**whole)
    with pytest.raises(BadRequest):
        form.wish(NOW)


def test_a_form_has_bounds() -> None:
    with pytest.raises(BadRequest, match="at most 256 grants"):
        KeyForm.read(MultiDict([(f"bucket-{number}", "a") for number in range(300)]))
    with pytest.raises(BadRequest, match="allowed are 4096"):
        sent(name="x" * 5000)
