"""Scan: read the records of a data file in order, whatever state they are in.

The recovery, rebuilds of index and catalog, and the scrub use it.  A scan only says what it finds.  Whether a
bad stretch is the torn tail of a crash or damage is for `storage/recovery.py` to judge.

    WHOLE       header, data, block table and footer all check
    UNFINISHED  a streamed record whose footer was never written
    BAD         the header checks, so the next record is known, but something after it does not
    GAP         no header checks here; reaches to the next one that does, or to the end

Memory is bounded by one window, whatever the size of the file or of a needle.  A sector that the disk
refuses to read makes the record or gap around it bad, and the scan goes on after it.  A long hole of the file
is zeros that need not be read: a file of terabytes that holds next to nothing costs next to nothing.
"""

from __future__ import annotations

import enum
import logging
import mmap
import re
from collections.abc import Generator, Iterator
from typing import Final

import msgspec
from crc32c import crc32c

from warehouse.errors import NeedleCorrupt
from warehouse.storage.disk import File, read_fully
from warehouse.storage.format.crc_combine import Joiner
from warehouse.storage.format.needle import (
    ALIGNMENT,
    BLOCK_SIZE,
    CONTENT_SIZE_MAX,
    CRC_SIZE,
    FLAG_OBJECT_DELETED,
    FLAG_STREAMED,
    FOOTER,
    FOOTER_COVERED,
    FOOTER_MAGIC,
    FOOTER_SIZE,
    HEADER,
    HEADER_COVERED,
    HEADER_SIZE,
    KIND_DATA,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    KINDS_WITH_CONTENT,
    MAGIC,
    METADATA_SIZE_MAX,
    Header,
    NeedleMetadata,
    announced_metadata_size,
    decode_footer,
    decode_header,
    decode_metadata,
    is_unfinished,
    place_seed,
    table_size,
)

log = logging.getLogger(__name__)

WINDOW_SIZE: Final = 1024 * 1024
# Shorter holes are read like all else.  File systems have been wrong about holes in what was just written.
# Volumes of a store hardly ever have longer holes, so next to nothing depends on what the system says.
HOLE_SIZE_MIN: Final = 256 * 1024 * 1024
_PLAIN_KINDS: Final = frozenset((KIND_DATA, KIND_TOMBSTONE, KIND_RESTAMP))
_PLAIN_FLAGS: Final = FLAG_STREAMED | FLAG_OBJECT_DELETED
_FIND_MAGIC: Final = re.compile(re.escape(MAGIC)).search
_FIND_NONZERO: Final = re.compile(rb"[^\0]").search
_SECTOR: Final = mmap.PAGESIZE  # how much is given up around a byte that cannot be read
_BLOCKS: Final = Joiner(BLOCK_SIZE)
_ZERO_BLOCK_CRC: Final = crc32c(bytes(BLOCK_SIZE))
_ZERO_BLOCK_TABLE: Final = _ZERO_BLOCK_CRC.to_bytes(CRC_SIZE, "little")
assert WINDOW_SIZE % BLOCK_SIZE == 0
assert HOLE_SIZE_MIN >= BLOCK_SIZE
assert WINDOW_SIZE > HEADER_SIZE + METADATA_SIZE_MAX
assert WINDOW_SIZE > CONTENT_SIZE_MAX


class State(enum.Enum):
    WHOLE = "whole"
    UNFINISHED = "unfinished"
    BAD = "bad"
    GAP = "gap"


class Record(msgspec.Struct, gc=False):
    """One record, or a gap."""

    offset: int
    stored_size: int  # bytes to the next record
    state: State
    kind: int = 0
    needle_id: int = 0
    metadata_size: int = 0
    data_size: int = 0
    stamp: int = 0
    crc: int = 0
    is_streamed: bool = False
    is_unreadable: bool = False  # the disk refused to give some of it
    is_zero: bool = False  # a gap of nothing but zeros
    metadata_bytes: bytes = b""
    content: bytes = b""  # the data of a note, bucket or void record, nothing else
    problem: str = ""
    flags: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.stored_size

    @property
    def object_deleted(self) -> bool:
        """Of a tombstone: its object was deleted, not only this needle."""
        return bool(self.flags & FLAG_OBJECT_DELETED)

    @property
    def metadata(self) -> NeedleMetadata:
        """Decoded when asked for; data and named tombstones have it.

        Raises:
            NeedleCorrupt: see `decode_metadata`.
        """
        return decode_metadata(self.metadata_bytes)


