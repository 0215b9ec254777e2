"""Reader: the connection that every read goes through.

Reads take microseconds and never wait for a write (SQLite's write-ahead log sees to that), so the master
makes them on its event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from warehouse.catalog.sqlite.driver import name_error


class Reader:
    """Base of what reads; `SqliteCatalog` is made of them."""

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        self.path = path
        self._reader = reader

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        is_nested = self._reader.in_transaction  # the block around this one has begun already
        if is_nested:
            yield
            return
        try:
            self._reader.execute("BEGIN")
            try:
                yield
            finally:
                if self._reader.in_transaction:  # an error may have ended it
                    self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=False) from error

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        try:
            return self._reader.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=False) from error

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise name_error(self.path, error, is_write=False) from error
