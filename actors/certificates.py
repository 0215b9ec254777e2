"""Certificates: which one an actor's HTTP ports show, and when another takes its place.

    StoreCertificate    the store's authority signs it.  The private key is made here and never leaves the
                        folder; the request goes to the master, and the certificate comes back
    OwnCertificate      the operator's files (`tls.certificate`, `tls.key`), read again when they change

New connections get the newest certificate; open ones keep theirs.  A pair that is not good (another host, an
end in the past, the key of another certificate) is refused, said in the log, and changes nothing.

`wants_tls` decides which ports speak TLS: see `tls.mode`.
"""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import trio

from warehouse.auth.authority import (
    BUNDLE_SIZE_MAX,
    ServerCertificate,
    join_bundles,
    make_key,
    make_request,
    split_bundle,
)
from warehouse.conf.files import read_small, write_if_changed, write_whole
from warehouse.conf.secret_file import require_mode, require_owner
from warehouse.conf.settings import Tls
from warehouse.errors import BadRequest, BadSetting, CertificateBad, ListenerInsecure, SetupError
from warehouse.transport.http.tls import ServerTls, server_context

log = logging.getLogger(__name__)

KEY_NAME = "tls.key"
CERTIFICATE_NAME = "tls.pem"
BUNDLE_NAME = "authority.pem"
FILE_SIZE_MAX = 64 * 1024
DAY_S = 86_400.0
WARN_DAYS = 14  # before the end of a certificate that we cannot renew
LOOK_S = 5.0  # between looks for changed files


def wants_tls(settings: Tls, host: str, *, is_loopback: bool, is_insecure: bool) -> bool:
    """Decide whether a port speaks TLS.

    Args:
        is_loopback: only this machine can connect to it.
        is_insecure: the operator has said that it may do without, elsewhere too (`--insecure`).
    Raises:
        ListenerInsecure: it would speak plain HTTP where others can listen in.
    """
    if settings.mode == "auto":
        return not is_loopback
    if settings.mode == "off" and not is_loopback and not is_insecure:
        raise ListenerInsecure(
            f"{host} can be reached from other machines, and tls.mode is off: everybody on the way could read"
            " objects and tokens. Leave tls.mode at auto, or say --insecure if something else encrypts"
        )
    return settings.mode == "on"


def require_scheme(url: str, *, is_tls: bool) -> None:
    """Refuse an advertised URL under which nobody could talk to us.

    Raises:
        CertificateBad: the port speaks TLS, and the URL says http.
    """
    if is_tls and url.startswith("http://"):
        raise CertificateBad(
            f"this port speaks TLS, and {url} says that it does not: advertise https://{url[7:]}, or set"
            " tls.mode to off and say --insecure"
        )


