"""Volume actor: owns one disk; nobody else writes its volume files.

    warehouse volume --disk DIR --join FILE [--host H] [--port N] [--advertise URL]

This file ties the rooms of `actors/data` to one process and decides nothing:

    volumes           the open volumes, each with a `commit_pipeline`
    master_session    registers with the master, and reports (`master_contact`: what its silence means)
    commands          carries out what the master orders (`switching`: the end of a compaction)
    needle_http       the data port: GET and PUT (`batch_http`: many in one request)
    cold_reads, fsync, disk_space, metrics
"""

from __future__ import annotations

import argparse
import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import trio

from warehouse.actors.ballast import make_way
from warehouse.actors.certificates import (
    OwnCertificate,
    StoreCertificate,
    certificate_of,
    require_scheme,
    wants_tls,
)
from warehouse.actors.data.chunk_lists import ASK_S
from warehouse.actors.data.clock_skew import observe_master_stamp
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.commands import Commands
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.disk_space import BALLAST_NAME, DiskSpace
from warehouse.actors.data.fsync import Syncer
from warehouse.actors.data.master_contact import MasterContact
from warehouse.actors.data.master_session import DiskAddress, MasterSession, Membership
from warehouse.actors.data.metrics import MetricsCollector
from warehouse.actors.data.needle_http import NeedleHttp
from warehouse.actors.data.node_certificate import NodeCertificate
from warehouse.actors.data.switching import Switching
from warehouse.actors.data.volumes import DiskVolumes
from warehouse.actors.listening import http_limits, is_loopback, known_as, open_listeners
from warehouse.actors.monitoring import METRICS_OFFSET, MonitoringPort, MonitoringServer, open_monitoring
from warehouse.actors.node_key import load_or_make_node_key, node_key_path
from warehouse.actors.private_folder import DISK_NAMES, tighten
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_disk_arguments,
    add_insecure_argument,
    held_disk,
    run_actor,
    set_up_actor,
)
from warehouse.auth.data_tokens import DataTokenVerifier
from warehouse.conf.arguments import Parser, base_url
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.arguments import port as port_argument
from warehouse.conf.join import Join
from warehouse.conf.server_keys import ServerKeys
from warehouse.conf.settings import Http, Settings
from warehouse.errors import BadSetting, SetupError
from warehouse.storage.disk import OsDisk
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.identity import IdentityKeeper, load_identity
from warehouse.storage.volume import Volume
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.server import HttpServer
from warehouse.transport.http.tls import ClientTls
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

log = logging.getLogger("warehouse.actors.volume")  # run as a module it would be "__main__"

CHECKPOINT_S = 10.0  # bounds the tail that the next start scans
CLOSE_S = 10.0  # for the checkpoints at the end: they only save the next start a scan


