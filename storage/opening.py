"""Opening a volume: from whatever a crash or the years have left, to a state that is true.

The order matters for what a crash in the middle of it may leave:

    1  sync the data file, then forget its cached pages: what the scan sees is on the disk, not only in
       memory (after a sync that failed, the two differ)
    2  scan what lies behind the checkpoint, and put its entries into the index: their records are durable
    3  cut off the torn end, remember torn stretches, sync again, and set the checkpoint (in `Volume.open`)

Opened read-only, nothing is written: the entries found stay in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec

from storage.disk import Disk, File
from storage.entries import EntryTable
from storage.files import data_path, index_path, load_facts
from storage.index import ENTRIES_OFFSET, Found, IndexFile, Tally, decode_entry
from storage.needle import ALIGNMENT
from storage.recovery import Damage, Recovery, RecoveryReport
from storage.scan import scan
from storage.superblock import SUPERBLOCK_SIZE, VolumeFacts

log = logging.getLogger(__name__)

FLUSH_COUNT = 65_536  # entries held in memory while scanning


class Opened(msgspec.Struct):
    """A volume, opened and judged."""

    facts: VolumeFacts
    data: File
    entries: EntryTable
    tally: Tally
    tail: int
    durable: int
    sequence: int  # of the newest index header
    checkpoint: int  # what that header says; the tail has moved on when they differ
    torn: list[tuple[int, int]]
    report: RecoveryReport
    sealed_cause: str | None


def open_files(disk: Disk, directory: str, *, read_only: bool) -> Opened:
    """Open a volume and recover it.

    Raises:
        NoSuchVolume, ManifestCorrupt, SuperblockCorrupt, FormatUnsupported: see `load_facts`.
        OSError: as the system gave it.
    """
    facts, repairs = load_facts(disk, directory, read_only=read_only)
    data = disk.open(data_path(directory, facts.generation), read_only=read_only)
    index = _open_index(disk, directory, facts, read_only=read_only)
    loaded = index.load() if index else None
    size = data.size()
    sealed_cause = "opened read-only" if read_only else None
    rebuilt_because = None
    damages: list[Damage] = []
    if loaded:
        header, durable = loaded
        sequence, start, tally = header.sequence, header.checkpoint, header.tally.copy()
    else:
        rebuilt_because = "the index is missing, damaged, or another volume's"
        index = None if read_only else _new_index(disk, directory, facts)
        sequence, start, durable, tally = 0, SUPERBLOCK_SIZE, SUPERBLOCK_SIZE, Tally()
    if not read_only and size > start:
        sealed_cause = _settle(data, start)
    entries = EntryTable(index)
    if size < durable:
        damages.append(_truncated(facts.volume_id, size, durable, tally))
    recovery = Recovery(
        volume_id=facts.volume_id,
        start=start,
        entries=_RecoveredEntries(entries, may_flush=sealed_cause is None),
        tally=tally,
        durable=durable,
        is_rebuild=loaded is None,
    )
    recovery.run(scan(data, facts.seed, start, size))
    tail = max(recovery.tail, durable) if size < durable else recovery.tail
    padding = -tail % ALIGNMENT  # of a damaged end that was kept
    tally.dead_bytes += tail - recovery.tail + padding
    report = RecoveryReport(
        scanned_from=start,
        scanned_bytes=max(0, size - start),
        record_count=recovery.record_count,
        rebuilt_because=rebuilt_because,
        cut_bytes=recovery.cut_bytes,
        torn=tuple(recovery.torn),
        damages=(*damages, *recovery.damages),
        repairs=tuple(repairs),
    )
    return Opened(
        facts,
        data,
        entries,
        tally,
        tail + padding,
        durable,
        sequence,
        start if loaded else 0,
        recovery.torn,
        report,
        sealed_cause,
    )


def _open_index(disk: Disk, directory: str, facts: VolumeFacts, *, read_only: bool) -> IndexFile | None:
    path = index_path(directory, facts.generation)
    if not disk.exists(path):
        return None
    file = disk.open(path, read_only=read_only)
    return IndexFile(file, volume_id=facts.volume_id, generation=facts.generation, seed=facts.seed)


def _new_index(disk: Disk, directory: str, facts: VolumeFacts) -> IndexFile:
    """An empty index in place of one that cannot be used."""
    file = disk.open(index_path(directory, facts.generation), create=True)
    file.truncate(ENTRIES_OFFSET)
    disk.sync_directory(directory)
    return IndexFile(file, volume_id=facts.volume_id, generation=facts.generation, seed=facts.seed)


def _settle(data: File, start: int) -> str | None:
    """Bring the data behind the checkpoint to the disk; returns why the volume must be sealed, if so."""
    try:
        data.fdatasync()
    except OSError as error:
        return f"sync of the data file failed: {error}"
    data.drop_cache(start)
    return None


def _truncated(volume_id: int, size: int, durable: int, tally: Tally) -> Damage:
    tally.damaged_count += 1
    return Damage(
        volume_id, size, durable - size, None, "the data file is shorter than what was synced to it"
    )


class _RecoveredEntries:
    """The index for a recovery: decoded, and flushed now and then to bound memory."""

    def __init__(self, table: EntryTable, *, may_flush: bool) -> None:
        self._table = table
        self._may_flush = may_flush and table.index is not None

    def get(self, needle_id: int) -> Found | None:
        entry = self._table.get(needle_id)
        return decode_entry(entry) if entry is not None else None

    def put(self, needle_id: int, entry: bytes) -> None:
        self._table.put(needle_id, entry)
        if self._may_flush and self._table.pending_count >= FLUSH_COUNT:
            try:
                flush(self._table)
            except OSError as error:  # a full disk: the index is derived, and can wait in memory
                log.warning("index not written", extra={"cause": str(error)})
                self._may_flush = False

    def within(self, start: int, end: int) -> Iterator[tuple[int, Found]]:
        return self._table.within(start, end)


def flush(table: EntryTable) -> None:
    """Write pending entries, whose records must be durable, to the index file.

    Raises:
        OSError: as the system gave it; the entries are pending again.
    """
    if table.index is None:
        return
    try:
        table.index.put_many(table.begin_flush())
    except OSError:
        table.cancel_flush()
        raise
    table.end_flush()
