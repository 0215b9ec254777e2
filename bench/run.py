"""Bench: Warehouse's data plane and whole store against nginx, in one run on one machine.

    python bench/run.py [--seconds 4] [--rounds 3] [--json FILE] [--markdown FILE]

Each round measures nginx and Warehouse one after the other; the table shows medians over the rounds, and
ratios of medians.  nginx runs one worker with sendfile and an open file cache (GET) and DAV (PUT, never
synced).  Warehouse is a real store of one disk: every PUT is confirmed by the master, in the catalog, before
it is answered; the `fsync` lines sync data and catalog, the `page cache` lines leave the data to the kernel.
The load generator (wrk, curl, or one client process) shares the cores with the servers.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.machine import Machine, cpu_seconds, made_folder, peak_memory, reset_peak_memory  # noqa: E402
from harness import RunningStore, environment, free_port_base  # noqa: E402
from warehouse.client.control import Control  # noqa: E402
from warehouse.conf.profile import Profile  # noqa: E402
from warehouse.transport.messages import Leased, LeaseNeedles, LocateObjects, ObjectsLocated  # noqa: E402

SMALL = 4096
LARGE = 80 * 1024 * 1024
SMALL_FILES = 1000
GOALS = {  # line -> the least ratio to nginx, or the least rate, that we want
    "GET 4 KiB": 0.75,
    "PUT 4 KiB, fsync": 0.7,
    "GET 80 MiB": 0.9,
    "library put 4 KiB, fsync": 2500,
    "library get 4 KiB, fsync": 4000,
}


@dataclass(frozen=True)
class Sample:
    """One measurement of one system."""

    rate: float  # requests a second
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float  # of the servers
    peak_bytes: int  # of the largest server process
    errors: int = 0


@dataclass(frozen=True)
class Line:
    name: str
    warehouse: Sample
    nginx: Sample | None

    @property
    def ratio(self) -> float | None:
        return self.warehouse.rate / self.nginx.rate if self.nginx else None

    @property
    def goal(self) -> float | None:
        return GOALS.get(self.name)

    @property
    def is_reached(self) -> bool | None:
        if self.goal is None:
            return None
        return (self.ratio if self.ratio is not None else self.warehouse.rate) >= self.goal


# --- nginx ----------------------------------------------------------------------------------------


class Nginx:
    """One nginx of our own, one worker, in a folder of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port_base()
        self.url = f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Nginx]:
        (self.folder / "root").mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        (self.folder / "nginx.conf").write_text(f"""
            worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log;
            user root;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
              open_file_cache max=10000; client_max_body_size 1g; client_body_temp_path {self.folder}/tmp;
              proxy_temp_path {self.folder}/tmp; fastcgi_temp_path {self.folder}/tmp;
              uwsgi_temp_path {self.folder}/tmp; scgi_temp_path {self.folder}/tmp;
              server {{
                listen 127.0.0.1:{self.port} backlog=1024; root {self.folder}/root;
                location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
              }}
            }}""")
        for number in range(SMALL_FILES):
            (self.folder / "root" / f"{number}.bin").write_bytes(os.urandom(SMALL))
        (self.folder / "root" / "large.bin").write_bytes(os.urandom(1024 * 1024) * (LARGE // (1024 * 1024)))
        process = subprocess.Popen(
            ["nginx", "-c", str(self.folder / "nginx.conf"), "-e", f"{self.folder}/error.log"]
        )
        try:
            time.sleep(0.5)
            if process.poll() is not None:
                raise SystemExit((self.folder / "error.log").read_text())
            self.pids = [
                int(pid)
                for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ]
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


# --- one measurement ------------------------------------------------------------------------------


def wrk(
    script: str, url: str, targets: Path, *, connections: int, seconds: float, pids: Sequence[int]
) -> Sample:
    env = {**os.environ, "TARGETS": str(targets), "BODY_SIZE": str(SMALL), "THREADS": "1"}
    reset_peak_memory(pids)
    before = cpu_seconds(pids)
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(ROOT / "bench" / script),
            url,
        ],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = cpu_seconds(pids) - before
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    count, duration_us, p50_us, p99_us, errors = map(int, result.split()[1:])
    return Sample(
        count / (duration_us / 1e6), p50_us / 1e3, p99_us / 1e3, cpu / count * 1000, peak_memory(pids), errors
    )


def curl(arguments: list[str], *, pids: Sequence[int], repeat: int = 5) -> Sample:
    reset_peak_memory(pids)
    before = cpu_seconds(pids)
    times = []
    for _ in range(repeat):
        done = subprocess.run(
            ["curl", "-sS", "-f", "-o", "/dev/null", "-w", "%{time_total}", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(float(done.stdout))
    cpu = cpu_seconds(pids) - before
    median = statistics.median(times)
    return Sample(1 / median, median * 1e3, max(times) * 1e3, cpu / repeat * 1000, peak_memory(pids))


def library(
    operation: str, store: RunningStore, *, prefix: str, pids: Sequence[int], seconds: float, known: int = 1
) -> tuple[Sample, int]:
    reset_peak_memory(pids)
    before = cpu_seconds(pids)
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "load.py"), operation, "--profile", str(store.profile)]
        + ["--bucket", "bench", "--prefix", prefix, "--seconds", str(seconds), "--known", str(known)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = cpu_seconds(pids) - before
    figures = json.loads(done.stdout)
    sample = Sample(
        figures["rate"],
        figures["p50_ms"],
        figures["p99_ms"],
        (cpu + figures["cpu_s"]) / figures["count"] * 1000,
        max(peak_memory(pids), int(figures["peak_bytes"])),
    )
    return sample, int(figures["count"])


# --- Warehouse ------------------------------------------------------------------------------------


async def prepare(store: RunningStore, large: Path) -> None:
    async with warehouse.connect(store.profile) as client:
        await client.create_bucket("bench")
        bucket = client.bucket("bench")
        limit = trio.CapacityLimiter(32)

        async def put(number: int) -> None:
            async with limit:
                await bucket.put(f"small/{number}", os.urandom(SMALL))

        async with trio.open_nursery() as nursery:
            for number in range(SMALL_FILES):
                nursery.start_soon(put, number)
        await bucket.upload("large.bin", large)


@contextlib.asynccontextmanager
async def control_link(store: RunningStore) -> AsyncIterator[Control]:
    """The control connection bare, for messages that the library sends by itself."""
    control = Control(Profile.load(store.profile))
    async with trio.open_nursery() as nursery:
        await nursery.start(control.run)
        try:
            yield control
        finally:
            control.stop()


async def get_targets(store: RunningStore, path: Path) -> str:
    """Write `path token` lines for the small objects; return the volume actor's URL."""
    async with control_link(store) as control:
        located = await control.ask(
            LocateObjects(bucket="bench", keys=[f"small/{number}" for number in range(SMALL_FILES)]),
            ObjectsLocated,
        )
    tokens = {grant.volume_id: grant.token for grant in located.grants}
    chunks = [found.chunks[0] for found in located.objects if found is not None]
    path.write_text(
        "".join(
            f"/v1/needles/{chunk.volume_id}/{chunk.needle_id} {tokens[chunk.volume_id]}\n" for chunk in chunks
        )
    )
    return str(located.grants[0].url)


async def put_targets(store: RunningStore, path: Path, count: int) -> None:
    async with control_link(store) as control:
        lines: list[str] = []
        while len(lines) < count:
            leased = await control.ask(
                LeaseNeedles(bucket="bench", needle_count=1024, byte_count=1024 * SMALL), Leased
            )
            for lease in leased.leases:
                lines += [
                    f"/v1/needles/{lease.volume_id}/{needle_id} {lease.token}\n"
                    for needle_id in range(lease.first_needle_id, lease.last_needle_id + 1)
                ]
        path.write_text("".join(lines))


async def presigned(store: RunningStore, key: str) -> str:
    async with warehouse.connect(store.profile) as client:
        return await client.bucket("bench").presign_get(key, 3600)


@contextlib.contextmanager
def warehouse_store(folder: Path, durability: str, large: Path) -> Iterator[RunningStore]:
    config = f'[store]\ndurability = "{durability}"\nlease_s = 3600\n'
    with RunningStore(folder / f"store-{durability}", config=config) as store:
        trio.run(prepare, store, large)
        yield store


def run_round(
    number: int,
    scratch: Path,
    nginx: Nginx,
    stores: dict[str, RunningStore],
    seconds: float,
    tick: Callable[[str], None],
) -> dict[str, tuple[Sample, Sample | None]]:
    lines: dict[str, tuple[Sample, Sample | None]] = {}
    synced = stores["fsync"]
    pids = list(synced.pids().values())
    targets = scratch / "targets"

    tick("GET 4 KiB")
    url = trio.run(get_targets, synced, targets)
    ours = wrk("get.lua", url, targets, connections=16, seconds=seconds, pids=pids)
    targets.write_text("".join(f"/{index}.bin\n" for index in range(SMALL_FILES)))
    lines["GET 4 KiB"] = (
        ours,
        wrk("get.lua", nginx.url, targets, connections=16, seconds=seconds, pids=nginx.pids),
    )

    tick("PUT 4 KiB")
    targets.write_text("".join(f"/put-{number}/{index % 50}/{index}\n" for index in range(200_000)))
    dav = wrk("put.lua", nginx.url, targets, connections=64, seconds=seconds, pids=nginx.pids)
    for durability, label in (("fsync", "fsync"), ("os", "page cache")):
        store = stores[durability]
        trio.run(put_targets, store, targets, int(12_000 * seconds))
        pids = list(store.pids().values())
        sample = wrk("put.lua", url_of(store), targets, connections=64, seconds=seconds, pids=pids)
        lines[f"PUT 4 KiB, {label}"] = (sample, dav)

    tick("80 MiB")
    store = synced
    pids = list(store.pids().values())
    link = trio.run(presigned, store, "large.bin")
    lines["GET 80 MiB"] = (curl([link], pids=pids), curl([f"{nginx.url}/large.bin"], pids=nginx.pids))
    large = str(scratch / "large.bin")
    dav = curl(["-T", large, f"{nginx.url}/large-{number}.bin"], pids=nginx.pids)
    for durability, label in (("fsync", "fsync"), ("os", "page cache")):
        store = stores[durability]
        pids = list(store.pids().values())
        before, times = cpu_seconds(pids), []
        reset_peak_memory(pids)
        for _ in range(5):
            link = trio.run(presigned_put, store, f"put-{number}")
            done = subprocess.run(
                ["curl", "-sS", "-f", "-o", "/dev/null", "-w", "%{time_total}", "-T", large, link],
                capture_output=True,
                text=True,
                check=True,
            )
            times.append(float(done.stdout))
        median = statistics.median(times)
        sample = Sample(
            1 / median,
            median * 1e3,
            max(times) * 1e3,
            (cpu_seconds(pids) - before) / 5 * 1000,
            peak_memory(pids),
        )
        lines[f"PUT 80 MiB, {label}"] = (sample, dav)

    for durability, label in (("fsync", "fsync"), ("os", "page cache")):
        store = stores[durability]
        pids = list(store.pids().values())
        tick(f"library, {label}")
        sample, count = library("put", store, prefix=f"r{number}", pids=pids, seconds=seconds)
        lines[f"library put 4 KiB, {label}"] = (sample, None)
        known = max(1, count // 32 // 2)
        sample, _ = library("get", store, prefix=f"r{number}", pids=pids, seconds=seconds, known=known)
        lines[f"library get 4 KiB, {label}"] = (sample, None)
    return lines


async def presigned_put(store: RunningStore, key: str) -> str:
    async with warehouse.connect(store.profile) as client:
        return await client.bucket("bench").presign_put(key, 3600)


def url_of(store: RunningStore) -> str:
    return f"http://127.0.0.1:{store.port_base + 10}"


# --- results --------------------------------------------------------------------------------------


def median_of(samples: Sequence[Sample]) -> Sample:
    return Sample(
        *(
            statistics.median(getattr(sample, name) for sample in samples)
            for name in ("rate", "p50_ms", "p99_ms", "cpu_s_per_1000")
        ),
        peak_bytes=max(sample.peak_bytes for sample in samples),
        errors=sum(sample.errors for sample in samples),
    )


def medians(rounds: Sequence[dict[str, tuple[Sample, Sample | None]]]) -> list[Line]:
    lines = []
    for name in rounds[0]:
        ours = median_of([one[name][0] for one in rounds])
        theirs = [one[name][1] for one in rounds]
        lines.append(Line(name, ours, median_of([s for s in theirs if s]) if theirs[0] else None))
    return lines


COLUMNS = (
    "",
    "req/s",
    "p50 ms",
    "p99 ms",
    "CPU s/1,000",
    "peak MB",
    "nginx req/s",
    "nginx CPU",
    "ratio",
    "goal",
)


def cells(line: Line) -> list[str]:
    ours, nginx = line.warehouse, line.nginx
    goal = "" if line.goal is None else f"{line.goal:g} {'reached' if line.is_reached else 'MISSED'}"
    return [
        line.name,
        f"{ours.rate:,.0f}" if ours.rate > 100 else f"{ours.rate:.1f}",
        f"{ours.p50_ms:.2f}",
        f"{ours.p99_ms:.2f}",
        f"{ours.cpu_s_per_1000:.3f}",
        f"{ours.peak_bytes / 1e6:.0f}",
        (f"{nginx.rate:,.0f}" if nginx.rate > 100 else f"{nginx.rate:.1f}") if nginx else "",
        f"{nginx.cpu_s_per_1000:.3f}" if nginx else "",
        f"{line.ratio:.2f}" if line.ratio else "",
        goal,
    ]


def show(lines: Sequence[Line], console: Console) -> None:
    table = Table(title="Warehouse against nginx (medians)")
    for column in COLUMNS:
        table.add_column(column, justify="left" if not column or column == "goal" else "right")
    for line in lines:
        style = {True: "green", False: "red", None: ""}[line.is_reached]
        table.add_row(*cells(line), style=style)
    console.print(table)


def markdown(lines: Sequence[Line], machine: Machine, rounds: int, seconds: float) -> str:
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n"
    body = "".join("| " + " | ".join(cells(line)) + " |\n" for line in lines)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"Measured {date} with `python bench/run.py --rounds {rounds} --seconds {seconds:g}` on {machine}; "
        f"load generator on the same cores.\n\n{head}{body}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="medians are taken over these (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=made_folder, help="where data goes (default: a temporary folder)")
    arguments = parser.parse_args()
    for tool in ("nginx", "wrk", "curl"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing (Debian: apt-get install nginx-extras wrk curl)")
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder, prefix="warehouse-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        scratch = Path(name)
        large = scratch / "large.bin"
        large.write_bytes(os.urandom(1024 * 1024) * (LARGE // (1024 * 1024)))
        nginx = stack.enter_context(Nginx(scratch / "nginx").running())
        stores = {
            durability: stack.enter_context(warehouse_store(scratch, durability, large))
            for durability in ("fsync", "os")
        }
        rounds = []
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("", total=arguments.rounds * 5)
            for number in range(arguments.rounds):

                def tick(what: str, number: int = number) -> None:
                    progress.update(task, description=f"round {number + 1}: {what}", advance=1)

                rounds.append(run_round(number, scratch, nginx, stores, arguments.seconds, tick))
        lines = medians(rounds)
    machine = Machine.this()
    show(lines, Console() if sys.stdout.isatty() else Console(width=160))
    if arguments.json:
        results = [{**asdict(line), "ratio": line.ratio, "goal": line.goal} for line in lines]
        arguments.json.write_text(json.dumps({"machine": asdict(machine), "lines": results}, indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(markdown(lines, machine, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
