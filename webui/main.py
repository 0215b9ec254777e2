"""The console's process: `warehouse console`, `python -m warehouse.webui`.

    python -m warehouse.webui [--profile FILE] [--host HOST] [--port N] [--url URL] [--json]

It needs the profile for the address of the store.  Its key is used for one thing: links with a one-time code,
which `warehouse console --open` prints, sign in with it.

    FOLDER/console/console.json     where this console listens, for `warehouse console --open`
    FOLDER/console/code-...         one-time codes
    FOLDER/console/tls.pem, tls.key what `warehouse up` made for it, where its port speaks TLS

FOLDER is that of the profile.
"""

from __future__ import annotations

import argparse
import logging
import socket
import ssl
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio
from hypercorn.config import Config, Sockets
from hypercorn.protocol import ws_stream
from hypercorn.trio import serve

from warehouse.actors.certificates import OwnCertificate, given_certificate, wants_tls
from warehouse.actors.listening import is_loopback, known_as, require_free_ports
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_insecure_argument,
    run_actor,
    set_up_actor,
)
from warehouse.conf.arguments import Parser
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.console_codes import console_folder, note_place
from warehouse.conf.profile import Profile, find_profile
from warehouse.conf.settings import Settings
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.http.tls import server_context
from warehouse.webui.app import create_app
from warehouse.webui.console import Console, ConsoleOptions

log = logging.getLogger("warehouse.webui.main")

PORT = 7480
MESSAGE_MAX = 64 * 1024  # bytes of a WebSocket message of a page
GRACE_S = 3.0
STALL_MS = 60_000  # without a byte of an answer taken
IDLE_S = 10.0  # a connection between two requests, or before the first one has come whole
PING_S = 30.0  # of a WebSocket


class _Config(Config):
    """Hypercorn's settings, with our own TLS context."""

    certificate: OwnCertificate | None = None

    def create_sockets(self) -> Sockets:
        """Sockets whose connections end when somebody takes none of an answer for a minute.

        Hypercorn waits forever for whoever does not read, even when it is to stop.
        """
        sockets = super().create_sockets()
        for listener in (*sockets.secure_sockets, *sockets.insecure_sockets):
            if sys.platform == "linux":
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_MS)
        return sockets

    @property
    def ssl_enabled(self) -> bool:
        return self.certificate is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """A context whose connections show the newest certificate, as it is read again when it changes."""
        if self.certificate is None:
            return None
        tls = self.certificate.tls

        def take_newest(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            if tls.context is not None:
                connection.context = tls.context

        assert tls.context is not None
        first = server_context(*self.certificate.paths)
        first.sni_callback = take_newest
        return first


def _compress_no_messages() -> None:
    """Leave what pages hear uncompressed: it names objects (docs/decisions/0011-pages-not-compressed.md).

    Hypercorn compresses for every browser that can take it, and has no setting.
    """
    setattr(ws_stream, "server_extensions_handshake", lambda asked, offered: None)  # noqa: B010 (as above)


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    profile = await trio.to_thread.run_sync(find_profile, arguments.profile)
    await trio.to_thread.run_sync(Profile.load, profile)  # says now what is wrong with it
    folder = console_folder(profile)
    folder.mkdir(exist_ok=True, mode=0o700)
    host, port = arguments.host or settings.cluster.host, arguments.port or PORT
    reached_as = known_as(host, arguments.advertise)
    is_tls = wants_tls(settings.tls, host, is_loopback=is_loopback(host), is_insecure=arguments.insecure)
    config = _Config()
    _compress_no_messages()
    if is_tls:
        config.certificate = given_certificate(settings.tls, folder, host, reached_as, what="console")
    require_free_ports(host, [port], advice=": another console, or another --port?")
    address = endpoint_of(reached_as, port, scheme="https" if is_tls else "http")
    options = ConsoleOptions(
        profile=profile,
        folder=folder,
        public_url=arguments.url or settings.console.url,
        is_tls=is_tls,
        session_s=settings.console.session_hours * 3600.0,
        session_most_s=settings.console.session_days * 86400.0,
        settings=settings,
    )
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.include_server_header = False
    config.graceful_timeout = GRACE_S
    config.websocket_max_message_size = MESSAGE_MAX
    config.websocket_ping_interval = PING_S
    config.keep_alive_timeout = IDLE_S
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    async with trio.open_nursery() as nursery:
        console = Console.make(options, nursery)
        nursery.start_soon(console.run)
        if config.certificate is not None:
            nursery.start_soon(config.certificate.watch)
        app = create_app(console)
        await nursery.start(partial(serve, app, config, shutdown_trigger=console.stopping.wait, mode="asgi"))
        shown = options.public_url or address
        note_place(folder, shown)
        announcer.ready(url=shown)
        try:
            await trio.sleep_forever()
        finally:
            console.stopping.set()
            with trio.CancelScope(shield=True), trio.move_on_after(0.5):
                await trio.sleep(0.1)  # WebSockets say goodbye


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse console",
        description="Start the console, which shows the store in a browser; Ctrl-C stops it. With --open,"
        " print a link instead that signs you in once at the console of a running store.",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="says where the store is (default: as for other commands)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help=f"port to listen on (default: {PORT})")
    parser.add_argument(
        "--advertise",
        metavar="HOST",
        type=host_argument,
        help="name under which browsers reach it, if not --host",
    )
    parser.add_argument(
        "--url",
        default="",
        metavar="URL",
        help="under which browsers reach it through a proxy, with its path",
    )
    add_insecure_argument(parser)
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="console", flags={"cluster.host": arguments.host})
    return run_actor(arguments, settings, _main)
