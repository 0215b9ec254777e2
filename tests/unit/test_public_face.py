"""What programs may import, and that it works next to files of any name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import mypy.api
import pytest

import warehouse
from warehouse import errors

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = [
    *(
        "AccountInfo",
        "AuditEntry",
        "Bucket",
        "BucketChange",
        "BucketInfo",
        "BucketPoint",
        "DirectUpload",
        "DiskFigures",
        "Event",
        "Figures",
        "FoundPage",
        "GetResult",
        "HistoryPoint",
        "Job",
        "KeyGrant",
        "KeyInfo",
        "KeyLimits",
        "NewKey",
        "ObjectInfo",
        "ObjectStream",
        "ObjectWritten",
    ),
    *("Prefix", "Profile", "Put", "PutResult", "Rates", "Status", "Store", "StoreChange", "UploadSlot"),
    "connect",
]
TRAP = "raise SystemExit(f'{__name__} of the program was taken for ours')\n"
OWN = ["errors", "client", "conf", "actors", "storage", "auth", "trio", "zmq", "msgspec", "jwt"]
BELOW_TRIO = ["attr", "attrs", "idna", "outcome", "sniffio", "sortedcontainers"]
WORKS = "import warehouse\nwarehouse.connect\nprint('works')\n"
NO_NETWORK = """
import sys
import warehouse
from warehouse.errors import BucketExists
assert not {"trio", "zmq", "msgspec"} & set(sys.modules), "loaded before it is needed"
assert BucketExists.code == "bucket_exists"
"""


def run(program: str, folder: Path, *, more_path: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    environment = {"PYTHONPATH": more_path + str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(folder / "program.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_public_names_are_these() -> None:
    assert warehouse.__all__ == PUBLIC
    assert list(warehouse.PUBLIC) == PUBLIC
    shown = {name for name in dir(warehouse) if not name.startswith("__")}
    assert shown == {*PUBLIC, "aio", "errors", "sync"}
    assert "__version__" in dir(warehouse)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(warehouse, name)
    assert value is getattr(import_module(warehouse.PUBLIC[name]), name)
    assert value.__module__ == warehouse.PUBLIC[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_it_is(name: str) -> None:
    text = getattr(warehouse, name).__doc__
    assert text
    assert not text.startswith(f"{name}(")  # which a dataclass without a docstring says


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Master'"):
        _ = warehouse.Master  # type: ignore[attr-defined]
    assert warehouse.errors is errors
    assert warehouse.__version__


def test_an_import_loads_neither_the_loop_nor_the_sockets(tmp_path: Path) -> None:
    done = run(NO_NETWORK, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_program_next_to_files_of_our_names_and_our_libraries_names_works(tmp_path: Path) -> None:
    for name in OWN:
        (tmp_path / f"{name}.py").write_text(TRAP)
    done = run(NO_NETWORK + "warehouse.connect\nimport trio\nassert trio.run\nprint('works')\n", tmp_path)
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize("name", BELOW_TRIO)
def test_a_program_next_to_one_file_with_the_name_of_a_library_of_trio_works(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(TRAP)
    done = run(WORKS, tmp_path)
    assert done.stdout == "works\n", done.stderr


def test_a_program_whose_folder_is_also_named_in_pythonpath_works(tmp_path: Path) -> None:
    for name in OWN:
        (tmp_path / f"{name}.py").write_text(TRAP)
    done = run(WORKS + "import sys\nprint(sys.path[:2])\n", tmp_path, more_path=f"{tmp_path}:")
    assert done.stdout == f"works\n{[str(tmp_path)] * 2}\n", done.stderr


def test_a_program_in_an_archive_with_files_of_our_libraries_names_works(tmp_path: Path) -> None:
    archive = tmp_path / "program.pyz"
    with ZipFile(archive, "w") as file:
        file.writestr("__main__.py", WORKS)
        for name in OWN:
            file.writestr(f"{name}.py", TRAP)
    done = run(f"import runpy\nrunpy.run_path({str(archive)!r})\n", tmp_path)
    assert done.stdout == "works\n", done.stderr


def test_a_program_whose_working_folder_was_deleted_works(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    start = f"import os, sys\nos.chdir({str(gone)!r})\nos.rmdir({str(gone)!r})\nsys.path[0] = ''\n"
    done = run(start + WORKS, tmp_path)
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize("package", ["actors", "bench"])
def test_a_project_with_a_package_of_our_programs_names_keeps_its_folder_on_the_path(
    tmp_path: Path, package: str
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("import warehouse\n")
    (tmp_path / package / "load.py").write_text("import own\n" + WORKS)
    (tmp_path / "own.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", f"{package}.load"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "works\n", done.stderr


def test_a_type_checker_refuses_a_name_that_is_not_public(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import warehouse\n"
        "version: str = warehouse.__version__\n"
        "code: str = warehouse.errors.BucketExists.code\n"
        "warehouse.conect\n"
    )
    out, _, _ = mypy.api.run(
        ["--strict", "--config-file", "/dev/null", "--cache-dir", str(tmp_path), str(tmp_path / "program.py")]
    )
    assert 'Module has no attribute "conect"' in out
    assert "Found 1 error" in out


def test_a_program_that_has_taken_its_own_file_for_a_library_is_told_which(tmp_path: Path) -> None:
    (tmp_path / "trio.py").write_text("mine = True\n")
    done = run("import trio\nimport warehouse\nwarehouse.connect\n", tmp_path)
    assert f"'trio' in {tmp_path} hides the library of that name" in done.stderr
    done = run("import trio\nimport warehouse\nprint(warehouse.errors.BucketExists.code)\n", tmp_path)
    assert done.stdout == "bucket_exists\n", done.stderr