class StoreCertificate:
    """A key of this server, and the newest certificate that the store's authority has given for it.

    Attributes:
        tls: for `HttpServer`.
        host: under which clients know this server.
        request: asks for a certificate for the key (PEM).
    """

    def __init__(self, folder: Path, host: str, *others: str, is_read_only: bool = False) -> None:
        """
        Args:
            folder: keeps key and certificate, so that a server can go on while its master is away.
            host: under which clients know this server.
            others: more names; a certificate that lacks one is due.
            is_read_only: nothing can be kept: the key is a new one at each start.  The same goes for a folder
                that turns out to be full.
        Raises:
            CertificateBad: the key cannot be read.
            BadSetting: others may read the key.
        """
        self.tls = ServerTls()
        self.host = host
        self._others = others
        self._is_kept = not is_read_only
        self._key_path = folder / KEY_NAME
        self._certificate_path = folder / CERTIFICATE_NAME
        self._key = self._load_or_make_key()
        self._authority = ""  # that signs, as far as we know
        self._certificate: ServerCertificate | None = None
        self.request = make_request(self._key)
        if self._is_kept:
            self._load()

    def _load_or_make_key(self) -> bytes:
        if not self._is_kept:
            return make_key()
        try:
            content, found = read_small(self._key_path, FILE_SIZE_MAX)
            require_owner(found, self._key_path, what="key")
            require_mode(found, self._key_path, what="key")
            make_request(content)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CertificateBad(f"cannot read {self._key_path}: {error.strerror}") from error
        except CertificateBad:
            log.warning("the key for TLS is damaged; a new one takes its place")
        else:
            return content
        key = make_key()
        try:
            write_whole(self._key_path, key)
        except OSError as error:
            self._keep_nothing(error)
        return key

    def _keep_nothing(self, error: OSError) -> None:
        """Go on in memory: a full disk can still be read."""
        self._is_kept = False
        log.warning(
            "the certificate cannot be kept", extra={"path": str(self._key_path), "cause": str(error)}
        )

    def _load(self) -> None:
        """Go on with the certificate of an earlier start, if it is still good."""
        with suppress(OSError, CertificateBad):
            content, _ = read_small(self._certificate_path, FILE_SIZE_MAX)
            self._certificate = certificate = self._checked(content)
            context = server_context(self._certificate_path, self._key_path)
            self.tls.show(context, ends_s=certificate.ends.timestamp())

    @property
    def is_due(self) -> bool:
        """Whether to ask for a certificate now."""
        certificate = self._certificate
        if certificate is None or certificate.is_due(datetime.now(UTC)):
            return True
        if not all(certificate.covers(host) for host in self._others):
            return True
        return bool(self._authority) and not certificate.is_signed_by(self._authority)

    def signed_by(self, bundle: str) -> None:
        """Note which authority signs now: the first of a bundle.

        Raises:
            CertificateBad: these are not certificates.
        """
        self._authority = next(iter(split_bundle(bundle)), "")

    def take(self, pem: str) -> None:
        """Show this certificate from now on.  Blocks.

        Raises:
            CertificateBad: it is not one for our key and host, or it cannot be kept.
        """
        content = pem.encode()
        certificate = self._checked(content)
        if self._is_kept:
            try:
                write_if_changed(self._certificate_path, content)
            except OSError as error:
                self._keep_nothing(error)
        if self._is_kept:
            context = server_context(self._certificate_path, self._key_path)
        else:
            context = _context_of(content, self._key)
        self.tls.show(context, ends_s=certificate.ends.timestamp())
        self._certificate = certificate
        log.info("new certificate", extra={"host": self.host, "ends": certificate.ends.isoformat()})

    def _checked(self, content: bytes) -> ServerCertificate:
        certificate = ServerCertificate.load(content)
        if not certificate.is_of_key(self._key):
            raise CertificateBad("this certificate is not for our key")
        _require_good(certificate, self.host, "this certificate")
        return certificate

    async def keep_fresh(self, issue: Callable[[str], str], bundle: Callable[[], str]) -> None:
        """Renew the certificate whenever it is due, until cancelled: for who can issue it itself.

        Args:
            issue: returns a certificate (PEM) for a request; does not block.
            bundle: returns the authorities whose signatures count now (PEM); the first one signs.
        """
        while True:
            try:
                self.signed_by(bundle())
                if self.is_due:
                    await trio.to_thread.run_sync(self.take, issue(self.request))
            except (BadRequest, CertificateBad) as error:
                log.error("no new certificate", extra={"cause": error.message})
            await trio.sleep(LOOK_S)


