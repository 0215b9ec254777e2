"""Query: the parameters behind the question mark of a request, in order and by name.  Pure

A name may stand alone (`?acl`) or have a value, and a plus sign is a blank, as in forms.  A parameter may be
repeated as long as nobody acts on it: whoever asks for one that came twice refuses the request, because two
readers could understand it in two ways.  Signatures are made of the pairs in order, so nothing is lost here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from warehouse.s3 import percent
from warehouse.s3.failures import Failure


class Query(Struct, frozen=True):
    """The parameters of one request.  `parse_query` makes it.

    Attributes:
        pairs: decoded names and values in the order in which they came; None for a name without "=".
        values: the first value of each name; empty for a name that stands alone.
        repeated: the names that came more than once.
    """

    pairs: tuple[tuple[bytes, bytes | None], ...]
    values: Mapping[str, str]
    repeated: frozenset[str]

    def get(self, name: str) -> str | None:
        """The value of a parameter, or None if there is no such parameter.

        Raises:
            Failure: InvalidArgument, if the parameter came more than once.
        """
        if name in self.repeated:
            raise Failure("InvalidArgument", f"The parameter {name} must come once.", {"ArgumentName": name})
        return self.values.get(name)

    def has(self, name: str) -> bool:
        return name in self.values


EMPTY: Final = Query((), {}, frozenset())


def parse_query(raw: bytes) -> Query:
    """Read the raw query of a request, without its question mark.

    Raises:
        Failure: InvalidURI, if a percent sign stands alone or a name or value is no UTF-8.
    """
    if not raw:
        return EMPTY
    pairs: list[tuple[bytes, bytes | None]] = []
    values: dict[str, str] = {}
    repeated = set()
    for piece in raw.replace(b"+", b" ").split(b"&"):
        if not piece:
            continue
        name, equals, value = piece.partition(b"=")
        if b"%" in piece:
            name, value = percent.decode(name), percent.decode(value)
        pairs.append((name, value if equals else None))
        try:
            name_text, value_text = name.decode(), value.decode()
        except UnicodeDecodeError:
            raise percent.invalid_uri(piece, "its octets must be UTF-8") from None
        if name_text in values:
            repeated.add(name_text)
        else:
            values[name_text] = value_text
    return Query(tuple(pairs), values, frozenset(repeated))
