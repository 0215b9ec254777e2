"""Cluster: the processes of one machine, as `warehouse up` starts them.

    python -m warehouse.actors.cluster [--data DIR] [--volumes N] [--port-base N] [--json]

It starts a master, one volume actor for each disk directory, a compactor for each volume actor, the console
and the S3 gateways, in that order.  It restarts an actor that dies (with back-off), and stops all of them
cleanly, the master last (`cluster_processes.py`).  The store is ready without compactors, console and
gateways.

The children write their logs to our standard error and their `ready` lines to us.

    DIR/profile.toml     what clients need: address, server key, root key (mode 0600)
    DIR/console/         of the console, which shows the store in a browser
    DIR/gateway/         of the S3 gateways
    DIR/master/          catalog and keys
    DIR/disk-1/ ...      one volume actor and one compactor each

Before the master starts, its catalog is told the keys of the disk folders here (`local_disks.py`) and that of
the gateways (`local_gateway.py`), so that they need no join token.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import trio

from warehouse.actors.certificates import StoreCertificate, trusted_bundle
from warehouse.actors.cluster_commands import ClusterCommands, gateway_count, has_console
from warehouse.actors.cluster_ports import VOLUMES_MAX, ClusterPorts
from warehouse.actors.cluster_processes import Child, Cluster
from warehouse.actors.cluster_report import StartReport, root_key_line
from warehouse.actors.control.first_start import (
    MARKER_NAME,
    Initialized,
    initialize,
    require_no_lost_catalog,
)
from warehouse.actors.control.joining import keep_join_file, note_local_disks, note_local_gateway
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.local_disks import keyed_disk
from warehouse.actors.local_gateway import GATEWAY_FOLDER, gateway_key, s3_hosts
from warehouse.actors.private_folder import STORE_NAMES, tighten
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_insecure_argument,
    run_actor,
    set_up_actor,
)
from warehouse.auth.keys import ApiKey
from warehouse.catalog.interface import Catalog
from warehouse.conf.arguments import Parser
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.console_codes import FOLDER_NAME
from warehouse.conf.profile import Profile
from warehouse.conf.settings import Settings
from warehouse.errors import SetupError, StoreError

log = logging.getLogger("warehouse.actors.cluster")  # run as a module it would be "__main__"

CERTIFICATE_LOOK_S = 600.0  # between looks whether a certificate is due


def _children(
    commands: ClusterCommands, volume_count: int, *, has_console: bool, gateway_count: int
) -> list[Child]:
    numbers, gateways = range(1, volume_count + 1), range(1, gateway_count + 1)
    return [
        Child("master", commands.master()),
        *(Child(f"disk-{number}", commands.volume(number)) for number in numbers),
        *(Child(f"compactor-{number}", commands.compactor(number), is_needed=False) for number in numbers),
        *([Child("console", commands.console(), is_needed=False, is_door=True)] if has_console else []),
        *(Child(f"gateway-{n}", commands.gateway(n), is_needed=False, is_door=True) for n in gateways),
    ]


def _volume_count(data: Path, wanted: int) -> int:
    """How many volume actors to start: as many as wanted, and one for each existing disk directory."""
    present = [int(path.name[5:]) for path in data.glob("disk-*") if path.name[5:].isdigit()]
    count = max([wanted, *present])
    if not 1 <= count <= VOLUMES_MAX:
        raise SetupError(f"--volumes goes from 1 to {VOLUMES_MAX}, not {count}")
    return count


def _move_profile(path: Path, initialized: Initialized, endpoint: str, authority: str) -> None:
    """Correct the profile of a store that has moved to other ports, or has another authority."""
    if initialized.root_key is not None or not path.exists():
        return
    server_key = initialized.keyring.server_keys
    before = Profile.load(path)
    present = Profile(endpoint, server_key, before.key_id, before.secret, authority)
    if before != present:
        present.save(path)


def _make_folder(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"cannot make the folder {data}: {error.strerror}") from error


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    data = settings.cluster.data
    ports = ClusterPorts.of(arguments, settings)
    volume_count = _volume_count(data, settings.cluster.volumes)
    require_no_lost_catalog(data / "master")
    with_console = has_console(arguments, settings)
    gateways = gateway_count(arguments, settings)
    ports.require_free(volume_count, has_console=with_console, gateway_count=gateways)
    _make_folder(data)  # after every check: a refused start leaves nothing behind
    tighten(data, STORE_NAMES, depth=1)  # each actor looks into its own folder
    profile = data / "profile.toml"

    def keep(keyring: Keyring, root: ApiKey) -> None:
        server_key = keyring.server_keys
        authority = trusted_bundle(keyring.authority.bundle, settings.tls)
        Profile(ports.endpoint, server_key, root.key_id, root.secret, authority).save(profile)

    key_files: dict[str, Path] = {}

    def prepare(keyring: Keyring, catalog: Catalog) -> None:
        numbers = range(1, volume_count + 1)
        found = [keyed_disk(data / f"disk-{n}", ports.volume_url(n)) for n in numbers]
        disks = [keyed for keyed in found if keyed is not None]
        key_files.update({one.disk.name: one.key_file for one in disks if one.key_file is not None})
        authority = trusted_bundle(keyring.authority.bundle, settings.tls)
        keep_join_file(catalog, keyring, data / "master", ports.endpoint, authority)
        note_local_disks(catalog, [keyed.disk for keyed in disks])
        if gateways and (key := gateway_key(data / GATEWAY_FOLDER)) is not None:
            note_local_gateway(catalog, key)

    is_old = (data / "master" / MARKER_NAME).exists()
    initialized = await trio.to_thread.run_sync(initialize, data / "master", keep, prepare)
    authority = trusted_bundle(initialized.keyring.authority.bundle, settings.tls)
    _move_profile(profile, initialized, ports.endpoint, authority)
    if initialized.root_key is not None and not arguments.json:
        print(root_key_line(initialized.root_key, data, profile, is_old=is_old), flush=True)
    report = StartReport(
        announcer,
        initialized,
        endpoint=ports.endpoint,
        master_http=ports.master_http,
        profile=profile,
        console=settings.console.url or ports.console_url,
        s3=ports.s3_url,
    )
    commands = ClusterCommands(arguments, settings, ports, key_files)
    children = _children(commands, volume_count, has_console=with_console, gateway_count=gateways)
    cluster = Cluster(children)
    if arguments.json:
        on_ready, on_unwritable = report.ready_as_json, report.unwritable_as_json
    else:
        on_ready, on_unwritable = report.ready_as_text, report.unwritable_as_text
    async with trio.open_nursery() as nursery:
        if ports.is_tls:
            keep_certificate = partial(_keep_certificate, data / "master" / "keys")
            if with_console:
                await nursery.start(keep_certificate, data / FOLDER_NAME, [ports.reached_as])
            if gateways:
                await nursery.start(
                    keep_certificate, data / GATEWAY_FOLDER, s3_hosts(ports.reached_as, settings)
                )
        await cluster.run(on_ready, on_unwritable)
        nursery.cancel_scope.cancel()


async def _keep_certificate(
    keys: Path,
    folder: Path,
    hosts: Sequence[str],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep a good certificate in the folder of the console or of the gateways; started when there is one.

    Args:
        keys: the folder of the master's keys.
        hosts: what the certificate is good for; the first is the name that others use.
    """
    certificate = await trio.to_thread.run_sync(_certificate_in, folder, hosts)
    while True:
        try:
            keyring = await trio.to_thread.run_sync(Keyring.load_or_create, keys)
            certificate.signed_by(keyring.authority.bundle)
            if certificate.is_due:
                pem = keyring.authority.issue(certificate.request, hosts, now=datetime.now(UTC))
                await trio.to_thread.run_sync(certificate.take, pem)
        except StoreError as error:
            log.error("no certificate", extra={"folder": str(folder), "cause": error.message})
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(CERTIFICATE_LOOK_S)


