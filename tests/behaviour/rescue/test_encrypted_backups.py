"""A backup is encrypted unless somebody says otherwise; only its key opens it, and a changed one restores nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile_kit import HostileDisk
from warehouse.errors import BackupCorrupt, BackupKeyWrong, DiskFull, OutcomeUnknown, StoreError
from warehouse.rescue import backup as backup_module
from warehouse.rescue import backup_keys
from warehouse.rescue.archive import KEY_NAMES
from warehouse.rescue.backup import back_up
from warehouse.rescue.backup import main as backup_main
from warehouse.rescue.console import NoProgress
from warehouse.rescue.encryption import BackupKey
from warehouse.rescue.rebuild import Options, rebuild
from warehouse.rescue.rebuild import main as rebuild_main
from warehouse.rescue.restore import main as restore_main
from warehouse.rescue.restore import restore

QUIET = NoProgress()
KEY = BackupKey("key file", b"k" * 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a catalog and the master's secrets."""
    data = tmp_path_factory.mktemp("made") / "store"
    HostileDisk(data).close()
    rebuild(Options(data=data), QUIET)
    keys = data / "master" / "keys"
    keys.mkdir(mode=0o700)
    for name in KEY_NAMES:
        (keys / name).write_text(f"a secret in {name}")
    return data


