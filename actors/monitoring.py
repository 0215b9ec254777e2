"""Monitoring: the port with health and metrics, which master, volume actors and S3 gateways have.

    GET /healthz    200 or 503, with a word why
    GET /metrics    for Prometheus

It listens on loopback unless `monitoring.host` says otherwise, and then only with a token: metrics tell how
much a store holds and how busy it is.  No web page may read them, so there is no CORS.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import trio

from warehouse.actors.certificates import wants_tls
from warehouse.actors.listening import is_loopback, open_listeners
from warehouse.conf.files import read_small
from warehouse.conf.secret_file import require_mode, require_owner
from warehouse.conf.settings import Monitoring, Settings
from warehouse.errors import BadSetting, NoSuchRoute, TokenInvalid, TokenMissing
from warehouse.transport.endpoints import endpoint_of
from warehouse.transport.http.connection import HttpLimits
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.rules import require_method
from warehouse.transport.http.server import HttpServer
from warehouse.transport.http.tls import ServerTls

METRICS_OFFSET = 100  # from the data port of a volume actor to this port
CONNECTIONS = 64  # few programs ask; strangers must not take the descriptors of the others
STRANGERS_PER_S = 100.0  # connections and requests of one address; nobody shows a data token here
TOKEN_SIZE_MIN, TOKEN_SIZE_MAX = 16, 4096

_CERTIFICATE_METRIC = (
    b"# HELP warehouse_certificate_end_timestamp_seconds When the certificate of this actor ends\n"
    b"# TYPE warehouse_certificate_end_timestamp_seconds gauge\n"
    b"warehouse_certificate_end_timestamp_seconds %d\n"
)
_TOKEN = re.compile(rb"[!-~]{%d,}" % TOKEN_SIZE_MIN)

Health = Callable[[], tuple[bool, str]]  # whether all is well, and a word of it


def monitoring_host(settings: Monitoring, actor_host: str) -> str:
    """Return where the port listens: as set, or on the loopback address that fits the actor's own."""
    if settings.host:
        return settings.host
    if is_loopback(actor_host):
        return actor_host
    try:
        is_ipv6 = ip_address(actor_host).version == 6
    except ValueError:
        is_ipv6 = False
    return "::1" if is_ipv6 else "127.0.0.1"


def load_token(settings: Monitoring, host: str) -> bytes | None:
    """Read the token that requests must show; None: everybody on this machine may ask.

    Raises:
        BadSetting: the file cannot be used, or the port is not on loopback and there is no token.
    """
    if settings.token_file is None:
        if not is_loopback(host):
            raise BadSetting(
                f"monitoring.host is {host}, which other machines can reach: name a file with a token in"
                " monitoring.token_file, say one made with: openssl rand -hex 32"
            )
        return None
    return _read_token(settings.token_file)


def _read_token(path: Path) -> bytes:
    try:
        content, found = read_small(path, TOKEN_SIZE_MAX)
    except OSError as error:
        raise BadSetting(
            f"cannot read the token in monitoring.token_file, {path}: {error.strerror}"
        ) from error
    require_owner(found, path, what="token file")
    require_mode(found, path, what="token file")
    token = content.strip()
    if not _TOKEN.fullmatch(token):
        raise BadSetting(f"{path} must hold one token of {TOKEN_SIZE_MIN} or more printable characters")
    return token


@dataclass(frozen=True)
class MonitoringPort:
    """Where the port listens, and what it wants of who asks.

    Attributes:
        is_tls: it speaks TLS, with the certificate of the actor.
    """

    listeners: list[trio.SocketListener]
    token: bytes | None = None
    is_tls: bool = False
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        port = self.listeners[0].socket.getsockname()[1]
        return endpoint_of(self.host, port, scheme="https" if self.is_tls else "http")


async def open_monitoring(
    settings: Settings, actor_host: str, port: int, *, is_insecure: bool
) -> MonitoringPort:
    """Listen for health and metrics of an actor.

    Args:
        actor_host: where the actor listens otherwise.
        port: 0: any free one.
    Raises:
        SetupError: as `load_token`, `wants_tls` and `open_listeners`.
    """
    host = monitoring_host(settings.monitoring, actor_host)
    token = load_token(settings.monitoring, host)
    is_tls = wants_tls(settings.tls, host, is_loopback=is_loopback(host), is_insecure=is_insecure)
    return MonitoringPort(await open_listeners(host, port), token, is_tls, host)


class MonitoringServer:
    """Answers on the port of one actor."""

    def __init__(self, *, health: Health, metrics: Callable[[], bytes]) -> None:
        self._health = health
        self._metrics = metrics
        self._token: bytes | None = None
        self._tls: ServerTls | None = None
        self.routes: Mapping[bytes, Callable[[Exchange], Awaitable[None]]] = {
            b"/healthz": self._answer_health,
            b"/metrics": self._answer_metrics,
        }

    async def serve(
        self,
        port: MonitoringPort,
        tls: ServerTls | None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled.

        Args:
            tls: the certificate of the actor, also where this port does not show it; None: it has none.
        """
        self._token, self._tls = port.token, tls
        server = HttpServer(
            self.handle,
            limits=HttpLimits(connections=CONNECTIONS, strangers_per_s=STRANGERS_PER_S),
            tls=tls if port.is_tls else None,
        )
        await server.serve(port.listeners, task_status=task_status)

    async def handle(self, exchange: Exchange) -> None:
        self._require_token(exchange)
        handler = self.routes.get(exchange.path)
        if handler is None:
            raise NoSuchRoute("this port serves /healthz and /metrics")
        require_method(exchange.method, b"GET", b"HEAD")
        await handler(exchange)

    async def _answer_health(self, exchange: Exchange) -> None:
        await respond_health(exchange, *self._health())

    async def _answer_metrics(self, exchange: Exchange) -> None:
        body = self._metrics() + self._certificate_metric()
        await exchange.respond(200, [(b"Content-Type", b"text/plain; version=0.0.4")], body)

    def _certificate_metric(self) -> bytes:
        if self._tls is None or not self._tls.ends_s:
            return b""
        return _CERTIFICATE_METRIC % self._tls.ends_s

    def _require_token(self, exchange: Exchange) -> None:
        if self._token is None:
            return
        header = exchange.headers.get(b"authorization")
        if header is None:
            raise TokenMissing("this port wants a token: Authorization: Bearer ...")
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise TokenInvalid("this is not the token of this port")
        exchange.vouch()


async def respond_health(exchange: Exchange, is_well: bool, word: str) -> None:
    """Answer how the actor is: `{"status": word}`."""
    body = b'{"status":"%b"}' % word.encode()
    await exchange.respond(200 if is_well else 503, [(b"Content-Type", b"application/json")], body)
