"""Patterns: wildcards in places of the store, and the rules of --exclude and --include.  Pure.

In a place, `*` matches any letters except a slash, `**` also slashes, `?` one letter except a slash:

    wh://photos/2026/*.jpg     wh://photos/**/cover.jpg     wh://logs/2026-*

Any text may be a key, also one with a `*`: if an object of exactly that name exists, the place means it.
`[` and `]` are ordinary letters, because keys contain them.

A rule of --exclude or --include is matched against names below the copied folder:

    *.tmp       without a slash: any file or folder of that name, at any depth, with its contents
    /build      with a slash that is not at its end: the whole name below the folder, with its contents
    cache/      with a slash at its end: only folders
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

_WILD = re.compile(r"\*+|\?")
_RULE = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]")


@dataclass(frozen=True)
class Glob:
    """A key with wildcards."""

    text: str
    fixed: str = field(init=False)  # the part before the first wildcard
    _regex: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first = _WILD.search(self.text)
        object.__setattr__(self, "fixed", self.text[: first.start()] if first is not None else self.text)
        object.__setattr__(self, "_regex", re.compile(_translate(self.text, _WILD), re.DOTALL))

    @property
    def folder(self) -> str:
        """The folder with the first wildcard; copies keep their names from this folder on."""
        return self.fixed[: self.fixed.rfind("/") + 1]

    @property
    def means_all(self) -> bool:
        """Only wildcards: it matches everything in a bucket."""
        return not self.text.strip("*?/")

    def matches(self, key: str) -> bool:
        return self._regex.fullmatch(key) is not None

    def folder_of(self, key: str) -> str | None:
        """The outermost matching folder that contains this key, with its slash."""
        end = key.find("/")
        while end >= 0:
            if self.matches(key[:end]) or self.matches(key[: end + 1]):
                return key[: end + 1]
            end = key.find("/", end + 1)
        return None


def glob_of(key: str) -> Glob | None:
    """The glob of a key with wildcards; None: it has no wildcard."""
    return Glob(key) if _WILD.search(key) else None


@dataclass(frozen=True)
class Rules:
    """The rules of --exclude and --include."""

    exclude: Sequence[str] = ()
    include: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.exclude or self.include)

    def leaves_out(self, name: str) -> bool:
        """Whether a file is left out: excluded and not included; without any --exclude: not included."""
        if not self:
            return False
        if any(_matches(rule, name) for rule in self.include):
            return False
        return not self.exclude or any(_matches(rule, name) for rule in self.exclude)


EVERYTHING = Rules()


def _matches(rule: str, name: str) -> bool:
    """Whether a rule names this file, or a folder that contains it."""
    bare = rule.rstrip("/")
    is_folder_only = bare != rule
    segments = name.split("/")
    above = segments[:-1] if is_folder_only else segments
    regex = _rule_regex(bare.removeprefix("/"))
    if "/" not in bare:
        return any(regex.fullmatch(segment) for segment in above)
    return any(regex.fullmatch("/".join(segments[:count])) for count in range(1, len(above) + 1))


@lru_cache(maxsize=256)
def _rule_regex(rule: str) -> re.Pattern[str]:
    return re.compile(_translate(rule, _RULE), re.DOTALL)


def _translate(text: str, wild: re.Pattern[str]) -> str:
    parts, end = [], 0
    for found in wild.finditer(text):
        parts.append(re.escape(text[end : found.start()]))
        parts.append(_meaning(found[0]))
        end = found.end()
    return "".join([*parts, re.escape(text[end:])])


def _meaning(word: str) -> str:
    if word == "?":
        return "[^/]"
    if word.startswith("*"):
        return "[^/]*" if word == "*" else ".*"
    inside = word[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    if not inside.strip("!"):
        return re.escape(word)
    inside = f"^{inside[1:]}" if inside.startswith("!") else inside.replace("^", "\\^", 1)
    try:
        re.compile(f"[{inside}]")
    except re.error:  # a range with its ends in the wrong order
        return re.escape(word)
    return f"[{inside}]"
