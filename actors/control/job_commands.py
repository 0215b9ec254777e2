"""JobCommands: what operators can do with jobs: start them, list them, cancel them, pause them all."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.job_records import JobRecords
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.job_state import COMPACT, OPERATOR, VERIFY
from warehouse.errors import BadRequest, NoSuchVolume
from warehouse.transport.messages import Job, Jobs
from warehouse.transport.messages.paging import fitting

NAMED_MAX = 10_000  # volumes or jobs in one request
CANCEL_WAIT_S = 15.0  # how long a request waits until the files of a cancelled copy are removed


class JobCommands:
    def __init__(self, context: MasterContext, scheduler: JobScheduler) -> None:
        self._context = context
        self._scheduler = scheduler
        self._records: JobRecords = scheduler.records

    async def start_jobs(
        self, work: str, volume_ids: Iterable[int], *, is_all: bool, is_forced: bool = False
    ) -> Jobs:
        """Start a job for each of these volumes, or for all.

        Args:
            is_forced: compact also those of all volumes that would give next to nothing back.
        Raises:
            BadRequest: no such work, no volumes, or too many.
            NoSuchVolume: one of the volumes does not exist; no job was started.
        """
        if work not in (COMPACT, VERIFY):
            raise BadRequest(f"work must be {COMPACT!r} or {VERIFY!r}, not {work!r}")
        known = self._context.fleet.volumes
        wanted = [volume.volume_id for volume in known.values() if volume.is_created] if is_all else []
        named = {*volume_ids}
        wanted = sorted({*wanted, *named})
        if not is_all and not 1 <= len(wanted) <= NAMED_MAX:
            raise BadRequest(f"name 1 to {NAMED_MAX:,} volumes, not {len(wanted):,}, or ask for all")
        for volume_id in wanted:
            if volume_id not in known or not known[volume_id].is_created:
                raise NoSuchVolume(f"there is no volume {volume_id}; `warehouse volumes` lists all")
        forced = {volume_id for volume_id in wanted if is_forced or volume_id in named}
        volumes = [known[volume_id] for volume_id in wanted]
        jobs = await self._scheduler.add(work, volumes, OPERATOR, forced)
        return self._answer([job.seen() for job in jobs])

    def list_jobs(self, job_ids: list[int]) -> Jobs:
        """These jobs; without numbers, all unfinished jobs and the latest finished ones.

        Raises:
            NoSuchJob: one of the jobs does not exist (any more).
        """
        _require_few(job_ids)
        return self._answer(self._records.table.listed(job_ids))

    async def cancel_jobs(self, job_ids: list[int]) -> Jobs:
        """Cancel the unfinished ones of these jobs; wait a while until their copies are removed.

        Raises:
            NoSuchJob: one of the jobs does not exist; no job was cancelled.
        """
        _require_few(job_ids)
        jobs = [self._records.table.job(job_id) for job_id in job_ids]
        ends = []
        for job in jobs:
            if not job.is_finished:
                ends.append(self._records.end_of(job))
                await self._scheduler.cancel(job)
        with trio.move_on_after(CANCEL_WAIT_S):
            for end in ends:
                await end.wait()
        return self._answer([job.seen() for job in jobs])

    async def pause(self, is_paused: bool) -> Jobs:
        """Hold all jobs where they are, or let them continue."""
        await self._records.set_paused(is_paused)
        self._scheduler.look(self._context.fleet.disks)
        return self._answer(self._records.table.listed())

    def _answer(self, jobs: list[Job]) -> Jobs:
        count = fitting(jobs)
        rest = [job.job_id for job in jobs[count:]]
        return Jobs(jobs=jobs[:count], is_paused=self._records.is_paused, rest=rest)


def _require_few(job_ids: list[int]) -> None:
    if len(job_ids) > NAMED_MAX:
        raise BadRequest(f"name at most {NAMED_MAX:,} jobs at once, not {len(job_ids):,}")
