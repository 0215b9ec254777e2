"""The audit log in words: every action and every field that the store writes has words of its own."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse import AuditEntry
from warehouse.conf import audit_lines
from warehouse.webui.audit_words import ACTIONS, DETAILS, AuditLine, words_of

NAMES = {"WHAAAA": "photo site"}


def line(action: str, **fields: Any) -> AuditLine:
    own = {name: fields.pop(name) for name in ("result", "target", "key", "user") if name in fields}
    entry = AuditEntry(time="2026-11-30T10:00:00.000Z", action=action, details=fields, **own)
    return AuditLine.of(entry, NAMES)


def test_every_action_of_the_log_has_words_and_there_are_no_others() -> None:
    assert ACTIONS.keys() == audit_lines.ACTIONS.keys()
    for action in ACTIONS:
        assert words_of(action).lower() != action.replace("_", " "), action
        assert "_" not in words_of(action) + ACTIONS[action].did
    assert len({words_of(action) for action in ACTIONS}) == len(ACTIONS)


def test_every_field_of_the_log_has_words_and_there_are_no_others() -> None:
    fields = {field for own in audit_lines.ACTIONS.values() for field in own}
    assert DETAILS.keys() == fields | {"left_out"}


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("life_s", 3600, "works for 1 h"),
        ("quota_bytes", 512 << 20, "most bytes: 512.0 MiB"),
        ("quota_objects", 12_000, "most objects: 12,000"),
        ("is_forced", True, "by force"),
        ("is_forced", False, ""),
        ("is_reusable", False, "for one machine"),
        ("is_enabled", False, "disabled"),
        ("keys", ["a_b.txt", "c"], "names: a_b.txt, c"),
        ("permissions", ["read", "manage_keys"], "may read, manage keys"),
        ("permissions", [], "may nothing"),
        ("grants", ["logs/a:b/*:read,list", "photos:write"], "in logs/a:b/* (read, list), photos (write)"),
        ("grants", "every bucket", "in every bucket"),
        ("kind", "list_objects", "asked to list objects"),
        ("of", "login", "what: sign in"),
        ("since", "2026-11-30T10:00:00.123Z", "since 2026-11-30 10:00:00 UTC"),
        ("work", "verify", "verification"),
        ("work", "polish", "polish"),
        ("life_s", "a text where a number was", "works for a text where a number was"),
    ],
)
def test_values_are_told_as_people_write_them(field: str, value: object, text: str) -> None:
    assert DETAILS[field].text(value) == text


def test_what_was_refused_was_tried() -> None:
    assert line("bucket_deleted", target="wh://photos").words == "deleted the bucket"
    refused = line("bucket_deleted", target="wh://photos", result="bucket_not_empty")
    assert (refused.words, refused.result) == ("tried to delete a bucket:", "bucket not empty")
    assert line("login", result="bad_credentials").words == "tried to sign in"
    assert line("request_refused", result="permission_denied", kind="list_keys").words == "was refused"


def test_how_many_of_the_deleted_existed_is_told_where_it_is_not_all() -> None:
    assert line("objects_deleted", count=1, existed=1, keys=["a"]).details == "number: 1; names: a"
    some = line("objects_deleted", count=2, existed=0, keys=["a", "b"]).details
    assert some == "number: 2; of which existed 0; names: a, b"


def test_keys_and_disks_are_called_by_their_names() -> None:
    changed = line("key_changed", key="WHAAAA", target="WHAAAA", changed=["name"])
    assert (changed.who, changed.target, changed.path) == ("photo site", "photo site", "/keys/id/WHAAAA")
    gone = line("key_deleted", target="WHBBBB")
    assert (gone.target, gone.path) == ("WHBBBB", "")
    disk = line("disk_registered", target="0" * 32, disk="disk-1", url="http://127.0.0.1:7410")
    assert (disk.target, disk.details) == ("disk-1", "at http://127.0.0.1:7410")


def test_an_action_of_a_later_release_is_shown_as_it_is_called() -> None:
    found = line("bucket_polished", target="wh://photos", wax_ml=3)
    assert (found.words, found.details, found.path) == ("bucket polished", "wax ml 3", "/buckets/photos")
