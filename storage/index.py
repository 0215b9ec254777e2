"""Index: where each needle of a volume is, in a flat file addressed by needle id.

    offset      size  field (little-endian)
         0       128  header slot A   written in turn with slot B, each time synced: one of them always checks
       512       128  header slot B
      1024        16  watermark       u64 durable, u32 zero, u32 CRC-32C of the 12 bytes before
      8192   16 each  entries, the entry of needle i at 8192 + 16 i

An entry is `u64 word, u32 data_size, u32 data_crc`, all zero for a needle that is not there:

    word bit      0  is_deleted: the offset is that of the tombstone, the rest still tells of the needle
         bit      1  is_damaged: a scan found the needle bad
         bit      2  zero
         bits  3-47  offset in the data file, a multiple of 8
         bits 48-63  metadata_size

An id that a compaction has left out has no entry: void records in the data file name it by range, and the
header says where they are (`storage/voids.py`).

The file is derived from the data file and can be rebuilt from it.  These rules make it worth trusting:

- An entry is written only after the record it speaks of is durable.  So after a power cut the file may
  lack entries, but it never has one for bytes that are gone, and an entry proves that the record it names
  was whole once: if it is not now, that is damage and not a torn write.
- `checkpoint` in the header is an offset in the data file: all before it is durable, there and here.  What
  follows it is scanned on open.  The counters are those of the records before it.
- `durable` in the watermark is where the last sync of the data file reached.  It is not synced itself, so
  after a power cut it may be older, and then it is true as well.
- The header's CRC starts from the seed of the volume's uuid and generation: a foreign file never checks.

Entries are written with pwrite and read with pread, never through a mapping: a bad sector or a full disk
is then an error of one request and not a SIGBUS of the whole actor.  Zero pages of the file are holes.
The pages that were looked at last stay in memory (`PageCache`): a read of a hot needle costs one system
call, the one for its bytes.
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Final

import msgspec
from crc32c import crc32c

from warehouse.storage.disk import File, read_fully, write_all

HEADER_MAGIC: Final = b"WHINDEX2"  # the digit is the version of the layout
HEADER_MAGIC_WITH_VOIDS: Final = b"WHINDEX3"  # what 2 has, and where the void records stand
SLOT_OFFSETS: Final = (0, 512)  # a sector each, so that a torn write of one leaves the other alone
WATERMARK_OFFSET: Final = 1024
ENTRIES_OFFSET: Final = 8192

_SLOT: Final = Struct("<8sQIIQQQQQIIQQ")
_VOIDS: Final = Struct("<QQI")
_SLOT_SIZE: Final = 128
_WATERMARK: Final = Struct("<QI")
_CRC: Final = Struct("<I")
assert _SLOT.size + _VOIDS.size + _CRC.size <= _SLOT_SIZE

ENTRY: Final = Struct("<QII")
ENTRY_SIZE: Final = ENTRY.size
BLOCK_SIZE: Final = 64 * 1024  # 4,096 entries
NEEDLE_IDS: Final = 2**32
_ZEROS: Final = bytes(BLOCK_SIZE)
assert BLOCK_SIZE % ENTRY_SIZE == 0
NEAR: Final = 64  # ids: entries no further apart than this are written with one call
NO_ENTRY: Final = bytes(ENTRY_SIZE)

PAGE_SIZE: Final = 4096
READ_AHEAD_SIZE: Final = 64 * 1024  # of an index that is read for the first time: 4,096 entries
CACHED_PAGES_MAX: Final = 2048  # of all indexes of a process: 8 MiB, the entries of half a million needles
assert PAGE_SIZE % ENTRY_SIZE == 0
assert ENTRIES_OFFSET % PAGE_SIZE == 0

FLAG_DELETED: Final = 1
FLAG_DAMAGED: Final = 2
FLAGS_MASK: Final = 7
OFFSET_MASK: Final = (1 << 48) - 1 - FLAGS_MASK
OFFSET_MAX: Final = OFFSET_MASK
METADATA_SHIFT: Final = 48


class IndexEntry(msgspec.Struct, frozen=True, gc=False):
    """What the index says about a needle: enough to fetch it, to be checked against the needle itself."""

    offset: int  # of the needle, or of its tombstone
    metadata_size: int
    data_size: int
    crc: int
    is_deleted: bool
    is_damaged: bool = False


def encode_entry(offset: int, metadata_size: int, data_size: int, crc: int, flags: int = 0) -> bytes:
    return ENTRY.pack(metadata_size << METADATA_SHIFT | offset | flags, data_size, crc)


def decode_entry(entry: bytes | bytearray | memoryview) -> IndexEntry | None:
    """Decode an entry; None for all zeros."""
    word, data_size, crc = ENTRY.unpack(entry)
    if not word:
        return None
    return IndexEntry(
        word & OFFSET_MASK,
        word >> METADATA_SHIFT,
        data_size,
        crc,
        bool(word & FLAG_DELETED),
        bool(word & FLAG_DAMAGED),
    )


def entry_offset(needle_id: int) -> int:
    return ENTRIES_OFFSET + ENTRY_SIZE * needle_id


class Tally(msgspec.Struct):
    """The counters of a stretch of a data file from its start."""

    live_count: int = 0
    live_bytes: int = 0
    dead_bytes: int = 0
    needle_id_max: int = 0
    stamp_max: int = 0
    damaged_count: int = 0
    dead_count: int = 0
    kept_bytes: int = 0

    def copy(self) -> Tally:
        return Tally(*msgspec.structs.astuple(self))


class VoidSpan(msgspec.Struct, frozen=True):
    """Where the void records of a data file stand, and the greatest id that they name."""

    start: int
    end: int
    last_id: int


class IndexHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a header slot says."""

    sequence: int
    checkpoint: int
    tally: Tally
    voids: VoidSpan | None = None  # ids that are void without an entry of their own: see `storage/voids.py`


