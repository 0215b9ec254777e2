"""JSON trees: a JSON text as nested nodes, bounded in number and depth.  Pure.

Numbers keep the digits that the text has, and an object keeps names that come twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from warehouse.webui.previews.texts import shown

NODES_MAX = 3_000
CHILDREN_MAX = 500  # of one node
DEPTH_MAX = 40
TEXT_MAX = 2_000  # characters of one value or name
LINES_MAX = 500  # of a text with one value a line


class _Number(str):
    """The digits of a number."""

    __slots__ = ()


class _Pairs(list[tuple[str, object]]):
    """What an object holds, in order."""


@dataclass
class Node:
    """A value, with the name or index that it has where it is.

    Attributes:
        kind: "object", "array", "string", "number" or "word".
        text: the value of one that has no children; of others "3 items".
        more: so many children are left out.
    """

    name: str
    kind: str
    text: str
    children: list[Node] = field(default_factory=list)
    more: int = 0


def read_tree(text: str) -> Node:
    """
    Raises:
        ValueError: this is no JSON; the message says where.
    """
    return _Builder().node("", _parsed(text), 0)


def read_lines(text: str, *, is_cut: bool) -> Node:
    """A text that has a value in each line, as an array of them.

    Raises:
        ValueError: a line is no JSON; the message says where.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if is_cut:
        lines = lines[:-1]
    builder = _Builder()
    top = Node("", "array", _items(len(lines)))
    for number, line in enumerate(lines[:LINES_MAX]):
        try:
            top.children.append(builder.node(str(number), _parsed(line), 1))
        except ValueError as error:
            raise ValueError(f"line {number + 1}: {error}") from None
        if builder.left <= 0:
            break
    top.more = len(lines) - len(top.children)
    return top


def _parsed(text: str) -> object:
    try:
        return json.loads(text, parse_int=_Number, parse_float=_Number, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _Builder:
    def __init__(self) -> None:
        self.left = NODES_MAX

    def node(self, name: str, value: object, depth: int) -> Node:
        self.left -= 1
        name = _cut(name)
        if isinstance(value, _Pairs):
            return self._nest(Node(name, "object", _items(len(value), "name")), [*value], depth)
        if isinstance(value, list):
            pairs = [(str(at), one) for at, one in enumerate(value[:CHILDREN_MAX])]
            return self._nest(
                Node(name, "array", _items(len(value)), more=len(value) - len(pairs)), pairs, depth
            )
        if isinstance(value, _Number):
            return Node(name, "number", _cut(str(value)))
        if isinstance(value, str):
            return Node(name, "string", f'"{_cut(value)}"')
        words = {None: "null", True: "true", False: "false"}
        return Node(name, "word", words.get(value, str(value)))  # type: ignore[call-overload]

    def _nest(self, node: Node, pairs: list[tuple[str, object]], depth: int) -> Node:
        taken = 0
        for name, value in pairs[:CHILDREN_MAX]:
            if self.left <= 0 or depth >= DEPTH_MAX:
                break
            node.children.append(self.node(name, value, depth + 1))
            taken += 1
        node.more += len(pairs) - taken
        return node


def _items(count: int, noun: str = "item") -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _cut(text: str) -> str:
    text = shown(text)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"
