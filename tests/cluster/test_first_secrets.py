"""The first secrets of a store: they reach their owner, and no log that keeps what a service prints."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import warehouse
from harness import RunningStore, environment, free_port_base
from warehouse.conf.profile import Profile


def master(data: Path, *words: str) -> subprocess.Popen[str]:
    base = free_port_base(1)
    command = [sys.executable, "-m", "warehouse.actors.master", "--data", str(data), "--json"]
    command += ["--port", str(base), "--http-port", str(base + 1), *words]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def events_until(process: subprocess.Popen[str], last: str) -> list[dict[str, Any]]:
    assert process.stdout is not None
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 1)[0]:
            events.append(json.loads(process.stdout.readline()))
            if events[-1]["event"] == last:
                return events
    raise AssertionError(f"no {last} within a minute: {events}")


@pytest.mark.timeout(300)
def test_up_names_the_profile_and_prints_no_secret(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store") as store:
        ready = store.events[-1]
        profile = Profile.load(Path(ready["profile"]))
        assert ready["root_key"] == {"key_id": profile.key_id}
    printed = json.dumps(store.events) + store.log.read_text()
    assert profile.secret not in printed


@pytest.mark.timeout(300)
async def test_a_serving_master_writes_the_root_key_to_a_file(tmp_path: Path) -> None:
    process = master(tmp_path / "master")
    try:
        founded, *_ = events_until(process, "ready")
        path = Path(founded["profile"])
        profile = Profile.load(path)  # refuses a file that others may read
        assert (founded["event"], founded["key_id"]) == ("founded", profile.key_id)
        async with warehouse.connect(path) as client:
            await client.create_bucket("photos")
    finally:
        process.terminate()
        printed, logged = process.communicate(timeout=120)
    assert "secret" not in founded
    assert profile.secret not in json.dumps(founded) + printed + logged


@pytest.mark.timeout(300)
def test_init_prints_the_secret_once_because_it_is_a_command(tmp_path: Path) -> None:
    printed, _ = master(tmp_path / "master", "--init").communicate(timeout=120)
    [founded] = [json.loads(line) for line in printed.splitlines()]
    assert len(founded["secret"]) > 30
    assert "profile" not in founded
    assert not (tmp_path / "master" / "profile.toml").exists()
    printed, _ = master(tmp_path / "master", "--init").communicate(timeout=120)
    assert [json.loads(line)["event"] for line in printed.splitlines()] == ["exists"]
    assert founded["secret"] not in printed
