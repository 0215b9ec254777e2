"""Stores by name, and a store that variables name: real processes with a home folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_kit import process
from fake_store import FakeStore


@pytest.fixture
def store(store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    store.buckets |= {"photos": {}}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return store


async def test_a_store_has_a_name_once_it_was_added(store: FakeStore, tmp_path: Path) -> None:
    ran = await process(tmp_path, "profile", "add", "work")
    assert (ran.status, store.profile.secret in ran.out) == (0, False)
    kept = tmp_path / "home" / ".config" / "warehouse" / "profiles" / "work.toml"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (await process(tmp_path, "ls", "--profile", "work")).out == "wh://photos\n"
    ran = await process(tmp_path, "profile", "add", "work")
    assert (ran.status, "--force replaces it" in ran.err) == (2, True)
    assert (await process(tmp_path, "profile", "add", "work", "--force", "--json")).objects[0][
        "profile"
    ] == "work"
    assert (await process(tmp_path, "profile", "use", "work")).out == "using work\n"
    ran = await process(tmp_path, "profile", "ls", "--json")
    assert ran.objects[0]["is_current"] is True
    assert store.profile.secret not in ran.out
    kept.chmod(0o644)
    assert "chmod 600" in (await process(tmp_path, "profile", "ls")).out
    assert (await process(tmp_path, "profile", "rm", "work")).status == 0
    ran = await process(tmp_path, "ls", "--profile", "work", "--json")
    assert (ran.status, ran.objects[0]["code"]) == (1, "secret_missing")


async def test_variables_need_no_file(
    store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = store.profile
    monkeypatch.setenv("WAREHOUSE_ENDPOINT", profile.master)
    monkeypatch.setenv("WAREHOUSE_SERVER_KEY", profile.server_key)
    monkeypatch.setenv("WAREHOUSE_KEY_ID", profile.key_id)
    monkeypatch.setenv("WAREHOUSE_SECRET", profile.secret)
    ran = await process(tmp_path, "ls", profile=None)
    assert (ran.status, ran.out) == (0, "wh://photos\n"), ran.err
    ran = await process(tmp_path, "ls")
    assert (ran.status, "unset one" in ran.err) == (1, True)
    monkeypatch.delenv("WAREHOUSE_SECRET")
    assert "not WAREHOUSE_SECRET" in (await process(tmp_path, "ls", profile=None)).err
