"""Maintenance: compactions, verifications, events and the audit log of a store, for a program.

Compactions and verifications are **jobs** of the master, one at a time on each disk.  The program that
started a job may end, and a restart of any actor only delays it.  Events say what the store has noticed and
done.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Self

import msgspec
import trio

from warehouse.client.audit import AuditStream
from warehouse.client.control import Control, back_off_s
from warehouse.client.times import since_ms
from warehouse.errors import DeadlineExceeded, LinkDown, NoSuchJob, OutcomeUnknown, Overloaded
from warehouse.transport.messages import (
    CancelJobs,
    ClusterStatus,
    DecideOrphans,
    Done,
    Event,
    Events,
    Figures,
    History,
    HistoryPoint,
    Job,
    Jobs,
    ListEvents,
    ListJobs,
    ListVolumes,
    PauseJobs,
    RotateSecret,
    SecretRotated,
    StartJobs,
    Status,
    StoreFigures,
    StoreHistory,
    VolumesListed,
)

POLL_FIRST_S = 0.1  # small volumes take no longer
POLL_S = 0.5  # the master polls its compactors as often
EVENTS_WAIT_S = 15.0
JOBS_AT_ONCE = 5_000

JobProgress = Callable[[Jobs], None]


class Maintenance:
    """The methods of `Store` about the store itself."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def status(self, *, volumes: bool = True) -> Status:
        """The status of the cluster: disks, volumes, room, counts, jobs, damage.

        Args:
            volumes: False: without them, which is much less in a large store; each disk has sums.
        """
        status = await self._control.ask(ClusterStatus(is_paged=True, has_volumes=volumes), Status)
        page = status
        while page.next_disk:
            request = ClusterStatus(
                is_paged=True,
                from_disk=page.next_disk,
                from_volume=page.next_volume,
                has_volumes=volumes,
            )
            page = await self._control.ask(request, Status)
            status = _joined(status, page)
        return status

    async def volumes(self, disk_id: str, start: int = 0, limit: int = 100) -> VolumesListed:
        """Volumes of one disk by their numbers, from number `start` on; `next_volume` begins the next page.

        Args:
            limit: 1 to 1,000.
        Raises:
            NoSuchDisk.
            PermissionDenied: it takes the permission see_cluster.
        """
        request = ListVolumes(disk_id=disk_id, from_volume=start, limit=limit)
        return await self._control.ask(request, VolumesListed)

    async def disks_of(self, volume_ids: Iterable[int]) -> dict[int, str]:
        """The ids of the disks that these volumes are on, by volume; of up to 1,000 volumes."""
        request = ListVolumes(volume_ids=sorted({*volume_ids}))
        return (await self._control.ask(request, VolumesListed)).disk_ids

    async def figures(self) -> Figures:
        """How busy and how full the store and each disk are: rates and latencies of the last ten seconds.

        A disk reports once a second at most, so asking more often shows nothing new.

        Raises:
            PermissionDenied: it takes the permission see_cluster.
        """
        figures = page = await self._control.ask(StoreFigures(), Figures)
        while page.next_disk:
            page = await self._control.ask(StoreFigures(from_disk=page.next_disk), Figures)
            figures = msgspec.structs.replace(figures, disks=[*figures.disks, *page.disks], next_disk="")
        return figures

    async def history(
        self, *, since: datetime | timedelta | None = None, points_max: int = 500
    ) -> list[HistoryPoint]:
        """How the store was, oldest first: ten seconds apart for the last hour, a minute for the last day.

            for point in await store.history(since=timedelta(hours=24)):
                print(point.at_ms, point.object_count, point.rates.gets_per_s)

        Older points are 15 minutes apart, for 30 days.  A restart of the master keeps the history; for the
        time without a master there are no points.

        Args:
            since: only points from this moment on, or of the latest timedelta; a time without a zone is
                local.  None: all that are kept.
            points_max: 1 to 2,000; where there are more, neighbours are joined into one.
        Raises:
            PermissionDenied: it takes the permission see_cluster.
        """
        request = StoreHistory(since_ms=since_ms(since), points_max=points_max)
        return (await self._control.ask(request, History)).points

    async def compact(self, volume_ids: Iterable[int] | None = None, *, force: bool = False) -> list[Job]:
        """Rewrite volumes without their dead needles, so that the disk gets the space back.

        Reads, puts and deletes continue; the writes of a volume pause for the short switch at the end.

        Args:
            volume_ids: None: all volumes.
            force: also compact volumes that would free less than 1 % of their size.  Without it, the jobs of
                such volumes end at once with a `message` that says so.
        Returns:
            A job for each volume, just started; see `wait_jobs`.  A volume that is already being compacted
            keeps its job, so a second call is harmless.
        Raises:
            NoSuchVolume: one of the volumes does not exist; nothing was started.
            PermissionDenied.
        """
        return await self._start("compact", volume_ids, force=force)

    async def verify(self, volume_ids: Iterable[int] | None = None) -> list[Job]:
        """Read every needle of volumes from disk and check it; otherwise as `compact`.

        A job that finds damage ends as "done" with a `damaged_count`; `status().damages` names the needles.
        """
        return await self._start("verify", volume_ids)

    async def _start(self, work: str, volume_ids: Iterable[int] | None, *, force: bool = False) -> list[Job]:
        wanted = None if volume_ids is None else [*volume_ids]
        if wanted == []:
            return []
        request = StartJobs(work=work, volume_ids=wanted or [], is_all=wanted is None, is_forced=force)
        return (await self._whole(await self._control.ask(request, Jobs))).jobs

    async def _whole(self, answer: Jobs) -> Jobs:
        """Complete an answer with the jobs that did not fit into its message."""
        jobs = [*answer.jobs]
        while answer.rest:
            some, rest = answer.rest[:JOBS_AT_ONCE], answer.rest[JOBS_AT_ONCE:]
            page = await self._control.ask(ListJobs(job_ids=some), Jobs)
            jobs += page.jobs
            answer = msgspec.structs.replace(answer, rest=[*page.rest, *rest])
        return msgspec.structs.replace(answer, jobs=jobs)

    async def _listed(self, job_ids: Sequence[int]) -> Jobs:
        """The jobs of these numbers, at least one, with as many messages as needed."""
        some, rest = [*job_ids[:JOBS_AT_ONCE]], [*job_ids[JOBS_AT_ONCE:]]
        answer = await self._control.ask(ListJobs(job_ids=some), Jobs)
        return await self._whole(msgspec.structs.replace(answer, rest=[*answer.rest, *rest]))

    async def jobs(self, job_ids: Iterable[int] = ()) -> list[Job]:
        """The jobs of these numbers; without numbers, all unfinished jobs and the latest finished ones.

        Raises:
            NoSuchJob: a job never existed, or finished too long ago to be remembered.
        """
        return (await self.jobs_and_pause(job_ids))[0]

    async def jobs_and_pause(self, job_ids: Iterable[int] = ()) -> tuple[list[Job], bool]:
        """As `jobs`, and whether jobs wait for `resume_jobs`."""
        if wanted := [*job_ids]:
            answer = await self._listed(wanted)
        else:
            answer = await self._whole(await self._control.ask(ListJobs(), Jobs))
        return answer.jobs, answer.is_paused

    async def wait_jobs(self, jobs: Iterable[Job], progress: JobProgress | None = None) -> list[Job]:
        """Wait until jobs are finished; return them as they ended, in order.

        A failed job raises nothing: look at its `state`, `code` and `message`.  If the master was restarted
        when a job ended, nobody knows its end: the job is returned as failed, with the code of `NoSuchJob`.
        Cancelling the wait leaves the jobs running.

        Args:
            progress: called about twice a second with all jobs, and whether a pause holds them.
        Raises:
            LinkDown: the master was away for longer than the timeout; the jobs continue when it is back.
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
        """The present state of the jobs that were not finished yet."""
        unfinished = [job_id for job_id, job in known.items() if not job.is_finished]
        if not unfinished:
            return Jobs(jobs=[])
        try:
            return await self._listed(unfinished)
        except NoSuchJob:
            # A restarted master does not know jobs that had ended before.  It still knows the others.
            answer = await self._whole(await self._control.ask(ListJobs(), Jobs))
        found = {job.job_id: job for job in answer.jobs}
        return msgspec.structs.replace(
            answer, jobs=[found.get(job_id) or _forgotten(known[job_id]) for job_id in unfinished]
        )

    async def cancel_jobs(self, job_ids: Iterable[int]) -> list[Job]:
        """Cancel jobs.  The copy of a cancelled compaction is discarded, and its volume is unchanged.

        A finished job stays as it ended.

        Returns:
            The jobs.  A job that its compactor must stop first may not be finished yet.
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
        """Keep needles that are in volumes but not in the catalog, and let the store go on.

        A store whose catalog is older than its disks changes nothing until you call this, or until you
        rebuild the catalog from the disks (`warehouse rebuild --replace`), which brings everything back.
        """
        await self._control.ask(DecideOrphans(decision="keep"), Done)

    async def drop_orphans(self) -> None:
        """Make needles garbage that are in volumes but not in the catalog.

        Raises:
            CatalogBehind: the catalog is older than a disk, so these needles may be recent objects.
        """
        await self._control.ask(DecideOrphans(decision="drop"), Done)

    async def rotate_secret(self, what: str, *, overlap_s: int | None = None) -> SecretRotated:
        """Replace a secret that the store signs or seals with.

        Args:
            what: "access" (access tokens), "data" (data tokens and signed URLs), "curve" (the key of the
                control socket, which is in profiles), "authority" (TLS certificates) or "seal" (the secrets
                of API keys are sealed with a new key; nothing becomes void).
            overlap_s: how long what the old secret signed stays valid, in seconds; 0: it is void at once.
                None: until it expires on its own.
        Returns:
            Until when (`until_ms`, since 1970; 0: it is void), and the disks that do not know the new secret
            yet (`unreached`).
        Raises:
            BadRequest: there is no such secret, or no such overlap.
            PermissionDenied: it takes `manage_keys` and `manage_cluster`.
            WriteFailed: the keyring cannot be written; the secret is the old one.
        """
        return await self._control.ask(RotateSecret(what=what, overlap_s=overlap_s), SecretRotated)

    async def pause_jobs(self) -> list[Job]:
        """Pause all compactions and verifications of the store until `resume_jobs`.

        A restart of the store does not end the pause.

        Returns:
            The paused jobs.
        """
        return await self._pause(True)

    async def resume_jobs(self) -> list[Job]:
        """Resume compactions and verifications after `pause_jobs`; return the jobs that continue."""
        return await self._pause(False)

    async def are_jobs_paused(self) -> bool:
        """Do compactions and verifications wait for `resume_jobs`?"""
        return (await self._control.ask(ListJobs(), Jobs)).is_paused

    async def _pause(self, is_paused: bool) -> list[Job]:
        answer = await self._whole(await self._control.ask(PauseJobs(is_paused=is_paused), Jobs))
        return [job for job in answer.jobs if not job.is_finished]

    def events(self, after: int | None = None) -> EventStream:
        """What the store notices and does, as it happens; the iterator never ends.

            async for event in store.events():
                print(event.name, event.fields)

        The iterator waits for a master that is away, without a limit, and reports it by events of its own,
        whose `sequence` is 0:

            master_unreachable   no master has answered for the timeout; the iterator keeps trying
            master_reached       the same master answers again
            master_restarted     numbers start again, with the first event of the new master
            events_missed        the master no longer has the next `count` events

        Args:
            after: a sequence number: start with the events after it that the master remembers (0: all of
                them).  None: only events from now on.
        """
        return EventStream(self._control, after)

    def audit(
        self, *, since: datetime | None = None, key: str = "", action: str = "", follow: bool = False
    ) -> AuditStream:
        """Who did what: the lines of the audit log, oldest first (docs/audit.md explains their fields).

            async for entry in store.audit(since=datetime.now(UTC) - timedelta(hours=1)):
                print(entry.time, entry.action, entry.key, entry.target, entry.result)

        Args:
            since: only lines from this moment on; a time without a zone is local.  None: all that are kept.
            key, action: only lines with this id of an API key, or this action; "": all.
            follow: wait for new lines; the iterator then never ends.
        Raises:
            PermissionDenied: it takes the permission manage_keys.
            ReadFailed: the master cannot read its log.
        """
        return AuditStream(self._control, since=since, key=key, action=action, follow=follow)


def _joined(status: Status, page: Status) -> Status:
    """Join a status and its next page, which may start in the middle of a disk."""
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
        message="the master was restarted when this job ended, and does not know its result",
    )


class EventStream:
    """Events, poll by poll; made by `Store.events`.  It needs no closing."""

    def __init__(self, control: Control, after: int | None) -> None:
        self._control = control
        self._after = -1 if after is None else after
        self._incarnation: int | None = None  # of the master that counted `_after`
        self._connection: int | None = None  # on which the latest events arrived
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
        """Ask once; return nothing when nothing happened during the wait."""
        # A new connection may lead to a new master, which would wait long for a number of the old one.
        is_known = self._connection is not None and self._connection == self._control.connection
        wait_s = min(EVENTS_WAIT_S, self._control.timeout_s / 2) if is_known else 0.0
        try:
            request = ListEvents(after=self._after, wait_s=wait_s)
            answer = await self._control.ask(request, Events, is_repeatable=False)
        except OutcomeUnknown:  # the connection broke while it waited
            self._connection = None
            await trio.sleep(back_off_s(self._broken_count))  # the link may need a moment to notice it
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
