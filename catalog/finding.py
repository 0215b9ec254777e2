"""Finding: a question about the objects of a bucket, how far it has been answered, and cursors.  Pure.

A search in order of name walks along the keys, forwards or backwards, and its cursor says where it goes on.
A search in order of size or time has to look at every key before it knows its first page.  It keeps the best
thousand meanwhile, so the next pages cost nothing; who keeps the search remembers it by a number, and the
cursor has that number and the last entry that was shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from warehouse.catalog.listing import spans
from warehouse.catalog.records import ObjectRow
from warehouse.errors import BadRequest

ORDERS = ("name", "size", "time")
RANKED_MAX = 1000  # entries that a search in order of size or time keeps
PREFIXES_MAX = 1000  # common prefixes of such a search

# Greater than every key: no key has room for so many characters of four bytes.
AFTER_ALL = chr(0x10FFFF) * 257

Rank = tuple[int, str]  # size or time, negative in descending order; and the key


class Question(NamedTuple):
    """
    Attributes:
        contains: ASCII capitals are small letters.
        within: how keys begin; there are no others.
    """

    bucket_id: int
    prefix: str
    contains: str
    order: str
    is_descending: bool
    delimiter: str | None
    within: tuple[str, ...] | None

    @property
    def is_by_name(self) -> bool:
        return self.order == "name"

    @property
    def is_backwards(self) -> bool:
        """Does the walk along the keys go from the last to the first?"""
        return self.is_by_name and self.is_descending

    @property
    def mark(self) -> bytes:
        """What the cursors of this question have in common."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=8).digest()

    def stretches(self, position: str) -> list[tuple[str, str]]:
        """The keys that are left to be looked at, in the order of the walk: the first, and the end.

        Args:
            position: where the walk is: it goes on with this key, or backwards with the one before it.
        """
        found = [(low, AFTER_ALL if end is None else end) for low, end in spans(self.prefix, self.within)]
        if self.is_backwards:
            found = [(low, min(end, position)) for low, end in reversed(found)]
        else:
            found = [(max(low, position), end) for low, end in found]
        return [(low, end) for low, end in found if low < end]

    def has_name(self, key: str) -> bool:
        """Does the key, or common prefix, contain the text that is looked for?"""
        return not self.contains or self.contains in fold(key[len(self.prefix) :])


def fold(text: str) -> str:
    """The text with the small letters of ASCII, as SQLite's `lower` has them."""
    return text.translate(_FOLDED)


_FOLDED = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@dataclass
class Search:
    """How far a question has been answered.

    Attributes:
        position: where the walk goes on, see `Question.stretches`.
        after: in order of size or time, only what ranks after this.
        ranked: the best of the keys that were looked at, best first.
        is_cut: there were more than those.
        is_done: there is nothing left to look at.
    """

    question: Question
    position: str
    after: Rank | None = None
    ranked: list[Rank] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    scanned_count: int = 0
    is_cut: bool = False
    is_done: bool = False

    @classmethod
    def begin(cls, question: Question, after: Rank | None = None) -> Search:
        return cls(question, AFTER_ALL if question.is_backwards else "", after)

    def next_ranks(self, after: Rank | None, limit: int) -> list[Rank]:
        """Up to `limit` of the best that rank after `after`."""
        first = 0 if after is None else bisect_right(self.ranked, after)
        return self.ranked[first : first + limit]

    def knows(self, after: Rank | None, limit: int) -> bool:
        """Are the next `limit` after `after` among those that are kept, or all there are?"""
        return not (self.is_done and self.is_cut) or len(self.next_ranks(after, limit)) == limit


class Found(NamedTuple):
    """What one step of a search gives.

    Attributes:
        objects: of the page; in order of size or time, of the page so far.
        last: of the ranks of the page, in order of size or time.
        is_complete: the page is as it will be.
        has_more: there may be entries after these.
    """

    objects: list[ObjectRow]
    prefixes: list[str]
    scanned_count: int
    is_complete: bool
    has_more: bool
    last: Rank | None = None


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page begins.  Nothing in it is trusted: what may be seen follows from the question."""

    mark: bytes
    position: str = ""
    search_id: int = 0
    after: Rank | None = None


_decoder = msgspec.msgpack.Decoder(Cursor)


def write_cursor(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode()


def read_cursor(text: str, question: Question) -> Cursor:
    """
    Raises:
        BadRequest: this is no cursor of that question.
    """
    try:
        cursor = _decoder.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        cursor = Cursor(b"")
    if cursor.mark != question.mark:
        raise BadRequest("this cursor was given for another question: ask from the beginning")
    return cursor
