"""Scrub: read a volume again and check every byte of it, before somebody asks for what is damaged.

A scrub runs in another process than the volume actor.  It reads what lies before the watermark, which is
finished and never changes, follows the watermark as it moves on, and writes nothing.  What it reads comes
from the disk and not from memory.

What does not check is damage when somebody can lose by it:

    the index places a live needle there                damage of that needle
    the index calls its needle deleted                  garbage, whatever became of it
    a streamed record that was never finished           dead space
    the index places its needle somewhere else          what was left of an earlier attempt: dead space
    none of these, and a note excuses it                torn by a crash, and acknowledged to nobody
    none of these, and no note up to the end does       damage, nobody knows of what

The last two are told apart when the whole file was read: the note of a torn stretch comes later in the
file.  A needle that is whole counts as damaged when the index does not find it: a reader would not get it.

Before it reports anything, the scrub asks the index again, and the manifest whether this generation still
counts.  So a needle that was deleted or moved meanwhile is not reported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from struct import Struct
from typing import Final

from warehouse.errors import GenerationMismatch, ManifestCorrupt, NeedleCorrupt, ReadFailed, SuperblockCorrupt
from warehouse.storage.disk import Disk, read_file, read_fully
from warehouse.storage.files import data_path, index_path, load_volume_identity, manifest_path
from warehouse.storage.format.needle import (
    KIND_BUCKET,
    KIND_DATA,
    KIND_NOTE,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    KIND_VOID,
    stored_size,
)
from warehouse.storage.format.superblock import (
    MANIFEST_SIZE_MAX,
    SUPERBLOCK_SIZE,
    VolumeIdentity,
    decode_manifest,
    decode_superblock,
)
from warehouse.storage.index import (
    ENTRY,
    ENTRY_SIZE,
    METADATA_SHIFT,
    OFFSET_MAX,
    IndexEntry,
    IndexFile,
    decode_entry,
    entry_offset,
)
from warehouse.storage.reader import read_header
from warehouse.storage.recovery import Damage
from warehouse.storage.scan import WINDOW_SIZE, Record, State, scan_in_steps

STEP_SIZE: Final = WINDOW_SIZE
# How far ahead the page cache is dropped: as far as the next record may make the scan read.  No further:
# where the cache was dropped, readers wait for the disk until the scrub has read it.
DROP_AHEAD: Final = 2 * STEP_SIZE
DAMAGES_MAX: Final = 1000  # named; all are counted
SUSPECTS_MAX: Final = 10_000  # held back until the end of the file
BLOCK_COUNT: Final = 4096  # index entries in memory
_RANGE: Final = Struct("<QQ")

_NAMES: Final = {
    KIND_TOMBSTONE: "its tombstone",
    KIND_RESTAMP: "its later stamp",
    KIND_NOTE: "a note",
    KIND_BUCKET: "the record of a bucket",
    KIND_VOID: "the record of ids that are gone",
}


class Scrub:
    """One pass over a generation of a volume.  Its calls block; one at a time, in any thread."""

    def __init__(self, disk: Disk, directory: str, *, uuid: str, generation: int, start: int) -> None:
        """
        Args:
            start: where to go on, the `resume_at` of an earlier pass over this generation; 0: the beginning.
        Raises:
            NoSuchVolume, ManifestCorrupt, SuperblockCorrupt, FormatUnsupported: see `load_volume_identity`.
            GenerationMismatch: the manifest names another volume or generation.
            ReadFailed: the disk refused, or there is no index to compare with.
        """
        self._disk = disk
        self._directory = directory
        self._uuid = uuid
        self._generation = generation
        self.damages: list[Damage] = []
        self.damaged_count = 0
        self.checked_count = 0  # needles
        self.written_bytes = 0
        self._suspects: list[Record] = []
        self._block_start = 0
        self._block = b""
        self._is_last_round = False
        self._is_complete = False
        self._found: Iterator[Record | int] = iter(())
        with self._reading():
            self._require_current()
            identity, _ = load_volume_identity(disk, directory, read_only=True)
            self._require(identity)
            self._volume_id = identity.volume_id
            self._seed = identity.seed
            self._data = disk.open(data_path(directory, generation), read_only=True)
            self._index_file = disk.open(index_path(directory, generation), read_only=True)
            self._index = IndexFile(
                self._index_file, volume_id=identity.volume_id, generation=generation, seed=identity.seed
            )
            durable = self._watermark()
            self.start = start if SUPERBLOCK_SIZE <= start <= durable else SUPERBLOCK_SIZE
            self.position = self._record_start = self._dropped_to = self.start
            self._begin(durable)
            if self.start == SUPERBLOCK_SIZE:
                self._check_superblock()

    @property
    def total(self) -> int:
        """Bytes to go through; grows while it follows the watermark."""
        return self.end_offset - self.start

    @property
    def read_bytes(self) -> int:
        return self.position - self.start

    @property
    def resume_at(self) -> int:
        """Where another pass has to start, so that nothing is missed when this pass ends now."""
        return self._suspects[0].offset if self._suspects else self._record_start

    def step(self) -> bool:
        """Check about `STEP_SIZE` bytes; False: everything is checked.

        Raises:
            GenerationMismatch: a compaction was published.
            ReadFailed: the index cannot be read.  (Data that cannot be read is damage, and reported.)
        """
        if self._is_complete:
            return False
        goal = self.position + STEP_SIZE
        with self._reading():
            self._require_current()
            while self.position < goal:
                while self._dropped_to < min(self.position + DROP_AHEAD, self.end_offset):
                    self._data.drop_cache(self._dropped_to, STEP_SIZE)
                    self._dropped_to += STEP_SIZE
                found = next(self._found, None)
                if isinstance(found, Record):
                    self._take(found)
                    self.position = self._record_start = found.end
                elif found is not None:
                    self.position = found
                elif not self._follow():
                    self._judge_suspects()
                    self._is_complete = True
                    return False
        return True

    def close(self) -> None:
        self._is_complete = True
        self._found = iter(())
        self._data.close()
        self._index_file.close()

    def remove(self) -> None:
        """A scrub makes nothing that could be removed."""

    # --- how far ----------------------------------------------------------------------------------

    def _watermark(self) -> int:
        loaded = self._index.load()
        if loaded is None:
            raise ReadFailed(
                f"the index of {self._directory} cannot be used: it is being rebuilt, or has to be"
            )
        return loaded[1]

    def _begin(self, end: int) -> None:
        """Go on up to `end`, which the watermark has reached."""
        self.end_offset = end
        size = self._data.size()
        self._found = scan_in_steps(self._data, self._seed, self.position, min(end, size))
        if size < end:
            self._found = self._with_lost_end(self._found, max(size, self.position))

    def _with_lost_end(self, found: Iterator[Record | int], size: int) -> Iterator[Record | int]:
        yield from found
        problem = "the data file is shorter than what was synced to it"
        yield Record(size, self.end_offset - size, State.GAP, is_unreadable=True, problem=problem)

    def _follow(self) -> bool:
        """Go on to where the watermark has moved; False: too little is left for another round."""
        durable = self._watermark()
        if durable <= self.end_offset or self._is_last_round:
            return False
        # A writer of a little all the time must not keep the scrub going forever.
        self._is_last_round = durable - self.end_offset < STEP_SIZE
        self._begin(durable)
        return True

    # --- what was found ---------------------------------------------------------------------------

    def _check_superblock(self) -> None:
        self._data.drop_cache(0, SUPERBLOCK_SIZE)
        block = bytearray(SUPERBLOCK_SIZE)
        try:
            decode_superblock(block[: read_fully(self._data, block, 0)])
        except SuperblockCorrupt as error:
            self._add(0, SUPERBLOCK_SIZE, None, error.message)
        except OSError as error:
            self._add(0, SUPERBLOCK_SIZE, None, f"the superblock cannot be read: {error}")

    def _take(self, record: Record) -> None:
        if record.kind == KIND_DATA and record.state is not State.UNFINISHED:
            self.checked_count += 1
        if record.state is State.GAP:
            self._take_gap(record)
        elif record.state is not State.WHOLE:
            self._take_broken(record)
        elif record.kind == KIND_DATA:
            self._compare(record)
        elif record.kind == KIND_NOTE:
            self._excuse(list(_RANGE.iter_unpack(record.content)))

    def _compare(self, record: Record) -> None:
        """Check that the index finds this needle, or knows that it is dead."""
        word = record.metadata_size << METADATA_SHIFT | record.offset
        at = (record.needle_id - self._block_start) * ENTRY_SIZE
        for is_fresh in (False, True):
            if is_fresh or not 0 <= at < len(self._block):
                self._load_block(record.needle_id)
                at = 0
            entry = self._block[at : at + ENTRY_SIZE].ljust(ENTRY_SIZE, b"\0")
            if ENTRY.unpack(entry) == (word, record.data_size, record.crc):
                return
            found = decode_entry(entry)
            if found is not None and found.is_deleted and found.offset != record.offset:
                return
        if found is None:
            problem = "the index has no entry for it"
        elif found.is_deleted:
            problem = "the index calls it deleted, and names no tombstone"
        elif found.offset == record.offset:
            if (found.metadata_size, found.data_size, found.crc) == (
                record.metadata_size,
                record.data_size,
                record.crc,
            ):
                return  # the disk refused it once, so its entry says damaged; it is whole again
            problem = "its index entry does not match it"
        elif self._is_at(record.needle_id, found):
            return
        else:
            problem = "the index names another place for it"
        self._report(record, problem)

    def _load_block(self, first_id: int) -> None:
        buffer = bytearray(BLOCK_COUNT * ENTRY_SIZE)
        count = self._index_file.preadv([buffer], entry_offset(first_id))
        self._block_start = first_id
        self._block = bytes(buffer[: count // ENTRY_SIZE * ENTRY_SIZE])

    def _is_at(self, needle_id: int, found: IndexEntry) -> bool:
        header = read_header(
            self._data, self._seed, found.offset, metadata_size=found.metadata_size, nowait=False
        )
        return header is not None and (header[0].kind, header[0].needle_id) == (KIND_DATA, needle_id)

    def _take_broken(self, record: Record) -> None:
        found = self._lookup(record)
        if self._is_garbage(record, found):
            return
        if record.is_unreadable or (record.kind == KIND_DATA and found is not None):
            self._report(record, record.problem)
        elif record.state is not State.UNFINISHED:
            self._suspect(record)

    def _lookup(self, record: Record) -> IndexEntry | None:
        entry = self._index.get(record.needle_id) if record.needle_id else None
        return decode_entry(entry) if entry is not None else None

    def _is_garbage(self, record: Record, found: IndexEntry | None) -> bool:
        """Whether nobody loses anything by this record."""
        if found is None:
            return False
        if record.kind == KIND_DATA:
            return found.offset != record.offset  # that of its tombstone, or of a later attempt
        return found.is_deleted

    def _take_gap(self, gap: Record) -> None:
        """The headers are gone, but the index may still know what was there."""
        is_known = False
        for needle_id, found in self._index.walk(gap.offset, gap.end):
            is_known = True
            if not found.is_deleted:
                size = stored_size(found.metadata_size, found.data_size)
                self._add(found.offset, size, needle_id, gap.problem)
        if not is_known:
            self._suspect(gap)

    # --- suspects: until the end of the file ------------------------------------------------------

    def _suspect(self, record: Record) -> None:
        self._suspects.append(record)
        if len(self._suspects) > SUSPECTS_MAX:
            self._judge_suspects()

    def _excuse(self, torn: list[tuple[int, int]]) -> None:
        self._suspects = [
            suspect
            for suspect in self._suspects
            if suspect.is_unreadable
            or not any(start <= suspect.offset and suspect.end <= end for start, end in torn)
        ]

    def _judge_suspects(self) -> None:
        suspects, self._suspects = self._suspects, []
        dead_sizes = self._dead_sizes({s.stored_size for s in suspects if s.state is State.GAP})
        for suspect in suspects:
            if suspect.state is State.GAP:
                if suspect.stored_size not in dead_sizes:
                    self._add(suspect.offset, suspect.stored_size, None, suspect.problem)
            elif not self._is_garbage(suspect, self._lookup(suspect)):
                self._report(suspect, suspect.problem)

    def _dead_sizes(self, sizes: set[int]) -> set[int]:
        """Which of these sizes deleted needles have.

        The index does not say any more where a deleted needle was.  All live needles are accounted for, so a
        gap of exactly the size of a dead needle is taken for that needle.
        """
        found_sizes = set[int]()
        if not sizes:
            return found_sizes
        for _, found in self._index.walk(0, OFFSET_MAX):
            if found.is_deleted and found.metadata_size:
                size = stored_size(found.metadata_size, found.data_size)
                if size in sizes:
                    found_sizes.add(size)
                    if len(found_sizes) == len(sizes):
                        break
        return found_sizes

    # --- reporting --------------------------------------------------------------------------------

    def _report(self, record: Record, problem: str) -> None:
        bucket = key = None
        with contextlib.suppress(NeedleCorrupt):
            if record.metadata_bytes:
                metadata = record.metadata
                bucket, key = metadata.bucket, metadata.key
        if record.kind in _NAMES:
            problem = f"{_NAMES[record.kind]}: {problem}"
        self._add(record.offset, record.stored_size, record.needle_id or None, problem, bucket, key)

    def _add(
        self,
        offset: int,
        length: int,
        needle_id: int | None,
        problem: str,
        bucket: str | None = None,
        key: str | None = None,
    ) -> None:
        self._require_current()
        if self._watermark() < offset:
            raise ReadFailed(f"the index of {self._directory} is being rebuilt")
        self.damaged_count += 1
        if len(self.damages) < DAMAGES_MAX:
            self.damages.append(Damage(self._volume_id, offset, length, needle_id, problem, bucket, key))

    def _require_current(self) -> None:
        """Refuse to go on when this generation does not count any more.

        Raises:
            GenerationMismatch: the manifest names another one.
        """
        try:
            content = read_file(self._disk, manifest_path(self._directory), MANIFEST_SIZE_MAX)
            self._require(decode_manifest(content))
        except (FileNotFoundError, ManifestCorrupt):
            pass  # then the manifest was not replaced either: a compaction leaves a whole one

    def _require(self, identity: VolumeIdentity) -> None:
        if (identity.uuid, identity.generation) != (self._uuid, self._generation):
            raise GenerationMismatch(
                f"{self._directory} is generation {identity.generation} of {identity.uuid} now, not"
                f" generation {self._generation} of {self._uuid}"
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReadFailed(f"{self._directory} cannot be read: {error}") from error
