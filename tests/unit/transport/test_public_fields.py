"""The value types that programs hold are wire messages: their fields are a promise, too.

`public_fields_0_1.txt` has one line for each field and property that a program of 0.1 may read.  A change of the
protocol may add to it; whatever it has stays, with its name, its type and its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

import warehouse

FROZEN = (Path(__file__).parent / "public_fields_0_1.txt").read_text().splitlines()
ROOTS = [
    value
    for name in warehouse.PUBLIC
    if isinstance(value := getattr(warehouse, name), type) and issubclass(value, msgspec.Struct)
    if value.__module__.startswith("warehouse.transport.messages.")
]


def structs_in(hint: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for part in get_args(hint):
        yield from structs_in(part)


def with_what_hangs_on_them(roots: list[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    found: list[type[msgspec.Struct]] = []
    waiting = list(roots)
    while waiting:
        kind = waiting.pop(0)
        if kind not in found:
            found.append(kind)
            waiting += [struct for hint in get_type_hints(kind).values() for struct in structs_in(hint)]
    return sorted(found, key=lambda kind: kind.__name__)


def text_of(hint: Any) -> str:
    """A type as one would write it, the same in every version of Python."""
    origin, parts = get_origin(hint), [text_of(part) for part in get_args(hint)]
    if origin in (Union, UnionType):
        return " | ".join(parts)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(parts)}]"
    return "None" if hint is NoneType else str(hint.__name__)


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return f" = {field.default!r}"
    return "" if field.default_factory is msgspec.NODEFAULT else f" = {field.default_factory()!r}"


def lines_of(kind: type[msgspec.Struct]) -> list[str]:
    hints = get_type_hints(kind)
    fields = [
        f"{kind.__name__}.{field.name}: {text_of(hints[field.name])}{default_of(field)}"
        for field in msgspec.structs.fields(kind)
    ]
    properties = [
        f"{kind.__name__}.{name}: {text_of(get_type_hints(value.fget)['return'])} (computed)"
        for name, value in vars(kind).items()
        if isinstance(value, property)
    ]
    return fields + properties


LINES = [line for kind in with_what_hangs_on_them(ROOTS) for line in lines_of(kind)]


def test_the_value_types_that_programs_hold_are_these() -> None:
    assert {kind.__name__ for kind in ROOTS} == {
        *("AccountInfo", "AuditEntry", "BucketInfo", "Event", "Job", "KeyGrant", "KeyInfo", "KeyLimits"),
        *("ObjectInfo", "ObjectWritten", "Status"),
        *("BucketPoint", "DiskFigures", "Figures", "HistoryPoint", "Rates"),
    }


@pytest.mark.parametrize("line", FROZEN)
def test_a_public_field_keeps_its_name_its_type_and_its_default(line: str) -> None:
    assert line in LINES, "a program of 0.1 may read this"


def test_every_public_field_is_frozen() -> None:
    missing = [line for line in LINES if line not in FROZEN]
    assert not missing, "add to public_fields_0_1.txt:\n" + "\n".join(missing)
