"""Origins: from which pages a browser lets the console's scripts reach the data ports.  Pure.

    console_origins(settings, "store.example", 7480)
        http://127.0.0.1:7480, https://127.0.0.1:7480, http://localhost:7480, ..., https://store.example:7480

An origin is a scheme, a host and a port as browsers write them in `Origin` (RFC 6454, 6.2): in small letters,
without the port that is the scheme's own, and without a path.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from warehouse.conf.hosts import is_wildcard, parse_host
from warehouse.conf.settings import Settings
from warehouse.errors import BadSetting

_OWN_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def console_origins(settings: Settings, host: str, port: int) -> list[str]:
    """The origins of a console that is served at `port` of this machine.

    Args:
        settings: `console.url` is where a proxy shows it.
        host: under which others reach the machine; a wildcard says nothing.
        port: of the console.
    Returns:
        Origins, each once; http and https of each host.
    Raises:
        BadSetting: see `proxy_origins`.
    """
    hosts = [*_LOOPBACK, *([] if is_wildcard(host) else [host])]
    origins = [_origin(scheme, one, port) for one in hosts for scheme in _OWN_PORTS]
    return list(dict.fromkeys([*origins, *proxy_origins(settings)]))


def proxy_origins(settings: Settings) -> list[str]:
    """The origin of `console.url`, if there is one.

    Raises:
        BadSetting: no browser could open that URL.
    """
    url = settings.console.url
    try:
        return [origin_of_page(url)] if url else []
    except ValueError:
        raise BadSetting(f"console.url is {url!r}, which is not the URL of a page") from None


def origin_of_page(url: str) -> str:
    """The origin of a page.

    Raises:
        ValueError: `url` is not one with http or https and a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in _OWN_PORTS or not parts.hostname:
        raise ValueError("not the URL of a page")
    return _origin(parts.scheme, parts.hostname, parts.port)


def _origin(scheme: str, host: str, port: int | None) -> str:
    host = parse_host(host if host.isascii() else host.encode("idna").decode()).lower()
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if port in (None, _OWN_PORTS[scheme]) else f"{scheme}://{host}:{port}"
