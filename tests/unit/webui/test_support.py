"""The support bundle: what nobody has called harmless is left out."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

import warehouse
from warehouse.conf.setting_types import File, SettingType, Text
from warehouse.conf.settings import SettingDoc, Settings, describe
from warehouse.webui import support
from warehouse.webui.support import LEFT_OUT, settings_text, shown


class Console(msgspec.Struct, frozen=True):
    """A section of a later release."""

    session_hours: int = 12
    smtp: str = "mail://somebody:secret-word@mail.example"
    smtp_file: str = "/etc/secret-word"


class Later(msgspec.Struct, frozen=True):
    console: Console = Console()


def test_every_setting_of_today_is_shown() -> None:
    text = settings_text(Settings())
    assert "left out" not in text
    found = tomllib.loads(text)
    assert found["console"]["session_hours"] == 12
    assert found["cluster"]["host"] == "127.0.0.1"


@pytest.mark.parametrize(("name", "type_"), [("smtp", Text(".*", "any")), ("smtp_file", File())])
def test_a_setting_that_is_added_later_is_left_out_until_somebody_allows_it(
    monkeypatch: pytest.MonkeyPatch, name: str, type_: SettingType
) -> None:
    known = [doc for doc in describe() if doc.name == "console.session_hours"]
    docs = [*known, SettingDoc("console", name, type_, "", "something new")]
    monkeypatch.setattr(support, "describe", lambda: docs)
    text = settings_text(Later())  # type: ignore[arg-type]
    assert "session_hours = 12" in text
    assert f"# {name} is left out" in text
    assert "secret-word" not in text


def test_texts_of_events_are_shown_by_name_and_numbers_always() -> None:
    event = warehouse.Event(
        sequence=1,
        at_ms=2,
        name="something_new",
        fields={
            "disk": "disk-1",
            "count": 3,
            "bucket": "private",
            "invented_later": "private",
            "is_kept": True,
        },
    )
    assert shown(event) == {
        "sequence": 1,
        "at_ms": 2,
        "name": "something_new",
        "fields": {
            "disk": "disk-1",
            "count": 3,
            "bucket": LEFT_OUT,
            "invented_later": LEFT_OUT,
            "is_kept": True,
        },
    }


class ByName(msgspec.Struct, frozen=True):
    counts: dict[str, int]
    raw: bytes
    owners: list[str]


def test_names_in_new_kinds_of_fields_are_left_out() -> None:
    found = shown(ByName({"private": 1}, b"private", ["private"]))
    assert found == {"counts": LEFT_OUT, "raw": LEFT_OUT, "owners": [LEFT_OUT]}
