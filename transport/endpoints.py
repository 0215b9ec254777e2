"""Endpoints and URLs: a host and a port, written so that IPv6 addresses keep their brackets.  Pure.

    tcp://127.0.0.1:7400        http://[::1]:7410        tcp://photos.example:7400

Every place that joins a host and a port, or takes them apart, does so here.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

NETWORK_BITS = 64  # of an IPv6 address: the rest is the choice of whoever has that network


def host_in_url(host: str) -> str:
    """Write a host as endpoints and URLs have it: an IPv6 address in brackets, anything else as it is."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def endpoint_of(host: str, port: int, *, scheme: str = "tcp") -> str:
    """Join a host and a port to "scheme://host:port"."""
    return f"{scheme}://{host_in_url(host)}:{port}"


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Take "scheme://host:port" apart; the host comes without brackets.

    Raises:
        ValueError: the text has no port.
    """
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def origin_of(address: str) -> str:
    """As whose a connection from `address` counts, where connections are counted.

    An IPv6 address counts as its network, because one machine may take any address in it.  A socket for both
    kinds shows IPv4 addresses as ::ffff:192.0.2.7.
    """
    if ":" not in address:
        return address
    number = IPv6Address(address)
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    if number.is_loopback or number.is_link_local:
        return address
    return str(IPv6Network((int(number), NETWORK_BITS), strict=False))
