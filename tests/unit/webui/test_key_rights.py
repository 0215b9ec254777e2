"""Rights of API keys in the console: words, presets, and who may change whom."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse import KeyGrant, KeyInfo, KeyLimits
from warehouse.auth.rights import Permission, Rights
from warehouse.errors import PermissionDenied
from warehouse.webui.key_rights import (
    FLAGS,
    PRESET_FLAGS,
    in_words,
    is_within,
    preset_of,
    refusal_in_words,
    sentences,
)


def key(permissions: list[str], grants: list[KeyGrant] | None = None, **more: Any) -> KeyInfo:
    return KeyInfo(
        key_id="K", name="k", description="", account="main", account_id="a", permissions=permissions, grants=grants,
        abilities=[], is_enabled=True, is_sealed=True, created_ms=0, **more,
    )  # fmt: skip


def test_sentences_are_those_of_the_master() -> None:
    grants = [
        KeyGrant(bucket="photos", prefix="2026/", permissions=["read"]),
        KeyGrant(bucket="t-*", permissions=["list"]),
    ]
    told = sentences(["read", "list"], grants)
    assert told[:2] == ["can read photos/2026/*", "can list buckets named t-*"]
    assert "cannot manage buckets" in told


def test_presets_and_words() -> None:
    for preset, flags in PRESET_FLAGS.items():
        assert preset_of(flags) == preset
    assert in_words(FLAGS) == "everything"
    assert in_words(["read", "manage_buckets"]) == "read, manage buckets"
    assert in_words([]) == "nothing"


READS = [KeyGrant(bucket="a", permissions=["read"])]


@pytest.mark.parametrize(
    ("mine", "theirs", "is_ours"),
    [
        (key([*FLAGS]), key([*FLAGS]), True),
        (key(["read"]), key(["read", "list"]), False),
        (key(["read"]), key(["read"], READS), True),
        (key(["read"], READS), key(["read"]), False),
        (
            key(["read"], READS),
            key(["read"], [KeyGrant(bucket="a", prefix="x/", permissions=["read"])]),
            True,
        ),
        (key(["read"], READS), key(["read"], READS, hidden_grant_count=1), False),
        (key(["read"], expires_ms=5), key(["read"]), False),
        (
            key(["read"], limits=KeyLimits(open_uploads=3)),
            key(["read"], limits=KeyLimits(open_uploads=2)),
            True,
        ),
        (key([*FLAGS]), key(["read", "fly"]), False),
    ],
)
def test_nobody_changes_a_key_that_may_do_more(mine: KeyInfo, theirs: KeyInfo, is_ours: bool) -> None:
    assert is_within(mine, theirs) is is_ours


ASK = " Whoever manages the keys of this store can allow it."


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("this key lacks the permission manage_keys", "This key may not manage API keys and accounts." + ASK),
        (
            "this key lacks every one of see_cluster, see_events",
            "This key may not see disks, volumes and figures of the store or follow the events of the store."
            + ASK,
        ),
        ("this key has no delete right on bucket 'p'", "This key may not delete objects (bucket p)." + ASK),
        (
            "this key has no read right on bucket 'p' for 'a\nb'",
            "This key may not read objects (bucket p, 'a\nb')." + ASK,
        ),
        ("this key lacks the permission fly", "this key lacks the permission fly"),
        ("this key was denied", "this key was denied"),
        ("", ""),
    ],
)
def test_a_refusal_is_told_without_names_of_permissions(message: str, words: str) -> None:
    assert refusal_in_words(message) == words


@pytest.mark.parametrize("flag", FLAGS)
def test_no_refusal_of_the_master_shows_the_name_of_a_permission(flag: str) -> None:
    with pytest.raises(PermissionDenied) as lacked:
        Rights(Permission(0), None).require(Permission[flag.upper()])
    message = lacked.value.message
    assert refusal_in_words(message).startswith("This key may not ")
    assert "_" not in refusal_in_words(message)
