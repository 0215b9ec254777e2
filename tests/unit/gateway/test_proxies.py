"""Headers of proxies count from trusted addresses alone."""

from __future__ import annotations

import pytest

from warehouse.gateway.proxies import Proxies

TRUSTED = Proxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "host"),
    [
        ("10.1.2.3:50000", b"s3.example.org", b"s3.example.org"),
        ("[2001:db8::1]:50000", b"s3.example.org:8443", b"s3.example.org:8443"),
        ("[::ffff:10.1.2.3]:50000", b"s3.example.org", b"s3.example.org"),
        ("10.1.2.3:50000", b" s3.example.org , inner", b"s3.example.org"),
        ("10.1.2.3:50000", b"direct", None),  # as the Host header has it
        ("10.1.2.3:50000", b"", None),
        ("10.1.2.3:50000", b"x" * 256, None),
        ("192.0.2.8:50000", b"s3.example.org", None),
        ("local", b"s3.example.org", None),
    ],
)
def test_the_host_that_a_trusted_proxy_tells(peer: str, forwarded: bytes, host: bytes | None) -> None:
    headers = {b"host": b"direct", b"x-forwarded-host": forwarded}
    assert TRUSTED.forwarded_host(peer, headers) == host
    assert Proxies().forwarded_host(peer, headers) is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.1.2.3:50000", b"198.51.100.9", "198.51.100.9"),
        ("10.1.2.3:50000", b"203.0.113.1, 198.51.100.9, 192.0.2.7", "198.51.100.9"),  # the first is a lie
        ("10.1.2.3:50000", b"10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("10.1.2.3:50000", b"nonsense", "10.1.2.3:50000"),
        ("10.1.2.3:50000", b"nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.1.2.3:50000", b"\xff\xfe", "10.1.2.3:50000"),
        ("198.51.100.9:50000", b"203.0.113.1", "198.51.100.9:50000"),
    ],
)
def test_the_address_that_can_be_believed(peer: str, forwarded: bytes, client: str) -> None:
    assert TRUSTED.client(peer, {b"x-forwarded-for": forwarded}) == client


def test_without_the_header_it_is_the_connection() -> None:
    assert TRUSTED.client("10.1.2.3:50000", {}) == "10.1.2.3:50000"
