"""The index file: entries by needle id, headers of which one always checks, and an honest watermark."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from simdisk import SimDisk
from warehouse.storage.disk import OsDisk
from warehouse.storage.entries import EntryTable
from warehouse.storage.index import (
    ENTRIES_OFFSET,
    ENTRY_SIZE,
    FLAG_DAMAGED,
    FLAG_DELETED,
    OFFSET_MAX,
    PAGE_SIZE,
    READ_AHEAD_SIZE,
    SLOT_OFFSETS,
    IndexEntry,
    IndexFile,
    IndexHeader,
    PageCache,
    Tally,
    decode_entry,
    decode_slot,
    encode_entry,
    encode_slot,
    entry_offset,
)

TALLY = Tally(3, 4000, 500, 77, 1 << 60, 2)


@pytest.fixture
def disk() -> SimDisk:
    disk = SimDisk()
    disk.open("idx", create=True).truncate(ENTRIES_OFFSET)
    return disk


@pytest.fixture
def index(disk: SimDisk) -> IndexFile:
    return IndexFile(disk.open("idx"), volume_id=7, generation=1, seed=99)


def header(sequence: int, checkpoint: int = 8192) -> IndexHeader:
    return IndexHeader(sequence=sequence, checkpoint=checkpoint, tally=TALLY)


@pytest.mark.parametrize("flags", [0, FLAG_DELETED, FLAG_DAMAGED, FLAG_DELETED | FLAG_DAMAGED])
@pytest.mark.parametrize("offset", [4096, 1 << 35, OFFSET_MAX])
def test_an_entry_comes_back_as_it_was_written(offset: int, flags: int) -> None:
    entry = encode_entry(offset, 65_535, (1 << 32) - 1, 0xDEADBEEF, flags)
    assert len(entry) == 16
    found = decode_entry(entry)
    assert found == IndexEntry(
        offset, 65_535, (1 << 32) - 1, 0xDEADBEEF, bool(flags & FLAG_DELETED), bool(flags & FLAG_DAMAGED)
    )


def test_no_entry_is_all_zeros(index: IndexFile) -> None:
    assert decode_entry(bytes(16)) is None
    assert index.get(5) is None
    assert index.get(1 << 31) is None


def test_entries_are_found_by_needle_id_and_holes_stay_holes(disk: SimDisk, index: IndexFile) -> None:
    entries = {i: encode_entry(8 * i, 10, i, i) for i in (1, 2, 3, 9, 10, 5000)}
    writes = []
    disk.after = lambda call, path: writes.append(call)
    index.put_many(entries)
    assert writes == ["pwritev"] * 2, "near ones are written together"
    for needle_id in range(1, 20):
        assert index.get(needle_id) == entries.get(needle_id)
    assert index.get(5000) == entries[5000]


def test_what_stands_between_two_entries_stays_when_they_are_written(index: IndexFile) -> None:
    before = {i: encode_entry(8 * i, 10, i, i) for i in range(1, 300, 7)}
    index.put_many(before)
    after = {i: encode_entry(80 * i, 20, i, i) for i in range(3, 300, 11)}
    index.put_many(after)
    for needle_id in range(1, 320):
        assert index.get(needle_id) == (before | after).get(needle_id)


def test_a_walk_finds_the_entries_of_a_stretch_of_the_data(index: IndexFile) -> None:
    index.put_many({i: encode_entry(1000 * i * 8, 10, i, i, FLAG_DELETED * (i % 2)) for i in range(1, 100)})
    found = dict(index.walk(8 * 50_000, 8 * 60_000))
    assert sorted(found) == list(range(50, 60))
    assert found[51].is_deleted


def test_the_newest_header_counts(index: IndexFile) -> None:
    assert index.load() is None
    for sequence in range(1, 5):
        index.put_header(header(sequence, 4096 * sequence))
        loaded = index.load()
        assert loaded is not None
        assert loaded[0] == header(sequence, 4096 * sequence)


@pytest.mark.parametrize("torn", range(0, 128, 9))
def test_a_torn_header_leaves_the_one_before(disk: SimDisk, index: IndexFile, torn: int) -> None:
    index.put_header(header(1))
    index.put_header(header(2))
    content = disk.node("idx").content
    before = bytes(content)
    index.put_header(header(3, 4096 * 500))
    at = SLOT_OFFSETS[1]
    content[at + torn : at + 128] = before[at + torn : at + 128]
    loaded = index.load()
    assert loaded is not None
    assert loaded[0] in (header(2), header(3, 4096 * 500))


def test_a_header_of_another_volume_or_generation_does_not_check() -> None:
    slot = encode_slot(header(1), 7, 1, 99)
    assert decode_slot(slot, 99) == header(1)
    assert decode_slot(slot, 98) is None
    assert decode_slot(bytes(128), 99) is None
    assert decode_slot(slot[:100], 99) is None


def test_an_index_that_lost_entries_at_its_end_is_not_used(disk: SimDisk, index: IndexFile) -> None:
    index.put_header(header(1))
    assert disk.node("idx").content[entry_offset(77) :] == bytes(16)
    assert index.load() is not None
    del disk.node("idx").content[-1]
    assert index.load() is None


def test_the_watermark_is_believed_when_it_checks_and_never_below_the_checkpoint(
    disk: SimDisk, index: IndexFile
) -> None:
    index.put_header(header(1, 8192))
    assert index.load() == (header(1, 8192), 8192)
    index.put_watermark(9000)
    assert index.load() == (header(1, 8192), 9000)
    index.put_watermark(5000)
    assert index.load() == (header(1, 8192), 8192)
    disk.node("idx").content[1024] ^= 1
    assert index.load() == (header(1, 8192), 8192)


# --- entries in front of the file -----------------------------------------------------------------


def entry(number: int) -> bytes:
    return encode_entry(8 * number, 1, 1, number)


def test_an_entry_is_seen_at_once_and_written_by_a_flush(index: IndexFile) -> None:
    table = EntryTable(index)
    table.put(1, entry(1))
    assert table.get(1) == entry(1)
    assert index.get(1) is None
    batch = table.begin_flush()
    table.put(2, entry(2))
    assert table.get(1) == entry(1), "seen while it is being written"
    index.put_many(batch)
    table.end_flush()
    assert table.get(1) == index.get(1) == entry(1)
    assert index.get(2) is None
    assert table.pending_count == 1


def test_a_flush_that_failed_loses_nothing_and_does_not_bring_back_the_old(index: IndexFile) -> None:
    table = EntryTable(index)
    table.put(1, entry(1))
    table.put(2, entry(2))
    table.begin_flush()
    table.put(2, entry(22))
    table.cancel_flush()
    assert (table.get(1), table.get(2)) == (entry(1), entry(22))
    assert table.begin_flush() == {1: entry(1), 2: entry(22)}


def test_a_table_without_a_file_keeps_everything_in_memory() -> None:
    table = EntryTable(None)
    table.put(1, entry(1))
    assert table.get(1) == entry(1)
    assert table.get(2) is None
    assert [needle_id for needle_id, _ in table.within(0, 100)] == [1]


def test_a_walk_prefers_what_is_newer_than_the_file(index: IndexFile) -> None:
    index.put_many({1: entry(1), 2: entry(2)})
    table = EntryTable(index)
    table.put(1, entry(500))
    assert [needle_id for needle_id, _ in table.within(0, 100)] == [2]


# --- pages in memory ------------------------------------------------------------------------------


def test_the_entries_of_a_page_are_read_from_the_file_once(disk: SimDisk, index: IndexFile) -> None:
    index.put_many({i: entry(i) for i in range(1, 600)})
    reads = []
    disk.before = lambda call, path, *rest: reads.append(call)
    for _ in range(2):
        for needle_id in range(1, 512):
            assert index.get(needle_id) == entry(needle_id)
    assert reads.count("preadv") == 2, "two pages"


def test_the_last_page_of_a_file_grows_under_the_eyes_of_a_reader(index: IndexFile) -> None:
    for needle_id in range(1, 600):
        assert index.get(needle_id) is None
        index.put_many({needle_id: entry(needle_id)})
        assert index.get(needle_id) == entry(needle_id)


def test_what_is_written_is_seen_at_once_even_if_the_write_fails_half_way(
    disk: SimDisk, index: IndexFile
) -> None:
    index.put_many({i: entry(i) for i in range(1, 1000)})
    assert index.get(5) == entry(5)
    index.put_many({5: entry(6)})
    assert index.get(5) == entry(6)
    disk.after = lambda call, path: (
        (_ for _ in ()).throw(OSError(5, "an error")) if call == "pwritev" else None
    )
    with pytest.raises(OSError, match="an error"):
        index.put_many({5: entry(7), 900: entry(7)})
    assert index.get(5) == entry(7), "it is on file"
    assert index.get(900) == entry(900), "it is not"


def test_the_disk_is_told_once_of_entries_that_lie_together(disk: SimDisk, index: IndexFile) -> None:
    told = []
    disk.before = lambda call, path, *place: told.append((call, *place))
    far = 10 * READ_AHEAD_SIZE // ENTRY_SIZE
    index.start_reading([1, 2, 3000, far])
    assert sorted(told) == [
        ("start_reading", 0, READ_AHEAD_SIZE),
        ("start_reading", 10 * READ_AHEAD_SIZE, READ_AHEAD_SIZE),
    ]


def test_two_files_share_no_page(disk: SimDisk, index: IndexFile) -> None:
    disk.open("other", create=True).truncate(ENTRIES_OFFSET)
    other = IndexFile(disk.open("other"), volume_id=7, generation=2, seed=99)
    index.put_many({i: entry(i) for i in range(1, 300)})
    other.put_many({i: entry(i + 1) for i in range(1, 300)})
    for _ in range(2):
        assert (index.get(7), other.get(7)) == (entry(7), entry(8))


def test_a_page_that_was_read_before_a_change_is_not_remembered_after_it() -> None:
    cache = PageCache(10)
    before = cache.change_count
    cache.forget([1])
    cache.remember(1, b"old", before)
    assert cache.get(1) is None
    cache.remember(1, b"new", cache.change_count)
    assert cache.get(1) == b"new"


def test_the_pages_in_memory_are_bounded_and_the_oldest_go_first() -> None:
    cache = PageCache(3)
    for key in range(5):
        cache.remember(key, b"page", cache.change_count)
    assert [cache.get(key) for key in range(5)] == [None, None, b"page", b"page", b"page"]


def test_readers_in_other_threads_never_see_an_entry_older_than_one_that_was_written(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.open("idx", create=True).truncate(ENTRIES_OFFSET + 8 * PAGE_SIZE)
    index = IndexFile(disk.open("idx"), volume_id=7, generation=1, seed=99)
    written = 1
    index.put_many({100: entry(1)})
    stale: list[tuple[int, int]] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            least = written
            found = index.get(100)
            assert found is not None
            number = decode_entry(found)
            assert number is not None
            if number.crc < least:
                stale.append((number.crc, least))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(100):
        index.put_many({100: entry(written + 1)})
        written += 1
    is_over.set()
    for reader in readers:
        reader.join()
    assert not stale
