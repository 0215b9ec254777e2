"""Maintenance: what a program asks of the store's own upkeep.

Compactions and verifications are **jobs** of the master, one at a time on each disk: whoever started one may
leave, and a restart of any actor only delays it.  Events tell what the store noticed and did.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import msgspec
import trio

from warehouse.client.control import Control, back_off_s
from warehouse.errors import DeadlineExceeded, LinkDown, NoSuchJob, OutcomeUnknown, Overloaded
from warehouse.transport.messages import (
    CancelJobs,
    ClusterStatus,
    DecideOrphans,
    Done,
    Event,
    Events,
    Job,
    Jobs,
    ListEvents,
    ListJobs,
    PauseJobs,
    StartJobs,
    Status,
)

POLL_FIRST_S = 0.1  # small volumes are done at once
POLL_S = 0.5  # the master hears from its compactors as often
EVENTS_WAIT_S = 15.0
JOBS_AT_ONCE = 5_000

JobProgress = Callable[[Jobs], None]


class Maintenance:
    """The part of a `Warehouse` that looks after the store itself."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def status(self) -> Status:
        """What the cluster says of itself: disks, volumes, room, counts, jobs, damage."""
        status = await self._control.ask(ClusterStatus(is_paged=True), Status)
        page = status
        while page.next_disk:
            request = ClusterStatus(is_paged=True, from_disk=page.next_disk, from_volume=page.next_volume)
            page = await self._control.ask(request, Status)
            status = _joined(status, page)
        return status

    async def compact(self, volume_ids: Iterable[int] | None = None, *, force: bool = False) -> list[Job]:
        """Have volumes rewritten without their dead needles, so that the disk gets the room back.

        Reads, puts and deletes go on meanwhile; the writes of a volume pause for the short switch at its end.

        Args:
            volume_ids: None: all volumes.
            force: of all volumes, compact also those that would give less than a hundredth of their size
                back.  Without it the jobs of those end at once, and say so in their `message`.
        Returns:
            A job for each volume, at its beginning; see `wait_jobs`.  A volume whose compaction is under way
            already keeps that job, so asking twice is harmless.
        Raises:
            NoSuchVolume: one of them does not exist; nothing was started.
            PermissionDenied.
        """
        return await self._start("compact", volume_ids, force=force)

    async def verify(self, volume_ids: Iterable[int] | None = None) -> list[Job]:
        """Have every needle of volumes read from the disk and checked, now; otherwise as `compact`.

        A job that found damage ends as "done" with a `damaged_count`; `status().damages` names the needles.
        """
        return await self._start("verify", volume_ids)

    async def _start(self, work: str, volume_ids: Iterable[int] | None, *, force: bool = False) -> list[Job]:
        wanted = None if volume_ids is None else [*volume_ids]
        if wanted == []:
            return []
        request = StartJobs(work=work, volume_ids=wanted or [], is_all=wanted is None, is_forced=force)
        return (await self._whole(await self._control.ask(request, Jobs))).jobs

    async def _whole(self, answer: Jobs) -> Jobs:
        """An answer, with the jobs that did not fit into its message."""
        jobs = [*answer.jobs]
        while answer.rest:
            some, rest = answer.rest[:JOBS_AT_ONCE], answer.rest[JOBS_AT_ONCE:]
            page = await self._control.ask(ListJobs(job_ids=some), Jobs)
            jobs += page.jobs
            answer = msgspec.structs.replace(answer, rest=[*page.rest, *rest])
        return msgspec.structs.replace(answer, jobs=jobs)

    async def _listed(self, job_ids: Sequence[int]) -> Jobs:
        """Jobs of these numbers, one at least; in as many messages as they take."""
        some, rest = [*job_ids[:JOBS_AT_ONCE]], [*job_ids[JOBS_AT_ONCE:]]
        answer = await self._control.ask(ListJobs(job_ids=some), Jobs)
        return await self._whole(msgspec.structs.replace(answer, rest=[*answer.rest, *rest]))

    async def jobs(self, job_ids: Iterable[int] = ()) -> list[Job]:
        """The jobs of these numbers; without any, all that are not over and the latest that are.

        Raises:
            NoSuchJob: one of them never was, or was over too long ago to be remembered.
        """
        if wanted := [*job_ids]:
            return (await self._listed(wanted)).jobs
        return (await self._whole(await self._control.ask(ListJobs(), Jobs))).jobs

    async def wait_jobs(self, jobs: Iterable[Job], progress: JobProgress | None = None) -> list[Job]:
        """Wait until jobs are over; returns them, in order, as they ended.

        A job that failed is no error here: look at `state`, `code` and `message`.  One whose end nobody
        remembers, because the master was restarted in that moment, comes back as failed with `NoSuchJob`'s
        code.  Leaving early (being cancelled) leaves the jobs running.

        Args:
            progress: called about twice a second with all of them, and whether they are held by a pause.
        Raises:
            LinkDown: the master was away for longer than the timeout; the jobs will go on when it is back.
        """
        known = {job.job_id: job for job in jobs}
        pause_s = POLL_FIRST_S
        while True:
            answer = await self._look_after(known)
            known |= {job.job_id: job for job in answer.jobs}
            if progress is not None:
                progress(Jobs(jobs=[*known.values()], is_paused=answer.is_paused))
            if all(job.is_finished for job in known.values()):
                return [*known.values()]
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S)

    async def _look_after(self, known: dict[int, Job]) -> Jobs:
        """How far those of these jobs are that were not over yet."""
        unfinished = [job_id for job_id, job in known.items() if not job.is_finished]
        if not unfinished:
            return Jobs(jobs=[])
        try:
            return await self._listed(unfinished)
        except NoSuchJob:
            # A master that was restarted knows of no job that had ended before.  It still knows the others.
            answer = await self._whole(await self._control.ask(ListJobs(), Jobs))
        found = {job.job_id: job for job in answer.jobs}
        return msgspec.structs.replace(
            answer, jobs=[found.get(job_id) or _forgotten(known[job_id]) for job_id in unfinished]
        )

    async def cancel_jobs(self, job_ids: Iterable[int]) -> list[Job]:
        """Give jobs up; what a cancelled compaction has copied is thrown away, and its volume is as before.

        A job that is over stays as it ended.

        Returns:
            The jobs; one that its compactor has to let go of first may not be over yet.
        Raises:
            NoSuchJob: as `jobs`.
            PermissionDenied.
        """
        wanted, jobs = [*job_ids], list[Job]()
        for start in range(0, max(1, len(wanted)), JOBS_AT_ONCE):
            some = wanted[start : start + JOBS_AT_ONCE]
            jobs += (await self._whole(await self._control.ask(CancelJobs(job_ids=some), Jobs))).jobs
        return jobs

    async def keep_orphans(self) -> None:
        """Keep aside what the volumes hold and the catalog does not know, and go on.

        A store whose catalog is older than its disks changes nothing until this is said, or until the catalog
        is made anew from the disks (`warehouse rebuild --replace`), which brings everything back.
        """
        await self._control.ask(DecideOrphans(decision="keep"), Done)

    async def drop_orphans(self) -> None:
        """Take for garbage what the volumes hold and the catalog does not know.

        Raises:
            CatalogBehind: the catalog is older than a disk, so that may be what was put since.
        """
        await self._control.ask(DecideOrphans(decision="drop"), Done)

    async def pause_jobs(self) -> list[Job]:
        """Hold all compaction and verification of the store where it is, until `resume_jobs`.

        A restart of the store does not end the pause.

        Returns:
            The jobs that are held.
        """
        return await self._pause(True)

    async def resume_jobs(self) -> list[Job]:
        """Let compaction and verification go on after `pause_jobs`; returns the jobs that do."""
        return await self._pause(False)

    async def _pause(self, is_paused: bool) -> list[Job]:
        answer = await self._whole(await self._control.ask(PauseJobs(is_paused=is_paused), Jobs))
        return [job for job in answer.jobs if not job.is_finished]

    def events(self, after: int | None = None) -> EventStream:
        """What the store notices and does, as it happens; never ends by itself.

            async for event in warehouse.events():
                print(event.name, event.fields)

        It waits for a master that is away, for as long as it takes, and tells of what it went through by
        events of its own, whose `sequence` is 0:

            master_unreachable   nobody has answered for the timeout; it keeps trying
            master_reached       the same master answers again
            master_restarted     events count anew from here, beginning with the first of the new master
            events_missed        the master no longer had the next `count` events

        Args:
            after: a sequence number: first those of the events after it that the master remembers (0: all
                of them).  None: only what happens from now on.
        """
        return EventStream(self._control, after)


