"""File names: under which name a browser saves what it downloads.  Pure."""

from __future__ import annotations

from urllib.parse import quote

FILE_NAME_MAX = 255


def file_name_of(key: str) -> str:
    """Under which name a browser saves an object."""
    name = key.rstrip("/").rsplit("/", 1)[-1]
    shown = "".join(letter if letter.isprintable() else "_" for letter in name)
    return shown[-FILE_NAME_MAX:] or "object"


def attachment(name: str) -> str:
    """The header Content-Disposition that saves under this name, in all browsers: RFC 6266."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
