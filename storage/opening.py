"""Opening: from whatever a crash or the years have left of a volume, to a state that is true.

The order decides what a crash in the middle of it may leave:

    1  sync the data file, then forget its cached pages: the scan then sees what is on the disk, not only in
       memory (after a sync that failed, the two differ)
    2  scan what follows the checkpoint, and put its entries into the index: their records are durable.
       `storage/recovery.py` judges what does not check
    3  cut the torn tail off, remember torn stretches, sync again, and set the checkpoint (in `Volume.open`)

A volume that is opened read-only is not written to: the entries found stay in memory.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator

import msgspec

from warehouse.storage.beneath import NotPlain
from warehouse.storage.disk import Disk, File
from warehouse.storage.entries import EntryTable
from warehouse.storage.files import data_path, index_path, load_volume_identity, remove_leftovers
from warehouse.storage.format.needle import ALIGNMENT
from warehouse.storage.format.stamp import sound
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, VolumeIdentity
from warehouse.storage.index import ENTRIES_OFFSET, IndexEntry, IndexFile, Tally, decode_entry
from warehouse.storage.recovery import Damage, Recovery, RecoveryReport
from warehouse.storage.scan import scan
from warehouse.storage.voids import VoidTable

log = logging.getLogger(__name__)

FLUSH_COUNT = 65_536  # entries held in memory while scanning


class Opened(msgspec.Struct):
    """A volume, opened and judged."""

    identity: VolumeIdentity
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
        NoSuchVolume, ManifestCorrupt, SuperblockCorrupt, FormatUnsupported: see `load_volume_identity`.
        OSError: as the system gave it.
    """
    identity, repairs = load_volume_identity(disk, directory, read_only=read_only)
    sealed_cause = None
    if not read_only:
        try:
            # The process that published this generation may have been killed before its name was durable.
            # What is promised from now on must not depend on a name that a power cut takes back.
            disk.sync_directory(directory)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise
            sealed_cause = f"its directory could not be synced: {error}"
        else:
            remove_leftovers(disk, directory, identity.generation)
    opened = open_generation(disk, directory, identity, repairs, read_only=read_only)
    opened.sealed_cause = sealed_cause or opened.sealed_cause
    return opened


def open_generation(
    disk: Disk, directory: str, identity: VolumeIdentity, repairs: list[str], *, read_only: bool
) -> Opened:
    """Open one pair of files and recover it, whatever the manifest says.

    Raises:
        OSError: as the system gave it.
    """
    data = disk.open(data_path(directory, identity.generation), read_only=read_only)
    begin = _Beginning.with_index(disk, directory, identity, data, read_only=read_only)
    if begin is None:
        begin = _Beginning.without_index(disk, directory, identity, data, read_only=read_only)
    try:
        return _recover(identity, data, begin, repairs)
    except IndexUnreadable:
        begin = _Beginning.without_index(disk, directory, identity, data, read_only=read_only)
        return _recover(identity, data, begin, repairs)


class IndexUnreadable(Exception):
    """The disk refuses to read the index.  An index is derived, so a new one is made."""


class _Beginning(msgspec.Struct):
    """What is known before the scan, and where the scan starts."""

    index: IndexFile | None
    voids: VoidTable
    start: int
    tally: Tally
    durable: int
    sequence: int
    sealed_cause: str | None
    rebuilt_because: str | None = None

    @classmethod
    def with_index(
        cls, disk: Disk, directory: str, identity: VolumeIdentity, data: File, *, read_only: bool
    ) -> _Beginning | None:
        """From the checkpoint of the index; None when it cannot be used."""
        path = index_path(directory, identity.generation)
        if not disk.exists(path):
            return None
        try:
            index = _index_file(disk.open(path, read_only=read_only), identity)
        except NotPlain as error:  # an index is derived, so a new one is made in its place
            log.error("index is no plain file", extra={"volume_id": identity.volume_id, "cause": str(error)})
            return None
        try:
            loaded = index.load()
        except OSError as error:
            log.warning("index unreadable", extra={"volume_id": identity.volume_id, "cause": str(error)})
            return None
        if loaded is None:
            return None
        header, durable = loaded
        if sound(header.tally.stamp_max) != header.tally.stamp_max:
            # A clock that was set to its end has stamped some needle.  A scan tells the stamps of the others.
            log.error(
                "index has a stamp that cannot be",
                extra={"volume_id": identity.volume_id, "stamp": header.tally.stamp_max},
            )
            return None
        cause = "opened read-only" if read_only else None
        voids = VoidTable(data, identity.seed)
        if header.voids is not None:
            voids = VoidTable.load(data, identity.seed, header.voids)
        return cls(index, voids, header.checkpoint, header.tally.copy(), durable, header.sequence, cause)

    @classmethod
    def without_index(
        cls, disk: Disk, directory: str, identity: VolumeIdentity, data: File, *, read_only: bool
    ) -> _Beginning:
        """From the start of the file, with a new index; in memory alone where no index can be written."""
        index, cause = None, "opened read-only" if read_only else None
        if not read_only:
            try:
                index = _new_index(disk, directory, identity)
            except OSError as error:
                cause = f"no index can be written: {error}"
        return cls(
            index,
            VoidTable(data, identity.seed),
            SUPERBLOCK_SIZE,
            Tally(),
            SUPERBLOCK_SIZE,
            0,
            cause,
            "the index is missing, damaged, or another volume's",
        )


