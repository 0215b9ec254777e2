"""Entries: where the needles of a volume are right now.

In front of the index file stand the entries whose records are not durable yet, in memory: `put` adds to
them, and each sync of the data file moves them over.  So the file never speaks of bytes that a power cut
could take away, and a lookup sees what was appended a moment ago.

Lookups run in any thread and take no lock: they see one pair of dicts, replaced as a whole.  All else runs
under the lock of the volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from warehouse.storage.disk import File
from warehouse.storage.index import (
    ENTRY,
    ENTRY_SIZE,
    FLAG_DELETED,
    NEEDLE_IDS,
    IndexEntry,
    IndexFile,
    decode_entry,
)
from warehouse.storage.voids import VoidTable


class EntryTable:
    """All entries of one generation."""

    def __init__(self, index: IndexFile | None, voids: VoidTable | None = None) -> None:
        """
        Args:
            index: None keeps everything in memory: the disk takes no writes and has no usable index.
            voids: ids that are deleted without an entry of their own.
        """
        self.index = index
        self.voids = voids
        self._overlays: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})  # pending, being flushed

    @property
    def file(self) -> File | None:
        """The file of the index, if there is one."""
        return None if self.index is None else self.index.file

    @property
    def pending_count(self) -> int:
        return len(self._overlays[0])

    def get(self, needle_id: int, *, nowait: bool = False) -> bytes | None:
        """The entry of a needle, None when it has none.

        Raises:
            BlockingIOError: `nowait`, and the entry is not in memory.
            OSError: the index cannot be read.
        """
        pending, flushing = self._overlays
        entry = pending.get(needle_id) or flushing.get(needle_id)
        if entry is None and self.index is not None:
            entry = self.index.get(needle_id, nowait=nowait)
        if entry is None and self.voids is not None:
            entry = self.voids.entry(needle_id, nowait=nowait)
        return entry

    def start_reading(self, needle_ids: Iterable[int]) -> None:
        """Let the disk begin to bring their entries into memory."""
        if self.index is not None:
            self.index.start_reading(needle_ids)

    def put(self, needle_id: int, entry: bytes) -> None:
        self._overlays[0][needle_id] = entry

    def begin_flush(self) -> dict[int, bytes]:
        """Take out what is pending; lookups still see it until `end_flush` or `cancel_flush`."""
        batch = self._overlays[0]
        self._overlays = ({}, batch)
        return batch

    def end_flush(self) -> None:
        """The batch is in the index file."""
        self._overlays = (self._overlays[0], {})

    def cancel_flush(self) -> None:
        """The batch is not in the index file: it is pending again, under what came since."""
        pending, batch = self._overlays
        self._overlays = (batch | pending, {})

    def live_bitmap(self, first_id: int, count: int) -> bytes:
        """Which of `count` needles from `first_id` on are live: bit i & 7 of byte i >> 3 is the i-th.

        Trailing zero bytes are left out.

        Raises:
            OSError: the index cannot be read.
        """
        bitmap = bytearray(-(-count // 8))
        before = self._overlays  # what is flushed while we read is in one of the two
        if self.index is not None:
            for block_id, block in self.index.blocks(first_id, count):
                for number, (word, _, _) in enumerate(ENTRY.iter_unpack(block), block_id - first_id):
                    if word and not word & FLAG_DELETED:
                        bitmap[number >> 3] |= 1 << (number & 7)
        after = self._overlays
        for needle_id, entry in (before[1] | before[0] | after[1] | after[0]).items():
            number = needle_id - first_id
            if 0 <= number < count:
                found = decode_entry(entry)
                if found is not None and not found.is_deleted:
                    bitmap[number >> 3] |= 1 << (number & 7)
                else:
                    bitmap[number >> 3] &= ~(1 << (number & 7))
        return bytes(bitmap.rstrip(b"\0"))

    def live(self) -> Iterator[tuple[int, IndexEntry]]:
        """All needles that are live, by a walk through the whole index.

        Raises:
            OSError: the index cannot be read.
        """
        pending, flushing = self._overlays
        overlay = flushing | pending
        for needle_id, entry in overlay.items():
            found = decode_entry(entry)
            if found is not None and not found.is_deleted:
                yield needle_id, found
        if self.index is None:
            return
        for first_id, block in self.index.blocks(0, NEEDLE_IDS):
            for needle_id, (word, _, _) in enumerate(ENTRY.iter_unpack(block), first_id):
                if word and not word & FLAG_DELETED and needle_id not in overlay:
                    found = decode_entry(block[(needle_id - first_id) * ENTRY_SIZE :][:ENTRY_SIZE])
                    assert found is not None
                    yield needle_id, found

    def within(self, start: int, end: int) -> Iterator[tuple[int, IndexEntry]]:
        """All entries with an offset from `start` up to `end`, by a walk through the whole index."""
        pending, flushing = self._overlays
        overlay = flushing | pending
        for needle_id, entry in overlay.items():
            found = decode_entry(entry)
            if found and start <= found.offset < end:
                yield needle_id, found
        if self.index is None:
            return
        for needle_id, found in self.index.walk(start, end):
            if needle_id not in overlay:
                yield needle_id, found
