"""Origins of the console: as browsers write them, whatever the operator wrote."""

from __future__ import annotations

import pytest

from warehouse.conf.origins import console_origins, origin_of_page
from warehouse.conf.settings import load_settings
from warehouse.errors import BadSetting
from warehouse.transport.http.rules import CorsRule

PLAIN = load_settings(environ={})


def behind(url: str) -> list[str]:
    settings = load_settings(environ={}, flags={"console.url": url})
    return console_origins(settings, "192.0.2.7", 7480)[8:]


def test_a_console_is_reached_on_loopback_and_under_the_name_of_its_machine() -> None:
    assert console_origins(PLAIN, "Store.Example", 7480) == [
        *("http://127.0.0.1:7480", "https://127.0.0.1:7480"),
        *("http://localhost:7480", "https://localhost:7480"),
        *("http://[::1]:7480", "https://[::1]:7480"),
        *("http://store.example:7480", "https://store.example:7480"),
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
def test_loopback_and_wildcards_add_nothing(host: str) -> None:
    assert len(console_origins(PLAIN, host, 7480)) == 6


def test_an_address_of_ipv6_has_brackets() -> None:
    assert "https://[2001:db8::7]:7480" in console_origins(PLAIN, "2001:DB8::7", 7480)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Store.Example", "https://store.example"),
        ("https://store.example:443/console/", "https://store.example"),
        ("http://store.example:80", "http://store.example"),
        ("http://store.example:443/a/b", "http://store.example:443"),
        ("https://store.example:8443", "https://store.example:8443"),
        ("https://[2001:db8::7]:8443/x", "https://[2001:db8::7]:8443"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example"),
    ],
)
def test_a_proxy_adds_the_origin_of_its_url(url: str, origin: str) -> None:
    assert behind(url) == [origin]
    assert CorsRule([origin]).answer_headers(origin.encode(), [])[1][1] == origin.encode()


def test_the_ports_that_belong_to_a_scheme_are_left_out() -> None:
    assert "http://localhost" in console_origins(PLAIN, "localhost", 80)
    assert "https://localhost:80" in console_origins(PLAIN, "localhost", 80)


def test_a_url_that_no_browser_could_open_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match=r"console\.url"):
        behind("https://store.example:x")


@pytest.mark.parametrize("url", ["", "ftp://a", "https://", "store.example", "https://a b", "https://a:x"])
def test_what_is_no_page_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of_page(url)
