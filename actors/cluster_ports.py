"""Cluster ports: where the actors of one machine listen, and how others reach them.

base              control port of the master
base + 1          its health and metrics
base + 10 ...     data ports of the volume actors
base + 80         the console
base + 90         S3, which all gateways share
base + 110 ...    health and metrics of the volume actors
base + 190 ...    health and metrics of the gateways
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from warehouse.actors.certificates import operators_authorities, require_operators, wants_tls
from warehouse.actors.listening import is_loopback, known_as, require_free_ports
from warehouse.actors.monitoring import METRICS_OFFSET, load_token, monitoring_host
from warehouse.conf.hosts import is_wildcard
from warehouse.conf.settings import GATEWAYS_MAX, PORTS_TAKEN, Settings
from warehouse.transport.endpoints import endpoint_of

MASTER_HTTP_OFFSET = 1
VOLUME_OFFSET = 10
CONSOLE_OFFSET = 80
S3_OFFSET = 90
VOLUMES_MAX = CONSOLE_OFFSET - VOLUME_OFFSET
assert S3_OFFSET + METRICS_OFFSET + GATEWAYS_MAX <= PORTS_TAKEN


@dataclass(frozen=True)
class ClusterPorts:
    """The ports of one store on one machine.

    Attributes:
        reached_as: the name or address of this machine for others.
        is_tls, is_monitoring_tls: what the actors will decide for themselves, from the same settings.
    """

    base: int
    host: str
    reached_as: str
    monitoring_host: str
    is_tls: bool
    is_monitoring_tls: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace, settings: Settings) -> ClusterPorts:
        """
        Raises:
            SetupError: a port would be open to others where nothing allows it, or the operator's certificates
                cannot be used.
        """
        host = settings.cluster.host
        reached_as = known_as(host, arguments.advertise)
        monitored_at = monitoring_host(settings.monitoring, host)
        load_token(settings.monitoring, monitored_at)
        is_tls, is_monitoring_tls = (
            wants_tls(settings.tls, one, is_loopback=is_loopback(one), is_insecure=arguments.insecure)
            for one in (host, monitored_at)
        )
        if is_tls or is_monitoring_tls:
            require_operators(settings.tls, reached_as)
        operators_authorities(settings.tls.authority)
        return cls(settings.cluster.port_base, host, reached_as, monitored_at, is_tls, is_monitoring_tls)

    @property
    def endpoint(self) -> str:
        return endpoint_of(self.reached_as, self.base)

    def volume_port(self, number: int) -> int:
        """The data port of a disk; they are counted from 1."""
        return self.base + VOLUME_OFFSET + number - 1

    def volume_url(self, number: int) -> str:
        scheme = "https" if self.is_tls else "http"
        return endpoint_of(self.reached_as, self.volume_port(number), scheme=scheme)

    def monitoring_url(self, port: int) -> str:
        host = self.reached_as if is_wildcard(self.monitoring_host) else self.monitoring_host
        return endpoint_of(host, port, scheme="https" if self.is_monitoring_tls else "http")

    @property
    def console_port(self) -> int:
        return self.base + CONSOLE_OFFSET

    @property
    def console_url(self) -> str:
        scheme = "https" if self.is_tls else "http"
        return endpoint_of(self.reached_as, self.console_port, scheme=scheme)

    @property
    def s3_port(self) -> int:
        return self.base + S3_OFFSET

    @property
    def s3_url(self) -> str:
        return endpoint_of(self.reached_as, self.s3_port, scheme="https" if self.is_tls else "http")

    def gateway_metrics_port(self, number: int) -> int:
        """Where one of the gateways shows health and metrics; they are counted from 1."""
        return self.s3_port + METRICS_OFFSET + number - 1

    @property
    def master_http(self) -> str:
        return self.monitoring_url(self.base + MASTER_HTTP_OFFSET)

    def require_free(self, volume_count: int, *, has_console: bool, gateway_count: int) -> None:
        """Raises SetupError: a port is taken, or an address is not this machine's."""
        data = [self.volume_port(number) for number in range(1, volume_count + 1)]
        advice = ": is a warehouse running already? Another one needs another --port-base"
        doors = [*([self.console_port] if has_console else []), *([self.s3_port] if gateway_count else [])]
        require_free_ports(self.host, [self.base, *data, *doors], advice=advice)
        monitoring = [self.base + MASTER_HTTP_OFFSET, *(port + METRICS_OFFSET for port in data)]
        monitoring += [self.gateway_metrics_port(number) for number in range(1, gateway_count + 1)]
        require_free_ports(self.monitoring_host, monitoring, advice=advice)
