"""A start takes the rights of others away from the files of a store, and from nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from warehouse.actors.private_folder import DISK_NAMES, tighten
from warehouse.storage.disk import OsDisk


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def disk_of_0_1_0(root: Path) -> Path:
    folder = root / "disk-1"
    (folder / "volumes" / "1").mkdir(parents=True, mode=0o777)
    for name, mode in (("disk.json", 0o644), ("lock", 0o640), ("volumes/1/g1.vol", 0o640)):
        (folder / name).touch(mode)
        (folder / name).chmod(mode)
    return folder


def wide(folder: Path) -> list[str]:
    paths = [folder, *sorted(folder.rglob("*"))]
    return [str(path.relative_to(folder)) for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """What was logged: its first words, how many paths, and one of them."""
    found = [vars(record) for record in caplog.records]
    return [(str(one["msg"])[:30], one["count"], one["example"]) for one in found]


CLOSED, LEFT = "others could read or write here; t"[:30], "others may read or write here, and"[:30]


def test_what_is_made_is_private_whatever_the_umask(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.make_directory("volumes/1")
    disk.open("volumes/1/g1.vol", create=True)
    assert wide(tmp_path / "volumes") == []


def test_an_older_disk_is_closed_to_others_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk_of_0_1_0(tmp_path)
    assert len(wide(folder)) == 6
    tighten(folder, DISK_NAMES)
    assert wide(folder) == []
    [(event, count, example)] = events(caplog)
    assert (event, count, example) == (CLOSED, 6, str(folder))
    assert stat.S_IMODE((folder / "volumes/1/g1.vol").stat().st_mode) == 0o600
    caplog.clear()
    tighten(folder, DISK_NAMES)
    assert events(caplog) == []


def test_a_folder_that_holds_other_things_stays_open_and_so_do_they(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk_of_0_1_0(tmp_path)
    (folder / "photos").mkdir(mode=0o755)
    tighten(folder, DISK_NAMES)
    assert wide(folder) == [".", "photos"]
    assert [event for event, *_ in events(caplog)] == [CLOSED, LEFT]


def test_no_link_is_followed_and_no_file_of_two_names_is_touched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk_of_0_1_0(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").touch(0o644)
    os.symlink(outside, folder / "ballast")
    os.symlink(outside / "file", folder / "volumes/1/g1.idx")
    os.link(outside / "file", folder / "volumes/1/manifest")
    os.mkfifo(folder / "volumes/1/pipe", 0o666)
    tighten(folder, DISK_NAMES)
    assert wide(outside) == [".", "file"]
    [_, (event, count, example)] = events(caplog)
    assert (event, count) == (LEFT, 1)
    assert example.endswith("volumes/1/manifest")


def test_the_files_of_another_user_are_named_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk_of_0_1_0(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    tighten(folder, DISK_NAMES)
    assert len(wide(folder)) == 6
    [(event, count, _)] = events(caplog)
    assert (event, count) == (LEFT, 6)


def test_a_secret_that_others_could_read_is_left_to_a_person(tmp_path: Path) -> None:
    folder = disk_of_0_1_0(tmp_path)
    (folder / "node.key").touch(0o644)
    tighten(folder, DISK_NAMES)
    assert wide(folder) == ["node.key"]


def test_a_folder_that_cannot_be_looked_at_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tighten(tmp_path / "absent", DISK_NAMES)
    folder = disk_of_0_1_0(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fchmod", refuse)
    tighten(folder, DISK_NAMES)
    assert len(wide(folder)) == 6
    assert caplog.records
