"""Scaling: what a second volume actor adds on this machine, and on paper what up to 100 nodes would.

    python bench/scaling.py [--short] [--json FILE] [--markdown docs/performance.md]

Two stores run, one with one volume actor and one with two, on two directories of one disk, and are asked in
turn within each round: at the data port (`wrk`, one for each actor), through the library one object at a
time, in batches, and with objects of 80 MiB.  Where the machine's cores are the limit, two actors cannot do
more than one.  So small objects are measured once more with every actor held to a part of a core
(`processor_share.py`).

Then a master alone is asked what each thing costs it (`master_rate.py`) and what a hundred idle disks cost it
(`idle_links.py`), and the model of `scaling_model.py` puts together what nodes and master can do.
`--markdown` writes the section between two marks of that file anew, and its plot beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench import idle_links, master_rate, scaling_page  # noqa: E402
from bench.machine import Machine, made_folder  # noqa: E402
from bench.one_master import (  # noqa: E402
    client_of,
    connected,
    cpu_s,
    disk_of,
    make_catalog,
    running_master,
)
from bench.peer_machine import Environments, NotHere, busy_cores, say  # noqa: E402
from bench.processor_share import ProcessorShares  # noqa: E402
from bench.run import control_link  # noqa: E402
from bench.scaling_figures import (  # noqa: E402
    COMMIT_MANY,
    GETS,
    HTTP,
    KINDS,
    LARGE,
    LARGE_SIZE,
    MANY,
    ONE_BY_ONE,
    PUTS,
    SMALL_SIZE,
    Found,
    Kind,
    Sample,
    ratios_of,
    summed_up,
)
from harness import RunningStore, environment, free_port_base  # noqa: E402
from warehouse.cli.measuring.latencies import shares  # noqa: E402
from warehouse.transport.messages import Leased, LeaseNeedles, LocateObjects, ObjectsLocated  # noqa: E402

BUCKET = "scaling"
SETTINGS = """
[store]
lease_s = 3600
[compaction]
automatic = "off"
[verification]
automatic = "off"
"""
SHARE = 0.15  # of a core, for each actor that is held
LEASE_AT_ONCE = 1024
CONNECTIONS = {PUTS: 64, GETS: 32}
TASKS = 64  # of all client processes together
LARGE_PROCESSES = 2  # one object at a time each
PROCESSES_TRIED = (1, 2, 3)
PROCESSES_HELD = 4  # clients of actors that are held: their processor is not what counts then
IDLE_S = 3.0  # a store is watched for so long before anything is asked of it


@dataclass(frozen=True)
class Shape:
    """How much is measured."""

    rounds: int
    seconds: float
    small_count: int  # objects there are before the reads
    large_count: int  # of each measurement
    idle_s: float
    master_rounds: int


SHORT = Shape(rounds=3, seconds=1.0, small_count=4000, large_count=6, idle_s=10.0, master_rounds=2)
LONG = Shape(rounds=7, seconds=3.0, small_count=20_000, large_count=10, idle_s=20.0, master_rounds=5)


# --- the two stores -------------------------------------------------------------------------------


@dataclass
class Side:
    """A store of so many volume actors."""

    actors: int
    store: RunningStore
    volume_pids: list[int]
    master_pid: int
    master_idle: float = 0.0  # cores that its master uses while nothing is asked of it
    volume_idle: float = 0.0
    put_rates: dict[str, float] = field(default_factory=dict)
    runs: int = 0

    @property
    def profile(self) -> str:
        return str(self.store.profile)

    def prefix(self) -> str:
        """Keys that nobody has used yet."""
        self.runs += 1
        return f"run-{self.runs}"


def started(folder: Path, actors: int, shape: Shape, stack: ExitStack) -> Side:
    store = stack.enter_context(RunningStore(folder / f"store-{actors}", volumes=actors, config=SETTINGS))
    pids = store.pids()
    side = Side(actors, store, [pids[f"disk-{number + 1}"] for number in range(actors)], pids["master"])
    trio.run(fill, side, shape)
    time.sleep(IDLE_S)  # what was put is told to the master, and checkpointed
    watch = Watch(side)
    time.sleep(IDLE_S)
    side.volume_idle, side.master_idle = watch.idle_cores()
    return side


async def fill(side: Side, shape: Shape) -> None:
    """What is read later: small objects under a flat prefix, large ones."""
    async with warehouse.connect(side.store.profile) as client:
        bucket = await client.create_bucket(BUCKET)
        body = os.urandom(SMALL_SIZE)
        async for result in bucket.put_many(
            (f"{SMALL_SIZE}/{number:08}", body) for number in range(shape.small_count)
        ):
            if result.error is not None:
                raise result.error
        body = os.urandom(1 << 20) * (LARGE_SIZE >> 20)
        for number in range(shape.large_count):
            await bucket.put(f"{LARGE_SIZE}/{number:08}", body)


# --- one measurement ------------------------------------------------------------------------------


class Watch:
    """Processor time of a store's actors and of the whole machine between two moments."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy_s = (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # but idle, iowait
        volume_s = sum(cpu_s(pid) for pid in self._side.volume_pids)
        return volume_s, cpu_s(self._side.master_pid), busy_s, time.perf_counter()

    def _since(self) -> tuple[float, float, float, float]:
        volume_s, master_s, busy_s, seen_s = (
            after - before for after, before in zip(self._now(), self._before, strict=True)
        )
        return volume_s, master_s, busy_s, seen_s

    def idle_cores(self) -> tuple[float, float]:
        """What volume actors and master used since this watch was made."""
        volume_s, master_s, _, seen_s = self._since()
        return volume_s / seen_s, master_s / seen_s

    def sample(self, count: int, elapsed_s: float, *, clients: int, client_s: float) -> Sample:
        """What happened since this watch was made: `count` operations, done in `elapsed_s`.

        What the actors use anyway is not counted: it would make few large operations look dear.
        """
        volume_s, master_s, busy_s, seen_s = self._since()
        volume_s -= self._side.volume_idle * seen_s
        master_s -= self._side.master_idle * seen_s
        return Sample(
            rate=count / elapsed_s,
            clients=clients,
            client_us=client_s / count * 1e6,
            volume_us=max(volume_s, 0.0) / count * 1e6,
            master_us=max(master_s, 0.0) / count * 1e6,
            machine_busy=busy_s / seen_s,
        )


