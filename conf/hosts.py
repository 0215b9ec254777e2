"""Hosts: addresses that an operator may name to listen on, or to be reached at.  Pure.

    photos.example     192.0.2.7     ::1     [::1]

An IPv6 address may be written in brackets, as in a URL; the result has none.  A zone (fe80::1%eth0) is
refused: it has a meaning on one machine only, while others read what is advertised.  Link-local addresses
(fe80::...) have no meaning without a zone.  A dot at the end of a name is left out: no certificate can have
one.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

HOST_IN_WORDS = "a host name, an IPv4 address, or an IPv6 address (none with a zone, none that is link-local)"
URL_IN_WORDS = "a URL such as https://192.0.2.7:7410 or https://[2001:db8::7]:7410"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", re.ASCII)
_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)


def parse_host(text: str) -> str:
    """Read a host; return an IPv6 address in its shortest form, without brackets, and a name without a dot at
    its end.

    Raises:
        ValueError: `text` is not a host.
    """
    is_bracketed = text.startswith("[") and text.endswith("]")
    if is_bracketed or ":" in text:
        address = IPv6Address(text[1:-1] if is_bracketed else text)
        if address.scope_id is not None or address.is_link_local:
            raise ValueError("an address of one link")
        return str(address)
    text = text.removesuffix(".")
    if _NUMBERS.fullmatch(text):
        return str(IPv4Address(text))
    if not _NAME.fullmatch(text) or ".." in text or text.endswith("."):
        raise ValueError("not a host name")
    return text


def parse_base_url(text: str) -> str:
    """Read the URL of a server's root; return it as others must use it, without a slash at its end.

    Raises:
        ValueError: `text` is not such a URL.
    """
    parts = urlsplit(text)
    netloc = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", parts.netloc)
    if (
        parts.scheme not in _DEFAULT_PORTS
        or netloc is None
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise ValueError("not the URL of a server's root")
    host, port = parse_host(netloc[1]), int(netloc[2] or _DEFAULT_PORTS[parts.scheme])
    if not 1 <= port <= 65535:
        raise ValueError("not a port")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{port}" if netloc[2] else f"{parts.scheme}://{host}"


def is_wildcard(host: str) -> bool:
    """Does this host, as `parse_host` gives it, mean all addresses of the machine?"""
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
