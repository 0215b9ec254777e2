"""Keys of a real store, made with the command line: they work where they should, and stop working when they should."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from harness import RunningStore

GONE_S = 15.0  # what takes a second, on a loaded machine


def command(
    store: RunningStore, *words: str, profile: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "warehouse", *words, "--profile", str(profile or store.profile)],
        env=store.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def done(store: RunningStore, *words: str, profile: Path | None = None, stdin: str = "") -> Any:
    ran = command(store, *words, "--json", profile=profile, stdin=stdin)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def refused(store: RunningStore, code: str, *words: str, profile: Path) -> None:
    ran = command(store, *words, profile=profile)
    assert ran.returncode == 1
    assert f"({code})" in ran.stderr


def is_void_soon(url: str) -> bool:
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        try:
            urlopen(url, timeout=30).close()
        except HTTPError as error:
            return error.code == 401
        time.sleep(0.05)
    return False


@pytest.mark.timeout(300)
def test_a_key_of_a_part_of_a_bucket_from_its_making_to_its_end(tmp_path: Path) -> None:
    profile, file = tmp_path / "worker.toml", tmp_path / "cat.jpg"
    file.write_bytes(b"a picture")
    with RunningStore(tmp_path / "store") as store:
        done(store, "mb", "wh://photos")
        words = ("--grant", "photos/2026/*:all", "--save-profile", str(profile))
        made = done(store, "keys", "create", "worker", *words)
        key_id, secret = made["key_id"], made["secret"]
        assert secret in profile.read_text()
        assert command(store, "cp", str(file), "wh://photos/2026/cat.jpg", profile=profile).returncode == 0
        refused(store, "permission_denied", "cp", str(file), "wh://photos/2025/cat.jpg", profile=profile)
        url = done(store, "presign", "wh://photos/2026/cat.jpg", profile=profile)["url"]
        with urlopen(url, timeout=30) as answer:
            assert answer.read() == b"a picture"
        assert done(store, "keys", "show", key_id)["last_used_ms"] is not None
        done(store, "keys", "disable", key_id)
        assert is_void_soon(url)
        refused(store, "bad_credentials", "ls", "wh://photos/2026/", profile=profile)
        done(store, "keys", "enable", key_id)
        assert command(store, "cat", "wh://photos/2026/cat.jpg", profile=profile).stdout == "a picture"
        done(store, "keys", "rotate", key_id, "--now", "--save-profile", str(profile), "--force")
        assert command(store, "cat", "wh://photos/2026/cat.jpg", profile=profile).stdout == "a picture"
        done(store, "keys", "rm", key_id, "--yes")
        refused(store, "bad_credentials", "cat", "wh://photos/2026/cat.jpg", profile=profile)
    # The profile is outside of the store, which has the secret sealed.
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
