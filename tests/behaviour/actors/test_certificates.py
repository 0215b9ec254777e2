"""Certificates of actors: made by the store or brought by the operator, renewed, and never replaced by bad ones."""

from __future__ import annotations

import errno
import os
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from http_harness import echo, serving
from tls_kit import LOOPBACK, Tls, rotated
from warehouse.actors import certificates
from warehouse.actors.certificates import (
    OwnCertificate,
    StoreCertificate,
    certificate_of,
    require_scheme,
    trusted_bundle,
    wants_tls,
)
from warehouse.actors.control.certificates import Certificates
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.data.node_certificate import NodeCertificate
from warehouse.auth.authority import LIFE_DAYS, Authority, ServerCertificate, join_bundles
from warehouse.conf.settings import Tls as TlsSettings
from warehouse.errors import (
    BadRequest,
    BadSetting,
    CertificateBad,
    CertificateRefused,
    ListenerInsecure,
    StoreError,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.http.tls import ClientTls, ServerTls

URL = "https://192.0.2.7:7410"


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    (tmp_path / "issued").mkdir()
    return Tls(tmp_path / "issued")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def issue(tls: Tls, certificate: StoreCertificate, *hosts: str, days_ago: float = 0) -> str:
    now = datetime.now(UTC) - timedelta(days=days_ago)
    return tls.authority.issue(certificate.request, hosts or (certificate.host,), now=now)


async def shown(server: ServerTls, client: ClientTls) -> bool:
    """Whether a client talks to a server on 127.0.0.1 that shows this certificate."""
    pool = HttpPool(tls=client)
    async with serving(echo, tls=server) as served:
        try:
            return (await pool.request("GET", served.url, "/"))[0] == 200
        except CertificateRefused:
            return False
        finally:
            await pool.aclose()


# --- which ports speak TLS ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "is_loopback", "is_insecure", "expected"),
    [
        ("auto", True, False, False),
        ("auto", True, True, False),
        ("auto", False, False, True),
        ("auto", False, True, True),
        ("on", True, False, True),
        ("on", False, False, True),
        ("off", True, False, False),
        ("off", False, True, False),
    ],
)
def test_a_port_speaks_tls_where_others_can_listen_in(
    mode: str, is_loopback: bool, is_insecure: bool, expected: bool
) -> None:
    settings = TlsSettings(mode=mode)  # type: ignore[arg-type]
    found = wants_tls(settings, "a", is_loopback=is_loopback, is_insecure=is_insecure)
    assert found is expected


def test_a_plain_port_for_others_needs_a_word_of_the_operator() -> None:
    with pytest.raises(ListenerInsecure, match=r"192\.0\.2\.7.*--insecure"):
        wants_tls(TlsSettings(mode="off"), "192.0.2.7", is_loopback=False, is_insecure=False)


def test_a_url_that_contradicts_its_port_is_refused() -> None:
    with pytest.raises(CertificateBad, match="advertise https://a:1"):
        require_scheme("http://a:1", is_tls=True)
    for url, is_tls in (("https://a:1", True), ("http://a:1", False), ("https://proxy:443", False)):
        require_scheme(url, is_tls=is_tls)


# --- of the store ---------------------------------------------------------------------------------


def test_the_key_stays_in_its_folder_for_its_owner_alone(folder: Path) -> None:
    before = StoreCertificate(folder, LOOPBACK)
    assert (folder / "tls.key").stat().st_mode & 0o777 == 0o600
    key = (folder / "tls.key").read_text()
    assert key.strip() not in before.request
    StoreCertificate(folder, LOOPBACK)
    assert (folder / "tls.key").read_text() == key
    (folder / "tls.key").chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        StoreCertificate(folder, LOOPBACK)


async def test_a_certificate_outlives_a_restart(tls: Tls, folder: Path) -> None:
    first = StoreCertificate(folder, LOOPBACK)
    assert first.is_due
    assert first.tls.context is None
    first.take(issue(tls, first))
    assert not first.is_due
    assert await shown(first.tls, tls.client())
    second = StoreCertificate(folder, LOOPBACK)
    assert not second.is_due
    assert await shown(second.tls, tls.client())


def test_a_certificate_of_an_earlier_start_for_another_host_is_not_shown(tls: Tls, folder: Path) -> None:
    first = StoreCertificate(folder, "192.0.2.7")
    first.take(issue(tls, first))
    moved = StoreCertificate(folder, "192.0.2.8")
    assert moved.is_due
    assert moved.tls.context is None