def _context_of(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """OpenSSL reads files only; where there is no place for them, these last a moment."""
    try:
        with tempfile.TemporaryDirectory(prefix="warehouse-tls-") as folder:
            paths = Path(folder) / CERTIFICATE_NAME, Path(folder) / KEY_NAME
            for path, content in zip(paths, (certificate, key), strict=True):
                path.touch(mode=0o600)
                path.write_bytes(content)
            return server_context(*paths)
    except OSError as error:
        raise CertificateBad(f"cannot write a temporary file for OpenSSL: {error}") from error


class OwnCertificate:
    """The operator's certificate and key.

    Attributes:
        tls: for `HttpServer`.
        paths: of certificate and key.
        refusal: why the files that lie there now are not shown, but the ones before; "": they are shown.
    """

    def __init__(self, certificate: Path, key: Path, host: str) -> None:
        """
        Raises:
            CertificateBad: the files are no good pair for `host`.
            BadSetting: others may read the key.
        """
        self.paths = (certificate, key)
        self.host = host
        self.refusal = ""
        self._warned_s = 0.0
        self._seen = self._look()
        self.tls = ServerTls()
        self._load()

    def _look(self) -> tuple[object, ...]:
        """What tells a changed file from the one that was read."""
        found: list[object] = []
        for path in self.paths:
            try:
                status = os.stat(path)
                found += [status.st_ino, status.st_size, status.st_mtime_ns]
            except OSError as error:
                found.append(error.errno)
        return tuple(found)

    def _load(self) -> None:
        certificate_path, key_path = self.paths
        try:
            content, _ = read_small(certificate_path, FILE_SIZE_MAX)
            _, found = read_small(key_path, FILE_SIZE_MAX)
        except OSError as error:
            path = error.filename or certificate_path
            raise CertificateBad(f"cannot read {path}: {error.strerror}") from error
        require_mode(found, key_path, what="key")
        certificate = ServerCertificate.load(content)
        _require_good(certificate, self.host, f"the certificate {certificate_path}")
        self.tls.show(server_context(certificate_path, key_path), ends_s=certificate.ends.timestamp())

    async def watch(self, tell: Callable[[str], None] = lambda refusal: None) -> None:
        """Read the files again whenever they have changed; warn before their end; until cancelled.

        Args:
            tell: called with `refusal` after each look.
        """
        while True:
            self.warn_of_end(time.time())
            await trio.sleep(LOOK_S)
            await trio.to_thread.run_sync(self.look_again)
            tell(self.refusal)

    def warn_of_end(self, now_s: float) -> None:
        """Say once a day that the certificate ends soon: nobody but the operator can renew it."""
        left_days = (self.tls.ends_s - now_s) / DAY_S
        if left_days < WARN_DAYS and now_s - self._warned_s >= DAY_S:
            self._warned_s = now_s
            log.warning(
                "the certificate ends soon: put a new one in its place",
                extra={"certificate": str(self.paths[0]), "days": round(left_days, 1)},
            )

    def look_again(self) -> None:
        """Take changed files over if they are good.  Blocks."""
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._load()
        except (CertificateBad, BadSetting) as error:
            self.refusal = error.message
            log.error(
                "the changed certificate is refused; the one before stays", extra={"cause": error.message}
            )
        else:
            self.refusal = ""
            log.info("the certificate was read again", extra={"certificate": str(self.paths[0])})


def _require_good(certificate: ServerCertificate, host: str, what: str) -> None:
    if not certificate.covers(host):
        names = ", ".join(sorted(certificate.hosts)) or "no host at all"
        raise CertificateBad(
            f"{what} is for {names}, and clients reach this server as {host}: use a certificate for that"
            " name, or --advertise a name of the certificate"
        )
    if not certificate.is_good(datetime.now(UTC)):
        raise CertificateBad(
            f"{what} counts from {certificate.starts:%Y-%m-%d} to {certificate.ends:%Y-%m-%d}, and not now"
        )


def certificate_of(
    settings: Tls, folder: Path, host: str, *, is_read_only: bool = False
) -> StoreCertificate | OwnCertificate:
    """Return the certificate of a server: the operator's if there is one, else one of the store.

    Args:
        folder: keeps the store's.
        host: under which clients know this server.
    Raises:
        CertificateBad, BadSetting: see the two classes.
    """
    if settings.certificate is not None and settings.key is not None:
        return OwnCertificate(settings.certificate, settings.key, host)
    return StoreCertificate(folder, host, is_read_only=is_read_only)


def given_certificate(
    settings: Tls, folder: Path, host: str, reached_as: str, *, what: str
) -> OwnCertificate:
    """For a process that has no certificate of its own: the operator's, or the one that `warehouse up` made.

    Args:
        folder: where `warehouse up` puts it.
        what: the process, for the message.
    Raises:
        SetupError: there is none, or it is not good.
    """
    if settings.certificate is not None and settings.key is not None:
        return OwnCertificate(settings.certificate, settings.key, reached_as)
    certificate, key = folder / CERTIFICATE_NAME, folder / KEY_NAME
    if certificate.is_file() and key.is_file():
        return OwnCertificate(certificate, key, reached_as)
    raise SetupError(
        f"a {what} at {host} can be reached from other machines and needs a certificate: set tls.certificate"
        " and tls.key, let `warehouse up` start it, or say --insecure with tls.mode off if a proxy encrypts"
    )


def require_operators(settings: Tls, host: str) -> None:
    """Check that the operator's certificate, if there is one, is good for `host`.

    Raises:
        CertificateBad, BadSetting: see `OwnCertificate`.
    """
    if settings.certificate is not None and settings.key is not None:
        OwnCertificate(settings.certificate, settings.key, host)


def trusted_bundle(store: str, settings: Tls) -> str:
    """Return all authorities that clients shall trust: those of the store, then the operator's (PEM).

    Raises:
        CertificateBad: see `operators_authorities`.
    """
    return join_bundles(store, operators_authorities(settings.authority))


def save_bundle(folder: Path, bundle: str) -> None:
    """Write the authorities to a file of their own, for `curl --cacert`, browsers and the like."""
    try:
        write_if_changed(folder / BUNDLE_NAME, bundle.encode())
    except OSError as error:  # a full disk; profiles and join files have it, too
        log.warning("cannot write the authorities", extra={"folder": str(folder), "cause": str(error)})


def operators_authorities(path: Path | None) -> str:
    """Read the certificates of `tls.authority`.

    Raises:
        CertificateBad: the file cannot be read, or holds something else than certificates.
    """
    if path is None:
        return ""
    try:
        content, _ = read_small(path, BUNDLE_SIZE_MAX)
        return "".join(split_bundle(content.decode("ascii")))
    except OSError as error:
        raise CertificateBad(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CertificateBad(f"{path} does not hold certificates in PEM") from error
