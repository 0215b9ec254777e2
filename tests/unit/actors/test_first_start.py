"""A store is initialized once, and its root key is never lost on the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from warehouse.actors.control.first_start import initialize
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.keys import ApiKey
from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.errors import CatalogMissing, SetupError, StoreError


def test_a_root_key_that_could_not_be_put_away_does_not_count(tmp_path: Path) -> None:
    """A power cut between the catalog's commit and the profile would leave a store that nobody can open."""

    def fail(keyring: Keyring, root: ApiKey) -> None:
        raise OSError("the power went")

    with pytest.raises(OSError, match="the power went"):
        initialize(tmp_path, fail)
    kept = []
    initialized = initialize(tmp_path, lambda keyring, root: kept.append((keyring.curve.public, root.key_id)))
    assert initialized.root_key is not None
    assert kept == [(initialized.keyring.curve.public, initialized.root_key.key_id)]


def test_an_initialized_store_has_its_root_key_already(tmp_path: Path) -> None:
    assert initialize(tmp_path).root_key is not None
    assert initialize(tmp_path).root_key is None


def test_a_catalog_that_was_lost_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """It would hand out volume numbers that are taken, and a rebuild could not tell which is which."""
    initialize(tmp_path)
    (tmp_path / "join.toml").write_text("")  # the last thing that a first start makes
    (tmp_path / "catalog.sqlite3").rename(tmp_path / "lost.sqlite3")
    with pytest.raises(CatalogMissing, match="warehouse rebuild"):
        initialize(tmp_path)
    assert not (tmp_path / "catalog.sqlite3").exists()


def signs_of(sign: str, data: Path) -> None:
    """Leave one sign of a store, and take the others away."""
    for name in ("founded", "join.toml"):
        (data / name).unlink(missing_ok=True)
    if sign == "volumes":
        (data.parent / "disk-1" / "volumes" / "1").mkdir(parents=True)
    elif sign == "log":
        (data / "catalog.sqlite3-wal").write_bytes(b"x" * 4096)
    else:
        (data / sign).write_text("")


@pytest.mark.parametrize("sign", ["founded", "join.toml", "volumes", "log"])
@pytest.mark.parametrize("content", [None, b"", bytes(8192)], ids=["gone", "empty", "zeros"])
def test_a_catalog_that_holds_nothing_is_no_new_store_where_there_was_one(
    tmp_path: Path, content: bytes | None, sign: str
) -> None:
    data = tmp_path / "master"
    initialize(data)
    catalog = data / "catalog.sqlite3"
    signs_of(sign, data)
    catalog.unlink() if content is None else catalog.write_bytes(content)
    with pytest.raises(CatalogMissing, match="warehouse rebuild"):
        initialize(data)
    assert catalog.read_bytes() == content if content is not None else not catalog.exists()


def test_a_catalog_without_tables_is_no_new_store_either(tmp_path: Path) -> None:
    """What is left when the log of a young store is lost: its tables were in there."""
    data = tmp_path / "master"
    initialize(data)
    (data / "catalog.sqlite3").unlink()
    with closing(sqlite3.connect(data / "catalog.sqlite3")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(CatalogMissing, match="has no tables"):
        initialize(data)


def test_a_first_start_that_was_cut_off_is_no_lost_store(tmp_path: Path) -> None:
    data = tmp_path / "master"
    Keyring.load_or_create(data / "keys")
    (data / "catalog.sqlite3").touch()
    assert initialize(data).root_key is not None


@pytest.mark.parametrize("name", ["curve.key", "access.pem", "data.json"])
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["empty", "cut off"])
def test_a_key_file_that_lost_its_content_is_refused_and_nothing_is_made_in_its_place(
    tmp_path: Path, name: str, share: float
) -> None:
    initialize(tmp_path)
    path = tmp_path / "keys" / name
    content = path.read_bytes()
    cut = content[: int(share * len(content))]
    path.write_bytes(cut)
    with pytest.raises(StoreError) as caught:
        initialize(tmp_path)
    assert str(path) in caught.value.message
    assert isinstance(caught.value, SetupError)
    assert path.read_bytes() == cut


def test_a_start_writes_nothing_that_is_there_already(tmp_path: Path) -> None:
    join = Join(master="tcp://127.0.0.1:7400", server_key="x" * 40, secret="s" * 20)
    profile = Profile(master="tcp://127.0.0.1:7400", server_key="x" * 40, key_id="k", secret="s" * 20)
    for _ in range(2):
        initialize(tmp_path)
        join.save(tmp_path / "join.toml")
        profile.save(tmp_path / "profile.toml")
        files = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
    initialize(tmp_path)
    join.save(tmp_path / "join.toml")
    profile.save(tmp_path / "profile.toml")
    for path, before in files.items():
        if path.name.startswith("catalog.sqlite3"):
            continue  # SQLite's own
        now = path.stat()
        assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), path


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    join = Join(master="tcp://127.0.0.1:7400", server_key="x" * 40, secret="s" * 20)
    with pytest.raises(SetupError, match="cannot write"):
        join.save(tmp_path / "folder" / "join.toml")