def _certificate_in(folder: Path, hosts: Sequence[str]) -> StoreCertificate:
    folder.mkdir(exist_ok=True, mode=0o700)
    return StoreCertificate(folder, *hosts)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse up",
        description="Start the whole store on this machine; Ctrl-C stops it.",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="where everything is kept (default: ./warehouse-data)",
    )
    parser.add_argument(
        "--volumes", type=int, metavar="N", help="disk directories, one actor each (default: 1)"
    )
    parser.add_argument(
        "--port-base",
        type=int,
        metavar="N",
        help="master control port; the others follow from it: +1 its health, +10 and on volumes, +110 and on"
        " their health, +80 the console, +90 S3 (default: 7400)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        type=host_argument,
        help="name or address that others shall connect to, if not --host",
    )
    parser.add_argument("--no-console", action="store_true", help="start no console (setting console.mode)")
    parser.add_argument("--no-s3", action="store_true", help="start no S3 endpoint (setting s3.processes)")
    add_insecure_argument(parser)
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    flags = {f"cluster.{name}": getattr(arguments, name) for name in ("data", "volumes", "port_base", "host")}
    settings = set_up_actor(arguments, name="cluster", flags=flags)
    return run_actor(arguments, settings, _main)


if __name__ == "__main__":
    raise SystemExit(main())
