"""Key secrets: which secret opens which key, and that every check does the same work."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from warehouse.actors.control import key_secrets
from warehouse.actors.control.key_secrets import KeySecrets, Shown, seal_secret
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import generate_api_key, hash_secret
from warehouse.auth.sealing import Sealer
from warehouse.catalog.identities import ApiKeyRow
from warehouse.errors import SealBroken, SealUnknown

NOW_MS = 1_790_000_000_000
SECRET = generate_api_key().secret
BEFORE = generate_api_key().secret


def hashed(secret):
    return hash_secret(secret, salt=b"s" * 16)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load_or_create(tmp_path / "keys")


@pytest.fixture
def check(keyring):
    known = KeySecrets(keyring)

    def check(row: ApiKeyRow | None, secret: str) -> Shown | None:
        return known.check(row, secret, at_ms=NOW_MS)

    return check


@pytest.fixture
def kinds(keyring):
    """A key with a secret of each kind, and with one before of each kind."""
    sealed = seal_secret(keyring.sealer, "KEY", SECRET)
    sealed_before = seal_secret(keyring.sealer, "KEY", BEFORE)
    base = ApiKeyRow(id="KEY", permissions=1, created_ms=1)

    def row(**columns):
        return msgspec.structs.replace(base, **columns)

    later = {"previous_until_ms": NOW_MS + 1}
    return {
        "sealed": row(sealed=sealed),
        "hashed": row(hashed=hashed(SECRET)),
        "sealed, before sealed": row(sealed=sealed, previous_sealed=sealed_before, **later),
        "sealed, before hashed": row(sealed=sealed, previous_hashed=hashed(BEFORE), **later),
    }


KINDS = ["sealed", "hashed", "sealed, before sealed", "sealed, before hashed"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_secret_opens_the_key_and_no_other_does(check, kinds, kind):
    row = kinds[kind]
    assert check(row, SECRET) == Shown(None)
    for wrong in ("", SECRET[:-1], SECRET + "x", SECRET.lower(), "\udcff", "é" * 43):
        assert check(row, wrong) is None
    assert check(None, SECRET) is None


@pytest.mark.parametrize("kind", KINDS[2:])
def test_the_secret_before_works_until_its_overlap_ends(check, kinds, kind):
    row = kinds[kind]
    assert check(row, BEFORE) == Shown(NOW_MS + 1)
    for until_ms in (NOW_MS, NOW_MS - 1, None):
        ended = msgspec.structs.replace(row, previous_until_ms=until_ms)
        assert check(ended, BEFORE) is None
        assert check(ended, SECRET) == Shown(None)


def test_a_key_without_any_secret_opens_for_nobody(check):
    empty = ApiKeyRow(id="KEY", permissions=1, created_ms=1)
    for secret in ("", SECRET):
        assert check(empty, secret) is None


def test_a_sealed_secret_is_that_of_its_key_alone(check, kinds):
    moved = msgspec.structs.replace(kinds["sealed"], id="OTHER")
    with pytest.raises(SealBroken, match="'OTHER' does not open"):
        check(moved, SECRET)


def test_a_keyring_without_the_seal_key_says_so_and_not_that_the_secret_is_wrong(check, kinds):
    foreign = Sealer({"ab" * 8: bytes(32)})
    row = msgspec.structs.replace(kinds["sealed"], sealed=seal_secret(foreign, "KEY", SECRET))
    for secret in (SECRET, "wrong"):
        with pytest.raises(SealUnknown, match="sealed with the key abababababababab"):
            check(row, secret)
    # The other secret can be read, so it counts.
    later = {"previous_until_ms": NOW_MS + 1}
    before = msgspec.structs.replace(row, previous_hashed=hashed(BEFORE), **later)
    assert check(before, BEFORE) == Shown(NOW_MS + 1)
    present = msgspec.structs.replace(kinds["sealed"], previous_sealed=row.sealed, **later)
    assert check(present, SECRET) == Shown(None)
    with pytest.raises(SealUnknown):
        check(present, "wrong")


def test_every_check_does_the_same_work(check, kinds, monkeypatch):
    work: list[str] = []

    def counted(owner, name):
        real = getattr(owner, name)

        def call(*words, **options):
            work.append(name)
            return real(*words, **options)

        monkeypatch.setattr(owner, name, call)

    counted(Sealer, "open")
    counted(key_secrets, "verify_secret")
    counted(key_secrets, "_is_equal")
    found = set()
    for row in (None, ApiKeyRow(id="KEY", permissions=1, created_ms=1), *kinds.values()):
        for secret in (SECRET, BEFORE, "wrong"):
            work.clear()
            check(row, secret)
            found.add(tuple(work))
    assert found == {("verify_secret", "open", "_is_equal") * 2}


def test_what_an_earlier_seal_key_has_sealed_still_opens(keyring, check, kinds):
    keyring.rotate_seal()
    assert check(kinds["sealed, before sealed"], SECRET) == Shown(None)
    assert check(kinds["sealed, before sealed"], BEFORE) == Shown(NOW_MS + 1)