def _recover(identity: VolumeIdentity, data: File, begin: _Beginning, repairs: list[str]) -> Opened:
    """Scan what follows the checkpoint, and judge it."""
    size, start, durable, tally = data.size(), begin.start, begin.durable, begin.tally
    if begin.sealed_cause is None and size > start:
        begin.sealed_cause = _settle(data, start)
    damages = [_truncated(identity.volume_id, size, durable, tally)] if size < durable else []
    entries = EntryTable(begin.index, begin.voids)
    recovery = Recovery(
        volume_id=identity.volume_id,
        start=start,
        entries=_RecoveredEntries(entries, may_flush=begin.sealed_cause is None),
        tally=tally,
        durable=durable,
        is_rebuild=begin.rebuilt_because is not None,
    )
    recovery.run(scan(data, identity.seed, start, size))
    tail = max(recovery.tail, durable) if damages else recovery.tail
    tail += -tail % ALIGNMENT  # a damaged end that was kept may end anywhere
    tally.dead_bytes += tail - recovery.tail
    report = RecoveryReport(
        scanned_from=start,
        scanned_bytes=max(0, size - start),
        record_count=recovery.record_count,
        rebuilt_because=begin.rebuilt_because,
        cut_bytes=recovery.cut_bytes,
        torn=tuple(recovery.torn),
        damages=(*damages, *recovery.damages),
        repairs=tuple(repairs),
    )
    return Opened(
        identity,
        data,
        entries,
        tally,
        tail,
        durable,
        begin.sequence,
        0 if begin.rebuilt_because else start,
        recovery.torn,
        report,
        begin.sealed_cause,
    )


def _index_file(file: File, identity: VolumeIdentity) -> IndexFile:
    return IndexFile(file, volume_id=identity.volume_id, generation=identity.generation, seed=identity.seed)


def _new_index(disk: Disk, directory: str, identity: VolumeIdentity) -> IndexFile:
    """An empty index in place of one that cannot be used."""
    file = disk.open(index_path(directory, identity.generation), create=True)
    file.truncate(ENTRIES_OFFSET)
    disk.sync_directory(directory)
    return _index_file(file, identity)


def _settle(data: File, start: int) -> str | None:
    """Bring the data after the checkpoint to the disk; returns why the volume must be sealed, if it must."""
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

    def get(self, needle_id: int) -> IndexEntry | None:
        try:
            entry = self._table.get(needle_id)
        except OSError as error:
            raise IndexUnreadable(str(error)) from error
        return decode_entry(entry) if entry is not None else None

    def put(self, needle_id: int, entry: bytes) -> None:
        self._table.put(needle_id, entry)
        if self._may_flush and self._table.pending_count >= FLUSH_COUNT:
            try:
                flush(self._table)
            except OSError as error:  # a full disk: the entries are derived, and can wait in memory
                log.warning("index not written", extra={"cause": str(error)})
                self._may_flush = False

    def put_void(self, offset: int, content: bytes) -> bool:
        assert self._table.voids is not None
        return self._table.voids.add(offset, content)

    def within(self, start: int, end: int) -> Iterator[tuple[int, IndexEntry]]:
        try:
            yield from self._table.within(start, end)
        except OSError as error:
            raise IndexUnreadable(str(error)) from error


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
