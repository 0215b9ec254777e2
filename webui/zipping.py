"""Zipping: a ZIP archive as a stream, in bounded memory, with names that are safe to unpack.

The directory of an archive is at its end, so all names are kept until then.  They are bounded by number and
by bytes: a key may have five hundred folders in it, each of which is a text.

The archive is written by Python's own `zipfile`, into a buffer that is emptied after each piece.  Archives
and entries may exceed 4 GiB (ZIP64).  Texts are deflated; other things, mostly compressed already, are
stored.
"""

from __future__ import annotations

import re
import sys
import zipfile
from datetime import UTC, datetime
from typing import IO, Any

from warehouse.errors import BadRequest

OBJECTS_MAX = 500_000  # in one archive
NAMES_MAX = 64 * 1024 * 1024  # bytes of the texts that tell whether a name is taken
DIRECTORY_MAX = 64 * 1024 * 1024  # bytes of the directory, which is written in the end
DIRECTORY_ENTRY = 46 + 28  # bytes of an entry there without its name: its fields, and those of ZIP64 at most
DEFLATED_MIN = 256  # bytes; shorter texts do not get shorter
LEVEL = 6
_TEXTUAL = re.compile(
    r"text/|application/(?:json|xml|javascript|x-ndjson|sql|yaml|toml|x-sh)|image/svg|.*\+(?:json|xml)$"
).match
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_DRIVE = re.compile(r"[A-Za-z]:")


class SafeNames:
    """Names of entries: relative, without `..`, each once; a key that is harmless keeps its text.

    Args:
        base: left out at the beginning of keys that begin with it, such as the folder that was open.
    """

    def __init__(self, base: str = "") -> None:
        self._base = base
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._numbers: dict[str, int] = {}  # of names that were wanted more than once: the last one given
        self._kept_size = 0  # bytes in the texts of files and folders
        self._directory_size = 0
        self._count = 0

    def name(self, key: str, *, is_empty: bool = False) -> str:
        """The name of the entry of an object.

        Args:
            is_empty: it has no bytes; its key may end with a slash, which makes it a folder.
        Raises:
            BadRequest: an archive cannot have so many names, or such long ones.
        """
        found = self._found(key, is_empty=is_empty)
        self._count += 1
        self._directory_size += DIRECTORY_ENTRY + len(found.encode())
        if self._count > OBJECTS_MAX:
            raise BadRequest(f"an archive has at most {OBJECTS_MAX:,} objects: choose fewer")
        if self._kept_size > NAMES_MAX or self._directory_size > DIRECTORY_MAX:
            raise BadRequest("the names are too long together for one archive: choose fewer objects")
        return found

    def _found(self, key: str, *, is_empty: bool) -> str:
        rest = key[len(self._base) :] if key.startswith(self._base) and key != self._base else key
        parts = [_safe_part(part) for part in rest.split("/") if part not in ("", ".")]
        parts = parts or ["_"]
        if _DRIVE.match(parts[0]):
            parts[0] = parts[0].replace(":", "_", 1)
        if is_empty and rest.endswith("/"):
            return self._folder(parts)
        return self._unique(parts)

    def _folder(self, parts: list[str]) -> str:
        text = "/".join(parts)
        if text.casefold() in self._folders or text.casefold() in self._files or self._is_below_a_file(parts):
            return self._unique([*parts, ".folder"])  # it is there already, or cannot be
        self._note_folders([*parts, ""])
        return text + "/"

    def _unique(self, parts: list[str]) -> str:
        is_below = self._is_below_a_file(parts)
        asked = parts[0] + "/" if is_below else "/".join(parts)
        number = self._numbers.get(asked, 1)  # lower ones are taken: many that meet are no reason to count
        while True:
            wanted = _with_number(parts, number, is_below=is_below)
            text = "/".join(wanted)
            folded = text.casefold()
            is_taken = folded in self._files or folded in self._folders or self._is_below_a_file(wanted)
            if not is_taken:
                self._keep(self._files, folded)
                self._note_folders(wanted)
                if number > 1:
                    self._numbers[asked] = number
                return text
            number += 1

    def _is_below_a_file(self, parts: list[str]) -> bool:
        return any("/".join(parts[:end]).casefold() in self._files for end in range(1, len(parts)))

    def _note_folders(self, parts: list[str]) -> None:
        for end in range(1, len(parts)):
            self._keep(self._folders, "/".join(parts[:end]).casefold())

    def _keep(self, texts: set[str], text: str) -> None:
        if text not in texts:
            texts.add(text)
            self._kept_size += sys.getsizeof(text)


def _safe_part(part: str) -> str:
    return "__" if part == ".." else _CONTROL.sub("_", part)


def _with_number(parts: list[str], number: int, *, is_below: bool) -> list[str]:
    """The same path with another name: of its outermost folder, or of the file itself."""
    if number == 1:
        return parts
    if is_below:
        return [f"{parts[0]} ({number})", *parts[1:]]
    return [*parts[:-1], _numbered(parts[-1], number)]


def _numbered(name: str, number: int) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem} ({number}).{ending}" if dot and stem else f"{name} ({number})"


class _Sink:
    """What `zipfile` writes to: it cannot seek, and is emptied after each step."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class ZipStream:
    """One archive; each method returns the bytes that follow.  They compute: call them in a thread."""

    def __init__(self) -> None:
        self._sink = _Sink()
        sink: Any = self._sink  # `zipfile` asks for `tell`, and does without
        self._zip = zipfile.ZipFile(sink, "w", allowZip64=True)
        self._entry: IO[bytes] | None = None

    def begin(self, name: str, size: int, created_ms: int, content_type: str | None) -> bytes:
        """Begin an entry of `size` bytes, which `write` takes."""
        info = zipfile.ZipInfo(name, _date(created_ms))
        info.file_size = size
        info.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
        is_text = size >= DEFLATED_MIN and _TEXTUAL(content_type or "") is not None
        info.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
        info._compresslevel = LEVEL  # type: ignore[attr-defined]
        self._entry = self._zip.open(info, "w")
        return self._sink.take()

    def write(self, data: bytes | memoryview) -> bytes:
        assert self._entry is not None
        self._entry.write(data)
        return self._sink.take()

    def end(self) -> bytes:
        """End the entry."""
        assert self._entry is not None
        self._entry.close()
        return self._sink.take()

    def close(self) -> bytes:
        """The directory of the archive; without it nobody takes the archive for whole."""
        self._zip.close()
        return self._sink.take()


def _date(created_ms: int) -> tuple[int, int, int, int, int, int]:
    moment = datetime.fromtimestamp(max(created_ms, 0) / 1000, UTC)
    year = min(max(moment.year, 1980), 2107)
    return year, moment.month, moment.day, moment.hour, moment.minute, moment.second
