"""The upkeep of a fake store: jobs that get on whenever somebody asks for them, and a ring of events.

It keeps the promises that a client relies on: one unfinished job of a kind a volume, numbers that are never used
again, a pause that holds all, what is over is forgotten by a restart.  Nothing here reads a clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec
import trio

from warehouse.errors import BadRequest, NoSuchJob, NoSuchVolume, StoreError
from warehouse.transport.messages import Event, Events, Job, Jobs, ListEvents, NeedleDamage, StartJobs

MIB = 1024 * 1024
CREATED_MS = 1_790_000_000_000
TOTAL = 400 * MIB
RATE = 80 * MIB
STEPS = 4  # a copy, or a verification, is done after being asked for so often


@dataclass
class FakeJobs:
    volume_ids: tuple[int, ...] = (1, 2)
    incarnation: int = 1
    is_paused: bool = False
    failures: dict[int, StoreError] = field(default_factory=dict)  # by volume: how its next job ends
    findings: dict[int, list[NeedleDamage]] = field(default_factory=dict)  # what verifications find
    damages: list[NeedleDamage] = field(default_factory=list)  # known by now
    idle: set[int] = field(default_factory=set)  # volumes that waste nothing
    stops_at: int | None = None  # copies get that far, in bytes, and no further
    ring: list[Event] = field(default_factory=list)
    on_poll: Callable[[], None] = lambda: None
    jobs: dict[int, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._job_ids = itertools.count(1)
        self._news = trio.Event()
        self._last_sequence = 0

    # --- jobs -------------------------------------------------------------------------------------

    def start(self, request: StartJobs) -> Jobs:
        wanted = self.volume_ids if request.is_all else request.volume_ids
        if not wanted:
            raise BadRequest("name volumes, or ask for all")
        for volume_id in wanted:
            if volume_id not in self.volume_ids:
                raise NoSuchVolume(f"there is no volume {volume_id}")
        return self._answer([self._job_of(request.work, volume_id) for volume_id in wanted])

    def _job_of(self, work: str, volume_id: int) -> Job:
        for job in self.jobs.values():
            if (job.work, job.volume_id) == (work, volume_id) and not job.is_finished:
                return job
        job = Job(
            job_id=next(self._job_ids),
            work=work,
            volume_id=volume_id,
            disk_name=f"disk-{volume_id}",
            origin="operator",
            state="queued",
            created_ms=CREATED_MS,
        )
        self.jobs[job.job_id] = job
        return job

    def list(self, job_ids: Iterable[int]) -> Jobs:
        self.on_poll()
        found = [self._known(job_id) for job_id in job_ids] or [*self.jobs.values()]
        if not self.is_paused:
            for job in found:
                self._step(job)
        return self._answer([self.jobs[job.job_id] for job in found])

    def cancel(self, job_ids: Iterable[int]) -> Jobs:
        jobs = [self._known(job_id) for job_id in job_ids]
        for job in jobs:
            if not job.is_finished:
                self._change(job, state="cancelled", ended_ms=CREATED_MS + 2000)
        return self._answer([self.jobs[job.job_id] for job in jobs])

    def pause(self, is_paused: bool) -> Jobs:
        self.is_paused = is_paused
        return self._answer(self.jobs.values())

    def restart(self) -> None:
        """The master is another process now: it knows the unfinished jobs, and counts events anew."""
        self.incarnation += 1
        self.jobs = {job_id: job for job_id, job in self.jobs.items() if not job.is_finished}
        self.ring = []
        self._last_sequence = 0

    def under_way(self, volume_id: int) -> Job | None:
        for job in self.jobs.values():
            if job.volume_id == volume_id and not job.is_finished:
                return job
        return None

    def _known(self, job_id: int) -> Job:
        if job_id not in self.jobs:
            raise NoSuchJob(f"there is no job {job_id}")
        return self.jobs[job_id]

    def _answer(self, jobs: Iterable[Job]) -> Jobs:
        return Jobs(jobs=[*jobs], is_paused=self.is_paused)

    def _step(self, job: Job) -> None:
        match job.state:
            case "queued":
                state = "copying" if job.work == "compact" else "verifying"
                self._change(job, state=state, total_bytes=TOTAL, started_ms=CREATED_MS + 1000)
            case "copying" if job.volume_id in self.idle:
                self._end(job, state="done", total_bytes=0, message="there is nothing to give back")
            case "copying" | "verifying" if job.volume_id in self.failures:
                error = self.failures.pop(job.volume_id)
                self._end(job, state="failed", code=error.code, message=error.message)
            case "copying" | "verifying":
                done = min(job.done_bytes + TOTAL // STEPS, TOTAL if self.stops_at is None else self.stops_at)
                if job.done_bytes < TOTAL:
                    self._change(job, done_bytes=done, bytes_per_s=float(RATE))
                elif job.work == "compact":
                    self._change(job, state="switching")
                else:
                    found = self.findings.pop(job.volume_id, [])
                    self.damages += found
                    self._end(job, state="done", damaged_count=len(found))
            case "switching":
                self._end(job, state="done", freed_bytes=150 * MIB, pause_ms=12.4)

    def _end(self, job: Job, **changes: object) -> None:
        self._change(job, **changes, ended_ms=CREATED_MS + 6000)

    def _change(self, job: Job, **changes: object) -> None:
        self.jobs[job.job_id] = msgspec.structs.replace(job, **changes)

    # --- events -----------------------------------------------------------------------------------

    def happen(self, name: str, **fields: str | int | float | bool | None) -> None:
        self._last_sequence += 1
        at_ms = CREATED_MS + 1000 * self._last_sequence
        self.ring.append(Event(sequence=self._last_sequence, at_ms=at_ms, name=name, fields=fields))
        self._news.set()
        self._news = trio.Event()

    def _after(self, sequence: int) -> list[Event]:  # type: ignore[valid-type]
        if sequence > self._last_sequence:  # an earlier master's: nothing of ours was seen
            sequence = 0
        return [event for event in self.ring if event.sequence > sequence]

    async def events(self, request: ListEvents) -> Events:
        if request.after < 0:
            return Events(events=[], next_after=self._last_sequence, incarnation=self.incarnation)
        found: list[Event] = []
        with trio.move_on_after(request.wait_s):
            while not (found := self._after(request.after)):
                await self._news.wait()
        found = found[: request.limit]
        next_after = found[-1].sequence if found else min(request.after, self._last_sequence)
        return Events(events=found, next_after=next_after, incarnation=self.incarnation)
