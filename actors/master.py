"""Master: owns the catalog, decides placement, signs tokens.

    warehouse master [--data DIR] [--host H] [--port N] [--http-port N] [--init] [--json]

Every other actor and every client connects to its ROUTER socket.  Object bytes never pass through here:
the master only says where they go (leases, slots), makes them visible once their volume has them durably
(`NeedlesStored`), and says where they are (`LocateObjects`).

The master answers reads at once from the catalog's read connection; writes go through one `CatalogWriter`,
which commits all that are waiting in one transaction.  The master sends an answer after its commit.

This file builds what is in `actors/control/` and connects it to the sockets; every subject is a file there.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

import trio

from warehouse.actors.ballast import Ballast
from warehouse.actors.certificates import (
    OwnCertificate,
    StoreCertificate,
    certificate_of,
    operators_authorities,
    save_bundle,
    trusted_bundle,
)
from warehouse.actors.control.account_requests import AccountHandlers
from warehouse.actors.control.admission import Admission
from warehouse.actors.control.allocation import Room
from warehouse.actors.control.audit import AuditLog
from warehouse.actors.control.audit_requests import AuditHandlers
from warehouse.actors.control.audited_requests import AuditedRequests
from warehouse.actors.control.catalog_space import CatalogRoom
from warehouse.actors.control.certificates import Certificates
from warehouse.actors.control.change_requests import ChangeHandlers
from warehouse.actors.control.commits import CommitHandlers
from warehouse.actors.control.context import Intervals, MasterContext
from warehouse.actors.control.data_limits import DataLimitsNews
from warehouse.actors.control.disk_removal import DiskRemovalHandlers
from warehouse.actors.control.disk_troubles import tell_certificate_refused
from warehouse.actors.control.disks import DiskHandlers
from warehouse.actors.control.doors import require_known
from warehouse.actors.control.event_subjects import subjects_of
from warehouse.actors.control.events import EventLog
from warehouse.actors.control.expiry import Expiry
from warehouse.actors.control.figures import FiguresHandlers
from warehouse.actors.control.find_requests import FindHandlers
from warehouse.actors.control.first_start import (
    BALLAST_NAME,
    CATALOG_NAME,
    JOIN_NAME,
    PROFILE_NAME,
    Initialized,
    initialize,
)
from warehouse.actors.control.fleet import Fleet
from warehouse.actors.control.gateways import GatewayHandlers
from warehouse.actors.control.history import HistoryKeeper
from warehouse.actors.control.history_requests import HistoryHandlers
from warehouse.actors.control.job_requests import JobHandlers
from warehouse.actors.control.job_scheduler import JobScheduler
from warehouse.actors.control.joining import keep_join_file
from warehouse.actors.control.key_files import JOIN_FILE_NAME
from warehouse.actors.control.key_requests import KeyHandlers
from warehouse.actors.control.key_secrets import KeySecrets
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.control.leases import LeaseHandlers
from warehouse.actors.control.lineage import Lineage
from warehouse.actors.control.live_keys import LiveKeys
from warehouse.actors.control.meters import Meters
from warehouse.actors.control.node_requests import NodeHandlers
from warehouse.actors.control.nodes import Nodes
from warehouse.actors.control.objects import ObjectHandlers
from warehouse.actors.control.parts import PartHandlers
from warehouse.actors.control.presigning import PresignHandlers
from warehouse.actors.control.promises import Promises
from warehouse.actors.control.provisioning import Provisioner
from warehouse.actors.control.read_grants import ReadGrants
from warehouse.actors.control.recount import Recount
from warehouse.actors.control.reservations import Reservations
from warehouse.actors.control.revocations import Revocations
from warehouse.actors.control.rotation import Rotations
from warehouse.actors.control.routes import Routes, Subject
from warehouse.actors.control.sessions import ClientSession, Sessions
from warehouse.actors.control.sight import bucket_named
from warehouse.actors.control.stamps import StampAdmission
from warehouse.actors.control.status import MasterMetrics, StatusHandlers, monitoring_of
from warehouse.actors.control.store_content import StoreContent
from warehouse.actors.control.troubles import Troubles
from warehouse.actors.control.uploads import UploadHandlers
from warehouse.actors.listening import known_as
from warehouse.actors.monitoring import MonitoringPort, MonitoringServer, open_monitoring
from warehouse.actors.private_folder import MASTER_NAMES, tighten
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_insecure_argument,
    run_actor,
    set_up_actor,
)
from warehouse.auth.keys import ApiKey
from warehouse.catalog.interface import Catalog
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.writer import CatalogWriter
from warehouse.conf.arguments import Parser, base_url
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.arguments import port as port_argument
from warehouse.conf.hosts import is_wildcard
from warehouse.conf.origins import proxy_origins
from warehouse.conf.profile import Profile
from warehouse.conf.settings import Settings
from warehouse.errors import NoSuchBucket, NoSuchObject, NoSuchUpload
from warehouse.storage.format.stamp import StampClock
from warehouse.transport.descriptors import control_connections_within, raise_limit
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.messages import Answer, ListEvents, Request, WatchBucket, WatchStore
from warehouse.transport.zeromq.hub import Hub
from warehouse.transport.zeromq.limits import CONNECTIONS_MAX, NEWCOMERS_MAX, HubLimits
from warehouse.transport.zeromq.peers import Peer
from warehouse.version import package_version

LONG_POLLS = (ListEvents, WatchBucket, WatchStore)  # who follows something waits most of the time

log = logging.getLogger("warehouse.actors.master")  # run as a module it would be "__main__"


def _hub_limits() -> HubLimits:
    """The control port shares the descriptors with the port for metrics and with the catalog's files."""
    budget = control_connections_within(raise_limit())
    return HubLimits(
        connections=min(CONNECTIONS_MAX, budget), newcomers=min(NEWCOMERS_MAX, max(8, budget // 2))
    )


class Master:
    """The one decider: everything in here runs on one event loop.

    Attributes:
        context: what all subjects share: the catalog, its writer, the fleet, events and troubles.
        nodes: which keys may serve which disks.
        routes: who answers which request.
        audit: who did what.
        keys: the API keys of open sessions.
        hub: who is connected.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        keyring: Keyring,
        settings: Settings,
        announcer: Announcer,
        intervals: Intervals = Intervals(),  # noqa: B008 - frozen
        console_origins: Sequence[str] = (),
    ) -> None:
        """
        Args:
            console_origins: of the console's pages, whose scripts use the data ports.
        Raises:
            CertificateBad: `tls.authority` names no certificates.
        """
        self._keyring = keyring
        self.certificates = Certificates(keyring, settings.tls.authority)
        self._announcer = announcer
        # Of a console behind a proxy, too, which may run on another machine.
        own = (*settings.http.cors_origins, *console_origins, *proxy_origins(settings))
        self._cors_origins = [*dict.fromkeys(own)]
        events = EventLog()
        troubles = Troubles(events)
        self.audit = AuditLog(catalog.folder, settings.audit, troubles)
        ballast = Ballast(catalog.folder / BALLAST_NAME, settings.store.catalog_reserve)
        self._catalog_room = CatalogRoom(catalog, ballast, troubles)
        self._reservations = Reservations()
        fleet = Fleet(
            self._reservations,
            disk_reserve=settings.store.disk_reserve,
            chunk_size=settings.store.chunk_size,
            volume_size=settings.store.volume_size,
        )
        self.context = MasterContext(
            catalog=catalog,
            writer=CatalogWriter(catalog, make_room=self._catalog_room.make_room),
            fleet=fleet,
            clock=StampClock(),
            events=events,
            troubles=troubles,
            settings=settings,
            incarnation=time.time_ns() // 1_000_000,
            intervals=intervals,
        )
        self._build(keyring)

    def _build(self, keyring: Keyring) -> None:
        """What the handlers decide by, the hub, and the handlers."""
        context, catalog = self.context, self.context.catalog
        self._lineage = Lineage(catalog, context.writer, context.fleet, context.troubles)
        self._admission = Admission(self._lineage, self._catalog_room)
        self._stamps = StampAdmission(context)
        self.keys = LiveKeys(catalog, context.writer)
        self.nodes = Nodes(context, keyring.join_secret)
        self.keys.on_change.append(lambda key: context.changes.key_changed(key.key_id))
        context.events.on_record.append(lambda name: context.changes.cluster_changed(*subjects_of(name)))
        self._data_limits = DataLimitsNews(context, self.keys)
        self._sessions = Sessions(context, keyring, self.keys, self.certificates, self.nodes)
        self.provisioner = Provisioner(context)
        self._scheduler = JobScheduler(context)
        self._expiry = Expiry(context, reservations=self._reservations, lineage=self._lineage)
        self._recount = Recount(catalog)
        self._meters = Meters()
        self._content = StoreContent(context)
        self._history = HistoryKeeper(
            context, meters=self._meters, content=self._content, catalog_room=self._catalog_room
        )
        self.routes = Routes()
        audited = AuditedRequests(
            self.audit,
            answer_now=self.answer_now,
            answer=self.answer,
            account_of=self._account_of,
            bucket_named=partial(bucket_named, catalog),
        )
        self.hub = Hub(
            keys=keyring.curve,
            incarnation=context.incarnation,
            answer_now=audited.answer_now,
            answer=audited.answer,
            on_gone=self._on_gone,
            role_of=self._sessions.role_of,
            limits=_hub_limits(),
        )
        self._revocations = Revocations(
            context, self.keys, peers=lambda: self.hub.peers.values(), disconnect=self.hub.disconnect
        )
        self._add_handlers()

    def _add_handlers(self) -> None:
        """Build the handlers of every subject, and take over their routes."""
        for subject in (
            self._sessions,
            *self._machine_handlers(),  # the others need them
            *self._object_handlers(),
            *self._upkeep_handlers(),
            *self._key_handlers(),
        ):
            self.routes.include(subject.routes())
        require_known(self.routes.kinds)

    def _machine_handlers(self) -> list[Subject]:
        """Disks and the machines that serve them."""
        self._disks = DiskHandlers(
            self.context,
            keyring=self._keyring,
            certificates=self.certificates,
            nodes=self.nodes,
            lineage=self._lineage,
            stamps=self._stamps,
            provisioner=self.provisioner,
            scheduler=self._scheduler,
            meters=self._meters,
            disconnect=self.hub.disconnect,
            revoked=self._revocations.epochs,
            limits=self._data_limits.all,
            cors_origins=self._cors_origins,
        )
        nodes = NodeHandlers(
            self.context,
            self._sessions,
            nodes=self.nodes,
            disconnect_key=self.hub.disconnect_key,
            peers=self.hub.peers.values,
            secret_file=self.context.catalog.folder / "keys" / JOIN_FILE_NAME,
            require_not_removed=self._lineage.require_not_removed,
        )
        self._removals = DiskRemovalHandlers(
            self.context,
            self._sessions,
            nodes=self.nodes,
            lineage=self._lineage,
            reservations=self._reservations,
            scheduler=self._scheduler,
            disk_named=nodes.disk,
            disconnect_key=self.hub.disconnect_key,
        )
        self._gateways = GatewayHandlers(
            self.context,
            self._sessions,
            keyring=self._keyring,
            keys=self.keys,
            nodes=self.nodes,
            certificates=self.certificates,
        )
        return [self._disks, nodes, self._removals, self._gateways]

    def _object_handlers(self) -> list[Subject]:
        """Objects: where they are, where new ones go, and what makes them visible."""
        context, sessions = self.context, self._sessions
        room = Room(context.fleet, Random())  # noqa: S311 - spreads load, guards nothing
        grants = ReadGrants(context, self._keyring)
        objects = ObjectHandlers(
            context, sessions, lineage=self._lineage, provisioner=self.provisioner, grants=grants
        )
        self._leases = LeaseHandlers(
            context, sessions, keyring=self._keyring, room=room, reservations=self._reservations
        )
        self._promises = Promises(context, self._keyring)
        commits = CommitHandlers(
            context,
            sessions,
            disks=self._disks,
            stamps=self._stamps,
            promises=self._promises,
            reservations=self._reservations,
        )
        uploads = UploadHandlers(
            context,
            sessions,
            keyring=self._keyring,
            room=room,
            reservations=self._reservations,
            stamps=self._stamps,
        )
        presigning = PresignHandlers(
            context,
            sessions,
            keyring=self._keyring,
            room=room,
            reservations=self._reservations,
            grants=grants,
            disks=self._disks,
        )
        found, changes = FindHandlers(context, sessions), ChangeHandlers(context, sessions)
        parts = PartHandlers(context, sessions, uploads)
        return [objects, found, changes, self._leases, commits, uploads, parts, presigning]

    def _upkeep_handlers(self) -> list[Subject]:
        """What operators and programs that watch the store ask for."""
        jobs = JobHandlers(
            self.context,
            self._sessions,
            scheduler=self._scheduler,
            lineage=self._lineage,
            disks=self._disks,
        )
        status = StatusHandlers(
            self.context,
            self._sessions,
            scheduler=self._scheduler,
            content=self._content,
            catalog_room=self._catalog_room,
            hub=self.hub,
        )
        figures = FiguresHandlers(self.context, self._sessions, meters=self._meters, content=self._content)
        history = HistoryHandlers(self.context, self._sessions, self._history)
        return [jobs, status, figures, history, AuditHandlers(self.audit.path, self._sessions)]

    def _key_handlers(self) -> list[Subject]:
        """Who may do what, and the store's own secrets."""
        context, sessions = self.context, self._sessions
        self._rotations = Rotations(
            context,
            sessions,
            keyring=self._keyring,
            keys=self.keys,
            disconnect=self.hub.disconnect,
            listen_with=self.hub.listen_with,
            bundle=lambda: self.certificates.bundle,
            peers=lambda: self.hub.peers,
            register_again=self._disks.register_again,
        )
        keys = KeyHandlers(context, sessions, keys=self.keys, secrets=KeySecrets(self._keyring))
        return [keys, AccountHandlers(context, sessions), self._rotations]

    # --- life -------------------------------------------------------------------------------------

    async def run(
        self,
        endpoint: str,
        port: MonitoringPort,
        certificate: StoreCertificate | OwnCertificate | None = None,
    ) -> None:
        """Serve until cancelled.

        Args:
            port: for health and metrics.
            certificate: of that port, if it speaks TLS.
        """
        self.load()
        metrics = MasterMetrics(
            self.context,
            self._sessions,
            scheduler=self._scheduler,
            catalog_room=self._catalog_room,
            recount=self._recount,
            hub=self.hub,
            audit=self.audit,
            history=self._history.figures,
        )
        monitoring = monitoring_of(self.context.catalog, metrics)
        self.audit.start()
        try:
            self.audit.note("master_started", version=package_version())
            await self._serve(endpoint, monitoring, port, certificate)
        finally:
            self.audit.note("master_stopped")
            await self.audit.aclose()

    async def _serve(
        self,
        endpoint: str,
        monitoring: MonitoringServer,
        port: MonitoringPort,
        certificate: StoreCertificate | OwnCertificate | None,
    ) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.context.writer.run)
            await nursery.start(self.provisioner.run)
            await nursery.start(self._scheduler.run)
            nursery.start_soon(self.certificates.keep_file, self.context.catalog.folder)
            await nursery.start(monitoring.serve, port, None if certificate is None else certificate.tls)
            if isinstance(certificate, StoreCertificate):
                hosts = [certificate.host, *([] if is_wildcard(port.host) else [port.host])]
                nursery.start_soon(
                    certificate.keep_fresh,
                    partial(self.certificates.issue, hosts=hosts),
                    lambda: self.certificates.bundle,
                )
            elif certificate is not None:
                nursery.start_soon(certificate.watch, self._tell_certificate_refused)
            bound = await nursery.start(self.hub.run, endpoint)
            nursery.start_soon(self._catalog_room.run)
            nursery.start_soon(self._expiry.run)
            nursery.start_soon(self._rotations.run)
            nursery.start_soon(self._recount.run)
            nursery.start_soon(self._history.run)
            nursery.start_soon(self._sessions.failed_logins.run)
            nursery.start_soon(self.audit.run)
            nursery.start_soon(self.keys.run)
            nursery.start_soon(self._revocations.run)
            nursery.start_soon(self._data_limits.run)
            nursery.start_soon(self.context.changes.run)
            incarnation = f"{self.context.incarnation:x}"
            log.info("master is up", extra={"endpoint": bound, "incarnation": incarnation})
            self._announcer.ready(endpoint=bound, server_key=self._keyring.curve.public.decode())

    def load(self) -> None:
        """Take over what the catalog knows: disks and volumes, the clock, its own lineage."""
        self.nodes.load()
        self._disks.load()
        self._removals.load()
        self._data_limits.load()
        self._stamps.load()
        self._promises.load()
        self._lineage.load()

    # --- requests ---------------------------------------------------------------------------------

    def answer_now(self, peer: Peer, request: Request) -> Answer | None:
        """The answer to a request that needs no waiting; None: `routes.answer` waits for it."""
        self._sessions.admit(peer, request)
        self._admission.require(request)
        self._meters.note(request)
        try:
            return self.routes.answer_now(peer, request)
        except (NoSuchBucket, NoSuchObject, NoSuchUpload):
            self._lineage.require_current()  # an older catalog may well lack what is there
            raise

    async def answer(self, peer: Peer, request: Request) -> Answer:
        """The answer to a request that waits; of one API key only so many at once."""
        session = peer.session
        throttle = session.key.throttle if isinstance(session, ClientSession) else None
        if throttle is None or isinstance(request, LONG_POLLS):
            return await self.routes.answer(peer, request)
        with throttle.at_once():
            return await self.routes.answer(peer, request)

    def _tell_certificate_refused(self, refusal: str) -> None:
        tell_certificate_refused(self.context.troubles, "master", "the master", refusal)

    def _account_of(self, key_id: str) -> str | None:
        known = self.keys.get(key_id)
        return None if known is None or known.row is None else known.row.account_id

    def _on_gone(self, peer: Peer) -> None:
        self._leases.client_left(peer)
        self._disks.left(peer)
        self._gateways.left(peer)


# --- start ----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse master",
        description="Own the catalog: answer clients, place needles, sign tokens.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("warehouse-data/master"),
        metavar="DIR",
        help="catalog and keys (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        type=host_argument,
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=port_argument, default=7400, help="control port (default: %(default)s)"
    )
    parser.add_argument(
        "--http-port", type=port_argument, default=7401, help="health and metrics (default: %(default)s)"
    )
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        type=host_argument,
        help="host that others shall connect to, if not --host",
    )
    parser.add_argument(
        "--init", action="store_true", help="make keys and the root key, print its secret, and stop"
    )
    parser.add_argument(
        "--console-origin",
        metavar="URL",
        action="append",
        default=[],
        type=base_url,
        help="a page of the console, as http://HOST:PORT; its scripts may use the data ports; repeatable",
    )
    add_insecure_argument(parser)
    add_common_arguments(parser)
    return parser


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    reached_as = known_as(arguments.host, arguments.advertise)
    endpoint = endpoint_of(reached_as, arguments.port)
    operators_authorities(settings.tls.authority)  # a refused start leaves nothing behind
    initialized = _initialize(arguments, settings, endpoint)
    tighten(arguments.data, MASTER_NAMES)
    save_bundle(arguments.data, trusted_bundle(initialized.keyring.authority.bundle, settings.tls))
    _tell_what_is_new(arguments, announcer, initialized, endpoint)
    if arguments.init:
        return
    port = await open_monitoring(
        settings, arguments.host, arguments.http_port, is_insecure=arguments.insecure
    )
    certificate = certificate_of(settings.tls, arguments.data, reached_as) if port.is_tls else None
    catalog = SqliteCatalog.open(arguments.data / CATALOG_NAME)
    try:
        master = Master(
            catalog=catalog,
            keyring=initialized.keyring,
            settings=settings,
            announcer=announcer,
            console_origins=arguments.console_origin,
        )
        await master.run(endpoint_of(arguments.host, arguments.port), port, certificate)
    finally:
        catalog.close()


