"""JobTable: all jobs that are not finished, and the latest that are.

Pure bookkeeping: no waiting, no sockets, time is an argument (`now`: monotonic seconds, `now_ms`: wall time).

One job runs on a disk at a time: two would take turns in moving the head of the same disk.  The jobs of
operators go first, then compactions before verifications, then the order in which the jobs were wanted.

`JobState.rank` is that order, and it decides both which job starts next and whether a running job makes room
for one that waits.  So a job that yielded never starts before the job it yielded to.  A job that others went
ahead of PASSED_OVER_MAX times is due: it goes before all jobs that are not due, and yields to none.  So every
job gets its turn, whatever else operators ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from warehouse.actors.control.job_policy import CANCELLED, FAILED, IN_VAIN, NO_ROOM, Bar
from warehouse.actors.control.job_state import COMPACT, VERIFY, JobState, State
from warehouse.errors import NoRoomToCompact, NoSuchJob, StoreError
from warehouse.transport.messages import Job

FINISHED_MAX = 32_768  # finished jobs remembered: those of one request for all volumes, and some more
FINISHED_LISTED_MAX = 200  # of these, listed when nobody asks for a job by its number
ATTEMPTS_MAX = 5  # of a job that fails, not counting attempts that the restart of an actor interrupted
RETRY_S_MAX = 30.0
TURN, PAUSED = "turn", "paused"  # what a job may wait for, where no error has a code


class JobTable:
    def __init__(self, *, retry_s: float = 1.0) -> None:
        self._retry_s = retry_s
        self._unfinished: dict[int, JobState] = {}
        # The same by disk and by volume: a store of 20,000 volumes may have a job for each.
        self._on_disk: dict[str, dict[int, JobState]] = {}
        self._of_volume: dict[tuple[str, int], JobState] = {}
        self._finished: dict[int, JobState] = {}  # by number, in the order in which they were finished
        # By work and volume, why the policy leaves the volume alone.
        self._bars: dict[str, dict[int, Bar]] = {COMPACT: {}, VERIFY: {}}
        self.done_counts = {COMPACT: 0, VERIFY: 0}
        self.failed_counts = {COMPACT: 0, VERIFY: 0}
        self.freed_bytes = 0
        self.pause_ms = 0.0  # of the latest switch

    def add(self, job: JobState) -> None:
        self._unfinished[job.job_id] = job
        self._on_disk.setdefault(job.disk_id, {})[job.job_id] = job
        self._of_volume[job.work, job.volume_id] = job

    @property
    def unfinished(self) -> list[JobState]:
        return sorted(self._unfinished.values(), key=lambda job: job.job_id)

    def unfinished_on(self, disk_id: str) -> list[JobState]:
        return [*self._on_disk.get(disk_id, {}).values()]

    def job(self, job_id: int) -> JobState:
        """
        Raises:
            NoSuchJob: no job ever had this number, or the master has forgotten the job.
        """
        found = self._unfinished.get(job_id) or self._finished.get(job_id)
        if found is None:
            raise NoSuchJob(f"there is no job {job_id}, or it ended too long ago to be remembered")
        return found

    def unfinished_of(self, work: str, volume_id: int) -> JobState | None:
        return self._of_volume.get((work, volume_id))

    def under_way(self) -> dict[int, Job]:
        """By volume, the job that runs, or waits to."""
        found: dict[int, Job] = {}
        for job in sorted(self._unfinished.values(), key=lambda job: (not job.is_running, job.rank)):
            found.setdefault(job.volume_id, job.seen())
        return found

    def running_on(self, disk_id: str) -> JobState | None:
        return next((job for job in self._on_disk.get(disk_id, {}).values() if job.is_running), None)

    def waiting_on(self, disk_id: str) -> list[JobState]:
        """Queued jobs of a disk, in the order in which they should run."""
        waiting = (job for job in self._on_disk.get(disk_id, {}).values() if job.state is State.QUEUED)
        return sorted(waiting, key=lambda job: job.rank)

    def listed(self, job_ids: Iterable[int] = ()) -> list[Job]:
        """These jobs; without numbers, all unfinished jobs and the latest finished ones, in order."""
        if wanted := list(job_ids):
            return [self.job(job_id).seen() for job_id in wanted]
        latest = islice(reversed(self._finished.values()), FINISHED_LISTED_MAX)
        jobs = [*latest, *self._unfinished.values()]
        return [job.seen() for job in sorted(jobs, key=lambda job: job.job_id)]

    def counts(self) -> dict[tuple[str, str], int]:
        """(work, state) -> how many unfinished jobs."""
        counts: dict[tuple[str, str], int] = {}
        for job in self._unfinished.values():
            key = (job.work, job.state.value)
            counts[key] = counts.get(key, 0) + 1
        return counts

    # --- what becomes of a job --------------------------------------------------------------------

    def start(self, job: JobState) -> None:
        """It is this job's turn."""
        job.move_to(State.COPYING if job.work == COMPACT else State.VERIFYING)

    def pass_over(self, job: JobState, started: JobState) -> None:
        """`started` has the turn that `job` could have had."""
        if job.job_id < started.job_id:
            job.passed_over_count += 1

    def yielded(self, job: JobState, *, now_ms: int) -> None:
        job.move_to(State.QUEUED)
        job.passed_over_count += 1
        job.wait_because(None, "something more urgent is done first", reason=TURN, now_ms=now_ms)

    def interrupted(self, job: JobState, error: StoreError, *, now: float, now_ms: int = 0) -> None:
        """An actor went away: the job starts again when the actor is back, however often that happens."""
        job.interruption_count += 1
        self._requeue(job, error, now=now, now_ms=now_ms, tries=job.interruption_count)

    def attempt_failed(self, job: JobState, error: StoreError, *, now: float, now_ms: int = 0) -> bool:
        """An attempt failed; return whether the job is queued for another attempt."""
        job.attempt_count += 1
        if job.attempt_count >= ATTEMPTS_MAX:
            return False
        self._requeue(job, error, now=now, now_ms=now_ms, tries=job.attempt_count)
        return True

    def _requeue(self, job: JobState, error: StoreError, *, now: float, now_ms: int, tries: int) -> None:
        job.move_to(State.QUEUED)
        job.bytes_per_s = 0.0
        job.not_before = now + min(RETRY_S_MAX, self._retry_s * 2 ** (min(tries, 10) - 1))
        job.wait_because(error, now_ms=now_ms)

    def finish(self, job: JobState, *, now: float, dead_bytes: int = 0) -> None:
        """
        Args:
            dead_bytes: garbage that the job's volume holds now.
        """
        job.move_to(State.DONE)
        job.done_bytes = job.total_bytes
        self.done_counts[job.work] += 1
        if job.work == COMPACT:
            self.freed_bytes += job.freed_bytes
            self.pause_ms = job.pause_ms or self.pause_ms  # without garbage there was no switch
        if job.work == COMPACT and job.freed_bytes == 0:
            self._bar(job, IN_VAIN, now=now, dead_bytes=dead_bytes)
        else:
            # A compaction has read and checked all that it kept, as a verification does.
            for work in {job.work, VERIFY}:
                self._bars[work].pop(job.volume_id, None)

    def fail(self, job: JobState, error: StoreError, *, now: float, dead_bytes: int = 0) -> None:
        job.move_to(State.FAILED)
        self.failed_counts[job.work] += 1
        job.wait_because(error)
        cause = NO_ROOM if isinstance(error, NoRoomToCompact) else FAILED
        self._bar(job, cause, now=now, dead_bytes=dead_bytes)

    def cancel(self, job: JobState, *, now: float, dead_bytes: int = 0) -> None:
        job.move_to(State.CANCELLED)
        job.wait_because(None, "cancelled by an operator")
        self._bar(job, CANCELLED, now=now, dead_bytes=dead_bytes)

    def _bar(self, job: JobState, cause: str, *, now: float, dead_bytes: int) -> None:
        self._bars[job.work][job.volume_id] = Bar(
            cause, now, dead_bytes, job_id=job.job_id, code=job.code or "", message=job.message
        )

    def close(self, job: JobState) -> None:
        """The job is finished, and the catalog has forgotten it."""
        assert job.is_finished
        job.bytes_per_s = 0.0
        if self._unfinished.pop(job.job_id, None) is None:
            return
        del self._on_disk[job.disk_id][job.job_id]
        if self._of_volume.get((job.work, job.volume_id)) is job:
            del self._of_volume[job.work, job.volume_id]
        job.found = {}  # the catalog holds the damage that a verification met
        self._finished[job.job_id] = job
        if len(self._finished) > FINISHED_MAX:
            del self._finished[next(iter(self._finished))]

    def bars(self, work: str) -> Mapping[int, Bar]:
        """By volume, why the policy may leave it alone; `job_policy` says whether it does."""
        return self._bars[work]
