"""The gateway's process: `warehouse gateway`, `python -m warehouse.gateway`.

    python -m warehouse.gateway --join FILE [--data DIR] [--host HOST] [--port N] [--share-port] [--name NAME]
                                [--metrics-port N] [--json]

    DIR/node.key             the key of this gateway, made at its first start
    DIR/tls.pem, tls.key     what `warehouse up` made for it, where its port speaks TLS

A gateway joins with a token for gateways (`warehouse join-token create --role gateway`); from then on its key
is enough; `warehouse up` makes the key of its own gateways that of a node.  A gateway keeps nothing else, so
any number of them may run, on any number of machines; those of one machine share a port, and may share DIR.
"""

from __future__ import annotations

import argparse
import logging
import platform
from collections.abc import Sequence
from pathlib import Path

import trio

from warehouse.actors.certificates import given_certificate, wants_tls
from warehouse.actors.listening import http_limits, is_loopback, known_as, open_listeners
from warehouse.actors.local_gateway import GATEWAY_FOLDER
from warehouse.actors.monitoring import METRICS_OFFSET, MonitoringServer, open_monitoring
from warehouse.actors.node_key import NODE_KEY_NAME, join_with_token, load_or_make_node_key
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_insecure_argument,
    run_actor,
    set_up_actor,
)
from warehouse.conf.arguments import Parser
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.arguments import port as port_argument
from warehouse.conf.join import Join
from warehouse.conf.server_keys import ServerKeys
from warehouse.conf.settings import S3, Settings
from warehouse.errors import RequestRefused, SetupError
from warehouse.gateway.access_log import OFF, AccessLog
from warehouse.gateway.admission import Admission, Terms
from warehouse.gateway.askers import Askers
from warehouse.gateway.cors import Cors
from warehouse.gateway.journal import Journal
from warehouse.gateway.link import GatewayLink, Place
from warehouse.gateway.metrics import MetricsCollector
from warehouse.gateway.proxies import Proxies
from warehouse.gateway.refusing import Refusing
from warehouse.gateway.service import RULES, Service
from warehouse.gateway.upload_memory import UploadMemory
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.http.server import HttpServer
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

log = logging.getLogger("warehouse.gateway.main")

PORT = 7490
REFUSED_PAUSE_S = 10.0


def _keys(folder: Path) -> CurveKeys:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"cannot use {folder}: {error.strerror}") from error
    return load_or_make_node_key(folder / NODE_KEY_NAME)


def _link(arguments: argparse.Namespace, join: Join, keys: CurveKeys, url: str) -> GatewayLink:
    name = arguments.name or f"gateway@{platform.node() or 'unknown'}"

    async def join_store(link: Link) -> None:
        await join_with_token(link, join, disk_id="", disk_name=name, role="gateway")

    return GatewayLink(
        Place(join.master, join.server_key, join.authority),
        name=name,
        url=url,
        keys=keys,
        server_keys=ServerKeys(join.server_key, join.path),
        join=join_store,
    )


async def _access_log(settings: S3) -> AccessLog | None:
    """Raises SetupError: it cannot be written."""
    if settings.access_log == OFF:
        return None
    made = AccessLog(
        settings.access_log, size_max=settings.access_log_size, count_max=settings.access_log_files
    )
    await trio.to_thread.run_sync(made.require_writable)
    return made


