"""Ranges: as one table, and as the data plane reads them."""

from __future__ import annotations

import pytest

from warehouse.errors import RangeNotSatisfiable
from warehouse.s3.failures import Failure
from warehouse.s3.ranges import (
    Slice,
    content_range,
    parse_copy_range,
    parse_range,
    part_slice,
    read_part_number,
    requested_slice,
    unsatisfied_range,
)
from warehouse.transport.http.rules import parse_range as parse_range_of_the_data_plane

WHOLE = None
BEYOND = "InvalidRange"
HUGE = b"9" * 5000


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        (b"bytes=0-0", 10, Slice(0, 1)),
        (b"bytes=2-5", 10, Slice(2, 4)),
        (b"bytes=2-", 10, Slice(2, 8)),
        (b"bytes=-3", 10, Slice(7, 3)),
        (b"bytes=-30", 10, Slice(0, 10)),
        (b"bytes=0-99", 10, Slice(0, 10)),
        (b"bytes=0-" + HUGE, 10, Slice(0, 10)),
        (b"bytes=-" + HUGE, 10, Slice(0, 10)),
        (b"bytes=0000-0001", 10, Slice(0, 2)),
        (b"Bytes = 0-1", 10, Slice(0, 2)),
        (b"bytes=9-9", 10, Slice(9, 1)),
        (b"bytes=10-10", 10, BEYOND),
        (b"bytes=10-", 10, BEYOND),
        (b"bytes=" + HUGE + b"-", 10, BEYOND),
        (b"bytes=-0", 10, BEYOND),
        (b"bytes=0-0", 0, BEYOND),
        (b"bytes=0-", 0, BEYOND),
        (b"bytes=-1", 0, BEYOND),
        (b"bytes=-0", 0, BEYOND),
        (b"bytes=5-2", 10, WHOLE),
        (b"bytes=5-2", 0, WHOLE),
        (b"bytes=0-1,3-4", 10, WHOLE),
        (b"bytes=-", 10, WHOLE),
        (b"bytes=", 10, WHOLE),
        (b"bytes", 10, WHOLE),
        (b"", 10, WHOLE),
        (b"bytes=a-b", 10, WHOLE),
        (b"bytes=--1", 10, WHOLE),
        (b"bytes=+1-2", 10, WHOLE),
        (b"bytes=1.0-2", 10, WHOLE),
        (b"bytes=\xb2-3", 10, WHOLE),
        (b"items=0-1", 10, WHOLE),
        (b"0-1", 10, WHOLE),
    ],
)
def test_ranges(value: bytes, size: int, expected: Slice | str | None) -> None:
    if expected == BEYOND:
        with pytest.raises(Failure) as refused:
            parse_range(value, size)
        assert refused.value.code == "InvalidRange"
        assert refused.value.status == 416
        assert refused.value.fields["ActualObjectSize"] == str(size)
    else:
        assert parse_range(value, size) == expected


def test_the_data_plane_reads_the_same_ranges() -> None:
    """But for numbers that are longer than any size: it ignores them."""
    ends = ("", "0", "1", "4", "5", "6", "x")
    for value in (f"bytes={first}-{last}".encode() for first in ends for last in ends):
        for size in (0, 1, 5):
            try:
                expected = parse_range_of_the_data_plane(value, size)
            except RangeNotSatisfiable:
                with pytest.raises(Failure, match="InvalidRange"):
                    parse_range(value, size)
            else:
                found = parse_range(value, size)
                assert (None if found is None else (found.start, found.length)) == expected, (value, size)


def test_what_an_answer_says_of_its_range() -> None:
    assert content_range(Slice(2, 4), 10) == b"bytes 2-5/10"
    assert unsatisfied_range(10) == b"bytes */10"


PARTS = ((1, 5), (3, 5), (10_000, 2))


@pytest.mark.parametrize(
    ("number", "expected"), [(1, Slice(0, 5)), (3, Slice(5, 5)), (10_000, Slice(10, 2)), (2, None), (4, None)]
)
def test_a_part_is_found_by_its_number(number: int, expected: Slice | None) -> None:
    if expected is None:
        with pytest.raises(Failure) as refused:
            part_slice(number, 12, PARTS)
        assert (refused.value.code, refused.value.status) == ("InvalidPart", 400)
    else:
        assert part_slice(number, 12, PARTS) == expected


def test_an_object_in_one_piece_is_its_part_1() -> None:
    assert part_slice(1, 12, ()) == Slice(0, 12)
    assert part_slice(1, 0, ()) == Slice(0, 0)
    with pytest.raises(Failure, match="InvalidPart"):
        part_slice(2, 12, ())


def test_a_request_names_a_range_or_a_part() -> None:
    assert requested_slice({}, None, 12, PARTS) is None
    assert requested_slice({b"range": b"bytes=1-2"}, None, 12, PARTS) == Slice(1, 2)
    assert requested_slice({}, 3, 12, PARTS) == Slice(5, 5)
    with pytest.raises(Failure) as refused:
        requested_slice({b"range": b"bytes=1-2"}, 3, 12, PARTS)
    assert (refused.value.code, refused.value.status) == ("InvalidRequest", 400)


@pytest.mark.parametrize("text", ["", "0", "10001", "-1", "1.0", "x", "٣", "9" * 5000, " 1"])
def test_numbers_that_no_part_has(text: str) -> None:
    with pytest.raises(Failure) as refused:
        read_part_number(text)
    assert (refused.value.code, refused.value.status) == ("InvalidArgument", 400)


def test_part_numbers() -> None:
    assert read_part_number(None) is None
    assert (read_part_number("1"), read_part_number("10000")) == (1, 10_000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-4", Slice(0, 5)),
        (b"bytes=2-2", Slice(2, 1)),
        (b"bytes=0-5", "InvalidRange"),
        (b"bytes=5-5", "InvalidRange"),
        (b"bytes=0-21", "InvalidRange"),
        (b"0-2", "InvalidArgument"),
        (b"bytes=0", "InvalidArgument"),
        (b"bytes=0-", "InvalidArgument"),
        (b"bytes=-2", "InvalidArgument"),
        (b"bytes=3-2", "InvalidArgument"),
        (b"bytes=hello-world", "InvalidArgument"),
        (b"bytes=0-bar", "InvalidArgument"),
        (b"bytes=hello-", "InvalidArgument"),
        (b"bytes=0-2,3-5", "InvalidArgument"),
        (b"bytes=0-" + HUGE, "InvalidArgument"),
        (b"", "InvalidArgument"),
    ],
)
def test_the_range_of_a_copied_part(value: bytes, expected: Slice | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(Failure) as refused:
            parse_copy_range(value, 5)
        assert refused.value.code == expected
    else:
        assert parse_copy_range(value, 5) == expected
