"""Audit lines: one line is one line, whatever somebody chose as a name, and says nothing that is not listed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.conf.audit_lines import (
    ACTIONS,
    COMMON,
    LINE_SIZE_MAX,
    LIST_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    encode_line,
    format_utc,
)

HOSTILE = [
    'a"b\\c',
    "line\nend\r\n",
    "\x1b[2J\x07\x00\x7f\x9b",
    "\u2028\u2029\u202e\ufeff",
    '{"action":"login"}',
    "\ud800 lone",
    "é漢😀",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_somebody_chose_stays_inside_its_line(name: str) -> None:
    line = encode_line("bucket_created", {"target": name, "key": name, "address": name})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    told = json.loads(line)
    assert told["target"] == told["key"] == name
    assert told["action"] == "bucket_created"


@given(st.text(st.characters()), st.lists(st.text(st.characters()), max_size=20))
def test_every_text_survives_or_is_cut_and_marked(text: str, keys: list[str]) -> None:
    line = encode_line("objects_deleted", {"target": text, "keys": keys})
    assert len(line) < LINE_SIZE_MAX
    told = json.loads(line)
    assert told.get("target", "") == (
        text if len(text) <= TEXT_LENGTH_MAX else text[:TEXT_LENGTH_MAX] + "..."
    )
    assert told["keys"] == keys[:LIST_LENGTH_MAX]


def test_the_longest_line_is_shorter_than_what_a_reader_takes() -> None:
    fields: dict[str, Any] = dict.fromkeys(COMMON[2:], "\U0001f600" * 5000)
    line = encode_line("objects_deleted", {**fields, "keys": ["\U0001f600" * 5000] * 50})
    assert len(line) < LINE_SIZE_MAX
    assert json.loads(line)["target"].endswith("...")


@pytest.mark.parametrize("name", ["secret", "token", "url", "password", "message", "time", "action"])
def test_a_field_that_is_not_listed_cannot_be_written(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        encode_line("login", {name: "x"})


def test_an_action_that_is_not_listed_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="made_up"):
        encode_line("made_up", {})


def test_no_listed_field_is_one_of_a_secret() -> None:
    for action, fields in ACTIONS.items():
        for name in (*COMMON, *fields):
            assert not {"secret", "token", "password", "signature"} & set(name.split("_")), (action, name)
        assert not set(COMMON) & set(fields), action


def test_what_is_not_known_is_left_out() -> None:
    told = json.loads(encode_line("login", {"key": "", "account": None, "address": "::1"}, at_s=0))
    assert told == {
        "time": "1970-01-01T00:00:00.000Z",
        "action": "login",
        "result": "ok",
        "address": "::1",
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_a_text(number: float) -> None:
    line = encode_line("url_signed", {"life_s": number})
    assert json.loads(line, parse_constant=pytest.fail)["life_s"] == str(number)


def test_times_have_one_length_and_sort_as_they_follow_each_other() -> None:
    moments = [0, 0.0011, 1, 951_782_400.5, 1_764_000_000.123, 253_402_300_799.9, 1e15]
    texts = [format_utc(at_s) for at_s in moments]
    assert {len(text) for text in texts} == {24}
    assert texts == sorted(texts)
    assert texts[3] == "2000-02-29T00:00:00.500Z"
    assert format_utc(-5) == texts[0]


def test_the_page_about_the_log_tells_every_action_and_field() -> None:
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert told >= {*ACTIONS, *COMMON}
    assert told - {*ACTIONS, *COMMON} == set(), "the page tells of what there is not"
    for row in rows:
        for action in set(re.findall(r"`(\w+)`", row[1])) & set(ACTIONS):
            assert set(ACTIONS[action]) <= set(re.findall(r"`(\w+)`", row[2])), action
