"""Large objects: what a GET and a PUT of 80 MiB cost, step by step, and how many chunks travel best at once.

    python bench/large_objects.py [--only paths,store,chunks] [--rounds 9] [--json FILE]

paths    from file to socket and back without the store (`large_paths.py`): sendfile against preadv, sizes of
         pieces, warm and cold; a socket alone, then with CRC, write, fdatasync, and the disk beginning early
store    GET warm and cold, PUT, at a volume actor; nginx and `dd conv=fdatasync` beside it
chunks   an object of eight chunks through the library, on stores of one, two and four disks, with one to
         eight chunks (put) or spans (get) at once

In each round everything has its turn, so that a noisy machine hits all alike.  Tables show medians, and the
best round, which a busy machine hardly touches.  Everything runs on 127.0.0.1 in a temporary folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from bench.large_paths import MIB, SIZE  # noqa: E402
from bench.machine import Machine, cpu_seconds, peak_memory  # noqa: E402
from bench.peer_machine import forget_pages, say  # noqa: E402
from bench.peer_results import Case  # noqa: E402
from bench.peer_systems import BUCKET, Nginx, WarehouseStore, running  # noqa: E402
from bench.peer_ways import Dd, Http, Way  # noqa: E402
from harness import RunningStore, environment  # noqa: E402
from warehouse.client.reading import streams  # noqa: E402
from warehouse.client.store import connect  # noqa: E402
from warehouse.client.writing import uploads  # noqa: E402

SECTIONS = ("paths", "store", "chunks")
RECEIVE_SIZE = 256 * 1024
STORE_SECONDS = 0.8
READERS = 4  # of as many objects on one disk
CHUNK_SIZE = 40 * MIB
CHUNK_COUNT = 8
DISK_COUNTS = (1, 2, 4)
PARALLEL_COUNTS = (1, 2, 4, 8)


@dataclass
class Row:
    """One line of a table: what was measured in each round."""

    section: str
    name: str
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of the side that is measured
    peer_cpu_ms: list[float] = field(default_factory=list)  # of the other one

    def add(self, wall_s: float, cpu_s: float, peer_cpu_s: float) -> None:
        self.wall_ms.append(wall_s * 1e3)
        self.cpu_ms.append(cpu_s * 1e3)
        self.peer_cpu_ms.append(peer_cpu_s * 1e3)


@dataclass(frozen=True)
class Measured:
    """A row, and how its next measurement is made."""

    row: Row
    measure: Callable[[], tuple[float, float, float]]  # wall, CPU and peer's CPU seconds
    is_cold: bool = False


def run_rounds(measured: Sequence[Measured], rounds: int, folder: Path) -> list[Row]:
    for number in range(rounds):
        for one in measured:
            os.sync()  # or what one way left in the page cache is written while the next is measured
            if one.is_cold:
                forget_pages(folder)
            one.row.add(*one.measure())
        say(f"round {number + 1} of {rounds}")
    return [one.row for one in measured]


# --- paths ----------------------------------------------------------------------------------------

OUT_ROWS = (
    ("sendfile, nothing checked", "sendfile", SIZE),
    ("memory to socket, nothing read", "memory", 2 * MIB),
    ("preadv into new memory, CRC, 1 MiB", "fresh", MIB),
    ("preadv into one buffer, CRC, 256 KiB", "one-buffer", MIB // 4),
    ("preadv into one buffer, CRC, 1 MiB", "one-buffer", MIB),
    ("preadv into one buffer, CRC, 2 MiB", "one-buffer", 2 * MIB),
    ("preadv into one buffer, CRC, 4 MiB", "one-buffer", 4 * MIB),
    ("the same, the next one read in a thread, 2 MiB", "ahead", 2 * MIB),
    ("preadv, CRC, then sendfile, 2 MiB", "check-sendfile", 2 * MIB),
)
IN_ROWS = (
    ("socket alone, 2 MiB", "socket", 2 * MIB),
    ("and CRC, of blocks and whole", "crc", 2 * MIB),
    ("and write", "write", 2 * MIB),
    ("and fdatasync", "sync", 2 * MIB),
    ("the same, the disk begins at once", "begun", 2 * MIB),
    ("the same in a thread, 1 MiB", "threaded", MIB),
    ("the same in a thread, 2 MiB", "threaded", 2 * MIB),
    ("the same in a thread, 4 MiB", "threaded", 4 * MIB),
    ("the same in a thread, one CRC, 2 MiB", "one-crc", 2 * MIB),
)


class PathEnd:
    """The other end of a path, which runs in a process of its own."""

    def __init__(self, way: str, file: Path, piece: int) -> None:
        command = [sys.executable, str(ROOT / "bench" / "large_paths.py"), way, "--file", str(file)]
        command += ["--piece", str(piece)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._socket = socket.create_connection(("127.0.0.1", int(self._line())))
        self._buffer = bytearray(RECEIVE_SIZE)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def get(self) -> tuple[float, float, float]:
        return self._timed(self._receive_all)

    def put(self) -> tuple[float, float, float]:
        return self._timed(self._send_all)

    def _timed(self, transfer: Callable[[], None]) -> tuple[float, float, float]:
        cpu_before, started = time.process_time(), time.perf_counter()
        transfer()
        return time.perf_counter() - started, float(self._line()), time.process_time() - cpu_before

    def _receive_all(self) -> None:
        self._socket.sendall(b".")
        left = SIZE
        while left:
            left -= self._socket.recv_into(self._buffer)

    def _send_all(self) -> None:
        self._socket.sendall(_body())
        self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def _body() -> memoryview:
    if not _kept:
        _kept.append(memoryview(os.urandom(MIB) * (SIZE // MIB)))
    return _kept[0]


_kept: list[memoryview] = []


def measure_paths(rounds: int, folder: Path) -> list[Row]:
    source = folder / "source"
    source.write_bytes(_body())
    os.sync()
    measured: list[Measured] = []
    with ExitStack() as stack:

        def end_of(way: str, file: Path, piece: int) -> PathEnd:
            end = PathEnd(way, file, piece)
            stack.callback(end.close)
            return end

        for is_cold in (False, True):
            for name, way, piece in OUT_ROWS:
                section = f"out, {'cold' if is_cold else 'warm'}"
                measured.append(Measured(Row(section, name), end_of(way, source, piece).get, is_cold))
        for number, (name, way, piece) in enumerate(IN_ROWS):
            end = end_of(way, folder / f"target-{number}", piece)
            measured.append(Measured(Row("in", name), end.put))
        measured.append(Measured(Row("in", "dd conv=fdatasync"), lambda: _dd(source, folder / "dd")))
        return run_rounds(measured, rounds, folder)


def _dd(source: Path, target: Path) -> tuple[float, float, float]:
    started = time.perf_counter()
    before = os.times()
    command = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fdatasync"]
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    target.unlink(missing_ok=True)
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu_s, 0.0


# --- store ----------------------------------------------------------------------------------------


def measure_store(rounds: int, folder: Path) -> list[Row]:
    with running([WarehouseStore(folder / "warehouse", "fsync"), Nginx(folder / "nginx")]) as systems:
        ways: list[tuple[str, Way]] = []
        for system in systems:
            system.folder.mkdir(exist_ok=True)
            system.prepare(SIZE, READERS, 30.0)
            name = "a volume actor" if isinstance(system, WarehouseStore) else "nginx (puts not synced)"
            ways.append((name, Http(name, system, is_synced=True)))
        dd = Dd("dd conv=fdatasync", systems[0], is_synced=True)
        measured = [
            _measured_way(f"GET at the store, {state}", name, way, Case("get", SIZE, readers, is_cold))
            for state, readers, is_cold in (
                ("warm", 1, False),
                ("cold", 1, True),
                (f"cold, {READERS} readers at once", READERS, True),
            )
            for name, way in ways
        ]
        measured += [
            _measured_way("PUT at the store", name, way, Case("put", SIZE, 1))
            for name, way in (*ways, ("dd conv=fdatasync", dd))
        ]
        return run_rounds(measured, rounds, folder)


def _measured_way(section: str, name: str, way: Way, case: Case) -> Measured:
    def measure() -> tuple[float, float, float]:
        sample = way.measure(case, STORE_SECONDS)
        assert sample is not None
        return 1 / sample.rate, sample.server_cpu_s / 1e3, sample.client_cpu_s / 1e3

    return Measured(Row(section, name), measure, case.is_cold)


# --- chunks ---------------------------------------------------------------------------------------


def measure_chunks(rounds: int, folder: Path) -> list[Row]:
    source = folder / "object"
    with source.open("wb") as file:
        for _ in range(CHUNK_COUNT * CHUNK_SIZE // SIZE):
            file.write(_body())
    measured: list[Measured] = []
    with ExitStack() as stack:
        stores = [stack.enter_context(_store(folder, count)) for count in DISK_COUNTS]
        for operation in ("put", "get"):
            for disk_count, store in zip(DISK_COUNTS, stores, strict=True):
                for parallel in PARALLEL_COUNTS:
                    row = Row(f"{operation} on {_disks(disk_count)}", f"{parallel} at once")
                    measured.append(Measured(row, _client_run(operation, store, source, parallel)))
        return run_rounds(measured, rounds, folder)


def _disks(count: int) -> str:
    return "1 disk" if count == 1 else f"{count} disks"


@contextmanager
def _store(folder: Path, disk_count: int) -> Iterator[RunningStore]:
    config = f"[store]\nchunk_size = {CHUNK_SIZE}\n"
    with RunningStore(folder / f"store-{disk_count}", volumes=disk_count, config=config) as store:

        async def make_bucket() -> None:
            async with connect(store.profile) as client:
                await client.create_bucket(BUCKET)

        trio.run(make_bucket)
        yield store


def _client_run(
    operation: str, store: RunningStore, source: Path, parallel: int
) -> Callable[[], tuple[float, float, float]]:
    command = [sys.executable, __file__, "--client", operation, "--profile", str(store.profile)]
    command += ["--file", str(source), "--parallel", str(parallel)]

    def measure() -> tuple[float, float, float]:
        pids = list(store.pids().values())
        before = cpu_seconds(pids)
        ran = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout)
        return found["elapsed_s"], cpu_seconds(pids) - before, found["cpu_s"]

    return measure


async def _client(operation: str, profile: Path, file: Path, parallel: int) -> dict[str, float]:
    """One client process: the object once, with so many chunks or spans at once."""
    uploads.PARALLEL = streams.WINDOW = parallel
    async with connect(profile) as client:
        bucket = client.bucket(BUCKET)
        await bucket.put("first", b"connects")
        cpu_before, started = time.process_time(), time.perf_counter()
        if operation == "put":
            await bucket.upload("large", file)
        else:
            left = file.stat().st_size
            async with bucket.open("large") as stream:
                async for view in stream.views():
                    left -= len(view)
            assert left == 0
        elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu_before
    return {"elapsed_s": elapsed, "cpu_s": cpu, "peak_bytes": peak_memory([os.getpid()])}


# --- results --------------------------------------------------------------------------------------


def show(rows: Sequence[Row], console: Console) -> None:
    for section in dict.fromkeys(row.section for row in rows):
        table = Table(title=section)
        for column in ("", "ms", "best", "MiB/s", "CPU ms", "peer's CPU ms"):
            table.add_column(column, justify="right" if column else "left")
        for row in rows:
            if row.section == section:
                size = SIZE if "disk" not in section else CHUNK_COUNT * CHUNK_SIZE
                wall = statistics.median(row.wall_ms)
                table.add_row(
                    row.name,
                    f"{wall:.1f}",
                    f"{min(row.wall_ms):.1f}",
                    f"{size / MIB / wall * 1e3:,.0f}",
                    f"{statistics.median(row.cpu_ms):.1f}",
                    f"{statistics.median(row.peer_cpu_ms):.1f}",
                )
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default=",".join(SECTIONS), metavar="SECTIONS", help="(default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--client", choices=("put", "get"), help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parallel", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        print(
            json.dumps(
                trio.run(_client, arguments.client, arguments.profile, arguments.file, arguments.parallel)
            )
        )
        return
    wanted = arguments.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"there is no section {unknown.pop()!r}: {', '.join(SECTIONS)}")
    measures = {"paths": measure_paths, "store": measure_store, "chunks": measure_chunks}
    rows: list[Row] = []
    for section in wanted:
        with tempfile.TemporaryDirectory(prefix="warehouse-large-") as name:
            say(section)
            rows += measures[section](arguments.rounds, Path(name))
    show(rows, Console() if sys.stdout.isatty() else Console(width=110))
    if arguments.json:
        whole = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
            "machine": asdict(Machine.this()),
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
