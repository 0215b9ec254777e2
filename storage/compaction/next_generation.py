"""NextGeneration: the files that a compaction writes, until the volume takes them over.

A compaction writes a whole new pair of files.  Nobody else knows them until they are published, so needles
may be written in bulk, and a footer may be written again with a later stamp.

It is put together from the same parts as `Volume` (`storage/writing/`).  At the switch the volume takes over
its state, that is its files and counters, as they are (`Handover.take_over`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

import msgspec

from warehouse.errors import GenerationMismatch, ReadFailed
from warehouse.storage.disk import Buffer, Disk, read_fully, write_all
from warehouse.storage.extent import Extent
from warehouse.storage.files import create_generation, data_path, index_path
from warehouse.storage.format.needle import (
    FLAG_DAMAGED,
    FLAG_OBJECT_DELETED,
    FOOTER_SIZE,
    KIND_BUCKET,
    KIND_DATA,
    KIND_TOMBSTONE,
    KIND_VOID,
    PADDINGS,
    NeedleMetadata,
    decode_footer,
    decode_void,
    encode_footer,
    encode_header,
    encode_mark,
    encode_metadata,
    place_seed,
    stored_size,
    table_size,
)
from warehouse.storage.format.stamp import sound
from warehouse.storage.format.superblock import FORMAT_NEWEST, VolumeIdentity
from warehouse.storage.index import FLAG_DAMAGED as ENTRY_DAMAGED
from warehouse.storage.index import FLAG_DELETED, IndexEntry, encode_entry
from warehouse.storage.opening import Opened, open_generation
from warehouse.storage.writing.appending import Appender
from warehouse.storage.writing.extents import OpenExtents
from warehouse.storage.writing.file_check import FileCheck
from warehouse.storage.writing.marks import MarkWriter
from warehouse.storage.writing.state import VolumeState, VolumeStats, write_error
from warehouse.storage.writing.syncing import Syncing

PENDING_MAX = 32_768  # entries in memory between two syncs; about 5 MB


class CopiedNeedle(NamedTuple):
    """A small needle on its way from one generation to the next: without a block table."""

    needle_id: int
    metadata: bytes
    data: memoryview
    stamp: int
    crc: int


class NextGeneration:
    """One generation in the making; any one thread at a time."""

    def __init__(self, opened: Opened, directory: str) -> None:
        """Use `make` or `reopen`."""
        self.volume_id: Final = opened.identity.volume_id
        self.identity: Final = opened.identity
        self.state: Final = VolumeState(opened, directory)
        self._syncing = Syncing(self.state)
        files = FileCheck(self.state)
        self._appender = Appender(self.state, self._syncing, files)
        self._extents = OpenExtents(self.state, self._appender, files)
        self._marks = MarkWriter(self.state, self._appender)

    @classmethod
    def make(cls, disk: Disk, directory: str, identity: VolumeIdentity) -> Self:
        """Make the empty files of a generation; ones of that name are replaced.

        Raises:
            DiskFull, WriteFailed: the disk refused.
        """
        try:
            create_generation(disk, directory, identity)
            return cls(open_generation(disk, directory, identity, [], read_only=False), directory)
        except OSError as error:
            raise write_error(f"generation {identity.generation} of {directory}", error) from error

    @classmethod
    def reopen(cls, disk: Disk, directory: str, identity: VolumeIdentity) -> Self:
        """Open what a finished copy left.

        Raises:
            GenerationMismatch: it is not there, not finished, or of another volume.
            ReadFailed: the disk refused.
        """
        for path in (data_path(directory, identity.generation), index_path(directory, identity.generation)):
            if not disk.exists(path):
                raise GenerationMismatch(f"{path} is missing: the copy was not finished, or was removed")
        try:
            opened = open_generation(disk, directory, identity, [], read_only=False)
            size = opened.data.size()
        except OSError as error:
            raise ReadFailed(
                f"generation {identity.generation} of {directory} cannot be opened: {error}"
            ) from error
        if opened.sealed_cause is not None:
            raise ReadFailed(f"generation {identity.generation} of {directory}: {opened.sealed_cause}")
        if opened.report.rebuilt_because or opened.report.damages or opened.checkpoint != size:
            raise GenerationMismatch(
                f"generation {identity.generation} of {directory} is not finished: its checkpoint is"
                f" {opened.checkpoint}, its size {size}"
            )
        return cls(opened, directory)

    def discard(self) -> None:
        """Let go of the files, without a checkpoint: they are of no use any more."""
        self.state.generation = self.state.generation.closed()

    def stats(self) -> VolumeStats:
        return self.state.stats()

    def find(self, needle_id: int) -> IndexEntry | None:
        """What its index says of a needle; None: it was not copied."""
        return self.state.generation.find(needle_id)

    # --- making it last ---------------------------------------------------------------------------

    def sync(self) -> None:
        """See `Volume.sync`."""
        self._syncing.sync()

    def checkpoint(self) -> None:
        """See `Volume.checkpoint`."""
        self._syncing.checkpoint()

    def make_durable(self) -> None:
        """Sync.  No checkpoint, as long as a scan from the last one finds all that came since.

        Raises:
            DiskFull, WriteFailed: the disk refused.
        """
        if self.state.is_header_stale:
            self.checkpoint()
        else:
            self.sync()

    # --- needles ----------------------------------------------------------------------------------

    def copy_many(self, needles: Sequence[CopiedNeedle]) -> int:
        """Append small needles as they are, with one write; returns the bytes written.

        Raises:
            DiskFull, WriteFailed: the disk refused; this generation is of no use any more.
        """
        state = self.state
        seed, offset, tally = state.generation.seed, state.tail, state.tally
        pieces: list[Buffer] = []
        entries: list[tuple[int, bytes]] = []
        for needle_id, metadata, data, stamp, crc in needles:
            data_size = len(data)
            header, header_crc = encode_header(
                KIND_DATA, 0, needle_id, metadata, data_size, place_seed(seed, offset)
            )
            size = stored_size(len(metadata), data_size)
            padding = PADDINGS[size - len(header) - data_size - FOOTER_SIZE]
            pieces += (header, data, encode_footer(header_crc, stamp, crc) + padding)
            entries.append((needle_id, encode_entry(offset, len(metadata), data_size, crc)))
            offset += size
            tally.needle_id_max = max(tally.needle_id_max, needle_id)
            tally.stamp_max = max(tally.stamp_max, sound(stamp))
        written = offset - state.tail
        self._write(b"".join(pieces), state.tail)
        with state.lock:
            for needle_id, entry in entries:
                state.generation.entries.put(needle_id, entry)
            state.tail = offset
            tally.live_count += len(needles)
            tally.live_bytes += written
        self._flush_when_many()
        return written

    def copy_extent(self, needle_id: int, metadata: bytes, data_size: int, *, flags: int) -> Extent:
        """Begin a needle that is written piece by piece; `Extent.finish` or `finish_damaged` ends it."""
        self._flush_when_many()
        return self._extents.open(needle_id, metadata, data_size, flags=flags, is_allocated=False)

    def finish_damaged(self, extent: Extent, *, stamp: int, crc: int) -> None:
        """End a needle whose bytes do not check: it is kept as it is, and never served.

        Args:
            crc: what the CRC-32C of its data should be.
        Raises:
            DiskFull, WriteFailed: the disk refused.
        """
        seed = place_seed(self.state.generation.seed, extent.offset)
        metadata = self._read(extent.metadata_size, extent.data_offset - extent.metadata_size)
        header, header_crc = encode_header(
            KIND_DATA, FLAG_DAMAGED, extent.needle_id, metadata, extent.data_size, seed
        )
        extent.crc = crc
        self._write(header, extent.offset)
        extent.rebind(header_crc)
        try:
            extent.write_footer(stamp)
        except OSError as error:
            raise write_error(f"volume {self.volume_id}", error) from error
        self._extents.count_finished(extent, stamp, ENTRY_DAMAGED)
        with self.state.lock:
            self.state.tally.damaged_count += 1

    def fold_stamp(self, needle_id: int, stamp: int) -> None:
        """Give a needle that was copied a later stamp, where it stands.

        Raises:
            ReadFailed, NeedleCorrupt, DiskFull, WriteFailed: the disk refused.
        """
        offset, header, _ = self.state.generation.locate(needle_id, nowait=False)
        back_size = table_size(header.data_size) + FOOTER_SIZE
        back = self._read(back_size, offset + header.table_offset)
        footer = decode_footer(header.crc, back)
        if footer is None:
            raise self.state.generation.damaged(needle_id, offset, "footer does not match its CRC")
        if footer.stamp < stamp:
            table = bytes(back[:-FOOTER_SIZE])
            self._write(
                encode_footer(header.crc, stamp, footer.data_crc, table), offset + header.table_offset
            )
            with self.state.lock:
                before = [extent.before for extent in self.state.in_flight.values() if extent.offset > offset]
                for tally in (self.state.tally, *before):
                    tally.stamp_max = max(tally.stamp_max, sound(stamp))
                if offset < self.state.checkpoint:
                    self.state.is_header_stale = True

    # --- what is kept next to them ----------------------------------------------------------------

    def copy_deletion(self, needle_id: int, metadata: NeedleMetadata, stamp: int) -> int:
        """Append a tombstone that names its object, for a needle that is left out; returns its size."""
        names = NeedleMetadata(metadata.bucket, metadata.bucket_id, metadata.key, metadata.created_ms)
        encoded = encode_metadata(names)
        state = self.state
        offset = state.tail
        seed = place_seed(state.generation.seed, offset)
        mark = encode_mark(
            KIND_TOMBSTONE, needle_id, stamp, seed, flags=FLAG_OBJECT_DELETED, metadata=encoded
        )
        self._write(mark, offset)
        with state.lock:
            state.generation.entries.put(needle_id, encode_entry(offset, 0, 0, 0, FLAG_DELETED))
            state.tail += len(mark)
            state.tally.kept_bytes += len(mark)
            state.tally.needle_id_max = max(state.tally.needle_id_max, needle_id)
            state.tally.stamp_max = max(state.tally.stamp_max, sound(stamp))
        self._flush_when_many()
        return len(mark)

    def delete(self, needle_id: int, *, stamp: int, object_deleted: bool) -> bool:
        """Append a tombstone: see `Volume.delete`."""
        return self._marks.delete(needle_id, stamp=stamp, object_deleted=object_deleted)

    def copy_bucket(self, content: bytes, stamp: int) -> None:
        """Append a bucket record as it is."""
        self._copy_content(KIND_BUCKET, content, stamp)

    def void(self, content: bytes, stamp: int) -> None:
        """Append a void record: its ids need no entries of their own.

        Args:
            content: its ids follow those of the void records before it, and nothing stands between them.
            stamp: the greatest of what died, so that it is known when the index is lost.
        """
        offset = self._copy_content(KIND_VOID, content, stamp)
        voids = self.state.generation.entries.voids
        assert voids is not None
        with self.state.lock:
            is_taken = voids.add(offset, content)
        assert is_taken, "void records are written in one go, in the order of their ids"
        self.raise_marks(needle_id_max=decode_void(content)[-1][1], stamp_max=0)

    def blocks(self, first_id: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Entries as they stand in the index file; see `IndexFile.blocks`."""
        index = self.state.generation.entries.index
        assert index is not None
        return index.blocks(first_id, count)

    @property
    def needle_id_max(self) -> int:
        """The greatest id that was written, or is being."""
        return self.state.tally.needle_id_max

    def raise_marks(self, *, needle_id_max: int, stamp_max: int) -> None:
        """Ids and stamps up to these were used, though what used them is not here."""
        self.state.raise_marks(needle_id_max=needle_id_max, stamp_max=stamp_max)

    def _copy_content(self, kind: int, content: bytes, stamp: int) -> int:
        try:
            return self._appender.append_content(kind, content, stamp)
        except OSError as error:
            raise write_error(f"volume {self.volume_id}", error) from error

    # --- files ------------------------------------------------------------------------------------

    def _flush_when_many(self) -> None:
        if self.state.generation.entries.pending_count >= PENDING_MAX:
            self.sync()

    def _write(self, content: bytes, offset: int) -> None:
        try:
            write_all(self.state.generation.data, [content], offset)
        except OSError as error:
            raise write_error(f"volume {self.volume_id}", error) from error

    def _read(self, size: int, offset: int) -> bytes:
        buffer = bytearray(size)
        try:
            read_fully(self.state.generation.data, buffer, offset)
        except OSError as error:
            raise ReadFailed(f"volume {self.volume_id} at {offset}: {error}") from error
        return bytes(buffer)


def next_identity(identity: VolumeIdentity) -> VolumeIdentity:
    """The identity of the next generation of the same volume: in the newest format."""
    return msgspec.structs.replace(identity, generation=identity.generation + 1, format=FORMAT_NEWEST)
