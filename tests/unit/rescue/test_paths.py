"""rescue/paths.py: keys as paths."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.rescue.paths import SEGMENT_SIZE_MAX, bucket_folder, damaged_path, object_path

KEYS = {
    "photos/2026/a.jpg": "photos/2026/a.jpg",
    "Ä ö\\ü": "Ä ö\\ü",
    ".": "%2E",
    "..": "%2E%2E",
    "a/../b": "a/%2E%2E/b",
    "...": "...",
    ".hidden": ".hidden",
    "/etc/passwd": "%2Fetc/passwd",
    "a//b": "a%2F/b",
    "a/": "a%2F",
    "/": "%2F",
    "//": "%2F%2F",
    "a\0b": "a%00b",
    "line\nbreak": "line%0Abreak",
    "100%": "100%25",
    "a%/b": "a%25/b",
    "%2E": "%252E",
}


@pytest.mark.parametrize(("key", "path"), KEYS.items())
def test_a_key_becomes_this_path(key: str, path: str) -> None:
    assert object_path(key) == path
    assert unquote(path) == key


def test_a_long_segment_is_cut_into_folders_between_characters() -> None:
    key = "x" + "ä" * 500
    path = object_path(key)
    assert all(len(part.encode()) <= SEGMENT_SIZE_MAX for part in path.split("/"))
    assert path.replace("%/", "") == key
    assert path != object_path("x" + "ä" * 99 + "/" + "ä" * 401)


def test_a_key_that_is_a_folder_too_gets_a_name_that_no_key_has() -> None:
    assert object_path("a", is_folder=True) == "a%file"
    assert object_path("a%file") == "a%25file"


def test_what_is_left_of_a_damaged_object_gets_a_name_that_no_key_has() -> None:
    assert damaged_path("a.jpg", is_taken=False) == "a.jpg.damaged"
    assert damaged_path("a.jpg", is_taken=True) == "a.jpg%.damaged"


def test_a_bucket_called_like_the_listing_does_not_collide_with_it() -> None:
    assert bucket_folder("export.jsonl") == "export%2Ejsonl"
    assert bucket_folder("photos") == "photos"


TRICKY = st.text(st.sampled_from("ab/.%25Ef2\0\n"), min_size=1, max_size=12) | st.text(min_size=1, max_size=8)


@given(first=TRICKY, second=TRICKY, is_folder=st.booleans())
def test_different_keys_never_share_a_path(first: str, second: str, is_folder: bool) -> None:
    path = object_path(first, is_folder=is_folder)
    assert all(part not in ("", ".", "..") and "\0" not in part for part in path.split("/"))
    if first != second:
        assert path != object_path(second)
        assert path != object_path(second, is_folder=True)


@given(key=TRICKY)
def test_unquoting_a_path_gives_its_key(key: str) -> None:
    assert unquote(object_path(key)) == key
