"""Operation costs: CPU microseconds of client, volume actor and master for one small put and one small get.

    python bench/operation_costs.py [--against CHECKOUT] [--objects 16000] [--tasks 32] [--rounds 5]

One client process puts and gets objects one by one through the library, by some tasks at once; every put is
fsynced.  With `--against` another checkout of the source runs a store and a client of its own, and both take
turns in every round, so that what else the machine does falls on both.

Processor time says what an operation takes of the machine, whoever else is busy on it; a rate does not.
The table shows medians over the rounds.  What is left over on one core is the rate that one client reaches:
a second divided by the client's microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.machine import Machine, cpu_seconds  # noqa: E402
from harness import RunningStore  # noqa: E402

OPERATIONS = ("put", "get")
BUCKET = "costs"


@dataclass
class Side:
    """A checkout of the source: its store, and what was measured."""

    name: str
    checkout: Path
    store: RunningStore
    costs: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # (operation, process or "rate")

    def measure(self, operation: str, prefix: str, arguments: argparse.Namespace) -> None:
        count = max(1, arguments.objects // arguments.tasks)
        command = [sys.executable, str(self.checkout / "bench" / "load.py"), operation, "--wait"]
        command += ["--profile", str(self.store.profile), "--bucket", BUCKET, "--prefix", prefix]
        command += ["--tasks", str(arguments.tasks), "--count", str(count), "--known", str(count)]
        command += ["--size", str(arguments.size)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.store.env
        ) as load:
            assert load.stdin is not None
            assert load.stdout is not None
            if load.stdout.readline() != "ready\n":
                raise SystemExit(f"the load of {self.name} did not begin")
            pids = {name: pid for name, pid in self.store.pids().items() if "compactor" not in name}
            before = {name: cpu_seconds([pid]) for name, pid in pids.items()}
            load.stdin.write("\n")
            load.stdin.flush()
            result = json.loads(load.stdout.readline())
            after = {name: cpu_seconds([pid]) for name, pid in pids.items()}
        spent = {name: after[name] - before[name] for name in pids}
        spent = {"client": result["cpu_s"], "master": spent.pop("master"), "volume": sum(spent.values())}
        for name, seconds in (*spent.items(), ("all", sum(spent.values()))):
            self.costs.setdefault((operation, name), []).append(seconds / result["count"] * 1e6)
        self.costs.setdefault((operation, "rate"), []).append(result["rate"])

    def median(self, operation: str, name: str) -> float:
        return statistics.median(self.costs[operation, name])


async def make_bucket(profile: Path) -> None:
    async with warehouse.connect(profile) as client:
        await client.create_bucket(BUCKET)


def started(name: str, checkout: Path, folder: Path, stack: ExitStack) -> Side:
    # Not the folder that we stand in, nor what is installed: the source of that checkout.
    source = {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    store = stack.enter_context(RunningStore(folder / name, env=source, is_searched=checkout == ROOT))
    trio.run(make_bucket, store.profile)
    return Side(name, checkout, store)


def print_table(sides: list[Side]) -> None:
    columns = ("client", "volume", "master", "all")
    print(f"{'us of CPU':16}" + "".join(f"{name:>9}" for name in columns) + f"{'a second':>11}")
    for operation in OPERATIONS:
        for side in sides:
            cells = "".join(f"{side.median(operation, name):9.1f}" for name in columns)
            print(f"{operation} {side.name:12}{cells}{side.median(operation, 'rate'):11,.0f}")
        if len(sides) == 2:
            ratios = (
                statistics.median(
                    ours / theirs
                    for ours, theirs in zip(
                        sides[1].costs[operation, name], sides[0].costs[operation, name], strict=True
                    )
                    if theirs
                )
                for name in (*columns, "rate")
            )
            print(f"{'':16}" + "".join(f"{ratio:9.3f}" for ratio in ratios))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--objects", type=int, default=16_000, help="of each operation in a round")
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warehouse-costs-")))
        sides = []
        if arguments.against:
            sides.append(started("before", arguments.against.resolve(), folder, stack))
        sides.append(started("now", ROOT, folder, stack))
        for number in range(arguments.rounds):
            for operation in OPERATIONS:
                for side in sides:
                    side.measure(operation, f"round-{number}", arguments)
    print(f"{Machine.this()}; {arguments.size} bytes, {arguments.tasks} tasks, {arguments.rounds} rounds")
    print_table(sides)


if __name__ == "__main__":
    main()
