"""Cluster commands: with which words the actors of one machine are started.  Pure."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from warehouse.actors.cluster_ports import MASTER_HTTP_OFFSET, ClusterPorts
from warehouse.actors.local_gateway import GATEWAY_FOLDER
from warehouse.actors.monitoring import METRICS_OFFSET
from warehouse.conf.origins import console_origins
from warehouse.conf.programs import module_command
from warehouse.conf.settings import Settings


def has_console(arguments: argparse.Namespace, settings: Settings) -> bool:
    return settings.console.mode == "on" and not arguments.no_console


def gateway_count(arguments: argparse.Namespace, settings: Settings) -> int:
    """How many gateways serve S3."""
    return 0 if arguments.no_s3 else settings.s3.processes


class ClusterCommands:
    """
    Args:
        arguments: of `warehouse up`; the actors get what they have in common.
        key_files: name of a disk -> where its key is, if not in its folder.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        settings: Settings,
        ports: ClusterPorts,
        key_files: Mapping[str, Path],
    ) -> None:
        self._data = settings.cluster.data
        self._ports = ports
        self._key_files = key_files
        self._console_origins: list[str] = []  # whose scripts may use the data ports
        if has_console(arguments, settings):
            self._console_origins = console_origins(settings, ports.reached_as, ports.console_port)
        self._gateway_count = gateway_count(arguments, settings)
        self._insecure = ["--insecure"] if arguments.insecure else []
        self._common = ["--json", "--stop-with-parent", "--log-format", settings.log.format]
        if arguments.config is not None:
            self._common += ["--config", str(arguments.config)]
        if arguments.log_level is not None:
            self._common += ["--log-level", arguments.log_level]

    def master(self) -> list[str]:
        ports = self._ports
        return (
            module_command("warehouse.actors.master", "--data", str(self._data / "master"))
            + ["--host", ports.host, "--port", str(ports.base)]
            + ["--advertise", ports.reached_as]
            + ["--http-port", str(ports.base + MASTER_HTTP_OFFSET), *self._insecure, *self._common]
            + [word for origin in self._console_origins for word in ("--console-origin", origin)]
        )

    def volume(self, number: int) -> list[str]:
        ports, port = self._ports, self._ports.volume_port(number)
        return (
            module_command("warehouse.actors.volume", *self._of_disk(number))
            + ["--host", ports.host, "--port", str(port), "--metrics-port", str(port + METRICS_OFFSET)]
            + ["--advertise", ports.volume_url(number), *self._insecure, *self._common]
        )

    def compactor(self, number: int) -> list[str]:
        return module_command("warehouse.actors.compactor", *self._of_disk(number)) + self._common

    def console(self) -> list[str]:
        ports, profile = self._ports, self._data / "profile.toml"
        return (
            module_command("warehouse.webui", "--profile", str(profile), "--host", ports.host)
            + ["--port", str(ports.console_port)]
            + ["--advertise", ports.reached_as, *self._insecure, *self._common]
        )

    def gateway(self, number: int) -> list[str]:
        ports, join = self._ports, self._data / "master" / "join.toml"
        return (
            module_command("warehouse.gateway", "--join", str(join), "--name", f"gateway-{number}")
            + ["--data", str(self._data / GATEWAY_FOLDER), "--host", ports.host, "--port", str(ports.s3_port)]
            + ["--metrics-port", str(ports.gateway_metrics_port(number)), "--advertise", ports.reached_as]
            + (["--share-port"] if self._gateway_count > 1 else [])
            + [*self._insecure, *self._common]
        )

    def _of_disk(self, number: int) -> list[str]:
        name = f"disk-{number}"
        key_file = self._key_files.get(name)
        key = [] if key_file is None else ["--node-key", str(key_file)]
        join = self._data / "master" / "join.toml"
        return ["--disk", str(self._data / name), "--join", str(join), *key]
