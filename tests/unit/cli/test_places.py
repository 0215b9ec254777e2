from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warehouse.cli.copying.places import (
    FolderTree,
    Remote,
    StandardStream,
    key_of_path,
    parse_bucket,
    parse_object,
    parse_place,
    parse_remote,
    segments_of,
)
from warehouse.cli.usage import UsageError
from warehouse.errors import BadKey, BadRequest


def test_places_are_told_apart() -> None:
    assert parse_place("-") == StandardStream()
    assert parse_place("./-") == Path("./-")
    assert parse_place("a/b") == Path("a/b")
    assert parse_place("wh://b") == Remote("b", "")
    assert parse_place("wh://b/") == Remote("b", "")
    assert parse_place("wh://b/a/b c%20?x#y") == Remote("b", "a/b c%20?x#y")
    assert parse_remote("wh://b//a/") == Remote("b", "/a/")
    for word in ("", "--option", "wh://", "wh:///key"):
        with pytest.raises(UsageError):
            parse_place(word)


def test_buckets_and_objects_are_told_apart() -> None:
    assert parse_bucket("b") == parse_bucket("wh://b") == parse_bucket("wh://b/") == "b"
    assert parse_object("wh://b/k") == Remote("b", "k")
    for word in ("wh://b/k", "b/k", ""):
        with pytest.raises(UsageError):
            parse_bucket(word)
    for word in ("wh://b", "wh://b/", "k"):
        with pytest.raises(UsageError):
            parse_object(word)


def test_a_place_has_a_folder_and_a_name() -> None:
    assert [Remote("b", key).folder for key in ("", "a", "a/")] == ["", "a/", "a/"]
    assert [Remote("b", key).name for key in ("", "a", "a/b", "a/")] == ["", "a", "b", ""]
    assert str(Remote("b", "a").inside("c/d")) == "wh://b/a/c/d"
    assert str(Remote("b", "").inside("c")) == "wh://b/c"
    assert str(Remote("b", "")) == "wh://b"


SEGMENTS = st.lists(
    st.sampled_from(["", ".", "..", "a", "b.c", "\0", "...", " ", "é", "~", "\\", "con"]), min_size=1
)


@given(SEGMENTS)
@example(["", "etc", "passwd"])
def test_a_key_stays_below_its_folder_or_is_refused(parts: list[str]) -> None:
    key = "/".join(parts)
    try:
        segments = segments_of(key)
    except BadKey:
        assert any(part in ("", ".", "..") or "\0" in part for part in parts)
    else:
        path = Path("/root/of/all").joinpath(*segments)
        assert os.path.normpath(path) == str(path)
        assert path.is_relative_to("/root/of/all")
        assert path != Path("/root/of/all")


def test_folders_are_made_on_the_way(tmp_path: Path) -> None:
    tree = FolderTree(tmp_path / "new" / "root")
    assert tree.path_for("a/b/c.txt") == tmp_path / "new" / "root" / "a" / "b" / "c.txt"
    assert (tmp_path / "new" / "root" / "a" / "b").is_dir()
    assert not (tmp_path / "new" / "root" / "a" / "b" / "c.txt").exists()


def test_no_link_below_the_root_is_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "file").write_bytes(b"")
    tree = FolderTree(root)
    with pytest.raises(BadRequest, match="symbolic link"):
        tree.path_for("link/a/b")
    with pytest.raises(BadRequest, match="is a file"):
        tree.path_for("file/a")
    assert [*outside.iterdir()] == []


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert FolderTree(tmp_path / "root").path_for("a/b").parent.resolve() == tmp_path / "real" / "a"


def test_a_path_becomes_a_key() -> None:
    assert key_of_path(Path("/r/a/b c"), Path("/r")) == "a/b c"
    with pytest.raises(BadKey, match="UTF-8"):
        key_of_path(Path(os.fsdecode(b"/r/\xff")), Path("/r"))
