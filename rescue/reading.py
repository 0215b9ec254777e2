"""Reading: one volume, read-only, record by record, into the staging.

As when a volume actor opens the volume, `storage/recovery.py` judges what is torn and what is damaged, with
the index as evidence if there is one.  Nothing is written, not even what a recovery would repair.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

import msgspec

from warehouse.conf.formatting import format_size
from warehouse.errors import NeedleCorrupt, ReadFailed
from warehouse.rescue.admission import UNNAMED_BUCKET, bucket_problem, needle_problem
from warehouse.rescue.choosing import FoundBucket
from warehouse.rescue.staging import Needle, Staging, place_of
from warehouse.storage.disk import Disk, File, read_fully
from warehouse.storage.files import data_path, index_path
from warehouse.storage.format.needle import (
    KIND_BUCKET,
    KIND_DATA,
    KIND_RESTAMP,
    KIND_TOMBSTONE,
    BucketRecord,
    NeedleMetadata,
    decode_bucket,
)
from warehouse.storage.format.stamp import sound
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE, VolumeIdentity
from warehouse.storage.index import ENTRY_SIZE, IndexEntry, IndexFile, Tally, decode_entry, entry_offset
from warehouse.storage.recovery import Damage, Recovery
from warehouse.storage.scan import Record, State, scan
from warehouse.transport.http.header_text import is_content_type

log = logging.getLogger(__name__)

ENTRIES_AT_ONCE: Final = 4096  # of the index: neighbours in the data file have nearby ids
DAMAGES_MAX: Final = 10_000  # of a volume, listed in a report; all are counted
PROBLEM_LENGTH_MAX: Final = 500
PROGRESS_EVERY: Final = 1024 * 1024  # bytes of a data file

_encode_map = msgspec.msgpack.Encoder().encode
_is_content_type = lru_cache(maxsize=256)(is_content_type)  # there are few, and they repeat


class LostNeedle(msgspec.Struct, frozen=True):
    """A needle, or a stretch of a volume, that cannot be read in full."""

    volume_id: int
    offset: int
    length: int
    problem: str
    needle_id: int | None = None  # None: it is unknown what was there
    bucket: str | None = None
    key: str | None = None
    is_mended: bool = False  # its bytes are whole, and it got a new stamp because its own is impossible
    is_refused: bool = False  # its CRC matches, but no honest store writes this; the name is made up


def damage_line(lost: LostNeedle) -> str:
    what = f"needle {lost.needle_id}" if lost.needle_id else f"{format_size(lost.length)}"
    name = f" ({lost.bucket}/{lost.key})" if lost.key is not None else ""
    return f"volume {lost.volume_id}, {what} at {lost.offset}{name}: {lost.problem}"


class Buckets:
    """What records and needles of all volumes say about buckets."""

    def __init__(self) -> None:
        self.found: dict[int, FoundBucket] = {}

    def see(self, bucket_id: int, name: str, created_ms: int) -> None:
        """A needle names this bucket."""
        known = self.found.get(bucket_id)
        if known is None:
            self.found[bucket_id] = FoundBucket(bucket_id, name, created_ms)
        elif not known.name:
            self.found[bucket_id] = msgspec.structs.replace(known, name=name)
        elif not known.is_recorded and created_ms < known.created_ms:
            self.found[bucket_id] = msgspec.structs.replace(known, created_ms=created_ms)

    def record(self, record: BucketRecord, stamp: int) -> None:
        """A volume records that a bucket was made or deleted; a deletion wins, in either order."""
        known = self.found.get(record.bucket_id)
        name, is_deleted = record.name, record.is_deleted
        owner_id, region, is_lock_enabled = record.owner_id, record.region, record.is_lock_enabled
        configs = record.configs
        if known is not None:
            name = name or known.name  # a deletion may be recorded without it
            is_deleted = is_deleted or known.is_deleted
            is_newer = stamp >= known.stamp
            # Records of older releases do not say whose it is.
            owner_id = (owner_id or known.owner_id) if is_newer else (known.owner_id or owner_id)
            configs = configs if is_newer else known.configs
            region = region or known.region
            is_lock_enabled = is_lock_enabled or known.is_lock_enabled
            stamp = max(stamp, known.stamp)
        self.found[record.bucket_id] = FoundBucket(
            record.bucket_id,
            name,
            record.created_ms,
            True,
            is_deleted,
            stamp,
            owner_id,
            region,
            is_lock_enabled,
            configs,
        )


class VolumeRead(msgspec.Struct, frozen=True):
    """What a volume holds, besides what went into the staging."""

    needle_id_max: int
    stamp_max: int
    needle_count: int
    damages: list[LostNeedle]  # at most DAMAGES_MAX
    damaged_count: int
    has_nameless: bool  # a stretch is lost whose object is unknown
    untyped_count: int = 0  # needles whose content type was left out, because no header can carry it


class VolumeReader:
    """Reads one volume into a staging, once."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        identity: VolumeIdentity,
        number: int,
        staging: Staging,
        buckets: Buckets,
    ) -> None:
        """
        Args:
            number: of the volume, in the places of the staging.
        """
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._number = number
        self._staging = staging
        self._buckets = buckets
        self._suspects: dict[int, Record] = {}  # by offset: needles with a wrong CRC, until they are judged
        self._last_stamp = 0
        self._sound_stamp = 0  # the greatest possible one so far, new stamps included
        self._mended: list[LostNeedle] = []  # up to DAMAGES_MAX of them
        self._mended_count = 0
        self._needle_count = 0
        self._untyped_count = 0
        self._refused: list[LostNeedle] = []  # up to DAMAGES_MAX of them
        self._refused_count = 0

    def run(self, on_progress: Callable[[int], None]) -> VolumeRead:
        """Read all of it.

        Args:
            on_progress: called now and then with the offset in the data file.
        Raises:
            ReadFailed: the data file cannot be opened.
        """
        identity = self._identity
        try:
            data = self._disk.open(data_path(self._directory, identity.generation), read_only=True)
            size = data.size()
        except OSError as error:
            raise ReadFailed(f"{self._directory}: the data file cannot be opened: {error}") from error
        index, durable, id_max = self._open_index()
        recovery = Recovery(
            volume_id=identity.volume_id,
            start=SUPERBLOCK_SIZE,
            entries=_IndexEntries(index, self._add_tombstone),
            tally=Tally(),
            durable=durable,
            is_rebuild=index is None,
        )
        recovery.run(self._staged(scan(data, identity.seed, SUPERBLOCK_SIZE, size), on_progress))
        damages = list(recovery.damages)
        if size < durable:
            problem = "the data file is shorter than what was synced to it"
            damages.append(Damage(identity.volume_id, size, durable - size, None, problem))
        lost = [self._judge(damage) for damage in damages]
        has_nameless = self._refused_count > 0 or any(needle.key is None for needle in lost)
        lost_count = len(lost) + self._refused_count + self._mended_count
        lost += self._refused + self._mended
        self._suspects.clear()
        self._staging.flush()
        on_progress(size)
        return VolumeRead(
            max(recovery.tally.needle_id_max, id_max),
            max(recovery.tally.stamp_max, self._sound_stamp),
            self._needle_count,
            lost[:DAMAGES_MAX],
            lost_count,
            has_nameless,
            self._untyped_count,
        )

    def _open_index(self) -> tuple[File | None, int, int]:
        """The index if it can be used, the offset up to which it says data was synced, its greatest id."""
        identity, path = self._identity, index_path(self._directory, self._identity.generation)
        try:
            if self._disk.exists(path):
                file = self._disk.open(path, read_only=True)
                index = IndexFile(
                    file, volume_id=identity.volume_id, generation=identity.generation, seed=identity.seed
                )
                loaded = index.load()
                if loaded is not None:
                    header, durable = loaded
                    return file, durable, header.tally.needle_id_max
        except OSError as error:
            log.warning("index unreadable", extra={"volume_id": identity.volume_id, "cause": str(error)})
        return None, SUPERBLOCK_SIZE, 0

    # --- records ----------------------------------------------------------------------------------

    def _staged(self, records: Iterator[Record], on_progress: Callable[[int], None]) -> Iterator[Record]:
        """Pass records on, and put their content into the staging."""
        next_to_tell = PROGRESS_EVERY
        for record in records:
            if record.state is State.WHOLE:
                self._take(record)
            elif record.state is State.BAD:
                self._suspects[record.offset] = record
                record.content = b""
            yield record
            if record.offset >= next_to_tell:
                next_to_tell = record.offset + PROGRESS_EVERY
                on_progress(record.offset)

    def _take(self, record: Record) -> None:
        if record.stamp:
            self._last_stamp = self._stamp_of(record)
        kind = record.kind
        if kind == KIND_DATA:
            self._take_needle(record, is_damaged=False)
        elif kind == KIND_TOMBSTONE:
            self._take_tombstone(record)
        elif kind == KIND_RESTAMP:
            self._staging.add_restamp(place_of(self._number, record.needle_id), self._last_stamp)
        elif kind == KIND_BUCKET:
            try:
                bucket = decode_bucket(record.content)
            except NeedleCorrupt as error:
                self._refuse(record, error.message)
                return
            if (problem := bucket_problem(bucket)) is not None:
                self._refuse(record, problem)
                return
            self._buckets.record(bucket, self._last_stamp)

    def _stamp_of(self, record: Record) -> int:
        """The stamp of a record; an impossible stamp is replaced by the next one after those before it.

        A volume is written nearly in the order of its stamps, so a record with the stamp of a wrong clock
        keeps its place between those written before and after it.
        """
        stamp = record.stamp
        if stamp == sound(stamp):
            if stamp > self._sound_stamp:
                self._sound_stamp = stamp
            return stamp
        self._sound_stamp += 1
        self._mended_count += 1
        if len(self._mended) < DAMAGES_MAX:
            bucket = key = None
            if record.kind == KIND_DATA:
                with contextlib.suppress(NeedleCorrupt):
                    bucket, key = record.metadata.bucket, record.metadata.key
            problem = (
                f"its stamp {record.stamp} is impossible; it got a new one that fits its place in the volume"
            )
            self._mended.append(
                LostNeedle(
                    self._identity.volume_id,
                    record.offset,
                    record.stored_size,
                    problem,
                    record.needle_id or None,
                    bucket,
                    key,
                    is_mended=True,
                )
            )
        return self._sound_stamp

    def _admitted(self, record: Record) -> NeedleMetadata | None:
        """What a needle or a tombstone says about an object; None: no honest store says that."""
        try:
            metadata = record.metadata
        except NeedleCorrupt as error:
            self._refuse(record, error.message)
            return None
        if (problem := needle_problem(metadata)) is not None:
            self._refuse(record, problem)
            return None
        return metadata

    def _take_needle(self, record: Record, *, is_damaged: bool) -> NeedleMetadata | None:
        metadata = self._admitted(record)
        if metadata is None:
            return None
        content_type = metadata.content_type
        if content_type is not None and not _is_content_type(content_type):
            self._untyped_count += 1
            content_type = None
        self._buckets.see(metadata.bucket_id, metadata.bucket, metadata.created_ms)
        self._needle_count += 1
        self._staging.add_needle(
            Needle(
                place_of(self._number, record.needle_id),
                metadata.bucket_id,
                metadata.key,
                # If the footer is lost as well, the stamp of the record before is about right.
                self._last_stamp,
                record.data_size,
                record.crc,
                metadata.created_ms,
                content_type,
                _encode_map(metadata.metadata) if metadata.metadata else None,
                record.offset,
                is_damaged,
                metadata.upload_id,
                metadata.chunk_index,
                metadata.chunk_count,
                metadata.object_size,
                metadata.attributes or None,
                metadata.role,
                None if metadata.target is None else place_of(*metadata.target),
            )
        )
        return metadata

    def _take_tombstone(self, record: Record) -> None:
        place = place_of(self._number, record.needle_id)
        if record.metadata_size:
            self._staging.add_tombstone(place, None)
            metadata = self._admitted(record)
            if metadata is None:
                return
            self._buckets.see(metadata.bucket_id, metadata.bucket, metadata.created_ms)
            self._staging.add_kill(metadata.bucket_id, metadata.key, self._last_stamp)
        else:
            self._staging.add_tombstone(place, self._last_stamp if record.object_deleted else None)

    def _add_tombstone(self, needle_id: int) -> None:
        """The tombstone of this needle is unreadable, but the index has it."""
        self._staging.add_tombstone(place_of(self._number, needle_id), None)

    def _judge(self, damage: Damage) -> LostNeedle:
        """Stage a damaged record if it still tells what it was."""
        record = self._suspects.get(damage.offset)
        metadata = None
        if record is not None:
            self._last_stamp = sound(record.stamp) or self._last_stamp
        if record is not None and record.kind == KIND_DATA:
            metadata = self._take_needle(record, is_damaged=True)
        elif record is not None and record.kind == KIND_TOMBSTONE and record.needle_id:
            # The needle is dead; when its object was deleted is not known any more.
            self._staging.add_tombstone(place_of(self._number, record.needle_id), None)
        return LostNeedle(
            damage.volume_id,
            damage.offset,
            damage.length,
            damage.problem,
            damage.needle_id,
            metadata.bucket if metadata else None,
            metadata.key if metadata else None,
        )

    def _refuse(self, record: Record, problem: str) -> None:
        """Count a record whose CRC matches, but that no honest store wrote, as damage with a made-up name."""
        self._refused_count += 1
        if len(self._refused) >= DAMAGES_MAX:
            return
        volume_id, needle_id = self._identity.volume_id, record.needle_id or None
        what = f"needle-{needle_id}" if needle_id else f"record-at-{record.offset}"
        self._refused.append(
            LostNeedle(
                volume_id,
                record.offset,
                record.stored_size,
                problem[:PROBLEM_LENGTH_MAX],
                needle_id,
                UNNAMED_BUCKET,
                f"volume-{volume_id}-{what}",
                is_refused=True,
            )
        )


