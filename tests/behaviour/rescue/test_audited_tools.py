"""What tools do to the files of a store is in its audit log; without one they work as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from warehouse.actors.control.first_start import initialize
from warehouse.conf.audit_files import AUDIT_NAME
from warehouse.rescue import backup, export, rebuild, restore


def run(main: object, *words: object) -> int:
    return main([str(word) for word in words])  # type: ignore[operator]


def told(data: Path) -> list[tuple[str, str]]:
    lines = (json.loads(line) for line in (data / "master" / AUDIT_NAME).read_bytes().splitlines())
    return [(line["action"], line["result"]) for line in lines if line["user"]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    initialize(tmp_path / "data" / "master")
    return tmp_path / "data"


def test_every_tool_writes_what_it_did_and_how_it_ended(data: Path, tmp_path: Path) -> None:
    (data / "master" / AUDIT_NAME).touch(mode=0o600)
    assert run(backup.main, tmp_path / "b.tar", "--data", data, "--unencrypted") == 0
    assert run(backup.main, tmp_path / "absent" / "b.tar", "--data", data, "--unencrypted") == 1
    assert run(rebuild.main, "--data", data) == 1  # there is a catalog
    assert run(restore.main, tmp_path / "none.tar", "--data", data) == 1
    assert run(restore.main, tmp_path / "b.tar", "--data", data) == 0
    export.main(["--data", str(data), "--to", str(tmp_path / "out")])
    actions = told(data)
    assert actions[0] == ("backup_made", "ok")
    assert [action for action, _ in actions] == [
        *("backup_made", "backup_made", "catalog_rebuilt", "store_restored", "store_restored"),
        "objects_exported",
    ]
    assert [result == "ok" for _, result in actions[:5]] == [True, False, False, False, True]


def test_a_store_without_an_audit_log_gets_none_from_a_tool(data: Path, tmp_path: Path) -> None:
    assert run(backup.main, tmp_path / "b.tar", "--data", data, "--unencrypted") == 0
    assert not (data / "master" / AUDIT_NAME).exists()


def test_a_tool_whose_line_cannot_be_written_works_all_the_same(data: Path, tmp_path: Path) -> None:
    (data / "master" / AUDIT_NAME).symlink_to(tmp_path / "victim")
    assert run(backup.main, tmp_path / "b.tar", "--data", data, "--unencrypted") == 0
    assert not (tmp_path / "victim").exists()
