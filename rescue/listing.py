"""Listing: export.jsonl, one line for each object of an export.

    bucket, key, path, size, content_type, metadata, created_ms, stamp
    state     "whole"
              "damaged"     the readable bytes are at `path`, which ends with ".damaged": each where it
                            belongs, with zeros in between.  Without a `path` there is no file: its name
                            could not be used, or it is a record that no honest store has written, in the
                            bucket "(unnamed)", with a made-up key
              "incomplete"  chunks are missing, and nothing was written: there is no `path`
    problems  what is wrong with it, as sentences
    etag, owner_id, headers, raw_metadata, tags, checksum
              what an object carries that was put over S3.  Values of headers, and metadata that is not UTF-8,
              are bytes, shown as ISO 8859-1; a checksum is the name of its algorithm, "composite" if it is
              one of the parts' checksums, and its digest in hexadecimal digits

Fields at their default are left out.  Of two lines with the same path the later one counts.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from warehouse.rescue.console import writing
from warehouse.rescue.paths import LISTING_NAME
from warehouse.rescue.staging import named_errors
from warehouse.storage.beneath import Folder
from warehouse.transport.messages.attributes import decode_attributes

LINE_SIZE_MAX: Final = 1024 * 1024  # an export writes no longer line


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
    etag: str | None = None
    owner_id: str = ""
    headers: dict[str, str] = {}
    raw_metadata: dict[str, str] = {}
    tags: list[tuple[str, str]] = []
    checksum: str | None = None
    problems: list[str] = []


def attribute_fields(encoded: bytes | None) -> dict[str, Any]:
    """The fields of a line that attributes fill."""
    attributes = decode_attributes(encoded or b"")
    checksum = attributes.checksum
    return {
        "etag": attributes.etag,
        "owner_id": attributes.owner_id,
        "headers": _shown(attributes.headers),
        "raw_metadata": _shown(attributes.raw_metadata),
        "tags": list(attributes.tags),
        "checksum": checksum
        and " ".join((checksum.algorithm, *["composite"][: checksum.is_composite], checksum.digest.hex())),
    }


def _shown(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.decode("latin-1") for name, value in values.items()}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Listing:
    """The listing of an export; it knows which files an earlier export has written."""

    def __init__(self, target: Folder, scratch: Path) -> None:
        """Continue an existing listing, or begin one.

        Args:
            target: the folder of the export.
            scratch: a folder in it, for temporary files.
        """
        self._target = target
        self._scratch = scratch
        with named_errors(scratch):
            self._known = sqlite3.connect(scratch / "written.sqlite3", isolation_level=None)
            self._known.execute("PRAGMA synchronous = OFF")
            self._known.execute("CREATE TABLE written (path TEXT PRIMARY KEY, stamp INTEGER) WITHOUT ROWID")
        with self._writing():
            if target.stat(LISTING_NAME) is not None:
                self._keep_what_is_true()
            self._file = os.fdopen(target.open_or_make(LISTING_NAME, 0o666), "r+b")
            self._file.seek(0, os.SEEK_END)

    def _keep_what_is_true(self) -> None:
        """Drop the lines of files that are missing or not whole: an export was interrupted."""
        temporary = f"{self._scratch.name}/listing"
        before = os.fdopen(self._target.open(LISTING_NAME), "rb")
        after = os.fdopen(self._target.make(temporary, 0o666), "wb")
        with before, after, named_errors(self._scratch):
            self._known.execute("BEGIN")
            while encoded := before.readline(LINE_SIZE_MAX):
                try:
                    line = _decode(encoded)
                except (msgspec.DecodeError, RecursionError):
                    continue  # the line was cut off
                if line.state == "whole" and line.path and self._size_of(line.path) == line.size:
                    after.write(encoded)
                    self._known.execute(
                        "INSERT OR REPLACE INTO written VALUES (?, ?)", (line.path, line.stamp)
                    )
            self._known.execute("COMMIT")
        fd = self._target.fd
        with self._target.parent(temporary) as (scratch, name):
            os.replace(name, LISTING_NAME, src_dir_fd=scratch, dst_dir_fd=fd)

    def _size_of(self, path: str) -> int:
        """Bytes of a file; -1: there is no file."""
        try:
            found = self._target.stat(path)
        except OSError:
            return -1
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else -1

    def _writing(self) -> AbstractContextManager[None]:
        return writing(f"cannot write {LISTING_NAME}")

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._known.close()
        with self._writing():
            self._file.close()

    def has_whole(self, path: str, stamp: int) -> bool:
        """Is there a whole file of this version already?"""
        with named_errors(self._scratch):
            found = self._known.execute("SELECT 1 FROM written WHERE path = ? AND stamp = ?", (path, stamp))
            return found.fetchone() is not None

    def add(self, line: Line) -> None:
        with self._writing():
            self._file.write(_encode(line) + b"\n")

    def sync(self) -> None:
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
