"""RecordCopier: copies the records of one generation to the next, and decides which.

    live needle       copied, with its latest stamp in its footer
    dead needle       left out; where its object was deleted, the deletion is kept for as long as it matters
    tombstone         of a needle that was copied: copied.  A named tombstone: kept for as long as it matters
    restamp           folded into the footer of its needle
    bucket            the latest of each bucket is copied, and of a deleted one its deletion
    note, void        left out: the next file has nothing torn, and its voids are made again at the end
    damage            never copied silently and never dropped: see `_take_large` and `_take_gap`

Every CRC is checked on the way.  "Dead" is judged as of one offset in the source (`tombstones_end`): a later
tombstone will be met by the copy, or by the switch, and has to find its needle.

The master tells the horizon, a stamp.  Deletions after it matter: of anything that was deleted before the
horizon, every older version has a tombstone of its own, wherever it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Final

from warehouse.errors import NeedleCorrupt
from warehouse.storage.compaction.next_generation import CopiedNeedle, NextGeneration
from warehouse.storage.disk import File
from warehouse.storage.extent import Extent
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    FLAG_STREAMED,
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_BUCKET,
    KIND_DATA,
    KIND_NOTE,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    KIND_VOID,
    MARK_SIZE,
    Footer,
    Header,
    decode_bucket,
    decode_footer,
    is_unfinished,
    stored_size,
    table_size,
)
from warehouse.storage.format.stamp import COUNTER_BITS
from warehouse.storage.index import IndexEntry
from warehouse.storage.recovery import NOTE_RANGE, Damage
from warehouse.storage.scan import (
    Record,
    State,
    Window,
    at_once,
    gap_at,
    header_at,
    record_at,
    whole_in_memory,
)

PIECE_SIZE: Final = 1024 * 1024
BATCH_SIZE: Final = 1024 * 1024  # bytes of small needles written at once
BATCH_COUNT: Final = 1024
TOMBSTONE_WINDOW: Final = 4096  # tombstones of one moment stand together
DAMAGES_MAX: Final = 1000
assert PIECE_SIZE % BLOCK_SIZE == 0

Lookup = Callable[[int], IndexEntry | None]
Within = Callable[[int, int], Iterator[tuple[int, IndexEntry]]]


class RecordCopier:
    """Copies records from `source`, whose index answers `lookup`, to `target`."""

    def __init__(
        self,
        source: File,
        seed: int,
        *,
        lookup: Lookup,
        lookup_now: Lookup,
        within: Within,
        target: NextGeneration,
        horizon: int,
        makes_voids: bool,
    ) -> None:
        """
        Args:
            lookup: what the index of the source says of a needle; the answer may be a little old.
            lookup_now: the same, as of now.
            within: all entries of needles in a stretch of the source; asked only where headers are lost.
            horizon: deletions with a lesser stamp are left out.
            makes_voids: ids of needles that are left out become void in the end.  Otherwise their tombstones
                are copied, to say that these ids can never be written again.
        """
        self._source = source
        self._seed = seed
        self._lookup = lookup
        self._lookup_now = lookup_now
        self._within = within
        self._target = target
        self._horizon = horizon
        self._makes_voids = makes_voids
        self._window = Window(source, 0)
        self._tombstones = Window(source, 0, TOMBSTONE_WINDOW)
        self._last_mark: tuple[int, Header | None] = (-1, None)
        self._batch: list[CopiedNeedle] = []
        self._batch_ids: set[int] = set()
        self._batch_size = 0
        self._tombstones_end = 0
        self._buckets: dict[int, tuple[bool, int]] = {}  # id -> whether it is deleted, stamp: the latest
        self._bucket_records: dict[int, int] = {}  # of them, where those stand that are not copied yet
        self._gaps: list[Record] = []
        self._noted: list[tuple[int, int]] = []
        self.damages: list[Damage] = []
        self.damaged_count = 0
        self.written_bytes = 0

    @property
    def read_bytes(self) -> int:
        return self._window.loaded_bytes + self._tombstones.loaded_bytes

    def copy(self, start: int, end: int, tombstones_end: int) -> Iterator[int]:
        """Copy the records from `start`, where one starts, to `end`; yields offsets now and then.

        Args:
            tombstones_end: needles whose tombstone stands before this offset are dead.
        Raises:
            ReadFailed, DiskFull, WriteFailed: the disk refused; the target is of no use any more.
        """
        self._tombstones_end = tombstones_end
        self._window.move_end(end)
        self._tombstones.move_end(tombstones_end)
        position, yielded = start, start
        while position < end:
            record: Record | Header | None = whole_in_memory(self._window, self._seed, position)
            if record is None:
                record = yield from self._look_closer(position, end)
            if isinstance(record, Record):
                self._take(record)
                position = record.end
            else:
                yield from self._take_large(position, record)
                position += record.stored_size
            if position - yielded >= PIECE_SIZE:
                yielded = position
                yield position
        self._write_batch()
        self._copy_buckets(end)

    def finish(self, save_lost: Callable[[int, Iterator[bytes]], None]) -> None:
        """After the last record, save what is left of stretches without a header.

        Args:
            save_lost: is given the offset and the bytes of each stretch that no note calls torn.
        """
        for gap in self._gaps:
            if not any(start <= gap.offset and gap.end <= end for start, end in self._noted):
                save_lost(gap.offset, self._raw(gap.offset, gap.stored_size))
                self._report(gap.offset, gap.stored_size, None, gap.problem)

    def _look_closer(self, position: int, end: int) -> Generator[int, None, Record | Header]:
        """The record at `position`, or only its header where it is a needle to be taken in pieces."""
        header = header_at(self._window, self._seed, position)
        if header is None:
            return (yield from gap_at(self._window, self._seed, position, end))
        if header.kind == KIND_DATA and position + header.stored_size <= end:
            if header.data_size <= BLOCK_SIZE:  # perhaps it only reached beyond the window
                self._window.view(position, header.stored_size)
                whole = whole_in_memory(self._window, self._seed, position)
                if whole is not None:
                    return whole
            return header
        return (yield from record_at(self._window, header, position, end))

    # --- one record -------------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        if record.state is State.GAP:
            self._take_gap(record)
        elif record.kind == KIND_DATA and record.state is State.WHOLE:
            self._take_small(record)
        elif record.state is not State.WHOLE:
            # A mark that does not check, or a needle that the end of the file cuts off.
            self._report(record.offset, record.stored_size, record.needle_id or None, record.problem)
        elif record.kind == KIND_TOMBSTONE:
            self._take_tombstone(record)
        elif record.kind == KIND_RESTAMP:
            if self._is_copied(record.needle_id):
                with contextlib.suppress(NeedleCorrupt):  # of one that was copied damaged the order is moot
                    self._target.fold_stamp(record.needle_id, record.stamp)
        elif record.kind == KIND_BUCKET:
            self._see_bucket(record)
        elif record.kind == KIND_NOTE:
            self._noted.extend(NOTE_RANGE.iter_unpack(record.content))
        else:
            assert record.kind == KIND_VOID  # its ids have entries, from which the new ones are made

    def _take_small(self, record: Record) -> None:
        found = self._lookup(record.needle_id)
        if not self._is_live(found, record.needle_id, record.offset):
            self._leave_out(record.needle_id, record.metadata_bytes, found)
            return
        data = self._window.view(record.offset + HEADER_SIZE + record.metadata_size, record.data_size)
        self._batch.append(
            CopiedNeedle(record.needle_id, record.metadata_bytes, data, record.stamp, record.crc)
        )
        self._batch_ids.add(record.needle_id)
        self._batch_size += record.stored_size
        if self._batch_size >= BATCH_SIZE or len(self._batch) >= BATCH_COUNT:
            self._write_batch()

    def _write_batch(self) -> None:
        if self._batch:
            self.written_bytes += self._target.copy_many(self._batch)
            self._batch, self._batch_size = [], 0
            self._batch_ids.clear()

    def _take_large(self, offset: int, header: Header) -> Iterator[int]:
        """Copy a needle piece by piece that is not wholly in memory, or that does not check."""
        found = self._lookup(header.needle_id)
        window, needle_id = self._window, header.needle_id
        metadata = bytes(
            window.view(offset + header.data_offset - header.metadata_size, header.metadata_size)
        )
        back_size = table_size(header.data_size) + FOOTER_SIZE
        is_claimed = found is not None and not found.is_deleted and found.offset == offset
        if header.is_streamed and not is_claimed:
            back = bytes(window.view(offset + header.table_offset, back_size))
            if is_unfinished(back):
                return  # an upload that broke off
        if not self._is_live(found, needle_id, offset):
            self._leave_out(needle_id, metadata, found)
            return
        self._write_batch()
        extent = self._target.copy_extent(
            needle_id, metadata, header.data_size, flags=header.flags & ~FLAG_STREAMED
        )
        start = offset + header.data_offset
        for at in range(0, header.data_size, PIECE_SIZE):
            wanted = min(PIECE_SIZE, header.data_size - at)
            piece = window.view(start + at, wanted)
            extent.write(piece if len(piece) == wanted else bytes(piece).ljust(wanted, b"\0"))
            yield offset + header.data_offset + at
        back = bytes(window.view(offset + header.table_offset, back_size))
        self.written_bytes += extent.stored_size
        self._finish_large(extent, offset, header, metadata, back)

    def _finish_large(
        self, extent: Extent, offset: int, header: Header, metadata: bytes, back: bytes
    ) -> None:
        """Finish a copy as whole or as damaged; a needle of which nothing says that it was whole gets none.

        Args:
            back: block CRCs and footer of the original.
        """
        footer = decode_footer(header.crc, back)
        problem = self._problem_of(extent, offset, header, footer, back)
        if problem is None:
            assert footer is not None
            extent.finish(stamp=footer.stamp)
            return
        found = self._lookup_now(header.needle_id)
        if found is None:  # it is torn, and a recovery stepped over it
            extent.abort()
            return
        self._report(offset, header.stored_size, header.needle_id, problem)
        if footer is None and extent.crc == found.crc and not header.is_damaged:
            # The index vouches for the data.  Only the stamp is lost: it was no earlier than this.
            extent.finish(stamp=self._created_stamp(metadata))
            return
        self._target.finish_damaged(
            extent,
            stamp=footer.stamp if footer is not None else 0,
            crc=found.crc,
        )

    def _problem_of(
        self, extent: Extent, offset: int, header: Header, footer: Footer | None, back: bytes
    ) -> str | None:
        """Why the original is not whole; None: it is."""
        if self._window.was_unreadable(offset, offset + header.stored_size):
            return "the disk refuses to read it"
        if header.is_damaged:
            return "it was damaged when its volume was compacted before"
        if footer is None:
            return "footer does not match its CRC"
        if footer.data_crc != extent.crc or back[:-FOOTER_SIZE] != extent.table:
            return "data does not match its CRC"
        return None

    def _created_stamp(self, metadata: bytes) -> int:
        record = Record(0, 0, State.WHOLE, metadata_bytes=metadata)
        return record.metadata.created_ms << COUNTER_BITS

    def _take_tombstone(self, record: Record) -> None:
        if record.metadata_size:
            if record.stamp >= self._horizon:
                metadata = record.metadata
                self.written_bytes += self._target.copy_deletion(record.needle_id, metadata, record.stamp)
            return
        # What died before `tombstones_end` was left out.
        if (
            not self._makes_voids
            or self._is_copied(record.needle_id)
            or record.offset >= self._tombstones_end
        ):
            self._target.delete(record.needle_id, stamp=record.stamp, object_deleted=record.object_deleted)

    def _see_bucket(self, record: Record) -> None:
        """Remember where the record stands that counts: a record of 64 KiB is not kept for each bucket."""
        bucket = decode_bucket(record.content)
        now = bucket.is_deleted, record.stamp
        if bucket.bucket_id not in self._buckets or now > self._buckets[bucket.bucket_id]:
            self._buckets[bucket.bucket_id] = now
            self._bucket_records[bucket.bucket_id] = record.offset

    def _copy_buckets(self, end: int) -> None:
        """Copy the records that count, of all that were met.  A later round copies what has changed since."""
        if not self._bucket_records:
            return
        window = Window(self._source, end, BLOCK_SIZE)
        for offset in sorted(self._bucket_records.values()):
            header = header_at(window, self._seed, offset)
            assert header is not None or window.unreadable  # it was whole a moment ago
            record = None if header is None else at_once(record_at(window, header, offset, end))
            if record is None or record.state is not State.WHOLE:
                self._report(offset, MARK_SIZE, None, "the disk refuses to read it again")
                continue
            self._target.copy_bucket(record.content, record.stamp)
            self.written_bytes += record.stored_size
        self._bucket_records.clear()

    # --- dead or alive ----------------------------------------------------------------------------

    def _is_live(self, found: IndexEntry | None, needle_id: int, offset: int) -> bool:
        """Whether the needle whose whole record stands at `offset` is to be copied."""
        if found is None or found.offset == offset:
            return True  # an entry that calls a needle its own tombstone is wrong as well
        if not found.is_deleted:
            return not self._holds(found.offset, needle_id)
        if found.offset >= self._tombstones_end:
            return True
        mark = self._mark_at(found.offset)
        # One flipped bit in the index must not delete; a tombstone that cannot be read has done so before.
        return mark is not None and not (
            mark.kind == KIND_VOID or (mark.kind == KIND_TOMBSTONE and mark.needle_id == needle_id)
        )

    def _mark_at(self, offset: int) -> Header | None:
        """The header of a tombstone or void record.  It is asked for twice in a row, so it is remembered."""
        if self._last_mark[0] != offset:
            window = self._window if self._window.holds(offset, MARK_SIZE) else self._tombstones
            self._last_mark = offset, header_at(window, self._seed, offset)
        return self._last_mark[1]

    def _holds(self, offset: int, needle_id: int) -> bool:
        other = header_at(Window(self._source, self._source.size(), TOMBSTONE_WINDOW), self._seed, offset)
        return other is not None and other.kind == KIND_DATA and other.needle_id == needle_id

    def _is_copied(self, needle_id: int) -> bool:
        if needle_id in self._batch_ids:
            self._write_batch()
        if needle_id > self._target.needle_id_max:  # which spares a look into the index for each tombstone
            return False
        found = self._target.find(needle_id)
        return found is not None and not found.is_deleted

    def _leave_out(self, needle_id: int, metadata_bytes: bytes, found: IndexEntry | None) -> None:
        """A dead needle: all that may have to be kept of it is that its object was deleted."""
        if found is None or not found.is_deleted:
            return
        header = self._mark_at(found.offset)
        if header is None or header.kind != KIND_TOMBSTONE or not header.object_deleted:
            return
        mark = at_once(record_at(self._tombstones, header, found.offset, self._tombstones_end))
        if self._target.find(needle_id) is not None:
            return  # its id was used twice, the first time by an upload that broke off
        if mark.state is not State.WHOLE or mark.stamp < self._horizon:
            return
        try:
            metadata = Record(0, 0, State.WHOLE, metadata_bytes=metadata_bytes).metadata
        except NeedleCorrupt:
            return  # a name that nobody can read names nothing
        self._write_batch()
        self.written_bytes += self._target.copy_deletion(needle_id, metadata, mark.stamp)

    # --- damage -----------------------------------------------------------------------------------

    def _take_gap(self, gap: Record) -> None:
        """A stretch without a valid header: copy what the index knows was there, remember the rest."""
        lost = sorted(
            (
                (needle_id, found)
                for needle_id, found in self._within(gap.offset, gap.end)
                if not found.is_deleted
            ),
            key=lambda pair: pair[1].offset,
        )
        self._write_batch()
        for needle_id, found in lost:
            size = stored_size(found.metadata_size, found.data_size)
            # The names of the needle cannot be trusted: zeros of the same size take their place.
            extent = self._target.copy_extent(needle_id, bytes(found.metadata_size), found.data_size, flags=0)
            start = found.offset + HEADER_SIZE + found.metadata_size
            for piece in self._raw(start, found.data_size):
                extent.write(piece)
            self._target.finish_damaged(extent, stamp=0, crc=found.crc)
            self.written_bytes += size
            self._report(found.offset, size, needle_id, gap.problem)
        if not lost and not gap.is_zero:
            self._gaps.append(gap)

    def _raw(self, start: int, size: int) -> Iterator[bytes]:
        """Bytes of the source as they are, with zeros where the disk refuses."""
        window = Window(self._source, start + size)
        for at in range(start, start + size, PIECE_SIZE):
            wanted = min(PIECE_SIZE, start + size - at)
            yield bytes(window.view(at, wanted)).ljust(wanted, b"\0")

    def _report(self, offset: int, length: int, needle_id: int | None, problem: str) -> None:
        self.damaged_count += 1
        if len(self.damages) < DAMAGES_MAX:
            self.damages.append(Damage(self._target.volume_id, offset, length, needle_id, problem))