class VolumeActor:
    """One disk: its volumes, its data port, its link to the master."""

    def __init__(
        self,
        *,
        disk: OsDisk,
        address: DiskAddress,
        membership: Membership,
        settings: Settings,
        announcer: Announcer,
        certificate: StoreCertificate | OwnCertificate | None = None,
        is_tls: bool = False,
    ) -> None:
        """
        Args:
            certificate: of the ports that speak TLS; None: none does.
            is_tls: the data port speaks TLS.
        """
        self._address = address
        self._membership = membership
        self._certificate = certificate
        self._is_synced = settings.store.durability == "fsync"
        self._clock = StampClock()
        self._incarnation = time.time_ns() // 1_000_000  # greater than that of any earlier start
        self._verifier = DataTokenVerifier(address.disk_id, {})
        self._trust = ClientTls(membership.join.authority)
        self._pool = HttpPool(tls=self._trust, connections_max=32)
        self._server_keys = ServerKeys(membership.join.server_key, membership.join.path)
        self._syncer = Syncer()
        self._cold_reads = ColdReads()
        self._space = DiskSpace(disk)
        self._switching = Switching(disk)
        self._volumes = DiskVolumes(
            disk,
            disk_name=address.name,
            is_read_only=address.is_read_only,
            identity=membership.identity,
            clock=self._clock,
            make_pipeline=self._make_pipeline,
        )
        self._http = self._make_http()
        self._contact = MasterContact(self._http.authorizer, settings.http.unheard_s)
        self._server = self._make_server(settings.http, is_tls=is_tls)
        self._session = self._make_session(announcer, settings.http.cors_origins)
        self._commands = self._make_commands()
        self._link = self._make_link()
        self._metrics = self._make_metrics()

    # --- the data port ----------------------------------------------------------------------------

    def _make_pipeline(self, volume: Volume) -> CommitPipeline:
        return CommitPipeline(
            volume,
            self._link,
            self._clock,
            is_synced=self._is_synced,
            on_master_stamp=lambda stamp: observe_master_stamp(self._clock, stamp),
            sync=self._syncer.sync,
        )

    def _make_http(self) -> NeedleHttp:
        return NeedleHttp(
            pipelines=self._volumes.pipelines,
            broken=self._volumes.broken,
            verifier=self._verifier,
            clock=self._clock,
            pool=self._pool,
            is_ready=lambda: self._link.is_up,
            cold_reads=self._cold_reads,
            ask_master=lambda question: self._link.request(question, timeout_s=ASK_S),
            incarnation=self._incarnation,
        )

    def _make_server(self, settings: Http, *, is_tls: bool) -> HttpServer:
        certificate = self._certificate
        return HttpServer(
            self._http.handle,
            handle_nowait=self._http.get_nowait,
            limits=http_limits(settings),
            cors_origins=settings.cors_origins,
            tls=certificate.tls if certificate is not None and is_tls else None,
        )

    # --- the master -------------------------------------------------------------------------------

    def _make_session(self, announcer: Announcer, origins: Sequence[str]) -> MasterSession:
        return MasterSession(
            self._address,
            self._membership,
            volumes=self._volumes,
            space=self._space,
            counters=self._http.counters,
            clock=self._clock,
            verifier=self._verifier,
            throttle=self._http.authorizer.throttle,
            allow_origins=lambda told: self._server.allow_origins([*origins, *told]),
            announcer=announcer,
            incarnation=self._incarnation,
            certificate=NodeCertificate(self._certificate, self._trust),
            server_keys=self._server_keys,
        )

    def _make_commands(self) -> Commands:
        return Commands(
            self._volumes,
            self._switching,
            self._space,
            self._clock,
            master_incarnation=lambda: self._session.master_incarnation,
            verifier=self._verifier,
            throttle=self._http.authorizer.throttle,
        )

    def _make_link(self) -> Link:
        join = self._membership.join
        return Link(
            endpoint=join.master,
            server_key=join.server_key.encode(),
            keys=self._membership.keys,
            name=f"volume-{self._address.disk_id[:8]}",
            incarnation=self._incarnation,
            greet=self._session.greet,
            answer=self._commands.answer,
            read_server_key=self._server_keys.reader,
        )

    # --- watching ---------------------------------------------------------------------------------

    def _make_metrics(self) -> MetricsCollector:
        return MetricsCollector(
            counters=self._http.counters,
            volumes=self._volumes,
            switching=self._switching,
            space=self._space,
            cold_reads=self._cold_reads,
            connection_count=lambda: self._server.connection_count,
            unheard_s=lambda: self._contact.unheard_s,
        )

    # --- life -------------------------------------------------------------------------------------

    async def run(self, listeners: list[trio.SocketListener], port: MonitoringPort) -> None:
        """Serve until cancelled.

        Args:
            listeners: of the data port.
            port: for health and metrics.
        """
        await trio.to_thread.run_sync(self._volumes.open_all)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._syncer.run)
                await nursery.start(self._cold_reads.run)
                await self._volumes.start(nursery)
                await nursery.start(self._server.serve, listeners)
                await nursery.start(self._serve_monitoring, port)
                if isinstance(self._certificate, OwnCertificate):
                    nursery.start_soon(self._certificate.watch)
                await nursery.start(self._link.run)
                nursery.start_soon(self._contact.watch_forever, self._link)
                nursery.start_soon(self._session.report_forever, self._link)
                nursery.start_soon(self._checkpoint_forever)
                nursery.start_soon(self._volumes.watch_files_forever)
                if not self._address.is_read_only:
                    nursery.start_soon(self._space.restore_ballast_forever)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await trio.to_thread.run_sync(self._close, abandon_on_cancel=True)
                await self._pool.aclose()

    async def _serve_monitoring(
        self, port: MonitoringPort, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        monitoring = MonitoringServer(health=self._http.health, metrics=self._metrics.render)
        tls = None if self._certificate is None else self._certificate.tls
        await monitoring.serve(port, tls, task_status=task_status)

    async def _checkpoint_forever(self) -> None:
        while True:
            await trio.sleep(CHECKPOINT_S)
            await trio.to_thread.run_sync(self._session.remember_committed_stamp)
            await self._volumes.checkpoint_all()

    def _close(self) -> None:
        self._session.remember_committed_stamp()
        self._volumes.close_all()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse volume",
        description="Serve one disk: store needles, answer reads, obey the master.",
    )
    add_disk_arguments(parser, disk_help="the directory that this actor owns")
    parser.add_argument(
        "--host",
        type=host_argument,
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=port_argument, default=7410, help="port to listen on, 0 for any (default: %(default)s)"
    )
    parser.add_argument(
        "--advertise",
        metavar="URL",
        type=base_url,
        help="URL that clients shall use, if not https://HOST:PORT (http:// on loopback)",
    )
    parser.add_argument(
        "--metrics-port",
        metavar="N",
        type=port_argument,
        help=f"health and metrics (default: --port + {METRICS_OFFSET}; 0 for any)",
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="accept a directory that was copied or moved from elsewhere; its original must be gone for good",
    )
    add_insecure_argument(parser)
    add_common_arguments(parser)
    return parser