def _terms(settings: Settings, *, is_tls: bool) -> Terms:
    s3 = settings.s3
    return Terms(
        region=s3.region,
        domains=s3.domains,
        takes_v2=s3.signature_v2 == "on",
        is_tls=is_tls,
        proxies=Proxies(s3.trusted_proxies),
    )


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    folder: Path = arguments.data or settings.cluster.data / GATEWAY_FOLDER
    host, port = arguments.host or settings.cluster.host, arguments.port
    reached_as = known_as(host, arguments.advertise)
    is_tls = wants_tls(settings.tls, host, is_loopback=is_loopback(host), is_insecure=arguments.insecure)
    join = await trio.to_thread.run_sync(Join.load, arguments.join)
    keys = await trio.to_thread.run_sync(_keys, folder)
    monitoring = await open_monitoring(
        settings, host, _metrics_port(arguments), is_insecure=arguments.insecure
    )
    certificate = None
    if is_tls or monitoring.is_tls:
        certificate = given_certificate(settings.tls, folder, host, reached_as, what="gateway")
    listeners = await open_listeners(host, port, is_shared=arguments.share_port)
    port = listeners[0].socket.getsockname()[1]
    url = endpoint_of(reached_as, port, scheme="https" if is_tls else "http")
    link = _link(arguments, join, keys, url)
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        askers = Askers(link, nursery)
        nursery.start_soon(askers.run)
        access_log = await _access_log(settings.s3)
        journal = Journal(None if access_log is None else access_log.add)
        refusing = Refusing(link.name, journal)
        server = HttpServer(
            Service(
                Admission(askers, _terms(settings, is_tls=is_tls)),
                refusing,
                journal,
                UploadMemory(settings.s3.upload_memory),
                Cors(link.find_cors),
            ).handle,
            limits=http_limits(settings.http),
            tls=certificate.tls if certificate is not None and is_tls else None,
            rules=RULES,
            refusals=refusing.refusals,
        )
        if certificate is not None:
            nursery.start_soon(certificate.watch)
        if access_log is not None:
            nursery.start_soon(access_log.run)
        metrics = MetricsCollector(
            journal,
            connection_count=lambda: server.connection_count,
            key_count=lambda: len(askers),
            lost_lines=lambda: 0 if access_log is None else access_log.lost_count,
        )
        watched = MonitoringServer(health=lambda: _health(link), metrics=metrics.render)
        await nursery.start(watched.serve, monitoring, None if certificate is None else certificate.tls)
        await nursery.start(server.serve, listeners)
        await _announce(link, announcer, url)


def _health(link: GatewayLink) -> tuple[bool, str]:
    return (True, "ok") if link.is_up else (False, "no master")


async def _announce(link: GatewayLink, announcer: Announcer, url: str) -> None:
    """Say that the gateway is ready when the master has let it in; look after that until cancelled.

    Raises:
        RequestRefused: the master does not let it in, at the start.
    """
    while True:
        try:
            await link.wait_up()
        except RequestRefused as error:
            if not announcer.is_ready:
                raise
            log.error("the master refuses this gateway", extra={"cause": error.message})
            await trio.sleep(REFUSED_PAUSE_S)
        else:
            announcer.ready(url=url)
            await link.wait_down()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse gateway",
        description="Start an S3 endpoint; Ctrl-C stops it. Any number of them may serve one store.",
    )
    parser.add_argument(
        "--join", required=True, type=Path, metavar="FILE", help="join file: where the master is, and a token"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where its key is kept (default: ./warehouse-data/gateway)"
    )
    parser.add_argument("--name", help="what `warehouse nodes` calls it (default: gateway@ and this host)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port",
        type=port_argument,
        default=PORT,
        metavar="N",
        help="port to listen on, 0 for any (default: %(default)s)",
    )
    parser.add_argument(
        "--share-port",
        action="store_true",
        help="other gateways of this machine listen there, too, all with this option; each takes its part",
    )
    parser.add_argument(
        "--metrics-port",
        metavar="N",
        type=port_argument,
        help=f"health and metrics (default: --port + {METRICS_OFFSET}; 0 for any)",
    )
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        type=host_argument,
        help="name under which clients reach it, if not --host",
    )
    add_insecure_argument(parser)
    add_common_arguments(parser)
    return parser


def _metrics_port(arguments: argparse.Namespace) -> int:
    if arguments.metrics_port is not None:
        return int(arguments.metrics_port)
    port = int(arguments.port) + METRICS_OFFSET
    return port if arguments.port and port < 65536 else 0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="gateway", flags={"cluster.host": arguments.host})
    return run_actor(arguments, settings, _main)
