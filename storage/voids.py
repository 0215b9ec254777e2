"""Voids: needle ids that are gone for good and have no entry of their own in the index.

A compaction leaves out what is dead, and these ids must never be written again.  It names them by range in
the void records of the new data file, which stand together, sorted by id; the index's header says where.  So
an id that was used once costs nothing later: what a volume keeps is a range between two of its live needles.

    id has an entry                        what the entry says
    none, and a void record names the id   void: deleted, as if by a tombstone where that record stands
    none                                   it was never written

Of each record the first id is in memory, the ranges are read when they are asked for.  Where a record does
not check, all ids from its first to the next record's are taken for void: an id too many that is never
written again harms nobody.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final

import msgspec
from crc32c import crc32c

from warehouse.errors import NeedleCorrupt
from warehouse.storage.disk import File, read_fully
from warehouse.storage.format.needle import (
    CONTENT_SIZE_MAX,
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_VOID,
    decode_footer,
    decode_header,
    decode_void,
    place_seed,
    stored_size,
)
from warehouse.storage.index import FLAG_DELETED, VoidSpan, encode_entry

_RANGE: Final = Struct("<II")


class _Ranges(msgspec.Struct, frozen=True):
    """The content of one record."""

    firsts: Sequence[int]
    lasts: Sequence[int]


class VoidTable:
    """The void records of one data file.

    Whoever builds a generation adds to it; from then on it does not change, and any thread may ask it.
    """

    def __init__(self, data: File, seed: int) -> None:
        self._data = data
        self._seed = seed
        self._offsets: list[int] = []
        self._firsts: list[int] = []  # of each record, ascending
        self._end = 0
        self._last_id = 0
        self._cached: tuple[int, _Ranges | None] = (-1, None)

    @classmethod
    def load(cls, data: File, seed: int, span: VoidSpan) -> VoidTable:
        """
        Raises:
            OSError: as the system gave it.
        """
        table = cls(data, seed)
        position = span.start
        while position < span.end:
            start = table._start_of(position)
            if start is None:
                table._take_rest(position)
                break
            first_id, size = start
            table._offsets.append(position)
            table._firsts.append(first_id)
            position += size
        table._end, table._last_id = span.end, span.last_id
        return table

    @property
    def span(self) -> VoidSpan | None:
        """None: nothing is void without an entry of its own."""
        return VoidSpan(self._offsets[0], self._end, self._last_id) if self._offsets else None

    def add(self, offset: int, content: bytes) -> bool:
        """Take in a void record; False where it does not follow on the last one, in place and in ids.

        Raises:
            NeedleCorrupt: its content is none.
        """
        if self._offsets and self._offsets[0] <= offset < self._end:
            return True  # a scan meets again what the header has told of
        ranges = decode_void(content)
        is_next = not self._offsets or offset == self._end
        previous = self._last_id
        for first, last in ranges:
            is_next = is_next and first > previous
            previous = last
        if not is_next or not ranges:
            return False
        self._offsets.append(offset)
        self._firsts.append(ranges[0][0])
        self._end, self._last_id = offset + stored_size(0, len(content)), previous
        return True

    def entry(self, needle_id: int, *, nowait: bool = False) -> bytes | None:
        """What an index entry of a void id would say; None: it is not void.

        Raises:
            BlockingIOError: `nowait`, and it is not in memory.
            OSError: the disk refused.
        """
        if needle_id > self._last_id or not self._offsets or needle_id < self._firsts[0]:
            return None
        number = bisect_right(self._firsts, needle_id) - 1
        ranges = self._ranges(number, nowait=nowait)
        if ranges is not None:
            at = bisect_right(ranges.firsts, needle_id) - 1
            if needle_id > ranges.lasts[at]:
                return None
        return encode_entry(self._offsets[number], 0, 0, 0, FLAG_DELETED)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """All of them, ascending.  What the disk refuses counts as what does not check."""
        for number, first_id in enumerate(self._firsts):
            try:
                ranges = self._ranges(number)
            except OSError:
                ranges = None
            if ranges is not None:
                yield from zip(ranges.firsts, ranges.lasts, strict=True)
            else:
                is_last = number + 1 == len(self._firsts)
                yield first_id, self._last_id if is_last else self._firsts[number + 1] - 1

    # --- records ----------------------------------------------------------------------------------

    def _start_of(self, offset: int) -> tuple[int, int] | None:
        """The first id of a record, and its size; None where no header checks."""
        head = self._read(offset, HEADER_SIZE + _RANGE.size)
        try:
            header = decode_header(head, place_seed(self._seed, offset))
        except NeedleCorrupt:
            return None
        if header is None or header.kind != KIND_VOID or header.data_size < _RANGE.size:
            return None
        previous = self._firsts[-1] if self._firsts else 0
        first_id, _ = _RANGE.unpack_from(head, HEADER_SIZE)
        # (An impossible first id would be damage after a header that checks.)
        return (max(first_id, previous + 1), header.stored_size)

    def _take_rest(self, offset: int) -> None:
        """No record begins here, so none after it can be found: its ids are all that are left."""
        if not self._firsts:
            first_id = 1
        else:
            ranges = self._ranges(len(self._firsts) - 1)
            if ranges is None:
                return  # the range of the record before reaches to the end as well
            first_id = ranges.lasts[-1] + 1
        self._offsets.append(offset)
        self._firsts.append(first_id)

    def _ranges(self, number: int, *, nowait: bool = False) -> _Ranges | None:
        """The ranges of a record; None where it does not check."""
        cached = self._cached
        if cached[0] != number:
            self._cached = cached = (number, self._load_ranges(self._offsets[number], nowait=nowait))
        return cached[1]

    def _load_ranges(self, offset: int, *, nowait: bool) -> _Ranges | None:
        seed = place_seed(self._seed, offset)
        try:
            header = decode_header(self._read(offset, HEADER_SIZE, nowait=nowait), seed)
            if header is None or header.kind != KIND_VOID or header.data_size > CONTENT_SIZE_MAX:
                return None
            content = self._read(offset + header.data_offset, header.data_size + FOOTER_SIZE, nowait=nowait)
            footer = decode_footer(header.crc, content[-FOOTER_SIZE:])
            if footer is None or footer.data_crc != crc32c(content[:-FOOTER_SIZE]):
                return None
            ranges = decode_void(content[:-FOOTER_SIZE])
        except NeedleCorrupt:
            return None
        return _Ranges(array("Q", (first for first, _ in ranges)), array("Q", (last for _, last in ranges)))

    def _read(self, offset: int, size: int, *, nowait: bool = False) -> bytes:
        buffer = bytearray(size)
        if not nowait:
            return bytes(buffer[: read_fully(self._data, buffer, offset)])
        if self._data.preadv([buffer], offset, nowait=True) < size:
            raise BlockingIOError(errno.EAGAIN, "only some of it is in memory")
        return bytes(buffer)
