"""Open extents: needles that arrive piece by piece, from their reservation to their end.

`storage/extent.py` has the room of one needle, and writes to it.  Here is what it does to its volume: its
place at the tail, the counters, and what becomes of the place of an upload that was given up.
"""

from __future__ import annotations

import errno
import logging

from warehouse.errors import NeedleVoid
from warehouse.storage.disk import write_all
from warehouse.storage.extent import Extent, Placed
from warehouse.storage.format.needle import (
    FLAG_STREAMED,
    KIND_DATA,
    encode_header,
    place_seed,
    stored_size,
)
from warehouse.storage.index import Tally, encode_entry
from warehouse.storage.writing.appending import Appender
from warehouse.storage.writing.file_check import FileCheck
from warehouse.storage.writing.state import VolumeState

log = logging.getLogger(__name__)


class OpenExtents:
    """The open extents of one volume.  On the thread of the owner."""

    __slots__ = ("_appender", "_files", "_state")

    def __init__(self, state: VolumeState, appender: Appender, files: FileCheck) -> None:
        self._state = state
        self._appender = appender
        self._files = files

    def reserve(self, needle_id: int, metadata: bytes, data_size: int) -> Extent:
        """See `Volume.reserve`."""
        state = self._state
        with state.owner:
            size = stored_size(len(metadata), data_size)
            self._appender.check_new(needle_id, metadata, data_size, state.tail, size)
            return self.open(needle_id, metadata, data_size, flags=FLAG_STREAMED, is_allocated=True)

    def open(
        self, needle_id: int, metadata: bytes, data_size: int, *, flags: int, is_allocated: bool
    ) -> Extent:
        """Make room for a needle without asking whether it may be written.

        Args:
            is_allocated: the disk must have room for all of it now, and it finds its room as its bytes come.
        Raises:
            DiskFull, WriteFailed, VolumeSealed: as `Volume.append`.
        """
        self._files.require_uncut()
        state = self._state
        data = state.generation.data
        offset, size = state.tail, stored_size(len(metadata), data_size)
        header, header_crc = encode_header(
            KIND_DATA, flags, needle_id, metadata, data_size, place_seed(state.generation.seed, offset)
        )
        try:
            if is_allocated:
                self._require_free(size)
            if data.size() < offset + size:
                data.truncate(offset + size)  # its place; it finds its room as its bytes come
            write_all(data, [header], offset)
        except OSError as error:
            self._appender.roll_back(error)
        with state.lock:
            extent = Extent(
                self,
                data,
                needle_id=needle_id,
                offset=offset,
                stored_size=size,
                metadata_size=len(metadata),
                data_offset=offset + len(header),
                data_size=data_size,
                header_crc=header_crc,
                before=state.tally.copy(),
                is_allocated=is_allocated,
                on_error=state.write_error,
            )
            state.in_flight[offset] = extent
            state.reserved_ids.add(needle_id)
            state.tail = offset + size
            state.tally.needle_id_max = max(state.tally.needle_id_max, needle_id)
        return extent

    def _require_free(self, size: int) -> None:
        """Raises OSError unless the disk has that much beyond what open extents are still to find."""
        awaited = sum(extent.unallocated for extent in self._state.in_flight.values())
        free = self._state.generation.data.free_bytes()
        if free < awaited + size:
            raise OSError(errno.ENOSPC, f"{size} bytes and {awaited} on their way, {free} are free")

    def abort_all(self) -> None:
        """Give up all that are open, the last one first, so that all at the tail are taken back."""
        for extent in reversed(list(self._state.in_flight.values())):
            extent.abort()

    # --- for `Extent` -----------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Refuse when the volume is sealed."""
        self._state.check_writable()

    def finish_extent(self, extent: Extent, stamp: int) -> Placed:
        """Make it a needle: see `Extent.finish`."""
        state = self._state
        with state.owner:
            if state.sealed_cause is not None:
                extent.abort()
                state.check_writable()
            if (found := state.generation.find_checked(extent.needle_id)) is not None:
                extent.abort()
                assert found.is_deleted
                raise NeedleVoid(
                    f"volume {state.volume_id}: needle {extent.needle_id} was deleted before it came"
                )
            try:
                extent.write_footer(stamp)
            except OSError as error:
                self._wipe(extent)
                extent.abort()
                raise state.write_error(error) from error
            self.count_finished(extent, stamp)
        return Placed(extent.stored_size, extent.crc, extent.offset)

    def count_finished(self, extent: Extent, stamp: int, flags: int = 0) -> None:
        """Have a needle found whose footer is on file."""
        extent.close()
        state = self._state
        entry = encode_entry(extent.offset, extent.metadata_size, extent.data_size, extent.crc, flags)
        with state.lock:
            self._release(extent)
            state.generation.entries.put(extent.needle_id, entry)
            for tally in self._tallies_after(extent):
                tally.live_count += 1
                tally.live_bytes += extent.stored_size
                tally.needle_id_max = max(tally.needle_id_max, extent.needle_id)
                tally.stamp_max = max(tally.stamp_max, stamp)

    def abort_extent(self, extent: Extent) -> bool:
        """Give it up: see `Extent.abort`."""
        state = self._state
        with state.owner:
            extent.close()
            is_freed = self._take_back(extent)
            if not is_freed and state.sealed_cause is None:
                try:
                    extent.give_back()
                except OSError as error:  # a compaction will
                    log.warning("room not back", extra={"volume_id": state.volume_id, "cause": str(error)})
            with state.lock:
                self._release(extent)
                if is_freed:
                    state.tail = extent.offset
                    return True
                for tally in self._tallies_after(extent):
                    tally.dead_bytes += extent.stored_size
                    tally.dead_count += 1
                    tally.needle_id_max = max(tally.needle_id_max, extent.needle_id)
            return False

    def _take_back(self, extent: Extent) -> bool:
        """Cut an extent off that nothing follows; returns whether its place is free again."""
        state = self._state
        is_tail = extent.offset + extent.stored_size == state.tail
        # A switch may have read what it has seen of it: that must not become another record's.
        if not is_tail or state.sealed_cause is not None or state.is_switching:
            return False
        try:
            # Neither watermark nor checkpoint has passed an open extent, so its bytes are nobody's.
            state.generation.data.truncate(extent.offset)
        except OSError as error:
            log.warning("truncate failed", extra={"volume_id": state.volume_id, "cause": str(error)})
            return False
        return True

    def _release(self, extent: Extent) -> None:
        del self._state.in_flight[extent.offset]
        self._state.reserved_ids.discard(extent.needle_id)

    def _tallies_after(self, extent: Extent) -> list[Tally]:
        """The counters that an outcome of this extent is part of.

        Those of the volume, and those that later extents remember as the state before them.
        """
        later = [other.before for other in self._state.in_flight.values() if other.offset > extent.offset]
        return [self._state.tally, *later]

    def _wipe(self, extent: Extent) -> None:
        try:
            extent.wipe_footer()
        except OSError as error:
            self._state.seal(f"half a footer at {extent.offset} could not be taken back: {error}")
