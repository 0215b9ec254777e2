"""The keyring is whole or refused; a rotation keeps what was signed valid for its overlap, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from warehouse.actors.control import key_files, keyring
from warehouse.actors.control.key_files import FIRST_NAMES
from warehouse.actors.control.keyring import EARLIER_MAX, Keyring
from warehouse.auth.access_tokens import AccessClaims
from warehouse.auth.authority import ServerCertificate, make_key, make_request, split_bundle
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier
from warehouse.auth.rights import Permission
from warehouse.auth.sealing import API_KEY_SECRET, seal_key_id_of
from warehouse.errors import BadRequest, BadSetting, SealUnknown, SecretMissing, StoreError, TokenInvalid

LATER_NAMES = ("seal.json", "authority.key")
NAMES = (*FIRST_NAMES, *LATER_NAMES, "keyring.json")
NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
ACCESS = AccessClaims(
    key_id="WH1", permissions=int(Permission.READ), buckets=None, epoch=1, expires_at_s=NOW_MS // 1000 + 900
)
DATA = DataClaims(
    operation="get", audience="d", volume_id=1, expires_at_s=NOW_MS // 1000 + 900, bucket_id=1, bucket="b"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def of_the_first_release(folder: Path) -> dict[str, bytes]:
    Keyring.load_or_create(folder)
    for name in set(NAMES) - set(FIRST_NAMES):
        (folder / name).unlink()
    return contents(folder)


def test_a_new_keyring_has_all_files_for_its_owner_alone(folder: Path) -> None:
    Keyring.load_or_create(folder)
    assert set(contents(folder)) == set(NAMES)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_start_writes_nothing_that_is_there(folder: Path) -> None:
    Keyring.load_or_create(folder)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}
    Keyring.load_or_create(folder)
    assert before == {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_keyring_of_the_first_release_gains_the_new_files_and_keeps_the_old_ones(folder: Path) -> None:
    before = of_the_first_release(folder)
    sealed = Keyring.load_or_create(folder).sealer.seal(b"x", purpose="p", subject="s")
    assert set(contents(folder)) == set(NAMES)
    assert {name: contents(folder)[name] for name in before} == before
    assert Keyring.load_or_create(folder).sealer.open(sealed, purpose="p", subject="s") == b"x"


class PowerCut(Exception):
    pass


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The power goes instead of the write with this number (0: the first)."""
    left = [1 << 60]

    def write(path: Path, content: bytes) -> None:
        if left[0] == 0:
            raise PowerCut
        left[0] -= 1
        path.write_bytes(content)
        path.chmod(0o600)

    monkeypatch.setattr(key_files, "write_whole", write)
    monkeypatch.setattr(keyring, "write_whole", write)
    return left


@pytest.mark.parametrize("count", range(3))
def test_a_start_that_was_cut_off_while_it_added_files_is_completed(
    folder: Path, cut: list[int], count: int
) -> None:
    before = of_the_first_release(folder)
    cut[0] = count
    with pytest.raises(PowerCut):
        Keyring.load_or_create(folder)
    seal = contents(folder).get("seal.json")
    cut[0] = 100
    Keyring.load_or_create(folder)
    after = contents(folder)
    assert set(after) == set(NAMES)
    assert {name: after[name] for name in before} == before
    assert seal in (None, after["seal.json"])


