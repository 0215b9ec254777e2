"""JobRecords: the jobs in the table of the master and in the catalog, which change together.

A job is in the catalog until it is finished, so after a restart of the master every unfinished job starts
again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import trio

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.event_subjects import JOBS
from warehouse.actors.control.fleet_state import VolumeState
from warehouse.actors.control.job_state import OPERATOR, JobState
from warehouse.actors.control.job_table import JobTable
from warehouse.errors import StoreError

log = logging.getLogger(__name__)

IS_PAUSED = "is_paused"  # meta


class JobRecords:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self.table = JobTable(retry_s=context.intervals.retry)
        self.is_paused = False
        self._ends: dict[int, trio.Event] = {}  # of jobs whose end somebody waits for

    def load(self) -> list[int]:
        """Take over the jobs of the catalog; return the numbers of those whose volume does not exist."""
        catalog = self._context.catalog
        self.is_paused = bool(catalog.meta(IS_PAUSED, 0))
        lost = []
        for row in catalog.jobs():
            volume = self._context.fleet.volumes.get(row.volume_id)
            if volume is None:
                lost.append(row.id)
            else:
                self.table.add(self._job(row.id, row.work, volume, row.origin, row.created_ms))
        return lost

    async def add(
        self, work: str, volumes: list[VolumeState], origin: str, forced: Collection[int] | None = None
    ) -> list[JobState]:
        """Add a job for each volume; a volume that has an unfinished job of this work keeps it.

        Args:
            forced: volumes to compact however little that gives back; None: all of them.
        """
        for volume in volumes:
            # A finished job that the catalog has not forgotten yet would pass for the job to wait for.
            ending = self.table.unfinished_of(work, volume.volume_id)
            if ending is not None and ending.is_finished:
                await self.end_of(ending).wait()
        created_ms = now_ms()
        job_ids = await self._context.writer.write(
            lambda t: [t.add_job(work, volume.volume_id, origin, created_ms) for volume in volumes]
        )
        jobs = []
        for job_id, volume in zip(job_ids, volumes, strict=True):
            is_forced = forced is None or volume.volume_id in forced
            job = self.table.unfinished_of(work, volume.volume_id)
            if job is None or job.job_id != job_id:
                job = self._job(job_id, work, volume, origin, created_ms)
                job.is_forced = is_forced
                self.table.add(job)
            elif is_forced:
                job.is_forced = True
            if origin == OPERATOR:
                job.origin = origin  # an operator who waits gets the full rate, and the place in the queue
            jobs.append(job)
        self._context.changes.cluster_changed(JOBS)  # no event tells of a job that waits
        return jobs

    def _job(self, job_id: int, work: str, volume: VolumeState, origin: str, created_ms: int) -> JobState:
        disk = self._context.fleet.disks[volume.disk_id]
        return JobState(job_id, work, volume.volume_id, disk.disk_id, disk.name, origin, created_ms)

    def end_of(self, job: JobState) -> trio.Event:
        """The event that is set when this unfinished job is closed."""
        return self._ends.setdefault(job.job_id, trio.Event())

    async def close(self, job: JobState) -> None:
        """A job is finished: remove it from the catalog, then from the unfinished jobs of the table."""
        job.ended_ms = now_ms()
        job.is_stalled = False
        with trio.CancelScope(shield=True):  # the caller may go; a finished job must not stay in the table
            await self.forget(job.job_id)
        self.table.close(job)
        self._context.changes.cluster_changed(JOBS)
        if (end := self._ends.pop(job.job_id, None)) is not None:
            end.set()

    async def forget(self, job_id: int) -> None:
        """Remove a job from the catalog."""
        try:
            await self._context.writer.write(lambda t: t.remove_job(job_id))
        except StoreError as error:  # then the job runs once more after a restart, which does no harm
            log.error("end of a job not written down", extra={"job_id": job_id, "cause": error.message})

    async def set_paused(self, is_paused: bool) -> None:
        await self._context.writer.write(lambda t: t.set_meta(IS_PAUSED, int(is_paused)))
        if is_paused != self.is_paused:
            self.is_paused = is_paused
            self._context.events.record("jobs_paused" if is_paused else "jobs_resumed")
            log.info("jobs paused" if is_paused else "jobs resumed")
