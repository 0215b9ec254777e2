"""Figures: how busy and how full the store is now, as operators see it.

What takes a look at every bucket or volume is looked at once a second at most, however many ask.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.meters import WINDOW_S, Meters
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.actors.control.status import store_health
from warehouse.auth.rights import Permission
from warehouse.errors import BadRequest
from warehouse.transport.messages import DiskFigures, Figures, StoreFigures
from warehouse.transport.messages.paging import fitting
from warehouse.transport.zeromq.peers import Peer

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
    of_disks: dict[str, tuple[int, int]]  # by disk id, its stored and its dead bytes


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
        of_disks = {disk_id: _stored_and_dead(disk) for disk_id, disk in disks.items()}
        return Content(
            store_health(context, context.catalog.damage_count()),
            *context.catalog.totals(),
            sum(stored for stored, _ in of_disks.values()),
            sum(dead for _, dead in of_disks.values()),
            sum(free_of(disk) for disk in disks.values()),
            sum(disk.capacity for disk in disks.values()),
            of_disks,
        )


def _stored_and_dead(disk: DiskState) -> tuple[int, int]:
    reports = [volume.report for volume in disk.volumes.values() if volume.report is not None]
    stored = sum(report.live_bytes for report in reports) + disk.written
    return stored, sum(report.dead_bytes for report in reports)


def free_of(disk: DiskState) -> int:
    """Bytes free on the disk, without what was written since its latest report."""
    return max(0, disk.free - disk.written)


class FiguresHandlers:
    def __init__(
        self, context: MasterContext, sessions: Sessions, *, meters: Meters, content: StoreContent
    ) -> None:
        self._fleet = context.fleet
        self._sessions = sessions
        self._meters = meters
        self._content = content

    def routes(self) -> Routes:
        return Routes().now(StoreFigures, self.figures)

    def figures(self, peer: Peer, request: StoreFigures) -> Figures:
        self._sessions.require(peer, Permission.SEE_CLUSTER)
        disks = self._fleet.disks
        if request.from_disk and request.from_disk not in disks:
            raise BadRequest(f"there is no disk {request.from_disk!r} to continue with: ask from the start")
        order = sorted(disks.values(), key=lambda disk: (disk.name, disk.disk_id))
        start = order.index(disks[request.from_disk]) if request.from_disk else 0
        content = self._content.now()
        page = [self._of_disk(disk, content) for disk in order[start:]]
        following = start + (count := fitting(page))
        return Figures(
            at_ms=now_ms(),
            window_s=WINDOW_S,
            health=content.health,
            bucket_count=content.bucket_count,
            object_count=content.object_count,
            byte_count=content.byte_count,
            stored_bytes=content.stored_bytes,
            dead_bytes=content.dead_bytes,
            free=content.free,
            capacity=content.capacity,
            rates=self._meters.window().rates(WINDOW_S),
            disks=page[:count],
            next_disk=order[following].disk_id if following < len(order) else "",
        )

    def _of_disk(self, disk: DiskState, content: Content) -> DiskFigures:
        stored, dead = content.of_disks.get(disk.disk_id, (0, 0))
        return DiskFigures(
            disk_id=disk.disk_id,
            name=disk.name,
            is_online=disk.is_online,
            capacity=disk.capacity,
            free=free_of(disk),
            stored_bytes=stored,
            dead_bytes=dead,
            rates=self._meters.disk(disk.disk_id).rates(WINDOW_S),
        )
