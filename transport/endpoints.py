"""Endpoints and URLs: a host and a port, written so that IPv6 addresses keep their brackets.  Pure.

    tcp://127.0.0.1:7400        http://[::1]:7410        tcp://photos.example:7400

All code that joins a host and a port, or takes them apart, calls this module.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

NETWORK_BITS = 64  # of an IPv6 address: the owner of the network chooses the other bits


def host_in_url(host: str) -> str:
    """Write a host as endpoints and URLs need it: an IPv6 address in brackets, anything else unchanged."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def endpoint_of(host: str, port: int, *, scheme: str = "tcp") -> str:
    """Join a host and a port to "scheme://host:port"."""
    return f"{scheme}://{host_in_url(host)}:{port}"


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Split "scheme://host:port"; return the host without brackets, and the port.

    Raises:
        ValueError: the text has no port.
    """
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def origin_of(address: str) -> str:
    """Return the owner of `address` for limits per address.

    An IPv6 address counts as its network, because one machine may take any address there.  A socket for both
    kinds of address shows IPv4 addresses as ::ffff:192.0.2.7.
    """
    if ":" not in address:
        return address
    number = IPv6Address(address)
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    if number.is_loopback or number.is_link_local:
        return address
    return str(IPv6Network((int(number), NETWORK_BITS), strict=False))
