"""Real power cuts under a whole store: everything it acknowledged is there when the power is back.

Master, volume actors, catalog and keys live on one ext4 file system whose power goes at random moments, also
while the store starts.  The clients are on a machine that stays up: some operations in flight are given up at
the cut, the others go on by themselves once the store is back, as they would after a real outage.

Nothing may acknowledge after the cut began, so all processes are frozen first; what was in flight then is open,
and may have happened or not.  The seed is printed; set WAREHOUSE_TEST_SEED to replay its choices (the
interleaving of processes is the machine's).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore
from history import KeyHistory, digest, random_content
from powercut import CutDisk, unavailable
from warehouse import Bucket, Store
from warehouse.errors import NeedleMissing, NoSuchObject, StoreError

REASON = unavailable()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

WRITERS = 8
KEYS_PER_WRITER = 12
CUTS_PER_STORE = 15  # then a new one: nothing compacts it yet, and the image is small
IMAGE_SIZE = 2 << 30  # sparse
SETTINGS = {
    "WAREHOUSE_STORE_DISK_RESERVE": "0",
    "WAREHOUSE_STORE_VOLUME_SIZE": "4GiB",
    "WAREHOUSE_STORE_CHUNK_SIZE": "1MiB",  # so that uploads have chunks on both disks
}
OPERATION_S = 30.0
WHOLE_S = 40.0
DRAIN_S = 0.03  # for answers that were sent before the freeze
START_S = 2.0  # about as long as a start takes
DEFAULT_S = 20.0
CUTS_MIN = 5


@dataclass
class Figures:
    cuts: int = 0
    cuts_in_start: int = 0
    acknowledged: int = 0
    left_open: int = 0
    finished_later: int = 0  # begun before a cut, acknowledged after it
    uploads: int = 0  # acknowledged objects that were too large for a small put

    def __str__(self) -> str:
        return (
            f"{self.cuts} power cuts ({self.cuts_in_start} of them while the store started), "
            f"{self.acknowledged} operations acknowledged ({self.uploads} uploads), {self.left_open} left open "
            f"at a cut ({self.finished_later} of them finished after it)"
        )


@dataclass
class Flight:
    """An operation that has not been answered yet."""

    content: bytes | None
    scope: trio.CancelScope
    was_cut: bool = False


@dataclass
class Writers:
    """Clients that put, overwrite and delete; each has keys of its own and does one thing at a time."""

    bucket: Bucket
    figures: Figures
    histories: dict[str, KeyHistory] = field(default_factory=dict)
    flights: dict[str, Flight] = field(default_factory=dict)
    may_begin: trio.Event = field(default_factory=trio.Event)

    async def run(self, writer: int, rng: random.Random) -> None:
        while True:
            await self.may_begin.wait()
            key = f"{writer}/{rng.randrange(KEYS_PER_WRITER)}"
            content = None if rng.random() < 0.2 else random_content(rng, large_share=0.05)
            await self._operate(key, content)

    async def _operate(self, key: str, content: bytes | None) -> None:
        history = self.histories.setdefault(key, KeyHistory())
        with trio.move_on_after(OPERATION_S) as scope:
            flight = self.flights[key] = Flight(content, scope)
            try:
                if content is None:
                    await self.bucket.delete(key)
                else:
                    await self.bucket.put(key, content)
            except StoreError:
                pass
            else:
                self.figures.acknowledged += 1
                self.figures.finished_later += flight.was_cut
                self.figures.uploads += content is not None and len(content) > 1 << 20
                history.acknowledge(content)
                del self.flights[key]
                return
        if not flight.was_cut:
            history.leave_open(content)
        del self.flights[key]
        await trio.sleep(0.02)

    def take_cut(self, rng: random.Random) -> None:
        """What is in flight is open from now on; some of it is given up.  Nothing new begins."""
        self.may_begin = trio.Event()
        for key, flight in self.flights.items():
            self.histories[key].leave_open(flight.content)
            self.figures.left_open += not flight.was_cut
            flight.was_cut = True
        for flight in list(self.flights.values()):
            if rng.random() < 0.5:
                flight.scope.cancel()

    async def wait_idle(self) -> None:
        with trio.fail_after(OPERATION_S + 10):
            while self.flights:
                await trio.sleep(0.01)


def freeze(store: RunningStore) -> list[int]:
    """Stop the supervisor, so that it starts nobody any more, then its actors; returns all their pids."""
    os.kill(store.pid, signal.SIGSTOP)
    wait_stopped(store.pid)
    pids = [store.pid, *store.pids().values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_stopped(pid)
    return pids


def wait_stopped(pid: int) -> None:
    """Wait until no thread of a process runs: one that waits for a sync stops only after it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        states = set()
        for path in Path(f"/proc/{pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                states.add(path.read_text().rpartition(")")[2].split()[0])
        if states <= set("TtZX"):
            return
        time.sleep(0.0005)
    raise TimeoutError(f"process {pid} does not stop")


