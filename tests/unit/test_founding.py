"""A store is founded once, and its root key is never lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.keyring import Keyring
from actors.master import found
from auth.keys import ApiKey
from errors import CatalogMissing


def test_a_root_key_that_could_not_be_put_away_does_not_count(tmp_path: Path) -> None:
    """A power cut between the catalog's commit and the profile would leave a store that nobody can open."""

    def fail(keyring: Keyring, root: ApiKey) -> None:
        raise OSError("the power went")

    with pytest.raises(OSError, match="the power went"):
        found(tmp_path, fail)
    kept = []
    founded = found(tmp_path, lambda keyring, root: kept.append((keyring.curve.public, root.key_id)))
    assert founded.root_key is not None
    assert kept == [(founded.keyring.curve.public, founded.root_key.key_id)]


def test_a_founded_store_has_its_root_key_already(tmp_path: Path) -> None:
    assert found(tmp_path).root_key is not None
    assert found(tmp_path).root_key is None


def test_a_catalog_that_was_lost_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """It would hand out volume numbers that are taken, and a rebuild could not tell which is which."""
    found(tmp_path)
    (tmp_path / "join.toml").write_text("")  # the last thing that a first start makes
    (tmp_path / "catalog.sqlite3").rename(tmp_path / "lost.sqlite3")
    with pytest.raises(CatalogMissing, match="warehouse rebuild"):
        found(tmp_path)
    assert not (tmp_path / "catalog.sqlite3").exists()
