"""Marks: what is written about needles and buckets, and is no needle: deletions, later stamps, buckets.

None of them ever fails for want of capacity: a full volume must still take the deletions that make room.
"""

from __future__ import annotations

from warehouse.storage.format.needle import (
    FLAG_OBJECT_DELETED,
    KIND_BUCKET,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    MARK_SIZE,
    BucketRecord,
    check_needle_id,
    encode_bucket,
    stored_size,
)
from warehouse.storage.index import FLAG_DELETED, encode_entry
from warehouse.storage.writing.appending import Appender
from warehouse.storage.writing.state import VolumeState


class MarkWriter:
    """Writes the marks of one volume.  On the thread of the owner."""

    __slots__ = ("_appender", "_state")

    def __init__(self, state: VolumeState, appender: Appender) -> None:
        self._state = state
        self._appender = appender

    def delete(self, needle_id: int, *, stamp: int, object_deleted: bool) -> bool:
        """See `Volume.delete`."""
        check_needle_id(needle_id)
        state = self._state
        with state.owner:
            state.check_writable()
            found = state.generation.find_checked(needle_id)
            if found is not None and found.is_deleted:
                return False
            flags = FLAG_OBJECT_DELETED if object_deleted else 0
            offset = self._appender.append_mark(KIND_TOMBSTONE, needle_id, stamp, flags=flags)
            if found is None:
                entry = encode_entry(offset, 0, 0, 0, FLAG_DELETED)
            else:
                entry = encode_entry(offset, found.metadata_size, found.data_size, found.crc, FLAG_DELETED)
            with state.lock:
                state.generation.entries.put(needle_id, entry)
                self._count_mark(needle_id, stamp)
                if found is not None:
                    size, tally = stored_size(found.metadata_size, found.data_size), state.tally
                    tally.live_count -= 1
                    tally.live_bytes -= size
                    tally.dead_count += 1
                    tally.dead_bytes += size
                    if found.is_damaged:  # nobody misses it any more
                        tally.damaged_count -= 1
                        state.damages.pop(needle_id, None)
        return found is not None

    def restamp(self, needle_id: int, *, stamp: int) -> None:
        """See `Volume.restamp`."""
        check_needle_id(needle_id)
        state = self._state
        with state.owner:
            state.check_writable()
            found = state.generation.find_checked(needle_id)
            if found is None or found.is_deleted:
                raise state.generation.absent(needle_id)
            self._appender.append_mark(KIND_RESTAMP, needle_id, stamp)
            with state.lock:
                self._count_mark(needle_id, stamp)

    def record_bucket(self, record: BucketRecord, *, stamp: int) -> None:
        """See `Volume.record_bucket`."""
        content = encode_bucket(record)
        with self._state.owner:
            self._state.check_writable()
            try:
                self._appender.append_content(KIND_BUCKET, content, stamp)
            except OSError as error:
                self._appender.roll_back(error)

    def _count_mark(self, needle_id: int, stamp: int) -> None:
        state = self._state
        tally = state.tally
        state.tail += MARK_SIZE
        tally.dead_bytes += MARK_SIZE
        tally.needle_id_max = max(tally.needle_id_max, needle_id)
        tally.stamp_max = max(tally.stamp_max, stamp)
