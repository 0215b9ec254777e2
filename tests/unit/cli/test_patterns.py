"""Wildcards of places, and the rules of --exclude and --include."""

from __future__ import annotations

import pytest

from warehouse.cli.copying.patterns import Glob, Rules, glob_of


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("2026/*.jpg", ["2026/a.jpg", "2026/.jpg"], ["2026/a/b.jpg", "2026/a.jpg2", "2025/a.jpg"]),
        ("**/cover.jpg", ["a/cover.jpg", "a/b/cover.jpg"], ["cover.jpg", "a/cover.jpeg"]),
        ("a?c", ["abc", "a\nc", "aüc"], ["ac", "a/c", "abbc"]),
        ("a[1].*", ["a[1].jpg"], ["a1.jpg"]),
        ("*", ["a", "ü"], ["a/b"]),
        ("**", ["a", "a/b"], []),
        ("a.*", ["a.b"], ["axb"]),
    ],
)
def test_wildcards_match_what_they_say(pattern: str, matching: list[str], others: list[str]) -> None:
    glob = glob_of(pattern)
    assert glob is not None
    assert [key for key in matching + others if glob.matches(key)] == matching


def test_a_key_without_wildcards_is_no_pattern() -> None:
    assert glob_of("2026/a[1].jpg") is None
    assert glob_of("") is None


def test_what_is_in_front_of_the_first_wildcard_is_listed_and_its_folder_is_left_off() -> None:
    assert (Glob("a/b-*/c?").fixed, Glob("a/b-*/c?").folder) == ("a/b-", "a/")
    assert (Glob("*").fixed, Glob("*").folder) == ("", "")
    assert Glob("2026-*").folder_of("2026-01/a/b") == "2026-01/"
    assert Glob("2026-*").folder_of("2026-01") is None
    assert Glob("*/b").folder_of("a/b/c") == "a/b/"


def test_a_pattern_of_wildcards_alone_means_a_whole_bucket() -> None:
    assert [text for text in ("*", "**", "*/**", "?*", "a*", "**.jpg") if Glob(text).means_all] == [
        "*",
        "**",
        "*/**",
        "?*",
    ]


@pytest.mark.parametrize(
    ("rules", "left_out", "kept"),
    [
        (Rules(["*.tmp"]), ["a.tmp", "b/c.tmp", "d.tmp/e"], ["a.tmp2", "tmp"]),
        (Rules([".git"]), [".git", ".git/config", "a/.git/x"], [".gitignore"]),
        (Rules(["/build"]), ["build", "build/a"], ["a/build", "build2"]),
        (Rules(["cache/*.db"]), ["cache/a.db"], ["b/cache/a.db", "cache/b/a.db"]),
        (Rules(["cache/"]), ["cache/a", "b/cache/c"], ["cache"]),
        (Rules(["*.jpg"], ["cover.jpg"]), ["a.jpg"], ["cover.jpg", "b/cover.jpg", "c.png"]),
        (Rules(include=["*.jpg"]), ["a.png"], ["a.jpg", "b/c.jpg"]),
        (Rules(["[ab].txt"]), ["a.txt", "b.txt"], ["c.txt", "[ab].txt"]),
        (Rules(["[!ab].txt"]), ["c.txt"], ["a.txt"]),
        (Rules(["[z-a]x"]), ["[z-a]x"], ["bx"]),
        (Rules(["[]x"]), ["[]x"], ["x"]),
        (Rules(), [], ["anything", "a/b"]),
    ],
)
def test_rules_leave_out_what_they_say(rules: Rules, left_out: list[str], kept: list[str]) -> None:
    assert [name for name in left_out + kept if rules.leaves_out(name)] == left_out