class Window:
    """A stretch of the file in memory, moved forwards as needed."""

    def __init__(self, file: File, end: int, size: int = WINDOW_SIZE) -> None:
        self._file = file
        self._end = end
        self._size = size
        self._start = 0
        self._buffer = memoryview(b"")
        self.loaded_bytes = 0  # read from the file so far
        self.unreadable: list[tuple[int, int]] = []  # start, end; grows in the order of the scan

    def view(self, offset: int, size: int) -> memoryview:
        """Up to `size` bytes from `offset` on, fewer at the end only; size is at most a window."""
        start = offset - self._start
        if start < 0 or start + size > len(self._buffer):
            self._load(offset)
            start = 0
        return self._buffer[start : start + size]

    def holds(self, offset: int, size: int) -> bool:
        """Whether `size` bytes from `offset` on are in memory."""
        return 0 <= offset - self._start <= len(self._buffer) - size

    def rest(self, offset: int) -> memoryview:
        """What is in memory from `offset` on.  When nothing is, a whole window is read."""
        start = offset - self._start
        if not 0 <= start < len(self._buffer):
            self._load(offset)
            start = 0
        return self._buffer[start:]

    def move_end(self, end: int) -> None:
        """The file has grown: it may be read up to `end` now."""
        self._end = end

    def next_data(self, offset: int) -> int:
        """The first offset, from `offset` on, where a record may begin: long holes are passed over."""
        data_at = self._file.next_data(offset)
        if data_at - offset < HOLE_SIZE_MIN:
            return offset
        return min(self._end, data_at - data_at % ALIGNMENT)

    def is_hole(self, offset: int, size: int) -> bool:
        """Whether `size` bytes from `offset` on are in a long hole."""
        return offset + size <= self._end and self._file.next_data(offset) >= offset + HOLE_SIZE_MIN

    def was_unreadable(self, start: int, end: int) -> bool:
        return any(start < bad_end and bad_start < end for bad_start, bad_end in self.unreadable)

    def _load(self, offset: int) -> None:
        wanted = max(0, min(self._size, self._end - offset))
        buffer = bytearray(wanted)
        try:
            count = read_fully(self._file, buffer, offset)
        except OSError as error:
            log.warning("read failed", extra={"offset": offset, "size": wanted, "cause": str(error)})
            count = self._load_sectors(buffer, offset)
        self.loaded_bytes += count
        self._start = offset
        self._buffer = memoryview(buffer)[:count]

    def _load_sectors(self, buffer: bytearray, offset: int) -> int:
        """Read page by page, leaving zeros where the disk refuses."""
        view, done = memoryview(buffer), 0
        while done < len(buffer):
            step = min(_SECTOR - (offset + done) % _SECTOR, len(buffer) - done)
            try:
                count = read_fully(self._file, view[done : done + step], offset + done)
            except OSError:
                self.unreadable.append((offset + done, offset + done + step))
                count = step
            done += count
            if count < step:
                break
        return done


def scan(file: File, seed: int, start: int, end: int) -> Iterator[Record]:
    """Read the records from `start`, which must be where one starts, to `end`.

    Args:
        seed: of the volume's identity (`VolumeIdentity.seed`).
        end: where to stop, at most the size of the file.
    Returns:
        Records and gaps that together cover `start` to `end` exactly.  The last one is BAD when it would
        reach beyond `end`, and is then cut to it.
    """
    return (found for found in scan_in_steps(file, seed, start, end) if isinstance(found, Record))


def scan_in_steps(file: File, seed: int, start: int, end: int) -> Iterator[Record | int]:
    """`scan` for callers that pause now and then.

    Within a record or gap that is larger than a window, it yields an offset for each window's worth.
    """
    window = Window(file, end)
    offset = start
    while offset < end:
        record = whole_in_memory(window, seed, offset)
        if record is None:
            header = header_at(window, seed, offset)
            record = yield from (
                record_at(window, header, offset, end) if header else gap_at(window, seed, offset, end)
            )
        yield record
        offset = record.end


def whole_in_memory(window: Window, seed: int, offset: int) -> Record | None:
    """The usual case made fast: a small needle or mark that checks, all in memory.  None: look closer."""
    rest = window.rest(offset)
    if len(rest) < HEADER_SIZE or window.unreadable:
        return None
    magic, header_crc, kind, flags, metadata_size, needle_id, data_size = HEADER.unpack_from(rest)
    data_start = HEADER_SIZE + metadata_size
    data_end = data_start + data_size
    foot_end = data_end + FOOTER_SIZE
    size = foot_end + -foot_end % ALIGNMENT
    if (
        magic != MAGIC
        or kind not in _PLAIN_KINDS
        or not needle_id
        or flags & ~_PLAIN_FLAGS
        or data_size > BLOCK_SIZE
        or size > len(rest)
        or crc32c(rest[HEADER_COVERED:data_start], place_seed(seed, offset)) != header_crc
    ):
        return None
    foot_magic, stamp, data_crc, foot_crc = FOOTER.unpack_from(rest, data_end)
    if (
        foot_magic != FOOTER_MAGIC
        or crc32c(rest[data_end : data_end + FOOTER_COVERED], header_crc) != foot_crc
        or crc32c(rest[data_start:data_end]) != data_crc
    ):
        return None
    return Record(
        offset,
        size,
        State.WHOLE,
        kind,
        needle_id,
        metadata_size,
        data_size,
        stamp,
        data_crc,
        bool(flags & FLAG_STREAMED),
        metadata_bytes=bytes(rest[HEADER_SIZE:data_start]),
        flags=flags,
    )