def at_data_port(side: Side, kind: Kind, seconds: float, folder: Path, connections: int) -> Sample:
    """One `wrk` for each actor, with so many connections, all at the same time."""
    if kind.test == GETS:
        targets = trio.run(located, side)
    else:
        guess = side.put_rates.get(kind.name, 6000.0)
        targets = trio.run(leased, side, int(guess * 1.6 * seconds) + 1000)
    children = []
    own_before = children_s()
    watch = Watch(side)
    for number, (url, lines) in enumerate(targets.items()):
        file = folder / f"targets-{side.actors}-{number}"
        file.write_text("".join(lines))
        script = "put.lua" if kind.test == PUTS else "get.lua"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["-s", str(ROOT / "bench" / script), url]
        env = {**os.environ, "TARGETS": str(file), "BODY_SIZE": str(SMALL_SIZE), "THREADS": "1"}
        children.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    count, durations = 0, []
    for child in children:
        output = child.communicate()[0]
        result = next(line for line in output.splitlines() if line.startswith("RESULT"))
        done, duration_us, _, _, error_count = map(int, result.split()[1:])
        if error_count:
            raise SystemExit(f"{kind.name}: {error_count} of {done} requests failed")
        count += done
        durations.append(duration_us / 1e6)
    own_s = children_s() - own_before
    sample = watch.sample(count, statistics.mean(durations), clients=len(children), client_s=own_s)
    side.put_rates[kind.name] = max(sample.rate, side.put_rates.get(kind.name, 0.0))
    return sample


async def located(side: Side) -> dict[str, list[str]]:
    """By actor: lines of targets for all small objects that were put beforehand."""
    targets: dict[str, list[str]] = {}
    async with warehouse.connect(side.store.profile) as client:
        keys = [info.key async for info in client.bucket(BUCKET).list(prefix=f"{SMALL_SIZE}/")]
    async with control_link(side.store) as control:
        for first in range(0, len(keys), 1000):
            asked = LocateObjects(bucket=BUCKET, keys=keys[first : first + 1000])
            answer = await control.ask(asked, ObjectsLocated)
            grants = {grant.volume_id: grant for grant in answer.grants}
            for found in answer.objects:
                assert found is not None
                chunk = found.chunks[0]
                grant = grants[chunk.volume_id]
                line = f"/v1/needles/{chunk.volume_id}/{chunk.needle_id} {grant.token}\n"
                targets.setdefault(grant.url, []).append(line)
    return targets


async def leased(side: Side, count: int) -> dict[str, list[str]]:
    """By actor: lines of targets for new needles, at least `count` in all and a fair share of each actor."""
    targets: dict[str, list[str]] = {}
    least = count // side.actors
    wanted = LeaseNeedles(
        bucket=BUCKET, needle_count=LEASE_AT_ONCE, byte_count=LEASE_AT_ONCE * 2 * SMALL_SIZE
    )
    async with control_link(side.store) as control:
        while len(targets) < side.actors or min(map(len, targets.values())) < least:
            for lease in (await control.ask(wanted, Leased)).leases:
                targets.setdefault(lease.url, []).extend(
                    f"/v1/needles/{lease.volume_id}/{needle_id} {lease.token}\n"
                    for needle_id in range(lease.first_needle_id, lease.last_needle_id + 1)
                )
    return targets


