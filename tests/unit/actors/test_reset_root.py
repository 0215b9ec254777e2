"""A store whose root key is lost gets another one, and loses nothing else."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from warehouse.actors.control.first_start import initialize
from warehouse.actors.control.key_secrets import KeySecrets, seal_secret
from warehouse.actors.control.keyring import Keyring
from warehouse.actors.reset_root import main, reset_root
from warehouse.auth.keys import generate_api_key
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.catalog import identities
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.errors import CatalogMissing, DiskInUse, ReadFailed, SecretMissing, SetupError

ENDPOINT = "tcp://127.0.0.1:7400"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with a root key, a manager and a reader, as `warehouse up` leaves it."""
    master = tmp_path / "store" / "master"
    initialized = initialize(master)
    assert initialized.root_key is not None
    key = initialized.keyring.curve.public.decode()
    root = initialized.root_key
    Profile(master=ENDPOINT, server_key=key, key_id=root.key_id, secret=root.secret).save(
        master.parent / "profile.toml"
    )
    Join(master="tcp://10.0.0.1:7400", server_key=key, secret="s" * 20).save(master / "join.toml")
    with closing(SqliteCatalog.open(master / "catalog.sqlite3")) as catalog, catalog.transaction() as t:
        for name, permissions in (("manager", Permission.MANAGE_KEYS), ("reader", Permission.READ)):
            made = generate_api_key()
            sealed = seal_secret(initialized.keyring.sealer, made.key_id, made.secret)
            t.add_api_key(
                ApiKeyRow(
                    id=made.key_id, name=name, sealed=sealed, permissions=int(permissions), created_ms=1
                )
            )
    return master.parent


def rows(data: Path) -> dict[str, ApiKeyRow]:
    with closing(SqliteCatalog.open(data / "master" / "catalog.sqlite3")) as catalog:
        return {row.id: row for row in catalog.api_keys()}


def test_the_new_key_is_in_the_profile_and_may_do_everything(data: Path) -> None:
    before, earlier = rows(data), Profile.load(data / "profile.toml")
    report = reset_root(data)
    after, profile = rows(data), Profile.load(data / "profile.toml")
    assert profile == msgspec_free_replace(earlier, profile)
    assert (data / "profile.toml").stat().st_mode & 0o777 == 0o600
    new = after.pop(report.key_id)
    assert (new.name, new.permissions, new.grants) == ("root", int(EVERYTHING), None)
    keyring = Keyring.load_or_create(data / "master" / "keys")
    assert KeySecrets(keyring).check(new, profile.secret, at_ms=1)
    assert after == before, "all other keys are as they were"
    assert report.moved_aside is not None
    assert Profile.load(Path(report.moved_aside)) == earlier


def msgspec_free_replace(earlier: Profile, now: Profile) -> Profile:
    """What must not change of a profile."""
    return Profile(master=earlier.master, server_key=earlier.server_key, key_id=now.key_id, secret=now.secret)


def test_other_managers_are_disabled_on_request_and_what_they_signed_is_void(data: Path) -> None:
    before = rows(data)
    report = reset_root(data, disable_others=True)
    after = rows(data)
    assert {before[key_id].name for key_id in report.disabled} == {"root", "manager"}
    for key_id in report.disabled:
        assert not after[key_id].is_enabled
        assert after[key_id].epoch == before[key_id].epoch + 1
    (reader,) = (row for row in before.values() if row.name == "reader")
    assert after[reader.id] == reader


def test_a_store_without_a_profile_gets_one_that_leads_where_its_join_file_does(data: Path) -> None:
    (data / "profile.toml").unlink()
    assert reset_root(data).moved_aside is None
    assert Profile.load(data / "profile.toml").master == "tcp://10.0.0.1:7400"
    (data / "profile.toml").unlink()
    (data / "master" / "join.toml").unlink()
    before = rows(data)
    with pytest.raises(SetupError, match="where the master listens"):
        reset_root(data)
    assert rows(data) == before


def test_the_folder_of_a_master_alone_will_do(data: Path) -> None:
    reset_root(data / "master")
    assert Profile.load(data / "master" / "profile.toml").master == "tcp://10.0.0.1:7400"


def test_a_store_that_runs_is_left_alone(data: Path) -> None:
    before = (data / "profile.toml").read_bytes()
    with closing(SqliteCatalog.open(data / "master" / "catalog.sqlite3")), pytest.raises(DiskInUse):
        reset_root(data)
    assert (data / "profile.toml").read_bytes() == before


def test_what_is_no_store_stays_as_it_is(tmp_path: Path, data: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "none"):
        with pytest.raises(ReadFailed, match="--data"):
            reset_root(folder)
    assert list(empty.iterdir()) == []
    (data / "master" / "catalog.sqlite3").rename(tmp_path / "lost")
    with pytest.raises(CatalogMissing):
        reset_root(data)


def test_a_damaged_keyring_is_said_before_anything_changes(data: Path) -> None:
    (data / "master" / "keys" / "seal.json").write_bytes(b"")
    before, profile = rows(data), (data / "profile.toml").read_bytes()
    with pytest.raises(SecretMissing):
        reset_root(data)
    assert rows(data) == before
    assert (data / "profile.toml").read_bytes() == profile


def test_a_commit_that_fails_leaves_the_earlier_profile(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    profile = (data / "profile.toml").read_bytes()
    monkeypatch.setattr("warehouse.actors.reset_root._add_root", fail)
    with pytest.raises(OSError, match="No space"):
        reset_root(data)
    assert (data / "profile.toml").read_bytes() == profile
    assert [path.name for path in data.glob("profile.toml*")] == ["profile.toml"]


def test_the_command_says_what_it_did_but_no_secret(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    profile = Profile.load(data / "profile.toml")
    assert report["key_id"] == profile.key_id
    assert report["profile"] == str(data / "profile.toml")
    assert profile.secret not in json.dumps(report)
    assert main(["--data", str(data / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.err.endswith("(read_failed)\n")
    assert captured.out == ""


def test_the_audit_log_has_a_line(data: Path) -> None:
    (data / "master" / "audit.jsonl").touch(0o600)
    report = reset_root(data, disable_others=True)
    (line,) = (data / "master" / "audit.jsonl").read_text().splitlines()
    entry = msgspec.json.decode(line)
    assert (entry["action"], entry["target"]) == ("root_reset", report.key_id)
    assert sorted(entry["disabled"]) == sorted(report.disabled)


def test_a_store_that_is_full_of_keys_gets_a_root_key_all_the_same(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever managed keys may have filled it."""
    monkeypatch.setattr(identities, "KEYS_MAX", 3)
    report = reset_root(data)
    assert rows(data)[report.key_id].is_enabled
