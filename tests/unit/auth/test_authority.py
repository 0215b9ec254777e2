"""The authority of a store: others verify what it signs, and it signs nothing but what it was asked for."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tls_kit import rotated
from warehouse.auth.authority import (
    BUNDLE_SIZE_MAX,
    EARLIER_MAX,
    LIFE_DAYS,
    RENEW_DAYS,
    Authority,
    ServerCertificate,
    join_bundles,
    make_key,
    make_request,
    split_bundle,
)
from warehouse.errors import BadRequest, CertificateBad, SecretMissing

NOW = datetime.now(UTC)  # OpenSSL looks at the clock itself
HOSTS = ["photos.example", "192.0.2.7", "2001:db8::7", "localhost"]

AUTHORITY = Authority.generate(now=NOW)
OTHER = Authority.generate(now=NOW)


def issue(*hosts: str, key: bytes | None = None, authority: Authority = AUTHORITY) -> str:
    return authority.issue(make_request(key or make_key()), hosts, now=NOW)


def subject(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def verify(pem: str, host: str, bundle: str, *, now: datetime = NOW) -> None:
    """As `cryptography` does for a client: RFC 5280 and the rules of browsers."""
    roots = Store(x509.load_pem_x509_certificates(bundle.encode()))
    verifier = PolicyBuilder().store(roots).time(now).build_server_verifier(subject(host))
    verifier.verify(x509.load_pem_x509_certificate(pem.encode()), [])


def shake_hands(folder: Path, pem: str, key: bytes, host: str, bundle: str) -> str | None:
    """The TLS version that both ends of Python's own `ssl` agree on."""
    (folder / "tls.pem").write_text(pem)
    (folder / "tls.key").write_bytes(key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client_context = ssl.create_default_context(cadata=bundle)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


@pytest.mark.parametrize("host", HOSTS)
def test_cryptographys_verifier_accepts_the_chain(host: str) -> None:
    verify(issue(*HOSTS), host, AUTHORITY.bundle)


@pytest.mark.parametrize("host", HOSTS)
def test_openssl_accepts_the_chain_also_when_it_is_strict(host: str, tmp_path: Path) -> None:
    key = make_key()
    assert shake_hands(tmp_path, issue(*HOSTS, key=key), key, host, AUTHORITY.bundle) == "TLSv1.3"


def test_another_host_another_authority_and_another_time_are_refused(tmp_path: Path) -> None:
    key = make_key()
    pem = issue("photos.example", key=key)
    for host, bundle in (("films.example", AUTHORITY.bundle), ("photos.example", OTHER.bundle)):
        with pytest.raises(VerificationError):
            verify(pem, host, bundle)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(tmp_path, pem, key, host, bundle)
    with pytest.raises(VerificationError):
        verify(pem, "photos.example", AUTHORITY.bundle, now=NOW + timedelta(days=LIFE_DAYS + 1))


def test_a_certificate_of_a_server_signs_no_other() -> None:
    key = make_key()
    pem = issue("photos.example", key=key)
    thief = Authority(key, pem)
    forged = x509.load_pem_x509_certificate(_sign_as(thief, "films.example").encode())
    roots = Store([x509.load_pem_x509_certificate(AUTHORITY.bundle.encode())])
    verifier = PolicyBuilder().store(roots).time(NOW).build_server_verifier(x509.DNSName("films.example"))
    with pytest.raises(VerificationError):
        verifier.verify(forged, [x509.load_pem_x509_certificate(pem.encode())])


def _sign_as(thief: Authority, host: str) -> str:
    return thief.issue(make_request(make_key()), [host], now=NOW)


def test_names_in_the_request_do_not_count() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = x509.SubjectAlternativeName([x509.DNSName("master.example")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(wanted, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    issued = AUTHORITY.issue(pem, ["photos.example"], now=NOW)
    assert ServerCertificate.load(issued.encode()).hosts == {"photos.example"}
    constraints = x509.load_pem_x509_certificate(issued.encode()).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert not constraints.value.ca


def test_bad_requests_are_refused() -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    good = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    der = bytearray(good.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    requests = [
        "",
        "nonsense",
        "x" * 100_000,
        make_request(make_key()).replace("M", "N", 3),
        x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode(),
    ]
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        requests.append(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode())
    for request in requests:
        with pytest.raises(BadRequest):
            AUTHORITY.issue(request, ["photos.example"], now=NOW)
    with pytest.raises(BadRequest):
        AUTHORITY.issue(make_request(make_key()), ["bücher.example"], now=NOW)


def test_what_a_certificate_says_of_its_server() -> None:
    key = make_key()
    found = ServerCertificate.load(issue(*HOSTS, key=key).encode())
    for host in [*HOSTS, "PHOTOS.example", "photos.example.", "2001:DB8:0::7"]:
        assert found.covers(host), host
    for host in ["films.example", "a.photos.example", "192.0.2.8", "example", ""]:
        assert not found.covers(host), host
    assert found.is_good(NOW)
    assert not found.is_good(NOW + timedelta(days=LIFE_DAYS))
    assert not found.is_due(NOW)
    assert found.is_due(NOW + timedelta(days=LIFE_DAYS - RENEW_DAYS))
    assert found.is_due(NOW - timedelta(days=30))
    assert found.is_signed_by(AUTHORITY.bundle)
    assert not found.is_signed_by(OTHER.bundle)
    assert not found.is_signed_by("nonsense")
    assert found.is_of_key(key)
    assert not found.is_of_key(make_key())


def test_a_wildcard_stands_for_one_label_and_for_no_address() -> None:
    found = ServerCertificate.load(issue("*.photos.example", "*.0.2.7").encode())
    assert found.covers("a.photos.example")
    assert not found.covers("a.b.photos.example")
    assert not found.covers("photos.example")
    assert not found.covers("192.0.2.7")


def test_an_authority_survives_its_files_and_damage_is_named() -> None:
    again = Authority.load(AUTHORITY.key_pem, AUTHORITY.bundle.encode())
    assert again == AUTHORITY
    verify(issue("photos.example", authority=again), "photos.example", AUTHORITY.bundle)
    for key, bundle in (
        (b"", AUTHORITY.bundle.encode()),
        (AUTHORITY.key_pem, b""),
        (AUTHORITY.key_pem[:100], AUTHORITY.bundle.encode()),
        (AUTHORITY.key_pem, AUTHORITY.bundle.encode()[:100]),
        (OTHER.key_pem, AUTHORITY.bundle.encode()),
    ):
        with pytest.raises(SecretMissing) as caught:
            Authority.load(key, bundle)
        assert "BEGIN" not in caught.value.message
    assert "PRIVATE" not in repr(AUTHORITY)


def test_after_a_rotation_both_authorities_are_trusted_and_the_new_one_signs() -> None:
    before = issue("photos.example")
    new = rotated(AUTHORITY)
    after = issue("photos.example", authority=new)
    for pem in (before, after):
        verify(pem, "photos.example", new.bundle)
    with pytest.raises(VerificationError):
        verify(after, "photos.example", AUTHORITY.bundle)
    with pytest.raises(VerificationError):
        verify(before, "photos.example", new.certificate)
    assert ServerCertificate.load(after.encode()).is_signed_by(new.bundle)
    assert not ServerCertificate.load(before.encode()).is_signed_by(new.bundle)
    assert new.certificate != AUTHORITY.certificate


def test_the_bundle_of_many_rotations_is_short() -> None:
    authority = AUTHORITY
    for _ in range(EARLIER_MAX):
        authority = rotated(authority)
    assert len(split_bundle(authority.bundle)) == EARLIER_MAX + 1
    assert len(authority.bundle) < BUNDLE_SIZE_MAX / 4


def test_bundles_are_joined_without_repetition() -> None:
    joined = join_bundles(AUTHORITY.bundle, "", OTHER.bundle, AUTHORITY.bundle)
    assert joined == AUTHORITY.bundle + OTHER.bundle
    for bad in ("nonsense", AUTHORITY.bundle[:100], AUTHORITY.bundle * 100):
        with pytest.raises(CertificateBad):
            join_bundles(bad)


def test_what_is_no_key_and_no_certificate_is_named() -> None:
    for bad in (b"", b"nonsense", AUTHORITY.bundle.encode()):
        with pytest.raises(CertificateBad):
            make_request(bad)
    for bad in (b"", b"nonsense", AUTHORITY.key_pem):
        with pytest.raises(CertificateBad):
            ServerCertificate.load(bad)
