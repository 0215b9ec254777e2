"""The console as a process: it starts with the store, alone, and again; its port speaks TLS where others do."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from harness import RunningStore, free_port_base


def fetch(url: str, authority: Path | None = None) -> tuple[int, dict[str, str]]:
    context = None if authority is None else ssl.create_default_context(cafile=str(authority))
    with urllib.request.urlopen(url, context=context, timeout=20) as answer:
        return answer.status, dict(answer.headers)


def test_the_ready_line_says_where_the_console_is_and_it_answers(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "data", has_console=True) as store:
        ready = store.events[-1]
        assert ready["console"] == f"http://127.0.0.1:{store.port_base + 80}"
        status, headers = fetch(ready["console"] + "/sign-in")
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert (tmp_path / "data" / "console").stat().st_mode & 0o077 == 0


def test_a_store_without_a_console_has_none(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "data", config='[console]\nmode = "off"\n', has_console=True) as store:
        assert "console" not in store.events[-1]
        assert "console" not in store.pids()


def test_a_console_that_dies_is_started_again(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "data", has_console=True) as store:
        url = store.events[-1]["console"] + "/sign-in"
        os.kill(store.pids()["console"], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert fetch(url)[0] == 200
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_the_console_speaks_tls_with_a_certificate_of_the_store(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "data", has_console=True, config='[tls]\nmode = "on"\n') as store:
        url = store.events[-1]["console"]
        assert url.startswith("https://")
        status, headers = fetch(url + "/sign-in", tmp_path / "data" / "master" / "authority.pem")
        assert status == 200
        assert headers["strict-transport-security"]
        for name in ("tls.key", "tls.pem"):
            assert (tmp_path / "data" / "console" / name).stat().st_mode & 0o077 == 0


def test_a_console_can_be_started_alone_and_behind_a_path(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "data") as store:
        port = free_port_base() + 80
        command = [sys.executable, "-m", "warehouse.webui", "--json", "--port", str(port)]
        command += ["--profile", str(store.profile), "--url", f"http://127.0.0.1:{port}/files"]
        with subprocess.Popen(
            command, env=store.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as console:
            assert console.stdout is not None
            ready = json.loads(console.stdout.readline())
            assert ready == {"event": "ready", "url": f"http://127.0.0.1:{port}/files"}
            for path in ("/files/sign-in", "/sign-in"):  # the proxy leaves the path there, or takes it away
                assert fetch(f"http://127.0.0.1:{port}{path}")[0] == 200
            console.terminate()
            assert console.wait(30) == 0
