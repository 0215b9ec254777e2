"""S3: signed puts and gets at a gateway of a running store, and large objects beside the library and nginx.

    python bench/s3.py [--only small,large] [--rounds 3] [--count 20000] [--connections 16,64]
                       [--large-mib 1024] [--peer seaweedfs] [--directory DIR] [--json FILE]

small    objects of 4 KiB with bodies that never repeat, put and got by one generator (`s3_load.py`), each
         request signed; CPU microseconds are those of all processes of the store, without the generator
large    one object put by a signed request and by the library, and got from the gateway and from nginx, which
         has it as a file

`--peer seaweedfs` measures `weed server -s3` in turn with it, where `weed` is on the PATH; it does not sync.
Goals, with the machine at rest: at most 220 us a put and 130 us a get with 64 connections, puts and gets
1.5 times those of SeaweedFS, a large put 0.8 of the library's rate, a large get 0.5 of nginx's.
Tables show medians over the rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.machine import Machine, cpu_seconds  # noqa: E402
from bench.s3_load import Signer  # noqa: E402
from harness import RunningStore, free_port, free_port_base  # noqa: E402
from s3_kit import RunningGateway  # noqa: E402
from warehouse.cli.measuring.latencies import Latencies  # noqa: E402
from warehouse.conf.profile import Profile  # noqa: E402

BUCKET = "bench"
SMALL = 4096
MIB = 1024 * 1024
PIECE = 1 << 20
START_S = 30.0
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""


class Server:
    """An S3 endpoint that is measured.

    Attributes:
        pids: all its processes, now.
    """

    def __init__(self, name: str, url: str, key_id: str, secret: str, pids: Callable[[], list[int]]) -> None:
        self.name = name
        self.url = url
        self.key_id = key_id
        self.secret = secret
        self.pids = pids

    def signer(self) -> Signer:
        return Signer(urlsplit(self.url).netloc, self.key_id, self.secret)

    def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """One signed request on a connection of its own; the status.  The answer is read and dropped."""
        digest = hashlib.sha256(body).hexdigest()
        with closing_connection(self.url) as connection:
            connection.sendall(self.signer().head(method, path, size=len(body), digest=digest))
            connection.sendall(body)
            return read_answer(connection)


@contextmanager
def closing_connection(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def read_answer(connection: socket.socket) -> int:
    """Read an answer with a Content-Length to its end; its status."""
    buffer = bytearray(PIECE)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(PIECE)
        if not piece:
            raise ConnectionError("closed before the answer")
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", b"0")) - len(rest)
    while left > 0:
        count = connection.recv_into(buffer)
        if not count:
            raise ConnectionError("closed before the end of the answer")
        left -= count
    return int(head.split(b" ", 2)[1])


@contextmanager
def running_warehouse(folder: Path) -> Iterator[tuple[Server, RunningStore]]:
    with RunningStore(folder / "store") as store, RunningGateway(store, folder) as gateway:
        profile = Profile.load(store.profile)

        def pids() -> list[int]:
            return [gateway.pid, *store.pids().values()]

        yield Server("Warehouse", gateway.url, profile.key_id, profile.secret, pids), store


@contextmanager
def running_weed(folder: Path) -> Iterator[Server]:
    program = shutil.which("weed")
    if program is None:
        raise SystemExit("--peer seaweedfs needs `weed` on the PATH")
    base, port = free_port_base(), free_port()
    key_id, secret = "BENCH" + secrets.token_hex(8).upper(), secrets.token_hex(20)
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": key_id, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config = folder / "weed-s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    data = folder / "weed"
    data.mkdir()
    command = [program, "server", "-s3", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={base}", f"-volume.port={base + 10}", f"-filer.port={base + 20}"]
    command += [f"-s3.port={port}", f"-s3.config={config}", "-master.telemetry=false", "-volume.max=30"]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "HOME": str(folder)}
        )
    try:
        server = Server(
            "SeaweedFS, unsynced", f"http://127.0.0.1:{port}", key_id, secret, lambda: [process.pid]
        )
        wait_until_it_answers(server)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def wait_until_it_answers(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if server.ask("GET", "/") == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"{server.name} does not answer")
        time.sleep(0.2)


class Rates:
    """What was measured, by name: one value a round."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, **figures: float) -> None:
        columns = self.values.setdefault(row, {})
        for name, value in figures.items():
            columns.setdefault(name, []).append(value)

    def show(self) -> None:
        for row, columns in self.values.items():
            shown = "  ".join(
                f"{statistics.median(values):10,.1f} {name.replace('_', ' ')}"
                for name, values in columns.items()
            )
            print(f"{row:44}{shown}")


def load(server: Server, method: str, prefix: str, connections: int, count: int) -> Mapping[str, object]:
    words = ["--url", server.url, "--bucket", BUCKET, "--method", method, "--prefix", prefix]
    words += ["--count", str(count), "--size", str(SMALL), "--connections", str(connections)]
    ran = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "s3_load.py"), *words],
        env={**os.environ, "AWS_ACCESS_KEY_ID": server.key_id, "AWS_SECRET_ACCESS_KEY": server.secret},
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(ran.stdout))


