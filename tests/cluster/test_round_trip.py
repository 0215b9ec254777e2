"""Real files in and out of a real store, through the command line, across a stop and a start."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from harness import RunningStore

LARGE_SIZE = 200 * 1000 * 1000


def warehouse(store: RunningStore, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "warehouse", *arguments, "--profile", str(store.profile)]
    done = subprocess.run(
        command, env=store.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=200, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr.decode()[-2000:]}"
    return done


def files_below(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def library_copy(tmp_path: Path) -> Path:
    """A few thousand real files: the Python standard library, without its installed packages."""
    source = Path(sysconfig.get_paths()["stdlib"])
    target = tmp_path / "library"
    for path in source.rglob("*"):
        parts = path.relative_to(source).parts
        if path.is_file() and not path.is_symlink() and not {"site-packages", "__pycache__"} & set(parts):
            copy = target.joinpath(*parts)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


@pytest.mark.timeout(300)
def test_a_tree_and_a_large_file_come_back_identical_after_a_restart(
    tmp_path: Path, library_copy: Path
) -> None:
    names = files_below(library_copy)
    assert len(names) > 500  # Debian keeps some of it in packages of their own
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(1000) * (LARGE_SIZE // 1000))
    store = RunningStore(tmp_path / "store", volumes=2)
    with store:
        warehouse(store, "mb", "wh://library")
        warehouse(store, "cp", "-r", str(library_copy), "wh://library/tree")
        warehouse(store, "cp", str(large), "wh://library/large.bin")
        before = warehouse(store, "ls", "-r", "--json", "wh://library/").stdout
    with RunningStore(tmp_path / "store", volumes=2, port_base=store.port_base) as again:
        assert warehouse(again, "ls", "-r", "--json", "wh://library/").stdout == before
        entries = [json.loads(line) for line in before.splitlines()]
        assert len(entries) == len(names) + 1
        back = tmp_path / "back"
        warehouse(again, "cp", "-r", "wh://library/tree", str(back))
        warehouse(again, "cp", "wh://library/large.bin", str(tmp_path / "large.back"))
    returned = files_below(back)
    assert set(returned) == set(names)
    for name, path in names.items():
        assert returned[name].read_bytes() == path.read_bytes(), name
    assert filecmp.cmp(large, tmp_path / "large.back", shallow=False)
