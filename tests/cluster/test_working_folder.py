"""Commands in a folder that holds anything: they work, and run none of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import environment, free_port_base
from warehouse.actors.private_folder import DISK_NAMES, MASTER_NAMES, STORE_NAMES, is_one_of

NAMES = [
    *("conf", "errors", "auth", "catalog", "transport", "actors", "rescue", "client", "bench"),
    *("trio", "zmq", "msgspec", "crc32c", "httptools", "jwt", "cyclopts", "rich", "structlog"),
    *("logging", "json", "socket", "sqlite3", "sitecustomize", "usercustomize"),
]
TRAP = (
    "import os\nopen(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'RAN'), 'a').write(__name__)\n"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "storage").mkdir(parents=True)
    for path in [folder / f"{name}.py" for name in NAMES] + [folder / "storage" / "__init__.py"]:
        path.write_text(TRAP)
    return folder


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """The script that an installation has."""
    script = tmp_path / "bin" / "warehouse"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom warehouse.__main__ import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return script


@contextmanager
def running(warehouse: Path, folder: Path, base: int) -> Iterator[int]:
    """A store that `warehouse up` started there; gives its process id."""
    command = [str(warehouse), "up", "--json", "--port-base", str(base)]
    with (folder.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready, (folder.parent / "log").read_text()
        assert json.loads(ready)["event"] == "ready"
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def test_a_store_and_all_its_commands_run_nothing_of_the_working_folder(
    warehouse: Path, project: Path
) -> None:
    def command(*words: str) -> None:
        done = subprocess.run(
            [str(warehouse), *words], cwd=project, env=environment(), capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr.decode()

    with running(warehouse, project, free_port_base(1)) as pid:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        assert b"warehouse up" in shown
        command("mb", "wh://made")
        command("cp", "conf.py", "wh://made/conf.py")
        command("bench", "put", "--processes", "2", "--seconds", "0.1")
        command("backup", "--unencrypted", "backup.tar")
        open_to_others = [
            path for path in (project / "warehouse-data").rglob("*") if path.stat().st_mode & 0o077
        ]
        assert open_to_others == []
        for names, folder in ((STORE_NAMES, "."), (MASTER_NAMES, "master"), (DISK_NAMES, "disk-1")):
            present = os.listdir(project / "warehouse-data" / folder)
            unknown = [name for name in present if not is_one_of(name, names)]
            assert not unknown, f"actors/private_folder.py does not know {unknown} in {folder}"
    command("export", "--to", "exported")
    command("rebuild", "--replace")
    command("restore", "backup.tar")
    assert (project / "exported" / "made" / "conf.py").read_text() == TRAP
    assert not (project / "RAN").exists(), (project / "RAN").read_text()


def test_an_up_that_is_refused_leaves_no_folder_behind(warehouse: Path, tmp_path: Path) -> None:
    base = free_port_base(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base))
        taken.listen()
        done = subprocess.run(
            [str(warehouse), "up", "--data", "other/data", "--port-base", str(base), "--json"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert f"port {base}" in done.stderr
    assert json.loads(done.stdout)["event"] == "failed"
    assert not os.path.lexists(tmp_path / "other")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["up", "--bogus"], "wrong_usage"),
        (["up", "--volumes", "0"], "bad_setting"),
        (["up", "--config", "none.toml"], "bad_setting"),
        (["rebuild", "--bogus"], "wrong_usage"),
        (["rebuild"], None),
        (["export", "--to", "here"], None),
        (["backup", "b.tar"], None),
        (["restore", "b.tar"], None),
    ],
)
def test_programs_that_fail_say_so_as_an_event(
    warehouse: Path, tmp_path: Path, words: list[str], code: str | None
) -> None:
    done = subprocess.run(
        [str(warehouse), *words, "--json"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (1, 2)
    event = json.loads(done.stdout.splitlines()[-1])
    assert event["event"] == "failed"
    assert code is None or event["code"] == code
    assert f"({event['code']})" in done.stderr or event["message"] in done.stderr