def encode_slot(header: IndexHeader, volume_id: int, generation: int, seed: int) -> bytes:
    tally = header.tally
    fields = _SLOT.pack(
        HEADER_MAGIC if header.voids is None else HEADER_MAGIC_WITH_VOIDS,
        header.sequence,
        volume_id,
        generation,
        header.checkpoint,
        tally.live_count,
        tally.live_bytes,
        tally.dead_bytes,
        tally.stamp_max,
        tally.needle_id_max,
        tally.damaged_count,
        tally.dead_count,
        tally.kept_bytes,
    )
    if header.voids is not None:
        fields += _VOIDS.pack(header.voids.start, header.voids.end, header.voids.last_id)
    return (fields + _CRC.pack(crc32c(fields, seed))).ljust(_SLOT_SIZE, b"\0")


def decode_slot(slot: bytes | bytearray | memoryview, seed: int) -> IndexHeader | None:
    """Decode a header slot; None when it does not check, or belongs to another volume or generation."""
    magic = bytes(slot[: len(HEADER_MAGIC)])
    if len(slot) < _SLOT_SIZE or magic not in (HEADER_MAGIC, HEADER_MAGIC_WITH_VOIDS):
        return None
    size = _SLOT.size + (_VOIDS.size if magic == HEADER_MAGIC_WITH_VOIDS else 0)
    if _CRC.unpack_from(slot, size)[0] != crc32c(slot[:size], seed):
        return None
    voids = VoidSpan(*_VOIDS.unpack_from(slot, _SLOT.size)) if magic == HEADER_MAGIC_WITH_VOIDS else None
    _, sequence, _, _, checkpoint, *counters = _SLOT.unpack_from(slot)
    live_count, live_bytes, dead_bytes, stamp_max, id_max, damaged_count, dead_count, kept_bytes = counters
    tally = Tally(
        live_count, live_bytes, dead_bytes, id_max, stamp_max, damaged_count, dead_count, kept_bytes
    )
    return IndexHeader(sequence=sequence, checkpoint=checkpoint, tally=tally, voids=voids)


