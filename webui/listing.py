"""Listings: what a list of objects shows, as the words of its URL, and pages of it.  Pure but for `read`.

prefix   the folder: how the keys begin
find     a text that is looked for; `how` says where:
         "below"   in names here and in all folders below
         "here"    in names of this folder
         "begins"  at the beginning of names of this folder
sort     "name", "size" or "time"; desc=1: the other way round
cursor   where a page begins
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import quote, unquote, urlencode

import trio

import warehouse
from warehouse.errors import BadRequest
from warehouse.webui import forms

PAGE_SIZE = 100  # rows
SHOWN_MAX = 1000  # rows that are read again at once when something changes
SORTS, HOWS = ("name", "size", "time"), ("below", "here", "begins")
FOLDERS_MAX = 100  # where objects come in order of size or time
KEY_MAX = 4096  # characters
CURSOR_MAX = 16 * 1024
SETTLE_S = 10.0  # a search that shows no partial page goes on for so long

Sort = Literal["name", "size", "time"]


@dataclass(frozen=True)
class View:
    """What a list shows."""

    bucket: str
    prefix: str = ""
    find: str = ""
    how: str = "below"
    sort: Sort = "name"
    is_descending: bool = False
    cursor: str = ""

    @classmethod
    def read(cls, bucket: str, query: Mapping[str, str]) -> View:
        """
        Raises:
            BadRequest: a word of the URL is none.
        """
        prefix = query.get("prefix", "") or unquote(query.get("at", ""))
        cursor = query.get("cursor", "")
        if len(prefix) > KEY_MAX or len(cursor) > CURSOR_MAX:
            raise BadRequest("this URL is too long")
        return cls(
            bucket=bucket,
            prefix=prefix,
            find=forms.text(query, "find", most=KEY_MAX),
            how=forms.choice(query, "how", HOWS, "below"),
            sort=cast(Sort, forms.choice(query, "sort", SORTS, "name")),
            is_descending=forms.is_checked(query, "desc"),
            cursor=cursor,
        )

    @property
    def is_flat(self) -> bool:
        """Does it show what is in folders, too, instead of these?"""
        return bool(self.find) and self.how == "below"

    def query(self, **changes: object) -> str:
        """The words of the URL; nothing for what is as usual."""
        view = replace(self, **changes)  # type: ignore[arg-type]
        words = {"prefix": view.prefix, "find": view.find}
        if view.find and view.how != "below":
            words["how"] = view.how
        if view.sort != "name":
            words["sort"] = view.sort
        words |= {"desc": "1" if view.is_descending else "", "cursor": view.cursor}
        return urlencode({name: word for name, word in words.items() if word})

    def path(self, page: str = "", **changes: object) -> str:
        """The URL, without the root; `page`: of a part, such as "rows"."""
        query = self.query(**changes)
        base = f"/buckets/{quote(self.bucket, safe='')}" + (f"/{page}" if page else "")
        return f"{base}?{query}" if query else base

    def sorted_by(self, sort: Sort) -> str:
        """The URL of the same list in another order: the other way round, if it has this order already."""
        # Otherwise the largest and the newest come first.
        is_descending = not self.is_descending if sort == self.sort else sort != "name"
        return self.path(sort=sort, is_descending=is_descending, cursor="")

    def question(self) -> dict[str, Any]:
        """What `Bucket.find` is asked, but for limit and cursor."""
        begins = self.find if self.how == "begins" else ""
        return {
            "prefix": self.prefix + begins,
            "contains": "" if begins else self.find,
            "order": self.sort,
            "descending": self.is_descending,
            "delimiter": None if self.is_flat else "/",
        }


class Row(NamedTuple):
    """A line of a list: an object, or a folder."""

    key: str
    info: warehouse.ObjectInfo | None  # None: a folder, whose beginning `key` is


@dataclass(frozen=True)
class Rows:
    """A page of a list.

    Attributes:
        cursor: of the next page; "": there is none.
        scanned_count: of names that were looked at.
        is_complete: False: these are not all rows of the page yet, and `cursor` goes on.
        replaces: what comes with the cursor takes the place of these rows.
        hidden_folder_count: in order of size or time, only some folders are shown.
    """

    rows: list[Row]
    cursor: str
    scanned_count: int
    is_complete: bool
    replaces: bool
    hidden_folder_count: int = 0

    @property
    def object_count(self) -> int:
        return sum(row.info is not None for row in self.rows)

    @property
    def byte_count(self) -> int:
        return sum(row.info.size for row in self.rows if row.info is not None)


async def read(
    bucket: warehouse.Bucket, view: View, limit: int = PAGE_SIZE, *, settles: bool = False
) -> Rows:
    """The page that begins at the view's cursor.

    Args:
        settles: go on where the store tells a part of a page, for at most `SETTLE_S` seconds.
    Raises:
        NoSuchBucket, PermissionDenied, BadRequest.
    """
    deadline = trio.current_time() + SETTLE_S
    question, cursor = view.question(), view.cursor
    rows: list[Row] = []
    hidden_count = 0
    while True:
        page = await bucket.find(**question, limit=limit - len(rows), cursor=cursor)
        if view.sort == "name":
            rows += _merged(page, is_descending=view.is_descending)
        else:
            folders = page.prefixes[:FOLDERS_MAX]
            hidden_count = len(page.prefixes) - len(folders)
            rows = [*(Row(name, None) for name in folders), *(Row(i.key, i) for i in page.objects)]
        cursor = page.cursor
        goes_on = settles and not page.is_complete and cursor and len(rows) < limit
        if not goes_on or trio.current_time() > deadline:
            replaces = view.sort != "name" and not page.is_complete
            return Rows(rows, cursor, page.scanned_count, page.is_complete, replaces, hidden_count)


def _merged(page: warehouse.FoundPage, *, is_descending: bool) -> list[Row]:
    """Objects and folders in the order of the UTF-8 of their names."""
    rows = [*(Row(name, None) for name in page.prefixes), *(Row(info.key, info) for info in page.objects)]
    return sorted(rows, key=lambda row: row.key.encode(), reverse=is_descending)
