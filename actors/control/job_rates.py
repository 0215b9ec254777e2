"""JobRates: how many bytes a second each job may read and write now.

The rates follow `rate_policy`, which is pure: it says when the clients of a disk count as busy.
"""

from __future__ import annotations

import time

from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.job_records import JobRecords
from warehouse.actors.control.job_state import COMPACT, OPERATOR, JobState
from warehouse.actors.control.rate_policy import RatePolicy, full_rate, spread_rate


class JobRates:
    def __init__(self, context: MasterContext, records: JobRecords) -> None:
        self._context = context
        self._records = records
        self._policies: dict[str, RatePolicy] = {}

    def disk_came(self, disk: DiskState) -> None:
        self._policies[disk.disk_id] = RatePolicy()

    def reported(self, disk: DiskState, request_count: int) -> None:
        self._policy(disk.disk_id).note_requests(request_count, now=time.monotonic())

    def rate_of(self, job: JobState) -> int | None:
        """Bytes a second that a job may read and write now; 0: hold; None: unlimited."""
        if self._records.is_paused:
            return 0
        settings = self._context.settings
        is_busy = self._policy(job.disk_id).is_busy(now=time.monotonic())
        if job.work == COMPACT or job.origin == OPERATOR:
            return full_rate(settings.compaction, is_busy=is_busy)
        volumes = self._context.fleet.disks[job.disk_id].volumes.values()
        return spread_rate(
            settings.compaction,
            settings.verification,
            is_busy=is_busy,
            disk_bytes=sum(volume.file_size for volume in volumes),
        )

    def _policy(self, disk_id: str) -> RatePolicy:
        return self._policies.setdefault(disk_id, RatePolicy())