def _initialize(arguments: argparse.Namespace, settings: Settings, endpoint: str) -> Initialized:
    """What the folder holds, or what a new store begins with; its files name `endpoint`."""

    def keep(keyring: Keyring, root: ApiKey) -> None:
        """A service's standard output is kept in logs, so the secret goes to a file; --init is a command."""
        if not arguments.init:
            authority = trusted_bundle(keyring.authority.bundle, settings.tls)
            profile = Profile(endpoint, keyring.server_keys, root.key_id, root.secret, authority)
            profile.save(arguments.data / PROFILE_NAME)

    def prepare(keyring: Keyring, catalog: Catalog) -> None:
        authority = trusted_bundle(keyring.authority.bundle, settings.tls)
        keep_join_file(catalog, keyring, arguments.data, endpoint, authority)

    return initialize(arguments.data, keep, prepare)


def _tell_what_is_new(
    arguments: argparse.Namespace, announcer: Announcer, initialized: Initialized, endpoint: str
) -> None:
    """Say which root key was made; --init, which prints its secret, says also that none was."""
    server_key, root = initialized.keyring.curve.public.decode(), initialized.root_key
    if root is not None:
        profile = str(arguments.data / PROFILE_NAME)
        announcer.say(
            "founded",
            key_id=root.key_id,
            **({"secret": root.secret} if arguments.init else {"profile": profile}),
            master=endpoint,
            server_key=server_key,
            join_file=str(arguments.data / JOIN_NAME),
        )
    elif arguments.init:
        announcer.say("exists", master=endpoint, server_key=server_key)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="master")
    return run_actor(arguments, settings, _main)


if __name__ == "__main__":
    raise SystemExit(main())