@pytest.fixture(scope="module")
def good(store: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "backup"
    assert back_up(path, store, QUIET, key=KEY).encrypted_with == "key file"
    return path.read_bytes()


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse battery\n")
    return path


def restored_files(data: Path) -> list[str]:
    return sorted(p.name for p in data.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def failure(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_what_a_killed_backup_has_left_is_removed(store: Path, tmp_path: Path) -> None:
    """It holds the store's secrets in clear.  A young one may be that of a backup that runs."""
    left, young = store / "master" / ".backup-left", store / "master" / ".backup-young"
    for folder in (left, young):
        folder.mkdir(0o700)
        (folder / "data.json").write_text("a secret")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(left, (two_days_ago, two_days_ago))
    back_up(tmp_path / "backup", store, QUIET, key=KEY)
    assert not left.exists()
    assert (young / "data.json").exists()
    shutil.rmtree(young)


def test_a_backup_that_is_ended_leaves_nothing(store: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(backup_module, "integrity_problem", lambda copy: signal.raise_signal(signal.SIGTERM))
    before = restored_files(store)
    words = [str(tmp_path / "backup"), "--data", str(store), "--unencrypted"]
    assert backup_main(words) == 130
    assert restored_files(store) == before
    assert not list((store / "master").glob(".backup-*"))
    assert failure(capsys) == "warehouse: interrupted"


def test_an_encrypted_backup_shows_no_secret_and_comes_back(good: bytes, tmp_path: Path) -> None:
    for telling in (b"a secret in", b"join.secret", b"SQLite format", b"manifest"):
        assert telling not in good
    path, data = tmp_path / "backup", tmp_path / "new"
    path.write_bytes(good)
    data.mkdir()
    assert restore(path, data, QUIET, key=KEY).keys == sorted(KEY_NAMES)
    for name in KEY_NAMES:
        assert (data / "master" / "keys" / name).read_text() == f"a secret in {name}"


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(change=st.data())
def test_of_a_changed_backup_nothing_is_restored(good: bytes, tmp_path: Path, change: st.DataObject) -> None:
    content = bytearray(good)
    at = change.draw(st.integers(0, len(content) - 1))
    if change.draw(st.booleans()):
        content[at] ^= 1 << change.draw(st.integers(0, 7))
    else:
        del content[at:]
    path, data = tmp_path / "backup", tmp_path / "new"
    path.write_bytes(content)
    data.mkdir(exist_ok=True)
    with pytest.raises(StoreError) as caught:
        restore(path, data, QUIET, key=KEY)
    assert caught.value.code in ("backup_corrupt", "backup_key_wrong", "format_unsupported")
    assert str(path) in caught.value.message
    assert restored_files(data) == []


@pytest.mark.parametrize("key", [BackupKey("key file", b"x" * 32), BackupKey("passphrase", b"k" * 32), None])
def test_another_key_restores_nothing(good: bytes, tmp_path: Path, key: BackupKey | None) -> None:
    path, data = tmp_path / "backup", tmp_path / "new"
    path.write_bytes(good)
    data.mkdir()
    with pytest.raises(BackupKeyWrong if key else BackupCorrupt):
        restore(path, data, QUIET, key=key)
    assert restored_files(data) == []


# --- the commands ---------------------------------------------------------------------------------


def test_a_passphrase_from_a_file_encrypts_and_opens(
    store: Path, tmp_path: Path, passphrase: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / "backup", tmp_path / "new"
    words = ["--passphrase-file", str(passphrase)]
    assert backup_main([str(path), "--data", str(store), "--json", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["encrypted_with"] == "passphrase"
    assert path.stat().st_mode & 0o777 == 0o600
    assert restore_main([str(path), "--data", str(data)]) == 1
    assert "name its file with --passphrase-file" in failure(capsys)
    assert restore_main([str(path), "--data", str(data), *words]) == 0
    assert (data / "master" / "keys" / "data.json").is_file()
    again = ["--data", str(data), "--disk", str(store / "disk-1"), "--replace", "--backup", str(path)]
    assert rebuild_main(again) == 1
    assert rebuild_main([*again, *words]) == 0


def test_a_key_file_encrypts_and_opens(store: Path, tmp_path: Path) -> None:
    key, path, data = tmp_path / "key", tmp_path / "backup", tmp_path / "new"
    key.write_bytes(bytes(range(200, 240)))
    key.chmod(0o600)
    words = ["--key-file", str(key)]
    assert backup_main([str(path), "--data", str(store), *words]) == 0
    assert backup_main([str(path), "--data", str(store), *words]) == 0, "an older backup is replaced"
    assert restore_main([str(path), "--data", str(data), *words]) == 0


def test_without_a_word_about_it_nothing_is_written_in_clear(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    path, data = tmp_path / "backup", tmp_path / "new"
    assert backup_main([str(path), "--data", str(store)]) == 1
    assert failure(capsys).endswith("or say --unencrypted (bad_request)")
    assert not path.exists()
    assert backup_main([str(path), "--data", str(store), "--unencrypted"]) == 0
    assert "in clear" in capsys.readouterr().out
    assert restore_main([str(path), "--data", str(data)]) == 0


def test_a_terminal_is_asked(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "correct horse battery"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(backup_keys.getpass, "getpass", answer)
    path, data = tmp_path / "backup", tmp_path / "new"
    assert backup_main([str(path), "--data", str(store)]) == 0
    assert restore_main([str(path), "--data", str(data)]) == 0
    assert asked == ["Passphrase of the new backup: ", "Once more: ", f"Passphrase of {path}: "]


def test_a_mistyped_passphrase_makes_no_backup(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["correct horse battery", "correct horse batery"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(backup_keys.getpass, "getpass", lambda question: next(answers))
    assert backup_main([str(tmp_path / "backup"), "--data", str(store)]) == 1
    assert "two different passphrases" in failure(capsys)
    assert not (tmp_path / "backup").exists()


def test_a_plain_backup_does_not_pass_for_an_encrypted_one(
    store: Path, tmp_path: Path, passphrase: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for a passphrase trusts what it opens; somebody may have put another file there."""
    path, data = tmp_path / "backup", tmp_path / "new"
    back_up(path, store, QUIET)
    data.mkdir()
    assert restore_main([str(path), "--data", str(data), "--passphrase-file", str(passphrase)]) == 1
    assert "is not encrypted, so anybody may have made it" in failure(capsys)
    assert restored_files(data) == []


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("", 0o600, "one line"),
        ("\n", 0o600, "one line"),
        ("two\nlines\n", 0o600, "it has 2"),
        ("short", 0o600, "at least 8 characters"),
        ("a good passphrase", 0o644, "chmod 600"),
        ("a good passphrase", 0o640, "chmod 600"),
        ("\udcff not utf-8", 0o600, "UTF-8"),
        ("x" * 5000, 0o600, "KiB"),
    ],
)
def test_a_passphrase_that_is_none_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, mode: int, says: str
) -> None:
    path, file = tmp_path / "backup", tmp_path / "passphrase"
    file.write_text(content, errors="surrogateescape")
    file.chmod(mode)
    assert backup_main([str(path), "--data", str(store), "--passphrase-file", str(file)]) == 1
    line = failure(capsys)
    assert says in line
    assert "good passphrase" not in line
    assert not path.exists()


def test_a_key_file_that_is_too_short_or_missing_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    words = [str(tmp_path / "backup"), "--data", str(store), "--key-file", str(key)]
    assert backup_main(words) == 1
    assert "cannot read" in failure(capsys)
    key.write_bytes(b"x" * 31)
    key.chmod(0o600)
    assert backup_main(words) == 1
    assert "at least 32" in failure(capsys)


@pytest.mark.parametrize(
    "words", [["--unencrypted", "--key-file", "k"], ["--unencrypted", "--passphrase-file", "p"]]
)
def test_contradictions_are_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert backup_main([str(tmp_path / "backup"), "--data", str(store), *words]) == 1
    assert "contradicts" in failure(capsys)


def test_a_passphrase_without_a_backup_is_refused(
    tmp_path: Path, passphrase: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rebuild_main(["--data", str(tmp_path), "--passphrase-file", str(passphrase)]) == 1
    assert "--backup" in failure(capsys)


# --- what a backup is made of ---------------------------------------------------------------------


def test_no_copy_of_the_secrets_lies_next_to_the_backup_meanwhile(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = tmp_path / "medium", []
    folder.mkdir()
    check = backup_module.integrity_problem

    def look(catalog: Path) -> str | None:
        seen.append((catalog.parent.parent, list(folder.iterdir())))
        return check(catalog)

    monkeypatch.setattr(backup_module, "integrity_problem", look)
    back_up(folder / "backup", store, QUIET, key=KEY)
    assert seen == [(store / "master", [])]
    assert [path.name for path in folder.iterdir()] == ["backup"]
    assert not list((store / "master").glob(".backup-*"))


def test_keys_that_are_rotated_while_the_catalog_is_copied_are_read_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal, rotations = store / "master" / "keys" / "seal.json", iter(range(100))
    before = seal.read_text()
    copy = backup_module._copy_catalog

    def rotate(*arguments: object) -> None:
        copy(*arguments)  # type: ignore[arg-type]
        if next(rotations) < limit:
            seal.write_text(seal.read_text() + "x")

    monkeypatch.setattr(backup_module, "_copy_catalog", rotate)
    limit = 2
    back_up(tmp_path / "backup", store, QUIET, key=KEY)
    new = tmp_path / "new"
    new.mkdir()
    restore(tmp_path / "backup", new, QUIET, key=KEY)
    assert (new / "master" / "keys" / "seal.json").read_text() == before + "xx"
    limit = 1000
    with pytest.raises(OutcomeUnknown, match="try again"):
        back_up(tmp_path / "other", store, QUIET, key=KEY)
    assert not (tmp_path / "other").exists()
    seal.write_text(before)


def test_a_backup_does_not_fill_the_disk_of_a_running_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "ROOM_LEFT", 1 << 60)
    with pytest.raises(DiskFull, match="for a copy of the catalog"):
        back_up(tmp_path / "backup", store, QUIET, key=KEY)
    assert not (tmp_path / "backup").exists()
