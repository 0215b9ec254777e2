"""The operating system's disk, where it is more than the contract that it shares with the simulated one."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import time
from pathlib import Path

import pytest

import warehouse.storage.disk
from warehouse.storage.disk import ClosedFile, OsDisk, OsFile, write_all


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.make_directory("volumes/1")
    disk.open("volumes/1/g1.vol", create=True)
    assert (tmp_path / "volumes/1").stat().st_mode & 0o077 == 0
    assert (tmp_path / "volumes/1/g1.vol").stat().st_mode & 0o077 == 0


def test_a_file_closes_with_its_last_reference(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    file = disk.open("a", create=True)
    other = file
    del file
    other.pwritev([b"x"], 0)
    del other
    after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    assert after == before


def test_closing_twice_closes_nobody_elses_descriptor(tmp_path: Path) -> None:
    file = OsDisk(tmp_path).open("a", create=True)
    file.close()
    other = os.open(tmp_path / "b", os.O_CREAT | os.O_RDWR)
    file.close()
    del file
    os.fstat(other)
    os.close(other)


def test_a_file_system_that_cannot_tell_counts_as_cold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = OsDisk(tmp_path).open("a", create=True)

    def unsupported(fd: int, buffers: object, offset: int, flags: int = 0) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "preadv", unsupported)
    with pytest.raises(BlockingIOError):
        file.preadv([bytearray(1)], 0, nowait=True)


def test_other_read_errors_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OsDisk(tmp_path).open("a", create=True)

    def failing(fd: int, buffers: object, offset: int, flags: int = 0) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", failing)
    for nowait in (False, True):
        with pytest.raises(OSError, match="Input/output"):
            file.preadv([bytearray(1)], 0, nowait=nowait)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_allocate_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    file = OsDisk(tmp_path).open("a", create=True)

    def unsupported(fd: int, offset: int, length: int) -> None:
        raise OSError(code, "unsupported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    file.allocate(0, 100)
    assert file.size() in (0, 100)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO])
def test_a_file_system_that_makes_no_holes_is_no_error_and_a_failing_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    file = OsDisk(tmp_path).open("a", create=True)
    file.pwritev([b"x" * 20_000], 0)

    def refuse(*arguments: int) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(warehouse.storage.disk, "_fallocate", refuse)
    if code == errno.EIO:
        with pytest.raises(OSError):
            file.punch(0, 20_000)
    else:
        file.punch(0, 20_000)
    monkeypatch.setattr(warehouse.storage.disk, "_fallocate", None)  # no such call at all
    file.punch(0, 20_000)
    assert file.size() == 20_000


class Dribble(OsFile):
    """Writes a few bytes at a time, then none."""

    budget = 20

    def pwritev(self, buffers: object, offset: int) -> int:
        step = min(3, self.budget)
        self.budget -= step
        data = b"".join(bytes(buffer) for buffer in buffers)  # type: ignore[attr-defined]
        return super().pwritev([data[:step]], offset) if step else 0


def test_short_writes_go_on_and_a_write_of_nothing_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
    file = Dribble(fd, "a")
    write_all(file, [b"hello ", b"", b"world"], 2)
    assert (tmp_path / "a").read_bytes() == b"\0\0hello world"
    with pytest.raises(OSError, match="wrote none"):
        write_all(file, [b"more than the budget"], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_the_disk_brings_what_it_was_told_of(tmp_path: Path) -> None:
    """A look with `mincore`: a read, even one that does not wait, would bring it by itself."""
    file = OsDisk(tmp_path).open("a", create=True)
    write_all(file, [os.urandom(1 << 20)], 0)
    file.fdatasync()
    pages = (ctypes.c_ubyte * ((1 << 20) // mmap.PAGESIZE))()
    with (tmp_path / "a").open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        start = ctypes.addressof(ctypes.c_ubyte.from_buffer(mapped))

        def is_in_memory(page: int) -> bool:
            size = ctypes.c_size_t(1 << 20)
            assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), size, pages) == 0
            return bool(pages[page] & 1)

        file.drop_cache(0)
        if is_in_memory(128):
            pytest.skip("this file system keeps what it is told to forget")
        file.start_reading(128 * mmap.PAGESIZE + 5, 5000)
        deadline = time.monotonic() + 10
        while not (is_in_memory(128) and is_in_memory(129)):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert not is_in_memory(0)


def test_a_closed_file_refuses_everything() -> None:
    file = ClosedFile()
    for call in (
        lambda: file.preadv([bytearray(1)], 0),
        lambda: file.pwritev([b"x"], 0),
        file.fdatasync,
        lambda: file.start_writeback(0, 1),
        lambda: file.allocate(0, 1),
        lambda: file.truncate(0),
        file.size,
        lambda: file.drop_cache(0),
    ):
        with pytest.raises(OSError, match="closed"):
            call()
    file.start_reading(0, 1)  # a hint
    file.close()