def _metrics_port(arguments: argparse.Namespace) -> int:
    if arguments.metrics_port is not None:
        return int(arguments.metrics_port)
    port = arguments.port + METRICS_OFFSET
    return port if arguments.port and port < 65536 else 0


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    is_tls = _is_tls(arguments, settings)
    join = Join.load(arguments.join)
    _make_folder(arguments.disk)
    make_way(arguments.disk / BALLAST_NAME)
    with held_disk(arguments.disk) as is_read_only:
        if not is_read_only:
            tighten(arguments.disk, DISK_NAMES)
        identity = load_identity(
            arguments.disk, created_ms=time.time_ns() // 1_000_000, adopt=arguments.adopt
        )
        keys, is_node = _link_keys(arguments, join)
        listeners = await open_listeners(arguments.host, arguments.port)
        port = listeners[0].socket.getsockname()[1]
        url = arguments.advertise or endpoint_of(arguments.host, port, scheme="https" if is_tls else "http")
        monitoring = await open_monitoring(
            settings, arguments.host, _metrics_port(arguments), is_insecure=arguments.insecure
        )
        certificate = None
        if is_tls or monitoring.is_tls:
            host = urlsplit(url).hostname or arguments.host
            certificate = certificate_of(settings.tls, arguments.disk, host, is_read_only=is_read_only)
        keeper = IdentityKeeper(arguments.disk, identity, is_read_only=is_read_only)
        actor = VolumeActor(
            disk=OsDisk(arguments.disk),
            address=DiskAddress(identity.disk_id, arguments.disk.resolve().name, url, is_read_only),
            membership=Membership(join, keys, is_node=is_node, identity=keeper, is_adopted=arguments.adopt),
            settings=settings,
            announcer=announcer,
            certificate=certificate,
            is_tls=is_tls,
        )
        await actor.run(listeners, monitoring)


def _is_tls(arguments: argparse.Namespace, settings: Settings) -> bool:
    """Whether the data port speaks TLS.

    Raises:
        SetupError: it may not do without, or clients would be told an address under which nobody answers.
    """
    if arguments.advertise is None:
        known_as(arguments.host, None, example="--advertise https://NAME:PORT")
    is_tls = wants_tls(
        settings.tls,
        arguments.host,
        is_loopback=is_loopback(arguments.host),
        is_insecure=arguments.insecure,
    )
    if arguments.advertise is not None:
        require_scheme(arguments.advertise, is_tls=is_tls)
    return is_tls


def _make_folder(directory: Path) -> None:
    """Raises SetupError; a disk that is read-only serves what is there."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise SetupError(f"cannot use {directory}: {error.strerror}") from error


def _link_keys(arguments: argparse.Namespace, join: Join) -> tuple[CurveKeys, bool]:
    """The keys of the disk's link, and whether they are kept for the next start."""
    try:
        return load_or_make_node_key(node_key_path(arguments.disk, arguments.node_key)), True
    except SetupError as error:
        if isinstance(error, BadSetting) or not join.secret:
            raise
        # A disk that nobody can write to, of a store whose machines still share a secret.
        log.warning("a key for this start alone", extra={"cause": error.message})
        return CurveKeys.generate(), False


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="volume")
    return run_actor(arguments, settings, _main)


if __name__ == "__main__":
    raise SystemExit(main())
