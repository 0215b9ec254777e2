"""Copying: copy what lives in one generation of a volume into the files of the next.

The copy is made in another process, while the volume actor goes on reading, writing and deleting.  The two
share the files of the present generation: everything in them before the watermark is finished, durable and in
the index.  The copy follows the watermark until little is left.  Then the volume actor brings the copy up to
date and puts it in place (`storage/compaction/generation_switch.py`).

    copying  -->  following the watermark  -->  voids  -->  durable: step() returns False
        \\________________ any failure: remove() ________________/

The copy changes nothing of the present generation, so giving up costs nothing but the work.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from typing import Final

from warehouse.errors import GenerationMismatch, NoRoomToCompact, ReadFailed
from warehouse.storage.compaction.free_space import free_bytes_needed
from warehouse.storage.compaction.next_generation import NextGeneration, next_identity
from warehouse.storage.compaction.record_copier import RecordCopier
from warehouse.storage.disk import Disk, File, write_all
from warehouse.storage.files import data_path, index_path, load_volume_identity, remove_leftovers
from warehouse.storage.format.needle import CONTENT_SIZE_MAX, encode_void
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, VolumeIdentity
from warehouse.storage.index import (
    ENTRY,
    ENTRY_SIZE,
    FLAG_DELETED,
    NEEDLE_IDS,
    OFFSET_MASK,
    IndexEntry,
    IndexFile,
    IndexHeader,
    decode_entry,
)
from warehouse.storage.recovery import Damage
from warehouse.storage.voids import VoidTable
from warehouse.storage.writing.state import write_error

log = logging.getLogger(__name__)

FOLLOW_MIN: Final = 4 * 1024 * 1024  # bytes; a shorter tail is left to the switch
FOLLOW_MAX: Final = 2  # how many times the first length is followed: writers may be faster than the copy
ROOM_CHECKED: Final = 64 * 1024 * 1024  # bytes written between two looks at what is free
_RANGES_MAX: Final = CONTENT_SIZE_MAX // 8
_WINDOW_IDS: Final = 4096


class Copy:
    """One copy of one volume; one thread at a time."""

    def __init__(
        self, disk: Disk, directory: str, *, uuid: str, generation: int, end_offset: int, horizon: int
    ) -> None:
        """Open the present generation and make the files of the next; files of that name are replaced.

        Args:
            end_offset: of the present data file; all before it is durable, in the data and in the index.
            horizon: a stamp; deletions older than it need not be copied.
        Raises:
            NoSuchVolume: there is no such volume.
            GenerationMismatch: it is another volume, or another generation counts by now.
            NoRoomToCompact: the disk has not enough free for the copy.
            ReadFailed, DiskFull, WriteFailed: the disk refused.
        """
        identity, _ = _loaded(disk, directory)
        _require_generation(identity, directory, uuid, generation)
        self.volume_id: Final = identity.volume_id
        self.generation: Final = generation + 1
        self.end_offset = end_offset
        self.position = SUPERBLOCK_SIZE
        self._disk = disk
        self._directory = directory
        self._follow_end = SUPERBLOCK_SIZE + FOLLOW_MAX * (end_offset - SUPERBLOCK_SIZE)
        self._data: File = _opened(disk, data_path(directory, generation))
        self._index = _Index(
            IndexFile(
                _opened(disk, index_path(directory, generation)),
                volume_id=identity.volume_id,
                generation=generation,
                seed=identity.seed,
            ),
            self._data,
            identity.seed,
        )
        self._room_checked_at = 0
        self._require_room()
        self._target = NextGeneration.make(disk, directory, next_identity(identity))
        self._copier = RecordCopier(
            self._data,
            identity.seed,
            lookup=self._index.find,
            lookup_now=self._index.find_now,
            within=self._index.within,
            target=self._target,
            horizon=horizon,
            makes_voids=True,
        )
        self._work = self._run()

    @property
    def total(self) -> int:
        """Bytes of the present data file that the copy goes through; grows while writers go on."""
        return self.end_offset - SUPERBLOCK_SIZE

    @property
    def read_bytes(self) -> int:
        return self._copier.read_bytes + self._index.read_bytes

    @property
    def written_bytes(self) -> int:
        return self._copier.written_bytes

    @property
    def damages(self) -> list[Damage]:
        """What did not check, at most `DAMAGES_MAX` of RecordCopier; live needles were copied as they are."""
        return self._copier.damages

    @property
    def damaged_count(self) -> int:
        return self._copier.damaged_count

    def step(self) -> bool:
        """Do the next piece of work, about a MiB of reading; False when the copy is complete and durable.

        Raises:
            NoRoomToCompact: others have taken the room that the copy would need.
            ReadFailed, DiskFull, WriteFailed: the disk refused.  All that is left to do is `remove`.
        """
        if self.written_bytes - self._room_checked_at >= ROOM_CHECKED:
            self._room_checked_at = self.written_bytes
            self._require_room()
        return next(self._work, None) is not None

    def close(self) -> None:
        """Let go of all files.  Those of a complete copy stay for the switch."""
        self._target.discard()
        self._index.close()
        self._data.close()

    def remove(self) -> None:
        """Close, and remove what the copy has written."""
        self.close()
        identity, _ = _loaded(self._disk, self._directory)
        if identity.generation < self.generation:
            remove_leftovers(self._disk, self._directory, identity.generation)

    # --- the work ---------------------------------------------------------------------------------

    def _run(self) -> Iterator[int]:
        while self.position < self.end_offset:
            for position in self._copier.copy(self.position, self.end_offset, self.end_offset):
                self.position = position
                yield position
            self.position = self.end_offset
            self._follow()
            yield self.position
        self._copier.finish(self._save_lost)
        yield from self._void()
        header = self._index.header()
        self._target.raise_marks(needle_id_max=header.tally.needle_id_max, stamp_max=header.tally.stamp_max)
        self._target.checkpoint()

    def _follow(self) -> None:
        """Go on to where the watermark has moved, while that pays."""
        durable = self._index.durable()
        if durable - self.end_offset >= FOLLOW_MIN and durable <= self._follow_end:
            self.end_offset = durable
            self._index.forget()

    def _void(self) -> Iterator[int]:
        """Make the ids void that are dead, and of which nothing was copied.

        What was void before is known by range, so the time this takes depends on what has died since then.
        """
        self._target.sync()
        ranges: list[tuple[int, int]] = []
        for first_id, last_id in heapq.merge(self._index.void_ranges(), self._dead()):
            if ranges and ranges[-1][1] >= first_id - 1:
                ranges[-1] = (ranges[-1][0], max(last_id, ranges[-1][1]))
                continue
            ranges.append((first_id, last_id))
            if len(ranges) > _RANGES_MAX:
                self._write_void(ranges[:-1])
                del ranges[:-1]
                yield first_id
        if ranges:
            self._write_void(ranges)

    def _dead(self) -> Iterator[tuple[int, int]]:
        """Ranges of ids whose entries say that they died, and of which nothing was copied."""
        # To the end of the entries: the greatest id in the header is that of a checkpoint, maybe an old one.
        for first_id, present in self._index.blocks(0, NEEDLE_IDS):
            count = len(present) // ENTRY_SIZE
            copied = bytearray(len(present))
            for block_id, block in self._target.blocks(first_id, count):
                at = (block_id - first_id) * ENTRY_SIZE
                copied[at : at + len(block)] = block
            entries = zip(ENTRY.iter_unpack(present), ENTRY.iter_unpack(copied), strict=True)
            first = last = 0
            for needle_id, ((word, _, _), (new, _, _)) in enumerate(entries, first_id):
                if not (word & FLAG_DELETED and not new and word & OFFSET_MASK < self.end_offset):
                    continue
                if first and needle_id == last + 1:
                    last = needle_id
                    continue
                if first:
                    yield first, last
                first = last = needle_id
            if first:
                yield first, last

    def _write_void(self, ranges: list[tuple[int, int]]) -> None:
        for content in encode_void(ranges):
            self._target.void(content, self._index.header().tally.stamp_max)

    def _save_lost(self, offset: int, pieces: Iterator[bytes]) -> None:
        """Save bytes that nobody can make sense of, for a person to look at."""
        path = f"{self._directory}/lost-g{self.generation - 1}-{offset}"
        log.error("bytes without a header saved", extra={"volume_id": self.volume_id, "path": path})
        try:
            file, at = self._disk.open(path, create=True), 0
            for piece in pieces:
                write_all(file, [piece], at)
                at += len(piece)
            file.fdatasync()
            file.close()
            self._disk.sync_directory(self._directory)
        except OSError as error:
            raise write_error(path, error) from error

    def _require_room(self) -> None:
        """Refuse when the disk has no room for what is still to be written."""
        tally = self._index.header().tally
        needed = free_bytes_needed(
            live_bytes=tally.live_bytes,
            kept_bytes=tally.kept_bytes,
            live_count=tally.live_count,
            dead_count=tally.dead_count,
            needle_id_max=tally.needle_id_max,
        )
        needed -= self._room_checked_at
        free = self._disk.free_bytes()
        if free < needed:
            raise NoRoomToCompact(
                f"compacting volume {self.volume_id} needs {needed} bytes, the disk has {free} free:"
                " delete something else on it, or add a disk"
            )


class _Index:
    """The index of the present generation, as another process may read it."""

    def __init__(self, file: IndexFile, data: File, seed: int) -> None:
        self._file = file
        self._data = data
        self._seed = seed
        self._words: dict[int, list[bytes]] = {}
        self.read_bytes = 0

    def close(self) -> None:
        self._file.close()

    def header(self) -> IndexHeader:
        return self._load()[0]

    def durable(self) -> int:
        """The watermark: all before it is finished and durable, in the data and in the index."""
        return self._load()[1]

    def _load(self) -> tuple[IndexHeader, int]:
        try:
            loaded = self._file.load()
        except OSError as error:
            raise ReadFailed(f"the index cannot be read: {error}") from error
        if loaded is None:
            raise ReadFailed("the index is damaged: open its volume again, which makes another")
        return loaded

    def find(self, needle_id: int) -> IndexEntry | None:
        """One entry, from a page of entries that may be a little older than the file."""
        page, number = divmod(needle_id, _WINDOW_IDS)
        entries = self._words.get(page)
        if entries is None:
            if len(self._words) >= 8:
                self._words.pop(next(iter(self._words)))
            entries = self._words[page] = self._read(page * _WINDOW_IDS)
        return decode_entry(entries[number]) if number < len(entries) else None

    def find_now(self, needle_id: int) -> IndexEntry | None:
        self._words.pop(needle_id // _WINDOW_IDS, None)
        return self.find(needle_id)

    def forget(self) -> None:
        self._words.clear()

    def _read(self, first_id: int) -> list[bytes]:
        try:
            content = self._file.raw(first_id, _WINDOW_IDS)
        except OSError as error:
            raise ReadFailed(f"the index cannot be read: {error}") from error
        self.read_bytes += len(content)
        return [content[at : at + ENTRY_SIZE] for at in range(0, len(content), ENTRY_SIZE)]

    def void_ranges(self) -> Iterator[tuple[int, int]]:
        """The ids that are void without entries of their own."""
        span = self.header().voids
        if span is None:
            return iter(())
        try:
            return VoidTable.load(self._data, self._seed, span).ranges()
        except OSError as error:
            raise ReadFailed(f"the record of void ids cannot be read: {error}") from error

    def blocks(self, first_id: int, count: int) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self._file.blocks(first_id, count)
        except OSError as error:
            raise ReadFailed(f"the index cannot be read: {error}") from error

    def within(self, start: int, end: int) -> Iterator[tuple[int, IndexEntry]]:
        try:
            yield from self._file.walk(start, end)
        except OSError as error:
            raise ReadFailed(f"the index cannot be read: {error}") from error


def _require_generation(identity: VolumeIdentity, directory: str, uuid: str, generation: int) -> None:
    if identity.uuid != uuid or identity.generation != generation:
        raise GenerationMismatch(
            f"{directory} is generation {identity.generation} of volume {identity.uuid}, not generation"
            f" {generation} of volume {uuid}"
        )


def _loaded(disk: Disk, directory: str) -> tuple[VolumeIdentity, list[str]]:
    try:
        return load_volume_identity(disk, directory, read_only=True)
    except OSError as error:
        raise ReadFailed(f"{directory} cannot be read: {error}") from error


def _opened(disk: Disk, path: str) -> File:
    try:
        return disk.open(path, read_only=True)
    except FileNotFoundError as error:
        raise GenerationMismatch(f"{path} is gone: another generation counts by now") from error
    except OSError as error:
        raise ReadFailed(f"{path} cannot be opened: {error}") from error
