"""The audit log of a real store: what was done and refused is in it, read by the command, and no secret is."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from audit_kit import require_no_secret_in_the_audit_log

import warehouse
from harness import RunningStore
from warehouse.conf.audit_files import AUDIT_NAME
from warehouse.errors import BadCredentials


def audit(store: RunningStore, *words: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-P", "-m", "warehouse", "audit", "--json", *words]
    done = subprocess.run(command, env=store.env, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def status_of(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        return connection.getresponse().status
    finally:
        connection.close()


async def use(profile: Path) -> str:
    async with warehouse.connect(profile) as store:
        photos = await store.create_bucket("photos")
        await photos.put("cat.jpg", b"cat")
        url = await photos.presign_get("cat.jpg")
        await photos.delete("cat.jpg")
        await store.delete_bucket("photos")
        return url


async def guess(profile: Path) -> None:
    known = warehouse.Profile.load(profile)
    wrong = warehouse.Profile(
        master=known.master, server_key=known.server_key, key_id=known.key_id, secret="a wrong guess"
    )
    with pytest.raises(BadCredentials):
        async with warehouse.connect(wrong):
            pass


@pytest.mark.timeout(300)
def test_who_did_what_is_in_the_log_of_a_store(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store") as store:
        url = trio.run(use, store.profile)
        trio.run(guess, store.profile)
        assert status_of(url[:-1] + ("A" if url[-1] != "A" else "B")) == 401
        deadline = time.monotonic() + 30
        while not (refused := audit(store, "--profile", str(store.profile), "--action", "tokens_refused")):
            assert time.monotonic() < deadline, "the disk never told of the token"
        assert refused[0]["result"] == "token_invalid"
        assert refused[0]["target"] == "disk-1"
        lines = audit(store, "--profile", str(store.profile), "--since", "1h")
        done = [(line["action"], line["result"]) for line in lines]
        wanted = [
            *(("master_started", "ok"), ("disk_registered", "ok"), ("login", "ok"), ("bucket_created", "ok")),
            *(("url_signed", "ok"), ("objects_deleted", "ok"), ("bucket_deleted", "ok")),
            ("login", "bad_credentials"),
        ]
        places = [done.index(one) for one in wanted]
        assert places == sorted(places)
        assert audit(store, "--data", str(store.data))[: len(lines)] == lines
        secret = url.partition("token=")[2]
    assert require_no_secret_in_the_audit_log(store.data / "master", [secret, "a wrong guess"]) > 8
    assert (store.data / "master" / AUDIT_NAME).stat().st_mode & 0o777 == 0o600
