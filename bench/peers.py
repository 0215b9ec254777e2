"""Peers: Warehouse beside nginx, SeaweedFS, OpenStack Swift and any S3 endpoint, in one run on one machine.

    python bench/peers.py [--short | --full] [--peer nginx,seaweedfs,swift,URL]
                          [--json FILE] [--markdown FILE]

Installs what it compares with into environments of its own, starts every server on 127.0.0.1 in a folder of
its own, and ends them by their process ids.  All systems are asked in turn within each round, so that a noisy
machine hits all alike.  An S3 endpoint takes its keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from bench import peer_results as results  # noqa: E402
from bench.machine import Machine, made_folder  # noqa: E402
from bench.peer_machine import Environments, NotHere, busy_cores, drop_caches, read_through, say  # noqa: E402
from bench.peer_results import KIB, MIB, About, Case, Line, Sample  # noqa: E402
from bench.peer_systems import S3, Nginx, Swift, System, WarehouseStore, Weed, running  # noqa: E402
from bench.peer_ways import Batches, Dd, Http, Library, Way, WeedBenchmark  # noqa: E402
from warehouse.errors import StoreError  # noqa: E402

PEERS = ("nginx", "seaweedfs", "swift")
SIZES = (1 * KIB, 4 * KIB, 64 * KIB, 1 * MIB, 80 * MIB)
CONNECTIONS = (1, 16, 64)
PROCESSES_TRIED = (1, 2, 3, 4)
LARGE = 1 * MIB  # of objects: measured when all is done with smaller ones
BEFOREHAND_S = 3.0  # watches the machine for so long


@dataclass(frozen=True)
class Shape:
    """How much is measured."""

    cases: Sequence[Case]
    rounds: int
    seconds: float
    counts: Mapping[int, int]  # by size: objects there are before the reads
    prepare_s: float  # for those of one size in one system
    text: str


def cases_of(pairs: Sequence[tuple[int, int]], cold: Sequence[tuple[int, int]]) -> list[Case]:
    """Puts first, so that the reads find what a busy store looks like; and small objects first.

    A server that keeps the memory which large ones took would push a million small ones out of the cache.
    """
    cases = [Case("put", *pair) for pair in pairs]
    cases += [Case("get", *pair) for pair in pairs]
    cases += [Case("get", *pair, is_cold=True) for pair in cold]
    return sorted(cases, key=lambda case: case.size >= LARGE)  # all else stays as it is


def short_shape() -> Shape:
    small = [(4 * KIB, connections) for connections in CONNECTIONS]
    others = [(1 * KIB, 16), (64 * KIB, 16), (1 * MIB, 16), (80 * MIB, 1)]
    return Shape(
        cases=cases_of(small + others, [(4 * KIB, 16), (1 * MIB, 16), (80 * MIB, 1)]),
        rounds=3,
        seconds=0.8,
        counts={1 * KIB: 2000, 4 * KIB: 20_000, 64 * KIB: 1000, 1 * MIB: 100, 80 * MIB: 3},
        prepare_s=20.0,
        text="This is the short form: few rounds, few seconds, 20,000 small objects.",
    )


def full_shape() -> Shape:
    pairs = [(size, connections) for size in SIZES for connections in CONNECTIONS]
    return Shape(
        cases=cases_of(pairs, [pair for pair in pairs if pair[1] != 64]),
        rounds=5,
        seconds=4.0,
        counts={1 * KIB: 20_000, 4 * KIB: 1_000_000, 64 * KIB: 20_000, 1 * MIB: 1000, 80 * MIB: 8},
        prepare_s=1800.0,
        text="This is the full form: a million small objects before the reads.",
    )


# --- what is compared -----------------------------------------------------------------------------


def systems_of(peers: Sequence[str], folder: Path, environments: Environments) -> list[System]:
    """Warehouse twice, synced and not, and the peers that were asked for."""
    systems: list[System] = [
        WarehouseStore(folder / "warehouse", "fsync"),
        WarehouseStore(folder / "warehouse-os", "os"),
    ]
    for number, peer in enumerate(peers):
        home = folder / f"peer-{number}"
        home.mkdir()
        if "://" in peer:
            systems.append(S3(home, environments, peer))
        elif peer == "nginx":
            systems.append(Nginx(home))
        elif peer == "seaweedfs":
            systems.append(Weed(home, environments))
        else:
            systems.append(Swift(home, environments))
    return systems


def ways_of(systems: Sequence[System]) -> list[Way]:
    """All rows of the tables: each system in each way it is asked."""
    puts = ("put",)
    ways: list[Way] = []
    for system in systems:
        match system:
            case Nginx():
                ways.append(Http(results.NGINX, system, is_synced=False))
            case Weed():
                ways += [
                    Http(results.WEED, system, is_synced=False),
                    Http(results.WEED, system, is_synced=True, tests=puts, suffix="?fsync=true"),
                    WeedBenchmark(results.WEED_BENCHMARK, system, is_synced=False, tests=("put", "get")),
                    WeedBenchmark(results.WEED_BENCHMARK, system, is_synced=True, tests=puts),
                ]
            case Swift():
                ways.append(Http(results.SWIFT, system, is_synced=True))
            case WarehouseStore(is_synced=True):
                ways += [
                    Http(results.RAW, system, is_synced=True),
                    Library(results.LIBRARY, system, is_synced=True),
                    Batches(results.BATCHES, system, is_synced=True),
                    Dd(results.DD, system, is_synced=True, tests=puts),
                ]
            case WarehouseStore():
                ways += [
                    Http(results.RAW, system, is_synced=False, tests=puts),
                    Library(results.LIBRARY, system, is_synced=False, tests=puts),
                ]
            case _:
                ways.append(Http(f"S3 at {system.name}", system, is_synced=False))
    return ways


# --- measuring ------------------------------------------------------------------------------------


def prepare(systems: Sequence[System], shape: Shape) -> list[System]:
    """Fill the systems; those that fail are told and left out."""
    filled: list[System] = []
    for system in systems:
        if isinstance(system, WarehouseStore) and not system.is_synced:
            filled.append(system)  # nobody reads from it
            continue
        try:
            for size, count in shape.counts.items():
                # All else is there to be read at all; only the small ones have to be many.
                seconds = shape.prepare_s if size == 4 * KIB else shape.prepare_s / 4
                system.prepare(size, count, seconds)
        except NotHere as error:
            say(f"left out: {error}")
        else:
            say(f"{system.name}: {system.stored_count(4 * KIB):,} objects of 4 KiB")
            filled.append(system)
    return filled


def choose_process_counts(ways: Sequence[Way], seconds: float) -> None:
    """Find how many client processes get the most out of the store on these cores, for puts and for gets."""
    way = next(way for way in ways if isinstance(way, Library) and way.is_synced)
    for test in ("put", "get"):
        rates = {}
        for count in PROCESSES_TRIED:
            Library.process_counts[test] = count
            sample = way.measure(Case(test, 4 * KIB, 64), seconds)
            assert sample is not None
            rates[count] = sample.rate
        Library.process_counts[test] = max(rates, key=lambda count: rates[count])


class Rounds:
    """Samples by way and case, over the rounds."""

    def __init__(self, ways: Sequence[Way], shape: Shape, cold_note: str) -> None:
        self._ways = list(ways)
        self._shape = shape
        self.cold_note = cold_note
        self.samples: dict[tuple[str, bool, Case], list[Sample]] = {}

    def run(self, number: int) -> None:
        """One round: every case, and in each every way in turn; but warm reads system by system."""
        for kind, group in groupby(
            self._shape.cases, lambda case: (case.test, case.size >= LARGE, case.is_cold)
        ):
            cases = list(group)
            if kind[0] == "get" and not kind[2]:
                for system in dict.fromkeys(way.system for way in self._ways if "get" in way.tests):
                    self._measure_warm(number, system, cases)
                continue
            for case in cases:
                for way in list(self._ways):
                    if case.test in way.tests:
                        self._measure(number, way, case)

    def _measure_warm(self, number: int, system: System, cases: Sequence[Case]) -> None:
        """Have the kernel read the system's files, and measure before those of another push them out."""
        started = time.monotonic()
        read_through(system.data, LARGE if cases[0].size >= LARGE else 0)
        say(f"{system.name}: read through once in {time.monotonic() - started:.0f} s")
        for case in cases:
            for way in list(self._ways):
                if way.system is system and "get" in way.tests:
                    self._measure(number, way, case)

    def _measure(self, number: int, way: Way, case: Case) -> None:
        os.sync()  # or what one system left in the page cache is written while the next is measured
        if case.is_cold:
            self.cold_note = drop_caches(way.system.data)
        try:
            sample = way.measure(case, self._shape.seconds)
        except (NotHere, ValueError, StoreError) as error:
            say(f"{way.name} fails from here on: {error}")
            self._ways.remove(way)
            return
        if sample is not None:
            self.samples.setdefault((way.name, way.is_synced, case), []).append(sample)
            kind = (
                ("synced " if way.is_synced and case.test == "put" else "")
                + ("cold " if case.is_cold else "")
                + case.test
            )
            say(
                f"round {number + 1}  {kind:<12} {results.size_name(case.size):>6} x{case.connections:<3}"
                f" {way.name:<30} {sample.rate:10,.1f}/s  p99 {sample.p99_ms:8.2f} ms"
            )

    def lines(self) -> list[Line]:
        return [
            Line(name, is_synced, case, results.median_of(samples), [sample.rate for sample in samples])
            for (name, is_synced, case), samples in self.samples.items()
        ]


