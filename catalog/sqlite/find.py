"""Find: answer a question about the objects of a bucket for as long as there is time.

The walk goes along the keys in slices of some thousand, each of which SQLite looks through on its own: no row
that is not shown gets into Python, and other threads run meanwhile.  Between two slices the clock is looked
at.  Keys that share a common prefix are passed over with one seek.

Every call opens a connection of its own, so any thread may call it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from warehouse.catalog.finding import AFTER_ALL, PREFIXES_MAX, RANKED_MAX, Found, Rank, Search
from warehouse.catalog.listing import common_prefix, key_after_prefix
from warehouse.catalog.records import ObjectRow
from warehouse.catalog.sqlite.columns import LISTED_COLUMNS, object_row
from warehouse.catalog.sqlite.driver import connect, name_error
from warehouse.errors import BadRequest, NoSuchBucket

SLICE_MIN, SLICE_FIRST, SLICE_MAX = 32, 1024, 16_384  # rows
SLICE_S = 0.01  # a slice that took longer is followed by a shorter one
PAGE_BYTES_MAX = 3 * 1024 * 1024  # of keys and metadata of one page
ROW_BYTES = 256  # of all else in a row

_IN_SLICE = "bucket_id = ? AND key >= ? AND key < ?"
# As bytes: on text, some functions of SQLite end at a NUL.
_REST_OF_KEY = "substr(CAST({} AS BLOB), ?)"
_HAS_NAME = f"instr({_REST_OF_KEY.format('lower(key)')}, ?) > 0"
_HAS_DELIMITER = f"instr({_REST_OF_KEY.format('key')}, ?) > 0"

Clock = Callable[[], float]


def find_objects(
    path: Path,
    search: Search,
    *,
    after: Rank | None,
    limit: int,
    budget_s: float,
    clock: Clock = time.monotonic,
) -> Found:
    """See `interface.Catalog`."""
    if limit < 1:
        raise BadRequest(f"a page has at least one entry, not {limit}")
    deadline = clock() + budget_s
    try:
        with closing(connect(path, is_read_only=True)) as connection:
            connection.execute("BEGIN")  # a bucket that is deleted by force vanishes at once
            bucket = (search.question.bucket_id,)
            if connection.execute(
                "SELECT 1 FROM buckets WHERE id = ? AND name IS NOT NULL", bucket
            ).fetchone():
                if search.question.is_by_name:
                    return _ByName(connection, search, limit).run(deadline, clock)
                return _Ranking(connection, search).page(after, limit, deadline, clock)
    except sqlite3.Error as error:
        raise name_error(path, error, is_write=False) from error
    raise NoSuchBucket("the bucket was deleted")


def _after(folder: str) -> str:
    """The end of the keys that begin with this."""
    return key_after_prefix(folder) or AFTER_ALL


class _Walk:
    """Goes along the keys, slice by slice."""

    def __init__(self, connection: sqlite3.Connection, search: Search) -> None:
        self._execute = connection.execute
        self._search = search
        self._question = question = search.question
        self._is_backwards = question.is_backwards
        self._order = "DESC" if question.is_backwards else "ASC"
        self._name, self._name_values = "", tuple[Any, ...]()
        rest = len(question.prefix.encode()) + 1  # SQLite counts from 1
        if question.contains:
            self._name, self._name_values = f" AND {_HAS_NAME}", (rest, question.contains.encode())
            if question.contains == question.contains.upper():  # no letters: twice as fast like this
                self._name = f" AND instr(key, ?) > 0{self._name}"
                self._name_values = (question.contains, *self._name_values)
        self._delimiter = None if question.delimiter is None else (rest, question.delimiter.encode())
        self._slice_size = SLICE_FIRST
        self._has_looked = False  # every step gets on

    def _go_on(self, deadline: float, clock: Clock) -> None:
        """Look at slices until the walk or the time is over, or the page is full."""
        for low, end in self._question.stretches(self._search.position):
            # A common prefix of the stretch before may lead beyond this one.
            if self._is_backwards:
                end = min(end, self._search.position)
            else:
                low = max(low, self._search.position)
            while low < end:
                began = clock()
                if began >= deadline and self._has_looked:
                    return
                low, end, is_full = self._look_at(low, end)
                self._has_looked = True
                if is_full:
                    return
                self._search.position = end if self._is_backwards else low
                self._set_size(clock() - began)
        self._search.is_done = True

    def _set_size(self, took_s: float) -> None:
        if took_s > SLICE_S:
            self._slice_size = max(SLICE_MIN, self._slice_size // 2)
        else:
            self._slice_size = min(SLICE_MAX, self._slice_size * 2)

    def _look_at(self, low: str, end: str) -> tuple[str, str, bool]:
        """Look at one slice; return what is left of the stretch, and whether the page is full."""
        first, stop, count = self._slice(low, end)
        folder = self._folder_in(first, stop)
        if folder is not None:
            return self._look_up_to(folder, low, end, first, stop)
        self._search.scanned_count += self._count(first, stop) if count is None else count
        is_full = self._take(first, stop)
        left = (low, first) if self._is_backwards else (stop, end)
        return *left, is_full

    def _slice(self, low: str, end: str) -> tuple[str, str, int | None]:
        """The next keys of the stretch, and how many; None: it is the rest of the stretch."""
        found = self._execute(
            f"SELECT key FROM objects WHERE {_IN_SLICE} ORDER BY key {self._order} LIMIT 1 OFFSET ?",
            (self._question.bucket_id, low, end, self._slice_size - self._is_backwards),
        ).fetchone()
        if found is None:
            return low, end, None
        return (found[0], end, self._slice_size) if self._is_backwards else (low, found[0], self._slice_size)

    def _folder_in(self, first: str, stop: str) -> str | None:
        """The first common prefix of the slice, in the order of the walk."""
        if self._delimiter is None:
            return None
        found = self._execute(
            f"SELECT key FROM objects WHERE {_IN_SLICE} AND {_HAS_DELIMITER}"
            f" ORDER BY key {self._order} LIMIT 1",
            (self._question.bucket_id, first, stop, *self._delimiter),
        ).fetchone()
        if found is None:
            return None
        return common_prefix(found[0], self._question.prefix, self._question.delimiter)

    def _look_up_to(self, folder: str, low: str, end: str, first: str, stop: str) -> tuple[str, str, bool]:
        """Look at the part of a slice before a folder, and pass the folder."""
        self._slice_size = SLICE_MIN // 2  # where one folder is, there may be many
        after = _after(folder)
        run = (after, stop) if self._is_backwards else (first, folder)
        if run[0] < run[1]:
            self._search.scanned_count += self._count(*run)
            if self._take(*run):
                return low, end, True
        self._search.scanned_count += 1
        is_full = self._question.has_name(folder) and self._take_folder(folder)
        return (low, folder, is_full) if self._is_backwards else (after, end, is_full)

    def _count(self, first: str, stop: str) -> int:
        sql = f"SELECT count(*) FROM objects WHERE {_IN_SLICE}"
        return int(self._execute(sql, (self._question.bucket_id, first, stop)).fetchone()[0])

    def _take(self, first: str, stop: str) -> bool:
        """Take the objects of a run without folders; is the page full?"""
        raise NotImplementedError

    def _take_folder(self, folder: str) -> bool:
        raise NotImplementedError


class _ByName(_Walk):
    """A page in order of name; one entry more begins the next page."""

    def __init__(self, connection: sqlite3.Connection, search: Search, limit: int) -> None:
        super().__init__(connection, search)
        self._limit = limit
        if not search.question.contains:
            self._slice_size = limit + 1
        self._objects: list[ObjectRow] = []
        self._prefixes: list[str] = []
        self._size = 0

    def run(self, deadline: float, clock: Clock) -> Found:
        search = self._search
        search.scanned_count = 0
        self._go_on(deadline, clock)
        count = len(self._objects) + len(self._prefixes)
        return Found(
            self._objects,
            self._prefixes,
            search.scanned_count,
            is_complete=search.is_done or count >= self._limit or self._size > PAGE_BYTES_MAX,
            has_more=not search.is_done,
        )

    def _room(self) -> int:
        return self._limit - len(self._objects) - len(self._prefixes)

    def _take(self, first: str, stop: str) -> bool:
        rows = self._execute(
            f"SELECT {LISTED_COLUMNS} FROM objects WHERE {_IN_SLICE}{self._name}"
            f" ORDER BY key {self._order} LIMIT ?",
            (self._question.bucket_id, first, stop, *self._name_values, self._room() + 1),
        )
        with closing(rows):
            for columns in rows:
                self._size += 4 * len(columns[1]) + len(columns[11] or b"") + ROW_BYTES
                if self._room() == 0 or (self._size > PAGE_BYTES_MAX and self._objects):
                    self._end_before(columns[1], columns[1] + "\0", first, stop)
                    return True
                self._objects.append(object_row(columns))
        return False

    def _take_folder(self, folder: str) -> bool:
        if self._room() == 0:
            self._search.position = _after(folder) if self._is_backwards else folder
            return True
        self._prefixes.append(folder)
        return False

    def _end_before(self, key: str, after: str, first: str, stop: str) -> None:
        """The page is full: the next one begins with this key.  What is beyond it was not looked at."""
        if self._is_backwards:
            self._search.position = after
            self._search.scanned_count -= self._count(first, after)
        else:
            self._search.position = key
            self._search.scanned_count -= self._count(key, stop)


class _Ranking(_Walk):
    """The best of all keys, in order of size or time."""

    def __init__(self, connection: sqlite3.Connection, search: Search) -> None:
        super().__init__(connection, search)
        column = "size" if self._question.order == "size" else "created_ms"
        self._rank = f"-{column}" if self._question.is_descending else column

    def page(self, after: Rank | None, limit: int, deadline: float, clock: Clock) -> Found:
        search = self._search
        if not search.is_done:
            self._go_on(deadline, clock)
        ranks = search.next_ranks(after, limit)
        objects, last = self._objects_of(ranks)
        has_more = not search.is_done or search.is_cut or (last is not None and last != search.ranked[-1])
        prefixes = search.prefixes if after is None else []
        return Found(objects, prefixes, search.scanned_count, search.is_done, has_more, last)

    def _objects_of(self, ranks: list[Rank]) -> tuple[list[ObjectRow], Rank | None]:
        """The objects that still exist, as many as fit into a message, and the last rank of these."""
        objects: list[ObjectRow] = []
        last, size = None, 0
        for rank in ranks:
            sql = f"SELECT {LISTED_COLUMNS} FROM objects WHERE bucket_id = ? AND key = ?"
            columns = self._execute(sql, (self._question.bucket_id, rank[1])).fetchone()
            if columns is not None:
                size += 4 * len(columns[1]) + len(columns[11] or b"") + ROW_BYTES
                if size > PAGE_BYTES_MAX and objects:
                    break
                objects.append(object_row(columns))
            last = rank
        return objects, last

    def _take(self, first: str, stop: str) -> bool:
        search = self._search
        bounds, values = "", list[Any]()
        if search.after is not None:
            bounds += f" AND ({self._rank}, key) > (?, ?)"
            values += search.after
        if len(search.ranked) == RANKED_MAX:
            bounds += f" AND ({self._rank}, key) < (?, ?)"
            values += search.ranked[-1]
        rows = self._execute(
            f"SELECT {self._rank} AS rank, key FROM objects WHERE {_IN_SLICE}{self._name}{bounds}"
            " ORDER BY rank, key LIMIT ?",
            (self._question.bucket_id, first, stop, *self._name_values, *values, RANKED_MAX + 1),
        ).fetchall()
        if len(search.ranked) == RANKED_MAX:
            search.is_cut = search.is_cut or self._count_beyond(first, stop)
        merged = sorted([*search.ranked, *rows])
        search.is_cut = search.is_cut or len(merged) > RANKED_MAX
        search.ranked = merged[:RANKED_MAX]
        return False

    def _count_beyond(self, first: str, stop: str) -> bool:
        """Does the run have keys that do not rank high enough?"""
        after = "" if self._search.after is None else f" AND ({self._rank}, key) > (?, ?)"
        found = self._execute(
            f"SELECT 1 FROM objects WHERE {_IN_SLICE}{self._name}{after} LIMIT 1",
            (self._question.bucket_id, first, stop, *self._name_values, *(self._search.after or ())),
        ).fetchone()
        return found is not None

    def _take_folder(self, folder: str) -> bool:
        if len(self._search.prefixes) < PREFIXES_MAX:
            self._search.prefixes.append(folder)
        return False
