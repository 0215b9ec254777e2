"""QR codes: a link that a phone can take from the screen, as the path of a picture."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import segno

BORDER = 4  # modules of white around it


class QrCode(NamedTuple):
    """A square picture; `path` is its dark part."""

    size: int
    path: str


def qr_code(text: str) -> QrCode | None:
    """None: the text is too long for one."""
    try:
        code = segno.make_qr(text, error="l")
    except segno.DataOverflowError:
        return None
    path = ""
    for y, modules in enumerate(code.matrix, BORDER):
        x = BORDER
        for is_dark, run in groupby(modules):
            length = sum(1 for _ in run)
            if is_dark:
                path += f"M{x} {y}h{length}v1h-{length}z"
            x += length
    return QrCode(len(code.matrix) + 2 * BORDER, path)