def measure(
    shape: Shape, peers: Sequence[str], folder: Path, environments: Environments, minutes: float
) -> Found:
    started = time.monotonic()
    with running(systems_of(peers, folder, environments)) as systems:
        systems = prepare(systems, shape)
        ways = ways_of(systems)
        choose_process_counts(ways, shape.seconds)
        say(f"processes of the library: {Library.process_counts}")
        rounds = Rounds(ways, shape, "not measured")
        count = 0
        while count < shape.rounds:
            before = time.monotonic()
            rounds.run(count)
            count += 1
            now = time.monotonic()
            if now - started + (now - before) > minutes * 60:
                break
        about: dict[str, About] = {}
        for way in ways:
            if way.name not in (results.LIBRARY, results.BATCHES, results.WEED_BENCHMARK, results.DD):
                about.setdefault(way.name, way.system.about())
    return Found(rounds.lines(), about, count, max(Library.process_counts.values()), rounds.cold_note)


@dataclass(frozen=True)
class Found:
    lines: Sequence[Line]
    about: Mapping[str, About]
    rounds: int
    processes: int
    cold_note: str


# --- results --------------------------------------------------------------------------------------


def as_json(found: Found, machine: Machine, shape: Shape) -> str:
    whole = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": asdict(machine),
        "rounds": found.rounds,
        "seconds": shape.seconds,
        "library_processes": found.processes,
        "systems": {name: asdict(one) for name, one in found.about.items()},
        "lines": [line.as_json() for line in found.lines],
    }
    return json.dumps(whole, indent=1)


