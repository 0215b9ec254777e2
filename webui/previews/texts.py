"""Texts: bytes of an object as text, and as lines of hexadecimal digits.  Pure."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from warehouse.webui.names import visible

HEX_WIDTH = 16


class Decoded(NamedTuple):
    """Text of an object.

    Attributes:
        encoding: what it was taken for, for people.
        is_exact: False: some bytes are no characters of it, and are shown as U+FFFD.
    """

    text: str
    encoding: str
    is_exact: bool


def decode(data: bytes, *, is_cut: bool) -> Decoded:
    """The text of the first bytes of an object.

    Args:
        is_cut: more bytes follow, so a character at the end may lack some: it is left out.
    """
    codec, shown = "utf-8-sig", "UTF-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        codec, shown = "utf-16", "UTF-16"
    decoder = codecs.getincrementaldecoder(codec)("strict")
    try:
        return Decoded(decoder.decode(data, final=not is_cut), shown, True)
    except UnicodeDecodeError:
        decoder = codecs.getincrementaldecoder(codec)("replace")
        return Decoded(decoder.decode(data, final=not is_cut), shown, False)


def shown(text: str) -> str:
    """Text as a page can hold it: one kind of line end, and pictures for control characters."""
    return visible(text.replace("\r\n", "\n").replace("\r", "\n"))


class HexLine(NamedTuple):
    offset: str
    digits: str
    letters: str


def hex_lines(data: bytes) -> list[HexLine]:
    """Sixteen bytes a line: where they are, their digits, and the letters that are ASCII."""
    lines = []
    for at in range(0, len(data), HEX_WIDTH):
        part = data[at : at + HEX_WIDTH]
        half = HEX_WIDTH // 2
        digits = f"{part[:half].hex(' ')}  {part[half:].hex(' ')}".rstrip()
        letters = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        lines.append(HexLine(f"{at:08x}", digits, letters))
    return lines
