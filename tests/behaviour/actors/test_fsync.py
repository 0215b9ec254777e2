"""The syncer: a volume is durable when it says so, whoever else syncs it, and whoever gives up waiting."""

from __future__ import annotations

import errno
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from warehouse.actors.data.fsync import Syncer
from warehouse.errors import StoreError, VolumeSealed, WriteFailed
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.generation_switch import GenerationSwitch
from warehouse.storage.disk import OsDisk, OsFile
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.kernel_sync import KernelSync
from warehouse.storage.volume import Volume


def refuse() -> KernelSync:
    raise OSError(errno.ENOSYS, "not here")


class SlowKernel(KernelSync):
    """Its results are there when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self.is_full = False
        self.code = 0
        self.submitted = 0
        self._held: list[tuple[int, int]] = []

    def submit(self, fd: int, tag: int) -> None:
        if self.is_full:
            raise OSError(errno.EAGAIN, "too many")
        self.submitted += 1
        super().submit(fd, tag)

    def take_results(self) -> list[tuple[int, int]]:
        self._held += [(tag, self.code or code) for tag, code in super().take_results()]
        if self.is_slow:
            return []
        results, self._held = self._held, []
        return results


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.kernel: SlowKernel | None = SlowKernel()
        except OSError:
            self.kernel = None
        self.syncer = Syncer(self.open_kernel)
        self.volumes = [self.make(number) for number in (1, 2, 3)]
        self.volume = self.volumes[0]
        self._last_id = 0

    def open_kernel(self) -> KernelSync:
        return self.kernel or refuse()

    def make(self, number: int) -> Volume:
        return Volume.create(
            OsDisk(self.folder),
            f"volumes/{number}",
            volume_id=number,
            uuid=str(uuid.uuid4()),
            capacity=2**20,
            created_ms=0,
        )

    def put(self, volume: Volume | None = None) -> int:
        self._last_id += 1
        metadata = NeedleMetadata("b", 1, f"key-{self._last_id}", 0)
        (volume or self.volume).append(self._last_id, metadata, b"data", stamp=self._last_id)
        return self._last_id

    async def begin(self, nursery: trio.Nursery) -> SlowKernel:
        """Have a sync begun that does not end before `let_end`."""
        if self.kernel is None:
            pytest.skip("this kernel does not sync by itself")
        self.kernel.is_slow = True
        nursery.start_soon(self.syncer.sync, self.volume)
        await trio.sleep(0.05)
        assert self.kernel.submitted == 1
        return self.kernel

    async def let_end(self) -> None:
        """One more sync, of another volume: its result brings the others along."""
        assert self.kernel is not None
        self.kernel.is_slow = False
        self.put(self.volumes[1])
        await self.syncer.sync(self.volumes[1])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.syncer.run)
        yield bench
        nursery.cancel_scope.cancel()
    for volume in bench.volumes:
        volume.close()


def durable_size(volume: Volume) -> int:
    return volume._state.durable


async def test_volumes_are_synced_side_by_side(bench: Bench) -> None:
    for _ in range(20):
        for volume in bench.volumes:
            bench.put(volume)
        async with trio.open_nursery() as nursery:
            for volume in bench.volumes:
                nursery.start_soon(bench.syncer.sync, volume)
        for volume in bench.volumes:
            assert durable_size(volume) == volume.stats().file_size
    if bench.kernel is not None:
        assert bench.kernel.submitted == 60


async def test_without_such_a_kernel_threads_do_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    syncer = Syncer(refuse)
    async with trio.open_nursery() as nursery:
        await nursery.start(syncer.run)
        bench.put()
        await syncer.sync(bench.volume)
        assert durable_size(bench.volume) == bench.volume.stats().file_size
    if bench.kernel is not None:
        bench.kernel.close()
    for volume in bench.volumes:
        volume.close()


async def test_what_the_kernel_does_not_take_a_thread_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bench.kernel is not None:
        bench.kernel.is_full = True
    bench.put()
    await bench.syncer.sync(bench.volume)
    assert durable_size(bench.volume) == bench.volume.stats().file_size
    monkeypatch.setattr(OsFile, "kernel_handle", lambda self: None)
    bench.put()
    await bench.syncer.sync(bench.volume)
    assert durable_size(bench.volume) == bench.volume.stats().file_size


async def test_what_comes_while_the_kernel_syncs_is_not_promised_with_it(bench: Bench) -> None:
    bench.put()
    before = bench.volume.stats().file_size
    async with trio.open_nursery() as nursery:
        await bench.begin(nursery)
        bench.put()
        await bench.let_end()
    assert durable_size(bench.volume) == before
    await bench.syncer.sync(bench.volume)
    assert durable_size(bench.volume) == bench.volume.stats().file_size


@pytest.mark.parametrize("other", [Volume.sync, Volume.checkpoint])
async def test_another_sync_meanwhile_takes_its_entries_along(
    bench: Bench, other: Callable[[Volume], None]
) -> None:
    first = bench.put()
    async with trio.open_nursery() as nursery:
        await bench.begin(nursery)
        second = bench.put()
        await trio.to_thread.run_sync(other, bench.volume)
        assert durable_size(bench.volume) == bench.volume.stats().file_size
        await bench.let_end()
    for needle_id in (first, second):
        assert bytes(bench.volume.read(needle_id).data) == b"data"
    index = bench.volume._state.generation.entries
    assert index.pending_count == 0


async def test_a_failure_of_another_sync_meanwhile_is_a_failure_of_this_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put()

    def fail(file: OsFile) -> None:
        raise OSError(errno.EIO, "injected")

    outcomes: list[str] = []

    async def sync() -> None:
        try:
            await bench.syncer.sync(bench.volume)
        except StoreError as error:
            outcomes.append(error.code)

    if bench.kernel is None:
        pytest.skip("this kernel does not sync by itself")
    bench.kernel.is_slow = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        await trio.sleep(0.05)
        with monkeypatch.context() as patch:
            patch.setattr(OsFile, "fdatasync", fail)
            with pytest.raises(WriteFailed):
                await trio.to_thread.run_sync(bench.volume.sync)
        await bench.let_end()
    assert outcomes == [VolumeSealed.code]


async def test_an_error_that_the_kernel_tells_seals_the_volume(bench: Bench) -> None:
    if bench.kernel is None:
        pytest.skip("this kernel does not sync by itself")
    bench.put()
    bench.kernel.code = errno.EIO
    with pytest.raises(WriteFailed, match="Input/output error"):
        await bench.syncer.sync(bench.volume)
    assert bench.volume.sealed_cause is not None
    with pytest.raises(VolumeSealed):
        bench.put()
    bench.kernel.code = 0
    with pytest.raises(VolumeSealed):
        await bench.syncer.sync(bench.volume)


async def test_who_gives_up_waiting_leaves_a_volume_that_can_be_synced_and_closed(bench: Bench) -> None:
    bench.put()
    async with trio.open_nursery() as nursery:
        kernel = await bench.begin(nursery)
        nursery.cancel_scope.cancel()
    kernel.is_slow = False
    await bench.syncer.sync(bench.volume)  # a whole one: half of the other is still there
    assert durable_size(bench.volume) == bench.volume.stats().file_size
    bench.put()
    async with trio.open_nursery() as nursery:
        kernel.is_slow = True
        nursery.start_soon(bench.syncer.sync, bench.volume)
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    bench.volume.close()
    volume = Volume.open(OsDisk(bench.folder), "volumes/1")
    assert volume.recovery.rebuilt_because is None
    assert volume.stats().live_count == 2
    volume.close()


async def test_an_error_of_a_generation_that_does_not_count_any_more_seals_nothing(bench: Bench) -> None:
    """A switch came in between, which has made everything durable in the next one."""
    needle_id = bench.put()
    async with trio.open_nursery() as nursery:
        if bench.kernel is not None:
            bench.kernel.code = errno.EIO
        kernel = await bench.begin(nursery)
        kernel.code = 0
        volume, disk = bench.volume, OsDisk(bench.folder)
        copy = Copy(
            disk,
            volume.directory,
            uuid=volume.uuid,
            generation=volume.generation,
            end_offset=volume.begin_compaction(),
            horizon=0,
        )
        while copy.step():
            pass
        copy.close()
        GenerationSwitch(volume, disk, generation=copy.generation, end_offset=copy.end_offset).switch()
        await bench.let_end()
    assert volume.sealed_cause is None
    assert volume.generation == 2
    assert bytes(volume.read(needle_id).data) == b"data"
