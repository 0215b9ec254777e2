"""Authorities, certificates and contexts for the tests of TLS."""

from __future__ import annotations

import itertools
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warehouse.auth.authority import Authority, join_bundles, make_key, make_request
from warehouse.transport.http.tls import ClientTls, ServerTls, server_context

LOOPBACK = "127.0.0.1"
_numbers = itertools.count()


def rotated(authority: Authority) -> Authority:
    """The authority after a rotation: a new one signs, what the one before has signed stays trusted."""
    new = Authority.generate(now=datetime.now(UTC))
    return Authority(new.key_pem, join_bundles(new.bundle, authority.bundle))


@dataclass
class Tls:
    """An authority, a server with a certificate of it, and clients that trust it."""

    folder: Path
    authority: Authority = field(default_factory=lambda: Authority.generate(now=datetime.now(UTC)))

    def issue(self, *hosts: str, days_ago: int = 0) -> tuple[Path, Path]:
        """The files of a new certificate and of its key."""
        key, now = make_key(), datetime.now(UTC) - timedelta(days=days_ago)
        number = next(_numbers)
        certificate_path, key_path = self.folder / f"{number}.pem", self.folder / f"{number}.key"
        certificate_path.write_text(self.authority.issue(make_request(key), hosts, now=now))
        key_path.write_bytes(key)
        key_path.chmod(0o600)
        return certificate_path, key_path

    def context(self, *hosts: str) -> ssl.SSLContext:
        return server_context(*self.issue(*hosts))

    def server(self, *hosts: str) -> ServerTls:
        return ServerTls(self.context(*(hosts or (LOOPBACK,))))

    def client(self) -> ClientTls:
        return ClientTls(self.authority.bundle)

    def any_client(self) -> ssl.SSLContext:
        """As another program would make it, with the certificate of the authority."""
        return ssl.create_default_context(cadata=self.authority.bundle)
