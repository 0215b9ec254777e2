"""The search for secrets that every store of the cluster tests goes through finds what it is there to find."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from secret_search import places_of, secrets_of
from warehouse.actors.control.keyring import Keyring

KEPT = ["access.pem: private key", "curve.key: secret", "data.json: secret"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    (folder / "master").mkdir(parents=True)
    Keyring.load_or_create(folder / "master" / "keys")
    (folder / "profile.toml").write_text(f'secret = "{secrets.token_urlsafe(32)}"\n')
    return folder


def test_every_secret_of_the_keyring_and_the_profile_is_known(data: Path) -> None:
    found = secrets_of(data)
    assert "profile.toml: secret" in found
    assert {f"master/keys/{name}" for name in KEPT} <= found.keys()
    assert places_of(found, data) == []


@pytest.mark.parametrize(
    "write",
    [
        lambda secret: b"login with " + secret,
        lambda secret: b"x" + base64.b64encode(secret) + b"x",
        lambda secret: base64.urlsafe_b64decode(secret + b"="),
        lambda secret: secret.hex().encode(),
    ],
    ids=["as it is", "in base64", "its bytes", "in hexadecimal"],
)
def test_a_secret_in_a_file_or_a_log_is_found_in_every_form(data: Path, tmp_path: Path, write) -> None:
    found = secrets_of(data)
    secret = found["profile.toml: secret"]
    log = tmp_path / "store.log"
    log.write_bytes(write(secret))
    assert places_of(found, data, [log]) == [f"profile.toml: secret stands in {log}"]
    beside = data / "master" / "catalog.sqlite3"
    beside.write_bytes(b"\0" * 5000 + write(secret))
    assert places_of(found, data) == [f"profile.toml: secret stands in {beside}"]


def test_a_secret_in_a_command_line_or_an_environment_is_found(data: Path) -> None:
    found = secrets_of(data)
    secret = found["profile.toml: secret"].decode()
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", secret],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "SECRET": secret},
    )
    assert child.stdout is not None
    try:
        child.stdout.readline()  # it runs, so the kernel shows what it was started with
        places = places_of(found, data, pids=[child.pid])
    finally:
        child.communicate(b"\n", timeout=120)
    assert places == [
        f"profile.toml: secret stands in /proc/{child.pid}/{name}" for name in ("cmdline", "environ")
    ]
