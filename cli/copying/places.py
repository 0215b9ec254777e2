"""Places: the sources and targets of the command line, and where a download may write.

    wh://bucket/key   an object; the key is used as written, without decoding
    wh://bucket       a bucket
    -                 standard input or output
    anything else     a local path

Pure, except for `FolderTree`, which makes folders and removes leftovers from them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from warehouse.cli.usage import UnknownOption, UsageError
from warehouse.client.leftovers import remove_leftovers
from warehouse.errors import BadKey, BadRequest

SCHEME = "wh://"
# Names of the standard streams as a source and as a target.
INPUT_WORDS = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})
OUTPUT_WORDS = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})


@dataclass(frozen=True)
class Remote:
    bucket: str
    key: str  # "" for the bucket itself

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}" if self.key else f"{SCHEME}{self.bucket}"

    @property
    def folder(self) -> str:
        """The prefix of all keys in this place: empty for a bucket, else with a slash at its end."""
        return self.key if not self.key or self.key.endswith("/") else self.key + "/"

    @property
    def name(self) -> str:
        """The last segment of the key."""
        return self.key.rpartition("/")[2]

    def inside(self, relative_key: str) -> Remote:
        return Remote(self.bucket, self.folder + relative_key)


@dataclass(frozen=True)
class StandardStream:
    def __str__(self) -> str:
        return "-"


Place = Remote | StandardStream | Path


def parse_place(text: str) -> Place:
    if text == "-":
        return StandardStream()
    if text.startswith(SCHEME):
        return parse_remote(text)
    if not text:
        raise UsageError("a path must not be empty")
    if text.startswith(("s3://", "gs://", "WH://", "wh:/")):
        parse_remote(text)
    if text.startswith("-"):
        raise UnknownOption(text, f"; a path that begins with '-' is written ./{text}")
    return Path(text)


def parse_remote(text: str) -> Remote:
    if not text.startswith(SCHEME):
        if text.startswith("-"):
            raise UnknownOption(text)
        meant = re.sub(r"^([^:/]*://|wh:)", "", text, flags=re.IGNORECASE).lstrip("./")
        hint = f"; did you mean {SCHEME}{meant}?" if meant else ""
        raise UsageError(f"expected {SCHEME}bucket/key, not {text!r}{hint}")
    bucket, _, key = text[len(SCHEME) :].partition("/")
    if not bucket:
        meant = key.lstrip("/")
        hint = f"; did you mean {SCHEME}{meant}?" if meant else ""
        raise UsageError(f"{text!r} names no bucket: expected {SCHEME}bucket/key{hint}")
    return Remote(bucket, key)


def parse_object(text: str) -> Remote:
    place = parse_remote(text)
    if not place.key:
        raise UsageError(f"{text!r} names a bucket; name an object: {SCHEME}{place.bucket}/KEY")
    return place


def parse_bucket(text: str) -> str:
    """The name of a bucket, with or without wh://."""
    place = parse_remote(text if text.startswith(SCHEME) else SCHEME + text)
    if place.key:
        raise UsageError(f"{text!r} names an object; name a bucket: {SCHEME}{place.bucket}")
    return place.bucket


# --- local names ----------------------------------------------------------------------------------


def segments_of(relative_key: str) -> list[str]:
    """The path of a key below a target folder.

    Raises:
        BadKey: the key would leave the folder, or is not a path: "..", "." or empty segments, NUL.
    """
    segments = relative_key.split("/")
    for segment in segments:
        if segment in ("", ".", ".."):
            raise BadKey(f"the key's path has a segment {segment!r}, so it cannot become a file in a folder")
        if "\0" in segment:
            raise BadKey("the key contains a NUL character, which no file name can have")
    return segments


class FolderTree:
    """A target folder, and the folders that a recursive download makes in it.

    No symbolic link below the folder is followed, because it could lead anywhere.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[Path] = set()

    def path_for(self, relative_key: str) -> Path:
        """The file for a key; makes the folders on its path.

        Raises:
            BadKey: see `segments_of`.
            BadRequest: a symbolic link or a file is in the way.
        """
        return self._walk(relative_key, self._make)

    def look_at(self, relative_key: str) -> Path:
        """The same, without making folders."""
        return self._walk(relative_key, self._require_room)

    def _walk(self, relative_key: str, pass_through: Callable[[Path], None]) -> Path:
        *folders, name = segments_of(relative_key)
        path = self.root
        pass_through(path)
        for folder in folders:
            path = path / folder
            pass_through(path)
        return path / name

    def _require_room(self, path: Path) -> None:
        """Raises BadRequest when there is no folder and none can be made."""
        if path != self.root and path.is_symlink():
            raise BadRequest(f"{path} is a symbolic link: a download writes only inside its target folder")
        if not path.is_dir() and os.path.lexists(path):
            raise BadRequest(f"{path} is a file; a folder is needed there")

    def _make(self, path: Path) -> None:
        if path in self._made:
            return
        self._require_room(path)
        is_root = path == self.root
        try:
            path.mkdir(parents=is_root, exist_ok=True)
        except FileExistsError:
            raise BadRequest(f"{path} is a file; a folder is needed there") from None
        remove_leftovers(path)
        self._made.add(path)


def require_file_word(path: Path, word: str) -> None:
    """Raises UsageError when a word ends like the name of a folder but names a file."""
    if word.endswith(("/", "/.")) and path.exists() and not path.is_dir():
        raise UsageError(f"{word} ends like the name of a folder, but is a file")


def key_of_path(path: Path, root: Path) -> str:
    """The relative key of a file below an uploaded folder.

    Raises:
        BadKey: the file's name is not UTF-8.
    """
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise BadKey("the file's name is not UTF-8, so it cannot become a key") from None
    return relative