@pytest.mark.parametrize("name", [*FIRST_NAMES, *LATER_NAMES])
def test_a_missing_file_is_named_and_never_made_again(folder: Path, name: str) -> None:
    Keyring.load_or_create(folder)
    (folder / name).unlink()
    before = contents(folder)
    with pytest.raises(SecretMissing, match=f"lacks {name}"):
        Keyring.load_or_create(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("name", FIRST_NAMES)
def test_a_keyring_of_the_first_release_that_lacks_a_file_is_refused(folder: Path, name: str) -> None:
    of_the_first_release(folder)
    (folder / name).unlink()
    before = contents(folder)
    with pytest.raises(SecretMissing, match=f"lacks {name}"):
        Keyring.load_or_create(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("name", [*NAMES, "rotation.json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "other", "long"])
def test_a_damaged_file_is_refused_without_a_word_of_it(folder: Path, name: str, damage: str) -> None:
    ring = Keyring.load_or_create(folder)
    ring.rotate_access(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    path = folder / name
    content = path.read_bytes()
    changed = {"empty": b"", "cut": content[: len(content) // 2], "other": b"[1]", "long": b"x" * 70_000}[
        damage
    ]
    path.write_bytes(changed)
    with pytest.raises(StoreError) as caught:
        Keyring.load_or_create(folder)
    assert str(path) in caught.value.message
    assert content.decode(errors="replace")[:20] not in caught.value.message


# --- rotation -------------------------------------------------------------------------------------


def reloaded(ring: Keyring, folder: Path) -> list[Keyring]:
    """A rotation counts in the running master, and after its restart."""
    return [ring, Keyring.load_or_create(folder)]


def accepts_access(ring: Keyring, token: str) -> bool:
    try:
        return ring.access.verify(token, now_s=NOW_MS / 1000) == ACCESS
    except TokenInvalid:
        return False


def accepts_data(ring: Keyring, token: str) -> bool:
    verifier = DataTokenVerifier("d", ring.token_keys_of("d"))
    try:
        return verifier.verify(token.encode(), now_s=NOW_MS / 1000) == DATA
    except TokenInvalid:
        return False


@pytest.mark.parametrize("name", ["curve.key", "access.pem", "data.json", "seal.json"])
def test_a_file_that_others_may_read_is_refused_with_the_remedy(folder: Path, name: str) -> None:
    Keyring.load_or_create(folder)
    (folder / name).chmod(0o640)
    with pytest.raises(BadSetting, match=f"mode 640.*chmod 600 {folder / name}"):
        Keyring.load_or_create(folder)


def test_access_tokens_outlive_a_rotation_until_its_overlap_ends(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    earlier = ring.access.sign(ACCESS)
    pem = (folder / "access.pem").read_bytes()
    ring.rotate_access(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    latest = ring.access.sign(ACCESS)
    assert pem not in b"".join(contents(folder).values()), "a key that signs nothing any more is kept"
    ring.drop_ended(NOW_MS + HOUR_MS - 1)
    for one in reloaded(ring, folder):
        assert accepts_access(one, earlier)
        assert accepts_access(one, latest)
    ring.drop_ended(NOW_MS + HOUR_MS)
    for one in reloaded(ring, folder):
        assert not accepts_access(one, earlier)
        assert accepts_access(one, latest)


def test_a_rotation_of_the_access_key_at_once_voids_every_earlier_token(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    first = ring.access.sign(ACCESS)
    ring.rotate_access(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    second = ring.access.sign(ACCESS)
    ring.rotate_access(now_ms=NOW_MS, overlap_ms=0)
    for one in reloaded(ring, folder):
        assert not accepts_access(one, first)
        assert not accepts_access(one, second)
        assert accepts_access(one, ring.access.sign(ACCESS))


@pytest.mark.parametrize("overlap_ms", [HOUR_MS, 0])
@pytest.mark.parametrize("count", range(3))
def test_a_rotation_of_the_access_key_that_is_cut_off_logs_nobody_out(
    folder: Path, cut: list[int], count: int, overlap_ms: int
) -> None:
    ring = Keyring.load_or_create(folder)
    token = ring.access.sign(ACCESS)
    cut[0] = count
    try:
        ring.rotate_access(now_ms=NOW_MS, overlap_ms=overlap_ms)
    except PowerCut:
        cut[0] = 100
        # At once means that the present key is gone as soon as its file is.
        assert accepts_access(Keyring.load_or_create(folder), token) or (overlap_ms == 0 and count == 1)
        assert accepts_access(ring, token)
    else:
        assert count == 2


def test_data_tokens_outlive_a_rotation_until_its_overlap_ends(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    earlier = ring.sign(DATA, ring.token_keys_of("d"))
    ring.rotate_data(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    latest = ring.sign(DATA, ring.token_keys_of("d"))
    assert not ring.drop_ended(NOW_MS + HOUR_MS - 1)
    assert ring.token_keys_of("d").keys() > {ring.signing_key_id}
    for one in reloaded(ring, folder):
        assert accepts_data(one, earlier)
        assert accepts_data(one, latest)
    assert ring.drop_ended(NOW_MS + HOUR_MS)
    for one in reloaded(ring, folder):
        assert not accepts_data(one, earlier)
        assert accepts_data(one, latest)


def test_a_rotation_of_the_data_secret_at_once_voids_every_earlier_token(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    tokens = [ring.sign(DATA, ring.token_keys_of("d"))]
    ring.rotate_data(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    tokens.append(ring.sign(DATA, ring.token_keys_of("d")))
    ring.rotate_data(now_ms=NOW_MS, overlap_ms=0)
    for one in reloaded(ring, folder):
        assert all(accepts_data(one, token) for token in tokens), "until every disk knows the new one"
    assert ring.drop_ended(NOW_MS)
    for one in reloaded(ring, folder):
        assert not any(accepts_data(one, token) for token in tokens)


def test_a_disk_that_was_not_told_yet_gets_tokens_that_it_can_check(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    known = ring.token_keys_of("d")
    ring.rotate_data(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    token = ring.sign(DATA, known)
    assert DataTokenVerifier("d", known).verify(token.encode(), now_s=NOW_MS / 1000) == DATA
    assert accepts_data(ring, token)


def test_a_sealed_secret_opens_until_nothing_is_sealed_with_its_key(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    sealed = ring.sealer.seal(b"x", purpose=API_KEY_SECRET, subject="WH1")
    first = ring.sealer.key_id
    second = ring.rotate_seal()
    again = ring.sealer.seal(b"x", purpose=API_KEY_SECRET, subject="WH1")
    assert seal_key_id_of(again) == second == ring.sealer.key_id
    assert ring.drop_seal_keys({first, second}) == []
    for one in reloaded(ring, folder):
        for piece in (sealed, again):
            assert one.sealer.open(piece, purpose=API_KEY_SECRET, subject="WH1") == b"x"
    assert ring.drop_seal_keys({second}) == [first]
    for one in reloaded(ring, folder):
        assert one.sealer.open(again, purpose=API_KEY_SECRET, subject="WH1") == b"x"
        with pytest.raises(SealUnknown):
            one.sealer.open(sealed, purpose=API_KEY_SECRET, subject="WH1")


def test_the_key_that_seals_is_never_dropped(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    assert ring.drop_seal_keys(set()) == []
    assert ring.sealer.seal(b"x", purpose="p", subject="s")


def trusts(ring: Keyring, certificate: str) -> bool:
    found = ServerCertificate.load(certificate.encode())
    return any(found.is_signed_by(one) for one in split_bundle(ring.authority.bundle))


def issued_by(ring: Keyring) -> str:
    return ring.authority.issue(make_request(make_key()), ["localhost"], now=datetime.now(UTC))


def test_certificates_outlive_a_rotation_of_the_authority_until_its_overlap_ends(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    earlier = issued_by(ring)
    key = ring.authority.key_pem
    ring.rotate_authority(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    latest = issued_by(ring)
    assert key not in b"".join(contents(folder).values())
    assert not ring.drop_ended(NOW_MS + HOUR_MS - 1)
    for one in reloaded(ring, folder):
        assert trusts(one, earlier)
        assert trusts(one, latest)
    assert ring.drop_ended(NOW_MS + HOUR_MS)
    for one in reloaded(ring, folder):
        assert not trusts(one, earlier)
        assert trusts(one, latest)


def test_a_rotation_of_the_authority_at_once_ends_all_trust_in_earlier_ones(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    certificates = [issued_by(ring)]
    ring.rotate_authority(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    certificates.append(issued_by(ring))
    ring.rotate_authority(now_ms=NOW_MS, overlap_ms=0)
    for one in reloaded(ring, folder):
        assert not any(trusts(one, certificate) for certificate in certificates)
        assert trusts(one, issued_by(ring))


@pytest.mark.parametrize("count", range(2))
def test_a_rotation_of_the_authority_that_is_cut_off_ends_no_trust(
    folder: Path, cut: list[int], count: int
) -> None:
    ring = Keyring.load_or_create(folder)
    certificate = issued_by(ring)
    cut[0] = count
    with pytest.raises(PowerCut):
        ring.rotate_authority(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    cut[0] = 100
    again = Keyring.load_or_create(folder)
    again.drop_ended(NOW_MS + HOUR_MS)
    for one in reloaded(again, folder):
        assert trusts(one, certificate), "it is still the authority that signs"


def test_what_a_cut_off_rotation_ended_is_never_trusted_again(folder: Path, cut: list[int]) -> None:
    ring = Keyring.load_or_create(folder)
    leaked = issued_by(ring)
    ring.rotate_authority(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    cut[0] = 1
    with pytest.raises(PowerCut):
        ring.rotate_authority(now_ms=NOW_MS, overlap_ms=0)
    cut[0] = 100
    again = Keyring.load_or_create(folder)
    again.rotate_authority(now_ms=NOW_MS, overlap_ms=1)
    again.drop_ended(NOW_MS + 1)
    for one in reloaded(again, folder):
        assert not trusts(one, leaked)


def test_a_server_key_is_announced_and_then_used(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    present = ring.curve.public.decode()
    assert ring.server_keys == present
    ring.rotate_curve(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    following = ring.next_server_key
    with pytest.raises(BadRequest, match="announced already"):
        ring.rotate_curve(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    assert not ring.drop_ended(NOW_MS + HOUR_MS - 1)
    for one in reloaded(ring, folder):
        assert one.curve.public.decode() == present
        assert one.server_keys == f"{present} {following}"
    assert ring.has_ended(NOW_MS + HOUR_MS)
    assert ring.drop_ended(NOW_MS + HOUR_MS)
    for one in reloaded(ring, folder):
        assert one.server_keys == one.curve.public.decode() == following
    assert not ring.has_ended(NOW_MS + HOUR_MS)


def test_a_server_key_that_is_replaced_at_once_is_not_the_one_that_was_announced(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    present = ring.curve.public.decode()
    ring.rotate_curve(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    announced = ring.next_server_key
    ring.rotate_curve(now_ms=NOW_MS, overlap_ms=0)
    for one in reloaded(ring, folder):
        assert one.server_keys not in (present, announced)
        assert one.next_server_key == ""


@pytest.mark.parametrize("count", range(2))
def test_a_switch_of_the_server_key_that_is_cut_off_is_completed(
    folder: Path, cut: list[int], count: int
) -> None:
    ring = Keyring.load_or_create(folder)
    cut[0] = count  # curve.key has a writer of its own, which comes between the two
    with pytest.raises(PowerCut):
        ring.rotate_curve(now_ms=NOW_MS, overlap_ms=0)
    cut[0] = 100
    again = Keyring.load_or_create(folder)
    assert again.next_server_key == ""
    assert again.has_ended(NOW_MS) == (count == 1)
    again.drop_ended(NOW_MS)
    for one in reloaded(again, folder):
        assert one.server_keys == again.curve.public.decode()
        assert not one.has_ended(NOW_MS)


def test_one_rotation_keeps_what_another_has_begun(folder: Path) -> None:
    ring = Keyring.load_or_create(folder)
    token, certificate = ring.access.sign(ACCESS), issued_by(ring)
    ring.rotate_authority(now_ms=NOW_MS, overlap_ms=2 * HOUR_MS)
    ring.rotate_curve(now_ms=NOW_MS, overlap_ms=2 * HOUR_MS)
    ring.rotate_access(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    following = ring.next_server_key
    assert following
    ring.drop_ended(NOW_MS + HOUR_MS - 1)
    for one in reloaded(ring, folder):
        assert accepts_access(one, token)
        assert trusts(one, certificate)
    ring.drop_ended(NOW_MS + HOUR_MS)
    for one in reloaded(ring, folder):
        assert not accepts_access(one, token)
        assert trusts(one, certificate)
        assert one.next_server_key == following


@pytest.mark.parametrize("kind", ["access", "data", "authority"])
def test_rotations_that_do_not_end_are_bounded(folder: Path, kind: str) -> None:
    ring = Keyring.load_or_create(folder)
    rotate = getattr(ring, f"rotate_{kind}")
    for _ in range((4 if kind == "authority" else EARLIER_MAX) - 1):
        rotate(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    with pytest.raises(BadRequest, match="wait, or rotate at once"):
        rotate(now_ms=NOW_MS, overlap_ms=HOUR_MS)
    rotate(now_ms=NOW_MS + HOUR_MS, overlap_ms=HOUR_MS)
    rotate(now_ms=NOW_MS, overlap_ms=0)
    assert Keyring.load_or_create(folder).signing_key_id == ring.signing_key_id
