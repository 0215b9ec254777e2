"""A disk dies for good: it is removed with what is lost, and everything else goes on, also after a rebuild."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from harness import RunningStore
from warehouse.catalog.sqlite.recount import check_counts
from warehouse.errors import NoSuchObject

NAMES = [f"{number:02}" for number in range(40)]
CHUNK = 1 << 20
SETTINGS = "[store]\nchunk_size = 1048576\n"


def command(store: RunningStore, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "warehouse", *words, "--profile", str(store.profile)],
        env=store.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def removed(store: RunningStore) -> dict[str, Any]:
    """Ask until the disk has been away for long enough."""
    deadline = time.monotonic() + 60
    while True:
        done = command(store, "disks", "rm", "disk-2", "--yes", "--json")
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        assert "disk_online" in done.stdout + done.stderr, done.stdout + done.stderr
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.timeout(300)
def test_a_lost_disk_takes_its_objects_along_and_nothing_else(tmp_path: Path) -> None:
    store = RunningStore(tmp_path / "store", config=SETTINGS)
    machine = tmp_path / "machine"
    content = {name: name.encode() * 10 for name in NAMES} | {"large": b"0123456789abcdef" * (CHUNK // 2)}

    async def fill() -> None:
        async with warehouse.connect(store.profile) as client:
            await client.create_bucket("photos")
            for name, data in content.items():
                await client.bucket("photos").put(name, data)

    async def look(lost: set[str]) -> None:
        kept = {name: data for name, data in content.items() if name not in lost}
        async with warehouse.connect(store.profile) as client:
            photos = client.bucket("photos")
            assert {entry.key async for entry in photos.list()} == kept.keys()
            for name, data in content.items():
                if name in kept:
                    assert await photos.get(name) == data
                else:
                    with pytest.raises(NoSuchObject):
                        await photos.get(name)
            [info] = await client.buckets()
            assert (info.object_count, info.byte_count) == (len(kept), sum(map(len, kept.values())))
            status = await client.status()
            assert ([disk.name for disk in status.disks], status.troubles) == (["disk-1"], [])
            assert await photos.put("new", b"new")
            await photos.delete("new")

    with store:
        machine.mkdir()
        join_file = machine / "join.toml"
        assert command(store, "join-token", "create", "--output", str(join_file)).returncode == 0
        words = ["volume", "--disk", str(machine / "disk-2"), "--join", str(join_file), "--port", "0"]
        actor = subprocess.Popen(
            [sys.executable, "-m", "warehouse", *words], env=store.env, stdout=subprocess.PIPE
        )
        try:
            assert actor.stdout is not None
            assert actor.stdout.readline().startswith(b"ready")
            trio.run(fill)
            refused = command(store, "disks", "rm", "disk-2", "--yes")
            assert (refused.returncode != 0, "disk_online" in refused.stderr) == (True, True), refused.stderr
        finally:
            actor.kill()
            actor.communicate()
        shutil.rmtree(machine / "disk-2")
        listed = [
            json.loads(line)
            for line in command(store, "disks", "lost", "disk-2", "--json").stdout.splitlines()
        ]
        lost = {one["key"] for one in listed}
        assert len(listed) == len(lost)
        assert 0 < len(lost) < len(NAMES)
        assert "large" in lost, "it has chunks on both disks"
        done = removed(store)
        assert done["object_count"] == len(lost)
        assert (
            done["byte_count"]
            == sum(len(content[name]) for name in lost)
            == sum(one["size"] for one in listed)
        )
        trio.run(look, lost)
        store.stop()
        assert check_counts(store.data / "master" / "catalog.sqlite3") == []
        # What the other disk says of itself agrees.
        subprocess.run(
            [sys.executable, "-m", "warehouse", "rebuild", "--replace", "--data", str(store.data)],
            env=store.env,
            capture_output=True,
            timeout=120,
            check=True,
        )
        assert check_counts(store.data / "master" / "catalog.sqlite3") == []
        store.start()
        trio.run(look, lost)
