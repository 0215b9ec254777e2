"""Hosts: names and addresses of both kinds, with and without brackets, and what is none."""

import argparse

import pytest
import trio

from warehouse.actors.listening import known_as
from warehouse.conf.arguments import base_url
from warehouse.conf.arguments import host as host_argument
from warehouse.conf.hosts import parse_base_url, parse_host
from warehouse.conf.settings import load_settings
from warehouse.errors import BadSetting, SetupError
from warehouse.transport.endpoints import endpoint_of, host_and_port, origin_of
from warehouse.transport.zeromq.knock import needs_ipv6


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0::0", "::"),
        ("2001:DB8::7", "2001:db8::7"),
        ("192.0.2.7", "192.0.2.7"),
        ("photos.example", "photos.example"),
        ("photos.example.", "photos.example"),
        ("192.0.2.7.", "192.0.2.7"),
        ("node_7", "node_7"),
    ],
)
def test_a_host_is_read_and_goes_into_an_endpoint_and_out_again(text, host):
    assert parse_host(text) == host
    assert host_and_port(endpoint_of(host, 7400)) == (host, 7400)
    assert load_settings(environ={}, flags={"cluster.host": text}).cluster.host == host


@pytest.mark.parametrize(
    "text",
    ["::g", "[::1", "::1]", "[]", "fe80::1%eth0", "[fe80::1%25eth0]", "fe80::1", "[192.0.2.7]", "192.0.2"]
    + ["192.0.2.777", "host:7400", "http://host", "", "-a", "a b", "ä", "::1:zz", ".", "a..", "a..b"],
)
def test_what_is_no_host_is_refused_in_words(text):
    with pytest.raises(ValueError):
        parse_host(text)
    with pytest.raises(BadSetting, match="a host name, an IPv4 address, or an IPv6 address"):
        load_settings(environ={}, flags={"cluster.host": text})
    with pytest.raises(argparse.ArgumentTypeError, match="a host name, an IPv4 address, or an IPv6 address"):
        host_argument(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://[::1]:7410", "http://[::1]:7410"),
        ("http://photos.example", "http://photos.example"),
        ("http://192.0.2.7:80/", "http://192.0.2.7:80"),
        ("https://photos.example.:7410", "https://photos.example:7410"),
        ("https://photos.example/", "https://photos.example"),
        ("https://[2001:DB8::7]:7410", "https://[2001:db8::7]:7410"),
    ],
)
def test_the_url_of_a_server_is_read(text, url):
    assert parse_base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "http://::1:7410",
        "::1",
        "photos.example:7410",
        "ftp://a",
        "http://a:1/x",
        "http://a:1?x",
        "http://[::1",
    ]
    + ["http://[fe80::1%25lo]:1", "http://:80", "http://a:70000", "http://a:0", "http://u@a:1", ""],
)
def test_what_is_no_url_of_a_server_is_refused_in_words(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"https://\[2001:db8::7\]:7410"):
        base_url(text)


@pytest.mark.parametrize("host", ["::", "0.0.0.0"])
def test_who_listens_everywhere_has_to_say_how_it_is_reached(host):
    with pytest.raises(SetupError, match="--advertise"):
        known_as(host, None)
    assert known_as(host, "2001:db8::7") == "2001:db8::7"
    assert known_as("::1", None) == "::1"


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_connections_of_one_network_count_as_one(address, origin):
    assert origin_of(address) == origin


class _Names(trio.abc.HostnameResolver):
    """Knows one name, with an address of each kind."""

    def __init__(self, port):
        self._port = port

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        stream = trio.socket.SOCK_STREAM
        return [
            (trio.socket.AF_INET6, stream, 6, "", ("::1", self._port, 0, 0)),
            (trio.socket.AF_INET, stream, 6, "", ("127.0.0.1", self._port)),
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.mark.parametrize(("host", "is_ipv6"), [("127.0.0.1", False), ("::1", True)])
async def test_of_a_name_with_both_addresses_the_one_that_answers_is_taken(host, is_ipv6):
    assert await needs_ipv6(endpoint_of(host, 1)) is is_ipv6, "an address says so itself"
    listeners = await trio.open_tcp_listeners(0, host=host)
    port = listeners[0].socket.getsockname()[1]
    trio.socket.set_custom_hostname_resolver(_Names(port))
    try:
        with trio.fail_after(30):
            assert await needs_ipv6(endpoint_of("photos.example", port)) is is_ipv6
    finally:
        trio.socket.set_custom_hostname_resolver(None)
        for listener in listeners:
            await listener.aclose()