class _IndexEntries:
    """The index as evidence; it is never written."""

    def __init__(self, file: File | None, on_lost_tombstone: Callable[[int], None]) -> None:
        self._file = file
        self._on_lost_tombstone = on_lost_tombstone
        self._first_id = 0
        self._entries = b""

    def get(self, needle_id: int) -> IndexEntry | None:
        if self._file is None:
            return None
        at = (needle_id - self._first_id) * ENTRY_SIZE
        if not 0 <= at < len(self._entries):
            self._load(needle_id)
            at = (needle_id - self._first_id) * ENTRY_SIZE
        entry = self._entries[at : at + ENTRY_SIZE]
        return decode_entry(entry) if len(entry) == ENTRY_SIZE else None

    def put(self, needle_id: int, entry: bytes) -> None:
        pass

    def put_void(self, offset: int, content: bytes) -> bool:
        return True

    def within(self, start: int, end: int) -> Iterator[tuple[int, IndexEntry]]:
        """What was in a stretch without a header whose CRC matches."""
        if self._file is None:
            return
        index = IndexFile(self._file, volume_id=0, generation=0, seed=0)
        try:
            for needle_id, found in index.walk(start, end):
                if found.is_deleted:
                    self._on_lost_tombstone(needle_id)
                yield needle_id, found
        except OSError as error:
            log.warning("index unreadable", extra={"cause": str(error)})

    def _load(self, needle_id: int) -> None:
        assert self._file is not None
        self._first_id = needle_id // ENTRIES_AT_ONCE * ENTRIES_AT_ONCE
        buffer = bytearray(ENTRIES_AT_ONCE * ENTRY_SIZE)
        try:
            count = read_fully(self._file, buffer, entry_offset(self._first_id))
        except OSError as error:  # evidence is missing, no data
            log.warning("index unreadable", extra={"needle_id": needle_id, "cause": str(error)})
            count = len(buffer)
        self._entries = bytes(buffer[:count])
