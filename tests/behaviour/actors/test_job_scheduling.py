"""The scheduler of jobs, run against simulated work: whatever is asked for in whatever order, every job ends.

The scheduler and its table are real; the work of the actors and the time are simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from warehouse.actors.control import job_outcomes, job_proposals, job_rates, job_scheduler
from warehouse.actors.control.context import Intervals, MasterContext
from warehouse.actors.control.events import EventLog
from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.fleet_state import CompactorSession, DiskState, VolumeState
from warehouse.actors.control.job_commands import JobCommands
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.job_state import (
    COMPACT,
    OPERATOR,
    PASSED_OVER_MAX,
    POLICY,
    STALLED_S,
    VERIFY,
    JobState,
)
from warehouse.actors.control.reservations import Reservations
from warehouse.actors.control.troubles import Troubles
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.settings import Settings
from warehouse.errors import LinkDown, ReadFailed
from warehouse.storage.format.stamp import StampClock
from warehouse.transport.messages import VolumeReport

VOLUMES = 4
ORIGINS, WORKS = (OPERATOR, POLICY), (COMPACT, VERIFY)
STEPS_MAX = 30


class Writer:
    """Commits at once: what is tested here is not the catalog."""

    def __init__(self, catalog: SqliteCatalog) -> None:
        self._catalog = catalog
        self.delay_s = 0.0

    async def write(self, work: Callable[[Any], Any]) -> Any:
        await trio.sleep(self.delay_s)
        with self._catalog.transaction() as transaction:
            return work(transaction)


class Site:
    """A disk, its volumes, and work that takes a second a step."""

    def __init__(self, catalog: SqliteCatalog, rng: Random) -> None:
        self._rng = rng
        self.steps: dict[tuple[str, int], int] = {}
        self.attempts: Counter[int] = Counter()
        self.running: set[int] = set()
        self.failing = 0.0
        self.hangs = False
        self.error: Exception | None = None
        fleet = Fleet(Reservations(), disk_reserve=0)
        peer: Any = SimpleNamespace(session=None, is_gone=False, request=_unanswered)
        self.disk = fleet.add_disk(DiskState("d", "disk-1", peer=peer, compactor=peer))
        peer.session = CompactorSession(self.disk)
        with catalog.transaction() as transaction:
            transaction.add_disk("d", "disk-1", 1)
            for number in range(1, VOLUMES + 1):
                transaction.add_volume(number, f"u{number}", 1 << 30, "d", created_ms=1)
        for number in range(1, VOLUMES + 1):
            fleet.add_volume(volume_of(number))
        self.writer = Writer(catalog)
        self.context = MasterContext(
            catalog=catalog,
            writer=self.writer,  # type: ignore[arg-type]
            fleet=fleet,
            clock=StampClock(),
            events=(events := EventLog()),
            troubles=Troubles(events),
            settings=Settings(),
            incarnation=1,
            intervals=Intervals(retry=1.0),
        )
        self.scheduler = JobScheduler(self.context)
        self.requests = JobCommands(self.context, self.scheduler)
        self.scheduler._runner = SimpleNamespace(attempt=self.attempt)  # type: ignore[assignment]

    async def attempt(self, job: JobState, volume: VolumeState, peers: object) -> None:
        assert not self.running, "two jobs at once on one disk"
        self.running.add(job.job_id)
        self.attempts[job.job_id] += 1
        job.begin_attempt(now_ms=1)
        place = (job.work, job.volume_id)
        wanted = self.steps.setdefault(place, self._rng.randint(1, STEPS_MAX))
        done = 0 if job.work == COMPACT else volume.verify_offset
        try:
            while done < wanted or self.hangs:
                await trio.sleep(1)
                done += not self.hangs
                job.progress(done, wanted, now=trio.current_time())
                if self._rng.random() < self.failing:
                    raise self.error or (LinkDown("gone") if self._rng.random() < 0.7 else ReadFailed("bad"))
            volume.verify_offset = 0
            job.freed_bytes = self._rng.choice((0, 1))
        finally:
            if job.work == VERIFY and done < wanted:
                volume.verify_offset = done
            self.running.discard(job.job_id)

    async def add(self, work: str, volume_id: int, origin: str) -> JobState:
        (job,) = await self.scheduler.add(work, [self.context.fleet.volumes[volume_id]], origin)
        return job


async def _unanswered(command: object, *, timeout_s: float) -> None:
    raise LinkDown("nothing here answers a cross-check")


def volume_of(number: int) -> VolumeState:
    report = VolumeReport(
        volume_id=number,
        uuid=f"u{number}",
        generation=1,
        capacity=1 << 30,
        file_size=100,
        live_count=1,
        live_bytes=100,
        dead_bytes=0,
        needle_id_max=1,
        stamp_max=1,
        created_ms=1 << 60,  # its verification is never due
    )
    return VolumeState(number, f"u{number}", 1 << 30, "d", True, 2, 100, report=report)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqliteCatalog]:
    catalog = SqliteCatalog.open(tmp_path / "catalog.sqlite3")
    yield catalog
    catalog.close()


@pytest.fixture(autouse=True)
def _simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (job_outcomes, job_proposals, job_rates, job_scheduler):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=trio.current_time))


def simulate(catalog: SqliteCatalog, seed: int, scenario: Callable[[Site, Random], Any]) -> None:
    async def main() -> None:
        rng = Random(seed)
        site = Site(catalog, rng)
        async with trio.open_nursery() as nursery:
            await nursery.start(site.scheduler.run)
            await scenario(site, rng)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def until_over(site: Site, jobs: list[JobState], limit_s: float) -> None:
    with trio.move_on_after(limit_s):
        while not all(job.is_finished for job in jobs):
            await trio.sleep(1)
    left = [(job.work, job.origin, job.state, job.message) for job in jobs if not job.is_finished]
    assert not left, f"after {site.attempts} attempts: {left}"


@pytest.mark.parametrize("seed", range(12))
def test_every_job_of_any_mix_ends_and_starts_no_more_often_than_it_is_passed_over(
    catalog: SqliteCatalog, seed: int
) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        site.failing = rng.choice((0.0, 0.0, 0.02))
        jobs: dict[int, JobState] = {}
        for _ in range(rng.randint(2, 25)):
            job = await site.add(rng.choice(WORKS), rng.randint(1, VOLUMES), rng.choice(ORIGINS))
            jobs[job.job_id] = job
            await trio.sleep(rng.choice((0, 0, 1, 5, 20)))
        await until_over(site, [*jobs.values()], 10_000)
        for job in jobs.values():
            others = job.attempt_count + job.interruption_count
            assert site.attempts[job.job_id] <= 1 + PASSED_OVER_MAX + others, (job.work, job.origin)

    simulate(catalog, seed, scenario)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("work", WORKS)
def test_a_job_gets_its_turn_though_more_urgent_ones_keep_coming(
    catalog: SqliteCatalog, work: str, origin: str
) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        async def keep_coming() -> None:
            while True:
                for volume_id in range(2, VOLUMES + 1):
                    await site.add(COMPACT, volume_id, OPERATOR)
                await trio.sleep(3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_coming)
            await trio.sleep(1)
            await until_over(site, [await site.add(work, 1, origin)], 50 * STEPS_MAX)
            nursery.cancel_scope.cancel()

    simulate(catalog, 1, scenario)


def test_a_verification_by_hand_and_a_compaction_of_the_policy_do_not_interrupt_each_other(
    catalog: SqliteCatalog,
) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        verify = await site.add(VERIFY, 1, OPERATOR)
        await trio.sleep(0.5)
        compact = await site.add(COMPACT, 1, POLICY)
        await until_over(site, [verify, compact], 10 * STEPS_MAX)
        assert site.attempts == {verify.job_id: 1, compact.job_id: 1}

    simulate(catalog, 2, scenario)


def test_a_job_that_hangs_is_told_of_and_makes_trouble_until_it_ends(catalog: SqliteCatalog) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        site.hangs = True
        job = await site.add(COMPACT, 1, OPERATOR)
        await trio.sleep(STALLED_S / 2)
        assert site.context.troubles.listed() == []
        await trio.sleep(STALLED_S)
        events = [
            entry.event for entry in site.context.events.after(0, 100) if entry.event.name == "job_stalled"
        ]
        assert [event.fields["job_id"] for event in events] == [job.job_id]
        assert ("job_stalled", f"job {job.job_id}") in site.context.troubles
        site.hangs = False
        await until_over(site, [job], 10 * STEPS_MAX)
        assert site.context.troubles.listed() == []

    simulate(catalog, 3, scenario)


def test_a_verification_that_failed_is_trouble_until_the_volume_is_read_again(catalog: SqliteCatalog) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        site.failing, site.error = 1.0, ReadFailed("bad")
        failed = await site.add(VERIFY, 1, OPERATOR)
        await until_over(site, [failed], 1000)
        assert failed.state == "failed"
        assert ("volume_unverified", "volume 1") in site.context.troubles
        site.failing = 0.0
        await until_over(site, [await site.add(VERIFY, 1, OPERATOR)], 10 * STEPS_MAX)
        assert site.context.troubles.listed() == []

    simulate(catalog, 5, scenario)


def test_a_job_that_was_cancelled_leaves_its_volume_though_whoever_cancelled_it_has_gone(
    catalog: SqliteCatalog,
) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        site.disk.compactor = None
        job = await site.add(COMPACT, 1, OPERATOR)
        site.writer.delay_s = 5.0
        with trio.move_on_after(1):
            await site.requests.cancel_jobs([job.job_id])
        assert job.state == "cancelled"
        site.disk.compactor = site.disk.peer
        another = await site.add(COMPACT, 1, OPERATOR)
        assert another.job_id != job.job_id
        await until_over(site, [another], 100 * STEPS_MAX)
        assert another.state == "done"

    simulate(catalog, 6, scenario)


def test_an_end_looks_at_the_jobs_of_its_own_disk_alone(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        fleet = site.context.fleet
        for number in range(50):
            fleet.add_disk(DiskState(f"other-{number}", f"other-{number}", peer=site.disk.peer))
        looked_at: Counter[str] = Counter()
        start = site.scheduler._start_on

        def start_on(disk: DiskState) -> None:
            looked_at[disk.disk_id] += 1
            start(disk)

        monkeypatch.setattr(site.scheduler, "_start_on", start_on)
        jobs = [await site.add(COMPACT, number, OPERATOR) for number in range(1, VOLUMES + 1)]
        started_s = trio.current_time()
        await until_over(site, jobs, 10 * STEPS_MAX)
        round_count = (trio.current_time() - started_s) / site.context.intervals.schedule + 2
        assert looked_at["other-1"] <= round_count, "with all disks, now and then"
        assert looked_at["d"] > looked_at["other-1"]

    simulate(catalog, 7, scenario)


def test_a_job_says_what_it_waits_for_and_since_when(catalog: SqliteCatalog) -> None:
    async def scenario(site: Site, rng: Random) -> None:
        site.disk.compactor = None
        job = await site.add(COMPACT, 1, OPERATOR)
        await trio.sleep(10)
        seen = job.seen()
        assert (seen.state, seen.code) == ("queued", "compactor_offline")
        assert seen.wait_since_ms > 0
        await trio.sleep(STALLED_S)
        assert site.scheduler.stalled_count == 1
        await site.requests.pause(True)
        site.disk.compactor = site.disk.peer
        await trio.sleep(10)
        assert (job.code, job.message, site.scheduler.stalled_count) == (None, "jobs are paused", 0)
        await site.requests.pause(False)
        await until_over(site, [job], 10 * STEPS_MAX)

    simulate(catalog, 4, scenario)
