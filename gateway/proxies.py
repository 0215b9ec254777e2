"""Proxies: what may be believed of the headers that a proxy adds.  Pure

Anybody can send X-Forwarded-Host.  It counts from addresses alone that the operator has named
(`s3.trusted_proxies`), and even then a host is only one more that the client may have signed for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

HOST_MAX = 255  # bytes
PROXIES_MAX = 16  # addresses of X-Forwarded-For that are looked at


class Proxies:
    """
    Args:
        networks: addresses and networks of proxies, such as "192.0.2.7" and "10.0.0.0/8".
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(one, strict=False) for one in networks]

    def forwarded_host(self, peer: str, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The host that the client has asked for, as a trusted proxy says; None: nobody says another one.

        Args:
            peer: address and port of the connection.
        """
        forwarded = headers.get(b"x-forwarded-host")
        if forwarded is None or not self._is_trusted(_address_of(peer.rpartition(":")[0])):
            return None
        host = forwarded.partition(b",")[0].strip()
        return host if 0 < len(host) <= HOST_MAX and host != headers.get(b"host") else None

    def client(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Who asks, as far as it can be believed: the last address that is no trusted proxy's."""
        forwarded = headers.get(b"x-forwarded-for")
        if forwarded is None or not self._is_trusted(_address_of(peer.rpartition(":")[0])):
            return peer
        found = peer
        for word in reversed(forwarded.split(b",")[-PROXIES_MAX:]):
            address = _address_of(word.strip().decode("latin-1"))
            if address is None:
                break
            found = str(address)
            if not self._is_trusted(address):
                break
        return found

    def _is_trusted(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _address_of(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
