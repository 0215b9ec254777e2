"""Setting types: how the value of a setting is read from a file, a variable or a flag, and written.

A setting type reads a typed value of a TOML file, or the text of an environment variable, or raises
`ValueError`.  Its `allowed` describes the valid values in words, for error messages and documentation.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

from warehouse.conf.hosts import HOST_IN_WORDS, parse_host

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
}
_TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*", re.ASCII)
_WHOLE = re.compile(r"\s*-?[0-9]{1,18}\s*", re.ASCII)


class SettingType(Protocol):
    @property
    def allowed(self) -> str: ...

    def read(self, value: object) -> Any:
        """Raises ValueError."""

    def write(self, value: Any) -> str:
        """The value as written in a TOML file."""


def parse_size(value: object) -> int:
    """Bytes, from a number or from text such as "80MiB", "1.5 GB" or "4096".

    Raises:
        ValueError: neither a number nor such a text, negative, or not a whole number of bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return _not_negative(value)
    number, unit = _quantity(value)
    if unit.lower() not in _SIZE_UNITS:
        raise ValueError(f"unknown unit {unit!r}")
    size = (
        number * _SIZE_UNITS[unit.lower()] if "." in str(value) else int(number) * _SIZE_UNITS[unit.lower()]
    )
    if size != int(size):
        raise ValueError("not a whole number of bytes")
    return int(size)


def size_text(size: int) -> str:
    """The shortest exact way to write a size: 83886080 is "80MiB"."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_seconds(value: object) -> float:
    """Seconds, from a number or from text such as "90", "90s", "15m" or "250ms"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _not_negative(_finite(float(value)))
    number, unit = _quantity(value)
    if unit.lower() not in _TIME_UNITS:
        raise ValueError(f"unknown unit {unit!r}")
    return float(number) * _TIME_UNITS[unit.lower()]


def _quantity(value: object) -> tuple[Fraction, str]:
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("not a number with a unit")
    return Fraction(found[1]), found[2]


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


_Number = TypeVar("_Number", int, float)


def _not_negative(number: _Number) -> _Number:
    if number < 0:
        raise ValueError("negative")
    return number


def _within(number: _Number, at_least: _Number, at_most: _Number) -> _Number:
    if not at_least <= number <= at_most:
        raise ValueError("out of range")
    return number


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


@dataclass(frozen=True)
class Size:
    at_least: int
    at_most: int

    @property
    def allowed(self) -> str:
        span = f"{size_text(self.at_least)} to {size_text(self.at_most)}"
        return f'a size from {span}: bytes, or text such as "80MiB"'

    def read(self, value: object) -> int:
        return _within(parse_size(value), self.at_least, self.at_most)

    def write(self, value: int) -> str:
        text = size_text(value)
        return text if text.isdigit() else toml_string(text)


@dataclass(frozen=True)
class Count:
    at_least: int
    at_most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.at_least} to {self.at_most}"

    def read(self, value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("not a whole number")
        return _within(value, self.at_least, self.at_most)

    def write(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class Seconds:
    at_least: float
    at_most: float

    @property
    def allowed(self) -> str:
        span = f"{_plain(self.at_least)} to {_plain(self.at_most)} seconds"
        return f'{span}: a number, or text such as "90s" or "15m"'

    def read(self, value: object) -> float:
        return _within(parse_seconds(value), self.at_least, self.at_most)

    def write(self, value: float) -> str:
        return _plain(value)


class Choice:
    def __init__(self, *choices: str) -> None:
        self.choices = choices

    @property
    def allowed(self) -> str:
        return " or ".join(toml_string(choice) for choice in self.choices)

    def read(self, value: object) -> str:
        if value not in self.choices:
            raise ValueError("not one of the choices")
        return str(value)

    def write(self, value: str) -> str:
        return toml_string(value)


@dataclass(frozen=True)
class Text:
    """A short text that matches `pattern` as a whole; `allowed` describes the pattern in words."""

    pattern: str
    allowed: str

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError("not such a text")
        return value

    def write(self, value: str) -> str:
        return toml_string(value)


@dataclass(frozen=True)
class Host:
    allowed: str = HOST_IN_WORDS

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("not a text")
        return parse_host(value)

    def write(self, value: str) -> str:
        return toml_string(value)


@dataclass(frozen=True)
class OptionalHost:
    """A host, or an empty text: nobody has chosen one."""

    allowed: str = f"{HOST_IN_WORDS}; or an empty text"

    def read(self, value: object) -> str:
        return "" if value == "" else Host().read(value)

    def write(self, value: str) -> str:
        return toml_string(value)


@dataclass(frozen=True)
class Texts:
    """A list of texts; in an environment variable, commas separate them."""

    item: Text

    @property
    def allowed(self) -> str:
        return f"a list (in a variable, separated by commas), each {self.item.allowed}"

    def read(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise ValueError("not a list")
        return tuple(self.item.read(part) for part in value)

    def write(self, value: tuple[str, ...]) -> str:
        return "[" + ", ".join(self.item.write(part) for part in value) + "]"


@dataclass(frozen=True)
class Folder:
    allowed: str = "a path"

    def read(self, value: object) -> Path:
        if isinstance(value, Path):
            return value
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("not a path")
        return Path(value).expanduser()

    def write(self, value: Path) -> str:
        return toml_string(str(value))


@dataclass(frozen=True)
class File:
    """The path of a file, or an empty text: there is none."""

    allowed: str = "the path of a file, or an empty text"

    def read(self, value: object) -> Path | None:
        return None if value in ("", None) else Folder().read(value)

    def write(self, value: Path | None) -> str:
        return toml_string("" if value is None else str(value))


def toml_string(text: str) -> str:
    """`text` as a TOML basic string, whatever characters it contains (TOML 1.0, "String").

    Raises:
        ValueError: a lone surrogate, which no TOML file can hold.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text with a lone surrogate cannot be written as UTF-8")
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character < " " or character == "\x7f":
        return f"\\u{ord(character):04x}"
    return character
