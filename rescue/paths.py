"""Paths: the file name of an exported object.  Pure.

A key may be any text; a path may not.  The slashes of a key become folders, and what a path cannot hold is
written as in a URL, so `urllib.parse.unquote` of the path gives the key back:

    %                                                                       %25
    control characters, NUL among them                                      %00 to %1F, %7F
    an empty name between two slashes, before the first or after the last   the slash becomes %2F
    a segment "." or ".."                                                   its dots become %2E

Two cases need more.  A segment that is too long for a file name is cut into folders, whose names end with a
lone "%".  A key that is also the folder of another key ("a" next to "a/b") gets "%file" added.  No other key
becomes such a name, because its own "%" would be escaped: different keys never get the same path.

Upper and lower case are kept if the file system tells them apart.  If it does not (Windows and macOS), paths
consist of what every file system keeps: small letters, digits, "-", "_" and ".".  Everything else is written
as in a URL, also a "." at the end of a name and the first letter of a DOS device name.
"""

from __future__ import annotations

import re
from typing import Final

SEGMENT_SIZE_MAX: Final = 255  # bytes of a file name, on every file system of today
SUFFIXES_SIZE: Final = 20  # of those, what an export may add to a name
LISTING_NAME: Final = "export.jsonl"
FILE_SUFFIX: Final = "%file"
DAMAGED_SUFFIX: Final = ".damaged"
_PIECE_SIZE: Final = 200  # of a segment that is too long

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f%]")
_UNPORTABLE: Final = re.compile(r"[^a-z0-9._/-]")
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)")
_EMPTY: Final = re.compile(r"^/+|/+(?=/)|/$")  # slashes without a name on one side
_LETTER: Final = re.compile(r"%[0-9A-F]{2}|.")


def bucket_folder(bucket: str, *, is_portable: bool = False) -> str:
    """The name of a bucket's folder: the bucket's own, unless the listing has that name."""
    if bucket == LISTING_NAME:
        return bucket.replace(".", "%2E")
    return object_path(bucket, is_portable=is_portable)


def object_path(key: str, *, is_folder: bool = False, is_portable: bool = False) -> str:
    """The path of an object's file below its bucket's folder, with "/" between the parts.

    Args:
        is_folder: another key begins with this one and a slash.
        is_portable: the file system does not tell upper from lower case.
    """
    text = _EMPTY.sub(_escape, (_UNPORTABLE if is_portable else _UNSAFE).sub(_escape, key))
    segments = map(_without_dots, text.split("/"))
    path = "/".join(_cut(_without_device(segment) if is_portable else segment) for segment in segments)
    return path + FILE_SUFFIX if is_folder else path


def damaged_path(path: str, *, is_taken: bool) -> str:
    """The name of what could be read of a damaged object.

    Args:
        is_taken: another key is this one with ".damaged" added.
    """
    return path + ("%" if is_taken else "") + DAMAGED_SUFFIX


def _without_dots(segment: str) -> str:
    return segment.replace(".", "%2E") if segment in (".", "..") else segment


def _without_device(segment: str) -> str:
    if segment.endswith("."):
        segment = segment[:-1] + "%2E"
    return f"%{ord(segment[0]):02X}{segment[1:]}" if _DEVICE.match(segment) else segment


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


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
