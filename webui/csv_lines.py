"""CSV lines that a spreadsheet opens without doing anything.  Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would calculate


def csv_line(values: Iterable[object]) -> str:
    """One line, with its end; a text that would be a formula gets an apostrophe in front."""
    out = io.StringIO()
    csv.writer(out).writerow([f"'{text}" if text.startswith(_FORMULA) else text for text in map(str, values)])
    return out.getvalue()
