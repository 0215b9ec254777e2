"""Jobs: compactions and verifications from the moment they are wanted until they are forgotten.

Pure bookkeeping: no waiting, no sockets, time is an argument (`now`: monotonic seconds, `now_ms`: wall
time).

    queued --> copying --> switching --> done
      ^  |         |            |
      |  |         +------------+--> failed, or queued again
      |  +-> verifying ------------> done, failed, or queued again
      +--- any of them --> cancelled

One job runs on a disk at a time: two would take turns in moving the same disk's head.  What an operator
asked for goes first, then compactions before verifications, then the order in which they were wanted.

That is one order, `JobState.rank`, and everything follows it: which job starts next, and whether a job that
runs makes room for one that waits.  So a job that yielded never starts before the one it yielded to.  And a
job that others went ahead of PASSED_OVER_MAX times is due: it goes before all that are not, and yields to
nothing.  So every job gets its turn, whatever else is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from warehouse.actors.control.job_policy import CANCELLED, FAILED, IN_VAIN, NO_ROOM, Bar
from warehouse.errors import NoRoomToCompact, NoSuchJob, StoreError
from warehouse.transport.messages import Job, NeedleDamage

OPERATOR, POLICY = "operator", "policy"
COMPACT, VERIFY = "compact", "verify"
OVER = frozenset({"done", "failed", "cancelled"})

ENDED_MAX = 32_768  # jobs remembered after their end: those of one request for all volumes, and some more
ENDED_LISTED_MAX = 200  # of these, listed when nobody asks for one by its number
ATTEMPTS_MAX = 5  # of a job that fails, not counting those that a restart of an actor interrupted
RETRY_S_MAX = 30.0
TURN, PAUSED = "turn", "paused"  # what a job may wait for, beside what has an error's code

PASSED_OVER_MAX = 4  # times that later jobs go ahead of one that could run
STALLED_S = 300.0  # without progress for this long, an unfinished job is told of
SPEED_WINDOW_S = 5.0

_STAGES = {"queued": 0, "copying": 1, "verifying": 1, "switching": 2}


@dataclass
class JobState:
    """One job; `Job` is what others see of it."""

    job_id: int
    work: str
    volume_id: int
    disk_id: str
    disk_name: str
    origin: str
    created_ms: int
    state: str = "queued"
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    started_ms: int = 0
    ended_ms: int = 0
    freed_bytes: int = 0
    pause_ms: float = 0.0
    damaged_count: int = 0
    code: str | None = None
    message: str = ""
    attempt_count: int = 0  # that failed for a cause of their own
    interruption_count: int = 0  # attempts that ended because an actor went away
    not_before: float = 0.0
    passed_over_count: int = 0  # how often a later job went ahead, or interrupted this one
    is_forced: bool = True  # False: a compaction that would give next to nothing back is not worth doing
    wait_since_ms: int = 0  # since when it waits for what its message says; 0: it does not
    is_stalled: bool = False
    # A switch was ordered from this generation, of this many bytes; its answer may have been lost.
    switched_from: int = 0
    size_before: int = 0
    # Of a verification: what its pass has met so far, by needle id (or 0) and offset.
    found: dict[tuple[int, int], NeedleDamage] = field(default_factory=dict, repr=False)
    is_found_whole: bool = False  # `found` holds all of it, from the start of the volume on
    saved_at: float = 0.0
    _measured: tuple[float, int] | None = field(default=None, repr=False)
    _reason: str = field(default="", repr=False)
    # The furthest that any attempt came, and when it did: trying again is no progress.
    _furthest: tuple[int, int] = field(default=(0, 0), repr=False)
    _moved_at: float | None = field(default=None, repr=False)

    @property
    def noun(self) -> str:
        return "compaction" if self.work == COMPACT else "verification"

    @property
    def is_finished(self) -> bool:
        return self.state in OVER

    @property
    def is_running(self) -> bool:
        return self.state != "queued" and not self.is_finished

    @property
    def is_due(self) -> bool:
        return self.passed_over_count >= PASSED_OVER_MAX

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        """Of two jobs, the one with the lesser rank goes first."""
        if self.is_due:
            return (False, False, False, self.job_id)
        return (True, self.origin != OPERATOR, self.work != COMPACT, self.job_id)

    def yields_to(self, other: JobState) -> bool:
        """May `other` interrupt this one?  A verification goes on later from where it was.

        Only for a job of a better class: among equals the one that runs ends first.
        """
        return self.work == VERIFY and not self.is_due and other.rank[:3] < self.rank[:3]

    def seen(self) -> Job:
        return Job(
            job_id=self.job_id,
            work=self.work,
            volume_id=self.volume_id,
            disk_name=self.disk_name,
            origin=self.origin,
            state=self.state,
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            bytes_per_s=self.bytes_per_s,
            created_ms=self.created_ms,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            freed_bytes=self.freed_bytes,
            pause_ms=self.pause_ms,
            damaged_count=self.damaged_count,
            code=self.code,
            message=self.message,
            wait_since_ms=self.wait_since_ms,
            is_stalled=self.is_stalled,
        )

    def wait_because(
        self, error: StoreError | None, message: str = "", *, reason: str = "", now_ms: int = 0
    ) -> None:
        """Say why this queued job does not run yet.

        Args:
            reason: a word for it, where no error has a code.
            now_ms: it waits from now on, unless it did for the same reason before.
        """
        self.code = error.code if error is not None else None
        self.message = error.message if error is not None else message
        reason = self.code or reason
        if not (reason and now_ms):
            self.wait_since_ms = 0
        elif reason != self._reason or not self.wait_since_ms:
            self.wait_since_ms = now_ms
        self._reason = reason

    def begin(self, state: str, *, now_ms: int) -> None:
        self.state = state
        self.started_ms = now_ms
        self.done_bytes = self.total_bytes = 0
        self.bytes_per_s, self._measured = 0.0, None
        self.wait_because(None)

    def look_for_progress(self, *, now: float, is_excused: bool) -> bool:
        """Note whether this job came further; returns whether it is found stalled just now.

        Args:
            is_excused: it need not progress: everything is paused, or other jobs have their turn.
        """
        place = (_STAGES.get(self.state, 0), self.done_bytes)
        if self._moved_at is None or is_excused or place > self._furthest:
            self._furthest, self._moved_at = max(place, self._furthest), now
            self.is_stalled = False
        elif now - self._moved_at >= STALLED_S and not self.is_stalled:
            self.is_stalled = True
            return True
        return False

    def progress(self, done_bytes: int, total_bytes: int, *, now: float) -> None:
        self.total_bytes = total_bytes
        if self._measured is not None:
            at, before = self._measured
            passed = now - at
            if passed > 0:
                # Recent seconds weigh most, so that a change of pace shows soon and single steps do not.
                weight = min(1.0, passed / SPEED_WINDOW_S)
                speed = max(0, done_bytes - before) / passed
                self.bytes_per_s += weight * (speed - self.bytes_per_s) if self.bytes_per_s else speed
        self._measured = (now, done_bytes)
        self.done_bytes = done_bytes


class JobTable:
    """All jobs that are not over, and the latest that are."""

    def __init__(self, *, retry_s: float = 1.0) -> None:
        self._retry_s = retry_s
        self._unfinished: dict[int, JobState] = {}
        # The same by disk and by volume: a store of 20,000 volumes may have a job for each.
        self._on_disk: dict[str, dict[int, JobState]] = {}
        self._of_volume: dict[tuple[str, int], JobState] = {}
        self._ended: dict[int, JobState] = {}  # by number, in the order in which they ended
        # By work and volume, why the policy leaves it alone.
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
            NoSuchJob: there never was one of that number, or it is forgotten.
        """
        found = self._unfinished.get(job_id) or self._ended.get(job_id)
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
        waiting = (job for job in self._on_disk.get(disk_id, {}).values() if job.state == "queued")
        return sorted(waiting, key=lambda job: job.rank)

    def listed(self, job_ids: Iterable[int] = ()) -> list[Job]:
        """These jobs; without any, all that are not over and the latest that are, by their numbers."""
        if wanted := list(job_ids):
            return [self.job(job_id).seen() for job_id in wanted]
        latest = islice(reversed(self._ended.values()), ENDED_LISTED_MAX)
        jobs = [*latest, *self._unfinished.values()]
        return [job.seen() for job in sorted(jobs, key=lambda job: job.job_id)]

    def counts(self) -> dict[tuple[str, str], int]:
        """(work, state) -> how many jobs, of those that are not over."""
        counts: dict[tuple[str, str], int] = {}
        for job in self._unfinished.values():
            counts[job.work, job.state] = counts.get((job.work, job.state), 0) + 1
        return counts

    # --- how a job goes on ------------------------------------------------------------------------

    def interrupted(self, job: JobState, error: StoreError, *, now: float, now_ms: int = 0) -> None:
        """An actor went away: the job starts again when it is back, however often that happens."""
        job.interruption_count += 1
        self._requeue(job, error, now=now, now_ms=now_ms, tries=job.interruption_count)

    def attempt_failed(self, job: JobState, error: StoreError, *, now: float, now_ms: int = 0) -> bool:
        """An attempt failed; return whether there will be another one, the job being queued again."""
        job.attempt_count += 1
        if job.attempt_count >= ATTEMPTS_MAX:
            return False
        self._requeue(job, error, now=now, now_ms=now_ms, tries=job.attempt_count)
        return True

    def yielded(self, job: JobState, *, now_ms: int) -> None:
        job.state = "queued"
        job.passed_over_count += 1
        job.wait_because(None, "something more urgent is done first", reason=TURN, now_ms=now_ms)

    def start(self, job: JobState) -> None:
        """It is this job's turn; those that could run and were wanted earlier remember it."""
        job.state = "copying" if job.work == COMPACT else "verifying"

    def pass_over(self, job: JobState, started: JobState) -> None:
        """`started` has the turn that `job` could have had."""
        if job.job_id < started.job_id:
            job.passed_over_count += 1

    def _requeue(self, job: JobState, error: StoreError, *, now: float, now_ms: int, tries: int) -> None:
        job.state = "queued"
        job.bytes_per_s = 0.0
        job.not_before = now + min(RETRY_S_MAX, self._retry_s * 2 ** (min(tries, 10) - 1))
        job.wait_because(error, now_ms=now_ms)

    def finish(self, job: JobState, *, now: float, dead_bytes: int = 0) -> None:
        """
        Args:
            dead_bytes: of its volume, now.
        """
        job.state = "done"
        job.done_bytes = job.total_bytes
        self.done_counts[job.work] += 1
        if job.work == COMPACT:
            self.freed_bytes += job.freed_bytes
            self.pause_ms = job.pause_ms or self.pause_ms  # nothing was switched where nothing was wasted
        if job.work == COMPACT and job.freed_bytes == 0:
            self._bar(job, IN_VAIN, now=now, dead_bytes=dead_bytes)
        else:
            # A compaction has read and checked all that it kept, as a verification does.
            for work in {job.work, VERIFY}:
                self._bars[work].pop(job.volume_id, None)

    def fail(self, job: JobState, error: StoreError, *, now: float, dead_bytes: int = 0) -> None:
        job.state = "failed"
        self.failed_counts[job.work] += 1
        job.wait_because(error)
        cause = NO_ROOM if isinstance(error, NoRoomToCompact) else FAILED
        self._bar(job, cause, now=now, dead_bytes=dead_bytes)

    def cancel(self, job: JobState, *, now: float, dead_bytes: int = 0) -> None:
        job.state = "cancelled"
        job.wait_because(None, "cancelled by an operator")
        self._bar(job, CANCELLED, now=now, dead_bytes=dead_bytes)

    def _bar(self, job: JobState, cause: str, *, now: float, dead_bytes: int) -> None:
        self._bars[job.work][job.volume_id] = Bar(
            cause, now, dead_bytes, job_id=job.job_id, code=job.code or "", message=job.message
        )

    def close(self, job: JobState) -> None:
        """The job is over and nothing durable remembers it any more."""
        assert job.is_finished
        job.bytes_per_s = 0.0
        if self._unfinished.pop(job.job_id, None) is None:
            return
        del self._on_disk[job.disk_id][job.job_id]
        if self._of_volume.get((job.work, job.volume_id)) is job:
            del self._of_volume[job.work, job.volume_id]
        job.found = {}  # what a verification met is in the catalog by now
        self._ended[job.job_id] = job
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def bars(self, work: str) -> Mapping[int, Bar]:
        """By volume, why the policy may leave it alone; `policy` says whether it does."""
        return self._bars[work]
