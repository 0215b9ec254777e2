"""Below a folder that others may have written to, only plain files are opened, and nothing outside is touched."""

from __future__ import annotations

import ast
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from warehouse.errors import DiskMismatch, SetupError, StoreError
from warehouse.storage.beneath import Folder, NotPlain
from warehouse.storage.disk import OsDisk, read_file, write_file
from warehouse.storage.files import volume_directory, volume_ids
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.storage.identity import IDENTITY_NAME, LOCK_NAME, DiskLock, load_identity, read_identity
from warehouse.storage.volume import Volume

ROOT = Path(__file__).parents[3]
UUID = "0f14d0ab-9605-4a62-a9e4-5ed266883891"
PRECIOUS = "precious content of somebody else"


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not-there"))


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def listening_socket(path: Path, victim: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # such names are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path, victim: Path) -> None:
    path.mkdir()


Planter = Callable[[Path, Path], None]
PLANTED: list[Planter] = [link, dangling_link, hard_link, pipe, listening_socket, folder]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "victim"
    path.write_text(PRECIOUS)
    return path


@pytest.fixture
def disk(tmp_path: Path, victim: Path) -> OsDisk:
    """A disk with one volume of one needle."""
    (tmp_path / "disk").mkdir()
    disk = OsDisk(tmp_path / "disk")
    load_identity(disk.root, created_ms=1)
    volume = Volume.create(disk, volume_directory(1), volume_id=1, uuid=UUID, capacity=1 << 30, created_ms=1)
    volume.append(1, NeedleMetadata("photos", 1, "cat", 1), b"meow", stamp=1 << 16)
    volume.close()
    return disk


def unharmed(victim: Path) -> bool:
    return victim.read_text() == PRECIOUS and os.listdir(victim.parent) == [victim.name]


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_not_a_plain_file_is_neither_read_nor_written(
    plant: Planter, tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "disk").mkdir()
    disk, path = OsDisk(tmp_path / "disk"), tmp_path / "disk" / "file"
    plant(path, victim)
    with pytest.raises(NotPlain):
        disk.open("file")
    if plant is hard_link:
        assert read_file(disk, "file", 1000) == PRECIOUS.encode()  # to read it harms nobody
    else:
        with pytest.raises(NotPlain):
            disk.open("file", read_only=True)
    assert disk.exists("file")
    assert unharmed(victim)


@pytest.mark.parametrize("plant", PLANTED)
def test_a_file_that_is_made_takes_the_place_of_what_was_planted(
    plant: Planter, tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "disk").mkdir()
    disk = OsDisk(tmp_path / "disk")
    plant(disk.root / "file.new", victim)
    if plant is folder:
        with pytest.raises(NotPlain):
            disk.open("file.new", create=True)
        return
    write_file(disk, "file", b"ours")
    assert read_file(disk, "file", 1000) == b"ours"
    assert unharmed(victim)


def test_a_file_that_is_there_already_is_emptied_and_stays_the_same_file(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    write_file(disk, "file", b"before")
    number = (tmp_path / "file").stat().st_ino
    disk.open("file", create=True).close()
    assert ((tmp_path / "file").stat().st_ino, read_file(disk, "file", 100)) == (number, b"")


def test_no_link_is_followed_on_the_way_to_a_file(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "disk" / "real").mkdir(parents=True)
    disk = OsDisk(tmp_path / "disk")
    (disk.root / "away").symlink_to(victim.parent)
    for call in (
        lambda: disk.open("away/victim", read_only=True),
        lambda: disk.open("away/new", create=True),
        lambda: disk.make_directory("away/new"),
        lambda: disk.remove("away/victim"),
        lambda: disk.replace("away/victim", "real/x"),
        lambda: disk.list("away"),
        lambda: disk.sync_directory("away"),
        lambda: disk.exists("away/victim"),
    ):
        with pytest.raises(NotPlain, match="symbolic link") as raised:
            call()
        assert raised.value.errno == errno.ELOOP
    assert unharmed(victim)


@pytest.mark.parametrize("path", ["../elsewhere/victim", "/etc/passwd", "a//b", "./a", "a/..", ""])
def test_a_path_that_leads_out_of_its_folder_is_refused(path: str, tmp_path: Path, victim: Path) -> None:
    (tmp_path / "disk").mkdir()
    with Folder(tmp_path / "disk") as below, pytest.raises(NotPlain):
        below.open(path)


def test_a_disk_folder_may_be_behind_a_link_itself(disk: OsDisk, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(disk.root)
    linked = OsDisk(tmp_path / "linked")
    with DiskLock(linked.root):
        assert read_identity(linked.root) == read_identity(disk.root)
        volume = Volume.open(linked, volume_directory(1))
        assert bytes(volume.read(1).data) == b"meow"
        volume.close()


@pytest.mark.parametrize("plant", [link, hard_link, pipe, folder])
@pytest.mark.parametrize("name", ["manifest", "g1.vol", "g1.idx", "manifest.new", "g2.vol"])
def test_a_volume_with_something_planted_in_it_opens_or_says_why_not(
    name: str, plant: Planter, disk: OsDisk, victim: Path
) -> None:
    path = disk.root / volume_directory(1) / name
    path.unlink(missing_ok=True)
    plant(path, victim)
    if name == "g1.vol" or (name, plant) == ("manifest", folder):  # a folder does not give way
        with pytest.raises(StoreError):
            Volume.open(disk, volume_directory(1))
    else:
        volume = Volume.open(disk, volume_directory(1))
        assert bytes(volume.read(1).data) == b"meow"
        volume.close()
    assert unharmed(victim)


@pytest.mark.parametrize("plant", PLANTED)
def test_a_lock_that_is_no_plain_file_is_not_written_to(plant: Planter, tmp_path: Path, victim: Path) -> None:
    (tmp_path / "disk").mkdir()
    plant(tmp_path / "disk" / LOCK_NAME, victim)
    with pytest.raises(NotPlain):
        DiskLock(tmp_path / "disk")
    with DiskLock(tmp_path / "disk", is_read_only_ok=True):
        assert unharmed(victim)


@pytest.mark.parametrize("plant", [link, pipe, listening_socket, folder])
def test_an_identity_that_is_no_plain_file_is_unreadable(
    plant: Planter, tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "disk").mkdir()
    plant(tmp_path / "disk" / IDENTITY_NAME, victim)
    with pytest.raises(DiskMismatch, match="unreadable"):
        load_identity(tmp_path / "disk", created_ms=1)
    with pytest.raises(DiskMismatch, match="unreadable"):
        read_identity(tmp_path / "disk")
    assert unharmed(victim)


def test_an_identity_is_written_over_nothing_that_was_planted(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "disk.new").symlink_to(victim)
    identity = load_identity(tmp_path / "disk", created_ms=1)
    assert read_identity(tmp_path / "disk") == identity
    assert unharmed(victim)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "disk.new").mkdir()
    with pytest.raises(SetupError):
        load_identity(tmp_path / "other", created_ms=1)


def test_of_a_huge_identity_only_a_little_is_read(tmp_path: Path) -> None:
    with (tmp_path / IDENTITY_NAME).open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(DiskMismatch, match="more than"):
        load_identity(tmp_path, created_ms=1)


def test_only_names_that_a_volume_has_count_as_volumes(tmp_path: Path) -> None:
    for name in ("1", "20", "007", "²", "٣", "-1", "0", "99999999999", "1.old", "x"):
        (tmp_path / "volumes" / name).mkdir(parents=True)
    assert volume_ids(OsDisk(tmp_path)) == [1, 20]


# Which modules may open a file of a disk, or of an export, by themselves; all others ask these.
DOORS = {"storage/beneath.py", "storage/disk.py"}
OPENERS = {"open", "fdopen", "read_bytes", "read_text", "write_bytes", "write_text", "touch"}


def test_storage_opens_files_through_its_one_door() -> None:
    for path in sorted((ROOT / "storage").rglob("*.py")):
        if str(path.relative_to(ROOT)) not in DOORS:
            found = openings(path)
            assert not found, f"{path.name} opens files by itself: {found}"


def openings(path: Path) -> list[str]:
    """Calls of `open(...)`, `os.open(...)`, `path.read_bytes()` and the like; `disk.open(...)` is the door."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id="open"):
                found.append(f"open, line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="os"), attr="open" | "fdopen" | "mkfifo" | "symlink"):
                found.append(f"os.{node.func.attr}, line {node.lineno}")
            case ast.Attribute(attr=name) if name in OPENERS - {"open"}:
                found.append(f"{name}, line {node.lineno}")
    return found
