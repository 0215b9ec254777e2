"""Volume: one append-only file of needles, its index, and the rules that keep them true.

    <disk>/volumes/<volume id>/manifest   which generation counts (`storage/superblock.py`)
                              /g1.vol     its data: a superblock, then records (`storage/needle.py`)
                              /g1.idx     its index, rebuildable from the data (`storage/index.py`)

One thread owns a volume: it alone appends, deletes, reserves, finishes and aborts.  Beside it, in any
thread, `sync` and `checkpoint` may run, `Extent.write` (one call at a time for an extent), and all reads.

What is appended is readable at once and durable from the return of a later `sync` on.  A failed append
takes its bytes back; where even that fails, and whenever a sync fails, the volume is sealed: it goes on
reading and writes no more until it is opened anew, which checks it against what the disk really holds.

How far a sync reaches: the watermark and the checkpoint stop at the first extent that is still open, for
its footer is yet to come.  Needles behind that are synced all the same, and have their entries in the
index; only a scan after a crash starts earlier.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator
from typing import Final, NoReturn
from uuid import UUID

import msgspec
from crc32c import crc32c

from errors import (
    BadRequest,
    ChecksumMismatch,
    DiskFull,
    NeedleCorrupt,
    NeedleExists,
    NeedleVoid,
    NoSuchNeedle,
    ReadFailed,
    StoreError,
    VolumeFull,
    VolumeSealed,
    WriteFailed,
)
from storage.disk import Buffer, ClosedFile, Disk, File, write_all, write_rest
from storage.entries import EntryTable
from storage.extent import Extent, Placed
from storage.files import create_files
from storage.index import (
    FLAG_DELETED,
    OFFSET_MAX,
    Found,
    IndexFile,
    IndexHeader,
    Tally,
    decode_entry,
    encode_entry,
)
from storage.needle import (
    BLOCK_SIZE,
    DATA_SIZE_MAX,
    FLAG_STREAMED,
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_DATA,
    KIND_NOTE,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    MARK_SIZE,
    NEEDLE_ID_MAX,
    PADDINGS,
    Header,
    NeedleMetadata,
    NeedleRead,
    block_table,
    check_data_size,
    check_needle_id,
    decode_needle,
    encode_footer,
    encode_header,
    encode_mark,
    encode_metadata,
    place_seed,
    stored_size,
    table_size,
)
from storage.opening import Opened, open_files
from storage.reader import NeedleReader, read_exactly, read_header
from storage.recovery import Damage, RecoveryReport, encode_note
from storage.scan import Record, scan
from storage.superblock import SUPERBLOCK_SIZE, VolumeFacts

log = logging.getLogger(__name__)

PENDING_MAX: Final = 100_000  # entries in memory between two syncs; about 15 MB
READ_AT_ONCE_MAX: Final = 1024 * 1024  # needles up to here are read with one call, larger ones with two
DAMAGES_MAX: Final = 10_000  # damaged needles remembered by name; all are counted
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Figures(msgspec.Struct, frozen=True):
    """What is in a volume.

    Always: file_size == SUPERBLOCK_SIZE + live_bytes + dead_bytes + in_flight_bytes.
    """

    file_size: int
    live_count: int
    live_bytes: int  # stored bytes, headers and padding included
    dead_bytes: int  # what compaction would give back: deleted needles, tombstones, restamps, broken uploads
    needle_id_max: int
    stamp_max: int
    damaged_count: int
    in_flight_bytes: int  # open extents


class Volume:
    """One volume, open."""

    def __init__(self, opened: Opened, directory: str) -> None:
        """Use `create` or `open`."""
        facts = opened.facts
        self.volume_id: Final = facts.volume_id
        self.uuid: Final = facts.uuid
        self.generation: Final = facts.generation
        self.capacity: Final = facts.capacity
        self.created_ms: Final = facts.created_ms
        self.directory: Final = directory
        self.recovery: Final[RecoveryReport] = opened.report
        self.sealed_cause = opened.sealed_cause
        self._facts = facts
        self._seed = facts.seed
        self._data: File = opened.data
        self._entries = opened.entries
        self._is_closed = False
        self._is_index_suspect = False
        self._sync_lock = threading.Lock()  # one sync or checkpoint at a time; taken before `_lock`
        self._lock = threading.Lock()  # guards what follows; never held across a call to the disk
        self._tally = opened.tally
        self._tail = opened.tail
        self._durable = opened.durable
        self._sequence = opened.sequence
        self._checkpoint = opened.checkpoint
        self._in_flight: dict[int, Extent] = {}  # by offset, ascending
        self._reserved_ids: set[int] = set()
        self._damages: dict[int, Damage] = {d.needle_id: d for d in opened.report.damages if d.needle_id}

    def __repr__(self) -> str:
        return f"Volume({self.volume_id}, generation {self.generation}, {self._tail} bytes)"

    # --- from and to the disk ---------------------------------------------------------------------

    @classmethod
    def create(
        cls, disk: Disk, directory: str, *, volume_id: int, uuid: str, capacity: int, created_ms: int
    ) -> Volume:
        """Make an empty volume and open it; it survives a power cut once this returns.

        Raises:
            BadRequest: there is one already, or uuid or capacity are out of bounds.
            DiskFull, WriteFailed: the disk refused.
        """
        if not SUPERBLOCK_SIZE < capacity <= OFFSET_MAX:
            raise BadRequest(f"a volume's capacity is within {SUPERBLOCK_SIZE + 1} and {OFFSET_MAX} bytes")
        try:
            identity = str(UUID(uuid))
        except ValueError as error:
            raise BadRequest(f"{uuid!r} is no UUID") from error
        facts = VolumeFacts(
            volume_id=volume_id, uuid=identity, generation=1, capacity=capacity, created_ms=created_ms
        )
        try:
            create_files(disk, directory, facts)
        except OSError as error:
            raise write_error(f"volume {volume_id} cannot be created", error) from error
        return cls.open(disk, directory)

    @classmethod
    def open(cls, disk: Disk, directory: str, *, read_only: bool = False) -> Volume:
        """Open a volume, recovering it from whatever happened.

        A disk that has become read-only opens all the same, sealed.

        Raises:
            NoSuchVolume, ManifestCorrupt, SuperblockCorrupt, FormatUnsupported: see `load_facts`.
            ReadFailed: the disk refused.
        """
        try:
            opened = open_files(disk, directory, read_only=read_only)
        except OSError as error:
            if error.errno != errno.EROFS or read_only:
                raise ReadFailed(f"{directory} cannot be opened: {error}") from error
            opened = open_files(disk, directory, read_only=True)
            opened.sealed_cause = "the disk is read-only"
        volume = cls(opened, directory)
        for damage in opened.report.damages:
            log.error("damage found", extra=msgspec.structs.asdict(damage))
        if volume.sealed_cause is None:
            volume._settle(opened.torn)
        return volume

    def _settle(self, torn: list[tuple[int, int]]) -> None:
        """Make the file as long as what counts, remember torn stretches, and set the checkpoint."""
        try:
            if self._data.size() != self._tail:
                self._data.truncate(self._tail)
            for content in encode_note(torn):
                self._append_note(content)
        except OSError as error:
            self.seal(f"recovery could not write: {error}")
            return
        if self._tail != self._checkpoint:
            try:
                self.checkpoint()
            except StoreError as error:  # full, say: the volume is whole, its next open just scans again
                log.warning("checkpoint failed", extra={"volume_id": self.volume_id, "cause": error.message})

    def close(self) -> None:
        """Give up open extents, set a checkpoint where possible, and let go of the files."""
        if self._is_closed:
            return
        for extent in reversed(list(self._in_flight.values())):  # so that all at the tail are taken back
            extent.abort()
        if self.sealed_cause is None:
            try:
                self.checkpoint()
            except StoreError as error:
                log.warning("checkpoint failed", extra={"volume_id": self.volume_id, "cause": error.message})
        with self._sync_lock:
            self._is_closed = True
            self.sealed_cause = self.sealed_cause or "closed"
            # The descriptors close when the last reader in another thread lets go.
            self._data = closed = ClosedFile()
            self._entries = EntryTable(
                IndexFile(closed, volume_id=self.volume_id, generation=self.generation, seed=self._seed)
            )

    def seal(self, cause: str) -> None:
        """Take no more writes."""
        if self.sealed_cause is None:
            self.sealed_cause = cause
            log.error("volume sealed", extra={"volume_id": self.volume_id, "cause": cause})

    def figures(self) -> Figures:
        with self._lock:
            tally = self._tally
            return Figures(
                self._tail,
                tally.live_count,
                tally.live_bytes,
                tally.dead_bytes,
                tally.needle_id_max,
                tally.stamp_max,
                tally.damaged_count,
                sum(extent.stored_size for extent in self._in_flight.values()),
            )

    def damages(self) -> list[Damage]:
        """The damaged needles known by name: from the recovery, and from reads since."""
        with self._lock:
            return list(self._damages.values())

    # --- writing: the owner thread ----------------------------------------------------------------

    def append(
        self,
        needle_id: int,
        metadata: NeedleMetadata,
        data: Buffer,
        *,
        stamp: int,
        crc: int | None = None,
    ) -> Placed:
        """Write a whole needle.  Not durable until `sync`.

        Args:
            data: its length in items must be its length in bytes (a memoryview of bytes, say).
            crc: what the sender says the CRC-32C of the data is.
        Raises:
            ChecksumMismatch: it is not; nothing is written.
            NeedleExists, NeedleVoid: the id is taken, or was deleted.
            VolumeFull, VolumeSealed, DiskFull, WriteFailed: no room, or the disk refused.
            BadMetadata, BadRequest: metadata, id or size out of bounds.
        """
        encoded = encode_metadata(metadata)
        data_size = len(data)
        size = stored_size(len(encoded), data_size)
        self._check_new(needle_id, data_size, size)
        data_crc = crc32c(data)
        if crc is not None and crc != data_crc:
            raise ChecksumMismatch(f"the data has CRC-32C {data_crc:08x}, its sender says {crc:08x}")
        offset = self._tail
        header, header_crc = encode_header(
            KIND_DATA, 0, needle_id, encoded, data_size, place_seed(self._seed, offset)
        )
        table = block_table(data) if data_size > BLOCK_SIZE else b""
        footer = encode_footer(header_crc, stamp, data_crc, table)
        padding = PADDINGS[size - len(header) - data_size - len(footer)]
        self._write_tail((header, data, footer + padding), size)
        entry = encode_entry(offset, len(encoded), data_size, data_crc)
        tally = self._tally
        with self._lock:
            self._entries.put(needle_id, entry)
            self._tail = offset + size
            tally.live_count += 1
            tally.live_bytes += size
            if needle_id > tally.needle_id_max:
                tally.needle_id_max = needle_id
            if stamp > tally.stamp_max:
                tally.stamp_max = stamp
        return Placed(size, data_crc, offset)

    def reserve(self, needle_id: int, metadata: NeedleMetadata, data_size: int) -> Extent:
        """Make room for a needle that will arrive in pieces.

        Raises:
            DiskFull: before a byte was accepted.
            NeedleExists, NeedleVoid, VolumeFull, VolumeSealed, WriteFailed, BadMetadata, BadRequest: as
                `append` does.
        """
        encoded = encode_metadata(metadata)
        size = stored_size(len(encoded), data_size)
        self._check_new(needle_id, data_size, size)
        offset = self._tail
        header, header_crc = encode_header(
            KIND_DATA, FLAG_STREAMED, needle_id, encoded, data_size, place_seed(self._seed, offset)
        )
        try:
            self._data.allocate(offset, size)
            if self._data.size() < offset + size:
                self._data.truncate(offset + size)  # where allocating is not supported: at least its length
            write_all(self._data, [header], offset)
        except OSError as error:
            self._roll_back(error)
        with self._lock:
            extent = Extent(
                self,
                self._data,
                needle_id=needle_id,
                offset=offset,
                stored_size=size,
                metadata_size=len(encoded),
                data_offset=offset + len(header),
                data_size=data_size,
                header_crc=header_crc,
                before=self._tally.copy(),
                on_error=self._write_error,
            )
            self._in_flight[offset] = extent
            self._reserved_ids.add(needle_id)
            self._tail = offset + size
            self._tally.needle_id_max = max(self._tally.needle_id_max, needle_id)
        return extent

    def finish_extent(self, extent: Extent, stamp: int) -> Placed:
        """For `Extent.finish`."""
        if self.sealed_cause is not None:
            extent.abort()
            self.check_writable()
        if (found := self._find(extent.needle_id)) is not None:
            extent.abort()
            assert found.is_deleted
            raise NeedleVoid(f"volume {self.volume_id}: needle {extent.needle_id} was deleted before it came")
        try:
            extent.write_footer(stamp)
        except OSError as error:
            self._wipe(extent)
            extent.abort()
            raise self._write_error(error) from error
        extent.close()
        entry = encode_entry(extent.offset, extent.metadata_size, extent.data_size, extent.crc)
        with self._lock:
            self._release(extent)
            self._entries.put(extent.needle_id, entry)
            for tally in self._tallies_after(extent):
                tally.live_count += 1
                tally.live_bytes += extent.stored_size
                tally.needle_id_max = max(tally.needle_id_max, extent.needle_id)
                tally.stamp_max = max(tally.stamp_max, stamp)
        return Placed(extent.stored_size, extent.crc, extent.offset)

    def abort_extent(self, extent: Extent) -> None:
        """For `Extent.abort`."""
        extent.close()
        is_tail = extent.offset + extent.stored_size == self._tail and self.sealed_cause is None
        if is_tail:
            # Neither watermark nor checkpoint has passed an open extent, so its bytes are nobody's.
            try:
                self._data.truncate(extent.offset)
            except OSError as error:
                log.warning("truncate failed", extra={"volume_id": self.volume_id, "cause": str(error)})
                is_tail = False
        with self._lock:
            self._release(extent)
            if is_tail:
                self._tail = extent.offset
            else:
                for tally in self._tallies_after(extent):
                    tally.dead_bytes += extent.stored_size
                    tally.needle_id_max = max(tally.needle_id_max, extent.needle_id)

    def _release(self, extent: Extent) -> None:
        del self._in_flight[extent.offset]
        self._reserved_ids.discard(extent.needle_id)

    def _tallies_after(self, extent: Extent) -> list[Tally]:
        """The counters that an outcome of this extent is part of: the volume's, and those that later
        extents remember as the state before them."""
        later = [other.before for other in self._in_flight.values() if other.offset > extent.offset]
        return [self._tally, *later]

    def _wipe(self, extent: Extent) -> None:
        try:
            extent.wipe_footer()
        except OSError as error:
            self.seal(f"half a footer at {extent.offset} could not be taken back: {error}")

    def delete(self, needle_id: int, *, stamp: int) -> bool:
        """Append a tombstone; returns whether a live needle died of it.

        An id that was never written gets one too, and can never be written from then on.  One that is
        deleted already is left alone.

        Raises:
            VolumeSealed, DiskFull, WriteFailed, ReadFailed, BadRequest: as `append`.  Never VolumeFull.
        """
        check_needle_id(needle_id)
        self.check_writable()
        found = self._find(needle_id)
        if found is not None and found.is_deleted:
            return False
        offset = self._append_mark(KIND_TOMBSTONE, needle_id, stamp)
        if found is None:
            entry = encode_entry(offset, 0, 0, 0, FLAG_DELETED)
        else:
            entry = encode_entry(offset, found.metadata_size, found.data_size, found.crc, FLAG_DELETED)
        with self._lock:
            self._entries.put(needle_id, entry)
            self._count_mark(needle_id, stamp)
            if found is not None:
                size = stored_size(found.metadata_size, found.data_size)
                self._tally.live_count -= 1
                self._tally.live_bytes -= size
                self._tally.dead_bytes += size
        return found is not None

    def restamp(self, needle_id: int, *, stamp: int) -> None:
        """Append a newer stamp for a needle: for those who read the volume in order, it was written now.

        Raises:
            NoSuchNeedle: it is absent or deleted.
            VolumeSealed, DiskFull, WriteFailed, ReadFailed, BadRequest: as `append`.  Never VolumeFull.
        """
        check_needle_id(needle_id)
        self.check_writable()
        found = self._find(needle_id)
        if found is None or found.is_deleted:
            raise self._absent(needle_id)
        self._append_mark(KIND_RESTAMP, needle_id, stamp)
        with self._lock:
            self._count_mark(needle_id, stamp)

    def _append_mark(self, kind: int, needle_id: int, stamp: int) -> int:
        """Write a tombstone or restamp at the tail, which the caller then moves; returns its offset."""
        offset = self._tail
        mark = encode_mark(kind, needle_id, stamp, place_seed(self._seed, offset))
        self._write_tail((mark,), MARK_SIZE)
        return offset

    def _count_mark(self, needle_id: int, stamp: int) -> None:
        tally = self._tally
        self._tail += MARK_SIZE
        tally.dead_bytes += MARK_SIZE
        tally.needle_id_max = max(tally.needle_id_max, needle_id)
        tally.stamp_max = max(tally.stamp_max, stamp)

    def _append_note(self, content: bytes) -> None:
        header, header_crc = encode_header(
            KIND_NOTE, 0, 0, b"", len(content), place_seed(self._seed, self._tail)
        )
        footer = encode_footer(header_crc, 0, crc32c(content))
        size = stored_size(0, len(content))
        padding = bytes(size - len(header) - len(content) - len(footer))
        write_all(self._data, [header, content, footer, padding], self._tail)
        self._tail += size
        self._tally.dead_bytes += size

    def check_writable(self) -> None:
        """Refuse when sealed.

        Raises:
            VolumeSealed: it is.
        """
        if self.sealed_cause is not None:
            raise VolumeSealed(f"volume {self.volume_id} is sealed: {self.sealed_cause}")

    def _check_new(self, needle_id: int, data_size: int, size: int) -> None:
        """Refuse a needle that cannot be written."""
        if self.sealed_cause is not None or not 0 < needle_id <= NEEDLE_ID_MAX or data_size > DATA_SIZE_MAX:
            self.check_writable()
            check_needle_id(needle_id)
            check_data_size(data_size)
        if needle_id <= self._tally.needle_id_max:
            found = self._find(needle_id)
            if found is not None and found.is_deleted:
                raise NeedleVoid(f"volume {self.volume_id}: needle {needle_id} was deleted")
            if found is not None or needle_id in self._reserved_ids:
                raise NeedleExists(f"volume {self.volume_id} has a needle {needle_id} already")
        if self._tail + size > self.capacity:
            raise VolumeFull(
                f"volume {self.volume_id} has {self.capacity - self._tail} bytes left, not {size}"
            )
        if self._entries.pending_count >= PENDING_MAX:
            self.sync()
            if self._entries.pending_count >= PENDING_MAX:
                raise DiskFull(f"volume {self.volume_id}: its index cannot be written")

    def _write_tail(self, buffers: tuple[Buffer, ...], size: int) -> None:
        """Write at the tail, which the caller then moves; on failure the bytes are taken back."""
        try:
            written = self._data.pwritev(buffers, self._tail)
            if written != size:
                write_rest(self._data, buffers, self._tail, written)
        except OSError as error:
            self._roll_back(error)

    def _roll_back(self, error: OSError) -> NoReturn:
        """Cut what a failed write may have left behind the tail, or seal; raises what became of it."""
        failure = self._write_error(error)
        try:
            self._data.truncate(self._tail)
        except OSError as truncate_error:
            self.seal(f"half a record at {self._tail} could not be taken back: {truncate_error}")
        raise failure from error

    def _write_error(self, error: OSError) -> StoreError:
        if error.errno == errno.EROFS:
            self.seal("the disk became read-only")
        return write_error(f"volume {self.volume_id}", error)

    # --- making it last: any thread ---------------------------------------------------------------

    def sync(self) -> None:
        """Make everything durable that was appended, deleted or finished before this call.

        Raises:
            WriteFailed: the disk refused.  The volume is sealed: after a failed fdatasync the kernel may
                drop the bytes and report success next time, so a retry would prove nothing (Rebello et
                al., USENIX ATC 2020).
            VolumeSealed: it was sealed before.
        """
        with self._sync_lock:
            self._sync()

    def checkpoint(self) -> None:
        """Sync, and make the index and its header durable too: the next open scans from here.

        Raises:
            WriteFailed, VolumeSealed: as `sync`.
            DiskFull: there is no room for the index; the needles are safe.
        """
        with self._sync_lock:
            reach, tally, is_flushed = self._sync()
            if not is_flushed:
                raise DiskFull(f"volume {self.volume_id}: its index cannot be written")
            if reach == self._checkpoint:
                return
            index = self._entries.index
            assert index is not None
            header = IndexHeader(sequence=self._sequence + 1, checkpoint=reach, tally=tally)
            self._sync_index(index)
            try:
                index.put_header(header)
            except OSError as error:
                raise write_error(f"index of volume {self.volume_id}", error) from error
            self._sync_index(index)
            self._sequence = header.sequence
            self._checkpoint = reach

    def _sync(self) -> tuple[int, Tally, bool]:
        """Sync the data; returns how far it reaches, the counters there, and whether the index is in step."""
        with self._lock:
            self.check_writable()
            reach, tally = self._settled()
            batch = self._entries.begin_flush()
        try:
            self._data.fdatasync()
        except OSError as error:
            with self._lock:
                self._entries.cancel_flush()
            self.seal(f"sync of the data file failed: {error}")
            raise WriteFailed(f"volume {self.volume_id}: sync failed: {error}") from error
        try:
            self._write_index(batch, reach)
        except OSError as error:
            # The needles are durable, and a scan after a crash finds them.  Their entries wait in memory.
            with self._lock:
                self._entries.cancel_flush()
            log.warning("index not written", extra={"volume_id": self.volume_id, "cause": str(error)})
            return reach, tally, False
        with self._lock:
            self._entries.end_flush()
            self._durable = max(self._durable, reach)
        return reach, tally, True

    def _settled(self) -> tuple[int, Tally]:
        """Up to where nothing is unfinished, and the counters there."""
        for first in self._in_flight.values():
            return first.offset, first.before.copy()
        return self._tail, self._tally.copy()

    def _write_index(self, batch: dict[int, bytes], reach: int) -> None:
        index = self._entries.index
        assert index is not None
        index.put_many(batch)
        if reach > self._durable:
            index.put_watermark(reach)

    def _sync_index(self, index: IndexFile) -> None:
        try:
            index.sync()
        except OSError as error:
            # Entries may vanish from memory now without being on the disk.  What is durable of the file is
            # that of the last checkpoint, so opening the volume anew puts everything right.
            self._is_index_suspect = True
            self.seal(f"sync of the index failed: {error}")
            raise WriteFailed(f"volume {self.volume_id}: sync of its index failed: {error}") from error

    # --- reading: any thread ----------------------------------------------------------------------

    def find(self, needle_id: int, *, nowait: bool = False) -> Found | None:
        """What the index says about a needle: one read of 16 bytes.  None: it was never written.

        Args:
            nowait: see `read`.
        Raises:
            ReadFailed: the index cannot be read.
        """
        entry = self._entry(needle_id, nowait=nowait)
        return None if entry is None else decode_entry(entry)

    def read(self, needle_id: int, *, nowait: bool = False, found: Found | None = None) -> NeedleRead:
        """Read a whole needle and check every byte of it.

        Args:
            found: what `find` has just said of it, to save asking the index again.
            nowait: raise BlockingIOError when not all of it is in memory, so that a thread can read it.
        Raises:
            NoSuchNeedle: it was never written, or is deleted.
            NeedleCorrupt: it is damaged.  Never answered as absent.
            ReadFailed: the disk refused.
        """
        if found is None:
            entry = self._entry(needle_id, nowait=nowait)
            found = None if entry is None else decode_entry(entry)
            if found is None:
                raise self._absent(needle_id)
        data_size, offset = found.data_size, found.offset
        if not found.is_deleted and data_size <= READ_AT_ONCE_MAX:
            size = HEADER_SIZE + found.metadata_size + data_size + table_size(data_size) + FOOTER_SIZE
            buffer = self._fetch(needle_id, size, offset, nowait=nowait)
            with contextlib.suppress(NeedleCorrupt):
                return decode_needle(buffer, needle_id, place_seed(self._seed, offset))
        # It is large, or something disagrees.  The needle's own header knows better than its entry, in
        # which one flipped bit must not make us fetch gigabytes.
        offset, header, _ = self._locate(needle_id, nowait=nowait)
        size = header.table_offset + table_size(header.data_size) + FOOTER_SIZE
        buffer = self._fetch(needle_id, size, offset, nowait=nowait)
        try:
            return decode_needle(buffer, needle_id, place_seed(self._seed, offset))
        except NeedleCorrupt as error:
            raise self._damaged(needle_id, offset, error.message) from error

    def open_needle(self, needle_id: int, *, nowait: bool = False) -> NeedleReader:
        """Open a needle for reading parts of it; each part is checked.

        Args:
            nowait: see `read`.
        Raises:
            NoSuchNeedle, NeedleCorrupt, ReadFailed: see `read`.
        """
        offset, header, metadata = self._locate(needle_id, nowait=nowait)
        return NeedleReader(
            self._data,
            volume_id=self.volume_id,
            offset=offset,
            header=header,
            metadata_bytes=metadata,
            on_damage=self._damaged,
            nowait=nowait,
        )

    def records(self) -> Iterator[Record]:
        """All records in the order they were written, for rebuilds and verification.

        Covers what was appended before the call; open extents show as unfinished.  Reads and checks every
        byte: run it in a thread.
        """
        return scan(self._data, self._seed, SUPERBLOCK_SIZE, min(self._tail, self._data.size()))

    def _entry(self, needle_id: int, *, nowait: bool) -> bytes | bytearray | None:
        try:
            return self._entries.get(needle_id, nowait=nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(f"volume {self.volume_id}: index entry of {needle_id}: {error}") from error

    def _fetch(self, needle_id: int, size: int, offset: int, *, nowait: bool) -> bytearray:
        try:
            return read_exactly(self._data, size, offset, nowait=nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(f"volume {self.volume_id}, needle {needle_id} at {offset}: {error}") from error

    def _find(self, needle_id: int) -> Found | None:
        """`find`, but a deleted needle has to have a tombstone: one flipped bit must not delete."""
        found = self.find(needle_id)
        if found is None or not found.is_deleted:
            return found
        with contextlib.suppress(NoSuchNeedle):
            offset, header, _ = self._locate(needle_id, nowait=False)
            return Found(offset, header.metadata_size, header.data_size, found.crc, is_deleted=False)
        return found

    def _locate(self, needle_id: int, *, nowait: bool) -> tuple[int, Header, bytes]:
        """Offset, header and metadata of a live needle: what the file says, with the index as a hint.

        Raises:
            NoSuchNeedle, NeedleCorrupt, ReadFailed, BlockingIOError: see `read`.
        """
        entry = self._entry(needle_id, nowait=nowait)
        hint = None if entry is None else decode_entry(entry)
        if hint is None:
            raise self._absent(needle_id)
        metadata_size = 0 if hint.is_deleted else hint.metadata_size
        try:
            found = read_header(
                self._data, self._seed, hint.offset, metadata_size=metadata_size, nowait=nowait
            )
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(
                f"volume {self.volume_id}, needle {needle_id} at {hint.offset}: {error}"
            ) from error
        is_its_own = found is not None and found[0].needle_id == needle_id
        if found is not None and is_its_own and found[0].kind == KIND_DATA:
            return hint.offset, *found
        if hint.is_deleted or (found is not None and is_its_own and found[0].kind == KIND_TOMBSTONE):
            raise self._absent(needle_id)
        problem = "header does not match its CRC" if found is None else "another record is in its place"
        raise self._damaged(needle_id, hint.offset, problem)

    def _absent(self, needle_id: int) -> StoreError:
        if self._is_index_suspect:
            return ReadFailed(f"volume {self.volume_id}: its index is not to be trusted until it is reopened")
        return NoSuchNeedle(f"volume {self.volume_id} has no needle {needle_id}")

    def _damaged(self, needle_id: int, offset: int, problem: str) -> NeedleCorrupt:
        """Count damage, once for each needle; returns the error to raise."""
        found = self.find(needle_id)
        damage = Damage(self.volume_id, offset, 0, needle_id, problem)
        with self._lock:
            is_known = needle_id in self._damages or (found is not None and found.is_damaged)
            if not is_known:
                self._tally.damaged_count += 1
                if len(self._damages) < DAMAGES_MAX:
                    self._damages[needle_id] = damage
        if not is_known:
            log.error("damage found", extra=msgspec.structs.asdict(damage))
        return NeedleCorrupt(f"volume {self.volume_id}, needle {needle_id} at {offset}: {problem}")


def write_error(where: str, error: OSError) -> StoreError:
    """Name what the system gave."""
    kind = DiskFull if error.errno in _FULL else WriteFailed
    return kind(f"{where}: {error}")
