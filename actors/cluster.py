"""Cluster: the processes of one machine, as `warehouse up` starts them.

    python -m warehouse.actors.cluster [--data DIR] [--volumes N] [--port-base N] [--json]

It starts a master, one volume actor for each disk directory, and a compactor for each volume actor, in that
order.  It restarts an actor that dies (with back-off), and stops all of them cleanly, compactors first.  The
store is ready without its compactors.

The children write their logs to our standard error and their `ready` lines to us.  Each child runs in a
session of its own, so that Ctrl-C reaches us alone.  Each watches its standard input, so that it stops even
if we are killed.

    DIR/profile.toml     what clients need: address, server key, root key (mode 0600)
    DIR/console/         of the console, which shows the store in a browser
    DIR/master/          catalog and keys
    DIR/disk-1/ ...      one volume actor and one compactor each

Before the master starts, its catalog is told the keys of the disk folders here (`local_disks.py`), so that
their actors need no join token.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from warehouse.actors.certificates import StoreCertificate, trusted_bundle
from warehouse.actors.cluster_commands import ClusterCommands, has_console
from warehouse.actors.cluster_ports import VOLUMES_MAX, ClusterPorts
from warehouse.actors.control.first_start import (
    MARKER_NAME,
    Initialized,
    initialize,
    require_no_lost_catalog,
)
from warehouse.actors.control.joining import keep_join_file, note_local_disks
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.local_disks import keyed_disk
from warehouse.actors.private_folder import STORE_NAMES, tighten
from warehouse.actors.process import (
    STOP_GRACE_S,
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
from warehouse.conf.programs import module_environment
from warehouse.conf.settings import Settings
from warehouse.errors import SetupError, StoreError

log = logging.getLogger("warehouse.actors.cluster")  # run as a module it would be "__main__"


BACK_OFF_FIRST_S = 0.1
BACK_OFF_MAX_S = 10.0
HEALTHY_S = 30.0  # after a child lived this long, its back-off starts from the beginning
START_S = 60.0
CERTIFICATE_LOOK_S = 600.0  # between looks whether the console's certificate is due
CONSOLE_S = 10.0  # a store is ready without its console, and waits this long for it
UNWRITABLE_S = 3.0  # how much longer a start waits for a disk that serves reads and takes no puts


@dataclass
class Child:
    """One actor's process, across its restarts."""

    name: str
    command: list[str]
    is_needed: bool = True  # the store waits for it, and does not start without
    started: trio.Event = field(default_factory=trio.Event)
    ready: trio.Event = field(default_factory=trio.Event)
    serving: trio.Event = field(default_factory=trio.Event)  # a disk's reads work; puts lack `lacking`
    lacking: str = ""
    announced: dict[str, Any] = field(default_factory=dict)
    process: trio.Process | None = None
    is_failed: bool = False  # it ended with an error before it was ever ready


