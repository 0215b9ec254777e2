"""Tables: the first rows of CSV and TSV.  Pure."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from warehouse.webui.previews.texts import shown

ROWS_MAX = 200
COLUMNS_MAX = 50
CELL_MAX = 300  # characters
SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first row is the head.

    Attributes:
        has_more_rows: of the text that was read, or after it.
        column_count: of the widest row that was looked at; a row shows up to `COLUMNS_MAX` of them.
    """

    head: list[str]
    rows: list[list[str]]
    has_more_rows: bool
    column_count: int


def read_table(text: str, *, is_tabs: bool, is_cut: bool) -> Table:
    """
    Args:
        is_tabs: cells are separated by tabs; otherwise by what the first line has most of.
        is_cut: the text goes on: its last line is left out, because it may lack its end.
    Raises:
        ValueError: this is no table.
    """
    if is_cut and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    first = text.split("\n", 1)[0]
    separator = "\t" if is_tabs else max(SEPARATORS, key=first.count)
    rows: list[list[str]] = []
    has_more, width = is_cut, 0
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if len(rows) > ROWS_MAX:
                has_more = True
                break
            if row:
                width = max(width, len(row))
                rows.append([_cell(cell) for cell in row[:COLUMNS_MAX]])
    except csv.Error as error:
        raise ValueError(f"this is no table: {error}") from None
    if not rows:
        raise ValueError("this is no table: it has no rows")
    columns = min(width, COLUMNS_MAX)
    padded = [row + [""] * (columns - len(row)) for row in rows]
    return Table(padded[0], padded[1:], has_more, width)


def _cell(text: str) -> str:
    text = shown(text)
    return text if len(text) <= CELL_MAX else text[:CELL_MAX] + "…"
