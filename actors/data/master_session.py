"""Master session: a disk's registration with its master, and the reports that follow.

    disk                                     master
      | Join: a token                          |     once, when the master does not know the disk's key
      |--------------------------------------->|
      | Register: volumes, room, identity      |     after each connect
      |--------------------------------------->|
      |    Welcome: token keys, revoked API    |     from now on its commands are carried out
      |        keys, stamp, clock              |
      |<---------------------------------------|
      | DiskReport: what has changed           |     at most once a second, and only when there is news
      |--------------------------------------->|
      |    ReportSeen: stamp, clock, lacking   |     `lacking`: why the disk takes no puts yet
      |<---------------------------------------|

When the connection breaks, the disk still serves reads and registers again as soon as it can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import trio

from warehouse.actors.data.authorization import Counters
from warehouse.actors.data.clock_skew import ClockSkew, SentAt, observe_master_stamp
from warehouse.actors.data.disk_space import DiskSpace
from warehouse.actors.data.disk_throttle import DiskThrottle
from warehouse.actors.data.node_certificate import NodeCertificate
from warehouse.actors.data.reporting import Reporting
from warehouse.actors.data.volumes import DiskVolumes
from warehouse.actors.node_key import join_with_token
from warehouse.actors.process import Announcer
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.conf.join import Join
from warehouse.conf.server_keys import ServerKeys
from warehouse.errors import BadRequest, NodeUnknown, RequestRefused, StampRefused, StoreError
from warehouse.storage.epoch import NEVER, Epoch
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.identity import IdentityKeeper
from warehouse.transport.messages import DiskReport, Register, ReportSeen, VolumeReport, Welcome
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.server_keys import hear_next_key

log = logging.getLogger(__name__)

REPORT_S = 1.0  # how old the master's picture of this disk may get
SETTLING_S = 0.02  # between reports until the master has given this disk what it needs
REGISTER_S = 10.0
CAUSE_SIZE_MAX = 300  # characters of why a volume cannot be opened, in a registration


class DiskAddress(msgspec.Struct, frozen=True):
    """How this disk is called, and where its data port is."""

    disk_id: str
    name: str
    url: str
    is_read_only: bool


@dataclass(frozen=True)
class Membership:
    """What makes this disk one of its store."""

    join: Join
    keys: CurveKeys  # of the link
    is_node: bool = True  # the keys are kept with the disk, for the next start
    identity: IdentityKeeper | None = None
    is_adopted: bool = False  # the disk's folder was copied or moved from elsewhere


class MasterSession:
    """What one disk and its master tell each other about the disk."""

    def __init__(
        self,
        address: DiskAddress,
        membership: Membership,
        *,
        volumes: DiskVolumes,
        space: DiskSpace,
        counters: Counters,
        clock: StampClock,
        verifier: DataTokenVerifier,
        announcer: Announcer,
        incarnation: int,
        certificate: NodeCertificate,
        throttle: DiskThrottle,
        server_keys: ServerKeys,
        allow_origins: Callable[[Sequence[str]], None] = lambda origins: None,
    ) -> None:
        """
        Args:
            allow_origins: called with the web pages whose scripts may use the data port, as the master says.
            incarnation: of this run of the actor, greater than that of any earlier one.
        """
        self._incarnation = incarnation
        self.master_incarnation = 0  # of the master that this disk is registered with
        self._address = address
        self._join = membership.join
        self._is_node = membership.is_node
        self._is_unknown = False  # the master does not know the key: join before the next registration
        self._identity = membership.identity
        self._is_adopted = membership.is_adopted
        self._volumes = volumes
        self._space = space
        self._counters = counters
        self._clock = clock
        self._verifier = verifier
        self._announcer = announcer
        self._certificate = certificate
        self._throttle = throttle
        self._allow_origins = allow_origins
        self._server_keys = server_keys
        self._skew = ClockSkew(clock, verifier)
        self._reporting = Reporting()
        self._catalog_id = 0  # of the catalog that this disk is registered with
        self._committed_stamp = 0  # up to here that catalog is durable
        self._told_lacking = ""

    # --- registering ------------------------------------------------------------------------------

    async def greet(self, link: Link) -> None:
        """Register; the link calls this whenever it has connected."""
        offer = NEVER
        if self._identity is not None:
            offer = await trio.to_thread.run_sync(self._identity.offer)
        volumes = self._volumes.reports()
        registration = self._registration(offer, volumes)
        if self._is_unknown:
            await self._join_first(link)
        sent_at = SentAt()
        try:
            welcome = await link.ask_now(registration, timeout_s=REGISTER_S)
        except NodeUnknown:
            self._is_unknown = True  # a long registration may have cost us the connection, too
            await self._join_first(link)
            sent_at = SentAt()
            welcome = await link.ask_now(registration, timeout_s=REGISTER_S)
        if not isinstance(welcome, Welcome):
            raise BadRequest(f"the master answered {type(welcome).__name__} to a registration")
        self._skew.measure(welcome.now_ms, sent_at)
        await self._confirm_identity(welcome)
        self._catalog_id = welcome.catalog_id
        self.master_incarnation = welcome.incarnation
        self._reporting.registered(volumes, now=trio.current_time())
        try:
            self._clock.found(welcome.stamp)
        except StampRefused as error:
            log.error("clock of the master not believed", extra={"cause": error.message})
        self._verifier.replace_keys(welcome.token_keys, welcome.revoked)
        self._throttle.replace(welcome.limits)
        self._allow_origins(welcome.cors_origins)
        await self._certificate.heard(certificate=welcome.certificate, authority=welcome.authority)
        await hear_next_key(link, self._server_keys, welcome.next_server_key)
        log.info("registered with the master", extra={"master": self._join.master, "url": self._address.url})

    async def _join_first(self, link: Link) -> None:
        disk_id, name = self._address.disk_id, self._address.name
        await join_with_token(link, self._join, disk_id=disk_id, disk_name=name, role="volume")
        self._is_unknown = False

    def _registration(self, offer: Epoch, volumes: list[VolumeReport]) -> Register:
        known = self._identity.identity if self._identity is not None else None
        return Register(
            join_secret=self._join.secret,
            disk_id=self._address.disk_id,
            disk_name=self._address.name,
            incarnation=self._incarnation,
            url=self._address.url,
            volumes=volumes,
            disk_capacity=self._space.capacity,
            disk_free=self._space.free_for_puts(),
            is_read_only=self._address.is_read_only,
            broken={number: cause[:CAUSE_SIZE_MAX] for number, cause in self._volumes.broken.items()},
            epoch=known.epoch if known is not None else 0,
            mark=known.mark if known is not None else 0,
            offered_epoch=offer.number,
            offered_mark=offer.mark,
            catalog_id=known.catalog_id if known is not None else 0,
            heard_stamp=known.heard_stamp if known is not None else 0,
            is_adopted=self._is_adopted,
            certificate_request=self._certificate.request,
            is_node=self._is_node,
        )

    async def _confirm_identity(self, welcome: Welcome) -> None:
        if self._identity is not None and welcome.epoch:
            epoch = Epoch(welcome.epoch, welcome.mark)
            await trio.to_thread.run_sync(self._identity.confirm, epoch, welcome.catalog_id)
            self._is_adopted = False

    # --- reporting --------------------------------------------------------------------------------

    async def report_forever(self, link: Link) -> None:
        """Keep the master's picture of this disk fresh; send nothing while nothing changes."""
        while True:
            try:
                await link.wait_up()
            except RequestRefused as error:
                if not self._announcer.is_ready:
                    raise  # a wrong join token: whoever starts us should hear of it now
                log.error("the master refuses this disk", extra={"cause": error.message})
                await trio.sleep(REGISTER_S)  # reads are still served meanwhile
                continue
            whole = self._whole_report()
            report = self._reporting.due(whole, now=trio.current_time())
            refused = self._counters.refused_tokens.take(now=trio.current_time())
            if report is None and (refused or not self._announcer.is_ready):
                report = msgspec.structs.replace(whole, volumes=[], damages=[])  # its answer says what lacks
            if report is not None:
                await self._send_report(link, msgspec.structs.replace(report, refused=refused), whole)
            await trio.sleep(REPORT_S if self._announcer.is_ready else SETTLING_S)

    def _whole_report(self) -> DiskReport:
        return DiskReport(
            volumes=self._volumes.reports(),
            disk_free=self._space.free_for_puts(),
            is_read_only=self._address.is_read_only,
            request_count=self._counters.requests,
            damages=self._volumes.damages(),
            clock_skew_ms=self._skew.skew_ms,
            certificate_request=self._certificate.request,
            authority_seen=self._certificate.authority_seen,
            counters=self._counters.report(),
            certificate_refusal=self._certificate.refusal,
        )

    async def _send_report(self, link: Link, report: DiskReport, whole: DiskReport) -> None:
        sent_at = SentAt()
        try:
            seen = await link.request(report, timeout_s=REGISTER_S)
        except StoreError as error:
            log.debug("report not delivered", extra={"cause": error.message})
            self._counters.refused_tokens.give_back(report.refused)
            return
        self._reporting.delivered(report, whole, now=trio.current_time())
        assert isinstance(seen, ReportSeen)
        observe_master_stamp(self._clock, seen.stamp)
        self._skew.measure(seen.now_ms, sent_at)
        self._committed_stamp = max(self._committed_stamp, seen.committed_stamp)
        await self._certificate.heard(certificate=seen.certificate, authority=seen.authority)
        await hear_next_key(link, self._server_keys, seen.next_server_key)
        self._announce(seen)

    def _announce(self, seen: ReportSeen) -> None:
        """Tell whoever started this process that puts work, or why they do not yet."""
        name, url = self._address.name, self._address.url
        lacking = self._certificate.lacking or seen.lacking
        if seen.is_supplied and not self._certificate.lacking:
            self._announcer.ready(url=url, disk=name)
        elif lacking and lacking != self._told_lacking:
            self._told_lacking = lacking
            self._announcer.say("serving", url=url, disk=name, lacking=lacking)

    def remember_committed_stamp(self) -> None:
        """Write to the disk's identity up to which stamp the master's catalog is durable.  Blocks."""
        if self._identity is not None:
            self._identity.heard(self._catalog_id, self._committed_stamp)
