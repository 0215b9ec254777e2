"""Volume: one append-only file of needles, its index, and the rules that keep them true.

    <disk>/volumes/<volume id>/manifest   which generation counts (`storage/format/superblock.py`)
                              /g1.vol     its data: a superblock, then records (`storage/format/needle.py`)
                              /g1.idx     its index, rebuildable from the data (`storage/index.py`)

One thread owns a volume: it alone appends, deletes, reserves, finishes and aborts.  Beside it, in any
thread, `sync` and `checkpoint` may run, `Extent.write` (one call at a time for an extent), and all reads
(`storage/generation.py`).  A compaction puts the next generation in the present one's place from a thread
of its own (`storage/compaction/generation_switch.py`); while it does, and then alone, the owner waits for it.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn
from uuid import UUID

import msgspec
from crc32c import crc32c

from warehouse.errors import (
    BadRequest,
    ChecksumMismatch,
    DiskFull,
    NeedleExists,
    NeedleVoid,
    ReadFailed,
    StoreError,
    VolumeBusy,
    VolumeFull,
    VolumeSealed,
    WriteFailed,
)
from warehouse.storage.disk import Buffer, Disk, OsFile, write_all, write_rest
from warehouse.storage.extent import Extent, Placed
from warehouse.storage.files import create_files, data_path, index_path, manifest_path
from warehouse.storage.format.needle import (
    BLOCK_SIZE,
    DATA_SIZE_MAX,
    FLAG_OBJECT_DELETED,
    FLAG_STREAMED,
    KIND_BUCKET,
    KIND_DATA,
    KIND_NOTE,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    MARK_SIZE,
    NEEDLE_ID_MAX,
    PADDINGS,
    BucketRecord,
    NeedleMetadata,
    NeedleRead,
    block_table,
    check_data_size,
    check_needle_id,
    encode_bucket,
    encode_content,
    encode_footer,
    encode_header,
    encode_mark,
    encode_metadata,
    place_seed,
    stored_size,
)
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, VolumeIdentity
from warehouse.storage.generation import Generation
from warehouse.storage.index import (
    FLAG_DAMAGED,
    FLAG_DELETED,
    OFFSET_MAX,
    IndexEntry,
    IndexFile,
    IndexHeader,
    Tally,
    encode_entry,
)
from warehouse.storage.opening import Opened, open_files
from warehouse.storage.presence import displaced, file_id
from warehouse.storage.reader import NeedleReader
from warehouse.storage.recovery import Damage, RecoveryReport, encode_note
from warehouse.storage.scan import Record

log = logging.getLogger(__name__)

APPENDS_MAX: Final = 256  # needles in one write, of three buffers each: Linux and macOS take 1,024
ENTRIES_AT_ONCE: Final = 4096  # of the index, that `end_sync` writes while an event loop waits
PENDING_MAX: Final = 100_000  # entries in memory between two syncs; about 15 MB
DAMAGES_MAX: Final = 10_000  # damaged needles remembered by name; all are counted
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class VolumeStats(msgspec.Struct, frozen=True):
    """What is in a volume.

    Always: file_size == SUPERBLOCK_SIZE + live_bytes + dead_bytes + kept_bytes + in_flight_bytes.
    """

    file_size: int
    live_count: int
    live_bytes: int  # stored bytes, headers and padding included
    dead_bytes: int  # what compaction would give back: deleted needles, tombstones, restamps, broken uploads
    needle_id_max: int
    stamp_max: int
    damaged_count: int
    in_flight_bytes: int  # open extents
    dead_count: int  # needles among the dead bytes: deleted ones, and uploads that broke off
    kept_bytes: int  # what a compaction copies beside the needles: buckets, deletions, void ids


class NewNeedle(NamedTuple):
    """A needle that is to be written."""

    needle_id: int
    metadata: bytes  # as `encode_metadata` makes it
    data: Buffer  # its length in items must be its length in bytes (a memoryview of bytes, say)
    crc: int | None = None  # what the sender says the CRC-32C of the data is


class BegunSync(NamedTuple):
    """A sync that has been started: see `Volume.begin_sync`."""

    handle: int  # for `KernelSync`
    generation: Generation
    batch: dict[int, bytes]  # index entries that may be written when the data is durable
    reach: int


class _Encoded(NamedTuple):
    """The record of a new needle, for its place and no other."""

    buffers: tuple[Buffer, ...]
    needle_id: int
    offset: int
    size: int
    crc: int
    stamp: int
    entry: bytes


class Volume:
    """One volume, open."""

    def __init__(self, opened: Opened, directory: str) -> None:
        """Use `create` or `open`."""
        identity = opened.identity
        self.volume_id: Final = identity.volume_id
        self.uuid: Final = identity.uuid
        self.capacity: Final = identity.capacity
        self.created_ms: Final = identity.created_ms
        self.directory: Final = directory
        self.recovery: Final[RecoveryReport] = opened.report
        self.sealed_cause = opened.sealed_cause
        self._identity = identity
        self._gen = Generation(
            volume_id=identity.volume_id,
            number=identity.generation,
            seed=identity.seed,
            data=opened.data,
            entries=opened.entries,
            on_damage=self._note_damage,
        )
        self._is_closed = False
        self._switch: object | None = None  # the switch under way: until it ends, nothing is cut off the tail
        # Held by every call of the owner; a switch of generations holds it to keep the owner waiting.
        self._owner = threading.RLock()  # taken before `_sync_lock`
        self._sync_lock = threading.Lock()  # one sync or checkpoint at a time; taken before `_lock`
        self._lock = threading.Lock()  # guards what follows; not held across calls to the disk but one
        self._begun: BegunSync | None = None
        self._tally = opened.tally
        self._tail = opened.tail
        self._durable = opened.durable
        self._sequence = opened.sequence
        self._checkpoint = opened.checkpoint
        self._is_header_stale = False  # counters changed behind the checkpoint, where no scan looks
        self._in_flight: dict[int, Extent] = {}  # by offset, ascending
        self._reserved_ids: set[int] = set()
        self._damages: dict[int, Damage] = {d.needle_id: d for d in opened.report.damages if d.needle_id}

    def __repr__(self) -> str:
        return f"Volume({self.volume_id}, generation {self.generation}, {self._tail} bytes)"

    @property
    def identity(self) -> VolumeIdentity:
        return self._identity

    @property
    def generation(self) -> int:
        return self._identity.generation

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
            canonical_uuid = str(UUID(uuid))
        except ValueError as error:
            raise BadRequest(f"{uuid!r} is no UUID") from error
        identity = VolumeIdentity(
            volume_id=volume_id, uuid=canonical_uuid, generation=1, capacity=capacity, created_ms=created_ms
        )
        try:
            create_files(disk, directory, identity)
        except OSError as error:
            raise write_error(f"volume {volume_id} cannot be created", error) from error
        return cls.open(disk, directory)

    @classmethod
    def open(cls, disk: Disk, directory: str, *, read_only: bool = False) -> Volume:
        """Open a volume, recovering it from whatever happened.

        A disk that has become read-only opens all the same, sealed.

        Raises:
            NoSuchVolume, ManifestCorrupt, SuperblockCorrupt, FormatUnsupported: see `load_volume_identity`.
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
            if self._gen.data.size() != self._tail:
                self._gen.data.truncate(self._tail)
            for content in encode_note(torn):
                self._append_content(KIND_NOTE, content, 0)
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
        with self._syncing_alone():
            self._is_closed = True
            self.sealed_cause = self.sealed_cause or "closed"
            self._gen = self._gen.closed()

    def seal(self, cause: str) -> None:
        """Take no more writes."""
        if self.sealed_cause is None:
            self.sealed_cause = cause
            log.error("volume sealed", extra={"volume_id": self.volume_id, "cause": cause})

    def stats(self) -> VolumeStats:
        with self._lock:
            tally = self._tally
            return VolumeStats(
                self._tail,
                tally.live_count,
                tally.live_bytes,
                tally.dead_bytes,
                tally.needle_id_max,
                tally.stamp_max,
                tally.damaged_count,
                sum(extent.stored_size for extent in self._in_flight.values()),
                tally.dead_count,
                tally.kept_bytes,
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
        new = NewNeedle(needle_id, encode_metadata(metadata), data, crc)
        with self._owner:
            return self._append_one(new, stamp)

    def append_many(
        self, needles: Sequence[NewNeedle], tick: Callable[[], int]
    ) -> list[tuple[Placed, int] | StoreError]:
        """Write these with one call to the disk.  Not durable until `sync`.

        Args:
            needles: at most `APPENDS_MAX`, small ones: they are one write.
            tick: makes the stamp of each.
        Returns:
            For each, in order, where it lies and its stamp, or the error that `append` would have raised.
        """
        outcomes: list[tuple[Placed, int] | StoreError] = []
        records: list[_Encoded] = []
        needle_ids: set[int] = set()
        with self._owner:
            tail = self._tail
            for new in needles:
                try:
                    if new.needle_id in needle_ids:
                        raise NeedleExists(f"volume {self.volume_id} has a needle {new.needle_id} already")
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
                self._write_tail(buffers, tail - self._tail)
            except StoreError:
                # Their bytes have been taken back.  One by one those find their place that still fit, and
                # each of the others gets its own error.
                return [self._append_alone(new, tick) for new in needles]
            self._count(records, tail)
        return outcomes

    def _append_alone(self, new: NewNeedle, tick: Callable[[], int]) -> tuple[Placed, int] | StoreError:
        stamp = tick()
        try:
            return self._append_one(new, stamp), stamp
        except StoreError as error:
            return error.with_traceback(None)

    def _append_one(self, new: NewNeedle, stamp: int) -> Placed:
        record = self._encode(new, stamp, self._tail)
        self._write_tail(record.buffers, record.size)
        self._count((record,), record.offset + record.size)
        return Placed(record.size, record.crc, record.offset)

    def _encode(self, new: NewNeedle, stamp: int, offset: int) -> _Encoded:
        """The record of a needle that may be written at `offset`; raises as `append`."""
        needle_id, metadata, data, crc = new
        data_size = len(data)
        size = stored_size(len(metadata), data_size)
        self._check_new(needle_id, data_size, offset, size)
        data_crc = crc32c(data)
        if crc is not None and crc != data_crc:
            raise ChecksumMismatch(f"the data has CRC-32C {data_crc:08x}, its sender says {crc:08x}")
        header, header_crc = encode_header(
            KIND_DATA, 0, needle_id, metadata, data_size, place_seed(self._gen.seed, offset)
        )
        table = block_table(data) if data_size > BLOCK_SIZE else b""
        footer = encode_footer(header_crc, stamp, data_crc, table)
        padding = PADDINGS[size - len(header) - data_size - len(footer)]
        entry = encode_entry(offset, len(metadata), data_size, data_crc)
        return _Encoded((header, data, footer + padding), needle_id, offset, size, data_crc, stamp, entry)

    def _count(self, records: Sequence[_Encoded], tail: int) -> None:
        """They are written: have them found, up to the new tail."""
        tally = self._tally
        with self._lock:
            self._tail = tail
            for record in records:
                self._gen.entries.put(record.needle_id, record.entry)
                tally.live_count += 1
                tally.live_bytes += record.size
                if record.needle_id > tally.needle_id_max:
                    tally.needle_id_max = record.needle_id
                if record.stamp > tally.stamp_max:
                    tally.stamp_max = record.stamp

    def reserve(self, needle_id: int, metadata: NeedleMetadata, data_size: int) -> Extent:
        """Make room for a needle that will arrive in pieces.

        Raises:
            DiskFull: before a byte was accepted.  (What others write meanwhile may still fill the disk.)
            NeedleExists, NeedleVoid, VolumeFull, VolumeSealed, WriteFailed, BadMetadata, BadRequest: as
                `append` does.
        """
        encoded = encode_metadata(metadata)
        with self._owner:
            self._check_new(needle_id, data_size, self._tail, stored_size(len(encoded), data_size))
            return self._reserve(needle_id, encoded, data_size, flags=FLAG_STREAMED, is_allocated=True)

    def _reserve(
        self, needle_id: int, metadata: bytes, data_size: int, *, flags: int, is_allocated: bool
    ) -> Extent:
        self._require_uncut()
        offset, size = self._tail, stored_size(len(metadata), data_size)
        header, header_crc = encode_header(
            KIND_DATA, flags, needle_id, metadata, data_size, place_seed(self._gen.seed, offset)
        )
        try:
            if is_allocated:
                self._require_free(size)
            if self._gen.data.size() < offset + size:
                self._gen.data.truncate(offset + size)  # its place; it finds its room as its bytes come
            write_all(self._gen.data, [header], offset)
        except OSError as error:
            self._roll_back(error)
        with self._lock:
            extent = Extent(
                self,
                self._gen.data,
                needle_id=needle_id,
                offset=offset,
                stored_size=size,
                metadata_size=len(metadata),
                data_offset=offset + len(header),
                data_size=data_size,
                header_crc=header_crc,
                before=self._tally.copy(),
                is_allocated=is_allocated,
                on_error=self._write_error,
            )
            self._in_flight[offset] = extent
            self._reserved_ids.add(needle_id)
            self._tail = offset + size
            self._tally.needle_id_max = max(self._tally.needle_id_max, needle_id)
        return extent

    def _require_free(self, size: int) -> None:
        """Raises OSError unless the disk has that much beyond what open extents are still to find."""
        awaited = sum(extent.unallocated for extent in self._in_flight.values())
        free = self._gen.data.free_bytes()
        if free < awaited + size:
            raise OSError(errno.ENOSPC, f"{size} bytes and {awaited} on their way, {free} are free")

    def is_being_filled(self, needle_id: int) -> bool:
        """Whether there is an open extent for it."""
        return needle_id in self._reserved_ids

    def finish_extent(self, extent: Extent, stamp: int) -> Placed:
        """For `Extent.finish`."""
        with self._owner:
            if self.sealed_cause is not None:
                extent.abort()
                self.check_writable()
            if (found := self._gen.find_checked(extent.needle_id)) is not None:
                extent.abort()
                assert found.is_deleted
                raise NeedleVoid(
                    f"volume {self.volume_id}: needle {extent.needle_id} was deleted before it came"
                )
            try:
                extent.write_footer(stamp)
            except OSError as error:
                self._wipe(extent)
                extent.abort()
                raise self._write_error(error) from error
            self._settle_extent(extent, stamp)
        return Placed(extent.stored_size, extent.crc, extent.offset)

    def _settle_extent(self, extent: Extent, stamp: int, flags: int = 0) -> None:
        """Its footer is on file: from now on it is a needle."""
        extent.close()
        entry = encode_entry(extent.offset, extent.metadata_size, extent.data_size, extent.crc, flags)
        with self._lock:
            self._release(extent)
            self._gen.entries.put(extent.needle_id, entry)
            for tally in self._tallies_after(extent):
                tally.live_count += 1
                tally.live_bytes += extent.stored_size
                tally.needle_id_max = max(tally.needle_id_max, extent.needle_id)
                tally.stamp_max = max(tally.stamp_max, stamp)

    def abort_extent(self, extent: Extent) -> bool:
        """For `Extent.abort`."""
        with self._owner:
            extent.close()
            is_tail = extent.offset + extent.stored_size == self._tail and self.sealed_cause is None
            if is_tail and self._switch is None:
                # Neither watermark nor checkpoint has passed an open extent, so its bytes are nobody's.
                # (A switch may have: what it has seen must not become another record's.)
                try:
                    self._gen.data.truncate(extent.offset)
                except OSError as error:
                    log.warning("truncate failed", extra={"volume_id": self.volume_id, "cause": str(error)})
                    is_tail = False
            else:
                is_tail = False
            if not is_tail and self.sealed_cause is None:
                try:
                    extent.give_back()
                except OSError as error:  # a compaction will
                    log.warning("room not back", extra={"volume_id": self.volume_id, "cause": str(error)})
            with self._lock:
                self._release(extent)
                if is_tail:
                    self._tail = extent.offset
                    return True
                for tally in self._tallies_after(extent):
                    tally.dead_bytes += extent.stored_size
                    tally.dead_count += 1
                    tally.needle_id_max = max(tally.needle_id_max, extent.needle_id)
            return False

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

    def delete(self, needle_id: int, *, stamp: int, object_deleted: bool = False) -> bool:
        """Append a tombstone; returns whether a live needle died of it.

        An id that was never written gets one too, and can never be written from then on.  One that is
        deleted already is left alone.

        Args:
            object_deleted: not only the needle: older versions of its object are dead as well.
        Raises:
            VolumeSealed, DiskFull, WriteFailed, ReadFailed, BadRequest: as `append`.  Never VolumeFull.
        """
        check_needle_id(needle_id)
        with self._owner:
            self.check_writable()
            found = self._gen.find_checked(needle_id)
            if found is not None and found.is_deleted:
                return False
            offset = self._append_mark(
                KIND_TOMBSTONE, needle_id, stamp, flags=FLAG_OBJECT_DELETED if object_deleted else 0
            )
            if found is None:
                entry = encode_entry(offset, 0, 0, 0, FLAG_DELETED)
            else:
                entry = encode_entry(offset, found.metadata_size, found.data_size, found.crc, FLAG_DELETED)
            with self._lock:
                self._gen.entries.put(needle_id, entry)
                self._count_mark(needle_id, stamp)
                if found is not None:
                    size = stored_size(found.metadata_size, found.data_size)
                    self._tally.live_count -= 1
                    self._tally.live_bytes -= size
                    self._tally.dead_count += 1
                    self._tally.dead_bytes += size
                    if found.is_damaged:  # nobody misses it any more
                        self._tally.damaged_count -= 1
                        self._damages.pop(needle_id, None)
        return found is not None

    def restamp(self, needle_id: int, *, stamp: int) -> None:
        """Append a newer stamp for a needle: for those who read the volume in order, it was written now.

        Raises:
            NoSuchNeedle: it is absent or deleted.
            VolumeSealed, DiskFull, WriteFailed, ReadFailed, BadRequest: as `append`.  Never VolumeFull.
        """
        check_needle_id(needle_id)
        with self._owner:
            self.check_writable()
            found = self._gen.find_checked(needle_id)
            if found is None or found.is_deleted:
                raise self._gen.absent(needle_id)
            self._append_mark(KIND_RESTAMP, needle_id, stamp)
            with self._lock:
                self._count_mark(needle_id, stamp)

    def record_bucket(self, record: BucketRecord, *, stamp: int) -> None:
        """Append that a bucket was made or deleted.  Not durable until `sync`.

        Raises:
            VolumeSealed, DiskFull, WriteFailed: as `append`.  Never VolumeFull.
        """
        content = encode_bucket(record)
        with self._owner:
            self.check_writable()
            try:
                self._append_content(KIND_BUCKET, content, stamp)
            except OSError as error:
                self._roll_back(error)

    def _append_mark(self, kind: int, needle_id: int, stamp: int, *, flags: int = 0) -> int:
        """Write a tombstone or restamp at the tail, which the caller then moves; returns its offset."""
        offset = self._tail
        mark = encode_mark(kind, needle_id, stamp, place_seed(self._gen.seed, offset), flags=flags)
        self._write_tail((mark,), MARK_SIZE)
        return offset

    def _count_mark(self, needle_id: int, stamp: int) -> None:
        tally = self._tally
        self._tail += MARK_SIZE
        tally.dead_bytes += MARK_SIZE
        tally.needle_id_max = max(tally.needle_id_max, needle_id)
        tally.stamp_max = max(tally.stamp_max, stamp)

    def _append_content(self, kind: int, content: bytes, stamp: int) -> int:
        """Write a note, bucket or void record at the tail; returns its offset.

        Raises:
            OSError: as the system gave it.
        """
        offset = self._tail
        record = encode_content(kind, content, stamp, place_seed(self._gen.seed, offset))
        write_all(self._gen.data, [record], offset)
        with self._lock:
            self._tail += len(record)
            self._tally.stamp_max = max(self._tally.stamp_max, stamp)
            if kind == KIND_NOTE:
                self._tally.dead_bytes += len(record)
            else:
                self._tally.kept_bytes += len(record)
        return offset

    def check_writable(self) -> None:
        """Refuse when sealed.

        Raises:
            VolumeSealed: it is.
        """
        if self.sealed_cause is not None:
            raise VolumeSealed(f"volume {self.volume_id} is sealed: {self.sealed_cause}")

    def _check_new(self, needle_id: int, data_size: int, offset: int, size: int) -> None:
        """Refuse a needle that cannot be written, as a record of `size` bytes at `offset`."""
        if self.sealed_cause is not None or not 0 < needle_id <= NEEDLE_ID_MAX or data_size > DATA_SIZE_MAX:
            self.check_writable()
            check_needle_id(needle_id)
            check_data_size(data_size)
        if needle_id <= self._tally.needle_id_max:
            found = self._gen.find_checked(needle_id)
            if found is not None and found.is_deleted:
                raise NeedleVoid(f"volume {self.volume_id}: needle {needle_id} was deleted")
            if found is not None or needle_id in self._reserved_ids:
                raise NeedleExists(f"volume {self.volume_id} has a needle {needle_id} already")
        if offset + size > self.capacity:
            raise VolumeFull(f"volume {self.volume_id} has {self.capacity - offset} bytes left, not {size}")
        if self._gen.entries.pending_count >= PENDING_MAX:
            self.sync()
            if self._gen.entries.pending_count >= PENDING_MAX:
                raise DiskFull(f"volume {self.volume_id}: its index cannot be written")

    def _require_uncut(self) -> None:
        """Writing behind the end of a file that was cut off would fill the gap, and hide it from `harm`."""
        if self._gen.data.size() < self._durable and (problem := self.harm()) is not None:
            self.seal(problem)
            raise WriteFailed(f"volume {self.volume_id}: {problem}; it takes no writes")

    def _write_tail(self, buffers: Sequence[Buffer], size: int) -> None:
        """Write at the tail, which the caller then moves; on failure the bytes are taken back."""
        self._require_uncut()
        try:
            written = self._gen.data.pwritev(buffers, self._tail)
            if written != size:
                write_rest(self._gen.data, buffers, self._tail, written)
        except OSError as error:
            self._roll_back(error)

    def _roll_back(self, error: OSError) -> NoReturn:
        """Cut what a failed write may have left behind the tail, or seal; raises what became of it."""
        failure = self._write_error(error)
        try:
            self._gen.data.truncate(self._tail)
        except OSError as truncate_error:
            self.seal(f"half a record at {self._tail} could not be taken back: {truncate_error}")
        raise failure from error

    def _write_error(self, error: OSError) -> StoreError:
        if error.errno == errno.EROFS:
            self.seal("the disk became read-only")
        return write_error(f"volume {self.volume_id}", error)

    # --- for a compaction: any thread -------------------------------------------------------------

    def begin_compaction(self) -> int:
        """Make all that is finished durable, in data and index; returns up to where it is, as an offset.

        Raises:
            WriteFailed, VolumeSealed, DiskFull: as `checkpoint`.
        """
        self.checkpoint()
        return self._checkpoint

    # --- for the switch to the next generation: any thread ----------------------------------------

    def begin_switch(self, switch: object) -> Generation:
        """Note that a switch reads along: nothing is cut off the tail from now on.

        Raises:
            VolumeBusy: there is one already.
        """
        with self._owner:
            if self._switch is not None:
                raise VolumeBusy(f"volume {self.volume_id} is being switched to its next generation already")
            self._switch = switch
            return self._gen

    def end_switch(self) -> None:
        with self._owner:
            self._switch = None

    def tail_and_open_extents(self) -> tuple[int, dict[int, Extent]]:
        """Where the last record ends, and which records are still being filled, by offset."""
        with self._lock:
            return self._tail, dict(self._in_flight)

    @contextlib.contextmanager
    def held_for_switch(self) -> Iterator[None]:
        """Keep the owner, and every sync, waiting for as long as the block lasts."""
        with self._owner, self._syncing_alone():
            yield

    def take_over(self, following: Volume, in_flight: dict[int, Extent]) -> None:
        """Take over the files and counters of the next generation.  While held."""
        gen = following._gen
        gen.report_to(self._note_damage)
        with self._lock:
            self._identity = following._identity
            self._gen, before = gen, self._gen
            before.retire()
            self._tally = following._tally
            self._tail = following._tail
            self._durable = following._durable
            self._sequence = following._sequence
            self._checkpoint = following._checkpoint
            self._in_flight = in_flight
            self._reserved_ids = {extent.needle_id for extent in in_flight.values()}
            self._damages = following._damages
            self._switch = None

    # --- making it last: any thread ---------------------------------------------------------------

    def sync(self) -> None:
        """Make everything durable that was appended, deleted or finished before this call.

        Raises:
            WriteFailed: the disk refused.  The volume is sealed: after a failed fdatasync the kernel may
                drop the bytes and report success next time, so a retry would prove nothing (Rebello et
                al., USENIX ATC 2020).
            VolumeSealed: it was sealed before.
        """
        with self._syncing_alone():
            self._sync()

    def begin_sync(self) -> BegunSync | None:
        """Start a sync whose `fdatasync` the kernel runs asynchronously; finish it with `end_sync`.

        Nothing waits for the second half: a `sync`, a `close` or a generation switch in between starts a
        sync of its own.  When a write has failed, the kernel tells both of them (`File.kernel_handle`).
        When the journal of the file system has failed, the kernel tells one of them, and from then on no
        index and no next generation can be written.

        Returns:
            None: not possible now; call `sync` instead.
        Raises:
            VolumeSealed: it was sealed before.
        """
        if not self._sync_lock.acquire(blocking=False):
            return None
        try:
            gen = self._gen
            handle = gen.data.kernel_handle()
            if handle is None or gen.entries.pending_count > ENTRIES_AT_ONCE:
                return None
            with self._lock:
                if self._begun is not None:
                    return None
                self.check_writable()
                reach, _ = self._settled()
                self._begun = BegunSync(handle, gen, gen.entries.begin_flush(), reach)
                return self._begun
        finally:
            self._sync_lock.release()

    def end_sync(self, begun: BegunSync, error: OSError | None) -> bool:
        """Finish a sync that `begin_sync` started.

        Args:
            error: the kernel's result; None: success.
        Returns:
            False: another sync or a generation switch got in between, so this result proves nothing: the
            other sync may have consumed our error.  Call `sync` instead.
        Raises:
            WriteFailed: there is an error, and the volume is sealed: see `sync`.
        """
        if begun.generation is not self._gen:
            return False
        if error is not None:
            with self._lock:
                self._forget_begun(begun)
            self._fail_sync(error)
        if not self._sync_lock.acquire(blocking=False):
            return False
        try:
            if self._begun is not begun:
                return False
            self._begun = None
            self._end_flush(begun.batch, begun.reach)
            return True
        finally:
            self._sync_lock.release()

    @contextlib.contextmanager
    def _syncing_alone(self) -> Iterator[None]:
        with self._sync_lock:
            with self._lock:
                self._forget_begun(self._begun)
            yield

    def _forget_begun(self, begun: BegunSync | None) -> None:
        """Its entries wait for another sync."""
        if begun is not None and self._begun is begun:
            self._begun = None
            self._gen.entries.cancel_flush()

    def require_intact(self) -> None:
        """Refuse to say that something lasts when files were deleted or cut off: cheap, for after every sync.

        Raises:
            WriteFailed: data file or index are not what was written.  The volume is sealed.
        """
        problem = self.harm()
        if problem is not None:
            self.seal(problem)
            raise WriteFailed(f"volume {self.volume_id}: {problem}; it takes no writes")

    def harm(self) -> str | None:
        """What somebody did to the open files; None: they have a name, and what was written to them.

        Writing goes on beyond the end of a file that was cut off, and fills the gap with zeros.
        """
        gen, durable, index = self._gen, self._durable, self._gen.entries.index
        for file, least, what in (
            (gen.data, durable, "data file"),
            (gen.entries.file, index.written_to if index is not None else 0, "index"),
        ):
            if isinstance(file, OsFile):
                try:
                    name_count, size = file.names_and_size()
                except OSError:  # closed meanwhile, by a switch or for good: others say what became of it
                    continue
                if gen is not self._gen:
                    return None
                if name_count == 0:
                    return f"its {what} was deleted while it was open"
                if size < least:
                    gen.is_suspect = True
                    return f"its {what} was cut off while it was open: {size} bytes, {least} were written"
        return None

    def displaced(self, root: Path) -> str | None:
        """Say that the next start would find other files than those that are written; None: it would not.

        Args:
            root: the folder of the disk.
        """
        if (problem := self.harm()) is not None:
            return problem
        gen = self._gen
        directory = self.directory
        paths = [
            (gen.data, data_path(directory, gen.number), "its data file"),
            (gen.entries.file, index_path(directory, gen.number), "its index"),
        ]
        for file, path, what in paths:
            if isinstance(file, OsFile):
                try:
                    known = file.file_id()
                except OSError:
                    continue
                problem = displaced(root / path, what, known)
                if problem is not None and gen is self._gen:
                    return problem
        manifest = root / manifest_path(directory)
        try:
            is_there = file_id(manifest) is not None
        except OSError:
            return None
        return None if is_there else f"its manifest {manifest} is gone"

    def checkpoint(self) -> None:
        """Sync, and make the index and its header durable too: the next open scans from here.

        Raises:
            WriteFailed, VolumeSealed: as `sync`.
            DiskFull: there is no room for the index; the needles are safe.
        """
        with self._syncing_alone():
            reach, tally, is_flushed = self._sync()
            if not is_flushed:
                raise DiskFull(f"volume {self.volume_id}: its index cannot be written")
            if reach == self._checkpoint and not self._is_header_stale:
                return
            index = self._gen.entries.index
            assert index is not None
            voids = self._gen.entries.voids
            header = IndexHeader(
                sequence=self._sequence + 1,
                checkpoint=reach,
                tally=tally,
                voids=voids.span if voids is not None else None,
            )
            self._sync_index(index)
            try:
                index.put_header(header)
            except OSError as error:
                raise write_error(f"index of volume {self.volume_id}", error) from error
            self._sync_index(index)
            self._sequence = header.sequence
            self._checkpoint = reach
            self._is_header_stale = False

    def _sync(self) -> tuple[int, Tally, bool]:
        """Sync the data; returns how far it reaches, the counters there, and whether the index is in step."""
        with self._lock:
            self.check_writable()
            reach, tally = self._settled()
            batch = self._gen.entries.begin_flush()
        try:
            self._gen.data.fdatasync()
        except OSError as error:
            with self._lock:
                self._gen.entries.cancel_flush()
            self._fail_sync(error)
        return reach, tally, self._end_flush(batch, reach)

    def _fail_sync(self, error: OSError) -> NoReturn:
        self.seal(f"sync of the data file failed: {error}")
        raise WriteFailed(f"volume {self.volume_id}: sync failed: {error}") from error

    def _end_flush(self, batch: dict[int, bytes], reach: int) -> bool:
        """The data is durable up to there: write its entries; tells whether the index took them."""
        try:
            self._write_index(batch, reach)
        except OSError as error:
            # The needles are durable, and a scan after a crash finds them.  Their entries wait in memory.
            with self._lock:
                self._gen.entries.cancel_flush()
            log.warning("index not written", extra={"volume_id": self.volume_id, "cause": str(error)})
            return False
        with self._lock:
            self._gen.entries.end_flush()
            self._durable = max(self._durable, reach)
        return True

    def _settled(self) -> tuple[int, Tally]:
        """Up to where nothing is unfinished, and the counters there."""
        for first in self._in_flight.values():
            return first.offset, first.before.copy()
        return self._tail, self._tally.copy()

    def _write_index(self, batch: dict[int, bytes], reach: int) -> None:
        index = self._gen.entries.index
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
            self._gen.is_suspect = True
            self.seal(f"sync of the index failed: {error}")
            raise WriteFailed(f"volume {self.volume_id}: sync of its index failed: {error}") from error

    # --- reading: any thread ----------------------------------------------------------------------

    def find(self, needle_id: int, *, nowait: bool = False) -> IndexEntry | None:
        """What the index says about a needle: one read of 16 bytes.  None: it was never written.

        Args:
            nowait: see `read`.
        Raises:
            ReadFailed: the index cannot be read.
        """
        return self._gen.find(needle_id, nowait=nowait)

    def read(self, needle_id: int, *, nowait: bool = False, found: IndexEntry | None = None) -> NeedleRead:
        """Read a whole needle and check every byte of it.

        Args:
            found: what `find` has just said of it, to save asking the index again.
            nowait: raise BlockingIOError when not all of it is in memory, so that a thread can read it.
        Raises:
            NoSuchNeedle: it was never written, or is deleted.
            NeedleCorrupt: it is damaged.  Never answered as absent.
            ReadFailed: the disk refused.
        """
        return self._gen.read(needle_id, nowait=nowait, found=found)

    def read_small(self, needle_id: int, size_max: int, *, nowait: bool = False) -> NeedleRead | None:
        """`read`, if it has at most so many bytes of data, else None; raises as that."""
        gen = self._gen
        found = gen.find(needle_id, nowait=nowait)
        if found is not None and found.data_size > size_max:
            return None
        return gen.read(needle_id, nowait=nowait, found=found)

    def start_reading(self, needle_ids: Iterable[int]) -> None:
        """Let the disk begin with these needles, with all at once; `read` of each waits for less then.

        Of a needle whose index entry is not in memory it begins with that.  What is wrong with a needle, its
        read will tell.  For threads: see `File.start_reading`.
        """
        self._gen.start_reading(needle_ids)

    def open_needle(self, needle_id: int, *, nowait: bool = False) -> NeedleReader:
        """Open a needle for reading parts of it; each part is checked.

        Args:
            nowait: see `read`.
        Raises:
            NoSuchNeedle, NeedleCorrupt, ReadFailed: see `read`.
        """
        return self._gen.open_needle(needle_id, nowait=nowait)

    def records(self) -> Iterator[Record]:
        """All records in the order they were written, for rebuilds and verification.

        Covers what was appended before the call; open extents show as unfinished.  Reads and checks every
        byte: run it in a thread.
        """
        gen = self._gen
        return gen.records(SUPERBLOCK_SIZE, min(self._tail, gen.data.size()))

    def live_bitmap(self, first_id: int, count: int) -> bytes:
        """Which of `count` needles from `first_id` on are live: bit i & 7 of byte i >> 3 is the i-th.

        Trailing zero bytes are left out.

        Raises:
            ReadFailed: the index cannot be read.
        """
        try:
            return self._gen.entries.live_bitmap(first_id, count)
        except OSError as error:
            raise ReadFailed(f"the index of volume {self.volume_id} cannot be read: {error}") from error

    def _note_damage(self, gen: Generation, needle_id: int, offset: int, problem: str) -> None:
        """Count damage, once for each needle, and mark its entry: a restart must not count it again."""
        damage = Damage(self.volume_id, offset, 0, needle_id, problem)
        found: IndexEntry | None = None
        with self._lock:
            # The one call to the disk: the entry was read a moment ago, so it comes from memory.  Outside of
            # the lock a deletion could come in between, which the mark would then undo.
            with contextlib.suppress(ReadFailed):
                found = gen.find(needle_id)
            is_dead = found is not None and found.is_deleted
            is_known = gen is not self._gen or is_dead or (found is not None and found.is_damaged)
            if not is_known:
                self._tally.damaged_count += 1
                if found is not None:
                    sizes = (found.metadata_size, found.data_size, found.crc)
                    gen.entries.put(needle_id, encode_entry(found.offset, *sizes, FLAG_DAMAGED))
            if gen is self._gen and not is_dead and len(self._damages) < DAMAGES_MAX:
                self._damages.setdefault(needle_id, damage)
        if not is_known:
            log.error("damage found", extra=msgspec.structs.asdict(damage))


def write_error(where: str, error: OSError) -> StoreError:
    """Name what the system gave."""
    kind = DiskFull if error.errno in _FULL else WriteFailed
    return kind(f"{where}: {error}")
