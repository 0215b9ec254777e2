"""Jobs: compactions and verifications, as pages show and follow them.

A job waits, runs, and ends; a pause holds all of them.  What people do with jobs is in `webui/pages/jobs.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import warehouse
from warehouse.errors import NoSuchJob
from warehouse.webui import feeds
from warehouse.webui.following import NEVER_S, follow_changes
from warehouse.webui.stores import OpenStore

RUNNING_S = 0.5  # between looks at jobs that run: the master asks its compactors as often
WAITING_S = 5.0  # between looks at jobs that wait, and may wait for something else now

DOING = {"compact": "Compacting", "verify": "Verifying"}
NOUNS = {"compact": "Compaction", "verify": "Verification"}
_STATES = {
    "queued": ("quiet", "waits"),
    "copying": ("good", "copying"),
    "switching": ("good", "switching"),
    "verifying": ("good", "reading"),
    "done": ("quiet", "done"),
    "failed": ("bad", "failed"),
    "cancelled": ("warn", "cancelled"),
}


def state_of(job: warehouse.Job, *, is_paused: bool) -> tuple[str, str]:
    """A kind of pill, and its word."""
    if job.damaged_count:
        return "bad", "found damage"
    if job.is_stalled:
        return "warn", "stands still"
    if is_paused and not job.is_finished:
        return "warn", "paused"
    return _STATES.get(job.state, ("quiet", job.state))


@dataclass(frozen=True)
class Jobs:
    """The jobs of a store.

    Attributes:
        unfinished: those that run before those that wait, then the oldest first.
        ended: the latest first.
    """

    unfinished: list[warehouse.Job]
    ended: list[warehouse.Job]
    is_paused: bool

    @property
    def is_empty(self) -> bool:
        return not self.unfinished and not self.ended

    @property
    def is_running(self) -> bool:
        return not self.is_paused and any(job.state != "queued" for job in self.unfinished)

    def state(self, job: warehouse.Job) -> tuple[str, str]:
        return state_of(job, is_paused=self.is_paused)

    @classmethod
    def of(cls, jobs: list[warehouse.Job], *, is_paused: bool) -> Jobs:
        unfinished = [job for job in jobs if not job.is_finished]
        ended = [job for job in jobs if job.is_finished]
        return cls(
            sorted(unfinished, key=lambda job: (job.state == "queued", job.job_id)),
            sorted(ended, key=lambda job: (-job.ended_ms, -job.job_id)),
            is_paused,
        )


async def look(store: warehouse.Store) -> Jobs:
    """All jobs that are not finished, and the latest that are."""
    jobs, is_paused = await store.jobs_and_pause()
    return Jobs.of(jobs, is_paused=is_paused)


@feeds.provider("jobs")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that jobs began or ended, and while they run how far they are."""
    store, known = opened.store, Jobs([], [], False)

    async def look_again(is_news: bool) -> float:
        nonlocal known
        now = await look(store) if is_news else await _look_at(store, known)
        if is_news or (now.unfinished, now.is_paused) != (known.unfinished, known.is_paused):
            publish({"at": time.time()})
        known = now
        return RUNNING_S if now.is_running else WAITING_S if now.unfinished else NEVER_S

    await follow_changes(store, ("jobs",), look_again)


async def _look_at(store: warehouse.Store, known: Jobs) -> Jobs:
    """The unfinished jobs that are known, as they are now; the master tells when there are others."""
    try:
        jobs, is_paused = await store.jobs_and_pause([job.job_id for job in known.unfinished])
    except NoSuchJob:  # the master was restarted
        return await look(store)
    return Jobs.of(jobs, is_paused=is_paused)