def test_a_certificate_is_due_a_month_before_its_end(tls: Tls, folder: Path) -> None:
    certificate = StoreCertificate(folder, LOOPBACK)
    certificate.take(issue(tls, certificate, days_ago=LIFE_DAYS - 31))
    assert not certificate.is_due
    certificate.take(issue(tls, certificate, days_ago=LIFE_DAYS - 29))
    assert certificate.is_due
    certificate.take(issue(tls, certificate))
    assert not certificate.is_due


def test_a_certificate_is_due_when_another_authority_signs(tls: Tls, folder: Path) -> None:
    certificate = StoreCertificate(folder, LOOPBACK)
    certificate.take(issue(tls, certificate))
    certificate.signed_by(tls.authority.bundle)
    assert not certificate.is_due
    certificate.signed_by(rotated(tls.authority).bundle)
    assert certificate.is_due


def test_a_certificate_that_is_not_ours_changes_nothing(tls: Tls, folder: Path, tmp_path: Path) -> None:
    certificate = StoreCertificate(folder, LOOPBACK)
    certificate.take(issue(tls, certificate))
    context, content = certificate.tls.context, (folder / "tls.pem").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    for pem in (
        "nonsense",
        issue(tls, certificate, "films.example"),
        issue(tls, certificate, days_ago=LIFE_DAYS + 1),
        issue(tls, StoreCertificate(other, LOOPBACK)),
    ):
        with pytest.raises(CertificateBad):
            certificate.take(pem)
    assert certificate.tls.context is context
    assert (folder / "tls.pem").read_bytes() == content


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
async def test_damaged_files_are_made_again(tls: Tls, folder: Path, damage: bytes | None) -> None:
    first = StoreCertificate(folder, LOOPBACK)
    first.take(issue(tls, first))
    for name in ("tls.pem", "tls.key"):
        (folder / name).write_bytes(damage if damage is not None else (folder / name).read_bytes()[:50])
    again = StoreCertificate(folder, LOOPBACK)
    assert again.is_due
    again.take(issue(tls, again))
    assert await shown(again.tls, tls.client())


async def test_a_disk_that_cannot_be_written_has_a_key_for_each_start(tls: Tls, folder: Path) -> None:
    certificate = StoreCertificate(folder, LOOPBACK, is_read_only=True)
    certificate.take(issue(tls, certificate))
    assert await shown(certificate.tls, tls.client())
    assert not list(folder.iterdir())
    assert StoreCertificate(folder, LOOPBACK, is_read_only=True).is_due


