"""Syncs that the kernel does by itself: the same promise, the same errors, whoever waits for them."""

from __future__ import annotations

import errno
import gc
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from auditor import make_volume
from powercut import CutDisk, unavailable
from warehouse.actors.data.fsync import Sync, Syncer, sync_in_thread
from warehouse.errors import StoreError, VolumeSealed, WriteFailed
from warehouse.storage.disk import OsDisk
from warehouse.storage.format.needle import NeedleMetadata, encode_metadata
from warehouse.storage.kernel_sync import IN_FLIGHT_MAX, KernelSync
from warehouse.storage.volume import Volume
from warehouse.storage.writing.appending import NewNeedle

METADATA = NeedleMetadata("photos", 3, "a.jpg", 1_750_000_000_000)
WAIT_MS = 20_000


class CountingKernel(KernelSync):
    count = 0

    def submit(self, fd: int, tag: int) -> None:
        super().submit(fd, tag)
        CountingKernel.count += 1


@pytest.fixture
def kernel() -> Iterator[KernelSync]:
    try:
        kernel = KernelSync()
    except OSError as error:
        pytest.skip(f"this kernel does not sync by itself: {error}")
    yield kernel
    kernel.close()
    kernel.close()  # harmless


def results_of(kernel: KernelSync, count: int) -> dict[int, int]:
    results: dict[int, int] = {}
    poll = select.poll()
    poll.register(kernel.fileno(), select.POLLIN)
    while len(results) < count:
        assert poll.poll(WAIT_MS), f"{len(results)} of {count} results"
        results.update(kernel.take_results())
    return results


def test_a_sync_is_begun_and_its_result_comes(kernel: KernelSync, tmp_path: Path) -> None:
    assert kernel.take_results() == []
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        kernel.submit(file.fileno(), 42)
        assert results_of(kernel, 1) == {42: 0}
    assert kernel.take_results() == []


def test_many_may_be_under_way_and_too_many_are_refused(kernel: KernelSync, tmp_path: Path) -> None:
    begun: list[int] = []
    with (tmp_path / "a").open("wb") as file:
        for tag in range(1000 * IN_FLIGHT_MAX):
            file.write(b"x")
            file.flush()
            try:
                kernel.submit(file.fileno(), tag)
            except BlockingIOError:
                break
            begun.append(tag)
        assert IN_FLIGHT_MAX <= len(begun) < 1000 * IN_FLIGHT_MAX
        assert results_of(kernel, len(begun)) == dict.fromkeys(begun, 0)
        kernel.submit(file.fileno(), 1)  # and there is room again
        assert results_of(kernel, 1) == {1: 0}


def test_what_cannot_be_synced_is_refused(kernel: KernelSync) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            kernel.submit(writer, 1)
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        kernel.submit(writer, 1)


def test_closing_waits_for_what_is_under_way(tmp_path: Path) -> None:
    try:
        kernel = KernelSync()
    except OSError as error:
        pytest.skip(f"this kernel does not sync by itself: {error}")
    with (tmp_path / "a").open("wb") as file:
        file.write(bytes(64 << 20))
        file.flush()
        finished = os.dup(kernel.fileno())
        try:
            kernel.submit(file.fileno(), 1)
            kernel.close()
            assert os.eventfd_read(finished) == 1, "the kernel had told of its end when `close` returned"
        finally:
            os.close(finished)


def test_the_kernel_has_the_file_open_for_itself(tmp_path: Path) -> None:
    """It tells of a failed write once for each time a file is open: nobody may take that from another."""
    file = OsDisk(tmp_path).open("a", create=True)
    handle = file.kernel_handle()
    if handle is None:
        pytest.skip("no file is opened a second time on this system")
    assert handle == file.kernel_handle()
    assert handle != file._fd
    assert os.path.sameopenfile(handle, file._fd)
    file.pwritev([b"x"], 0)
    os.fdatasync(handle)
    file.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(handle)


# --- on a disk that really fails ------------------------------------------------------------------


@pytest.fixture(params=["with a journal", "without"])
def failing_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OsDisk]:
    """A file system that believes to have 64 MB, on 12."""
    if (reason := unavailable()) is not None:
        pytest.skip(reason)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(small)], check=True)
    try:
        options = ("-O", "^has_journal") if request.param == "without" else ()
        with CutDisk(small, image_size=64 << 20, options=options) as disk:
            yield OsDisk(disk.root)
            gc.collect()  # a file is open for as long as the traceback of what failed is there
    finally:
        # Lazily: the loop device lets go of the image when the last to have it is gone, and a process that
        # another test put into a mount namespace of its own has it for as long as it runs.
        subprocess.run(["umount", "--lazy", str(small)], check=True)


async def fill(volume: Volume, sync: Sync) -> None:
    """Append and sync until that fails."""
    for needle_id in range(1, 60):
        new = NewNeedle(needle_id, encode_metadata(METADATA), os.urandom(1 << 20))
        [outcome] = volume.append_many([new], lambda: 1)
        if isinstance(outcome, StoreError):
            raise outcome
        await sync(volume)
    raise AssertionError("59 MB on a disk of 12")


@pytest.mark.root
@pytest.mark.parametrize("way", ["thread", "kernel"])
async def test_a_disk_that_fails_seals_the_volume(
    failing_disk: OsDisk, kernel: KernelSync, nursery: trio.Nursery, way: str
) -> None:
    syncer = Syncer(CountingKernel)
    await nursery.start(syncer.run)
    volume = make_volume(failing_disk)
    CountingKernel.count = 0
    with pytest.raises(WriteFailed):
        await fill(volume, syncer.sync if way == "kernel" else sync_in_thread)
    assert bool(CountingKernel.count) is (way == "kernel")
    assert "sync of the data file failed" in (volume.sealed_cause or "")
    for sync in (syncer.sync, sync_in_thread):
        with pytest.raises(VolumeSealed):
            await sync(volume)
    volume.close()
    nursery.cancel_scope.cancel()


@pytest.mark.root
@pytest.mark.parametrize("failing_disk", ["without"], indirect=True)
def test_a_failed_write_is_told_to_thread_and_kernel_whoever_asks_first(
    failing_disk: OsDisk, kernel: KernelSync
) -> None:
    """Where the failure is the journal's it is told once, and then the whole file system writes no more."""
    file = failing_disk.open("a", create=True)
    handle = file.kernel_handle()
    assert handle is not None
    offset = 0
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        while True:
            file.pwritev([os.urandom(1 << 20)], offset)
            offset += 1 << 20
            file.fdatasync()
    kernel.submit(handle, 1)
    assert results_of(kernel, 1) == {1: errno.ENOSPC}
    file.close()
