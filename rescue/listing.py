"""Listing: export.jsonl, one line for each object of an export.

    bucket, key, path, size, content_type, metadata, created_ms, stamp
    state     "whole"
              "damaged"     what the disk still gives is at `path`, which ends with ".damaged": the bytes
                            where they belong, zeros where there are none
              "incomplete"  chunks are missing, and nothing was written: there is no `path`
    problems  what is wrong with it, as sentences

What is at its default is left out.  Of two lines with one path the later one counts.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import TracebackType

import msgspec

from rescue.console import writing


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    bucket: str
    key: str
    state: str
    path: str | None = None
    size: int = 0
    stamp: int = 0
    created_ms: int = 0
    content_type: str | None = None
    metadata: dict[str, str] = {}
    problems: list[str] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Listing:
    """The listing of an export, appended to; with what an export before has written."""

    def __init__(self, path: Path, scratch: Path) -> None:
        """Go on with the listing that is there, or begin one.

        Args:
            scratch: a folder for temporary files.
        """
        self._path = path
        self._known = sqlite3.connect(scratch / "written.sqlite3", isolation_level=None)
        self._known.execute("PRAGMA synchronous = OFF")
        self._known.execute("CREATE TABLE written (path TEXT PRIMARY KEY, stamp INTEGER) WITHOUT ROWID")
        with writing(f"cannot write {path}"):
            if path.exists():
                self._keep_what_is_true(scratch / "listing")
            self._file = path.open("ab")

    def _keep_what_is_true(self, temporary: Path) -> None:
        """Drop the lines of files that are not there, or not whole: something was interrupted."""
        folder = self._path.parent
        with self._path.open("rb") as before, temporary.open("wb") as after:
            self._known.execute("BEGIN")
            for encoded in before:
                try:
                    line = _decode(encoded)
                except msgspec.DecodeError:
                    continue  # cut off
                if line.state == "whole" and line.path and _size_of(folder / line.path) == line.size:
                    after.write(encoded)
                    self._known.execute(
                        "INSERT OR REPLACE INTO written VALUES (?, ?)", (line.path, line.stamp)
                    )
            self._known.execute("COMMIT")
        os.replace(temporary, self._path)

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._known.close()
        with writing(f"cannot write {self._path}"):
            self._file.close()

    def has_whole(self, path: str, stamp: int) -> bool:
        """Is there a whole file of this version already?"""
        found = self._known.execute("SELECT 1 FROM written WHERE path = ? AND stamp = ?", (path, stamp))
        return found.fetchone() is not None

    def add(self, line: Line) -> None:
        with writing(f"cannot write {self._path}"):
            self._file.write(_encode(line) + b"\n")

    def sync(self) -> None:
        with writing(f"cannot write {self._path}"):
            self._file.flush()
            os.fsync(self._file.fileno())


def _size_of(path: Path) -> int:
    """Bytes of a file, -1 when it is not there."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:
        return -1
