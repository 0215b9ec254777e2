"""Disks: volume actors and compactors that register, report and leave.

    volume actor    Register      the disk is online; what the catalog knows of it is compared (`lineage.py`)
                    DiskReport    what has changed on the disk; the answer says what it still lacks
    compactor       RegisterCompactor

Which key may serve which disk is decided in `nodes.py`, before anything else.

A disk that is set aside (see `stamps.py`, `lineage.py`) is online for readers, and gets nothing new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from warehouse.actors.control.certificates import Certificates
from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.disk_troubles import tell_certificate_refused
from warehouse.actors.control.fleet_state import DiskState, VolumeState
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.keyring import MASTER_AUDIENCE, Keyring
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.meters import Meters
from warehouse.actors.control.nodes import Nodes
from warehouse.actors.control.provisioning import Provisioner
from warehouse.actors.control.read_grants import READ_TOKEN_S
from warehouse.actors.control.routes import Routes
from warehouse.actors.control.stamps import StampAdmission
from warehouse.errors import (
    BadRequest,
    DiskMismatch,
    LinkDown,
    NodeRemoved,
    NotAuthenticated,
    StaleIncarnation,
    StampRefused,
    Unavailable,
)
from warehouse.storage.epoch import Epoch
from warehouse.transport.messages import (
    CompactorWelcome,
    DataLimits,
    DiskReport,
    Register,
    RegisterCompactor,
    ReportSeen,
    Welcome,
)
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

DISK_TWICE_S = 60.0  # a second actor of a disk asks again within this
CLOCK_SKEW_S = 5.0  # a disk's clock may differ from ours by this before anybody is told


class DiskHandlers:
    def __init__(
        self,
        context: MasterContext,
        *,
        keyring: Keyring,
        certificates: Certificates,
        nodes: Nodes,
        lineage: Lineage,
        stamps: StampAdmission,
        provisioner: Provisioner,
        scheduler: JobScheduler,
        meters: Meters,
        disconnect: Callable[[Peer, str], None],
        revoked: Callable[[], Mapping[str, int]],
        limits: Callable[[], dict[str, DataLimits]],
        cors_origins: Sequence[str],
    ) -> None:
        """
        Args:
            revoked: see `Revocations.epochs`.
            limits: see `DataLimitsNews.all`.
            cors_origins: of web pages whose scripts may use the data ports.
        """
        self._context = context
        self._catalog = context.catalog
        self._clock = context.clock
        self._events = context.events
        self._fleet = context.fleet
        self._troubles = context.troubles
        self._nodes = nodes
        self._keyring = keyring
        self._certificates = certificates
        self._lineage = lineage
        self._stamps = stamps
        self._provisioner = provisioner
        self._scheduler = scheduler
        self._meters = meters
        self._disconnect = disconnect
        self._revoked = revoked
        self._limits = limits
        self._cors_origins = list(cors_origins)

    def routes(self) -> Routes:
        return (
            Routes()
            .later(Register, self.register)
            .now(DiskReport, self.report)
            .now(RegisterCompactor, self.register_compactor)
        )

    def load(self) -> None:
        """Make the disks and volumes of the catalog known; all of them are offline."""
        for row in self._catalog.disks():
            disk = self._fleet.add_disk(DiskState(row.id, row.name, since_ms=row.added_ms))
            self._set_node(disk)
        for volume in self._catalog.volumes():
            self._fleet.add_volume(
                VolumeState(
                    volume_id=volume.id,
                    uuid=volume.uuid,
                    capacity=volume.capacity,
                    disk_id=volume.disk_ids[0],  # one copy for now; the catalog has room for more
                    is_created=volume.state != "creating",
                    is_open_in_catalog=volume.state != "creating",
                    next_needle_id=volume.needle_id_reserved + 1,
                    needle_ids_reserved=volume.needle_id_reserved,
                    created_ms=volume.created_ms,
                    verified_ms=volume.verified_ms,
                    verify_started_ms=volume.verify_started_ms,
                    verify_generation=volume.verify_generation,
                    verify_offset=volume.verify_offset,
                )
            )

    def _set_node(self, disk: DiskState) -> None:
        """Learn which node a disk belongs to, and the keys that its tokens are signed with therefore."""
        disk.node_key = self._nodes.key_of(disk.disk_id)
        disk.has_older_urls = self._nodes.has_older_urls(disk.disk_id)
        # Those of this moment: it gets them with the welcome.
        disk.token_keys = self._keyring.token_keys_of(
            disk.disk_id, disk.node_key, has_older_urls=disk.has_older_urls
        )

    def disk_of(self, peer: Peer) -> DiskState:
        """
        Raises:
            NotAuthenticated: `peer` is not the volume actor of a disk.
        """
        disk = self._fleet.disk_of(peer)
        if disk is None:
            raise NotAuthenticated("register this disk first")
        return disk

    # --- volume actors ----------------------------------------------------------------------------

    async def register(self, peer: Peer, request: Register) -> Welcome:
        if request.disk_id == MASTER_AUDIENCE:
            # It would get the keys to what the master signs for itself.
            raise BadRequest("a disk is named by a UUID")
        try:
            self._nodes.admit_volume(peer, request)
        except NodeRemoved:  # with its disk, perhaps
            self._lineage.require_not_removed(request.disk_id, request.disk_name, request.url)
            raise
        self._lineage.require_not_behind(request)
        self._require_only_one(peer, request)
        was_behind = self._lineage.is_behind
        epoch = await self._lineage.take(request)
        if was_behind and not self._lineage.is_behind:
            self.register_again(but=peer)
        await self._nodes.pin(peer, request)
        if peer.is_gone:
            raise LinkDown("the disk's connection ended while it was registered")
        self._lineage.require_not_removed(request.disk_id, request.disk_name, request.url)
        self._nodes.admit_volume(peer, request)  # its node may have been removed meanwhile
        self._require_only_one(peer, request)
        if request.disk_id not in self._fleet.disks:
            log.info("new disk", extra={"disk": request.disk_name, "disk_id": request.disk_id})
        disk = self._fleet.add_disk(DiskState(request.disk_id, request.disk_name))
        self._set_node(disk)
        self._came(peer, request, disk)
        return self._welcome(disk, epoch, request.certificate_request)

    def _require_only_one(self, peer: Peer, request: Register) -> None:
        """Refuse a second actor of a disk, unless the first one is known to have gone.

        Raises:
            DiskMismatch, StaleIncarnation: another actor serves the disk.
        """
        disk = self._fleet.disks.get(request.disk_id)
        if disk is None or disk.peer is None or disk.peer is peer or disk.peer.is_gone:
            return
        if request.incarnation == disk.incarnation:
            raise DiskMismatch(f"disk {disk.name} is connected twice: was its directory copied?")
        if request.incarnation < disk.incarnation:
            raise StaleIncarnation(f"disk {disk.name} is served by a newer actor: stop one of the two")
        if request.epoch:
            # An actor that was restarted asks once more when the end of the earlier one has been noticed,
            # which takes moments; a second one that runs on a copy asks forever.
            self._troubles.tell(
                "disk_twice",
                disk.disk_id,
                f"disk {disk.name} is served at {disk.url}, and an actor at {request.url} says to be it, too:"
                " two run on copies of one disk; stop the wrong one",
                lasting_s=DISK_TWICE_S,
                disk=disk.name,
                disk_id=disk.disk_id,
                url=request.url,
            )
            raise StaleIncarnation(f"disk {disk.name} is connected already, at {disk.url}")

    def _came(self, peer: Peer, request: Register, disk: DiskState) -> None:
        """The disk is online, served by `peer`."""
        if disk.peer is not None and disk.peer is not peer:
            disk.peer.session = None  # fenced: whatever it still sends is refused
        unknown = self._fleet.came(request, peer, now_ms=now_ms())
        peer.session = disk
        self._judge(disk, request)
        for volume_id in unknown:
            log.error(
                "disk has a volume that the catalog does not know; it is left alone",
                extra={"disk": disk.name, "volume_id": volume_id},
            )
        log.info(
            "disk is online", extra={"disk": disk.name, "url": disk.url, "volumes": len(request.volumes)}
        )
        self._events.record("disk_online", disk=disk.name, disk_id=disk.disk_id, url=disk.url)
        if self._lineage.is_behind:
            for other in self._fleet.disks:
                self._provisioner.stop(other)
        elif disk.set_aside is None:
            self._provisioner.start(disk, peer, request.broken)
        self._scheduler.disk_came(disk)

    def _judge(self, disk: DiskState, request: Register) -> None:
        """Set aside a disk whose stamps or needle ids cannot be right, and no other."""
        self._fleet.set_aside(disk, None)
        try:
            for report in request.volumes:
                self._stamps.admit(disk, report.stamp_max)
        except StampRefused:
            pass  # set aside: what it holds can be read all the same
        else:
            self._troubles.over("stamp_refused", disk.disk_id)
        if (why := self._lineage.why_set_aside(disk, request.volumes)) is not None:
            self._fleet.set_aside(disk, why)

    def _welcome(self, disk: DiskState, epoch: Epoch, certificate_request: str) -> Welcome:
        return Welcome(
            incarnation=self._context.incarnation,
            stamp=self._clock.last,
            token_keys=disk.token_keys,
            cors_origins=self._cors_origins,
            epoch=epoch.number,
            mark=epoch.mark,
            catalog_id=self._lineage.catalog_id,
            now_ms=now_ms(),
            revoked=dict(self._revoked()),
            limits=self._limits(),
            certificate=self._certificates.for_disk(certificate_request, disk.url),
            authority=self._certificates.bundle,
            next_server_key=self._keyring.next_server_key,
        )

    def register_again(self, but: Peer | None = None) -> None:
        """Have every disk register again: it is told at once what is new, and gets what was withheld."""
        for disk in list(self._fleet.disks.values()):
            if disk.peer is not None and disk.peer is not but:
                self._disconnect(disk.peer, "it is to register again")

    def report(self, peer: Peer, request: DiskReport) -> ReportSeen:
        disk = self.disk_of(peer)
        if disk.set_aside is None:
            self._stamps.admit(disk, max((report.stamp_max for report in request.volumes), default=0))
            if (why := self._lineage.why_set_aside(disk, request.volumes)) is not None:
                self._fleet.set_aside(disk, why)
        self._note_clock(disk, request.clock_skew_ms)
        tell_certificate_refused(
            self._troubles, disk.disk_id, f"disk {disk.name}", request.certificate_refusal
        )
        self._fleet.reported(disk, request)
        if request.counters is not None:
            self._meters.heard(disk.disk_id, request.counters, disk.incarnation)
        self._provisioner.look(disk)
        self._scheduler.reported(disk, request)
        return ReportSeen(
            stamp=self._clock.last,
            committed_stamp=self._catalog.stamp_max(),
            now_ms=now_ms(),
            # A disk that is set aside gets nothing more, and is ready for those who read.
            is_supplied=disk.is_provisioned or disk.set_aside is not None or self._lineage.is_behind,
            lacking=f"disk {disk.name}: {disk.cause}" if disk.cause else "",
            certificate=self._certificates.for_disk(request.certificate_request, disk.url),
            authority=self._certificates.unseen(request.authority_seen),
            next_server_key=self._keyring.next_server_key,
        )

    def _note_clock(self, disk: DiskState, skew_ms: int | None) -> None:
        """A disk has compared its wall clock with ours."""
        if skew_ms is None or (skew_s := skew_ms / 1000) == disk.clock_skew_s:
            return
        life_s = min(self._context.settings.store.lease_s, READ_TOKEN_S)
        self._fleet.set_clock_skew(disk, skew_s, is_off=abs(skew_s) >= life_s)
        if abs(skew_s) > CLOCK_SKEW_S:
            ahead = "ahead of" if skew_s > 0 else "behind"
            self._troubles.tell(
                "clock_skew",
                disk.disk_id,
                f"the clock of disk {disk.name} is {abs(skew_s):,.0f} s {ahead} the master's: set both by a"
                " time service"
                + (". Tokens do not live that long, so nothing is put there" if disk.is_clock_off else ""),
                disk=disk.name,
                disk_id=disk.disk_id,
                skew_s=skew_s,
            )
        elif abs(skew_s) < CLOCK_SKEW_S / 2:
            self._troubles.over("clock_skew", disk.disk_id)

    # --- compactors -------------------------------------------------------------------------------

    def register_compactor(self, peer: Peer, request: RegisterCompactor) -> CompactorWelcome:
        self._nodes.admit_compactor(peer, request)
        self._lineage.require_not_removed(request.disk_id, request.disk_name)
        disk = self._fleet.disks.get(request.disk_id)
        if disk is None:
            raise Unavailable(
                f"disk {request.disk_name} is not known yet: its volume actor registers it first"
            )
        if disk.compactor is not None and disk.compactor is not peer:
            if request.incarnation < disk.compactor_incarnation:
                raise StaleIncarnation(f"disk {disk.name} has a newer compactor: stop one of the two")
            if request.incarnation == disk.compactor_incarnation and not disk.compactor.is_gone:
                raise DiskMismatch(f"the compactor of disk {disk.name} is connected twice")
            disk.compactor.session = None
        self._fleet.compactor_came(disk, peer, incarnation=request.incarnation)
        log.info("compactor is online", extra={"disk": disk.name})
        self._events.record("compactor_online", disk=disk.name, disk_id=disk.disk_id)
        self._scheduler.compactor_came(disk)
        return CompactorWelcome(
            incarnation=self._context.incarnation, next_server_key=self._keyring.next_server_key
        )

    # --- who leaves -------------------------------------------------------------------------------

    def left(self, peer: Peer) -> None:
        """The connection of `peer` ended: the disk or the compactor that it served is offline."""
        disk = self._fleet.went(peer, now_ms=now_ms())
        if disk is not None:
            log.warning("disk is offline", extra={"disk": disk.name, "url": disk.url})
            self._events.record("disk_offline", disk=disk.name, disk_id=disk.disk_id)
            self._provisioner.stop(disk.disk_id)
        disk = self._fleet.compactor_went(peer)
        if disk is not None:
            log.warning("compactor is gone", extra={"disk": disk.name})
            self._events.record("compactor_offline", disk=disk.name, disk_id=disk.disk_id)
