"""Paths: under which name does an object become a file?  Pure.

A key is any text; a path is not.  A key's slashes become folders, and what a path cannot hold is written as
in a URL, so that `urllib.parse.unquote` of the path gives the key back:

    %                                                                       %25
    control characters, NUL among them                                      %00 to %1F, %7F
    nothing between two slashes, or before the first, or after the last     the slash becomes %2F
    a segment "." or ".."                                                   its dots become %2E

Two cases are more than that.  A segment that is too long for a file name is cut into folders, whose names
end with a lone "%".  And a key that is the folder of another as well ("a" beside "a/b") gets "%file" added.
No key becomes such a name by itself, because its own "%" would be escaped: different keys never get the same
path.

Upper and lower case are kept: a file system that takes "A" and "a" for one cannot hold every bucket.
"""

from __future__ import annotations

import re
from typing import Final

SEGMENT_SIZE_MAX: Final = 255  # bytes of a file name, on every file system of today
SUFFIXES_SIZE: Final = 20  # of those, what is left for what an export adds to a name
LISTING_NAME: Final = "export.jsonl"
FILE_SUFFIX: Final = "%file"
DAMAGED_SUFFIX: Final = ".damaged"
_PIECE_SIZE: Final = 200  # of a segment that is too long

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f%]")
_EMPTY: Final = re.compile(r"^/+|/+(?=/)|/$")  # slashes that lack a name on one side
_LETTER: Final = re.compile(r"%[0-9A-F]{2}|.")


def bucket_folder(bucket: str) -> str:
    """The name of a bucket's folder: its own, but for the one that the listing has."""
    return bucket.replace(".", "%2E") if bucket == LISTING_NAME else object_path(bucket)


def object_path(key: str, *, is_folder: bool = False) -> str:
    """The path of an object's file below its bucket's folder, with "/" between its parts.

    Args:
        is_folder: some other key begins with this one and a slash.
    """
    text = _EMPTY.sub(_escape, _UNSAFE.sub(_escape, key))
    path = "/".join(_cut(_without_dots(segment)) for segment in text.split("/"))
    return path + FILE_SUFFIX if is_folder else path


def damaged_path(path: str, *, is_taken: bool) -> str:
    """The name of what could be read of a damaged object.

    Args:
        is_taken: some other key is this one and ".damaged".
    """
    return path + ("%" if is_taken else "") + DAMAGED_SUFFIX


def _without_dots(segment: str) -> str:
    return segment.replace(".", "%2E") if segment in (".", "..") else segment


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{ord(letter):02X}" for letter in match[0])


def _cut(segment: str) -> str:
    """Cut a long segment into folders, between characters."""
    if len(segment.encode()) <= SEGMENT_SIZE_MAX - SUFFIXES_SIZE:
        return segment
    pieces, piece, size = [], "", 0
    for letter in _LETTER.findall(segment):
        letter_size = len(letter.encode())
        if size + letter_size > _PIECE_SIZE:
            pieces.append(piece + "%")
            piece, size = "", 0
        piece, size = piece + letter, size + letter_size
    return "/".join([*pieces, piece])
