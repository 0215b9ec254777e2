"""JobScheduler: when volumes are compacted and verified, by whom it is asked for, and how fast it goes.

One task looks again and again at what every disk could do next: jobs that operators asked for, and those
that the policy proposes.  At most one runs on a disk.  A job is in the catalog until it is over, so a
restart of the master starts what was not finished again.

What jobs are is in `jobs`, which ones the policy wants in `policy`, what one attempt does in `runs`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable

import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.cross_check import CrossCheck
from warehouse.actors.control.damage import DamageRegistry
from warehouse.actors.control.disk_troubles import SealedVolumes
from warehouse.actors.control.fleet import DiskState, VolumeState
from warehouse.actors.control.job_policy import (
    BARRED_S,
    DiskFacts,
    VolumeFacts,
    barred_until,
    is_wasteful,
    volume_to_compact,
    volume_to_verify,
)
from warehouse.actors.control.job_runner import JobPeers, JobRunner
from warehouse.actors.control.job_table import (
    COMPACT,
    OPERATOR,
    PAUSED,
    POLICY,
    TURN,
    VERIFY,
    JobState,
    JobTable,
)
from warehouse.actors.control.rate_policy import RatePolicy, full_rate, spread_rate
from warehouse.catalog.records import JobRow
from warehouse.errors import (
    BadRequest,
    CompactorOffline,
    DiskFull,
    LinkDown,
    NoRoomToCompact,
    NoSuchVolume,
    StaleIncarnation,
    StoreError,
    VolumeBusy,
    VolumeOffline,
    VolumeSealed,
)
from warehouse.transport.messages import DiskReport, Job, Jobs, LeftAlone
from warehouse.transport.messages.paging import fitting

log = logging.getLogger(__name__)

IS_PAUSED = "is_paused"  # fact
LEFT_ALONE_MAX = 1000  # told of in one answer
NAMED_MAX = 10_000  # volumes or jobs in one request
CANCEL_WAIT_S = 15.0  # for the files of a cancelled copy to be gone
PRESSED_RESERVES = 2  # room is short when less than this many reserves of the disk are free

# Someone went away or is busy, which is nobody's failure: the job waits for them, however often.
INTERRUPTIONS = (LinkDown, StaleIncarnation, VolumeOffline, CompactorOffline, VolumeSealed, VolumeBusy)
# Trying again in a moment would find the same.
HOPELESS = (NoRoomToCompact, DiskFull)


class JobScheduler:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._table = JobTable(retry_s=context.intervals.retry)
        self._damages = DamageRegistry(context)
        self._cross_check = CrossCheck(context, damages=self._damages)
        self._runner = JobRunner(
            context,
            damages=self._damages,
            cross_check=self._cross_check,
            rate=self._rate,
        )
        self._paces: dict[str, RatePolicy] = {}
        self._sealed = SealedVolumes(context.events)
        self._scopes: dict[int, trio.CancelScope] = {}  # of jobs that run
        self._ends: dict[int, trio.Event] = {}  # of jobs that somebody waits for
        self._cancelled: set[int] = set()
        self._wanted = trio.Event()
        self._changed: set[str] = set()  # disks on which something should be done next, perhaps
        self._nursery: trio.Nursery | None = None
        self.is_paused = False

    # --- life -------------------------------------------------------------------------------------

    def load(self) -> list[JobRow]:
        """Take over what the catalog remembers; return jobs of volumes that there are no more."""
        catalog = self._context.catalog
        self.is_paused = bool(catalog.meta(IS_PAUSED, 0))
        self._damages.load()
        lost = []
        for row in catalog.jobs():
            volume = self._context.fleet.volumes.get(row.volume_id)
            if volume is None:
                lost.append(row)
            else:
                self._table.add(self._job(row.id, row.work, volume, row.origin, row.created_ms))
        return lost

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        lost = self.load()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._damages.run)
            nursery.start_soon(self._cross_check.run)
            nursery.start_soon(self._schedule_forever)
            for row in lost:
                nursery.start_soon(self._forget, row.id)
            task_status.started()

    # --- what is heard of disks -------------------------------------------------------------------

    def disk_came(self, disk: DiskState) -> None:
        self._paces[disk.disk_id] = RatePolicy()
        self._cross_check.disk_came(disk.disk_id)
        self._sealed.tell(disk, disk.volumes.values())
        self._want(disk.disk_id)

    def compactor_came(self, disk: DiskState) -> None:
        self._want(disk.disk_id)

    def reported(self, disk: DiskState, report: DiskReport) -> None:
        self._paces.setdefault(disk.disk_id, RatePolicy()).heard(report.request_count, now=time.monotonic())
        if report.damages:
            self._damages.note(damage for damage in report.damages if damage.volume_id in disk.volumes)
        self._sealed.tell(
            disk, [volume for named in report.volumes if (volume := disk.volumes.get(named.volume_id))]
        )

    # --- what operators ask for -------------------------------------------------------------------

    async def start_jobs(
        self, work: str, volume_ids: Iterable[int], *, is_all: bool, is_forced: bool = False
    ) -> Jobs:
        """
        Args:
            is_forced: compact also those of all volumes that would give next to nothing back.
        Raises:
            BadRequest: no such work, no volumes, or too many.
            NoSuchVolume: one of them is not known; nothing was started.
        """
        if work not in (COMPACT, VERIFY):
            raise BadRequest(f"a job is to {COMPACT!r} or to {VERIFY!r}, not to {work!r}")
        known = self._context.fleet.volumes
        wanted = [volume.volume_id for volume in known.values() if volume.is_created] if is_all else []
        named = {*volume_ids}
        wanted = sorted({*wanted, *named})
        if not is_all and not 1 <= len(wanted) <= NAMED_MAX:
            raise BadRequest(f"name 1 to {NAMED_MAX} volumes, or ask for all")
        for volume_id in wanted:
            if volume_id not in known or not known[volume_id].is_created:
                raise NoSuchVolume(f"there is no volume {volume_id}; `warehouse volumes` lists all")
        forced = {volume_id for volume_id in wanted if is_forced or volume_id in named}
        jobs = await self._add(work, [known[volume_id] for volume_id in wanted], OPERATOR, forced)
        return self._answer([job.seen() for job in jobs])

    async def _add(
        self, work: str, volumes: list[VolumeState], origin: str, forced: Collection[int] | None = None
    ) -> list[JobState]:
        """
        Args:
            forced: volumes to compact however little that gives back; None: all of them.
        """
        for (
            volume
        ) in volumes:  # a job that is over and not forgotten yet would be taken for the one to wait for
            ending = self._table.unfinished_of(work, volume.volume_id)
            if ending is not None and ending.is_finished:
                await self._ends.setdefault(ending.job_id, trio.Event()).wait()
        created_ms = now_ms()
        job_ids = await self._context.writer.write(
            lambda t: [t.add_job(work, volume.volume_id, origin, created_ms) for volume in volumes]
        )
        jobs = []
        for job_id, volume in zip(job_ids, volumes, strict=True):
            job = self._table.unfinished_of(work, volume.volume_id)
            if job is None or job.job_id != job_id:
                job = self._job(job_id, work, volume, origin, created_ms)
                job.is_forced = forced is None or volume.volume_id in forced
                self._table.add(job)
            elif forced is None or volume.volume_id in forced:
                job.is_forced = True
            if origin == OPERATOR:
                job.origin = origin  # whoever waits for it gets the full pace, and the place in the queue
            jobs.append(job)
        self._look({volume.disk_id for volume in volumes})
        return jobs

    def _job(self, job_id: int, work: str, volume: VolumeState, origin: str, created_ms: int) -> JobState:
        disk = self._context.fleet.disks[volume.disk_id]
        return JobState(job_id, work, volume.volume_id, disk.disk_id, disk.name, origin, created_ms)

    def list_jobs(self, job_ids: list[int]) -> Jobs:
        """
        Raises:
            NoSuchJob: one of them is not known (any more).
        """
        _require_few(job_ids)
        return self._answer(self._table.listed(job_ids))

    async def cancel_jobs(self, job_ids: list[int]) -> Jobs:
        """End jobs that are not over, and wait until their copies are removed, for a while.

        Raises:
            NoSuchJob: one of them is not known; nothing was cancelled.
        """
        _require_few(job_ids)
        jobs = [self._table.job(job_id) for job_id in job_ids]
        ends = []
        for job in jobs:
            if job.is_finished:
                continue
            ends.append(self._ends.setdefault(job.job_id, trio.Event()))
            self._cancelled.add(job.job_id)
            if job.job_id in self._scopes:
                self._scopes[job.job_id].cancel()
            else:
                await self._end_cancelled(job)
        with trio.move_on_after(CANCEL_WAIT_S):
            for end in ends:
                await end.wait()
        return self._answer([job.seen() for job in jobs])

    def orphans_decided(self, *, may_drop: bool) -> None:
        """See `DecideOrphans`."""
        self._cross_check.decided(may_drop=may_drop)

    async def pause(self, is_paused: bool) -> Jobs:
        """Hold everything, or let it go on; jobs that run hold where they are."""
        await self._context.writer.write(lambda t: t.set_meta(IS_PAUSED, int(is_paused)))
        if is_paused != self.is_paused:
            self.is_paused = is_paused
            self._context.events.record("jobs_paused" if is_paused else "jobs_resumed")
            log.info("jobs paused" if is_paused else "jobs resumed")
        self._look(self._context.fleet.disks)
        return self._answer(self._table.listed())

    def _answer(self, jobs: list[Job]) -> Jobs:
        count = fitting(jobs)
        rest = [job.job_id for job in jobs[count:]]
        return Jobs(jobs=jobs[:count], is_paused=self.is_paused, rest=rest)

    # --- what should be done next -----------------------------------------------------------------

    def _want(self, disk_id: str) -> None:
        self._changed.add(disk_id)
        self._wanted.set()

    def _look(self, disk_ids: Iterable[str]) -> None:
        """Something changed on these disks: say what each job there waits for, start what can be started."""
        for disk_id in disk_ids:
            self._start_on(self._context.fleet.disks[disk_id])
            self._want(disk_id)

    async def _schedule_forever(self) -> None:
        """Look at the disks on which something has changed, and now and then at all of them.

        A store of 20,000 volumes may have a job for each, which end one after the other: what an end costs
        must not depend on the jobs of other disks.
        """
        look_at = trio.current_time()
        while True:
            is_due = trio.current_time() >= look_at
            changed, self._changed, self._wanted = self._changed, set(), trio.Event()
            disks, is_refused = self._context.fleet.disks, False
            for disk in [*disks.values()] if is_due else [disks[disk_id] for disk_id in changed]:
                try:
                    if not is_refused:
                        await self._propose(disk)
                except StoreError as error:  # the catalog takes none: the next disk's would fare no better
                    is_refused = True
                    log.warning("no job added", extra={"disk": disk.name, "cause": error.message})
                self._start_on(disk)
                if is_due:
                    self._look_for_stalls(disk)
                await trio.lowlevel.checkpoint()
            if is_due:
                look_at = trio.current_time() + self._context.intervals.schedule
            with trio.CancelScope(deadline=look_at):
                await self._wanted.wait()

    async def _propose(self, disk: DiskState) -> None:
        """Have the policy add a job for a disk where it wants one and none of that work is queued."""
        if self.is_paused or not disk.is_online or disk.compactor is None or disk.is_read_only:
            return
        unfinished = self._table.unfinished_on(disk.disk_id)
        # One that waits for an operator (a sealed volume) must not keep the others from their turn.
        works = {job.work for job in unfinished if self._obstacle(job) is None}
        if {COMPACT, VERIFY} <= works:
            return
        now = time.monotonic()
        facts = self._facts(disk)
        if COMPACT not in works:
            wanted = volume_to_compact(
                facts, self._context.settings.compaction, bars=self._table.bars(COMPACT), now=now
            )
            if wanted is not None:
                await self._add(COMPACT, [disk.volumes[wanted]], POLICY)
        if VERIFY not in works:
            bars = self._table.bars(VERIFY)
            barred = {
                volume_id
                for volume_id in disk.volumes
                if (bar := bars.get(volume_id)) is not None and now < bar.at + BARRED_S
            }
            wanted = volume_to_verify(
                facts, self._context.settings.verification, now_ms=now_ms(), barred=barred
            )
            if wanted is not None:
                await self._add(VERIFY, [disk.volumes[wanted]], POLICY)

    def _facts(self, disk: DiskState) -> DiskFacts:
        fleet, reserve = self._context.fleet, self._context.settings.store.disk_reserve
        has_room = any(fleet.room(volume) > 0 for volume in disk.volumes.values())
        return DiskFacts(
            free=disk.free,
            is_pressed=disk.free < PRESSED_RESERVES * reserve or not has_room,
            volumes=[
                VolumeFacts(
                    volume_id=volume.volume_id,
                    file_size=volume.report.file_size,
                    live_bytes=volume.report.live_bytes,
                    dead_bytes=volume.report.dead_bytes,
                    kept_bytes=volume.report.kept_bytes,
                    is_sealed=volume.report.sealed_cause is not None,
                    checked_ms=volume.checked_ms,
                    live_count=volume.report.live_count,
                    dead_count=volume.report.dead_count,
                    needle_id_max=volume.report.needle_id_max,
                )
                for volume in disk.volumes.values()
                if volume.report is not None
            ],
        )

    def _look_for_stalls(self, disk: DiskState) -> None:
        """Tell of a disk's jobs that do not progress, each once until it does."""
        now = time.monotonic()
        for job in self._table.unfinished_on(disk.disk_id):
            was_stalled = job.is_stalled
            waits_its_turn = not job.is_running and self._obstacle(job) is None and job.not_before <= now
            job.look_for_progress(now=now, is_excused=self.is_paused or waits_its_turn)
            if job.is_stalled:
                why = job.message or f"it is {job.state} and comes no further"
                self._context.troubles.tell(
                    "job_stalled",
                    f"job {job.job_id}",
                    f"the {job.noun} of volume {job.volume_id} has made no progress for minutes: {why}",
                    job_id=job.job_id,
                    volume_id=job.volume_id,
                    disk=job.disk_name,
                    state=job.state,
                )
            elif was_stalled:
                self._context.troubles.over("job_stalled", f"job {job.job_id}")

    @property
    def stalled_count(self) -> int:
        return sum(job.is_stalled for job in self._table.unfinished)

    def _start_on(self, disk: DiskState) -> None:
        """Say what each queued job of a disk waits for; start the first that can run, if none does.

        What runs and what waits is judged by one order, so a job that yields is not started again before
        the one it yielded to.
        """
        now, wall_ms = time.monotonic(), now_ms()
        running, has_started = self._table.running_on(disk.disk_id), False
        for job in self._table.waiting_on(disk.disk_id):
            if job.job_id in self._scopes:
                continue  # its last attempt is still being cleaned up
            if (obstacle := self._obstacle(job)) is not None:
                job.wait_because(obstacle, now_ms=wall_ms)
            elif self.is_paused:
                job.wait_because(None, "jobs are paused", reason=PAUSED, now_ms=wall_ms)
            elif job.not_before > now:
                pass  # it says already what went wrong
            elif running is None:
                running, has_started = job, True
                self._start(job)
            else:
                reason = f"job {running.job_id} is running on this disk"
                job.wait_because(None, reason, reason=TURN, now_ms=wall_ms)
                if has_started:
                    self._table.pass_over(job, running)
                if running.yields_to(job) and running.job_id in self._scopes:
                    self._scopes[running.job_id].cancel()

    def _obstacle(self, job: JobState) -> StoreError | None:
        """What has to change before this job can run."""
        fleet = self._context.fleet
        volume, disk = fleet.volumes[job.volume_id], fleet.disks[job.disk_id]
        if disk.peer is None:
            return VolumeOffline(f"disk {disk.name} is offline")
        if volume.report is None:
            return VolumeOffline(f"disk {disk.name} does not have volume {volume.volume_id}")
        if disk.compactor is None:
            return CompactorOffline(f"no compactor is connected for disk {disk.name}")
        if job.work == COMPACT and (cause := volume.report.sealed_cause) is not None:
            return VolumeSealed(f"volume {volume.volume_id} is sealed ({cause})")
        if job.work == COMPACT and disk.is_read_only:
            return VolumeSealed(f"disk {disk.name} is read-only")
        return None

    def _rate(self, job: JobState) -> int | None:
        """Bytes a second that a job may read and write now; 0: hold; None: as fast as it goes."""
        if self.is_paused:
            return 0
        settings = self._context.settings
        is_busy = self._paces.setdefault(job.disk_id, RatePolicy()).is_busy(now=time.monotonic())
        if job.work == COMPACT or job.origin == OPERATOR:
            return full_rate(settings.compaction, is_busy=is_busy)
        volumes = self._context.fleet.disks[job.disk_id].volumes.values()
        return spread_rate(
            settings.compaction,
            settings.verification,
            is_busy=is_busy,
            disk_bytes=sum(volume.file_size for volume in volumes),
        )

    # --- jobs that run ----------------------------------------------------------------------------

    def _start(self, job: JobState) -> None:
        assert self._nursery is not None
        self._table.start(job)
        scope = self._scopes[job.job_id] = trio.CancelScope()
        self._nursery.start_soon(self._run, job, scope)

    async def _run(self, job: JobState, scope: trio.CancelScope) -> None:
        fleet = self._context.fleet
        error: StoreError | None = None
        is_done = False
        try:
            with scope:
                try:
                    peers = JobPeers.of(fleet.disks[job.disk_id])
                    await self._runner.run(job, fleet.volumes[job.volume_id], peers)
                    is_done = True
                except StoreError as failure:
                    error = failure
                except Exception as bug:
                    # The job is in the catalog: were the master to end of this, it would forever.
                    log.error("job failed", extra={"job_id": job.job_id}, exc_info=bug)
                    error = StoreError("internal error; the master's log says more")
            if is_done:
                await self._finished(job)
            elif job.job_id in self._cancelled:
                await self._end_cancelled(job)
            elif error is None:
                self._table.yielded(job, now_ms=now_ms())
            else:
                await self._failed(job, error)
        finally:
            del self._scopes[job.job_id]
            self._look([job.disk_id])

    async def _finished(self, job: JobState) -> None:
        if job.work == VERIFY or job.pause_ms:  # a compaction has read and checked all that it kept
            self._context.troubles.over("volume_unverified", f"volume {job.volume_id}")
        self._table.finish(job, now=time.monotonic(), dead_bytes=self._dead_bytes(job))
        if job.work == COMPACT:
            figures = {"freed_bytes": job.freed_bytes, "pause_ms": round(job.pause_ms, 3)}
            self._tell(job, "finished", **figures, damaged_count=job.damaged_count)
            log.info("compaction finished", extra={"volume_id": job.volume_id, **figures})
        else:
            self._tell(job, "finished", damaged_count=job.damaged_count)
            log.info(
                "verification finished",
                extra={"volume_id": job.volume_id, "damaged_count": job.damaged_count},
            )
        await self._close(job)

    async def _failed(self, job: JobState, error: StoreError) -> None:
        now = time.monotonic()
        if isinstance(error, INTERRUPTIONS):
            self._table.interrupted(job, error, now=now, now_ms=now_ms())
        elif isinstance(error, HOPELESS) or not self._table.attempt_failed(
            job, error, now=now, now_ms=now_ms()
        ):
            self._table.fail(job, error, now=now, dead_bytes=self._dead_bytes(job))
            self._tell(job, "failed", code=error.code, message=error.message)
            if job.work == VERIFY:
                self._context.troubles.tell(
                    "volume_unverified",
                    f"volume {job.volume_id}",
                    f"volume {job.volume_id} could not be verified: {error.message}",
                    job_id=job.job_id,
                    volume_id=job.volume_id,
                    disk=job.disk_name,
                )
            await self._close(job)
            log.error(f"{job.noun} failed", extra={"volume_id": job.volume_id, "cause": error.message})
            return
        self._tell(job, "requeued", code=error.code, message=error.message)
        log.warning(f"{job.noun} queued again", extra={"volume_id": job.volume_id, "cause": error.message})

    def _dead_bytes(self, job: JobState) -> int:
        report = self._context.fleet.volumes[job.volume_id].report
        return report.dead_bytes if report is not None else 0

    async def _end_cancelled(self, job: JobState) -> None:
        if job.is_finished:
            return
        self._table.cancel(job, now=time.monotonic(), dead_bytes=self._dead_bytes(job))
        self._tell(job, "failed", code="cancelled", message=job.message)
        await self._close(job)

    async def _close(self, job: JobState) -> None:
        job.ended_ms = now_ms()
        job.is_stalled = False
        self._context.troubles.over("job_stalled", f"job {job.job_id}")
        with trio.CancelScope(shield=True):  # who asked may go; a job that is over must not stay in the book
            await self._forget(job.job_id)
        self._table.close(job)
        self._cancelled.discard(job.job_id)
        if (end := self._ends.pop(job.job_id, None)) is not None:
            end.set()

    async def _forget(self, job_id: int) -> None:
        try:
            await self._context.writer.write(lambda t: t.remove_job(job_id))
        except StoreError as error:  # then it runs once more after a restart, which does no harm
            log.error("end of a job not written down", extra={"job_id": job_id, "cause": error.message})

    def _tell(self, job: JobState, what: str, **fields: str | int | float | None) -> None:
        self._context.events.record(
            f"{job.noun}_{what}",
            job_id=job.job_id,
            volume_id=job.volume_id,
            disk=job.disk_name,
            **fields,
        )

    # --- figures ----------------------------------------------------------------------------------

    def jobs_under_way(self) -> dict[int, Job]:
        """By volume, its job that runs or waits."""
        return self._table.under_way()

    def left_alone(self) -> list[LeftAlone]:
        """Wasteful volumes that the policy does not compact for now."""
        bars = self._table.bars(COMPACT)
        if not bars:
            return []
        settings, now, wall_ms = self._context.settings.compaction, time.monotonic(), now_ms()
        lasting = {volume_id for volume_id, bar in bars.items() if now < bar.at + BARRED_S}
        found = []
        for disk in self._context.fleet.disks.values():
            if lasting.isdisjoint(disk.volumes):
                continue
            facts = self._facts(disk)
            for volume in facts.volumes:
                bar = bars.get(volume.volume_id)
                until = barred_until(volume, facts, settings, bar, now=now)
                if bar is None or until is None or not is_wasteful(volume, facts, settings):
                    continue
                found.append(
                    LeftAlone(
                        volume_id=volume.volume_id,
                        until_ms=wall_ms + int(1000 * (until - now)),
                        code=bar.cause,
                        message=f"job {bar.job_id}: {bar.message}" if bar.message else f"job {bar.job_id}",
                    )
                )
        return found[:LEFT_ALONE_MAX]

    @property
    def orphan_count(self) -> int:
        return self._cross_check.orphan_count

    def metrics(self) -> list[Metric]:
        book = self._table
        jobs = GaugeMetricFamily("warehouse_master_jobs", "Jobs that are not over", labels=["work", "state"])
        for (work, state), count in book.counts().items():
            jobs.add_metric([work, state], count)
        done = CounterMetricFamily("warehouse_master_jobs_done", "Jobs that were done", labels=["work"])
        failed = CounterMetricFamily("warehouse_master_jobs_failed", "Jobs that failed", labels=["work"])
        for work in (COMPACT, VERIFY):
            done.add_metric([work], book.done_counts[work])
            failed.add_metric([work], book.failed_counts[work])
        gauges = (
            ("damages", "DamageRegistry known and not mended", self._context.catalog.damage_count()),
            (
                "unchecked_seconds",
                "Age of the oldest byte that was not read again",
                self._context.fleet.unchecked_s(now_ms()),
            ),
            ("orphans", "Needles that nothing names, being looked into or kept", self.orphan_count),
            ("jobs_stalled", "Jobs that have not come any further for minutes", self.stalled_count),
            ("jobs_paused", "Whether compaction and verification are paused", int(self.is_paused)),
            ("switch_pause_seconds", "How long the latest switch kept writes waiting", book.pause_ms / 1000),
        )
        counters = (
            ("freed_bytes", "Bytes that compactions gave back", book.freed_bytes),
            ("orphans_voided", "Needles that nothing named, given up", self._cross_check.voided_count),
        )
        return [
            jobs,
            done,
            failed,
            *(
                GaugeMetricFamily(f"warehouse_master_{name}", text, value=value)
                for name, text, value in gauges
            ),
            *(
                CounterMetricFamily(f"warehouse_master_{name}", text, value=value)
                for name, text, value in counters
            ),
        ]


def _require_few(job_ids: list[int]) -> None:
    if len(job_ids) > NAMED_MAX:
        raise BadRequest(f"at most {NAMED_MAX} jobs can be named at once, not {len(job_ids)}")
