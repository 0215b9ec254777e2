"""JobScheduler: which job runs on each disk, and when.

One task looks again and again at what every disk could do next: jobs that operators asked for, and jobs
that the policy proposes.  At most one job runs on a disk.

    job_state, job_table   what a job is, its states, the order of jobs (pure)
    job_policy             which jobs the store needs without being asked (pure); job_proposals asks it
    job_records            the jobs in the table and in the catalog
    job_runner             one attempt at a job: job_compaction or job_verification
    job_outcomes           what becomes of a job after an attempt
    job_rates              how fast it may go
    job_commands           what operators can do with jobs
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping

import trio
from prometheus_client.core import Metric

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.cross_check import CrossCheck
from warehouse.actors.control.damage import DamageRegistry
from warehouse.actors.control.disk_troubles import SealedVolumes
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.actors.control.job_metrics import job_metrics
from warehouse.actors.control.job_outcomes import JobOutcomes
from warehouse.actors.control.job_peers import JobPeers
from warehouse.actors.control.job_proposals import JobProposer
from warehouse.actors.control.job_rates import JobRates
from warehouse.actors.control.job_records import JobRecords
from warehouse.actors.control.job_runner import JobRunner
from warehouse.actors.control.job_state import COMPACT, POLICY, JobState
from warehouse.actors.control.job_table import PAUSED, TURN
from warehouse.errors import CompactorOffline, StoreError, VolumeOffline, VolumeSealed
from warehouse.transport.messages import DiskReport, Job, LeftAlone

log = logging.getLogger(__name__)


class JobScheduler:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self.records = JobRecords(context)
        self._table = self.records.table
        self._damage = DamageRegistry(context)
        self._cross_check = CrossCheck(context, damage=self._damage)
        self._rates = JobRates(context, self.records)
        self._runner = JobRunner(
            context, damage=self._damage, cross_check=self._cross_check, rate_of=self._rates.rate_of
        )
        self._proposer = JobProposer(context, self._table)
        self._outcomes = JobOutcomes(context, self.records)
        self._sealed = SealedVolumes(context.events)
        self._scopes: dict[int, trio.CancelScope] = {}  # of jobs that run
        self._cancelled: set[int] = set()  # jobs that run, and that an operator cancelled
        self._changed: set[str] = set()  # disks that may have something to do next
        self._wanted = trio.Event()
        self._nursery: trio.Nursery | None = None

    # --- life -------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        lost = self.records.load()
        self._damage.load()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._damage.run)
            nursery.start_soon(self._cross_check.run)
            nursery.start_soon(self._schedule_forever)
            for job_id in lost:
                nursery.start_soon(self.records.forget, job_id)
            task_status.started()

    # --- what the master hears of disks -----------------------------------------------------------

    def disk_came(self, disk: DiskState) -> None:
        self._rates.disk_came(disk)
        self._cross_check.disk_came(disk.disk_id)
        self._sealed.tell(disk, disk.volumes.values())
        self._wake(disk.disk_id)

    def compactor_came(self, disk: DiskState) -> None:
        self._wake(disk.disk_id)

    def reported(self, disk: DiskState, report: DiskReport) -> None:
        self._rates.reported(disk, report.request_count)
        if report.damages:
            self._damage.note(damage for damage in report.damages if damage.volume_id in disk.volumes)
        self._sealed.tell(
            disk, [volume for named in report.volumes if (volume := disk.volumes.get(named.volume_id))]
        )

    def orphans_decided(self, *, may_drop: bool) -> None:
        """See `DecideOrphans`."""
        self._cross_check.decided(may_drop=may_drop)

    # --- which job is next ------------------------------------------------------------------------

    async def add(
        self, work: str, volumes: list[VolumeState], origin: str, forced: Collection[int] | None = None
    ) -> list[JobState]:
        """Add a job for each volume, see `JobRecords.add`; start what can start."""
        jobs = await self.records.add(work, volumes, origin, forced)
        self.look({volume.disk_id for volume in volumes})
        return jobs

    async def cancel(self, job: JobState) -> None:
        """Cancel an unfinished job; if it runs, its attempt cleans up after this returns."""
        if job.job_id in self._scopes:
            self._cancelled.add(job.job_id)
            self._scopes[job.job_id].cancel()
        else:
            await self._outcomes.cancelled(job)

    async def disk_lost(self, disk_id: str) -> None:
        """A disk is gone for good: its jobs end."""
        for job in self._table.unfinished_on(disk_id):
            await self.cancel(job)

    def look(self, disk_ids: Iterable[str]) -> None:
        """Something changed on these disks: say what each job waits for, start what can start."""
        for disk_id in disk_ids:
            self._start_on(self._context.fleet.disks[disk_id])
            self._wake(disk_id)

    def _wake(self, disk_id: str) -> None:
        """Have the scheduling task look at a disk."""
        self._changed.add(disk_id)
        self._wanted.set()

    async def _schedule_forever(self) -> None:
        """Look at the disks on which something has changed, and now and then at all of them.

        A store of 20,000 volumes may have a job for each.  So the cost of one job's end must not depend on
        the jobs of other disks.
        """
        look_at = trio.current_time()
        while True:
            is_due = trio.current_time() >= look_at
            changed, self._changed, self._wanted = self._changed, set(), trio.Event()
            disks, is_refused = self._context.fleet.disks, False
            for disk in [*disks.values()] if is_due else _present(disks, changed):
                try:
                    if not is_refused:
                        await self._propose(disk)
                except StoreError as error:  # the catalog would refuse the job of the next disk as well
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
        """Add the jobs that the policy wants on a disk, of works that have no job there yet."""
        if self.records.is_paused or not disk.is_online or disk.compactor is None or disk.is_read_only:
            return
        unfinished = self._table.unfinished_on(disk.disk_id)
        # A job that waits for an operator (a sealed volume) must not keep other jobs from their turn.
        queued = {job.work for job in unfinished if self._obstacle(job) is None}
        for work, volume in self._proposer.wanted(disk, queued):
            await self.add(work, [volume], POLICY)

    def _start_on(self, disk: DiskState) -> None:
        """Say what each queued job of a disk waits for; start the first that can run, if none does.

        One order decides what runs and what waits, so a job that yields never starts again before the job
        it yielded to.
        """
        now, wall_ms = time.monotonic(), now_ms()
        running, has_started = self._table.running_on(disk.disk_id), False
        for job in self._table.waiting_on(disk.disk_id):
            if job.job_id in self._scopes:
                continue  # its last attempt is still cleaning up
            if (obstacle := self._obstacle(job)) is not None:
                job.wait_because(obstacle, now_ms=wall_ms)
            elif self.records.is_paused:
                job.wait_because(None, "jobs are paused", reason=PAUSED, now_ms=wall_ms)
            elif job.not_before > now:
                pass  # its message says already what went wrong
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

    def _look_for_stalls(self, disk: DiskState) -> None:
        """Tell operators of each job of a disk that makes no progress, once until it makes some."""
        now = time.monotonic()
        for job in self._table.unfinished_on(disk.disk_id):
            was_stalled = job.is_stalled
            waits_its_turn = not job.is_running and self._obstacle(job) is None and job.not_before <= now
            job.look_for_progress(now=now, is_excused=self.records.is_paused or waits_its_turn)
            if job.is_stalled:
                why = job.message or f"it is {job.state} and comes no further"
                self._context.troubles.tell(
                    "job_stalled",
                    f"job {job.job_id}",
                    f"the {job.noun} of volume {job.volume_id} has made no progress for minutes: {why}",
                    job_id=job.job_id,
                    volume_id=job.volume_id,
                    disk=job.disk_name,
                    state=job.state.value,
                )
            elif was_stalled:
                self._context.troubles.over("job_stalled", f"job {job.job_id}")

    # --- jobs that run ----------------------------------------------------------------------------

    def _start(self, job: JobState) -> None:
        assert self._nursery is not None
        self._table.start(job)
        scope = self._scopes[job.job_id] = trio.CancelScope()
        self._nursery.start_soon(self._attempt, job, scope)

    async def _attempt(self, job: JobState, scope: trio.CancelScope) -> None:
        fleet = self._context.fleet
        error: StoreError | None = None
        is_done = False
        try:
            with scope:
                try:
                    peers = JobPeers.of(fleet.disks[job.disk_id])
                    await self._runner.attempt(job, fleet.volumes[job.volume_id], peers)
                    is_done = True
                except StoreError as failure:
                    error = failure
                except Exception as bug:
                    # The job is in the catalog: if it ended the master, it would end every later start.
                    log.error("job failed", extra={"job_id": job.job_id}, exc_info=bug)
                    error = StoreError("internal error; the master's log says more")
            if is_done:
                await self._outcomes.finished(job)
            elif job.job_id in self._cancelled:
                await self._outcomes.cancelled(job)
            elif error is None:
                self._table.yielded(job, now_ms=now_ms())
            else:
                await self._outcomes.attempt_ended(job, error)
        finally:
            del self._scopes[job.job_id]
            self._cancelled.discard(job.job_id)
            self.look([job.disk_id])

    # --- what status and metrics show -------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        return self.records.is_paused

    @property
    def orphan_count(self) -> int:
        return self._cross_check.orphan_count

    @property
    def stalled_count(self) -> int:
        return sum(job.is_stalled for job in self._table.unfinished)

    def jobs_under_way(self) -> dict[int, Job]:
        """By volume, its job that runs or waits."""
        return self._table.under_way()

    def left_alone(self) -> list[LeftAlone]:
        """Wasteful volumes that the policy does not compact for now."""
        return self._proposer.left_alone()

    def metrics(self) -> list[Metric]:
        return job_metrics(self._context, self.records, self._cross_check, stalled_count=self.stalled_count)


def _present(disks: Mapping[str, DiskState], disk_ids: Iterable[str]) -> list[DiskState]:
    """Those of the disks that are not removed."""
    return [disks[disk_id] for disk_id in disk_ids if disk_id in disks]
