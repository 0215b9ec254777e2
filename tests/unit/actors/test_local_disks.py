"""The disk folders of a machine: each has the key of its node, and a lost identity takes its key along."""

from __future__ import annotations

from pathlib import Path

from warehouse.actors.local_disks import keyed_disk
from warehouse.storage.identity import IDENTITY_NAME, load_identity

URL = "http://127.0.0.1:7410"


def key_of(folder: Path) -> str:
    found = keyed_disk(folder, URL)
    assert found is not None
    assert found.key_file is None
    return found.disk.key


def test_a_disk_keeps_its_key(tmp_path: Path) -> None:
    folder = tmp_path / "disk-1"
    key = key_of(folder)
    load_identity(folder, created_ms=1)
    assert key_of(folder) == key


def test_a_disk_whose_identity_is_gone_gets_another_key(tmp_path: Path) -> None:
    folder = tmp_path / "disk-1"
    key = key_of(folder)
    before = (folder / "node.key").read_bytes()
    load_identity(folder, created_ms=1)
    (folder / IDENTITY_NAME).unlink()
    assert key_of(folder) != key
    assert (folder / "node.key.before").read_bytes() == before


def test_an_identity_that_cannot_be_read_costs_no_key(tmp_path: Path) -> None:
    folder = tmp_path / "disk-1"
    key = key_of(folder)
    (folder / IDENTITY_NAME).write_text("{")
    assert key_of(folder) == key
