"""Appending: whole needles and other records, written at the tail.

A write that fails takes its bytes back: the file is cut at the tail, where the write began.  Where even that
fails, the volume is sealed.  Nothing here is durable until the next sync.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from crc32c import crc32c

from warehouse.errors import (
    ChecksumMismatch,
    DiskFull,
    NeedleExists,
    NeedleVoid,
    StoreError,
    VolumeFormatOld,
    VolumeFull,
)
from warehouse.storage.disk import Buffer, write_all, write_rest
from warehouse.storage.extent import Placed
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    DATA_SIZE_MAX,
    KIND_DATA,
    KIND_NOTE,
    MARK_SIZE,
    NEEDLE_ID_MAX,
    PADDINGS,
    block_table,
    check_data_size,
    check_needle_id,
    encode_content,
    encode_footer,
    encode_header,
    encode_mark,
    format_needed,
    place_seed,
    stored_size,
)
from warehouse.storage.format.superblock import FORMAT_NEWEST
from warehouse.storage.index import encode_entry
from warehouse.storage.writing.file_check import FileCheck
from warehouse.storage.writing.state import VolumeState
from warehouse.storage.writing.syncing import Syncing

APPENDS_MAX: Final = 256  # needles in one write, of three buffers each: Linux and macOS take 1,024
PENDING_MAX: Final = 100_000  # entries in memory between two syncs; about 15 MB


class NewNeedle(NamedTuple):
    """A needle that is to be written."""

    needle_id: int
    metadata: bytes  # as `encode_metadata` makes it
    data: Buffer  # its length in items must be its length in bytes (a memoryview of bytes, say)
    crc: int | None = None  # what the sender says the CRC-32C of the data is


class _Encoded(NamedTuple):
    """The record of a new needle, for its place and no other."""

    buffers: tuple[Buffer, ...]
    needle_id: int
    offset: int
    size: int
    crc: int
    stamp: int
    entry: bytes


class Appender:
    """Appends to one volume.  On the thread of the owner."""

    __slots__ = ("_files", "_state", "_syncing")

    def __init__(self, state: VolumeState, syncing: Syncing, files: FileCheck) -> None:
        self._state = state
        self._syncing = syncing
        self._files = files

    # --- needles ----------------------------------------------------------------------------------

    def append(self, new: NewNeedle, stamp: int) -> Placed:
        """See `Volume.append`."""
        state = self._state
        with state.owner:
            record = self._encode(new, stamp, state.tail)
            self._write_tail(record.buffers, record.size)
            self._count((record,), record.offset + record.size)
            return Placed(record.size, record.crc, record.offset)

    def append_many(
        self, needles: Sequence[NewNeedle], tick: Callable[[], int]
    ) -> list[tuple[Placed, int] | StoreError]:
        """See `Volume.append_many`."""
        outcomes: list[tuple[Placed, int] | StoreError] = []
        records: list[_Encoded] = []
        needle_ids: set[int] = set()
        state = self._state
        with state.owner:
            tail = state.tail
            for new in needles:
                try:
                    if new.needle_id in needle_ids:
                        raise NeedleExists(f"volume {state.volume_id} has a needle {new.needle_id} already")
                    record = self._encode(new, tick(), tail)
                except StoreError as error:
                    outcomes.append(error.with_traceback(None))  # which would hold all bodies, in a cycle
                    continue
                needle_ids.add(new.needle_id)
                records.append(record)
                outcomes.append((Placed(record.size, record.crc, tail), record.stamp))
                tail += record.size
            if not records:
                return outcomes
            try:
                buffers = [buffer for record in records for buffer in record.buffers]
                self._write_tail(buffers, tail - state.tail)
            except StoreError:
                # Their bytes have been taken back.  One by one those find their place that still fit, and
                # each of the others gets its own error.
                return [self._append_alone(new, tick) for new in needles]
            self._count(records, tail)
        return outcomes

    def _append_alone(self, new: NewNeedle, tick: Callable[[], int]) -> tuple[Placed, int] | StoreError:
        stamp = tick()
        try:
            return self.append(new, stamp), stamp
        except StoreError as error:
            return error.with_traceback(None)

    def _encode(self, new: NewNeedle, stamp: int, offset: int) -> _Encoded:
        """The record of a needle that may be written at `offset`; raises as `Volume.append`."""
        needle_id, metadata, data, crc = new
        data_size = len(data)
        size = stored_size(len(metadata), data_size)
        self.check_new(needle_id, metadata, data_size, offset, size)
        data_crc = crc32c(data)
        if crc is not None and crc != data_crc:
            raise ChecksumMismatch(f"the data has CRC-32C {data_crc:08x}, its sender says {crc:08x}")
        header, header_crc = encode_header(
            KIND_DATA, 0, needle_id, metadata, data_size, place_seed(self._state.generation.seed, offset)
        )
        table = block_table(data) if data_size > BLOCK_SIZE else b""
        footer = encode_footer(header_crc, stamp, data_crc, table)
        padding = PADDINGS[size - len(header) - data_size - len(footer)]
        entry = encode_entry(offset, len(metadata), data_size, data_crc)
        return _Encoded((header, data, footer + padding), needle_id, offset, size, data_crc, stamp, entry)

    def _count(self, records: Sequence[_Encoded], tail: int) -> None:
        """They are written: have them found, up to the new tail."""
        state = self._state
        tally, put = state.tally, state.generation.entries.put
        with state.lock:
            state.tail = tail
            for record in records:
                put(record.needle_id, record.entry)
                tally.live_count += 1
                tally.live_bytes += record.size
                if record.needle_id > tally.needle_id_max:
                    tally.needle_id_max = record.needle_id
                if record.stamp > tally.stamp_max:
                    tally.stamp_max = record.stamp

    def check_new(self, needle_id: int, metadata: bytes, data_size: int, offset: int, size: int) -> None:
        """Refuse a needle that cannot be written, as a record of `size` bytes at `offset`."""
        state = self._state
        if state.sealed_cause is not None or not 0 < needle_id <= NEEDLE_ID_MAX or data_size > DATA_SIZE_MAX:
            state.check_writable()
            check_needle_id(needle_id)
            check_data_size(data_size)
        if needle_id <= state.tally.needle_id_max:
            found = state.generation.find_checked(needle_id)
            if found is not None and found.is_deleted:
                raise NeedleVoid(f"volume {state.volume_id}: needle {needle_id} was deleted")
            if found is not None or needle_id in state.reserved_ids:
                raise NeedleExists(f"volume {state.volume_id} has a needle {needle_id} already")
        if state.identity.format < FORMAT_NEWEST and format_needed(metadata) > state.identity.format:
            raise VolumeFormatOld(
                f"volume {state.volume_id} has format {state.identity.format}: needle {needle_id} has"
                f" attributes, which need {FORMAT_NEWEST}"
            )
        if offset + size > state.capacity:
            raise VolumeFull(f"volume {state.volume_id} has {state.capacity - offset} bytes left, not {size}")
        if state.generation.entries.pending_count >= PENDING_MAX:
            self._syncing.sync()
            if state.generation.entries.pending_count >= PENDING_MAX:
                raise DiskFull(f"volume {state.volume_id}: its index cannot be written")

    # --- other records ----------------------------------------------------------------------------

    def append_mark(self, kind: int, needle_id: int, stamp: int, *, flags: int = 0) -> int:
        """Write a tombstone or restamp at the tail, which the caller then moves; returns its offset."""
        state = self._state
        offset = state.tail
        mark = encode_mark(kind, needle_id, stamp, place_seed(state.generation.seed, offset), flags=flags)
        self._write_tail((mark,), MARK_SIZE)
        return offset

    def append_content(self, kind: int, content: bytes, stamp: int) -> int:
        """Write a note, bucket or void record at the tail; returns its offset.

        Raises:
            OSError: as the system gave it.
        """
        state = self._state
        offset = state.tail
        record = encode_content(kind, content, stamp, place_seed(state.generation.seed, offset))
        write_all(state.generation.data, [record], offset)
        with state.lock:
            state.tail += len(record)
            state.tally.stamp_max = max(state.tally.stamp_max, stamp)
            if kind == KIND_NOTE:
                state.tally.dead_bytes += len(record)
            else:
                state.tally.kept_bytes += len(record)
        return offset

    # --- the tail ---------------------------------------------------------------------------------

    def _write_tail(self, buffers: Sequence[Buffer], size: int) -> None:
        """Write at the tail, which the caller then moves; on failure the bytes are taken back."""
        state = self._state
        data = state.generation.data
        if data.size() < state.durable:
            self._files.require_uncut()
        try:
            written = data.pwritev(buffers, state.tail)
            if written != size:
                write_rest(data, buffers, state.tail, written)
        except OSError as error:
            self.roll_back(error)

    def roll_back(self, error: OSError) -> NoReturn:
        """Cut what a failed write may have left after the tail, or seal; raises what became of it."""
        state = self._state
        failure = state.write_error(error)
        try:
            state.generation.data.truncate(state.tail)
        except OSError as truncate_error:
            state.seal(f"half a record at {state.tail} could not be taken back: {truncate_error}")
        raise failure from error
