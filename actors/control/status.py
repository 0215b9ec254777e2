"""Status: what operators and their monitoring see of the store.

    ClusterStatus    disks, volumes, counts, jobs and troubles, page by page
    ListVolumes      volumes of one disk, or some by their numbers
    ListEvents       what happened, and what happens next
    GET /healthz     is the catalog good?
    GET /metrics     the same figures for Prometheus

The requests come over the control connection, the GETs over the port for monitoring.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from warehouse.actors.control.audit import AuditLog
from warehouse.actors.control.catalog_space import CatalogRoom
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.recount import Recount
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.sessions import ClientSession, Sessions
from warehouse.actors.control.sight import shown_damages, shown_event
from warehouse.actors.control.store_content import StoreContent, is_catalog_sound, store_health
from warehouse.actors.monitoring import MonitoringServer
from warehouse.auth.rights import Permission
from warehouse.catalog.interface import Catalog
from warehouse.errors import BadRequest, NoSuchDisk
from warehouse.transport.messages import (
    DAMAGES_MAX,
    ClusterStatus,
    Events,
    ListEvents,
    ListVolumes,
    Status,
    VolumesListed,
)
from warehouse.transport.messages.paging import ANSWER_SIZE_MAX, first_that_fit
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.peers import Peer
from warehouse.version import package_version

VOLUMES_LISTED_MAX = 1000  # by number, or of a disk at once
LESSER_SIZE_MAX = ANSWER_SIZE_MAX // 4  # bytes of each list that comes with what is paged


class StatusHandlers:
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        scheduler: JobScheduler,
        content: StoreContent,
        catalog_room: CatalogRoom,
        hub: Hub,
    ) -> None:
        self._context = context
        self._content = content
        self._catalog = context.catalog
        self._events = context.events
        self._fleet = context.fleet
        self._troubles = context.troubles
        self._sessions = sessions
        self._scheduler = scheduler
        self._catalog_room = catalog_room
        self._hub = hub
        self._started_at = time.monotonic()

    def routes(self) -> Routes:
        return (
            Routes()
            .now(ClusterStatus, self.cluster_status)
            .now(ListVolumes, self.list_volumes)
            .later(ListEvents, self.list_events)
        )

    def cluster_status(self, peer: Peer, request: ClusterStatus) -> Status:
        rights = self._sessions.require(peer, Permission.SEE_CLUSTER).rights
        at_ms = now_ms()
        disks, following = self._fleet.status(
            self._scheduler.jobs_under_way(),
            now_ms=at_ms,
            from_disk=request.from_disk,
            from_volume=request.from_volume,
            has_volumes=request.has_volumes,
            contents=self._content.now().of_disks,
        )
        if following is not None and not request.is_paged:
            raise BadRequest(
                "the status of so many volumes does not fit into one message: ask for it page by page, as"
                " later releases of this library do"
            )
        is_first = not request.from_disk  # the lists next to the disks come with the first page
        bucket_count, object_count, byte_count = self._catalog.totals()
        damage_count = self._catalog.damage_count()
        damages = self._catalog.damage_records(DAMAGES_MAX) if damage_count and is_first else []
        return Status(
            version=package_version(),
            incarnation=self._context.incarnation,
            uptime_s=time.monotonic() - self._started_at,
            health=store_health(self._context, damage_count),
            disks=disks,
            bucket_count=bucket_count,
            object_count=object_count,
            byte_count=byte_count,
            garbage_count=sum(self._catalog.outbox_counts().values()),
            upload_count=self._catalog.upload_count(),
            client_count=sum(isinstance(other.session, ClientSession) for other in self._hub.peers.values()),
            damages=first_that_fit(shown_damages(self._catalog, damages, rights), LESSER_SIZE_MAX),
            damage_count=damage_count,
            unchecked_s=self._fleet.unchecked_s(at_ms),
            orphan_count=self._scheduler.orphan_count,
            is_paused=self._scheduler.is_paused,
            left_alone=first_that_fit(self._scheduler.left_alone(), LESSER_SIZE_MAX) if is_first else [],
            catalog_free=self._catalog_room.free,
            stalled_job_count=self._scheduler.stalled_count,
            compactors=sorted(disk.name for disk in self._fleet.disks.values() if disk.compactor is not None),
            gateways=sorted(gateway.name for gateway in self._fleet.gateways.values()),
            troubles=first_that_fit(self._troubles.listed(), LESSER_SIZE_MAX) if is_first else [],
            trouble_count=len(self._troubles),
            next_disk=following[0] if following is not None else "",
            next_volume=following[1] if following is not None else 0,
        )

    def list_volumes(self, peer: Peer, request: ListVolumes) -> VolumesListed:
        self._sessions.require(peer, Permission.SEE_CLUSTER)
        fleet, jobs = self._fleet, self._scheduler.jobs_under_way()
        if not request.disk_id:
            found = [fleet.volumes[number] for number in request.volume_ids if number in fleet.volumes]
            return VolumesListed(
                volumes=fleet.volume_statuses(found, jobs, now_ms=now_ms()),
                disk_ids={volume.volume_id: volume.disk_id for volume in found},
            )
        if request.disk_id not in fleet.disks:
            raise NoSuchDisk(f"there is no disk {request.disk_id!r}")
        volumes = fleet.disks[request.disk_id].volumes
        following = sorted(number for number in volumes if number >= request.from_volume)
        count = max(1, min(request.limit, VOLUMES_LISTED_MAX))
        return VolumesListed(
            volumes=fleet.volume_statuses([volumes[n] for n in following[:count]], jobs, now_ms=now_ms()),
            next_volume=following[count] if len(following) > count else 0,
        )

    async def list_events(self, peer: Peer, request: ListEvents) -> Events:
        self._sessions.require(peer, Permission.SEE_EVENTS)
        incarnation = self._context.incarnation
        if request.after < 0:
            return Events(events=[], next_after=self._events.last, incarnation=incarnation)
        entries = await self._events.wait_after(request.after, request.limit, request.wait_s)
        # The key may have changed during the wait.
        rights = self._sessions.require(peer, Permission.SEE_EVENTS).rights
        found = first_that_fit([shown_event(entry, rights) for entry in entries])
        next_after = found[-1].sequence if found else min(request.after, self._events.last)
        return Events(events=found, next_after=next_after, incarnation=incarnation)


# --- for monitoring -------------------------------------------------------------------------------


class MasterMetrics(Collector):
    def __init__(
        self,
        context: MasterContext,
        sessions: Sessions,
        *,
        scheduler: JobScheduler,
        catalog_room: CatalogRoom,
        recount: Recount,
        hub: Hub,
        audit: AuditLog,
        history: Callable[[], list[tuple[str, str, float]]],
    ) -> None:
        """
        Args:
            history: the figures about the history.
        """
        self._audit = audit
        self._history = history
        self._context = context
        self._sessions = sessions
        self._scheduler = scheduler
        self._catalog_room = catalog_room
        self._recount = recount
        self._hub = hub

    def collect(self) -> list[Metric]:
        return [
            *(
                GaugeMetricFamily(f"warehouse_master_{name}", text, value=value)
                for name, text, value in self._figures()
            ),
            self._skews(),
            *self._scheduler.metrics(),
        ]

    def _figures(self) -> list[tuple[str, str, float]]:
        room, difference_count = self._catalog_room, self._recount.difference_count
        return [
            *self._catalog_figures(),
            *self._cluster_figures(),
            *self._audit.figures(),
            *self._history(),
            ("catalog_free", "Bytes free on the disk of the catalog", room.free or 0),
            ("catalog_full", "Whether the disk of the catalog is too full for anything new", room.is_short),
            ("count_differences", "Figures that differed from the last recount", difference_count),
        ]

    def _catalog_figures(self) -> list[tuple[str, str, float]]:
        catalog = self._context.catalog
        bucket_count, object_count, byte_count = catalog.totals()
        garbage_count = sum(catalog.outbox_counts().values())
        return [
            ("buckets", "Buckets", bucket_count),
            ("objects", "Objects", object_count),
            ("object_bytes", "Bytes of all objects", byte_count),
            ("uploads", "Uploads that are not finished", catalog.upload_count()),
            ("garbage", "Needles that wait for their tombstone", garbage_count),
        ]

    def _cluster_figures(self) -> list[tuple[str, str, float]]:
        fleet, troubles = self._context.fleet, self._context.troubles
        logins, hub = self._sessions.failed_logins, self._hub.counters
        return [
            ("connections", "Control connections", len(self._hub.peers)),
            ("failed_logins", "Logins that failed since the start", logins.total),
            ("logins_put_off", "Failed logins beyond the budget of an address or key", logins.put_off_count),
            ("connections_turned_away", "Control connections shut before a login", hub.turned_away),
            ("connections_held_off", "Control connections of addresses that came too often", hub.held_off),
            ("disks_online", "Disks online", sum(disk.is_online for disk in fleet.disks.values())),
            ("disks", "Disks known", len(fleet.disks)),
            ("writable_volumes", "Volumes that take writes", fleet.room.writable_count()),
            ("troubles", "Things that are wrong now: `warehouse status` names them", len(troubles)),
        ]

    def _skews(self) -> Metric:
        skews = GaugeMetricFamily(
            "warehouse_master_disk_clock_skew_seconds",
            "How far the wall clock of a disk is ahead of the master's",
            labels=["disk"],
        )
        for disk in self._context.fleet.disks.values():
            if disk.clock_skew_s is not None:
                skews.add_metric([disk.disk_id], disk.clock_skew_s)
        return skews


def monitoring_of(catalog: Catalog, metrics: Collector) -> MonitoringServer:
    """What the master's port for health and metrics answers."""
    registry = CollectorRegistry()
    registry.register(metrics)

    def health() -> tuple[bool, str]:
        is_sound = is_catalog_sound(catalog)
        return is_sound, "ok" if is_sound else "catalog failed"

    return MonitoringServer(health=health, metrics=lambda: generate_latest(registry))
