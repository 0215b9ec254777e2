"""CURVE keys: files that keep their secret, and what is wrong with the ones that are refused."""

from __future__ import annotations

import os
import stat

import pytest
import zmq

from warehouse.errors import BadSetting, SecretMissing
from warehouse.transport.zeromq.curve import KEY_SIZE, CurveKeys


def test_a_saved_pair_is_loaded_as_it_was(tmp_path):
    keys = CurveKeys.generate()
    keys.save(tmp_path / "keys.toml")
    assert CurveKeys.load(tmp_path / "keys.toml") == keys
    assert CurveKeys.load(str(tmp_path / "keys.toml")) == keys
    assert os.listdir(tmp_path) == ["keys.toml"]


def test_two_pairs_differ_and_each_is_a_pair():
    first, second = CurveKeys.generate(), CurveKeys.generate()
    assert first != second
    assert len(first.public) == len(first.secret) == KEY_SIZE
    assert zmq.curve_public(first.secret) == first.public


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_for_its_owner_alone_from_its_first_moment(tmp_path, umask):
    before = os.umask(umask)
    try:
        CurveKeys.generate().save(tmp_path / "keys.toml")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.toml").stat().st_mode) == 0o600


def test_saving_again_replaces_the_pair_whole(tmp_path):
    path = tmp_path / "keys.toml"
    CurveKeys.generate().save(path)
    path.chmod(0o644)
    newer = CurveKeys.generate()
    newer.save(path)
    assert CurveKeys.load(path) == newer


def test_a_save_that_fails_leaves_the_old_pair_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "keys.toml"
    keys = CurveKeys.generate()
    keys.save(path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        CurveKeys.generate().save(path)
    assert CurveKeys.load(path) == keys
    assert os.listdir(tmp_path) == ["keys.toml"]


def test_the_secret_shows_in_no_repr():
    keys = CurveKeys.generate()
    assert keys.secret.decode() not in repr(keys)
    assert keys.public.decode() in repr(keys)


def test_a_missing_file_is_a_missing_secret(tmp_path):
    with pytest.raises(SecretMissing, match="no key file"):
        CurveKeys.load(tmp_path / "keys.toml")


def test_a_directory_is_a_bad_setting(tmp_path):
    with pytest.raises(BadSetting, match="cannot be read"):
        CurveKeys.load(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_file_that_others_may_use_is_refused(tmp_path, mode):
    path = tmp_path / "keys.toml"
    CurveKeys.generate().save(path)
    path.chmod(mode)
    with pytest.raises(BadSetting, match="chmod 600"):
        CurveKeys.load(path)


def test_a_file_of_another_user_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "keys.toml"
    CurveKeys.generate().save(path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if owner == 0:
        CurveKeys.load(path)
        os.chown(path, 54321, -1)
    with pytest.raises(BadSetting, match=r"another user.*chown 12345"):
        CurveKeys.load(path)


SOUND = CurveKeys.generate()
OTHER = CurveKeys.generate()
BROKEN = {
    "empty": b"",
    "not TOML": b"public",
    "not text": b"\xff\xfe",
    "no secret": f'public = "{SOUND.public.decode()}"'.encode(),
    "no public": f'secret = "{SOUND.secret.decode()}"'.encode(),
    "numbers": b"public = 1\nsecret = 2",
    "short": b'public = "abc"\nsecret = "abc"',
    "not Z85": b'public = "' + b"~" * 40 + b'"\nsecret = "' + b"~" * 40 + b'"',
    "not ASCII": 'public = "ä"\nsecret = "ä"'.encode(),
    "no pair": f'public = "{SOUND.public.decode()}"\nsecret = "{OTHER.secret.decode()}"'.encode(),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_key_file_is_refused_by_name_and_without_its_secret(tmp_path, text):
    path = tmp_path / "keys.toml"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(BadSetting, match=r"keys\.toml") as caught:
        CurveKeys.load(path)
    assert OTHER.secret.decode() not in str(caught.value)
    assert caught.value.__cause__ is None
