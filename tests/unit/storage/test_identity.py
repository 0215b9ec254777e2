"""One actor per disk directory, and no copy of a disk passes for the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from warehouse.errors import DiskInUse, DiskMismatch, FormatUnsupported
from warehouse.storage.identity import (
    COMPACTOR_LOCK_NAME,
    IDENTITY_NAME,
    DiskLock,
    load_identity,
    read_identity,
)

PROJECT = Path(__file__).parents[3]


def test_an_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    first = load_identity(tmp_path, created_ms=1_750_000_000_000)
    again = load_identity(tmp_path, created_ms=9)
    assert first == again
    assert first.created_ms == 1_750_000_000_000
    assert len(first.disk_id) == 36
    assert sorted(os.listdir(tmp_path)) == [IDENTITY_NAME]


def test_two_disks_are_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (load_identity(tmp_path / name, created_ms=1) for name in ("a", "b"))
    assert first.disk_id != second.disk_id


def test_a_copied_directory_is_noticed_and_can_be_adopted(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    identity = load_identity(original, created_ms=1)
    shutil.copytree(original, copy)
    with pytest.raises(DiskMismatch, match=identity.disk_id):
        load_identity(copy, created_ms=2)
    adopted = load_identity(copy, created_ms=2, adopt=True)
    assert (adopted.disk_id, adopted.created_ms) == (identity.disk_id, 1)
    assert load_identity(copy, created_ms=3) == adopted
    assert load_identity(original, created_ms=3) == identity


def test_a_renamed_directory_is_the_same_disk(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    identity = load_identity(old, created_ms=1)
    old.rename(new)
    assert load_identity(new, created_ms=2) == identity


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"format": 1, "disk_id": 5}'])
def test_an_unreadable_identity_is_never_replaced_unasked(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / IDENTITY_NAME
    path.write_bytes(content)
    with pytest.raises(DiskMismatch, match="unreadable"):
        load_identity(tmp_path, created_ms=1)
    assert path.read_bytes() == content
    load_identity(tmp_path, created_ms=1, adopt=True)
    load_identity(tmp_path, created_ms=1)


def test_an_identity_of_a_later_release_is_refused(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, created_ms=1)
    later = msgspec.structs.replace(identity, format=2)
    (tmp_path / IDENTITY_NAME).write_bytes(msgspec.json.encode(later))
    with pytest.raises(FormatUnsupported):
        load_identity(tmp_path, created_ms=1)


def test_a_second_actor_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with DiskLock(tmp_path):
        with pytest.raises(DiskInUse, match=f"process {os.getpid()}"):
            DiskLock(tmp_path)
        code = "import sys; from pathlib import Path; from warehouse.storage.identity import DiskLock\n" + (
            "try: DiskLock(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__)"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=PROJECT
        )
        assert other.stdout.strip() == "DiskInUse"
    lock = DiskLock(tmp_path)
    lock.release()
    lock.release()


def test_a_killed_actor_leaves_no_lock(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from warehouse.storage.identity import DiskLock\n" + (
        "lock = DiskLock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT)
    assert killed.returncode == -9
    DiskLock(tmp_path).release()


def test_two_actors_of_different_kinds_share_a_disk(tmp_path: Path) -> None:
    with DiskLock(tmp_path), DiskLock(tmp_path, COMPACTOR_LOCK_NAME), pytest.raises(DiskInUse):
        DiskLock(tmp_path, COMPACTOR_LOCK_NAME)


def test_reading_an_identity_makes_none_and_changes_none(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    assert read_identity(tmp_path / "nowhere") is None
    assert os.listdir(tmp_path) == []
    identity = load_identity(tmp_path, created_ms=1)
    assert read_identity(tmp_path) == identity
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / IDENTITY_NAME, copy)
    with pytest.raises(DiskMismatch, match=identity.disk_id):
        read_identity(copy)
    (copy / IDENTITY_NAME).write_bytes(b"not json")
    with pytest.raises(DiskMismatch, match="unreadable"):
        read_identity(copy)
