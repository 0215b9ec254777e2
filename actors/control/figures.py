"""Figures: how busy and how full the store is now, as operators see it."""

from __future__ import annotations

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.fleet_state import DiskContent, DiskState
from warehouse.actors.control.meters import WINDOW_S, Meters
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import Sessions
from warehouse.actors.control.store_content import Content, StoreContent, free_of
from warehouse.auth.rights import Permission
from warehouse.errors import BadRequest
from warehouse.transport.messages import DiskFigures, Figures, StoreFigures
from warehouse.transport.messages.paging import fitting
from warehouse.transport.zeromq.peers import Peer


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
        its = content.of_disks.get(disk.disk_id, DiskContent())
        return DiskFigures(
            disk_id=disk.disk_id,
            name=disk.name,
            is_online=disk.is_online,
            capacity=disk.capacity,
            free=free_of(disk),
            stored_bytes=its.stored_bytes,
            dead_bytes=its.dead_bytes,
            rates=self._meters.disk(disk.disk_id).rates(WINDOW_S),
        )
