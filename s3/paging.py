"""Paging: which entries are on a page, and where the next one begins.  Pure

A catalog that knows delimiters returns entries: keys, and one common prefix in place of the keys that begin
with it.  For such a catalog `Page` is enough.  `UploadPager` is for rows that come in order, one for each
upload.  It rolls them up itself and says what to fetch next.  It skips the rest of a common prefix, so a page
takes at most one fetch more than it shows prefixes, however many uploads these stand for.

An entry is on a page if it is greater than the marker.  A common prefix is an entry like a key: with the
marker `photos/a` and the delimiter `/`, the entry `photos/` comes before the marker, so it is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from warehouse.s3.listing import ListUploads

FETCH_MAX: Final = 1000
_LAST: Final = chr(0x10FFFF)
_SURROGATES: Final = range(0xD800, 0xE000)  # no key holds one

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True):
    """Rows and common prefixes, each in order.  `next_after` is the last entry; None: nothing follows."""

    rows: Sequence[T]
    prefixes: Sequence[str] = ()
    next_after: str | None = None

    @property
    def is_truncated(self) -> bool:
        return self.next_after is not None


def cut(rows: Sequence[T], limit: int) -> tuple[Sequence[T], bool]:
    """The first `limit` rows, and whether others follow; for rows that were fetched with one more.

    A limit of 0 is a page after which nothing follows, as S3 has it.
    """
    return rows[:limit], 0 < limit < len(rows)


class UploadRow(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def upload_id(self) -> str: ...


Row = TypeVar("Row", bound=UploadRow)


class Fetch(Struct, frozen=True):
    """Rows from `first_key` on, in order, at most `limit`; of `first_key` those after `after_id` alone.

    `after_id` is an upload id, or empty: all uploads of `first_key`.
    """

    first_key: str
    after_id: str
    limit: int


class UploadPage(Struct, Generic[T], frozen=True):
    rows: Sequence[T]
    prefixes: Sequence[str]
    next_key: str  # empty: nothing follows
    next_id: str  # empty after a common prefix

    @property
    def is_truncated(self) -> bool:
        return bool(self.next_key)


class UploadPager(Generic[Row]):
    """Builds one page of a listing of uploads.

        while (fetch := pager.fetch()) is not None:
            pager.feed(await rows_of(fetch))
        page = pager.page()

    It fetches until it has seen one entry more than the page shows, because only then something follows.
    """

    def __init__(self, request: ListUploads) -> None:
        self._prefix = request.prefix
        self._delimiter = request.delimiter
        self._limit = request.limit
        self._rows: list[Row] = []
        self._prefixes: list[str] = []
        self._last = ("", "")
        self._is_truncated = False
        self._next: Fetch | None = self._begin(request)

    def fetch(self) -> Fetch | None:
        """What to fetch next; None: the page is complete."""
        return self._next

    def feed(self, rows: Sequence[Row]) -> None:
        """Take what the last fetch returned; fewer rows than its limit are the last there are."""
        fetch = self._next
        assert fetch is not None
        for row in rows:
            if not row.key.startswith(self._prefix):
                self._next = None
                return
            common = common_prefix(row.key, self._prefix, self._delimiter)
            if common is not None and common == self._last[0]:
                continue  # a row behind the prefix that was fetched before the prefix was known
            if self._is_full():
                self._is_truncated, self._next = True, None
                return
            self._add(row, common)
        self._next = self._following(rows[-1]) if len(rows) == fetch.limit else None

    def page(self) -> UploadPage[Row]:
        next_key, next_id = self._last if self._is_truncated else ("", "")
        return UploadPage(self._rows, self._prefixes, next_key, next_id)

    def _begin(self, request: ListUploads) -> Fetch | None:
        if request.limit == 0:
            return None
        marker, after_id = request.key_marker, request.upload_id_marker
        if marker < self._prefix:
            return self._fetch(self._prefix, "")
        if not marker.startswith(self._prefix):
            return None  # greater than every key with the prefix
        common = common_prefix(marker, self._prefix, self._delimiter)
        if common is not None:
            return self._fetch(key_after_prefix(common), "")
        if after_id:
            return self._fetch(marker, after_id)
        return self._fetch(marker + "\0" if marker else "", "")

    def _fetch(self, first_key: str | None, after_id: str) -> Fetch | None:
        if first_key is None:
            return None
        left = self._limit - len(self._rows) - len(self._prefixes)
        return Fetch(first_key, after_id, min(left + 1, FETCH_MAX))

    def _is_full(self) -> bool:
        return len(self._rows) + len(self._prefixes) == self._limit

    def _add(self, row: Row, common: str | None) -> None:
        if common is None:
            self._rows.append(row)
            self._last = (row.key, row.upload_id)
        else:
            self._prefixes.append(common)
            self._last = (common, "")

    def _following(self, row: Row) -> Fetch | None:
        common = common_prefix(row.key, self._prefix, self._delimiter)
        if common is None:
            return self._fetch(row.key, row.upload_id)
        return self._fetch(key_after_prefix(common), "")


def common_prefix(key: str, prefix: str, delimiter: str | None) -> str | None:
    """What a listing shows instead of `key`; None: the key itself."""
    if not delimiter:
        return None
    found = key.find(delimiter, len(prefix))
    return None if found < 0 else key[: found + len(delimiter)]


def key_after_prefix(prefix: str) -> str | None:
    """The smallest text greater than every text that begins with `prefix`; None: no text is."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return stem[:-1] + chr(following)
