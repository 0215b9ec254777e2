"""catalog/sqlite/bulk.py: many rows with one statement are the same rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from warehouse.catalog.sqlite.bulk import ROWS_AT_ONCE, insert_rows


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (a INTEGER PRIMARY KEY, b TEXT)")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "count", [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE + 7]
)
def test_all_rows_are_inserted_whatever_their_number(connection: sqlite3.Connection, count: int) -> None:
    rows = [(number, f"row {number}") for number in range(count)]

    insert_rows(connection, "INSERT INTO numbers (a, b) VALUES", rows)

    assert connection.execute("SELECT a, b FROM numbers ORDER BY a").fetchall() == rows


def test_of_two_rows_with_one_key_the_first_counts_where_others_are_ignored(
    connection: sqlite3.Connection,
) -> None:
    rows = [(number // 2, f"row {number}") for number in range(2 * ROWS_AT_ONCE)]

    insert_rows(connection, "INSERT OR IGNORE INTO numbers VALUES", rows)

    assert connection.execute("SELECT a, b FROM numbers ORDER BY a").fetchall() == rows[::2]


def test_a_row_that_contradicts_another_is_refused(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert_rows(connection, "INSERT INTO numbers VALUES", [(1, "a"), (2, "b"), (1, "c")])
