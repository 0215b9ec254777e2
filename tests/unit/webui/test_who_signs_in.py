"""Who signs in: whose attempts are counted together, and how many there may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from quart import Request
from werkzeug.datastructures import Headers

from warehouse.errors import PermissionDenied
from warehouse.webui.attempts import ADDRESSES_MAX, BURST, PER_S, Attempts
from warehouse.webui.console import ConsoleOptions
from warehouse.webui.data_origins import DataOrigins
from warehouse.webui.security import client_address, cookie_name

DIRECT = ConsoleOptions(Path("profile"), Path("folder"))
PROXIED = ConsoleOptions(Path("profile"), Path("folder"), public_url="https://store.example/console")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (DIRECT, "warehouse_session"),
        (replace(DIRECT, is_tls=True), "__Host-warehouse_session"),
        (PROXIED, "__Secure-warehouse_session"),
        (replace(PROXIED, public_url="https://store.example"), "__Host-warehouse_session"),
        (replace(PROXIED, public_url="http://store.example/console"), "warehouse_session"),
    ],
)
def test_a_cookie_is_taken_from_no_neighbour(options: ConsoleOptions, name: str) -> None:
    assert cookie_name(options) == name


def request_of(peer: str, *forwarded: str) -> Request:
    async def no_push(path: str, headers: Headers) -> None:
        return None

    headers = Headers([("Remote-Addr", peer), *(("X-Forwarded-For", text) for text in forwarded)])
    return Request("POST", "http", "/sign-in", b"", headers, "", "1.1", {}, send_push_promise=no_push)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ([], "192.0.2.1"),
        (["198.51.100.7"], "198.51.100.7"),
        (["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        (["198.51.100.7,"], "192.0.2.1"),
        (["unknown"], "192.0.2.1"),
        (["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        (["::ffff:198.51.100.7"], "198.51.100.7"),
    ],
)
def test_behind_a_proxy_the_address_that_it_has_added_counts(forwarded: list[str], address: str) -> None:
    assert client_address(request_of("192.0.2.1", *forwarded), PROXIED) == address


def test_without_a_proxy_nobody_can_claim_another_address() -> None:
    assert client_address(request_of("192.0.2.1", "198.51.100.7"), DIRECT) == "192.0.2.1"


def test_addresses_of_one_ipv6_network_are_counted_together() -> None:
    assert client_address(request_of("2001:db8::1"), DIRECT) == client_address(
        request_of("2001:db8::2"), DIRECT
    )


def test_attempts_that_have_not_ended_count() -> None:
    attempts = Attempts()
    for _ in range(int(BURST)):
        assert attempts.wait_s("a", 0.0) == 0
        attempts.begin("a", 0.0)
    assert attempts.wait_s("a", 0.0) > 0
    assert attempts.wait_s("b", 0.0) == 0
    attempts.succeeded("a", 0.0)
    assert attempts.wait_s("a", 0.0) == 0


def test_whoever_waits_as_long_as_they_are_told_may_try_again() -> None:
    attempts = Attempts()
    for _ in range(50):
        attempts.begin("a", 0.0)
    wait_s = attempts.wait_s("a", 0.0)
    assert 0 < wait_s <= (BURST + 1) / PER_S
    assert attempts.wait_s("a", wait_s + 0.001) == 0


def test_strangers_with_many_addresses_cost_no_memory() -> None:
    attempts = Attempts()
    for number in range(ADDRESSES_MAX + 100):
        attempts.begin(str(number), 0.0)
    assert len(attempts._spent) == ADDRESSES_MAX


async def test_what_is_no_origin_gets_into_no_header() -> None:
    origins = DataOrigins()
    origins._learn(
        [
            "http://192.0.2.7:7410/needles",
            "https://[2001:db8::1]:7410",
            "http://x; script-src *",
            "http://x\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "http://*",
            "//x",
        ]
    )
    assert origins.current == {"http://192.0.2.7:7410", "https://[2001:db8::1]:7410"}


async def test_a_key_that_is_told_no_origin_does_not_keep_the_others_from_asking() -> None:
    async def refused() -> list[str]:
        raise PermissionDenied("this key has nothing to do with objects")

    async def told() -> list[str]:
        return ["http://192.0.2.8:7410"]

    origins = DataOrigins()
    origins._learn(["http://192.0.2.7:7410"])
    for ask in (refused, told):
        await origins.look_again(cast(Any, SimpleNamespace(data_urls=ask)))
    assert origins.current == {"http://192.0.2.7:7410", "http://192.0.2.8:7410"}