async def cut(disk: CutDisk, store: RunningStore, take: Callable[[], None]) -> None:
    pids = freeze(store)
    await trio.sleep(DRAIN_S)
    disk.cut(pids, take)
    store.kill()
    await trio.to_thread.run_sync(disk.remount)


async def cut_in_start(disk: CutDisk, store: RunningStore, figures: Figures, delay_s: float) -> None:
    """A power cut while the store is initialized, or recovers; operations that go on may be answered by then."""

    async def start() -> None:
        with contextlib.suppress(AssertionError, OSError):  # the cut keeps it from being ready
            await trio.to_thread.run_sync(store.start)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        while not store.is_running:
            await trio.sleep(0.001)
        await trio.sleep(delay_s)
        disk.cut(freeze(store), lambda: None)
    store.kill()
    await trio.to_thread.run_sync(disk.remount)
    figures.cuts += 1
    figures.cuts_in_start += 1


@contextlib.contextmanager
def nothing_runs_on(store: RunningStore) -> Iterator[None]:
    """At the end no process of the store is left, in whatever state the test leaves it."""
    try:
        yield
    finally:
        if store.is_running:
            for pid in freeze(store)[1:]:
                os.kill(pid, signal.SIGKILL)
            store.kill()


async def run_cuts(directory: Path, seed: int, figures: Figures, is_enough: Callable[[], bool]) -> None:
    """Stores one after another, each on a new disk and through many cuts, until it is enough."""
    rng = random.Random(seed)
    for number in itertools.count():
        own = directory / f"power-{number}"
        own.mkdir()
        with CutDisk(own, image_size=IMAGE_SIZE) as disk:
            await one_store(disk, own, rng, figures, is_enough)
        if is_enough():
            return


async def one_store(
    disk: CutDisk, directory: Path, rng: random.Random, figures: Figures, is_enough: Callable[[], bool]
) -> None:
    store = RunningStore(disk.root / "store", volumes=2, env=SETTINGS)
    store.log = directory / "store.log"  # the power does not go where it is read
    with nothing_runs_on(store):
        while rng.random() < 0.5:
            await cut_in_start(disk, store, figures, rng.uniform(0, START_S))
        await trio.to_thread.run_sync(store.start)
        async with warehouse.connect(store.profile) as client, trio.open_nursery() as nursery:
            writers = Writers(await client.create_bucket("cuts"), figures)
            for writer in range(WRITERS):
                nursery.start_soon(writers.run, writer, random.Random(rng.random()))
            for _ in range(CUTS_PER_STORE):
                await one_cut(disk, store, client, writers, rng)
                if is_enough():
                    break
            nursery.cancel_scope.cancel()
        assert store.stop() == 0
        store.start()
        async with warehouse.connect(store.profile) as client:
            await verify(client.bucket("cuts"), writers.histories)
        assert store.stop() == 0


