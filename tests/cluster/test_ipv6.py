"""A store on IPv6 alone: its addresses are in brackets wherever they are written, and all of it works."""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

import warehouse
from harness import RunningStore, environment


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")

BARE = re.compile(r"//::|(?<!\[)::1\b")  # an IPv6 address without its brackets


def command(store: RunningStore, *words: str, profile: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "warehouse", *words, "--profile", str(profile or store.profile)],
        env=store.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


@contextmanager
def actor(name: str, *words: str) -> Iterator[dict[str, str]]:
    """Run one actor alone; yields what it says when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"warehouse.actors.{name}", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        deadline = time.monotonic() + 30
        event: dict[str, str] = {}
        while event.get("event") != "ready":
            assert select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            event = json.loads(process.stdout.readline() or "{}")
        yield event
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def joined_master(store: RunningStore) -> str:
    return str(tomllib.loads((store.data / "master" / "join.toml").read_text())["master"])


@pytest.mark.timeout(300)
def test_a_store_on_ipv6_works_from_its_start_to_its_urls(tmp_path: Path) -> None:
    async def use(profile: Path) -> str:
        async with warehouse.connect(profile) as client:
            await client.create_bucket("photos")
            bucket = client.bucket("photos")
            await bucket.put("a", b"hello")
            many = [(f"many/{number}", b"x" * number) for number in range(1, 40)]
            assert len([written async for written in bucket.put_many(many)]) == 39
            assert await bucket.get("a") == b"hello"
            assert len([item async for item in bucket.list()]) == 40
            return await bucket.presign_get("a")

    with RunningStore(tmp_path / "store", arguments=["--host", "[::1]"]) as store:
        base = store.port_base
        ready = store.events[-1]
        assert ready["master"] == joined_master(store) == f"tcp://[::1]:{base}"
        assert ready["master_http"] == f"http://[::1]:{base + 1}"
        assert ready["volumes"] == [f"http://[::1]:{base + 10}"]
        url = trio.run(use, store.profile)
        assert url.startswith(f"http://[::1]:{base + 10}/")
        assert urllib.request.urlopen(url, timeout=30).read() == b"hello"
        assert urllib.request.urlopen(ready["master_http"] + "/healthz", timeout=30).status == 200
        join = str(store.data / "master" / "join.toml")
        disk = str(tmp_path / "another")
        with (
            actor("volume", "--disk", disk, "--join", join, "--host", "::1", "--port", "0") as volume,
            actor("compactor", "--disk", disk, "--join", join),
        ):
            assert re.fullmatch(r"http://\[::1\]:\d+", volume["url"])
            status = command(store, "status")
            assert volume["url"] in status
            assert f"http://[::1]:{base + 10}" in status
            assert "another" in json.loads(command(store, "status", "--json"))["compactors"]
            assert not BARE.search(status + command(store, "volumes"))
        assert not BARE.search(store.log.read_text())


@pytest.mark.timeout(300)
def test_a_store_that_listens_everywhere_is_reached_over_both(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", arguments=["--host", "::", "--advertise", "::1"]) as store:
        base = store.port_base
        assert store.events[-1]["master"] == f"tcp://[::1]:{base}"
        command(store, "mb", "wh://photos")
        over_ipv4 = tmp_path / "ipv4.toml"
        over_ipv4.write_text(store.profile.read_text().replace("[::1]", "127.0.0.1"))
        over_ipv4.chmod(0o600)
        assert "photos" in command(store, "ls", profile=over_ipv4)
        assert store.events[-1]["volumes"] == [f"https://[::1]:{base + 10}"]
        assert store.events[-1]["master_http"] == f"http://[::1]:{base + 1}"  # health stays on this machine
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, base + 10), timeout=30).close()
