"""JobProposer: which jobs the policy wants on a disk, and which wasteful volumes it leaves alone for now.

This file shows the policy (`job_policy`, which is pure) the disks of the fleet.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.actors.control.job_policy import (
    BARRED_S,
    DiskUsage,
    VolumeUsage,
    barred_until,
    is_wasteful,
    volume_to_compact,
    volume_to_verify,
)
from warehouse.actors.control.job_state import COMPACT, VERIFY
from warehouse.actors.control.job_table import JobTable
from warehouse.transport.messages import LeftAlone

LEFT_ALONE_MAX = 1000  # volumes in one answer
PRESSED_RESERVES = 2  # room is short when less than this many reserves of the disk are free


class JobProposer:
    def __init__(self, context: MasterContext, table: JobTable) -> None:
        self._context = context
        self._table = table

    def wanted(self, disk: DiskState, queued: Collection[str]) -> list[tuple[str, VolumeState]]:
        """The jobs that the policy wants to add for a disk: the work of each, and its volume.

        Args:
            queued: works of which this disk has a job already.
        """
        if {COMPACT, VERIFY} <= {*queued}:
            return []
        usage, settings, wanted = self._usage(disk), self._context.settings, []
        if COMPACT not in queued:
            bars = self._table.bars(COMPACT)
            volume_id = volume_to_compact(usage, settings.compaction, bars=bars, now=time.monotonic())
            if volume_id is not None:
                wanted.append((COMPACT, disk.volumes[volume_id]))
        if VERIFY not in queued:
            barred = self._barred(disk)
            volume_id = volume_to_verify(usage, settings.verification, now_ms=now_ms(), barred=barred)
            if volume_id is not None:
                wanted.append((VERIFY, disk.volumes[volume_id]))
        return wanted

    def _barred(self, disk: DiskState) -> set[int]:
        """Volumes of a disk whose latest verification came to nothing a short while ago."""
        bars, now = self._table.bars(VERIFY), time.monotonic()
        return {
            volume_id
            for volume_id in disk.volumes
            if (bar := bars.get(volume_id)) is not None and now < bar.at + BARRED_S
        }

    def left_alone(self) -> list[LeftAlone]:
        """Wasteful volumes that the policy does not compact for now."""
        bars = self._table.bars(COMPACT)
        if not bars:
            return []
        settings, now, wall_ms = self._context.settings.compaction, time.monotonic(), now_ms()
        lasting = {volume_id for volume_id, bar in bars.items() if now < bar.at + BARRED_S}
        found = []
        for disk in self._context.fleet.disks.values():
            if lasting.isdisjoint(disk.volumes):
                continue
            usage = self._usage(disk)
            for volume in usage.volumes:
                bar = bars.get(volume.volume_id)
                until = barred_until(volume, usage, settings, bar, now=now)
                if bar is None or until is None or not is_wasteful(volume, usage, settings):
                    continue
                found.append(
                    LeftAlone(
                        volume_id=volume.volume_id,
                        until_ms=wall_ms + int(1000 * (until - now)),
                        code=bar.cause,
                        message=f"job {bar.job_id}: {bar.message}" if bar.message else f"job {bar.job_id}",
                    )
                )
        return found[:LEFT_ALONE_MAX]

    def _usage(self, disk: DiskState) -> DiskUsage:
        fleet, reserve = self._context.fleet, self._context.settings.store.disk_reserve
        has_room = any(fleet.room.of(volume) > 0 for volume in disk.volumes.values())
        return DiskUsage(
            free=disk.free,
            is_pressed=disk.free < PRESSED_RESERVES * reserve or not has_room,
            volumes=[
                VolumeUsage(
                    volume_id=volume.volume_id,
                    file_size=volume.report.file_size,
                    live_bytes=volume.report.live_bytes,
                    dead_bytes=volume.report.dead_bytes,
                    kept_bytes=volume.report.kept_bytes,
                    is_sealed=volume.report.sealed_cause is not None,
                    checked_ms=volume.checked_ms,
                    live_count=volume.report.live_count,
                    dead_count=volume.report.dead_count,
                    needle_id_max=volume.report.needle_id_max,
                )
                for volume in disk.volumes.values()
                if volume.report is not None
            ],
        )