class PageCache:
    """The pages of index files that were read last, the oldest to be forgotten first.

    A page is whatever the file held when it was read, so whoever writes to a file says so afterwards, with
    `forget`.  Look-ups take no lock.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._pages: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self.change_count = 0  # grows with each `forget`: a page read before it may not be remembered after
        self.get = self._pages.get

    def remember(self, key: int, page: bytes, change_count: int) -> None:
        """
        Args:
            change_count: what it was before the page was read.
        """
        with self._lock:
            if change_count == self.change_count:
                if len(self._pages) >= self._count_max:
                    del self._pages[next(iter(self._pages))]
                self._pages[key] = page

    def forget(self, keys: Iterable[int]) -> None:
        with self._lock:
            self.change_count += 1
            for key in keys:
                self._pages.pop(key, None)

    def forget_file(self, first_key: int) -> None:
        """A file was closed, and no look-up comes for its pages any more."""
        with self._lock:
            self.change_count += 1
            for key in [key for key in self._pages if key >> 32 == first_key >> 32]:
                del self._pages[key]


_pages: Final = PageCache(CACHED_PAGES_MAX)
_file_numbers: Final = itertools.count()


class IndexFile:
    """The index of one generation, as a file.  Knows nothing of the data file's content."""

    def __init__(self, file: File, *, volume_id: int, generation: int, seed: int) -> None:
        self.file: Final = file
        self._file = file
        self._volume_id = volume_id
        self._generation = generation
        self._seed = seed
        self._first_page = next(_file_numbers) << 32  # keys of the page cache: no two files share one
        self.written_to = 0  # the file has at least this many bytes, unless somebody cut it off

    def load(self) -> tuple[IndexHeader, int] | None:
        """The newest header and the watermark; None when the index cannot be used.

        Unusable is one whose headers do not check, and one too short for the ids that its header names:
        entries cut off would read as "no such needle".
        """
        front = bytearray(ENTRIES_OFFSET)
        if read_fully(self._file, front, 0) < len(front):
            return None
        headers = (decode_slot(front[at : at + _SLOT_SIZE], self._seed) for at in SLOT_OFFSETS)
        header = max((h for h in headers if h), key=lambda h: h.sequence, default=None)
        if header is None or self._file.size() < entry_offset(header.tally.needle_id_max + 1):
            return None
        durable, zero = _WATERMARK.unpack_from(front, WATERMARK_OFFSET)
        (crc,) = _CRC.unpack_from(front, WATERMARK_OFFSET + _WATERMARK.size)
        is_whole = crc == crc32c(_WATERMARK.pack(durable, zero), self._seed)
        return header, max(durable, header.checkpoint) if is_whole else header.checkpoint

    def get(self, needle_id: int, *, nowait: bool = False) -> bytes | None:
        """The entry of a needle; None when there is none."""
        offset = ENTRIES_OFFSET + ENTRY_SIZE * needle_id
        number, at = divmod(offset, PAGE_SIZE)
        page = _pages.get(self._first_page + number)
        if page is None:
            page = self._read_page(number, at, nowait=nowait)
        entry = page[at : at + ENTRY_SIZE]
        return None if len(entry) < ENTRY_SIZE or entry == NO_ENTRY else entry

    def start_reading(self, needle_ids: Iterable[int]) -> None:
        """Let the disk begin to bring their entries into memory, and those around them."""
        pages = {entry_offset(needle_id) // READ_AHEAD_SIZE for needle_id in needle_ids}
        for number in pages:
            self._start_reading(number * READ_AHEAD_SIZE)

    def _start_reading(self, offset: int) -> None:
        self._file.start_reading(offset - offset % READ_AHEAD_SIZE, READ_AHEAD_SIZE)

    def _read_page(self, number: int, at: int, *, nowait: bool) -> bytes:
        """A page, to its entry at `at` at least, less at the end of the file."""
        change_count = _pages.change_count
        buffer = bytearray(PAGE_SIZE)
        offset = PAGE_SIZE * number
        try:
            count = self._file.preadv([buffer], offset, nowait=True)
            if count < at + ENTRY_SIZE and offset + count < self._file.size():
                raise BlockingIOError(errno.EAGAIN, "only some of the page is in memory")
        except BlockingIOError:
            if nowait:
                raise
            # The index is small next to its data: other entries around this one will be wanted as well.
            self._start_reading(offset)
            count = self._file.preadv([buffer], offset)
        if count == PAGE_SIZE:
            page = bytes(buffer)
            _pages.remember(self._first_page + number, page, change_count)
            return page
        return bytes(buffer[:count])

    def walk(self, start: int, end: int) -> Iterator[tuple[int, IndexEntry]]:
        """Every entry whose offset is from `start` up to `end`, by needle id.  Reads the whole file."""
        for first_id, block in self.blocks(0, NEEDLE_IDS):
            for needle_id, (word, *_) in enumerate(ENTRY.iter_unpack(block), first_id):
                if word and start <= word & OFFSET_MASK < end:
                    found = decode_entry(block[(needle_id - first_id) * ENTRY_SIZE :][:ENTRY_SIZE])
                    assert found is not None
                    yield needle_id, found

    def blocks(self, first_id: int, count: int) -> Iterator[tuple[int, bytes]]:
        """The entries of `count` needles from `first_id` on, where there are any: (id of the first, entries).

        Ids that were never used, or are void, cost nothing: their stretches of the file are holes.
        """
        at = entry_offset(first_id)
        end = min(entry_offset(first_id + count), self._file.size())
        while at < end:
            data_at = self._file.next_data(at)
            at = max(at, data_at - (data_at - ENTRIES_OFFSET) % ENTRY_SIZE)
            if at >= end:
                return
            buffer = bytearray(min(BLOCK_SIZE, end - at))
            size = read_fully(self._file, buffer, at) // ENTRY_SIZE * ENTRY_SIZE
            if not size:
                return
            block = bytes(buffer[:size])
            if block != _ZEROS[:size]:
                yield (at - ENTRIES_OFFSET) // ENTRY_SIZE, block
            at += size

    def close(self) -> None:
        self._file.close()

    def forget_pages(self) -> None:
        """Free what is remembered of this file, because another one is looked up from now on."""
        _pages.forget_file(self._first_page)

    def raw(self, first_id: int, count: int) -> bytes:
        """`count` entries from needle `first_id` on as they stand, fewer at the end of the file."""
        buffer = bytearray(ENTRY_SIZE * count)
        size = read_fully(self._file, buffer, entry_offset(first_id))
        return bytes(buffer[: size // ENTRY_SIZE * ENTRY_SIZE])

    def put_many(self, entries: Mapping[int, bytes]) -> None:
        """Write entries, near ones together: what stands between them is read first, and written again."""
        try:
            self._put_many(entries)
        finally:
            _pages.forget({self._first_page + entry_offset(needle_id) // PAGE_SIZE for needle_id in entries})

    def _put_many(self, entries: Mapping[int, bytes]) -> None:
        self._require_uncut()
        for ids in _near(entries):
            offset, count = entry_offset(ids[0]), ids[-1] - ids[0] + 1
            if count == len(ids):
                write_all(self._file, [b"".join(map(entries.__getitem__, ids))], offset)
                self.written_to = max(self.written_to, offset + ENTRY_SIZE * count)
                continue
            span = bytearray(ENTRY_SIZE * count)
            read_fully(self._file, span, offset)
            for needle_id in ids:
                at = (needle_id - ids[0]) * ENTRY_SIZE
                span[at : at + ENTRY_SIZE] = entries[needle_id]
            write_all(self._file, [span], offset)
            self.written_to = max(self.written_to, offset + ENTRY_SIZE * count)

    def put_watermark(self, durable: int) -> None:
        fields = _WATERMARK.pack(durable, 0)
        write_all(self._file, [fields + _CRC.pack(crc32c(fields, self._seed))], WATERMARK_OFFSET)

    def put_header(self, header: IndexHeader) -> None:
        """Write the slot whose turn it is; `sync` must follow before the next one is written."""
        self._require_uncut()
        size = entry_offset(header.tally.needle_id_max + 1)
        if self._file.size() < size:
            self._file.truncate(size)
        self.written_to = max(self.written_to, size)
        slot = encode_slot(header, self._volume_id, self._generation, self._seed)
        write_all(self._file, [slot], SLOT_OFFSETS[header.sequence % len(SLOT_OFFSETS)])

    def sync(self) -> None:
        self._file.fdatasync()

    def _require_uncut(self) -> None:
        """Refuse to write to a file that was cut off: the gap would read as "no such needle"."""
        if self._file.size() < self.written_to:
            raise OSError(errno.EIO, "the index was cut off while it was open")


def _near(needle_ids: Iterable[int]) -> Iterator[list[int]]:
    """Group ids that are no further apart than NEAR, ascending."""
    group: list[int] = []
    for needle_id in sorted(needle_ids):
        if group and needle_id - group[-1] > NEAR:
            yield group
            group = []
        group.append(needle_id)
    if group:
        yield group
