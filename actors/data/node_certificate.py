"""Node certificate: what a disk asks its master for TLS, and what it makes of the answers."""

from __future__ import annotations

import logging

import trio

from warehouse.actors.certificates import OwnCertificate, StoreCertificate
from warehouse.auth.authority import digest_of
from warehouse.errors import CertificateBad
from warehouse.transport.http.tls import ClientTls

REFUSAL_SIZE_MAX = 500  # characters that a report has of it

log = logging.getLogger(__name__)


class NodeCertificate:
    """The certificate of one disk's server, and whom the disk trusts when it asks other disks.

    Attributes:
        authority_seen: the digest of the authorities that the master named latest; "": none yet.
    """

    def __init__(self, certificate: StoreCertificate | OwnCertificate | None, trust: ClientTls) -> None:
        """
        Args:
            certificate: None: the server needs none.
            trust: of the disk's own requests.
        """
        self._own = certificate if isinstance(certificate, OwnCertificate) else None
        self._certificate = certificate if isinstance(certificate, StoreCertificate) else None
        self._trust = trust
        self.authority_seen = ""

    @property
    def request(self) -> str:
        """What to ask for now (PEM); "": nothing."""
        certificate = self._certificate
        return certificate.request if certificate is not None and certificate.is_due else ""

    @property
    def refusal(self) -> str:
        """Why the operator's certificate, as it is now, is not shown; "": it is, or there is none."""
        return "" if self._own is None else self._own.refusal[:REFUSAL_SIZE_MAX]

    @property
    def lacking(self) -> str:
        """Why the server lets nobody in; "": it does."""
        if self._certificate is None or self._certificate.tls.context is not None:
            return ""
        return "the master has given no certificate for TLS: its log says why, and so does that of this disk"

    async def heard(self, *, certificate: str, authority: str) -> None:
        """Take over what the master says; "": it says nothing of that."""
        try:
            if authority:
                self._trust.trust(authority)
                self.authority_seen = digest_of(authority)
                if self._certificate is not None:
                    self._certificate.signed_by(authority)
            if certificate and self._certificate is not None:
                await trio.to_thread.run_sync(self._certificate.take, certificate)
        except CertificateBad as error:
            log.error("the certificates of the master are refused", extra={"cause": error.message})
