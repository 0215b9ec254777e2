"""JobOutcomes: what becomes of a job after an attempt: its state, and what operators hear of it."""

from __future__ import annotations

import logging
import time

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.job_records import JobRecords
from warehouse.actors.control.job_state import COMPACT, VERIFY, JobState
from warehouse.errors import (
    CompactorOffline,
    DiskFull,
    LinkDown,
    NoRoomToCompact,
    StaleIncarnation,
    StoreError,
    VolumeBusy,
    VolumeOffline,
    VolumeSealed,
)

log = logging.getLogger(__name__)

# An actor went away or is busy, which is nobody's failure: the job waits for it, however often.
INTERRUPTIONS = (LinkDown, StaleIncarnation, VolumeOffline, CompactorOffline, VolumeSealed, VolumeBusy)
# Another attempt in a moment would end the same way.
HOPELESS = (NoRoomToCompact, DiskFull)


class JobOutcomes:
    def __init__(self, context: MasterContext, records: JobRecords) -> None:
        self._context = context
        self._records = records
        self._table = records.table

    async def finished(self, job: JobState) -> None:
        if job.work == VERIFY or job.pause_ms:  # a compaction has read and checked all that it kept
            self._context.troubles.over("volume_unverified", f"volume {job.volume_id}")
        self._table.finish(job, now=time.monotonic(), dead_bytes=self._dead_bytes(job))
        if job.work == COMPACT:
            gains = {"freed_bytes": job.freed_bytes, "pause_ms": round(job.pause_ms, 3)}
            self._tell(job, "finished", **gains, damaged_count=job.damaged_count)
            log.info("compaction finished", extra={"volume_id": job.volume_id, **gains})
        else:
            self._tell(job, "finished", damaged_count=job.damaged_count)
            log.info(
                "verification finished",
                extra={"volume_id": job.volume_id, "damaged_count": job.damaged_count},
            )
        await self._close(job)

    async def attempt_ended(self, job: JobState, error: StoreError) -> None:
        """An attempt did not get through: queue the job again, or fail it."""
        now = time.monotonic()
        if isinstance(error, INTERRUPTIONS):
            self._table.interrupted(job, error, now=now, now_ms=now_ms())
        elif isinstance(error, HOPELESS) or not self._table.attempt_failed(
            job, error, now=now, now_ms=now_ms()
        ):
            await self._failed(job, error)
            return
        self._tell(job, "requeued", code=error.code, message=error.message)
        log.warning(f"{job.noun} queued again", extra={"volume_id": job.volume_id, "cause": error.message})

    async def _failed(self, job: JobState, error: StoreError) -> None:
        self._table.fail(job, error, now=time.monotonic(), dead_bytes=self._dead_bytes(job))
        self._tell(job, "failed", code=error.code, message=error.message)
        if job.work == VERIFY:
            self._context.troubles.tell(
                "volume_unverified",
                f"volume {job.volume_id}",
                f"volume {job.volume_id} could not be verified: {error.message}",
                job_id=job.job_id,
                volume_id=job.volume_id,
                disk=job.disk_name,
            )
        await self._close(job)
        log.error(f"{job.noun} failed", extra={"volume_id": job.volume_id, "cause": error.message})

    async def cancelled(self, job: JobState) -> None:
        if job.is_finished:
            return
        self._table.cancel(job, now=time.monotonic(), dead_bytes=self._dead_bytes(job))
        self._tell(job, "failed", code="cancelled", message=job.message)
        await self._close(job)

    def _dead_bytes(self, job: JobState) -> int:
        report = self._context.fleet.volumes[job.volume_id].report
        return report.dead_bytes if report is not None else 0

    async def _close(self, job: JobState) -> None:
        self._context.troubles.over("job_stalled", f"job {job.job_id}")
        await self._records.close(job)

    def _tell(self, job: JobState, what: str, **fields: str | int | float | None) -> None:
        self._context.events.record(
            f"{job.noun}_{what}",
            job_id=job.job_id,
            volume_id=job.volume_id,
            disk=job.disk_name,
            **fields,
        )
