"""Recovery: is a bad stretch of a data file the torn tail of a crash, or damage?

A crash may leave the end of a data file torn.  Over the years a byte in its middle may go wrong.  Both look
alike at first, and must never be taken for one another: nobody was told that a torn tail was stored, so it is
cut off.  Damage is somebody's data, so it is reported, stepped over and kept.

A stretch that does not check counts as damage when anything proves that it was whole once:

- it ends before the watermark (all of that was synced, and nothing unfinished lies before it), or
- the index has an entry for it (an entry is written only after its record is durable), or
- the disk refuses to read it.

Without such proof it is torn.  At the end of the file it is cut off.  In the middle, where unsynced writes
reached the disk out of order, it is stepped over as dead space, and a note record is appended: the note
remembers the verdict, should the index be rebuilt one day.

When the index is lost, nothing is proven.  Then only zeros and unfinished uploads are cut.  Everything else
that does not check is reported as damage, unless a note excuses it.

Applying a record twice changes nothing but the counters, which start from those of the checkpoint.  Entries
of the index may be ahead of its header, and a tombstone is recognised by the offset in the entry.  Each entry
is written again all the same: after a failed sync of the index, an entry that reads well may be in memory
alone, and would never reach the disk.

`storage/scan.py` finds the stretches, `storage/opening.py` runs the recovery, `Volume.open` does the cutting.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, Protocol

import msgspec

from warehouse.errors import NeedleCorrupt
from warehouse.storage.format.needle import (
    CONTENT_SIZE_MAX,
    KIND_BUCKET,
    KIND_DATA,
    KIND_NOTE,
    KIND_TOMBSTONE,
    KIND_VOID,
    decode_void,
    stored_size,
)
from warehouse.storage.format.stamp import sound
from warehouse.storage.index import FLAG_DAMAGED, FLAG_DELETED, IndexEntry, Tally, encode_entry
from warehouse.storage.scan import Record, State

# Ids of void records that do not follow on one another, which takes damage: each needs an entry of its own.
VOID_IDS_MAX: Final = 1 << 22
NOTE_RANGE: Final = Struct("<QQ")  # start and end of a torn stretch


class Damage(msgspec.Struct, frozen=True):
    """A stretch of a data file that was whole once."""

    volume_id: int
    offset: int
    length: int
    needle_id: int | None  # None: its header is unreadable, and the index does not know it either
    problem: str
    bucket: str | None = None  # only where a scrub has looked, and the header is readable
    key: str | None = None


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a volume found and did."""

    scanned_from: int
    scanned_bytes: int
    record_count: int
    rebuilt_because: str | None = None  # why the index was rebuilt
    cut_bytes: int = 0  # torn end, cut off
    torn: tuple[tuple[int, int], ...] = ()  # start, end of torn stretches stepped over
    damages: tuple[Damage, ...] = ()
    repairs: tuple[str, ...] = ()  # superblock, manifest or index, restored from their other copy


class Entries(Protocol):
    """The index as the recovery sees it."""

    def get(self, needle_id: int) -> IndexEntry | None: ...

    def put(self, needle_id: int, entry: bytes) -> None: ...

    def put_void(self, offset: int, content: bytes) -> bool:
        """Take in the void record at an offset, by range; False: its ids need entries of their own."""

    def within(self, start: int, end: int) -> Iterator[tuple[int, IndexEntry]]:
        """All entries whose offset is in a stretch of the data file, by a walk through the whole index."""


def encode_note(torn: list[tuple[int, int]]) -> list[bytes]:
    """The contents of the notes that remember torn stretches."""
    ranges = b"".join(NOTE_RANGE.pack(start, end) for start, end in torn)
    return [ranges[at : at + CONTENT_SIZE_MAX] for at in range(0, len(ranges), CONTENT_SIZE_MAX)]


