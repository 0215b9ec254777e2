"""Job requests: what operators have the store do, and what becomes of orphans.

An orphan is a needle that no object names.  `job_commands` carries requests out; here are the rights to them.
"""

from __future__ import annotations

from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.disks import DiskHandlers
from warehouse.actors.control.job_commands import JobCommands
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.auth.rights import Permission
from warehouse.errors import BadRequest
from warehouse.transport.messages import (
    CancelJobs,
    DecideOrphans,
    Done,
    Jobs,
    ListJobs,
    PauseJobs,
    StartJobs,
)
from warehouse.transport.zeromq.peers import Peer


class JobHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        scheduler: JobScheduler,
        lineage: Lineage,
        disks: DiskHandlers,
    ) -> None:
        self._events = context.events
        self._sessions = sessions
        self._scheduler = scheduler
        self._commands = JobCommands(context, scheduler)
        self._lineage = lineage
        self._disks = disks

    def routes(self) -> Routes:
        return (
            Routes()
            .later(StartJobs, self.start)
            .now(ListJobs, self.list_jobs)
            .later(CancelJobs, self.cancel)
            .later(PauseJobs, self.pause)
            .later(DecideOrphans, self.decide_orphans)
        )

    async def start(self, peer: Peer, request: StartJobs) -> Jobs:
        self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        return await self._commands.start_jobs(
            request.work, request.volume_ids, is_all=request.is_all, is_forced=request.is_forced
        )

    def list_jobs(self, peer: Peer, request: ListJobs) -> Jobs:
        self._sessions.require(peer, Permission.SEE_CLUSTER)
        return self._commands.list_jobs(request.job_ids)

    async def cancel(self, peer: Peer, request: CancelJobs) -> Jobs:
        self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        return await self._commands.cancel_jobs(request.job_ids)

    async def pause(self, peer: Peer, request: PauseJobs) -> Jobs:
        self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        return await self._commands.pause(request.is_paused)

    async def decide_orphans(self, peer: Peer, request: DecideOrphans) -> Done:
        self._sessions.require(peer, Permission.MANAGE_CLUSTER)
        if request.decision not in ("keep", "drop"):
            raise BadRequest(f"orphans are for 'keep' or 'drop', not {request.decision!r}")
        was_behind = self._lineage.is_behind
        await self._lineage.decide(is_kept=request.decision == "keep")
        self._scheduler.orphans_decided(may_drop=request.decision == "drop")
        if was_behind:
            self._disks.register_again()
        self._events.record("orphans_decided", decision=request.decision)
        return Done()
