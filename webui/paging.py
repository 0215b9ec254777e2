"""Paging: the rows of a table that fit on a page, and where the next page begins.  Pure.

The template's half is the macro `further` in `_macros.html`.  Lists of objects have a mechanism of their own
(`listing.py`), because the store pages them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from warehouse.webui import forms

PAGE_SIZE = 100
START_MAX = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class Rows(Generic[T]):
    """A page of a list.

    Attributes:
        start: the number of its first row, or whatever the first row is found by.
        following: the same of the next page; 0: there is none.
        word: of the URL, that says where a page begins.
    """

    items: Sequence[T]
    start: int
    following: int
    total_count: int
    word: str = "start"


def rows_of(
    items: Sequence[T], query: Mapping[str, str], *, size: int = PAGE_SIZE, word: str = "start"
) -> Rows[T]:
    """The page of a list that a URL asks for.

    Raises:
        BadRequest: the URL has no such number.
    """
    start = forms.number(query, word, least=0, most=START_MAX, default=0)
    end = start + size
    return Rows(items[start:end], start, end if end < len(items) else 0, len(items), word)