class Recovery:
    """Takes the records of a scan in order; says at the end where the file ends, and what is wrong."""

    def __init__(
        self, *, volume_id: int, start: int, entries: Entries, tally: Tally, durable: int, is_rebuild: bool
    ) -> None:
        """
        Args:
            start: where the scan starts; `tally` counts what lies before it.
            durable: the watermark; `start` when it is not known.
            is_rebuild: there was no usable index, so `entries` starts out empty.
        """
        self.tally = tally
        self.tail = start
        self.record_count = 0
        self.cut_bytes = 0
        self.damages: list[Damage] = []
        self.torn: list[tuple[int, int]] = []
        self._volume_id = volume_id
        self._entries = entries
        self._durable = durable
        self._is_rebuild = is_rebuild
        self._noted: list[tuple[int, int]] = []
        self._suspects: list[Record] = []
        self._in_gaps: dict[
            int, list[tuple[int, IndexEntry]]
        ] = {}  # what the index knows of each, by its offset
        self._void_id_count = 0  # that have entries of their own

    def run(self, records: Iterable[Record]) -> None:
        """Take in a whole scan; afterwards `tail`, `tally`, `damages` and `torn` are final."""
        for record in records:
            self._take(record)
        self._cut_tail()
        self._look_up_gaps()
        for suspect in self._suspects:
            self._judge(suspect)
        self._suspects.clear()
        self._in_gaps.clear()

    def _take(self, record: Record) -> None:
        self.tail = record.end
        if record.state is State.WHOLE:
            self.record_count += 1
            self._apply(record, 0)
        elif self._is_proven(record):
            self._report(record)
        else:
            self._suspects.append(record)

    def _is_proven(self, record: Record) -> bool:
        """Whether a stretch that does not check was whole once, whatever a note may say."""
        if record.is_unreadable:
            return True
        found = self._entries.get(record.needle_id)  # of a gap it is 0, which has none
        return found is not None and found.offset == record.offset

    def _was_synced(self, record: Record) -> bool:
        """Whether the watermark says that a stretch was whole once.

        The watermark may also have passed a torn stretch, after a recovery had noted the stretch.
        """
        if record.state is State.GAP:
            return record.offset < self._durable
        return record.state is State.BAD and record.end <= self._durable

    def _cut_tail(self) -> None:
        """Cut the torn tail: drop suspects from the end of the file, up to the last record that is whole."""
        while self._suspects and self._suspects[-1].end == self.tail:
            last = self._suspects[-1]
            if last.offset < self._durable or not self._may_cut(last):
                return
            self.tail = last.offset
            self.cut_bytes += last.stored_size
            self._suspects.pop()

    def _may_cut(self, record: Record) -> bool:
        return not self._is_rebuild or record.state is State.UNFINISHED or record.is_zero

    def _judge(self, record: Record) -> None:
        if record.state is State.UNFINISHED:
            self._count_dead(record)
            return
        is_excused = any(start <= record.offset and record.end <= end for start, end in self._noted)
        if not is_excused and (self._is_rebuild or self._was_synced(record)):
            self._report(record)
            return
        self._count_dead(record)
        if not is_excused:
            self.torn.append((record.offset, record.end))

    def _report(self, record: Record) -> None:
        """Count damage, and keep what is known about its needle."""
        if record.state is State.GAP:
            self._report_gap(record)
            return
        self._add_damage(record.offset, record.stored_size, record.needle_id or None, record.problem)
        self._apply(record, FLAG_DAMAGED)

    def _look_up_gaps(self) -> None:
        """Ask the index about all gaps in one walk: there may be as many gaps as needles."""
        gaps = [record for record in self._suspects if record.state is State.GAP]
        if len(gaps) < 2:
            return
        starts = [gap.offset for gap in gaps]  # a scan goes forwards
        self._in_gaps = {start: [] for start in starts}
        for needle_id, found in self._entries.within(starts[0], gaps[-1].end):
            gap = gaps[bisect_right(starts, found.offset) - 1]
            if found.offset < gap.end:
                self._in_gaps[gap.offset].append((needle_id, found))

    def _report_gap(self, gap: Record) -> None:
        """The headers are gone, but the index may still know which needles were there."""
        lost = self._in_gaps.pop(gap.offset, None)
        if lost is None:  # this gap was judged before the others, because the disk refuses to read it
            lost = list(self._entries.within(gap.offset, gap.end))
        rest = gap.stored_size
        for needle_id, found in lost:
            data_size = stored_size(found.metadata_size, found.data_size)
            self.tally.needle_id_max = max(self.tally.needle_id_max, needle_id)
            if found.is_deleted:
                self._bury(found)
                continue
            entry = encode_entry(found.offset, found.metadata_size, found.data_size, found.crc, FLAG_DAMAGED)
            self._entries.put(needle_id, entry)
            self._count_live(data_size)
            rest -= data_size
            self._add_damage(found.offset, data_size, needle_id, gap.problem)
        self.tally.dead_bytes += rest
        if not lost:
            self._add_damage(gap.offset, gap.stored_size, None, gap.problem)

    def _add_damage(self, offset: int, length: int, needle_id: int | None, problem: str) -> None:
        self.tally.damaged_count += 1
        self.damages.append(Damage(self._volume_id, offset, length, needle_id, problem))

    # --- what each kind of record does ------------------------------------------------------------

    def _apply(self, record: Record, flags: int) -> None:
        tally = self.tally
        if record.needle_id > tally.needle_id_max:
            tally.needle_id_max = record.needle_id
        if (stamp := sound(record.stamp)) > tally.stamp_max:
            tally.stamp_max = stamp
        if record.kind == KIND_DATA:
            self._apply_data(record, flags)
        elif record.kind == KIND_TOMBSTONE:
            self._apply_tombstone(record)
        elif record.kind in (KIND_BUCKET, KIND_VOID):
            tally.kept_bytes += record.stored_size
            if record.kind == KIND_VOID and record.state is State.WHOLE:
                try:
                    self._apply_void(record)
                except NeedleCorrupt as error:
                    self._add_damage(record.offset, record.stored_size, None, error.message)
        else:
            if record.kind == KIND_NOTE and record.state is State.WHOLE:
                self._apply_note(record)
            self._count_dead(record)

    def _apply_note(self, note: Record) -> None:
        if len(note.content) % NOTE_RANGE.size:
            problem = f"a note of {len(note.content)} bytes names no stretches"
            self._add_damage(note.offset, note.stored_size, None, problem)
            return
        self._noted.extend(NOTE_RANGE.iter_unpack(note.content))

    def _apply_data(self, record: Record, flags: int) -> None:
        found = self._entries.get(record.needle_id)
        if found is None or found.offset == record.offset:
            crc = found.crc if found and flags else record.crc
            entry = encode_entry(record.offset, record.metadata_size, record.data_size, crc, flags)
            self._entries.put(record.needle_id, entry)
            self._count_live(record.stored_size)
        elif found.is_deleted and found.offset > record.offset and found.metadata_size:
            # Its tombstone comes later in this scan, and is in the index already.
            self._count_live(record.stored_size)
        else:
            self._count_dead(record)

    def _apply_void(self, record: Record) -> None:
        """Take in ids that are gone for good: by range, or as entries without a needle."""
        is_taken = self._entries.put_void(record.offset, record.content)
        for first, last in decode_void(record.content):
            self.tally.needle_id_max = max(self.tally.needle_id_max, last)
            if is_taken:
                continue
            self._void_id_count += last - first + 1
            if self._void_id_count > VOID_IDS_MAX:
                raise NeedleCorrupt(f"void records out of their order name more than {VOID_IDS_MAX:,} ids")
            for needle_id in range(first, last + 1):
                if self._entries.get(needle_id) is None:
                    self._entries.put(needle_id, encode_entry(record.offset, 0, 0, 0, FLAG_DELETED))

    def _apply_tombstone(self, record: Record) -> None:
        if record.metadata_size:  # its needle is not in this file: it speaks for the object
            self.tally.kept_bytes += record.stored_size
        else:
            self._count_dead(record)
        found = self._entries.get(record.needle_id)
        if found is None:
            self._entries.put(record.needle_id, encode_entry(record.offset, 0, 0, 0, FLAG_DELETED))
        elif not found.is_deleted or found.offset == record.offset:
            entry = encode_entry(record.offset, found.metadata_size, found.data_size, found.crc, FLAG_DELETED)
            self._entries.put(record.needle_id, entry)
            self._bury(found)

    def _bury(self, found: IndexEntry) -> None:
        """Move a needle that was counted as live to the dead."""
        if found.metadata_size:
            size = stored_size(found.metadata_size, found.data_size)
            self.tally.live_count -= 1
            self.tally.live_bytes -= size
            self.tally.dead_bytes += size
            self.tally.dead_count += 1
            self.tally.damaged_count -= found.is_damaged  # nobody misses it any more

    def _count_live(self, size: int) -> None:
        tally = self.tally
        tally.live_count += 1
        tally.live_bytes += size

    def _count_dead(self, record: Record) -> None:
        self.tally.needle_id_max = max(self.tally.needle_id_max, record.needle_id)
        self.tally.dead_bytes += record.stored_size
        self.tally.dead_count += record.kind == KIND_DATA
