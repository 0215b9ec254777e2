"""GenerationSwitch: bring a finished copy up to date, and put it in the present generation's place.

The volume goes on reading and writing while `catch_up` replays what was written after the copy, in rounds
that get shorter.  `switch` then keeps the owner waiting for the last, short round:

    copy complete  -->  catch_up()...  -->  switch(): [ last round, sync, compare, publish, take over ]
                                                      one atomic step: the manifest names the next one

An upload under way is mirrored in the next generation.  Each round fills the mirror further, and the switch
moves the upload over to it.  Before the switch publishes, it compares the counters of the two generations:
the live needles and their bytes must be the same.  Otherwise the copy is thrown away.

A crash at any moment leaves the generation that the manifest names, whole.  The files of the other generation
are then leftovers.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Final

import msgspec

from warehouse.errors import GenerationMismatch, ReadFailed
from warehouse.storage.compaction.next_generation import NextGeneration, next_identity
from warehouse.storage.compaction.record_copier import PIECE_SIZE, RecordCopier
from warehouse.storage.disk import Disk, read_fully
from warehouse.storage.extent import Extent
from warehouse.storage.files import PublishUncertain, publish, remove_leftovers
from warehouse.storage.format.needle import FLAG_STREAMED, FOOTER_SIZE, decode_footer, table_size
from warehouse.storage.volume import Volume
from warehouse.storage.writing.state import write_error

log = logging.getLogger(__name__)


class _MirroredUpload(msgspec.Struct):
    """An upload under way, and its mirror in the next generation."""

    extent: Extent
    offset: int  # of the extent in the present generation
    mirror: Extent


class GenerationSwitch:
    """Switches one volume to its next generation.  Any thread, one call at a time."""

    def __init__(self, volume: Volume, disk: Disk, *, generation: int, end_offset: int) -> None:
        """Open what a `Copy` has left.

        Args:
            generation: of the copy.
            end_offset: how far in the present generation's data file it reaches.
        Raises:
            VolumeBusy: another switch of this volume is under way.
            VolumeSealed: the volume takes no writes.
            GenerationMismatch: the copy is not that of the next generation, not finished, or not there.
            ReadFailed: the disk refused.
        """
        self._volume: Final = volume
        self._disk = disk
        volume.check_writable()
        identity = next_identity(volume.identity)
        if identity.generation != generation:
            raise GenerationMismatch(
                f"volume {volume.volume_id} is at generation {volume.generation}, the copy is {generation}"
            )
        self._next = NextGeneration.reopen(disk, volume.directory, identity)
        self._source = volume.handover.begin()
        self._position = end_offset
        self._mirrored: list[_MirroredUpload] = []
        self.freed_bytes = 0  # how much shorter the data file became with the switch
        entries = self._source.entries
        self._copier = RecordCopier(
            self._source.data,
            self._source.seed,
            lookup=self._source.find,
            lookup_now=self._source.find,
            within=entries.within,
            target=self._next,
            horizon=0,
            makes_voids=False,
        )

    def catch_up(self) -> int:
        """One round: replay what was there when the round began; returns how many bytes came meanwhile.

        Raises:
            ReadFailed, DiskFull, WriteFailed: the disk refused.  All that is left to do is `abandon`.
        """
        tail, open_extents = self._volume.handover.tail_and_open_extents()
        # First the uploads of earlier rounds: what is replayed next may hold their tombstones.
        self._settle_mirrored(open_extents)
        for offset, extent in open_extents.items():
            if offset >= self._position:
                self._replay(offset, tail)
                mirror = self._next.copy_extent(
                    extent.needle_id, self._metadata_of(extent), extent.data_size, flags=FLAG_STREAMED
                )
                self._mirrored.append(_MirroredUpload(extent, offset, mirror))
                self._position = offset + extent.stored_size
        self._replay(tail, tail)
        self._fill_mirrored()
        return self._volume.handover.tail_and_open_extents()[0] - self._position

    def flush(self) -> None:
        """Make what was replayed durable, so that the last sync, for which the owner waits, is short."""
        self._next.checkpoint()

    def switch(self) -> float:
        """Do the last round while the owner waits, and take over; returns the pause, in seconds.

        Afterwards the files of the old generation have no names any more, and vanish with their last reader.

        Raises:
            VolumeSealed: the volume is sealed; nothing has changed.
            GenerationMismatch: the two generations do not hold the same; nothing has changed.
            ReadFailed, DiskFull, WriteFailed: the disk refused; nothing has changed.
        """
        volume = self._volume
        started = time.perf_counter()
        with volume.handover.held():
            volume.check_writable()
            self.catch_up()
            with contextlib.ExitStack() as held:
                for upload in self._mirrored:
                    held.enter_context(upload.extent.held())
                self._fill_mirrored()
                self._next.raise_marks(
                    needle_id_max=volume.stats().needle_id_max, stamp_max=volume.stats().stamp_max
                )
                self._next.make_durable()
                self._compare()
                self.freed_bytes = volume.stats().file_size - self._next.stats().file_size
                problem = self._publish()
                for upload in self._mirrored:
                    upload.extent.move(upload.mirror)
                volume.handover.take_over(
                    self._next.state, {upload.mirror.offset: upload.extent for upload in self._mirrored}
                )
            if problem is not None:
                volume.seal(problem)
            pause_s = time.perf_counter() - started
        if problem is None:
            remove_leftovers(self._disk, volume.directory, volume.generation)
        return pause_s

    def abandon(self) -> None:
        """Give up: the present generation stays, the files of the next are removed."""
        self._volume.handover.cancel()
        self._next.discard()
        remove_leftovers(self._disk, self._volume.directory, self._volume.generation)

    # --- steps ------------------------------------------------------------------------------------

    def _replay(self, end: int, tail: int) -> None:
        # A long upload keeps the copy from what was written after it, which has its garbage as well.
        for _ in self._copier.copy(self._position, end, tail):
            pass
        self._position = max(self._position, end)

    def _settle_mirrored(self, open_extents: dict[int, Extent]) -> None:
        """Finish or abort the mirrored uploads that have ended."""
        under_way = []
        for upload in self._mirrored:
            if open_extents.get(upload.offset) is upload.extent:
                under_way.append(upload)
                continue
            stamp = self._stamp_of(upload)
            if stamp is None:
                upload.mirror.abort()
            else:
                self._fill(upload, upload.extent.data_size)
                upload.mirror.finish(stamp=stamp, crc=upload.extent.crc)
        self._mirrored = under_way

    def _stamp_of(self, upload: _MirroredUpload) -> int | None:
        """The stamp that an upload was finished with; None: it was aborted."""
        size = table_size(upload.extent.data_size) + FOOTER_SIZE
        footer = decode_footer(
            upload.extent.header_crc, self._read(size, upload.extent.data_offset + upload.extent.data_size)
        )
        return None if footer is None else footer.stamp

    def _fill_mirrored(self) -> None:
        for upload in self._mirrored:
            self._fill(upload, upload.extent.written)

    def _fill(self, upload: _MirroredUpload, goal: int) -> None:
        while upload.mirror.written < goal:
            size = min(PIECE_SIZE, goal - upload.mirror.written)
            upload.mirror.write(self._read(size, upload.extent.data_offset + upload.mirror.written))

    def _metadata_of(self, extent: Extent) -> bytes:
        return self._read(extent.metadata_size, extent.data_offset - extent.metadata_size)

    def _read(self, size: int, offset: int) -> bytes:
        buffer = bytearray(size)
        try:
            count = read_fully(self._source.data, buffer, offset)
        except OSError as error:
            raise ReadFailed(f"volume {self._volume.volume_id} at {offset}: {error}") from error
        if count < size:
            raise ReadFailed(f"volume {self._volume.volume_id}: its data file ends before {offset + size}")
        return bytes(buffer)

    def _compare(self) -> None:
        """The two generations must hold the same live needles: both have counted them.

        An index that lost an entry makes the counters of a volume wrong for good.  So where the counters
        differ, the needles are compared one by one: the next generation must have what the present one finds.
        """
        old, new = self._volume.stats(), self._next.stats()
        if (old.live_count, old.live_bytes) == (new.live_count, new.live_bytes):
            return
        if (missing := self._first_missing()) is None:
            log.error(
                "counters were wrong: the index had lost entries",
                extra={
                    "volume_id": self._volume.volume_id,
                    "live_count": new.live_count,
                    "counted": old.live_count,
                },
            )
            return
        raise GenerationMismatch(
            f"volume {self._volume.volume_id}: the compacted copy holds {new.live_count} needles of"
            f" {new.live_bytes} bytes, generation {self._volume.generation} {old.live_count} of"
            f" {old.live_bytes}, and needle {missing} is among the missing: the copy is thrown away"
        )

    def _first_missing(self) -> int | None:
        """A live needle that the next generation does not have as it is; None: it has all of them."""
        try:
            for needle_id, found in self._source.entries.live():
                other = self._next.find(needle_id)
                if (
                    other is None
                    or other.is_deleted
                    or (other.metadata_size, other.data_size) != (found.metadata_size, found.data_size)
                ):
                    return needle_id
        except OSError as error:
            raise ReadFailed(f"volume {self._volume.volume_id}: its index: {error}") from error
        return None

    def _publish(self) -> str | None:
        """Make the next generation the one that counts; returns why the volume must be sealed, if it must."""
        try:
            publish(self._disk, self._volume.directory, self._next.identity)
        except PublishUncertain as error:
            # Both generations hold the same now.  Either may come back after a power cut, as long as nothing
            # more is promised.
            return f"the manifest could not be replaced for certain: {error}"
        except OSError as error:
            raise write_error(f"manifest of volume {self._volume.volume_id}", error) from error
        return None