def header_at(window: Window, seed: int, offset: int) -> Header | None:
    front = window.view(offset, HEADER_SIZE)
    size = announced_metadata_size(front)
    if size is None or size > METADATA_SIZE_MAX:
        return None
    try:
        return decode_header(window.view(offset, HEADER_SIZE + size), place_seed(seed, offset))
    except NeedleCorrupt as error:
        log.warning("unknown record", extra={"offset": offset, "cause": error.message})
        return None


def at_once(steps: Generator[int, None, Record]) -> Record:
    """Run `gap_at` or `record_at` to its end, and return its record."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            record: Record = stop.value
            return record


def gap_at(window: Window, seed: int, start: int, end: int) -> Generator[int, None, Record]:
    """Look for the next valid header: its CRC is bound to its offset, so no data can pose as one."""
    offset = start
    is_zero, is_cut = True, False
    while offset < end:
        rest = window.rest(offset)
        if not rest:  # the file is shorter than the caller says
            offset, is_zero, is_cut = end, False, True
            break
        match = _FIND_MAGIC(rest, ALIGNMENT if offset == start else 0)
        skipped = match.start() if match else max(ALIGNMENT, len(rest) // ALIGNMENT * ALIGNMENT)
        is_zero_here = _FIND_NONZERO(rest, 0, skipped) is None
        is_zero = is_zero and is_zero_here
        offset += skipped
        if match:
            if offset % ALIGNMENT == 0 and header_at(window, seed, offset):
                break
            is_zero = False
            offset += ALIGNMENT - offset % ALIGNMENT
        else:
            if is_zero_here:
                offset = window.next_data(offset)
            yield offset
    offset = min(offset, end)
    return Record(
        start,
        offset - start,
        State.GAP,
        is_unreadable=is_cut or window.was_unreadable(start, offset),
        is_zero=is_zero,
        problem="no valid header",
    )


def record_at(window: Window, header: Header, offset: int, end: int) -> Generator[int, None, Record]:
    record = Record(
        offset,
        header.stored_size,
        State.BAD,
        header.kind,
        header.needle_id,
        header.metadata_size,
        header.data_size,
        is_streamed=header.is_streamed,
        flags=header.flags,
    )
    if record.end > end:
        record.stored_size = end - offset
        record.problem = f"ends {offset + header.stored_size - end} bytes early"
        return record
    front = window.view(offset, header.data_offset)
    record.metadata_bytes = bytes(front[HEADER_SIZE:])
    data_crc, table = yield from _read_data(window, header, offset, record)
    footer_bytes = window.view(offset + header.table_offset, table_size(header.data_size) + FOOTER_SIZE)
    footer = decode_footer(header.crc, footer_bytes)
    record.is_unreadable = bool(window.unreadable) and window.was_unreadable(offset, record.end)
    if record.is_unreadable:
        record.problem = "the disk refuses to read it"
    elif footer is None:
        if header.is_streamed and is_unfinished(footer_bytes):
            record.state = State.UNFINISHED
        record.problem = "footer does not match its CRC"
    elif footer.data_crc != data_crc:
        record.problem = f"data has CRC {data_crc:08x}, its footer says {footer.data_crc:08x}"
    elif table != footer_bytes[:-FOOTER_SIZE]:
        record.problem = "the block table does not match the data"
    elif header.is_damaged:
        record.problem = "it was damaged when its volume was compacted"
    else:
        record.state = State.WHOLE
    if footer is not None:
        record.stamp = footer.stamp
        record.crc = footer.data_crc
    return record


def _read_data(
    window: Window, header: Header, offset: int, record: Record
) -> Generator[int, None, tuple[int, bytes]]:
    """Read the data; returns its CRC and its block table."""
    start, size = offset + header.data_offset, header.data_size
    if header.kind in KINDS_WITH_CONTENT and size <= CONTENT_SIZE_MAX:
        record.content = bytes(window.view(start, size))
    if size <= BLOCK_SIZE:
        return crc32c(window.view(start, size)), b""
    data_crc, table = 0, bytearray()
    for at in range(0, size, BLOCK_SIZE):
        length = min(BLOCK_SIZE, size - at)
        if length == BLOCK_SIZE and window.is_hole(start + at, length):
            data_crc = _BLOCKS.join(data_crc, _ZERO_BLOCK_CRC)
            table += _ZERO_BLOCK_TABLE
        else:
            block = window.view(start + at, length)
            data_crc = crc32c(block, data_crc)
            table += crc32c(block).to_bytes(CRC_SIZE, "little")
        if (at + BLOCK_SIZE) % WINDOW_SIZE == 0:
            yield start + at + length
    return data_crc, bytes(table)
