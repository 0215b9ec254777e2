"""Idle: what a store that nobody uses spends of the processor.

    python bench/idle.py [--volumes N] [--objects N] [--seconds S] [--json]

A store of real processes gets some objects, also over S3, is left alone, and is then watched: user and system
time of each actor, in percent of one core, how often its threads were woken, and its resident memory.  Goals:
all actors together under 1 %, a gateway of S3 under 0.5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]  # runs from any checkout

import warehouse  # noqa: E402
from bench.one_master import cpu_s  # noqa: E402
from harness import RunningStore  # noqa: E402
from warehouse.conf.profile import Profile  # noqa: E402

CALM_S = 10.0  # after the last request: what it leaves to do is done by then
GOAL_PERCENT = 1.0
GATEWAY_PERCENT = 0.5

Figures = dict[str, dict[str, float]]


async def fill(store: RunningStore, object_count: int) -> None:
    async with warehouse.connect(store.profile) as client:
        bucket = await client.create_bucket("idle")
        async for result in bucket.put_many((f"object-{n:06}", b"x" * 4096) for n in range(object_count)):
            if result.error is not None:
                raise result.error


def look_by_s3(store: RunningStore) -> None:
    """Have a gateway meet an API key, whose connection then stays."""
    profile = Profile.load(store.profile)
    subprocess.run(
        [sys.executable, str(ROOT / "bench" / "s3_sign.py"), "create", store.events[-1]["s3"], "by-s3"],
        env={**os.environ, "AWS_ACCESS_KEY_ID": profile.key_id, "AWS_SECRET_ACCESS_KEY": profile.secret},
        check=True,
        timeout=120,
    )


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def switches(pid: int) -> dict[str, int]:
    """How often each thread of a process gave the processor up to wait for something."""
    counts = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                counts[status.parent.name] = int(line.split()[1])
    return counts


def watch(pids: dict[str, int], seconds: float) -> Figures:
    before = {name: (cpu_s(pid), switches(pid)) for name, pid in pids.items()}
    started = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    figures = {}
    for name, pid in pids.items():
        spent, counts = before[name]
        woken = sum(count - counts.get(thread, 0) for thread, count in switches(pid).items())
        figures[name] = {
            "percent": round((cpu_s(pid) - spent) / elapsed * 100, 3),
            "wakeups_per_s": round(woken / elapsed, 1),
            "resident_mb": round(resident(pid) / 1e6, 1),
        }
    figures["all"] = {
        what: round(sum(values[what] for values in figures.values()), 3)
        for what in ("percent", "wakeups_per_s", "resident_mb")
    }
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=1, help="volume actors, each with its compactor")
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="warehouse-idle-") as folder,
        RunningStore(Path(folder) / "store", volumes=arguments.volumes, has_s3=True) as store,
    ):
        trio.run(fill, store, arguments.objects)
        look_by_s3(store)
        time.sleep(CALM_S)
        figures = watch({"cluster": store.pid, **store.pids()}, arguments.seconds)
    if arguments.json:
        print(json.dumps(figures))
        return 0
    print("              % of a core   wake-ups a second   resident MB")
    for name, values in figures.items():
        woken, resident_mb = values["wakeups_per_s"], values["resident_mb"]
        print(f"{name:14}{values['percent']:11.3f} {woken:19.1f} {resident_mb:13.1f}")
    print(f"goals: all together under {GOAL_PERCENT:.0f} %, a gateway under {GATEWAY_PERCENT} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