async def one_cut(
    disk: CutDisk, store: RunningStore, client: Store, writers: Writers, rng: random.Random
) -> None:
    writers.may_begin.set()
    await trio.sleep(rng.uniform(0.05, 1.2))
    await cut(disk, store, lambda: writers.take_cut(rng))
    writers.figures.cuts += 1
    while rng.random() < 0.2:
        await cut_in_start(disk, store, writers.figures, rng.uniform(0, START_S))
    await trio.to_thread.run_sync(store.start)
    await wait_whole(client)
    await writers.wait_idle()
    await verify(writers.bucket, writers.histories)
    require_no_complaints(store)


async def wait_whole(client: Store) -> None:
    """Wait until both disks are online; neither may report damage."""
    with trio.fail_after(WHOLE_S):
        while True:
            status = await client.status()
            if len(status.disks) == 2 and all(disk.is_online for disk in status.disks):
                break
            await trio.sleep(0.02)
    reports = [volume.report for disk in status.disks for volume in disk.volumes]
    assert not any(report.damaged_count or report.sealed_cause for report in reports), reports


async def verify(bucket: Bucket, histories: dict[str, KeyHistory]) -> None:
    """Every key is what it may be, and stays that from now on; list and get agree."""
    sizes = {entry.key: entry.size async for entry in bucket.list()}
    for key, history in histories.items():
        try:
            content: bytes | None = await bucket.get(key)
        except NoSuchObject:
            content = None
        size = None if content is None else len(content)
        assert history.allows(content), f"{key} has size {size}, which was never written or was replaced"
        assert sizes.pop(key, None) == size, f"list and get disagree about {key}"
        history.possible = {digest(content)}  # what was seen once must not change by itself
    assert not sizes, f"keys that nobody wrote: {sizes}"


def require_no_complaints(store: RunningStore) -> None:
    """A power cut is no damage: no actor may log an error or die.

    But a volume whose creation was cut short is told of as an error, before the master has it made anew.
    """
    lines = store.log.read_text().splitlines()
    bad = [line for line in lines if '"level":"error"' in line.replace(" ", "") or "Traceback" in line]
    bad = [line for line in bad if "its creation was interrupted" not in line]
    assert not bad, "\n".join(bad[:10])


async def cut_for(directory: Path, limit_s: float, is_enough: Callable[[Figures], bool]) -> None:
    seed = int(os.environ.get("WAREHOUSE_TEST_SEED", random.randrange(2**32)))
    print(f"WAREHOUSE_TEST_SEED={seed}")
    figures = Figures()
    try:
        with trio.fail_after(limit_s):
            await run_cuts(directory, seed, figures, lambda: is_enough(figures))
    finally:
        print(figures)
    print("none lost or wrong")
    assert figures.acknowledged > figures.cuts * 10, (
        "hardly anything was acknowledged: it would prove nothing"
    )
    return figures  # type: ignore[return-value]


@pytest.mark.timeout(300)
async def test_acknowledged_operations_survive_power_cuts(tmp_path: Path) -> None:
    until = time.monotonic() + DEFAULT_S
    await cut_for(tmp_path, 180, lambda figures: figures.cuts >= CUTS_MIN and time.monotonic() > until)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_acknowledged_operations_survive_300_power_cuts(tmp_path: Path) -> None:
    await cut_for(tmp_path, 3400, lambda figures: figures.cuts >= 300)


async def test_a_store_that_does_not_sync_is_convicted(tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    directory = tmp_path / "power"
    directory.mkdir()
    with CutDisk(directory, image_size=IMAGE_SIZE) as disk:
        env = SETTINGS | {"WAREHOUSE_STORE_DURABILITY": "os"}
        store = RunningStore(disk.root / "store", volumes=2, env=env)
        store.log = directory / "store.log"
        with nothing_runs_on(store):
            store.start()
            async with warehouse.connect(store.profile) as client:
                bucket = await client.create_bucket("cuts")
                histories = {str(number): KeyHistory() for number in range(20)}
                for key, history in histories.items():
                    await bucket.put(key, key.encode() * 1000)
                    history.acknowledge(key.encode() * 1000)
                await cut(disk, store, lambda: None)
                await trio.to_thread.run_sync(store.start)
                await wait_whole(client)
                with pytest.raises(NeedleMissing):
                    await verify(bucket, histories)
