"""Bounds: every text and every list of a message has one in its type, and decoding stops there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from message_samples import KINDS
from warehouse.errors import MalformedMessage
from warehouse.transport.messages import decode_envelope


def unbounded(kind: Any, path: str) -> list[str]:
    """The fields below `kind` whose type lets a sender choose any length."""
    info = msgspec.inspect
    match kind:
        case info.StrType() | info.BytesType():
            return [path] if kind.max_length is None else []
        case info.ListType() | info.DictType():
            parts = [kind.item_type] if isinstance(kind, info.ListType) else [kind.key_type, kind.value_type]
            below = [found for part in parts for found in unbounded(part, f"{path}[]")]
            return [*([path] if kind.max_length is None else []), *below]
        case info.TupleType():
            return [found for part in kind.item_types for found in unbounded(part, f"{path}()")]
        case info.UnionType():
            return [found for part in kind.types for found in unbounded(part, path)]
        case info.StructType():
            return [found for field in kind.fields for found in unbounded(field.type, f"{path}.{field.name}")]
        case info.AnyType() | info.RawType() | info.VarTupleType() | info.SetType():
            return [path]
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_and_every_list_has_a_bound_in_its_type(kind):
    assert unbounded(msgspec.inspect.type_info(KINDS[kind]), kind) == []


class _Loose(msgspec.Struct):
    text: str
    lists: list[list[int]]
    table: dict[str, bytes]


def test_the_walk_finds_what_has_no_bound():
    assert unbounded(msgspec.inspect.type_info(_Loose), "loose") == [
        "loose.text",
        "loose.lists",
        "loose.lists[]",
        "loose.table",
        "loose.table[]",
        "loose.table[]",
    ]


def test_decoding_stops_at_the_first_element_too_many():
    """Whatever the list holds: what comes after is not even looked at."""
    keys = b"\xdd" + (10**6).to_bytes(4, "big") + b"\xa1k" * 2049  # far fewer follow than it says
    frame = b"\x94\x01\x02\x03\x83\xa4kind\xaelocate_objects\xa6bucket\xa1b\xa4keys" + keys
    with pytest.raises(MalformedMessage, match="length <= 2048"):
        decode_envelope(frame)
