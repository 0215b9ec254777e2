"""Store content: how full the store is, and how well.

What takes a look at every bucket or volume is looked at once a second at most, however many ask.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from warehouse.actors.control.context import MasterContext
from warehouse.actors.control.fleet_state import DiskContent, DiskState
from warehouse.catalog.interface import Catalog

FRESH_S: Final = 1.0


class Content(NamedTuple):
    """How much is in the store; sums over all buckets, and over all disks."""

    health: str
    bucket_count: int
    object_count: int
    byte_count: int
    stored_bytes: int
    dead_bytes: int
    free: int
    capacity: int
    of_disks: dict[str, DiskContent]  # by disk id


class StoreContent:
    """What is in the store, looked at once a second at most."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._latest: Content | None = None
        self._looked_at = 0.0

    def now(self) -> Content:
        now = time.monotonic()
        if self._latest is None or now - self._looked_at >= FRESH_S:
            self._latest, self._looked_at = self._look(), now
        return self._latest

    def _look(self) -> Content:
        context = self._context
        disks = context.fleet.disks
        of_disks = {disk_id: _content_of(disk) for disk_id, disk in disks.items()}
        return Content(
            store_health(context, context.catalog.damage_count()),
            *context.catalog.totals(),
            sum(one.stored_bytes for one in of_disks.values()),
            sum(one.dead_bytes for one in of_disks.values()),
            sum(free_of(disk) for disk in disks.values()),
            sum(disk.capacity for disk in disks.values()),
            of_disks,
        )


def _content_of(disk: DiskState) -> DiskContent:
    reports = [volume.report for volume in disk.volumes.values() if volume.report is not None]
    return DiskContent(
        live_count=sum(report.live_count for report in reports),
        stored_bytes=sum(report.live_bytes for report in reports) + disk.written,
        dead_bytes=sum(report.dead_bytes for report in reports),
    )


def free_of(disk: DiskState) -> int:
    """Bytes free on the disk, without what was written since its latest report."""
    return max(0, disk.free - disk.written)


def store_health(context: MasterContext, damage_count: int) -> str:
    """As `Status.health`."""
    if not is_catalog_sound(context.catalog):
        return "down"
    health = context.fleet.health()
    is_troubled = damage_count or len(context.troubles)
    return "degraded" if health == "ok" and is_troubled else health


def is_catalog_sound(catalog: Catalog) -> bool:
    """False once a write of the catalog failed, or its file is no longer in its place."""
    return catalog.failure is None and catalog.displaced is None
