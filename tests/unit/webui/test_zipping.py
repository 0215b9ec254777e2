"""Zipping: names that are safe to unpack, and archives that `zipfile` reads."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import BadRequest
from warehouse.webui import zipping
from warehouse.webui.file_names import attachment, file_name_of
from warehouse.webui.zipping import SafeNames, ZipStream


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b c.txt", "a/b c.txt"),
        ("../../etc/passwd", "__/__/etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a//b/./c", "a/b/c"),
        ("C:\\x", "C__x"),
        ("new\nline", "new_line"),
        ("..", "__"),
        ("/", "_"),
        ("...", "..."),
    ],
)
def test_a_name_is_relative_and_stays_below(key: str, name: str) -> None:
    assert SafeNames().name(key) == name


def test_names_are_told_from_the_folder_that_was_open() -> None:
    names = SafeNames("in/")
    assert [names.name(key) for key in ("in/a", "in/sub/b", "out/c", "in/")] == ["a", "sub/b", "out/c", "in"]


def test_names_that_meet_are_numbered() -> None:
    names = SafeNames()
    keys = ["a.txt", "/a.txt", "A.txt", "b", "b/c", "d/e", "d"]
    assert [names.name(key) for key in keys] == [
        "a.txt",
        "a (2).txt",
        "A (3).txt",
        "b",
        "b (2)/c",
        "d/e",
        "d (2)",
    ]


def test_an_empty_object_that_ends_with_a_slash_is_a_folder() -> None:
    names = SafeNames()
    assert names.name("x/", is_empty=True) == "x/"
    assert names.name("x/a") == "x/a"
    assert names.name("y/") == "y"


def test_many_names_that_meet_take_no_time() -> None:
    """They were counted from one each time: ten thousand took a minute."""
    names = SafeNames()
    names.name("a")
    for number in range(2, 20_000):
        assert names.name("a") == f"a ({number})"
    assert [names.name("a/b"), names.name("a/c")] == ["a (20000)/b", "a (20000)/c"]


def test_names_are_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipping, "OBJECTS_MAX", 2)
    names = SafeNames()
    assert [names.name("a"), names.name("a")] == ["a", "a (2)"]
    with pytest.raises(BadRequest, match="at most 2 objects"):
        names.name("a")


def test_names_are_bounded_by_the_bytes_of_their_folders() -> None:
    names = SafeNames()
    with pytest.raises(BadRequest, match="too long together"):
        for number in range(1000):
            names.name(f"{number}/" + "a/" * 500)
    assert number < 300


def test_names_are_bounded_by_the_bytes_of_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipping, "DIRECTORY_MAX", 10_000)
    names, archive, written = SafeNames(), ZipStream(), 0
    with pytest.raises(BadRequest, match="too long together"):
        for number in range(1000):
            archive.begin(names.name(f"ü{number}" * 20), 0, 0, None)
            archive.end()
            written += 1
    assert 0 < len(archive.close()) <= 10_000 + 22
    assert written > 50


@given(st.lists(st.tuples(st.text("ab./\\\n:AB", min_size=1, max_size=6), st.booleans()), max_size=30))
def test_names_never_meet_nor_leave_their_folder(keys: list[tuple[str, bool]]) -> None:
    names = SafeNames()
    made = [names.name(key, is_empty=is_empty) for key, is_empty in dict(keys).items()]
    assert len({name.casefold() for name in made}) == len(made)
    files = {name.casefold() for name in made if not name.endswith("/")}
    for name in made:
        parts = name.removesuffix("/").split("/")
        assert not {"", ".", ".."} & set(parts), name
        assert all("/".join(parts[:end]).casefold() not in files for end in range(1, len(parts))), name


def test_an_archive_is_read_by_others() -> None:
    archive, written = ZipStream(), io.BytesIO()
    for name, data, kind in (
        ("a.txt", b"text " * 1000, "text/plain"),
        ("b", b"\0" * 9, None),
        ("c/", b"", None),
    ):
        written.write(archive.begin(name, len(data), 1_700_000_000_000, kind))
        for start in range(0, len(data), 700):
            written.write(archive.write(data[start : start + 700]))
        written.write(archive.end())
    written.write(archive.close())
    with zipfile.ZipFile(written) as file:
        assert file.testzip() is None
        assert file.read("a.txt") == b"text " * 1000
        infos = {info.filename: info for info in file.infolist()}
    assert infos["a.txt"].compress_size < 1000
    assert infos["b"].compress_type == zipfile.ZIP_STORED
    assert infos["c/"].is_dir()
    assert infos["a.txt"].date_time == (2023, 11, 14, 22, 13, 20)


def test_an_entry_may_be_larger_than_four_gigabytes() -> None:
    archive = ZipStream()
    head = archive.begin("large", 5 * 1024**3, 0, None)
    assert b"\x01\x00\x10\x00" in head  # the extra field of ZIP64 with two sizes
    assert head[-4 - 16 - 5 :][:5] == b"large" or b"large" in head


@pytest.mark.parametrize(
    ("key", "name"),
    [("a/b.txt", "b.txt"), ("x/", "x"), ("/", "object"), ("new\nline", "new_line"), ("ü" * 300, "ü" * 255)],
)
def test_a_file_has_a_name(key: str, name: str) -> None:
    assert file_name_of(key) == name


def test_a_header_names_the_file_for_all_browsers() -> None:
    assert attachment('a"ü.txt') == "attachment; filename=\"a__.txt\"; filename*=UTF-8''a%22%C3%BC.txt"