class Cluster:
    def __init__(self, children: list[Child]) -> None:
        self._children = children
        self._master, *others = children
        self._disks = [child for child in others if child.is_needed]
        self._helpers = [child for child in others if not child.is_needed]
        self._console = next((child for child in self._helpers if child.name == "console"), None)
        self._is_stopping = False
        self._some_disk_ready = trio.Event()

    async def run(self, on_ready: Any, on_unwritable: Callable[[str], None] = lambda cause: None) -> None:
        """Start the master, the disks, then the compactors; keep them running until cancelled.

        A store that takes no puts starts as well: it serves reads, and its compactors free room.

        Args:
            on_ready: called with the children when a put would succeed.
            on_unwritable: called once before `on_ready`, if that takes long, with what the store lacks.
        """
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(self._keep_running, self._master)
                await self._master.ready.wait()
                for child in self._disks:
                    nursery.start_soon(self._keep_running, child)
                await self._wait_for_disks()
                for child in self._helpers:
                    nursery.start_soon(self._keep_running, child)
                    await child.started.wait()
                if not self._some_disk_ready.is_set():
                    on_unwritable(self._lacking())
                    await self._some_disk_ready.wait()
                if self._console is not None:
                    with trio.move_on_after(CONSOLE_S):
                        await self._console.ready.wait()
                on_ready(self._children)
                await trio.sleep_forever()
            finally:
                self._is_stopping = True
                with trio.CancelScope(shield=True):
                    await self._stop_all()

    async def _wait_for_disks(self) -> None:
        """Wait for all disks; a disk that cannot start holds up the others for START_S at most."""
        with trio.move_on_after(START_S):
            async with trio.open_nursery() as nursery:
                for disk in self._disks:
                    nursery.start_soon(self._wait_for_disk, disk)

    async def _wait_for_disk(self, disk: Child) -> None:
        """Wait until a disk takes puts, or has said for a while that it does not."""

        async def give_up(scope: trio.CancelScope) -> None:
            await disk.serving.wait()
            await trio.sleep(UNWRITABLE_S)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up, nursery.cancel_scope)
            await disk.ready.wait()
            nursery.cancel_scope.cancel()

    def _lacking(self) -> str:
        """Why no disk takes puts, one sentence for each disk."""
        return "; ".join(
            disk.lacking or f"{disk.name} has not registered with the master within {START_S:.0f} s"
            for disk in self._disks
        )

    async def _keep_running(self, child: Child) -> None:
        back_off_s = BACK_OFF_FIRST_S
        while True:
            started_at = trio.current_time()
            status = await self._run_once(child)
            if self._is_stopping:
                return
            lived_s = trio.current_time() - started_at
            if lived_s > HEALTHY_S:
                back_off_s = BACK_OFF_FIRST_S
            if not child.ready.is_set() and status == 1:
                # Its message is on standard error.  One bad disk must not keep the others from serving.
                child.is_failed = True
                if child is self._master or (
                    child in self._disks and all(disk.is_failed for disk in self._disks)
                ):
                    raise SetupError(f"{child.name} could not start; its message is above")
            log.warning(
                "actor died, restarting",
                extra={
                    "actor": child.name,
                    "status": status,
                    "lived_s": round(lived_s, 1),
                    "in_s": back_off_s,
                },
            )
            await trio.sleep(back_off_s)
            back_off_s = min(back_off_s * 2, BACK_OFF_MAX_S)

    async def _run_once(self, child: Child) -> int:
        child.process = process = await trio.lowlevel.open_process(
            child.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=module_environment(),
        )
        child.started.set()
        if self._is_stopping:  # the stop came while this child was starting: `_stop_all` has missed it
            process.terminate()
        # Not cancelled with the rest: `_stop_all` stops the process in its turn; we reap it here.
        with trio.CancelScope(shield=True):
            assert process.stdout is not None
            await self._read_events(process.stdout, child)
            status = await process.wait()
            if process.stdin is not None:
                await process.stdin.aclose()
            await process.stdout.aclose()
        return status

    async def _read_events(self, stream: trio.abc.ReceiveStream, child: Child) -> None:
        buffered = b""
        async for piece in stream:
            *lines, buffered = (buffered + piece).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    log.warning("not an event", extra={"actor": child.name, "line": line[:200]})
                    continue
                if isinstance(event, dict) and event.get("event") == "serving":
                    child.announced, child.lacking = event, str(event.get("lacking"))
                    child.serving.set()
                if isinstance(event, dict) and event.get("event") == "ready":
                    child.announced = event
                    child.ready.set()
                    if child in self._disks:
                        self._some_disk_ready.set()
            buffered = buffered[-65_536:]

    async def _stop_all(self) -> None:
        """Stop the compactors first, as nobody waits for their work; then the volume actors, which can still
        confirm the puts on their way; the master last."""
        async with trio.open_nursery() as nursery:
            for child in self._helpers:
                nursery.start_soon(self._stop, child)
        for child in reversed([self._master, *self._disks]):
            await self._stop(child)

    async def _stop(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_GRACE_S + 5):
            await process.wait()
        if process.returncode is None:
            log.error("actor did not stop in time, killed", extra={"actor": child.name})
            process.kill()
            await process.wait()