def _joined(status: Status, page: Status) -> Status:
    """A status and its next page, which may begin in the middle of a disk."""
    disks, more = [*status.disks], [*page.disks]
    if disks and more and disks[-1].disk_id == more[0].disk_id:
        last = disks.pop()
        disks.append(msgspec.structs.replace(last, volumes=[*last.volumes, *more.pop(0).volumes]))
    return msgspec.structs.replace(status, disks=[*disks, *more], next_disk="", next_volume=0)


def _forgotten(job: Job) -> Job:
    return msgspec.structs.replace(
        job,
        state="failed",
        code=NoSuchJob.code,
        message="the master was restarted when this ended, and does not know how",
    )


class EventStream:
    """Events, poll by poll; made by `Warehouse.events`.  One that is left early needs no closing."""

    def __init__(self, control: Control, after: int | None) -> None:
        self._control = control
        self._after = -1 if after is None else after
        self._incarnation: int | None = None  # of the master that `_after` is from
        self._connection: int | None = None  # that it was told on
        self._is_reachable = True
        self._broken_count = 0
        self._page: deque[Event] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._page:
            self._page.extend(await self._turn_page())
        return self._page.popleft()

    async def _turn_page(self) -> Sequence[Event]:
        """Ask once; nothing comes back when nothing happened within the wait."""
        # Behind a new connection may be a new master, which would wait for a number that it is far from.
        is_known = self._connection is not None and self._connection == self._control.connection
        wait_s = min(EVENTS_WAIT_S, self._control.timeout_s / 2) if is_known else 0.0
        try:
            request = ListEvents(after=self._after, wait_s=wait_s)
            answer = await self._control.ask(request, Events, is_repeatable=False)
        except OutcomeUnknown:  # the connection broke while it waited
            self._connection = None
            await trio.sleep(back_off_s(self._broken_count))  # the link may need a moment to notice, too
            self._broken_count += 1
            return ()
        except (LinkDown, DeadlineExceeded, Overloaded):  # after trying for the whole timeout
            self._connection = None
            was_reachable, self._is_reachable = self._is_reachable, False
            return (_own_event("master_unreachable"),) if was_reachable else ()
        was_reachable, self._is_reachable = self._is_reachable, True
        self._broken_count = 0
        if self._incarnation not in (None, answer.incarnation):
            self._incarnation, self._after, self._connection = answer.incarnation, 0, None
            return (_own_event("master_restarted"),)
        told = [] if was_reachable else [_own_event("master_reached")]
        if answer.events and 0 < self._after < answer.events[0].sequence - 1:
            told.append(_own_event("events_missed", count=answer.events[0].sequence - 1 - self._after))
        self._incarnation, self._after = answer.incarnation, answer.next_after
        self._connection = self._control.connection
        return [*told, *answer.events]


def _own_event(name: str, **fields: int) -> Event:
    return Event(sequence=0, at_ms=time.time_ns() // 1_000_000, name=name, fields={**fields})
