"""A disk that refuses: full, failing or unreadable, at each single call of a history."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from auditor import DIRECTORY, Auditor, make_volume
from simdisk import CHANGES, PAGE, SimDisk
from warehouse.errors import (
    DiskFull,
    NeedleCorrupt,
    NoSuchNeedle,
    ReadFailed,
    StoreError,
    VolumeSealed,
    WriteFailed,
)
from warehouse.storage.files import manifest_path
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.format.superblock import SUPERBLOCK_SIZE
from warehouse.storage.generation import READ_AT_ONCE_MAX
from warehouse.storage.volume import Volume

METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)
SCRIPT: list[tuple[object, ...]] = [
    ("put", 700),
    ("reserve", 5000),
    ("put", 100),
    ("sync",),
    ("write", 0.5),
    ("put_together", (4096, 0, 900)),
    ("delete",),
    ("reserve", 600),
    ("finish",),
    ("checkpoint",),
    ("put", 512),
    ("begin_sync",),
    ("finish",),
    ("end_sync",),
    ("restamp",),
    ("begin_sync",),
    ("put", 70),
    ("checkpoint",),
    ("end_sync",),
    ("reserve", 9000),
    ("write", 0.9),
    ("put", 10),
    ("abort",),
    ("delete",),
    ("sync",),
    ("reopen",),
    ("put_together", (3000, 12)),
    ("begin_sync",),
    ("kernel_syncs",),
    ("reserve", 100),
    ("abort",),
    ("sync",),
    ("end_sync",),
]


@dataclass
class Fault:
    """Makes the n-th call of a kind fail, once."""

    call: str
    number: int
    code: int
    let_through: int | None = None  # of a write: so many of its bytes are written before the failure
    seen: int = 0
    is_done: bool = False
    failed_path: str = ""

    def __call__(self, call: str, path: str, offset: int, size: int) -> int | None:
        if self.is_done and self.let_through is not None and call == "pwritev" and path == self.failed_path:
            # The rest of a short write meets the error itself.
            self.let_through = None
            raise OSError(self.code, "injected")
        if call != self.call or self.is_done:
            return None
        self.seen += 1
        if self.seen < self.number:
            return None
        self.is_done, self.failed_path = True, path
        if self.let_through is not None and size > self.let_through:
            return self.let_through
        self.let_through = None
        raise OSError(self.code, "injected")


def run(auditor: Auditor, script: list[tuple[object, ...]]) -> list[StoreError]:
    """Run a history on a disk that may refuse; a sealed volume is opened anew."""
    failures = []
    for name, *arguments in script:
        try:
            getattr(auditor, str(name))(*arguments)
        except StoreError as error:
            failures.append(error)
            # Whatever the failure, all that was promised is still readable.
            auditor.check_promises(auditor.volume)
            if auditor.volume.sealed_cause is not None:
                auditor.extents.clear()
                auditor.volume = Volume.open(auditor.disk, DIRECTORY)
                auditor.check(auditor.volume)
                auditor.forget_unpromised()
    return failures


def count_calls(call: str) -> int:
    """How often the script makes a call, after the volume was made."""
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(5))
    seen = []
    disk.before = lambda name, path, offset, size: seen.append(name)
    run(auditor, SCRIPT)
    return seen.count(call)


def faults() -> Iterator[tuple[str, int, int | None]]:
    for call in ("pwritev", "start_writeback", "fdatasync", "allocate", "punch", "truncate"):
        for code in (errno.EIO, errno.ENOSPC):
            yield call, code, None
    yield "pwritev", errno.ENOSPC, 0
    yield "pwritev", errno.ENOSPC, 13
    yield "pwritev", errno.EIO, 40


@pytest.mark.parametrize(("call", "code", "let_through"), list(faults()))
def test_a_failing_call_costs_its_request_and_nothing_else(
    call: str, code: int, let_through: int | None
) -> None:
    count = count_calls(call)
    assert count > 0
    for number in range(1, count + 1):
        disk = SimDisk()
        auditor = Auditor(disk, random.Random(5))
        disk.before = fault = Fault(call, number, code, let_through)
        run(auditor, SCRIPT)
        assert fault.is_done
        disk.before = None
        auditor.check(auditor.volume)
        # Neither a crash right now nor the lost index finds anything but what was promised.
        for keep in (0.0, 0.5, 1.0):
            after = disk.crash(random.Random(number), keep)
            auditor.check_rebuild(after, auditor.check_after_cut(after))
        auditor.reopen()


@pytest.mark.parametrize("call", [*sorted(CHANGES - {"allocate", "punch", "truncate", "remove"}), "open"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_creation_that_fails_can_be_repeated(call: str, code: int) -> None:
    expected = DiskFull if code == errno.ENOSPC else WriteFailed
    number, is_done = 0, True
    while is_done:
        number += 1
        disk = SimDisk()
        disk.before = fault = Fault(call, number, code)
        if not create_failing(disk, expected):
            make_volume(disk)
        is_done, disk.before = fault.is_done, None
        volume = Volume.open(disk, DIRECTORY)
        assert volume.recovery.rebuilt_because is None
        volume.append(1, METADATA, b"works", stamp=1)
    assert number > 1


def create_failing(disk: SimDisk, expected: type[StoreError]) -> bool:
    """Make a volume on a disk that refuses once; returns whether it is there."""
    try:
        make_volume(disk)
    except (expected, ReadFailed):
        return disk.exists(manifest_path(DIRECTORY))
    return True


def test_a_failed_sync_seals_and_is_never_tried_again() -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    auditor.put(100)
    auditor.sync()
    auditor.put(200)
    calls = []

    def fail(call: str, path: str, offset: int, size: int) -> None:
        calls.append((call, path))
        if call == "fdatasync":
            raise OSError(errno.EIO, "injected")

    disk.before = fail
    with pytest.raises(WriteFailed):
        auditor.volume.sync()
    assert "sync" in (auditor.volume.sealed_cause or "")
    for refused in (auditor.volume.sync, auditor.volume.checkpoint, lambda: auditor.put(1)):
        with pytest.raises(VolumeSealed):
            refused()
    assert len(auditor.needles) == 3
    del auditor.needles[max(auditor.needles)]  # the one that was refused
    auditor.check(auditor.volume)
    auditor.volume.close()
    assert [call for call, _ in calls].count("fdatasync") == 1
    assert not [path for call, path in calls if call == "pwritev"]


def test_after_a_failed_sync_the_volume_is_checked_against_the_platter() -> None:
    """The cache still has the bytes that the platter lacks: believing it would acknowledge a loss."""
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    auditor.put(100)
    auditor.sync()
    auditor.put(5000)
    disk.before = Fault("fdatasync", 1, errno.EIO)
    with pytest.raises(WriteFailed):
        auditor.volume.sync()
    lost = max(auditor.needles)
    assert bytes(auditor.volume.read(lost).data) == auditor.needles[lost].data
    auditor.volume.close()
    volume = Volume.open(disk, DIRECTORY)
    with pytest.raises(NoSuchNeedle):
        volume.read(lost)
    auditor.check(volume)
    assert volume.recovery.damages == ()
    auditor.check_after_cut(disk.crash(random.Random(1), 0.0))


def test_a_failed_sync_of_the_index_never_turns_a_needle_into_an_absent_one() -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    auditor.put(100)
    auditor.sync()

    def fail(call: str, path: str, offset: int, size: int) -> None:
        if call == "fdatasync" and path.endswith(".idx"):
            raise OSError(errno.EIO, "injected")

    disk.before = fail
    with pytest.raises(WriteFailed, match="index"):
        auditor.volume.checkpoint()
    disk.node(f"{DIRECTORY}/g1.idx").drop_cache(0)  # the kernel may evict its clean pages at any time
    with pytest.raises(ReadFailed, match="not to be trusted"):
        auditor.volume.read(max(auditor.needles))
    disk.before = None
    auditor.check(Volume.open(disk, DIRECTORY))


def test_a_full_disk_refuses_cleanly_and_recovers_when_there_is_room() -> None:
    disk = SimDisk(space=16 * PAGE)
    auditor = Auditor(disk, random.Random(1))
    refused = 0
    for _ in range(60):
        try:
            auditor.put(3000)
            auditor.sync()
        except DiskFull:
            refused += 1
    assert refused > 40
    with pytest.raises(DiskFull):
        auditor.reserve(100_000)
    assert auditor.volume.sealed_cause is None
    auditor.extents.clear()
    auditor.check(auditor.volume)
    auditor.check_after_cut(disk.crash(random.Random(1), 0.0))
    disk.space = 1 << 30
    auditor.put(3000)
    auditor.delete()
    auditor.sync()
    auditor.reopen()


def test_a_full_disk_that_takes_data_but_no_index_loses_nothing() -> None:
    """The index is derived: its entries wait in memory, and a scan finds the needles after a crash."""
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))

    def full(call: str, path: str, offset: int, size: int) -> None:
        if call in ("pwritev", "truncate") and path.endswith(".idx"):
            raise OSError(errno.ENOSPC, "injected")

    disk.before = full
    for _ in range(5):
        auditor.put(500)
        auditor.sync()
    with pytest.raises(DiskFull):
        auditor.checkpoint()
    auditor.check(auditor.volume)
    auditor.check_after_cut(disk.crash(random.Random(1), 0.0))
    auditor.reopen()  # still full: opens all the same
    assert auditor.volume.sealed_cause is None
    disk.before = None
    auditor.checkpoint()
    auditor.check_rebuild(disk.crash(random.Random(1), 0.0), auditor.volume)


def test_a_disk_that_became_read_only_seals_and_still_opens() -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    auditor.put(100)
    auditor.sync()

    def read_only(call: str, path: str, offset: int, size: int) -> None:
        if call not in ("preadv", "open_read_only"):
            raise OSError(errno.EROFS, "injected")

    disk.before = read_only
    with pytest.raises(WriteFailed):
        auditor.put(100)
    assert auditor.volume.sealed_cause == "the disk became read-only"
    auditor.volume.close()
    volume = Volume.open(disk, DIRECTORY)
    assert volume.sealed_cause == "the disk is read-only"
    auditor.check(volume)


def failing_reads(suffix: str, start: int, end: int) -> Callable[[str, str, int, int], None]:
    def fail(call: str, path: str, offset: int, size: int) -> None:
        if call == "preadv" and path.endswith(suffix) and offset < end and start < offset + size:
            raise OSError(errno.EIO, "injected")

    return fail


def test_a_read_error_is_an_error_and_never_absence() -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    for _ in range(3):
        auditor.put(4000)
    auditor.checkpoint()
    reader = auditor.volume.open_needle(max(auditor.needles))
    for suffix in (".vol", ".idx"):
        disk.before = failing_reads(suffix, 0, 1 << 30)
        for needle_id in auditor.needles:
            for call in (auditor.volume.read, auditor.volume.open_needle):
                with pytest.raises(ReadFailed):
                    call(needle_id)
    disk.before = failing_reads(".vol", 0, 1 << 30)
    with pytest.raises(ReadFailed):
        reader.read(0, 100)
    disk.before = None
    auditor.check(auditor.volume)


@pytest.mark.parametrize("is_index_lost", [False, True])
def test_a_bad_sector_costs_the_needles_on_it_and_no_other(is_index_lost: bool) -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    for _ in range(20):
        auditor.put(1500)
    auditor.sync()
    offsets = {i: auditor.volume.find(i) for i in auditor.needles}
    if is_index_lost:
        auditor.volume.close()
        disk.remove(f"{DIRECTORY}/g1.idx")
    start = SUPERBLOCK_SIZE + 3 * PAGE
    disk.before = failing_reads(".vol", start, start + PAGE)
    volume = Volume.open(disk, DIRECTORY)
    assert volume.recovery.damages
    assert volume.sealed_cause is None
    for needle_id, found in offsets.items():
        assert found is not None
        if found.offset + 1700 <= start or found.offset >= start + PAGE:
            assert bytes(volume.read(needle_id).data) == auditor.needles[needle_id].data
        elif not is_index_lost:
            with pytest.raises((ReadFailed, NeedleCorrupt)):
                volume.read(needle_id)
    assert volume.stats().damaged_count == len(volume.recovery.damages)


@pytest.mark.parametrize(
    ("suffix", "start", "end"),
    [(".idx", 0, 100), (".idx", 8192, 8192 + 4096), (".vol", 0, 100), ("manifest", 0, 100)],
)
def test_a_bad_sector_under_what_can_be_restored_costs_nothing(suffix: str, start: int, end: int) -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    for _ in range(5):
        auditor.put(100)
    auditor.checkpoint()
    auditor.delete()
    auditor.put(100)
    auditor.sync()
    reading = failing_reads(suffix, start, end)
    is_remapped = []

    def fail(call: str, path: str, offset: int, size: int) -> None:
        if path.removesuffix(".new").endswith(suffix) and call in ("create", "pwritev"):
            is_remapped.append(call)  # writing to a bad sector makes the drive use another
        if not is_remapped:
            reading(call, path, offset, size)

    disk.before = fail
    volume = Volume.open(disk, DIRECTORY)
    assert is_remapped
    assert volume.sealed_cause is None
    assert volume.recovery.repairs or volume.recovery.rebuilt_because
    auditor.check(volume)


def test_a_lost_index_that_cannot_be_made_anew_leaves_a_volume_to_read_from() -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    for _ in range(5):
        auditor.put(100)
    auditor.sync()
    disk.remove(f"{DIRECTORY}/g1.idx")
    disk.before = Fault("create", 1, errno.ENOSPC)
    volume = Volume.open(disk, DIRECTORY)
    assert "no index can be written" in (volume.sealed_cause or "")
    auditor.check(volume)


def test_uploads_into_a_sealed_volume_end_at_the_next_piece() -> None:
    auditor = Auditor(SimDisk(), random.Random(1))
    auditor.reserve(1000)
    auditor.reserve(1000)
    size = auditor.volume.stats().file_size
    auditor.volume.seal("for the test")
    first, second = auditor.extents.values()
    with pytest.raises(VolumeSealed):
        first.write(b"x")
    first.abort()
    second.abort()
    assert auditor.volume.stats().file_size == size, "a sealed volume is not written to, nor cut"
    assert auditor.volume.stats().in_flight_bytes == 0


def test_cold_data_is_told_from_absent_data() -> None:
    disk = SimDisk()
    auditor = Auditor(disk, random.Random(1))
    auditor.put(300_000)
    auditor.sync()
    needle_id = max(auditor.needles)
    reader = auditor.volume.open_needle(needle_id, nowait=True)
    read_small = partial(auditor.volume.read_small, size_max=300_000)
    disk.is_cold = True
    for call in (auditor.volume.find, auditor.volume.read, auditor.volume.open_needle, read_small):
        with pytest.raises(BlockingIOError):
            call(needle_id, nowait=True)
        call(needle_id)
    with pytest.raises(BlockingIOError):
        reader.read(0, 10, nowait=True)
    assert bytes(reader.read(0, 10)) == auditor.needles[needle_id].data[:10]


def test_the_disk_is_asked_for_all_needles_at_once_and_says_what_is_wrong_when_they_are_read() -> None:
    disk = SimDisk()
    volume = make_volume(disk)
    small, large, absent = [1, 2, 3, 4, 5], 6, 7
    for needle_id in small:
        volume.append(needle_id, METADATA, b"small", stamp=needle_id)
    volume.append(large, METADATA, bytes(READ_AT_ONCE_MAX + 1), stamp=large)
    volume.append(1000, METADATA, b"", stamp=1000)  # so that the first page of the index is whole
    volume.delete(small[0], stamp=2000)
    volume.sync()
    calls: list[tuple[str, str]] = []
    disk.before = lambda call, path, *_: calls.append((call, path.rpartition(".")[2]))

    def hints() -> list[str]:
        volume.start_reading([*small, large, absent])
        found = [kind for call, kind in calls if call == "start_reading"]
        assert ("preadv", "vol") not in calls
        calls.clear()
        return found

    disk.is_cold = True
    assert hints() == ["idx"], "their entries come first"
    volume.find(small[0])  # waits for them
    calls.clear()
    assert hints() == ["vol"] * 4, "the deleted, the large and the absent are left alone"

    def fail(call: str, path: str, *_: int) -> None:
        if call == "preadv":
            raise OSError(errno.EIO, "bad sector")

    disk.before = fail
    volume.start_reading(small)
    with pytest.raises(ReadFailed):
        volume.read(small[1])
