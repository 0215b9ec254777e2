"""Every integer that a message carries has bounds, and what is beyond them is refused where it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from warehouse.errors import MalformedMessage
from warehouse.transport.messages import Answer, Envelope, Request, decode_envelope, encode_envelope

KINDS = {kind.__struct_config__.tag: kind for kind in (*get_args(Request), *get_args(Answer))}
Path = tuple[Any, ...]
BEYOND_ALL = (True, False, 1.5, 2**64 - 0.5, -(2**63) + 0.5, float("nan"), float("inf"), "1", b"1")


def integers_in(
    kind: msgspec.inspect.Type, path: Path = ()
) -> Iterator[tuple[Path, msgspec.inspect.IntType]]:
    """The places of integers in a type, and what may be there: keys of structs, indexes, "keys" of maps."""
    info = msgspec.inspect
    match kind:
        case info.IntType():
            yield path, kind
        case info.UnionType():
            if not any(
                isinstance(one, info.StrType) for one in kind.types
            ):  # an event's field may be anything
                for one in kind.types:
                    yield from integers_in(one, path)
        case info.ListType():
            yield from integers_in(kind.item_type, (*path, 0))
        case info.TupleType():
            for place, one in enumerate(kind.item_types):
                yield from integers_in(one, (*path, place))
        case info.DictType():
            yield from integers_in(kind.value_type, (*path, "value"))
        case info.StructType():
            for place, field in enumerate(kind.fields):
                key = place if kind.array_like else field.encode_name
                yield from integers_in(field.type, (*path, key))


def example_of(kind: msgspec.inspect.Type) -> Any:
    """A value of a type as plain lists and maps, with every field and one item in every list."""
    info = msgspec.inspect
    match kind:
        case info.IntType():
            return max(kind.ge or 0, 1)
        case info.FloatType():
            return 1.0
        case info.StrType():
            return "x"
        case info.BytesType():
            return b"x"
        case info.BoolType():
            return True
        case info.UnionType():
            return example_of(next(one for one in kind.types if not isinstance(one, info.NoneType)))
        case info.ListType():
            return [example_of(kind.item_type)]
        case info.TupleType():
            return [example_of(one) for one in kind.item_types]
        case info.DictType():
            key = 1 if isinstance(kind.key_type, info.IntType) else "value"
            return {key: example_of(kind.value_type)}
        case info.StructType():
            fields = {field.encode_name: example_of(field.type) for field in kind.fields}
            if kind.array_like:
                return list(fields.values())
            return fields if kind.tag is None else {kind.tag_field: kind.tag, **fields}
    raise AssertionError(f"a message has a field of a new sort: {kind}")


def builtins_with(sample: Any, path: Path, value: Any) -> Any:
    """The same with another value at one place."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    inner = builtins_with(sample[key], rest, value)
    if isinstance(sample, dict):
        return {**sample, key: inner}
    return [*sample[:key], inner, *sample[key + 1 :]]


PLACES = [
    (tag, path, kind)
    for tag in sorted(KINDS)
    for path, kind in integers_in(msgspec.inspect.type_info(KINDS[tag]))
]


EXAMPLES = {tag: example_of(msgspec.inspect.type_info(kind)) for tag, kind in KINDS.items()}


def frame_with(tag: str, path: Path, value: Any) -> bytes:
    return msgspec.msgpack.encode([1, 2, 3, builtins_with(EXAMPLES[tag], path, value)])


def test_every_integer_of_every_message_has_bounds() -> None:
    without = [
        f"{tag}: {path}"
        for tag, path, kind in PLACES
        if kind.ge is None or (kind.le is None and kind.ge != 0)
    ]
    assert not without
    assert len(PLACES) > 150


@pytest.mark.parametrize("tag", sorted(KINDS))
def test_a_number_that_cannot_be_is_refused_where_it_is_decoded(tag: str) -> None:
    for place_tag, path, kind in PLACES:
        if place_tag != tag:
            continue
        beyond = [*BEYOND_ALL, kind.ge - 1, -(2**63)] if kind.ge > -(2**63) else [*BEYOND_ALL]  # type: ignore[operator]
        if kind.le is not None:
            beyond += [kind.le + 1, 2**63, 2**64 - 1]
        for value in beyond:
            with pytest.raises(MalformedMessage):
                decode_envelope(frame_with(tag, path, value))
                raise AssertionError(f"{tag}: {path} may be {value!r}")


@pytest.mark.parametrize("tag", sorted(KINDS))
def test_the_numbers_that_the_types_allow_are_taken(tag: str) -> None:
    for place_tag, path, kind in PLACES:
        if place_tag == tag:
            for value in (kind.ge, (2**63 - 1) if kind.le is None else kind.le):
                body = decode_envelope(frame_with(tag, path, value)).body
                assert decode_envelope(encode_envelope(Envelope(1, 2, 3, body))).body == body
