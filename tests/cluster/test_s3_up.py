"""`warehouse up` starts S3 gateways: where the ready line says, as many as are wanted, and again when they die."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from harness import RunningStore, environment
from s3_kit import client_of
from warehouse.conf.profile import Profile
from warehouse.conf.programs import module_command

WAIT_S = 30.0


@contextmanager
def client(store: RunningStore, **options: Any) -> Iterator[Any]:
    profile = Profile.load(store.profile)
    made = client_of(store.events[-1]["s3"], profile.key_id, profile.secret, **options)
    try:
        yield made
    finally:
        made.close()
        del made
        gc.collect()  # its connections hang in circles


def nodes(store: RunningStore) -> list[dict[str, Any]]:
    words = ["nodes", "ls", "--json", "--profile", str(store.profile)]
    ran = subprocess.run(
        [*module_command("warehouse"), *words], env=environment(), check=True, timeout=60, capture_output=True
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_several_gateways_share_a_port_and_one_that_dies_is_started_again(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "data", config="[s3]\nprocesses = 3\n", has_s3=True) as store:
        ready = store.events[-1]
        assert ready["s3"] == f"http://127.0.0.1:{store.port_base + 90}"
        pids = {name: pid for name, pid in store.pids().items() if name.startswith("gateway")}
        assert sorted(pids) == ["gateway-1", "gateway-2", "gateway-3"]
        assert pids.items() <= ready["pids"].items()
        assert _who_answers(ready["s3"]) == set(pids)
        with client(store) as s3:
            s3.create_bucket(Bucket="photos")
            s3.put_object(Bucket="photos", Key="a", Body=b"bytes of a")
            assert s3.get_object(Bucket="photos", Key="a")["Body"].read() == b"bytes of a"
        [gateway] = [node for node in nodes(store) if node["role"] == "gateway"]
        assert (gateway["name"], gateway["is_online"]) == ("gateway", True)
        for number in range(3):
            health = f"http://127.0.0.1:{store.port_base + 190 + number}/healthz"
            with urllib.request.urlopen(health, timeout=20) as answer:
                assert answer.read() == b'{"status":"ok"}'

        os.kill(pids["gateway-2"], signal.SIGKILL)
        deadline = time.monotonic() + WAIT_S
        while _who_answers(ready["s3"]) != set(pids) or store.pids()["gateway-2"] == pids["gateway-2"]:
            assert time.monotonic() < deadline

        other = RunningStore(tmp_path / "other", has_s3=True, port_base=store.port_base)
        with pytest.raises(AssertionError, match="did not become ready"):
            other.start()
        assert not other.data.exists()


def _who_answers(url: str) -> set[str]:
    """Which gateways take new connections; each names itself in its answers."""
    found = set()
    for _ in range(60):
        try:
            urllib.request.urlopen(url, timeout=20)
        except urllib.error.HTTPError as refusal:
            found.add(refusal.headers["x-amz-id-2"])
            refusal.close()
        except OSError:  # it was taken by the one that is gone
            continue
    return found


def test_a_gateway_speaks_tls_with_a_certificate_for_every_bucket_and_can_be_left_out(tmp_path: Path) -> None:
    config = '[tls]\nmode = "on"\n[s3]\ndomains = ["s3.localhost"]\n'
    with RunningStore(tmp_path / "data", has_s3=True, config=config) as store:
        url, authority = store.events[-1]["s3"], store.data / "master" / "authority.pem"
        assert url == f"https://127.0.0.1:{store.port_base + 90}"
        with client(store) as s3, pytest.raises(botocore.exceptions.SSLError):
            s3.list_buckets()
        context = ssl.create_default_context(cafile=str(authority))
        for host in ("127.0.0.1", "s3.localhost", "photos.s3.localhost"):
            with (
                socket.create_connection(("127.0.0.1", store.port_base + 90), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname=host) as secure,
            ):
                assert secure.version() in ("TLSv1.2", "TLSv1.3")
        for name in ("tls.key", "tls.pem", "node.key"):
            assert stat.S_IMODE((store.data / "gateway" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((store.data / "gateway").stat().st_mode) == 0o700

    without = "[s3]\nprocesses = 0\n"
    with RunningStore(tmp_path / "data", has_s3=True, config=without, port_base=store.port_base) as again:
        assert "s3" not in again.events[-1]
        assert not [name for name in again.pids() if name.startswith("gateway")]
        [gateway] = [node for node in nodes(again) if node["role"] == "gateway"]
        assert not gateway["is_online"]