def draw(text: str, folder: Path, environments: Environments) -> list[str]:
    """Draw the plots; names of the pictures, none where they cannot be drawn."""
    try:
        python = environments.with_packages("plots", ["matplotlib"]) / "python"
    except NotHere as error:
        say(f"no plots: {error}")
        return []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        command = [str(python), str(ROOT / "bench" / "peer_plots.py"), file.name, str(folder)]
        drawn = subprocess.run(command, capture_output=True, text=True)
    if drawn.returncode:
        say(f"no plots: {drawn.stderr.strip()[-1500:]}")
    return drawn.stdout.split()


def show(found: Found, console: Console) -> None:
    for title, test, is_synced, is_cold in results.SECTIONS:
        rows = results.section_rows(found.lines, test, is_synced, is_cold)
        if rows:
            table = Table(title=title)
            for column in results.COLUMNS:
                table.add_column(column, justify="right" if column else "left")
            for row in rows:
                table.add_row(*(cell.replace("**", "") for cell in row))
            console.print(table)
    for text, goal, value, verdict in results.goal_rows(found.lines, found.about):
        console.print(f"{text}: {value}, {goal}: {verdict.replace('**', '')}")


def options_of(arguments: argparse.Namespace) -> str:
    """Those that decide what is measured, as they were given."""
    words = ["--full" if arguments.full else "--short"]
    if arguments.peer != ",".join(PEERS):
        words += ["--peer", arguments.peer]
    for name in ("rounds", "seconds", "prepare_s", "minutes"):
        if value := getattr(arguments, name):
            words += [f"--{name.replace('_', '-')}", f"{value:g}"]
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="about ten minutes (this is the default)")
    size.add_argument("--full", action="store_true", help="hours: a million small objects")
    parser.add_argument(
        "--peer",
        default=",".join(PEERS),
        metavar="NAMES",
        help="nginx, seaweedfs, swift, and URLs of S3 endpoints, with commas (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write a page; its plots go into a folder named like it"
    )
    parser.add_argument("--rounds", type=int, help="instead of those of the form")
    parser.add_argument("--seconds", type=float, help="of each measurement, instead of those of the form")
    parser.add_argument(
        "--prepare-s",
        type=float,
        metavar="SECONDS",
        help="for the objects before the reads, in each system, instead of that of the form",
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="begin no round that would end later than this"
    )
    parser.add_argument("--folder", type=made_folder, help="where data goes (default: a temporary folder)")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "warehouse-bench",
        help="where peers are installed (default: %(default)s)",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # servers are ended then, too
    peers = [peer for peer in arguments.peer.split(",") if peer]
    unknown = [peer for peer in peers if peer not in PEERS and "://" not in peer]
    if unknown:
        parser.error(f"there is no peer {unknown[0]!r}: {', '.join(PEERS)}, or the URL of an S3 endpoint")
    shape = full_shape() if arguments.full else short_shape()
    fields = {
        name: value for name in ("rounds", "seconds", "prepare_s") if (value := getattr(arguments, name))
    }
    shape = Shape(**{**vars(shape), **fields})
    environments = Environments(arguments.environments)
    minutes = arguments.minutes or float("inf")
    others = busy_cores(BEFOREHAND_S)
    say(f"others use {others:.1f} cores")
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="warehouse-peers-") as name:
        found = measure(shape, peers, Path(name), environments, minutes)
    machine = Machine.this()
    show(found, Console() if sys.stdout.isatty() else Console(width=160))
    text = as_json(found, machine, shape)
    if arguments.json:
        arguments.json.write_text(text)
    if arguments.markdown:
        pictures = arguments.markdown.with_suffix("")
        plots = [f"{pictures.name}/{name}" for name in draw(text, pictures, environments)]
        facts = {
            "options": options_of(arguments),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine,
            "others": others,
            "shape": shape.text,
            "rounds": found.rounds,
            "seconds": shape.seconds,
            "processes": found.processes,
            "objects": f"{shape.counts[4 * KIB]:,}",
            "prepare_s": shape.prepare_s,
            "cold": found.cold_note,
        }
        arguments.markdown.write_text(results.page(found.lines, found.about, plots, facts))


if __name__ == "__main__":
    main()
