"""Health and metrics: on loopback for everybody there, elsewhere for whoever has the token, and on no other port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tls_kit import Tls
from warehouse.actors.listening import is_loopback
from warehouse.actors.monitoring import (
    MonitoringPort,
    MonitoringServer,
    load_token,
    monitoring_host,
    open_monitoring,
)
from warehouse.conf.settings import Monitoring, Settings
from warehouse.conf.settings import Tls as TlsSettings
from warehouse.errors import BadSetting, ListenerInsecure
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.tls import ServerTls

TOKEN = "0123456789abcdef"


@asynccontextmanager
async def serving(
    port: MonitoringPort, tls: ServerTls | None = None, *, health: tuple[bool, str] = (True, "ok")
) -> AsyncIterator[str]:
    server = MonitoringServer(health=lambda: health, metrics=lambda: b"figures 1\n")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, port, tls)
        yield port.url
        nursery.cancel_scope.cancel()


async def ask(url: str, path: str, *headers: tuple[str, str], method: str = "GET") -> tuple[int, bytes]:
    pool = HttpPool()
    status, answered, body = await pool.request(method, url, path, headers=headers)
    assert "access-control-allow-origin" not in answered
    await pool.aclose()
    return status, body


def bearer(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


async def test_on_loopback_everybody_may_ask() -> None:
    port = await open_monitoring(Settings(), "127.0.0.1", 0, is_insecure=False)
    origin = ("Origin", "https://a.example")
    async with serving(port) as url:
        assert url.startswith("http://127.0.0.1:")
        assert await ask(url, "/metrics", origin) == (200, b"figures 1\n")
        assert await ask(url, "/healthz", origin) == (200, b'{"status":"ok"}')
        assert (await ask(url, "/v1/needles/1/1"))[0] == 404
        assert (await ask(url, "/metrics", method="PUT"))[0] == 405
        preflight = (origin, ("Access-Control-Request-Method", "GET"))
        assert (await ask(url, "/metrics", *preflight, method="OPTIONS"))[0] == 405


async def test_an_actor_that_is_not_well_says_so() -> None:
    port = await open_monitoring(Settings(), "127.0.0.1", 0, is_insecure=False)
    async with serving(port, health=(False, "no master")) as url:
        assert await ask(url, "/healthz") == (503, b'{"status":"no master"}')


async def test_with_a_token_nobody_else_learns_anything(token_file: Path) -> None:
    settings = Settings(monitoring=Monitoring(token_file=token_file))
    port = await open_monitoring(settings, "127.0.0.1", 0, is_insecure=False)
    async with serving(port) as url:
        for path in ("/metrics", "/healthz", "/other"):
            status, body = await ask(url, path)
            assert (status, b"token_missing" in body) == (401, True)
            for header in (bearer("x" * 16), bearer(TOKEN + "x"), bearer(""), ("Authorization", TOKEN)):
                status, body = await ask(url, path, header)
                assert (status, b"token_invalid" in body) == (401, True)
        assert (await ask(url, "/metrics", bearer(TOKEN)))[0] == 200
        assert (await ask(url, "/healthz", ("Authorization", f"bearer {TOKEN}")))[0] == 200


async def test_elsewhere_it_needs_a_token_and_speaks_tls(token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"monitoring\.token_file"):
        await open_monitoring(
            Settings(monitoring=Monitoring(host="0.0.0.0")), "127.0.0.1", 0, is_insecure=False
        )
    monitoring = Monitoring(host="0.0.0.0", token_file=token_file)
    with pytest.raises(ListenerInsecure):
        await open_monitoring(
            Settings(monitoring=monitoring, tls=TlsSettings(mode="off")), "127.0.0.1", 0, is_insecure=False
        )
    port = await open_monitoring(Settings(monitoring=monitoring), "127.0.0.1", 0, is_insecure=False)
    assert port.is_tls
    tls = Tls(tmp_path)
    server = tls.server()
    async with serving(port, server) as url:
        pool = HttpPool(tls=tls.client())
        server.ends_s = 1_800_000_000.0
        answer = await pool.request(
            "GET", url.replace("0.0.0.0", "127.0.0.1"), "/metrics", headers=[bearer(TOKEN)]
        )
        assert answer[0] == 200
        assert answer[2].endswith(b"\nwarehouse_certificate_end_timestamp_seconds 1800000000\n")
        await pool.aclose()


@pytest.mark.parametrize(
    ("content", "mode"),
    [("short", 0o600), ("", 0o600), ("two words, and long", 0o600), (TOKEN, 0o644), (None, 0)],
)
def test_a_token_that_is_none_stops_the_start(tmp_path: Path, content: str | None, mode: int) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(BadSetting) as caught:
        load_token(Monitoring(token_file=path), "127.0.0.1")
    assert str(path) in caught.value.message
    assert not content or content not in caught.value.message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.7", "127.0.0.7"),
        ("::1", "::1"),
        ("0.0.0.0", "127.0.0.1"),
        ("192.0.2.7", "127.0.0.1"),
        ("::", "::1"),
        ("2001:db8::7", "::1"),
    ],
)
def test_it_listens_on_the_loopback_address_that_fits(host: str, expected: str) -> None:
    assert monitoring_host(Monitoring(), host) == expected
    assert monitoring_host(Monitoring(host="192.0.2.8"), host) == "192.0.2.8"


def test_what_only_this_machine_can_reach_is_loopback() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "192.0.2.7", "2001:db8::7", "no-such-host.invalid"):
        assert not is_loopback(host), host
