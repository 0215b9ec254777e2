"""Authority: the store's own certificate authority, and the certificates of its servers.  Pure.

    authority     an ECDSA key on P-256 in the master's keyring, with a certificate that it signed itself.
                  Profiles and join files carry that certificate, so clients trust it and nobody else
    request       a server makes a key of its own, and asks for a certificate with a request (PKCS #10)
    certificate   says that the key belongs to the server at one host, for `LIFE_DAYS`

A rotation makes a new key.  The certificates of earlier authorities stay in the bundle behind the new one, so
that clients still trust servers which have not got a new certificate yet.

The private key of a server never travels.  Of a request only the public key counts: the authority writes the
names, because the master knows from the disk's URL which host it is.

Sources: RFC 5280 (certificates), RFC 2986 (requests), RFC 6125 (names of servers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from warehouse.errors import BadRequest, CertificateBad, SecretMissing

AUTHORITY_DAYS = 3650
LIFE_DAYS = 90
RENEW_DAYS = 30  # before its end: a server that asks daily has a month to reach its master
BACKDATED = timedelta(days=1)  # clocks differ
REQUEST_SIZE_MAX = 4 * 1024
BUNDLE_SIZE_MAX = 32 * 1024  # characters of all certificates that clients trust
EARLIER_MAX = 4  # authorities that stay trusted after rotations

_NAME_SIZE_MAX = 64  # of a common name: RFC 5280, appendix A.1
_SERVER_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_AUTHORITY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Authority:
    """Signs certificates for the servers of one store.

    Attributes:
        key_pem: its private key (PKCS #8).
        bundle: its certificate, then those of earlier authorities that are still trusted (PEM).
    """

    key_pem: bytes = field(repr=False)
    bundle: str

    @classmethod
    def generate(cls, *, now: datetime) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        number = x509.random_serial_number()
        name = _name(f"Warehouse authority {number:x}"[:32])
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .serial_number(number)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_AUTHORITY_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(_key_pem(key), _pem(certificate))

    @classmethod
    def load(cls, key_pem: bytes, bundle: bytes) -> Authority:
        """
        Raises:
            SecretMissing: not a key on P-256, not certificates, or the first certificate has another key.
        """
        try:
            key = _load_key(key_pem)
            certificates = x509.load_pem_x509_certificates(bundle)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Not `from error`: its text may quote the key.
            raise SecretMissing("the key or the certificate of the authority is damaged") from None
        if certificates[0].public_key() != key.public_key():
            raise SecretMissing("the key of the authority is not that of its certificate")
        return cls(key_pem, "".join(_pem(certificate) for certificate in certificates))

    @property
    def certificate(self) -> str:
        """The certificate that signs, without those of earlier authorities (PEM)."""
        return split_bundle(self.bundle)[0]

    def issue(self, request: str, hosts: Iterable[str], *, now: datetime) -> str:
        """Return a certificate (PEM) for the key of a request, good for the servers at `hosts`.

        Args:
            request: PKCS #10 in PEM.  Its names and extensions do not count.
            hosts: names and addresses, without brackets.
        Raises:
            BadRequest: the request is malformed, has another kind of key, or is not signed with its key.
        """
        public_key = _key_of_request(request)
        hosts = list(hosts)
        key = _load_key(self.key_pem)
        mine = x509.load_pem_x509_certificate(self.certificate.encode())
        identifier = mine.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        try:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            certificate = (
                _builder(_name(hosts[0]), mine.subject, public_key, now, LIFE_DAYS)
                .serial_number(x509.random_serial_number())
                .add_extension(names, critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_SERVER_USAGE, critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
                )
                .sign(key, hashes.SHA256())
            )
        except ValueError as error:
            raise BadRequest(f"no certificate can name the host {hosts[0]!r}: {error}") from error
        return _pem(certificate)


# --- the server's side ----------------------------------------------------------------------------


def make_key() -> bytes:
    """Return a new private key for a server (PEM)."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_request(key_pem: bytes) -> str:
    """Return a request for a certificate for this key (PEM).

    Raises:
        CertificateBad: this is not a private key on P-256.
    """
    try:
        key = _load_key(key_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateBad("the key for TLS is not a private key on P-256") from None
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("Warehouse server"))
    return _text(request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


@dataclass(frozen=True)
class ServerCertificate:
    """What a certificate says of its server.

    Attributes:
        hosts: names in lower case, and addresses in their shortest form; a name may begin with "*.".
    """

    starts: datetime
    ends: datetime
    hosts: frozenset[str]
    _certificate: x509.Certificate = field(repr=False)

    @classmethod
    def load(cls, pem: bytes) -> ServerCertificate:
        """Read the first certificate of a chain.

        Raises:
            CertificateBad: this is not a certificate in PEM.
        """
        try:
            certificate = x509.load_pem_x509_certificates(pem)[0]
            return cls(
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
                frozenset(_hosts_of(certificate)),
                certificate,
            )
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            raise CertificateBad(f"this is not a certificate in PEM: {error}") from error

    def covers(self, host: str) -> bool:
        """Whether clients take this certificate for the server at `host`: RFC 6125, 6.4."""
        host = _normal(host)
        if host in self.hosts:
            return True
        _, dot, parent = host.partition(".")
        return bool(dot) and not _is_address(host) and f"*.{parent}" in self.hosts

    def is_good(self, now: datetime) -> bool:
        return self.starts <= now < self.ends

    def is_due(self, now: datetime) -> bool:
        """Whether it is time for the next one."""
        return not self.starts <= now < self.ends - timedelta(days=RENEW_DAYS)

    def is_signed_by(self, authority: str) -> bool:
        """Whether the first certificate of a bundle signed this one."""
        try:
            signer = x509.load_pem_x509_certificate(authority.encode())
            self._certificate.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def is_of_key(self, key_pem: bytes) -> bool:
        try:
            return self._certificate.public_key() == _load_key(key_pem).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return False


# --- bundles --------------------------------------------------------------------------------------


def split_bundle(bundle: str) -> list[str]:
    """Return the certificates of a bundle, each in PEM; none for an empty text.

    Raises:
        CertificateBad: the text is too long, or holds something else than certificates.
    """
    if not bundle.strip():
        return []
    if len(bundle) > BUNDLE_SIZE_MAX:
        raise CertificateBad(
            f"the certificates of the authorities have more than {BUNDLE_SIZE_MAX} characters"
        )
    try:
        return [_pem(certificate) for certificate in x509.load_pem_x509_certificates(bundle.encode())]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateBad(f"these are not certificates in PEM: {error}") from error


def digest_of(bundle: str) -> str:
    """Return a short text that differs from bundle to bundle."""
    return hashlib.sha256(bundle.encode()).hexdigest()[:16]


def join_bundles(*bundles: str) -> str:
    """Return one bundle with the certificates of all, in order, each once.  Raises as `split_bundle`."""
    return "".join(dict.fromkeys(pem for bundle in bundles for pem in split_bundle(bundle)))


# --- pieces ---------------------------------------------------------------------------------------

K = TypeVar("K", ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)


def _on_p256(key: K) -> K:
    if not isinstance(key.curve, ec.SECP256R1):
        raise TypeError("another curve")
    return key


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("another kind of key")
    return _on_p256(key)


def _key_of_request(request: str) -> ec.EllipticCurvePublicKey:
    if len(request) > REQUEST_SIZE_MAX:
        raise BadRequest(f"a request for a certificate has at most {REQUEST_SIZE_MAX} characters")
    try:
        loaded = x509.load_pem_x509_csr(request.encode())
        key = loaded.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("another kind of key")
        if not loaded.is_signature_valid:
            raise BadRequest("the request for a certificate is not signed with its key")
        return _on_p256(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequest(f"the request for a certificate is not one for a key on P-256: {error}") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(now.astimezone(UTC) - BACKDATED)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_NAME_SIZE_MAX])])


def _general_name(host: str) -> x509.GeneralName:
    if _is_address(host):
        return x509.IPAddress(ip_address(host))
    return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses: list[IPv4Address | IPv6Address] = [
        address
        for address in names.get_values_for_type(x509.IPAddress)
        if isinstance(address, IPv4Address | IPv6Address)
    ]
    return [
        *(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        *(str(address) for address in addresses),
    ]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _normal(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower().removesuffix(".")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> str:
    return _text(certificate.public_bytes(serialization.Encoding.PEM))


def _text(pem: bytes) -> str:
    return pem.decode("ascii")
