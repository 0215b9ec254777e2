"""Volume: one append-only file of needles, its index, and the rules that keep them true.

    <disk>/volumes/<volume id>/manifest   which generation counts (`storage/format/superblock.py`)
                              /g1.vol     its data: a superblock, then records (`storage/format/needle.py`)
                              /g1.idx     its index, rebuildable from the data (`storage/index.py`)

`Volume` is what an actor calls, and says what each call promises.  The work is done by its parts:

    storage/opening.py        from what a crash has left to a volume that is true
    storage/writing/          appending, open extents, deletions, syncs and checkpoints, one file each
    storage/generation.py     all that reads
    storage/compaction/       the next generation, and the switch to it

One thread owns a volume: it alone appends, deletes, reserves, finishes and aborts.  At the same time any
thread may call `sync` and `checkpoint`, `Extent.write` (one call at a time for an extent), and all reads.
A switch to the next generation runs in a thread of its own; while it takes over, and only then, the owner
waits for it.

What is appended is readable at once, and durable when a later `sync` has returned.  A failed append takes its
bytes back.  Where that fails as well, and whenever a sync fails, the volume is sealed: it goes on reading and
writes no more.  Opening it again checks it against what the disk really holds.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from warehouse.errors import BadRequest, ReadFailed, StoreError
from warehouse.storage.disk import Buffer, Disk
from warehouse.storage.extent import Extent, Placed
from warehouse.storage.files import create_files
from warehouse.storage.format.needle import (
    KIND_NOTE,
    BucketRecord,
    NeedleMetadata,
    NeedleRead,
    encode_metadata,
)
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, VolumeIdentity
from warehouse.storage.index import OFFSET_MAX, IndexEntry
from warehouse.storage.opening import Opened, open_files
from warehouse.storage.reader import NeedleReader
from warehouse.storage.recovery import Damage, RecoveryReport, encode_note
from warehouse.storage.scan import Record
from warehouse.storage.writing.appending import Appender, NewNeedle
from warehouse.storage.writing.extents import OpenExtents
from warehouse.storage.writing.file_check import FileCheck
from warehouse.storage.writing.handover import Handover
from warehouse.storage.writing.marks import MarkWriter
from warehouse.storage.writing.state import VolumeState, VolumeStats, write_error
from warehouse.storage.writing.syncing import BegunSync, Syncing

log = logging.getLogger(__name__)


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
        self._is_closed = False
        self._state = VolumeState(opened, directory)
        self._files = FileCheck(self._state)
        self._syncing = Syncing(self._state)
        self._appender = Appender(self._state, self._syncing, self._files)
        self._extents = OpenExtents(self._state, self._appender, self._files)
        self._marks = MarkWriter(self._state, self._appender)
        self.handover: Final = Handover(self._state, self._syncing)  # for the switch to the next generation

    def __repr__(self) -> str:
        return f"Volume({self.volume_id}, generation {self.generation}, {self._state.tail} bytes)"

    @property
    def identity(self) -> VolumeIdentity:
        return self._state.identity

    @property
    def generation(self) -> int:
        """The number of the generation that counts."""
        return self._state.identity.generation

    @property
    def format(self) -> int:
        """What its records may say; a compaction makes the newest of it."""
        return self._state.identity.format

    @property
    def sealed_cause(self) -> str | None:
        """Why it takes no writes; None: it takes them."""
        return self._state.sealed_cause

    # --- from and to the disk ---------------------------------------------------------------------

    @classmethod
    def create(
        cls, disk: Disk, directory: str, *, volume_id: int, uuid: str, capacity: int, created_ms: int
    ) -> Volume:
        """Make an empty volume and open it; it survives a power cut once this returns.

        Raises:
            BadRequest: the directory holds a volume already, or uuid or capacity are out of bounds.
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

        A volume on a disk that has become read-only opens all the same, sealed.

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
            volume._finish_recovery(opened.torn)
        return volume

    def _finish_recovery(self, torn: list[tuple[int, int]]) -> None:
        """Cut the torn end off, write a note of other torn stretches, and set the checkpoint."""
        state = self._state
        data = state.generation.data
        try:
            if data.size() != state.tail:
                data.truncate(state.tail)
            for content in encode_note(torn):
                self._appender.append_content(KIND_NOTE, content, 0)
        except OSError as error:
            self.seal(f"recovery could not write: {error}")
            return
        if state.tail != state.checkpoint:
            self._try_checkpoint()

    def close(self) -> None:
        """Give up open extents, set a checkpoint where possible, and let go of the files."""
        if self._is_closed:
            return
        self._extents.abort_all()
        if self.sealed_cause is None:
            self._try_checkpoint()
        state = self._state
        with self._syncing.alone():
            self._is_closed = True
            state.sealed_cause = state.sealed_cause or "closed"
            state.generation = state.generation.closed()

    def _try_checkpoint(self) -> None:
        """Set a checkpoint.  Without it the volume is as whole, and its next open scans again."""
        try:
            self.checkpoint()
        except StoreError as error:  # the disk is full, say
            log.warning("checkpoint failed", extra={"volume_id": self.volume_id, "cause": error.message})

    def seal(self, cause: str) -> None:
        """Take no more writes."""
        self._state.seal(cause)

    def check_writable(self) -> None:
        """Refuse when sealed.

        Raises:
            VolumeSealed: it is.
        """
        self._state.check_writable()

    def stats(self) -> VolumeStats:
        return self._state.stats()

    def damages(self) -> list[Damage]:
        """The damaged needles known by name: from the recovery, and from reads since."""
        with self._state.lock:
            return list(self._state.damages.values())

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
            ChecksumMismatch: the CRC of the data is another; nothing is written.
            NeedleExists, NeedleVoid: the id is taken, or was deleted.
            VolumeFormatOld: the volume is older than what the metadata says; nothing is written.
            VolumeFull, VolumeSealed, DiskFull, WriteFailed: no room, or the disk refused.
            BadMetadata, BadRequest: metadata, id or size out of bounds.
        """
        return self._appender.append(NewNeedle(needle_id, encode_metadata(metadata), data, crc), stamp)

    def append_many(
        self, needles: Sequence[NewNeedle], tick: Callable[[], int]
    ) -> list[tuple[Placed, int] | StoreError]:
        """Write these needles with one call to the disk.  Not durable until `sync`.

        Args:
            needles: at most `APPENDS_MAX`, small ones: they are one write.
            tick: makes the stamp of each.
        Returns:
            For each, in order, where it lies and its stamp, or the error that `append` would have raised.
        """
        return self._appender.append_many(needles, tick)

    def reserve(self, needle_id: int, metadata: NeedleMetadata, data_size: int) -> Extent:
        """Make room for a needle that will arrive in pieces.

        Raises:
            DiskFull: before a byte was accepted.  (What others write meanwhile may still fill the disk.)
            NeedleExists, NeedleVoid, VolumeFormatOld, VolumeFull, VolumeSealed, WriteFailed, BadMetadata,
                BadRequest: as `append` does.
        """
        return self._extents.reserve(needle_id, encode_metadata(metadata), data_size)

    def is_being_filled(self, needle_id: int) -> bool:
        """Whether there is an open extent for it."""
        return needle_id in self._state.reserved_ids

    def delete(self, needle_id: int, *, stamp: int, object_deleted: bool = False) -> bool:
        """Append a tombstone; returns whether a live needle died of it.

        An id that was never written gets one too, and can never be written from then on.  One that is
        deleted already is left alone.

        Args:
            object_deleted: not only the needle: older versions of its object are dead as well.
        Raises:
            VolumeSealed, DiskFull, WriteFailed, ReadFailed, BadRequest: as `append`.  Never VolumeFull.
        """
        return self._marks.delete(needle_id, stamp=stamp, object_deleted=object_deleted)

    def restamp(self, needle_id: int, *, stamp: int) -> None:
        """Append a newer stamp for a needle: for those who read the volume in order, it was written now.

        Raises:
            NoSuchNeedle: it is absent or deleted.
            VolumeSealed, DiskFull, WriteFailed, ReadFailed, BadRequest: as `append`.  Never VolumeFull.
        """
        self._marks.restamp(needle_id, stamp=stamp)

    def record_bucket(self, record: BucketRecord, *, stamp: int) -> None:
        """Append that a bucket was made or deleted.  Not durable until `sync`.

        Raises:
            VolumeSealed, DiskFull, WriteFailed: as `append`.  Never VolumeFull.
        """
        self._marks.record_bucket(record, stamp=stamp)

    # --- making it last: any thread ---------------------------------------------------------------

    def sync(self) -> None:
        """Make everything durable that was appended, deleted or finished before this call.

        Raises:
            WriteFailed: the disk refused.  The volume is sealed: after a failed fdatasync the kernel may
                drop the bytes and report success next time, so a retry would prove nothing (Rebello et
                al., USENIX ATC 2020).
            VolumeSealed: it was sealed before.
        """
        self._syncing.sync()

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
        return self._syncing.begin_sync()

    def end_sync(self, begun: BegunSync, error: OSError | None) -> bool:
        """Finish a sync that `begin_sync` started.

        Args:
            error: the kernel's result; None: success.
        Returns:
            False: another sync or a generation switch got in between, so this result proves nothing: the
            other sync may have consumed our error, and a file that does not count any more says nothing
            about the one that does.  Call `sync` instead.
        Raises:
            WriteFailed: there is an error, and the volume is sealed: see `sync`.
        """
        return self._syncing.end_sync(begun, error)

    def checkpoint(self) -> None:
        """Sync, and make the index and its header durable too: the next open scans from here.

        Raises:
            WriteFailed, VolumeSealed: as `sync`.
            DiskFull: there is no room for the index; the needles are safe.
        """
        self._syncing.checkpoint()

    def require_intact(self) -> None:
        """Refuse to say that something lasts when files were deleted or cut off: cheap, for after every sync.

        Raises:
            WriteFailed: data file or index are not what was written.  The volume is sealed.
        """
        self._files.require_intact()

    def harm(self) -> str | None:
        """What somebody did to the open files; None: they have a name, and what was written to them.

        A write beyond the end of a file that was cut off would fill the gap with zeros.
        """
        return self._files.harm()

    def displaced(self, root: Path) -> str | None:
        """Say that the next start would find other files than those that are written; None: it would not.

        Args:
            root: the folder of the disk.
        """
        return self._files.displaced(root)

    def begin_compaction(self) -> int:
        """Make all that is finished durable, in data and index; returns up to where it is, as an offset.

        Raises:
            WriteFailed, VolumeSealed, DiskFull: as `checkpoint`.
        """
        self.checkpoint()
        return self._state.checkpoint

    # --- reading: any thread ----------------------------------------------------------------------

    def find(self, needle_id: int, *, nowait: bool = False) -> IndexEntry | None:
        """What the index says about a needle: one read of 16 bytes.  None: it was never written.

        Args:
            nowait: see `read`.
        Raises:
            ReadFailed: the index cannot be read.
        """
        return self._state.generation.find(needle_id, nowait=nowait)

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
        return self._state.generation.read(needle_id, nowait=nowait, found=found)

    def read_small(self, needle_id: int, size_max: int, *, nowait: bool = False) -> NeedleRead | None:
        """`read`, if the needle has at most `size_max` bytes of data, else None; raises as `read`."""
        generation = self._state.generation
        found = generation.find(needle_id, nowait=nowait)
        if found is not None and found.data_size > size_max:
            return None
        return generation.read(needle_id, nowait=nowait, found=found)

    def start_reading(self, needle_ids: Iterable[int]) -> None:
        """Let the disk begin with all these needles at once; `read` of each then waits for less.

        Where the index entry of a needle is not in memory, the disk begins with the entry.  What is wrong
        with a needle, its read will tell.  For threads: see `File.start_reading`.
        """
        self._state.generation.start_reading(needle_ids)

    def open_needle(self, needle_id: int, *, nowait: bool = False) -> NeedleReader:
        """Open a needle for reading parts of it; each part is checked.

        Args:
            nowait: see `read`.
        Raises:
            NoSuchNeedle, NeedleCorrupt, ReadFailed: see `read`.
        """
        return self._state.generation.open_needle(needle_id, nowait=nowait)

    def records(self) -> Iterator[Record]:
        """All records in the order they were written, for rebuilds and verification.

        Covers what was appended before the call; open extents show as unfinished.  Reads and checks every
        byte: run it in a thread.
        """
        generation = self._state.generation
        return generation.records(SUPERBLOCK_SIZE, min(self._state.tail, generation.data.size()))

    def live_bitmap(self, first_id: int, count: int) -> bytes:
        """Which of `count` needles from `first_id` on are live: bit i & 7 of byte i >> 3 is the i-th.

        Trailing zero bytes are left out.

        Raises:
            ReadFailed: the index cannot be read.
        """
        try:
            return self._state.generation.entries.live_bitmap(first_id, count)
        except OSError as error:
            raise ReadFailed(f"the index of volume {self.volume_id} cannot be read: {error}") from error
