"""Listening: where an actor listens, and under which host others reach it.

    --host 192.0.2.7, ::1, NAME     there alone
    --host 0.0.0.0                  everywhere, IPv4
    --host ::                       everywhere, IPv6 and IPv4

ZeroMQ's control socket accepts IPv4 on `::` as well, so the HTTP sockets do the same.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import ip_address

import trio

from warehouse.conf.hosts import is_wildcard
from warehouse.conf.settings import Http
from warehouse.errors import SetupError
from warehouse.transport.descriptors import connections_within, raise_limit
from warehouse.transport.http.connection import HttpLimits

BACKLOG = 1024


def known_as(host: str, advertise: str | None, *, example: str = "--advertise NAME") -> str:
    """The host under which others reach an actor that listens on `host`.

    Raises:
        SetupError: `host` means all addresses, and `advertise` does not name one.
    """
    if advertise is None and is_wildcard(host):
        raise SetupError(
            f"{host} is a wildcard: nobody can connect to it. Say under which name or address others reach"
            f" this machine, with {example}"
        )
    return advertise or host


async def open_listeners(host: str, port: int, *, is_shared: bool = False) -> list[trio.SocketListener]:
    """Listen for HTTP on all addresses of `host`; port 0 means any free port.

    Args:
        is_shared: other processes of this user may listen there as well, if they all say so; the system deals
            the connections out.
    Raises:
        SetupError: the host is unknown or another machine's, or the port is taken.
    """
    try:
        if host == "::" or is_shared:
            return await _bound(host, port, is_shared=is_shared)
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error


async def _bound(host: str, port: int, *, is_shared: bool) -> list[trio.SocketListener]:
    """Listen as Trio's own function does not: beside others, or with one socket for IPv6 and IPv4."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as opened:
        listeners = []
        for family, kind, protocol, _, address in found:
            listening = opened.enter_context(trio.socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            await listening.bind(address)
            listening.listen(BACKLOG)
            listeners.append(trio.SocketListener(listening))
        opened.pop_all()
    return listeners


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can connect to an actor that listens on `host`.

    A host that is unknown counts as one that others can reach: listening will say what is wrong with it.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    addresses = [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return bool(addresses) and all(address.is_loopback for address in addresses)


def require_free_ports(host: str, ports: Iterable[int], *, advice: str) -> None:
    """Check that an actor could listen on all these ports, before a start writes anything.

    Args:
        advice: what to do about a port that is taken.
    Raises:
        SetupError: a port is taken, or the host is another machine's.
    """
    for port in ports:
        try:
            _probe(host, port)
        except OSError as error:
            raise _cannot_listen(host, port, error, advice) from error


def _probe(host: str, port: int) -> None:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            probe.bind(address)


def _cannot_listen(host: str, port: int, error: OSError, advice: str = "") -> SetupError:
    cause = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return SetupError(f"port {port} of {host} is not free ({cause}){advice}")
    if isinstance(error, socket.gaierror):
        return SetupError(f"cannot listen on {host}: no address has that name ({cause})")
    return SetupError(f"cannot listen on port {port} of {host}: {cause}")


def http_limits(settings: Http) -> HttpLimits:
    """The limits of a server for everybody, as an operator has set them."""
    return HttpLimits(
        header_size=settings.header_size,
        connections=connections_within(raise_limit(), settings.connections),
        strangers_per_s=settings.strangers_per_s,
        header_s=settings.header_s,
        idle_s=settings.idle_s,
        rate_min=settings.body_rate_min,
        write_stall_s=settings.write_stall_s,
        drain_size=settings.drain_size,
    )
