"""Ranges: which bytes of an object a request asks for.  Pure

    Range                     one range of bytes, as RFC 9110 has it
    partNumber                a part of a multipart object; 1 is all of another object
    x-amz-copy-source-range   exactly `bytes=first-last`, inside the source

A Range that asks for something else (several ranges, another unit, an end before its beginning) is no error:
the answer is the whole object with 200.  A range that begins after the end is a 416, and so is every range of
an empty object.

Source: RFC 9110, sections 14.1 to 14.4; the Amazon S3 API reference, "GetObject" and "UploadPartCopy".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from warehouse.s3.failures import Failure

PART_NUMBER_MAX: Final = 10_000
_DIGITS_MAX: Final = 19  # a longer number is greater than any size
_BEYOND: Final = 10**_DIGITS_MAX
_find_copy_range: Final = re.compile(rb"bytes=(\d{1,19})-(\d{1,19})").fullmatch


class Slice(Struct, frozen=True):
    """Bytes `start` to `start + length - 1` of an object."""

    start: int
    length: int


def requested_slice(
    headers: Mapping[bytes, bytes], number: int | None, size: int, parts: Sequence[tuple[int, int]]
) -> Slice | None:
    """The bytes that a GET or HEAD asks for; None: all, with 200.

    Args:
        number: of a part, from `read_part_number`.
        size: of the object.
        parts: number and size of each part, in order; empty for an object that is no multipart.
    Raises:
        Failure: InvalidRange, InvalidPart; InvalidRequest for a range and a part at once.
    """
    value = headers.get(b"range")
    if number is None:
        return None if value is None else parse_range(value, size)
    if value is not None:
        raise Failure("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    return part_slice(number, size, parts)


def parse_range(value: bytes, size: int) -> Slice | None:
    """Read a Range of an object of `size` bytes; None: the header is ignored.

    Raises:
        Failure: InvalidRange: no byte of the object lies in it.
    """
    unit, equals, spec = value.partition(b"=")
    if not equals or unit.strip().lower() != b"bytes":
        return None
    first, dash, last = (piece.strip() for piece in spec.partition(b"-"))
    if not dash or not (first or last) or not _is_number_or_empty(first) or not _is_number_or_empty(last):
        return None
    if not first:
        start, end = max(0, size - _number(last)), size - 1
        if _number(last) == 0:
            start = size  # the last 0 bytes are none
    else:
        start, end = _number(first), _number(last) if last else size - 1
        if last and end < start:
            return None
    if start >= size:
        raise not_satisfiable(value, size)
    return Slice(start, min(end, size - 1) - start + 1)


def not_satisfiable(value: bytes, size: int) -> Failure:
    return Failure(
        "InvalidRange",
        "The requested range is not satisfiable",
        {"ActualObjectSize": str(size), "RangeRequested": value[:100].decode("ascii", "backslashreplace")},
    )


def content_range(found: Slice, size: int) -> bytes:
    """The header of a 206."""
    return b"bytes %d-%d/%d" % (found.start, found.start + found.length - 1, size)


def unsatisfied_range(size: int) -> bytes:
    """The Content-Range of a 416."""
    return b"bytes */%d" % size


# --- parts --------------------------------------------------------------------------------------------


def read_part_number(text: str | None) -> int | None:
    """The query parameter `partNumber`; None: it was not sent.  Raises as `part_number` does."""
    return None if text is None else part_number(text)


def part_number(text: str) -> int:
    """
    Raises:
        Failure: InvalidArgument: it is none of 1 to 10,000.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= PART_NUMBER_MAX):
        raise Failure(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive",
            {"ArgumentName": "partNumber", "ArgumentValue": text[:100]},
        )
    return int(text)


def part_slice(number: int, size: int, parts: Sequence[tuple[int, int]]) -> Slice:
    """The bytes of one part; `parts` as `requested_slice` has them.

    Raises:
        Failure: InvalidPart: the object has no such part.
    """
    if not parts and number == 1:
        return Slice(0, size)
    start = 0
    for part, part_size in parts:
        if part == number:
            return Slice(start, part_size)
        start += part_size
    raise Failure(
        "InvalidPart",
        f"The requested part number {number} is not one of this object.",
        {"PartNumber": str(number)},
    )


def parse_copy_range(value: bytes, size: int) -> Slice:
    """Read `x-amz-copy-source-range` of a source of `size` bytes.

    Raises:
        Failure: InvalidArgument: it is no such range; InvalidRange: it ends after the source.
    """
    found = _find_copy_range(value.strip())
    if found is None or int(found[1]) > int(found[2]):
        raise Failure(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are"
            " the zero-based offsets of the first and last bytes to copy",
            {
                "ArgumentName": "x-amz-copy-source-range",
                "ArgumentValue": value[:100].decode("ascii", "backslashreplace"),
            },
        )
    first, last = int(found[1]), int(found[2])
    if last >= size:
        raise not_satisfiable(value, size)
    return Slice(first, last - first + 1)


def _is_number_or_empty(text: bytes) -> bool:
    return not text or text.isdigit()


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _DIGITS_MAX else _BEYOND
