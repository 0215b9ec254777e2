"""Endpoints and URLs: a host and a port, written so that IPv6 addresses keep their brackets.  Pure.

    tcp://127.0.0.1:7400        http://[::1]:7410        tcp://[fe80::1%eth0]:7400

Every place that joins a host and a port, or takes them apart, does so here.
"""

from __future__ import annotations


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
