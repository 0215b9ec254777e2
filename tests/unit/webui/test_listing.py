"""What a list of objects shows, as words of a URL."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from warehouse.errors import BadRequest
from warehouse.webui.listing import View
from warehouse.webui.names import last_part, visible


def words(path: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}


def test_a_url_says_only_what_is_unusual() -> None:
    assert View("photos").path() == "/buckets/photos"
    assert View("photos", "a b/&", "#").path("rows") == "/buckets/photos/rows?prefix=a+b%2F%26&find=%23"


@pytest.mark.parametrize(
    "prefix", ["a/", "../", "//", "100%25 #1?/", "new\r\nline/", "emoji 🐈/", "a&b=c/", "+/"]
)
def test_every_view_survives_its_url(prefix: str) -> None:
    view = View("photos", prefix, "x&y", "begins", "size", True, "c")
    assert View.read("photos", words(view.path())) == view
    assert View.read("photos", words(View("photos", prefix).path())) == View("photos", prefix)


def test_a_click_on_the_same_head_turns_the_order_round() -> None:
    by_time = View("photos", sort="time", is_descending=True, cursor="c")
    assert words(by_time.sorted_by("time")) == {"sort": "time"}
    assert words(by_time.sorted_by("size")) == {"sort": "size", "desc": "1"}
    assert words(by_time.sorted_by("name")) == {}


@pytest.mark.parametrize(
    "query", [{"sort": "colour"}, {"how": "x"}, {"prefix": "a" * 5000}, {"cursor": "a" * 20000}]
)
def test_a_word_that_is_none_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        View.read("photos", query)


def test_who_looks_below_is_shown_no_folders() -> None:
    assert View("photos", "a/", "cat").question()["delimiter"] is None
    assert View("photos", "a/", "cat", "here").question()["delimiter"] == "/"
    assert View("photos", "a/", "cat", "begins").question()["prefix"] == "a/cat"
    assert View("photos", "a/").question()["delimiter"] == "/"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a/b/c.txt", "c.txt"),
        ("c.txt", "c.txt"),
        ("a/b/", "b/"),
        ("/", "/"),
        ("//", "/"),
        ("../up", "up"),
        ("a//", "/"),
    ],
)
def test_the_last_part_is_what_follows_the_slash_before(key: str, shown: str) -> None:
    assert last_part(key) == shown


def test_control_characters_become_pictures() -> None:
    assert visible("a\0b\rc\nd\x7f") == "a␀b␍c\nd␡"
