"""One contract, two disks: whatever the simulated disk is trusted with must hold on the real one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from simdisk import PAGE, SimDisk
from warehouse.storage.disk import Disk, OsDisk, read_file, read_fully, write_all, write_file


@pytest.fixture(params=["simulated", "real"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return SimDisk() if request.param == "simulated" else OsDisk(tmp_path)


def content(disk: Disk, path: str) -> bytes:
    return read_file(disk, path, 1 << 20)


def test_what_is_written_is_read_at_once(disk: Disk) -> None:
    file = disk.open("a", create=True)
    assert file.pwritev([b"hello ", bytearray(b"wor"), memoryview(b"ld")], 0) == 11
    assert file.pwritev([b"HELLO"], 0) == 5
    first, second = bytearray(6), bytearray(5)
    assert file.preadv([first, second], 0) == 11
    assert (first, second) == (b"HELLO ", b"world")
    assert content(disk, "a") == b"HELLO world"


def test_reads_are_short_at_the_end_and_empty_behind_it(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"12345"], 0)
    buffer = bytearray(10)
    assert read_fully(file, buffer, 2) == 3
    assert buffer == b"345" + bytes(7)
    assert read_fully(file, buffer, 5) == 0
    assert read_fully(file, buffer, 5000) == 0


def test_a_hole_reads_as_zeros(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"x"], 3 * PAGE)
    assert content(disk, "a") == bytes(3 * PAGE) + b"x"


def test_truncate_cuts_and_grows_with_zeros(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"x" * 5000], 0)
    file.truncate(100)
    assert file.size() == 100
    file.truncate(6000)
    assert content(disk, "a") == b"x" * 100 + bytes(5900)


def test_allocate_grows_the_file_and_keeps_its_bytes(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"abc"], 0)
    file.allocate(1, 9999)
    assert file.size() == 10_000
    assert content(disk, "a") == b"abc" + bytes(9997)


def test_punch_makes_zeros_of_whole_pages_and_keeps_the_size(disk: Disk) -> None:
    file = disk.open("a", create=True)
    data = b"x" * (5 * PAGE)
    write_all(file, [data], 0)
    file.punch(PAGE + 10, 3 * PAGE)
    assert file.size() == 5 * PAGE
    found = content(disk, "a")
    assert found in (data, data[: 2 * PAGE] + bytes(2 * PAGE) + data[4 * PAGE :])  # no holes: no change
    file.punch(10, PAGE)  # no whole page in there
    assert content(disk, "a") == found
    assert file.free_bytes() > 0


def test_create_makes_a_file_or_empties_it(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("a")
    assert not disk.exists("a")
    write_all(disk.open("a", create=True), [b"old"], 0)
    assert content(disk, "a") == b"old"
    disk.open("a", create=True)
    assert content(disk, "a") == b""


def test_a_file_opened_read_only_cannot_be_written(disk: Disk) -> None:
    disk.open("a", create=True)
    file = disk.open("a", read_only=True)
    for write in (
        lambda: file.pwritev([b"x"], 0),
        lambda: file.allocate(0, 10),
        lambda: file.truncate(3),
        lambda: file.punch(0, 3 * PAGE),
    ):
        with pytest.raises(OSError):
            write()
    assert file.size() == 0


def test_names_come_and_go(disk: Disk) -> None:
    disk.make_directory("one/two")
    disk.make_directory("one/two")
    for name in ("b", "a"):
        disk.open(f"one/two/{name}", create=True)
    assert disk.list("one/two") == ["a", "b"]
    assert disk.exists("one/two/a")
    disk.remove("one/two/a")
    assert not disk.exists("one/two/a")
    assert not disk.exists("nowhere/at/all")
    for missing in (
        lambda: disk.remove("one/two/a"),
        lambda: disk.list("three"),
        lambda: disk.open("three/a", create=True),
        lambda: disk.replace("one/x", "one/y"),
        lambda: disk.sync_directory("three"),
    ):
        with pytest.raises(FileNotFoundError):
            missing()


def test_replace_puts_the_new_file_in_place_of_the_old(disk: Disk) -> None:
    old = disk.open("a", create=True)
    write_all(old, [b"old"], 0)
    write_all(disk.open("b", create=True), [b"new"], 0)
    disk.replace("b", "a")
    disk.sync_directory("")
    assert disk.list("") == ["a"]
    assert content(disk, "a") == b"new"
    buffer = bytearray(3)
    assert read_fully(old, buffer, 0) == 3
    assert buffer == b"old", "whoever has the old file open goes on reading it"


def test_starting_the_writeback_changes_no_byte(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"x" * 9000], 0)
    for offset, length in ((0, 9000), (1, 8999), (5000, 1), (4096, 0), (8999, 10_000), (50_000, 5)):
        file.start_writeback(offset, length)
    assert content(disk, "a") == b"x" * 9000


def test_what_was_begun_to_be_read_is_read(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"x" * 9000], 0)
    file.fdatasync()
    file.drop_cache(0)
    for offset, length in ((0, 9000), (1, 8999), (5000, 1), (4096, 0), (8999, 10_000), (50_000, 5)):
        file.start_reading(offset, length)
    assert content(disk, "a") == b"x" * 9000


def test_synced_bytes_survive_dropping_the_cache(disk: Disk) -> None:
    file = disk.open("a", create=True)
    write_all(file, [b"x" * 9000], 0)
    file.fdatasync()
    file.drop_cache(0)
    assert content(disk, "a") == b"x" * 9000
    for offset, length in ((0, 9000), (5000, 1), (4096, 0), (8999, 10_000), (50_000, 5)):
        file.drop_cache(offset, length)
    assert content(disk, "a") == b"x" * 9000


def test_small_files_are_replaced_whole(disk: Disk) -> None:
    disk.make_directory("d")
    write_file(disk, "d/m", b"first and longer")
    write_file(disk, "d/m", b"second")
    assert content(disk, "d/m") == b"second"
    assert disk.list("d") == ["m"]


def test_space_is_known(disk: Disk) -> None:
    assert 0 < disk.free_bytes() <= disk.capacity()


# --- what only the simulated disk does ------------------------------------------------------------


def sim_file(disk: SimDisk, data: bytes) -> None:
    file = disk.open("a", create=True)
    write_all(file, [data], 0)
    file.fdatasync()
    disk.sync_directory("")


def test_a_cut_keeps_what_was_synced_and_may_lose_the_rest() -> None:
    disk = SimDisk()
    sim_file(disk, b"a" * 10_000)
    file = disk.open("a")
    write_all(file, [b"b" * 10_000], 5_000)
    lost = disk.crash(random.Random(1), 0.0, tear=False)
    assert content(lost, "a")[:5_000] == b"a" * 5_000
    assert b"b" not in content(lost, "a")
    kept = disk.crash(random.Random(1), 1.0, tear=False)
    assert content(kept, "a") == b"a" * 5_000 + b"b" * 10_000
    seen = {content(disk.crash(random.Random(seed), 0.5), "a") for seed in range(50)}
    assert len(seen) > 20
    for state in seen:
        for start in range(0, len(state), 512):
            assert len(set(state[start : start + 512])) <= 2, "a sector is old, new, or where they meet"


def test_a_cut_may_lose_names_that_were_not_synced() -> None:
    disk = SimDisk()
    sim_file(disk, b"old")
    write_all(disk.open("b", create=True), [b"new"], 0)
    disk.open("b").fdatasync()
    disk.replace("b", "a")
    names = set()
    for seed in range(50):
        after = disk.crash(random.Random(seed), 0.5)
        names.add((tuple(after.list("")), content(after, "a")))
    assert (("a",), b"old") in names
    assert (("a",), b"new") in names
    assert {state for _, state in names} == {b"old", b"new"}


def test_a_failed_sync_forgets_and_the_next_one_succeeds() -> None:
    disk = SimDisk()
    sim_file(disk, b"a" * 5000)
    file = disk.open("a")
    write_all(file, [b"b" * 5000], 0)

    def fail(call: str, path: str, offset: int, size: int) -> None:
        if call == "fdatasync":
            raise OSError(5, "EIO")

    disk.before = fail
    with pytest.raises(OSError, match="EIO"):
        file.fdatasync()
    disk.before = None
    file.fdatasync()  # proves nothing
    assert content(disk, "a") == b"b" * 5000


def test_after_a_failed_sync_the_cache_hides_what_the_platter_has() -> None:
    disk = SimDisk()
    sim_file(disk, b"a" * 5000)
    file = disk.open("a")
    write_all(file, [b"b" * 5000], 0)
    disk.node("a").settle()  # what a failed sync does
    assert content(disk, "a") == b"b" * 5000
    file.drop_cache(0)
    assert content(disk, "a") == b"a" * 5000


def test_a_full_simulated_disk_writes_what_fits() -> None:
    disk = SimDisk(space=2 * PAGE)
    file = disk.open("a", create=True)
    assert file.pwritev([b"x" * 3 * PAGE], 0) == 2 * PAGE
    with pytest.raises(OSError, match="space"):
        file.pwritev([b"x"], 2 * PAGE)
    with pytest.raises(OSError, match="space"):
        file.allocate(0, 3 * PAGE)
    assert file.pwritev([b"y"], 0) == 1
    assert disk.free_bytes() == 0


def test_dropping_a_stretch_of_the_cache_shows_the_platter_there_alone() -> None:
    disk = SimDisk()
    sim_file(disk, b"a" * 4 * PAGE)
    file = disk.open("a")
    write_all(file, [b"b" * 4 * PAGE], 0)
    disk.node("a").settle()  # what a failed sync does
    file.drop_cache(PAGE + 5, 10)
    assert content(disk, "a") == b"b" * PAGE + b"a" * PAGE + b"b" * 2 * PAGE
    file.drop_cache(2 * PAGE - 1, 2)
    assert content(disk, "a") == b"b" * PAGE + b"a" * 2 * PAGE + b"b" * PAGE
