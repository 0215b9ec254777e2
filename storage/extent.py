"""Extent: room in a volume for one needle that arrives piece by piece.

An extent takes its place in the file when it begins.  It takes its room on the disk as its bytes come, a
little ahead of them: an upload that announces much and sends little takes little.  The header is on file from
the start, so the records after it can be found whatever becomes of the upload.  The needle counts once its
footer is there.  Several extents of one volume fill at the same time.

    open --finish--> finished        the needle is readable; durable after the next sync
    open --abort---> aborted         nothing is left when nothing was appended after it.  Otherwise it is dead
                                     space: its place is lost until a compaction, its room is given back now
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from crc32c import crc32c

from warehouse.errors import BadRequest, ChecksumMismatch, LengthMismatch
from warehouse.storage.disk import Buffer, File, write_all
from warehouse.storage.format.crc_combine import Joiner, join_crc
from warehouse.storage.format.needle import BLOCK_SIZE, CRC_SIZE, FOOTER_SIZE, encode_footer, table_size
from warehouse.storage.index import Tally

_BLOCKS: Final = Joiner(BLOCK_SIZE)
AHEAD_SIZE: Final = 4 * 1024 * 1024  # of room, at most, beyond the bytes that have come


class Placed(msgspec.Struct, frozen=True, gc=False):
    """Where a needle went."""

    stored_size: int
    crc: int
    offset: int


class ExtentOwner(Protocol):
    """What an extent asks of its volume."""

    def check_writable(self) -> None: ...

    def finish_extent(self, extent: Extent, stamp: int) -> Placed: ...

    def abort_extent(self, extent: Extent) -> bool: ...


class Extent:
    """Room for one needle.  `write` may run in any thread, one call at a time; the rest on the owner's."""

    def __init__(
        self,
        owner: ExtentOwner,
        file: File,
        *,
        needle_id: int,
        offset: int,
        stored_size: int,
        metadata_size: int,
        data_offset: int,
        data_size: int,
        header_crc: int,
        before: Tally,
        is_allocated: bool,
        on_error: Callable[[OSError], Exception],
    ) -> None:
        self.needle_id: Final = needle_id
        self.offset = offset
        self.stored_size: Final = stored_size
        self.metadata_size: Final = metadata_size
        self.data_offset = data_offset
        self.data_size: Final = data_size
        self.before = before  # the volume's counters without this record and what follows it
        self.written = 0
        self.crc = 0  # of the data, or of the blocks that are complete
        self._owner = owner
        self._file = file
        self._header_crc = header_crc
        self._on_error = on_error
        self._table = bytearray()
        self._block_crc = 0
        self._is_open = True
        self._is_broken = False
        # How much of the data has room for certain.  Without a wish for that: all of it.
        self._allocated = 0 if is_allocated else data_size
        # Keeps a write that was left running in its thread from landing after an abort: by then the
        # bytes may belong to another record.
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def write(self, piece: Buffer) -> None:
        """Append to the data.

        Raises:
            LengthMismatch: more than was reserved; nothing is written.
            BadRequest: the extent is finished, aborted, or an earlier write failed.
            VolumeSealed: the volume takes no more writes.
            DiskFull, WriteFailed: the disk refused; abort is what remains.
        """
        with self._lock:
            if not self._is_open or self._is_broken:
                raise BadRequest(f"the extent of needle {self.needle_id} takes no more data")
            self._owner.check_writable()
            size = len(piece)
            if self.written + size > self.data_size:
                raise LengthMismatch(
                    f"needle {self.needle_id} is {self.data_size} bytes long, {self.written + size} came"
                )
            try:
                offset = self.data_offset + self.written
                self._allocate(self.written + size)
                write_all(self._file, [piece], offset)
                # The disk works while the rest comes in, so the fdatasync at the end finds little left to do.
                self._file.start_writeback(offset, size)
            except OSError as error:
                self._is_broken = True
                raise self._on_error(error) from error
            self._digest(piece)
            self.written += size

    def _allocate(self, data_end: int) -> None:
        """Find room for the data up to `data_end`; with the last of it come block table and footer."""
        if data_end <= self._allocated:
            return
        end = min(self.data_size, data_end + AHEAD_SIZE)
        length = end - self._allocated
        if end == self.data_size:
            length += table_size(end) + FOOTER_SIZE
        self._file.allocate(self.data_offset + self._allocated, length)
        self._allocated = end

    @property
    def unallocated(self) -> int:
        """Bytes of data that are still to find room."""
        return self.data_size - self._allocated

    def give_back(self) -> None:
        """Give back the room of its data.  Its header stays, and says where the next record is.

        Raises:
            OSError: as the system gave it; nothing is wrong but that the room is not back.
        """
        self._file.punch(self.data_offset, self.data_size)

    def _digest(self, piece: Buffer) -> None:
        """Take the CRC of all data: block by block where it will need a table, and joined at their ends."""
        if self.data_size <= BLOCK_SIZE:
            self.crc = crc32c(piece, self.crc)
            return
        view, at = memoryview(piece), 0
        while at < len(view):
            room = BLOCK_SIZE - (self.written + at) % BLOCK_SIZE
            part = view[at : at + room]
            self._block_crc = crc32c(part, self._block_crc)
            at += len(part)
            if len(part) == room:
                self._end_block(_BLOCKS.join(self.crc, self._block_crc))
            elif self.written + at == self.data_size:
                self._end_block(join_crc(self.crc, self._block_crc, self.data_size % BLOCK_SIZE))

    def _end_block(self, crc: int) -> None:
        self.crc = crc
        self._table += self._block_crc.to_bytes(CRC_SIZE, "little")
        self._block_crc = 0

    def finish(self, *, stamp: int, crc: int | None = None) -> Placed:
        """Make it a needle.  Not durable until the volume is synced.

        Args:
            crc: what the sender says the CRC-32C of the data is.
        Raises:
            LengthMismatch: bytes are missing; the extent stays open.
            ChecksumMismatch: the data is not what the sender meant; the extent is aborted.
            NeedleVoid: the needle was deleted meanwhile; the extent is aborted.
            VolumeSealed, DiskFull, WriteFailed: it could not be written; the extent is aborted.
        """
        if not self._is_open or self._is_broken:
            raise BadRequest(f"the extent of needle {self.needle_id} cannot be finished any more")
        if self.written != self.data_size:
            raise LengthMismatch(
                f"needle {self.needle_id} is {self.data_size} bytes long, only {self.written} came"
            )
        if crc is not None and crc != self.crc:
            self.abort()
            raise ChecksumMismatch(f"the data has CRC-32C {self.crc:08x}, its sender says {crc:08x}")
        return self._owner.finish_extent(self, stamp)

    def abort(self) -> bool:
        """Give it up.  Does nothing when it is finished or aborted already.

        Returns:
            Whether its place in the file is free again.
        """
        return self._is_open and self._owner.abort_extent(self)

    # --- for the volume ---------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more writes: none lands after this returns."""
        with self._lock:
            self._is_open = False

    @property
    def table(self) -> bytes:
        """The block table of what was written."""
        return bytes(self._table)

    @property
    def header_crc(self) -> int:
        return self._header_crc

    def held(self) -> threading.Lock:
        """For `with`: no write lands as long as the block lasts."""
        return self._lock

    def rebind(self, header_crc: int) -> None:
        """Note that its header was written again."""
        self._header_crc = header_crc

    def move(self, mirror: Extent) -> None:
        """Go on in the place of `mirror`, which holds the same bytes in another generation.  While held."""
        assert mirror.written == self.written, "the mirror lacks bytes"
        assert mirror.stored_size == self.stored_size
        self._file = mirror._file
        self.offset, self.data_offset = mirror.offset, mirror.data_offset
        self._header_crc, self.before = mirror._header_crc, mirror.before
        mirror._is_open = False

    def write_footer(self, stamp: int) -> None:
        """Write block table and footer.

        Raises:
            OSError: as the system gave it; some of it may be on file, see `wipe_footer`.
        """
        footer = encode_footer(self._header_crc, stamp, self.crc, bytes(self._table))
        write_all(self._file, [footer], self._footer_offset)

    def wipe_footer(self) -> None:
        """Make it an unfinished record again.

        Raises:
            OSError: as the system gave it.
        """
        write_all(self._file, [bytes(table_size(self.data_size) + FOOTER_SIZE)], self._footer_offset)

    @property
    def _footer_offset(self) -> int:
        """Where the block table starts; the footer follows it at once."""
        return self.data_offset + self.data_size