def through_library(side: Side, kind: Kind, shape: Shape, process_count: int, task_count: int) -> Sample:
    """Client processes that begin together; so many tasks of all of them put and get one by one."""
    is_large = kind.way == LARGE
    size = LARGE_SIZE if is_large else SMALL_SIZE
    known = shape.large_count if is_large else shape.small_count
    tasks = shares(task_count, process_count) if kind.way == ONE_BY_ONE else [1] * process_count
    operation = kind.test + ("-many" if kind.way == MANY else "")
    children = []
    for number, own_count in enumerate(tasks):
        prefix = str(size) if kind.test == GETS else f"{side.prefix()}/{number}"
        command = [sys.executable, str(ROOT / "bench" / "load.py"), operation, "--wait", "--flat"]
        command += ["--profile", side.profile, "--bucket", BUCKET, "--prefix", prefix, "--known", str(known)]
        command += ["--size", str(size), "--tasks", str(own_count), "--seconds", str(shape.seconds)]
        if is_large:
            command += ["--count", str(max(1, shape.large_count // process_count))]
        children.append(
            subprocess.Popen(
                command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    try:
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise SystemExit(f"{kind.name}: a client did not start")
        watch = Watch(side)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        parts: list[dict[str, Any]] = []
        for child in children:
            assert child.stdout is not None
            parts.append(json.loads(child.stdout.readline()))
        count = sum(part["count"] for part in parts)
        elapsed_s = max(part["elapsed_s"] for part in parts)
        client_s = sum(part["cpu_s"] for part in parts)
        return watch.sample(count, elapsed_s, clients=process_count, client_s=client_s)
    finally:
        for child in children:
            child.kill()  # has nothing left to do
            child.communicate()


def children_s() -> float:
    """Processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- rounds ---------------------------------------------------------------------------------------


class Rounds:
    """Samples by kind, number of actors and share, over the rounds."""

    def __init__(self, sides: Sequence[Side], shares_of: ProcessorShares, shape: Shape, folder: Path) -> None:
        self._sides = sides
        self._shares = shares_of
        self._shape = shape
        self._folder = folder
        self.process_counts = {kind.name: LARGE_PROCESSES for kind in KINDS if kind.way == LARGE}
        self.samples: dict[tuple[str, int, float | None], list[Sample]] = {}

    def measure(self, side: Side, kind: Kind, share: float | None = None) -> Sample:
        os.sync()  # or what one store left in the page cache is written while the other is measured
        # Clients that are there for both stores alike, or, of actors that are held, so many for each of them.
        times = side.actors if share else 1
        if kind.way == HTTP:
            connections = CONNECTIONS[kind.test] * times // side.actors
            return at_data_port(side, kind, self._shape.seconds, self._folder, connections)
        count = PROCESSES_HELD if share else self.process_counts[kind.name]
        return through_library(side, kind, self._shape, count, TASKS * times)

    def choose_process_counts(self) -> None:
        """How many client processes get the most out of the larger store on these cores."""
        for kind in KINDS:
            if kind.way not in (ONE_BY_ONE, MANY):
                continue
            rates = dict.fromkeys(PROCESSES_TRIED, 0.0)
            for count in PROCESSES_TRIED * 2:  # the best of two: a slow second is not held against it
                self.process_counts[kind.name] = count
                rates[count] = max(rates[count], self.measure(self._sides[-1], kind).rate)
            self.process_counts[kind.name] = max(rates, key=lambda count: rates[count])

    def run(self, number: int) -> None:
        for kind in KINDS:
            held = (None, SHARE) if self._shares.is_possible and kind.way != LARGE else (None,)
            for share in held:
                with self._held_to(share):
                    turns = self._sides if number % 2 == 0 else self._sides[::-1]
                    for side in turns:
                        sample = self.measure(side, kind, share)
                        self.samples.setdefault((kind.name, side.actors, share), []).append(sample)
                        how = f"each held to {share:g} core" if share else ""
                        say(
                            f"round {number + 1}  {kind.name:<34} {side.actors} {sample.rate:10,.1f}/s  {how}"
                        )

    @contextmanager
    def _held_to(self, share: float | None) -> Iterator[None]:
        if share is None:
            yield
            return
        self._shares.hold(share)
        try:
            yield
        finally:
            self._shares.hold(None)


# --- the master alone -----------------------------------------------------------------------------

MANY_COMMITS = master_rate.Work(COMMIT_MANY, 64, lambda asker: asker.commit(asker.fresh_keys(1)))


async def ask_master(folder: Path, shape: Shape) -> dict[str, float]:
    """Microseconds of processor time that a master spends on each thing, by the names of `master_rate`."""
    objects, volumes = 50_000, master_rate.VOLUMES
    root = make_catalog(folder, objects, volumes=volumes)
    figures: dict[str, list[float]] = {}
    with running_master(folder, root, checkout=ROOT, port=free_port_base()) as master:
        async with AsyncExitStack() as stack:
            disks = [
                await stack.enter_async_context(connected(disk_of(master, volume_id, 1 + objects // volumes)))
                for volume_id in range(1, volumes + 1)
            ]
            link = await stack.enter_async_context(connected(client_of(master)))
            asker = master_rate.Asker(master, disks, link, objects)
            await trio.sleep(1.0)  # each disk is given what it needs
            for _ in range(shape.master_rounds):
                for work in (*master_rate.WORKS, MANY_COMMITS):
                    us = await master_rate.microseconds(asker, work, 0.5)
                    figures.setdefault(work.name, []).append(us)
    return {name: statistics.median(values) for name, values in figures.items()}


def sync_seconds(folder: Path) -> float:
    """One fdatasync after 4 KiB, the median."""
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(os.urandom(SMALL_SIZE))
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - before)
    return statistics.median(taken)


# --- everything -----------------------------------------------------------------------------------


def measure(shape: Shape, folder: Path) -> Found:
    shares_of = ProcessorShares()
    with ExitStack() as stack:
        stack.callback(shares_of.close)  # after the stores have stopped
        sides = [started(folder, actors, shape, stack) for actors in (1, 2)]
        if shares_of.is_possible:
            for side in sides:
                for pid in side.volume_pids:
                    shares_of.add(pid)
        rounds = Rounds(sides, shares_of, shape, folder)
        rounds.choose_process_counts()
        say(f"client processes: {rounds.process_counts}")
        for number in range(shape.rounds):
            rounds.run(number)
    say("a master alone")
    master_us = trio.run(ask_master, folder / "master", shape)
    say("a master with 100 idle disks")
    idle = trio.run(idle_links.measure, 100, shape.idle_s, folder / "idle")
    return Found(
        samples=summed_up(rounds.samples),
        ratios=ratios_of(rounds.samples),
        process_counts=rounds.process_counts,
        master_us=master_us,
        idle=idle,
        sync_s=sync_seconds(folder),
        share=SHARE if shares_of.is_possible else None,
    )


def draw(found: Found, folder: Path, environments: Environments) -> bool:
    """Draw the plot; False where it cannot be drawn."""
    try:
        python = environments.with_packages("plots", ["matplotlib"]) / "python"
    except NotHere as error:
        say(f"no plot: {error}")
        return False
    lines = scaling_page.plot_lines(found)
    command = [str(python), str(ROOT / "bench" / "scaling_plot.py"), str(folder / scaling_page.PLOT)]
    folder.mkdir(parents=True, exist_ok=True)
    drawn = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True)
    if drawn.returncode:
        say(f"no plot: {drawn.stderr.strip()[-1500:]}")
    return drawn.returncode == 0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="four minutes instead of fifteen")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing: take these figures")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write our section of this page anew")
    parser.add_argument("--folder", type=made_folder, help="where data goes (default: a temporary folder)")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "warehouse-bench",
        help="where what draws the plot is installed (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # stores are stopped then, too
    if arguments.from_json:
        whole = json.loads(arguments.from_json.read_text())
        found, facts = Found.from_json(whole), whole["facts"]
    else:
        shape = SHORT if arguments.short else LONG
        facts = {
            "options": "--short " if arguments.short else "",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": str(Machine.this()),
            "cores": Machine.this().cores,
            "others": busy_cores(3.0),
            "rounds": shape.rounds,
            "seconds": shape.seconds,
        }
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="warehouse-scaling-") as folder:
            found = measure(shape, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps({"facts": facts, **found.as_json()}, indent=1))
    print(scaling_page.tables(found, facts))
    if arguments.markdown:
        pictures = arguments.markdown.with_suffix("")
        has_plot = draw(found, pictures, Environments(arguments.environments))
        section = scaling_page.section(
            found, facts, plot=f"{pictures.name}/{scaling_page.PLOT}" if has_plot else None
        )
        before = arguments.markdown.read_text() if arguments.markdown.exists() else ""
        arguments.markdown.write_text(scaling_page.with_section(before, section))


if __name__ == "__main__":
    main()
