"""Reader: parts of one needle, each checked before it is handed out.

A range read must not cost a read of the whole needle, nor skip its check: the block table has a CRC for
every 256 KiB.  A reader keeps the data file of its generation open, so it goes on reading when a
compaction has published the next one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import Struct
from typing import Final

from crc32c import crc32c

from warehouse.errors import NeedleCorrupt, ReadFailed
from warehouse.storage.disk import File, read_fully
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    CRC_SIZE,
    FOOTER_SIZE,
    HEADER_SIZE,
    METADATA_SIZE_MAX,
    Header,
    NeedleMetadata,
    announced_metadata_size,
    decode_footer,
    decode_header,
    decode_metadata,
    place_seed,
    table_size,
)

_CRC: Final = Struct("<I")

# Told of damage as it is found (needle id, offset in the file, what is wrong); makes the error to raise.
OnDamage = Callable[[int, int, str], NeedleCorrupt]


def read_exactly(file: File, size: int, offset: int, *, nowait: bool) -> bytearray:
    """Read `size` bytes, fewer only at the end of the file.

    Raises: as `read_into`.
    """
    buffer = bytearray(size)
    count = read_into(file, buffer, offset, nowait=nowait)
    if count < size:
        del buffer[count:]
    return buffer


def read_into(file: File, buffer: bytearray | memoryview, offset: int, *, nowait: bool) -> int:
    """Fill a buffer; returns less than its size at the end of the file only.

    Raises:
        BlockingIOError: `nowait`, and not all of them are in memory.
        OSError: as the system gave it.
    """
    if not nowait:
        return read_fully(file, buffer, offset)
    count = file.preadv([buffer], offset, nowait=True)
    if count < len(buffer) and offset + count < file.size():
        raise BlockingIOError(errno.EAGAIN, "only some of the bytes are in memory")
    return count


def read_header(
    file: File, seed: int, offset: int, *, metadata_size: int, nowait: bool
) -> tuple[Header, bytes] | None:
    """The header and the metadata of the record at an offset; None when none checks there.

    Args:
        metadata_size: how much metadata to expect: a wrong number costs a second read, no more.
    """
    front = read_exactly(file, HEADER_SIZE + metadata_size, offset, nowait=nowait)
    announced = announced_metadata_size(front)
    if announced is None or announced > METADATA_SIZE_MAX:
        return None
    if announced != metadata_size:
        front = read_exactly(file, HEADER_SIZE + announced, offset, nowait=nowait)
    try:
        header = decode_header(front, place_seed(seed, offset))
    except NeedleCorrupt:
        return None
    return (header, bytes(front[HEADER_SIZE:])) if header else None


class NeedleReader:
    """One needle, its header, block table and footer checked; its data is checked as it is read.

    May be used in any thread, by one at a time.
    """

    def __init__(
        self,
        file: File,
        *,
        volume_id: int,
        offset: int,
        header: Header,
        metadata_bytes: bytes,
        on_damage: OnDamage,
        nowait: bool = False,
    ) -> None:
        """Read and check block table and footer.

        Raises:
            NeedleCorrupt, ReadFailed, BlockingIOError: see `Volume.read`.
        """
        self.volume_id = volume_id
        self.needle_id = header.needle_id
        self.size = header.data_size
        self.metadata_bytes = metadata_bytes
        self._file = file
        self._offset = offset
        self._data_offset = offset + header.data_offset
        self._on_damage = on_damage
        self._small: memoryview | None = None  # all data of a needle without a block table
        back = self._read(table_size(self.size) + FOOTER_SIZE, offset + header.table_offset, nowait)
        footer = decode_footer(header.crc, back)
        if footer is None:
            raise self._damaged("footer does not match its CRC")
        self.stamp = footer.stamp
        self.crc = footer.data_crc
        self._table = bytes(back[:-FOOTER_SIZE])

    @property
    def metadata(self) -> NeedleMetadata:
        return decode_metadata(self.metadata_bytes)

    def read(
        self, start: int, length: int, *, nowait: bool = False, into: memoryview | None = None
    ) -> memoryview:
        """Bytes `start` to `start + length` of the data, checked.

        Reads the 256 KiB blocks that cover them: cheapest where both are multiples of that.

        Args:
            into: memory for these blocks, to be used again when the answer is not needed any more.
        Raises:
            ValueError: not a range within the data, or more than fits.
            NeedleCorrupt, ReadFailed, BlockingIOError: see `Volume.read`.
        """
        if start < 0 or length < 0 or start + length > self.size:
            raise ValueError(f"bytes {start} to {start + length} of a needle of {self.size}")
        if not self._table:
            return self._read_small(nowait)[start : start + length]
        return self._read_blocks(start, length, nowait, into)

    def _read_small(self, nowait: bool) -> memoryview:
        if self._small is None:
            data = self._read(self.size, self._data_offset, nowait)
            if crc32c(data) != self.crc:
                raise self._damaged("data does not match its CRC")
            self._small = memoryview(data)
        return self._small

    def _read_blocks(self, start: int, length: int, nowait: bool, into: memoryview | None) -> memoryview:
        first = start // BLOCK_SIZE
        read_start = first * BLOCK_SIZE
        read_end = min(self.size, -(-(start + length) // BLOCK_SIZE) * BLOCK_SIZE)
        wanted = max(0, read_end - read_start)
        if into is None:
            into = memoryview(bytearray(wanted))
        elif len(into) < wanted:
            raise ValueError(f"{wanted} bytes to read, and room for {len(into)}")
        blocks = into[:wanted]
        self._fill(blocks, self._data_offset + read_start, nowait)
        for number, at in enumerate(range(0, wanted, BLOCK_SIZE), first):
            (crc,) = _CRC.unpack_from(self._table, number * CRC_SIZE)
            if crc32c(blocks[at : at + BLOCK_SIZE]) != crc:
                raise self._damaged(f"bytes from {number * BLOCK_SIZE} on do not match their CRC")
        return blocks[start - read_start : start - read_start + length]

    def _read(self, size: int, offset: int, nowait: bool) -> bytearray:
        buffer = bytearray(size)
        self._fill(buffer, offset, nowait)
        return buffer

    def _fill(self, buffer: bytearray | memoryview, offset: int, nowait: bool) -> None:
        try:
            count = read_into(self._file, buffer, offset, nowait=nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(f"volume {self.volume_id}, needle {self.needle_id}: {error}") from error
        if count < len(buffer):
            raise self._damaged(f"the file ends {len(buffer) - count} bytes early")

    def _damaged(self, problem: str) -> NeedleCorrupt:
        return self._on_damage(self.needle_id, self._offset, problem)