@pytest.mark.parametrize("is_full_at", ["the key", "the certificate"])
async def test_a_full_disk_serves_without_keeping_anything(
    tls: Tls, folder: Path, monkeypatch, is_full_at: str
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if is_full_at == "the key":
        monkeypatch.setattr(certificates, "write_whole", full)
    monkeypatch.setattr(certificates, "write_if_changed", full)
    certificate = StoreCertificate(folder, LOOPBACK)
    certificate.take(issue(tls, certificate))
    assert await shown(certificate.tls, tls.client())
    assert not (folder / "tls.pem").exists()


async def test_who_can_sign_renews_its_own(tls: Tls, folder: Path, monkeypatch, autojump_clock) -> None:
    certificate = StoreCertificate(folder, LOOPBACK)
    certificate.take(issue(tls, certificate, days_ago=LIFE_DAYS - 1))
    before = (folder / "tls.pem").read_bytes()
    answers = ["nonsense", issue(tls, certificate)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            certificate.keep_fresh, lambda request: answers.pop(0), lambda: tls.authority.bundle
        )
        while (folder / "tls.pem").read_bytes() == before:
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert not certificate.is_due
    assert not answers


async def test_who_can_sign_follows_a_rotation_and_survives_a_refusal(
    folder: Path, tmp_path: Path, autojump_clock
) -> None:
    """Programs that watch the master read `authority.pem`, which lacks the earlier authority after a day."""
    ring = Keyring.load_or_create(tmp_path / "keys")
    master, certificate = Certificates(ring), StoreCertificate(folder, LOOPBACK)
    refusals = [BadRequest("not yet")]

    def issue_later(request: str) -> str:
        if refusals:
            raise refusals.pop()
        return master.issue(request, [LOOPBACK])

    async def wait_for_new(before: str) -> str:
        path = folder / "tls.pem"
        while not path.exists() or path.read_text() == before:
            await trio.sleep(1)
        return path.read_text()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(certificate.keep_fresh, issue_later, lambda: master.bundle)
        first = await wait_for_new("")
        ring.rotate_authority(now_ms=int(datetime.now(UTC).timestamp() * 1000), overlap_ms=0)
        second = await wait_for_new(first)
        nursery.cancel_scope.cancel()
    assert ServerCertificate.load(second.encode()).is_signed_by(ring.authority.bundle)


# --- the master and its disks ---------------------------------------------------------------------


def test_the_master_signs_for_the_host_of_a_disks_url_and_for_no_other(folder: Path, tmp_path: Path) -> None:
    ring = Keyring.load_or_create(tmp_path / "keys")
    master = Certificates(ring)
    disk = StoreCertificate(folder, "192.0.2.7")
    pem = master.for_disk(disk.request, URL)
    assert ServerCertificate.load(pem.encode()).hosts == {"192.0.2.7"}
    assert ServerCertificate.load(pem.encode()).is_signed_by(ring.authority.bundle)
    assert master.for_disk("", URL) == ""
    for request, url in (("nonsense", URL), (disk.request, "https://[:1"), (disk.request, "x")):
        assert master.for_disk(request, url) == ""


async def test_a_rotated_authority_reaches_a_disk_and_its_clients(folder: Path, tmp_path: Path) -> None:
    """As the messages carry it: the disk says what it has seen, the master answers what is new."""
    ring = Keyring.load_or_create(tmp_path / "keys")
    master = Certificates(ring)
    own, trust = StoreCertificate(folder, LOOPBACK), ClientTls()
    disk = NodeCertificate(own, trust)
    url = f"https://{LOOPBACK}:7410"
    assert disk.lacking
    await disk.heard(certificate=master.for_disk(disk.request, url), authority=master.bundle)
    assert not disk.lacking
    assert not disk.request
    assert await shown(own.tls, trust)
    assert master.unseen(disk.authority_seen) == ""

    earlier = ClientTls(master.bundle)
    ring.rotate_authority(now_ms=int(datetime.now(UTC).timestamp() * 1000), overlap_ms=1000)
    await disk.heard(certificate="", authority=master.unseen(disk.authority_seen))
    assert disk.request
    assert await shown(own.tls, trust)  # an earlier certificate counts during the overlap
    await disk.heard(certificate=master.for_disk(disk.request, url), authority="")
    assert not disk.request
    assert await shown(own.tls, trust)
    assert not await shown(own.tls, earlier)  # a client that has not logged in since


async def test_other_programs_find_a_rotated_authority_in_its_file(tmp_path: Path, autojump_clock) -> None:
    ring = Keyring.load_or_create(tmp_path / "keys")
    master, file = Certificates(ring), tmp_path / "authority.pem"

    async def wait_for(bundle: str) -> None:
        while not file.exists() or file.read_text() != bundle:
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(master.keep_file, tmp_path)
        await wait_for(ring.authority.bundle)
        ring.rotate_authority(now_ms=int(datetime.now(UTC).timestamp() * 1000), overlap_ms=1000)
        await wait_for(master.bundle)
        nursery.cancel_scope.cancel()
    assert file.stat().st_mode & 0o777 == 0o600


async def test_what_is_no_certificate_changes_nothing_at_a_disk(folder: Path, tls: Tls) -> None:
    own, trust = StoreCertificate(folder, LOOPBACK), ClientTls()
    disk = NodeCertificate(own, trust)
    await disk.heard(certificate=issue(tls, own), authority=tls.authority.bundle)
    for certificate, authority in (("nonsense", ""), ("", "nonsense"), (issue(tls, own, "a"), "")):
        await disk.heard(certificate=certificate, authority=authority)
    assert await shown(own.tls, trust)


def test_authorities_of_the_operator_are_handed_out_and_read_again(
    tmp_path: Path, tls: Tls, monkeypatch
) -> None:
    monkeypatch.setattr("warehouse.actors.control.certificates.LOOK_S", 0.0)
    path = tmp_path / "theirs.pem"
    path.write_text("# a comment\n" + tls.authority.bundle)
    ring = Keyring.load_or_create(tmp_path / "keys")
    master = Certificates(ring, path)
    assert master.bundle == join_bundles(ring.authority.bundle, tls.authority.bundle)
    assert master.bundle == trusted_bundle(ring.authority.bundle, TlsSettings(authority=path))
    new = Authority.generate(now=datetime.now(UTC))
    path.write_text(new.bundle)
    assert master.bundle == ring.authority.bundle + new.bundle
    path.write_text("nonsense")
    assert master.bundle == ring.authority.bundle + new.bundle
    for bad in ("nonsense", "é", None):
        path.unlink()
        if bad is not None:
            path.write_text(bad)
        with pytest.raises(CertificateBad, match=r"PEM|cannot read"):
            Certificates(ring, path)
        path.touch()


# --- of the operator ------------------------------------------------------------------------------


def own(tls: Tls, *hosts: str) -> OwnCertificate:
    return OwnCertificate(*tls.issue(*hosts), hosts[0])


async def test_a_certificate_of_the_operator_is_shown(tls: Tls, folder: Path) -> None:
    certificate, key = tls.issue(LOOPBACK)
    found = certificate_of(TlsSettings(certificate=certificate, key=key), folder, LOOPBACK)
    assert isinstance(found, OwnCertificate)
    assert await shown(found.tls, tls.client())
    assert not list(folder.iterdir())
    assert isinstance(certificate_of(TlsSettings(), folder, LOOPBACK), StoreCertificate)


def test_a_bad_pair_stops_the_start_and_says_what_to_do(tls: Tls, tmp_path: Path) -> None:
    good, key = tls.issue("photos.example")
    _, other_key = tls.issue("photos.example")
    ended, ended_key = tls.issue("photos.example", days_ago=LIFE_DAYS + 1)
    nothing, empty, locked = tmp_path / "nothing", tmp_path / "empty", tmp_path / "locked"
    empty.touch(mode=0o600)
    readable = tmp_path / "readable"
    shutil.copy(key, readable)
    readable.chmod(0o644)
    locked.write_text(_encrypted(key))
    locked.chmod(0o600)
    cases: list[tuple[Path, Path, str, type[StoreError], str]] = [
        (good, key, "films.example", CertificateBad, r"is for photos\.example.*films\.example.*--advertise"),
        (good, other_key, "photos.example", CertificateBad, "no certificate and its key"),
        (ended, ended_key, "photos.example", CertificateBad, "and not now"),
        (nothing, key, "photos.example", CertificateBad, f"cannot read {nothing}"),
        (good, nothing, "photos.example", CertificateBad, f"cannot read {nothing}"),
        (empty, key, "photos.example", CertificateBad, "not a certificate"),
        (good, empty, "photos.example", CertificateBad, "no certificate and its key"),
        (good, locked, "photos.example", CertificateBad, "no certificate and its key"),
        (good, readable, "photos.example", BadSetting, "chmod 600"),
    ]
    for certificate_path, key_path, host, error, message in cases:
        with pytest.raises(error, match=message):
            OwnCertificate(certificate_path, key_path, host)


def _encrypted(key: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


async def test_changed_files_are_read_again_and_bad_ones_refused(tls: Tls, tmp_path: Path, caplog) -> None:
    certificate, key = tls.issue(LOOPBACK)
    found = OwnCertificate(certificate, key, LOOPBACK)

    def replace(path: Path, by: Path) -> None:
        shutil.copy(by, tmp_path / "new")
        (tmp_path / "new").chmod(0o600)
        (tmp_path / "new").replace(path)

    first = found.tls.context
    found.look_again()
    assert found.tls.context is first  # nothing has changed

    new_certificate, new_key = tls.issue(LOOPBACK)
    replace(certificate, new_certificate)
    found.look_again()
    assert found.tls.context is first  # half of the pair
    assert "refused" in caplog.text
    assert found.refusal
    assert NodeCertificate(found, ClientTls()).refusal == found.refusal  # which the disk reports
    assert await shown(found.tls, tls.client())
    replace(key, new_key)
    found.look_again()
    second = found.tls.context
    assert second is not first
    assert not found.refusal
    assert await shown(found.tls, tls.client())

    for bad_certificate, bad_key in (tls.issue("films.example"), tls.issue(LOOPBACK, days_ago=100)):
        replace(certificate, bad_certificate)
        replace(key, bad_key)
        found.look_again()
        assert found.tls.context is second
    assert "counts from" in found.refusal
    certificate.unlink()
    found.look_again()
    assert found.tls.context is second
    assert "cannot read" in found.refusal


def test_the_operator_is_warned_once_a_day_before_the_end(tls: Tls, caplog) -> None:
    found = OwnCertificate(*tls.issue(LOOPBACK), LOOPBACK)
    day_s, ends_s = certificates.DAY_S, found.tls.ends_s
    assert ends_s > datetime.now(UTC).timestamp()
    for before_end_s, warned_count in ((15, 0), (13, 1), (12.5, 1), (11.9, 2), (-1, 3)):
        found.warn_of_end(ends_s - before_end_s * day_s)
        assert caplog.text.count("ends soon") == warned_count


async def test_the_watch_notices_a_change(tls: Tls, monkeypatch, autojump_clock) -> None:
    certificate, key = tls.issue(LOOPBACK)
    found = OwnCertificate(certificate, key, LOOPBACK)
    before: ssl.SSLContext | None = found.tls.context
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.watch)
        await trio.sleep(2 * certificates.LOOK_S)
        assert found.tls.context is before
        for path, new in zip((certificate, key), tls.issue(LOOPBACK), strict=True):
            new.replace(path)
        while found.tls.context is before:
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
