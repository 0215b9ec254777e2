"""Certificates: the master signs those of its disks, and tells whose signatures count.

A disk asks when it registers, and again in a report when its certificate ends soon or another authority signs
now.  The master writes the names itself: the host of the URL under which it gives the disk to clients.

Who needs to know whose signatures count hears it over the control connection, which is authenticated: disks
in their welcome and with a report after a change, clients with every login.  So the authority can be rotated,
and clients whose profile is older go on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import trio

from warehouse.actors.certificates import LOOK_S, operators_authorities, save_bundle
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.authority import digest_of, join_bundles
from warehouse.errors import BadRequest, CertificateBad

log = logging.getLogger(__name__)


class Certificates:
    def __init__(self, keyring: Keyring, operators: Path | None = None) -> None:
        """
        Args:
            operators: the file of `tls.authority`.
        Raises:
            CertificateBad: that file holds no certificates.
        """
        self._keyring = keyring
        self._path = operators
        self._operators = operators_authorities(operators)
        self._seen = self._look()
        self._looked_at = time.monotonic()
        self._joined = ("", "", "", "")  # two bundles, both together, and the digest of that

    def issue(self, request: str, hosts: Sequence[str]) -> str:
        """Return a certificate (PEM) for the key of a request, good for these hosts.

        Raises:
            BadRequest: see `Authority.issue`.
        """
        return self._keyring.authority.issue(request, hosts, now=datetime.now(UTC))

    def for_disk(self, request: str, url: str) -> str:
        """Return a certificate for the server of a disk; "" if it asks for none, or for an impossible one."""
        if not request:
            return ""
        try:
            host = urlsplit(url).hostname or ""
            return self.issue(request, [host])
        except (BadRequest, ValueError) as error:
            log.warning("no certificate for a disk", extra={"url": url, "cause": str(error)})
            return ""

    @property
    def bundle(self) -> str:
        """The authorities whose signatures count (PEM); the first one signs."""
        return self._bundle_and_digest()[0]

    async def keep_file(self, folder: Path) -> None:
        """Keep `authority.pem` in a folder as `bundle` is, until cancelled: it is for other programs."""
        saved = ""
        while True:
            if (bundle := self.bundle) != saved:
                await trio.to_thread.run_sync(save_bundle, folder, bundle)
                saved = bundle
            await trio.sleep(LOOK_S)

    def unseen(self, digest: str) -> str:
        """Return the bundle for a disk that has seen the one of this digest; "": it is the same."""
        bundle, present = self._bundle_and_digest()
        return "" if digest == present or not digest else bundle

    def _bundle_and_digest(self) -> tuple[str, str]:
        ours, theirs = self._keyring.authority.bundle, self._of_operators()
        if self._joined[:2] != (ours, theirs):
            bundle = join_bundles(ours, theirs)
            self._joined = (ours, theirs, bundle, digest_of(bundle))
        return self._joined[2:]

    def _of_operators(self) -> str:
        """What the operator's file says, read again when it has changed."""
        if self._path is None or time.monotonic() - self._looked_at < LOOK_S:
            return self._operators
        self._looked_at = time.monotonic()
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._operators = operators_authorities(self._path)
            except CertificateBad as error:
                log.error("tls.authority has changed and is refused", extra={"cause": error.message})
        return self._operators

    def _look(self) -> tuple[int, ...]:
        if self._path is None:
            return ()
        try:
            found = os.stat(self._path)
        except OSError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns)
