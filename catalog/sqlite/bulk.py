"""Bulk: many rows with one SQLite statement, because running a statement costs as much as several rows.

`executemany` runs the statement once for each row; one INSERT with many rows runs once for all of them.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

ROWS_AT_ONCE: Final = 100  # more rows gain nothing
COLUMNS_MAX: Final = 32_766 // ROWS_AT_ONCE  # SQLite's bound on the values of a statement


def insert_rows(connection: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of one width, in their order.

    Args:
        insert: the statement up to the rows: `INSERT INTO table (columns) VALUES`.
    """
    for at in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[at : at + ROWS_AT_ONCE]
        values = list(itertools.chain.from_iterable(some))
        connection.execute(_statement(insert, len(some), len(some[0])), values)


@lru_cache(maxsize=16)
def _statement(insert: str, row_count: int, width: int) -> str:
    assert width <= COLUMNS_MAX
    row = f"({', '.join('?' * width)})"
    return f"{insert} {', '.join([row] * row_count)}"
