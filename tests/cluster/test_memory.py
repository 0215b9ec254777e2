"""No path holds a whole object: one of 512 MB, or 2 GB, through put and get, every process under 150 MB."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT, RunningStore, environment

PIECE = 64 * 1024**2
PEAK_MAX = 150 * 1024**2

CLIENT = """
import json, sys, trio, warehouse

async def main():
    async with warehouse.connect(sys.argv[1]) as store:
        bucket = store.bucket("memory")
        if sys.argv[2] == "up":
            await bucket.upload("large", sys.argv[3])
        else:
            await bucket.download("large", sys.argv[3])

trio.run(main)
with open("/proc/self/status") as status:  # ru_maxrss would count the parent that forked us
    (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps({"peak": peak * 1024}))
"""

CROWD = """
import sys, trio, warehouse

async def main():
    async with warehouse.connect(sys.argv[1]) as store, trio.open_nursery() as nursery:
        bucket = store.bucket("memory")
        body = bytes(8 * 1024**2)
        for number in range(64):
            nursery.start_soon(bucket.put, f"crowd/{number}", body)

trio.run(main)
"""


def peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmHWM for {pid}")


def move(store: RunningStore, direction: str, path: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(store.profile), direction, str(path)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["peak"])


def write_random(path: Path, size: int) -> str:
    """Make a file of so many bytes; return its digest."""
    digest = hashlib.blake2b()
    with path.open("wb") as file:
        for _ in range(size // PIECE):
            piece = os.urandom(PIECE)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [512 * 1024**2, pytest.param(2 * 1024**3, marks=pytest.mark.long)])
def test_a_large_object_passes_through_every_process_under_150_mb(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    digest = write_random(source, size)
    with RunningStore(tmp_path / "store", volumes=1) as store:
        subprocess.run(
            [sys.executable, "-m", "warehouse", "mb", "wh://memory", "--profile", str(store.profile)],
            env=store.env,
            check=True,
            timeout=120,
        )
        peaks = {"client up": move(store, "up", source)}
        source.unlink()  # or the same bytes are on the disk three times
        peaks["client down"] = move(store, "down", target)
        peaks.update({name: peak(pid) for name, pid in store.pids().items()})
        peaks["cluster"] = peak(store.pid)
    assert digest_of(target) == digest
    print({name: f"{value / 1024**2:.0f} MiB" for name, value in peaks.items()})
    assert all(value < PEAK_MAX for value in peaks.values()), peaks


@pytest.mark.timeout(300)
def test_sixty_four_uploads_at_once_leave_every_actor_under_150_mb(tmp_path: Path) -> None:
    with RunningStore(tmp_path / "store", volumes=1) as store:
        subprocess.run(
            [sys.executable, "-m", "warehouse", "mb", "wh://memory", "--profile", str(store.profile)],
            env=store.env,
            check=True,
            timeout=120,
        )
        subprocess.run(
            [sys.executable, "-c", CROWD, str(store.profile)],
            env=environment(),
            cwd=ROOT,
            check=True,
            timeout=120,
        )
        peaks = {name: peak(pid) for name, pid in store.pids().items()}
    print({name: f"{value / 1024**2:.0f} MiB" for name, value in peaks.items()})
    assert all(value < PEAK_MAX for value in peaks.values()), peaks