def _children(commands: ClusterCommands, volume_count: int, *, has_console: bool) -> list[Child]:
    numbers = range(1, volume_count + 1)
    return [
        Child("master", commands.master()),
        *(Child(f"disk-{number}", commands.volume(number)) for number in numbers),
        *(Child(f"compactor-{number}", commands.compactor(number), is_needed=False) for number in numbers),
        *([Child("console", commands.console(), is_needed=False)] if has_console else []),
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


def _root_key_line(root: ApiKey, data: Path, profile: Path, *, is_old: bool) -> str:
    """Where the root key is.  Logs keep what a service prints, so its secret is never printed.

    Args:
        is_old: the catalog of the store was rebuilt without its API keys.
    """
    made = f"A new root key for the warehouse in {data}" if is_old else f"A new warehouse in {data}"
    return f"{made}. The root key {root.key_id} and its secret are in {profile}"


class _StartReport:
    """Tells whoever started the store that it is ready, or why it takes no puts yet."""

    def __init__(
        self,
        announcer: Announcer,
        initialized: Initialized,
        *,
        endpoint: str,
        master_http: str,
        profile: Path,
        console: str,
    ) -> None:
        """
        Args:
            console: where the console is, if one is started.
        """
        self._announcer = announcer
        self._console = console
        self._root_key = initialized.root_key
        self._endpoint = endpoint
        self._master_http = master_http
        self._profile = profile

    def ready_as_json(self, children: list[Child]) -> None:
        root = self._root_key
        self._announcer.ready(
            master=self._endpoint,
            master_http=self._master_http,
            volumes=[child.announced.get("url", "") for child in _disks(children)],
            profile=str(self._profile),
            **({"console": url} if (url := self._console_url(children)) else {}),
            pids={child.name: child.process.pid for child in children if child.process},
            **({"root_key": {"key_id": root.key_id}} if root else {}),  # its secret is in the profile
        )

    def ready_as_text(self, children: list[Child]) -> None:
        print(f"master   {self._endpoint}   health and metrics {self._master_http}/metrics")
        for child in _disks(children):
            print(f"{child.name:8} {child.announced.get('url', '')}")
        if url := self._console_url(children):
            print(f"console  {url}   (sign in: warehouse console --open)")
        print(f"profile  {self._profile}   (in another terminal: warehouse --help)")
        self._announcer.ready()

    def _console_url(self, children: list[Child]) -> str:
        """Where the console is, or will be in a moment; "" without one, or if it cannot start."""
        return next((self._console for one in children if one.name == "console" and not one.is_failed), "")

    def unwritable_as_json(self, cause: str) -> None:
        self._announcer.say("started", is_writable=False, cause=cause)

    def unwritable_as_text(self, cause: str) -> None:
        print(f"started, but not writable: {cause}", flush=True)


def _disks(children: list[Child]) -> list[Child]:
    return [child for child in children if child.name.startswith("disk-")]


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
    ports.require_free(volume_count, has_console=with_console)
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

    is_old = (data / "master" / MARKER_NAME).exists()
    initialized = await trio.to_thread.run_sync(initialize, data / "master", keep, prepare)
    authority = trusted_bundle(initialized.keyring.authority.bundle, settings.tls)
    _move_profile(profile, initialized, ports.endpoint, authority)
    if initialized.root_key is not None and not arguments.json:
        print(_root_key_line(initialized.root_key, data, profile, is_old=is_old), flush=True)
    report = _StartReport(
        announcer,
        initialized,
        endpoint=ports.endpoint,
        master_http=ports.master_http,
        profile=profile,
        console=settings.console.url or ports.console_url,
    )
    commands = ClusterCommands(arguments, settings, ports, key_files)
    cluster = Cluster(_children(commands, volume_count, has_console=with_console))
    if arguments.json:
        on_ready, on_unwritable = report.ready_as_json, report.unwritable_as_json
    else:
        on_ready, on_unwritable = report.ready_as_text, report.unwritable_as_text
    async with trio.open_nursery() as nursery:
        if with_console and ports.is_tls:
            await nursery.start(_keep_console_certificate, data, ports.reached_as)
        await cluster.run(on_ready, on_unwritable)
        nursery.cancel_scope.cancel()


async def _keep_console_certificate(
    data: Path, host: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep a good certificate in the console's folder; started when there is one."""
    folder = data / FOLDER_NAME
    folder.mkdir(exist_ok=True, mode=0o700)
    certificate = StoreCertificate(folder, host)
    while True:
        try:
            keyring = await trio.to_thread.run_sync(Keyring.load_or_create, data / "master" / "keys")
            certificate.signed_by(keyring.authority.bundle)
            if certificate.is_due:
                pem = keyring.authority.issue(certificate.request, [host], now=datetime.now(UTC))
                await trio.to_thread.run_sync(certificate.take, pem)
        except StoreError as error:
            log.error("no certificate for the console", extra={"cause": error.message})
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(CERTIFICATE_LOOK_S)


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
        " their health (default: 7400)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        type=host_argument,
        help="name or address that others shall connect to, if not --host",
    )
    parser.add_argument("--no-console", action="store_true", help="start no console (setting console.mode)")
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
