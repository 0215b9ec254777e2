"""Programs: what lies in the working folder is never run, whoever starts a module of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse.conf.programs import module_command, module_environment

ROOT = Path(__file__).resolve().parents[3]
CODE = (
    "errors",
    "s3",
    "gateway",
    "conf",
    "storage",
    "auth",
    "transport",
    "catalog",
    "rescue",
    "actors",
    "client",
    "cli",
    "launchers",
    "bench",
    "warehouse",
)
NAMES = ["conf", "errors", "auth", "catalog", "transport", "actors", "rescue"]
OTHERS = ["trio", "zmq", "msgspec", "crc32c", "cyclopts", "rich", "logging", "json"]
TRAP = (
    "import os\nopen(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'RAN'), 'a').write(__name__)\n"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a module, or a package, of every name that could be taken for another."""
    folder = tmp_path / "project"
    (folder / "storage").mkdir(parents=True)
    for path in [folder / f"{name}.py" for name in NAMES + OTHERS] + [folder / "storage" / "__init__.py"]:
        path.write_text(TRAP)
    return folder


def run(
    command: list[str], folder: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert not (folder / "RAN").exists(), f"{(folder / 'RAN').read_text()} of the working folder was run"
    return done


def test_no_place_starts_a_module_but_through_the_one_function() -> None:
    starts = re.compile(r"""['"]-m['"]|sys\.executable,\s*['"]-""")
    found = [
        str(path.relative_to(ROOT))
        for room in CODE
        for path in (ROOT / room).rglob("*.py")
        if starts.search(path.read_text())
    ]
    assert sorted(found) == ["conf/programs.py", "warehouse/working_folder.py"]


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("warehouse.actors.cluster", "{root}"),
        ("warehouse.actors.master", ":{root}"),
        ("warehouse.rescue.rebuild", "{root}:"),
        ("warehouse", "::{root}::"),
    ],
)
def test_a_module_that_is_started_runs_nothing_of_the_working_folder(
    project: Path, module: str, path: str
) -> None:
    environment = module_environment({**os.environ, "PYTHONPATH": path.format(root=ROOT)})
    done = run(module_command(module, "--help"), project, environment)
    assert done.returncode == 0, done.stderr


def test_whatever_is_started_in_turn_leaves_the_working_folder_alone(project: Path) -> None:
    environment = module_environment({**os.environ, "PYTHONPATH": str(ROOT)})
    program = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'warehouse.conf', 'sample'], check=True)"
    done = run([sys.executable, "-P", "-c", program], project, environment)
    assert "port_base" in done.stdout


def programs() -> list[str]:
    """All modules that somebody may start by hand."""
    return [
        prefix + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for room in CODE
        if room != "bench"  # not installed
        for prefix in ({"warehouse": [""], "actors": ["", "warehouse."]}.get(room, ["warehouse."]))
        for path in sorted((ROOT / room).rglob("*.py"))
        if '__name__ == "__main__"' in path.read_text()
    ]


@pytest.mark.parametrize(
    ("module", "path"),
    [(module, "{root}") for module in programs()]
    + [("warehouse.actors.volume", ":{root}"), ("warehouse", "{root}::")],
)
def test_a_module_that_is_started_by_hand_leaves_the_working_folder_alone(
    project: Path, module: str, path: str
) -> None:
    (project / f"{module.partition('.')[0]}.py").unlink(missing_ok=True)  # Python itself would run that
    environment = {**os.environ, "PYTHONPATH": path.format(root=ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    done = run([sys.executable, "-m", module, "--help"], project, environment)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["{root}", ":{root}", "{root}:", "{root}::/nowhere"])
def test_the_warehouse_script_leaves_the_working_folder_alone(
    project: Path, tmp_path: Path, path: str
) -> None:
    script = tmp_path / "bin" / "warehouse"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom warehouse.__main__ import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": path.format(root=ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    done = run([str(script), "--version"], project, environment)
    assert done.returncode == 0, done.stderr


def test_who_uses_the_library_keeps_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("print('mine')\n")
    environment = {**os.environ, "PYTHONPATH": f":{ROOT}"}
    program = "import warehouse, warehouse.actors, own"
    (tmp_path / "tool.py").write_text(program + "\n")
    for words in (["-c", program], ["tool.py"], ["-m", "tool"]):
        done = run([sys.executable, *words], tmp_path, environment)
        assert done.stdout == "mine\n", done.stderr


def test_a_checkout_still_runs_from_its_own_folder() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for module in (
        "warehouse",
        "actors.master",
        "actors.volume",
        "actors.compactor",
        "warehouse.actors.master",
    ):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_title_is_seen_in_the_process_list() -> None:
    command = module_command("warehouse.conf", "sample", title="warehouse up")
    assert "warehouse up" in " ".join(command)
    assert run(command, ROOT, module_environment({**os.environ, "PYTHONPATH": str(ROOT)})).returncode == 0