def measure_small(server: Server, rates: Rates, round_number: int, arguments: argparse.Namespace) -> None:
    for connections in arguments.connections:
        prefix = f"{connections}-{round_number}"
        stored = arguments.count
        for method in ("PUT", "GET"):
            before = cpu_seconds(server.pids())
            measured = load(server, method, prefix, connections, stored)
            spent = cpu_seconds(server.pids()) - before
            if measured["failures"]:
                raise SystemExit(f"{server.name} failed: {measured['failures']}")
            stored = int(str(measured["count"]))  # fewer, if a minute was not enough
            count, elapsed = float(str(measured["count"])), float(str(measured["elapsed_s"]))
            kept = measured["latencies"]
            assert isinstance(kept, dict)
            numbers = {int(number): many for number, many in kept["counts"].items()}
            latencies = Latencies(numbers, kept["sum_s"], kept["max_s"])
            rates.add(
                f"{server.name}: {method}, {connections} connections",
                a_second=count / elapsed,
                us_CPU=spent / count * 1e6,
                ms_p50=latencies.percentile(50) * 1e3,
                ms_p99=latencies.percentile(99) * 1e3,
            )


def measure_large_by_s3(server: Server, rates: Rates, body: Path, number: int) -> None:
    size = body.stat().st_size
    with body.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path = f"/{BUCKET}/large-{number}"
    began = time.perf_counter()
    with closing_connection(server.url) as connection, body.open("rb") as file:
        connection.sendall(server.signer().head("PUT", path, size=size, digest=digest))
        connection.sendfile(file)
        status = read_answer(connection)
    if status != 200:
        raise SystemExit(f"{server.name} answered {status} to a large put")
    rates.add(f"{server.name}: large PUT", MiB_a_second=size / MIB / (time.perf_counter() - began))
    began = time.perf_counter()
    if server.ask("GET", path) != 200:
        raise SystemExit(f"{server.name} does not give a large object back")
    rates.add(f"{server.name}: large GET", MiB_a_second=size / MIB / (time.perf_counter() - began))
    server.ask("DELETE", path)


def measure_large_by_library(profile: Path, rates: Rates, body: Path) -> None:
    async def put() -> float:
        async with warehouse.connect(profile) as store:
            bucket = store.bucket(BUCKET)
            began = time.perf_counter()
            await bucket.put("large", body)
            took_s = time.perf_counter() - began
            await bucket.delete("large")
            return took_s

    took_s = trio.run(put)
    rates.add("library: large put", MiB_a_second=body.stat().st_size / MIB / took_s)


@contextmanager
def running_nginx(folder: Path, body: Path) -> Iterator[str]:
    """nginx with the body as a file; the URL of it."""
    home = folder / "nginx"
    (home / "files").mkdir(parents=True)
    os.link(body, home / "files" / "large")
    home.chmod(0o755)
    folder.chmod(0o755)
    body.chmod(0o644)
    port = free_port()
    (home / "nginx.conf").write_text(
        ("user root;" if os.getuid() == 0 else "") + NGINX.format(folder=home, port=port)
    )
    nginx = subprocess.Popen(["nginx", "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(30)


def measure_nginx(url: str, rates: Rates, size: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            began = time.perf_counter()
            with closing_connection(url) as connection:
                connection.sendall(b"GET /large HTTP/1.1\r\nHost: bench\r\n\r\n")
                status = read_answer(connection)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    if status != 200:
        raise SystemExit(f"nginx answered {status}")
    rates.add("nginx: large GET", MiB_a_second=size / MIB / (time.perf_counter() - began))


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for at in range(0, size, PIECE):
            file.write(os.urandom(min(PIECE, size - at)))


def run(arguments: argparse.Namespace, folder: Path) -> Rates:
    rates = Rates()
    with ExitStack() as stack:
        ours, store = stack.enter_context(running_warehouse(folder))
        servers = [ours]
        if arguments.peer == "seaweedfs":
            servers.append(stack.enter_context(running_weed(folder)))
        for server in servers:
            if server.ask("PUT", f"/{BUCKET}") != 200:
                raise SystemExit(f"{server.name} makes no bucket")
        if "small" in arguments.only:
            for number in range(arguments.rounds):
                for server in servers:
                    measure_small(server, rates, number, arguments)
        if "large" in arguments.only:
            body = folder / "body"
            write_random(body, arguments.large_mib * MIB)
            nginx = stack.enter_context(running_nginx(folder, body))
            for number in range(arguments.rounds):
                for server in servers:
                    measure_large_by_s3(server, rates, body, number)
                measure_large_by_library(store.profile, rates, body)
                measure_nginx(nginx, rates, body.stat().st_size)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="small,large", type=lambda text: text.split(","))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="small objects in each measurement")
    parser.add_argument(
        "--connections", default="16,64", type=lambda text: [int(number) for number in text.split(",")]
    )
    parser.add_argument("--large-mib", type=int, default=1024)
    parser.add_argument("--peer", choices=("seaweedfs",))
    parser.add_argument("--directory", type=Path, help="where the data goes (default: the temporary folder)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(Machine.this())
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        rates = run(arguments, Path(folder))
    rates.show()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rates.values, indent=1))


if __name__ == "__main__":
    main()
